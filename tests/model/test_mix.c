/* test_mix.c - checks the log-probs under mixed logits of two models: against the mixture of both
 * models' logits, computed in double; that they do not depend on head_rows; and against the
 * log-probs of one model, if the mixture consists of this model only.
 * Test. Includes harness.h, model/. */
#include "model/mix.h"

#include <string.h>

#include "harness.h"

enum { SEQ = 4, TOKENS = 40 };

static struct plumb_backend *backend;
static double near_enough; /* largest allowed difference of a log-prob, in nats */

/* tests/cuda_emu builds this file a second time, for the CUDA backend. */
#ifdef PLUMB_TEST_CUDA
#include "cuda_emu/gpu.h"
enum { BACKENDS = 2 };
static void create(int which)
{
    CHECK_OK(plumb_backend_cuda_create(&backend, 0));
    if (which)
        CHECK_OK(plumb_backend_set_dtype(backend, PLUMB_BF16));
    near_enough = which ? 0.04 : 2e-5; /* bfloat16 rounds the scaled logits; 0.015 was measured */
}
#else
enum { BACKENDS = 1 };
static void create(int which)
{
    (void)which;
    CHECK_OK(plumb_backend_cpu_create(&backend, 2, 1));
    near_enough = 2e-5; /* float32 logits of up to 10, multiplied by up to 1 + far = 3 */
}
#endif

struct bench {
    plumb_model *a, *b;
    int32_t ids[TOKENS];
    int64_t offset[SEQ + 1], prompt[SEQ];
    struct plumb_batch batch;
    int64_t targets;
};

static void open_bench(struct bench *x, const char *fixture)
{
    char path[600];
    const char *root = getenv("PLUMB_SOURCE_ROOT");
    snprintf(path, sizeof(path), "%s/tests/fixtures/model/%s", root ? root : ".", fixture);
    memset(x, 0, sizeof(*x));
    CHECK_OK(plumb_model_open(&x->a, backend, path));
    CHECK_OK(plumb_model_create(&x->b, backend, path, 7));
    const int64_t offset[SEQ + 1] = {0, 9, 11, 26, TOKENS}, prompt[SEQ] = {3, 1, 15, 1};
    memcpy(x->offset, offset, sizeof(offset));
    memcpy(x->prompt, prompt, sizeof(prompt));
    for (int64_t i = 0; i < TOKENS; i++)
        x->ids[i] = (int32_t)((i * 37 + 11) % x->a->spec.v);
    x->batch = (struct plumb_batch){
        .n_seq = SEQ, .ids = x->ids, .offset = x->offset, .prompt_tokens = x->prompt};
    x->targets = plumb_batch_targets(&x->batch);
}

static plumb_pass *pass_of(const struct bench *x, int64_t head_rows, bool train)
{
    plumb_pass *p;
    const struct plumb_pass_limit limit = {
        .max_tokens = TOKENS, .max_seq = SEQ, .head_rows = head_rows, .train = train};
    CHECK_OK(plumb_pass_create(&p, x->a, &limit));
    return p;
}

/* Sets want (targets,) to the log-probs under the logits (1 + far) a - far b, computed in double
 * from whole rows of logits. */
static void mixture(const struct bench *x, double far, double *want)
{
    const int64_t v = x->a->spec.v;
    float *z = calloc((size_t)(2 * TOKENS * v), sizeof(*z));
    plumb_pass *p = pass_of(x, 0, false);
    CHECK_OK(plumb_pass_logits(p, x->a, &x->batch, z));
    CHECK_OK(plumb_pass_logits(p, x->b, &x->batch, z + TOKENS * v));
    for (int64_t q = 0; q < SEQ; q++)
        for (int64_t i = x->offset[q] + x->prompt[q]; i < x->offset[q + 1]; i++) {
            const float *a = z + (i - 1) * v, *b = a + TOKENS * v;
            double sum = 0;
            for (int64_t j = 0; j < v; j++)
                sum += exp((1 + far) * (double)a[j] - far * (double)b[j]);
            *want++ = (1 + far) * (double)a[x->ids[i]] - far * (double)b[x->ids[i]] - log(sum);
        }
    plumb_pass_destroy(&p);
    free(z);
}

static void check_values(const struct bench *x, const char *name)
{
    const int64_t rows[] = {2, 3, 7, 512};
    const double fars[] = {0.125, 0.25, 0.5, 2};
    float first[TOKENS], logp[TOKENS];
    double want[TOKENS];
    struct plumb_mix mix;
    CHECK_OK(plumb_mix_init(&mix, x->a, TOKENS));
    for (size_t f = 0; f < sizeof(fars) / sizeof(fars[0]); f++) {
        mixture(x, fars[f], want);
        for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
            plumb_pass *p = pass_of(x, rows[r], r % 2);
            CHECK_OK(plumb_pass_mixed_logprob(p, &mix, x->a, x->b, fars[f], &x->batch, logp));
            for (int64_t j = 0; j < x->targets; j++)
                CHECKF(fabs((double)logp[j] - want[j]) < near_enough,
                       "%s far %g token %lld: %g, want %g", name, fars[f], (long long)j,
                       (double)logp[j], want[j]);
            if (r == 0)
                memcpy(first, logp, sizeof(first));
            CHECK(memcmp(first, logp, (size_t)x->targets * sizeof(*logp)) == 0);
            plumb_pass_destroy(&p);
        }
    }
    plumb_mix_fini(&mix);
}

static void check_limits(const struct bench *x)
{
    float logp[TOKENS], alone[TOKENS];
    struct plumb_mix mix;
    plumb_pass *p = pass_of(x, 6, true), *thin = pass_of(x, 1, false);
    CHECK_OK(plumb_mix_init(&mix, x->a, TOKENS));
    CHECK_OK(plumb_pass_logprob(p, x->a, &x->batch, alone));
    CHECK_OK(plumb_pass_mixed_logprob(p, &mix, x->a, x->b, 0, &x->batch, logp));
    CHECK(memcmp(logp, alone, (size_t)x->targets * sizeof(*logp)) == 0);
    CHECK_OK(plumb_pass_mixed_logprob(p, &mix, x->a, x->a, 0.5, &x->batch, logp));
    for (int64_t j = 0; j < x->targets; j++)
        CHECK(fabs((double)(logp[j] - alone[j])) < near_enough);
    float *grad = calloc((size_t)x->a->count, sizeof(*grad));
    CHECK(plumb_pass_logprob_backward(p, x->a, logp, grad) == PLUMB_ERR_ARG);
    free(grad);
    CHECK(plumb_pass_mixed_logprob(thin, &mix, x->a, x->b, 0.5, &x->batch, logp) == PLUMB_ERR_ARG);
    CHECK(strstr(plumb_trail_message(), "head_rows"));
    plumb_mix_fini(&mix);
    CHECK_OK(plumb_mix_init(&mix, x->a, x->targets - 1));
    CHECK(plumb_pass_mixed_logprob(p, &mix, x->a, x->b, 0.5, &x->batch, logp) == PLUMB_ERR_SHAPE);
    plumb_mix_fini(&mix);
    plumb_pass_destroy(&p);
    plumb_pass_destroy(&thin);
}

int main(void)
{
    enum { EACH = 3 };
    const char *const fixtures[][EACH] = {
        /* a model with tied embeddings, one with untied embeddings, one with a soft cap */
        {"llama_gqa_tied", "llama_odd_untied", "gemma2"},
        {"llama_gqa_tied", "qwen3_norm", "gemma2"}};
#ifdef PLUMB_TEST_CUDA
    skip_without_gpu();
#endif
    for (int i = 0; i < EACH * BACKENDS; i++) {
        struct bench x;
        create(i / EACH);
        open_bench(&x, fixtures[i / EACH][i % EACH]);
        check_values(&x, fixtures[i / EACH][i % EACH]);
        check_limits(&x);
        plumb_model_destroy(&x.a);
        plumb_model_destroy(&x.b);
        plumb_backend_destroy(&backend);
    }
    return 0;
}
