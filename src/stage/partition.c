/* partition.c - chooses each iteration's prompts, their owner ranks, and the end of the run.
 * Layer 5. Includes stage/stages.h, train/, base/, comm/, data/. */
#include <stdlib.h>

#include "base/log.h"
#include "base/num.h"
#include "data/prompts.h"
#include "stage/method.h"
#include "stage/stages.h"
#include "train/budget.h"
#include "train/record_split.h"

/* Names of values in the checkpoint. GENERATED: number of tokens that all ranks have generated so
 * far. NEXT: number of prompts of the next iteration; stored only with train.generated_tokens. */
#define GENERATED "generated.tokens"
#define NEXT      "generated.prompts"

/* Returns the number of prompts that this rank owns in one step: the prompts of its micro-batches.
 * If out is not NULL, writes these prompts to out in ascending order. */
static int64_t share_of(int64_t *out, const struct plumb_batch_split *split,
                        const struct plumb_trainer *t, int64_t step)
{
    const struct plumb_leaves mine =
        plumb_trainer_leaves(t, plumb_split_micro_batches(split, step));
    int64_t n = 0;
    for (int64_t micro = mine.begin; micro < mine.end; micro += mine.step) {
        const struct plumb_range prompts = plumb_split_micro_batch(split, step, micro);
        for (int64_t prompt = prompts.begin; out && prompt < prompts.end; prompt++)
            out[n + prompt - prompts.begin] = prompt;
        n += prompts.end - prompts.begin;
    }
    return n;
}

static int64_t count_local(const struct plumb_trainer *t, int64_t prompts)
{
    const struct plumb_batch_split split = {
        .items = prompts,
        .global_batch = plumb_min_i64(t->cfg->train.global_batch_size, prompts),
        .micro_batch = t->cfg->train.micro_batch_size};
    const int64_t last = plumb_split_steps(&split) - 1; /* in each earlier step this rank owns
                                                         * equally many prompts */
    return last * share_of(NULL, &split, t, 0) + share_of(NULL, &split, t, last);
}

/* Returns the largest number of tokens that a prompt with its completions can add to a micro-batch.
 * The result assumes completions of max_new_tokens tokens, because the prompts are split into
 * micro-batches before the completions are sampled. A method's `preselect` reads all completions of
 * a prompt in one micro-batch, each after one token instead of the prompt. */
static int64_t most_tokens(const struct plumb_align_context *c, const struct plumb_record *rec)
{
    const struct plumb_config *cfg = c->t->cfg;
    const int64_t longest = plumb_at_most(cfg->data.max_tokens, c->t->model->spec.max_pos);
    const int64_t answer = cfg->generate.max_new_tokens, group = cfg->generate.group_size;
    const int64_t tokens =
        plumb_method_sequences(c->method, group) * plumb_min_i64(rec->prompt.n + answer, longest);
    return c->add->preselect ? plumb_max_i64(tokens, group * (answer + 1)) : tokens;
}

/* Splits the first `prompts` prompts of p->record_of_prompt into steps and micro-batches. */
static void split_prompts(struct plumb_partition *p, const struct plumb_align_context *c,
                          int64_t prompts)
{
    p->split.items = prompts;
    p->split.global_batch = plumb_min_i64(c->t->cfg->train.global_batch_size, prompts);
    p->steps = plumb_split_steps(&p->split);
    for (int64_t i = 0; i < prompts && p->tokens; i++)
        p->tokens[i] = most_tokens(c, &c->data->record[p->record_of_prompt[i]]);
    plumb_split_cut(&p->split, p->tokens);
}

/* Sets the local prompts of this rank. */
static void take_local(struct plumb_partition *p, const struct plumb_trainer *t)
{
    p->n_local = 0;
    for (int64_t step = 0; step < p->steps; step++)
        p->n_local += share_of(p->prompt_of_local + p->n_local, &p->split, t, step);
}

/* Returns true if the method uses the same prompts in every iteration. In each iteration after the
 * first, such a method decides how many prompts get new completions; the other prompts keep their
 * completions. */
static bool same_prompts(const struct plumb_align_context *c)
{
    return c->add->fresh_prompts != NULL;
}

/* Returns how many prompts get new completions in `iteration` (from 0) if no token budget
 * (train.generated_tokens) limits the run. */
static int64_t whole_of(const struct plumb_partition *p, const struct plumb_align_context *c,
                        int64_t iteration)
{
    const bool all = !same_prompts(c) || iteration == 0;
    return all ? p->per_iteration : c->add->fresh_prompts(c->t->cfg, p->per_iteration);
}

/* Returns how many prompts get completions in the first iteration with a token budget
 * (train.generated_tokens). */
static int64_t first_of(const struct plumb_partition *p, const struct plumb_align_context *c)
{
    const struct plumb_config *cfg = c->t->cfg;
    const int64_t completions = cfg->generate.group_size + c->add->extra_sequences;
    return plumb_budget_first(cfg->train.generated_tokens, p->per_iteration,
                              completions * cfg->generate.max_new_tokens);
}

/* Sets p->most and p->most_local for a run without train.micro_batch_tokens. fixed: true if every
 * iteration has n prompts, false if n is the maximum. */
static void measure_sizes(struct plumb_partition *p, const struct plumb_align_context *c, int64_t n,
                          bool fixed)
{
    for (int64_t prompts = fixed ? n : 1; prompts <= n; prompts++)
        p->most_local = plumb_max_i64(p->most_local, count_local(c->t, prompts));
    p->most.micro_batches = plumb_split_micro_batches(&p->split, 0);
    p->most.items = c->t->cfg->train.micro_batch_size;
}

/* Fails if a prompt with its completions can have more tokens than train.micro_batch_tokens. */
static plumb_status check_prompt(const struct plumb_align_context *c,
                                 const struct plumb_record *rec)
{
    const long long limit = c->t->cfg->train.micro_batch_tokens, tokens = most_tokens(c, rec);
    char place[4200];
    if (tokens <= limit)
        return PLUMB_OK;
    plumb_record_place(place, sizeof(place), rec, c->t->cfg->data.prompts);
    PLUMB_FAIL(PLUMB_ERR_ARG,
               "%sthe prompt of %lld tokens and its completions can have %lld tokens in a "
               "micro-batch, more than train.micro_batch_tokens (%lld): raise it, or lower "
               "generate.max_new_tokens or data.max_prompt_tokens",
               place, (long long)rec->prompt.n, tokens, limit);
}

static struct plumb_prompt_order order_of(const struct plumb_partition *p,
                                          const struct plumb_align_context *c)
{
    return (struct plumb_prompt_order){.seed = c->t->cfg->seed,
                                       .count = c->data->n,
                                       .per_iteration = p->per_iteration,
                                       .shuffle = c->t->cfg->data.shuffle};
}

struct measured {
    struct plumb_partition *p;
    const struct plumb_align_context *c;
    int64_t prompts; /* of each iteration */
};

/* Raises p->most and p->most_local, where they are too small for an iteration with the prompts in
 * p->record_of_prompt. */
static plumb_status measure_cuts(void *arg, int64_t iteration)
{
    const struct measured *m = arg;
    struct plumb_partition *p = m->p;
    int64_t local = 0;
    (void)iteration;
    split_prompts(p, m->c, m->prompts);
    plumb_split_raise(&p->most, &p->split, p->tokens);
    for (int64_t step = 0; step < p->steps; step++)
        local += share_of(NULL, &p->split, m->c->t, step);
    p->most_local = plumb_max_i64(p->most_local, local);
    return PLUMB_OK;
}

/* Sets p->most and p->most_local for a run with train.micro_batch_tokens. The prompts of every
 * iteration depend only on the configuration, its seed and the data, so the micro-batches of all
 * iterations can be computed before the first one. */
static plumb_status measure_tokens(struct plumb_partition *p, const struct plumb_align_context *c,
                                   int64_t n, bool fixed)
{
    const struct plumb_config *cfg = c->t->cfg;
    PLUMB_REQUIRE(fixed, PLUMB_ERR_CONFIG,
                  "train.micro_batch_tokens: with train.generated_tokens the prompts of an "
                  "iteration, and so its micro-batches, are not known when the memory is planned; "
                  "leave one of both out, or use train.micro_batch_size");
    for (int64_t i = 0; i < c->data->n; i++)
        PLUMB_TRY(check_prompt(c, &c->data->record[i]));
    const int64_t iterations = same_prompts(c) ? 1 : cfg->train.iterations;
    struct measured m = {p, c, n};
    const struct plumb_prompt_order order = order_of(p, c);
    return plumb_prompts_each(p->record_of_prompt, iterations, &order, measure_cuts, &m);
}

plumb_status plumb_partition_open(struct plumb_partition *p, const struct plumb_align_context *c)
{
    const struct plumb_config *cfg = c->t->cfg;
    const int64_t budget = cfg->train.generated_tokens;
    int64_t n = cfg->train.prompts_per_iteration;
    if (n == 0)
        n = plumb_max_i64(c->data->n / cfg->train.iterations, 1);
    PLUMB_REQUIRE(n <= c->data->n, PLUMB_ERR_CONFIG,
                  "train.prompts_per_iteration: %lld, but %s holds only %lld prompts", (long long)n,
                  cfg->data.prompts, (long long)c->data->n);
    p->per_iteration = n;
    if (budget > 0 && same_prompts(c)) { /* every iteration has the prompts of the first one */
        p->per_iteration = n = first_of(p, c);
        PLUMB_REQUIRE(whole_of(p, c, 1) > 0, PLUMB_ERR_CONFIG,
                      "method.renew: %g of %lld prompts is none, and train.generated_tokens is "
                      "never used up",
                      cfg->method.renew, (long long)n);
    }
    const bool fixed = budget == 0 || same_prompts(c);
    PLUMB_TRY(plumb_split_init(&p->split, n, cfg->train.global_batch_size,
                               cfg->train.micro_batch_size, cfg->train.micro_batch_tokens));
    p->record_of_prompt = calloc((size_t)n, sizeof(*p->record_of_prompt));
    if (p->split.tokens > 0)
        p->tokens = calloc((size_t)n, sizeof(*p->tokens));
    PLUMB_REQUIRE(p->record_of_prompt && (p->tokens || p->split.tokens == 0), PLUMB_ERR_NOMEM,
                  "order of %lld prompts", (long long)n);
    if (p->split.tokens > 0)
        PLUMB_TRY(measure_tokens(p, c, n, fixed));
    else
        measure_sizes(p, c, n, fixed);
    p->prompt_of_local = calloc((size_t)p->most_local + 1, sizeof(*p->prompt_of_local));
    p->record_of_local = calloc((size_t)p->most_local + 1, sizeof(*p->record_of_local));
    PLUMB_REQUIRE(p->prompt_of_local && p->record_of_local, PLUMB_ERR_NOMEM,
                  "order of %lld prompts", (long long)n);
    split_prompts(p, c, n);
    take_local(p, c->t);
    return PLUMB_OK;
}

void plumb_partition_close(struct plumb_partition *p)
{
    free(p->record_of_prompt);
    free(p->prompt_of_local);
    free(p->record_of_local);
    free(p->tokens);
    plumb_split_fini(&p->split);
}

plumb_status plumb_partition_records(int64_t *record, const struct plumb_partition *p,
                                     const struct plumb_align_context *c, int64_t iteration)
{
    const struct plumb_prompt_order order = order_of(p, c);
    return plumb_prompts_at(record, same_prompts(c) ? 1 : iteration, &order);
}

plumb_status plumb_partition_begin(struct plumb_partition *p, const struct plumb_align_context *c)
{
    const struct plumb_train_state *s = &c->t->state;
    p->fresh = whole_of(p, c, s->iteration);
    if (c->t->cfg->train.generated_tokens > 0)
        p->fresh = (int64_t)plumb_state_get(s, NEXT, (double)first_of(p, c));
    PLUMB_TRY(plumb_partition_records(p->record_of_prompt, p, c, s->iteration + 1));
    split_prompts(p, c, same_prompts(c) ? p->per_iteration : p->fresh);
    take_local(p, c->t);
    for (int64_t local = 0; local < p->n_local; local++)
        p->record_of_local[local] = p->record_of_prompt[p->prompt_of_local[local]];
    return PLUMB_OK;
}

plumb_status plumb_partition_end(const struct plumb_partition *p,
                                 const struct plumb_align_context *c, int64_t generated)
{
    struct plumb_train_state *s = &c->t->state;
    const struct plumb_budget b = {.tokens = c->t->cfg->train.generated_tokens,
                                   .generated = plumb_align_generated(s) + generated,
                                   .last_tokens = generated,
                                   .last_prompts = p->fresh,
                                   .whole = whole_of(p, c, s->iteration + 1),
                                   .batch = c->t->cfg->train.global_batch_size};
    PLUMB_TRY(plumb_state_set(s, GENERATED, (double)b.generated));
    return b.tokens > 0 ? plumb_state_set(s, NEXT, (double)plumb_budget_next(&b)) : PLUMB_OK;
}

int64_t plumb_partition_local(const struct plumb_partition *p, int64_t prompt)
{
    int64_t low = 0, high = p->n_local;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (p->prompt_of_local[middle] < prompt)
            low = middle + 1;
        else
            high = middle;
    }
    return low < p->n_local && p->prompt_of_local[low] == prompt ? low : -1;
}

int64_t plumb_align_generated(const struct plumb_train_state *s)
{
    return (int64_t)plumb_state_get(s, GENERATED, 0);
}

bool plumb_align_ended(const struct plumb_trainer *t)
{
    return t->state.iteration >= t->cfg->train.iterations ||
           plumb_state_get(&t->state, NEXT, 1) == 0;
}

double plumb_align_progress(const struct plumb_trainer *t)
{
    const struct plumb_config *cfg = t->cfg;
    const int64_t done = t->state.iteration;
    if (cfg->train.generated_tokens > 0)
        return plumb_budget_progress(cfg->train.generated_tokens, plumb_align_generated(&t->state),
                                     done);
    return cfg->train.iterations > 1 ? (double)done / (double)(cfg->train.iterations - 1) : 0;
}

void plumb_align_say_spent(const struct plumb_trainer *t)
{
    const struct plumb_train_state *s = &t->state;
    const int64_t budget = t->cfg->train.generated_tokens;
    if (budget == 0)
        return;
    if (plumb_state_get(s, NEXT, 0) > 0)
        plumb_log(PLUMB_LOG_WARN,
                  "train.iterations: all %lld are done with %lld of train.generated_tokens' %lld "
                  "tokens generated: the budget is not used up, give more iterations",
                  (long long)s->iteration, (long long)plumb_align_generated(s), (long long)budget);
    else
        plumb_log(PLUMB_LOG_INFO, "generated %lld tokens of %lld, in %lld iteration%s",
                  (long long)plumb_align_generated(s), (long long)budget, (long long)s->iteration,
                  plumb_plural(s->iteration));
}
