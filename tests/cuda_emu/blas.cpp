/* blas.cpp - emulates the matrix products of cuBLASLt, each with a fixed order of additions. The
 * algorithms add in different orders. The first choice of the heuristic depends on the sizes, and
 * is often split-K. So a caller that does not always use the same algorithm gets other bits, which
 * the tests detect.
 * Test. Includes emu.h. */
#include "emu.h"

#include <cublasLt.h>
#include <cuda_bf16.h>

struct cublasLtContext {
    int unused;
};
struct cublasLtMatmulDescOpaque {
    bool trans_a, trans_b;
    cublasLtEpilogue_t epilogue;
    const float *bias;
};
struct cublasLtMatrixLayoutOpaque {
    cudaDataType_t type;
    int64_t rows, columns, ld;
};
struct cublasLtMatmulPreferenceOpaque {
    uint64_t work;
    uint32_t reduction, align[4]; /* alignment in bytes of the matrices A, B, C and D */
};

namespace
{

/* Indices of the words that describe an algorithm. ALIGN: one byte for each of A, B, C and D. */
enum Field { ID, SPLIT, REDUCTION, ALIGN };
/* Numbers of special algorithms. SMALL adds in the order of algorithm 0; it is fast for few
 * columns, slow for many, and has no split-K attribute. PLACE is the fastest, but adds every second
 * column backwards, so the bits of a column depend on its position in the matrix. A caller finds
 * this out only by comparing results. */
enum { ROTATED = 3, SMALL = 3, PLACE = 4, ALGORITHMS = 5, FEW = 4 };

struct Sizes {
    int64_t m, n, k;
};

bool agree(Sizes *s, const cublasLtMatmulDescOpaque *d, const cublasLtMatrixLayoutOpaque *a,
           const cublasLtMatrixLayoutOpaque *b, const cublasLtMatrixLayoutOpaque *out)
{
    s->m = out->rows;
    s->n = out->columns;
    s->k = d->trans_a ? a->rows : a->columns;
    return (d->trans_a ? a->columns : a->rows) == s->m &&
           (d->trans_b ? b->columns : b->rows) == s->k &&
           (d->trans_b ? b->rows : b->columns) == s->n && a->ld >= a->rows && b->ld >= b->rows &&
           out->ld >= out->rows && a->type == b->type &&
           (a->type == out->type || a->type == CUDA_R_16BF);
}

struct Product {
    Sizes size;
    bool trans_a, trans_b;
    const void *a, *b, *c;
    const float *bias;
    void *out;
    int64_t lda, ldb, ldc, ldout;
    float alpha, beta;
    uint64_t id, split;
};

float read(const float *x, int64_t i)
{
    return x[i];
}
float read(const __nv_bfloat16 *x, int64_t i)
{
    return __bfloat162float(x[i]);
}
void write(float *x, int64_t i, float value)
{
    x[i] = value;
}
void write(__nv_bfloat16 *x, int64_t i, float value)
{
    x[i] = __float2bfloat16_rn(value);
}

/* Tests the environment variable PLUMB_EMU_GEMM. With `other`, algorithm 2 is the fastest; with
 * `alone`, the heuristic proposes only one algorithm. */
bool is_set(const char *value)
{
    const char *text = getenv("PLUMB_EMU_GEMM");
    return text && strcmp(text, value) == 0;
}

bool backwards(const Product &p, int64_t j)
{
    return p.id == 2 || (p.id == PLACE && (j & 1) != 0);
}

/* Returns the sum over k in [begin, end) for element (i, j): as one chain of additions, as two
 * alternating chains (algorithm 1), or backwards. */
template <class T> float chain(const Product &p, int64_t i, int64_t j, int64_t begin, int64_t end)
{
    const T *a = static_cast<const T *>(p.a) + (p.trans_a ? i * p.lda : i);
    const T *b = static_cast<const T *>(p.b) + (p.trans_b ? j : j * p.ldb);
    const int64_t step_a = p.trans_a ? 1 : p.lda, step_b = p.trans_b ? p.ldb : 1;
    float sum[2] = {0.0f, 0.0f};
    for (int64_t l = begin; l < end; l++) {
        const int64_t k = backwards(p, j) ? end - 1 - (l - begin) : l;
        float &s = sum[p.id == 1 ? (l - begin) & 1 : 0];
        s = fmaf(read(a, k * step_a), read(b, k * step_b), s);
    }
    return sum[0] + sum[1];
}

/* Computes a product. T: type of the elements of A and B; D: type of the result. */
template <class T, class D> void multiply(const Product &p)
{
    const D *c = static_cast<const D *>(p.c);
    D *out = static_cast<D *>(p.out);
    const int64_t part = (p.size.k + int64_t(p.split) - 1) / int64_t(p.split);
    for (int64_t j = 0; j < p.size.n; j++)
        for (int64_t i = 0; i < p.size.m; i++) {
            float sum = 0.0f;
            for (int64_t k = 0; k < p.size.k; k += part)
                sum += chain<T>(p, i, j, k, k + part < p.size.k ? k + part : p.size.k);
            sum *= p.alpha;
            if (p.beta != 0.0f)
                sum = fmaf(p.beta, read(c, i + j * p.ldc), sum);
            write(out, i + j * p.ldout, p.bias ? sum + p.bias[i] : sum);
        }
}

/* Adds the time of a product to the device's clock. Algorithm 2 is slow, and split-K is a little
 * faster than no split-K. */
void spend(const Product &p)
{
    (void)emu::begin_work("", "product");
    const double factor = is_set("other") ? (p.id == 2 ? 0.1 : 1.0)
                          : p.id == 2     ? 1.5
                          : p.id == SMALL ? (p.size.n <= FEW ? 0.5 : 2.0)
                          : p.id == PLACE ? 0.3
                          : p.split > 1   ? 0.97
                                          : 1.0;
    emu::clock_ms += 1e-9 * double(p.size.m * p.size.n * p.size.k) * factor;
}

bool reachable(const void *at, const cublasLtMatrixLayoutOpaque *l)
{
    const size_t size = l->type == CUDA_R_16BF ? 2 : 4;
    return emu::is_allocated(at, size_t((l->columns - 1) * l->ld + l->rows) * size);
}

bool aligned(const void *at, uint64_t bytes)
{
    return reinterpret_cast<uintptr_t>(at) % bytes == 0;
}

uint32_t element_size(cudaDataType_t type)
{
    return type == CUDA_R_16BF ? 2 : 4;
}

} // namespace

extern "C" const char *cublasLtGetStatusString(cublasStatus_t e)
{
    return e == CUBLAS_STATUS_SUCCESS         ? "CUBLAS_STATUS_SUCCESS"
           : e == CUBLAS_STATUS_INVALID_VALUE ? "CUBLAS_STATUS_INVALID_VALUE"
           : e == CUBLAS_STATUS_NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED"
                                              : "CUBLAS_STATUS_NOT_INITIALIZED";
}

extern "C" size_t cublasLtGetVersion(void)
{
    return 0;
}

extern "C" cublasStatus_t cublasLtCreate(cublasLtHandle_t *h)
{
    *h = new cublasLtContext();
    emu::live_objects++;
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasLtDestroy(cublasLtHandle_t h)
{
    delete h;
    emu::live_objects--;
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *d, cublasComputeType_t,
                                                   cudaDataType_t)
{
    *d = new cublasLtMatmulDescOpaque{false, false, CUBLASLT_EPILOGUE_DEFAULT, nullptr};
    emu::live_objects++;
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d,
                                                         cublasLtMatmulDescAttributes_t what,
                                                         const void *value, size_t bytes)
{
    const bool pointer = what == CUBLASLT_MATMUL_DESC_BIAS_POINTER;
    int32_t word = 0;
    if (bytes != (pointer ? sizeof(void *) : sizeof(word)))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (pointer)
        memcpy(&d->bias, value, sizeof(d->bias));
    else
        memcpy(&word, value, sizeof(word));
    if (what == CUBLASLT_MATMUL_DESC_TRANSA)
        d->trans_a = word == CUBLAS_OP_T;
    if (what == CUBLASLT_MATMUL_DESC_TRANSB)
        d->trans_b = word == CUBLAS_OP_T;
    if (what == CUBLASLT_MATMUL_DESC_EPILOGUE)
        d->epilogue = static_cast<cublasLtEpilogue_t>(word);
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
    delete d;
    emu::live_objects--;
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *l, cudaDataType_t type,
                                                     uint64_t rows, uint64_t columns, int64_t ld)
{
    *l = new cublasLtMatrixLayoutOpaque{type, int64_t(rows), int64_t(columns), ld};
    emu::live_objects++;
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
    delete l;
    emu::live_objects--;
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *p)
{
    *p = new cublasLtMatmulPreferenceOpaque{0, ~0u, {128, 128, 128, 128}};
    emu::live_objects++;
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t
cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                     cublasLtMatmulPreferenceAttributes_t what, const void *value,
                                     size_t bytes)
{
    if (what == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) {
        if (bytes != sizeof(p->work))
            return CUBLAS_STATUS_INVALID_VALUE;
        memcpy(&p->work, value, bytes);
        return CUBLAS_STATUS_SUCCESS;
    }
    uint32_t word;
    if (bytes != sizeof(word))
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(&word, value, sizeof(word));
    if (what == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK)
        p->reduction = word;
    else
        p->align[what - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES] = word;
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
    delete p;
    emu::live_objects--;
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t
cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a,
                               cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t,
                               cublasLtMatrixLayout_t out, cublasLtMatmulPreference_t p, int wanted,
                               cublasLtMatmulHeuristicResult_t *result, int *found)
{
    Sizes s;
    *found = 0;
    if (!agree(&s, d, a, b, out))
        return CUBLAS_STATUS_INVALID_VALUE;
    for (int side = 0; side < 4; side++)
        if (p->align[side] < element_size((side == 0 ? a : side == 1 ? b : out)->type))
            /* the alignment is less than the size of an element */
            return CUBLAS_STATUS_INVALID_VALUE;
    /* Like cuBLASLt, supports no bfloat16 matrix with an odd row length (an alignment of 2
     * bytes). */
    if (a->type == CUDA_R_16BF && (p->align[0] < 4 || p->align[1] < 4))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    for (int i = 0; i < wanted && i < (is_set("alone") ? 1 : ALGORITHMS); i++) {
        result[i] = cublasLtMatmulHeuristicResult_t();
        result[i].algo.data[ID] =
            uint64_t(i < ROTATED ? (s.m + s.n + s.k + i) % ROTATED : int64_t(i));
        if (is_set("alone"))
            result[i].algo.data[ID] = 2;
        result[i].algo.data[SPLIT] = i == SMALL ? 0 : s.n < 16 && p->reduction ? 2 : 1;
        for (int side = 0; side < 4; side++)
            result[i].algo.data[ALIGN] |= uint64_t(p->align[side]) << (8 * side);
        (*found)++;
    }
    return CUBLAS_STATUS_SUCCESS;
}

/* Checks if an algorithm supports the product. Algorithm 1 does not support a single column, so a
 * caller must check an algorithm before it selects the algorithm for all sizes. */
extern "C" cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t d,
                                                  cublasLtMatrixLayout_t a,
                                                  cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t,
                                                  cublasLtMatrixLayout_t out,
                                                  const cublasLtMatmulAlgo_t *algo,
                                                  cublasLtMatmulHeuristicResult_t *result)
{
    Sizes s;
    *result = cublasLtMatmulHeuristicResult_t();
    if (!agree(&s, d, a, b, out) || algo->data[ID] >= ALGORITHMS ||
        (algo->data[SPLIT] < 1) != (algo->data[ID] == SMALL))
        return CUBLAS_STATUS_INVALID_VALUE;
    result->algo = *algo;
    return algo->data[ID] == 1 && s.n == 1 ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t
cublasLtMatmulAlgoConfigSetAttribute(cublasLtMatmulAlgo_t *algo,
                                     cublasLtMatmulAlgoConfigAttributes_t what, const void *value,
                                     size_t bytes)
{
    uint32_t word;
    if (bytes != sizeof(word))
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(&word, value, sizeof(word));
    if (what == CUBLASLT_ALGO_CONFIG_SPLITK_NUM && algo->data[ID] == SMALL)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (what == CUBLASLT_ALGO_CONFIG_SPLITK_NUM)
        algo->data[SPLIT] = word;
    else if (what == CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME)
        algo->data[REDUCTION] = word;
    else
        return CUBLAS_STATUS_INVALID_VALUE;
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t
cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algo,
                                     cublasLtMatmulAlgoConfigAttributes_t what, void *value,
                                     size_t bytes, size_t *written)
{
    const bool split = what == CUBLASLT_ALGO_CONFIG_SPLITK_NUM;
    const uint32_t word = uint32_t(algo->data[split ? SPLIT : REDUCTION]);
    if (bytes != sizeof(word) || (!split && what != CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME))
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(value, &word, sizeof(word));
    *written = sizeof(word);
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" cublasStatus_t
cublasLtMatmul(cublasLtHandle_t h, cublasLtMatmulDesc_t d, const void *alpha, const void *a,
               cublasLtMatrixLayout_t la, const void *b, cublasLtMatrixLayout_t lb,
               const void *beta, const void *c, cublasLtMatrixLayout_t lc, void *out,
               cublasLtMatrixLayout_t lout, const cublasLtMatmulAlgo_t *algo, void *, size_t,
               cudaStream_t s)
{
    Product p = {};
    cublasLtMatmulHeuristicResult_t result;
    if (!algo)
        /* without an algorithm, cuBLASLt would choose one by its heuristic; this is not emulated */
        return CUBLAS_STATUS_INVALID_VALUE;
    const cublasStatus_t st = cublasLtMatmulAlgoCheck(h, d, la, lb, lc, lout, algo, &result);
    if (st != CUBLAS_STATUS_SUCCESS || !agree(&p.size, d, la, lb, lout))
        return st;
    p.trans_a = d->trans_a, p.trans_b = d->trans_b;
    p.a = a, p.b = b, p.c = c, p.out = out;
    p.bias = d->epilogue == CUBLASLT_EPILOGUE_BIAS ? d->bias : nullptr;
    if (p.bias && lout->type != CUDA_R_32F)
        /* plumb's biases are float32; cuBLASLt would expect one of the output's type, bfloat16 */
        return CUBLAS_STATUS_NOT_SUPPORTED;
    p.lda = la->ld, p.ldb = lb->ld, p.ldc = lc->ld, p.ldout = lout->ld;
    p.alpha = *static_cast<const float *>(alpha), p.beta = *static_cast<const float *>(beta);
    char name[64];
    snprintf(name, sizeof(name), "cuBLASLt's algorithm %d for type %d", int(algo->data[ID]),
             int(la->type));
    emu::take_for_library(name, 64 << 10);
    emu::counts.products++;
    p.id = algo->data[ID], p.split = algo->data[SPLIT] > 1 ? algo->data[SPLIT] : 1;
    const auto check = [p, ma = *la, mb = *lb, mc = *lc, mout = *lout] {
        if (!reachable(p.a, &ma) || !reachable(p.b, &mb) || !reachable(p.out, &mout) ||
            (p.beta != 0.0f && !reachable(p.c, &mc)) ||
            (p.bias && !emu::is_allocated(p.bias, size_t(p.size.m) * sizeof(float))))
            emu::fault("cublasLtMatmul %lld x %lld x %lld: an operand is not inside one device "
                       "allocation",
                       (long long)p.size.m, (long long)p.size.n, (long long)p.size.k);
    };
    check();
    const void *const side[] = {a, b, c, out};
    for (int i = 0; i < 4; i++) {
        const uint64_t bytes = algo->data[ALIGN] >> (8 * i) & 0xff;
        if (!aligned(side[i], bytes))
            emu::fault("cublasLtMatmul: operand %d at %p is not aligned to the %llu bytes that its "
                       "algorithm was asked for with",
                       i, side[i], (unsigned long long)bytes);
    }
    if (la->type == CUDA_R_32F)
        emu::push(
            s,
            [p] {
                spend(p);
                multiply<float, float>(p);
            },
            check);
    else if (lout->type == CUDA_R_32F)
        emu::push(
            s,
            [p] {
                spend(p);
                multiply<__nv_bfloat16, float>(p);
            },
            check);
    else
        emu::push(
            s,
            [p] {
                spend(p);
                multiply<__nv_bfloat16, __nv_bfloat16>(p);
            },
            check);
    return CUBLAS_STATUS_SUCCESS;
}
