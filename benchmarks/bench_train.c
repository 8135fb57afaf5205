/* bench_train.c - one training step of a 110M-parameter model against the FMA peak of one core.
 * Benchmark of layer 4. Includes op/, model/, ceiling.h.
 *
 *     bench_train [steps, default 3] [recompute, default 0]
 *
 * A step is forward, backward, AdamW and packing of 8 sequences of 256 tokens, counted as 6 N
 * operations per token: attention, recomputation and the logits' second pass are not counted. */
#include "bench_model.h"
#include "ceiling.h"
#include "op/op.h"

enum { SEQUENCES = 8, LENGTH = 256, TOKENS = SEQUENCES * LENGTH, MAX_STEPS = 100 };

enum phase { FORWARD, BACKWARD, ADAMW, REFRESH, WHOLE, N_PHASE };
static const char *const phase_name[] = {"forward", "backward", "adamw", "refresh", "step"};

struct bench {
    struct plumb_backend *b;
    plumb_model *m;
    plumb_pass *pass;
    float *grad, *m1, *m2, *logp, *dlogp;
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
    const int64_t n = t->m->count;
    const struct plumb_tensor w = plumb_view_f32("w", t->m->w, t->b->place, n);
    const struct plumb_tensor m1 = plumb_view_f32("m", t->m1, t->b->place, n);
    const struct plumb_tensor m2 = plumb_view_f32("v", t->m2, t->b->place, n);
    const struct plumb_tensor g = plumb_view_f32("grad", t->grad, t->b->place, n);
    BENCH_OK(plumb_op_adamw(t->b, &w, &m1, &m2, &g, &p));
}

/* Seconds of each phase; returns the FMA peak, the mean of before, in the middle and after: a
 * step takes so long that its neighbours come and go. */
static double step(struct bench *t, double seconds[N_PHASE])
{
    double before, after, peak = ceiling_fma(0.2);
    before = ceiling_now();
    BENCH_OK(plumb_pass_logprob(t->pass, t->m, &t->batch, t->logp));
    seconds[FORWARD] = ceiling_now() - before;
    peak += ceiling_fma(0.2);
    before = ceiling_now();
    memset(t->grad, 0, (size_t)t->m->count * sizeof *t->grad);
    BENCH_OK(plumb_pass_logprob_backward(t->pass, t->m, t->dlogp, t->grad));
    after = ceiling_now();
    seconds[BACKWARD] = after - before;
    update(t);
    before = ceiling_now();
    seconds[ADAMW] = before - after;
    BENCH_OK(plumb_model_refresh(t->m));
    after = ceiling_now();
    seconds[REFRESH] = after - before;
    peak += ceiling_fma(0.2);
    seconds[WHOLE] = 0;
    for (int i = 0; i < WHOLE; i++)
        seconds[WHOLE] += seconds[i];
    return peak / 3;
}

int main(int argc, char **argv)
{
    int steps = argc > 1 ? atoi(argv[1]) : 3;
    steps = steps < 1 ? 1 : steps > MAX_STEPS ? MAX_STEPS : steps;
    static int32_t ids[TOKENS];
    static float dlogp[TOKENS], logp[TOKENS];
    static int64_t offset[SEQUENCES + 1], prompt[SEQUENCES];
    struct bench t = {.logp = logp, .dlogp = dlogp};
    BENCH_OK(plumb_backend_cpu_create(&t.b, 1, 1));
    t.m = bench_model(t.b);
    for (int i = 0; i < TOKENS; i++) {
        ids[i] = (int32_t)((uint32_t)(i + 1) * 2654435761u % (uint32_t)t.m->spec.v);
        dlogp[i] = -1.0f / TOKENS;
    }
    for (int i = 0; i < SEQUENCES; i++) {
        offset[i + 1] = (i + 1) * LENGTH;
        prompt[i] = 1;
    }
    t.batch = (struct plumb_batch){SEQUENCES, ids, offset, prompt};
    const struct plumb_pass_limit limit = {.max_tokens = TOKENS,
                                           .max_seq = SEQUENCES,
                                           .max_targets = TOKENS,
                                           .train = true,
                                           .recompute = argc > 2 && atoi(argv[2])};
    BENCH_OK(plumb_pass_create(&t.pass, t.m, &limit));
    t.grad = calloc((size_t)t.m->count, sizeof(float));
    t.m1 = calloc((size_t)t.m->count, sizeof(float));
    t.m2 = calloc((size_t)t.m->count, sizeof(float));
    if (!t.grad || !t.m1 || !t.m2)
        return 1;
    static double seconds[N_PHASE][MAX_STEPS], peak[MAX_STEPS], share[MAX_STEPS];
    const double n = (double)bench_parameters(t.m), work = 6e-9 * n * TOKENS;
    double once[N_PHASE];
    step(&t, once); /* touches all memory */
    for (int i = 0; i < steps; i++) {
        peak[i] = step(&t, once);
        share[i] = 100 * work / once[WHOLE] / peak[i];
        for (int k = 0; k < N_PHASE; k++)
            seconds[k][i] = once[k];
    }
    const struct ceiling_spread top = ceiling_spread(peak, steps);
    printf("%.1fM parameters, %d x %d tokens, pass %.2f GB, FMA peak %.1f GFLOP/s (%.1f-%.1f)\n",
           n / 1e6, SEQUENCES, LENGTH, (double)plumb_pass_bytes(t.pass) / 1e9, top.median,
           top.least, top.most);
    double best = 0;
    for (int k = 0; k < N_PHASE; k++) {
        const struct ceiling_spread s = ceiling_spread(seconds[k], steps);
        printf("%-9s %7.3f s (%.3f-%.3f)\n", phase_name[k], s.median, s.least, s.most);
        if (k == WHOLE)
            best = 100 * work / s.least / top.most;
    }
    const struct ceiling_spread of = ceiling_spread(share, steps);
    printf("6 N tokens: %.1f %% of the FMA peak beside each step (%.1f-%.1f), best against best "
           "%.1f %%\n",
           of.median, of.least, of.most, best);
    plumb_pass_destroy(&t.pass);
    plumb_model_destroy(&t.m);
    plumb_backend_destroy(&t.b);
    free(t.grad);
    free(t.m1);
    free(t.m2);
    return 0;
}
