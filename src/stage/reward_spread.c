/* reward_spread.c - warns if too many prompts of an iteration have equal rewards, so that the
 * method has nothing to prefer, and counts equal completions ("answers").
 * Layer 5. Includes stage/stages.h, stage/method.h, base/. */
#include <math.h>
#include <stdio.h>

#include "base/log.h"
#include "base/num.h"
#include "stage/method.h"
#include "stage/stages.h"

/* How far the rewards of an iteration differ, over all ranks. */
struct spread {
    int64_t values;     /* number of finite rewards */
    double low, high;   /* the smallest and the largest finite reward */
    int64_t prompts;    /* number of prompts with at least two answers */
    int64_t scored;     /* number of prompts with at least two finite rewards */
    int64_t flat;       /* number of `scored` prompts whose rewards are all equal */
    int64_t same_texts; /* number of `flat` prompts whose answers all have the same text */
};

/* Returns true if the completions i and j of the scoreboard have the same number of tokens and the
 * same sum of log-probs. The function takes this as proof of equal texts, because the texts are not
 * known on every rank. */
static bool same_text(const struct plumb_decision *d, int64_t i, int64_t j)
{
    const double *x = d->row + i * ROW_VALUES, *y = d->row + j * ROW_VALUES;
    return x[ROW_TOKENS] == y[ROW_TOKENS] && x[ROW_LOGP] == y[ROW_LOGP];
}

static void add_prompt(struct spread *s, const struct plumb_decision *d, int64_t prompt)
{
    const struct plumb_scoreboard *b = d->board;
    const int64_t first = prompt * b->group_size;
    int64_t there = 0, finite = 0, one = -1;
    double low = INFINITY, high = -INFINITY;
    bool same = true;
    for (int64_t entry = first; entry < first + b->group_size; entry++) {
        if (b->kind[entry] == PLUMB_ENTRY_ABSENT)
            continue;
        there++;
        if (!isfinite(b->reward[entry]))
            continue;
        finite++;
        low = fmin(low, b->reward[entry]);
        high = fmax(high, b->reward[entry]);
        same = same && (one < 0 || same_text(d, one, entry));
        one = entry;
    }
    s->values += finite;
    s->low = fmin(s->low, low);
    s->high = fmax(s->high, high);
    s->prompts += there > 1;
    s->scored += finite > 1;
    if (finite > 1 && plumb_scores_same(low, high)) {
        s->flat++;
        s->same_texts += same;
    }
}

static bool only_lengths(const struct plumb_config *cfg)
{
    for (int64_t i = 0; i < cfg->reward.functions.n; i++)
        if (cfg->reward.functions.item[i].name != PLUMB_REWARD_LENGTH)
            return false;
    return true;
}

/* Returns the likely reason why rewards are equal, as a text for the warning. all: true if all
 * rewards of the iteration are equal, false if only those of each prompt are. */
static const char *likely(const struct plumb_align_inputs *in, const struct spread *s, bool all)
{
    const struct plumb_config *cfg = in->t->cfg;
    if (s->flat > 0 && 2 * s->same_texts > s->flat)
        return "the answers of a prompt are the same: look at generate.temperature, top_k, top_p "
               "and max_new_tokens";
    if (in->add->score)
        return "the policy judges its answers alike: look at method.judge and method.contrary";
    if (!all)
        return "the reward looks at the prompt and not at its answer, or is too coarse for "
               "answers this alike";
    if (s->values > 0 && cfg->reward.functions.n > 0 && !*cfg->reward.command &&
        !*cfg->reward.model && only_lengths(cfg))
        return "answers that are all of one length, for example all cut at "
               "generate.max_new_tokens (completions/clipped_ratio in the metrics)";
    if (*cfg->reward.command)
        return "reward.command finds nothing to check; `plumb inspect` of the rollout file shows "
               "the record that it gets with each answer";
    if (cfg->reward.functions.n > 0)
        return s->high == 0 ? "a pattern that never matches, or a solution or field of another "
                              "form than the answers"
                            : "functions that any answer satisfies";
    return "the reward model was not trained on such texts, or the texts are cut at max_new_tokens";
}

/* Warns, or fails with health.action=stop, if the share of prompts whose rewards are all equal is
 * above health.max_equal_rewards, or if no prompt has different rewards. Also warns if more than a
 * quarter of the prompts have fewer than two finite rewards. Does nothing if
 * health.max_equal_rewards is 1 or more. */
static plumb_status say(const struct plumb_align_inputs *in, const struct spread *s)
{
    const struct plumb_config *cfg = in->t->cfg;
    const double limit = cfg->health.max_equal_rewards;
    const long long it = (long long)in->t->state.iteration + 1;
    char text[700] = "";
    if (limit >= 1)
        return PLUMB_OK;
    if (s->values > 1 && plumb_scores_same(s->low, s->high))
        snprintf(text, sizeof(text),
                 "iteration %lld: all %lld rewards are %.6g: no answer is better than another by "
                 "its reward; likely: %s",
                 it, (long long)s->values, s->high, likely(in, s, true));
    else if (s->scored > 0 && s->flat == s->scored)
        snprintf(text, sizeof(text),
                 "iteration %lld: the rewards differ between prompts, but among the answers of no "
                 "prompt (%lld prompts): no answer is better than another; likely: %s",
                 it, (long long)s->scored, likely(in, s, false));
    else if ((double)s->flat > limit * (double)s->scored)
        snprintf(text, sizeof(text),
                 "iteration %lld: in %lld of %lld prompts all answers have the same reward; "
                 "likely: %s",
                 it, (long long)s->flat, (long long)s->scored, likely(in, s, false));
    if (*text)
        PLUMB_TRY(plumb_health_say(cfg, "max_equal_rewards", text));
    if (4 * (s->prompts - s->scored) > s->prompts)
        plumb_log_alike("iteration %lld: %lld of %lld prompts have fewer than two answers with a "
                        "reward, so nothing is compared in them",
                        it, (long long)(s->prompts - s->scored), (long long)s->prompts);
    return PLUMB_OK;
}

/* Returns the metric completions/duplicate_ratio: of all completions except the first of each
 * prompt, the share that has the same text as an earlier completion of its prompt. group_size must
 * be above 1. */
static double duplicate_ratio(const struct plumb_decision *d)
{
    const struct plumb_scoreboard *b = d->board;
    int64_t repeats = 0;
    for (int64_t i = 0; i < b->n; i++) {
        int64_t j = i - i % b->group_size;
        while (j < i && !same_text(d, j, i))
            j++;
        repeats += j < i;
    }
    return (double)repeats / (double)(b->n - b->prompts);
}

plumb_status plumb_align_spread(const struct plumb_decision *d, const struct plumb_align_inputs *in,
                                const struct plumb_reward_stage *reward,
                                struct plumb_metrics_row *row)
{
    struct spread s = {.low = INFINITY, .high = -INFINITY};
    if (d->board->group_size > 1)
        plumb_metrics_set(row, PLUMB_METRIC_DUPLICATE_RATIO, duplicate_ratio(d));
    if (!reward->sources && !in->add->score)
        return PLUMB_OK;
    for (int64_t prompt = 0; prompt < d->board->prompts; prompt++)
        add_prompt(&s, d, prompt);
    if (s.scored > 0)
        plumb_metrics_set(row, PLUMB_METRIC_REWARD_ZERO_STD, (double)s.flat / (double)s.scored);
    return say(in, &s);
}
