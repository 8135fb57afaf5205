/* test_deal.c - checks plumb_deal, which distributes prompts over ranks by their load: every prompt
 * gets a rank, no rank gets too many, the rule is followed, and the loads are balanced. */
#include "data/deal.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/rng.h"
#include "harness.h"

enum { MAX = 96 };

/* Distributes n prompts. Checks that each prompt with a load has a rank and that no rank has more
 * than cap prompts. If the cap has no effect, checks that the sums of two ranks differ by at most
 * the largest load. Returns the largest sum of a rank divided by the mean. */
static double deal(int32_t *rank, const double *load, int64_t n, int ranks, int64_t cap)
{
    double sum[MAX] = {0}, all = 0, most = 0, least = INFINITY, largest = 0;
    int64_t count[MAX] = {0};
    bool full = false;
    CHECK_OK(plumb_deal(rank, load, n, ranks, cap));
    for (int64_t i = 0; i < n; i++) {
        CHECK(load[i] > 0 ? rank[i] >= 0 && rank[i] < ranks : rank[i] == -1);
        if (rank[i] < 0)
            continue;
        sum[rank[i]] += load[i];
        all += load[i];
        largest = fmax(largest, load[i]);
        full |= ++count[rank[i]] == cap;
    }
    for (int r = 0; r < ranks; r++) {
        CHECKF(count[r] <= cap, "rank %d has %lld prompts of at most %lld", r, (long long)count[r],
               (long long)cap);
        most = fmax(most, sum[r]);
        least = fmin(least, sum[r]);
    }
    CHECKF(full || most - least <= largest, "sums %g to %g, largest load %g", least, most, largest);
    return all > 0 ? most * ranks / all : 1;
}

int main(void)
{
    int32_t rank[MAX], again[MAX];
    double load[MAX];
    for (int64_t n = 0; n < MAX; n += 5)
        for (int ranks = 1; ranks <= 8; ranks++)
            for (int64_t slack = 1; slack <= 2; slack++) {
                for (int64_t i = 0; i < n; i++) {
                    const struct plumb_rng_key key = {.seed = 3, .prompt = (uint64_t)i};
                    /* a distribution with few large loads */
                    load[i] = floor(1000 * pow(plumb_rng_uniform(&key), 4));
                }
                const int64_t cap = slack * ((n + ranks - 1) / ranks);
                deal(rank, load, n, ranks, cap);
                CHECK_OK(plumb_deal(again, load, n, ranks, cap));
                CHECK(memcmp(rank, again, (size_t)n * sizeof(*rank)) == 0);
            }

    int64_t order[6];
    static const double mixed[] = {5, 9, 0, 1, 9, 5};
    static const int64_t sorted[] = {1, 4, 0, 5, 3, 2};
    CHECK_OK(plumb_deal_order(order, mixed, 6));
    CHECK(memcmp(order, sorted, sizeof(sorted)) == 0);

    /* By hand, in the order of the loads: 9 to rank 0, 7 to rank 1, 5 to rank 1, 5 to rank 0, 1 to
     * rank 1. */
    static const double five[] = {5, 9, 0, 1, 7, 5};
    static const int32_t want[] = {1, 0, -1, 1, 1, 0};
    CHECK_OK(plumb_deal(rank, five, 6, 2, 6));
    for (int i = 0; i < 6; i++)
        CHECKF(rank[i] == want[i], "prompt %d is rank %d's", i, rank[i]);
    /* With a cap of 2, rank 1, which has the smallest sum, is full; so the last prompt goes to rank
     * 0. */
    static const double three[] = {9, 1, 1, 1};
    CHECK_OK(plumb_deal(rank, three, 4, 2, 2));
    CHECK(rank[0] == 0 && rank[1] == 1 && rank[2] == 1 && rank[3] == 0);

    /* Neighbouring prompts with long answers: the first 8 of 64 prompts have 20 times the load. */
    for (int64_t i = 0; i < 64; i++)
        load[i] = i < 8 ? 200 : 10;
    CHECK(deal(rank, load, 64, 4, 32) < 1.01);
    CHECK(deal(rank, load, 64, 8, 16) < 1.01);

    CHECK(plumb_deal(rank, load, 9, 4, 2) == PLUMB_ERR_ARG);
    load[3] = NAN;
    CHECK(plumb_deal(rank, load, 8, 4, 2) == PLUMB_ERR_ARG);
    load[3] = -1;
    CHECK(plumb_deal(rank, load, 8, 4, 2) == PLUMB_ERR_ARG);
    return 0;
}
