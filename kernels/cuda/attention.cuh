/* attention.cuh - functions shared by attention's forward and backward kernels.
 * Layer 1, kernels/cuda only. Includes device.cuh.
 *
 * The forward and dq are computed in tiles of (row, query head) pairs of one kv head. The pairs of
 * a kv head are ordered by row, and within a row by query head. The pairs of a tile that belong to
 * one sequence therefore share each page that is loaded. */
#ifndef PLUMB_KERNELS_CUDA_ATTENTION_CUH
#define PLUMB_KERNELS_CUDA_ATTENTION_CUH

#include "cuda/device.cuh"

static constexpr int PAGE = PLUMB_KV_PAGE, WARPS = 4, ATTENTION_THREADS = WARPS * WARP;
static constexpr int MOST_D = 256; /* largest supported head size */
static_assert(PAGE == WARP, "a lane owns a key of the page");

/* The sizes of plumb_attn_shape in a struct without padding, passed to kernels by value. */
struct heads {
    int64_t h, hk, d, window, group; /* group: number of query heads per kv head */
    float cap, inner; /* cap: soft cap of the scores, 0 for none; inner: scale / cap */
};
static inline heads heads_of(const struct plumb_attn_shape *s)
{
    const float inner = s->cap > 0.0f ? s->scale / s->cap : 0.0f;
    return heads{s->h, s->hk, s->d, s->window, s->h / s->hk, s->cap, inner};
}

/* Returns the score for the product q.k = `dot`: scaled, and soft-capped if shape.cap > 0. */
DEVICE float score_of(float dot, float scale, const heads &shape)
{
    return shape.cap > 0.0f ? shape.cap * tanhf(dot * shape.inner) : dot * scale;
}
/* Returns the slope of the soft cap where its output is `score`, or 1 if there is no cap. */
DEVICE float cap_slope(float score, const heads &shape)
{
    const float t = shape.cap > 0.0f ? score / shape.cap : 0.0f;
    return fmaf(-t, t, 1.0f);
}

DEVICE int64_t first_visible(int64_t pos, int64_t window)
{
    return window > 0 && pos + 1 > window ? pos + 1 - window : 0;
}

DEVICE int64_t page_of(const plumb_rows &rows, int64_t seq, int64_t block)
{
    return rows.page[seq * rows.max_pages + block];
}

/* Returns the end of the run of rows of one sequence that starts at row `begin`; at most `last` +
 * 1. */
DEVICE int64_t run_end(const plumb_rows &rows, int64_t begin, int64_t last)
{
    int64_t end = begin + 1;
    while (end <= last && rows.seq[end] == rows.seq[begin])
        end++;
    return end;
}

/* Returns true if the rows count as decoding: at most two rows per sequence on average. The kernels
 * for decoding assume that few rows attend to the same keys. */
static inline bool decodes(const struct plumb_rows *rows)
{
    return rows->n <= 2 * (rows->present > 0 ? rows->present : rows->n_seq);
}

/* Copies x (n,) from device to shared memory with all threads of the block. Both addresses must be
 * 16-byte aligned, and n % 4 == 0. */
DEVICE void copy_tile(float *to, const float *from, int n)
{
    for (int j = 4 * int(threadIdx.x); j < n; j += 4 * ATTENTION_THREADS)
        *reinterpret_cast<float4 *>(to + j) = *reinterpret_cast<const float4 *>(from + j);
}

/* Copies from (rows,columns) from device to shared memory; in shared memory its rows are `stride`
 * floats apart. */
DEVICE void copy_padded(float *to, const float *from, int rows, int columns, int stride)
{
    for (int at = int(threadIdx.x); at < rows * columns; at += ATTENTION_THREADS)
        to[at / columns * stride + at % columns] = from[at];
}

/* Computes delta[i] = dout[i,:].o[i,:] for each of n (row, head) pairs. The backward of the softmax
 * computes ds = p (dp - delta), where dp = dout.v is the gradient of the probability p. */
template <class T>
static __global__ void __launch_bounds__(ATTENTION_THREADS)
    delta_kernel(float *delta, const T *dout, const T *o, int64_t n, int d)
{
    const int64_t i = int64_t(blockIdx.x) * WARPS + threadIdx.x / WARP;
    if (i >= n)
        return;
    float sum = 0.0f;
    for (int e = int(threadIdx.x % WARP); e < d; e += WARP)
        sum = fmaf(widen(dout[i * d + e]), widen(o[i * d + e]), sum);
    sum = warp_sum(sum);
    if (threadIdx.x % WARP == 0)
        delta[i] = sum;
}
template <class T>
static plumb_status run_delta(plumb_stream *s, float *delta, const T *dout, const T *o, int64_t n,
                              int64_t d)
{
    PLUMB_TRY(check_grid("attention_bwd", ceil_div(n, WARPS), 1));
    PLUMB_LAUNCH(delta_kernel<T>, unsigned(ceil_div(n, WARPS)), ATTENTION_THREADS, 0,
                 context_of(s)->stream, delta, dout, o, n, int(d));
    return launched("attention_bwd delta");
}

static inline plumb_status check_head(const char *kernel, const struct plumb_attn_shape *s)
{
    PLUMB_REQUIRE(s->d <= MOST_D, PLUMB_ERR_UNSUPPORTED,
                  "%s: head size %lld; the CUDA kernels support up to %d", kernel, (long long)s->d,
                  MOST_D);
    return PLUMB_OK;
}

#endif
