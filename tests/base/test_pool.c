/* test_pool.c - checks that the thread pool processes every item exactly once, with any number of
 * threads.
 * Test. */
#include "base/pool.h"

#include <string.h>

#include "harness.h"

enum { MOST = 1000 };
struct count {
    int seen[MOST], threads, calls[8];
};

static void visit(void *arg, int64_t begin, int64_t end, int thread)
{
    struct count *c = arg;
    CHECK(thread >= 0 && thread < c->threads);
    CHECK(begin < end);
    c->calls[thread]++; /* no other thread writes this counter */
    for (int64_t i = begin; i < end; i++)
        c->seen[i]++; /* no other thread processes this item */
}

static void never(void *arg, int64_t begin, int64_t end, int thread)
{
    (void)begin, (void)end, (void)thread;
    *(int *)arg = 1;
}

int main(void)
{
    static const int64_t sizes[] = {1, 2, 3, 7, 64, 999, MOST};
    for (int threads = 1; threads <= 5; threads++) {
        plumb_pool *pool = NULL;
        CHECK_OK(plumb_pool_create(&pool, threads));
        CHECK(plumb_pool_threads(pool) == threads);
        for (int round = 0; round < 50; round++)
            for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
                for (int64_t grain = 0; grain < 40; grain += 13) {
                    struct count c = {.threads = threads};
                    plumb_pool_run(pool, sizes[i], grain, visit, &c);
                    for (int64_t j = 0; j < MOST; j++)
                        CHECKF(c.seen[j] == (j < sizes[i]), "item %d of %d: %d times", (int)j,
                               (int)sizes[i], c.seen[j]);
                    if (sizes[i] <= grain)
                        CHECK(c.calls[0] == 1);
                }
        int called = 0;
        plumb_pool_run(pool, 0, 1, never, &called);
        CHECK(!called);
        plumb_pool_destroy(&pool);
        CHECK(!pool);
    }
    struct count alone = {.threads = 1};
    plumb_pool_run(NULL, 10, 3, visit, &alone);
    CHECK(alone.calls[0] == 1 && alone.seen[9] == 1);
    CHECK(plumb_pool_threads(NULL) == 1);
    plumb_pool *pool = NULL;
    plumb_pool_destroy(&pool);
    CHECK(plumb_pool_create(&pool, 0) == PLUMB_ERR_ARG && !pool);
    CHECK(strstr(plumb_trail_message(), "threads=0"));
    return 0;
}
