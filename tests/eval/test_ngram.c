/* test_ngram.c - checks distinct-n and self-repetition against counts by hand and by brute force.
 * Test. Includes harness.h, eval/. */
#include "eval/ngram.h"

#include <stdbool.h>

#include "harness.h"

static double brute(const int32_t *ids, const int64_t *offset, int64_t answers, int order)
{
    int64_t all = 0, different = 0;
    int64_t start[512];
    for (int64_t a = 0; a < answers; a++)
        for (int64_t i = offset[a]; i + order <= offset[a + 1]; i++) {
            bool seen = false;
            for (int64_t j = 0; j < all && !seen; j++)
                seen = !memcmp(ids + start[j], ids + i, (size_t)order * sizeof(*ids));
            start[all++] = i;
            different += !seen;
        }
    return (double)different / (double)all;
}

static void test_by_hand(void)
{
    /* the ids of four answers: (1 2 1 2 3), (1 2), one without tokens, (9) */
    const int32_t ids[] = {1, 2, 1, 2, 3, 1, 2, 9};
    const int64_t offset[] = {0, 5, 7, 7, 8};
    double x;
    CHECK_OK(plumb_distinct(&x, ids, offset, 4, 1));
    CHECK(x == 4 / 8.0);
    /* The bigrams are 12 21 12 23 and 12: three of the five are distinct. No bigram spans two
     * answers. */
    CHECK_OK(plumb_distinct(&x, ids, offset, 4, 2));
    CHECK(x == 3 / 5.0);
    CHECK_OK(plumb_distinct(&x, ids, offset, 4, 6));
    CHECK(isnan(x));
    CHECK_OK(plumb_distinct(&x, ids, offset, 0, 1));
    CHECK(isnan(x));
    CHECK_OK(plumb_self_repetition(&x, ids, 5, 2));
    CHECK(x == 1 - 3 / 4.0);
    CHECK_OK(plumb_self_repetition(&x, ids, 3, 4));
    CHECK(x == 0);
}

static void test_brute(void)
{
    struct rng r = {11};
    int32_t ids[300];
    int64_t offset[31] = {0};
    for (int i = 0; i < 300; i++)
        ids[i] = (int32_t)(rng_u(&r) * 5) - 2;
    for (int a = 1; a <= 30; a++)
        offset[a] = offset[a - 1] + (int64_t)(rng_u(&r) * 10);
    for (int order = 1; order <= 4; order++) {
        double x;
        CHECK_OK(plumb_distinct(&x, ids, offset, 30, order));
        CHECKF(x == brute(ids, offset, 30, order), "order %d: %g", order, x);
    }
}

int main(void)
{
    test_by_hand();
    test_brute();
    return 0;
}
