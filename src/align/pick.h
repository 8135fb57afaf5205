/* pick.h - which pair of a prompt's answers is worth a label, by how alike the answers are.
 * Layer 1. Includes base/ only.
 * Source: REAL, arXiv:2409.17169, and its code. */
#ifndef PLUMB_ALIGN_PICK_H
#define PLUMB_ALIGN_PICK_H

#include <stdint.h>

#include "base/rng.h"
#include "base/status.h"

enum plumb_pick {
    PLUMB_PICK_EASY,     /* the least alike; REAL */
    PLUMB_PICK_HARD,     /* the most alike */
    PLUMB_PICK_CENTROID, /* the ones nearest to the two centres of their best 2-partition */
    PLUMB_PICK_RANDOM,
};
extern const char *const plumb_pick_names[]; /* NULL at the end */

/* gram (n,n) = cosines of the embeddings e (n,c), in double: rows are divided by their L2 norm,
 * sums run in order. A row of zeros stays one. */
void plumb_pick_gram(double *gram, const float *e, int64_t n, int64_t c);

/* The pair first < second of n >= 2 answers; of equals the lowest indices.
 *   centroid  partition into two non-empty sets with the least sum of squared distances to their
 *             means: by enumeration up to 12 answers, by Lloyd's iteration from the least alike
 *             pair beyond; of each set the answer nearest to its mean
 *   random    every pair alike, a function of *key
 * PLUMB_ERR_NOMEM. */
plumb_status plumb_pick_pair(int64_t *first, int64_t *second, enum plumb_pick pick,
                             const double *gram, int64_t n, const struct plumb_rng_key *key);

/* Of n given pairs with these cosines, the `keep` least alike (easy), most alike (hard) or any
 * (random; a function of *key); centroid has no meaning here. Of equals the lowest indices.
 *   kept (n,): the first `keep` are the result, ascending; the rest is overwritten.
 * PLUMB_ERR_NOMEM. */
plumb_status plumb_pick_share(int64_t *kept, int64_t keep, enum plumb_pick pick,
                              const double *cosine, int64_t n, const struct plumb_rng_key *key);

#endif
