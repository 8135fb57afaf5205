/* eval_measure.c - computes the EVAL_ values (app/eval.h) of each answer and reference.
 * Layer 6. Includes app/eval.h, base/, model/, train/. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "app/eval.h"
#include "base/num.h"
#include "eval/ngram.h"

static double *value_of(const struct plumb_eval *e, const struct plumb_eval_model *m,
                        const struct plumb_rollout *o)
{
    return m->value + (o->prompt * e->app->cfg->eval.samples + o->sample) * PLUMB_EVAL_VALUES;
}

static plumb_status measure_bleu(double *v, const char *answer, const char *reference)
{
    struct plumb_bleu b = {0};
    PLUMB_TRY(plumb_bleu_add(&b, answer, reference));
    for (int k = 0; k < PLUMB_BLEU_ORDER; k++) {
        v[EVAL_BLEU + k] = (double)b.match[k];
        v[EVAL_BLEU + PLUMB_BLEU_ORDER + k] = (double)b.total[k];
    }
    v[EVAL_BLEU + 2 * PLUMB_BLEU_ORDER] = (double)b.length;
    v[EVAL_BLEU + 2 * PLUMB_BLEU_ORDER + 1] = (double)b.reference_length;
    return PLUMB_OK;
}

plumb_status plumb_eval_measure(const struct plumb_eval *e, struct plumb_eval_model *m,
                                const struct plumb_dataset *data)
{
    for (int64_t i = 0; i < m->answers.prompts * m->answers.group_size; i++) {
        const struct plumb_rollout *o = &m->answers.at[i];
        const struct plumb_piece *reference = &data->record[o->record].completion[0];
        const char *text = plumb_buf_text(&o->text);
        double *v = value_of(e, m, o);
        const bool scored = e->rewards && isfinite(m->scores.reward[i]);
        v[EVAL_REWARD] = scored ? m->scores.reward[i] : 0;
        v[EVAL_SCORED] = scored;
        v[EVAL_TOKENS] = (double)o->n;
        for (int64_t j = 0; j < o->text.len; j++)
            v[EVAL_CHARACTERS] += ((unsigned char)text[j] & 0xc0) != 0x80;
        v[EVAL_CLIPPED] = o->stop == PLUMB_STOP_LENGTH;
        for (int64_t j = 0; j < o->n; j++)
            v[EVAL_LOGP] += (double)o->logp[j];
        PLUMB_TRY(plumb_self_repetition(&v[EVAL_REPEATED], o->ids, o->n, PLUMB_EVAL_REPEAT));
        if (reference->len > 0)
            PLUMB_TRY(measure_bleu(v, text, reference->text));
        if (o->sample == 0 && o->prompt < PLUMB_EVAL_SHOWN) {
            m->text[o->prompt] = strdup(text);
            PLUMB_REQUIRE(m->text[o->prompt], PLUMB_ERR_NOMEM, "sample text");
        }
    }
    return PLUMB_OK;
}

/* The model and the memory for forward passes over one sequence at a time. */
struct one {
    const plumb_model *model;
    plumb_pass *pass;
    int32_t *ids; /* (longest,) token ids of one sequence */
    float *logp;
};

static plumb_status one_open(struct one *x, const struct plumb_eval *e, const plumb_model *model,
                             int64_t longest)
{
    const struct plumb_pass_limit limit = {
        .max_tokens = longest, .max_seq = 1, .head_rows = e->app->cfg->train.head_rows};
    *x = (struct one){.model = model};
    x->ids = calloc((size_t)longest, sizeof(*x->ids));
    x->logp = calloc((size_t)longest, sizeof(*x->logp));
    PLUMB_REQUIRE(x->ids && x->logp, PLUMB_ERR_NOMEM, "buffers of a sequence of %lld tokens",
                  (long long)longest);
    return plumb_pass_create(&x->pass, model, &limit);
}

static void one_close(struct one *x)
{
    plumb_pass_destroy(&x->pass);
    free(x->ids);
    free(x->logp);
}

/* Sets *out to the sum of log p over the completion's tokens, in nats, added in their order. */
static plumb_status one_logp(double *out, struct one *x, const struct plumb_piece *prompt,
                             const int32_t *completion, int64_t n)
{
    const int64_t offset[2] = {0, prompt->n + n};
    const struct plumb_batch batch = {
        .n_seq = 1, .ids = x->ids, .offset = offset, .prompt_tokens = &prompt->n};
    memcpy(x->ids, prompt->ids, (size_t)prompt->n * sizeof(*x->ids));
    memcpy(x->ids + prompt->n, completion, (size_t)n * sizeof(*x->ids));
    PLUMB_TRY(plumb_pass_logprob(x->pass, x->model, &batch, x->logp));
    *out = 0;
    for (int64_t j = 0; j < n; j++)
        *out += (double)x->logp[j];
    return PLUMB_OK;
}

plumb_status plumb_eval_references(const struct plumb_eval *e, struct plumb_eval_model *m,
                                   const plumb_model *model, const struct plumb_dataset *data)
{
    const int64_t rank = plumb_comm_rank(e->app->comm), world = plumb_comm_size(e->app->comm);
    int64_t longest = 0;
    for (int64_t i = rank; i < e->prompts; i += world)
        if (data->record[i].completion[0].n > 0)
            longest =
                plumb_max_i64(longest, data->record[i].context.n + data->record[i].completion[0].n);
    if (!longest)
        return PLUMB_OK;
    struct one x;
    plumb_status st = one_open(&x, e, model, longest);
    for (int64_t i = rank; i < e->prompts && st == PLUMB_OK; i += world) {
        const struct plumb_piece *c = &data->record[i].completion[0];
        double *v = m->reference + i * PLUMB_EVAL_REFERENCE;
        if (c->n > 0)
            st = one_logp(&v[EVAL_REFERENCE_LOGP], &x, &data->record[i].context, c->ids, c->n);
        v[EVAL_REFERENCE_TOKENS] = (double)c->n;
    }
    one_close(&x);
    return st;
}

plumb_status plumb_eval_start(struct plumb_eval *e, const plumb_model *start,
                              const struct plumb_dataset *data)
{
    const int64_t rank = plumb_comm_rank(e->app->comm), world = plumb_comm_size(e->app->comm);
    int64_t longest = 1;
    for (int64_t i = rank; i < e->prompts; i += world)
        longest = plumb_max_i64(longest, data->record[i].prompt.n);
    longest += e->app->cfg->generate.max_new_tokens;
    struct one x;
    plumb_status st = one_open(&x, e, start, plumb_min_i64(longest, start->spec.max_pos));
    for (int64_t k = 1; k < e->n && st == PLUMB_OK; k++) {
        struct plumb_eval_model *m = &e->model[k];
        for (int64_t i = 0;
             i < m->answers.prompts * m->answers.group_size && m->same_tokens && st == PLUMB_OK;
             i++) {
            const struct plumb_rollout *o = &m->answers.at[i];
            if (o->n > 0)
                st = one_logp(&value_of(e, m, o)[EVAL_LOGP_START], &x,
                              &data->record[o->record].prompt, o->ids, o->n);
        }
    }
    one_close(&x);
    return st;
}
