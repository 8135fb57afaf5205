/* test_gemm_cache_cuda.c - checks the cache of selected GEMM algorithms: it is measured, written to
 * text and read again.
 * Test. */
#include <inttypes.h>

#include "backend/backend.h"
#include "base/buf.h"
#include "base/num.h"
#include "cuda/cuda.h"
#include "gpu.h"

static const int64_t shape[][2] = {{64, 32}, {32, 64}, {48, 32}, {33, 7}, {128, 16}, {16, 20}};
enum { SHAPES = sizeof(shape) / sizeof(*shape) };

static struct plumb_cuda *context_of(struct plumb_backend *b)
{
    return (struct plumb_cuda *)(void *)b->stream;
}

static uint64_t checksum(const char *text, int64_t n)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (int64_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)text[i]) * 0x100000001B3u;
    return h;
}

enum { ALL = 31, BUCKETS = PLUMB_CUDA_GEMM_BUCKETS, ROWS = 24 };

#ifdef PLUMB_CUDA_EMU
/* Checks that every entry has the fastest algorithms of one class (algorithms that give equal
 * bits), without split-K (word 1). Word 0 is the emulator's algorithm. Algorithms 0 and 3 give
 * equal bits, and 3 is faster for few columns. 2 is slow. 1 refuses a single column. 4 is the
 * fastest, but its bits depend on the position of a column; so it may be used for one row only. In
 * bfloat16, plumb's own kernel is the fastest for few rows, because kernels take no time in the
 * emulator; its bits are those of algorithm 0. */
static void check_members(const struct plumb_cuda *c)
{
    for (int i = 0; i < c->n_cached; i++) {
        const struct plumb_cuda_gemm_entry *e = &c->cached[i];
        for (int k = 0; k < BUCKETS && !e->own; k++) {
            uint64_t word[2];
            memcpy(word, &e->algo[k], sizeof(word));
            CHECKF(word[1] <= 1, "entry %d, range %d: split-K", i, k);
            cublasLtMatmulAlgo_t skinny;
            plumb_cuda_gemm_skinny_algo(&skinny);
            const bool own = e->product == 0 && e->read == CUDA_R_16BF && k < 3;
            CHECKF(own == !memcmp(&skinny, &e->algo[k], sizeof(skinny)),
                   "entry %d, range %d: %s plumb's own kernel", i, k, own ? "not" : "also");
            /* forward product: the columns of the emulator's product are the rows of x */
            if (e->product <= 1 && !own)
                CHECKF(word[0] == (k == 0  ? 4
                                   : k < 3 ? 3
                                           : 0),
                       "entry %d, range %d: algorithm %d", i, k, (int)word[0]);
        }
    }
}
#endif

/* Checks that any number of rows, from any first row, has the same bits as in the whole product. */
static void check_rows(struct plumb_backend *b, int64_t out, int64_t in)
{
    float *x, *w, *y, *all = malloc((size_t)(ROWS * out) * 4),
                      *got = malloc((size_t)(ROWS * out) * 4);
    struct rng r = {7};
    float *host = malloc((size_t)((ROWS + out) * in) * 4);
    CHECK(all && got && host);
    CHECK_OK(b->alloc(b, (void **)&x, ROWS * in * 4, "x"));
    CHECK_OK(b->alloc(b, (void **)&w, out * in * 4, "w"));
    CHECK_OK(b->alloc(b, (void **)&y, ROWS * out * 4, "y"));
    for (int64_t i = 0; i < (ROWS + out) * in; i++)
        host[i] = rng_f(&r, -1.0f, 1.0f);
    CHECK_OK(b->to_device(b, x, host, ROWS * in * 4));
    CHECK_OK(b->to_device(b, w, host + ROWS * in, out * in * 4));
    CHECK_OK(b->k.linear_fwd(b->stream, y, x, w, NULL, ROWS, out, in));
    CHECK_OK(b->to_host(b, all, y, ROWS * out * 4));
    for (int64_t n = 1; n < ROWS; n++)
        for (int64_t at = 0; at + n <= ROWS; at += 1 + n / 2) {
            CHECK_OK(b->k.linear_fwd(b->stream, y, x + at * in, w, NULL, n, out, in));
            CHECK_OK(b->to_host(b, got, y, n * out * 4));
            CHECKF(!memcmp(got, all + at * out, (size_t)(n * out) * 4),
                   "%lld x %lld: %lld rows from row %lld have other bits", (long long)out,
                   (long long)in, (long long)n, (long long)at);
        }
    b->release(b, y);
    b->release(b, w);
    b->release(b, x);
    free(host);
    free(got);
    free(all);
}

/* Checks plumb's own kernel for few rows: it must give the bits of the entry's class for every
 * number of rows, with a bias, without one, and for the vocabulary head, whose outputs are float32.
 * For every second number of rows it is launched early, as in a graph. On a GPU, the kernel may
 * give the bits of another class; then the results must agree up to rounding. */
static void check_skinny(int64_t out, int64_t in)
{
    enum { MOST = 64, KEPT = 2 };
    struct plumb_backend *b = NULL;
    struct plumb_cuda_gemm_entry kept[KEPT];
    struct rng r = {11};
    void *x, *w, *bias, *y;
    uint16_t *host = malloc((size_t)((MOST + out) * in) * 2), *got[2];
    float *values = malloc((size_t)out * 4);
    CHECK_OK(plumb_backend_cuda_create(&b, 0));
    struct plumb_cuda *c = context_of(b);
    CHECK_OK(plumb_cuda_gemm_cache_tune(c, true, out, in, PLUMB_GEMM_FORWARD | PLUMB_GEMM_HEAD));
    CHECK(host && values && c->n_cached == KEPT);
    memcpy(kept, c->cached, sizeof(kept));
    CHECK_OK(b->alloc(b, &x, MOST * in * 2, "x"));
    CHECK_OK(b->alloc(b, &w, out * in * 2, "w"));
    CHECK_OK(b->alloc(b, &bias, out * 4, "bias"));
    CHECK_OK(b->alloc(b, &y, MOST * out * 4, "y"));
    for (int64_t i = 0; i < (MOST + out) * in; i++)
        host[i] = plumb_to_bf16(rng_f(&r, -1.0f, 1.0f));
    for (int64_t i = 0; i < out; i++)
        values[i] = rng_f(&r, -1.0f, 1.0f);
    CHECK_OK(b->to_device(b, x, host, MOST * in * 2));
    CHECK_OK(b->to_device(b, w, host + MOST * in, out * in * 2));
    CHECK_OK(b->to_device(b, bias, values, out * 4));
    /* 0: without a bias, 1: with a bias, 2: vocabulary head */
    for (int which = 0; which < 3; which++)
        for (int64_t n = 1; n <= MOST; n += n < 18 ? 1 : 15) {
            const int64_t bytes = n * out * (which == 2 ? 4 : 2);
            for (int own = 0; own < 2; own++) {
                for (int i = 0; i < KEPT; i++)
                    for (int k = 0; k < BUCKETS; k++) {
                        c->cached[i].algo[k] = kept[i].algo[BUCKETS - 1];
                        if (own)
                            plumb_cuda_gemm_skinny_algo(&c->cached[i].algo[k]);
                    }
                c->early = own && n % 2 && c->can_be_early;
                CHECK_OK(which == 2 ? b->k.bf16.head_fwd(b->stream, y, x, w, n, out, in)
                                    : b->k.bf16.linear_fwd(b->stream, y, x, w, which ? bias : NULL,
                                                           n, out, in));
                c->early = false;
                got[own] = malloc((size_t)bytes);
                CHECK(got[own]);
                CHECK_OK(b->to_host(b, got[own], y, bytes));
            }
#ifdef PLUMB_CUDA_EMU
            CHECKF(!memcmp(got[0], got[1], (size_t)bytes), "%lld x %lld, %lld rows: other bits",
                   (long long)out, (long long)in, (long long)n);
#endif
            for (int64_t i = 0; i < n * out; i++) {
                const double u =
                    which == 2 ? ((float *)(void *)got[0])[i] : plumb_from_bf16(got[0][i]);
                const double v =
                    which == 2 ? ((float *)(void *)got[1])[i] : plumb_from_bf16(got[1][i]);
                CHECKF(fabs(u - v) <= 1e-3 + 0x1p-7 * fabs(u), "%lld x %lld, %lld rows: %g, %g",
                       (long long)out, (long long)in, (long long)n, u, v);
            }
            free(got[0]);
            free(got[1]);
        }
    CHECK_FAILS(b->k.bf16.linear_fwd(b->stream, y, x, w, NULL, MOST + 1, out, in), PLUMB_ERR_SHAPE,
                "product of few rows: 65 rows");
    b->release(b, x);
    b->release(b, w);
    b->release(b, bias);
    b->release(b, y);
    plumb_backend_destroy(&b);
    free(host);
    free(values);
}

/* Checks that a run that needs the classes of another run gets these classes, although its cache
 * has others. */
static void check_wanted(struct plumb_backend *b)
{
    struct plumb_cuda *c = context_of(b);
    struct plumb_buf classes = {0}, now = {0};
    const int before = c->n_cached;
    CHECK_OK(plumb_cuda_gemm_classes(&classes, c));
    CHECK(strstr(plumb_buf_text(&classes), "forward, float32 to float32, 64 x 32: "));
    plumb_cuda_gemm_want(c, plumb_buf_text(&classes));
    for (int i = 0; i < c->n_cached; i++)
        c->cached[i].bits ^= 8; /* as if another class had been selected */
    for (int i = 0; i < SHAPES; i++)
        CHECK_OK(plumb_cuda_gemm_cache_tune(c, false, shape[i][0], shape[i][1], ALL));
    CHECK_OK(plumb_cuda_gemm_cache_tune(c, true, 64, 32, ALL));
    CHECK_OK(plumb_cuda_gemm_classes(&now, c));
    CHECK(c->n_cached == before && now.len == classes.len);
    CHECK(!memcmp(now.data, classes.data, (size_t)now.len));
    plumb_cuda_gemm_want(c, NULL);
    plumb_buf_fini(&classes);
    plumb_buf_fini(&now);
}

static void refused(struct plumb_backend *b, const char *text, plumb_status with)
{
    struct plumb_cuda *c = context_of(b);
    const int before = c->n_cached;
    CHECK(plumb_cuda_gemm_cache_read(c, text) == with && c->n_cached == before);
}

int main(void)
{
    struct plumb_backend *b = NULL, *other = NULL;
    struct plumb_buf text = {0}, again = {0}, foreign = {0};
    skip_without_gpu();
    CHECK_OK(plumb_backend_cuda_create(&b, 0));
    CHECK_OK(plumb_backend_cuda_create(&other, 0));
    struct plumb_cuda *c = context_of(b), *o = context_of(other);
    for (int i = 0; i < SHAPES; i++)
        CHECK_OK(plumb_cuda_gemm_cache_tune(c, false, shape[i][0], shape[i][1], ALL));
    CHECK_OK(plumb_cuda_gemm_cache_tune(c, true, 64, 32, ALL));
    CHECK(c->n_cached == 4 * SHAPES + 4);
#ifdef PLUMB_CUDA_EMU
    check_members(c);
#endif
    for (int i = 0; i < SHAPES; i++)
        check_rows(b, shape[i][0], shape[i][1]);
    check_wanted(b);
    check_skinny(64, 32);
    /* with this size, the sum has more steps than the kernel's ring has buffers */
    check_skinny(8, 584);
    check_skinny(12, 72);
    CHECK_OK(plumb_cuda_gemm_cache_tune(c, false, 64, 32, ALL)); /* these entries exist already */
    CHECK(c->n_cached == 4 * SHAPES + 4);
    CHECK_OK(plumb_cuda_gemm_cache_tune(c, true, 32, 64, PLUMB_GEMM_FORWARD));
    /* only the forward product was asked for, so only this entry was added */
    CHECK(c->n_cached == 4 * SHAPES + 5);
    CHECK_OK(plumb_cuda_gemm_cache_tune(c, true, 33, 7, PLUMB_GEMM_FORWARD));
    CHECK(c->n_cached == 4 * SHAPES + 6);
#ifdef PLUMB_CUDA_EMU
    /* cuBLASLt does not support bfloat16 rows of an odd length */
    CHECK(c->cached[c->n_cached - 1].own);
#endif

    CHECK_OK(plumb_cuda_gemm_cache_write(&text, c));
    CHECK_OK(plumb_cuda_gemm_cache_read(o, plumb_buf_text(&text)));
    CHECK(o->n_cached == c->n_cached);
    /* entries that exist are kept */
    CHECK_OK(plumb_cuda_gemm_cache_read(o, plumb_buf_text(&text)));
    CHECK_OK(plumb_cuda_gemm_cache_write(&again, o));
    CHECK(again.len == text.len && !memcmp(again.data, text.data, (size_t)text.len));

    o->n_cached = 0;
    for (int64_t at = 0; at < text.len - 2; at += 37) {
        text.data[at] ^= 1;
        CHECK(plumb_cuda_gemm_cache_read(o, plumb_buf_text(&text)) != PLUMB_OK && o->n_cached == 0);
        text.data[at] ^= 1;
    }
    refused(other, "", PLUMB_ERR_FORMAT);
    refused(other, "plumb pins 2\n", PLUMB_ERR_FORMAT);
    CHECK_OK(plumb_buf_add_text(&foreign, "plumb pins 2\ndevice another sm_10\ncublasLt 1\n"));
    CHECK_OK(plumb_buf_addf(&foreign, "end %016" PRIx64 "\n", checksum(foreign.data, foreign.len)));
    refused(other, plumb_buf_text(&foreign), PLUMB_ERR_UNSUPPORTED);
    plumb_buf_fini(&text);
    plumb_buf_fini(&again);
    plumb_buf_fini(&foreign);
    plumb_backend_destroy(&other);
    plumb_backend_destroy(&b);
    return 0;
}
