/* kernels.h - every kernel's one signature, and the table that holds them.
 * Layer 1. Includes base/ only.
 *
 * Rules for every kernel: raw pointers, already checked by src/op; outputs first;
 * row-major and contiguous; pointers never alias unless the comment says so; asynchronous
 * on `s` (CPU tables: `s` carries the worker threads and the call is synchronous).
 *
 * Row invariance: what a *_fwd kernel writes for a row depends on that row's inputs and the
 * row's own sizes only - never on the number of rows, the row's place among them, or the
 * number of threads. Where a *_bwd kernel sums over rows or over outputs, the order of the sum is
 * fixed by the sizes alone; on the CPU it runs over blocks of PLUMB_SUM_BLOCK terms. */
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
 *     kc[page][hk][d][PLUMB_KV_PAGE]      vc[page][hk][PLUMB_KV_PAGE][d]
 * In bfloat16 both are as the values: tensor cores read rows of keys. */
#define PLUMB_KV_PAGE 32

/* Terms of a block in the long sums of the CPU's *_bwd kernels. Each block is a chain of additions
 * from 0; the sums of the blocks are added in ascending order. The rounding error of a sum of n
 * terms then grows like sqrt(PLUMB_SUM_BLOCK + n / PLUMB_SUM_BLOCK) and not like sqrt(n). */
#define PLUMB_SUM_BLOCK 256

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

/* A bfloat16: the upper half of a float32's bits. */
typedef struct plumb_bf16 {
    uint16_t bits;
} plumb_bf16;

/* ---- of activations: plumb_<k>_fn in float32, plumb_bf16_<k>_fn in bfloat16 --------------- */

#define REAL  float
#define FN(k) plumb_##k##_fn
#include "kernels_real.h"
#undef REAL
#undef FN
#define REAL  plumb_bf16
#define FN(k) plumb_bf16_##k##_fn
#include "kernels_real.h"
#undef REAL
#undef FN

/* Where bfloat16 meets float32. embed_* are gather_*, of float32 rows; head_fwd is linear_fwd
 * without a bias, into float32; narrow_fwd is y = x, rounded, all (n,). */
typedef plumb_status plumb_bf16_embed_fwd_fn(plumb_stream *s, plumb_bf16 *y, const float *x,
                                             const int32_t *index, int64_t n, int64_t c);
typedef plumb_status plumb_bf16_embed_bwd_fn(plumb_stream *s, float *dx, const plumb_bf16 *dy,
                                             const int32_t *index, int64_t n, int64_t c, int64_t m);
typedef plumb_status plumb_bf16_head_fwd_fn(plumb_stream *s, float *y, const plumb_bf16 *x,
                                            const plumb_bf16 *packed, int64_t n, int64_t out,
                                            int64_t in);
typedef plumb_status plumb_bf16_narrow_fwd_fn(plumb_stream *s, plumb_bf16 *y, const float *x,
                                              int64_t n);

/* ---- of float32 alone ------------------------------------------------------------------ */

/* Elements of the packed form of a (out,in) weight. */
typedef int64_t plumb_linear_packed_count_fn(int64_t out, int64_t in);
/* Floats of scratch that linear_bwd_x / linear_bwd_w need for these sizes and threads. */
typedef int64_t plumb_linear_work_count_fn(int64_t n, int64_t out, int64_t in, int threads);

/* logp[i] = logits[i,target[i]] - lse[i],  lse[i] = log sum_j exp(logits[i,j]), nats.
 * The order of the sum depends on v only.    logits (n,v)  target (n,) in [0,v) */
typedef plumb_status plumb_logprob_fwd_fn(plumb_stream *s, float *logp, float *lse,
                                          const float *logits, const int32_t *target, int64_t n,
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

/* Those in two forms, those that only bfloat16 has, and all of float32. */
/* out[b] = a hash of the bits of block b = x[b B .. min(n, (b+1) B) - 1], B = PLUMB_HASH_BLOCK.
 * With its l floats as rows of 16 64-bit words v[i,j] (two floats each, the first in the low half;
 * what is behind the end is 0), i = 0 .. ceil(l/32) - 1, and all sums modulo 2^64, in any order:
 *     k[i,j] = v[i,j] ^ (mix(j + 1) + i STEP)       p[j] = sum_i low32(k[i,j]) high32(k[i,j])
 *     s[j] = sum_i v[i,j]                           out = mix(l + sum_j mix(p[j] + s[j ^ 1] + j))
 * Ours, after XXH3's long form: one changed word always changes s. out (ceil(n/B),) */
#define PLUMB_HASH_BLOCK 4096
#define PLUMB_HASH_LANES 16
#define PLUMB_HASH_STEP  0x9E3779B97F4A7C15ull /* 2^64 / golden ratio */
typedef plumb_status plumb_hash_blocks_fn(plumb_stream *s, uint64_t *out, const float *x,
                                          int64_t n);
/* Every bit of h in every bit of the result; one to one.  Source: Appleby 2011, MurmurHash3 */
#define PLUMB_HASH_MIX(h)                                                                          \
    ((h) ^= (h) >> 33, (h) *= 0xFF51AFD7ED558CCDull, (h) ^= (h) >> 33,                             \
     (h) *= 0xC4CEB9FE1A85EC53ull, (h) ^= (h) >> 33)

#define PLUMB_REAL_KERNEL_LIST(X)                                                                  \
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
    X(linear_pack)                                                                                 \
    X(linear_fwd)                                                                                  \
    X(linear_bwd_x)                                                                                \
    X(linear_bwd_w)                                                                                \
    X(kv_write_fwd)                                                                                \
    X(attention_fwd)                                                                               \
    X(attention_work_count)                                                                        \
    X(attention_bwd)                                                                               \
    X(logprob_bwd)
#define PLUMB_BF16_KERNEL_LIST(X)                                                                  \
    PLUMB_REAL_KERNEL_LIST(X)                                                                      \
    X(embed_fwd)                                                                                   \
    X(embed_bwd)                                                                                   \
    X(head_fwd)                                                                                    \
    X(narrow_fwd)
#define PLUMB_KERNEL_LIST(X)                                                                       \
    PLUMB_REAL_KERNEL_LIST(X)                                                                      \
    X(linear_packed_count)                                                                         \
    X(linear_work_count)                                                                           \
    X(logprob_fwd)                                                                                 \
    X(sample_work_count)                                                                           \
    X(sample_fwd)                                                                                  \
    X(accumulate)                                                                                  \
    X(sumsq)                                                                                       \
    X(adamw)                                                                                       \
    X(hash_blocks)

struct plumb_kernels {
    bool linear_plain; /* float32 linear_fwd reads weights as they are: linear_pack copies */
#define X(k) plumb_##k##_fn *k;
    PLUMB_KERNEL_LIST(X)
#undef X
    struct plumb_bf16_kernels {
#define X(k) plumb_bf16_##k##_fn *k;
        PLUMB_BF16_KERNEL_LIST(X)
#undef X
    } bf16; /* all NULL where there are none: ref and cpu */
};

/* Every kernel has a scalar reference; cpu has those that pay; cuda has all, in both forms. */
#define X(k) plumb_##k##_fn plumb_ref_##k;
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
void plumb_kernels_init_cuda(struct plumb_kernels *t);

#ifdef __cplusplus
}
#endif
#endif
