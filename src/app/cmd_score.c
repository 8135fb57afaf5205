/* cmd_score.c - scores of texts by a reward model.
 * Layer 6. May include everything. */
#include <stdlib.h>

#include "app/session.h"
#include "io/json.h"

struct score {
    struct plumb_session s;
    int32_t *ids; /* (longest,) */
    float *value; /* (labels,) */
};

static plumb_status score(void *arg, int64_t begin, int64_t end, struct plumb_buf *out)
{
    struct score *c = arg;
    const int64_t labels = c->s.model->spec.labels;
    for (int64_t i = begin; i < end; i++) {
        const struct plumb_record *r = &c->s.data->record[i];
        const int64_t n = r->prompt.n + r->completion[0].n;
        for (int64_t j = 0; j < n; j++)
            c->ids[j] = j < r->prompt.n ? r->prompt.ids[j] : r->completion[0].ids[j - r->prompt.n];
        const int64_t offset[2] = {0, n};
        const struct plumb_batch batch = {
            .n_seq = 1, .ids = c->ids, .offset = offset, .prompt_tokens = &r->prompt.n};
        PLUMB_TRY(plumb_pass_score(c->s.pass, c->s.model, &batch, c->value));
        PLUMB_TRY(plumb_buf_add_text(out, labels > 1 ? "{\"score\":[" : "{\"score\":"));
        for (int64_t j = 0; j < labels; j++) {
            if (j)
                PLUMB_TRY(plumb_buf_add_text(out, ","));
            PLUMB_TRY(plumb_json_put_f32(out, c->value[j]));
        }
        PLUMB_TRY(plumb_buf_add_text(out, labels > 1 ? "]}\n" : "}\n"));
    }
    return PLUMB_OK;
}

static plumb_status prepare(struct score *c)
{
    c->ids = calloc((size_t)c->s.longest, sizeof(*c->ids));
    c->value = calloc((size_t)c->s.model->spec.labels, sizeof(*c->value));
    PLUMB_REQUIRE(c->ids && c->value, PLUMB_ERR_NOMEM, "a record of %lld tokens",
                  (long long)c->s.longest);
    return plumb_session_pass(&c->s, 0, false);
}

plumb_status plumb_cmd_score(struct plumb_app *app)
{
    struct score c = {0};
    plumb_status st =
        plumb_session_open(&c.s, app, PLUMB_SESSION_CLASSIFIER, PLUMB_DATA_ANY, app->cfg->input);
    if (st == PLUMB_OK)
        st = plumb_comm_agree(app->comm, prepare(&c));
    if (st == PLUMB_OK)
        st = plumb_lines_run(app, "score", c.s.data->n, 64, score, &c);
    plumb_session_close(&c.s);
    free(c.ids);
    free(c.value);
    return st;
}
