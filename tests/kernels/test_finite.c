/* test_finite.c - compares every backward kernel of ref (the reference implementation, kernels/ref)
 * with finite differences of its forward kernel. Test. */
#include "harness.h"

#include <string.h>

#include "kernels.h"

enum { PAGE = PLUMB_KV_PAGE, MOST = 4096 };

/* Data of a scalar function L of one input array: L is the sum of coef * output of a forward
 * kernel. */
struct problem {
    struct plumb_kernels k;
    struct rng r;
    float coef[MOST]; /* derivatives of L by the outputs */
    const void *arg;
};
typedef double loss_fn(const struct problem *p);

static double weigh(const struct problem *p, const float *y, int64_t n)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)p->coef[i] * y[i];
    return sum;
}

static void random_fill(struct problem *p, float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = rng_f(&p->r, -1.0f, 1.0f);
}

/* Compares grad with the fourth-order central difference of the loss in x. The step is large,
 * because outputs are float: the rounding error is about 1e-7 / step, the truncation error about
 * step^4. */
static void compare(const struct problem *p, const char *what, loss_fn *loss, float *x,
                    const float *grad, int64_t n)
{
    double largest = 1e-2;
    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, fabs((double)grad[i]));
    for (int64_t i = 0; i < n; i++) {
        static const double at[4] = {-2, -1, 1, 2}, factor[4] = {1, -8, 8, -1};
        const float x0 = x[i], step = 0.03125f;
        double d = 0.0;
        for (int j = 0; j < 4; j++) {
            x[i] = x0 + (float)at[j] * step;
            d += factor[j] * loss(p);
        }
        x[i] = x0;
        d /= 12.0 * (double)step;
        CHECKF(fabs(d - (double)grad[i]) <= 2e-4 * largest,
               "%s: gradient %lld is %.8g, differences give %.8g (largest %.3g)", what,
               (long long)i, (double)grad[i], d, largest);
    }
    printf("%s\n", what);
}

/* Subtracts from x the values that it had before a kernel added its gradient to x. */
static void subtract(float *x, const float *before, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] -= before[i];
}

struct norm {
    float x[5 * 9], w[9], shift;
};
static double norm_loss(const struct problem *p)
{
    const struct norm *a = p->arg;
    float y[45], rstd[5];
    CHECK_OK(p->k.rmsnorm_fwd(NULL, y, rstd, a->x, a->w, 5, 9, 1e-2f, a->shift));
    return weigh(p, y, 45);
}
static void test_rmsnorm(struct problem *p, float shift)
{
    struct norm a = {.shift = shift};
    float y[45], rstd[5], dx[45], dw[9], dx0[45], dw0[9];
    p->arg = &a;
    random_fill(p, a.x, 45);
    random_fill(p, a.w, 9);
    random_fill(p, p->coef, 45);
    random_fill(p, dx0, 45);
    random_fill(p, dw0, 9);
    memcpy(dx, dx0, sizeof(dx));
    memcpy(dw, dw0, sizeof(dw));
    CHECK_OK(p->k.rmsnorm_fwd(NULL, y, rstd, a.x, a.w, 5, 9, 1e-2f, shift));
    CHECK_OK(p->k.rmsnorm_bwd(NULL, dx, dw, p->coef, a.x, a.w, rstd, 5, 9, shift));
    subtract(dx, dx0, 45);
    subtract(dw, dw0, 9);
    compare(p, "rmsnorm dx", norm_loss, a.x, dx, 45);
    compare(p, "rmsnorm dw", norm_loss, a.w, dw, 9);
}

struct layer_norm {
    float x[5 * 9], w[9], bias[9];
};
static double layer_norm_loss(const struct problem *p)
{
    const struct layer_norm *a = p->arg;
    float y[45], mean[5], rstd[5];
    CHECK_OK(p->k.layernorm_fwd(NULL, y, mean, rstd, a->x, a->w, a->bias, 5, 9, 1e-2f));
    return weigh(p, y, 45);
}
static void test_layernorm(struct problem *p)
{
    struct layer_norm a;
    float y[45], mean[5], rstd[5], dx[45], dw[9], dbias[9], dx0[45], dw0[9], dbias0[9];
    p->arg = &a;
    random_fill(p, a.x, 45);
    random_fill(p, a.w, 9);
    random_fill(p, a.bias, 9);
    random_fill(p, p->coef, 45);
    random_fill(p, dx0, 45);
    random_fill(p, dw0, 9);
    random_fill(p, dbias0, 9);
    memcpy(dx, dx0, sizeof(dx));
    memcpy(dw, dw0, sizeof(dw));
    memcpy(dbias, dbias0, sizeof(dbias));
    CHECK_OK(p->k.layernorm_fwd(NULL, y, mean, rstd, a.x, a.w, a.bias, 5, 9, 1e-2f));
    CHECK_OK(p->k.layernorm_bwd(NULL, dx, dw, dbias, p->coef, a.x, a.w, mean, rstd, 5, 9));
    subtract(dx, dx0, 45);
    subtract(dw, dw0, 9);
    subtract(dbias, dbias0, 9);
    compare(p, "layernorm dx", layer_norm_loss, a.x, dx, 45);
    compare(p, "layernorm dw", layer_norm_loss, a.w, dw, 9);
    compare(p, "layernorm dbias", layer_norm_loss, a.bias, dbias, 9);
}

struct rope {
    float x[3 * 2 * 6], table[8 * 6];
    int32_t pos[3];
    int64_t r;
};
static double rope_loss(const struct problem *p)
{
    const struct rope *a = p->arg;
    float y[36];
    memcpy(y, a->x, sizeof(y));
    CHECK_OK(p->k.rope_fwd(NULL, y, a->table, a->pos, 3, 2, 6, a->r));
    return weigh(p, y, 36);
}
static void test_rope(struct problem *p, int64_t r)
{
    struct rope a = {.pos = {0, 7, 3}, .r = r};
    float dx[36];
    p->arg = &a;
    random_fill(p, a.x, 36);
    random_fill(p, a.table, 48);
    random_fill(p, p->coef, 36);
    memcpy(dx, p->coef, sizeof(dx));
    CHECK_OK(p->k.rope_bwd(NULL, dx, a.table, a.pos, 3, 2, 6, r));
    compare(p, "rope dx", rope_loss, a.x, dx, 36);
}

struct glu {
    float gate[20], up[20];
    enum plumb_activation act;
    bool gated;
};
static double glu_loss(const struct problem *p)
{
    const struct glu *a = p->arg;
    float y[20];
    CHECK_OK(p->k.act_fwd(NULL, y, a->gate, a->gated ? a->up : NULL, 20, a->act));
    return weigh(p, y, 20);
}
static void test_act(struct problem *p)
{
    static const char *const name[] = {"silu dgate", "gelu dgate", "gelu_tanh dgate"};
    for (int kind = PLUMB_ACT_SILU; kind <= PLUMB_ACT_GELU_TANH; kind++)
        for (int gated = 0; gated < 2; gated++) {
            struct glu a = {.act = (enum plumb_activation)kind, .gated = gated};
            float dgate[20], dup[20];
            p->arg = &a;
            random_fill(p, a.gate, 20);
            for (int i = 0; i < 20; i++)
                a.gate[i] *= 3.0f;
            random_fill(p, a.up, 20);
            random_fill(p, p->coef, 20);
            CHECK_OK(p->k.act_bwd(NULL, dgate, gated ? dup : NULL, p->coef, a.gate,
                                  gated ? a.up : NULL, 20, a.act));
            compare(p, name[kind], glu_loss, a.gate, dgate, 20);
            if (gated)
                compare(p, "dup", glu_loss, a.up, dup, 20);
        }
}

struct linear {
    float x[4 * 5], w[6 * 5], bias[6];
};
static double linear_loss(const struct problem *p)
{
    const struct linear *a = p->arg;
    float y[24], packed[MOST];
    CHECK(p->k.linear_packed_count(6, 5) <= MOST);
    CHECK_OK(p->k.linear_pack(NULL, packed, a->w, 6, 5));
    CHECK_OK(p->k.linear_fwd(NULL, y, a->x, packed, a->bias, 4, 6, 5));
    return weigh(p, y, 24);
}
static void test_linear(struct problem *p)
{
    struct linear a;
    float dx[20], dw[30] = {0}, dbias[6] = {0}, work[MOST];
    p->arg = &a;
    random_fill(p, a.x, 20);
    random_fill(p, a.w, 30);
    random_fill(p, a.bias, 6);
    random_fill(p, p->coef, 24);
    CHECK(p->k.linear_work_count(4, 6, 5, 1) <= MOST);
    CHECK_OK(p->k.linear_bwd_x(NULL, dx, p->coef, a.w, work, 4, 6, 5, 0));
    CHECK_OK(p->k.linear_bwd_w(NULL, dw, dbias, p->coef, a.x, work, 4, 6, 5));
    compare(p, "linear dx", linear_loss, a.x, dx, 20);
    compare(p, "linear dw", linear_loss, a.w, dw, 30);
    compare(p, "linear dbias", linear_loss, a.bias, dbias, 6);
}

struct gather {
    float x[4 * 3];
    int32_t index[6];
};
static double gather_loss(const struct problem *p)
{
    const struct gather *a = p->arg;
    float y[18];
    CHECK_OK(p->k.gather_fwd(NULL, y, a->x, a->index, 6, 3));
    return weigh(p, y, 18);
}
static void test_gather(struct problem *p)
{
    struct gather a = {.index = {3, 0, 3, 1, 1, 3}};
    float dx[12] = {0};
    p->arg = &a;
    random_fill(p, a.x, 12);
    random_fill(p, p->coef, 18);
    CHECK_OK(p->k.gather_bwd(NULL, dx, p->coef, a.index, 6, 3, 4));
    compare(p, "gather dx", gather_loss, a.x, dx, 12);
}

struct vocab {
    float z[3 * 11], cap;
    int32_t target[3];
};
static void capped(const struct problem *p, const struct vocab *a, float *z)
{
    memcpy(z, a->z, sizeof(a->z));
    if (a->cap > 0.0f)
        CHECK_OK(p->k.softcap_fwd(NULL, z, 33, a->cap));
}
static double vocab_loss(const struct problem *p)
{
    const struct vocab *a = p->arg;
    float logp[3], lse[3], z[33];
    capped(p, a, z);
    CHECK_OK(p->k.logprob_fwd(NULL, logp, lse, z, a->target, 3, 11));
    return weigh(p, logp, 3);
}
static void test_logprob(struct problem *p, float cap)
{
    struct vocab a = {.target = {0, 10, 4}, .cap = cap};
    float logp[3], lse[3], dz[33];
    p->arg = &a;
    random_fill(p, a.z, 33);
    random_fill(p, p->coef, 3);
    capped(p, &a, dz);
    CHECK_OK(p->k.logprob_fwd(NULL, logp, lse, dz, a.target, 3, 11));
    CHECK_OK(p->k.logprob_bwd(NULL, dz, dz, lse, a.target, p->coef, 3, 11, cap));
    compare(p, "logprob dlogits", vocab_loss, a.z, dz, 33);
}

/* Two sequences of 3 and 35 rows. The longer one needs two pages. */
enum { H = 4, HK = 2, D = 6, N = 38 };
struct attention {
    float q[N * H * D], k[N * HK * D], v[N * HK * D];
    float kc[3 * HK * D * PAGE], vc[3 * HK * D * PAGE];
    int32_t seq[N], pos[N], page[4];
    struct plumb_rows rows;
    struct plumb_attn_shape shape;
};
static void attend(const struct problem *p, struct attention *a, float *o, float *lse)
{
    CHECK_OK(p->k.kv_write_fwd(NULL, a->kc, a->vc, a->k, a->v, &a->rows, HK, D));
    CHECK_OK(p->k.attention_fwd(NULL, o, lse, a->q, a->kc, a->vc, &a->rows, &a->shape));
}
static double attention_loss(const struct problem *p)
{
    struct attention a = *(const struct attention *)p->arg;
    float o[N * H * D], lse[N * H];
    attend(p, &a, o, lse);
    return weigh(p, o, N * H * D);
}
static void test_attention(struct problem *p, int64_t window, float cap)
{
    struct attention *a = calloc(1, sizeof(*a));
    CHECK(a);
    float o[N * H * D], lse[N * H], dq[N * H * D], dk[N * HK * D], dv[N * HK * D], work[1];
    for (int i = 0; i < N; i++) {
        a->seq[i] = i < 3 ? 0 : 1;
        a->pos[i] = i < 3 ? i : i - 3;
    }
    a->page[0] = 2, a->page[1] = 0, a->page[2] = 1, a->page[3] = 0;
    a->rows = (struct plumb_rows){N, 2, 2, a->seq, a->pos, a->page, 2};
    a->shape = (struct plumb_attn_shape){H, HK, D, 0.8f, cap, window};
    p->arg = a;
    random_fill(p, a->q, N * H * D);
    random_fill(p, a->k, N * HK * D);
    random_fill(p, a->v, N * HK * D);
    random_fill(p, p->coef, N * H * D);
    attend(p, a, o, lse);
    CHECK(p->k.attention_work_count(N, &a->shape, 1) <= 1);
    CHECK_OK(p->k.attention_bwd(NULL, dq, dk, dv, p->coef, o, lse, a->q, a->kc, a->vc, work,
                                &a->rows, &a->shape));
    compare(p,
            window       ? "attention dq, window"
            : cap > 0.0f ? "attention dq, cap"
                         : "attention dq",
            attention_loss, a->q, dq, N * H * D);
    compare(p,
            window       ? "attention dk, window"
            : cap > 0.0f ? "attention dk, cap"
                         : "attention dk",
            attention_loss, a->k, dk, N * HK * D);
    compare(p,
            window       ? "attention dv, window"
            : cap > 0.0f ? "attention dv, cap"
                         : "attention dv",
            attention_loss, a->v, dv, N * HK * D);
    free(a);
}

int main(void)
{
    struct problem *p = calloc(1, sizeof(*p));
    CHECK(p);
    p->r.s = 99;
    plumb_kernels_init_ref(&p->k);
    test_gather(p);
    test_rmsnorm(p, 0.0f);
    test_rmsnorm(p, 1.0f);
    test_layernorm(p);
    test_rope(p, 6);
    test_rope(p, 2);
    test_act(p);
    test_linear(p);
    test_logprob(p, 0.0f);
    test_logprob(p, 0.7f);
    test_attention(p, 0, 0.0f);
    test_attention(p, 4, 0.0f);
    test_attention(p, 0, 1.5f);
    free(p);
    return 0;
}
