/* cost.c - counts what a training command computes, reads and sends.
 * Layer 5. Includes train/cost.h, model/adapter.h. */
#include "train/cost.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/num.h"
#include "comm/tree.h"
#include "model/adapter.h"

struct plumb_cost_phase *plumb_cost_add(struct plumb_cost *c, const char *name)
{
    assert(c->n < PLUMB_COST_PHASES);
    c->phase[c->n] = (struct plumb_cost_phase){.name = name};
    return &c->phase[c->n++];
}

/* Returns the number of elements of the matrices of all layers. */
static double in_layers(const plumb_model *m)
{
    double sum = 0;
    for (int64_t i = 0; i < m->n_param; i++)
        if (m->param[i].rank == 2 && strncmp(m->param[i].name, "model.layers.", 13) == 0)
            sum += (double)m->param[i].count;
    return sum;
}

static double in_head(const plumb_model *m)
{
    return (double)(m->spec.labels ? m->spec.labels : m->spec.v) * (double)m->spec.c;
}

static double head_rows(const plumb_model *m, const struct plumb_cost_batch *b)
{
    return m->spec.labels ? b->n : b->n * b->targets;
}

/* Returns the number of pairs of a query and a visible key in one sequence of `tokens` tokens: the
 * mean over the layers, some of which may have an attention window. */
static double seen(const struct plumb_spec *s, double tokens)
{
    const double window = (double)s->window, all = 0.5 * tokens * (tokens + 1);
    if (window == 0 || tokens <= window)
        return all;
    int64_t windowed = 0;
    for (int64_t l = 0; l < s->l; l++)
        windowed += s->windowed[l];
    const double part = 0.5 * window * (window + 1) + (tokens - window) * window;
    return all + (double)windowed / (double)s->l * (part - all);
}

static double attention(const plumb_model *m, const struct plumb_cost_batch *b)
{
    const struct plumb_spec *s = &m->spec;
    return 4 * b->n * (double)(s->l * s->h * s->d) * seen(s, b->tokens);
}

double plumb_cost_forward(const plumb_model *m, const struct plumb_cost_batch *b)
{
    return 2 * in_layers(m) * b->n * b->tokens + attention(m, b) + 2 * in_head(m) * head_rows(m, b);
}

double plumb_cost_train(const plumb_model *m, const struct plumb_cost_batch *b, bool recompute)
{
    /* number of products of the size of a forward product */
    const double products = plumb_adapter_lora(m) ? 2 : 3;
    const double layers = 2 * in_layers(m) * b->n * b->tokens;
    return (products + recompute) * layers + (3.5 + recompute) * attention(m, b) +
           /* + 1, because the backward of the head computes the logits a second time */
           (products + 1) * 2 * in_head(m) * head_rows(m, b);
}

void plumb_cost_decode(struct plumb_cost *c, const plumb_model *m, const struct plumb_cost_batch *b,
                       double prompt, double slots)
{
    const struct plumb_spec *s = &m->spec;
    const double size = (double)plumb_dtype_size(m->backend->dtype), live = fmin(b->n, slots);
    const double steps = live > 0 ? b->n * b->targets / live : 0;
    const double row = 2 * (double)(s->l * s->hk * s->d) * size; /* keys and values of a token */
    struct plumb_cost_phase *p = plumb_cost_add(c, "rollout");
    p->flops = plumb_cost_forward(m, b);
    p->bytes =
        steps * ((in_layers(m) + in_head(m)) * size + live * row * (prompt + 0.5 * b->targets));
}

int64_t plumb_cost_leaves(const struct plumb_trainer *t, int64_t micro_batches)
{
    return plumb_leaves_count(plumb_trainer_leaves(t, micro_batches));
}

void plumb_cost_update(struct plumb_cost *c, const struct plumb_trainer *t, double steps,
                       int64_t micro_batches)
{
    const bool sharded = plumb_trainer_sharded(t->cfg), shares = t->model->masters != NULL;
    const double count = (double)plumb_model_trained(t->model).count;
    const double wide = (double)sizeof(float), narrow = (double)plumb_dtype_size(t->backend->dtype);
    const double ranks = plumb_comm_size(t->comm);
    const double inside = fmin(ranks, (double)t->cfg->plan.host_ranks);
    const double rounds = ceil((double)micro_batches / ranks);
    const double sums = sharded ? rounds : (double)plumb_cost_leaves(t, micro_batches);
    const double adding = 12 * fmax(sums - 1, 0) / (sharded ? ranks : 1);
    /* refresh: bytes per weight to pack and hash the weights; if the masters are divided among the
     * ranks, the rounded weights are hashed, too */
    const double refresh = shares ? (2 * wide + narrow) / ranks + narrow : 2 * wide + narrow;
    struct plumb_cost_phase *p = plumb_cost_add(c, "optimizer");
    /* adding: each addition of gradients reads 2 vectors and writes 1; AdamW reads 4 and writes
     * 3 */
    p->bytes = steps * count * (adding + 28 / ranks + refresh);
    p = plumb_cost_add(c, "exchange");
    const double moved = count * ((sharded ? rounds : 1) * wide + (shares ? narrow : wide));
    p->sent_inside = steps * moved * (1 - 1 / inside);
    p->sent = steps * moved * (1 / inside - 1 / ranks);
}

/* Returns a batch with the mean lengths of the data's sequences. Each sequence is a prompt and one
 * of its `completions` answers. The caller sets the number of sequences, field n of the batch. */
static struct plumb_cost_batch mean_of(const struct plumb_dataset *data, int completions)
{
    struct plumb_cost_batch b = {0};
    const double answers = (double)(data->n * completions);
    for (int64_t i = 0; i < data->n; i++)
        for (int k = 0; k < completions; k++) {
            b.targets += (double)data->record[i].completion[k].n / answers;
            b.tokens += (double)data->record[i].prompt.n / answers;
        }
    b.tokens += b.targets;
    return b;
}

/* Returns the number of items that this rank computes in the first step. Without a limit of tokens
 * the last micro-batch counts as full. */
static int64_t items_of(const struct plumb_trainer *t, const struct plumb_batch_split *split)
{
    const int64_t micro_batches = plumb_split_micro_batches(split, 0);
    const struct plumb_leaves mine = plumb_trainer_leaves(t, micro_batches);
    int64_t items = 0;
    if (split->tokens == 0)
        return plumb_min_i64(plumb_leaves_count(mine) * split->micro_batch, split->global_batch);
    for (int64_t i = mine.begin; i < mine.end; i += mine.step) {
        const struct plumb_range r = plumb_split_micro_batch(split, 0, i);
        items += r.end - r.begin;
    }
    return items;
}

void plumb_cost_records(struct plumb_cost *c, const struct plumb_trainer *t,
                        const struct plumb_dataset *data, const struct plumb_batch_split *split,
                        int completions, bool reference)
{
    const struct plumb_config *cfg = t->cfg;
    const int64_t micro_batches = plumb_split_micro_batches(split, 0);
    struct plumb_cost_batch b = mean_of(data, completions);
    b.n = (double)(completions * items_of(t, split));
    if (reference)
        plumb_cost_add(c, "reference")->flops =
            plumb_cost_forward(t->model, &b) / (double)cfg->train.epochs;
    plumb_cost_add(c, "update")->flops = plumb_cost_train(t->model, &b, cfg->train.recompute);
    plumb_cost_update(c, t, 1, micro_batches);
    c->micro_batches = micro_batches;
    c->unit = "step";
    c->units = (double)t->state.total_steps;
}
