/* bench_linear.c - linear kernels with the signatures of plumb's that call OpenBLAS or oneDNN.
 * Benchmarks only. Includes bench_linear.h; the only user of cblas.h and dnnl.h. */
#include "bench_linear.h"

#include <cblas.h>
#include <dnnl.h>
#include <string.h>

/* Computes row-major C (m,n) = A (m,k) B (k,n) + beta C. a_t, b_t: 1 if A, or B, is stored
 * transposed. lda and ldb are the row lengths of A and B as stored. */
typedef void gemm_fn(int a_t, int b_t, int64_t m, int64_t n, int64_t k, const float *a, int64_t lda,
                     const float *b, int64_t ldb, float beta, float *c, int64_t ldc);

static void gemm_openblas(int a_t, int b_t, int64_t m, int64_t n, int64_t k, const float *a,
                          int64_t lda, const float *b, int64_t ldb, float beta, float *c,
                          int64_t ldc)
{
    cblas_sgemm(CblasRowMajor, a_t ? CblasTrans : CblasNoTrans, b_t ? CblasTrans : CblasNoTrans,
                (blasint)m, (blasint)n, (blasint)k, 1.0f, a, (blasint)lda, b, (blasint)ldb, beta, c,
                (blasint)ldc);
}

static void gemm_onednn(int a_t, int b_t, int64_t m, int64_t n, int64_t k, const float *a,
                        int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc)
{
    dnnl_sgemm(a_t ? 'T' : 'N', b_t ? 'T' : 'N', m, n, k, 1.0f, a, lda, b, ldb, beta, c, ldc);
}

static plumb_status forward(gemm_fn *gemm, float *y, const float *x, const float *w,
                            const float *bias, int64_t n, int64_t out, int64_t in)
{
    gemm(0, 1, n, out, in, x, in, w, in, 0.0f, y, out);
    for (int64_t i = 0; i < n && bias; i++)
        for (int64_t o = 0; o < out; o++)
            y[i * out + o] += bias[o];
    return PLUMB_OK;
}

static plumb_status backward_w(gemm_fn *gemm, float *dw, float *dbias, const float *dy,
                               const float *x, int64_t n, int64_t out, int64_t in)
{
    gemm(1, 0, out, in, n, dy, out, x, in, 1.0f, dw, in);
    for (int64_t i = 0; i < n && dbias; i++)
        for (int64_t o = 0; o < out; o++)
            dbias[o] += dy[i * out + o];
    return PLUMB_OK;
}

/* Defines the three linear kernels (forward, gradient of x, gradient of w) by calls of
 * gemm_LIBRARY. */
#define LINEAR(library)                                                                            \
    static plumb_status fwd_##library(plumb_stream *s, float *y, const float *x, const float *w,   \
                                      const float *bias, int64_t n, int64_t out, int64_t in)       \
    {                                                                                              \
        (void)s;                                                                                   \
        return forward(gemm_##library, y, x, w, bias, n, out, in);                                 \
    }                                                                                              \
    static plumb_status bwd_x_##library(plumb_stream *s, float *dx, const float *dy,               \
                                        const float *w, float *work, int64_t n, int64_t out,       \
                                        int64_t in, int accumulate)                                \
    {                                                                                              \
        (void)s, (void)work;                                                                       \
        gemm_##library(0, 0, n, in, out, dy, out, w, in, accumulate ? 1.0f : 0.0f, dx, in);        \
        return PLUMB_OK;                                                                           \
    }                                                                                              \
    static plumb_status bwd_w_##library(plumb_stream *s, float *dw, float *dbias, const float *dy, \
                                        const float *x, float *work, int64_t n, int64_t out,       \
                                        int64_t in)                                                \
    {                                                                                              \
        (void)s, (void)work;                                                                       \
        return backward_w(gemm_##library, dw, dbias, dy, x, n, out, in);                           \
    }
LINEAR(openblas)
LINEAR(onednn)

const struct bench_linear bench_library[BENCH_LIBRARIES] = {
    {"openblas", fwd_openblas, bwd_x_openblas, bwd_w_openblas},
    {"onednn", fwd_onednn, bwd_x_onednn, bwd_w_onednn},
};

/* plumb's kernels read weights in a packed layout. The libraries read plain weights, so here
 * packing is a copy. */
static int64_t plain_count(int64_t out, int64_t in)
{
    return out * in;
}

static plumb_status plain_copy(plumb_stream *s, float *packed, const float *w, int64_t out,
                               int64_t in)
{
    (void)s;
    memcpy(packed, w, (size_t)(out * in) * sizeof(*w));
    return PLUMB_OK;
}

static int64_t no_work(int64_t n, int64_t out, int64_t in, int threads)
{
    (void)n, (void)out, (void)in, (void)threads;
    return 0;
}

void bench_linear_use(struct plumb_backend *b, const struct bench_linear *library)
{
    b->k.linear_packed_count = plain_count;
    b->k.linear_pack = plain_copy;
    b->k.linear_fwd = library->fwd;
    b->k.linear_work_count = no_work;
    b->k.linear_bwd_x = library->bwd_x;
    b->k.linear_bwd_w = library->bwd_w;
}
