/* bench_exact.c - the cost of row invariance (a row of a product has the same bits in every batch):
 * times the same model with plumb's matrix products, which are row-invariant, and with those of a
 * library, which are not.
 * Benchmark. Includes model/, ceiling.h, bench_linear.h.
 *
 *     bench_exact [pairs, default 5] [openblas|onednn|all] [train|decode|all]
 *
 * A pair times plumb and the library directly after each other, in alternating order, on models
 * with the same weights. The cost is the median over the pairs of (time of plumb / time of the
 * library) - 1. All code except the linear layers is the same. Run it with OMP_NUM_THREADS=1
 * OPENBLAS_NUM_THREADS=1. */
#include "bench.h"
#include "bench_linear.h"
#include "model/generate.h"

enum { SEQUENCES = 8, LENGTH = 256, TOKENS = SEQUENCES * LENGTH, MAX_PAIRS = 100 };
enum { PROMPT = 16, SHORT = 4, LONG = 36, MAX_BATCH = 256 };

/* A model with its own backend: plumb and the library use different kernels and different packed
 * weights. */
struct side {
    struct plumb_backend *b;
    plumb_model *m;
    plumb_pass *pass;
    plumb_generator *g;
    float *grad;
};

static int32_t ids[TOKENS];
static float dlogp[TOKENS], logp[TOKENS];
static int64_t offset[SEQUENCES + 1], prompt[SEQUENCES];

static void side_create(struct side *s, const struct bench_linear *library)
{
    const struct plumb_pass_limit limit = {
        .max_tokens = TOKENS, .max_seq = SEQUENCES, .max_targets = TOKENS, .train = true};
    BENCH_OK(plumb_backend_cpu_create(&s->b, 1, 1));
    if (library)
        bench_linear_use(s->b, library);
    s->m = bench_model(s->b, "0.1b");
    BENCH_OK(plumb_pass_create(&s->pass, s->m, &limit));
    s->grad = calloc((size_t)s->m->count, sizeof(float));
    if (!s->grad)
        exit(1);
}

static void side_destroy(struct side *s)
{
    free(s->grad);
    plumb_pass_destroy(&s->pass);
    plumb_model_destroy(&s->m);
    plumb_backend_destroy(&s->b);
}

/* Times forward, backward and the packing of the weights on 8 sequences of 256 tokens. These are
 * the parts of a training step that depend on the linear kernels. */
static double train(struct side *s, int64_t unused)
{
    (void)unused;
    const struct plumb_batch batch = {SEQUENCES, ids, offset, prompt};
    const double start = ceiling_now();
    BENCH_OK(plumb_pass_logprob(s->pass, s->m, &batch, logp));
    BENCH_OK(plumb_pass_logprob_backward(s->pass, s->m, dlogp, s->grad));
    BENCH_OK(plumb_model_refresh(s->m));
    return ceiling_now() - start;
}

static plumb_status drop(void *arg, const struct plumb_completion *c)
{
    *(int64_t *)arg += c->n;
    return PLUMB_OK;
}

static double generate(struct side *s, int64_t batch, int64_t tokens)
{
    static int32_t text[MAX_BATCH][PROMPT];
    static struct plumb_request q[MAX_BATCH];
    int64_t got = 0;
    for (int64_t i = 0; i < batch; i++) {
        for (int64_t j = 0; j < PROMPT; j++)
            text[i][j] = (int32_t)((uint32_t)(i * PROMPT + j + 1) * 2654435761u % 32000u);
        q[i] = (struct plumb_request){.ids = text[i], .n = PROMPT, .prompt_id = i, .n_samples = 1};
    }
    const struct plumb_generate_options o = {.sample = {.temperature = 1, .top_p = 1},
                                             .max_new_tokens = tokens,
                                             .seed = 1,
                                             .ignore_eos = true};
    const double start = ceiling_now();
    BENCH_OK(plumb_generate(s->g, s->m, q, batch, &o, drop, &got));
    return ceiling_now() - start;
}

/* Returns the seconds of LONG - SHORT decode steps of `batch` sequences. */
static double decode(struct side *s, int64_t batch)
{
    return generate(s, batch, LONG) - generate(s, batch, SHORT);
}

static void compare(struct side side[2], const char *what, const char *library, int pairs,
                    double (*measure)(struct side *, int64_t), int64_t arg)
{
    static double ours[MAX_PAIRS], theirs[MAX_PAIRS], cost[MAX_PAIRS];
    for (int k = 0; k < 2; k++) {
        if (measure == decode)
            BENCH_OK(plumb_generator_create(
                &side[k].g, side[k].m,
                &(struct plumb_generator_need){.slots = arg, .max_tokens = 128}));
        measure(&side[k], arg);
    }
    for (int i = 0; i < pairs; i++) {
        double t[2];
        for (int k = 0; k < 2; k++)
            t[k ^ (i & 1)] = measure(&side[k ^ (i & 1)], arg);
        ours[i] = t[0], theirs[i] = t[1];
        cost[i] = 100 * (t[0] / t[1] - 1);
    }
    for (int k = 0; k < 2 && measure == decode; k++)
        plumb_generator_destroy(&side[k].g);
    const struct ceiling_spread a = ceiling_spread(ours, pairs), b = ceiling_spread(theirs, pairs);
    const struct ceiling_spread c = ceiling_spread(cost, pairs);
    printf("%-22s ours %8.1f ms (%.1f-%.1f)  %-8s %8.1f ms (%.1f-%.1f)  cost of exactness "
           "%+.1f %% (%+.1f to %+.1f)\n",
           what, 1e3 * a.median, 1e3 * a.least, 1e3 * a.most, library, 1e3 * b.median,
           1e3 * b.least, 1e3 * b.most, c.median, c.least, c.most);
    fflush(stdout);
}

static int wanted(int argc, char **argv, int i, const char *what)
{
    return argc <= i || strcmp(argv[i], "all") == 0 || strcmp(argv[i], what) == 0;
}

int main(int argc, char **argv)
{
    static const int64_t batch[] = {8, 32, 128};
    int pairs = argc > 1 ? atoi(argv[1]) : 5;
    pairs = pairs < 1 ? 1 : pairs > MAX_PAIRS ? MAX_PAIRS : pairs;
    for (int i = 0; i < TOKENS; i++) {
        ids[i] = (int32_t)((uint32_t)(i + 1) * 2654435761u % 32000u);
        dlogp[i] = -1.0f / TOKENS;
    }
    for (int i = 0; i < SEQUENCES; i++) {
        offset[i + 1] = (i + 1) * LENGTH;
        prompt[i] = 1;
    }
    struct side side[2] = {0};
    side_create(&side[0], NULL);
    for (int k = 0; k < BENCH_LIBRARIES; k++) {
        const struct bench_linear *library = &bench_library[k];
        if (!wanted(argc, argv, 2, library->name))
            continue;
        side_create(&side[1], library);
        if (wanted(argc, argv, 3, "train"))
            compare(side, "train, 8 x 256 tokens", library->name, pairs, train, 0);
        for (size_t i = 0; wanted(argc, argv, 3, "decode") && i < sizeof batch / sizeof *batch;
             i++) {
            char what[64];
            snprintf(what, sizeof what, "decode %d, batch %lld", LONG - SHORT, (long long)batch[i]);
            compare(side, what, library->name, pairs, decode, batch[i]);
        }
        side_destroy(&side[1]);
    }
    side_destroy(&side[0]);
    return 0;
}
