/* test_non_finite.c - checks a step whose loss or gradient is not finite, on 1, 2 and 4 ranks:
 * which micro-batch the message names, that the weights do not change, and what the replay file
 * contains. Test. Includes harness.h, train/, io/. */
#include "train/non_finite.h"

#include <pthread.h>
#include <unistd.h>

#include "harness.h"
#include "io/file.h"
#include "io/hdf5.h"
#include "train/replay.h"

enum { RANKS = 4, LEAVES = 7, MOST_SEQ = 3, PROMPT = 3, MOST_LEN = 20 };

/* What is not finite, in micro-batch `from` and all later ones. */
enum fault { NONE, LOSS, GRADIENT, SUM, REFERENCE };

struct rank {
    plumb_comm *comm;
    struct plumb_config cfg;
    enum fault fault;
    int64_t from;
    const char *dir;
    plumb_status status;
    char said[1024];
    double loss, norm;
    bool moved;
};

struct worker {
    struct plumb_trainer t;
    float spoil;  /* the value that is added to the gradient of a micro-batch in layer 0; 0: none */
    float *grad0; /* only if the gradient is sharded: address of the part with layer 0 */
    struct plumb_micro micro;
    const struct rank *r;
};

static char out[] = "/tmp/plumb_non_finite_XXXXXX";

static plumb_status fill(struct worker *w, int64_t micro_batch)
{
    struct rng r = {(uint64_t)(micro_batch + 1) * 0x9E3779B97F4A7C15ull};
    plumb_micro_clear(&w->micro);
    for (int32_t i = 0; i < 1 + micro_batch % MOST_SEQ; i++) {
        const int64_t n = PROMPT + 1 + (5 * micro_batch + 7 * i) % (MOST_LEN - PROMPT);
        int32_t ids[MOST_LEN];
        for (int64_t k = 0; k < n; k++)
            ids[k] = (int32_t)(rng_u(&r) * (double)w->t.model->spec.v);
        PLUMB_TRY(
            plumb_micro_add(&w->micro, 10 * micro_batch, i, ids, PROMPT, ids + PROMPT, n - PROMPT));
        w->micro.logp_ref[i] = -10.0 * i - 1;
        w->micro.weight[i] = 0.25;
    }
    if (w->micro.pack.n_seq > 1)
        w->micro.pair[w->micro.pairs++] = (struct plumb_pair){.win = 1, .lose = 0, .weight = 0.5};
    w->micro.scale = 1.0 / LEAVES;
    return PLUMB_OK;
}

static plumb_status micro_batch_gradient(void *arg, int64_t micro_batch, float *grad,
                                         double value[PLUMB_MICRO_BATCH_VALUES])
{
    struct worker *w = arg;
    const bool bad = micro_batch >= w->r->from;
    struct plumb_micro *m = &w->micro;
    PLUMB_TRY(fill(w, micro_batch));
    PLUMB_TRY(plumb_micro_forward(m, w->t.pass, w->t.model));
    if (bad && w->r->fault == LOSS)
        m->pack.logp[m->len[0] - 1] = -INFINITY;
    if (bad && w->r->fault == REFERENCE)
        m->logp_ref[0] = (double)NAN;
    PLUMB_TRY(plumb_micro_check(m));
    PLUMB_TRY(plumb_micro_loss(m));
    value[0] = m->out.loss;
    w->spoil = !bad                      ? 0
               : w->r->fault == SUM      ? 3e38f
               : w->r->fault != GRADIENT ? 0
               : micro_batch % 2         ? INFINITY
                                         : NAN;
    PLUMB_TRY(plumb_micro_backward(m, w->t.pass, w->t.model, grad));
    if (grad && w->spoil != 0)
        grad[w->t.model->param[4].offset + 17] = w->spoil;
    return PLUMB_OK;
}

/* The callbacks of the sharded gradient. Between them, the test changes a value of layer 0. */
static plumb_status place(void *arg, float **grad, int64_t begin, int64_t end)
{
    struct worker *w = arg;
    PLUMB_TRY(plumb_gradient_place(&w->t.gradient, grad, begin, end));
    if (begin == plumb_model_part(w->t.model, 1))
        w->grad0 = *grad;
    return PLUMB_OK;
}

static plumb_status final(void *arg, int64_t from)
{
    struct worker *w = arg;
    if (from == plumb_model_part(w->t.model, 1) && w->spoil != 0)
        w->grad0[w->t.model->param[4].offset + 17] = w->spoil;
    return plumb_gradient_final(&w->t.gradient, from);
}

static void *rank_main(void *arg)
{
    struct rank *r = arg;
    struct worker w = {.r = r};
    struct plumb_trainer *t = &w.t;
    struct plumb_optim_options options = {.learning_rate = 0.01,
                                          .beta1 = 0.9,
                                          .beta2 = 0.95,
                                          .eps = 1e-8,
                                          .max_grad_norm = 1,
                                          .schedule = {PLUMB_LR_CONSTANT, 9, 0, 0}};
    *t = (struct plumb_trainer){
        .cfg = &r->cfg, .comm = r->comm, .command = "align", .micro = &w.micro};
    CHECK_OK(plumb_micro_parse(&t->replay_step, &t->replay_micro_batch, r->cfg.train.replay));
    CHECK_OK(plumb_backend_cpu_create(&t->backend, 1, 1));
    CHECK_OK(plumb_model_open(&t->model, t->backend, r->dir));
    t->state.step = 3;
    t->state.start_fingerprint = t->model->fingerprint;
    const uint64_t before = t->model->fingerprint;
    CHECK_OK(plumb_micro_init(&w.micro, PLUMB_MICRO_LOGP, MOST_SEQ * MOST_LEN, MOST_SEQ));
    w.micro.objective = plumb_objective_find("dpo");
    w.micro.reference = true;
    w.micro.param.beta = 0.3;
    w.micro.param.label_smoothing = 0.125;
    const struct plumb_pass_limit limit = plumb_pack_limit(&w.micro.pack, true, false, 7);
    CHECK_OK(plumb_pass_create(&t->pass, t->model, &limit));
    if (r->cfg.train.shard == PLUMB_SHARD_GRADIENTS) {
        CHECK_OK(plumb_gradient_open(&t->gradient, t->model, r->comm, &r->cfg, LEAVES));
        options.shards = plumb_gradient_shards(&t->gradient);
        plumb_pass_on_place(t->pass, place, &w);
        plumb_pass_on_final(t->pass, final, &w);
    } else {
        CHECK_OK(plumb_gradient_init(&t->gradient, t->backend, r->comm, t->model->count, LEAVES));
    }
    CHECK_OK(plumb_optim_create(&t->optim, t->model, r->comm, &options));
    struct plumb_step_result result = {0};
    r->status = plumb_trainer_step(t, LEAVES, micro_batch_gradient, &w, &result);
    snprintf(r->said, sizeof(r->said), "%s", r->status ? plumb_trail_message() : "");
    r->loss = result.value[0];
    r->norm = result.optim.grad_norm;
    uint64_t after = 0;
    CHECK_OK(plumb_model_hash(t->model, &after));
    r->moved = after != before;
    CHECK(t->state.step == (r->status ? 3 : 4) && t->optim->step == (r->status ? 0 : 1));
    plumb_optim_destroy(&t->optim);
    plumb_gradient_fini(&t->gradient);
    plumb_pass_destroy(&t->pass);
    plumb_micro_fini(&w.micro);
    plumb_model_destroy(&t->model);
    plumb_backend_destroy(&t->backend);
    plumb_comm_destroy(&r->comm);
    return NULL;
}

/* Runs a step on all ranks. Sets rank[i] to rank i and the status that its step returned. */
static void run(struct rank rank[RANKS], int world_size, const struct plumb_config *cfg,
                enum fault fault, int64_t from)
{
    plumb_comm *comm[RANKS];
    pthread_t thread[RANKS];
    CHECK_OK(plumb_comm_thread_create(comm, world_size));
    for (int i = 0; i < world_size; i++) {
        rank[i] = (struct rank){
            .comm = comm[i], .cfg = *cfg, .fault = fault, .from = from, .dir = cfg->model};
        CHECK(!pthread_create(&thread[i], NULL, rank_main, &rank[i]));
    }
    for (int i = 0; i < world_size; i++)
        CHECK(!pthread_join(thread[i], NULL));
}

/* Reads the replay file of step 4 and this micro-batch, and removes the file. */
static struct plumb_replay take(struct plumb_micro *m, int64_t micro_batch)
{
    struct plumb_replay r;
    char path[128];
    CHECK_OK(plumb_replay_path(path, sizeof(path), out, 4, micro_batch));
    CHECK_OK(plumb_replay_read(&r, m, path));
    CHECK(!unlink(path));
    return r;
}

static void test_fault(const struct plumb_config *cfg, enum fault fault, int64_t from,
                       const char *words)
{
    char stage[64];
    snprintf(stage, sizeof(stage),
             fault == GRADIENT ? "gradient of micro-batch %d (" : "micro-batch %d: ", (int)from);
    for (int world_size = 1; world_size <= RANKS; world_size *= 2) {
        struct rank rank[RANKS];
        int found = 0;
        run(rank, world_size, cfg, fault, from);
        for (int i = 0; i < world_size && i < RANKS; i++) {
            CHECKF(!rank[i].moved, "rank %d of %d updated its weights", i, world_size);
            CHECK(rank[i].status == PLUMB_ERR_NUMERIC ||
                  (rank[i].status == PLUMB_ERR_PEER && fault != GRADIENT && fault != SUM));
            found += rank[i].status == PLUMB_ERR_NUMERIC && strstr(rank[i].said, words) &&
                     (fault == SUM || strstr(rank[i].said, stage));
        }
        CHECKF(found == (fault == GRADIENT || fault == SUM ? world_size : 1),
               "%d of %d ranks say '%s'; rank 0: %s", found, world_size, words, rank[0].said);
        if (fault == SUM)
            continue;
        struct plumb_micro m;
        struct plumb_replay r = take(&m, from);
        CHECK(r.outcome == (fault == GRADIENT ? PLUMB_REPLAY_GRADIENT : PLUMB_REPLAY_FORWARD));
        CHECK(r.step == 4 && r.iteration == 1 && r.micro_batch == from && strstr(r.reason, words));
        CHECK(m.pack.n_seq == 1 + from % MOST_SEQ && m.record[0] == 10 * from);
        CHECK(fault != LOSS || r.logp[m.len[0] - 1] == -INFINITY);
        CHECK(fault != REFERENCE || isnan(m.logp_ref[0]));
        plumb_replay_fini(&r);
        plumb_micro_fini(&m);
    }
}

/* Checks the replay file of a step with finite values. Any number of ranks writes the same file,
 * and plumb reads back what it wrote. */
static void test_healthy(struct plumb_config *cfg)
{
    uint64_t first = 0, hash = 0;
    char path[128], real[4096];
    CHECK_OK(plumb_replay_path(path, sizeof(path), out, 4, 5));
    cfg->train.replay = "4:5";
    for (int world_size = 1; world_size <= RANKS; world_size *= 2) {
        struct rank rank[RANKS];
        run(rank, world_size, cfg, NONE, LEAVES);
        for (int i = 0; i < world_size; i++)
            CHECKF(rank[i].status == PLUMB_OK && rank[i].moved && rank[i].loss == rank[0].loss,
                   "%s", rank[i].said);
        CHECK_OK(plumb_file_hash(&hash, path));
        CHECKF(hash == first || world_size == 1, "another file on %d ranks", world_size);
        first = hash;
    }
    struct plumb_micro m;
    struct plumb_replay r = take(&m, 5);
    CHECK(realpath(cfg->model, real) && !strcmp(r.weights, real));
    CHECK(r.outcome == PLUMB_REPLAY_HEALTHY && r.seed == cfg->seed && r.head_rows == 512);
    CHECK(!strcmp(r.command, "align") && !strcmp(r.method, "psle") && !strcmp(r.device, "cpu"));
    CHECK(m.kind == PLUMB_MICRO_LOGP && m.objective == plumb_objective_find("dpo") && m.reference);
    CHECK(m.param.beta == 0.3 && m.param.label_smoothing == 0.125 && m.scale == 1.0 / LEAVES);
    CHECK(m.pairs == 1 && m.pair[0].win == 1 && m.pair[0].lose == 0 && m.pair[0].weight == 0.5);
    CHECK(m.logp_ref[1] == -11 && m.weight[2] == 0.25 && m.len[1] == 1 + (25 + 7) % 17);
    CHECK(isfinite(r.loss) && r.logp[0] < 0 && r.gradient_hash != 0);
    plumb_replay_fini(&r);
    plumb_micro_fini(&m);
    cfg->train.replay = "";
}

/* Checks that the error about a damaged, foreign or missing file names the file or its format. */
static void test_files(struct plumb_config *cfg)
{
    struct plumb_replay r;
    struct plumb_micro m;
    char path[128];
    struct rank rank[RANKS];
    cfg->train.replay = "4:5";
    run(rank, 1, cfg, NONE, LEAVES);
    cfg->train.replay = "";
    struct plumb_buf file = {0};
    CHECK_OK(plumb_replay_path(path, sizeof(path), out, 4, 5));
    CHECK_OK(plumb_file_read(&file, path));
    CHECK_OK(plumb_file_write_atomic(path, file.data, file.len / 2));
    CHECK(plumb_replay_read(&r, &m, path) != PLUMB_OK);
    CHECK(strstr(plumb_trail_message(), path));
    plumb_h5 *f;
    CHECK_OK(plumb_h5_create(&f, path));
    CHECK_OK(plumb_h5_put_attr_text(f, "format", "something else"));
    CHECK_OK(plumb_h5_commit(&f));
    CHECK_FAILS(plumb_replay_read(&r, &m, path), PLUMB_ERR_FORMAT, "something else");
    CHECK_FAILS(plumb_replay_read(&r, &m, "/nowhere/x.h5"), PLUMB_ERR_IO, "/nowhere/x.h5");
    CHECK(!unlink(path));
    plumb_buf_fini(&file);
}

static void test_parse(void)
{
    static const char *const bad[] = {"3", "3:", ":3", "0:1", "-1:0", "1:-1", "1:2x", "1:2:3", "x"};
    int64_t step = 0, micro_batch = 0;
    CHECK_OK(plumb_micro_parse(&step, &micro_batch, "12:34"));
    CHECK(step == 12 && micro_batch == 34);
    CHECK_OK(plumb_micro_parse(&step, &micro_batch, ""));
    CHECK(step == -1 && micro_batch == -1);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        CHECK_FAILS(plumb_micro_parse(&step, &micro_batch, bad[i]), PLUMB_ERR_CONFIG, bad[i]);
}

static void test_faults(struct plumb_config *cfg)
{
    test_healthy(cfg);
    test_fault(cfg, LOSS, 5, "token 8 of record 50, sample 0 is -inf");
    test_fault(cfg, REFERENCE, 5, "record 50 samples 0 1 2");
    test_fault(cfg, GRADIENT, 5, "record 50 samples 0 1 2) is not finite, first in model.layers.0");
    /* every micro-batch, including the first and the last one of each rank */
    for (int64_t from = 0; from < LEAVES; from++)
        test_fault(cfg, GRADIENT, from, ") is not finite, first in model.layers.0");
    test_fault(cfg, SUM, 2, "their sum is not");
}

int main(void)
{
    const char *root = getenv("PLUMB_SOURCE_ROOT");
    char model[600], dir[600];
    struct plumb_config *cfg;
    CHECK(mkdtemp(out));
    snprintf(model, sizeof(model), "model=%s/tests/fixtures/model/llama_gqa_tied",
             root ? root : ".");
    snprintf(dir, sizeof(dir), "output_dir=%s", out);
    char *const override[] = {model, dir};
    CHECK_OK(plumb_config_load(&cfg, "align", NULL, override, 2));
    test_parse();
    for (int sharded = 0; sharded < 2; sharded++) {
        cfg->train.shard = sharded ? PLUMB_SHARD_GRADIENTS : PLUMB_SHARD_OPTIMIZER;
        cfg->comm.bucket = 0;
        test_faults(cfg);
    }
    cfg->train.shard = PLUMB_SHARD_OPTIMIZER;
    test_files(cfg);
    CHECK_OK(plumb_dir_remove(out));
    plumb_config_free(&cfg);
    return 0;
}
