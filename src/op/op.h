/* op.h - one checked function per kernel: shapes, dtypes and places first, then the table.
 * Layer 3. Includes base/, backend/, kernels.h.
 *
 * Every function takes the backend, then outputs, then inputs. Sizes come from the tensors.
 * "(..., c)": any rank, the last dimension is c. "(n, *)": any rank, rows are the first
 * dimension and the rest counts as one. What each one computes, and whether it is = or +=, is
 * said at its kernel in kernels.h; what is REAL there is of b->dtype. All are asynchronous on
 * b->stream.
 *
 * Errors of all: PLUMB_ERR_SHAPE naming operation, argument and tensor, what it is and what was
 * expected (rank, dimensions, dtype, place; with host memory also an index out of range); then
 * whatever the kernel returns. Nothing is written when a check fails. */
#ifndef PLUMB_OP_OP_H
#define PLUMB_OP_OP_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "base/status.h"
#include "base/tensor.h"
#include "kernels.h"

/* A tensor over memory that somebody else owns. dim: `rank` sizes, rank <= PLUMB_MAX_RANK. */
struct plumb_tensor plumb_view(const char *name, enum plumb_dtype dtype, const void *data,
                               enum plumb_place place, int rank, const int64_t *dim);
/* In one line, with one to four sizes of any integer type:
 *     struct plumb_tensor q = plumb_view_f32("q", act->q, b->place, n, h, d);  */
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

/* The same memory seen as one row: rank 1, all its elements. */
struct plumb_tensor plumb_view_flat(const struct plumb_tensor *t);
/* Rows [begin, begin + rows) of t, along its first dimension. */
struct plumb_tensor plumb_view_rows(const struct plumb_tensor *t, int64_t begin, int64_t rows);

/* ---- rows ------------------------------------------------------------------------------- */

/* y (n,c)  x (m,c), of y's type or float32  index (n,) i32 in [0,m) */
plumb_status plumb_op_gather_fwd(struct plumb_backend *b, const struct plumb_tensor *y,
                                 const struct plumb_tensor *x, const struct plumb_tensor *index);
/* dx (m,c) +=, of dy's type or float32   dy (n,c)  index (n,) i32 in [0,m) */
plumb_status plumb_op_gather_bwd(struct plumb_backend *b, const struct plumb_tensor *dx,
                                 const struct plumb_tensor *dy, const struct plumb_tensor *index);
/* y (g,c)  x (m,c)  offset (g+1,) i64, ascending, in [0,m] */
plumb_status plumb_op_segment_mean_fwd(struct plumb_backend *b, const struct plumb_tensor *y,
                                       const struct plumb_tensor *x,
                                       const struct plumb_tensor *offset);
/* y, x1, x2 of one shape; y may be x1 or x2 */
plumb_status plumb_op_add_fwd(struct plumb_backend *b, const struct plumb_tensor *y,
                              const struct plumb_tensor *x1, const struct plumb_tensor *x2);
/* y, of b->dtype, = x, float32, of one shape; b->dtype is bfloat16 */
plumb_status plumb_op_narrow_fwd(struct plumb_backend *b, const struct plumb_tensor *y,
                                 const struct plumb_tensor *x);
/* y += x, of one shape */
plumb_status plumb_op_accumulate(struct plumb_backend *b, const struct plumb_tensor *y,
                                 const struct plumb_tensor *x);

/* y (..., c)  rstd (rows,)  x as y  w (c,);  rows = elements of x / c */
plumb_status plumb_op_rmsnorm_fwd(struct plumb_backend *b, const struct plumb_tensor *y,
                                  const struct plumb_tensor *rstd, const struct plumb_tensor *x,
                                  const struct plumb_tensor *w, float eps);
/* dx += (..., c)  dw += (c,)  dy, x as dx  w (c,)  rstd (rows,) */
plumb_status plumb_op_rmsnorm_bwd(struct plumb_backend *b, const struct plumb_tensor *dx,
                                  const struct plumb_tensor *dw, const struct plumb_tensor *dy,
                                  const struct plumb_tensor *x, const struct plumb_tensor *w,
                                  const struct plumb_tensor *rstd);
/* x (n,h,d) in place  cos_sin (max_pos,d)  pos (n,) i32 in [0,max_pos); d even */
plumb_status plumb_op_rope_fwd(struct plumb_backend *b, const struct plumb_tensor *x,
                               const struct plumb_tensor *cos_sin, const struct plumb_tensor *pos);
plumb_status plumb_op_rope_bwd(struct plumb_backend *b, const struct plumb_tensor *dx,
                               const struct plumb_tensor *cos_sin, const struct plumb_tensor *pos);
/* y, gate, up of one shape */
plumb_status plumb_op_swiglu_fwd(struct plumb_backend *b, const struct plumb_tensor *y,
                                 const struct plumb_tensor *gate, const struct plumb_tensor *up);
/* all of one shape; dgate may be gate, dup may be up */
plumb_status plumb_op_swiglu_bwd(struct plumb_backend *b, const struct plumb_tensor *dgate,
                                 const struct plumb_tensor *dup, const struct plumb_tensor *dy,
                                 const struct plumb_tensor *gate, const struct plumb_tensor *up);

/* ---- linear layers ---------------------------------------------------------------------- */

/* packed (b->k.linear_packed_count(out,in),)  w (out,in) */
plumb_status plumb_op_linear_pack(struct plumb_backend *b, const struct plumb_tensor *packed,
                                  const struct plumb_tensor *w);
/* y (n,*) of out columns; float32 too, without a bias  x (n,*) of in columns  packed as above
 * bias (out,) or NULL */
plumb_status plumb_op_linear_fwd(struct plumb_backend *b, const struct plumb_tensor *y,
                                 const struct plumb_tensor *x, const struct plumb_tensor *packed,
                                 const struct plumb_tensor *bias);
/* dx (n,*) = or += (accumulate)   dy (n,*)  w (out,in)  work (>= linear_work_count,) */
plumb_status plumb_op_linear_bwd_x(struct plumb_backend *b, const struct plumb_tensor *dx,
                                   const struct plumb_tensor *dy, const struct plumb_tensor *w,
                                   const struct plumb_tensor *work, bool accumulate);
/* dw (out,in) +=  dbias (out,) += or NULL   dy (n,*)  x (n,*)  work as above */
plumb_status plumb_op_linear_bwd_w(struct plumb_backend *b, const struct plumb_tensor *dw,
                                   const struct plumb_tensor *dbias, const struct plumb_tensor *dy,
                                   const struct plumb_tensor *x, const struct plumb_tensor *work);

/* ---- attention -------------------------------------------------------------------------- */

/* kc (pages,hk,d,PLUMB_KV_PAGE)  vc (pages,hk,PLUMB_KV_PAGE,d) of one layer  k, v (n,hk,d)
 * In bfloat16 a page of kc is laid out as one of vc; its dimensions here are the same.
 * rows: n rows, its arrays in the backend's memory. With host memory every row's own page is
 * checked to lie in [0,pages). */
plumb_status plumb_op_kv_write_fwd(struct plumb_backend *b, const struct plumb_tensor *kc,
                                   const struct plumb_tensor *vc, const struct plumb_tensor *k,
                                   const struct plumb_tensor *v, const struct plumb_rows *rows);
/* o (n,h,d)  lse (n,h)  q (n,h,d)  kc, vc as above; h, hk, d must be shape's */
plumb_status plumb_op_attention_fwd(struct plumb_backend *b, const struct plumb_tensor *o,
                                    const struct plumb_tensor *lse, const struct plumb_tensor *q,
                                    const struct plumb_tensor *kc, const struct plumb_tensor *vc,
                                    const struct plumb_rows *rows,
                                    const struct plumb_attn_shape *shape);
/* Floats of `work` for the function below, with n rows. */
int64_t plumb_op_attention_work_count(const struct plumb_backend *b, int64_t n,
                                      const struct plumb_attn_shape *shape);
/* dq (n,h,d) =  dk, dv (n,hk,d) =   dout, o, q (n,h,d)  lse (n,h)
 * work (>= plumb_op_attention_work_count(b, n, shape),) */
plumb_status plumb_op_attention_bwd(struct plumb_backend *b, const struct plumb_tensor *dq,
                                    const struct plumb_tensor *dk, const struct plumb_tensor *dv,
                                    const struct plumb_tensor *dout, const struct plumb_tensor *o,
                                    const struct plumb_tensor *lse, const struct plumb_tensor *q,
                                    const struct plumb_tensor *kc, const struct plumb_tensor *vc,
                                    const struct plumb_tensor *work, const struct plumb_rows *rows,
                                    const struct plumb_attn_shape *shape);

/* ---- vocabulary ------------------------------------------------------------------------- */

/* logp, lse (n,)  logits (n,v)  target (n,) i32 in [0,v) */
plumb_status plumb_op_logprob_fwd(struct plumb_backend *b, const struct plumb_tensor *logp,
                                  const struct plumb_tensor *lse, const struct plumb_tensor *logits,
                                  const struct plumb_tensor *target);
/* dlogits, logits (n,v)   lse, dlogp (n,)  target (n,) i32 */
plumb_status plumb_op_logprob_bwd(struct plumb_backend *b, const struct plumb_tensor *dlogits,
                                  const struct plumb_tensor *logits, const struct plumb_tensor *lse,
                                  const struct plumb_tensor *target,
                                  const struct plumb_tensor *dlogp);
/* token (n,) i32  logp, logp_sampled (n,)   logits (n,v)  u (n,) f64
 * work (>= b->k.sample_work_count(n, v, b->threads),) */
plumb_status plumb_op_sample_fwd(struct plumb_backend *b, const struct plumb_tensor *token,
                                 const struct plumb_tensor *logp,
                                 const struct plumb_tensor *logp_sampled,
                                 const struct plumb_tensor *logits, const struct plumb_tensor *u,
                                 const struct plumb_sample_param *p,
                                 const struct plumb_tensor *work);

/* Floats of `work` for the two functions below: head_rows rows of logits, and in training what
 * the two gradients of the head need. */
int64_t plumb_op_head_work_count(const struct plumb_backend *b, int64_t head_rows, int64_t v,
                                 int64_t c, bool train);
/* The LM head and the log-probabilities of given tokens in one: logits exist for head_rows rows
 * at a time. Bit-equal to linear_fwd + logprob_fwd on the whole, for every head_rows.
 *
 *     logp[i] = (x w^T)[i,target[i]] - lse[i],   lse[i] = log sum_j exp (x w^T)[i,j],  nats
 *
 *   out  logp, lse (n,)
 *   in   x (n,c)  packed (linear_packed_count(v,c),)  target (n,) i32 in [0,v)
 *        work (>= plumb_op_head_work_count(b, head_rows, v, c, false),)  head_rows >= 1 */
plumb_status plumb_op_head_logprob_fwd(struct plumb_backend *b, const struct plumb_tensor *logp,
                                       const struct plumb_tensor *lse, const struct plumb_tensor *x,
                                       const struct plumb_tensor *packed,
                                       const struct plumb_tensor *target, int64_t v,
                                       const struct plumb_tensor *work, int64_t head_rows);
/* Its gradient, rebuilding the logits block by block (ours; the softmax-minus-onehot form):
 *
 *     dlogits[i,j] = dlogp[i] ([j == target[i]] - exp(logits[i,j] - lse[i]))
 *     dx += dlogits w ;  dw += dlogits^T x, blocks in row order
 *
 *   out  dx (n,c) +=  dw (v,c) +=
 *   in   dlogp, lse (n,)  x (n,c)  w (v,c)  packed, target, head_rows as above
 *        work (>= plumb_op_head_work_count(b, head_rows, v, c, true),)
 *        logits_kept: work still holds, untouched, what head_logprob_fwd left there: the first
 *        head_rows rows' logits, which are then not computed again */
plumb_status
plumb_op_head_logprob_bwd(struct plumb_backend *b, const struct plumb_tensor *dx,
                          const struct plumb_tensor *dw, const struct plumb_tensor *dlogp,
                          const struct plumb_tensor *lse, const struct plumb_tensor *x,
                          const struct plumb_tensor *w, const struct plumb_tensor *packed,
                          const struct plumb_tensor *target, const struct plumb_tensor *work,
                          int64_t head_rows, bool logits_kept);

/* ---- optimizer and reductions ----------------------------------------------------------- */

/* out (ceil(n/block),) f64   x of n elements, block >= 1 */
plumb_status plumb_op_sumsq(struct plumb_backend *b, const struct plumb_tensor *out,
                            const struct plumb_tensor *x, int64_t block);
/* w, m, v of g's shape; PLUMB_ERR_ARG when a correction is not positive */
plumb_status plumb_op_adamw(struct plumb_backend *b, const struct plumb_tensor *w,
                            const struct plumb_tensor *m, const struct plumb_tensor *v,
                            const struct plumb_tensor *g, const struct plumb_adamw *p);
/* out (ceil(n/PLUMB_HASH_BLOCK),) i64   x of n elements */
plumb_status plumb_op_hash_blocks(struct plumb_backend *b, const struct plumb_tensor *out,
                                  const struct plumb_tensor *x);

#endif
