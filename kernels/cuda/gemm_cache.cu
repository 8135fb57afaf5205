/* gemm_cache.cu - the GEMM algorithm cache: finds, times, writes and reads cuBLASLt algorithms.
 * Layer 1 (cuda). Includes gemm.cuh, base/.
 *
 * Row invariance: the cache holds one algorithm for each (product, element types, out, in), and
 * every number of rows uses it. The algorithm has no split-K and supports every number of rows. */
#include "cuda/gemm.cuh"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern "C" { /* the headers of base/ are plain C, without extern "C" guards */
#include "base/buf.h"
#include "base/log.h"
}

static constexpr int CANDIDATES = 32;
/* DEAR is the accepted ratio of an algorithm's time to that of the fastest unrestricted one; TIMED
 * are the numbers of rows that are timed. */
static constexpr double DEAR = 1.10;
static constexpr int64_t TIMED[] = {16, 128, 1024};
static constexpr int TIMES = sizeof(TIMED) / sizeof(TIMED[0]);

/* Returns whether the algorithm supports this product with n rows and without a workspace. */
static bool can_do(const struct plumb_cuda *c, product p, int64_t n, int64_t out, int64_t in,
                   const cublasLtMatmulAlgo_t *algo, const float *bias)
{
    gemm g;
    cublasLtMatmulHeuristicResult_t result;
    if (gemm_init(&g, p, n, out, in, bias) != PLUMB_OK)
        return false;
    const cublasStatus_t e =
        cublasLtMatmulAlgoCheck(c->blas, g.desc, g.a, g.b, g.d, g.d, algo, &result);
    gemm_fini(&g);
    return e == CUBLAS_STATUS_SUCCESS && result.workspaceSize == 0;
}

static bool can_do_all(const struct plumb_cuda *c, product p, int64_t out, int64_t in,
                       cublasLtMatmulAlgo_t *algo, const float *bias)
{
    static const int64_t rows[] = {1, 2, 7, 16, 64, 100, 256, 1024, 4096};
    const uint32_t split = 1, reduction = CUBLASLT_REDUCTION_SCHEME_NONE;
    if (cublasLtMatmulAlgoConfigSetAttribute(algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &split,
                                             sizeof(split)) != CUBLAS_STATUS_SUCCESS ||
        cublasLtMatmulAlgoConfigSetAttribute(algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME,
                                             &reduction,
                                             sizeof(reduction)) != CUBLAS_STATUS_SUCCESS)
        return false;
    for (int64_t n : rows)
        if (!can_do(c, p, n, out, in, algo, bias))
            return false;
    return true;
}

/* Asks cuBLASLt's heuristic for its candidates for n rows, best first. `split` also allows
 * algorithms with split-K. */
static plumb_status candidates(const struct plumb_cuda *c, product p, int64_t n, int64_t out,
                               int64_t in, const float *bias, bool split,
                               cublasLtMatmulHeuristicResult_t *result, int *found)
{
    plumb_status st = PLUMB_OK;
    gemm g;
    cublasLtMatmulPreference_t wish = nullptr;
    const uint64_t work = 0;
    const uint32_t align = alignment(p, out, in),
                   reduction = split ? 7u : uint32_t(CUBLASLT_REDUCTION_SCHEME_NONE);
    static const cublasLtMatmulPreferenceAttributes_t sides[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    PLUMB_TRY(gemm_init(&g, p, n, out, in, bias));
    BLAS_TRY(st, cublasLtMatmulPreferenceCreate(&wish), done);
    BLAS_TRY(st,
             cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                  &work, sizeof(work)),
             done);
    BLAS_TRY(st,
             cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                                  &reduction, sizeof(reduction)),
             done);
    for (cublasLtMatmulPreferenceAttributes_t side : sides)
        BLAS_TRY(st, cublasLtMatmulPreferenceSetAttribute(wish, side, &align, sizeof(align)), done);
    BLAS_TRY(st,
             cublasLtMatmulAlgoGetHeuristic(c->blas, g.desc, g.a, g.b, g.d, g.d, wish, CANDIDATES,
                                            result, found),
             done);
done:
    if (wish)
        (void)cublasLtMatmulPreferenceDestroy(wish);
    gemm_fini(&g);
    return st;
}

static plumb_status grow_cache(struct plumb_cuda *c)
{
    const int most = c->cap_cached ? 2 * c->cap_cached : 32;
    if (c->n_cached < c->cap_cached)
        return PLUMB_OK;
    void *entry = realloc(c->cached, size_t(most) * sizeof(*c->cached));
    PLUMB_REQUIRE(entry, PLUMB_ERR_NOMEM, "GEMM algorithm cache: %d entries", most);
    c->cached = static_cast<struct plumb_cuda_gemm_entry *>(entry);
    c->cap_cached = most;
    return PLUMB_OK;
}

static struct plumb_cuda_gemm_entry *find(const struct plumb_cuda *c, product p, int64_t out,
                                          int64_t in)
{
    for (int i = 0; i < c->n_cached; i++) {
        struct plumb_cuda_gemm_entry *entry = &c->cached[i];
        if (entry->product == p.is && entry->read == p.read && entry->written == p.written &&
            entry->out == out && entry->in == in)
            return entry;
    }
    return nullptr;
}

static plumb_status add(struct plumb_cuda *c, product p, int64_t out, int64_t in,
                        const cublasLtMatmulAlgo_t *algo)
{
    PLUMB_TRY(grow_cache(c));
    c->cached[c->n_cached++] = plumb_cuda_gemm_entry{p.is, p.read, p.written, out, in, *algo};
    return PLUMB_OK;
}

/* Returns the heuristic's candidates for 256 rows that support every number of rows without
 * split-K, best first. */
static plumb_status invariant(const struct plumb_cuda *c, product p, int64_t out, int64_t in,
                              const float *bias, cublasLtMatmulHeuristicResult_t *result, int *n)
{
    int found = 0;
    *n = 0;
    PLUMB_TRY(candidates(c, p, 256, out, in, bias, false, result, &found));
    for (int i = 0; i < found; i++)
        if (can_do_all(c, p, out, in, &result[i].algo, bias))
            result[(*n)++] = result[i];
    PLUMB_REQUIRE(
        *n > 0, PLUMB_ERR_UNSUPPORTED,
        "linear layer %lld x %lld: cuBLASLt offers %d algorithms, but none supports every "
        "number of rows without split-K",
        (long long)out, (long long)in, found);
    return PLUMB_OK;
}

plumb_status plumb_cuda_gemm_algo(struct plumb_cuda *c, product p, int64_t out, int64_t in,
                                  const float *bias, const cublasLtMatmulAlgo_t **algo)
{
    cublasLtMatmulHeuristicResult_t result[CANDIDATES];
    int n = 0;
    const struct plumb_cuda_gemm_entry *entry = find(c, p, out, in);
    if (!entry) {
        PLUMB_TRY(invariant(c, p, out, in, bias, result, &n));
        PLUMB_TRY(add(c, p, out, in, &result[0].algo));
        entry = &c->cached[c->n_cached - 1];
    }
    *algo = &entry->algo;
    return PLUMB_OK;
}

/* ---- timing ---------------------------------------------------------------------------- */

struct timer {
    struct plumb_cuda *c;
    /* the operands w, x and y, one after another, all zeros; also used as the bias */
    float *memory;
    cudaEvent_t begin, end;
};

/* Times the product with n rows: the best of three runs, in milliseconds, after one warm-up run. */
static plumb_status time_of(float *best, const timer *t, product p, int64_t n, int64_t out,
                            int64_t in, const cublasLtMatmulAlgo_t *algo)
{
    plumb_status st = PLUMB_OK;
    const float one = 1.0f, zero = 0.0f;
    const int64_t most = TIMED[TIMES - 1];
    const bool back_w = p.is == BACKWARD_W, back_x = p.is == BACKWARD_X;
    float *w = t->memory, *x = w + out * in, *y = x + most * in;
    const float *a = back_w ? x : w, *b = back_w || back_x ? y : x;
    float *d = back_w ? w : back_x ? x : y;
    gemm g;
    *best = 1e30f;
    PLUMB_TRY(gemm_init(&g, p, n, out, in, t->memory));
    for (int i = 0; i < 4; i++) {
        float spent = 0.0f;
        PLUMB_TRY_GOTO(st, plumb_cuda_check(cudaEventRecord(t->begin, t->c->stream), "timing"),
                       done);
        BLAS_TRY(st,
                 cublasLtMatmul(t->c->blas, g.desc, &one, a, g.a, b, g.b, &zero, d, g.d, d, g.d,
                                algo, nullptr, 0, t->c->stream),
                 done);
        PLUMB_TRY_GOTO(st, plumb_cuda_check(cudaEventRecord(t->end, t->c->stream), "timing"), done);
        PLUMB_TRY_GOTO(st, plumb_cuda_check(cudaEventSynchronize(t->end), "timing"), done);
        PLUMB_TRY_GOTO(
            st, plumb_cuda_check(cudaEventElapsedTime(&spent, t->begin, t->end), "timing"), done);
        if (i > 0 && spent < *best)
            *best = spent;
    }
done:
    gemm_fini(&g);
    return st;
}

/* Computes floor[k], the best time for TIMED[k] rows among the heuristic's first three candidates,
 * row-invariant or not. */
static plumb_status floors(float *floor, const timer *t, product p, int64_t out, int64_t in)
{
    cublasLtMatmulHeuristicResult_t result[CANDIDATES];
    for (int k = 0; k < TIMES; k++) {
        int found = 0;
        floor[k] = 1e30f;
        PLUMB_TRY(candidates(t->c, p, TIMED[k], out, in, t->memory, true, result, &found));
        for (int i = 0; i < found && i < 3; i++) {
            float spent;
            if (can_do(t->c, p, TIMED[k], out, in, &result[i].algo, t->memory)) {
                PLUMB_TRY(time_of(&spent, t, p, TIMED[k], out, in, &result[i].algo));
                floor[k] = spent < floor[k] ? spent : floor[k];
            }
        }
    }
    return PLUMB_OK;
}

/* Adds to the cache the first row-invariant candidate whose mean time over TIMED is at most DEAR
 * times the floor; if there is none, the fastest one. */
static plumb_status tune(const timer *t, product p, int64_t out, int64_t in)
{
    cublasLtMatmulHeuristicResult_t result[CANDIDATES];
    float floor[TIMES];
    int n = 0, best = 0;
    double least = 1e30;
    if (find(t->c, p, out, in))
        return PLUMB_OK;
    PLUMB_TRY(invariant(t->c, p, out, in, t->memory, result, &n));
    PLUMB_TRY(floors(floor, t, p, out, in));
    for (int i = 0; i < n && least > DEAR; i++) {
        double cost = 0.0;
        for (int k = 0; k < TIMES; k++) {
            float spent;
            PLUMB_TRY(time_of(&spent, t, p, TIMED[k], out, in, &result[i].algo));
            cost += double(spent) / double(floor[k]) / TIMES;
        }
        if (cost < least) {
            least = cost;
            best = i;
        }
    }
    plumb_log(
        least > DEAR ? PLUMB_LOG_WARN : PLUMB_LOG_DEBUG,
        "linear layer %lld x %lld, product %d: row-invariant algorithm %d of %d takes %.2f times "
        "as long as the fastest algorithm without that restriction",
        (long long)out, (long long)in, int(p.is), best + 1, n, least);
    return add(t->c, p, out, in, &result[best].algo);
}

extern "C" plumb_status plumb_cuda_gemm_cache_tune(struct plumb_cuda *c, bool bf16, int64_t out,
                                                   int64_t in)
{
    const cudaDataType_t type = bf16 ? CUDA_R_16BF : CUDA_R_32F;
    const product all[] = {{FORWARD, type, type},
                           {BACKWARD_X, type, type},
                           {BACKWARD_W, type, CUDA_R_32F},
                           {bf16 ? FORWARD : FORWARD_BIAS, type, CUDA_R_32F}};
    const size_t bytes = size_t(out * in + TIMED[TIMES - 1] * (out + in)) * sizeof(float);
    timer t = {c, nullptr, nullptr, nullptr};
    plumb_status st = PLUMB_OK;
    bool known = true;
    for (product p : all)
        known = known && find(c, p, out, in);
    if (known)
        return PLUMB_OK;
    void *memory = nullptr;
    PLUMB_CUDA_TRY(cudaMalloc(&memory, bytes));
    t.memory = static_cast<float *>(memory);
    PLUMB_TRY_GOTO(st, plumb_cuda_check(cudaMemsetAsync(memory, 0, bytes, c->stream), "timing"),
                   done);
    PLUMB_TRY_GOTO(st, plumb_cuda_check(cudaEventCreateWithFlags(&t.begin, 0), "timing"), done);
    PLUMB_TRY_GOTO(st, plumb_cuda_check(cudaEventCreateWithFlags(&t.end, 0), "timing"), done);
    for (product p : all)
        PLUMB_TRY_GOTO(st, tune(&t, p, out, in), done);
done:
    if (t.end)
        (void)cudaEventDestroy(t.end);
    if (t.begin)
        (void)cudaEventDestroy(t.begin);
    (void)cudaFree(memory);
    return st;
}

/* ---- text form ------------------------------------------------------------------------- */

/* Appends the header of the text form, which names the kind of device and the version of cuBLASLt
 * for which the entries are valid. */
static plumb_status put_header(struct plumb_buf *out)
{
    struct cudaDeviceProp d;
    int device = 0;
    PLUMB_CUDA_TRY(cudaGetDevice(&device));
    PLUMB_CUDA_TRY(cudaGetDeviceProperties(&d, device));
    return plumb_buf_addf(out, "plumb pins 1\ndevice %s sm_%d%d\ncublasLt %zu\n", d.name, d.major,
                          d.minor, cublasLtGetVersion());
}

/* Returns the 64-bit FNV-1a hash (Fowler, Noll and Vo) of the text. */
static uint64_t checksum(const char *text, int64_t n)
{
    uint64_t h = 0xCBF29CE484222325ull;
    for (int64_t i = 0; i < n; i++)
        h = (h ^ uint64_t(static_cast<unsigned char>(text[i]))) * 0x100000001B3ull;
    return h;
}

extern "C" plumb_status plumb_cuda_gemm_cache_write(struct plumb_buf *out,
                                                    const struct plumb_cuda *c)
{
    uint64_t word[sizeof(cublasLtMatmulAlgo_t) / 8];
    const int64_t begin = out->len;
    PLUMB_TRY(put_header(out));
    for (int i = 0; i < c->n_cached; i++) {
        const struct plumb_cuda_gemm_entry *entry = &c->cached[i];
        memcpy(word, &entry->algo, sizeof(word));
        PLUMB_TRY(plumb_buf_addf(out, "%d %d %d %lld %lld", entry->product, int(entry->read),
                                 int(entry->written), (long long)entry->out, (long long)entry->in));
        for (uint64_t w : word)
            PLUMB_TRY(plumb_buf_addf(out, " %016" PRIx64, w));
        PLUMB_TRY(plumb_buf_add_text(out, "\n"));
    }
    return plumb_buf_addf(out, "end %016" PRIx64 "\n",
                          checksum(out->data + begin, out->len - begin));
}

/* Reads one line of the text form and adds its entry. An entry that this cuBLASLt does not support
 * is skipped. */
static plumb_status read_line(struct plumb_cuda *c, const char *line)
{
    alignas(16) static const float bias[4] = {};
    cublasLtMatmulAlgo_t algo;
    uint64_t word[sizeof(algo) / 8];
    int is, read, written, used = 0;
    long long out, in;
    bool good = sscanf(line, "%d %d %d %lld %lld%n", &is, &read, &written, &out, &in, &used) == 5;
    for (uint64_t &w : word) {
        int more = 0;
        good = good && sscanf(line + used, " %" SCNx64 "%n", &w, &more) == 1;
        used += more;
    }
    PLUMB_REQUIRE(good && is >= FORWARD && is <= BACKWARD_W && out > 0 && in > 0, PLUMB_ERR_FORMAT,
                  "not an entry of a GEMM algorithm cache: '%.60s'", line);
    memcpy(&algo, word, sizeof(algo));
    const product p = {static_cast<form>(is), cudaDataType_t(read), cudaDataType_t(written)};
    if (find(c, p, out, in) || !can_do_all(c, p, out, in, &algo, bias))
        return PLUMB_OK;
    return add(c, p, out, in, &algo);
}

extern "C" plumb_status plumb_cuda_gemm_cache_read(struct plumb_cuda *c, const char *text)
{
    struct plumb_buf header = {};
    plumb_status st = put_header(&header);
    const char *end = strstr(text, "\nend "), *line = text + header.len;
    uint64_t sum = 0;
    if (st == PLUMB_OK &&
        (!end || sscanf(end + 5, "%" SCNx64, &sum) != 1 || sum != checksum(text, end + 1 - text)))
        st = plumb_fail_at(PLUMB_ERR_FORMAT, __FILE__, __LINE__, "the file is damaged");
    if (st == PLUMB_OK && strncmp(text, plumb_buf_text(&header), size_t(header.len)) != 0)
        st = plumb_fail_at(
            PLUMB_ERR_UNSUPPORTED, __FILE__, __LINE__,
            "the file was measured on another device or with another version of cuBLASLt");
    while (st == PLUMB_OK && line < end) {
        st = read_line(c, line);
        line = strchr(line, '\n') + 1;
    }
    plumb_buf_fini(&header);
    return st;
}
