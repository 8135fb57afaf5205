/* test_noise.c - checks against golden values which labels SPA smooths, and the loss of a pair with
 * a smoothed label.
 * Test. Includes align/, golden.h. */
#include "golden.h"
#include "stage/method.h"

static void check_case(const plumb_json *v, int64_t c)
{
    const struct plumb_align_param p = golden_param(plumb_json_get(v, "param"));
    const int64_t batch = plumb_json_int(plumb_json_get(v, "batch"), 0);
    const int64_t steps = plumb_json_int(plumb_json_get(v, "steps"), 0), n = batch * steps;
    double *margin = calloc((size_t)n, sizeof(*margin)), *work = calloc((size_t)n, sizeof(*work));
    CHECK(n > 0 && margin && work);
    for (int64_t i = 0; i < n; i++)
        margin[i] = golden_at(v, "margin", i);
    for (int64_t s = 0; s < steps; s++) {
        const double tau = plumb_threshold_noise(margin, (s + 1) * batch, &p, work);
        CHECKF(golden_near(tau, golden_at(v, "tau", s)), "case %lld step %lld: %.17g", (long long)c,
               (long long)s, tau);
        for (int64_t i = s * batch; i < (s + 1) * batch; i++) {
            struct plumb_choice one = {.smooth = 9};
            plumb_threshold_smooth(&one, margin[i], tau, (double)s / (double)steps, &p);
            CHECKF(one.smooth == golden_at(v, "smooth", i), "case %lld pair %lld: %g", (long long)c,
                   (long long)i, one.smooth);
        }
    }
    free(margin);
    free(work);
}

/* Checks dL/dh = sigma(h) - (1 - s) of a pair with smoothing s = 0 and s = noise_smoothing, where
 * h = beta (log-ratio of the preferred - log-ratio of the other). */
static void check_refinement(void)
{
    const struct plumb_align_param p = plumb_align_param_default();
    const double logp[2] = {-7, -12}, ref[2] = {-9, -8}, h = p.beta * (2 - -4);
    double dlogp[2];
    for (int m = 0; m < 2; m++) {
        const struct plumb_pair pair = {0, 1, m * p.noise_smoothing, 1};
        const struct plumb_obj_in in = {
            .n = 2, .k = 1, .logp = logp, .logp_ref = ref, .pair = &pair, .scale = 1};
        struct plumb_obj_out out = {.dlogp = dlogp};
        CHECK_OK(plumb_objective_eval(&plumb_obj_dpo, &out, &in, &p));
        const double sigma = 1 / (1 + exp(-h)), a = p.noise_smoothing * m;
        CHECK(golden_near(out.loss, -(1 - a) * log(sigma) - a * log(1 - sigma)));
        CHECK(golden_near(dlogp[0], p.beta * (sigma - (1 - a))) && dlogp[1] == -dlogp[0]);
    }
}

static void check_limits(void)
{
    struct plumb_align_param p = plumb_align_param_default();
    const double same[3] = {2, 2, 2}, none[2] = {NAN, NAN};
    double work[3];
    /* all margins are equal: the limit is this margin, and no margin is below it */
    CHECK(plumb_threshold_noise(same, 3, &p, work) == 2);
    CHECK(isnan(plumb_threshold_noise(none, 2, &p, work)));
    CHECK(isnan(plumb_threshold_noise(none, 0, &p, work)));
    struct plumb_choice c = {.smooth = 1};
    plumb_threshold_smooth(&c, 1.0, NAN, 1.0, &p);
    CHECK(c.smooth == 0);
    const struct plumb_method *m;
    CHECK_OK(plumb_method_find(&m, "spa"));
    p.label_smoothing = 0.45;
    CHECK(plumb_method_check(m, &p, 2) == PLUMB_ERR_CONFIG);
    p.label_smoothing = 0, p.noise_window = 0;
    CHECK(plumb_method_check(m, &p, 2) == PLUMB_ERR_CONFIG);
    CHECK(strstr(plumb_trail_message(), "method.noise_window = 0"));
}

int main(void)
{
    plumb_json *doc = golden_read("noise");
    CHECK(plumb_json_count(doc) >= 6);
    for (int64_t c = 0; c < plumb_json_count(doc); c++)
        check_case(plumb_json_at(doc, c), c);
    plumb_json_free(&doc);
    check_refinement();
    check_limits();
    return 0;
}
