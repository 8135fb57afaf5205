/* bench_decode.c - decoding of a 110M-parameter model against its floor on one core.
 * Benchmark of layer 4. Includes model/, ceiling.h.
 *
 *     bench_decode [repetitions, default 3]
 *
 * The floor of a step is the larger of: weights and keys and values over the streaming read;
 * 2 N operations per sequence over the FMA peak. Steps are timed as the difference of a long and
 * a short generation, so prefill does not count. */
#include "bench_model.h"
#include "ceiling.h"
#include "model/generate.h"

enum { PROMPT = 16, SHORT = 8, LONG = 72, MAX_BATCH = 64, MAX_REPEAT = 100 };

static plumb_status drop(void *arg, const struct plumb_completion *c)
{
    *(int64_t *)arg += c->n;
    return PLUMB_OK;
}

static double seconds_of(plumb_generator *g, const plumb_model *m, int64_t batch, int64_t tokens)
{
    static int32_t ids[MAX_BATCH][PROMPT];
    struct plumb_request q[MAX_BATCH];
    int64_t got = 0;
    for (int64_t i = 0; i < batch; i++) {
        for (int64_t j = 0; j < PROMPT; j++)
            ids[i][j] = (int32_t)((uint32_t)(i * PROMPT + j + 1) * 2654435761u % 32000u);
        q[i] = (struct plumb_request){.ids = ids[i], .n = PROMPT, .prompt_id = i, .n_samples = 1};
    }
    const struct plumb_generate_options o = {.sample = {.temperature = 1, .top_p = 1},
                                             .max_new_tokens = tokens,
                                             .seed = 1,
                                             .ignore_eos = true};
    const double start = ceiling_now();
    BENCH_OK(plumb_generate(g, m, q, batch, &o, drop, &got));
    const double end = ceiling_now();
    if (got != batch * tokens)
        exit(1);
    return end - start;
}

static void bench(const plumb_model *m, int64_t batch, int repeat, const void *memory,
                  int64_t memory_bytes)
{
    static double step[MAX_REPEAT], peak[MAX_REPEAT], read[MAX_REPEAT];
    const struct plumb_spec *s = &m->spec;
    plumb_generator *g;
    BENCH_OK(plumb_generator_create(&g, m, batch, 128, NULL));
    seconds_of(g, m, batch, SHORT);
    for (int i = 0; i < repeat; i++) {
        peak[i] = ceiling_fma(0.2);
        read[i] = ceiling_read(memory, memory_bytes);
        step[i] = (seconds_of(g, m, batch, LONG) - seconds_of(g, m, batch, SHORT)) / (LONG - SHORT);
    }
    const struct ceiling_spread t = ceiling_spread(step, repeat);
    const double gflops = ceiling_spread(peak, repeat).median;
    const double bandwidth = ceiling_spread(read, repeat).median;
    const double n = (double)bench_parameters(m); /* tied: each weight is read once a step */
    const double length = PROMPT + (SHORT + LONG) / 2.0;
    const double kv = 8.0 * length * (double)(batch * s->l * s->hk * s->d);
    const double by_read = (4 * n + kv) / bandwidth * 1e-9,
                 by_work = 2e-9 * n * (double)batch / gflops;
    const double floor = by_read > by_work ? by_read : by_work;
    printf("batch %2lld: %.2f ms a step (%.2f-%.2f), %.0f tokens/s; floor %.2f ms (%s; %.1f GB/s, "
           "%.1f GFLOP/s): %.1f %%, best %.1f %%\n",
           (long long)batch, 1e3 * t.median, 1e3 * t.least, 1e3 * t.most, (double)batch / t.median,
           1e3 * floor, by_read > by_work ? "memory" : "arithmetic", bandwidth, gflops,
           100 * floor / t.median, 100 * floor / t.least);
    plumb_generator_destroy(&g);
}

int main(int argc, char **argv)
{
    static const int64_t batch[] = {1, 8, 32};
    int repeat = argc > 1 ? atoi(argv[1]) : 3;
    repeat = repeat < 1 ? 1 : repeat > MAX_REPEAT ? MAX_REPEAT : repeat;
    const int64_t bytes = (int64_t)1 << 30;
    void *memory = ceiling_alloc(bytes);
    struct plumb_backend *b;
    if (!memory)
        return 1;
    memset(memory, 1, (size_t)bytes);
    BENCH_OK(plumb_backend_cpu_create(&b, 1, 1));
    plumb_model *m = bench_model(b);
    for (size_t i = 0; i < sizeof batch / sizeof *batch; i++)
        bench(m, batch[i], repeat, memory, bytes);
    plumb_model_destroy(&m);
    plumb_backend_destroy(&b);
    free(memory);
    return 0;
}
