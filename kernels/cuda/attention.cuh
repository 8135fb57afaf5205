/* attention.cuh - what attention's forward and backward share.
 * Layer 1, kernels/cuda only. Includes device.cuh.
 *
 * Warps own (row, head) pairs, R each; the pairs of a kv head stand in the order of their rows,
 * the heads of its group beside each other, so that all of a tile's pairs read the same keys. */
#ifndef PLUMB_KERNELS_CUDA_ATTENTION_CUH
#define PLUMB_KERNELS_CUDA_ATTENTION_CUH

#include "cuda/device.cuh"

static constexpr int PAGE = PLUMB_KV_PAGE, WARPS = 4, ATTENTION_THREADS = WARPS * WARP;
static constexpr int MOST_D = 256; /* largest head */
static_assert(PAGE == WARP, "a lane owns a key of the page");

/* Of plumb_attn_shape, without the padding. */
struct heads {
    int64_t h, hk, d, window;
};
static inline heads heads_of(const struct plumb_attn_shape *s)
{
    return heads{s->h, s->hk, s->d, s->window};
}

DEVICE int64_t first_visible(int64_t pos, int64_t window)
{
    return window > 0 && pos + 1 > window ? pos + 1 - window : 0;
}

DEVICE int64_t page_of(const plumb_rows &rows, int64_t seq, int64_t block)
{
    return rows.page[seq * rows.max_pages + block];
}

/* One past the last row of begin's sequence, at most `last` + 1. */
DEVICE int64_t run_end(const plumb_rows &rows, int64_t begin, int64_t last)
{
    int64_t end = begin + 1;
    while (end <= last && rows.seq[end] == rows.seq[begin])
        end++;
    return end;
}

/* x (n,) from device to shared memory by all threads; both 16-byte aligned, n % 8 == 0. */
template <class T> DEVICE void copy_tile(float *to, const T *from, int n)
{
    constexpr int N = PER<T>;
    for (int j = N * int(threadIdx.x); j < n; j += N * ATTENTION_THREADS)
        store(to, load<N>(from, j, n, true), j, n, true);
}

/* Rows x columns from device to shared memory, each row `stride` apart there. */
template <class T>
DEVICE void copy_padded(float *to, const T *from, int rows, int columns, int stride)
{
    for (int at = int(threadIdx.x); at < rows * columns; at += ATTENTION_THREADS)
        to[at / columns * stride + at % columns] = widen(from[at]);
}

static inline plumb_status check_head(const char *kernel, const struct plumb_attn_shape *s)
{
    PLUMB_REQUIRE(s->d <= MOST_D, PLUMB_ERR_UNSUPPORTED,
                  "%s: head size %lld, the CUDA kernels have up to %d", kernel, (long long)s->d,
                  MOST_D);
    return PLUMB_OK;
}

/* Lets a kernel have `bytes` of dynamic shared memory. */
template <class K> static plumb_status allow_shared(K *kernel, size_t bytes)
{
    if (bytes > 48 * 1024)
        PLUMB_CUDA_TRY(
            cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes)));
    return PLUMB_OK;
}

#endif
