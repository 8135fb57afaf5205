/* pair_selection.c - chooses two of a prompt's completions ("answers") by the cosines of their
 * embeddings, or chooses some of many given pairs by the cosine of each pair.
 * Layer 1. Includes align/ and base/ only. */
#include "align/pair_selection.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

enum { MOST_ENUMERATED = 12, MOST_ROUNDS = 100 };

const char *const plumb_pair_selection_names[] = {[PLUMB_SELECT_EASY] = "easy",
                                                  [PLUMB_SELECT_HARD] = "hard",
                                                  [PLUMB_SELECT_CENTROID] = "centroid",
                                                  [PLUMB_SELECT_RANDOM] = "random",
                                                  NULL};

void plumb_cosine_matrix(double *gram, const float *e, int64_t n, int64_t c)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++) {
            double sum = 0;
            for (int64_t k = 0; k < c; k++)
                sum += (double)e[i * c + k] * (double)e[j * c + k];
            gram[i * n + j] = sum;
        }
    /* Divides each scalar product by the norms of its two rows. The diagonal, which holds the
     * squared norms, is overwritten last. */
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < i; j++) {
            const double norm = sqrt(gram[i * n + i]) * sqrt(gram[j * n + j]);
            gram[i * n + j] = norm > 0 ? gram[i * n + j] / norm : 0;
            gram[j * n + i] = gram[i * n + j];
        }
    for (int64_t i = 0; i < n; i++)
        gram[i * n + i] = gram[i * n + i] > 0 ? 1 : 0;
}

static void extreme(int64_t *first, int64_t *second, const double *gram, int64_t n, double sign)
{
    *first = 0, *second = 1;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = i + 1; j < n; j++)
            if (sign * gram[i * n + j] < sign * gram[*first * n + *second])
                *first = i, *second = j;
}

/* ---- splitting the answers into two sets ---------------------------------------------------- */

/* Returns |e_i - mean|^2 - |mean|^2. e_i: embedding of answer i; mean: the mean embedding of the
 * answers in `set`. side (n,): the set of each answer, 0 or 1. */
static double distance(const double *gram, int64_t n, const uint8_t *side, uint8_t set, int64_t i)
{
    double sum = 0, m = 0;
    for (int64_t j = 0; j < n; j++)
        if (side[j] == set)
            sum += gram[i * n + j], m++;
    return gram[i * n + i] - 2 * sum / m;
}

/* Returns |sum of the embeddings of a set|^2 / number of its answers. The split with the largest
 * sum of this value over both sets is the split with the smallest sum of squared distances between
 * the answers and the mean of their set. */
static double gathered(const double *gram, int64_t n, const uint8_t *side, uint8_t set)
{
    double sum = 0, m = 0;
    for (int64_t i = 0; i < n; i++) {
        m += side[i] == set;
        for (int64_t j = 0; j < n; j++)
            sum += side[i] == set && side[j] == set ? gram[i * n + j] : 0;
    }
    return sum / m;
}

/* Sets side (n,) to the split into two non-empty sets whose sum of gathered() is largest, by trying
 * all splits. Answer 0 is always in set 0, so each split is tried once. */
static void enumerate(uint8_t *side, const double *gram, int64_t n)
{
    uint8_t now[MOST_ENUMERATED] = {0};
    double best = -INFINITY;
    for (uint32_t bits = 1; bits < 1u << (n - 1); bits++) {
        for (int64_t i = 1; i < n; i++)
            now[i] = bits >> (i - 1) & 1;
        const double value = gathered(gram, n, now, 0) + gathered(gram, n, now, 1);
        if (!(value > best))
            continue;
        best = value;
        for (int64_t i = 0; i < n; i++)
            side[i] = now[i];
    }
}

/* Sets side[0, n) to a good split by Lloyd's iteration. Elements [n, 2 n) of side are scratch. The
 * two answers with the lowest cosine start the two sets. The iteration stops when no answer changes
 * its set, when a set would become empty, or after MOST_ROUNDS rounds. */
static void iterate(uint8_t *side, const double *gram, int64_t n)
{
    int64_t a, b;
    extreme(&a, &b, gram, n, 1);
    for (int64_t i = 0; i < n; i++)
        side[i] = i == b || (i != a && gram[i * n + b] > gram[i * n + a]);
    for (int round = 0; round < MOST_ROUNDS; round++) {
        double own[2] = {0}, m[2] = {0};
        int64_t moved = 0;
        for (uint8_t set = 0; set < 2; set++) {
            own[set] = gathered(gram, n, side, set);
            for (int64_t i = 0; i < n; i++)
                m[set] += side[i] == set;
        }
        uint8_t *next = side + n; /* the sets after this round */
        for (int64_t i = 0; i < n; i++) {
            const double d0 = distance(gram, n, side, 0, i) + own[0] / m[0];
            const double d1 = distance(gram, n, side, 1, i) + own[1] / m[1];
            next[i] = d1 < d0;
            moved += next[i] != side[i];
        }
        int64_t ones = 0;
        for (int64_t i = 0; i < n; i++)
            ones += next[i];
        if (moved == 0 || ones == 0 || ones == n)
            return;
        for (int64_t i = 0; i < n; i++)
            side[i] = next[i];
    }
}

static int64_t nearest(const double *gram, int64_t n, const uint8_t *side, uint8_t set)
{
    int64_t best = -1;
    double least = INFINITY;
    for (int64_t i = 0; i < n; i++) {
        const double d = side[i] == set ? distance(gram, n, side, set, i) : INFINITY;
        if (d < least)
            least = d, best = i;
    }
    return best;
}

static plumb_status centroid(int64_t *first, int64_t *second, const double *gram, int64_t n)
{
    uint8_t few[2 * MOST_ENUMERATED] = {0};
    uint8_t *side = n <= MOST_ENUMERATED ? few : calloc(2 * (size_t)n, 1);
    PLUMB_REQUIRE(side, PLUMB_ERR_NOMEM, "cannot split %lld answers into two sets", (long long)n);
    if (n <= MOST_ENUMERATED)
        enumerate(side, gram, n);
    else
        iterate(side, gram, n);
    const int64_t a = nearest(gram, n, side, 0), b = nearest(gram, n, side, 1);
    *first = a < b ? a : b;
    *second = a < b ? b : a;
    if (side != few)
        free(side);
    return PLUMB_OK;
}

plumb_status plumb_select_pair(int64_t *first, int64_t *second, enum plumb_pair_selection rule,
                               const double *gram, int64_t n, const struct plumb_rng_key *key)
{
    switch (rule) {
    case PLUMB_SELECT_EASY:
    case PLUMB_SELECT_HARD:
        extreme(first, second, gram, n, rule == PLUMB_SELECT_EASY ? 1 : -1);
        return PLUMB_OK;
    case PLUMB_SELECT_CENTROID:
        return centroid(first, second, gram, n);
    case PLUMB_SELECT_RANDOM:
        break;
    }
    int64_t k = (int64_t)(plumb_rng_uniform(key) * (double)(n * (n - 1) / 2));
    for (*first = 0; k >= n - 1 - *first; ++*first)
        k -= n - 1 - *first;
    *second = *first + 1 + k;
    return PLUMB_OK;
}

/* ---- given pairs ---------------------------------------------------------------------------- */

struct ranked {
    double key;
    int64_t i;
};

static int by_key(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->key != y->key)
        return x->key > y->key ? 1 : -1;
    return (x->i > y->i) - (x->i < y->i);
}

static int ascending(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

plumb_status plumb_select_share(int64_t *kept, int64_t keep, enum plumb_pair_selection rule,
                                const double *cosine, int64_t n, const struct plumb_rng_key *key)
{
    if (rule == PLUMB_SELECT_RANDOM) {
        plumb_rng_shuffle(kept, n, *key);
    } else {
        struct ranked *all = calloc((size_t)n + 1, sizeof(*all));
        PLUMB_REQUIRE(all, PLUMB_ERR_NOMEM, "cannot sort %lld pairs", (long long)n);
        for (int64_t i = 0; i < n; i++)
            all[i] = (struct ranked){rule == PLUMB_SELECT_HARD ? -cosine[i] : cosine[i], i};
        qsort(all, (size_t)n, sizeof(*all), by_key);
        for (int64_t i = 0; i < n; i++)
            kept[i] = all[i].i;
        free(all);
    }
    qsort(kept, (size_t)keep, sizeof(*kept), ascending);
    return PLUMB_OK;
}
