/* mismatch.c - compares log-probs at sampling with those of the training forward pass.
 * Layer 5. Includes stage/align.h, base/. */
#include <inttypes.h>
#include <math.h>

#include "base/num.h"
#include "stage/align.h"

plumb_status plumb_align_own_answers(const struct plumb_align_run *a, bool moved)
{
    const struct plumb_trainer *t = a->t;
    PLUMB_REQUIRE(
        a->answers.weights == a->weights && (moved || t->model->fingerprint == a->weights),
        PLUMB_ERR_FORMAT,
        "iteration %lld: its rollouts are of weights %016" PRIx64 ", it began with %016" PRIx64
        " and trains %016" PRIx64,
        (long long)t->state.iteration + 1, a->answers.weights, a->weights, t->model->fingerprint);
    return PLUMB_OK;
}

plumb_status plumb_align_compare(struct plumb_align_run *a, const struct plumb_rollout *o,
                                 const float *logp)
{
    const struct plumb_trainer *t = a->t;
    const double limit = t->cfg->train.max_logprob_gap;
    for (int64_t j = 0; j < o->n; j++) {
        const double sampled = (double)o->logp[j], trained = (double)logp[j];
        const double gap = fabs(sampled - trained);
        a->update.mismatch.max = fmax(a->update.mismatch.max, gap);
        a->update.mismatch.sum += sampled - trained;
        PLUMB_REQUIRE(
            gap <= limit, PLUMB_ERR_NUMERIC,
            "iteration %lld, rank %d: token %lld of sample %d of prompt record %lld (%s:%lld) had "
            "the log-prob %.9g when it was sampled and has %.9g in training: %.3g apart, "
            "train.max_logprob_gap is %g; the weights stay as they are",
            (long long)t->state.iteration + 1, plumb_comm_rank(t->comm), (long long)j, o->sample,
            (long long)o->record, t->cfg->data.prompts, (long long)a->data->record[o->record].line,
            sampled, trained, gap, limit);
    }
    a->update.mismatch.tokens += (double)o->n;
    return PLUMB_OK;
}

/* Compares the packed micro-batch and clears it. Sequence q is the answer a->update.completion[q]
 * after the prompt that it was sampled from. */
static plumb_status compare_packed(struct plumb_align_run *a)
{
    struct plumb_micro *m = &a->update.micro;
    if (m->pack.n_seq == 0)
        return PLUMB_OK;
    PLUMB_TRY(plumb_micro_forward(m, a->t->pass, a->t->model));
    PLUMB_TRY(plumb_micro_check(m));
    const float *logp = m->pack.logp;
    for (int64_t q = 0; q < m->pack.n_seq; q++) {
        PLUMB_TRY(plumb_align_compare(a, &a->answers.at[a->update.completion[q]], logp));
        logp += m->len[q];
    }
    plumb_micro_clear(m);
    return PLUMB_OK;
}

static int64_t common_divisor(int64_t a, int64_t b)
{
    while (b) {
        const int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* Visits the n answers with a stride that has no common divisor with n, so no answer comes twice
 * and the answers come from different prompts and places in the group. The start moves by one group
 * per iteration. It is the last answer of a group, which is principled if the method has principled
 * answers: only this function compares those, because training packs them after the plain prompt.
 */
plumb_status plumb_align_rescore(struct plumb_align_run *a)
{
    struct plumb_micro *m = &a->update.micro;
    const int64_t group = a->answers.group_size, n = a->answers.prompts * group;
    const int64_t wanted = plumb_min_i64(n, a->part.split.micro_batch);
    plumb_micro_clear(m);
    if (n == 0)
        return PLUMB_OK;
    int64_t stride = plumb_max_i64(n / wanted, 1);
    while (common_divisor(stride, n) != 1)
        stride--;
    int64_t at = (a->t->state.iteration * group + group - 1) % n;
    for (int64_t i = 0; i < wanted; i++, at = (at + stride) % n) {
        const struct plumb_rollout *o = &a->answers.at[at];
        if (o->old)
            continue; /* the weights that sampled it no longer exist */
        const struct plumb_record *rec = &a->data->record[o->record];
        const struct plumb_piece *p = o->principled ? &rec->principled : &rec->prompt;
        if (m->pack.n_seq == m->pack.max_seq ||
            m->pack.offset[m->pack.n_seq] + p->n + o->n > m->pack.max_tokens)
            PLUMB_TRY(compare_packed(a));
        a->update.completion[m->pack.n_seq] = at;
        PLUMB_TRY(plumb_micro_add(m, o->record, o->sample, p->ids, p->n, o->ids, o->n));
    }
    return compare_packed(a);
}

plumb_status plumb_align_mismatch_metrics(struct plumb_align_run *a, struct plumb_metrics_row *row)
{
    double sum[2] = {a->update.mismatch.sum, a->update.mismatch.tokens};
    PLUMB_TRY(plumb_comm_allreduce_f64(a->t->comm, &a->update.mismatch.max, 1, PLUMB_MAX));
    PLUMB_TRY(plumb_comm_allreduce_f64(a->t->comm, sum, 2, PLUMB_SUM));
    plumb_metrics_set(row, PLUMB_METRIC_LOGPROB_MAX_DIFF, a->update.mismatch.max);
    plumb_metrics_set(row, PLUMB_METRIC_MISMATCH_KL, sum[1] > 0 ? sum[0] / sum[1] : 0.0);
    return PLUMB_OK;
}
