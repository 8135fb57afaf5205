/* win_rate.c - computes the length-controlled win rate by Newton's method.
 * Layer 5. Includes eval/win_rate.h, base/. */
#include "eval/win_rate.h"

#include <math.h>

#include "base/num.h"

#define RIDGE     1e-3
#define MAX_STEPS 200

static double logistic(double z)
{
    return z >= 0 ? 1 / (1 + exp(-z)) : exp(z) / (1 + exp(z));
}

static double length_term(const double *delta, int64_t i, double scale)
{
    return scale > 0 ? tanh(delta[i] / scale) : 0;
}

/* Returns the cross-entropy plus the ridge penalty: the sum of log(1 + e^z) - won z, computed
 * without overflow, where z is the log-odds of a win. */
static double objective(const double w[2], const double *won, const double *delta, int64_t n,
                        double scale)
{
    double sum = RIDGE / 2 * (w[0] * w[0] + w[1] * w[1]);
    for (int64_t i = 0; i < n; i++) {
        const double z = w[0] + w[1] * length_term(delta, i, scale);
        sum += fmax(z, 0) + log1p(exp(-fabs(z))) - won[i] * z;
    }
    return sum;
}

/* Sets step to H^-1 g, where g and H are gradient and Hessian of the objective at w. Returns the
 * largest absolute element of g. */
static double newton_step(double step[2], const double w[2], const double *won, const double *delta,
                          int64_t n, double scale)
{
    double g[2] = {RIDGE * w[0], RIDGE * w[1]}, h00 = RIDGE, h01 = 0, h11 = RIDGE;
    for (int64_t i = 0; i < n; i++) {
        const double x = length_term(delta, i, scale), p = logistic(w[0] + w[1] * x);
        const double v = p * (1 - p);
        g[0] += p - won[i];
        g[1] += (p - won[i]) * x;
        h00 += v;
        h01 += v * x;
        h11 += v * x * x;
    }
    const double det = h00 * h11 - h01 * h01;
    step[0] = (h11 * g[0] - h01 * g[1]) / det;
    step[1] = (h00 * g[1] - h01 * g[0]) / det;
    return fmax(fabs(g[0]), fabs(g[1]));
}

plumb_status plumb_lc_win_rate(double *out, const double *won, const double *delta, int64_t n)
{
    struct plumb_moments m = {0};
    for (int64_t i = 0; i < n; i++)
        plumb_moments_add(&m, delta[i]);
    const double scale = sqrt(plumb_moments_var(&m));
    double w[2] = {0, 0}, step[2];
    *out = NAN;
    for (int k = 0; k < MAX_STEPS; k++) {
        if (newton_step(step, w, won, delta, n, scale) < 1e-10 * (double)(n + 1)) {
            *out = logistic(w[0]);
            return PLUMB_OK;
        }
        /* Halve the step until the objective does not increase by more than rounding errors. This
         * suffices, because the problem is convex. */
        const double here = objective(w, won, delta, n, scale) * (1 + 1e-12) + 1e-12;
        double next[2], share = 1;
        do {
            next[0] = w[0] - share * step[0];
            next[1] = w[1] - share * step[1];
            share /= 2;
        } while (objective(next, won, delta, n, scale) > here && share > 1e-9);
        w[0] = next[0];
        w[1] = next[1];
    }
    PLUMB_FAIL(PLUMB_ERR_NUMERIC, "the length-controlled win rate of %lld pairs does not converge",
               (long long)n);
}
