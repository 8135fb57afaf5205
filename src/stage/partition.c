/* partition.c - chooses each iteration's prompts, their owner ranks, and the end of the run.
 * Layer 5. Includes stage/align.h, train/budget.h, base/, comm/, data/. */
#include <stdlib.h>

#include "base/log.h"
#include "base/num.h"
#include "comm/tree.h"
#include "data/prompts.h"
#include "stage/align.h"
#include "train/budget.h"

/* Names of values in the checkpoint. */
#define GENERATED "generated.tokens"  /* tokens generated so far, by all ranks */
#define NEXT      "generated.prompts" /* prompts of the next iteration; only with a token budget */

/* Returns the range of prompts that this rank owns in one step: the prompts of its micro-batches,
 * which are contiguous. */
static struct plumb_range share_of(const struct plumb_align_run *a,
                                   const struct plumb_batch_split *batch, int64_t step)
{
    const struct plumb_range micro_batches =
        plumb_tree_leaves(plumb_split_micro_batches(batch, step), plumb_comm_rank(a->t->comm),
                          plumb_comm_size(a->t->comm));
    if (micro_batches.begin == micro_batches.end)
        return (struct plumb_range){0, 0};
    return (struct plumb_range){plumb_split_micro_batch(batch, step, micro_batches.begin).begin,
                                plumb_split_micro_batch(batch, step, micro_batches.end - 1).end};
}

static struct plumb_batch_split split_of(const struct plumb_config *cfg, int64_t items)
{
    return (struct plumb_batch_split){.items = items,
                                      .global_batch =
                                          plumb_min_i64(cfg->train.global_batch_size, items),
                                      .micro_batch = cfg->train.micro_batch_size};
}

static int64_t count_local(const struct plumb_align_run *a, int64_t items)
{
    const struct plumb_batch_split batch = split_of(a->t->cfg, items);
    const int64_t last = plumb_split_steps(&batch) - 1; /* all earlier steps have equal shares */
    const struct plumb_range first = share_of(a, &batch, 0), rest = share_of(a, &batch, last);
    return last * (first.end - first.begin) + rest.end - rest.begin;
}

static void split(struct plumb_align_run *a, int64_t items)
{
    a->part.split = split_of(a->t->cfg, items);
    a->part.steps = plumb_split_steps(&a->part.split);
    a->part.n_local = 0;
    for (int64_t step = 0; step < a->part.steps; step++) {
        const struct plumb_range mine = share_of(a, &a->part.split, step);
        a->part.step_first[step] = a->part.n_local;
        for (int64_t s = mine.begin; s < mine.end; s++)
            a->part.local_prompt[a->part.n_local++] = s;
    }
}

/* Returns true if every iteration has the same prompts and the method decides how many of them get
 * new answers. */
static bool same_prompts(const struct plumb_align_run *a)
{
    return a->add->fresh_prompts != NULL;
}

/* Returns how many prompts get new answers in iteration `iteration` (from 0), if no token budget
 * limits it. */
static int64_t whole_of(const struct plumb_align_run *a, int64_t iteration)
{
    const bool all = !same_prompts(a) || iteration == 0;
    return all ? a->part.per_iteration : a->add->fresh_prompts(a);
}

static int64_t first_of(const struct plumb_align_run *a)
{
    const struct plumb_config *cfg = a->t->cfg;
    const int64_t answers = cfg->generate.group_size + a->add->extra_sequences;
    return plumb_budget_first(cfg->train.generated_tokens, a->part.per_iteration,
                              answers * cfg->generate.max_new_tokens);
}

plumb_status plumb_align_open_partition(struct plumb_align_run *a)
{
    const struct plumb_config *cfg = a->t->cfg;
    const int64_t budget = cfg->train.generated_tokens;
    int64_t n = cfg->train.prompts_per_iteration;
    if (n == 0)
        n = plumb_max_i64(a->data->n / cfg->train.iterations, 1);
    PLUMB_REQUIRE(n <= a->data->n, PLUMB_ERR_CONFIG,
                  "train.prompts_per_iteration: %lld, but %s holds only %lld prompts", (long long)n,
                  cfg->data.prompts, (long long)a->data->n);
    a->part.per_iteration = n;
    if (budget > 0 && same_prompts(a)) { /* all iterations have the prompts of the first one */
        a->part.per_iteration = n = first_of(a);
        PLUMB_REQUIRE(whole_of(a, 1) > 0, PLUMB_ERR_CONFIG,
                      "method.renew: %g of %lld prompts is none, and train.generated_tokens is "
                      "never used up",
                      cfg->method.renew, (long long)n);
    }
    for (int64_t items = budget > 0 && !same_prompts(a) ? 1 : n; items <= n; items++)
        a->part.most_local = plumb_max_i64(a->part.most_local, count_local(a, items));
    a->part.split = split_of(cfg, n);
    a->part.record = calloc((size_t)n, sizeof(*a->part.record));
    a->part.local_prompt = calloc((size_t)a->part.most_local + 1, sizeof(*a->part.local_prompt));
    a->part.local_record = calloc((size_t)a->part.most_local + 1, sizeof(*a->part.local_record));
    a->part.step_first =
        calloc((size_t)plumb_split_steps(&a->part.split), sizeof(*a->part.step_first));
    a->update.prompt_list =
        calloc((size_t)a->part.split.global_batch, sizeof(*a->update.prompt_list));
    PLUMB_REQUIRE(a->part.record && a->part.local_prompt && a->part.local_record &&
                      a->part.step_first && a->update.prompt_list,
                  PLUMB_ERR_NOMEM, "order of %lld prompts", (long long)n);
    split(a, n);
    return PLUMB_OK;
}

/* Sets the record of each prompt of the iteration, in the global order, and of each local prompt.
 */
static plumb_status choose_records(struct plumb_align_run *a)
{
    const struct plumb_config *cfg = a->t->cfg;
    const struct plumb_prompt_order order = {.seed = cfg->seed,
                                             .count = a->data->n,
                                             .per_iteration = a->part.per_iteration,
                                             .shuffle = cfg->data.shuffle};
    const int64_t iteration = same_prompts(a) ? 1 : a->t->state.iteration + 1;
    PLUMB_TRY(plumb_prompts_at(a->part.record, iteration, &order));
    for (int64_t k = 0; k < a->part.n_local; k++)
        a->part.local_record[k] = a->part.record[a->part.local_prompt[k]];
    return PLUMB_OK;
}

plumb_status plumb_align_begin_partition(struct plumb_align_run *a)
{
    const struct plumb_train_state *s = &a->t->state;
    a->part.fresh = whole_of(a, s->iteration);
    if (a->t->cfg->train.generated_tokens > 0)
        a->part.fresh = (int64_t)plumb_state_get(s, NEXT, (double)first_of(a));
    split(a, same_prompts(a) ? a->part.per_iteration : a->part.fresh);
    return choose_records(a);
}

plumb_status plumb_align_end_partition(struct plumb_align_run *a, int64_t generated)
{
    struct plumb_train_state *s = &a->t->state;
    const struct plumb_budget b = {.tokens = a->t->cfg->train.generated_tokens,
                                   .generated = plumb_align_generated(a) + generated,
                                   .last_tokens = generated,
                                   .last_prompts = a->part.fresh,
                                   .whole = whole_of(a, s->iteration + 1),
                                   .batch = a->t->cfg->train.global_batch_size};
    PLUMB_TRY(plumb_state_set(s, GENERATED, (double)b.generated));
    return b.tokens > 0 ? plumb_state_set(s, NEXT, (double)plumb_budget_next(&b)) : PLUMB_OK;
}

int64_t plumb_align_generated(const struct plumb_align_run *a)
{
    return (int64_t)plumb_state_get(&a->t->state, GENERATED, 0);
}

bool plumb_align_ended(const struct plumb_align_run *a)
{
    const struct plumb_train_state *s = &a->t->state;
    return s->iteration >= a->t->cfg->train.iterations || plumb_state_get(s, NEXT, 1) == 0;
}

double plumb_align_progress(const struct plumb_align_run *a)
{
    const struct plumb_config *cfg = a->t->cfg;
    const int64_t done = a->t->state.iteration;
    if (cfg->train.generated_tokens > 0)
        return plumb_budget_progress(cfg->train.generated_tokens, plumb_align_generated(a), done);
    return cfg->train.iterations > 1 ? (double)done / (double)(cfg->train.iterations - 1) : 0;
}

void plumb_align_say_spent(const struct plumb_align_run *a)
{
    const struct plumb_train_state *s = &a->t->state;
    const int64_t budget = a->t->cfg->train.generated_tokens;
    if (budget == 0)
        return;
    if (plumb_state_get(s, NEXT, 0) > 0)
        plumb_log(PLUMB_LOG_WARN,
                  "train.iterations: all %lld are done with %lld of train.generated_tokens' %lld "
                  "tokens generated: the budget is not used up, give more iterations",
                  (long long)s->iteration, (long long)plumb_align_generated(a), (long long)budget);
    else
        plumb_log(PLUMB_LOG_INFO, "generated %lld tokens of %lld, in %lld iterations",
                  (long long)plumb_align_generated(a), (long long)budget, (long long)s->iteration);
}
