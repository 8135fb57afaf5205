/* optune.c - OPTune: only the prompts with the lowest rewards get new answers; the others keep
 * their answers of the previous iteration.
 * Layer 5. Includes stage/align.h, data/, base/.
 * Source: OPTune, arXiv:2406.07657, section 3.1: only the answers to the prompts with the lowest
 * rewards are sampled again. The paper does not say how to order prompts with several answers. We
 * order them by the mean reward; a prompt without a finite reward comes first. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "data/rollout_store.h"
#include "io/file.h"
#include "stage/align.h"

struct standing {
    double reward;
    int64_t prompt;
};

static int by_reward(const void *a, const void *b)
{
    const struct standing *x = a, *y = b;
    if (x->reward != y->reward)
        return x->reward > y->reward ? 1 : -1;
    return (x->prompt > y->prompt) - (x->prompt < y->prompt);
}

/* Fills list (items,) with the prompts, from the lowest mean reward to the highest. */
static void rank_slots(struct standing *list, const struct plumb_rollout_store *r, int64_t items,
                       int64_t group)
{
    for (int64_t q = 0; q < items; q++)
        list[q] = (struct standing){.prompt = q};
    for (int64_t i = 0; i < r->n; i++) {
        struct standing *s = &list[r->global_index[i] / group];
        s->reward += isnan(r->reward[i]) ? -INFINITY : (double)r->reward[i] / (double)group;
    }
    qsort(list, (size_t)items, sizeof(*list), by_reward);
}

static plumb_status keep(struct plumb_align_run *a, const struct plumb_rollout_store *r, int64_t i,
                         struct plumb_rollout *o)
{
    const int64_t from = r->completion_start[i], n = r->offsets[i + 1] - from;
    const int64_t logp = r->logprob_offsets[i];
    PLUMB_REQUIRE(r->prompt_id[i] == o->record && r->sample[i] == o->sample && n > 0 &&
                      n <= a->answers.max_new_tokens,
                  PLUMB_ERR_FORMAT,
                  "the rollouts of iteration %lld have prompt record %lld, sample %d with %lld "
                  "tokens where record %lld, sample %d is expected",
                  (long long)a->t->state.iteration, (long long)r->prompt_id[i], r->sample[i],
                  (long long)n, (long long)o->record, o->sample);
    o->n = n;
    memcpy(o->ids, r->tokens + from, (size_t)n * sizeof(*o->ids));
    memcpy(o->logp, r->logprob + logp, (size_t)n * sizeof(*o->logp));
    memcpy(o->logp_sampled, r->logprob_sampled + logp, (size_t)n * sizeof(*o->logp_sampled));
    o->stop = (enum plumb_stop)r->stop_reason[i];
    o->reward = (double)r->reward[i];
    o->weights = r->weight_fingerprint[i];
    o->finished = o->scored = o->old = true;
    return plumb_rollout_decode(o, a->data, a->t->tokenizer);
}

static plumb_status keep_all(struct plumb_align_run *a, const struct plumb_rollout_store *r,
                             struct standing *list)
{
    const int64_t group = a->answers.group_size, items = a->part.split.items;
    PLUMB_REQUIRE(r->n == items * group, PLUMB_ERR_FORMAT,
                  "the rollouts of iteration %lld are %lld, expected %lld",
                  (long long)a->t->state.iteration, (long long)r->n, (long long)(items * group));
    rank_slots(list, r, items, group);
    bool *fresh = calloc((size_t)items + 1, sizeof(*fresh));
    PLUMB_REQUIRE(fresh, PLUMB_ERR_NOMEM, "%lld prompts", (long long)items);
    for (int64_t k = 0; k < a->part.fresh; k++)
        fresh[list[k].prompt] = true;
    plumb_status st = PLUMB_OK;
    for (int64_t i = 0; i < r->n && st == PLUMB_OK; i++) {
        const int64_t prompt = r->global_index[i] / group, local = plumb_align_local(a, prompt);
        if (local >= 0 && !fresh[prompt])
            st = keep(a, r, i, &a->answers.at[local * group + r->global_index[i] % group]);
    }
    free(fresh);
    if (st == PLUMB_OK)
        plumb_log(PLUMB_LOG_INFO, "%lld of %lld prompts are answered again",
                  (long long)a->part.fresh, (long long)items);
    return st;
}

static plumb_status begin(struct plumb_align_run *a)
{
    char dir[4096], path[4096];
    struct plumb_rollout_store *r = NULL;
    if (a->t->state.iteration == 0)
        return PLUMB_OK;
    PLUMB_TRY(plumb_path_join(dir, sizeof(dir), a->t->cfg->output_dir, "rollouts"));
    PLUMB_TRY(plumb_rollout_store_path(path, sizeof(path), dir, a->t->state.iteration, -1));
    PLUMB_TRY(plumb_rollout_store_read(&r, path));
    struct standing *list = calloc((size_t)a->part.split.items, sizeof(*list));
    const plumb_status st = list ? keep_all(a, r, list)
                                 : plumb_fail_at(PLUMB_ERR_NOMEM, __FILE__, __LINE__,
                                                 "%lld prompts", (long long)a->part.split.items);
    free(list);
    plumb_rollout_store_destroy(&r);
    return st;
}

static int64_t fresh_prompts(const struct plumb_align_run *a)
{
    return (int64_t)llround(a->t->cfg->method.renew * (double)a->part.per_iteration);
}

const struct plumb_method_stages plumb_add_optune = {.fresh_prompts = fresh_prompts,
                                                     .begin = begin};
