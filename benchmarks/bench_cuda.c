/* bench_cuda.c - measures device-to-device copies and matrix products on the GPU.
 * Benchmarks only. Includes bench_cuda.h, kernels/cuda/cuda.h. */
#include "bench_cuda.h"

#include <string.h>

#include "base/num.h"
#include "ceiling.h"
#include "cuda/cuda.h"

enum { COPIES = 9, TIMES = 5, CANDIDATES = 16, WORK = 32 << 20 };
/* a measurement repeats the work for at least 3 ms, which is much longer than a kernel launch */
#define RUN_SECONDS 3e-3

static struct plumb_cuda *context(struct plumb_backend *b)
{
    return (struct plumb_cuda *)(void *)b->stream;
}

static plumb_status check_blas(cublasStatus_t e, const char *what)
{
    PLUMB_REQUIRE(e == CUBLAS_STATUS_SUCCESS, PLUMB_ERR_DEVICE, "%s: %s", what,
                  cublasLtGetStatusString(e));
    return PLUMB_OK;
}
#define BLAS_TRY_GOTO(st, call, label) PLUMB_TRY_GOTO(st, check_blas((call), #call), label)

/* ---- timing ---------------------------------------------------------------------------------- */

/* A copy or product that can be launched repeatedly on b. */
typedef plumb_status work_fn(struct plumb_backend *b, const void *arg);

static plumb_status time_once(struct plumb_backend *b, work_fn *work, const void *arg, int64_t runs,
                              double *seconds)
{
    const double start = ceiling_now();
    for (int64_t i = 0; i < runs; i++)
        PLUMB_TRY(work(b, arg));
    PLUMB_TRY(b->sync(b));
    *seconds = (ceiling_now() - start) / (double)runs;
    return PLUMB_OK;
}

/* Sets *seconds to the median of `times` measurements of the time of one run. Two runs come first:
 * a warm-up, and one whose time sets how often each measurement repeats the work. */
static plumb_status time_work(struct plumb_backend *b, work_fn *work, const void *arg, int times,
                              double *seconds)
{
    double t[COPIES];
    PLUMB_TRY(b->sync(b));
    PLUMB_TRY(time_once(b, work, arg, 1, &t[0]));
    PLUMB_TRY(time_once(b, work, arg, 1, &t[0]));
    const int64_t runs = 1 + (int64_t)plumb_min_i64(1000, (int64_t)(RUN_SECONDS / t[0]));
    for (int i = 0; i < times; i++)
        PLUMB_TRY(time_once(b, work, arg, runs, &t[i]));
    *seconds = ceiling_spread(t, times).median;
    return PLUMB_OK;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static int64_t memory_used(const struct bench_device *d)
{
    size_t available, total;
    (void)d;
    BENCH_OK(plumb_cuda_check(cudaMemGetInfo(&available, &total), "cudaMemGetInfo"));
    return (int64_t)(total - available);
}

plumb_status bench_cuda_fill(struct plumb_backend *b, void *data, enum plumb_dtype dtype, int64_t n)
{
    const int64_t item = plumb_dtype_size(dtype), part = plumb_min_i64(n, 1 << 22);
    char *x = malloc((size_t)(part * item) + 1);
    plumb_status st = PLUMB_OK;
    PLUMB_REQUIRE(x, PLUMB_ERR_NOMEM, "random data");
    for (int64_t i = 0; i < part; i++) {
        const float v = (float)(int32_t)((uint32_t)(i + 1) * 2654435761u) / 2147483648.0f;
        /* the upper `item` bytes of the float: a bfloat16 is the upper two bytes of a float32 */
        memcpy(x + i * item, (const char *)&v + 4 - item, (size_t)item);
    }
    for (int64_t at = 0; at < n && st == PLUMB_OK; at += part)
        st = b->to_device(b, (char *)data + at * item, x, plumb_min_i64(part, n - at) * item);
    free(x);
    return st;
}

struct copy {
    void *to, *from;
    int64_t bytes;
};

static plumb_status copy(struct plumb_backend *b, const void *arg)
{
    const struct copy *c = arg;
    return plumb_cuda_check(cudaMemcpyAsync(c->to, c->from, (size_t)c->bytes,
                                            cudaMemcpyDeviceToDevice, context(b)->stream),
                            "cudaMemcpyAsync");
}

/* Sets *seconds to the time of a device-to-device copy of `bytes` bytes: the median over several
 * measurements, each of several copies. */
static plumb_status time_copy(struct plumb_backend *b, int64_t bytes, double *seconds)
{
    struct copy c = {.bytes = bytes};
    plumb_status st = PLUMB_OK;
    PLUMB_TRY_GOTO(st, b->alloc(b, &c.from, bytes, "copy"), done);
    PLUMB_TRY_GOTO(st, b->alloc(b, &c.to, bytes, "copy"), done);
    PLUMB_TRY_GOTO(st, bench_cuda_fill(b, c.from, PLUMB_F32, bytes / 4), done);
    PLUMB_TRY_GOTO(st, time_work(b, copy, &c, COPIES, seconds), done);
done:
    b->release(b, c.to);
    b->release(b, c.from);
    return st;
}

/* ---- products -------------------------------------------------------------------------------- */

struct gemm {
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t w, x, y;
    cublasLtMatmulPreference_t wish;
    void *data[3], *work; /* data: the operands w, x and y */
    int64_t work_bytes;
    const cublasLtMatmulAlgo_t *algo;
};

static void gemm_fini(struct plumb_backend *b, struct gemm *g)
{
    if (g->wish)
        (void)cublasLtMatmulPreferenceDestroy(g->wish);
    if (g->y)
        (void)cublasLtMatrixLayoutDestroy(g->y);
    if (g->x)
        (void)cublasLtMatrixLayoutDestroy(g->x);
    if (g->w)
        (void)cublasLtMatrixLayoutDestroy(g->w);
    if (g->desc)
        (void)cublasLtMatmulDescDestroy(g->desc);
    for (int i = 0; i < 3; i++)
        b->release(b, g->data[i]);
    b->release(b, g->work);
}

static cudaDataType_t data_type(enum plumb_dtype dtype)
{
    return dtype == PLUMB_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

/* cuBLASLt is column-major: it sees a row-major (n,c) array as a c x n matrix. */
static plumb_status gemm_init(struct plumb_backend *b, struct gemm *g, enum plumb_dtype dtype,
                              enum plumb_dtype y, int64_t n, int64_t out, int64_t in)
{
    const int64_t size[3] = {out * in, n * in, n * out};
    const enum plumb_dtype of[3] = {dtype, dtype, y};
    const int32_t transpose = CUBLAS_OP_T;
    const uint64_t work = WORK;
    plumb_status st = PLUMB_OK;
    const cudaDataType_t type = data_type(dtype);
    *g = (struct gemm){.work_bytes = WORK};
    for (int i = 0; i < 3; i++) {
        PLUMB_TRY_GOTO(st, b->alloc(b, &g->data[i], size[i] * plumb_dtype_size(of[i]), "product"),
                       done);
        PLUMB_TRY_GOTO(st, bench_cuda_fill(b, g->data[i], of[i], size[i]), done);
    }
    PLUMB_TRY_GOTO(st, b->alloc(b, &g->work, WORK, "work space"), done);
    BLAS_TRY_GOTO(st, cublasLtMatmulDescCreate(&g->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), done);
    BLAS_TRY_GOTO(st,
                  cublasLtMatmulDescSetAttribute(g->desc, CUBLASLT_MATMUL_DESC_TRANSA, &transpose,
                                                 sizeof transpose),
                  done);
    BLAS_TRY_GOTO(st, cublasLtMatrixLayoutCreate(&g->w, type, (uint64_t)in, (uint64_t)out, in),
                  done);
    BLAS_TRY_GOTO(st, cublasLtMatrixLayoutCreate(&g->x, type, (uint64_t)in, (uint64_t)n, in), done);
    BLAS_TRY_GOTO(
        st, cublasLtMatrixLayoutCreate(&g->y, data_type(y), (uint64_t)out, (uint64_t)n, out), done);
    BLAS_TRY_GOTO(st, cublasLtMatmulPreferenceCreate(&g->wish), done);
    BLAS_TRY_GOTO(st,
                  cublasLtMatmulPreferenceSetAttribute(
                      g->wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &work, sizeof work),
                  done);
done:
    return st;
}

static plumb_status multiply(struct plumb_backend *b, const void *arg)
{
    const struct gemm *g = arg;
    const struct plumb_cuda *c = context(b);
    const float one = 1.0f, zero = 0.0f;
    return check_blas(cublasLtMatmul(c->blas, g->desc, &one, g->data[0], g->w, g->data[1], g->x,
                                     &zero, g->data[2], g->y, g->data[2], g->y, g->algo, g->work,
                                     (size_t)g->work_bytes, c->stream),
                      "cublasLtMatmul");
}

plumb_status bench_cuda_best_gemm(struct plumb_backend *b, enum plumb_dtype dtype,
                                  enum plumb_dtype y, int64_t n, int64_t out, int64_t in,
                                  struct bench_gemm *best)
{
    cublasLtMatmulHeuristicResult_t result[CANDIDATES];
    struct gemm g;
    plumb_status st = PLUMB_OK;
    int found = 0;
    *best = (struct bench_gemm){0};
    PLUMB_TRY_GOTO(st, gemm_init(b, &g, dtype, y, n, out, in), done);
    BLAS_TRY_GOTO(st,
                  cublasLtMatmulAlgoGetHeuristic(context(b)->blas, g.desc, g.w, g.x, g.y, g.y,
                                                 g.wish, CANDIDATES, result, &found),
                  done);
    for (int i = 0; i < found; i++) {
        double seconds;
        cublasLtMatmulHeuristicResult_t checked;
        g.algo = &result[i].algo;
        if (cublasLtMatmulAlgoCheck(context(b)->blas, g.desc, g.w, g.x, g.y, g.y, g.algo,
                                    &checked) != CUBLAS_STATUS_SUCCESS)
            continue;
        PLUMB_TRY_GOTO(st, time_work(b, multiply, &g, TIMES, &seconds), done);
        if (best->candidates++ == 0 || seconds < best->seconds)
            best->seconds = seconds;
    }
    if (best->candidates == 0)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_UNSUPPORTED, done,
                        "cuBLASLt has no algorithm for %lld x %lld x %lld", (long long)n,
                        (long long)out, (long long)in);
done:
    gemm_fini(b, &g);
    return st;
}

/* ---- the device ------------------------------------------------------------------------------ */

static double bandwidth(const struct bench_device *d)
{
    double seconds;
    BENCH_OK(time_copy(d->b, d->copy_bytes, &seconds));
    return 2e-9 * (double)d->copy_bytes / seconds;
}

static double rate(const struct bench_device *d)
{
    const double n = (double)d->matrix;
    struct bench_gemm best;
    BENCH_OK(
        bench_cuda_best_gemm(d->b, d->dtype, d->dtype, d->matrix, d->matrix, d->matrix, &best));
    return 2e-9 * n * n * n / best.seconds;
}

void bench_cuda_init(struct bench_device *d)
{
    BENCH_OK(plumb_backend_cuda_create(&d->b, 0));
    d->emulated = strstr(d->b->device, "emulator");
    d->bandwidth = bandwidth;
    d->rate = rate;
    d->memory_used = memory_used;
}
