/* test_gradient.c - checks the sums of gradients and scalars over micro-batches and ranks. Ranks
 * are threads. Covers gradient.c and gradient_state.c.
 * Test. Includes harness.h, train/gradient.h. */
#include "train/gradient.h"

#include <pthread.h>

#include "comm/tree.h"
#include "harness.h"

enum { COUNT = 9000, LEAVES = 13 };

/* Sets grad to random numbers whose float32 sum depends on the order of the micro-batches. */
static plumb_status micro_batch(void *arg, int64_t i, float *grad,
                                double value[PLUMB_MICRO_BATCH_VALUES])
{
    if (arg && *(const int64_t *)arg == i)
        PLUMB_FAIL(PLUMB_ERR_NUMERIC, "micro-batch %lld", (long long)i);
    struct rng r = {(uint64_t)i * 7919 + 1};
    for (int64_t j = 0; j < COUNT; j++) {
        CHECK(grad[j] == 0.0f);
        grad[j] = rng_f(&r, -1, 1);
    }
    value[0] = 1.0 / (double)(i + 3);
    value[7] = 1;
    return PLUMB_OK;
}

struct rank {
    bool shared;
    plumb_comm *comm;
    float sum[COUNT];
    double value[PLUMB_MICRO_BATCH_VALUES];
    int64_t *fail_at;
    plumb_status status;
};

/* The pause function of check_pause(). The middle rank asks for a pause before its last
 * micro-batch; no other rank does. */
static bool count_down(void *arg)
{
    return --*(int64_t *)arg < 0;
}

static void check_pause(struct plumb_gradient *g, struct rank *r)
{
    const struct plumb_range mine =
        plumb_tree_leaves(LEAVES, plumb_comm_rank(r->comm), plumb_comm_size(r->comm));
    int64_t left = mine.end - mine.begin - 1;
    if (plumb_comm_rank(r->comm) == plumb_comm_size(r->comm) / 2) {
        g->pause = count_down;
        g->pause_arg = &left;
    }
    CHECK_OK(plumb_gradient_run(g, LEAVES, micro_batch, NULL, r->value));
    CHECK(g->paused && r->value[7] == 0);
    g->pause = NULL;
}

/* Checks steps with fewer micro-batches. In such a step, a rank may get more micro-batches than in
 * the largest step. */
static void check_fewer(struct plumb_gradient *g, struct rank *r)
{
    for (int64_t micro_batches = 1; micro_batches < LEAVES; micro_batches++) {
        CHECK_OK(plumb_gradient_run(g, micro_batches, micro_batch, NULL, r->value));
        CHECK(r->value[7] == (double)micro_batches);
    }
}

static void *run_rank(void *arg)
{
    struct rank *r = arg;
    struct plumb_backend *backend;
    struct plumb_gradient g;
    CHECK_OK(plumb_backend_cpu_create(&backend, 1, 1));
    CHECK_OK(r->shared ? plumb_gradient_init_shared(&g, backend, r->comm, COUNT, LEAVES)
                       : plumb_gradient_init(&g, backend, r->comm, COUNT, LEAVES));
    check_pause(&g, r);
    check_fewer(&g, r);
    r->status = plumb_gradient_run(&g, LEAVES, micro_batch, r->fail_at, r->value);
    if (r->status == PLUMB_OK) {
        CHECK(!g.paused);
        CHECK_OK(plumb_comm_reduce_tree(r->comm, g.sum[0], COUNT, PLUMB_HOST));
        CHECK_OK(plumb_comm_allgather_shards(r->comm, g.sum[0], COUNT, PLUMB_HOST));
        memcpy(r->sum, g.sum[0], sizeof(r->sum));
    }
    plumb_gradient_fini(&g);
    plumb_backend_destroy(&backend);
    plumb_comm_destroy(&r->comm);
    return NULL;
}

/* Runs the ranks and sets *out to the result of rank 0. Without fail_at, all ranks must have the
 * same result. shared: the gradient lies in memory that the ranks share. */
static void run_world(struct rank *out, int world, bool shared, int64_t *fail_at)
{
    static struct rank rank[16];
    plumb_comm *comm[16];
    pthread_t thread[16];
    CHECK_OK(plumb_comm_thread_create(comm, world));
    for (int r = 0; r < world; r++) {
        rank[r].comm = comm[r];
        rank[r].shared = shared;
        rank[r].fail_at = fail_at;
        CHECK(pthread_create(&thread[r], NULL, run_rank, &rank[r]) == 0);
    }
    for (int r = 0; r < world; r++) {
        CHECK(pthread_join(thread[r], NULL) == 0);
        if (fail_at)
            CHECK(rank[r].status != PLUMB_OK);
        else
            CHECK(rank[r].status == PLUMB_OK &&
                  !memcmp(rank[r].sum, rank[0].sum, sizeof(out->sum)));
    }
    *out = rank[0];
}

int main(void)
{
    static struct rank one, many;
    run_world(&one, 1, false, NULL);
    CHECK(one.value[7] == LEAVES);
    for (int world = 2; world <= 16; world *= 2)
        for (int shared = 0; shared < 2; shared++) {
            run_world(&many, world, shared, NULL);
            CHECKF(!memcmp(one.sum, many.sum, sizeof(one.sum)), "world %d", world);
            CHECKF(!memcmp(one.value, many.value, sizeof(one.value)), "world %d", world);
        }
    run_world(&many, 3, true, NULL); /* 3 is no power of two, so results are rounded differently */
    CHECK(worst(many.sum, one.sum, COUNT, 1e-5, 1e-5) <= 1);
    int64_t bad = 11; /* a micro-batch of the last rank fails; every rank must then fail */
    run_world(&many, 4, true, &bad);
    return 0;
}
