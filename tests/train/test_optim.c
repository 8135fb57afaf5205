/* test_optim.c - checks AdamW against torch in float64, that any power of two of ranks gives the
 * same bytes, and that wrong inputs are refused. Test. Includes harness.h, train/, the golden
 * values (optim_golden.h). */
#include "train/optim.h"

#include "fake_world.h"
#include "optim_golden.h"
#include "train/exchange.h"

static const struct fake_tensor golden_tensor[] = {
    {"a.weight", 5, 7}, {"b.bias", 7, 0}, {"c.weight", 3, 4}};

static struct plumb_optim_options options(void)
{
    return (struct plumb_optim_options){
        .learning_rate = golden_peak,
        .beta1 = 0.9,
        .beta2 = 0.999,
        .eps = 1e-8,
        .weight_decay = golden_decay,
        .max_grad_norm = golden_clip,
        .schedule = {PLUMB_LR_COSINE, GOLDEN_TOTAL, (double)GOLDEN_WARMUP / GOLDEN_TOTAL, 0}};
}

/* Sets padded (count,) to x, in which the tensors follow each other without padding. */
static void pad(const plumb_model *m, float *padded, const float *x)
{
    for (int64_t p = 0; p < m->n_param; x += m->param[p++].count)
        memcpy(padded + m->param[p].offset, x, (size_t)m->param[p].count * sizeof(float));
}

static void test_golden(void)
{
    plumb_comm *comm = NULL;
    plumb_optim *o = NULL;
    plumb_model *m = fake_model(golden_tensor, 3);
    const struct plumb_optim_options opt = options();
    float *grad = calloc((size_t)m->count, sizeof(float));
    const int64_t n = 35 + 7 + 12;
    double largest = 0;
    CHECK(grad);
    CHECK_OK(plumb_comm_single_create(&comm));
    CHECK_OK(plumb_optim_create(&o, m, comm, &opt));
    pad(m, m->w, golden_start);
    for (int step = 0; step < GOLDEN_STEPS; step++) {
        struct plumb_optim_result r;
        memset(grad, 0, (size_t)m->count * sizeof(float));
        pad(m, grad, golden_grad + step * n);
        CHECK_OK(plumb_optim_step(o, m, comm, grad, &r));
        CHECKF(fabs(r.grad_norm / golden_norm[step] - 1) < 1e-14, "step %d: norm %.17g", step,
               r.grad_norm);
        CHECKF(fabs(r.lr - golden_lr[step]) < 1e-17, "step %d: lr %.17g", step, r.lr);
        CHECK(r.clipped == (golden_norm[step] > golden_clip) && o->step == step + 1);
        const double *want = golden_weight + step * n;
        for (int64_t p = 0; p < m->n_param; want += m->param[p++].count) {
            for (int64_t i = 0; i < m->param[p].count; i++)
                largest = fmax(largest, fabs(m->w[m->param[p].offset + i] - want[i]));
        }
    }
    /* 3.4e-7 was measured, for weights of size 2 and float32 weights and moments over 12 steps */
    CHECKF(largest < 6e-7, "largest difference %g", largest);
    for (int64_t i = 35; i < 64; i++)
        CHECK(m->w[i] == 0); /* the padding stays 0 */
    plumb_optim_destroy(&o);
    plumb_comm_destroy(&comm);
    fake_model_free(m);
    free(grad);
}

/* Checks the first step, which is lr g / (|g| + eps), whatever the betas are. Here eps is as large
 * as the gradients, so a wrong factor of eps shows; with the 1e-8 of the golden values it would
 * not. */
static void test_first_step(void)
{
    plumb_comm *comm = NULL;
    plumb_optim *o = NULL;
    plumb_model *m = fake_model(golden_tensor, 3);
    struct plumb_optim_options opt = options();
    struct plumb_optim_result r;
    float *grad = calloc((size_t)m->count, sizeof(float));
    CHECK(grad);
    opt.eps = 0.5;
    opt.learning_rate = 0.25;
    opt.weight_decay = opt.max_grad_norm = opt.schedule.warmup_ratio = 0;
    CHECK_OK(plumb_comm_single_create(&comm));
    CHECK_OK(plumb_optim_create(&o, m, comm, &opt));
    pad(m, grad, golden_grad);
    CHECK_OK(plumb_optim_step(o, m, comm, grad, &r));
    for (int64_t i = 0; i < m->count; i++) {
        const double g = grad[i], want = -0.25 * g / (fabs(g) + 0.5);
        CHECKF(fabs(m->w[i] - want) < 1e-6, "weight %lld: %.9g, expected %.9g", (long long)i,
               m->w[i], want);
    }
    plumb_optim_destroy(&o);
    plumb_comm_destroy(&comm);
    fake_model_free(m);
    free(grad);
}

/* ---- several ranks ---- */

struct world_run {
    int steps;
    bool offload; /* together with device: moments are in host memory */
    /* moments and weights count as device memory, so that all data go through the staging buffer */
    bool device;
    float *w;    /* (count,) the weights of rank 0 at the end */
    double norm; /* gradient norm of the last step */
    int64_t count, shard;
    uint64_t fingerprint[8];
};

static void run_rank(plumb_comm *comm, void *arg)
{
    struct world_run *run = arg;
    const int rank = plumb_comm_rank(comm);
    plumb_model *m = fake_model(fake_decoder, FAKE_DECODER);
    if (run->device) {
        m->backend->place = PLUMB_DEVICE;
        const struct plumb_comm_device device = plumb_exchange_device(m->backend);
        CHECK_OK(plumb_comm_attach_device(comm, &device));
    }
    struct plumb_optim_options opt = options();
    opt.offload = run->offload;
    plumb_optim *o = NULL;
    struct plumb_optim_result r = {0};
    float *grad = calloc((size_t)m->count, sizeof(float));
    CHECK(grad);
    opt.schedule.warmup_ratio = 0;
    CHECK_OK(plumb_optim_create(&o, m, comm, &opt));
    if (run->offload)
        o->part = 1000; /* a tensor is moved in several parts */
    fake_fill(m, m->w, 5, 1);
    for (int s = 0; s < run->steps; s++) {
        fake_rank_gradient(m, grad, 100 + (uint64_t)s, comm);
        CHECK_OK(plumb_optim_step(o, m, comm, grad, &r));
    }
    run->fingerprint[rank] = m->fingerprint;
    if (rank == 0) {
        run->count = m->count;
        run->norm = r.grad_norm;
        run->shard = o->shards.count;
        run->w = malloc((size_t)m->count * sizeof(float));
        CHECK(run->w);
        memcpy(run->w, m->w, (size_t)m->count * sizeof(float));
    }
    plumb_comm_detach_device(comm);
    m->backend->place = PLUMB_HOST;
    plumb_optim_destroy(&o);
    fake_model_free(m);
    free(grad);
}

static void test_worlds(void)
{
    struct world_run one = {.steps = 4};
    fake_world(1, run_rank, &one);
    CHECK(one.count > 5 * PLUMB_SHARD_BLOCK);
    static const int sizes[] = {2, 4, 8, 2, 1, 3};
    for (int i = 0; i < 6; i++) {
        struct world_run run = {.steps = 4, .device = i == 3 || i == 4, .offload = i == 4};
        fake_world(sizes[i], run_rank, &run);
        for (int r = 1; r < sizes[i]; r++)
            CHECK(run.fingerprint[r] == run.fingerprint[0]);
        if (sizes[i] == 3) { /* 3 is no power of two, so results are rounded differently */
            const double apart = worst(run.w, one.w, one.count, 1e-5, 1e-5);
            CHECKF(apart < 1, "%g", apart);
        } else {
            CHECKF(!memcmp(run.w, one.w, (size_t)one.count * sizeof(float)), "world of %d",
                   sizes[i]);
            CHECKF(run.norm == one.norm, "world of %d: norm %.17g, %.17g", sizes[i], run.norm,
                   one.norm);
            CHECK(run.shard < one.shard || sizes[i] == 1);
        }
        free(run.w);
    }
    free(one.w);
}

/* ---- single properties ---- */

static void test_decay_and_clip(void)
{
    plumb_comm *comm = NULL;
    CHECK_OK(plumb_comm_single_create(&comm));
    plumb_model *m = fake_model(fake_decoder, FAKE_DECODER);
    const size_t bytes = (size_t)m->count * sizeof(float);
    float *grad = calloc(1, bytes), *before = malloc(bytes), *unclipped = malloc(bytes);
    CHECK(grad && before && unclipped);
    struct plumb_optim_options opt = options();
    struct plumb_optim_result r;
    plumb_optim *o = NULL;
    opt.schedule = (struct plumb_schedule){PLUMB_LR_CONSTANT, 10, 0, 0};

    fake_fill(m, m->w, 5, 1);
    memcpy(before, m->w, bytes);
    CHECK_OK(plumb_optim_create(&o, m, comm, &opt));
    /* the gradient is zero, so only weight decay changes the weights */
    CHECK_OK(plumb_optim_step(o, m, comm, grad, &r));
    CHECK(r.grad_norm == 0 && !r.clipped && r.lr == golden_peak);
    for (int64_t p = 0; p < m->n_param; p++) {
        for (int64_t i = m->param[p].offset; i < m->param[p].offset + m->param[p].count; i++) {
            const double shrink = m->param[p].decay ? 1 - golden_peak * golden_decay : 1;
            CHECKF(fabs(m->w[i] - shrink * before[i]) <= 1e-7 * fabs(before[i]), "%s",
                   m->param[p].name);
        }
    }
    plumb_optim_destroy(&o);

    /* If a gradient g with norm N is clipped to c, the moments are those of g c/N. The weights
     * after one step of Adam do not show this factor, but the first moment does. */
    opt.max_grad_norm = 0;
    CHECK_OK(plumb_optim_create(&o, m, comm, &opt));
    fake_fill(m, grad, 6, 1);
    CHECK_OK(plumb_optim_step(o, m, comm, grad, &r));
    const double norm = r.grad_norm;
    CHECK(!r.clipped && norm > 10);
    memcpy(unclipped, o->m, bytes);
    plumb_optim_destroy(&o);
    opt.max_grad_norm = norm / 4;
    CHECK_OK(plumb_optim_create(&o, m, comm, &opt));
    CHECK_OK(plumb_optim_step(o, m, comm, grad, &r));
    CHECK(r.clipped && r.grad_norm == norm);
    for (int64_t i = 0; i < m->count; i++)
        CHECK(fabs(o->m[i] - 0.25 * unclipped[i]) <= 1e-6 * fabs(unclipped[i]));
    plumb_optim_destroy(&o);

    opt.max_grad_norm = norm * 1.01;
    CHECK_OK(plumb_optim_create(&o, m, comm, &opt));
    CHECK_OK(plumb_optim_step(o, m, comm, grad, &r));
    CHECK(!r.clipped && !memcmp(o->m, unclipped, bytes));
    plumb_optim_destroy(&o);
    plumb_comm_destroy(&comm);
    fake_model_free(m);
    free(grad);
    free(before);
    free(unclipped);
}

struct bad_run {
    int64_t at[2]; /* indices of the elements that get the value `with`, on rank 1 */
    float with;
    const char *says;
};

static void spoilt_rank(plumb_comm *comm, void *arg)
{
    const struct bad_run *run = arg;
    plumb_model *m = fake_model(fake_decoder, FAKE_DECODER);
    const size_t bytes = (size_t)m->count * sizeof(float);
    const struct plumb_optim_options opt = options();
    struct plumb_optim_result r;
    plumb_optim *o = NULL;
    float *grad = calloc(1, bytes), *before = malloc(bytes);
    CHECK(grad && before);
    CHECK_OK(plumb_optim_create(&o, m, comm, &opt));
    fake_fill(m, m->w, 5, 1);
    memcpy(before, m->w, bytes);
    fake_fill(m, grad, 7, 1);
    if (plumb_comm_rank(comm) == plumb_comm_size(comm) - 1)
        grad[run->at[0]] = grad[run->at[1]] = run->with;
    CHECK_FAILS(plumb_optim_step(o, m, comm, grad, &r), PLUMB_ERR_NUMERIC, run->says);
    CHECK(!memcmp(before, m->w, bytes) && o->step == 0);
    for (int64_t i = 0; i < o->shards.count; i++)
        CHECK(o->m[i] == 0 && o->v[i] == 0);
    plumb_optim_destroy(&o);
    fake_model_free(m);
    free(grad);
    free(before);
}

static void test_non_finite(void)
{
    plumb_model *m = fake_model(fake_decoder, FAKE_DECODER);
    struct bad_run late = {{m->param[4].offset + 95, m->param[4].offset}, NAN, "model.norm.weight"};
    struct bad_run two = {{m->param[3].offset, m->param[1].offset + 1},
                          INFINITY,
                          "model.layers.0.input_layernorm.weight"};
    fake_model_free(m);
    for (int w = 1; w <= 4; w *= 2) {
        fake_world(w, spoilt_rank, &late);
        fake_world(w, spoilt_rank, &two);
    }
}

static void test_options(void)
{
    plumb_comm *comm = NULL;
    plumb_optim *o = NULL;
    CHECK_OK(plumb_comm_single_create(&comm));
    plumb_model *m = fake_model(golden_tensor, 3);
    struct plumb_optim_options p;
#define REFUSED(field, value)                                                                      \
    p = options();                                                                                 \
    p.field = (value);                                                                             \
    CHECK_FAILS(plumb_optim_create(&o, m, comm, &p), PLUMB_ERR_ARG, strrchr("." #field, '.') + 1)
    REFUSED(learning_rate, 0);
    REFUSED(learning_rate, NAN);
    REFUSED(beta1, 1);
    REFUSED(beta2, -0.1);
    REFUSED(eps, 0);
    REFUSED(weight_decay, -1);
    REFUSED(max_grad_norm, INFINITY);
    REFUSED(schedule.warmup_ratio, 1.5);
    REFUSED(schedule.min_lr_ratio, -0.5);
    p = options();
    p.schedule.total = 0;
    CHECK_FAILS(plumb_optim_create(&o, m, comm, &p), PLUMB_ERR_ARG, "0 steps");
    CHECK(o == NULL);
    fake_model_free(m);
    plumb_comm_destroy(&comm);
}

int main(void)
{
    test_golden();
    test_first_step();
    test_worlds();
    test_decay_and_clip();
    test_non_finite();
    test_options();
    return 0;
}
