/* param.c - names, defaults and ranges of the method parameters.
 * Layer 1. Includes align/ and base/ only. */
#include "align/param.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/range.h"

const char *const plumb_rank_loss_names[] = {[PLUMB_RANK_HINGE] = "hinge",
                                             [PLUMB_RANK_LOGISTIC] = "logistic",
                                             [PLUMB_RANK_HINGE_PROB] = "hinge_prob",
                                             [PLUMB_RANK_DPO] = "dpo",
                                             [PLUMB_RANK_NONE] = "none",
                                             NULL};
const char *const plumb_weighted_loss_names[] = {[PLUMB_WEIGHTED_SOFTMAX] = "softmax",
                                                 [PLUMB_WEIGHTED_PRINCIPLED_ONLY] =
                                                     "principled_only",
                                                 [PLUMB_WEIGHTED_NONE] = "none",
                                                 NULL};
const char *const plumb_reward_norm_names[] = {[PLUMB_NORM_ZSCORE] = "zscore",
                                               [PLUMB_NORM_SIGMOID] = "sigmoid",
                                               [PLUMB_NORM_NONE] = "none",
                                               NULL};
const char *const plumb_threshold_names[] = {[PLUMB_THRESHOLD_DECAY] = "decay",
                                             [PLUMB_THRESHOLD_QUANTILE] = "quantile",
                                             [PLUMB_THRESHOLD_MEAN_DECAY] = "mean_decay",
                                             [PLUMB_THRESHOLD_NONE] = "none",
                                             NULL};
const char *const plumb_reverse_names[] = {
    [PLUMB_REVERSE_WEIGHTED] = "weighted", [PLUMB_REVERSE_SWAP] = "swap", NULL};

#define DEFAULT_REAL(value, range)   strtod(value, NULL)
#define DEFAULT_INT(value, range)    strtoll(value, NULL, 10)
#define DEFAULT_BOOL(value, range)   (strcmp(value, "true") == 0)
#define DEFAULT_CHOICE(value, range) plumb_range_word(range, value)
#define DEFAULT(X, type, c_type, name, value, range, ...)                                          \
    .name = (c_type)DEFAULT_##type(value, range),

struct plumb_align_param plumb_align_param_default(void)
{
    return (struct plumb_align_param){PLUMB_METHOD_LIST(DEFAULT, PLUMB_PARAM_NONE, )};
}

static plumb_status check_real(const char *name, double x, const char *range)
{
    PLUMB_REQUIRE(plumb_range_holds(range, x), PLUMB_ERR_CONFIG,
                  "method.%s = %g, expected a number in %s", name, x, range);
    return PLUMB_OK;
}

static plumb_status check_choice(const char *name, int x, const char *words)
{
    PLUMB_REQUIRE(x >= 0 && x < plumb_range_words(words), PLUMB_ERR_CONFIG,
                  "method.%s is choice %d, expected the index of one of %s", name, x, words);
    return PLUMB_OK;
}

#define CHECK_REAL(name, range)                         check_real(#name, p->name, range)
#define CHECK_INT(name, range)                          check_real(#name, (double)p->name, range)
#define CHECK_BOOL(name, range)                         PLUMB_OK
#define CHECK_CHOICE(name, range)                       check_choice(#name, (int)p->name, range)
#define CHECK(X, type, c_type, name, value, range, ...) PLUMB_TRY(CHECK_##type(name, range));

plumb_status plumb_align_param_check(const struct plumb_align_param *p)
{
    PLUMB_METHOD_LIST(CHECK, PLUMB_PARAM_NONE, )
    PLUMB_REQUIRE(p->rank_loss != PLUMB_RANK_NONE || p->weighted_loss != PLUMB_WEIGHTED_NONE,
                  PLUMB_ERR_CONFIG,
                  "method.rank_loss and method.weighted_loss are both none: nothing would be "
                  "trained");
    return PLUMB_OK;
}
