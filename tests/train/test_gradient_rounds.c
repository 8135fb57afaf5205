/* test_gradient_rounds.c - compares the sharded gradient with the sum along the balanced tree
 * computed by definition, in float32, for 1 to 40 micro-batches on 1 to 8 ranks. Also checks the
 * bytes that the ranks send.
 * Test. Includes harness.h, train/gradient.h. */
#include <pthread.h>
#include <stdlib.h>

#include "base/num.h"
#include "harness.h"
#include "train/gradient.h"

enum {
    BLOCKS = 72,
    COUNT = BLOCKS * PLUMB_SHARD_BLOCK,
    MOST = 40,
    RANKS = 8,
    SEEN = 48, /* number of elements of each block that are compared; all other elements are zero */
    PARTS = 19,
};

/* Returns the index in the vector of compared element k. In each block, SEEN elements at a distance
 * of 87 are compared: the first one is the first element of the block, the last one is among its
 * last 64 elements. */
static int64_t place_of(int64_t k)
{
    return k / SEEN * PLUMB_SHARD_BLOCK + k % SEEN * 87;
}

/* Sets border to parts of different lengths that end inside blocks. One part is empty, and one
 * block contains several parts. */
static void make_parts(int64_t border[PARTS + 1])
{
    for (int i = 0; i < PARTS; i++)
        border[i] = COUNT / PARTS / 64 * i * 64 + i % 5 * 512;
    border[0] = 0;
    border[7] = border[6];
    border[9] = border[8] + 64;
    border[10] = border[8] + 192;
    border[PARTS] = COUNT;
}

/* Returns element k of the gradient of micro-batch m. The sums depend on the order of additions.
 * Some elements are denormal or zeros of either sign; some are -0.0 in every micro-batch. */
static float leaf(int64_t m, int64_t k)
{
    struct rng r = {(uint64_t)m * 1234567 + (uint64_t)k * 7919 + 99};
    rng_u(&r);
    const double kind = rng_u(&r);
    if (k % 7 == 3)
        return -0.0f; /* -0.0 in every micro-batch, so the sum must be -0.0, too */
    if (kind < 0.1)
        return kind < 0.05 ? -0.0f : 0.0f;
    if (kind < 0.2)
        return rng_f(&r, -1, 1) * 1e-40f;
    return rng_f(&r, -1, 1) * ldexpf(1.0f, (int)(rng_u(&r) * 20) - 10);
}

/* Sets *sum to the sum of element k over leaves [lo, hi), by the definition of the tree. Returns
 * false if all of these leaves are padding. */
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

/* The argument of micro_batch. */
struct writer {
    struct plumb_gradient *g;
    bool tied;
    int64_t fail_at; /* number of the micro-batch that fails; -1: none */
    /* parts from this index on are written before the failure; PARTS: none is written */
    int64_t fail_part;
};

/* Writes the compared elements of a part. half: 0 or 1: only every second element, from this one
 * on; -1: all elements. */
static plumb_status write_part(const struct writer *w, int64_t m, const int64_t *border, int64_t i,
                               int half)
{
    float *grad = NULL;
    if (border[i] == border[i + 1])
        return PLUMB_OK;
    PLUMB_TRY(plumb_gradient_place(w->g, &grad, border[i], border[i + 1]));
    for (int64_t k = border[i] / PLUMB_SHARD_BLOCK * SEEN; k < (int64_t)BLOCKS * SEEN; k++) {
        const int64_t at = place_of(k);
        if (at >= border[i + 1])
            break;
        if (at >= border[i] && (half < 0 || k % 2 == half)) {
            CHECK(grad[at] == 0.0f && !signbit(grad[at]));
            grad[at] = leaf(m, k);
        }
    }
    return PLUMB_OK;
}

static plumb_status micro_batch(void *arg, int64_t m, float *grad,
                                double value[PLUMB_MICRO_BATCH_VALUES])
{
    const struct writer *w = arg;
    int64_t border[PARTS + 1];
    CHECK(!grad);
    make_parts(border);
    if (w->tied)
        PLUMB_TRY(write_part(w, m, border, 0, 1));
    for (int64_t i = PARTS - 1; i >= 0; i--) {
        if (w->fail_at == m && w->fail_part > i)
            PLUMB_FAIL(PLUMB_ERR_NUMERIC, "micro-batch %lld", (long long)m);
        PLUMB_TRY(write_part(w, m, border, i, w->tied && i == 0 ? 0 : -1));
        if (i > 0 || m % 2) /* the last of these calls may be left out */
            PLUMB_TRY(plumb_gradient_final(w->g, border[i]));
    }
    value[0] = 1.0 / (double)(m + 3);
    value[7] = 1;
    return PLUMB_OK;
}

struct rank {
    plumb_comm *comm;
    bool tied;
    int64_t fail_at, fail_part;
    /* (MOST + 1, BLOCKS * SEEN) expected sums of the first 0 .. MOST micro-batches */
    const float *want;
    /* bytes: sent in the step with `to` micro-batches; from, to: numbers of micro-batches of the
     * steps */
    int64_t bytes, from, to;
};

static void check_step(struct plumb_gradient *g, struct rank *r, int64_t micro_batches)
{
    double value[PLUMB_MICRO_BATCH_VALUES];
    const int world = plumb_comm_size(r->comm);
    const int64_t before = plumb_comm_traffic(r->comm, PLUMB_TRAFFIC_EXCHANGE).bytes;
    struct writer w = {.g = g, .tied = r->tied, .fail_at = -1};
    CHECK_OK(plumb_gradient_run(g, micro_batches, micro_batch, &w, value));
    r->bytes = plumb_comm_traffic(r->comm, PLUMB_TRAFFIC_EXCHANGE).bytes - before;
    CHECK(value[7] == (double)micro_batches);
    const struct plumb_shards *s = plumb_gradient_shards(g);
    const float *want = r->want + micro_batches * BLOCKS * SEEN;
    for (int64_t k = 0; k < (int64_t)BLOCKS * SEEN; k++)
        for (int64_t b = 0; b < s->buckets; b++) {
            const struct plumb_shard_run own = plumb_shards_cut(s, b, place_of(k), place_of(k) + 1);
            if (own.begin == own.end)
                continue;
            const float got = plumb_gradient_shard(g)[own.at];
            if (plumb_is_pow2(world))
                CHECKF(memcmp(&got, &want[k], sizeof(got)) == 0, "M %d W %d element %d: %a, not %a",
                       (int)micro_batches, world, (int)k, (double)got, (double)want[k]);
            else
                CHECK(fabs((double)got - (double)want[k]) <= 1e-2);
        }
}

/* Checks two other functions: the sum of all shards on rank 0, and the gradient of one micro-batch
 * alone, which must not change the stored sums. */
static void check_others(struct plumb_gradient *g, struct rank *r, int64_t micro_batches)
{
    double value[PLUMB_MICRO_BATCH_VALUES] = {0};
    struct writer w = {.g = g, .tied = r->tied, .fail_at = -1};
    float *all = malloc(COUNT * sizeof(*all));
    CHECK(all);
    CHECK_OK(plumb_gradient_alone(g, all, 3, micro_batch, &w, value));
    for (int64_t k = 0; k < (int64_t)BLOCKS * SEEN; k++) {
        const float want = leaf(3, k);
        CHECK(memcmp(&all[place_of(k)], &want, sizeof(want)) == 0);
    }
    CHECK_OK(plumb_gradient_gather(g, plumb_comm_rank(r->comm) == 0 ? all : NULL));
    for (int64_t k = 0; k < (int64_t)BLOCKS * SEEN && plumb_comm_rank(r->comm) == 0; k++)
        CHECK(!plumb_is_pow2(plumb_comm_size(r->comm)) ||
              memcmp(&all[place_of(k)], &r->want[micro_batches * BLOCKS * SEEN + k], 4) == 0);
    free(all);
}

static plumb_status make(struct plumb_gradient *g, struct plumb_backend *b, plumb_comm *c,
                         bool tied, int64_t most)
{
    int64_t border[PARTS + 1];
    make_parts(border);
    const struct plumb_gradient_parts parts = {.border = border, .n = PARTS, .tied = tied};
    return plumb_gradient_init_sharded(g, b, c, &parts, most);
}

static void *run_rank(void *arg)
{
    struct rank *r = arg;
    struct plumb_backend *backend;
    struct plumb_gradient g;
    CHECK_OK(plumb_backend_cpu_create(&backend, 1, 1));
    CHECK_OK(make(&g, backend, r->comm, r->tied, r->to));
    for (int64_t m = r->from; m <= r->to; m++)
        check_step(&g, r, m);
    check_others(&g, r, r->to);
    plumb_gradient_fini(&g);
    plumb_backend_destroy(&backend);
    plumb_comm_destroy(&r->comm);
    return NULL;
}

/* Runs fn on every rank. Each rank has a copy of `like` and its own communicator. */
static void run_world(struct rank rank[RANKS], int world, const struct rank *like,
                      void *(*fn)(void *))
{
    plumb_comm *comm[RANKS];
    pthread_t thread[RANKS];
    CHECK_OK(plumb_comm_thread_create(comm, world));
    for (int i = 0; i < world; i++) {
        rank[i] = *like;
        rank[i].comm = comm[i];
        CHECK(!pthread_create(&thread[i], NULL, fn, &rank[i]));
    }
    for (int i = 0; i < world; i++)
        CHECK(!pthread_join(thread[i], NULL));
}

/* Returns the sums of the first 0 .. MOST micro-batches, by the definition of the tree. The caller
 * frees them. */
static float *make_want(void)
{
    float *want = calloc((size_t)(MOST + 1) * BLOCKS * SEEN, sizeof(*want));
    CHECK(want);
    for (int64_t m = 1; m <= MOST; m++)
        for (int64_t k = 0; k < (int64_t)BLOCKS * SEEN; k++)
            CHECK(tree(&want[m * BLOCKS * SEEN + k], 0, plumb_pow2_ceil(m), m, k));
    return want;
}

/* Checks steps with every number of micro-batches. The buffers are made for the largest number. */
static void test_sums(const float *want)
{
    struct rank rank[RANKS];
    for (int world = 1; world <= RANKS; world++)
        for (int tied = 0; tied < (world < 3 ? 2 : 1); tied++)
            run_world(rank, world,
                      &(struct rank){.want = want, .tied = tied, .from = 1, .to = MOST}, run_rank);
}

/* Checks the bytes sent. With an exchange in each round, (W-1)/W of every bucket is sent per round;
 * with one exchange per step, once per step. 72 blocks are divisible by 1, 2, 4 and 8, but the
 * buckets are not, so the sum over the ranks is compared. */
static void test_bytes(const float *want)
{
    struct rank rank[RANKS];
    for (int world = 1; world <= RANKS; world *= 2)
        for (int64_t m = 1; m <= 9; m += 4) {
            int64_t sum = 0;
            run_world(rank, world, &(struct rank){.want = want, .from = m, .to = m}, run_rank);
            for (int i = 0; i < world; i++)
                sum += rank[i].bytes;
            CHECK(sum == plumb_ceil_div(m, world) * (world - 1) * COUNT * 4);
        }
}

/* Checks the memory of a rank: three buffers, two of which hold one bucket each, and floor(log2 R)
 * shards, where R is the number of rounds. */
static void test_memory(void)
{
    int64_t border[PARTS + 1];
    make_parts(border);
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
            CHECK_OK(make(&g, dry, comm, false, m));
            int64_t bytes = dry->memory.held[dry->memory.phase];
            for (int64_t i = 0; i < dry->memory.rows; i++)
                bytes += dry->memory.row[i].beside ? dry->memory.row[i].bytes : 0;
            /* Upper bound of the bytes of a bucket. Parts are joined until the bucket has four
             * blocks per rank, so it exceeds four blocks per rank by less than one part. The 8192
             * floats allow for parts of different lengths and for rounding to blocks. */
            const int64_t bucket = 4 * (4 * world * PLUMB_SHARD_BLOCK + COUNT / PARTS + 8192);
            const int64_t shards = 4 * plumb_gradient_shards(&g)->count * (stored ? stored : 1);
            CHECKF(bytes >= shards && bytes <= shards + 3 * bucket, "M %d W %d: %lld bytes", (int)m,
                   world, (long long)bytes);
            CHECK(plumb_gradient_shards(&g)->count <= COUNT / world + 8 * PLUMB_SHARD_BLOCK);
            plumb_gradient_fini(&g);
            plumb_backend_destroy(&dry);
            plumb_backend_destroy(&cpu);
            plumb_comm_destroy(&comm);
        }
}

/* Checks that all ranks learn of a failure and of a pause of one rank, and that the next step gives
 * the right sums. */
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
    struct writer w = {.g = &g, .tied = r->tied, .fail_at = r->fail_at, .fail_part = r->fail_part};
    const bool last = plumb_comm_rank(r->comm) == plumb_comm_size(r->comm) - 1;
    int64_t left = 2;
    CHECK_OK(plumb_backend_cpu_create(&backend, 1, 1));
    CHECK_OK(make(&g, backend, r->comm, r->tied, r->to));
    CHECK(plumb_gradient_run(&g, r->to, micro_batch, &w, value) != PLUMB_OK);
    w.fail_at = -1;
    g.pause = last ? count_down : NULL;
    g.pause_arg = &left;
    CHECK_OK(plumb_gradient_run(&g, r->to, micro_batch, &w, value));
    CHECK(g.paused && value[7] == 0);
    g.pause = NULL;
    check_step(&g, r, r->to);
    CHECK(!g.paused);
    plumb_gradient_fini(&g);
    plumb_backend_destroy(&backend);
    plumb_comm_destroy(&r->comm);
    return NULL;
}

/* Checks a rank that fails in the middle of the exchange of round 0, so that at first only this
 * rank knows it. Then the ranks agree to pause before round 1. The failure must reach every rank;
 * the pause must not hide it. */
static void *run_fault_before_pause(void *arg)
{
    struct rank *r = arg;
    struct plumb_backend *backend;
    struct plumb_gradient g;
    double value[PLUMB_MICRO_BATCH_VALUES];
    struct writer w = {.g = &g, .fail_at = r->fail_at, .fail_part = r->fail_part};
    const int me = plumb_comm_rank(r->comm), size = plumb_comm_size(r->comm);
    int64_t left = 1;
    CHECK_OK(plumb_backend_cpu_create(&backend, 1, 1));
    CHECK_OK(make(&g, backend, r->comm, r->tied, r->to));
    g.pause = me == size - 1 ? count_down : NULL;
    g.pause_arg = &left;
    const plumb_status st = plumb_gradient_run(&g, r->to, micro_batch, &w, value);
    CHECKF(st == (me == r->fail_at ? PLUMB_ERR_NUMERIC : PLUMB_ERR_PEER), "rank %d of %d: %d", me,
           size, (int)st);
    CHECK(strstr(plumb_trail_message(), "micro-batch "));
    /* otherwise the failure was already known in round 1, and this checks nothing */
    CHECK(g.paused);
    w.fail_at = -1;
    g.pause = NULL;
    check_step(&g, r, r->to);
    plumb_gradient_fini(&g);
    plumb_backend_destroy(&backend);
    plumb_comm_destroy(&r->comm);
    return NULL;
}

static void test_faults_before_pauses(const float *want)
{
    struct rank rank[RANKS];
    for (int world = 1; world <= 4; world *= 2)
        for (int64_t bad = 0; bad < world; bad++)
            for (int64_t part = 1; part <= PARTS / 2; part += PARTS / 2 - 1)
                run_world(rank, world,
                          &(struct rank){.want = want, .to = 9, .fail_at = bad, .fail_part = part},
                          run_fault_before_pause);
}

/* The failure comes before any exchange, or in the middle of one. */
static void test_faults(const float *want)
{
    struct rank rank[RANKS];
    for (int world = 1; world <= 4; world *= 2)
        for (int64_t bad = 0; bad < 19; bad += 9)
            for (int64_t part = 1; part <= PARTS; part += PARTS / 2)
                run_world(rank, world,
                          &(struct rank){.want = want,
                                         .from = 19,
                                         .to = 19,
                                         .fail_at = bad,
                                         .fail_part = part,
                                         .tied = part == 1},
                          run_faults);
}

int main(void)
{
    float *want = make_want();
    test_sums(want);
    test_bytes(want);
    test_memory();
    test_faults(want);
    test_faults_before_pauses(want);
    free(want);
    return 0;
}
