/* op.h - one function per kernel that checks shapes, dtypes and places, then calls the kernel.
 * Layer 3. Includes base/, backend/, kernels.h.
 *
 * Every function takes the backend, then outputs, then inputs. Sizes come from the tensors. "(...,
 * c)" means any rank with last dimension c. "(n, *)" means any rank with first dimension n; the
 * other dimensions count as one. kernels.h documents what each kernel computes, and whether it
 * assigns (=) or adds (+=). Arguments of type REAL there must have the dtype b->dtype. All
 * functions are asynchronous on b->stream; on the CPU they are synchronous.
 *
 * Errors: PLUMB_ERR_SHAPE if an argument has the wrong rank, dimensions, dtype or place, or if an
 * index in host memory is out of range; PLUMB_ERR_ARG if a number such as a block size or a
 * temperature is out of range. The message names the operation and the argument, and says what was
 * found and what was expected. Otherwise the status of the kernel is returned. When a check fails,
 * nothing is written; only the two plumb_op_head_logprob functions check the values of target block
 * by block, after earlier blocks were written. */
#ifndef PLUMB_OP_OP_H
#define PLUMB_OP_OP_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "base/status.h"
#include "base/tensor.h"
#include "kernels.h"

/* Returns a tensor over memory that it does not own. dim holds `rank` sizes; rank <=
 * PLUMB_MAX_RANK. */
struct plumb_tensor plumb_view(const char *name, enum plumb_dtype dtype, const void *data,
                               enum plumb_place place, int rank, const int64_t *dim);
/* These macros call plumb_view; the last one to four arguments are the sizes, of any integer type:
 *     struct plumb_tensor q = plumb_view_f32("q", act->q, b->place, n, h, d); */
#define PLUMB_VIEW_(name, dtype, data, place, ...)                                                 \
    plumb_view((name), (dtype), (data), (place),                                                   \
               (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),                          \
               (const int64_t[]){__VA_ARGS__})
#define plumb_view_f32(name, data, place, ...)                                                     \
    PLUMB_VIEW_(name, PLUMB_F32, data, place, __VA_ARGS__)
#define plumb_view_f64(name, data, place, ...)                                                     \
    PLUMB_VIEW_(name, PLUMB_F64, data, place, __VA_ARGS__)
#define plumb_view_i32(name, data, place, ...)                                                     \
    PLUMB_VIEW_(name, PLUMB_I32, data, place, __VA_ARGS__)
#define plumb_view_i64(name, data, place, ...)                                                     \
    PLUMB_VIEW_(name, PLUMB_I64, data, place, __VA_ARGS__)

/* Returns a view of t's memory with rank 1. */
struct plumb_tensor plumb_view_flat(const struct plumb_tensor *t);
/* Returns a view of rows [begin, begin + rows) of t, along its first dimension. */
struct plumb_tensor plumb_view_rows(const struct plumb_tensor *t, int64_t begin, int64_t rows);

/* ---- rows and elements ----------------------------------------------------------------- */

/* Copies rows: y[i] = x[index[i]].
 *   y (n,c)  x (m,c), of y's type or float32  index (n,) i32 in [0,m) */
plumb_status plumb_op_gather_fwd(struct plumb_backend *b, const struct plumb_tensor *y,
                                 const struct plumb_tensor *x, const struct plumb_tensor *index);
/* Adds rows: dx[index[i]] += dy[i].
 *   dx (m,c), of dy's type or float32  dy (n,c)  index (n,) i32 in [0,m) */
plumb_status plumb_op_gather_bwd(struct plumb_backend *b, const struct plumb_tensor *dx,
                                 const struct plumb_tensor *dy, const struct plumb_tensor *index);
/* Copies rows within x, in each plane; the planes of x are `stride` elements apart: x[p,pair[i,1]]
 * = x[p,pair[i,0]].  No row is in both columns of pair.
 *   x (planes,m,c), with gaps between the planes if stride > m c  pair (n,2) i32 in [0,m) */
plumb_status plumb_op_move_rows(struct plumb_backend *b, const struct plumb_tensor *x,
                                const struct plumb_tensor *pair, int64_t stride);
/* y[i] = mean of the rows offset[i] .. offset[i+1]-1 of x; 0 if there are no such rows.
 *   y (g,c) float32  x (m,c)  offset (g+1,) i64, not decreasing, in [0,m] */
plumb_status plumb_op_segment_mean_fwd(struct plumb_backend *b, const struct plumb_tensor *y,
                                       const struct plumb_tensor *x,
                                       const struct plumb_tensor *offset);
/* y = x1 + x2, all of one shape; y may be x1 or x2. */
plumb_status plumb_op_add_fwd(struct plumb_backend *b, const struct plumb_tensor *y,
                              const struct plumb_tensor *x1, const struct plumb_tensor *x2);
/* y = factor x, both of one shape; y may be x. */
plumb_status plumb_op_scale_fwd(struct plumb_backend *b, const struct plumb_tensor *y,
                                const struct plumb_tensor *x, float factor);
/* Rounds the float32 tensor x to bfloat16: y has the same shape. b->dtype must be bfloat16. */
plumb_status plumb_op_narrow_fwd(struct plumb_backend *b, const struct plumb_tensor *y,
                                 const struct plumb_tensor *x);
/* Adds x to y: y += x. Both are float32 and have one shape. */
plumb_status plumb_op_accumulate(struct plumb_backend *b, const struct plumb_tensor *y,
                                 const struct plumb_tensor *x);

/* y = x rstd (w + shift), row by row, with rstd = 1/sqrt(mean of the row's x^2 + eps), which is
 * also written. shift is 1 in models whose norm weights start at 0, else 0.
 *   y, x (..., c)  rstd (rows,)  w (c,);  rows = elements of x / c */
plumb_status plumb_op_rmsnorm_fwd(struct plumb_backend *b, const struct plumb_tensor *y,
                                  const struct plumb_tensor *rstd, const struct plumb_tensor *x,
                                  const struct plumb_tensor *w, float eps, float shift);
/* sum = x1 + x2 and y = rmsnorm_fwd of the sum; sum may be x1 or x2. Bit-equal to plumb_op_add_fwd
 * followed by plumb_op_rmsnorm_fwd; some devices run both as one kernel.
 *   sum, y, x1, x2 (n,c)  rstd (n,)  w (c,) */
plumb_status plumb_op_add_rmsnorm_fwd(struct plumb_backend *b, const struct plumb_tensor *sum,
                                      const struct plumb_tensor *y, const struct plumb_tensor *rstd,
                                      const struct plumb_tensor *x1, const struct plumb_tensor *x2,
                                      const struct plumb_tensor *w, float eps, float shift);
/* Gradients of rmsnorm_fwd: dx += and dw +=.
 *   dx, dy, x (..., c)  dw, w (c,)  rstd (rows,) */
plumb_status plumb_op_rmsnorm_bwd(struct plumb_backend *b, const struct plumb_tensor *dx,
                                  const struct plumb_tensor *dw, const struct plumb_tensor *dy,
                                  const struct plumb_tensor *x, const struct plumb_tensor *w,
                                  const struct plumb_tensor *rstd, float shift);
/* y = (x - mean) rstd w + bias, row by row. Also writes the mean of each row and
 * rstd = 1/sqrt(variance of the row + eps).
 *   y, x (..., c)  mean, rstd (rows,)  w, bias (c,);  rows = elements of x / c */
plumb_status plumb_op_layernorm_fwd(struct plumb_backend *b, const struct plumb_tensor *y,
                                    const struct plumb_tensor *mean,
                                    const struct plumb_tensor *rstd, const struct plumb_tensor *x,
                                    const struct plumb_tensor *w, const struct plumb_tensor *bias,
                                    float eps);
/* Gradients of layernorm_fwd: dx +=, dw += and dbias +=.
 *   dx, dy, x (..., c)  dw, dbias, w (c,)  mean, rstd (rows,) */
plumb_status plumb_op_layernorm_bwd(struct plumb_backend *b, const struct plumb_tensor *dx,
                                    const struct plumb_tensor *dw, const struct plumb_tensor *dbias,
                                    const struct plumb_tensor *dy, const struct plumb_tensor *x,
                                    const struct plumb_tensor *w, const struct plumb_tensor *mean,
                                    const struct plumb_tensor *rstd);
/* RoPE: rotates the first r columns of each head of x in place; row i turns by the angles of
 * position pos[i]. rope_bwd rotates dx back by the same angles.
 *   x (n,h,d)  cos_sin (max_pos,r): r/2 cosines, then r/2 sines; r even, in [2,d]
 *   pos (n,) i32 in [0,max_pos) */
plumb_status plumb_op_rope_fwd(struct plumb_backend *b, const struct plumb_tensor *x,
                               const struct plumb_tensor *cos_sin, const struct plumb_tensor *pos);
plumb_status plumb_op_rope_bwd(struct plumb_backend *b, const struct plumb_tensor *dx,
                               const struct plumb_tensor *cos_sin, const struct plumb_tensor *pos);
/* y = act(gate) * up, or y = act(gate) if up is NULL. All have one shape. */
plumb_status plumb_op_act_fwd(struct plumb_backend *b, const struct plumb_tensor *y,
                              const struct plumb_tensor *gate, const struct plumb_tensor *up,
                              enum plumb_activation act);
/* Gradients of act_fwd: dgate = and dup =. All have one shape; dgate may be gate, dup may be up. If
 * up is NULL, dup must be NULL, too. */
plumb_status plumb_op_act_bwd(struct plumb_backend *b, const struct plumb_tensor *dgate,
                              const struct plumb_tensor *dup, const struct plumb_tensor *dy,
                              const struct plumb_tensor *gate, const struct plumb_tensor *up,
                              enum plumb_activation act);

/* The same as act_fwd and act_bwd, but gate and up are in one array: row i has row i of gate, then
 * row i of up. b->dtype must be bfloat16; f must be a multiple of 8. dgate_up may be gate_up.
 *   y, dy (n,f)  gate_up, dgate_up (n,2,f) */
plumb_status plumb_op_gated_fwd(struct plumb_backend *b, const struct plumb_tensor *y,
                                const struct plumb_tensor *gate_up, enum plumb_activation act);
plumb_status plumb_op_gated_bwd(struct plumb_backend *b, const struct plumb_tensor *dgate_up,
                                const struct plumb_tensor *dy, const struct plumb_tensor *gate_up,
                                enum plumb_activation act);
/* plumb_op_columns_take copies columns [at, at + c) of `all` to `part`; plumb_op_columns_add adds
 * `part` to them. b->dtype must be bfloat16.    part (n,c)  all (n,width)  0 <= at <= width - c */
plumb_status plumb_op_columns_take(struct plumb_backend *b, const struct plumb_tensor *part,
                                   const struct plumb_tensor *all, int64_t at);
plumb_status plumb_op_columns_add(struct plumb_backend *b, const struct plumb_tensor *all,
                                  int64_t at, const struct plumb_tensor *part);

/* ---- linear layers ---------------------------------------------------------------------- */

/* Copies the weights w to `packed` in the form that linear_fwd reads.
 *   packed (b->k.linear_packed_count(out,in),)  w (out,in) */
plumb_status plumb_op_linear_pack(struct plumb_backend *b, const struct plumb_tensor *packed,
                                  const struct plumb_tensor *w);
/* y = x w^T + bias.
 *   y (n,*) with `out` columns  x (n,*) with `in` columns  packed: from linear_pack
 *   bias (out,) or NULL. If b->dtype is bfloat16, y may also be float32; bias must then be NULL. */
plumb_status plumb_op_linear_fwd(struct plumb_backend *b, const struct plumb_tensor *y,
                                 const struct plumb_tensor *x, const struct plumb_tensor *packed,
                                 const struct plumb_tensor *bias);
/* dx = dy w, or dx += dy w if `accumulate`.
 *   dx, dy (n,*)  w (out,in): the weights; in bfloat16, the output of linear_pack as (out,in)
 *   work (>= linear_work_count,) */
plumb_status plumb_op_linear_bwd_x(struct plumb_backend *b, const struct plumb_tensor *dx,
                                   const struct plumb_tensor *dy, const struct plumb_tensor *w,
                                   const struct plumb_tensor *work, bool accumulate);
/* dw += dy^T x and dbias += column sums of dy.
 *   dw (out,in)  dbias (out,) or NULL  dy, x (n,*)  work (>= linear_work_count,) */
plumb_status plumb_op_linear_bwd_w(struct plumb_backend *b, const struct plumb_tensor *dw,
                                   const struct plumb_tensor *dbias, const struct plumb_tensor *dy,
                                   const struct plumb_tensor *x, const struct plumb_tensor *work);

/* ---- attention -------------------------------------------------------------------------- */

/* Writes keys and values into the KV cache of one layer.
 *   kc (pages,hk,d,PLUMB_KV_PAGE)  vc (pages,hk,PLUMB_KV_PAGE,d)  k, v (n,hk,d)
 *   rows: n rows; its arrays are in the backend's memory
 * In bfloat16 the pages of kc have the layout of vc; kc's dimensions stay as given above.
 * In host memory, the sequence, the position and the page of every row are checked. */
plumb_status plumb_op_kv_write_fwd(struct plumb_backend *b, const struct plumb_tensor *kc,
                                   const struct plumb_tensor *vc, const struct plumb_tensor *k,
                                   const struct plumb_tensor *v, const struct plumb_rows *rows);
/* Rotates q (in place) and k as rope_fwd does, and writes the rotated keys and the values to the KV
 * cache as kv_write_fwd does. Bit-equal to these three operations one after another; some devices
 * run them as one kernel. The content of k is undefined afterwards.
 *   q (n,h,d)  cos_sin, pos: as for rope_fwd; the other arguments: as for kv_write_fwd */
plumb_status plumb_op_rope_write_fwd(struct plumb_backend *b, const struct plumb_tensor *q,
                                     const struct plumb_tensor *kc, const struct plumb_tensor *vc,
                                     const struct plumb_tensor *k, const struct plumb_tensor *v,
                                     const struct plumb_tensor *cos_sin,
                                     const struct plumb_tensor *pos, const struct plumb_rows *rows);
/* plumb_op_qkv_write_fwd is plumb_op_rope_write_fwd for q, k and v in one array: row i of qkv has
 * the heads of q, then those of k, then those of v. The function writes the rotated q to the array
 * q. If norm is not NULL, every head of q and k is normalised by rmsnorm_fwd before the rotation.
 * b->dtype must be bfloat16; d must be a multiple of 8.
 *   q (n,h,d)  qkv (n,h+2hk,d)  cos_sin (max_pos,r), or NULL: nothing is rotated */
struct plumb_op_qk_norm {
    const struct plumb_tensor *q0, *k0;         /* out: (n,h,d), (n,hk,d) before the norm */
    const struct plumb_tensor *rstd_q, *rstd_k; /* out: (n,h), (n,hk) */
    const struct plumb_tensor *w_q, *w_k;       /* (d,) */
    float eps, shift;
};
plumb_status plumb_op_qkv_write_fwd(struct plumb_backend *b, const struct plumb_tensor *q,
                                    const struct plumb_tensor *kc, const struct plumb_tensor *vc,
                                    const struct plumb_tensor *qkv,
                                    const struct plumb_op_qk_norm *norm,
                                    const struct plumb_tensor *cos_sin,
                                    const struct plumb_rows *rows);
/* Computes the attention of each row over its visible keys, and lse, the log-sum-exp of the scores.
 *   o, q (n,h,d)  lse (n,h)  kc, vc: as in plumb_op_kv_write_fwd
 *   h, hk and d must equal the fields of *shape. */
plumb_status plumb_op_attention_fwd(struct plumb_backend *b, const struct plumb_tensor *o,
                                    const struct plumb_tensor *lse, const struct plumb_tensor *q,
                                    const struct plumb_tensor *kc, const struct plumb_tensor *vc,
                                    const struct plumb_rows *rows,
                                    const struct plumb_attn_shape *shape);
/* Returns the number of floats of `work` that plumb_op_attention_bwd needs for n rows. */
int64_t plumb_op_attention_work_count(const struct plumb_backend *b, int64_t n,
                                      const struct plumb_attn_shape *shape);
/* Gradients of attention_fwd: dq =, dk = and dv =.
 *   dq, dout, o, q (n,h,d)  dk, dv (n,hk,d)  lse (n,h)
 *   work (>= plumb_op_attention_work_count(b, n, shape),) */
plumb_status plumb_op_attention_bwd(struct plumb_backend *b, const struct plumb_tensor *dq,
                                    const struct plumb_tensor *dk, const struct plumb_tensor *dv,
                                    const struct plumb_tensor *dout, const struct plumb_tensor *o,
                                    const struct plumb_tensor *lse, const struct plumb_tensor *q,
                                    const struct plumb_tensor *kc, const struct plumb_tensor *vc,
                                    const struct plumb_tensor *work, const struct plumb_rows *rows,
                                    const struct plumb_attn_shape *shape);

/* ---- vocabulary ------------------------------------------------------------------------- */

/* Applies a soft cap to logits in place: z = cap tanh(z / cap), cap > 0.    z: any shape */
plumb_status plumb_op_softcap_fwd(struct plumb_backend *b, const struct plumb_tensor *z, float cap);
/* logp[i] = logits[i,target[i]] - lse[i], lse[i] = log sum_j exp logits[i,j], in nats: the
 * log-probabilities of given tokens.    logp, lse (n,)  logits (n,v)  target (n,) i32 in [0,v) */
plumb_status plumb_op_logprob_fwd(struct plumb_backend *b, const struct plumb_tensor *logp,
                                  const struct plumb_tensor *lse, const struct plumb_tensor *logits,
                                  const struct plumb_tensor *target);
/* Gradient of logprob_fwd: dlogits =. With cap > 0, logits are the output of softcap_fwd, and
 * dlogits is the gradient of its input.
 *   dlogits, logits (n,v)  lse, dlogp (n,)  target (n,) i32 in [0,v) */
plumb_status plumb_op_logprob_bwd(struct plumb_backend *b, const struct plumb_tensor *dlogits,
                                  const struct plumb_tensor *logits, const struct plumb_tensor *lse,
                                  const struct plumb_tensor *target,
                                  const struct plumb_tensor *dlogp, float cap);
/* Draws one token per row of logits with the sampling parameters p. logp is its log-prob under the
 * raw logits, logp_sampled that under the distribution after temperature and filters. u has uniform
 * random numbers in [0,1).
 *   token (n,) i32  logp, logp_sampled (n,)  logits (n,v)  u (n,) f64
 *   work (>= b->k.sample_work_count(n, v, b->threads),) */
plumb_status plumb_op_sample_fwd(struct plumb_backend *b, const struct plumb_tensor *token,
                                 const struct plumb_tensor *logp,
                                 const struct plumb_tensor *logp_sampled,
                                 const struct plumb_tensor *logits, const struct plumb_tensor *u,
                                 const struct plumb_sample_param *p,
                                 const struct plumb_tensor *work);

/* Applies the repetition penalty (kernels.h): y is x, but the logits of the tokens whose bit in
 * `seen` is set are penalised.
 *   y, x (n,v)  seen (n, ceil(v/32)) i32, a bit for each token  penalty > 0 */
plumb_status plumb_op_penalty_fwd(struct plumb_backend *b, const struct plumb_tensor *y,
                                  const struct plumb_tensor *x, const struct plumb_tensor *seen,
                                  double penalty);

/* Returns the number of floats of `work` that plumb_op_head_logprob_fwd needs for head_rows rows of
 * logits, or, if train is true, the larger number that plumb_op_head_logprob_bwd needs. */
int64_t plumb_op_head_work_count(const struct plumb_backend *b, int64_t head_rows, int64_t v,
                                 int64_t c, bool train);
/* Computes entropy (in nats) and mean logit of each row; lse: from plumb_op_logprob_fwd.
 *   logits (n,v)  lse, entropy, mean (n,) */
plumb_status plumb_op_entropy_fwd(struct plumb_backend *b, const struct plumb_tensor *entropy,
                                  const struct plumb_tensor *mean,
                                  const struct plumb_tensor *logits,
                                  const struct plumb_tensor *lse);
/* Optional outputs of plumb_op_head_logprob_fwd: entropy and mean logit of each row, (n,) each. */
struct plumb_head_extra {
    const struct plumb_tensor *entropy, *mean;
};
/* Computes the LM head and the log-probabilities of given tokens. Only head_rows rows of logits
 * exist at a time. The result is bit-equal to linear_fwd + logprob_fwd on all rows, for every
 * head_rows; if cap > 0, with softcap_fwd between the two.
 *
 *     logp[i] = z[i,target[i]] - lse[i],   lse[i] = log sum_j exp z[i,j],   nats
 *     z = x w^T,  or  cap tanh(x w^T / cap)
 *
 *   out  logp, lse (n,)  extra: NULL, or where to put entropy and mean logit of each row
 *   in   x (n,c)  packed (linear_packed_count(v,c),)  target (n,) i32 in [0,v)
 *        work (>= plumb_op_head_work_count(b, head_rows, v, c, false),)  head_rows >= 1 */
plumb_status
plumb_op_head_logprob_fwd(struct plumb_backend *b, const struct plumb_tensor *logp,
                          const struct plumb_tensor *lse, const struct plumb_head_extra *extra,
                          const struct plumb_tensor *x, const struct plumb_tensor *packed,
                          const struct plumb_tensor *target, int64_t v,
                          const struct plumb_tensor *work, int64_t head_rows, float cap);
/* Gradients of plumb_op_head_logprob_fwd; computes the logits again, block by block.
 *
 *     dlogits[i,j] = dlogp[i] ([j == target[i]] - exp(z[i,j] - lse[i]))
 *                    and with cap > 0 times 1 - (z[i,j] / cap)^2
 *     dx += dlogits w ;  dw += dlogits^T x, blocks in row order
 *
 *   out  dx (n,c) +=  dw (v,c) +=, or NULL if the head is frozen
 *   in   dlogp, lse (n,)  x (n,c)  w (v,c)  packed, target, head_rows, cap: as in the forward
 *        work (>= plumb_op_head_work_count(b, head_rows, v, c, true),)
 *        logits_kept: true if work still holds what head_logprob_fwd left there, unchanged; the
 *        logits of the first head_rows rows are then not computed again */
plumb_status
plumb_op_head_logprob_bwd(struct plumb_backend *b, const struct plumb_tensor *dx,
                          const struct plumb_tensor *dw, const struct plumb_tensor *dlogp,
                          const struct plumb_tensor *lse, const struct plumb_tensor *x,
                          const struct plumb_tensor *w, const struct plumb_tensor *packed,
                          const struct plumb_tensor *target, const struct plumb_tensor *work,
                          int64_t head_rows, bool logits_kept, float cap);

/* ---- optimizer and reductions ----------------------------------------------------------- */

/* Sets out[i] to the sum of squares of block i of x; the last block may be shorter than `block`.
 *   out (ceil(n/block),) f64  x: n elements  block >= 1 */
plumb_status plumb_op_sumsq(struct plumb_backend *b, const struct plumb_tensor *out,
                            const struct plumb_tensor *x, int64_t block);
/* Does one AdamW step: updates the weights w and the moments m and v with the gradient g. All have
 * one shape. Returns PLUMB_ERR_ARG if a bias correction of *p is not positive. */
plumb_status plumb_op_adamw(struct plumb_backend *b, const struct plumb_tensor *w,
                            const struct plumb_tensor *m, const struct plumb_tensor *v,
                            const struct plumb_tensor *g, const struct plumb_adamw *p);
/* w[i] = std times the standard normal number plumb_rng_normal of *key with position i mod 2^32 and
 * sample i / 2^32: the same bits on every backend. Waits for the device.    w float32, any shape */
plumb_status plumb_op_normal(struct plumb_backend *b, const struct plumb_tensor *w, double std,
                             const struct plumb_rng_key *key);
/* Computes one hash for each block of PLUMB_HASH_BLOCK elements of x.
 *   out (ceil(n/PLUMB_HASH_BLOCK),) i64  x: n elements */
plumb_status plumb_op_hash_blocks(struct plumb_backend *b, const struct plumb_tensor *out,
                                  const struct plumb_tensor *x);

#endif
