/* test_win_rate.c - checks the length-controlled win rate (LC): limiting cases, recovery of known
 * parameters, convergence.
 * Test. Includes harness.h, eval/. */
#include "eval/win_rate.h"

#include "harness.h"

enum { N = 4000 };
static double won[N], delta[N];

static double lc(int64_t n)
{
    double x;
    CHECK_OK(plumb_lc_win_rate(&x, won, delta, n));
    return x;
}

static void test_limits(void)
{
    CHECK(lc(0) == 0.5);
    /* With equal lengths, LC is the win rate, in which a tie counts as half a win. */
    for (int i = 0; i < 100; i++) {
        won[i] = i < 60 ? 1 : i < 80 ? 0.5 : 0;
        delta[i] = 7;
    }
    CHECKF(fabs(lc(100) - 0.7) < 1e-4, "%g", lc(100));
    /* The longer answer always wins, whichever model wrote it, so LC is 1/2. */
    for (int i = 0; i < 100; i++) {
        delta[i] = i % 2 ? 10 : -10;
        won[i] = i % 2;
    }
    CHECKF(fabs(lc(100) - 0.5) < 1e-6, "%g", lc(100));
    /* If one model wins all pairs, the ridge penalty keeps LC strictly between 0 and 1: near 1 for
     * all wins, near 0 for all losses. */
    for (int i = 0; i < 100; i++)
        won[i] = 1;
    CHECKF(lc(100) > 0.999 && lc(100) < 1, "%g", lc(100));
    for (int i = 0; i < 100; i++)
        won[i] = 0;
    CHECK(lc(100) < 0.001 && lc(100) > 0);
}

/* Draws wins with the parameters theta = 0.4 (quality) and phi = 1.5 (length), for answers that
 * are mostly longer. Checks that the win rate is far above sigma(theta), while LC is near
 * sigma(theta). */
static void test_recovery(void)
{
    struct rng r = {3};
    double sum = 0, square = 0, wins = 0;
    for (int i = 0; i < N; i++) {
        delta[i] = 30 + 50 * (rng_u(&r) - 0.5);
        sum += delta[i];
        square += delta[i] * delta[i];
    }
    const double sd = sqrt(square / N - sum / N * (sum / N));
    for (int i = 0; i < N; i++) {
        won[i] = rng_u(&r) < 1 / (1 + exp(-0.4 - 1.5 * tanh(delta[i] / sd)));
        wins += won[i] / N;
    }
    const double want = 1 / (1 + exp(-0.4));
    CHECKF(wins > want + 0.15, "win rate %g", wins);
    CHECKF(fabs(lc(N) - want) < 0.06, "%g, expected %g", lc(N), want);
    /* With the two models exchanged, LC is 1 minus the value before. */
    const double here = lc(N);
    for (int i = 0; i < N; i++) {
        won[i] = 1 - won[i];
        delta[i] = -delta[i];
    }
    CHECK(fabs(here + lc(N) - 1) < 1e-9);
}

/* Checks that the fit of LC converges for 400 random sets of 1 to 600 pairs. The length differences
 * are small integers, so many are equal, and there are ties. */
static void test_settles(void)
{
    struct rng r = {17};
    for (int k = 0; k < 400; k++) {
        const int n = 1 + (int)(rng_u(&r) * 600);
        const double skill = 6 * rng_u(&r) - 3, taste = 8 * rng_u(&r) - 4;
        for (int i = 0; i < n; i++) {
            delta[i] = floor(30 * (rng_u(&r) - 0.4)) * (rng_u(&r) < 0.7);
            won[i] =
                rng_u(&r) < 0.2 ? 0.5 : rng_u(&r) < 1 / (1 + exp(-skill - taste * delta[i] / 9));
        }
        CHECK(lc(n) > 0 && lc(n) < 1);
    }
}

int main(void)
{
    test_limits();
    test_recovery();
    test_settles();
    return 0;
}
