/* cmd_tokenize.c - converts texts, messages or prompts to token ids, and ids to text.
 * Layer 6. May include everything. */
#include "app/session.h"
#include "app/tokenize_chat.h"
#include "io/json.h"

static plumb_status put_ids(struct plumb_buf *out, const struct plumb_ids *ids)
{
    PLUMB_TRY(plumb_buf_add_text(out, "["));
    for (int64_t i = 0; i < ids->n; i++)
        PLUMB_TRY(plumb_buf_addf(out, i ? ",%d" : "%d", (int)ids->id[i]));
    return plumb_buf_add_text(out, "]");
}

static plumb_status add_ids(struct plumb_ids *all, const struct plumb_piece *p)
{
    for (int64_t i = 0; i < p->n; i++)
        PLUMB_TRY(plumb_ids_add(all, p->ids[i]));
    return PLUMB_OK;
}

/* Writes the ids of prompt and completion, and the index of the completion's first id. */
static plumb_status put_record(struct plumb_buf *out, const plumb_tokenizer *t,
                               const struct plumb_record *r)
{
    struct plumb_ids all = {0};
    struct plumb_buf decoded = {0};
    plumb_status st;
    PLUMB_TRY_GOTO(st, add_ids(&all, &r->prompt), done);
    PLUMB_TRY_GOTO(st, add_ids(&all, &r->completion[0]), done);
    PLUMB_TRY_GOTO(st, plumb_buf_add_text(out, "{\"ids\":"), done);
    PLUMB_TRY_GOTO(st, put_ids(out, &all), done);
    if (r->completion[0].n && r->prompt.text)
        PLUMB_TRY_GOTO(st, plumb_buf_addf(out, ",\"prompt_tokens\":%lld", (long long)r->prompt.n),
                       done);
    PLUMB_TRY_GOTO(st, plumb_tokenizer_decode(t, &decoded, all.id, all.n, false), done);
    PLUMB_TRY_GOTO(st, plumb_buf_add_text(out, ",\"decoded\":"), done);
    PLUMB_TRY_GOTO(st, plumb_json_put_string(out, plumb_buf_text(&decoded), decoded.len), done);
    st = plumb_buf_add_text(out, "}\n");
done:
    plumb_ids_fini(&all);
    plumb_buf_fini(&decoded);
    return st;
}

static plumb_status tokenize(void *arg, int64_t begin, int64_t end, struct plumb_buf *out)
{
    const struct plumb_session *s = arg;
    for (int64_t i = begin; i < end; i++)
        PLUMB_TRY(put_record(out, s->tokenizer, &s->data->record[i]));
    return PLUMB_OK;
}

plumb_status plumb_cmd_tokenize(struct plumb_app *app)
{
    struct plumb_session s;
    if (plumb_tokenize_is_chat(app->cfg))
        return plumb_tokenize_chat(app);
    plumb_status st =
        plumb_session_open(&s, app, PLUMB_SESSION_NO_MODEL, PLUMB_DATA_ANY, app->cfg->input);
    if (st == PLUMB_OK)
        st = plumb_lines_run(app, "tokenize", s.data->n, 4096, tokenize, &s);
    plumb_session_close(&s);
    return st;
}
