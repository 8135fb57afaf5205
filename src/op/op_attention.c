/* op_attention.c - the operations of attention over a paged KV cache: check the arguments, then
 * call the kernel.
 * Layer 3. Includes check.h. */
#include "op/check.h"

/* Checks the shapes of kc and vc. If the rows are in host memory, also checks that the sequence,
 * the position and the page of every row are in range. */
static plumb_status check_store(const struct plumb_backend *b, const char *op,
                                const struct plumb_tensor *kc, const struct plumb_tensor *vc,
                                const struct plumb_rows *rows, int64_t hk, int64_t d)
{
    PLUMB_TRY(plumb_op_check_rank(op, "kc", kc, 4, 4));
    const int64_t pages = kc->dim[0];
    PLUMB_TRY(CHECK_ARGS(b, op, WANT_REAL(kc, 4, pages, hk, d, PLUMB_KV_PAGE),
                         WANT_REAL(vc, 4, pages, hk, PLUMB_KV_PAGE, d)));
    if (b->place != PLUMB_HOST)
        return PLUMB_OK;
    for (int64_t i = 0; i < rows->n; i++) {
        const int64_t seq = rows->seq[i], pos = rows->pos[i], column = pos / PLUMB_KV_PAGE;
        PLUMB_REQUIRE(seq >= 0 && seq < rows->n_seq && pos >= 0 && column < rows->max_pages,
                      PLUMB_ERR_SHAPE,
                      "%s: row %lld of the batch has position %lld in sequence %lld, expected "
                      "position 0 to %lld and sequence 0 to %lld",
                      op, (long long)i, (long long)pos, (long long)seq,
                      (long long)(rows->max_pages * PLUMB_KV_PAGE) - 1, (long long)rows->n_seq - 1);
        const int64_t page = rows->page[seq * rows->max_pages + column];
        PLUMB_REQUIRE(page >= 0 && page < pages, PLUMB_ERR_SHAPE,
                      "%s: row %lld is on page %lld, expected 0 to %lld, the pages of kc '%s'", op,
                      (long long)i, (long long)page, (long long)pages - 1,
                      kc->name ? kc->name : "(unnamed)");
    }
    return PLUMB_OK;
}

static plumb_status check_shape(const char *op, const struct plumb_attn_shape *s)
{
    PLUMB_REQUIRE(s->hk >= 1 && s->h >= 1 && s->d >= 1 && s->h % s->hk == 0 && s->window >= 0 &&
                      s->cap >= 0.0f,
                  PLUMB_ERR_SHAPE,
                  "%s: %lld query heads, %lld kv heads, head size %lld, window %lld, soft cap %g; "
                  "expected heads and head size of at least 1, query heads a multiple of kv heads, "
                  "and a window and a soft cap of at least 0",
                  op, (long long)s->h, (long long)s->hk, (long long)s->d, (long long)s->window,
                  (double)s->cap);
    return PLUMB_OK;
}

plumb_status plumb_op_kv_write_fwd(struct plumb_backend *b, const struct plumb_tensor *kc,
                                   const struct plumb_tensor *vc, const struct plumb_tensor *k,
                                   const struct plumb_tensor *v, const struct plumb_rows *rows)
{
    PLUMB_TRY(plumb_op_check_rank("kv_write_fwd", "k", k, 3, 3));
    const int64_t hk = k->dim[1], d = k->dim[2];
    PLUMB_TRY(CHECK_ARGS(b, "kv_write_fwd", WANT_REAL(k, 3, rows->n, hk, d),
                         WANT_REAL(v, 3, rows->n, hk, d)));
    PLUMB_TRY(check_store(b, "kv_write_fwd", kc, vc, rows, hk, d));
    return RUN_REAL(kv_write_fwd, kc->data, vc->data, k->data, v->data, rows, hk, d);
}

plumb_status plumb_op_rope_write_fwd(struct plumb_backend *b, const struct plumb_tensor *q,
                                     const struct plumb_tensor *kc, const struct plumb_tensor *vc,
                                     const struct plumb_tensor *k, const struct plumb_tensor *v,
                                     const struct plumb_tensor *cos_sin,
                                     const struct plumb_tensor *pos, const struct plumb_rows *rows)
{
    PLUMB_TRY(plumb_op_check_rank("rope_write_fwd", "q", q, 3, 3));
    PLUMB_TRY(plumb_op_check_rank("rope_write_fwd", "k", k, 3, 3));
    PLUMB_TRY(plumb_op_check_rank("rope_write_fwd", "cos_sin", cos_sin, 2, 2));
    const int64_t n = rows->n, h = q->dim[1], hk = k->dim[1], d = k->dim[2], r = cos_sin->dim[1];
    if (b->dtype != PLUMB_BF16 || r != d || d % 16 != 0) {
        PLUMB_TRY(plumb_op_rope_fwd(b, q, cos_sin, pos));
        PLUMB_TRY(plumb_op_rope_fwd(b, k, cos_sin, pos));
        return plumb_op_kv_write_fwd(b, kc, vc, k, v, rows);
    }
    PLUMB_TRY(CHECK_ARGS(b, "rope_write_fwd", WANT_REAL(q, 3, n, h, d), WANT_REAL(k, 3, n, hk, d),
                         WANT_REAL(v, 3, n, hk, d), WANT_F32(cos_sin, 2, cos_sin->dim[0], d),
                         WANT(pos, PLUMB_I32, 1, n)));
    PLUMB_TRY(check_store(b, "rope_write_fwd", kc, vc, rows, hk, d));
    return b->k.bf16.rope_write_fwd(b->stream, q->data, kc->data, vc->data, k->data, v->data,
                                    plumb_f32(cos_sin), rows, h, hk, d);
}

/* Checks the arguments of the norms of q and k, and copies them to *out, the form that the kernel
 * takes. */
static plumb_status check_norm(struct plumb_qk_rmsnorm *out, const struct plumb_backend *b,
                               const struct plumb_op_qk_norm *norm, int64_t n, int64_t h,
                               int64_t hk, int64_t d)
{
    const struct plumb_tensor *q0 = norm->q0, *k0 = norm->k0, *rstd_q = norm->rstd_q;
    const struct plumb_tensor *rstd_k = norm->rstd_k, *w_q = norm->w_q, *w_k = norm->w_k;
    PLUMB_TRY(CHECK_ARGS(b, "qkv_write_fwd", WANT_REAL(q0, 3, n, h, d), WANT_REAL(k0, 3, n, hk, d),
                         WANT_F32(rstd_q, 2, n, h), WANT_F32(rstd_k, 2, n, hk), WANT_F32(w_q, 1, d),
                         WANT_F32(w_k, 1, d)));
    *out = (struct plumb_qk_rmsnorm){q0->data,          k0->data,       plumb_f32(rstd_q),
                                     plumb_f32(rstd_k), plumb_f32(w_q), plumb_f32(w_k),
                                     norm->eps,         norm->shift};
    return PLUMB_OK;
}

plumb_status plumb_op_qkv_write_fwd(struct plumb_backend *b, const struct plumb_tensor *q,
                                    const struct plumb_tensor *kc, const struct plumb_tensor *vc,
                                    const struct plumb_tensor *qkv,
                                    const struct plumb_op_qk_norm *norm,
                                    const struct plumb_tensor *cos_sin,
                                    const struct plumb_rows *rows)
{
    struct plumb_qk_rmsnorm pointers;
    PLUMB_TRY(plumb_op_check_bf16(b, "qkv_write_fwd"));
    PLUMB_TRY(plumb_op_check_rank("qkv_write_fwd", "q", q, 3, 3));
    PLUMB_TRY(plumb_op_check_rank("qkv_write_fwd", "kc", kc, 4, 4));
    const int64_t n = rows->n, h = q->dim[1], hk = kc->dim[1], d = q->dim[2];
    PLUMB_TRY(CHECK_ARGS(b, "qkv_write_fwd", WANT_REAL(q, 3, n, h, d),
                         WANT_REAL(qkv, 3, n, h + 2 * hk, d)));
    PLUMB_TRY(check_store(b, "qkv_write_fwd", kc, vc, rows, hk, d));
    if (norm)
        PLUMB_TRY(check_norm(&pointers, b, norm, n, h, hk, d));
    if (cos_sin) {
        PLUMB_TRY(plumb_op_check_rank("qkv_write_fwd", "cos_sin", cos_sin, 2, 2));
        PLUMB_TRY(
            CHECK_ARGS(b, "qkv_write_fwd", WANT_F32(cos_sin, 2, cos_sin->dim[0], cos_sin->dim[1])));
    }
    return b->k.bf16.qkv_write_fwd(b->stream, q->data, kc->data, vc->data, qkv->data,
                                   norm ? &pointers : NULL, cos_sin ? plumb_f32(cos_sin) : NULL,
                                   rows, h, hk, d, cos_sin ? cos_sin->dim[1] : 0);
}

plumb_status plumb_op_attention_fwd(struct plumb_backend *b, const struct plumb_tensor *o,
                                    const struct plumb_tensor *lse, const struct plumb_tensor *q,
                                    const struct plumb_tensor *kc, const struct plumb_tensor *vc,
                                    const struct plumb_rows *rows,
                                    const struct plumb_attn_shape *shape)
{
    PLUMB_TRY(check_shape("attention_fwd", shape));
    const int64_t n = rows->n, h = shape->h, d = shape->d;
    PLUMB_TRY(CHECK_ARGS(b, "attention_fwd", WANT_REAL(o, 3, n, h, d), WANT_F32(lse, 2, n, h),
                         WANT_REAL(q, 3, n, h, d)));
    PLUMB_TRY(check_store(b, "attention_fwd", kc, vc, rows, shape->hk, d));
    return RUN_REAL(attention_fwd, o->data, plumb_f32(lse), q->data, kc->data, vc->data, rows,
                    shape);
}

int64_t plumb_op_attention_work_count(const struct plumb_backend *b, int64_t n,
                                      const struct plumb_attn_shape *shape)
{
    return (b->dtype == PLUMB_BF16 ? b->k.bf16.attention_work_count
                                   : b->k.attention_work_count)(n, shape, b->threads);
}

plumb_status plumb_op_attention_bwd(struct plumb_backend *b, const struct plumb_tensor *dq,
                                    const struct plumb_tensor *dk, const struct plumb_tensor *dv,
                                    const struct plumb_tensor *dout, const struct plumb_tensor *o,
                                    const struct plumb_tensor *lse, const struct plumb_tensor *q,
                                    const struct plumb_tensor *kc, const struct plumb_tensor *vc,
                                    const struct plumb_tensor *work, const struct plumb_rows *rows,
                                    const struct plumb_attn_shape *shape)
{
    PLUMB_TRY(check_shape("attention_bwd", shape));
    const int64_t n = rows->n, h = shape->h, hk = shape->hk, d = shape->d;
    PLUMB_TRY(CHECK_ARGS(b, "attention_bwd", WANT_REAL(dq, 3, n, h, d), WANT_REAL(dk, 3, n, hk, d),
                         WANT_REAL(dv, 3, n, hk, d), WANT_REAL(dout, 3, n, h, d),
                         WANT_REAL(o, 3, n, h, d), WANT_F32(lse, 2, n, h),
                         WANT_REAL(q, 3, n, h, d)));
    PLUMB_TRY(check_store(b, "attention_bwd", kc, vc, rows, hk, d));
    PLUMB_TRY(
        plumb_op_check_work(b, "attention_bwd", work, plumb_op_attention_work_count(b, n, shape)));
    return RUN_REAL(attention_bwd, dq->data, dk->data, dv->data, dout->data, o->data,
                    plumb_f32(lse), q->data, kc->data, vc->data, work ? plumb_f32(work) : NULL,
                    rows, shape);
}
