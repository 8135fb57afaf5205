/* op_linear.c - the operations of linear layers: check the arguments, then call the kernel.
 * Layer 3. Includes check.h. */
#include "op/check.h"

/* Views t as a matrix: returns its first dimension as n and the product of the others as
 * columns. */
static plumb_status matrix(const char *op, const char *arg, const struct plumb_tensor *t,
                           int64_t *n, int64_t *columns)
{
    PLUMB_TRY(plumb_op_check_rank(op, arg, t, 2, PLUMB_MAX_RANK));
    *n = t->dim[0];
    *columns = 1;
    for (int i = 1; i < t->rank; i++)
        *columns *= t->dim[i];
    return PLUMB_OK;
}

/* Checks that t has n rows, `columns` columns and the given dtype, and that it is in b's memory. */
static plumb_status check_matrix(const struct plumb_backend *b, const char *op, const char *arg,
                                 const struct plumb_tensor *t, enum plumb_dtype dtype, int64_t n,
                                 int64_t columns)
{
    int64_t rows, width;
    PLUMB_TRY(matrix(op, arg, t, &rows, &width));
    PLUMB_REQUIRE(rows == n && width == columns, PLUMB_ERR_SHAPE,
                  "%s: %s '%s' is %lld rows of %lld, expected %lld rows of %lld", op, arg,
                  t->name ? t->name : "(unnamed)", (long long)rows, (long long)width, (long long)n,
                  (long long)columns);
    return plumb_op_check_count(b, op, arg, t, dtype, plumb_tensor_count(t));
}

plumb_status plumb_op_linear_pack(struct plumb_backend *b, const struct plumb_tensor *packed,
                                  const struct plumb_tensor *w)
{
    PLUMB_TRY(plumb_op_check_rank("linear_pack", "w", w, 2, 2));
    const int64_t out = w->dim[0], in = w->dim[1];
    PLUMB_TRY(CHECK_ARGS(b, "linear_pack", WANT_F32(w, 2, out, in),
                         WANT_REAL(packed, 1, b->k.linear_packed_count(out, in))));
    return RUN_REAL(linear_pack, packed->data, plumb_f32(w), out, in);
}

plumb_status plumb_op_linear_fwd(struct plumb_backend *b, const struct plumb_tensor *y,
                                 const struct plumb_tensor *x, const struct plumb_tensor *packed,
                                 const struct plumb_tensor *bias)
{
    int64_t n, out, in;
    PLUMB_TRY(matrix("linear_fwd", "x", x, &n, &in));
    PLUMB_TRY(check_matrix(b, "linear_fwd", "x", x, b->dtype, n, in));
    PLUMB_TRY(matrix("linear_fwd", "y", y, &n, &out));
    const bool mixed = y->dtype == PLUMB_F32 && b->dtype != PLUMB_F32 && !bias;
    PLUMB_TRY(check_matrix(b, "linear_fwd", "y", y, mixed ? PLUMB_F32 : b->dtype, x->dim[0], out));
    PLUMB_TRY(CHECK_ARGS(b, "linear_fwd", WANT_REAL(packed, 1, b->k.linear_packed_count(out, in))));
    if (bias)
        PLUMB_TRY(CHECK_ARGS(b, "linear_fwd", WANT_F32(bias, 1, out)));
    if (mixed)
        return b->k.bf16.head_fwd(b->stream, plumb_f32(y), x->data, packed->data, n, out, in);
    return RUN_REAL(linear_fwd, y->data, x->data, packed->data, bias ? plumb_f32(bias) : NULL, n,
                    out, in);
}

plumb_status plumb_op_linear_bwd_x(struct plumb_backend *b, const struct plumb_tensor *dx,
                                   const struct plumb_tensor *dy, const struct plumb_tensor *w,
                                   const struct plumb_tensor *work, bool accumulate)
{
    PLUMB_TRY(plumb_op_check_rank("linear_bwd_x", "w", w, 2, 2));
    PLUMB_TRY(plumb_op_check_rank("linear_bwd_x", "dy", dy, 2, PLUMB_MAX_RANK));
    const int64_t n = dy->dim[0], out = w->dim[0], in = w->dim[1];
    PLUMB_TRY(CHECK_ARGS(b, "linear_bwd_x", WANT_REAL(w, 2, out, in)));
    PLUMB_TRY(check_matrix(b, "linear_bwd_x", "dy", dy, b->dtype, n, out));
    PLUMB_TRY(check_matrix(b, "linear_bwd_x", "dx", dx, b->dtype, n, in));
    PLUMB_TRY(plumb_op_check_work(b, "linear_bwd_x", work,
                                  b->k.linear_work_count(n, out, in, b->threads)));
    return RUN_REAL(linear_bwd_x, dx->data, dy->data, w->data, work ? plumb_f32(work) : NULL, n,
                    out, in, accumulate);
}

plumb_status plumb_op_linear_bwd_w(struct plumb_backend *b, const struct plumb_tensor *dw,
                                   const struct plumb_tensor *dbias, const struct plumb_tensor *dy,
                                   const struct plumb_tensor *x, const struct plumb_tensor *work)
{
    PLUMB_TRY(plumb_op_check_rank("linear_bwd_w", "dw", dw, 2, 2));
    PLUMB_TRY(plumb_op_check_rank("linear_bwd_w", "dy", dy, 2, PLUMB_MAX_RANK));
    const int64_t n = dy->dim[0], out = dw->dim[0], in = dw->dim[1];
    PLUMB_TRY(CHECK_ARGS(b, "linear_bwd_w", WANT_F32(dw, 2, out, in)));
    PLUMB_TRY(check_matrix(b, "linear_bwd_w", "dy", dy, b->dtype, n, out));
    PLUMB_TRY(check_matrix(b, "linear_bwd_w", "x", x, b->dtype, n, in));
    if (dbias)
        PLUMB_TRY(CHECK_ARGS(b, "linear_bwd_w", WANT_F32(dbias, 1, out)));
    PLUMB_TRY(plumb_op_check_work(b, "linear_bwd_w", work,
                                  b->k.linear_work_count(n, out, in, b->threads)));
    return RUN_REAL(linear_bwd_w, plumb_f32(dw), dbias ? plumb_f32(dbias) : NULL, dy->data, x->data,
                    work ? plumb_f32(work) : NULL, n, out, in);
}
