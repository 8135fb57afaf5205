/* micro.c - forward pass, objective and backward pass of one micro-batch.
 * Layer 5. Includes train/micro.h, base/. */
#include "train/micro.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

const char *const plumb_micro_names[] = {"tokens", "logp", "score", NULL};

plumb_status plumb_micro_init(struct plumb_micro *m, enum plumb_micro_kind kind, int64_t max_tokens,
                              int64_t max_seq)
{
    const size_t n = (size_t)max_seq;
    plumb_status st = PLUMB_OK;
    *m = (struct plumb_micro){.kind = kind, .param = plumb_align_param_default(), .mean_len = 1};
    PLUMB_TRY_GOTO(st, plumb_pack_init(&m->pack, max_tokens, max_seq), fail);
    m->record = calloc(n, sizeof(*m->record));
    m->sample = calloc(n, sizeof(*m->sample));
    m->len = calloc(n, sizeof(*m->len));
    m->logp_ref = calloc(n, sizeof(*m->logp_ref));
    m->weight = calloc(n, sizeof(*m->weight));
    m->reward = calloc(n, sizeof(*m->reward));
    m->group = calloc(n + 1, sizeof(*m->group));
    m->pair = calloc(n, sizeof(*m->pair));
    m->logp = calloc(n, sizeof(*m->logp));
    m->dlogp = calloc(n, sizeof(*m->dlogp));
    m->score = calloc(n, sizeof(*m->score));
    m->dscore = calloc(n, sizeof(*m->dscore));
    m->score_f32 = calloc(n, sizeof(*m->score_f32));
    if (!m->record || !m->sample || !m->len || !m->logp_ref || !m->weight || !m->reward ||
        !m->group || !m->pair || !m->logp || !m->dlogp || !m->score || !m->dscore || !m->score_f32)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "micro-batch of %lld sequences",
                        (long long)max_seq);
    return PLUMB_OK;
fail:
    plumb_micro_fini(m);
    return st;
}

plumb_status plumb_micro_want_entropy(struct plumb_micro *m)
{
    const size_t n = (size_t)m->pack.max_tokens;
    m->entropy = calloc(n, sizeof(*m->entropy));
    m->mean_logit = calloc(n, sizeof(*m->mean_logit));
    PLUMB_REQUIRE(m->entropy && m->mean_logit, PLUMB_ERR_NOMEM, "micro-batch of %lld tokens",
                  (long long)m->pack.max_tokens);
    return PLUMB_OK;
}

void plumb_micro_fini(struct plumb_micro *m)
{
    free(m->entropy);
    free(m->mean_logit);
    plumb_pack_fini(&m->pack);
    free(m->record);
    free(m->sample);
    free(m->len);
    free(m->logp_ref);
    free(m->weight);
    free(m->reward);
    free(m->group);
    free(m->pair);
    free(m->logp);
    free(m->dlogp);
    free(m->score);
    free(m->dscore);
    free(m->score_f32);
    *m = (struct plumb_micro){0};
}

void plumb_micro_clear(struct plumb_micro *m)
{
    plumb_pack_clear(&m->pack);
    m->pairs = m->groups = 0;
    m->out = (struct plumb_obj_out){0};
}

plumb_status plumb_micro_add(struct plumb_micro *m, int64_t record, int32_t sample,
                             const int32_t *prompt, int64_t n_prompt, const int32_t *completion,
                             int64_t n_completion)
{
    const int64_t q = m->pack.n_seq;
    PLUMB_TRY(plumb_pack_add(&m->pack, prompt, n_prompt, completion, n_completion));
    m->record[q] = record;
    m->sample[q] = sample;
    m->len[q] = (int32_t)n_completion;
    m->logp_ref[q] = NAN;
    m->weight[q] = m->reward[q] = 0;
    return PLUMB_OK;
}

void plumb_micro_end_group(struct plumb_micro *m)
{
    if (m->pack.n_seq > m->group[m->groups])
        m->group[++m->groups] = m->pack.n_seq;
}

plumb_status plumb_micro_forward(struct plumb_micro *m, plumb_pass *pass, const plumb_model *model)
{
    const struct plumb_batch batch = plumb_pack_batch(&m->pack);
    if (m->kind == PLUMB_MICRO_SCORE) {
        PLUMB_TRY(plumb_pass_score(pass, model, &batch, m->score_f32));
        for (int64_t q = 0; q < m->pack.n_seq; q++)
            m->score[q] = (double)m->score_f32[q];
        return PLUMB_OK;
    }
    PLUMB_TRY(plumb_pass_logprob(pass, model, &batch, m->pack.logp));
    if (m->entropy)
        PLUMB_TRY(plumb_pass_entropy(pass, m->entropy, m->mean_logit));
    plumb_micro_sum(m);
    return PLUMB_OK;
}

void plumb_micro_sum(struct plumb_micro *m)
{
    const float *logp = m->pack.logp;
    for (int64_t q = 0; q < m->pack.n_seq; q++) {
        m->logp[q] = 0;
        for (int32_t j = 0; j < m->len[q]; j++)
            m->logp[q] += (double)*logp++;
    }
}

/* Returns x. The sign of a NaN, which has no meaning in messages, is removed. */
static double plain_nan(double x)
{
    return isnan(x) ? (double)NAN : x;
}

plumb_status plumb_micro_check(const struct plumb_micro *m)
{
    const float *logp = m->pack.logp;
    for (int64_t q = 0; q < m->pack.n_seq; q++) {
        if (m->kind == PLUMB_MICRO_SCORE) {
            PLUMB_REQUIRE(isfinite(m->score[q]), PLUMB_ERR_NUMERIC,
                          "the score of record %lld, sample %d is %g", (long long)m->record[q],
                          m->sample[q], plain_nan(m->score[q]));
            continue;
        }
        for (int32_t j = 0; j < m->len[q]; j++, logp++)
            PLUMB_REQUIRE(isfinite(*logp), PLUMB_ERR_NUMERIC,
                          "the log-prob of completion token %d of record %lld, sample %d is %g", j,
                          (long long)m->record[q], m->sample[q], plain_nan((double)*logp));
    }
    return PLUMB_OK;
}

/* Computes the SFT loss. All trained tokens of a global batch have equal weight, so the sum runs
 * over the tokens of all sequences, in their order. */
static plumb_status token_loss(struct plumb_micro *m)
{
    double sum = 0;
    for (int64_t j = 0; j < m->pack.n_targets; j++) {
        m->pack.dlogp[j] = m->pack.trained[j] ? (float)-m->scale : 0.0F;
        if (m->pack.trained[j])
            sum += (double)m->pack.logp[j];
    }
    m->out.loss = -m->scale * sum;
    PLUMB_REQUIRE(isfinite(m->out.loss), PLUMB_ERR_NUMERIC, "the loss is %g", m->out.loss);
    return PLUMB_OK;
}

/* Adds the record and the sample of each sequence to the message of the failure st, because the
 * message of an objective has sequence numbers only. */
static plumb_status name_records(const struct plumb_micro *m, plumb_status st)
{
    char said[300], records[400];
    snprintf(said, sizeof(said), "%.299s", plumb_trail_message());
    plumb_micro_describe(records, sizeof(records), m);
    return plumb_fail_at(st, __FILE__, __LINE__, "%s (sequences in order: %s)", said, records);
}

plumb_status plumb_micro_loss(struct plumb_micro *m)
{
    if (m->kind == PLUMB_MICRO_TOKENS)
        return token_loss(m);
    const bool score = m->kind == PLUMB_MICRO_SCORE;
    const struct plumb_obj_in in = {.n = m->pack.n_seq,
                                    .k = m->pairs,
                                    /* an objective that reads scores does not read logp */
                                    .logp = score ? m->score : m->logp,
                                    .logp_ref = m->reference ? m->logp_ref : NULL,
                                    .score = score ? m->score : NULL,
                                    .len = m->len,
                                    .reward = m->reward,
                                    .weight = score ? NULL : m->weight,
                                    .pair = m->pair,
                                    .groups = m->groups,
                                    .group = m->group,
                                    .scale = m->scale,
                                    .mean_len = m->mean_len};
    m->out = (struct plumb_obj_out){.dlogp = m->dlogp, .dscore = score ? m->dscore : NULL};
    const plumb_status st = plumb_objective_eval(m->objective, &m->out, &in, &m->param);
    if (st == PLUMB_ERR_NUMERIC)
        return name_records(m, st);
    PLUMB_TRY(st);
    if (score) {
        for (int64_t q = 0; q < m->pack.n_seq; q++)
            m->score_f32[q] = (float)m->dscore[q];
        return PLUMB_OK;
    }
    /* the derivative for a token's log-prob is the one for its sequence's sum */
    float *d = m->pack.dlogp;
    for (int64_t q = 0; q < m->pack.n_seq; q++)
        for (int32_t j = 0; j < m->len[q]; j++)
            *d++ = (float)m->dlogp[q];
    return PLUMB_OK;
}

plumb_status plumb_micro_backward(struct plumb_micro *m, plumb_pass *pass, const plumb_model *model,
                                  float *grad)
{
    if (m->kind == PLUMB_MICRO_SCORE)
        return plumb_pass_score_backward(pass, model, m->score_f32, grad);
    return plumb_pass_logprob_backward(pass, model, m->pack.dlogp, grad);
}

void plumb_micro_describe(char *out, int64_t size, const struct plumb_micro *m)
{
    char item[64];
    int64_t at = 0;
    out[0] = '\0';
    for (int64_t q = 0; q < m->pack.n_seq; q++) {
        const bool same = q > 0 && m->record[q] == m->record[q - 1];
        const bool more = q + 1 < m->pack.n_seq && m->record[q] == m->record[q + 1];
        if (same)
            snprintf(item, sizeof(item), " %d", m->sample[q]);
        else
            snprintf(item, sizeof(item), "%srecord %lld sample%s %d", q ? ", " : "",
                     (long long)m->record[q], more ? "s" : "", m->sample[q]);
        if (at + (int64_t)strlen(item) + 5 > size) {
            snprintf(out + at, (size_t)(size - at), " ...");
            return;
        }
        at += snprintf(out + at, (size_t)(size - at), "%s", item);
    }
}

plumb_status plumb_micro_parse(int64_t *step, int64_t *micro_batch, const char *text)
{
    char *end = NULL;
    *step = *micro_batch = -1;
    if (!*text)
        return PLUMB_OK;
    errno = 0;
    const long long s = strtoll(text, &end, 10);
    const bool colon = end > text && *end == ':';
    const char *rest = colon ? end + 1 : "";
    const long long l = strtoll(rest, &end, 10);
    PLUMB_REQUIRE(colon && end > rest && !*end && !errno && s >= 1 && l >= 0, PLUMB_ERR_CONFIG,
                  "train.replay: '%s', expected STEP:MICRO_BATCH as in 12:0, steps counted from 1, "
                  "micro-batches from 0",
                  text);
    *step = s;
    *micro_batch = l;
    return PLUMB_OK;
}
