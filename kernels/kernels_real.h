/* kernels_real.h - the kernels that read or write activations, for one element type of theirs.
 * Layer 1. Included by kernels.h alone, once for each REAL, with FN(k) the name of k's type.
 *
 * REAL is float, or plumb_bf16 with all arithmetic in float32 and one rounding, to nearest even,
 * of each value that is stored. Weights of norms, biases, statistics and gradients of weights are
 * float32 in both. */

/* ---- rows ------------------------------------------------------------------------- */

/* y[i,:] = x[index[i],:]          y (n,c)  x (*,c)  index (n,) */
typedef plumb_status FN(gather_fwd)(plumb_stream *s, REAL *y, const REAL *x, const int32_t *index,
                                    int64_t n, int64_t c);
/* dx[index[i],:] += dy[i,:]       in ascending i; dx (m,c); indices may repeat */
typedef plumb_status FN(gather_bwd)(plumb_stream *s, REAL *dx, const REAL *dy, const int32_t *index,
                                    int64_t n, int64_t c, int64_t m);

/* y[i,:] = mean of x[offset[i] .. offset[i+1]-1, :], in row order; 0 for an empty segment
 *   y (g,c)  x (*,c)  offset (g+1,) */
typedef plumb_status FN(segment_mean_fwd)(plumb_stream *s, float *y, const REAL *x,
                                          const int64_t *offset, int64_t g, int64_t c);

/* y = a + b, y may be a or b */
typedef plumb_status FN(add_fwd)(plumb_stream *s, REAL *y, const REAL *a, const REAL *b, int64_t n);

/* y[i,:] = x[i,:] * rstd[i] * w,  rstd[i] = 1/sqrt(mean_j x[i,j]^2 + eps)
 *   y (n,c)  rstd (n,)  x (n,c)  w (c,)      Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4 */
typedef plumb_status FN(rmsnorm_fwd)(plumb_stream *s, REAL *y, float *rstd, const REAL *x,
                                     const float *w, int64_t n, int64_t c, float eps);
/* dx += dL/dx ; dw += dL/dw   given dy (n,c) and the saved rstd (n,) */
typedef plumb_status FN(rmsnorm_bwd)(plumb_stream *s, REAL *dx, float *dw, const REAL *dy,
                                     const REAL *x, const float *w, const float *rstd, int64_t n,
                                     int64_t c);

/* Rotates in place, halves paired as Hugging Face does (i with i + d/2):
 *     x1' = x1 cos - x2 sin,  x2' = x2 cos + x1 sin        at table[pos[i], :]
 *   x (n,h,d)  cos_sin (max_pos, d): first d/2 columns cos, then d/2 sin  pos (n,)
 * Su et al. 2021, arXiv:2104.09864, eq. 34. The backward is the inverse rotation. */
typedef plumb_status FN(rope_fwd)(plumb_stream *s, REAL *x, const float *cos_sin,
                                  const int32_t *pos, int64_t n, int64_t h, int64_t d);
typedef plumb_status FN(rope_bwd)(plumb_stream *s, REAL *dx, const float *cos_sin,
                                  const int32_t *pos, int64_t n, int64_t h, int64_t d);

/* y = silu(gate) * up, silu(z) = z / (1 + exp(-z))      all (n,), n = rows * f
 * Shazeer 2020, arXiv:2002.05202, eq. 6 */
typedef plumb_status FN(swiglu_fwd)(plumb_stream *s, REAL *y, const REAL *gate, const REAL *up,
                                    int64_t n);
/* dgate = dL/dgate, dup = dL/dup (not +=)   dgate may be gate, dup may be up */
typedef plumb_status FN(swiglu_bwd)(plumb_stream *s, REAL *dgate, REAL *dup, const REAL *dy,
                                    const REAL *gate, const REAL *up, int64_t n);

/* ---- linear layers ------------------------------------------------------------------ */

/* packed = the layout that linear_fwd reads, of w (out,in). bfloat16: the rounded weights, in
 * rows as w's. */
typedef plumb_status FN(linear_pack)(plumb_stream *s, REAL *packed, const float *w, int64_t out,
                                     int64_t in);
/* y[i,o] = bias[o] + sum_k x[i,k] w[o,k], one accumulation chain over k = 0..in-1 for every
 * output element (fused multiply-add), the bias added last.
 *   y (n,out)  x (n,in)  packed from linear_pack  bias (out,) or NULL; bfloat16: rounded */
typedef plumb_status FN(linear_fwd)(plumb_stream *s, REAL *y, const REAL *x, const REAL *packed,
                                    const float *bias, int64_t n, int64_t out, int64_t in);
/* dx (n,in) = dy (n,out) w (out,in), plus what dx held when accumulate != 0. A row of dx does not
 * depend on the other rows.
 *   w: the weights; bfloat16: from linear_pack  work: linear_work_count floats */
typedef plumb_status FN(linear_bwd_x)(plumb_stream *s, REAL *dx, const REAL *dy, const REAL *w,
                                      float *work, int64_t n, int64_t out, int64_t in,
                                      int accumulate);
/* dw (out,in) += dy^T x ; dbias (out,) += column sums of dy (NULL = no bias).
 * A call adds its sums over rows to what dw and dbias hold. */
typedef plumb_status FN(linear_bwd_w)(plumb_stream *s, float *dw, float *dbias, const REAL *dy,
                                      const REAL *x, float *work, int64_t n, int64_t out,
                                      int64_t in);

/* ---- attention ---------------------------------------------------------------------- */

/* Scatters the rows' keys and values into their pages of one layer's store.
 *   kc, vc: that layer's pages   k, v (n,hk,d); bfloat16: d a multiple of 8 */
typedef plumb_status FN(kv_write_fwd)(plumb_stream *s, REAL *kc, REAL *vc, const REAL *k,
                                      const REAL *v, const struct plumb_rows *rows, int64_t hk,
                                      int64_t d);
/* o[i,a,:] = sum_j softmax_j(scale q[i,a].k[j]) v[j] over the row's visible keys j, online in
 * blocks of PLUMB_KV_PAGE positions from the first visible block on.
 *   o (n,h,d)  lse (n,h): log sum exp of the scaled scores, nats  q (n,h,d)
 * Dao et al. 2022, arXiv:2205.14135, algorithm 1. Decode (one row), prefill and training are
 * the same function of a row. bfloat16: p is rounded before it meets v; sums begin anew at every
 * 512 positions and are joined in order; d a multiple of 8; what the store holds up to the last
 * row's position is finite. */
typedef plumb_status FN(attention_fwd)(plumb_stream *s, REAL *o, float *lse, const REAL *q,
                                       const REAL *kc, const REAL *vc,
                                       const struct plumb_rows *rows,
                                       const struct plumb_attn_shape *shape);
/* Floats of scratch for attention_bwd. */
typedef int64_t FN(attention_work_count)(int64_t n, const struct plumb_attn_shape *shape,
                                         int threads);
/* dq, dk, dv = gradients (not +=). Every sequence must be here whole: its rows are positions
 * 0..len-1.   dq, dout, o, q (n,h,d)  dk, dv (n,hk,d)  lse (n,h)
 * bfloat16: p and dL/d(score) are rounded before they meet dout, k and q; d a multiple of 8. */
typedef plumb_status FN(attention_bwd)(plumb_stream *s, REAL *dq, REAL *dk, REAL *dv,
                                       const REAL *dout, const REAL *o, const float *lse,
                                       const REAL *q, const REAL *kc, const REAL *vc, float *work,
                                       const struct plumb_rows *rows,
                                       const struct plumb_attn_shape *shape);

/* ---- vocabulary --------------------------------------------------------------------- */

/* dlogits[i,j] = dlogp[i] * ([j == target[i]] - exp(logits[i,j] - lse[i]))
 *   dlogits, logits (n,v); float32: dlogits may be logits  target (n,) in [0,v) */
typedef plumb_status FN(logprob_bwd)(plumb_stream *s, REAL *dlogits, const float *logits,
                                     const float *lse, const int32_t *target, const float *dlogp,
                                     int64_t n, int64_t v);
