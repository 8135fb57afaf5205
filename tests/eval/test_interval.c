/* test_interval.c - checks bootstrap intervals and t intervals: known widths, several answers per
 * prompt, prompts without values, equal results for equal seeds.
 * Test. Includes harness.h, eval/. */
#include "eval/interval.h"

#include "harness.h"

enum { N = 400 };

static double width(const double *v, const double *c, int64_t n, uint64_t seed)
{
    double out[2];
    CHECK_OK(plumb_bootstrap(out, v, c, n, 2000, seed));
    CHECK(out[0] <= out[1]);
    return out[1] - out[0];
}

static void test_bootstrap(void)
{
    struct rng r = {5};
    double v[N], one[N], twice[N], two[N], out[2], again[2], sum = 0, square = 0;
    for (int i = 0; i < N; i++) {
        v[i] = rng_u(&r) + rng_u(&r) + rng_u(&r);
        one[i] = 1;
        sum += v[i];
        square += v[i] * v[i];
    }
    const double mean = sum / N, sd = sqrt(square / N - mean * mean);
    CHECK_OK(plumb_bootstrap(out, v, one, N, 2000, 1));
    const double normal = 2 * 1.96 * sd / sqrt(N);
    CHECKF(fabs((out[1] - out[0]) / normal - 1) < 0.05, "width %g, normal %g", out[1] - out[0],
           normal);
    CHECKF(fabs((out[0] + out[1]) / 2 - mean) < 0.025 * normal, "centre %g, mean %g",
           (out[0] + out[1]) / 2, mean);
    CHECK_OK(plumb_bootstrap(again, v, one, N, 2000, 1));
    CHECK(out[0] == again[0] && out[1] == again[1]);
    CHECK_OK(plumb_bootstrap(again, v, one, N, 2000, 2));
    CHECK(out[0] != again[0]);
    /* Two equal answers per prompt give the same width as one answer, because all answers of a
     * prompt are drawn together. */
    for (int i = 0; i < N; i++) {
        twice[i] = 2 * v[i];
        two[i] = 2;
    }
    CHECK(fabs(width(twice, two, N, 1) - width(v, one, N, 1)) < 1e-12);
    /* Every other prompt has no value (count 0). All other values are 3, so the width is 0. */
    double w[N], c[N];
    for (int i = 0; i < N; i++) {
        c[i] = i % 2;
        w[i] = i % 2 ? 3 : 0;
    }
    CHECK(width(w, c, N, 1) == 0);
    CHECK_OK(plumb_bootstrap(out, w, c, N, 0, 1));
    CHECK(isnan(out[0]) && isnan(out[1]));
    CHECK_OK(plumb_bootstrap(out, v, one, 1, 50, 1));
    CHECK(isnan(out[0]) && isnan(out[1]));
    /* With two prompts, a quarter of the replicates draws the same prompt twice, so the interval
     * reaches from 0 to 1. */
    const double unlike[2] = {0, 1};
    CHECK_OK(plumb_bootstrap(out, unlike, one, 2, 200, 1));
    CHECK(out[0] == 0 && out[1] == 1);
    c[1] = 0;
    CHECK_OK(plumb_bootstrap(out, w, c, 2, 50, 1));
    CHECK(isnan(out[0]));
}

static void test_t(void)
{
    CHECK(isnan(plumb_t_half_width(1, 1)));
    CHECK(fabs(plumb_t_half_width(1, 2) - 12.706 / sqrt(2)) < 1e-9);
    CHECK(fabs(plumb_t_half_width(4, 5) - 2.776 * 2 / sqrt(5)) < 1e-9);
    CHECK(fabs(plumb_t_half_width(1, 31) - 2.042 / sqrt(31)) < 1e-9);
    /* 97.5 % quantiles of t: 2.0211 for 40 degrees of freedom, 1.9799 for 120 */
    CHECK(fabs(plumb_t_half_width(1, 41) * sqrt(41) - 2.0211) < 1e-4);
    CHECK(fabs(plumb_t_half_width(1, 121) * sqrt(121) - 1.9799) < 1e-4);
}

int main(void)
{
    test_bootstrap();
    test_t();
    return 0;
}
