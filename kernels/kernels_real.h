/* kernels_real.h - the kernels that exist for two element types of the activations.
 * Layer 1. Included only by kernels.h, once for each type REAL; FN(k) names the type of kernel k.
 *
 * REAL is float or plumb_bf16. With plumb_bf16 all arithmetic is float32, and each stored value is
 * rounded to nearest even; the comments of linear_fwd and of attention_fwd and _bwd say which
 * intermediate values are rounded, too. Norm weights, biases, statistics and weight gradients are
 * float32 in both forms. */

/* ---- rows ------------------------------------------------------------------------- */

/* Copies the indexed rows: y[i,:] = x[index[i],:]          y (n,c)  x (*,c)  index (n,) */
typedef plumb_status FN(gather_fwd)(plumb_stream *s, REAL *y, const REAL *x, const int32_t *index,
                                    int64_t n, int64_t c);
/* dx[index[i],:] += dy[i,:], added in ascending i; indices may repeat.    dx (m,c)  dy (n,c) */
typedef plumb_status FN(gather_bwd)(plumb_stream *s, REAL *dx, const REAL *dy, const int32_t *index,
                                    int64_t n, int64_t c, int64_t m);

/* Copies rows within x, in each of its planes:
 *     x[p * stride + to * c + j] = x[p * stride + from * c + j]    for p < planes, i < n, j < c,
 *                                                  with from = pair[i,0] and to = pair[i,1]
 * No row may be in both columns of pair, and none may be twice in the second column.
 *   x: planes of any number of rows (*,c), `stride` elements apart   pair (n,2) */
typedef plumb_status FN(move_rows)(plumb_stream *s, REAL *x, const int32_t *pair, int64_t n,
                                   int64_t c, int64_t planes, int64_t stride);

/* y[i,:] = mean over rows offset[i] .. offset[i+1]-1 of x, added in row order; an empty segment
 * gives 0.
 *   y (g,c)  x (*,c)  offset (g+1,) */
typedef plumb_status FN(segment_mean_fwd)(plumb_stream *s, float *y, const REAL *x,
                                          const int64_t *offset, int64_t g, int64_t c);

/* y = a + b, all (n,); y may be the same array as a or b. */
typedef plumb_status FN(add_fwd)(plumb_stream *s, REAL *y, const REAL *a, const REAL *b, int64_t n);

/* y = factor * x, both (n,); y may be the same array as x. */
typedef plumb_status FN(scale_fwd)(plumb_stream *s, REAL *y, const REAL *x, float factor,
                                   int64_t n);

/* y[i,:] = x[i,:] * rstd[i] * (w + shift),  rstd[i] = 1/sqrt(mean_j x[i,j]^2 + eps)
 *   y (n,c)  rstd (n,)  x (n,c)  w (c,)  shift: 0, or 1 in Gemma, whose weights start at 0
 * Source: Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4 */
typedef plumb_status FN(rmsnorm_fwd)(plumb_stream *s, REAL *y, float *rstd, const REAL *x,
                                     const float *w, int64_t n, int64_t c, float eps, float shift);
/* Gradients of rmsnorm_fwd: dx += dL/dx and dw += dL/dw, from dy (n,c) and the saved rstd (n,). */
typedef plumb_status FN(rmsnorm_bwd)(plumb_stream *s, REAL *dx, float *dw, const REAL *dy,
                                     const REAL *x, const float *w, const float *rstd, int64_t n,
                                     int64_t c, float shift);

/* y[i,:] = (x[i,:] - mean[i]) * rstd[i] * w + bias,  rstd[i] = 1/sqrt(variance of row i + eps)
 *   y (n,c)  mean, rstd (n,)  x (n,c)  w, bias (c,).  The variance is the mean of (x[i,j] -
 * mean)^2. Source: Ba et al. 2016, arXiv:1607.06450, eq. 4 */
typedef plumb_status FN(layernorm_fwd)(plumb_stream *s, REAL *y, float *mean, float *rstd,
                                       const REAL *x, const float *w, const float *bias, int64_t n,
                                       int64_t c, float eps);
/* Gradients of layernorm_fwd: dx += dL/dx, dw += dL/dw and dbias += dL/dbias, from dy (n,c) and the
 * saved mean and rstd (n,). */
typedef plumb_status FN(layernorm_bwd)(plumb_stream *s, REAL *dx, float *dw, float *dbias,
                                       const REAL *dy, const REAL *x, const float *w,
                                       const float *mean, const float *rstd, int64_t n, int64_t c);

/* Rotates the first r columns of each head of x in place; the others stay. Column j is paired with
 * column j + r/2, as in Hugging Face:
 *     x1' = x1 cos - x2 sin,  x2' = x2 cos + x1 sin        with cos, sin of row pos[i] of cos_sin
 *   x (n,h,d)  cos_sin (max_pos, r): the first r/2 columns are cos, the others sin  pos (n,)
 *   r even, in [2, d]
 * Source: Su et al. 2021, arXiv:2104.09864, eq. 34. rope_bwd is the inverse rotation. */
typedef plumb_status FN(rope_fwd)(plumb_stream *s, REAL *x, const float *cos_sin,
                                  const int32_t *pos, int64_t n, int64_t h, int64_t d, int64_t r);
typedef plumb_status FN(rope_bwd)(plumb_stream *s, REAL *dx, const float *cos_sin,
                                  const int32_t *pos, int64_t n, int64_t h, int64_t d, int64_t r);

/* y = act(gate) * up, or y = act(gate) if up is NULL      all (n,), n = rows * f
 * Source: Shazeer 2020, arXiv:2002.05202, eq. 6; Hendrycks & Gimpel 2016, arXiv:1606.08415 (GELU)
 */
typedef plumb_status FN(act_fwd)(plumb_stream *s, REAL *y, const REAL *gate, const REAL *up,
                                 int64_t n, enum plumb_activation act);
/* Gradients of act_fwd: dgate = dL/dgate and dup = dL/dup (assigned, not added). dgate may be the
 * same array as gate, and dup the same as up. If up is NULL, dup is not used. */
typedef plumb_status FN(act_bwd)(plumb_stream *s, REAL *dgate, REAL *dup, const REAL *dy,
                                 const REAL *gate, const REAL *up, int64_t n,
                                 enum plumb_activation act);

/* ---- linear layers ------------------------------------------------------------------ */

/* Writes the weights w (out,in) in the layout that linear_fwd reads. In bfloat16 the layout is
 * row-major, as w, and each weight is rounded. */
typedef plumb_status FN(linear_pack)(plumb_stream *s, REAL *packed, const float *w, int64_t out,
                                     int64_t in);
/* y[i,o] = bias[o] + sum_k x[i,k] w[o,k]. In the CPU table and in ref each output element is one
 * accumulation chain over k = 0..in-1; the bias is added last.
 *   y (n,out)  x (n,in)  packed: from linear_pack  bias (out,) or NULL
 * In bfloat16 the bias is rounded before it is added, and y is rounded. */
typedef plumb_status FN(linear_fwd)(plumb_stream *s, REAL *y, const REAL *x, const REAL *packed,
                                    const float *bias, int64_t n, int64_t out, int64_t in);
/* dx (n,in) = dy (n,out) w (out,in); if accumulate != 0 the product is added to dx. A row of
 * dx does not depend on the other rows.
 *   w: the unpacked weights; in bfloat16, the output of linear_pack  work: linear_work_count floats
 */
typedef plumb_status FN(linear_bwd_x)(plumb_stream *s, REAL *dx, const REAL *dy, const REAL *w,
                                      float *work, int64_t n, int64_t out, int64_t in,
                                      int accumulate);
/* dw (out,in) += dy^T x ; dbias (out,) += column sums of dy. dbias may be NULL (no bias).
 * On CUDA each call first sums over its n rows and then adds the sums to dw and dbias; cpu/ adds
 * the sums of blocks of PLUMB_SUM_BLOCK rows to them, one after another. */
typedef plumb_status FN(linear_bwd_w)(plumb_stream *s, float *dw, float *dbias, const REAL *dy,
                                      const REAL *x, float *work, int64_t n, int64_t out,
                                      int64_t in);

/* ---- attention ---------------------------------------------------------------------- */

/* Writes the keys and values of the rows into their pages of one layer's KV cache.
 *   kc, vc: the pages of that layer   k, v (n,hk,d); in bfloat16, d must be a multiple of 8 */
typedef plumb_status FN(kv_write_fwd)(plumb_stream *s, REAL *kc, REAL *vc, const REAL *k,
                                      const REAL *v, const struct plumb_rows *rows, int64_t hk,
                                      int64_t d);
/* o[i,a,:] = sum_j softmax_j(scale q[i,a].k[j]) v[j] over the keys j that row i attends to. In cpu/
 * and cuda/ the softmax is online, in blocks of PLUMB_KV_PAGE positions, from the first block with
 * a key that the row attends to.
 *   o (n,h,d)  lse (n,h): log-sum-exp of the scaled scores, in nats  q (n,h,d)
 * Source: Dao et al. 2022, arXiv:2205.14135, algorithm 1. Decoding (one row per sequence), prefill
 * and training give the same bits for a row. In bfloat16: the probabilities are rounded before they
 * are multiplied with v; sums restart every 512 positions and the partial sums are combined in
 * order; d must be a multiple of 8; all cached keys and values of a sequence up to the position of
 * its last row must be finite. */
typedef plumb_status FN(attention_fwd)(plumb_stream *s, REAL *o, float *lse, const REAL *q,
                                       const REAL *kc, const REAL *vc,
                                       const struct plumb_rows *rows,
                                       const struct plumb_attn_shape *shape);
/* Returns the number of floats of scratch memory that attention_bwd needs. */
typedef int64_t FN(attention_work_count)(int64_t n, const struct plumb_attn_shape *shape,
                                         int threads);
/* Gradients of attention_fwd: dq, dk and dv are assigned, not added. Every sequence must be
 * complete: its rows are positions 0..len-1.
 *   dq, dout, o, q (n,h,d)  dk, dv (n,hk,d)  lse (n,h)
 * In bfloat16 the probabilities and the gradients of the scores are rounded before they are
 * multiplied with dout, k and q; d must be a multiple of 8. */
typedef plumb_status FN(attention_bwd)(plumb_stream *s, REAL *dq, REAL *dk, REAL *dv,
                                       const REAL *dout, const REAL *o, const float *lse,
                                       const REAL *q, const REAL *kc, const REAL *vc, float *work,
                                       const struct plumb_rows *rows,
                                       const struct plumb_attn_shape *shape);

/* ---- vocabulary --------------------------------------------------------------------- */

/* Gradient of logprob_fwd:
 *   dlogits[i,j] = dlogp[i] * ([j == target[i]] - exp(logits[i,j] - lse[i]))
 * With cap > 0, logits are the output of softcap_fwd and dlogits is the gradient of its input: the
 * formula above times 1 - (logits[i,j] / cap)^2.
 *   dlogits, logits (n,v)  target (n,) in [0,v); in float32, dlogits may be logits itself */
typedef plumb_status FN(logprob_bwd)(plumb_stream *s, REAL *dlogits, const float *logits,
                                     const float *lse, const int32_t *target, const float *dlogp,
                                     int64_t n, int64_t v, float cap);
