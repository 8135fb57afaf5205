/* cmd_logprob.c - writes the log-probabilities of given completions, and their embeddings.
 * Layer 6. May include everything. */
#include <math.h>
#include <stdlib.h>

#include "app/session.h"
#include "io/json.h"

struct logprob {
    struct plumb_session s;
    int32_t *ids;     /* (longest,) token ids of one record */
    float *logp;      /* (longest,) log-probs, in nats */
    float *embedding; /* (c,) embedding of one record; NULL if embeddings are not asked for */
};

/* Appends one JSON line: the log-probs of the tokens that the loss would cover in training, their
 * sum and, if it is asked for, the embedding. */
static plumb_status put_line(struct plumb_buf *out, const struct logprob *l,
                             const struct plumb_record *r)
{
    double sum = 0;
    bool first = true;
    PLUMB_TRY(plumb_buf_add_text(out, "{\"logprobs\":["));
    for (int64_t j = 0; j < r->completion[0].n; j++) {
        if (r->trained && !r->trained[j])
            continue;
        PLUMB_REQUIRE(isfinite(l->logp[j]), PLUMB_ERR_NUMERIC,
                      "%s:%lld: the log-prob of completion token %lld is %g, expected a finite "
                      "number: the weights in %s hold non-finite or very large numbers",
                      l->s.app->cfg->input, (long long)r->line, (long long)j, (double)l->logp[j],
                      l->s.model->dir);
        sum += (double)l->logp[j];
        if (!first)
            PLUMB_TRY(plumb_buf_add_text(out, ","));
        first = false;
        PLUMB_TRY(plumb_json_put_f32(out, l->logp[j]));
    }
    PLUMB_TRY(plumb_buf_add_text(out, "],\"sum\":"));
    PLUMB_TRY(plumb_json_put_real(out, sum));
    if (l->embedding) {
        PLUMB_TRY(plumb_buf_add_text(out, ",\"embedding\":["));
        for (int64_t j = 0; j < l->s.model->spec.c; j++) {
            if (j)
                PLUMB_TRY(plumb_buf_add_text(out, ","));
            PLUMB_TRY(plumb_json_put_f32(out, l->embedding[j]));
        }
        PLUMB_TRY(plumb_buf_add_text(out, "]"));
    }
    return plumb_buf_add_text(out, "}\n");
}

static plumb_status logprob(void *arg, int64_t begin, int64_t end, struct plumb_buf *out)
{
    struct logprob *l = arg;
    for (int64_t i = begin; i < end; i++) {
        const struct plumb_record *r = &l->s.data->record[i];
        const int64_t n = r->prompt.n + r->completion[0].n;
        for (int64_t j = 0; j < n; j++)
            l->ids[j] = j < r->prompt.n ? r->prompt.ids[j] : r->completion[0].ids[j - r->prompt.n];
        const int64_t offset[2] = {0, n};
        const struct plumb_batch batch = {
            .n_seq = 1, .ids = l->ids, .offset = offset, .prompt_tokens = &r->prompt.n};
        PLUMB_TRY(plumb_pass_logprob(l->s.pass, l->s.model, &batch, l->logp));
        if (l->embedding)
            PLUMB_TRY(plumb_pass_embedding(l->s.pass, l->s.model, l->embedding));
        PLUMB_TRY(put_line(out, l, r));
    }
    return PLUMB_OK;
}

static plumb_status prepare(struct logprob *l, const struct plumb_config *cfg)
{
    const size_t n = (size_t)l->s.longest;
    l->ids = calloc(n, sizeof(*l->ids));
    l->logp = calloc(n, sizeof(*l->logp));
    if (cfg->embedding)
        l->embedding = calloc((size_t)l->s.model->spec.c, sizeof(*l->embedding));
    PLUMB_REQUIRE(l->ids && l->logp && (l->embedding || !cfg->embedding), PLUMB_ERR_NOMEM,
                  "a record of %zu tokens", n);
    return plumb_session_pass(&l->s, 0, false);
}

plumb_status plumb_cmd_logprob(struct plumb_app *app)
{
    struct logprob l = {0};
    plumb_status st =
        plumb_session_open(&l.s, app, PLUMB_SESSION_CAUSAL, PLUMB_DATA_SFT, app->cfg->input);
    if (st == PLUMB_OK)
        st = plumb_comm_agree(app->comm, prepare(&l, app->cfg));
    if (st == PLUMB_OK)
        st = plumb_lines_run(app, "logprob", l.s.data->n, 64, logprob, &l);
    plumb_session_close(&l.s);
    free(l.ids);
    free(l.logp);
    free(l.embedding);
    return st;
}
