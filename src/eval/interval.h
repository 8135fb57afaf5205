/* interval.h - computes confidence intervals of a mean, over prompts and over seeds.
 * Layer 5. Includes base/. */
#ifndef PLUMB_EVAL_INTERVAL_H
#define PLUMB_EVAL_INTERVAL_H

#include <stdint.h>

#include "base/status.h"

/* Sets out to the 95 % percentile interval of sum(value) / sum(count). The bootstrap draws whole
 * prompts with replacement, because the answers to one prompt are not independent. value, count
 * (n,): the sum and the number of the values of each prompt. Draw j of replicate b is a random
 * number with the key (seed, PLUMB_RNG_BOOTSTRAP, prompt = b, position = j) of base/rng.h, so every
 * model and every result uses the same draws. Replicates with a count of 0 are left out; out is NaN
 * if no replicate remains or n < 2. Source: Efron and Tibshirani 1993, chapter 13.3; quantiles as
 * R's type 7. PLUMB_ERR_NOMEM. */
plumb_status plumb_bootstrap(double out[2], const double *value, const double *count, int64_t n,
                             int64_t replicates, uint64_t seed);

/* Returns half the width of the 95 % interval of the mean of n values with this sample variance
 * (divisor n - 1): t(n - 1) sqrt(variance / n), Student 1908. NaN for n < 2. */
double plumb_t_half_width(double variance, int64_t n);

#endif
