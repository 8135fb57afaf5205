/* test_torch.c - compares kernels and their gradients with torch in float64: those of ref (the
 * reference implementation, kernels/ref) and of every CPU table. tests/reference/kernel_fixtures.py
 * makes the expected numbers. Test. Includes torch_golden.h. */
#include "harness.h"

#include <string.h>

#include "base/pool.h"
#include "kernels.h"
#include "torch_golden.h"

#define COUNT(x) ((int64_t)(sizeof(x) / sizeof(*(x))))

struct subject {
    const char *name;
    struct plumb_kernels k;
    plumb_stream *s;
};

/* Checks that every |got - want| is at most 2e-6 times the largest |want|. */
static void close_to(const struct subject *t, const char *what, const float *got, const float *want,
                     int64_t n)
{
    double largest = 0;
    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, fabs((double)want[i]));
    for (int64_t i = 0; i < n; i++)
        CHECKF(fabs((double)got[i] - want[i]) <= 2e-6 * largest,
               "%s: %s[%lld] is %.9g, torch has %.9g", t->name, what, (long long)i, (double)got[i],
               (double)want[i]);
}
#define CLOSE(what, got, want) close_to(t, (what), (got), (want), COUNT(want))

static void check_act(const struct subject *t, enum plumb_activation act, const char *name,
                      const float *gate, const float *up, const float *y, const float *dy,
                      const float *dgate, const float *dup)
{
    enum { N = 24 };
    float got[N], got_gate[N], got_up[N], ones[N];
    CHECK_OK(t->k.act_fwd(t->s, got, gate, up, N, act));
    close_to(t, name, got, y, N);
    CHECK_OK(t->k.act_bwd(t->s, got_gate, got_up, dy, gate, up, N, act));
    close_to(t, name, got_gate, dgate, N);
    close_to(t, name, got_up, dup, N);
    /* An activation without gate is the gated one with a factor of 1. */
    for (int i = 0; i < N; i++)
        ones[i] = 1.0f;
    float plain[N], plain_gate[N];
    CHECK_OK(t->k.act_fwd(t->s, got, gate, ones, N, act));
    CHECK_OK(t->k.act_fwd(t->s, plain, gate, NULL, N, act));
    CHECK(memcmp(plain, got, sizeof(plain)) == 0);
    CHECK_OK(t->k.act_bwd(t->s, got_gate, got_up, dy, gate, ones, N, act));
    CHECK_OK(t->k.act_bwd(t->s, plain_gate, NULL, dy, gate, NULL, N, act));
    CHECK(memcmp(plain_gate, got_gate, sizeof(plain_gate)) == 0);
}
#define ACT(kind, name)                                                                            \
    check_act(t, kind, #name, torch_##name##_gate, torch_##name##_up, torch_##name##_y,            \
              torch_##name##_dy, torch_##name##_dgate, torch_##name##_dup)

static void check_rmsnorm(const struct subject *t)
{
    float y[T_ROWS * T_WIDTH], rstd[T_ROWS], dx[T_ROWS * T_WIDTH] = {0}, dw[T_WIDTH] = {0};
    CHECK_OK(t->k.rmsnorm_fwd(t->s, y, rstd, torch_rmsnorm_x, torch_rmsnorm_w, T_ROWS, T_WIDTH,
                              1e-3f, 1.0f));
    CLOSE("rmsnorm y", y, torch_rmsnorm_y);
    CHECK_OK(t->k.rmsnorm_bwd(t->s, dx, dw, torch_rmsnorm_dy, torch_rmsnorm_x, torch_rmsnorm_w,
                              rstd, T_ROWS, T_WIDTH, 1.0f));
    CLOSE("rmsnorm dx", dx, torch_rmsnorm_dx);
    CLOSE("rmsnorm dw", dw, torch_rmsnorm_dw);
}

static void check_layernorm(const struct subject *t)
{
    float y[T_ROWS * T_WIDTH], mean[T_ROWS], rstd[T_ROWS];
    float dx[T_ROWS * T_WIDTH] = {0}, dw[T_WIDTH] = {0}, dbias[T_WIDTH] = {0};
    CHECK_OK(t->k.layernorm_fwd(t->s, y, mean, rstd, torch_layernorm_x, torch_layernorm_w,
                                torch_layernorm_bias, T_ROWS, T_WIDTH, 1e-3f));
    CLOSE("layernorm y", y, torch_layernorm_y);
    CHECK_OK(t->k.layernorm_bwd(t->s, dx, dw, dbias, torch_layernorm_dy, torch_layernorm_x,
                                torch_layernorm_w, mean, rstd, T_ROWS, T_WIDTH));
    CLOSE("layernorm dx", dx, torch_layernorm_dx);
    CLOSE("layernorm dw", dw, torch_layernorm_dw);
    CLOSE("layernorm dbias", dbias, torch_layernorm_dbias);
}

static void check_rope(const struct subject *t)
{
    float x[COUNT(torch_rope_x)], dx[COUNT(torch_rope_dy)];
    int32_t pos[T_ROWS];
    for (int i = 0; i < T_ROWS; i++)
        pos[i] = i;
    memcpy(x, torch_rope_x, sizeof(x));
    memcpy(dx, torch_rope_dy, sizeof(dx));
    CHECK_OK(t->k.rope_fwd(t->s, x, torch_rope_table, pos, T_ROWS, T_HEADS, T_HEAD, T_ROTATED));
    CLOSE("rope x", x, torch_rope_y);
    CHECK_OK(t->k.rope_bwd(t->s, dx, torch_rope_table, pos, T_ROWS, T_HEADS, T_HEAD, T_ROTATED));
    CLOSE("rope dx", dx, torch_rope_dx);
}

static void check_attention(const struct subject *t)
{
    enum {
        PAGES = (T_SEEN - 1) / PLUMB_KV_PAGE + 1,
        KV = PAGES * PLUMB_KV_PAGE * T_KV_HEADS * T_HEAD
    };
    const struct plumb_attn_shape shape = {T_HEADS, T_KV_HEADS, T_HEAD, T_SCALE, T_CAP, T_WINDOW};
    int32_t seq[T_SEEN] = {0}, pos[T_SEEN], page[PAGES];
    float kc[KV], vc[KV], o[COUNT(torch_attention_y)], lse[COUNT(torch_attention_lse)];
    float dq[COUNT(torch_attention_dq)], dk[COUNT(torch_attention_dk)];
    float dv[COUNT(torch_attention_dv)];
    for (int i = 0; i < T_SEEN; i++)
        pos[i] = i;
    for (int i = 0; i < PAGES; i++)
        page[i] = i;
    const struct plumb_rows rows = {T_SEEN, 1, PAGES, seq, pos, page, 1};
    float *work =
        malloc((size_t)(t->k.attention_work_count(T_SEEN, &shape, 1) + 1) * sizeof(*work));
    CHECK(work);
    CHECK_OK(t->k.kv_write_fwd(t->s, kc, vc, torch_attention_k, torch_attention_v, &rows,
                               T_KV_HEADS, T_HEAD));
    CHECK_OK(t->k.attention_fwd(t->s, o, lse, torch_attention_q, kc, vc, &rows, &shape));
    CLOSE("attention o", o, torch_attention_y);
    CLOSE("attention lse", lse, torch_attention_lse);
    CHECK_OK(t->k.attention_bwd(t->s, dq, dk, dv, torch_attention_dy, o, lse, torch_attention_q, kc,
                                vc, work, &rows, &shape));
    CLOSE("attention dq", dq, torch_attention_dq);
    CLOSE("attention dk", dk, torch_attention_dk);
    CLOSE("attention dv", dv, torch_attention_dv);
    free(work);
}

static void check_logprob(const struct subject *t)
{
    float z[T_ROWS * T_VOCAB], logp[T_ROWS], lse[T_ROWS];
    memcpy(z, torch_logprob_z, sizeof(z));
    CHECK_OK(t->k.softcap_fwd(t->s, z, T_ROWS * T_VOCAB, T_LOGIT_CAP));
    CLOSE("capped logits", z, torch_capped);
    CHECK_OK(t->k.logprob_fwd(t->s, logp, lse, z, torch_target, T_ROWS, T_VOCAB));
    CLOSE("logprob", logp, torch_logprob_y);
    CHECK_OK(t->k.logprob_bwd(t->s, z, z, lse, torch_target, torch_logprob_dy, T_ROWS, T_VOCAB,
                              T_LOGIT_CAP));
    CLOSE("logprob dz", z, torch_logprob_dz);
}

static void check(const struct subject *t)
{
    ACT(PLUMB_ACT_SILU, silu);
    ACT(PLUMB_ACT_GELU, gelu);
    ACT(PLUMB_ACT_GELU_TANH, gelu_tanh);
    check_rmsnorm(t);
    check_layernorm(t);
    check_rope(t);
    check_attention(t);
    check_logprob(t);
    printf("%s\n", t->name);
}

int main(void)
{
    plumb_pool *pool = NULL;
    struct subject t = {.name = "ref"};
    plumb_kernels_init_ref(&t.k);
    check(&t);
    CHECK_OK(plumb_pool_create(&pool, 1));
    t.s = (plumb_stream *)(void *)pool;
    for (int i = 0; plumb_kernels_isa[i]; i++) {
        t.name = plumb_kernels_isa[i];
        if (plumb_kernels_init_isa(&t.k, t.name))
            check(&t);
    }
    plumb_pool_destroy(&pool);
    return 0;
}
