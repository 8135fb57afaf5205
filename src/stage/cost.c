/* cost.c - counts the floating-point operations of an iteration of align, and the bytes that it
 * reads and sends.
 * Layer 5. Includes stage/method.h, train/cost.h. */
#include "train/cost.h"

#include <math.h>

#include "base/num.h"
#include "stage/method.h"

/* Returns how many completions of a prompt the objective trains on, at most. */
static double trained_of(const struct plumb_align_context *c)
{
    const struct plumb_method *m = c->method;
    const int64_t group = c->t->cfg->generate.group_size;
    if (m->selector == &plumb_sel_best_of)
        return 1;
    if (m->selector == &plumb_sel_distill)
        return (double)plumb_method_principled(m, group);
    return m->selector == &plumb_sel_group ? (double)group : (double)plumb_min_i64(2, group);
}

/* Returns the number of different reference models that the roles (enum plumb_role) use. */
static int references_of(const struct plumb_reference_stage *r)
{
    int n = 0;
    for (int role = 0; role < PLUMB_ROLES; role++) {
        bool known = r->role[role] < 0;
        for (int other = 0; other < role; other++)
            known |= r->role[other] == r->role[role];
        n += !known;
    }
    return n;
}

static double mean_prompt(const struct plumb_dataset *data)
{
    double sum = 0;
    for (int64_t i = 0; i < data->n; i++)
        sum += (double)data->record[i].prompt.n;
    return data->n > 0 ? sum / (double)data->n : 0;
}

void plumb_align_cost(struct plumb_cost *out, const struct plumb_align_context *c,
                      const struct plumb_partition *part,
                      const struct plumb_reference_stage *reference, const plumb_model *reward)
{
    const struct plumb_trainer *t = c->t;
    const struct plumb_config *cfg = t->cfg;
    const struct plumb_method_stages *add = c->add;
    const double answer = (double)(cfg->plan.answer_tokens > 0 ? cfg->plan.answer_tokens
                                                               : cfg->generate.max_new_tokens);
    const double prompt = mean_prompt(c->data), local = (double)part->most_local;
    struct plumb_cost_batch b = {.n = local * (double)cfg->generate.group_size,
                                 .tokens = prompt + answer,
                                 .targets = answer};
    const int64_t micro_batches = plumb_split_micro_batches(&part->split, 0);
    plumb_cost_decode(out, t->model, &b, prompt, (double)cfg->generate.slots);
    if (reward)
        plumb_cost_add(out, "reward")->flops = plumb_cost_forward(reward, &b);
    plumb_cost_add(out, "reference")->flops =
        references_of(reference) * plumb_cost_forward(t->model, &b);
    const double all = b.n;
    /* completions that plumb_mismatch_rescore computes again */
    b.n = fmin(all, (double)part->most.items);
    plumb_cost_add(out, "comparison")->flops = plumb_cost_forward(t->model, &b);
    b.n = local * (trained_of(c) + (double)add->extra_sequences) * (double)cfg->train.epochs;
    plumb_cost_add(out, "update")->flops = plumb_cost_train(t->model, &b, cfg->train.recompute);
    plumb_cost_update(out, t, (double)(part->steps * cfg->train.epochs), micro_batches);
    out->micro_batches = micro_batches;
    out->unit = "iteration";
    out->units = (double)cfg->train.iterations;
    if (add->rollout || add->preselect || add->score || add->decide_step)
        out->left_out = c->method->name;
}
