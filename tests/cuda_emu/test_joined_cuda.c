/* test_joined_cuda.c - checks LoRA adapters on projections that bfloat16 computes as one product
 * (joined). For each choice of target modules, log-probs and gradients must agree with float32,
 * which computes each projection separately.
 * Test. Includes gpu.h, model/adapter.h. Covers src/model/project.c, lora.c. */
#include <stdlib.h>

#include "gpu.h"
#include "model/adapter.h"

enum { SEQS = 3, TOKENS = 40 };

/* Largest allowed |gradient in bfloat16 - gradient in float32|, relative to the norm of the latter.
 * A fault that uses the columns of a wrong projection gives about 1. On the emulator, at most 0.083
 * was measured, for the matrices of k_proj, whose gradients pass through a softmax that nearly
 * cancels them; at most 0.044 elsewhere. */
#define AWAY 0.17

/* llama_rope_llama3 joins q, k, v and joins gate, up. phi3_short joins q, k, v, which are one
 * module there. */
static const struct {
    const char *fixture, *target[3];
} list[] = {{"llama_rope_llama3", {"q_proj"}},
            {"llama_rope_llama3", {"k_proj", "v_proj"}},
            {"llama_rope_llama3", {"gate_proj"}},
            {"llama_rope_llama3", {"up_proj", "down_proj", "o_proj"}},
            {"llama_rope_llama3", {"all-linear"}},
            {"phi3_short", {"qkv_proj", "o_proj"}}};

/* Log-probs, and the gradient of the adapter, from one backend. */
struct result {
    float logp[TOKENS], *grad;
    struct plumb_trained trained; /* its param points into the model */
};

/* Adds an adapter for these target modules to m, and sets it to random values that are the same in
 * every call. */
static void adapt(plumb_model *m, const char *const *target)
{
    struct plumb_lora lora = {.r = 3, .alpha = 6};
    struct rng r = {4711};
    int64_t n = 0;
    while (n < 3 && target[n])
        n++;
    CHECK_OK(plumb_lora_set_targets(&lora, target, n, "test"));
    CHECK_OK(plumb_adapter_create(m, &lora, 5));
    const struct plumb_trained t = plumb_model_trained(m);
    float *w = calloc((size_t)t.count, sizeof(*w));
    CHECK(w);
    for (int64_t i = 0; i < t.n_param; i++)
        for (int64_t k = 0; k < t.param[i].count; k++)
            w[t.param[i].offset + k] = rng_f(&r, -0.3f, 0.3f);
    CHECK_OK(m->backend->to_device(m->backend, t.w, w, t.count * (int64_t)sizeof(*w)));
    CHECK_OK(plumb_model_refresh(m));
    free(w);
}

static void compute(struct result *out, const plumb_model *m)
{
    const struct plumb_pass_limit limit = {.max_tokens = TOKENS, .max_seq = SEQS, .train = true};
    const int64_t offset[SEQS + 1] = {0, 7, 15, TOKENS}, prompt[SEQS] = {2, 1, 4};
    struct plumb_backend *b = m->backend;
    int32_t ids[TOKENS];
    float dlogp[TOKENS];
    struct rng r = {77};
    plumb_pass *p;
    void *grad;
    for (int i = 0; i < TOKENS; i++) {
        ids[i] = (int32_t)(rng_u(&r) * (double)m->spec.v);
        dlogp[i] = rng_f(&r, -1, 1);
    }
    out->trained = plumb_model_trained(m);
    const int64_t bytes = out->trained.count * (int64_t)sizeof(float);
    const struct plumb_batch batch = {SEQS, ids, offset, prompt};
    out->grad = malloc((size_t)bytes);
    CHECK(out->grad);
    CHECK_OK(b->alloc(b, &grad, bytes, "gradient"));
    CHECK_OK(b->zero(b, grad, bytes));
    CHECK_OK(plumb_pass_create(&p, m, &limit));
    CHECK_OK(plumb_pass_logprob(p, m, &batch, out->logp));
    CHECK_OK(plumb_pass_logprob_backward(p, m, dlogp, grad));
    CHECK_OK(b->to_host(b, out->grad, grad, bytes));
    plumb_pass_destroy(&p);
    b->release(b, grad);
}

/* Returns |a - b| / |b|. */
static double away(const float *a, const float *b, int64_t n)
{
    double error = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        error += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return sqrt(error / norm);
}

static void check(size_t i, const char *root)
{
    static const enum plumb_dtype dtype[] = {PLUMB_F32, PLUMB_BF16};
    struct plumb_backend *b[2];
    plumb_model *m[2];
    struct result r[2];
    char dir[600];
    snprintf(dir, sizeof(dir), "%s/tests/fixtures/model/%s", root, list[i].fixture);
    for (int k = 0; k < 2; k++) {
        CHECK_OK(plumb_backend_cuda_create(&b[k], 0));
        CHECK_OK(plumb_backend_set_dtype(b[k], dtype[k]));
        CHECK_OK(plumb_model_open(&m[k], b[k], dir));
        CHECK_OK(plumb_model_set_longest(m[k], TOKENS, NULL));
        adapt(m[k], list[i].target);
        compute(&r[k], m[k]);
    }
    const struct plumb_joined none = plumb_joined_of(b[0], &m[0]->spec);
    CHECK(!none.qkv && !none.gate_up && plumb_joined_of(b[1], &m[1]->spec).qkv);
    const int64_t n = TOKENS - 7; /* number of log-probs: the 7 tokens of the prompts have none */
    CHECKF(away(r[1].logp, r[0].logp, n) < 0.01, "%s, %s: log-probs are off by %g", list[i].fixture,
           list[i].target[0], away(r[1].logp, r[0].logp, n));
    double most = 0;
    for (int64_t k = 0; k < r[0].trained.n_param; k++) {
        const struct plumb_param *q = &r[0].trained.param[k];
        const double off = away(r[1].grad + q->offset, r[0].grad + q->offset, q->count);
        CHECKF(off < AWAY, "%s, %s: the gradient of %s is off by %g", list[i].fixture,
               list[i].target[0], q->name, off);
        most = fmax(most, off);
    }
    printf("%s, %s: gradients are off by at most %.3f\n", list[i].fixture, list[i].target[0], most);
    for (int k = 0; k < 2; k++) {
        free(r[k].grad);
        plumb_model_destroy(&m[k]);
        plumb_backend_destroy(&b[k]);
    }
}

int main(void)
{
    const char *root = getenv("PLUMB_SOURCE_ROOT");
    skip_without_gpu();
    for (size_t i = 0; i < sizeof(list) / sizeof(*list); i++)
        check(i, root ? root : ".");
    return 0;
}
