/* inspect_lines.c - describes files of JSON lines (data or metrics) and of plain text.
 * Layer 6. Includes inspect.h, data/dataset.h, io/, report/metrics.h. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/inspect.h"
#include "base/log.h"
#include "base/num.h"
#include "data/chat.h"
#include "data/dataset.h"
#include "io/file.h"
#include "io/utf8.h"
#include "report/metrics.h"

/* ---- the shapes of records ------------------------------------------------------------------ */

/* The shapes of records (data/dataset.h). A record has the first shape of which it has all members.
 */
static const struct shape {
    const char *member[3];
    enum plumb_data_kind kind;
    const char *name, *readers;
} shapes[] = {
    {{"prompt", "chosen", "rejected"},
     PLUMB_DATA_PAIRS,
     "prompt, chosen and rejected",
     "reward, prefer"},
    {{"instruction", "chosen", "rejected"},
     PLUMB_DATA_PAIRS,
     "instruction, input, chosen and rejected (alpaca), read as prompt, chosen and rejected",
     "reward, prefer"},
    {{"chosen", "rejected"}, PLUMB_DATA_PAIRS, "chosen and rejected", "reward, prefer"},
    {{"messages"}, PLUMB_DATA_SFT, "messages", "sft, logprob, score, gradient, tokenize"},
    {{"conversations"},
     PLUMB_DATA_SFT,
     "conversations (sharegpt), read as messages",
     "sft, logprob, gradient"},
    {{"prompt", "completion"},
     PLUMB_DATA_SFT,
     "prompt and completion",
     "sft, logprob, score, gradient; align, generate and eval read the prompts"},
    {{"prompt_ids", "completion_ids"},
     PLUMB_DATA_SFT,
     "answers, as plumb generate writes them",
     "sft, logprob, score, gradient; align and generate read the prompts"},
    {{"instruction", "output"},
     PLUMB_DATA_SFT,
     "instruction, input and output (alpaca), read as prompt and completion",
     "sft, logprob, gradient"},
    {{"ids", "prompt_tokens"}, PLUMB_DATA_SFT, "ids and prompt_tokens", "sft, logprob, gradient"},
    {{"prompt"}, PLUMB_DATA_PROMPTS, "prompt", "align, generate, eval"},
    {{"prompt_ids"}, PLUMB_DATA_PROMPTS, "prompt_ids", "align, generate"},
    {{"text"}, PLUMB_DATA_TEXTS, "text", "sft, tokenize, logprob, score"},
};
enum { SHAPES = sizeof(shapes) / sizeof(shapes[0]), MOST_FIELDS = 24 };

struct field {
    char name[64];
    int64_t n, type[PLUMB_JSON_OBJECT + 1];
    struct plumb_inspect_span bytes; /* sizes in bytes of the values that are strings */
};

struct records {
    const char *path;
    int64_t n, of[SHAPES + 1]; /* records of each shape; the last entry: records of no shape */
    struct field field[MOST_FIELDS];
    int n_fields;
    int64_t more; /* number of members that do not fit in `field` */
};

static int shape_of(const plumb_json *v)
{
    for (int i = 0; i < SHAPES; i++) {
        int k = 0;
        while (k < 3 && shapes[i].member[k] && plumb_json_get(v, shapes[i].member[k]))
            k++;
        if (k == 3 || !shapes[i].member[k])
            return i;
    }
    return SHAPES;
}

static void add_field(struct records *r, const char *name, const plumb_json *v)
{
    int i = 0;
    while (i < r->n_fields && strcmp(r->field[i].name, name) != 0)
        i++;
    if (i == MOST_FIELDS) {
        r->more++;
        return;
    }
    struct field *f = &r->field[i];
    if (i == r->n_fields) {
        snprintf(f->name, sizeof(f->name), "%s", name);
        r->n_fields++;
    }
    const enum plumb_json_type type = plumb_json_type_of(v);
    f->n++;
    f->type[type]++;
    if (type == PLUMB_JSON_STRING)
        plumb_inspect_span_add(&f->bytes, plumb_json_string_len(v));
}

static plumb_status add_record(void *arg, const char *line, int64_t len, int64_t number)
{
    struct records *r = arg;
    char where[4200];
    plumb_json *v = NULL;
    int64_t blank = 0;
    while (blank < len && strchr(" \t\r", line[blank]) && line[blank])
        blank++;
    if (blank == len)
        return PLUMB_OK;
    snprintf(where, sizeof(where), "%.4100s:%lld", r->path, (long long)number);
    PLUMB_TRY(plumb_json_parse(&v, line, len, where));
    plumb_status st = PLUMB_OK;
    if (plumb_json_type_of(v) != PLUMB_JSON_OBJECT)
        st = plumb_fail_at(PLUMB_ERR_FORMAT, __FILE__, __LINE__,
                           "%s: is a JSON %s, expected an object, a record a line", where,
                           plumb_json_type_name(plumb_json_type_of(v)));
    for (int64_t i = 0; i < plumb_json_count(v) && st == PLUMB_OK; i++) {
        const char *key;
        const plumb_json *value;
        st = plumb_json_member_at(v, i, &key, &value);
        if (st == PLUMB_OK)
            add_field(r, key, value);
    }
    r->n++;
    r->of[shape_of(v)]++;
    plumb_json_free(&v);
    return st;
}

static plumb_status print_fields(const struct records *r)
{
    struct plumb_buf text = {0};
    plumb_status st = PLUMB_OK;
    for (int i = 0; i < r->n_fields; i++) {
        const struct field *f = &r->field[i];
        plumb_buf_clear(&text);
        PLUMB_TRY_GOTO(st, plumb_buf_addf(&text, "%s: ", f->name), done);
        bool first = true;
        for (int t = 0; t <= PLUMB_JSON_OBJECT; t++) {
            if (!f->type[t])
                continue;
            PLUMB_TRY_GOTO(st,
                           plumb_buf_addf(&text, "%s%s in %lld", first ? "" : ", ",
                                          plumb_json_type_name((enum plumb_json_type)t),
                                          (long long)f->type[t]),
                           done);
            first = false;
        }
        if (f->bytes.n) {
            PLUMB_TRY_GOTO(st, plumb_buf_add_text(&text, "; bytes "), done);
            PLUMB_TRY_GOTO(st, plumb_inspect_span_put(&text, &f->bytes), done);
        }
        plumb_inspect_row(i ? "" : "fields", "%s", plumb_buf_text(&text));
    }
    if (r->more)
        plumb_inspect_row("", "and others, %lld time%s", (long long)r->more, plumb_plural(r->more));
done:
    plumb_buf_fini(&text);
    return st;
}

static plumb_status print_span(const char *name, const char *what, struct plumb_inspect_span s)
{
    struct plumb_buf text = {0};
    const plumb_status st = plumb_inspect_span_put(&text, &s);
    if (st == PLUMB_OK && s.n)
        plumb_inspect_row(name, "%s %s, together %lld", what, plumb_buf_text(&text),
                          (long long)s.sum);
    plumb_buf_fini(&text);
    return st;
}

static plumb_status print_tokens(const struct plumb_dataset *d, enum plumb_data_kind kind,
                                 const char *dir)
{
    struct plumb_inspect_span part[3] = {{0}, {0}, {0}};
    for (int64_t i = 0; i < d->n; i++) {
        const struct plumb_record *r = &d->record[i];
        plumb_inspect_span_add(&part[0], r->prompt.n);
        for (int k = 0; k < 2; k++)
            if (r->completion[k].n)
                plumb_inspect_span_add(&part[1 + k], r->completion[k].n);
    }
    const bool pairs = kind == PLUMB_DATA_PAIRS;
    plumb_inspect_row("tokens", "by the tokenizer in %s", dir);
    PLUMB_TRY(print_span("", kind == PLUMB_DATA_TEXTS ? "text" : "prompt", part[0]));
    PLUMB_TRY(print_span("", pairs ? "chosen" : "completion", part[1]));
    return print_span("", "rejected", part[2]);
}

/* ---- the first records, in the form that a model reads --------------------------------------- */

enum { FIRST_RECORDS = 3, SHOWN_BYTES = 600 };

/* Prints one row: the text of n token ids as a JSON string. A text above SHOWN_BYTES is cut. */
static plumb_status print_part(const char *name, const plumb_tokenizer *t, const int32_t *ids,
                               int64_t n, struct plumb_buf *text, struct plumb_buf *row)
{
    plumb_buf_clear(text);
    plumb_buf_clear(row);
    if (n == 0)
        return PLUMB_OK;
    PLUMB_TRY(plumb_tokenizer_decode(t, text, ids, n, false));
    const int64_t most = plumb_min_i64(text->len, SHOWN_BYTES);
    PLUMB_TRY(plumb_json_put_string(row, plumb_buf_text(text),
                                    plumb_utf8_valid(plumb_buf_text(text), most)));
    plumb_inspect_row(name, "%s%s", plumb_buf_text(row), most < text->len ? " ..." : "");
    return PLUMB_OK;
}

/* Prints the tokens of an answer. Tokens that the loss covers and other tokens are in separate
 * rows. */
static plumb_status print_answer(const char *name, const plumb_tokenizer *t,
                                 const struct plumb_record *r, int side, struct plumb_buf *text,
                                 struct plumb_buf *row)
{
    const struct plumb_piece *c = &r->completion[side];
    for (int64_t i = 0, end; i < c->n; i = end) {
        const bool trained = !r->trained || r->trained[i];
        for (end = i + 1; end < c->n && r->trained && (r->trained[end] != 0) == trained;)
            end++;
        if (!r->trained)
            end = c->n;
        PLUMB_TRY(print_part(trained ? name : "  context", t, c->ids + i, end - i, text, row));
    }
    return PLUMB_OK;
}

static plumb_status print_first(const struct plumb_dataset *d, enum plumb_data_kind kind,
                                const plumb_tokenizer *t)
{
    struct plumb_buf text = {0}, row = {0};
    const bool pairs = kind == PLUMB_DATA_PAIRS;
    plumb_status st = PLUMB_OK;
    for (int64_t i = 0; i < plumb_min_i64(d->n, FIRST_RECORDS) && st == PLUMB_OK; i++) {
        const struct plumb_record *r = &d->record[i];
        char name[32];
        snprintf(name, sizeof(name), "line %lld", (long long)r->line);
        st = print_part(name, t, r->prompt.ids, r->prompt.n, &text, &row);
        if (st == PLUMB_OK)
            st = print_answer(pairs ? "  chosen" : "  trained", t, r, 0, &text, &row);
        if (st == PLUMB_OK)
            st = print_answer("  rejected", t, r, 1, &text, &row);
    }
    plumb_buf_fini(&text);
    plumb_buf_fini(&row);
    return st;
}

/* Reads the file with the reader of the training commands, so that inspect reports the same errors.
 * With a tokenizer, prints the numbers of tokens and the first record. */
static plumb_status read_records(const struct plumb_inspect *w, enum plumb_data_kind kind)
{
    struct plumb_dataset *d = NULL;
    plumb_tokenizer *t = NULL;
    char dir[4096];
    plumb_status st;
    struct plumb_chat_setting chat = {0};
    PLUMB_TRY(plumb_inspect_open_words(&t, dir, w));
    if (t)
        PLUMB_TRY_GOTO(st, plumb_chat_open_folder(&chat, dir), done);
    const struct plumb_data_options options = {.kind = kind,
                                               .tokenizer = t,
                                               .chat = &chat,
                                               .append_eos = t && plumb_tokenizer_eos(t) >= 0,
                                               .blank_lines = true};
    PLUMB_TRY_GOTO(st, plumb_dataset_open(&d, w->path, &options), done);
    if (t) {
        PLUMB_TRY_GOTO(st, print_tokens(d, kind, dir), done);
        if (chat.template)
            plumb_inspect_row("messages", "go through the chat template in %s", dir);
        st = print_first(d, kind, t);
    } else
        plumb_inspect_row("tokens", "counted with tokenizer=DIR");
done:
    plumb_chat_close(&chat);
    plumb_dataset_close(&d);
    plumb_tokenizer_close(&t);
    return st;
}

static plumb_status print_records(const struct plumb_inspect *w, const struct records *r)
{
    int used = 0, last = SHAPES;
    plumb_inspect_head(w, "JSON lines, %lld record%s", (long long)r->n, plumb_plural(r->n));
    for (int i = 0; i < SHAPES; i++)
        if (r->of[i]) {
            plumb_inspect_row("records", "%lld of %s", (long long)r->of[i], shapes[i].name);
            plumb_inspect_row("read by", "%s", shapes[i].readers);
            used++;
            last = i;
        }
    if (r->of[SHAPES])
        plumb_inspect_row("records", "%lld of no shape that plumb reads", (long long)r->of[SHAPES]);
    PLUMB_TRY(print_fields(r));
    if (used == 1 && !r->of[SHAPES])
        return read_records(w, shapes[last].kind);
    if (used > 1)
        plumb_inspect_row("note", "a command reads one of these shapes and refuses the others");
    return PLUMB_OK;
}

plumb_status plumb_inspect_lines(const struct plumb_inspect *w)
{
    struct records *r = calloc(1, sizeof(*r));
    PLUMB_REQUIRE(r, PLUMB_ERR_NOMEM, "the fields of %s", w->path);
    r->path = w->path;
    plumb_status st = plumb_file_lines(w->path, add_record, r);
    if (st == PLUMB_OK)
        st = print_records(w, r);
    free(r);
    return st;
}

/* ---- metrics and plain text ------------------------------------------------------------------ */

plumb_status plumb_inspect_metrics(const struct plumb_inspect *w)
{
    struct plumb_metrics_row *row = NULL;
    int64_t n = 0;
    PLUMB_TRY(plumb_metrics_read(&row, &n, w->path));
    if (n > 0) {
        const struct plumb_metrics_row *a = &row[0], *b = &row[n - 1];
        plumb_inspect_head(w, "metrics of a run, %lld line%s, steps %lld to %lld", (long long)n,
                           plumb_plural(n), (long long)a->step, (long long)b->step);
        if (b->iteration > 0)
            plumb_inspect_row("iterations", "%lld to %lld", (long long)a->iteration,
                              (long long)b->iteration);
        for (int i = 0; i < PLUMB_METRIC_COUNT; i++)
            if (a->set[i] && b->set[i])
                plumb_inspect_row("", "%-28s %12.6g at first, %12.6g at last  %s",
                                  plumb_metric_info(i)->name, a->value[i], b->value[i],
                                  plumb_metric_info(i)->unit);
        if (b->weights)
            plumb_inspect_row("weights", "%016" PRIx64 " after the last step", b->weights);
    } else {
        plumb_inspect_head(w, "metrics of a run, no whole line");
    }
    free(row);
    return PLUMB_OK;
}

static plumb_status count_line(void *arg, const char *line, int64_t len, int64_t number)
{
    (void)line;
    (void)len;
    *(int64_t *)arg = number;
    return PLUMB_OK;
}

plumb_status plumb_inspect_text(const struct plumb_inspect *w)
{
    struct plumb_buf text = {0};
    struct plumb_ids ids = {0};
    plumb_tokenizer *t = NULL;
    char dir[4096];
    int64_t lines = 0;
    plumb_status st;
    PLUMB_TRY_GOTO(st, plumb_file_read(&text, w->path), done);
    const int64_t valid = plumb_utf8_valid(plumb_buf_text(&text), text.len);
    if (valid < text.len)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_UNSUPPORTED, done,
                        "%s: is a text that is not UTF-8 (byte %lld)", w->path, (long long)valid);
    PLUMB_TRY_GOTO(st, plumb_text_lines(plumb_buf_text(&text), text.len, count_line, &lines), done);
    plumb_inspect_head(w, "plain text, %lld line%s, %lld bytes", (long long)lines,
                       plumb_plural(lines), (long long)text.len);
    plumb_inspect_row("read as", "method.principles, method.contrary or a file of words");
    PLUMB_TRY_GOTO(st, plumb_inspect_open_words(&t, dir, w), done);
    if (!t)
        goto done;
    PLUMB_TRY_GOTO(st, plumb_tokenizer_encode(t, &ids, plumb_buf_text(&text), text.len, false),
                   done);
    plumb_inspect_row("tokens", "%lld by the tokenizer in %s", (long long)ids.n, dir);
done:
    plumb_tokenizer_close(&t);
    plumb_ids_fini(&ids);
    plumb_buf_fini(&text);
    return st;
}
