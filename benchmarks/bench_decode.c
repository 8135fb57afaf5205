/* bench_decode.c - decode speed of a model with random weights, compared with its lower bound.
 * Benchmark. Includes bench.h, model/.
 *
 *     bench_decode [device=cpu] [shape=0.1b] [batch=1,8,32] [repeat=3] [prompt=16] [short=8]
 *                  [long=SHORT+64] [graphs=1] [dtype=float32] [pins=FILE]
 *
 * graphs=1,0 measures first with and then without recorded CUDA graphs. The lower bound of the time
 * of a step is the larger of two times. The first is the bytes of weights, keys and values divided
 * by the measured bandwidth. The second is 2 N operations per sequence divided by the measured
 * rate, where N is the number of parameters that a step reads. The time of a step is the difference
 * between a generation of `long` and one of `short` tokens, divided by the difference in tokens, so
 * that prefill does not count. */
#include "bench.h"
#include "model/generate.h"

enum { MAX_BATCHES = 16, MAX_REPEAT = 100 };

struct bench {
    struct bench_device d;
    plumb_model *m;
    const char *shape;
    int64_t prompt, shorter, longer;
    /* eager: decode without recorded graphs; later: this is not the first measurement of this
     * model, so the bytes of its KV store are not reported again */
    bool eager, later;
    int repeat;
};

static plumb_status drop(void *arg, const struct plumb_completion *c)
{
    *(int64_t *)arg += c->n;
    return PLUMB_OK;
}

static double seconds_of(const struct bench *t, plumb_generator *g, int64_t batch, int64_t tokens)
{
    const int64_t n = batch * t->prompt;
    int32_t *ids = malloc((size_t)n * sizeof *ids);
    struct plumb_request *q = calloc((size_t)batch, sizeof *q);
    int64_t got = 0;
    if (!ids || !q)
        exit(1);
    for (int64_t i = 0; i < n; i++)
        ids[i] = (int32_t)((uint32_t)(i + 1) * 2654435761u % (uint32_t)t->m->spec.v);
    for (int64_t i = 0; i < batch; i++)
        q[i] = (struct plumb_request){
            .ids = ids + i * t->prompt, .n = t->prompt, .prompt_id = i, .n_samples = 1};
    const struct plumb_generate_options o = {.sample = {.temperature = 1, .top_p = 1},
                                             .max_new_tokens = tokens,
                                             .seed = 1,
                                             .ignore_eos = true,
                                             .eager = t->eager};
    const double start = bench_now(&t->d);
    BENCH_OK(plumb_generate(g, t->m, q, batch, &o, drop, &got));
    const double end = bench_now(&t->d);
    if (got != batch * tokens)
        exit(1);
    free(ids);
    free(q);
    return end - start;
}

static void report(const struct bench *t, const plumb_generator *g, int64_t batch, double step[],
                   double peak[], double read[])
{
    const struct plumb_spec *s = &t->m->spec;
    const struct ceiling_spread at = ceiling_spread(step, t->repeat);
    const double gflops = ceiling_spread(peak, t->repeat).median;
    const double bandwidth = ceiling_spread(read, t->repeat).median;
    const double n = (double)bench_parameters_read(t->m), item = plumb_dtype_size(t->d.dtype);
    const double length = (double)t->prompt + (double)(t->shorter + t->longer) / 2.0;
    const double kv = 2 * item * length * (double)(batch * s->l * s->hk * s->d);
    const double by_read = (item * n + kv) / bandwidth * 1e-9,
                 by_work = 2e-9 * n * (double)batch / gflops;
    const double floor = by_read > by_work ? by_read : by_work;
    const char *bound = by_read > by_work ? "memory" : "arithmetic";
    char what[96];
    printf("batch %2lld: %.2f ms a step (%.2f-%.2f), %.0f tokens/s; floor %.2f ms (%s; %.1f GB/s, "
           "%.1f GFLOP/s): %.1f %%, best %.1f %%\n",
           (long long)batch, 1e3 * at.median, 1e3 * at.least, 1e3 * at.most,
           (double)batch / at.median, 1e3 * floor, bound, bandwidth, gflops,
           100 * floor / at.median, 100 * floor / at.least);
    if (t->d.b->place == PLUMB_HOST)
        return;
    snprintf(what, sizeof what, "%s, %s, batch %lld%s", plumb_dtype_name(t->d.dtype), t->shape,
             (long long)batch, t->eager ? ", without graphs" : "");
    bench_result("decode", what, (double)batch / at.median, "tokens/s",
                 "%.3f ms a step (%.3f-%.3f), %.1f %% of the %s floor of %.3f ms", 1e3 * at.median,
                 1e3 * at.least, 1e3 * at.most, 100 * floor / at.median, bound, 1e3 * floor);
    if (t->later)
        return;
    snprintf(what, sizeof what, "%s, %s, KV store of %lld slots, planned",
             plumb_dtype_name(t->d.dtype), t->shape, (long long)batch);
    bench_result("memory", what, (double)plumb_generator_bytes(g) / 1e9, "GB", "%s", "");
}

static void bench(const struct bench *t, int64_t batch)
{
    static double step[MAX_REPEAT], peak[MAX_REPEAT], read[MAX_REPEAT];
    plumb_generator *g;
    BENCH_OK(plumb_generator_create(
        &g, t->m,
        &(struct plumb_generator_need){.slots = batch, .max_tokens = t->prompt + t->longer + 1}));
    seconds_of(t, g, batch, t->shorter);
    for (int i = 0; i < t->repeat; i++) {
        peak[i] = t->d.rate(&t->d);
        read[i] = t->d.bandwidth(&t->d);
        step[i] = (seconds_of(t, g, batch, t->longer) - seconds_of(t, g, batch, t->shorter)) /
                  (double)(t->longer - t->shorter);
    }
    report(t, g, batch, step, peak, read);
    plumb_generator_destroy(&g);
}

int main(int argc, char **argv)
{
    const struct bench_args a =
        bench_args(argc, argv, BENCH_DEVICE_NAMES "shape batch repeat prompt short long graphs");
    int64_t batch[MAX_BATCHES], graphs[2];
    const int batches = bench_numbers(&a, "batch", 1, "1,8,32", batch, MAX_BATCHES);
    struct bench t = {.shape = bench_text(&a, "shape", "0.1b"),
                      .repeat = (int)bench_number(&a, "repeat", 1, MAX_REPEAT, 3),
                      .prompt = bench_number(&a, "prompt", 1, 1 << 20, 16),
                      .shorter = bench_number(&a, "short", 1, 1 << 20, 8)};
    t.longer = bench_number(&a, "long", t.shorter + 1, 1 << 20, t.shorter + 64);
    const int modes = bench_numbers(&a, "graphs", 0, "1", graphs, 2);
    bench_device_init(&t.d, &a);
    bench_tune(&t.d, &a, t.shape);
    t.m = bench_model(t.d.b, t.shape);
    for (int k = 0; k < modes; k++) {
        t.eager = graphs[k] == 0;
        t.later = k > 0;
        for (int i = 0; i < batches; i++)
            bench(&t, batch[i]);
    }
    plumb_model_destroy(&t.m);
    bench_device_fini(&t.d);
    return 0;
}
