/* kernels.h - every kernel's one signature, and the table that holds them.
 * Layer 1. Includes base/ only.
 *
 * Rules for every kernel: raw pointers, already checked by src/op; outputs first;
 * row-major and contiguous; pointers never alias unless the comment says so; asynchronous
 * on `s` (CPU tables: `s` carries the worker threads and the call is synchronous).
 *
 * Row invariance: what a *_fwd kernel writes for a row depends on that row's inputs and the
 * row's own sizes only - never on the number of rows, the row's place among them, or the
 * number of threads. Sums of *_bwd kernels over rows run in row order. */
#ifndef PLUMB_KERNELS_H
#define PLUMB_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct plumb_stream plumb_stream; /* CPU: a plumb_pool; CUDA: a cudaStream_t */

/* Keys in a page of the KV store, and the block that attention's online softmax advances by.
 * A page of one layer holds, for each kv head, keys transposed and values plain:
 *     kc[page][hk][d][PLUMB_KV_PAGE]      vc[page][hk][PLUMB_KV_PAGE][d]              */
#define PLUMB_KV_PAGE 32

/* Where each row of a packed batch stands. Rows of one sequence are neighbours and in
 * ascending position; the keys of a row are positions 0..pos of its sequence, found through
 * the page table. */
struct plumb_rows {
    int64_t n;           /* rows */
    int64_t n_seq;       /* sequences that rows refer to */
    int64_t max_pages;   /* columns of `page` */
    const int32_t *seq;  /* (n,) sequence of each row, in [0, n_seq) */
    const int32_t *pos;  /* (n,) position in its sequence, >= 0 */
    const int32_t *page; /* (n_seq, max_pages) page that holds positions [i*PAGE, (i+1)*PAGE) */
};

struct plumb_attn_shape {
    int64_t h, hk, d; /* query heads, kv heads (h % hk == 0), head size */
    float scale;      /* of q.k, normally 1/sqrt(d) */
    int64_t window;   /* a row sees its last `window` keys; 0 = all */
};

struct plumb_sample_param {
    float temperature; /* >= 0; 0 = the largest logit, ties to the lowest id */
    int32_t top_k;     /* 0 = off */
    float top_p;       /* (0,1]; 1 = off */
    float min_p;       /* [0,1]; 0 = off */
};

struct plumb_adamw {
    float lr, beta1, beta2, eps, weight_decay;
    float correction1, correction2; /* 1 - beta^step */
    float grad_scale;               /* multiplies g first (clipping) */
};

/* ---- rows ------------------------------------------------------------------------- */

/* y[i,:] = x[index[i],:]          y (n,c)  x (*,c)  index (n,) */
typedef plumb_status plumb_gather_fwd_fn(plumb_stream *s, float *y, const float *x,
                                         const int32_t *index, int64_t n, int64_t c);
/* dx[index[i],:] += dy[i,:]       in ascending i; dx (m,c); indices may repeat */
typedef plumb_status plumb_gather_bwd_fn(plumb_stream *s, float *dx, const float *dy,
                                         const int32_t *index, int64_t n, int64_t c, int64_t m);

/* y[i,:] = mean of x[offset[i] .. offset[i+1]-1, :], in row order; 0 for an empty segment
 *   y (g,c)  x (*,c)  offset (g+1,) */
typedef plumb_status plumb_segment_mean_fwd_fn(plumb_stream *s, float *y, const float *x,
                                               const int64_t *offset, int64_t g, int64_t c);

/* y = a + b, y may be a or b */
typedef plumb_status plumb_add_fwd_fn(plumb_stream *s, float *y, const float *a, const float *b,
                                      int64_t n);

/* y[i,:] = x[i,:] * rstd[i] * w,  rstd[i] = 1/sqrt(mean_j x[i,j]^2 + eps)
 *   y (n,c)  rstd (n,)  x (n,c)  w (c,)      Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4 */
typedef plumb_status plumb_rmsnorm_fwd_fn(plumb_stream *s, float *y, float *rstd, const float *x,
                                          const float *w, int64_t n, int64_t c, float eps);
/* dx += dL/dx ; dw += dL/dw   given dy (n,c) and the saved rstd (n,) */
typedef plumb_status plumb_rmsnorm_bwd_fn(plumb_stream *s, float *dx, float *dw, const float *dy,
                                          const float *x, const float *w, const float *rstd,
                                          int64_t n, int64_t c);

/* Rotates in place, halves paired as Hugging Face does (i with i + d/2):
 *     x1' = x1 cos - x2 sin,  x2' = x2 cos + x1 sin        at table[pos[i], :]
 *   x (n,h,d)  cos_sin (max_pos, d): first d/2 columns cos, then d/2 sin  pos (n,)
 * Su et al. 2021, arXiv:2104.09864, eq. 34. The backward is the inverse rotation. */
typedef plumb_status plumb_rope_fwd_fn(plumb_stream *s, float *x, const float *cos_sin,
                                       const int32_t *pos, int64_t n, int64_t h, int64_t d);
typedef plumb_status plumb_rope_bwd_fn(plumb_stream *s, float *dx, const float *cos_sin,
                                       const int32_t *pos, int64_t n, int64_t h, int64_t d);

/* y = silu(gate) * up, silu(z) = z / (1 + exp(-z))      all (n,), n = rows * f
 * Shazeer 2020, arXiv:2002.05202, eq. 6 */
typedef plumb_status plumb_swiglu_fwd_fn(plumb_stream *s, float *y, const float *gate,
                                         const float *up, int64_t n);
/* dgate = dL/dgate, dup = dL/dup (not +=)   dgate may be gate, dup may be up */
typedef plumb_status plumb_swiglu_bwd_fn(plumb_stream *s, float *dgate, float *dup, const float *dy,
                                         const float *gate, const float *up, int64_t n);

/* ---- linear layers ------------------------------------------------------------------ */

/* Floats of the packed form of a (out,in) weight. */
typedef int64_t plumb_linear_packed_count_fn(int64_t out, int64_t in);
/* packed = the layout that linear_fwd reads, of w (out,in) */
typedef plumb_status plumb_linear_pack_fn(plumb_stream *s, float *packed, const float *w,
                                          int64_t out, int64_t in);
/* y[i,o] = bias[o] + sum_k x[i,k] w[o,k], one accumulation chain over k = 0..in-1 for every
 * output element (fused multiply-add), the bias added last.
 *   y (n,out)  x (n,in)  packed from linear_pack  bias (out,) or NULL */
typedef plumb_status plumb_linear_fwd_fn(plumb_stream *s, float *y, const float *x,
                                         const float *packed, const float *bias, int64_t n,
                                         int64_t out, int64_t in);
/* Floats of scratch that linear_bwd_x / linear_bwd_w need for these sizes and threads. */
typedef int64_t plumb_linear_work_count_fn(int64_t n, int64_t out, int64_t in, int threads);
/* dx (n,in) = dy (n,out) w (out,in), plus what dx held when accumulate != 0 */
typedef plumb_status plumb_linear_bwd_x_fn(plumb_stream *s, float *dx, const float *dy,
                                           const float *w, float *work, int64_t n, int64_t out,
                                           int64_t in, int accumulate);
/* dw (out,in) += dy^T x ; dbias (out,) += column sums of dy (NULL = no bias).
 * Sums over rows in row order; a second call continues the sum. */
typedef plumb_status plumb_linear_bwd_w_fn(plumb_stream *s, float *dw, float *dbias,
                                           const float *dy, const float *x, float *work, int64_t n,
                                           int64_t out, int64_t in);

/* ---- attention ---------------------------------------------------------------------- */

/* Scatters the rows' keys and values into their pages of one layer's store.
 *   kc, vc: that layer's pages   k, v (n,hk,d) */
typedef plumb_status plumb_kv_write_fwd_fn(plumb_stream *s, float *kc, float *vc, const float *k,
                                           const float *v, const struct plumb_rows *rows,
                                           int64_t hk, int64_t d);
/* o[i,a,:] = sum_j softmax_j(scale q[i,a].k[j]) v[j] over the row's visible keys j, online in
 * blocks of PLUMB_KV_PAGE positions from the first visible block on.
 *   o (n,h,d)  lse (n,h): log sum exp of the scaled scores, nats  q (n,h,d)
 * Dao et al. 2022, arXiv:2205.14135, algorithm 1. Decode (one row), prefill and training are
 * the same function of a row. */
typedef plumb_status plumb_attention_fwd_fn(plumb_stream *s, float *o, float *lse, const float *q,
                                            const float *kc, const float *vc,
                                            const struct plumb_rows *rows,
                                            const struct plumb_attn_shape *shape);
/* Floats of scratch for attention_bwd. */
typedef int64_t plumb_attention_work_count_fn(int64_t n, const struct plumb_attn_shape *shape,
                                              int threads);
/* dq, dk, dv = gradients (not +=). Every sequence must be here whole: its rows are positions
 * 0..len-1.   dq, dout, o, q (n,h,d)  dk, dv (n,hk,d)  lse (n,h) */
typedef plumb_status plumb_attention_bwd_fn(plumb_stream *s, float *dq, float *dk, float *dv,
                                            const float *dout, const float *o, const float *lse,
                                            const float *q, const float *kc, const float *vc,
                                            float *work, const struct plumb_rows *rows,
                                            const struct plumb_attn_shape *shape);

/* ---- vocabulary --------------------------------------------------------------------- */

/* logp[i] = logits[i,target[i]] - lse[i],  lse[i] = log sum_j exp(logits[i,j]), nats.
 * The order of the sum depends on v only.    logits (n,v)  target (n,) in [0,v) */
typedef plumb_status plumb_logprob_fwd_fn(plumb_stream *s, float *logp, float *lse,
                                          const float *logits, const int32_t *target, int64_t n,
                                          int64_t v);
/* logits[i,j] <- dlogp[i] * ([j == target[i]] - exp(logits[i,j] - lse[i]))   in place */
typedef plumb_status plumb_logprob_bwd_fn(plumb_stream *s, float *logits, const float *lse,
                                          const int32_t *target, const float *dlogp, int64_t n,
                                          int64_t v);
/* Draws one token per row from the logits and u[i] in [0,1).
 *   Order: temperature, then top_k, then top_p (smallest set of largest probabilities whose
 *   sum reaches top_p), then min_p (p >= min_p * largest p); each on the renormalised rest;
 *   ties by token id. The token is the first, in ascending id, whose cumulative probability
 *   exceeds u.
 *   token (n,)  logp (n,): of the token under the raw logits, bit-equal to logprob_fwd
 *   logp_sampled (n,): under the distribution drawn from (0 when temperature = 0)
 *   work: plumb_sample_work_count floats */
typedef int64_t plumb_sample_work_count_fn(int64_t n, int64_t v, int threads);
typedef plumb_status plumb_sample_fwd_fn(plumb_stream *s, int32_t *token, float *logp,
                                         float *logp_sampled, const float *logits, const double *u,
                                         const struct plumb_sample_param *p, float *work, int64_t n,
                                         int64_t v);

/* ---- optimizer and reductions ------------------------------------------------------- */

/* y += x */
typedef plumb_status plumb_accumulate_fn(plumb_stream *s, float *y, const float *x, int64_t n);
/* out[b] = sum of x[i]^2 over block b = [b*block, min(n,(b+1)*block)), in double, in an order
 * fixed by the block's length.   out (ceil(n/block),) */
typedef plumb_status plumb_sumsq_fn(plumb_stream *s, double *out, const float *x, int64_t n,
                                    int64_t block);
/* AdamW with decoupled decay           Loshchilov & Hutter 2019, arXiv:1711.05101, alg. 2
 *     g' = g grad_scale;  m = b1 m + (1-b1) g';  v = b2 v + (1-b2) g'^2
 *     w -= lr ( (m/correction1) / (sqrt(v/correction2) + eps) + weight_decay w )         */
typedef plumb_status plumb_adamw_fn(plumb_stream *s, float *w, float *m, float *v, const float *g,
                                    int64_t n, const struct plumb_adamw *p);

#define PLUMB_KERNEL_LIST(X)                                                                       \
    X(gather_fwd)                                                                                  \
    X(gather_bwd)                                                                                  \
    X(segment_mean_fwd)                                                                            \
    X(add_fwd)                                                                                     \
    X(rmsnorm_fwd)                                                                                 \
    X(rmsnorm_bwd)                                                                                 \
    X(rope_fwd)                                                                                    \
    X(rope_bwd)                                                                                    \
    X(swiglu_fwd)                                                                                  \
    X(swiglu_bwd)                                                                                  \
    X(linear_packed_count)                                                                         \
    X(linear_pack)                                                                                 \
    X(linear_fwd)                                                                                  \
    X(linear_work_count)                                                                           \
    X(linear_bwd_x)                                                                                \
    X(linear_bwd_w)                                                                                \
    X(kv_write_fwd)                                                                                \
    X(attention_fwd)                                                                               \
    X(attention_work_count)                                                                        \
    X(attention_bwd)                                                                               \
    X(logprob_fwd)                                                                                 \
    X(logprob_bwd)                                                                                 \
    X(sample_work_count)                                                                           \
    X(sample_fwd)                                                                                  \
    X(accumulate)                                                                                  \
    X(sumsq)                                                                                       \
    X(adamw)

struct plumb_kernels {
#define X(k) plumb_##k##_fn *k;
    PLUMB_KERNEL_LIST(X)
#undef X
};

/* Every kernel has a scalar reference; cpu has those that pay; cuda has all. */
#define X(k) plumb_##k##_fn plumb_ref_##k, plumb_cuda_##k;
PLUMB_KERNEL_LIST(X)
#undef X

void plumb_kernels_init_ref(struct plumb_kernels *t);
/* ref, then what cpu/ has, for the best instruction set of this machine. The environment
 * variable PLUMB_ISA=baseline|avx2|avx512 asks for another one; one that is not available is
 * said in the log and not taken. Every instruction set gives the same bits. */
void plumb_kernels_init_cpu(struct plumb_kernels *t);
/* The table of one instruction set by name; false, and *t untouched, when it was not compiled
 * or this machine lacks it. plumb_kernels_isa lists the names, slowest first, NULL last. */
bool plumb_kernels_init_isa(struct plumb_kernels *t, const char *isa);
extern const char *const plumb_kernels_isa[];
void plumb_kernels_init_cuda(struct plumb_kernels *t); /* NULL where cuda/ has none */

#ifdef __cplusplus
}
#endif
#endif
