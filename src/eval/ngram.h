/* ngram.h - counts n-grams and different n-grams.
 * Layer 5. Includes base/. */
#ifndef PLUMB_EVAL_NGRAM_H
#define PLUMB_EVAL_NGRAM_H

#include <stdint.h>

#include "base/status.h"

/* Writes to gram (n,) the 64-bit hash of every n-gram of `order` consecutive ids of id (n,),
 * ascending, and returns their number. Equal n-grams have equal hashes; collisions of different
 * n-grams are neglected. */
int64_t plumb_ngrams(uint64_t *gram, const uint64_t *id, int64_t n, int order);
/* Returns the number of different values in an ascending list gram (n,). */
int64_t plumb_ngrams_different(const uint64_t *gram, int64_t n);

/* Sets *out to distinct-n: the number of different n-grams of all answers, divided by the number of
 * their n-grams; NaN if there are none. An n-gram never spans two answers. Answer i is
 * ids[offset[i] .. offset[i+1]-1], with offset (answers+1,). Source: Li et al. 2016,
 * arXiv:1510.03055 */
plumb_status plumb_distinct(double *out, const int32_t *ids, const int64_t *offset, int64_t answers,
                            int order);

/* Sets *out to the share of an answer's n-grams that repeat an earlier one, 1 - different / all; 0
 * if it has no n-gram.   Source: seq-rep-n of Welleck et al. 2020, arXiv:1908.04319, section 6.1 */
plumb_status plumb_self_repetition(double *out, const int32_t *ids, int64_t n, int order);

#endif
