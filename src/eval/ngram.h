/* ngram.h - sequences of n tokens: how many there are, how many differ.
 * Layer 5. Includes base/. */
#ifndef PLUMB_EVAL_NGRAM_H
#define PLUMB_EVAL_NGRAM_H

#include <stdint.h>

#include "base/status.h"

/* gram (room for n) = one number per run of `order` ids, ascending; returns how many. Equal runs
 * have equal numbers, different ones different numbers but for collisions of a 64-bit hash. */
int64_t plumb_ngrams(uint64_t *gram, const uint64_t *id, int64_t n, int order);
/* Different numbers in an ascending list. */
int64_t plumb_ngrams_different(const uint64_t *gram, int64_t n);

/* distinct-n: different n-grams over all n-grams of all answers together; NaN when there are none.
 * No n-gram crosses from one answer into the next. offset (answers+1,)
 *                                               Source: Li et al. 2016, arXiv:1510.03055 */
plumb_status plumb_distinct(double *out, const int32_t *ids, const int64_t *offset, int64_t answers,
                            int order);

/* Share of an answer's n-grams that were there before in it, 1 - different / all; 0 when it has
 * none.    Source: seq-rep-n of Welleck et al. 2020, arXiv:1908.04319, section 6.1 */
plumb_status plumb_self_repetition(double *out, const int32_t *ids, int64_t n, int order);

#endif
