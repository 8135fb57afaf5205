/* cmd_tokenize.c - texts or messages to token ids and back.
 * Layer 6. May include everything. */
#include "app/session.h"
#include "io/json.h"

static plumb_status put_ids(struct plumb_buf *out, const int32_t *ids, int64_t n)
{
    PLUMB_TRY(plumb_buf_add_text(out, "["));
    for (int64_t i = 0; i < n; i++)
        PLUMB_TRY(plumb_buf_addf(out, i ? ",%d" : "%d", (int)ids[i]));
    return plumb_buf_add_text(out, "]");
}

static plumb_status tokenize(void *arg, int64_t begin, int64_t end, struct plumb_buf *out)
{
    struct plumb_session *s = arg;
    struct plumb_buf decoded = {0};
    plumb_status st = PLUMB_OK;
    for (int64_t i = begin; i < end; i++) {
        const struct plumb_piece *p = &s->data->record[i].prompt;
        plumb_buf_clear(&decoded);
        PLUMB_TRY_GOTO(st, plumb_buf_add_text(out, "{\"ids\":"), done);
        PLUMB_TRY_GOTO(st, put_ids(out, p->ids, p->n), done);
        PLUMB_TRY_GOTO(st, plumb_tokenizer_decode(s->tokenizer, &decoded, p->ids, p->n, false),
                       done);
        PLUMB_TRY_GOTO(st, plumb_buf_add_text(out, ",\"decoded\":"), done);
        PLUMB_TRY_GOTO(st, plumb_json_put_string(out, plumb_buf_text(&decoded), decoded.len), done);
        PLUMB_TRY_GOTO(st, plumb_buf_add_text(out, "}\n"), done);
    }
done:
    plumb_buf_fini(&decoded);
    return st;
}

plumb_status plumb_cmd_tokenize(struct plumb_app *app)
{
    struct plumb_session s;
    plumb_status st =
        plumb_session_open(&s, app, PLUMB_SESSION_NO_MODEL, PLUMB_DATA_TEXTS, app->cfg->input);
    if (st == PLUMB_OK)
        st = plumb_lines_run(app, "tokenize", s.data->n, 4096, tokenize, &s);
    plumb_session_close(&s);
    return st;
}
