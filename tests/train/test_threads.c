/* test_threads.c - trains a small decoder with 1, 2 and 4 ranks that are threads, and checks that
 * weights, losses and norms have the same bytes. Because the ranks share a process, the thread
 * sanitizer can check them. Test. Includes harness.h, train/. */
#include <pthread.h>

#include "harness.h"
#include "train/gradient.h"
#include "train/optim.h"
#include "train/pack.h"

enum { STEPS = 4, LEAVES = 8, MOST_SEQ = 3, PROMPT = 3, MOST_LEN = 20, RANKS = 4 };

/* Number of micro-batches in each step: some are fewer than the ranks, and some are no power of
 * two. */
static const int64_t micro_batches_of[STEPS] = {8, 5, 3, 8};

struct outcome {
    float *w; /* (count,) the weights after the last step */
    int64_t count;
    double loss[STEPS], norm[STEPS];
    uint64_t fingerprint;
};

struct rank {
    plumb_comm *comm;
    const char *dir;
    int threads; /* number of threads of this rank's backend */
    struct outcome out;
};

struct worker {
    plumb_model *m;
    plumb_pass *pass;
    struct plumb_pack pack;
    int64_t step, targets; /* targets: number of completion tokens of the whole step */
};

/* The number of sequences of a micro-batch, and their lengths, depend on step, micro-batch and
 * index only, not on the rank. */
static int64_t sequences(int64_t step, int64_t micro_batch)
{
    return 1 + (step + micro_batch) % MOST_SEQ;
}
static int64_t length(int64_t step, int64_t micro_batch, int64_t i)
{
    return PROMPT + 1 + (3 * step + 5 * micro_batch + 7 * i) % (MOST_LEN - PROMPT);
}

static int64_t count_targets(int64_t step)
{
    int64_t n = 0;
    for (int64_t micro_batch = 0; micro_batch < micro_batches_of[step]; micro_batch++)
        for (int64_t i = 0; i < sequences(step, micro_batch); i++)
            n += length(step, micro_batch, i) - PROMPT;
    return n;
}

static plumb_status run_micro_batch(void *arg, int64_t micro_batch, float *grad,
                                    double value[PLUMB_MICRO_BATCH_VALUES])
{
    struct worker *w = arg;
    struct rng r = {(uint64_t)(1 + w->step * LEAVES + micro_batch) * 0x9E3779B97F4A7C15ull};
    plumb_pack_clear(&w->pack);
    for (int64_t i = 0; i < sequences(w->step, micro_batch); i++) {
        const int64_t n = length(w->step, micro_batch, i);
        int32_t ids[MOST_LEN];
        for (int64_t k = 0; k < n; k++)
            ids[k] = (int32_t)(rng_u(&r) * (double)w->m->spec.v);
        PLUMB_TRY(plumb_pack_add(&w->pack, ids, PROMPT, ids + PROMPT, n - PROMPT));
    }
    const struct plumb_batch batch = plumb_pack_batch(&w->pack);
    PLUMB_TRY(plumb_pass_logprob(w->pass, w->m, &batch, w->pack.logp));
    for (int64_t k = 0; k < w->pack.n_targets; k++) {
        value[0] -= w->pack.logp[k] / (double)w->targets;
        w->pack.dlogp[k] = -1.0f / (float)w->targets;
    }
    return plumb_pass_logprob_backward(w->pass, w->m, w->pack.dlogp, grad);
}

static void train(struct rank *r, struct worker *w, struct plumb_gradient *g, plumb_optim *o)
{
    for (w->step = 0; w->step < STEPS; w->step++) {
        double value[PLUMB_MICRO_BATCH_VALUES];
        struct plumb_optim_result result;
        w->targets = count_targets(w->step);
        CHECK_OK(plumb_gradient_run(g, micro_batches_of[w->step], run_micro_batch, w, value));
        CHECK_OK(plumb_optim_step(o, w->m, r->comm, g->sum[0], &result));
        r->out.loss[w->step] = value[0];
        r->out.norm[w->step] = result.grad_norm;
    }
}

static void *rank_main(void *arg)
{
    struct rank *r = arg;
    struct plumb_backend *b;
    struct worker w = {0};
    struct plumb_gradient g;
    plumb_optim *o;
    const struct plumb_optim_options options = {.learning_rate = 0.01,
                                                .beta1 = 0.9,
                                                .beta2 = 0.95,
                                                .eps = 1e-8,
                                                .weight_decay = 0.1,
                                                .max_grad_norm = 1,
                                                .schedule = {PLUMB_LR_CONSTANT, STEPS, 0, 0}};
    CHECK_OK(plumb_backend_cpu_create(&b, r->threads, 1));
    CHECK_OK(plumb_model_open(&w.m, b, r->dir));
    CHECK_OK(plumb_pack_init(&w.pack, MOST_SEQ * MOST_LEN, MOST_SEQ));
    const struct plumb_pass_limit limit = plumb_pack_limit(&w.pack, true, false, 7);
    CHECK_OK(plumb_pass_create(&w.pass, w.m, &limit));
    CHECK_OK(plumb_gradient_init(&g, b, r->comm, w.m->count, LEAVES));
    CHECK_OK(plumb_optim_create(&o, w.m, r->comm, &options));
    train(r, &w, &g, o);
    r->out.count = w.m->count;
    r->out.fingerprint = w.m->fingerprint;
    r->out.w = malloc((size_t)w.m->count * sizeof(float));
    CHECK(r->out.w);
    memcpy(r->out.w, w.m->w, (size_t)w.m->count * sizeof(float));
    plumb_optim_destroy(&o);
    plumb_gradient_fini(&g);
    plumb_pass_destroy(&w.pass);
    plumb_pack_fini(&w.pack);
    plumb_model_destroy(&w.m);
    plumb_backend_destroy(&b);
    plumb_comm_destroy(&r->comm);
    return NULL;
}

static void check_same(const struct outcome *a, const struct outcome *b, int world_size, int rank)
{
    for (int s = 0; s < STEPS; s++)
        CHECKF(a->loss[s] == b->loss[s] && a->norm[s] == b->norm[s],
               "rank %d of %d, step %d: loss %.17g and norm %.17g, not %.17g and %.17g", rank,
               world_size, s, b->loss[s], b->norm[s], a->loss[s], a->norm[s]);
    CHECK(a->count == b->count && a->fingerprint == b->fingerprint);
    CHECKF(!memcmp(a->w, b->w, (size_t)a->count * sizeof(float)), "rank %d of %d: other weights",
           rank, world_size);
}

/* Runs a training with this number of ranks and threads. Checks the result of every rank against
 * *expected, which rank 0 of the first run sets. */
static void run_world(struct outcome *expected, const char *dir, int world_size, int threads)
{
    plumb_comm *comm[RANKS];
    pthread_t thread[RANKS];
    struct rank rank[RANKS];
    CHECK_OK(plumb_comm_thread_create(comm, world_size));
    for (int i = 0; i < world_size; i++) {
        rank[i] = (struct rank){.comm = comm[i], .dir = dir, .threads = threads};
        CHECK(!pthread_create(&thread[i], NULL, rank_main, &rank[i]));
    }
    for (int i = 0; i < world_size; i++)
        CHECK(!pthread_join(thread[i], NULL));
    for (int i = 0; i < world_size; i++) {
        if (!expected->w) {
            *expected = rank[i].out;
            continue;
        }
        check_same(expected, &rank[i].out, world_size, i);
        free(rank[i].out.w);
    }
}

int main(void)
{
    static const struct {
        int ranks, threads;
    } world[] = {{1, 1}, {1, 2}, {2, 1}, {2, 2}, {4, 1}};
    const char *root = getenv("PLUMB_SOURCE_ROOT");
    struct outcome expected = {0};
    char dir[512];
    snprintf(dir, sizeof(dir), "%s/tests/fixtures/model/llama_gqa_tied", root ? root : ".");
    for (size_t i = 0; i < sizeof(world) / sizeof(world[0]); i++)
        run_world(&expected, dir, world[i].ranks, world[i].threads);
    for (int s = 0; s < STEPS; s++)
        CHECK(isfinite(expected.loss[s]) && expected.loss[s] > 0 && expected.norm[s] > 0);
    free(expected.w);
    return 0;
}
