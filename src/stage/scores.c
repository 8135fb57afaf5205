/* scores.c - computes the rewards of a rank's completions, one batch of completions after another.
 * Layer 5. Includes stage/scores.h, base/. */
#include "stage/scores.h"

#include <math.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/num.h"

plumb_status plumb_scores_init(struct plumb_scores *s, int64_t n)
{
    const size_t room = (size_t)n + 1;
    *s = (struct plumb_scores){.n = n,
                               .reward = calloc(room, sizeof(*s->reward)),
                               .scored = calloc(room, sizeof(*s->scored)),
                               .dropped = calloc(room, sizeof(*s->dropped)),
                               .source = calloc(room, sizeof(*s->source)),
                               .item = calloc(room, sizeof(*s->item)),
                               .value = calloc(room, sizeof(*s->value))};
    if (s->reward && s->scored && s->dropped && s->source && s->item && s->value) {
        plumb_scores_clear(s);
        return PLUMB_OK;
    }
    plumb_scores_fini(s);
    PLUMB_FAIL(PLUMB_ERR_NOMEM, "scores of %lld completions", (long long)n);
}

void plumb_scores_fini(struct plumb_scores *s)
{
    free(s->reward);
    free(s->scored);
    free(s->dropped);
    free(s->source);
    free(s->item);
    free(s->value);
    *s = (struct plumb_scores){0};
}

int64_t plumb_scores_bytes(const struct plumb_scores *s)
{
    return s->n * (int64_t)(sizeof(*s->reward) + sizeof(*s->scored) + sizeof(*s->dropped) +
                            sizeof(*s->source) + sizeof(*s->item) + sizeof(*s->value));
}

void plumb_scores_clear(struct plumb_scores *s)
{
    for (int64_t i = 0; i < s->n; i++) {
        s->reward[i] = NAN;
        s->scored[i] = s->dropped[i] = false;
    }
}

/* Scores the items first .. first + n - 1 of s->item and stores the rewards in s->reward. */
static plumb_status score_some(struct plumb_scores *s, plumb_rewards *sources, int64_t first,
                               int64_t n)
{
    PLUMB_TRY(plumb_rewards_score(sources, s->item + first, n, s->value + first));
    for (int64_t i = first; i < first + n; i++) {
        s->reward[s->source[i]] = s->value[i];
        s->scored[s->source[i]] = true;
    }
    return PLUMB_OK;
}

/* Items are scored in batches that take about PIECE_SECONDS: short enough to react to a pause
 * request, and large enough for a reward command that scores many items concurrently. The first
 * batch has FIRST_PIECE items; the next one has at most GROWTH times as many as the one before. */
#define PIECE_SECONDS 0.5
enum { FIRST_PIECE = 4, GROWTH = 4 };

/* Scores the first n items of s->item. */
static plumb_status score_items(struct plumb_scores *s, plumb_rewards *sources, int64_t n,
                                plumb_pause_fn *pause, void *pause_arg)
{
    int64_t piece = FIRST_PIECE;
    for (int64_t i = 0; i < n;) {
        const int64_t k = plumb_min_i64(piece, n - i);
        const double began = plumb_now();
        if (pause)
            PLUMB_TRY(pause(pause_arg));
        PLUMB_TRY(score_some(s, sources, i, k));
        const double fitting = PIECE_SECONDS * (double)k / fmax(plumb_now() - began, 1e-9);
        piece = (int64_t)fmax(fmin(fitting, (double)(GROWTH * piece)), 1);
        i += k;
    }
    return PLUMB_OK;
}

plumb_status plumb_scores_compute(struct plumb_scores *s, const struct plumb_rollouts *r,
                                  const struct plumb_dataset *data, plumb_rewards *sources,
                                  plumb_pause_fn *pause, void *pause_arg)
{
    int64_t n = 0;
    for (int64_t completion = 0; completion < plumb_rollouts_n(r); completion++) {
        const struct plumb_rollout *o = &r->at[completion];
        const struct plumb_record *rec = &data->record[o->record];
        if (s->scored[completion] || s->dropped[completion])
            continue;
        s->source[n] = completion;
        s->item[n++] = (struct plumb_reward_item){.prompt = rec->prompt.text,
                                                  .prompt_len = rec->prompt.len,
                                                  .completion = plumb_buf_text(&o->text),
                                                  .completion_len = o->text.len,
                                                  .tokens = o->n,
                                                  .solution = rec->solution,
                                                  .solution_len = rec->solution_len,
                                                  .record = rec->json,
                                                  .prompt_id = o->record,
                                                  .sample = o->sample};
    }
    plumb_rewards_begin(sources);
    return plumb_rewards_end(sources, score_items(s, sources, n, pause, pause_arg));
}
