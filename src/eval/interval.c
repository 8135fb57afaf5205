/* interval.c - computes intervals by bootstrap over prompts and by Student's t over seeds.
 * Layer 5. Includes eval/interval.h, align/stats.h, base/. */
#include "eval/interval.h"

#include <math.h>
#include <stdlib.h>

#include "align/stats.h"
#include "base/rng.h"

plumb_status plumb_bootstrap(double out[2], const double *value, const double *count, int64_t n,
                             int64_t replicates, uint64_t seed)
{
    double *mean = malloc((size_t)(replicates + 1) * sizeof(*mean));
    PLUMB_REQUIRE(mean, PLUMB_ERR_NOMEM, "means of %lld bootstrap replicates",
                  (long long)replicates);
    int64_t kept = 0;
    for (int64_t b = 0; b < replicates && n > 1; b++) { /* the interval of one value is undefined */
        struct plumb_rng_key key = {
            .seed = seed, .purpose = PLUMB_RNG_BOOTSTRAP, .prompt = (uint64_t)b};
        double v = 0, c = 0;
        for (int64_t j = 0; j < n; j++) {
            key.position = (uint32_t)j;
            const int64_t i = (int64_t)(plumb_rng_uniform(&key) * (double)n);
            v += value[i];
            c += count[i];
        }
        if (c > 0)
            mean[kept++] = v / c;
    }
    plumb_sort_values(mean, kept);
    out[0] = plumb_quantile(mean, kept, 0.025);
    out[1] = plumb_quantile(mean, kept, 0.975);
    free(mean);
    return PLUMB_OK;
}

double plumb_t_half_width(double variance, int64_t n)
{
    /* 97.5 % quantiles of 1 .. 30 degrees of freedom */
    static const double t[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306,
                               2.262,  2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
                               2.110,  2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064,
                               2.060,  2.056, 2.052, 2.048, 2.045, 2.042};
    const int64_t degrees = n - 1, table = sizeof(t) / sizeof(t[0]);
    if (degrees < 1)
        return NAN;
    /* For more degrees of freedom than the table has: the expansion in 1 / degrees (Abramowitz and
     * Stegun 26.7.5), with an error below 1e-4. */
    const double z = 1.959964, z2 = z * z, d = (double)degrees;
    const double more = z * ((z2 + 1) / (4 * d) + (5 * z2 * z2 + 16 * z2 + 3) / (96 * d * d));
    return (degrees <= table ? t[degrees - 1] : z + more) * sqrt(variance / (double)n);
}
