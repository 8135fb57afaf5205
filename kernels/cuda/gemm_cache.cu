/* gemm_cache.cu - the GEMM algorithm cache: looks up, runs, writes and reads cuBLASLt algorithms.
 * Layer 1 (cuda). Includes gemm.cuh, base/. gemm_class.cu measures them.
 *
 * The cache has one entry for each (product, element types, out, in). For row invariance, the
 * algorithms of an entry have no split-K, and those of a measured entry gave the same bits in all
 * tests (gemm_class.cu). An entry that was not measured has the same algorithm for every number of
 * rows. */
#include "cuda/gemm.cuh"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern "C" { /* the headers of base/ are plain C, without extern "C" guards */
#include "base/buf.h"
}

/* Removes split-K from an algorithm. Some kinds of algorithms do not have the attribute, or have
 * the value 0 and accept no other; such an algorithm is not changed. Returns false if split-K
 * cannot be removed. */
static bool without_split(cublasLtMatmulAlgo_t *algo)
{
    int32_t split = 0;
    uint32_t reduction = 0;
    size_t written = 0;
    if (cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &split,
                                             sizeof(split), &written) == CUBLAS_STATUS_SUCCESS &&
        split > 1) {
        split = 1;
        if (cublasLtMatmulAlgoConfigSetAttribute(algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &split,
                                                 sizeof(split)) != CUBLAS_STATUS_SUCCESS)
            return false;
    }
    if (cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME,
                                             &reduction, sizeof(reduction),
                                             &written) != CUBLAS_STATUS_SUCCESS ||
        reduction == CUBLASLT_REDUCTION_SCHEME_NONE)
        return true;
    reduction = CUBLASLT_REDUCTION_SCHEME_NONE;
    return cublasLtMatmulAlgoConfigSetAttribute(algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME,
                                                &reduction,
                                                sizeof(reduction)) == CUBLAS_STATUS_SUCCESS;
}

bool plumb_cuda_gemm_can(const struct plumb_cuda *c, product p, int64_t n, int64_t out, int64_t in,
                         const cublasLtMatmulAlgo_t *algo, const float *bias)
{
    gemm g;
    cublasLtMatmulHeuristicResult_t result;
    if (plumb_cuda_gemm_is_skinny(algo))
        return plumb_cuda_gemm_skinny_can(p, n, out, in);
    if (gemm_init(&g, p, n, out, in, bias) != PLUMB_OK)
        return false;
    const cublasStatus_t e =
        cublasLtMatmulAlgoCheck(c->blas, g.desc, g.a, g.b, g.d, g.d, algo, &result);
    gemm_fini(&g);
    return e == CUBLAS_STATUS_SUCCESS && result.workspaceSize == 0;
}

static bool can_do_all(const struct plumb_cuda *c, product p, int64_t out, int64_t in,
                       const cublasLtMatmulAlgo_t *algo, const float *bias)
{
    static const int64_t rows[] = {1, 2, 7, 16, 64, 100, 256, 1024, 4096};
    for (int64_t n : rows)
        if (!plumb_cuda_gemm_can(c, p, n, out, in, algo, bias))
            return false;
    return true;
}

/* Sets align[] to the alignment in bytes of the rows of operands a, b and d of plumb_cuda_gemm_run,
 * whose first rows are aligned to 16 bytes. */
static void alignments(uint32_t align[3], product p, int64_t out, int64_t in)
{
    const bool forward = p.is == FORWARD || p.is == FORWARD_BIAS;
    align[0] = row_alignment(in, p.read);
    align[1] = row_alignment(forward ? in : out, p.read);
    align[2] = row_alignment(forward ? out : in, p.written);
}

plumb_status plumb_cuda_gemm_candidates(const struct plumb_cuda *c, product p, int64_t n,
                                        int64_t out, int64_t in, const float *bias, bool split,
                                        cublasLtMatmulHeuristicResult_t *result, int *found)
{
    plumb_status st = PLUMB_OK;
    gemm g;
    cublasLtMatmulPreference_t wish = nullptr;
    const uint64_t work = 0;
    const uint32_t reduction = split ? 7u : uint32_t(CUBLASLT_REDUCTION_SCHEME_NONE);
    uint32_t align[3];
    alignments(align, p, out, in);
    const struct {
        cublasLtMatmulPreferenceAttributes_t side;
        uint32_t align;
    } sides[] = {{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, align[0]},
                 {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, align[1]},
                 {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, align[2]},
                 {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, align[2]}};
    int all = 0;
    cublasStatus_t e;
    *found = 0;
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
    for (const auto &one : sides)
        BLAS_TRY(
            st, cublasLtMatmulPreferenceSetAttribute(wish, one.side, &one.align, sizeof(one.align)),
            done);
    e = cublasLtMatmulAlgoGetHeuristic(c->blas, g.desc, g.a, g.b, g.d, g.d, wish,
                                       PLUMB_CUDA_CANDIDATES, result, &all);
    if (e == CUBLAS_STATUS_NOT_SUPPORTED || e == CUBLAS_STATUS_INVALID_VALUE)
        goto done; /* cuBLASLt does not support this product */
    BLAS_TRY(st, e, done);
    for (int i = 0; i < all; i++)
        if (split || without_split(&result[i].algo))
            result[(*found)++] = result[i];
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
    PLUMB_REQUIRE(entry, PLUMB_ERR_NOMEM, "cannot store a GEMM algorithm cache of %d entries",
                  most);
    c->cached = static_cast<struct plumb_cuda_gemm_entry *>(entry);
    c->cap_cached = most;
    return PLUMB_OK;
}

struct plumb_cuda_gemm_entry *plumb_cuda_gemm_find(const struct plumb_cuda *c, product p,
                                                   int64_t out, int64_t in)
{
    for (int i = 0; i < c->n_cached; i++) {
        struct plumb_cuda_gemm_entry *entry = &c->cached[i];
        if (entry->product == p.is && entry->read == p.read && entry->written == p.written &&
            entry->out == out && entry->in == in)
            return entry;
    }
    return nullptr;
}

plumb_status plumb_cuda_gemm_add(struct plumb_cuda *c, const struct plumb_cuda_gemm_entry *entry)
{
    const product p = {static_cast<form>(entry->product), entry->read, entry->written};
    struct plumb_cuda_gemm_entry *there = plumb_cuda_gemm_find(c, p, entry->out, entry->in);
    if (!there) {
        PLUMB_TRY(grow_cache(c));
        there = &c->cached[c->n_cached++];
    }
    *there = *entry;
    return PLUMB_OK;
}

/* Adds an entry with the first algorithm that the heuristic proposes for 256 rows and that supports
 * all numbers of rows that can_do_all tests; if there is none, the entry stands for plumb's own
 * kernel. */
static plumb_status add_first(struct plumb_cuda *c, product p, int64_t out, int64_t in,
                              const float *bias)
{
    cublasLtMatmulHeuristicResult_t result[PLUMB_CUDA_CANDIDATES];
    struct plumb_cuda_gemm_entry entry = {p.is, p.read, p.written, out, in, 0, true, {}};
    int found = 0;
    PLUMB_TRY(plumb_cuda_gemm_candidates(c, p, 256, out, in, bias, false, result, &found));
    for (int i = 0; i < found && entry.own; i++) {
        entry.own = !can_do_all(c, p, out, in, &result[i].algo, bias);
        for (int k = 0; k < PLUMB_CUDA_GEMM_BUCKETS && !entry.own; k++)
            entry.algo[k] = result[i].algo;
    }
    if (entry.own)
        entry.bits = PLUMB_CUDA_GEMM_OWN;
    return plumb_cuda_gemm_add(c, &entry);
}

plumb_status plumb_cuda_gemm_algo(struct plumb_cuda *c, product p, int64_t n, int64_t out,
                                  int64_t in, const float *bias, const cublasLtMatmulAlgo_t **algo)
{
    *algo = nullptr;
    if (out <= FEW_OUTPUTS)
        return PLUMB_OK;
    const struct plumb_cuda_gemm_entry *entry = plumb_cuda_gemm_find(c, p, out, in);
    if (!entry) {
        PLUMB_TRY(add_first(c, p, out, in, bias));
        entry = plumb_cuda_gemm_find(c, p, out, in);
    }
    if (!entry->own)
        *algo = &entry->algo[bucket_of(n)];
    return PLUMB_OK;
}

static bool is_aligned(const void *at, uint32_t bytes)
{
    return reinterpret_cast<uintptr_t>(at) % bytes == 0;
}

plumb_status plumb_cuda_gemm_run(struct plumb_cuda *c, product p, const cublasLtMatmulAlgo_t *algo,
                                 void *d, const void *a, const void *b, const float *bias,
                                 float beta, int64_t n, int64_t out, int64_t in)
{
    const float one = 1.0f;
    uint32_t align[3];
    plumb_status st = PLUMB_OK;
    gemm g;
    if (!algo)
        return plumb_cuda_gemm_own(c, p, d, a, b, bias, beta, n, out, in);
    alignments(align, p, out, in);
    PLUMB_REQUIRE(
        is_aligned(a, align[0]) && is_aligned(b, align[1]) && is_aligned(d, align[2]),
        PLUMB_ERR_ARG,
        "linear layer %lld x %lld: operands at %p, %p and %p, expected multiples of %u, %u "
        "and %u bytes",
        (long long)out, (long long)in, a, b, d, align[0], align[1], align[2]);
    if (plumb_cuda_gemm_is_skinny(algo))
        return plumb_cuda_gemm_skinny(c, p, d, a, b, beta, n, out, in);
    PLUMB_TRY(gemm_init(&g, p, n, out, in, bias));
    BLAS_TRY(st,
             cublasLtMatmul(c->blas, g.desc, &one, a, g.a, b, g.b, &beta, d, g.d, d, g.d, algo,
                            nullptr, 0, c->stream),
             done);
done:
    gemm_fini(&g);
    return st;
}

/* ---- text form ------------------------------------------------------------------------- */

/* Appends the header of the cache's text form, which names the kind of device and the version of
 * cuBLASLt for which the entries are valid. */
static plumb_status put_header(struct plumb_buf *out)
{
    struct cudaDeviceProp d;
    int device = 0;
    PLUMB_CUDA_TRY(cudaGetDevice(&device));
    PLUMB_CUDA_TRY(cudaGetDeviceProperties(&d, device));
    return plumb_buf_addf(out, "plumb pins 2\ndevice %s sm_%d%d\ncublasLt %zu\n", d.name, d.major,
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
    uint64_t word[sizeof(c->cached->algo) / 8];
    const int64_t begin = out->len;
    PLUMB_TRY(put_header(out));
    for (int i = 0; i < c->n_cached; i++) {
        const struct plumb_cuda_gemm_entry *entry = &c->cached[i];
        memcpy(word, entry->algo, sizeof(word));
        PLUMB_TRY(plumb_buf_addf(out, "%d %d %d %lld %lld %016" PRIx64 " %d", entry->product,
                                 int(entry->read), int(entry->written), (long long)entry->out,
                                 (long long)entry->in, entry->bits, int(entry->own)));
        for (uint64_t w : word)
            PLUMB_TRY(plumb_buf_addf(out, " %016" PRIx64, w));
        PLUMB_TRY(plumb_buf_add_text(out, "\n"));
    }
    return plumb_buf_addf(out, "end %016" PRIx64 "\n",
                          checksum(out->data + begin, out->len - begin));
}

/* Returns true if the installed cuBLASLt supports each algorithm of the entry for the smallest and
 * the largest number of rows of its range. The last range has no end and is tested up to 4 times
 * its lower limit. */
static bool is_supported(const struct plumb_cuda *c, const struct plumb_cuda_gemm_entry *e)
{
    alignas(16) static const float bias[4] = {};
    const product p = {static_cast<form>(e->product), e->read, e->written};
    int64_t low = 1;
    for (int k = 0; k < PLUMB_CUDA_GEMM_BUCKETS && !e->own; k++) {
        const int64_t high = k < PLUMB_CUDA_GEMM_BUCKETS - 1 ? GEMM_ROWS[k] : 4 * (low - 1);
        if (!plumb_cuda_gemm_can(c, p, low, e->out, e->in, &e->algo[k], bias) ||
            !plumb_cuda_gemm_can(c, p, high, e->out, e->in, &e->algo[k], bias))
            return false;
        low = high + 1;
    }
    return true;
}

/* Reads one line of the text form and adds its entry. Skips an entry that the installed cuBLASLt
 * does not support. */
static plumb_status read_line(struct plumb_cuda *c, const char *line)
{
    struct plumb_cuda_gemm_entry e = {};
    uint64_t word[sizeof(e.algo) / 8];
    int read, written, own, used = 0;
    long long out, in;
    bool good = sscanf(line, "%d %d %d %lld %lld %" SCNx64 " %d%n", &e.product, &read, &written,
                       &out, &in, &e.bits, &own, &used) == 7;
    for (uint64_t &w : word) {
        int more = 0;
        good = good && sscanf(line + used, " %" SCNx64 "%n", &w, &more) == 1;
        used += more;
    }
    PLUMB_REQUIRE(
        good && e.product >= FORWARD && e.product <= BACKWARD_W && out > 0 && in > 0,
        PLUMB_ERR_FORMAT,
        "'%.60s' is not an entry of a GEMM algorithm cache; expected product, two element "
        "types, two sizes, class, own, and the words of the algorithms",
        line);
    memcpy(e.algo, word, sizeof(word));
    e.read = cudaDataType_t(read), e.written = cudaDataType_t(written);
    e.out = out, e.in = in, e.own = own != 0;
    return is_supported(c, &e) ? plumb_cuda_gemm_add(c, &e) : PLUMB_OK;
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
            "the file was measured on another device, with another version of cuBLASLt, or by "
            "another version of plumb");
    while (st == PLUMB_OK && line < end) {
        st = read_line(c, line);
        line = strchr(line, '\n') + 1;
    }
    plumb_buf_fini(&header);
    return st;
}
