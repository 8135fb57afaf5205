/* optune.c - the method OPTune: in each iteration after the first, only the prompts with the lowest
 * rewards get new completions; the other prompts keep their completions of the previous iteration.
 * Layer 5. Includes stage/method.h, data/, base/.
 * Source: OPTune, arXiv:2406.07657, section 3.1: only the completions of the prompts with the
 * lowest rewards are regenerated. The paper does not say how to order prompts with several
 * completions. plumb orders them by their mean reward; prompts with a missing reward come first. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "data/rollout_store.h"
#include "io/file.h"
#include "stage/method.h"

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

/* Fills list (prompts,) with the prompts, from the lowest mean reward to the highest. The mean of a
 * prompt is -infinity if one of its completions has no reward. */
static void rank_prompts(struct standing *list, const struct plumb_rollout_store *r,
                         int64_t prompts, int64_t group)
{
    for (int64_t prompt = 0; prompt < prompts; prompt++)
        list[prompt] = (struct standing){.prompt = prompt};
    for (int64_t i = 0; i < r->n; i++) {
        struct standing *s = &list[r->global_index[i] / group];
        s->reward += isnan(r->reward[i]) ? -INFINITY : (double)r->reward[i] / (double)group;
    }
    qsort(list, (size_t)prompts, sizeof(*list), by_reward);
}

/* The rollout file of the previous iteration, and the structs to which its completions and rewards
 * are copied. */
struct kept {
    const struct plumb_align_inputs *in;
    const struct plumb_rollout_store *file;
    struct plumb_rollouts *rollouts;
    struct plumb_scores *scores;
};

/* Copies rollout i of the file, with its reward, to this rank's completion number `completion`. */
static plumb_status keep(const struct kept *k, int64_t i, int64_t completion)
{
    const struct plumb_rollout_store *r = k->file;
    const struct plumb_trainer *t = k->in->t;
    struct plumb_rollout *o = &k->rollouts->at[completion];
    const int64_t from = r->completion_start[i], n = r->offsets[i + 1] - from;
    const int64_t logp = r->logprob_offsets[i];
    PLUMB_REQUIRE(r->prompt_id[i] == o->record && r->sample[i] == o->sample && n > 0 &&
                      n <= k->rollouts->max_new_tokens,
                  PLUMB_ERR_FORMAT,
                  "rollouts of iteration %lld, number %lld: found prompt record %lld, sample %d "
                  "with %lld completion tokens, expected prompt record %lld, sample %d with 1 to "
                  "%lld completion tokens (generate.max_new_tokens)",
                  (long long)t->state.iteration, (long long)i, (long long)r->prompt_id[i],
                  r->sample[i], (long long)n, (long long)o->record, o->sample,
                  (long long)k->rollouts->max_new_tokens);
    o->n = n;
    memcpy(o->ids, r->tokens + from, (size_t)n * sizeof(*o->ids));
    memcpy(o->logp, r->logprob + logp, (size_t)n * sizeof(*o->logp));
    memcpy(o->logp_sampled, r->logprob_sampled + logp, (size_t)n * sizeof(*o->logp_sampled));
    o->stop = (enum plumb_stop)r->stop_reason[i];
    o->weights = r->weight_fingerprint[i];
    o->finished = o->old = true;
    k->scores->reward[completion] = (double)r->reward[i];
    k->scores->scored[completion] = true;
    return plumb_rollout_decode(o, k->in->data, t->tokenizer);
}

static plumb_status keep_all(const struct kept *k, struct standing *list)
{
    const struct plumb_rollout_store *r = k->file;
    const struct plumb_partition *part = k->in->part;
    const int64_t group = k->rollouts->group_size, prompts = part->split.items;
    PLUMB_REQUIRE(r->n == prompts * group, PLUMB_ERR_FORMAT,
                  "rollouts of iteration %lld: the file has %lld completions, expected %lld",
                  (long long)k->in->t->state.iteration, (long long)r->n,
                  (long long)(prompts * group));
    rank_prompts(list, r, prompts, group);
    bool *fresh = calloc((size_t)prompts + 1, sizeof(*fresh));
    PLUMB_REQUIRE(fresh, PLUMB_ERR_NOMEM, "marks of %lld prompts", (long long)prompts);
    for (int64_t i = 0; i < part->fresh; i++)
        fresh[list[i].prompt] = true;
    plumb_status st = PLUMB_OK;
    for (int64_t i = 0; i < r->n && st == PLUMB_OK; i++) {
        const int64_t entry = r->global_index[i], prompt = entry / group;
        const int64_t local_prompt = plumb_partition_local(part, prompt);
        if (local_prompt >= 0 && !fresh[prompt])
            st = keep(k, i, plumb_rollouts_completion(k->rollouts, local_prompt, entry % group));
    }
    free(fresh);
    if (st == PLUMB_OK)
        plumb_log(PLUMB_LOG_INFO, "%lld of %lld prompts are answered again", (long long)part->fresh,
                  (long long)prompts);
    return st;
}

static plumb_status begin(const struct plumb_align_inputs *in, struct plumb_rollout_stage *rollout,
                          struct plumb_reward_stage *reward)
{
    const struct plumb_trainer *t = in->t;
    const int64_t prompts = in->part->split.items;
    char dir[4096], path[4096];
    struct plumb_rollout_store *r = NULL;
    if (t->state.iteration == 0)
        return PLUMB_OK;
    PLUMB_TRY(plumb_path_join(dir, sizeof(dir), t->cfg->output_dir, "rollouts"));
    PLUMB_TRY(plumb_rollout_store_path(path, sizeof(path), dir, t->state.iteration, -1));
    PLUMB_TRY(plumb_rollout_store_read(&r, path));
    const struct kept k = {
        .in = in, .file = r, .rollouts = &rollout->rollouts, .scores = &reward->scores};
    struct standing *list = calloc((size_t)prompts, sizeof(*list));
    const plumb_status st = list ? keep_all(&k, list)
                                 : plumb_fail_at(PLUMB_ERR_NOMEM, __FILE__, __LINE__,
                                                 "order of %lld prompts", (long long)prompts);
    free(list);
    plumb_rollout_store_destroy(&r);
    return st;
}

static int64_t fresh_prompts(const struct plumb_config *cfg, int64_t n)
{
    return (int64_t)llround(cfg->method.renew * (double)n);
}

const struct plumb_method_stages plumb_add_optune = {.fresh_prompts = fresh_prompts,
                                                     .begin = begin};

const struct plumb_method_given plumb_given_optune = {.weight = plumb_sigmoid_weight};
