/* scoreboard.c - collects the rewards of an iteration, and computes the loss denominator and the
 * lengths of imitated completions. Each completion has two slots. One rank fills them and the other
 * ranks add 0, so the sum over the ranks is exact.
 * Layer 1. Includes align/ and base/ only. */
#include "align/scoreboard.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

/* slot[2 i] is 0 if entry i is absent. Otherwise it is CODE, plus CODE_PRINCIPLED for a principled
 * completion, plus CODE_MISSING for a completion without a finite reward. If two ranks put the same
 * entry, the sum of their codes is not a valid code. slot[2 i + 1] is the reward, or 0 if it is
 * missing. */
enum { CODE = 8, CODE_PRINCIPLED = 1, CODE_MISSING = 2 };

const char *const plumb_branch_names[PLUMB_BRANCH_COUNT] = {"skip", "rank", "swap", "weighted",
                                                            "group"};

plumb_status plumb_scoreboard_create(struct plumb_scoreboard **out, int64_t max_prompts,
                                     int64_t group_size)
{
    int64_t n, bytes;
    PLUMB_REQUIRE(
        max_prompts > 0 && group_size > 0, PLUMB_ERR_ARG,
        "a scoreboard of %lld prompts with %lld completions each, expected 1 or more of both",
        (long long)max_prompts, (long long)group_size);
    PLUMB_REQUIRE(
        plumb_mul(&n, max_prompts, group_size) && plumb_mul(&bytes, n, 2 * (int64_t)sizeof(double)),
        PLUMB_ERR_NOMEM, "cannot store the rewards of %lld prompts with %lld completions each",
        (long long)max_prompts, (long long)group_size);

    struct plumb_scoreboard *b = calloc(1, sizeof(*b));
    PLUMB_REQUIRE(b, PLUMB_ERR_NOMEM, "cannot create a scoreboard");
    const size_t size = (size_t)n;
    b->max_prompts = max_prompts, b->group_size = group_size;
    b->slot = calloc(2 * size, sizeof(double));
    b->kind = calloc(size, 1);
    b->reward = calloc(size, sizeof(double));
    b->norm = calloc(size, sizeof(double));
    b->weight = calloc(size, sizeof(double));
    b->work = calloc(size, sizeof(double));
    b->choice = calloc((size_t)max_prompts, sizeof(*b->choice));
    if (!b->slot || !b->kind || !b->reward || !b->norm || !b->weight || !b->work || !b->choice) {
        plumb_scoreboard_destroy(&b);
        PLUMB_FAIL(PLUMB_ERR_NOMEM, "cannot store the rewards of %lld completions", (long long)n);
    }
    *out = b;
    return PLUMB_OK;
}

void plumb_scoreboard_destroy(struct plumb_scoreboard **b)
{
    if (!*b)
        return;
    free((*b)->slot);
    free((*b)->kind);
    free((*b)->reward);
    free((*b)->norm);
    free((*b)->weight);
    free((*b)->work);
    free((*b)->choice);
    free(*b);
    *b = NULL;
}

plumb_status plumb_scoreboard_begin(struct plumb_scoreboard *b, int64_t prompts)
{
    PLUMB_REQUIRE(prompts > 0 && prompts <= b->max_prompts, PLUMB_ERR_ARG,
                  "iteration of %lld prompts, the scoreboard has room for %lld", (long long)prompts,
                  (long long)b->max_prompts);
    b->prompts = prompts;
    b->n = prompts * b->group_size;
    b->slots = 2 * b->n;
    memset(b->slot, 0, (size_t)b->slots * sizeof(double));
    return PLUMB_OK;
}

plumb_status plumb_scoreboard_put(struct plumb_scoreboard *b, int64_t prompt, int64_t sample,
                                  bool principled, double reward)
{
    PLUMB_REQUIRE(
        prompt >= 0 && prompt < b->prompts && sample >= 0 && sample < b->group_size, PLUMB_ERR_ARG,
        "completion %lld of prompt %lld: the iteration has %lld prompts of %lld completions each",
        (long long)sample, (long long)prompt, (long long)b->prompts, (long long)b->group_size);
    double *slot = b->slot + 2 * (prompt * b->group_size + sample);
    PLUMB_REQUIRE(slot[0] == 0, PLUMB_ERR_ARG, "completion %lld of prompt %lld was put twice",
                  (long long)sample, (long long)prompt);
    const bool missing = !isfinite(reward);
    slot[0] = CODE + (principled ? CODE_PRINCIPLED : 0) + (missing ? CODE_MISSING : 0);
    slot[1] = missing ? 0.0 : reward;
    return PLUMB_OK;
}

static plumb_status close_entry(struct plumb_scoreboard *b, int64_t i)
{
    const double code = b->slot[2 * i];
    const int bits = (int)code - CODE;
    b->norm[i] = b->reward[i] = NAN;
    b->weight[i] = 0;
    b->kind[i] = PLUMB_ENTRY_ABSENT;
    if (code == 0)
        return PLUMB_OK;
    PLUMB_REQUIRE(bits >= 0 && bits <= (CODE_PRINCIPLED | CODE_MISSING), PLUMB_ERR_ARG,
                  "completion %lld of prompt %lld of this iteration was put on the scoreboard by "
                  "more than one rank",
                  (long long)(i % b->group_size), (long long)(i / b->group_size));
    b->kind[i] = bits & CODE_PRINCIPLED ? PLUMB_ENTRY_PRINCIPLED : PLUMB_ENTRY_PLAIN;
    if (!(bits & CODE_MISSING))
        b->reward[i] = b->slot[2 * i + 1];
    return PLUMB_OK;
}

plumb_status plumb_scoreboard_close(struct plumb_scoreboard *b)
{
    for (int64_t p = 0; p < b->prompts; p++) {
        bool any = false;
        for (int64_t i = p * b->group_size; i < (p + 1) * b->group_size; i++) {
            PLUMB_TRY(close_entry(b, i));
            any = any || b->kind[i] != PLUMB_ENTRY_ABSENT;
        }
        PLUMB_REQUIRE(any, PLUMB_ERR_ARG,
                      "prompt %lld of this iteration has no completion on any rank", (long long)p);
        b->choice[p] = (struct plumb_choice){.branch = PLUMB_BRANCH_SKIP,
                                             .win = -1,
                                             .lose = -1,
                                             .weight = 1.0,
                                             .denominator = 1.0,
                                             .margin = NAN};
    }
    return PLUMB_OK;
}

bool plumb_scoreboard_uses(const struct plumb_scoreboard *b, int64_t i)
{
    const struct plumb_choice *c = &b->choice[i / b->group_size];
    switch (c->branch) {
    case PLUMB_BRANCH_RANK:
    case PLUMB_BRANCH_SWAP:
        return i == c->win || i == c->lose;
    case PLUMB_BRANCH_WEIGHTED:
        return b->weight[i] > 0;
    case PLUMB_BRANCH_GROUP:
        return !isnan(b->norm[i]);
    case PLUMB_BRANCH_SKIP:
    case PLUMB_BRANCH_COUNT:
        break;
    }
    return false;
}

double plumb_scoreboard_terms(const struct plumb_scoreboard *b, const int64_t *prompt,
                              int64_t count)
{
    double terms = 0;
    const int64_t n = prompt ? count : b->prompts;
    for (int64_t k = 0; k < n; k++) {
        const struct plumb_choice *c = &b->choice[prompt ? prompt[k] : k];
        terms += c->branch != PLUMB_BRANCH_SKIP ? c->denominator : 0.0;
    }
    return terms;
}

struct plumb_imitated plumb_scoreboard_imitated(const struct plumb_scoreboard *b,
                                                const int64_t *prompt, int64_t count,
                                                const double *tokens, int64_t stride)
{
    struct plumb_imitated sums = {0};
    for (int64_t k = 0; k < count; k++) {
        const struct plumb_choice *c = &b->choice[prompt[k]];
        const int64_t first = prompt[k] * b->group_size;
        for (int64_t i = first; i < first + b->group_size; i++) {
            const double weight = c->branch == PLUMB_BRANCH_WEIGHTED ? b->weight[i]
                                  : c->branch == PLUMB_BRANCH_GROUP  ? (double)(i == c->win)
                                                                     : 0.0;
            sums.weight += weight;
            sums.tokens += weight * tokens[i * stride];
        }
    }
    return sums;
}

double plumb_imitated_mean(struct plumb_imitated sums)
{
    return sums.weight > 0 ? sums.tokens / sums.weight : 1.0;
}
