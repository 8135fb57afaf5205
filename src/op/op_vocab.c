/* op_vocab.c - operations on logits (soft cap, log-probabilities, entropy, sampling, repetition
 * penalty) and the LM head fused with the log-probabilities: check the arguments, then call the
 * kernels.
 * Layer 3. Includes check.h, base/. */
#include "base/num.h"
#include "op/check.h"

plumb_status plumb_op_softcap_fwd(struct plumb_backend *b, const struct plumb_tensor *z, float cap)
{
    PLUMB_REQUIRE(cap > 0.0f, PLUMB_ERR_ARG, "softcap_fwd: cap %g, expected above 0", (double)cap);
    PLUMB_TRY(plumb_op_check_rank("softcap_fwd", "z", z, 1, PLUMB_MAX_RANK));
    const int64_t n = plumb_tensor_count(z);
    PLUMB_TRY(plumb_op_check_count(b, "softcap_fwd", "z", z, PLUMB_F32, n));
    return b->k.softcap_fwd(b->stream, plumb_f32(z), n, cap);
}

plumb_status plumb_op_logprob_fwd(struct plumb_backend *b, const struct plumb_tensor *logp,
                                  const struct plumb_tensor *lse, const struct plumb_tensor *logits,
                                  const struct plumb_tensor *target)
{
    PLUMB_TRY(plumb_op_check_rank("logprob_fwd", "logits", logits, 2, 2));
    const int64_t n = logits->dim[0], v = logits->dim[1];
    PLUMB_TRY(CHECK_ARGS(b, "logprob_fwd", WANT_F32(logp, 1, n), WANT_F32(lse, 1, n),
                         WANT_F32(logits, 2, n, v), WANT(target, PLUMB_I32, 1, n)));
    PLUMB_TRY(plumb_op_check_index("logprob_fwd", "target", target, v));
    return b->k.logprob_fwd(b->stream, plumb_f32(logp), plumb_f32(lse), plumb_f32(logits),
                            plumb_i32(target), n, v);
}

plumb_status plumb_op_logprob_bwd(struct plumb_backend *b, const struct plumb_tensor *dlogits,
                                  const struct plumb_tensor *logits, const struct plumb_tensor *lse,
                                  const struct plumb_tensor *target,
                                  const struct plumb_tensor *dlogp, float cap)
{
    PLUMB_TRY(plumb_op_check_rank("logprob_bwd", "logits", logits, 2, 2));
    const int64_t n = logits->dim[0], v = logits->dim[1];
    PLUMB_TRY(CHECK_ARGS(b, "logprob_bwd", WANT_REAL(dlogits, 2, n, v), WANT_F32(logits, 2, n, v),
                         WANT_F32(lse, 1, n), WANT(target, PLUMB_I32, 1, n),
                         WANT_F32(dlogp, 1, n)));
    PLUMB_TRY(plumb_op_check_index("logprob_bwd", "target", target, v));
    return RUN_REAL(logprob_bwd, dlogits->data, plumb_f32(logits), plumb_f32(lse),
                    plumb_i32(target), plumb_f32(dlogp), n, v, cap);
}

plumb_status plumb_op_entropy_fwd(struct plumb_backend *b, const struct plumb_tensor *entropy,
                                  const struct plumb_tensor *mean,
                                  const struct plumb_tensor *logits, const struct plumb_tensor *lse)
{
    PLUMB_TRY(plumb_op_check_rank("entropy_fwd", "logits", logits, 2, 2));
    const int64_t n = logits->dim[0], v = logits->dim[1];
    PLUMB_TRY(CHECK_ARGS(b, "entropy_fwd", WANT_F32(entropy, 1, n), WANT_F32(mean, 1, n),
                         WANT_F32(logits, 2, n, v), WANT_F32(lse, 1, n)));
    return b->k.entropy_fwd(b->stream, plumb_f32(entropy), plumb_f32(mean), plumb_f32(logits),
                            plumb_f32(lse), n, v);
}

plumb_status plumb_op_sample_fwd(struct plumb_backend *b, const struct plumb_tensor *token,
                                 const struct plumb_tensor *logp,
                                 const struct plumb_tensor *logp_sampled,
                                 const struct plumb_tensor *logits, const struct plumb_tensor *u,
                                 const struct plumb_sample_param *p,
                                 const struct plumb_tensor *work)
{
    PLUMB_TRY(plumb_op_check_rank("sample_fwd", "logits", logits, 2, 2));
    const int64_t n = logits->dim[0], v = logits->dim[1];
    PLUMB_TRY(CHECK_ARGS(b, "sample_fwd", WANT(token, PLUMB_I32, 1, n), WANT_F32(logp, 1, n),
                         WANT_F32(logp_sampled, 1, n), WANT_F32(logits, 2, n, v),
                         WANT(u, PLUMB_F64, 1, n)));
    PLUMB_REQUIRE(v >= 1, PLUMB_ERR_SHAPE, "sample_fwd: logits '%s' has no columns",
                  logits->name ? logits->name : "(unnamed)");
    PLUMB_REQUIRE(p->temperature >= 0.0f && p->top_k >= 0 && p->top_p > 0.0f && p->top_p <= 1.0f &&
                      p->min_p >= 0.0f && p->min_p <= 1.0f,
                  PLUMB_ERR_ARG,
                  "sample_fwd: temperature %g, top_k %d, top_p %g, min_p %g; expected >= 0, >= 0, "
                  "(0,1], [0,1]",
                  (double)p->temperature, p->top_k, (double)p->top_p, (double)p->min_p);
    PLUMB_TRY(plumb_op_check_work(b, "sample_fwd", work, b->k.sample_work_count(n, v, b->threads)));
    return b->k.sample_fwd(b->stream, plumb_i32(token), plumb_f32(logp), plumb_f32(logp_sampled),
                           plumb_f32(logits), (const double *)u->data, p,
                           work ? plumb_f32(work) : NULL, n, v);
}

plumb_status plumb_op_penalty_fwd(struct plumb_backend *b, const struct plumb_tensor *y,
                                  const struct plumb_tensor *x, const struct plumb_tensor *seen,
                                  double penalty)
{
    PLUMB_TRY(plumb_op_check_rank("penalty_fwd", "x", x, 2, 2));
    const int64_t n = x->dim[0], v = x->dim[1];
    PLUMB_TRY(CHECK_ARGS(b, "penalty_fwd", WANT_F32(y, 2, n, v), WANT_F32(x, 2, n, v),
                         WANT(seen, PLUMB_I32, 2, n, plumb_ceil_div(v, 32))));
    PLUMB_REQUIRE(penalty > 0, PLUMB_ERR_ARG, "penalty_fwd: penalty %g, expected > 0", penalty);
    return b->k.penalty_fwd(b->stream, plumb_f32(y), plumb_f32(x), plumb_i32(seen), (float)penalty,
                            n, v);
}

/* Computes the logits of the rows of x: x w^T, soft-capped if cap > 0. */
static plumb_status head_logits(struct plumb_backend *b, const struct plumb_tensor *logits,
                                const struct plumb_tensor *x, const struct plumb_tensor *packed,
                                float cap)
{
    PLUMB_TRY(plumb_op_linear_fwd(b, logits, x, packed, NULL));
    return cap > 0.0f ? plumb_op_softcap_fwd(b, logits, cap) : PLUMB_OK;
}

/* Layout of `work` in the head functions:
 *
 *     float32:   | logits (head_rows,v), overwritten by their gradient | scratch of linear_bwd |
 *     bfloat16:  | logits (head_rows,v) | their gradient, in bfloat16   | scratch of linear_bwd |
 *
 * The logits are at the same place in both functions, so plumb_op_head_logprob_bwd can use the
 * logits that plumb_op_head_logprob_fwd left in `work`. */
static int64_t logits_count(int64_t head_rows, int64_t v)
{
    return plumb_ceil_div(head_rows * v, 64) * 64;
}

static int64_t dlogits_count(const struct plumb_backend *b, int64_t head_rows, int64_t v)
{
    return b->dtype == PLUMB_BF16 ? plumb_ceil_div(head_rows * v, 128) * 64 : 0;
}

int64_t plumb_op_head_work_count(const struct plumb_backend *b, int64_t head_rows, int64_t v,
                                 int64_t c, bool train)
{
    return logits_count(head_rows, v) +
           (train ? dlogits_count(b, head_rows, v) +
                        b->k.linear_work_count(head_rows, v, c, b->threads)
                  : 0);
}

plumb_status
plumb_op_head_logprob_fwd(struct plumb_backend *b, const struct plumb_tensor *logp,
                          const struct plumb_tensor *lse, const struct plumb_head_extra *extra,
                          const struct plumb_tensor *x, const struct plumb_tensor *packed,
                          const struct plumb_tensor *target, int64_t v,
                          const struct plumb_tensor *work, int64_t head_rows, float cap)
{
    PLUMB_TRY(plumb_op_check_rank("head_logprob_fwd", "x", x, 2, 2));
    const int64_t n = x->dim[0], c = x->dim[1];
    PLUMB_REQUIRE(head_rows >= 1, PLUMB_ERR_ARG, "head_logprob_fwd: head_rows=%lld, expected >= 1",
                  (long long)head_rows);
    PLUMB_TRY(CHECK_ARGS(
        b, "head_logprob_fwd", WANT_F32(logp, 1, n), WANT_F32(lse, 1, n), WANT_REAL(x, 2, n, c),
        WANT_REAL(packed, 1, b->k.linear_packed_count(v, c)), WANT(target, PLUMB_I32, 1, n)));
    PLUMB_TRY(plumb_op_check_work(b, "head_logprob_fwd", work,
                                  plumb_op_head_work_count(b, head_rows, v, c, false)));
    /* The blocks of head_rows rows are processed from last to first. The backward goes from first
     * to last, so the logits of its first block are still in work. */
    for (int64_t i = (n - 1) / head_rows * head_rows; i >= 0 && n > 0; i -= head_rows) {
        const int64_t rows = plumb_min_i64(head_rows, n - i);
        const struct plumb_tensor xi = plumb_view_rows(x, i, rows);
        const struct plumb_tensor ti = plumb_view_rows(target, i, rows);
        const struct plumb_tensor lsei = plumb_view_rows(lse, i, rows);
        const struct plumb_tensor out = plumb_view_rows(logp, i, rows);
        const struct plumb_tensor logits = plumb_view_f32("logits", work->data, b->place, rows, v);
        PLUMB_TRY(head_logits(b, &logits, &xi, packed, cap));
        PLUMB_TRY(plumb_op_logprob_fwd(b, &out, &lsei, &logits, &ti));
        if (!extra)
            continue;
        const struct plumb_tensor entropy = plumb_view_rows(extra->entropy, i, rows);
        const struct plumb_tensor mean = plumb_view_rows(extra->mean, i, rows);
        PLUMB_TRY(plumb_op_entropy_fwd(b, &entropy, &mean, &logits, &lsei));
    }
    return PLUMB_OK;
}

plumb_status
plumb_op_head_logprob_bwd(struct plumb_backend *b, const struct plumb_tensor *dx,
                          const struct plumb_tensor *dw, const struct plumb_tensor *dlogp,
                          const struct plumb_tensor *lse, const struct plumb_tensor *x,
                          const struct plumb_tensor *w, const struct plumb_tensor *packed,
                          const struct plumb_tensor *target, const struct plumb_tensor *work,
                          int64_t head_rows, bool logits_kept, float cap)
{
    PLUMB_TRY(plumb_op_check_rank("head_logprob_bwd", "x", x, 2, 2));
    PLUMB_TRY(plumb_op_check_rank("head_logprob_bwd", "w", w, 2, 2));
    const int64_t n = x->dim[0], c = x->dim[1], v = w->dim[0];
    PLUMB_REQUIRE(head_rows >= 1, PLUMB_ERR_ARG, "head_logprob_bwd: head_rows=%lld, expected >= 1",
                  (long long)head_rows);
    PLUMB_TRY(CHECK_ARGS(b, "head_logprob_bwd", WANT_REAL(dx, 2, n, c), WANT_F32(dlogp, 1, n),
                         WANT_F32(lse, 1, n), WANT_REAL(x, 2, n, c), WANT_REAL(w, 2, v, c),
                         WANT(target, PLUMB_I32, 1, n),
                         WANT_REAL(packed, 1, b->k.linear_packed_count(v, c))));
    if (dw)
        PLUMB_TRY(CHECK_ARGS(b, "head_logprob_bwd", WANT_F32(dw, 2, v, c)));
    PLUMB_TRY(plumb_op_check_work(b, "head_logprob_bwd", work,
                                  plumb_op_head_work_count(b, head_rows, v, c, true)));
    const bool apart = b->dtype == PLUMB_BF16;
    const int64_t first = logits_count(head_rows, v),
                  second = first + dlogits_count(b, head_rows, v);
    const struct plumb_tensor rest =
        plumb_view_rows(work, second, plumb_tensor_count(work) - second);
    for (int64_t i = 0; i < n; i += head_rows) {
        const int64_t rows = plumb_min_i64(head_rows, n - i);
        const struct plumb_tensor xi = plumb_view_rows(x, i, rows);
        const struct plumb_tensor ti = plumb_view_rows(target, i, rows);
        const struct plumb_tensor lsei = plumb_view_rows(lse, i, rows);
        const struct plumb_tensor dl = plumb_view_rows(dlogp, i, rows);
        const struct plumb_tensor out = plumb_view_rows(dx, i, rows);
        const struct plumb_tensor logits = plumb_view_f32("logits", work->data, b->place, rows, v);
        const struct plumb_tensor dlogits = PLUMB_VIEW_(
            "dlogits", b->dtype, plumb_f32(work) + (apart ? first : 0), b->place, rows, v);
        if (i > 0 || !logits_kept)
            PLUMB_TRY(head_logits(b, &logits, &xi, packed, cap));
        PLUMB_TRY(plumb_op_logprob_bwd(b, &dlogits, &logits, &lsei, &ti, &dl, cap));
        PLUMB_TRY(plumb_op_linear_bwd_x(b, &out, &dlogits, w, &rest, true));
        if (dw)
            PLUMB_TRY(plumb_op_linear_bwd_w(b, dw, NULL, &dlogits, &xi, &rest));
    }
    return PLUMB_OK;
}
