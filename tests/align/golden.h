/* golden.h - reads the fixtures of tests/reference/align_fixtures.py. */
#ifndef PLUMB_TESTS_ALIGN_GOLDEN_H
#define PLUMB_TESTS_ALIGN_GOLDEN_H
#include <string.h>

#include "align/param.h"
#include "harness.h"
#include "io/json.h"

static inline plumb_json *golden_read(const char *name)
{
    char path[1024];
    const char *root = getenv("PLUMB_SOURCE_ROOT");
    plumb_json *doc = NULL;
    snprintf(path, sizeof(path), "%s/tests/fixtures/align/%s.json", root ? root : ".", name);
    CHECK_OK(plumb_json_read_file(&doc, path));
    return doc;
}

/* Element i of the array `key`; null is NaN. */
static inline double golden_at(const plumb_json *v, const char *key, int64_t i)
{
    return plumb_json_real(plumb_json_at(plumb_json_get(v, key), i), NAN);
}

static inline double golden_real(const plumb_json *v, const char *key)
{
    return plumb_json_real(plumb_json_get(v, key), NAN);
}

static inline int golden_enum(const char *value, const char *const *names)
{
    for (int i = 0; names[i]; i++)
        if (!strcmp(names[i], value))
            return i;
    CHECKF(0, "unknown value %s", value);
    return -1;
}

/* The defaults, changed by the members of v. */
static inline struct plumb_align_param golden_param(const plumb_json *v)
{
    struct plumb_align_param p = plumb_align_param_default();
    for (int64_t i = 0; i < plumb_json_count(v); i++) {
        const char *key;
        const plumb_json *x;
        CHECK_OK(plumb_json_member_at(v, i, &key, &x));
        const char *s = plumb_json_string(x, "");
        const double d = plumb_json_real(x, NAN);
        if (!strcmp(key, "rank_loss"))
            p.rank_loss = (enum plumb_rank_loss)golden_enum(s, plumb_rank_loss_names);
        else if (!strcmp(key, "weighted_loss"))
            p.weighted_loss = (enum plumb_weighted_loss)golden_enum(s, plumb_weighted_loss_names);
        else if (!strcmp(key, "reward_norm"))
            p.reward_norm = (enum plumb_reward_norm)golden_enum(s, plumb_reward_norm_names);
        else if (!strcmp(key, "threshold"))
            p.threshold = (enum plumb_threshold_kind)golden_enum(s, plumb_threshold_names);
        else if (!strcmp(key, "reverse"))
            p.reverse = (enum plumb_reverse)golden_enum(s, plumb_reverse_names);
        else if (!strcmp(key, "length_normalize"))
            p.length_normalize = plumb_json_bool(x, true);
        else if (!strcmp(key, "tau"))
            p.tau = d;
        else if (!strcmp(key, "alpha"))
            p.alpha = d;
        else if (!strcmp(key, "weight_temperature"))
            p.weight_temperature = d;
        else if (!strcmp(key, "quantile_start"))
            p.quantile_start = d;
        else if (!strcmp(key, "quantile_end"))
            p.quantile_end = d;
        else if (!strcmp(key, "mean_k"))
            p.mean_k = d;
        else if (!strcmp(key, "beta"))
            p.beta = d;
        else if (!strcmp(key, "label_smoothing"))
            p.label_smoothing = d;
        else if (!strcmp(key, "lambda"))
            p.lambda = d;
        else if (!strcmp(key, "reference_weight"))
            p.reference_weight = d;
        else if (!strcmp(key, "list_temperature"))
            p.list_temperature = d;
        else if (!strcmp(key, "sft_weight"))
            p.sft_weight = d;
        else if (!strcmp(key, "curriculum_temperature"))
            p.curriculum_temperature = d;
        else if (!strcmp(key, "rho"))
            p.rho = d;
        else if (!strcmp(key, "noise_share"))
            p.noise_share = d;
        else if (!strcmp(key, "noise_window"))
            p.noise_window = (int64_t)d;
        else if (!strcmp(key, "noise_start"))
            p.noise_start = d;
        else if (!strcmp(key, "noise_smoothing"))
            p.noise_smoothing = d;
        else if (!strcmp(key, "weight_beta"))
            p.weight_beta = d;
        else if (!strcmp(key, "optimism"))
            p.optimism = d;
        else if (!strcmp(key, "margin_beta"))
            p.margin_beta = d;
        else if (!strcmp(key, "margin_limit"))
            p.margin_limit = d;
        else
            CHECKF(0, "unknown parameter %s", key);
    }
    CHECK_OK(plumb_align_param_check(&p));
    return p;
}

/* Equal to 1e-12 relative or absolute; NaN equals NaN. */
static inline bool golden_near(double a, double b)
{
    return isnan(b) ? isnan(a) : fabs(a - b) <= 1e-12 * fmax(1.0, fabs(b));
}
#endif
