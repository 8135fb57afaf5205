/* pair_selection.h - selects two of a prompt's completions ("answers"), or some of many given
 * pairs, by the cosines of the answers' embeddings.
 * Layer 1. Includes base/ only.
 * Source: REAL, arXiv:2409.17169, and its code. */
#ifndef PLUMB_ALIGN_PAIR_SELECTION_H
#define PLUMB_ALIGN_PAIR_SELECTION_H

#include <stdint.h>

#include "base/rng.h"
#include "base/status.h"

enum plumb_pair_selection {
    PLUMB_SELECT_EASY, /* the two answers with the lowest cosine; the choice of REAL */
    PLUMB_SELECT_HARD, /* the two answers with the highest cosine */
    /* the answers nearest to the two means of a 2-means clustering of the embeddings */
    PLUMB_SELECT_CENTROID,
    PLUMB_SELECT_RANDOM, /* two random answers */
};

/* Sets gram (n,n) to the cosines between the rows of e (n,c), which are the answers' embeddings.
 * Each sum is computed in double, in the order of the elements. The cosine of a row of zeros with
 * any row, also with itself, is 0. */
void plumb_cosine_matrix(double *gram, const float *e, int64_t n, int64_t c);

/* Chooses two answers, first < second, of n >= 2 answers from their cosines gram (n,n). Among
 * equally good pairs it takes the one with the lowest indices. easy and hard: see enum
 * plumb_pair_selection.
 *   centroid  splits the embeddings, scaled to length 1, into two non-empty sets so that the sum
 *             of their squared distances to the mean of their set is small (2-means), and takes
 *             the answer nearest to the mean of each set. Up to 12 answers it tries all splits and
 *             finds the smallest sum; for more it uses Lloyd's iteration, which starts from the
 *             pair with the lowest cosine.
 *   random    takes every pair with equal probability, as a function of *key
 * Returns PLUMB_ERR_NOMEM if memory runs out. */
plumb_status plumb_select_pair(int64_t *first, int64_t *second, enum plumb_pair_selection rule,
                               const double *gram, int64_t n, const struct plumb_rng_key *key);

/* Chooses `keep` of n given pairs. cosine (n,): cosine of the embeddings of the two answers of each
 * pair. The rule `easy` keeps the pairs with the lowest cosines, `hard` those with the highest,
 * `random` a random subset, as a function of *key. `centroid` is not allowed. Among equal cosines
 * the pairs with the lowest indices are kept.
 *   kept (n,): the first `keep` elements are the chosen indices, ascending; the rest is scratch
 * Returns PLUMB_ERR_NOMEM if memory runs out. */
plumb_status plumb_select_share(int64_t *kept, int64_t keep, enum plumb_pair_selection rule,
                                const double *cosine, int64_t n, const struct plumb_rng_key *key);

#endif
