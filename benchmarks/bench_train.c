/* bench_train.c - speed of a training step of a model with random weights, as a share of the
 * measured peak of one core or GPU. Benchmark. Includes bench.h, op/, model/.
 *
 *     bench_train [device=cpu] [shape=0.1b] [steps=3] [sequences=8] [length=256] [recompute=0]
 *                 [dtype=float32]
 *
 * A step consists of forward, backward, AdamW and the packing of the weights, for `sequences`
 * sequences of `length` tokens. The script counts 6 N operations per token, where N is the
 * number of parameters. Attention, recomputation and the second computation of the logits are
 * not counted. */
#include "bench.h"
#include "op/op.h"

enum { MAX_STEPS = 100 };

enum phase { FORWARD, BACKWARD, ADAMW, REFRESH, WHOLE, N_PHASE };
static const char *const phase_name[] = {"forward", "backward", "adamw", "refresh", "step"};

struct bench {
    struct bench_device d;
    plumb_model *m;
    plumb_pass *pass;
    int64_t sequences, length, tokens;
    float *grad, *m1, *m2; /* gradient and AdamW moments, (count,) each, on the device */
    float *logp, *dlogp;   /* log-probs and their gradients, on the host */
    int32_t *ids;
    int64_t *offset, *prompt;
    struct plumb_batch batch;
};

static void update(struct bench *t)
{
    const struct plumb_adamw p = {.lr = 1e-5f,
                                  .beta1 = 0.9f,
                                  .beta2 = 0.999f,
                                  .eps = 1e-8f,
                                  .correction1 = 0.1f,
                                  .correction2 = 0.001f,
                                  .grad_scale = 1};
    struct plumb_backend *b = t->d.b;
    const int64_t n = t->m->count;
    const struct plumb_tensor w = plumb_view_f32("w", t->m->w, b->place, n);
    const struct plumb_tensor m1 = plumb_view_f32("m", t->m1, b->place, n);
    const struct plumb_tensor m2 = plumb_view_f32("v", t->m2, b->place, n);
    const struct plumb_tensor g = plumb_view_f32("grad", t->grad, b->place, n);
    BENCH_OK(plumb_op_adamw(b, &w, &m1, &m2, &g, &p));
}

/* Runs one step and sets seconds[] to the time of each phase. Returns the ceiling: the mean of the
 * peak measured before, during and after the step. A step on one core takes so long that the load
 * of other programs changes during the step. */
static double step(struct bench *t, double seconds[N_PHASE])
{
    double before, after, peak = t->d.rate(&t->d);
    before = bench_now(&t->d);
    BENCH_OK(plumb_pass_logprob(t->pass, t->m, &t->batch, t->logp));
    seconds[FORWARD] = bench_now(&t->d) - before;
    peak += t->d.rate(&t->d);
    before = bench_now(&t->d);
    BENCH_OK(t->d.b->zero(t->d.b, t->grad, t->m->count * (int64_t)sizeof *t->grad));
    BENCH_OK(plumb_pass_logprob_backward(t->pass, t->m, t->dlogp, t->grad));
    after = bench_now(&t->d);
    seconds[BACKWARD] = after - before;
    update(t);
    before = bench_now(&t->d);
    seconds[ADAMW] = before - after;
    BENCH_OK(plumb_model_refresh(t->m));
    after = bench_now(&t->d);
    seconds[REFRESH] = after - before;
    peak += t->d.rate(&t->d);
    seconds[WHOLE] = 0;
    for (int i = 0; i < WHOLE; i++)
        seconds[WHOLE] += seconds[i];
    return peak / 3;
}

static float *zeros(const struct bench *t)
{
    void *data;
    BENCH_OK(t->d.b->alloc(t->d.b, &data, t->m->count * 4, "per parameter"));
    BENCH_OK(t->d.b->zero(t->d.b, data, t->m->count * 4));
    return data;
}

static void make_batch(struct bench *t)
{
    const size_t n = (size_t)t->tokens, k = (size_t)t->sequences;
    t->ids = calloc(n, sizeof *t->ids);
    t->logp = calloc(n, sizeof *t->logp);
    t->dlogp = calloc(n, sizeof *t->dlogp);
    t->offset = calloc(k + 1, sizeof *t->offset);
    t->prompt = calloc(k, sizeof *t->prompt);
    if (!t->ids || !t->logp || !t->dlogp || !t->offset || !t->prompt)
        exit(1);
    for (int64_t i = 0; i < t->tokens; i++) {
        t->ids[i] = (int32_t)((uint32_t)(i + 1) * 2654435761u % (uint32_t)t->m->spec.v);
        t->dlogp[i] = -1.0f / (float)t->tokens;
    }
    for (int64_t i = 0; i < t->sequences; i++) {
        t->offset[i + 1] = (i + 1) * t->length;
        t->prompt[i] = 1;
    }
    t->batch = (struct plumb_batch){t->sequences, t->ids, t->offset, t->prompt};
}

struct times {
    int steps;
    double seconds[N_PHASE][MAX_STEPS], peak[MAX_STEPS], share[MAX_STEPS];
    /* bytes of GPU memory in use: before the model exists, with all memory allocated, after the
     * steps */
    int64_t planned, used[3];
};

static void create(struct bench *t, const char *shape, bool recompute, struct times *x)
{
    /* the first measurement of the peak allocates the memory that the measurement itself needs */
    (void)t->d.rate(&t->d);
    x->used[0] = t->d.memory_used(&t->d);
    t->m = bench_model(t->d.b, shape);
    make_batch(t);
    const struct plumb_pass_limit limit = {.max_tokens = t->tokens,
                                           .max_seq = t->sequences,
                                           .max_targets = t->tokens,
                                           .train = true,
                                           .recompute = recompute};
    BENCH_OK(plumb_pass_create(&t->pass, t->m, &limit));
    t->grad = zeros(t);
    t->m1 = zeros(t);
    t->m2 = zeros(t);
    x->planned = t->m->arena.cap + plumb_pass_bytes(t->pass) + 3 * 4 * t->m->count;
    x->used[1] = t->d.memory_used(&t->d);
}

static void destroy(struct bench *t)
{
    plumb_pass_destroy(&t->pass);
    t->d.b->release(t->d.b, t->grad);
    t->d.b->release(t->d.b, t->m1);
    t->d.b->release(t->d.b, t->m2);
    plumb_model_destroy(&t->m);
    free(t->ids);
    free(t->logp);
    free(t->dlogp);
    free(t->offset);
    free(t->prompt);
}

/* Writes the results as lines that benchmarks/gpu.sh reads. For a GPU only. */
static void results(const struct bench *t, const char *shape, struct ceiling_spread at[N_PHASE],
                    struct ceiling_spread share, const struct times *x)
{
    char what[96];
    const char *dtype = plumb_dtype_name(t->d.dtype);
    snprintf(what, sizeof what, "%s, %s, %lld x %lld tokens", dtype, shape, (long long)t->sequences,
             (long long)t->length);
    bench_result("training", what, (double)t->tokens / at[WHOLE].median, "tokens/s",
                 "MFU %.1f %% of the measured product (%.1f-%.1f), 6 N a token", share.median,
                 share.least, share.most);
    for (int k = 0; k < N_PHASE; k++) {
        snprintf(what, sizeof what, "%s, %s, %s", dtype, shape, phase_name[k]);
        bench_result("training time", what, 1e3 * at[k].median, "ms", "%.2f-%.2f",
                     1e3 * at[k].least, 1e3 * at[k].most);
    }
    snprintf(what, sizeof what, "%s, %s, training, planned", dtype, shape);
    bench_result("memory", what, (double)x->planned / 1e9, "GB", "%s",
                 "weights, gradient, moments, activations");
    snprintf(what, sizeof what, "%s, %s, training, measured", dtype, shape);
    bench_result("memory", what, (double)(x->used[1] - x->used[0]) / 1e9, "GB",
                 "%.3f GB more after the steps", (double)(x->used[2] - x->used[1]) / 1e9);
}

static void report(const struct bench *t, const char *shape, double work, struct times *x)
{
    const double n = (double)bench_parameters(t->m);
    const struct ceiling_spread top = ceiling_spread(x->peak, x->steps);
    struct ceiling_spread at[N_PHASE];
    printf("%.1fM parameters, %lld x %lld tokens, pass %.2f GB, peak %.1f GFLOP/s (%.1f-%.1f)\n",
           n / 1e6, (long long)t->sequences, (long long)t->length,
           (double)plumb_pass_bytes(t->pass) / 1e9, top.median, top.least, top.most);
    for (int k = 0; k < N_PHASE; k++) {
        at[k] = ceiling_spread(x->seconds[k], x->steps);
        printf("%-9s %7.3f s (%.3f-%.3f)\n", phase_name[k], at[k].median, at[k].least, at[k].most);
    }
    const struct ceiling_spread of = ceiling_spread(x->share, x->steps);
    printf("6 N tokens: %.1f %% of the peak beside each step (%.1f-%.1f), best against best "
           "%.1f %%\n",
           of.median, of.least, of.most, 100 * work / at[WHOLE].least / top.most);
    if (t->d.b->place == PLUMB_DEVICE)
        results(t, shape, at, of, x);
}

int main(int argc, char **argv)
{
    static struct times x;
    const struct bench_args a =
        bench_args(argc, argv, BENCH_DEVICE_NAMES "shape steps sequences length recompute");
    const char *shape = bench_text(&a, "shape", "0.1b");
    struct bench t = {.sequences = bench_number(&a, "sequences", 1, 1 << 20, 8),
                      .length = bench_number(&a, "length", 2, 2048, 256)};
    double once[N_PHASE];
    x.steps = (int)bench_number(&a, "steps", 1, MAX_STEPS, 3);
    t.tokens = t.sequences * t.length;
    bench_device_init(&t.d, &a);
    bench_tune(&t.d, &a, shape);
    create(&t, shape, bench_number(&a, "recompute", 0, 1, 0) == 1, &x);
    const double work = 6e-9 * (double)bench_parameters(t.m) * (double)t.tokens;
    step(&t, once); /* warm-up that touches all memory */
    for (int i = 0; i < x.steps; i++) {
        x.peak[i] = step(&t, once);
        x.share[i] = 100 * work / once[WHOLE] / x.peak[i];
        for (int k = 0; k < N_PHASE; k++)
            x.seconds[k][i] = once[k];
    }
    x.used[2] = t.d.memory_used(&t.d);
    report(&t, shape, work, &x);
    destroy(&t);
    bench_device_fini(&t.d);
    return 0;
}
