/* test_gemm_cache_cuda.c - the GEMM algorithm cache is measured, written and read again.
 * Test of layer 1. */
#include <inttypes.h>

#include "backend/backend.h"
#include "base/buf.h"
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

/* Returns how many entries hold the emulator's slow algorithm (word 0 is 2); checks that none uses
 * split-K (word 1 is the number of parts). */
static int64_t slow_ones(const struct plumb_cuda *c)
{
    int64_t slow = 0;
    for (int i = 0; i < c->n_cached; i++) {
        uint64_t word[2];
        memcpy(word, &c->cached[i].algo, sizeof(word));
        CHECK(word[1] == 1);
        slow += word[0] == 2;
    }
    return slow;
}

/* Returns how many slow algorithms the heuristic's first choice takes when nothing is timed. */
static int64_t slow_untuned(void)
{
    struct plumb_backend *b = NULL;
    void *x = NULL;
    CHECK_OK(plumb_backend_cuda_create(&b, 0));
    CHECK_OK(b->alloc(b, &x, 1 << 16, "x"));
    float *f = x;
    for (int i = 0; i < SHAPES; i++)
        CHECK_OK(
            b->k.linear_fwd(b->stream, f, f + 4096, f + 8192, NULL, 1, shape[i][0], shape[i][1]));
    CHECK_OK(b->sync(b));
    const int64_t slow = slow_ones(context_of(b));
    b->release(b, x);
    plumb_backend_destroy(&b);
    return slow;
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
        CHECK_OK(plumb_cuda_gemm_cache_tune(c, false, shape[i][0], shape[i][1]));
    CHECK_OK(plumb_cuda_gemm_cache_tune(c, true, 64, 32));
    CHECK(c->n_cached == 4 * SHAPES + 4);
#ifdef PLUMB_CUDA_EMU
    CHECK(slow_untuned() > 0 && slow_ones(c) == 0);
#endif
    CHECK_OK(plumb_cuda_gemm_cache_tune(c, false, 64, 32)); /* already cached */
    CHECK(c->n_cached == 4 * SHAPES + 4);

    CHECK_OK(plumb_cuda_gemm_cache_write(&text, c));
    CHECK_OK(plumb_cuda_gemm_cache_read(o, plumb_buf_text(&text)));
    CHECK(o->n_cached == c->n_cached);
    CHECK_OK(plumb_cuda_gemm_cache_read(o, plumb_buf_text(&text))); /* existing entries stay */
    CHECK_OK(plumb_cuda_gemm_cache_write(&again, o));
    CHECK(again.len == text.len && !memcmp(again.data, text.data, (size_t)text.len));

    o->n_cached = 0;
    for (int64_t at = 0; at < text.len - 2; at += 37) {
        text.data[at] ^= 1;
        CHECK(plumb_cuda_gemm_cache_read(o, plumb_buf_text(&text)) != PLUMB_OK && o->n_cached == 0);
        text.data[at] ^= 1;
    }
    refused(other, "", PLUMB_ERR_FORMAT);
    refused(other, "plumb pins 1\n", PLUMB_ERR_FORMAT);
    CHECK_OK(plumb_buf_add_text(&foreign, "plumb pins 1\ndevice another sm_10\ncublasLt 1\n"));
    CHECK_OK(plumb_buf_addf(&foreign, "end %016" PRIx64 "\n", checksum(foreign.data, foreign.len)));
    refused(other, plumb_buf_text(&foreign), PLUMB_ERR_UNSUPPORTED);
    plumb_buf_fini(&text);
    plumb_buf_fini(&again);
    plumb_buf_fini(&foreign);
    plumb_backend_destroy(&other);
    plumb_backend_destroy(&b);
    return 0;
}
