/* test_accuracy.c - compares gradients that are long sums with sums in double, at the sizes of a
 * real model: the head over a vocabulary of 49,152 tokens, weights over 4,096 rows, attention over
 * 2,048 keys. One chain of float additions is several times less accurate than sums in blocks, and
 * would fail here.
 * Test. */
#include "harness.h"

#include <string.h>

#include "kernels.h"

static float *array(int64_t n)
{
    float *x = calloc((size_t)n, sizeof(*x));
    CHECK(x);
    return x;
}

/* Returns n values in [low, high). Every run gets the same values. The caller frees them. */
static float *values(int64_t n, float low, float high, uint64_t seed)
{
    struct rng r = {seed * 2654435761u + 1};
    float *x = array(n);
    for (int64_t i = 0; i < n; i++)
        x[i] = rng_f(&r, low, high);
    return x;
}

/* Checks that |x - want| / |want| (Euclidean norms) is at most `bound`. */
static void close_to(const char *isa, const char *what, const float *x, const float *want,
                     int64_t n, double bound)
{
    double far = 0, all = 0;
    for (int64_t i = 0; i < n; i++) {
        far += ((double)x[i] - want[i]) * ((double)x[i] - want[i]);
        all += (double)want[i] * want[i];
    }
    const double error = sqrt(far / all);
    printf("%-9s %-14s %.2e (at most %.1e)\n", isa, what, error, bound);
    CHECKF(error <= bound, "%s: %s: relative error %.3g, at most %.3g", isa, what, error, bound);
}

/* Each bound is about twice the error measured with sums in blocks of PLUMB_SUM_BLOCK terms: dx
 * 2.0e-7, dw 9.0e-8, dbias 7.7e-8, rmsnorm dw 6.2e-8, dk and dv 1.5e-7. One chain of additions over
 * all terms gave 2.7e-6, 9.6e-7, 1.0e-6, 7.7e-7, 1.0e-6 and 9.9e-7. */
static void check_linear(const char *isa, const struct plumb_kernels *k,
                         const struct plumb_kernels *ref)
{
    enum { N = 3, OUT = 49152, IN = 40, ROWS = 4096, SMALL = 24 };
    float *dy = values(N * OUT, -0.2f, 1, 1), *w = values((int64_t)OUT * IN, -0.2f, 1, 2);
    float *dx = array(N * IN), *want = array(N * IN);
    float *work = array(k->linear_work_count(ROWS, OUT, IN, 1));
    CHECK_OK(ref->linear_bwd_x(NULL, want, dy, w, NULL, N, OUT, IN, 0));
    CHECK_OK(k->linear_bwd_x(NULL, dx, dy, w, work, N, OUT, IN, 0));
    close_to(isa, "linear dx", dx, want, N * IN, 4e-7);
    free(dy), free(w), free(dx), free(want);

    dy = values(ROWS * SMALL, -0.2f, 1, 3);
    float *x = values(ROWS * IN, -0.2f, 1, 4);
    float *dw = array(SMALL * IN), *dbias = array(SMALL);
    float *want_w = array(SMALL * IN), *want_bias = array(SMALL);
    CHECK_OK(ref->linear_bwd_w(NULL, want_w, want_bias, dy, x, NULL, ROWS, SMALL, IN));
    CHECK_OK(k->linear_bwd_w(NULL, dw, dbias, dy, x, work, ROWS, SMALL, IN));
    close_to(isa, "linear dw", dw, want_w, SMALL * IN, 2e-7);
    close_to(isa, "linear dbias", dbias, want_bias, SMALL, 2e-7);
    free(dy), free(x), free(dw), free(dbias), free(want_w), free(want_bias), free(work);
}

static void check_rmsnorm(const char *isa, const struct plumb_kernels *k,
                          const struct plumb_kernels *ref)
{
    enum { ROWS = 4096, C = 72 };
    float *dy = values(ROWS * C, -0.2f, 1, 5), *x = values(ROWS * C, -0.2f, 1, 6);
    float *w = values(C, 0.5f, 1, 7), *rstd = values(ROWS, 0.5f, 1, 8);
    float *dx = array(ROWS * C), *dw = array(C), *want_x = array(ROWS * C), *want_w = array(C);
    CHECK_OK(ref->rmsnorm_bwd(NULL, want_x, want_w, dy, x, w, rstd, ROWS, C, 0));
    CHECK_OK(k->rmsnorm_bwd(NULL, dx, dw, dy, x, w, rstd, ROWS, C, 0));
    close_to(isa, "rmsnorm dw", dw, want_w, C, 2e-7);
    free(dy), free(x), free(w), free(rstd), free(dx), free(dw), free(want_x), free(want_w);
}

static void check_layernorm(const char *isa, const struct plumb_kernels *k,
                            const struct plumb_kernels *ref)
{
    enum { ROWS = 4096, C = 72 };
    float *dy = values(ROWS * C, -0.2f, 1, 5), *x = values(ROWS * C, -0.2f, 1, 6);
    float *w = values(C, 0.5f, 1, 7), *rstd = values(ROWS, 0.5f, 1, 8), *mean = array(ROWS);
    float *dx = array(ROWS * C), *dw = array(C), *want_x = array(ROWS * C), *want_w = array(C);
    float *db = array(C), *want_b = array(C);
    CHECK_OK(ref->layernorm_bwd(NULL, want_x, want_w, want_b, dy, x, w, mean, rstd, ROWS, C));
    CHECK_OK(k->layernorm_bwd(NULL, dx, dw, db, dy, x, w, mean, rstd, ROWS, C));
    close_to(isa, "layernorm dw", dw, want_w, C, 2e-7);
    close_to(isa, "layernorm db", db, want_b, C, 2e-7);
    free(dy), free(x), free(w), free(rstd), free(mean), free(dx), free(dw), free(want_x);
    free(want_w), free(db), free(want_b);
}

/* Checks attention of one sequence. Its scores are small, so the attention weights of a row spread
 * over all its keys. */
static void check_attention(const char *isa, const struct plumb_kernels *k,
                            const struct plumb_kernels *ref)
{
    enum { N = 2048, H = 2, D = 16, PAGES = N / PLUMB_KV_PAGE };
    static int32_t seq[N], pos[N], page[PAGES];
    for (int i = 0; i < N; i++)
        pos[i] = i;
    for (int i = 0; i < PAGES; i++)
        page[i] = i;
    const struct plumb_rows rows = {N, 1, PAGES, seq, pos, page, 1};
    const struct plumb_attn_shape shape = {H, 1, D, 0.25f, 0, 0};
    float *q = values(N * H * D, 0, 1, 9), *key = values(N * D, 0, 1, 10);
    float *value = values(N * D, 0, 1, 11), *dout = values(N * H * D, 0, 1, 12);
    float *kc = array(N * D), *vc = array(N * D), *o = array(N * H * D), *lse = array(N * H);
    CHECK_OK(ref->kv_write_fwd(NULL, kc, vc, key, value, &rows, 1, D));
    CHECK_OK(ref->attention_fwd(NULL, o, lse, q, kc, vc, &rows, &shape));
    float *work =
        array(k->attention_work_count(N, &shape, 1) + ref->attention_work_count(N, &shape, 1));
    float *dq = array(N * H * D), *dk = array(N * D), *dv = array(N * D);
    float *want_q = array(N * H * D), *want_k = array(N * D), *want_v = array(N * D);
    CHECK_OK(ref->attention_bwd(NULL, want_q, want_k, want_v, dout, o, lse, q, kc, vc, work, &rows,
                                &shape));
    CHECK_OK(k->attention_bwd(NULL, dq, dk, dv, dout, o, lse, q, kc, vc, work, &rows, &shape));
    close_to(isa, "attention dq", dq, want_q, N * H * D,
             /* the terms of dq cancel: 8.1e-6 was measured, as with one chain of additions */
             1.7e-5);
    close_to(isa, "attention dk", dk, want_k, N * D, 3e-7);
    close_to(isa, "attention dv", dv, want_v, N * D, 3e-7);
    free(q), free(key), free(value), free(dout), free(kc), free(vc), free(o), free(lse), free(work);
    free(dq), free(dk), free(dv), free(want_q), free(want_k), free(want_v);
}

int main(void)
{
    struct plumb_kernels ref, k;
    plumb_kernels_init_ref(&ref);
    CHECK(ref.linear_plain); /* if this were not set, ref would keep a packed copy of the weights */
    for (int i = 0; plumb_kernels_isa[i]; i++) {
        if (!plumb_kernels_init_isa(&k, plumb_kernels_isa[i]))
            continue;
        CHECK(!k.linear_plain);
        check_linear(plumb_kernels_isa[i], &k, &ref);
        check_rmsnorm(plumb_kernels_isa[i], &k, &ref);
        check_layernorm(plumb_kernels_isa[i], &k, &ref);
        check_attention(plumb_kernels_isa[i], &k, &ref);
    }
    return 0;
}
