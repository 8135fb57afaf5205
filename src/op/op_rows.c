/* op_rows.c - row-wise and element-wise operations: check the arguments, then call the kernel.
 * Layer 3. Includes check.h, base/. */
#include "base/num.h"
#include "op/check.h"

plumb_status plumb_op_gather_fwd(struct plumb_backend *b, const struct plumb_tensor *y,
                                 const struct plumb_tensor *x, const struct plumb_tensor *index)
{
    PLUMB_TRY(plumb_op_check_rank("gather_fwd", "index", index, 1, 1));
    PLUMB_TRY(plumb_op_check_rank("gather_fwd", "x", x, 2, 2));
    const int64_t n = index->dim[0], m = x->dim[0], c = x->dim[1];
    const bool mixed = x->dtype == PLUMB_F32 && b->dtype != PLUMB_F32;
    PLUMB_TRY(CHECK_ARGS(b, "gather_fwd", WANT_REAL(y, 2, n, c),
                         WANT(x, mixed ? PLUMB_F32 : b->dtype, 2, m, c),
                         WANT(index, PLUMB_I32, 1, n)));
    PLUMB_TRY(plumb_op_check_index("gather_fwd", "index", index, m));
    if (mixed)
        return b->k.bf16.embed_fwd(b->stream, y->data, plumb_f32(x), plumb_i32(index), n, c);
    return RUN_REAL(gather_fwd, y->data, x->data, plumb_i32(index), n, c);
}

plumb_status plumb_op_gather_bwd(struct plumb_backend *b, const struct plumb_tensor *dx,
                                 const struct plumb_tensor *dy, const struct plumb_tensor *index)
{
    PLUMB_TRY(plumb_op_check_rank("gather_bwd", "index", index, 1, 1));
    PLUMB_TRY(plumb_op_check_rank("gather_bwd", "dx", dx, 2, 2));
    const int64_t n = index->dim[0], m = dx->dim[0], c = dx->dim[1];
    const bool mixed = dx->dtype == PLUMB_F32 && b->dtype != PLUMB_F32;
    PLUMB_TRY(CHECK_ARGS(b, "gather_bwd", WANT(dx, mixed ? PLUMB_F32 : b->dtype, 2, m, c),
                         WANT_REAL(dy, 2, n, c), WANT(index, PLUMB_I32, 1, n)));
    PLUMB_TRY(plumb_op_check_index("gather_bwd", "index", index, m));
    if (mixed)
        return b->k.bf16.embed_bwd(b->stream, plumb_f32(dx), dy->data, plumb_i32(index), n, c, m);
    return RUN_REAL(gather_bwd, dx->data, dy->data, plumb_i32(index), n, c, m);
}

plumb_status plumb_op_move_rows(struct plumb_backend *b, const struct plumb_tensor *x,
                                const struct plumb_tensor *pair, int64_t stride)
{
    PLUMB_TRY(plumb_op_check_rank("move_rows", "x", x, 3, 3));
    PLUMB_TRY(plumb_op_check_rank("move_rows", "pair", pair, 2, 2));
    const int64_t planes = x->dim[0], m = x->dim[1], c = x->dim[2], n = pair->dim[0];
    PLUMB_TRY(
        CHECK_ARGS(b, "move_rows", WANT_REAL(x, 3, planes, m, c), WANT(pair, PLUMB_I32, 2, n, 2)));
    PLUMB_TRY(plumb_op_check_index("move_rows", "pair", pair, m));
    PLUMB_REQUIRE(planes == 1 || stride >= m * c, PLUMB_ERR_SHAPE,
                  "move_rows: planes of %lld elements are %lld elements apart", (long long)(m * c),
                  (long long)stride);
    return RUN_REAL(move_rows, x->data, plumb_i32(pair), n, c, planes, stride);
}

static plumb_status check_offsets(const struct plumb_tensor *offset, int64_t m)
{
    if (offset->place != PLUMB_HOST)
        return PLUMB_OK;
    const int64_t *at = (const int64_t *)offset->data;
    int64_t before = 0;
    for (int64_t i = 0; i < offset->dim[0]; before = at[i++])
        PLUMB_REQUIRE(
            at[i] >= before && at[i] <= m, PLUMB_ERR_SHAPE,
            "segment_mean_fwd: offset '%s' holds %lld at index %lld, expected %lld to %lld",
            offset->name ? offset->name : "(unnamed)", (long long)at[i], (long long)i,
            (long long)before, (long long)m);
    return PLUMB_OK;
}

plumb_status plumb_op_segment_mean_fwd(struct plumb_backend *b, const struct plumb_tensor *y,
                                       const struct plumb_tensor *x,
                                       const struct plumb_tensor *offset)
{
    PLUMB_TRY(plumb_op_check_rank("segment_mean_fwd", "y", y, 2, 2));
    PLUMB_TRY(plumb_op_check_rank("segment_mean_fwd", "x", x, 2, 2));
    const int64_t g = y->dim[0], c = y->dim[1], m = x->dim[0];
    PLUMB_TRY(CHECK_ARGS(b, "segment_mean_fwd", WANT_F32(y, 2, g, c), WANT_REAL(x, 2, m, c),
                         WANT(offset, PLUMB_I64, 1, g + 1)));
    PLUMB_TRY(check_offsets(offset, m));
    return RUN_REAL(segment_mean_fwd, plumb_f32(y), x->data, (const int64_t *)offset->data, g, c);
}

/* Checks that the n tensors t have the given dtype and the shape of t[0], and are in b's memory.
 * Sets *count to the number of elements of one tensor. arg: the names of the tensors, for
 * messages. */
static plumb_status same_shape(const struct plumb_backend *b, const char *op,
                               enum plumb_dtype dtype, const struct plumb_tensor *const *t,
                               const char *const *arg, int n, int64_t *count)
{
    PLUMB_TRY(plumb_op_check_rank(op, arg[0], t[0], 1, PLUMB_MAX_RANK));
    for (int i = 0; i < n; i++) {
        struct want w = {.arg = arg[i], .t = t[i], .dtype = dtype, .rank = t[0]->rank};
        for (int j = 0; j < w.rank; j++)
            w.dim[j] = t[0]->dim[j];
        PLUMB_TRY(plumb_op_check(b, op, &w, 1));
    }
    *count = plumb_tensor_count(t[0]);
    return PLUMB_OK;
}
#define SAME(b, op, dtype, count, n, names, ...)                                                   \
    same_shape((b), (op), (dtype), (const struct plumb_tensor *const[]){__VA_ARGS__},              \
               (const char *const[]){names}, (n), (count))
#define NAMES(...) __VA_ARGS__

plumb_status plumb_op_add_fwd(struct plumb_backend *b, const struct plumb_tensor *y,
                              const struct plumb_tensor *x1, const struct plumb_tensor *x2)
{
    int64_t n;
    PLUMB_TRY(SAME(b, "add_fwd", b->dtype, &n, 3, NAMES("y", "x1", "x2"), y, x1, x2));
    return RUN_REAL(add_fwd, y->data, x1->data, x2->data, n);
}

plumb_status plumb_op_scale_fwd(struct plumb_backend *b, const struct plumb_tensor *y,
                                const struct plumb_tensor *x, float factor)
{
    int64_t n;
    PLUMB_TRY(SAME(b, "scale_fwd", b->dtype, &n, 2, NAMES("y", "x"), y, x));
    return RUN_REAL(scale_fwd, y->data, x->data, factor, n);
}

plumb_status plumb_op_narrow_fwd(struct plumb_backend *b, const struct plumb_tensor *y,
                                 const struct plumb_tensor *x)
{
    PLUMB_TRY(plumb_op_check_bf16(b, "narrow_fwd"));
    PLUMB_TRY(plumb_op_check_rank("narrow_fwd", "y", y, 1, PLUMB_MAX_RANK));
    const int64_t n = plumb_tensor_count(y);
    PLUMB_TRY(plumb_op_check_count(b, "narrow_fwd", "y", y, PLUMB_BF16, n));
    PLUMB_TRY(plumb_op_check_count(b, "narrow_fwd", "x", x, PLUMB_F32, n));
    return b->k.bf16.narrow_fwd(b->stream, y->data, plumb_f32(x), n);
}

plumb_status plumb_op_accumulate(struct plumb_backend *b, const struct plumb_tensor *y,
                                 const struct plumb_tensor *x)
{
    int64_t n;
    PLUMB_TRY(SAME(b, "accumulate", PLUMB_F32, &n, 2, NAMES("y", "x"), y, x));
    return b->k.accumulate(b->stream, plumb_f32(y), plumb_f32(x), n);
}

plumb_status plumb_op_act_fwd(struct plumb_backend *b, const struct plumb_tensor *y,
                              const struct plumb_tensor *gate, const struct plumb_tensor *up,
                              enum plumb_activation act)
{
    int64_t n;
    PLUMB_TRY(
        SAME(b, "act_fwd", b->dtype, &n, 3, NAMES("y", "gate", "up"), y, gate, up ? up : gate));
    return RUN_REAL(act_fwd, y->data, gate->data, up ? up->data : NULL, n, act);
}

plumb_status plumb_op_act_bwd(struct plumb_backend *b, const struct plumb_tensor *dgate,
                              const struct plumb_tensor *dup, const struct plumb_tensor *dy,
                              const struct plumb_tensor *gate, const struct plumb_tensor *up,
                              enum plumb_activation act)
{
    int64_t n;
    PLUMB_REQUIRE(!up == !dup, PLUMB_ERR_ARG, "act_bwd: %s is NULL, expected up and dup or neither",
                  up ? "dup" : "up");
    PLUMB_TRY(SAME(b, "act_bwd", b->dtype, &n, 5, NAMES("dgate", "dup", "dy", "gate", "up"), dgate,
                   dup ? dup : dgate, dy, gate, up ? up : gate));
    return RUN_REAL(act_bwd, dgate->data, dup ? dup->data : NULL, dy->data, gate->data,
                    up ? up->data : NULL, n, act);
}

plumb_status plumb_op_gated_fwd(struct plumb_backend *b, const struct plumb_tensor *y,
                                const struct plumb_tensor *gate_up, enum plumb_activation act)
{
    PLUMB_TRY(plumb_op_check_bf16(b, "gated_fwd"));
    PLUMB_TRY(plumb_op_check_rank("gated_fwd", "gate_up", gate_up, 3, 3));
    const int64_t n = gate_up->dim[0], f = gate_up->dim[2];
    PLUMB_TRY(CHECK_ARGS(b, "gated_fwd", WANT_REAL(y, 2, n, f), WANT_REAL(gate_up, 3, n, 2, f)));
    return b->k.bf16.gated_fwd(b->stream, y->data, gate_up->data, n, f, act);
}

plumb_status plumb_op_gated_bwd(struct plumb_backend *b, const struct plumb_tensor *dgate_up,
                                const struct plumb_tensor *dy, const struct plumb_tensor *gate_up,
                                enum plumb_activation act)
{
    PLUMB_TRY(plumb_op_check_bf16(b, "gated_bwd"));
    PLUMB_TRY(plumb_op_check_rank("gated_bwd", "gate_up", gate_up, 3, 3));
    const int64_t n = gate_up->dim[0], f = gate_up->dim[2];
    PLUMB_TRY(CHECK_ARGS(b, "gated_bwd", WANT_REAL(dgate_up, 3, n, 2, f), WANT_REAL(dy, 2, n, f),
                         WANT_REAL(gate_up, 3, n, 2, f)));
    return b->k.bf16.gated_bwd(b->stream, dgate_up->data, dy->data, gate_up->data, n, f, act);
}

/* Checks the arguments of the operations on columns: part (n,c) and all (n,width). */
static plumb_status check_columns(const struct plumb_backend *b, const char *op,
                                  const struct plumb_tensor *part, const struct plumb_tensor *all,
                                  int64_t at)
{
    PLUMB_TRY(plumb_op_check_bf16(b, op));
    PLUMB_TRY(plumb_op_check_rank(op, "part", part, 2, 2));
    PLUMB_TRY(plumb_op_check_rank(op, "all", all, 2, 2));
    const int64_t n = part->dim[0], c = part->dim[1], width = all->dim[1];
    PLUMB_TRY(CHECK_ARGS(b, op, WANT_REAL(part, 2, n, c), WANT_REAL(all, 2, n, width)));
    PLUMB_REQUIRE(at >= 0 && at <= width - c, PLUMB_ERR_SHAPE,
                  "%s: columns %lld to %lld of rows with %lld columns", op, (long long)at,
                  (long long)(at + c) - 1, (long long)width);
    return PLUMB_OK;
}

plumb_status plumb_op_columns_take(struct plumb_backend *b, const struct plumb_tensor *part,
                                   const struct plumb_tensor *all, int64_t at)
{
    PLUMB_TRY(check_columns(b, "columns_take", part, all, at));
    return b->k.bf16.columns_take(b->stream, part->data, all->data, part->dim[0], part->dim[1], at,
                                  all->dim[1]);
}

plumb_status plumb_op_columns_add(struct plumb_backend *b, const struct plumb_tensor *all,
                                  int64_t at, const struct plumb_tensor *part)
{
    PLUMB_TRY(check_columns(b, "columns_add", part, all, at));
    return b->k.bf16.columns_add(b->stream, all->data, part->data, part->dim[0], part->dim[1], at,
                                 all->dim[1]);
}

plumb_status plumb_op_rmsnorm_fwd(struct plumb_backend *b, const struct plumb_tensor *y,
                                  const struct plumb_tensor *rstd, const struct plumb_tensor *x,
                                  const struct plumb_tensor *w, float eps, float shift)
{
    int64_t n;
    PLUMB_TRY(SAME(b, "rmsnorm_fwd", b->dtype, &n, 2, NAMES("x", "y"), x, y));
    const int64_t c = x->dim[x->rank - 1], rows = c > 0 ? n / c : 0;
    PLUMB_TRY(plumb_op_check_count(b, "rmsnorm_fwd", "rstd", rstd, PLUMB_F32, rows));
    PLUMB_TRY(CHECK_ARGS(b, "rmsnorm_fwd", WANT_F32(w, 1, c)));
    return RUN_REAL(rmsnorm_fwd, y->data, plumb_f32(rstd), x->data, plumb_f32(w), rows, c, eps,
                    shift);
}

plumb_status plumb_op_add_rmsnorm_fwd(struct plumb_backend *b, const struct plumb_tensor *sum,
                                      const struct plumb_tensor *y, const struct plumb_tensor *rstd,
                                      const struct plumb_tensor *x1, const struct plumb_tensor *x2,
                                      const struct plumb_tensor *w, float eps, float shift)
{
    if (b->dtype != PLUMB_BF16) {
        PLUMB_TRY(plumb_op_add_fwd(b, sum, x1, x2));
        return plumb_op_rmsnorm_fwd(b, y, rstd, sum, w, eps, shift);
    }
    PLUMB_TRY(plumb_op_check_rank("add_rmsnorm_fwd", "x1", x1, 2, 2));
    const int64_t n = x1->dim[0], c = x1->dim[1];
    PLUMB_TRY(CHECK_ARGS(b, "add_rmsnorm_fwd", WANT_REAL(sum, 2, n, c), WANT_REAL(y, 2, n, c),
                         WANT_F32(rstd, 1, n), WANT_REAL(x1, 2, n, c), WANT_REAL(x2, 2, n, c),
                         WANT_F32(w, 1, c)));
    return b->k.bf16.add_rmsnorm_fwd(b->stream, sum->data, y->data, plumb_f32(rstd), x1->data,
                                     x2->data, plumb_f32(w), n, c, eps, shift);
}

plumb_status plumb_op_rmsnorm_bwd(struct plumb_backend *b, const struct plumb_tensor *dx,
                                  const struct plumb_tensor *dw, const struct plumb_tensor *dy,
                                  const struct plumb_tensor *x, const struct plumb_tensor *w,
                                  const struct plumb_tensor *rstd, float shift)
{
    int64_t n;
    PLUMB_TRY(SAME(b, "rmsnorm_bwd", b->dtype, &n, 3, NAMES("x", "dx", "dy"), x, dx, dy));
    const int64_t c = x->dim[x->rank - 1], rows = c > 0 ? n / c : 0;
    PLUMB_TRY(plumb_op_check_count(b, "rmsnorm_bwd", "rstd", rstd, PLUMB_F32, rows));
    PLUMB_TRY(CHECK_ARGS(b, "rmsnorm_bwd", WANT_F32(dw, 1, c), WANT_F32(w, 1, c)));
    return RUN_REAL(rmsnorm_bwd, dx->data, plumb_f32(dw), dy->data, x->data, plumb_f32(w),
                    plumb_f32(rstd), rows, c, shift);
}

plumb_status plumb_op_layernorm_fwd(struct plumb_backend *b, const struct plumb_tensor *y,
                                    const struct plumb_tensor *mean,
                                    const struct plumb_tensor *rstd, const struct plumb_tensor *x,
                                    const struct plumb_tensor *w, const struct plumb_tensor *bias,
                                    float eps)
{
    int64_t n;
    PLUMB_TRY(SAME(b, "layernorm_fwd", b->dtype, &n, 2, NAMES("x", "y"), x, y));
    const int64_t c = x->dim[x->rank - 1], rows = c > 0 ? n / c : 0;
    PLUMB_TRY(plumb_op_check_count(b, "layernorm_fwd", "mean", mean, PLUMB_F32, rows));
    PLUMB_TRY(plumb_op_check_count(b, "layernorm_fwd", "rstd", rstd, PLUMB_F32, rows));
    PLUMB_TRY(CHECK_ARGS(b, "layernorm_fwd", WANT_F32(w, 1, c), WANT_F32(bias, 1, c)));
    return RUN_REAL(layernorm_fwd, y->data, plumb_f32(mean), plumb_f32(rstd), x->data, plumb_f32(w),
                    plumb_f32(bias), rows, c, eps);
}

plumb_status plumb_op_layernorm_bwd(struct plumb_backend *b, const struct plumb_tensor *dx,
                                    const struct plumb_tensor *dw, const struct plumb_tensor *dbias,
                                    const struct plumb_tensor *dy, const struct plumb_tensor *x,
                                    const struct plumb_tensor *w, const struct plumb_tensor *mean,
                                    const struct plumb_tensor *rstd)
{
    int64_t n;
    PLUMB_TRY(SAME(b, "layernorm_bwd", b->dtype, &n, 3, NAMES("x", "dx", "dy"), x, dx, dy));
    const int64_t c = x->dim[x->rank - 1], rows = c > 0 ? n / c : 0;
    PLUMB_TRY(plumb_op_check_count(b, "layernorm_bwd", "mean", mean, PLUMB_F32, rows));
    PLUMB_TRY(plumb_op_check_count(b, "layernorm_bwd", "rstd", rstd, PLUMB_F32, rows));
    PLUMB_TRY(CHECK_ARGS(b, "layernorm_bwd", WANT_F32(dw, 1, c), WANT_F32(dbias, 1, c),
                         WANT_F32(w, 1, c)));
    return RUN_REAL(layernorm_bwd, dx->data, plumb_f32(dw), plumb_f32(dbias), dy->data, x->data,
                    plumb_f32(w), plumb_f32(mean), plumb_f32(rstd), rows, c);
}

static plumb_status check_rope(struct plumb_backend *b, const char *op,
                               const struct plumb_tensor *x, const struct plumb_tensor *cos_sin,
                               const struct plumb_tensor *pos)
{
    PLUMB_TRY(plumb_op_check_rank(op, "x", x, 3, 3));
    PLUMB_TRY(plumb_op_check_rank(op, "cos_sin", cos_sin, 2, 2));
    const int64_t n = x->dim[0], h = x->dim[1], d = x->dim[2];
    const int64_t m = cos_sin->dim[0], r = cos_sin->dim[1];
    PLUMB_REQUIRE(
        r % 2 == 0 && r >= 2 && r <= d, PLUMB_ERR_SHAPE,
        "%s: cos_sin '%s' has %lld columns and x '%s' has head size %lld, expected an even "
        "number of columns up to the head size",
        op, cos_sin->name ? cos_sin->name : "(unnamed)", (long long)r,
        x->name ? x->name : "(unnamed)", (long long)d);
    PLUMB_TRY(CHECK_ARGS(b, op, WANT_REAL(x, 3, n, h, d), WANT_F32(cos_sin, 2, m, r),
                         WANT(pos, PLUMB_I32, 1, n)));
    return plumb_op_check_index(op, "pos", pos, m);
}

plumb_status plumb_op_rope_fwd(struct plumb_backend *b, const struct plumb_tensor *x,
                               const struct plumb_tensor *cos_sin, const struct plumb_tensor *pos)
{
    PLUMB_TRY(check_rope(b, "rope_fwd", x, cos_sin, pos));
    return RUN_REAL(rope_fwd, x->data, plumb_f32(cos_sin), plumb_i32(pos), x->dim[0], x->dim[1],
                    x->dim[2], cos_sin->dim[1]);
}

plumb_status plumb_op_rope_bwd(struct plumb_backend *b, const struct plumb_tensor *dx,
                               const struct plumb_tensor *cos_sin, const struct plumb_tensor *pos)
{
    PLUMB_TRY(check_rope(b, "rope_bwd", dx, cos_sin, pos));
    return RUN_REAL(rope_bwd, dx->data, plumb_f32(cos_sin), plumb_i32(pos), dx->dim[0], dx->dim[1],
                    dx->dim[2], cos_sin->dim[1]);
}

plumb_status plumb_op_sumsq(struct plumb_backend *b, const struct plumb_tensor *out,
                            const struct plumb_tensor *x, int64_t block)
{
    PLUMB_REQUIRE(block >= 1, PLUMB_ERR_ARG, "sumsq: block=%lld, expected 1 or more",
                  (long long)block);
    PLUMB_TRY(plumb_op_check_rank("sumsq", "x", x, 1, PLUMB_MAX_RANK));
    const int64_t n = plumb_tensor_count(x);
    PLUMB_TRY(plumb_op_check_count(b, "sumsq", "x", x, PLUMB_F32, n));
    PLUMB_TRY(CHECK_ARGS(b, "sumsq", WANT(out, PLUMB_F64, 1, plumb_ceil_div(n, block))));
    return b->k.sumsq(b->stream, (double *)out->data, plumb_f32(x), n, block);
}

plumb_status plumb_op_adamw(struct plumb_backend *b, const struct plumb_tensor *w,
                            const struct plumb_tensor *m, const struct plumb_tensor *v,
                            const struct plumb_tensor *g, const struct plumb_adamw *p)
{
    int64_t n;
    PLUMB_TRY(SAME(b, "adamw", PLUMB_F32, &n, 4, NAMES("g", "w", "m", "v"), g, w, m, v));
    PLUMB_REQUIRE(p->correction1 > 0.0f && p->correction2 > 0.0f, PLUMB_ERR_ARG,
                  "adamw: corrections %g and %g, expected above 0", (double)p->correction1,
                  (double)p->correction2);
    return b->k.adamw(b->stream, plumb_f32(w), plumb_f32(m), plumb_f32(v), plumb_f32(g), n, p);
}

plumb_status plumb_op_normal(struct plumb_backend *b, const struct plumb_tensor *w, double std,
                             const struct plumb_rng_key *key)
{
    PLUMB_TRY(plumb_op_check_rank("normal", "w", w, 1, PLUMB_MAX_RANK));
    const int64_t n = plumb_tensor_count(w);
    PLUMB_TRY(plumb_op_check_count(b, "normal", "w", w, PLUMB_F32, n));
    return b->k.normal(b->stream, plumb_f32(w), n, std, key);
}

plumb_status plumb_op_hash_blocks(struct plumb_backend *b, const struct plumb_tensor *out,
                                  const struct plumb_tensor *x)
{
    PLUMB_TRY(plumb_op_check_rank("hash_blocks", "x", x, 1, PLUMB_MAX_RANK));
    const int64_t n = plumb_tensor_count(x);
    PLUMB_TRY(plumb_op_check_count(b, "hash_blocks", "x", x, PLUMB_F32, n));
    PLUMB_TRY(
        CHECK_ARGS(b, "hash_blocks", WANT(out, PLUMB_I64, 1, plumb_ceil_div(n, PLUMB_HASH_BLOCK))));
    return b->k.hash_blocks(b->stream, (uint64_t *)out->data, plumb_f32(x), n);
}
