/* kernels.h - the signature of every kernel, and the function table of one device.
 * Layer 1. Includes base/ and kernels_real.h only.
 *
 * Rules for every kernel: it takes raw pointers that src/op has already checked; output arguments
 * come first; arrays are row-major and contiguous; pointers never alias unless the comment of the
 * kernel allows it. A call is asynchronous on the stream `s`; on the CPU, `s` is the pool of worker
 * threads and the call is synchronous.
 *
 * Row invariance: what a *_fwd kernel writes for a row depends only on that row's inputs and on the
 * row's own sizes. It never depends on the number of rows, on the row's place among them, or on the
 * number of threads. The order of a sum over rows or over outputs in a *_bwd kernel depends on the
 * sizes and on the indices (index, rows), but not on the number of threads. */
#ifndef PLUMB_KERNELS_H
#define PLUMB_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct plumb_rng_key;
typedef struct plumb_stream plumb_stream; /* on the CPU a plumb_pool, on CUDA a struct plumb_cuda */

/* Number of positions in one page of the KV cache. Attention's online softmax also processes one
 * page after another. A page holds the keys and values of one layer. In float32 the keys of a page
 * are transposed, so that a vector register holds one component of 16 keys:
 *
 *               float32                      bfloat16
 *     keys      kc[page][hk][d][32]          kc[page][hk][32][d]
 *     values    vc[page][hk][32][d]          vc[page][hk][32][d]
 *
 *     one kv head of one float32 page:
 *       kc:  component 0:   key 0, key 1, ... key 31       vc:  key 0:   component 0 ... d-1
 *            component 1:   key 0, key 1, ... key 31            key 1:   component 0 ... d-1
 *            ...                                                ...
 *            component d-1: key 0, key 1, ... key 31            key 31:  component 0 ... d-1
 *
 * In bfloat16 a page stores one key after the other, because tensor cores read whole keys. */
#define PLUMB_KV_PAGE 32

/* Number of terms per block in the long sums of the backward of linear layers and of norms in cpu/.
 * Each block is a chain of additions that starts at 0; the block sums are then added in ascending
 * order to the element of the gradient. The rounding error of a sum of n terms grows like
 * sqrt(PLUMB_SUM_BLOCK + n / PLUMB_SUM_BLOCK) instead of sqrt(n). */
#define PLUMB_SUM_BLOCK 256

/* The sequence and the position of each row of a packed batch. Rows of one sequence are adjacent
 * and in ascending position. A row attends to positions 0..pos of its own sequence, or only to the
 * last plumb_attn_shape.window of these if that is not 0. The page table says which page of the KV
 * cache holds the keys and values of a position. */
struct plumb_rows {
    int64_t n;          /* number of rows */
    int64_t n_seq;      /* number of sequences that the rows refer to */
    int64_t max_pages;  /* number of columns of the page table `page` */
    const int32_t *seq; /* (n,) sequence of each row, in [0, n_seq) */
    const int32_t *pos; /* (n,) position of each row in its sequence, >= 0 */
    /* (n_seq, max_pages): [q][i] is the page with positions 32 i .. 32 i + 31 of sequence q */
    const int32_t *page;
    /* number of sequences that have rows in this batch, or 0 if it is not known; it only selects
     * the faster kernel and does not change the result */
    int64_t present;
};

struct plumb_attn_shape {
    int64_t h, hk, d; /* query heads, kv heads (h % hk == 0), head size */
    float scale;      /* multiplies the score q.k; usually 1/sqrt(d) */
    float cap;        /* > 0: the scaled score s becomes cap tanh(s / cap); 0: no cap */
    int64_t window;   /* a row attends to the last `window` keys, its own included; 0: all */
};

/* The activations of an MLP. Hugging Face calls the first one silu, the second one gelu, and the
 * third one gelu_pytorch_tanh or gelu_new. */
enum plumb_activation {
    PLUMB_ACT_SILU,      /* z / (1 + exp(-z)) */
    PLUMB_ACT_GELU,      /* z Phi(z), Phi: distribution function of the standard normal */
    PLUMB_ACT_GELU_TANH, /* z (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3))) / 2 */
};

struct plumb_sample_param {
    float temperature; /* >= 0; 0 takes the largest logit, and on a tie the lowest id */
    int32_t top_k;     /* keeps the top_k largest logits; 0 switches the filter off */
    float top_p;       /* probability mass that top-p keeps, in (0,1]; 1 switches the filter off */
    float min_p;       /* smallest probability relative to the largest, in [0,1]; 0: filter off */
};

struct plumb_adamw {
    float lr, beta1, beta2, eps, weight_decay;
    float correction1, correction2; /* 1 - beta1^step, 1 - beta2^step (bias correction) */
    float grad_scale;               /* multiplies the gradient first (gradient clipping) */
};

/* A bfloat16 number: the upper 16 bits of a float32. */
typedef struct plumb_bf16 {
    uint16_t bits;
} plumb_bf16;

/* ---- kernels with a float32 form, plumb_<k>_fn, and a bfloat16 form, plumb_bf16_<k>_fn ---- */

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

/* Kernels that read one element type and write the other. embed_fwd and embed_bwd are gather_fwd
 * and gather_bwd with a float32 table, x and dx. head_fwd is linear_fwd without a bias and with a
 * float32 output. narrow_fwd rounds to bfloat16: y = x, both (n,). */
typedef plumb_status plumb_bf16_embed_fwd_fn(plumb_stream *s, plumb_bf16 *y, const float *x,
                                             const int32_t *index, int64_t n, int64_t c);
typedef plumb_status plumb_bf16_embed_bwd_fn(plumb_stream *s, float *dx, const plumb_bf16 *dy,
                                             const int32_t *index, int64_t n, int64_t c, int64_t m);
typedef plumb_status plumb_bf16_head_fwd_fn(plumb_stream *s, float *y, const plumb_bf16 *x,
                                            const plumb_bf16 *packed, int64_t n, int64_t out,
                                            int64_t in);
typedef plumb_status plumb_bf16_narrow_fwd_fn(plumb_stream *s, plumb_bf16 *y, const float *x,
                                              int64_t n);

/* sum = a + b, then y and rstd = rmsnorm_fwd of the rounded sum: one launch with the same bits as
 * add_fwd and rmsnorm_fwd. sum, y, a, b (n,c); sum may be a or b */
typedef plumb_status plumb_bf16_add_rmsnorm_fwd_fn(plumb_stream *s, plumb_bf16 *sum, plumb_bf16 *y,
                                                   float *rstd, const plumb_bf16 *a,
                                                   const plumb_bf16 *b, const float *w, int64_t n,
                                                   int64_t c, float eps, float shift);
/* Rotates q in place, and writes the rotated keys and the values into their pages: the bits of
 * rope_fwd on q and k with r = d and of kv_write_fwd, in one launch. k stays as it is.
 *   q (n,h,d)  k, v (n,hk,d)  d: a multiple of 16  cos_sin (max_pos,d) */
typedef plumb_status plumb_bf16_rope_write_fwd_fn(plumb_stream *s, plumb_bf16 *q, plumb_bf16 *kc,
                                                  plumb_bf16 *vc, const plumb_bf16 *k,
                                                  const plumb_bf16 *v, const float *cos_sin,
                                                  const struct plumb_rows *rows, int64_t h,
                                                  int64_t hk, int64_t d);

/* Kernels on the outputs of joined projections. A row of qkv holds the q, k and v of one row; a row
 * of gate_up holds its gate and then its up:
 *
 *     qkv (n, h + 2 hk, d)   row i:  | q, h heads | k, hk heads | v, hk heads |
 *     gate_up (n, 2, f)      row i:  | gate, f values | up, f values |
 */
/* Writes the rotated q of qkv to q, and the rotated keys and the values to their pages: one launch
 * with the same bits as rope_fwd on q and k and kv_write_fwd. If `norm` is not NULL, q and k are
 * normalised head by head before they are rotated, with the bits of rmsnorm_fwd; d is then at most
 * 256. r: the number of rotated columns of a head, even, in [0,d]. With r = 0, cos_sin is not used.
 *   q (n,h,d)  d: a multiple of 8  cos_sin (max_pos,r) */
struct plumb_qk_rmsnorm {
    plumb_bf16 *q0, *k0;    /* out: (n,h,d), (n,hk,d) q and k before the norm */
    float *rstd_q, *rstd_k; /* out: (n,h), (n,hk) */
    const float *w_q, *w_k; /* (d,) each */
    float eps, shift;
};
typedef plumb_status plumb_bf16_qkv_write_fwd_fn(plumb_stream *s, plumb_bf16 *q, plumb_bf16 *kc,
                                                 plumb_bf16 *vc, const plumb_bf16 *qkv,
                                                 const struct plumb_qk_rmsnorm *norm,
                                                 const float *cos_sin,
                                                 const struct plumb_rows *rows, int64_t h,
                                                 int64_t hk, int64_t d, int64_t r);
/* act_fwd and act_bwd for a joined array gate_up (above): y = act(gate) up; dgate_up = the
 * gradients of gate and up. dgate_up may be gate_up itself.
 *   y, dy (n,f)  f: a multiple of 8 */
typedef plumb_status plumb_bf16_gated_fwd_fn(plumb_stream *s, plumb_bf16 *y,
                                             const plumb_bf16 *gate_up, int64_t n, int64_t f,
                                             enum plumb_activation act);
typedef plumb_status plumb_bf16_gated_bwd_fn(plumb_stream *s, plumb_bf16 *dgate_up,
                                             const plumb_bf16 *dy, const plumb_bf16 *gate_up,
                                             int64_t n, int64_t f, enum plumb_activation act);
/* Columns at .. at + c - 1 of an array with rows of `width` elements: columns_take copies them,
 * y[i,j] = x[i,at+j]; columns_add adds to them, y[i,at+j] += x[i,j].
 *   columns_take: y (n,c)  x (n,width)        columns_add: y (n,width)  x (n,c) */
typedef plumb_status plumb_bf16_columns_take_fn(plumb_stream *s, plumb_bf16 *y, const plumb_bf16 *x,
                                                int64_t n, int64_t c, int64_t at, int64_t width);
typedef plumb_status plumb_bf16_columns_add_fn(plumb_stream *s, plumb_bf16 *y, const plumb_bf16 *x,
                                               int64_t n, int64_t c, int64_t at, int64_t width);

/* ---- kernels with a float32 form only -------------------------------------------------- */

/* Returns the number of elements of the packed form of a (out,in) weight. */
typedef int64_t plumb_linear_packed_count_fn(int64_t out, int64_t in);
/* Returns the number of floats of scratch memory that linear_bwd_x and linear_bwd_w need for these
 * sizes and this number of threads. */
typedef int64_t plumb_linear_work_count_fn(int64_t n, int64_t out, int64_t in, int threads);

/* Limits logits softly, in place: z = cap tanh(z / cap), cap > 0.    z (n,)
 * Source: Gemma Team 2024, arXiv:2408.00118, section 2 */
typedef plumb_status plumb_softcap_fwd_fn(plumb_stream *s, float *z, int64_t n, float cap);
/* logp[i] = logits[i,target[i]] - lse[i],  lse[i] = log sum_j exp(logits[i,j]), in nats.
 * The order of the sum over j depends on v only.
 *   logits (n,v)  target (n,) in [0,v)  logp, lse (n,) */
typedef plumb_status plumb_logprob_fwd_fn(plumb_stream *s, float *logp, float *lse,
                                          const float *logits, const int32_t *target, int64_t n,
                                          int64_t v);
/* Describes the distribution of each row, with lse from logprob_fwd:
 *     entropy[i] = sum_j p_j (lse[i] - logits[i,j]) in nats,  p_j = exp(logits[i,j] - lse[i])
 *     mean[i] = sum_j logits[i,j] / v
 * The order of the sums over j depends on v only.
 *   logits (n,v)  lse, entropy, mean (n,) */
typedef plumb_status plumb_entropy_fwd_fn(plumb_stream *s, float *entropy, float *mean,
                                          const float *logits, const float *lse, int64_t n,
                                          int64_t v);
/* sample_fwd draws one token per row from the logits and from the uniform number u[i] in [0,1).
 *   Order: temperature, then top_k, then top_p (the smallest set of largest probabilities whose
 *   sum reaches top_p), then min_p (keeps p >= min_p * largest p). Each filter is
 *   applied to the renormalised result of the previous one. Of equal logits, the lower ids are
 *   kept. The drawn token is the first one, in ascending id, whose cumulative probability exceeds
 *   u.
 *   token (n,)
 *   logp (n,): log-prob of the token under the raw logits, bit-equal to logprob_fwd
 *   logp_sampled (n,): log-prob under the filtered distribution (0 when temperature = 0)
 *   work: plumb_sample_work_count floats */
typedef int64_t plumb_sample_work_count_fn(int64_t n, int64_t v, int threads);
typedef plumb_status plumb_sample_fwd_fn(plumb_stream *s, int32_t *token, float *logp,
                                         float *logp_sampled, const float *logits, const double *u,
                                         const struct plumb_sample_param *p, float *work, int64_t n,
                                         int64_t v);

/* Repetition penalty: changes the logits of the tokens that already occur in a sequence, and copies
 * all others:
 *     y[i,j] = x[i,j]                                       if bit j of row i of seen is 0
 *     y[i,j] = x[i,j] < 0 ? x[i,j] penalty : x[i,j] / penalty        otherwise
 *   y, x (n,v)  penalty > 0  seen (n, ceil(v/32)): bit j is bit j % 32 of word j / 32
 * Source: Keskar et al. 2019, arXiv:1909.05858, section 4.1; for negative logits as in
 * transformers' RepetitionPenaltyLogitsProcessor. */
typedef plumb_status plumb_penalty_fwd_fn(plumb_stream *s, float *y, const float *x,
                                          const int32_t *seen, float penalty, int64_t n, int64_t v);

/* ---- optimizer and reductions ------------------------------------------------------- */

/* Adds x to y element by element; both are (n,). */
typedef plumb_status plumb_accumulate_fn(plumb_stream *s, float *y, const float *x, int64_t n);
/* out[b] = sum of x[i]^2 over block b = [b*block, min(n,(b+1)*block)), added in double in an order
 * that depends only on the block's length.   out (ceil(n/block),) */
typedef plumb_status plumb_sumsq_fn(plumb_stream *s, double *out, const float *x, int64_t n,
                                    int64_t block);
/* AdamW with decoupled weight decay.    Source: Loshchilov & Hutter 2019, arXiv:1711.05101, alg. 2
 *     g' = g grad_scale;  m = b1 m + (1-b1) g';  v = b2 v + (1-b2) g'^2
 *     w -= lr ( (m/correction1) / (sqrt(v/correction2) + eps) + weight_decay w ) */
typedef plumb_status plumb_adamw_fn(plumb_stream *s, float *w, float *m, float *v, const float *g,
                                    int64_t n, const struct plumb_adamw *p);

/* w[i] = std z[i] in float32, where z[i] is the standard normal number plumb_rng_normal of *key
 * with position i mod 2^32 and sample i / 2^32. Every kernel table gives the bits that the host
 * computes. On CUDA the call waits for the device. w (n,) */
typedef plumb_status plumb_normal_fn(plumb_stream *s, float *w, int64_t n, double std,
                                     const struct plumb_rng_key *key);

/* hash_blocks sets out[b] to a hash of the bits of block b, which is x[b B .. min(n, (b+1) B) - 1],
 * with B = PLUMB_HASH_BLOCK, STEP = PLUMB_HASH_STEP and mix = PLUMB_HASH_MIX.
 * The l floats of a block are read as rows of 16 words of 64 bits, v[i,j]. A word holds two floats,
 * the first one in the low half; words past the end are 0. Row i runs over 0 .. ceil(l/32) - 1. All
 * sums are modulo 2^64, so their order does not matter.
 *     k[i,j] = v[i,j] ^ (mix(j + 1) + i STEP)       p[j] = sum_i low32(k[i,j]) high32(k[i,j])
 *     s[j] = sum_i v[i,j]                           out = mix(l + sum_j mix(p[j] + s[j ^ 1] + j))
 * This hash is ours; it follows XXH3's long form. A change of one word always changes s.
 *   out (ceil(n/B),) */
#define PLUMB_HASH_BLOCK 4096
#define PLUMB_HASH_LANES 16
#define PLUMB_HASH_STEP  0x9E3779B97F4A7C15ull /* odd constant near 2^64 / golden ratio */
typedef plumb_status plumb_hash_blocks_fn(plumb_stream *s, uint64_t *out, const float *x,
                                          int64_t n);
/* Replaces h by a one-to-one function of h in which every input bit influences every output bit.
 * Source: Appleby 2011, finaliser of MurmurHash3. */
#define PLUMB_HASH_MIX(h)                                                                          \
    ((h) ^= (h) >> 33, (h) *= 0xFF51AFD7ED558CCDull, (h) ^= (h) >> 33,                             \
     (h) *= 0xC4CEB9FE1A85EC53ull, (h) ^= (h) >> 33)

#define PLUMB_REAL_KERNEL_LIST(X)                                                                  \
    X(gather_fwd)                                                                                  \
    X(gather_bwd)                                                                                  \
    X(move_rows)                                                                                   \
    X(segment_mean_fwd)                                                                            \
    X(add_fwd)                                                                                     \
    X(scale_fwd)                                                                                   \
    X(layernorm_fwd)                                                                               \
    X(layernorm_bwd)                                                                               \
    X(rmsnorm_fwd)                                                                                 \
    X(rmsnorm_bwd)                                                                                 \
    X(rope_fwd)                                                                                    \
    X(rope_bwd)                                                                                    \
    X(act_fwd)                                                                                     \
    X(act_bwd)                                                                                     \
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
    X(narrow_fwd)                                                                                  \
    X(add_rmsnorm_fwd)                                                                             \
    X(rope_write_fwd)                                                                              \
    X(qkv_write_fwd)                                                                               \
    X(gated_fwd)                                                                                   \
    X(gated_bwd)                                                                                   \
    X(columns_take)                                                                                \
    X(columns_add)
#define PLUMB_KERNEL_LIST(X)                                                                       \
    PLUMB_REAL_KERNEL_LIST(X)                                                                      \
    X(linear_packed_count)                                                                         \
    X(linear_work_count)                                                                           \
    X(softcap_fwd)                                                                                 \
    X(logprob_fwd)                                                                                 \
    X(entropy_fwd)                                                                                 \
    X(sample_work_count)                                                                           \
    X(sample_fwd)                                                                                  \
    X(penalty_fwd)                                                                                 \
    X(accumulate)                                                                                  \
    X(sumsq)                                                                                       \
    X(adamw)                                                                                       \
    X(hash_blocks)                                                                                 \
    X(normal)

struct plumb_kernels {
    /* true if float32 linear_fwd reads the weights row-major, as they are; linear_pack then only
     * copies */
    bool linear_plain;
#define X(k) plumb_##k##_fn *k;
    PLUMB_KERNEL_LIST(X)
#undef X
    struct plumb_bf16_kernels {
#define X(k) plumb_bf16_##k##_fn *k;
        PLUMB_BF16_KERNEL_LIST(X)
#undef X
    } bf16; /* all NULL on devices without bfloat16 kernels (ref and cpu) */
};

/* Every kernel of PLUMB_KERNEL_LIST has a scalar float32 reference implementation in ref/. The cpu
 * table replaces those for which a faster version is worth its code. The cuda table has its own
 * version of all kernels: of PLUMB_KERNEL_LIST in float32 and of PLUMB_BF16_KERNEL_LIST in
 * bfloat16. */
#define X(k) plumb_##k##_fn plumb_ref_##k;
PLUMB_KERNEL_LIST(X)
#undef X

void plumb_kernels_init_ref(struct plumb_kernels *t);
/* Fills the table with the fastest CPU kernels: those of cpu/ for the best instruction set of this
 * machine, and those of ref/ for the rest. The environment variable PLUMB_ISA=baseline|avx2|avx512
 * selects another instruction set; if the name is unknown or this machine lacks the instruction
 * set, a warning is logged and the best one is used. Every instruction set gives the same bits. */
void plumb_kernels_init_cpu(struct plumb_kernels *t);
/* Fills *t with the kernels of one instruction set, given by name. Returns false and leaves *t
 * unchanged if that instruction set was not compiled or this machine lacks it. plumb_kernels_isa
 * lists the names of the compiled instruction sets, slowest first, and ends with NULL. */
bool plumb_kernels_init_isa(struct plumb_kernels *t, const char *isa);
extern const char *const plumb_kernels_isa[];
void plumb_kernels_init_cuda(struct plumb_kernels *t);
/* Sets linear_plain and the functions that return sizes (*_count) to those of the CUDA kernels, and
 * does not change the rest of *t. Exists in every build, because `plumb plan` uses it without CUDA.
 */
void plumb_kernels_init_cuda_sizes(struct plumb_kernels *t);

#ifdef __cplusplus
}
#endif
#endif
