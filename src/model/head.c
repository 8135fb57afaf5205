/* head.c - the outputs of a pass (log-probs, entropies, scores, embeddings, logits), and the
 * gradients of log-probs and scores. Layer 4. Includes base/, op/, model/pass.h. */
#include "base/num.h"
#include "model/pass.h"
#include "model/provider.h"

plumb_status plumb_pass_head_input(plumb_pass *p, const plumb_model *m)
{
    struct plumb_backend *b = p->backend;
    const int64_t n = p->batch.n, k = p->batch.n_head, c = p->spec.c;
    const plumb_real *x = p->x[p->spec.l];
    PLUMB_TRY(plumb_op_gather_fwd(b, V(p->hx, k, c), V(x, n, c), VI(p->batch.head, k)));
    return plumb_head_norm_forward(m, p->hn, p->hrstd, p->hx, k);
}

/* Backpropagates p->back.dn (n_head,c), the gradient of hn, through the final norm and the
 * layers. */
static plumb_status head_input_back(plumb_pass *p, const plumb_model *m, float *grad)
{
    struct plumb_backend *b = p->backend;
    const int64_t n = p->batch.n, k = p->batch.n_head, c = p->spec.c;
    PLUMB_TRY(b->zero(b, p->dhx, plumb_real_bytes(b, k * c)));
    PLUMB_TRY(plumb_pass_place(p, m, p->spec.l + 1, &grad));
    PLUMB_TRY(plumb_head_norm_backward(m, p->dhx, grad, p->back.dn, p->hx, p->hrstd, k));
    PLUMB_TRY(b->zero(b, p->dx, plumb_real_bytes(b, n * c)));
    PLUMB_TRY(plumb_op_gather_bwd(b, V(p->dx, n, c), V(p->dhx, k, c), VI(p->batch.head, k)));
    return plumb_pass_backward(p, m, grad);
}

static plumb_status check_head(const plumb_pass *p, bool classifier)
{
    PLUMB_REQUIRE((p->spec.labels > 0) == classifier, PLUMB_ERR_ARG,
                  "%s needs a %s; this model is a %s", classifier ? "a score" : "a log-prob",
                  classifier ? "sequence classifier" : "language model",
                  plumb_spec_architecture(&p->spec));
    return PLUMB_OK;
}

static plumb_status check_backward(plumb_pass *p, enum plumb_pass_state state)
{
    PLUMB_REQUIRE(p->limit.train, PLUMB_ERR_ARG,
                  "this pass was created without limit.train, so it has no backward");
    PLUMB_REQUIRE(p->state == state && !p->backward_done, PLUMB_ERR_ARG,
                  "plumb_pass_logprob_backward must follow plumb_pass_logprob, and "
                  "plumb_pass_score_backward must follow plumb_pass_score; each can run only once");
    p->backward_done = true;
    return PLUMB_OK;
}

plumb_status plumb_pass_logprob(plumb_pass *p, const plumb_model *m,
                                const struct plumb_batch *batch, float *logp)
{
    struct plumb_backend *b = p->backend;
    const struct plumb_spec *s = &p->spec;
    PLUMB_TRY(check_head(p, false));
    PLUMB_TRY(plumb_pass_forward(p, m, batch, PLUMB_PASS_LOGPROB));
    const int64_t k = p->batch.n_targets;
    if (k == 0)
        return PLUMB_OK;
    const struct plumb_linear *head = &m->net->head;
    const struct plumb_weights w = plumb_weights_of_head(m);
    const struct plumb_tensor packed = plumb_linear_packed(b, &w, head);
    const struct plumb_head_extra extra = {V(p->entropy, k), V(p->mean_logit, k)};
    PLUMB_TRY(plumb_pass_head_input(p, m));
    PLUMB_TRY(plumb_op_head_logprob_fwd(
        b, V(p->logp, k), V(p->lse, k), p->limit.entropy ? &extra : NULL, V(p->hn, k, s->c),
        &packed, VI(p->batch.target, k), s->v, V(p->head_work, p->head_work_count),
        p->limit.head_rows, s->head_cap));
    return plumb_pass_result(p, logp, p->logp, k);
}

plumb_status plumb_pass_entropy(plumb_pass *p, float *entropy, float *mean)
{
    struct plumb_backend *b = p->backend;
    const int64_t bytes = p->batch.n_targets * (int64_t)sizeof *entropy;
    PLUMB_REQUIRE(p->limit.entropy && p->state == PLUMB_PASS_LOGPROB && !p->backward_done,
                  PLUMB_ERR_ARG,
                  "plumb_pass_entropy must follow plumb_pass_logprob of a pass with "
                  "limit.entropy, and must come before its backward");
    if (bytes == 0)
        return PLUMB_OK;
    PLUMB_TRY(b->to_host(b, entropy, p->entropy, bytes));
    return b->to_host(b, mean, p->mean_logit, bytes);
}

plumb_status plumb_pass_logprob_backward(plumb_pass *p, const plumb_model *m, const float *dlogp,
                                         float *grad)
{
    struct plumb_backend *b = p->backend;
    const struct plumb_spec *s = &p->spec;
    PLUMB_TRY(check_backward(p, PLUMB_PASS_LOGPROB));
    const int64_t k = p->batch.n_targets;
    if (k == 0)
        return PLUMB_OK;
    const struct plumb_linear *head = &m->net->head;
    const struct plumb_weights w = plumb_weights_of_head(m);
    const struct plumb_tensor packed = plumb_linear_packed(b, &w, head);
    const struct plumb_tensor weight = plumb_linear_weight(b, &w, head);
    PLUMB_TRY(b->to_device(b, p->dlogp, dlogp, k * (int64_t)sizeof *dlogp));
    PLUMB_TRY(b->zero(b, p->back.dn, plumb_real_bytes(b, k * s->c)));
    if (!m->adapter)
        PLUMB_TRY(plumb_pass_place(p, m, plumb_model_tied(m) ? 0 : s->l + 1, &grad));
    PLUMB_TRY(plumb_op_head_logprob_bwd(
        b, V(p->back.dn, k, s->c), m->adapter ? NULL : V(grad + head->w, s->v, s->c),
        V(p->dlogp, k), V(p->lse, k), V(p->hn, k, s->c), &weight, &packed, VI(p->batch.target, k),
        V(p->head_work, p->head_work_count), p->limit.head_rows, true, s->head_cap));
    return head_input_back(p, m, grad);
}

plumb_status plumb_pass_score(plumb_pass *p, const plumb_model *m, const struct plumb_batch *batch,
                              float *score)
{
    PLUMB_TRY(check_head(p, true));
    PLUMB_TRY(plumb_pass_forward(p, m, batch, PLUMB_PASS_SCORE));
    const int64_t k = p->batch.n_head;
    if (k == 0)
        return PLUMB_OK;
    PLUMB_TRY(plumb_pass_head_input(p, m));
    PLUMB_TRY(plumb_head_forward(m, p->score, p->hn, k));
    return plumb_pass_result(p, score, p->score, k * p->spec.labels);
}

plumb_status plumb_pass_score_backward(plumb_pass *p, const plumb_model *m, const float *dscore,
                                       float *grad)
{
    struct plumb_backend *b = p->backend;
    PLUMB_TRY(check_backward(p, PLUMB_PASS_SCORE));
    const int64_t k = p->batch.n_head;
    if (k == 0)
        return PLUMB_OK;
    const int64_t count = k * p->spec.labels;
    void *to = b->dtype == PLUMB_F32 ? (void *)p->dscore : p->score;
    PLUMB_TRY(b->to_device(b, to, dscore, count * (int64_t)sizeof *dscore));
    if (b->dtype != PLUMB_F32)
        PLUMB_TRY(plumb_op_narrow_fwd(b, V(p->dscore, count), V(p->score, count)));
    PLUMB_TRY(plumb_pass_place(p, m, p->spec.l + 1, &grad));
    PLUMB_TRY(plumb_head_backward(m, p->back.dn, grad, p->dscore, p->hn, &p->back, k));
    return head_input_back(p, m, grad);
}

plumb_status plumb_pass_hidden(plumb_pass *p, const plumb_model *m, const struct plumb_batch *batch)
{
    return plumb_pass_forward(p, m, batch, PLUMB_PASS_HIDDEN);
}

plumb_status plumb_pass_embedding(plumb_pass *p, const plumb_model *m, float *out)
{
    struct plumb_backend *b = p->backend;
    PLUMB_REQUIRE(p->state != PLUMB_PASS_EMPTY, PLUMB_ERR_ARG,
                  "plumb_pass_embedding must follow a forward pass");
    const int64_t n = p->batch.n, k = p->batch.n_targets, g = p->batch.n_seq, c = p->spec.c;
    if (g == 0)
        return PLUMB_OK;
    const plumb_real *x = p->x[p->spec.l];
    if (k > 0) {
        PLUMB_TRY(
            plumb_op_gather_fwd(b, V(p->gathered, k, c), V(x, n, c), VI(p->batch.completion, k)));
        PLUMB_TRY(plumb_norm_forward(m, p->normed, p->rstd, p->gathered, k));
    }
    const struct plumb_tensor segment =
        plumb_view_i64("segments", p->batch.segment, b->place, g + 1);
    PLUMB_TRY(plumb_op_segment_mean_fwd(b, V(p->mean, g, c), V(p->normed, k, c), &segment));
    return plumb_pass_result(p, out, p->mean, g * c);
}

plumb_status plumb_pass_logits(plumb_pass *p, const plumb_model *m, const struct plumb_batch *batch,
                               float *logits)
{
    struct plumb_backend *b = p->backend;
    const struct plumb_spec *s = &p->spec;
    PLUMB_TRY(check_head(p, false));
    PLUMB_TRY(plumb_pass_forward(p, m, batch, PLUMB_PASS_EMPTY));
    const int64_t n = p->batch.n, block = p->limit.head_rows;
    const plumb_real *x = p->x[s->l];
    for (int64_t i = 0; i < n; i += block) {
        const int64_t k = plumb_min_i64(block, n - i);
        PLUMB_TRY(plumb_head_norm_forward(m, p->normed, p->rstd, plumb_real_at(b, x, i * s->c), k));
        PLUMB_TRY(plumb_head_forward(m, p->head_work, p->normed, k));
        PLUMB_TRY(
            b->to_host(b, logits + i * s->v, p->head_work, k * s->v * (int64_t)sizeof *logits));
    }
    return PLUMB_OK;
}
