/* ngram.c - counts n-grams by sorting their hashes.
 * Layer 5. Includes eval/ngram.h, io/. */
#include "eval/ngram.h"

#include <math.h>
#include <stdlib.h>

#include "io/file.h"

static int ascending(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

int64_t plumb_ngrams(uint64_t *gram, const uint64_t *id, int64_t n, int order)
{
    const int64_t grams = n < order ? 0 : n - order + 1;
    for (int64_t i = 0; i < grams; i++)
        gram[i] = plumb_hash(id + i, order * (int64_t)sizeof(*id), 0);
    if (grams)
        qsort(gram, (size_t)grams, sizeof(*gram), ascending);
    return grams;
}

int64_t plumb_ngrams_different(const uint64_t *gram, int64_t n)
{
    int64_t different = 0;
    for (int64_t i = 0; i < n; i++)
        different += i == 0 || gram[i] != gram[i - 1];
    return different;
}

plumb_status plumb_distinct(double *out, const int32_t *ids, const int64_t *offset, int64_t answers,
                            int order)
{
    const size_t room = (size_t)(offset[answers] - offset[0]) + 1;
    uint64_t *gram = malloc(room * sizeof(*gram));
    int64_t all = 0;
    PLUMB_REQUIRE(gram, PLUMB_ERR_NOMEM, "%zu n-grams", room);
    for (int64_t a = 0; a < answers; a++)
        for (int64_t i = offset[a]; i + order <= offset[a + 1]; i++)
            gram[all++] = plumb_hash(ids + i, order * (int64_t)sizeof(*ids), 0);
    qsort(gram, (size_t)all, sizeof(*gram), ascending);
    *out = all ? (double)plumb_ngrams_different(gram, all) / (double)all : NAN;
    free(gram);
    return PLUMB_OK;
}

plumb_status plumb_self_repetition(double *out, const int32_t *ids, int64_t n, int order)
{
    const int64_t offset[2] = {0, n};
    PLUMB_TRY(plumb_distinct(out, ids, offset, 1, order));
    *out = isnan(*out) ? 0 : 1 - *out;
    return PLUMB_OK;
}
