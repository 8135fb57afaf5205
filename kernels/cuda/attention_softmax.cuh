/* attention_softmax.cuh - the online softmax of bfloat16 attention, shared by the kernels of the
 * forward.
 * Layer 1, kernels/cuda only. Includes attention_bf16.cuh.
 *
 * The result of a row does not depend on the tile. Pages are processed in ascending order,
 * beginning with the first page with a key that the row attends to. Scores are tensor-core products
 * over 16 columns at a time, in ascending order. Each lane adds the probabilities of its eight keys
 * in order; the sums of the row's four lanes are added at the end. Outputs are products over 16
 * keys at a time, in ascending order, with probabilities rounded to bfloat16. A page without keys
 * that the row attends to has probabilities of zero and a rescaling factor of 1 (or of 0, while the
 * sums are still 0), so it does not change the row (mma.cuh).
 *
 * Sums restart at every multiple of CHUNK positions, and the sums of the chunks are combined in
 * order. The chunks of a long row can therefore be divided among thread blocks. Two kernels perform
 * these steps: fwd_kernel (attention_bf16.cu) processes tiles of (row, query head) pairs, for
 * training and prefill; a block of decode_kernel (attention_bf16_decode.cu) processes one row, and
 * its warps divide the keys of a page and then the columns of v. Source: Dao 2023,
 * arXiv:2307.08691, algorithm 1. */
#ifndef PLUMB_KERNELS_CUDA_ATTENTION_SOFTMAX_CUH
#define PLUMB_KERNELS_CUDA_ATTENTION_SOFTMAX_CUH

#include "cuda/attention_bf16.cuh"

/* ---- steps of the online softmax ---------------------------------------------------------- */

/* number of positions per chunk; another value gives other bits */
static constexpr int CHUNK = 512, CHUNK_PAGES = CHUNK / PAGE;

/* State of the online softmax in one lane, for its two rows g and g+8 of the warp's tile (g = lane
 * / 4): the largest score so far (times log2(e)), the lane's own part of the sum of probabilities,
 * and visible_to of the row in the current run. */
struct online {
    float max[2], sum[2];
    int to[2];
};

/* Turns the products q.k in s (16,PAGE) into probabilities relative to each row's largest score so
 * far, and updates `row`. factor[i] receives the factor for the sums over the earlier pages of the
 * lane's row i (0: row g, 1: row g+8). `first` is the position of the page's first key. */
template <bool CAP>
DEVICE void softmax(float (*s)[4], online *row, float *factor, float scale, const heads &shape,
                    int first)
{
    const int from[2] = {first_key(row->to[0], shape.window), first_key(row->to[1], shape.window)};
    const bool all = from[0] <= first && from[1] <= first && row->to[0] >= first + PAGE &&
                     row->to[1] >= first + PAGE;
    const bool masks = __ballot_sync(ALL_LANES, !all) != 0;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float top = row->max[i];
#pragma unroll
        for (int n = 0; n < NT; n++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int at = first + n * 8 + 2 * quad_lane() + e;
                float *x = &s[n][2 * i + e];
                *x = CAP ? shape.cap * LOG2E * tanhf(*x * shape.inner) : *x * scale;
                if (masks && (at < from[i] || at >= row->to[i]))
                    *x = -INFINITY;
                top = fmaxf(top, *x);
            }
        top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, 1));
        top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, 2));
        /* no key so far that the row attends to */
        const float base = top == -INFINITY ? 0.0f : top;
        float sum = 0.0f;
#pragma unroll
        for (int n = 0; n < NT; n++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                s[n][2 * i + e] = exp2_fast(s[n][2 * i + e] - base);
                sum += s[n][2 * i + e];
            }
        factor[i] = exp2_fast(row->max[i] - base);
        row->sum[i] = fmaf(row->sum[i], factor[i], sum);
        row->max[i] = top;
    }
}

/* Multiplies acc (16,W) by factor, row by row; does nothing if all factors of the warp are 1. */
template <int W> DEVICE void rescale(float (*acc)[4], const float *factor)
{
    if (__ballot_sync(ALL_LANES, factor[0] != 1.0f || factor[1] != 1.0f) == 0)
        return;
#pragma unroll
    for (int n = 0; n < W / 8; n++)
#pragma unroll
        for (int j = 0; j < 4; j++)
            acc[n][j] *= factor[j / 2];
}

/* Returns the sum of `sum` over the four lanes that share a row, in all four lanes. */
DEVICE float whole_sum(float sum)
{
    sum += __shfl_xor_sync(ALL_LANES, sum, 1);
    return sum + __shfl_xor_sync(ALL_LANES, sum, 2);
}

/* Stores columns [c, c+W) of the lane's row i (0: row g, 1: row g+8), divided by the row's sum.
 * Adding 0 turns a result of -0 into 0. */
template <int W>
DEVICE void store_row(plumb_bf16 *o, const float (*acc)[4], int i, float sum, int c, int d)
{
    const float by = 1.0f / sum;
#pragma unroll
    for (int n = 0; n < W / 8; n++)
        store_pair(o, c + n * 8 + 2 * quad_lane(), d, fmaf(acc[n][2 * i], by, 0.0f),
                   fmaf(acc[n][2 * i + 1], by, 0.0f));
}

/* Prepares the combination of two partial sums whose largest scores are a and b: sets the factor by
 * which each sum must be multiplied, and returns the larger score. */
DEVICE float join(float a, float b, float *factor_a, float *factor_b)
{
    const float top = fmaxf(a, b), base = top == -INFINITY ? 0.0f : top;
    *factor_a = exp2_fast(a - base);
    *factor_b = exp2_fast(b - base);
    return top;
}

/* Adds the sums of the current chunk to `total`, which holds max[2], sum[2] and acc (16,W) of the
 * earlier chunks; if `begins` is true, there are no earlier chunks. Then resets row and acc to
 * their initial values. */
template <int W> DEVICE void fold(float *total, online *row, float (*acc)[4], bool begins)
{
    float before[2], now[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        total[i] = join(begins ? -INFINITY : total[i], row->max[i], &before[i], &now[i]);
        total[2 + i] = fmaf(begins ? 0.0f : total[2 + i], before[i], row->sum[i] * now[i]);
        row->max[i] = -INFINITY;
        row->sum[i] = 0.0f;
    }
#pragma unroll
    for (int n = 0; n < W / 8; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            float *t = &total[4 + n * 4 + e];
            *t = fmaf(begins ? 0.0f : *t, before[e / 2], acc[n][e] * now[e / 2]);
            acc[n][e] = 0.0f;
        }
}
/* Copies max, sum and acc of all chunks, which fold() has combined in `total`, to row and acc. */
template <int W> DEVICE void unfold(const float *total, online *row, float (*acc)[4])
{
#pragma unroll
    for (int i = 0; i < 2; i++) {
        row->max[i] = total[i];
        row->sum[i] = total[2 + i];
    }
#pragma unroll
    for (int n = 0; n < W / 8; n++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            acc[n][e] = total[4 + n * 4 + e];
}

/* number of floats that the array `total` of fold() has in one lane: max[2], sum[2] and acc */
template <int W> constexpr int TOTAL = 4 + W / 2;

/* Returns true if page `block` is the first one of a chunk but not of the run, whose first page is
 * `first`. */
DEVICE bool at_chunk(int block, int first)
{
    return block % CHUNK_PAGES == 0 && block > first;
}

DEVICE float lse_of(float max, float sum)
{
    return (max + log2f(sum)) * LN2;
}

/* ---- host -------------------------------------------------------------------------------- */

/* Computes attention_fwd if decodes(rows) is true (attention_bf16_decode.cu). */
plumb_status plumb_cuda_attention_decode(plumb_stream *s, plumb_bf16 *o, float *lse,
                                         const plumb_bf16 *q, const plumb_bf16 *kc,
                                         const plumb_bf16 *vc, const struct plumb_rows *rows,
                                         const struct plumb_attn_shape *shape);

#endif
