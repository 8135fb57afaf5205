/* mix.c - log-probs under mixed logits, (1+far) times those of one model minus far times those of
 * another: runs both forwards, then both heads, block by block.
 * Layer 4. Includes base/, op/, model/pass.h. */
#include "model/mix.h"

#include <stdlib.h>

#include "base/num.h"
#include "model/pass.h"

plumb_status plumb_mix_init(struct plumb_mix *x, const plumb_model *m, int64_t max_targets)
{
    const size_t n = (size_t)(max_targets * m->spec.c);
    *x = (struct plumb_mix){.rows = max_targets, .c = m->spec.c};
    x->first = calloc(n + 1, sizeof(*x->first));
    x->second = calloc(n + 1, sizeof(*x->second));
    if (x->first && x->second)
        return PLUMB_OK;
    plumb_mix_fini(x);
    PLUMB_FAIL(PLUMB_ERR_NOMEM, "the hidden states of %lld tokens", (long long)max_targets);
}

void plumb_mix_fini(struct plumb_mix *x)
{
    free(x->first);
    free(x->second);
    *x = (struct plumb_mix){0};
}

int64_t plumb_mix_bytes(const struct plumb_mix *x)
{
    return 2 * x->rows * x->c * (int64_t)sizeof(*x->first);
}

/* Multiplies x (n,) by factor; x is on the host and has the backend's dtype. */
static void scale(const struct plumb_backend *b, void *x, int64_t n, float factor)
{
    float *wide = x;
    uint16_t *narrow = x;
    if (b->dtype == PLUMB_BF16)
        for (int64_t i = 0; i < n; i++)
            narrow[i] = plumb_to_bf16(factor * plumb_from_bf16(narrow[i]));
    else
        for (int64_t i = 0; i < n; i++)
            wide[i] *= factor;
}

/* Runs m's forward for the batch and sets out (n_targets,c), on the host, to factor times the
 * hidden states that the head reads. */
static plumb_status hidden(plumb_pass *p, const plumb_model *m, const struct plumb_batch *batch,
                           float factor, void *out)
{
    struct plumb_backend *b = p->backend;
    PLUMB_TRY(plumb_pass_forward(p, m, batch, PLUMB_PASS_LOGPROB));
    const int64_t n = p->batch.n_targets * p->spec.c;
    if (n == 0)
        return PLUMB_OK;
    PLUMB_TRY(plumb_pass_head_input(p, m));
    PLUMB_TRY(b->to_host(b, out, p->hn, plumb_real_bytes(b, n)));
    scale(b, out, n, factor);
    return PLUMB_OK;
}

static plumb_status check(const plumb_pass *p, const struct plumb_mix *x,
                          const struct plumb_batch *batch)
{
    const int64_t c = p->spec.c;
    PLUMB_REQUIRE(p->spec.labels == 0, PLUMB_ERR_ARG,
                  "mixed log-probs need a language model, not a classifier");
    PLUMB_REQUIRE(
        p->limit.head_rows >= 2, PLUMB_ERR_ARG,
        "mixed logits need 2 rows of logits at a time, but train.head_rows or the largest number "
        "of tokens of a batch is 1");
    PLUMB_REQUIRE(
        plumb_batch_targets(batch) <= x->rows && c == x->c, PLUMB_ERR_SHAPE,
        "the batch has %lld completion tokens with hidden size %lld, the buffers hold %lld with "
        "hidden size %lld",
        (long long)plumb_batch_targets(batch), (long long)c, (long long)x->rows, (long long)x->c);
    return PLUMB_OK;
}

plumb_status plumb_pass_mixed_logprob(plumb_pass *p, struct plumb_mix *x, const plumb_model *m,
                                      const plumb_model *other, double far,
                                      const struct plumb_batch *batch, float *logp)
{
    struct plumb_backend *b = p->backend;
    const int64_t c = p->spec.c, v = p->spec.v, most = p->limit.head_rows / 2;
    const plumb_status sound = check(p, x, batch);
    if (sound != PLUMB_OK) { /* other ranks may wait for this rank's shares of `other` */
        const plumb_status end = plumb_model_follow(other);
        return end ? end : sound;
    }
    /* If there is a soft cap, the factors multiply the capped logits, not the hidden states. */
    const bool capped = p->spec.head_cap > 0;
    const float mine = (float)(1.0 + far), theirs = (float)-far;
    /* `other` runs first. Its pass is collective if its layers are divided among the ranks, so no
     * call that can fail on one rank alone may come between the check above and this pass. */
    PLUMB_TRY(hidden(p, other, batch, capped ? 1.0f : theirs, x->second));
    PLUMB_TRY(hidden(p, m, batch, capped ? 1.0f : mine, x->first));
    p->state = PLUMB_PASS_EMPTY; /* no backward is possible afterwards */
    const int64_t k = p->batch.n_targets, bytes = plumb_real_bytes(b, k * c);
    if (k == 0)
        return PLUMB_OK;
    plumb_real *first = p->gathered, *second = p->normed;
    float *logits = p->head_work, *more = p->head_work + most * v;
    PLUMB_TRY(b->to_device(b, first, x->first, bytes));
    PLUMB_TRY(b->to_device(b, second, x->second, bytes));
    for (int64_t i = 0; i < k; i += most) {
        const int64_t rows = plumb_min_i64(most, k - i);
        PLUMB_TRY(plumb_head_forward(m, logits, plumb_real_at(b, first, i * c), rows));
        PLUMB_TRY(plumb_head_forward(other, more, plumb_real_at(b, second, i * c), rows));
        if (capped) {
            PLUMB_TRY(b->k.scale_fwd(b->stream, logits, logits, mine, rows * v));
            PLUMB_TRY(b->k.scale_fwd(b->stream, more, more, theirs, rows * v));
        }
        PLUMB_TRY(b->k.accumulate(b->stream, logits, more, rows * v));
        PLUMB_TRY(plumb_op_logprob_fwd(b, V(p->logp + i, rows), V(p->lse + i, rows),
                                       V(logits, rows, v), VI(p->batch.target + i, rows)));
    }
    return b->to_host(b, logp, p->logp, k * (int64_t)sizeof(*logp));
}
