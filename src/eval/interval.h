/* interval.h - how sure a mean is: over prompts, and over seeds.
 * Layer 5. Includes base/. */
#ifndef PLUMB_EVAL_INTERVAL_H
#define PLUMB_EVAL_INTERVAL_H

#include <stdint.h>

#include "base/status.h"

/* 95 % percentile interval of sum(value) / sum(count) over prompts drawn with replacement, so that
 * the answers to one prompt stay together. value, count (n,): sum and number of a prompt's figures.
 * Draw j of replicate b is Philox of (seed, bootstrap, prompt = b, position = j): the same prompts
 * for every model and figure. Replicates whose count is 0 are left out; out is NaN when all are, or
 * there are none.       Source: Efron and Tibshirani 1993, chapter 13.3, quantiles as R's type 7 */
plumb_status plumb_bootstrap(double out[2], const double *value, const double *count, int64_t n,
                             int64_t replicates, uint64_t seed);

/* Half the width of the 95 % interval of a mean of n values with this variance (divided by n - 1):
 * t(n - 1) sqrt(variance / n), Student 1908. NaN for n < 2. */
double plumb_t_half_width(double variance, int64_t n);

#endif
