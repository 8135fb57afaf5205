/* mismatch.c - compares log-probs at sampling with those of the training forward pass.
 * Layer 5. Includes stage/stages.h, base/. */
#include <inttypes.h>
#include <math.h>

#include "base/num.h"
#include "stage/stages.h"

plumb_status plumb_mismatch_own_rollouts(const struct plumb_rollout_stage *r,
                                         const struct plumb_trainer *t, bool moved)
{
    PLUMB_REQUIRE(
        r->rollouts.weights == r->weights && (moved || t->model->fingerprint == r->weights),
        PLUMB_ERR_FORMAT,
        "iteration %lld: its rollouts are of weights %016" PRIx64 ", it began with %016" PRIx64
        " and trains %016" PRIx64,
        (long long)t->state.iteration + 1, r->rollouts.weights, r->weights, t->model->fingerprint);
    return PLUMB_OK;
}

plumb_status plumb_mismatch_compare(struct plumb_mismatch *m, const struct plumb_align_inputs *in,
                                    const struct plumb_rollout *o, const float *logp)
{
    const struct plumb_trainer *t = in->t;
    const double limit = t->cfg->train.max_logprob_gap;
    for (int64_t j = 0; j < o->n; j++) {
        const double sampled = (double)o->logp[j], trained = (double)logp[j];
        const double gap = fabs(sampled - trained);
        m->max = fmax(m->max, gap);
        m->sum += sampled - trained;
        PLUMB_REQUIRE(
            gap <= limit, PLUMB_ERR_NUMERIC,
            "iteration %lld, rank %d: token %lld of sample %d of prompt record %lld (%s:%lld) had "
            "the log-prob %.9g when it was sampled and has %.9g in training: %.3g apart, "
            "train.max_logprob_gap is %g; the weights stay as they are",
            (long long)t->state.iteration + 1, plumb_comm_rank(t->comm), (long long)j, o->sample,
            (long long)o->record, t->cfg->data.prompts, (long long)in->data->record[o->record].line,
            sampled, trained, gap, limit);
    }
    m->tokens += (double)o->n;
    return PLUMB_OK;
}

/* Computes the training log-probs of the packed micro-batch, compares them, and clears the
 * micro-batch. Each packed sequence is a completion after the prompt that it was sampled from. */
static plumb_status compare_packed(struct plumb_mismatch *mismatch,
                                   const struct plumb_align_inputs *in, struct plumb_work *w)
{
    struct plumb_micro *m = &w->micro;
    if (m->pack.n_seq == 0)
        return PLUMB_OK;
    PLUMB_TRY(plumb_micro_forward(m, in->t->pass, in->t->model));
    PLUMB_TRY(plumb_micro_check(m));
    const float *logp = m->pack.logp;
    for (int64_t sequence = 0; sequence < m->pack.n_seq; sequence++) {
        const struct plumb_rollout *o = &in->rollout->rollouts.at[w->completion_of[sequence]];
        PLUMB_TRY(plumb_mismatch_compare(mismatch, in, o, logp));
        logp += m->len[sequence];
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

/* Takes every stride-th of the n completions, cyclically. The stride has no common divisor with n,
 * so no completion is taken twice, and the completions come from different prompts and have
 * different sample indices. The first one taken is the last completion of a group, which is
 * principled if the method has principled completions; from one iteration to the next it moves by
 * one group. Only this function compares principled completions, because training packs them after
 * the plain prompt. */
plumb_status plumb_mismatch_rescore(struct plumb_mismatch *mismatch,
                                    const struct plumb_align_inputs *in, struct plumb_work *w)
{
    struct plumb_micro *m = &w->micro;
    const struct plumb_rollouts *r = &in->rollout->rollouts;
    const int64_t n = plumb_rollouts_n(r), group = r->group_size;
    const int64_t wanted = plumb_min_i64(n, in->part->most.items);
    plumb_micro_clear(m);
    if (n == 0)
        return PLUMB_OK;
    int64_t stride = plumb_max_i64(n / wanted, 1);
    while (common_divisor(stride, n) != 1)
        stride--;
    int64_t completion = (in->t->state.iteration * group + group - 1) % n;
    for (int64_t i = 0; i < wanted; i++, completion = (completion + stride) % n) {
        const struct plumb_rollout *o = &r->at[completion];
        if (o->old)
            continue; /* the weights that sampled it no longer exist */
        const struct plumb_piece *prompt = plumb_rollout_prompt(o, in->data);
        if (!plumb_pack_fits(&m->pack, 1, prompt->n + o->n))
            PLUMB_TRY(compare_packed(mismatch, in, w));
        w->completion_of[m->pack.n_seq] = completion;
        PLUMB_TRY(plumb_micro_add(m, o->record, o->sample, prompt->ids, prompt->n, o->ids, o->n));
    }
    return compare_packed(mismatch, in, w);
}

plumb_status plumb_mismatch_metrics(struct plumb_mismatch *m, plumb_comm *comm,
                                    struct plumb_metrics_row *row)
{
    double sum[2] = {m->sum, m->tokens};
    PLUMB_TRY(plumb_comm_allreduce_f64(comm, &m->max, 1, PLUMB_MAX));
    PLUMB_TRY(plumb_comm_allreduce_f64(comm, sum, 2, PLUMB_SUM));
    plumb_metrics_set(row, PLUMB_METRIC_LOGPROB_MAX_DIFF, m->max);
    plumb_metrics_set(row, PLUMB_METRIC_MISMATCH_KL, sum[1] > 0 ? sum[0] / sum[1] : 0.0);
    return PLUMB_OK;
}
