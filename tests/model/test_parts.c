/* test_parts.c - checks that every backward writes each part of the trained vector to the place
 * that the caller chooses, and nothing else. The parts are in separate buffers; their bits must be
 * those of a gradient in one vector.
 * Test. Includes harness.h, model/adapter.h. Covers src/model/trained.c, pass.c, head.c. */
#include <stdlib.h>

#include "harness.h"
#include "model/adapter.h"

enum { SEQS = 3, TOKENS = 24, MOST_PARTS = 16 };

static const char *const fixtures[] = {"llama_gqa_tied",
                                       "llama_odd_untied",
                                       "llama_bias",
                                       "llama_score1",
                                       "gpt2",
                                       "gpt2_layers",
                                       "gpt2_score",
                                       "gpt_neox",
                                       "gpt_neox_score",
                                       "gemma2",
                                       "gemma3_score",
                                       "olmo2",
                                       "phi3_short",
                                       "qwen2_score3",
                                       "qwen3_norm",
                                       "ministral_mixed",
                                       "granite",
                                       "smollm3",
                                       "smollm3_score",
                                       "exaone4",
                                       "glm4"};

struct parts {
    const plumb_model *m;
    int64_t n, final; /* the backward has declared the elements [final, count) final */
    float *part[MOST_PARTS];
    bool asked[MOST_PARTS];
};

static int64_t size_of(const struct parts *p, int64_t i)
{
    return plumb_model_part(p->m, i + 1) - plumb_model_part(p->m, i);
}

static plumb_status place(void *arg, float **grad, int64_t begin, int64_t end)
{
    struct parts *p = arg;
    for (int64_t i = 0; i < p->n; i++)
        if (plumb_model_part(p->m, i) == begin && size_of(p, i) == end - begin) {
            CHECK(end <= p->final); /* a part must not be written after it was declared final */
            CHECK(!p->asked[i] || (i == 0 && plumb_model_tied(p->m)) || i == p->n - 1);
            p->asked[i] = true;
            *grad = (float *)((uintptr_t)p->part[i] - (uintptr_t)(begin * 4));
            return PLUMB_OK;
        }
    CHECKF(false, "no part is [%lld, %lld)", (long long)begin, (long long)end);
    return PLUMB_OK;
}

static plumb_status final(void *arg, int64_t from)
{
    struct parts *p = arg;
    CHECK(from <= p->final);
    p->final = from;
    return PLUMB_OK;
}

/* Runs one forward and one backward. grad is NULL if the gradient is written to the parts. */
static void backward(plumb_pass *pass, const plumb_model *m, float *grad)
{
    int32_t ids[TOKENS];
    int64_t offset[SEQS + 1] = {0, 7, 15, TOKENS}, prompt[SEQS] = {2, 1, 4};
    float logp[TOKENS], dlogp[TOKENS], score[SEQS * 4], dscore[SEQS * 4];
    struct rng r = {77};
    for (int i = 0; i < TOKENS; i++) {
        ids[i] = (int32_t)(rng_u(&r) * (double)m->spec.v);
        dlogp[i] = rng_f(&r, -1, 1);
    }
    for (int i = 0; i < SEQS * 4; i++)
        dscore[i] = rng_f(&r, -1, 1);
    const struct plumb_batch b = {SEQS, ids, offset, prompt};
    if (m->spec.labels > 0) {
        CHECK_OK(plumb_pass_score(pass, m, &b, score));
        CHECK_OK(plumb_pass_score_backward(pass, m, dscore, grad));
    } else {
        CHECK_OK(plumb_pass_logprob(pass, m, &b, logp));
        CHECK_OK(plumb_pass_logprob_backward(pass, m, dlogp, grad));
    }
}

static void check(const plumb_model *m, const char *name, bool recompute)
{
    const struct plumb_pass_limit limit = {
        .max_tokens = TOKENS, .max_seq = SEQS, .train = true, .recompute = recompute};
    const int64_t count = plumb_model_trained(m).count;
    struct parts p = {.m = m, .n = plumb_model_parts(m), .final = count};
    plumb_pass *pass;
    float *whole = calloc((size_t)count, sizeof(*whole));
    CHECK(whole && p.n <= MOST_PARTS && plumb_model_part(m, 0) == 0);
    CHECK(plumb_model_part(m, p.n) == count);
    CHECK_OK(plumb_pass_create(&pass, m, &limit));
    backward(pass, m, whole);
    for (int64_t i = 0; i < p.n; i++) {
        CHECK(size_of(&p, i) >= 0 && plumb_model_part(m, i) % PLUMB_PARAM_ALIGN == 0);
        p.part[i] = calloc((size_t)size_of(&p, i) + 1, sizeof(float));
        CHECK(p.part[i]);
    }
    plumb_pass_on_place(pass, place, &p);
    plumb_pass_on_final(pass, final, &p);
    backward(pass, m, NULL);
    CHECK(p.final == plumb_model_part(m, 1));
    for (int64_t i = 0; i < p.n; i++) {
        CHECKF(!memcmp(p.part[i], whole + plumb_model_part(m, i), (size_t)size_of(&p, i) * 4),
               "%s: part %lld of %lld", name, (long long)i, (long long)p.n);
        free(p.part[i]);
    }
    plumb_pass_destroy(&pass);
    free(whole);
}

int main(void)
{
    const char *root = getenv("PLUMB_SOURCE_ROOT");
    struct plumb_backend *b;
    CHECK_OK(plumb_backend_cpu_create(&b, 1, 1));
    for (size_t i = 0; i < sizeof(fixtures) / sizeof(fixtures[0]); i++) {
        char dir[600];
        plumb_model *m;
        snprintf(dir, sizeof(dir), "%s/tests/fixtures/model/%s", root ? root : ".", fixtures[i]);
        CHECK_OK(plumb_model_open(&m, b, dir));
        check(m, fixtures[i], i % 2);
        struct plumb_lora lora = {.r = 2, .alpha = 4};
        CHECK_OK(plumb_lora_set_targets(&lora, NULL, 0, "test"));
        if (!strncmp(fixtures[i], "llama", 5)) {
            CHECK_OK(plumb_adapter_create(m, &lora, 5));
            check(m, fixtures[i], i % 2 == 0);
        }
        plumb_model_destroy(&m);
    }
    plumb_backend_destroy(&b);
    return 0;
}
