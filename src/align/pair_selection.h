/* pair_selection.h - selects the completions of a prompt to compare, by their embeddings' cosines.
 * Layer 1. Includes base/ only.
 * Source: REAL, arXiv:2409.17169, and its code. */
#ifndef PLUMB_ALIGN_PAIR_SELECTION_H
#define PLUMB_ALIGN_PAIR_SELECTION_H

#include <stdint.h>

#include "base/rng.h"
#include "base/status.h"

enum plumb_pair_selection {
    PLUMB_SELECT_EASY,     /* the two answers with the lowest cosine; the choice of REAL */
    PLUMB_SELECT_HARD,     /* the two answers with the highest cosine */
    PLUMB_SELECT_CENTROID, /* the answers nearest to the means of the best split into two sets */
    PLUMB_SELECT_RANDOM,   /* a random pair */
};

/* Sets gram (n,n) to the cosines of the embeddings e (n,c), one row each. Sums run in double and in
 * element order. The cosine with a row of zeros is 0. */
void plumb_cosine_matrix(double *gram, const float *e, int64_t n, int64_t c);

/* Chooses a pair first < second of n >= 2 answers from their cosines gram (n,n). Of equally good
 * pairs it takes the lowest indices.
 *   centroid  splits the answers into two non-empty sets with the smallest sum of squared distances
 *             to their set's mean, and takes the answer nearest to the mean of each set. It tries
 *             all splits up to 12 answers; for more it uses Lloyd's iteration, which starts from
 *             the pair with the lowest cosine.
 *   random    takes every pair with equal probability, as a function of *key
 * PLUMB_ERR_NOMEM if memory runs out. */
plumb_status plumb_select_pair(int64_t *first, int64_t *second, enum plumb_pair_selection rule,
                               const double *gram, int64_t n, const struct plumb_rng_key *key);

/* Chooses `keep` of n given pairs; cosine (n,) compares the two answers of each pair. easy keeps
 * the lowest cosines, hard the highest, random any (a function of *key); centroid is not allowed.
 * Of equal cosines it keeps the lowest indices.
 *   kept (n,): the first `keep` elements are the chosen indices, ascending; the rest is scratch
 * PLUMB_ERR_NOMEM if memory runs out. */
plumb_status plumb_select_share(int64_t *kept, int64_t keep, enum plumb_pair_selection rule,
                                const double *cosine, int64_t n, const struct plumb_rng_key *key);

#endif
