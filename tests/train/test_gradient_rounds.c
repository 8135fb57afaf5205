/* test_gradient_rounds.c - the sharded gradient against the balanced tree by its definition, in
 * float32, for 1 to 40 micro-batches on 1 to 8 ranks; the bytes that the ranks send.
 * Test. Includes harness.h, train/gradient.h. */
#include <pthread.h>
#include <stdlib.h>

#include "base/num.h"
#include "harness.h"
#include "train/gradient.h"

enum {
    BLOCKS = 8,
    COUNT = BLOCKS * PLUMB_SHARD_BLOCK,
    MOST = 40,
    RANKS = 8,
    SEEN = 96, /* elements of each block that are compared; the others are zero */
};

/* Element k of the gradient of micro-batch m: sums depend on their order; denormals, zeros of both
 * signs and columns of -0.0 are among them. */
static float leaf(int64_t m, int64_t k)
{
    struct rng r = {(uint64_t)m * 1234567 + (uint64_t)k * 7919 + 99};
    rng_u(&r);
    const double kind = rng_u(&r);
    if (k % 7 == 3)
        return -0.0f;
    if (kind < 0.1)
        return kind < 0.05 ? -0.0f : 0.0f;
    if (kind < 0.2)
        return rng_f(&r, -1, 1) * 1e-40f;
    return rng_f(&r, -1, 1) * ldexpf(1.0f, (int)(rng_u(&r) * 20) - 10);
}

/* Sets *sum to the sum over [lo, hi) by definition; returns false if all of it is padding. */
static bool tree(float *sum, int64_t lo, int64_t hi, int64_t leaves, int64_t k)
{
    float right;
    const int64_t mid = lo + (hi - lo) / 2;
    if (lo >= leaves)
        return false;
    if (hi - lo == 1) {
        *sum = leaf(lo, k);
        return true;
    }
    tree(sum, lo, mid, leaves, k);
    if (tree(&right, mid, hi, leaves, k))
        *sum += right;
    return true;
}

static plumb_status micro_batch(void *arg, int64_t m, float *grad,
                                double value[PLUMB_MICRO_BATCH_VALUES])
{
    if (arg && *(const int64_t *)arg == m)
        PLUMB_FAIL(PLUMB_ERR_NUMERIC, "micro-batch %lld", (long long)m);
    for (int64_t b = 0; b < BLOCKS; b++)
        for (int64_t k = 0; k < SEEN; k++)
            grad[b * PLUMB_SHARD_BLOCK + k] = leaf(m, b * SEEN + k);
    value[0] = 1.0 / (double)(m + 3);
    value[7] = 1;
    return PLUMB_OK;
}

struct rank {
    plumb_comm *comm;
    int64_t *fail_at;
    float *sum; /* (COUNT,) of this world; each rank writes its shard */
    const float *want;
    int64_t bytes, from, to; /* sent in the step of `to` micro-batches; steps from .. to */
};

static void check_step(struct plumb_gradient *g, struct rank *r, int64_t micro_batches)
{
    double value[PLUMB_MICRO_BATCH_VALUES];
    const int world = plumb_comm_size(r->comm);
    const int64_t before = plumb_comm_traffic(r->comm, PLUMB_TRAFFIC_EXCHANGE).bytes;
    CHECK_OK(plumb_gradient_run(g, micro_batches, micro_batch, NULL, value));
    r->bytes = plumb_comm_traffic(r->comm, PLUMB_TRAFFIC_EXCHANGE).bytes - before;
    CHECK(value[7] == (double)micro_batches);
    const struct plumb_range own = plumb_comm_shard(r->comm, COUNT, plumb_comm_rank(r->comm));
    const float *shard = plumb_gradient_shard(g);
    for (int64_t i = own.begin; i < own.end; i++) {
        const int64_t k = i % PLUMB_SHARD_BLOCK, b = i / PLUMB_SHARD_BLOCK;
        if (k >= SEEN)
            continue;
        const float got = shard[i - own.begin];
        const float want = r->want[(micro_batches * BLOCKS + b) * SEEN + k];
        if (plumb_is_pow2(world))
            CHECKF(memcmp(&got, &want, sizeof(got)) == 0, "M %d W %d element %d: %a, want %a",
                   (int)micro_batches, world, (int)i, (double)got, (double)want);
        else
            CHECK(fabs((double)got - (double)want) <= 1e-2);
    }
}

static void *run_rank(void *arg)
{
    struct rank *r = arg;
    struct plumb_backend *backend;
    struct plumb_gradient g;
    CHECK_OK(plumb_backend_cpu_create(&backend, 1, 1));
    CHECK_OK(plumb_gradient_init_sharded(&g, backend, r->comm, COUNT, r->to));
    for (int64_t m = r->from; m <= r->to; m++)
        check_step(&g, r, m);
    plumb_gradient_fini(&g);
    plumb_backend_destroy(&backend);
    plumb_comm_destroy(&r->comm);
    return NULL;
}

static void run_world(struct rank rank[RANKS], int world, int64_t from, int64_t to,
                      const float *want, void *(*fn)(void *), int64_t *fail_at)
{
    plumb_comm *comm[RANKS];
    pthread_t thread[RANKS];
    CHECK_OK(plumb_comm_thread_create(comm, world));
    for (int i = 0; i < world; i++) {
        rank[i] = (struct rank){
            .comm = comm[i], .want = want, .from = from, .to = to, .fail_at = fail_at};
        CHECK(!pthread_create(&thread[i], NULL, fn, &rank[i]));
    }
    for (int i = 0; i < world; i++)
        CHECK(!pthread_join(thread[i], NULL));
}

/* Steps of every number of micro-batches, in buffers that are made for the largest. */
static void test_sums(void)
{
    struct rank rank[RANKS];
    float *want = calloc((size_t)(MOST + 1) * BLOCKS * SEEN, sizeof(*want));
    CHECK(want);
    for (int64_t m = 1; m <= MOST; m++)
        for (int64_t k = 0; k < BLOCKS * SEEN; k++)
            CHECK(tree(&want[m * BLOCKS * SEEN + k], 0, plumb_pow2_ceil(m), m, k));
    for (int world = 1; world <= RANKS; world++)
        run_world(rank, world, 1, MOST, want, run_rank, NULL);
    free(want);
}

/* Each round sends (W-1)/W of the gradient; one exchange per step sends it once. */
static void test_bytes(void)
{
    struct rank rank[RANKS];
    float *want = calloc((size_t)(MOST + 1) * BLOCKS * SEEN, sizeof(*want));
    CHECK(want);
    for (int64_t m = 1; m <= 9; m += 4)
        for (int64_t k = 0; k < BLOCKS * SEEN; k++)
            CHECK(tree(&want[m * BLOCKS * SEEN + k], 0, plumb_pow2_ceil(m), m, k));
    for (int world = 1; world <= RANKS; world *= 2)
        for (int64_t m = 1; m <= 9; m += 4) {
            run_world(rank, world, m, m, want, run_rank, NULL);
            const int64_t rounds = plumb_ceil_div(m, world);
            for (int i = 0; i < world; i++)
                CHECK(rank[i].bytes == rounds * (world - 1) * COUNT / world * 4);
        }
    free(want);
}

/* Whole buffers would need the gradient once per level; the shards need it once in all. */
static void test_memory(void)
{
    for (int world = 1; world <= RANKS; world *= 2)
        for (int64_t m = 1; m <= MOST; m++) {
            struct plumb_backend *cpu, *dry;
            struct plumb_gradient g;
            plumb_comm *comm;
            int stored = 0;
            while (plumb_ceil_div(m, world) >> (stored + 1))
                stored++;
            CHECK_OK(plumb_comm_pretend_create(&comm, 0, world));
            CHECK_OK(plumb_backend_cpu_create(&cpu, 1, 1));
            CHECK_OK(plumb_backend_dry_create(&dry, cpu));
            CHECK_OK(plumb_gradient_init_sharded(&g, dry, comm, COUNT, m));
            int64_t beside = 0;
            for (int64_t i = 0; i < dry->memory.rows; i++)
                beside += dry->memory.row[i].beside ? dry->memory.row[i].bytes : 0;
            const int64_t bytes = beside + dry->memory.held[dry->memory.phase];
            const int64_t least = 4 * (COUNT + stored * COUNT / world);
            CHECKF(bytes >= least && bytes <= least + 4096, "M %d W %d: %lld bytes, expected %lld",
                   (int)m, world, (long long)bytes, (long long)least);
            plumb_gradient_fini(&g);
            plumb_backend_destroy(&dry);
            plumb_backend_destroy(&cpu);
            plumb_comm_destroy(&comm);
        }
}

/* A failure and a pause of one rank are every rank's, and the next step is sound. */
static bool count_down(void *arg)
{
    return --*(int64_t *)arg < 0;
}

static void *run_faults(void *arg)
{
    struct rank *r = arg;
    struct plumb_backend *backend;
    struct plumb_gradient g;
    double value[PLUMB_MICRO_BATCH_VALUES];
    const bool last = plumb_comm_rank(r->comm) == plumb_comm_size(r->comm) - 1;
    int64_t left = 2;
    CHECK_OK(plumb_backend_cpu_create(&backend, 1, 1));
    CHECK_OK(plumb_gradient_init_sharded(&g, backend, r->comm, COUNT, r->to));
    CHECK(plumb_gradient_run(&g, r->to, micro_batch, r->fail_at, value) != PLUMB_OK);
    g.pause = last ? count_down : NULL;
    g.pause_arg = &left;
    CHECK_OK(plumb_gradient_run(&g, r->to, micro_batch, NULL, value));
    CHECK(g.paused && value[7] == 0);
    g.pause = NULL;
    check_step(&g, r, r->to);
    CHECK(!g.paused);
    plumb_gradient_fini(&g);
    plumb_backend_destroy(&backend);
    plumb_comm_destroy(&r->comm);
    return NULL;
}

static void test_faults(void)
{
    struct rank rank[RANKS];
    const int64_t m = 19;
    float *want = calloc((size_t)(m + 1) * BLOCKS * SEEN, sizeof(*want));
    CHECK(want);
    for (int64_t k = 0; k < BLOCKS * SEEN; k++)
        CHECK(tree(&want[m * BLOCKS * SEEN + k], 0, plumb_pow2_ceil(m), m, k));
    for (int world = 1; world <= 4; world *= 2)
        for (int64_t bad = 0; bad < m; bad += 9)
            run_world(rank, world, m, m, want, run_faults, &bad);
    free(want);
}

int main(void)
{
    test_sums();
    test_bytes();
    test_memory();
    test_faults();
    return 0;
}
