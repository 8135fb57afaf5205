/* dataset.c - reads JSONL data sets with the record shapes of TRL, renders and tokenises them.
 * Layer 4. Includes base/, io/, text/. */
#include "data/dataset.h"

#include <stdalign.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "data/encode.h"
#include "data/first_line.h"
#include "data/overlong.h"
#include "data/record.h"
#include "io/file.h"

#define BLOCK_BYTES (1 << 20)

/* A memory block for texts and token ids. The block is never moved, so records can point into it.
 */
struct plumb_data_block {
    struct plumb_data_block *next;
    int64_t used, cap;
    alignas(8) char bytes[];
};

struct reader {
    struct plumb_dataset *set;
    int64_t cap;
    const char *path;
    const struct plumb_data_options *o;
    struct plumb_draft draft;
    struct plumb_encoder encoder;
    struct plumb_encoder
        plain;               /* encodes text that a chat template wrote; adds no special tokens */
    struct plumb_ids ids[2]; /* token ids of the prompt with each completion */
    struct plumb_buf text;
    int64_t left_out; /* number of records that data.skip has left out so far */
    int64_t blank;    /* line number of the first blank line, or 0 */
    /* number of records whose answer begins with the whole prompt, and line number of the first
     * such record */
    int64_t echoes, echo_line;
};

static plumb_status keep(void **out, struct plumb_dataset *d, const void *bytes, int64_t n)
{
    const int64_t need = (n + 7) / 8 * 8;
    struct plumb_data_block *b = d->blocks;
    if (!b || b->cap - b->used < need) {
        const int64_t cap = need > BLOCK_BYTES ? need : BLOCK_BYTES;
        b = malloc(sizeof *b + (size_t)cap);
        PLUMB_REQUIRE(b, PLUMB_ERR_NOMEM, "cannot store %lld bytes of the data set",
                      (long long)cap);
        *b = (struct plumb_data_block){.next = d->blocks, .cap = cap};
        d->blocks = b;
    }
    *out = b->bytes + b->used;
    b->used += need;
    if (n)
        memcpy(*out, bytes, (size_t)n);
    return PLUMB_OK;
}

static plumb_status keep_text(const char **out, struct plumb_dataset *d, const struct plumb_buf *b)
{
    void *at = NULL;
    PLUMB_TRY(keep(&at, d, plumb_buf_text(b), b->len + 1));
    *out = at;
    return PLUMB_OK;
}

static plumb_status keep_json(struct plumb_record *rec, struct plumb_dataset *set,
                              const struct plumb_draft *d)
{
    void *at = NULL;
    PLUMB_TRY(keep(&at, set, d->json.text, d->json.len));
    rec->json = (struct plumb_columns){at, d->json.len};
    return d->asked.len ? keep_text(&rec->asked, set, &d->asked) : PLUMB_OK;
}

static plumb_status keep_ids(struct plumb_piece *p, struct plumb_dataset *d, const int32_t *ids,
                             int64_t n)
{
    void *at = NULL;
    PLUMB_TRY(keep(&at, d, ids, n * (int64_t)sizeof *ids));
    p->ids = at;
    p->n = n;
    return PLUMB_OK;
}

static plumb_status keep_piece_text(struct plumb_piece *p, struct reader *r,
                                    const struct plumb_buf *text)
{
    PLUMB_TRY(keep_text(&p->text, r->set, text));
    p->len = text->len;
    return PLUMB_OK;
}

/* Sets *p to the text of a prompt that a model continues and, if there is a tokenizer, its tokens.
 */
static plumb_status keep_prompt(struct plumb_piece *p, struct reader *r,
                                const struct plumb_buf *text)
{
    PLUMB_TRY(keep_piece_text(p, r, text));
    if (!r->o->tokenizer)
        return PLUMB_OK;
    PLUMB_TRY(plumb_encode_prompt(r->draft.by_template ? &r->plain : &r->encoder, &r->ids[0],
                                  p->text, p->len));
    return keep_ids(p, r->set, r->ids[0].id, r->ids[0].n);
}

/* Sets *p to a text without a completion, which a model reads but does not continue, and, if there
 * is a tokenizer, its tokens. */
static plumb_status keep_whole(struct plumb_piece *p, struct reader *r,
                               const struct plumb_buf *text)
{
    int64_t begin[2];
    PLUMB_TRY(keep_piece_text(p, r, text));
    if (!r->o->tokenizer)
        return PLUMB_OK;
    const struct plumb_part whole = {p->text, p->len};
    PLUMB_TRY(r->draft.by_template ? plumb_encode_prompt(&r->plain, &r->ids[0], p->text, p->len)
              : r->o->kind == PLUMB_DATA_TEXTS
                  ? plumb_encode_text(&r->encoder, &r->ids[0], p->text, p->len)
                  : plumb_encode(&r->encoder, &r->ids[0], begin, NULL, &whole, 1));
    return keep_ids(p, r->set, r->ids[0].id, r->ids[0].n);
}

/* Encodes the prompt together with each completion. If the completions begin at different token
 * indices, the smallest index is used for all of them, so that the record has one prompt (like
 * TRL's DPOTrainer). */
static plumb_status keep_joined(struct plumb_record *rec, struct reader *r)
{
    const int n = r->draft.completions;
    int64_t first = INT64_MAX;
    bool any_cut = false;
    for (int i = 0; i < n; i++) {
        const struct plumb_part part[2] = {
            {rec->prompt.text, rec->prompt.len},
            {rec->completion[i].text, rec->completion[i].len},
        };
        int64_t begin[3];
        bool cut;
        const struct plumb_part whole = {plumb_buf_text(&r->draft.whole[i]), r->draft.whole[i].len};
        PLUMB_TRY(
            r->draft.by_template
                ? plumb_encode_rendered(&r->plain, &r->ids[i], &begin[1], &cut, part[0], whole)
                : plumb_encode(&r->encoder, &r->ids[i], begin, &cut, part, 2));
        first = plumb_min_i64(first, begin[1]);
        any_cut |= cut;
    }
    if (any_cut && r->set->cut++ == 0)
        r->set->cut_line = rec->line;
    for (int i = 0; i < n; i++) {
        struct plumb_piece whole = {0}, *c = &rec->completion[i];
        PLUMB_TRY(keep_ids(&whole, r->set, r->ids[i].id, r->ids[i].n));
        c->ids = whole.ids + first;
        c->n = whole.n - first;
        rec->context.ids = whole.ids;
        rec->context.n = first;
    }
    if (r->o->kind != PLUMB_DATA_PROMPTS) {
        rec->prompt.ids = rec->context.ids;
        rec->prompt.n = rec->context.n;
    }
    return PLUMB_OK;
}

/* Stores a record whose loss covers some of its tokens. The completion begins at the first of these
 * tokens after token 0. mask (r->ids[0].n,) marks them. If mask is NULL, the loss covers all tokens
 * but the first, because no token predicts the first one. */
static plumb_status keep_trained(struct plumb_record *rec, struct reader *r, unsigned char *mask)
{
    const int64_t n = r->ids[0].n;
    int64_t first = plumb_min_i64(n, 1), trained = 0;
    void *at = NULL;
    struct plumb_piece whole = {0};
    while (mask && first < n && !mask[first])
        first++;
    for (int64_t i = first; mask && i < n; i++)
        trained += mask[i];
    PLUMB_TRY(keep_ids(&whole, r->set, r->ids[0].id, n));
    rec->context = (struct plumb_piece){.ids = whole.ids, .n = first};
    rec->prompt.ids = whole.ids;
    rec->prompt.n = first;
    rec->completion[0].ids = whole.ids + first;
    rec->completion[0].n = n - first;
    if (!mask || trained == n - first)
        return PLUMB_OK;
    PLUMB_TRY(keep(&at, r->set, mask + first, n - first));
    rec->trained = at;
    rec->n_trained = trained;
    return PLUMB_OK;
}

/* Stores a conversation and marks the tokens of the turns that the loss covers. */
static plumb_status keep_spans(struct plumb_record *rec, struct reader *r)
{
    const struct plumb_draft *d = &r->draft;
    const struct plumb_part whole = {plumb_buf_text(&d->whole[0]), d->whole[0].len};
    PLUMB_TRY(keep_piece_text(&rec->prompt, r, &d->whole[0]));
    if (!r->o->tokenizer)
        return PLUMB_OK;
    PLUMB_TRY(plumb_encode_prompt(&r->plain, &r->ids[0], whole.text, whole.len));
    unsigned char *mask = malloc((size_t)r->ids[0].n + 1);
    PLUMB_REQUIRE(mask, PLUMB_ERR_NOMEM, "cannot store the mask of %lld tokens",
                  (long long)r->ids[0].n);
    plumb_status st =
        plumb_encode_mask(&r->plain, mask, &r->ids[0], whole, d->spans.span, d->spans.n);
    if (st == PLUMB_OK)
        st = keep_trained(rec, r, mask);
    free(mask);
    return st;
}

/* Stores a text of which the loss covers all tokens: the prompt followed by the completion, if
 * there is one. */
static plumb_status keep_all(struct plumb_record *rec, struct reader *r)
{
    const struct plumb_draft *d = &r->draft;
    PLUMB_TRY(
        plumb_buf_add(&r->draft.prompt, plumb_buf_text(&d->completion[0]), d->completion[0].len));
    r->draft.completions = 0;
    PLUMB_TRY(keep_whole(&rec->prompt, r, &d->prompt));
    return r->o->tokenizer ? keep_trained(rec, r, NULL) : PLUMB_OK;
}

static plumb_status keep_given_ids(struct plumb_record *rec, struct reader *r)
{
    const struct plumb_draft *d = &r->draft;
    const int64_t first = d->prompt_tokens;
    PLUMB_TRY(keep_ids(&rec->prompt, r->set, d->ids.id, first));
    rec->context = rec->prompt;
    if (r->o->tokenizer && (r->o->kind == PLUMB_DATA_PROMPTS || r->o->whole)) {
        plumb_buf_clear(&r->text);
        PLUMB_TRY(plumb_decode_prompt(r->o->tokenizer, &r->text, d->ids.id, first));
        PLUMB_TRY(keep_piece_text(&rec->prompt, r, &r->text));
    }
    if (r->o->tokenizer && r->o->whole && d->completions > 0) {
        plumb_buf_clear(&r->text);
        PLUMB_TRY(plumb_decode_completion(r->o->tokenizer, &r->text, d->ids.id, first,
                                          d->ids.id + first, d->ids.n - first));
        PLUMB_TRY(keep_piece_text(&rec->completion[0], r, &r->text));
    }
    return keep_ids(&rec->completion[0], r->set, d->ids.id + first, d->ids.n - first);
}

static plumb_status check_trained(const struct reader *r, const struct plumb_record *rec,
                                  const char *where)
{
    const enum plumb_data_kind kind = r->o->kind;
    const bool trained = r->o->tokenizer && (kind == PLUMB_DATA_SFT || kind == PLUMB_DATA_PAIRS);
    const int n = r->draft.all ? 1 : r->draft.completions;
    PLUMB_REQUIRE(!trained || !rec->trained || rec->n_trained > 0, PLUMB_ERR_FORMAT,
                  "%s: the assistant's turns have no tokens; there is nothing to train on", where);
    for (int i = 0; i < n && trained; i++)
        PLUMB_REQUIRE(rec->completion[i].n > 0, PLUMB_ERR_FORMAT,
                      "%s: %s has no token that the loss could cover: it is empty, or the whole "
                      "text is only one token, and no end token was added (data.append_eos)",
                      where,
                      kind == PLUMB_DATA_SFT ? "the completion"
                      : i                    ? "\"rejected\""
                                             : "\"chosen\"");
    return PLUMB_OK;
}

static plumb_status keep_record(struct plumb_record *rec, struct reader *r, const char *where)
{
    const struct plumb_draft *d = &r->draft;
    const enum plumb_data_kind kind = r->o->kind;
    r->encoder.where = r->plain.where = where;
    if (d->has_id)
        PLUMB_TRY(keep_text(&rec->id, r->set, &d->id));
    if (d->has_solution)
        PLUMB_TRY(keep_text(&rec->solution, r->set, &d->solution));
    rec->solution_len = d->solution.len;
    if (r->o->whole)
        PLUMB_TRY(keep_json(rec, r->set, d));
    if (d->by_ids)
        return keep_given_ids(rec, r);
    if (d->spans.n > 0)
        PLUMB_TRY(keep_spans(rec, r));
    else if (d->all)
        PLUMB_TRY(keep_all(rec, r));
    else if (kind == PLUMB_DATA_PROMPTS)
        PLUMB_TRY(keep_prompt(&rec->prompt, r, &d->prompt));
    else if (d->completions == 0)
        PLUMB_TRY(keep_whole(&rec->prompt, r, &d->prompt));
    else
        PLUMB_TRY(keep_piece_text(&rec->prompt, r, &d->prompt));
    if (r->o->principle && d->principled.len)
        PLUMB_TRY(keep_prompt(&rec->principled, r, &d->principled));
    if (r->o->contrary && d->contrary.len)
        PLUMB_TRY(keep_prompt(&rec->contrary, r, &d->contrary));
    for (int i = 0; i < d->completions; i++)
        PLUMB_TRY(keep_piece_text(&rec->completion[i], r, &d->completion[i]));
    if (r->o->tokenizer && d->completions > 0 && d->spans.n == 0)
        PLUMB_TRY(keep_joined(rec, r));
    return check_trained(r, rec, where);
}

static plumb_status add_record(struct reader *r, int64_t line_no, const char *where)
{
    struct plumb_dataset *d = r->set;
    if (d->n == r->cap) {
        const int64_t cap = r->cap ? r->cap * 2 : 256;
        void *more = realloc(d->record, (size_t)cap * sizeof *d->record);
        PLUMB_REQUIRE(more, PLUMB_ERR_NOMEM, "%s: cannot store %lld records", where,
                      (long long)cap);
        d->record = more;
        r->cap = cap;
    }
    struct plumb_record *rec = &d->record[d->n];
    *rec = (struct plumb_record){.line = line_no, .score = {r->draft.score[0], r->draft.score[1]}};
    bool ok;
    PLUMB_TRY(keep_record(rec, r, where));
    PLUMB_TRY(plumb_overlong_fit(&ok, d, rec, r->o, where));
    d->n += ok;
    d->last_turns += ok && r->draft.earlier;
    return PLUMB_OK;
}

static bool blank(const char *line, int64_t len)
{
    for (int64_t i = 0; i < len; i++)
        if (!strchr(" \t\r", line[i]) || !line[i])
            return false;
    return true;
}

static struct plumb_columns trim(const char *line, int64_t len)
{
    while (len > 0 && strchr(" \t\r", line[len - 1]))
        len--;
    while (len > 0 && strchr(" \t\r", *line)) {
        line++;
        len--;
    }
    return (struct plumb_columns){line, len};
}

/* Returns true if the completion, or the chosen answer, of a record of plain texts begins with the
 * whole prompt. Prompts of less than 8 bytes do not count, because answers may begin with them by
 * chance. */
static bool repeats_prompt(const plumb_json *line)
{
    static const char *const answer[] = {"completion", "chosen"};
    const char *prompt = plumb_json_string(plumb_json_get(line, "prompt"), "");
    const size_t n = strlen(prompt);
    for (int i = 0; i < 2 && n >= 8; i++)
        if (strncmp(plumb_json_string(plumb_json_get(line, answer[i]), ""), prompt, n) == 0)
            return true;
    return false;
}

static plumb_status read_line(void *arg, const char *line, int64_t len, int64_t line_no)
{
    struct reader *r = arg;
    if (r->o->limit && r->set->n + r->set->skipped >= r->o->limit)
        return PLUMB_OK;
    if (len >= 3 && memcmp(line, "\xEF\xBB\xBF", 3) == 0) {
        PLUMB_REQUIRE(line_no == 1, PLUMB_ERR_FORMAT,
                      "%s:%lld: the line begins with a byte order mark (EF BB BF), as where files "
                      "were joined; remove it",
                      r->path, (long long)line_no);
        line += 3;
        len -= 3;
    }
    if (blank(line, len)) {
        if (!r->blank)
            r->blank = line_no;
        return PLUMB_OK;
    }
    PLUMB_REQUIRE(!r->blank || r->o->blank_lines, PLUMB_ERR_FORMAT,
                  "%s:%lld: the line is blank, expected a JSON object", r->path,
                  (long long)r->blank);
    if (r->left_out < r->o->skip) {
        r->left_out++;
        return PLUMB_OK;
    }
    if (line_no == 1)
        PLUMB_TRY(plumb_first_line_check(r->path, line, len));
    char where[512];
    snprintf(where, sizeof where, "%.480s:%lld", r->path, (long long)line_no);
    plumb_json *root = NULL;
    plumb_status st = PLUMB_OK;
    PLUMB_TRY_GOTO(st, plumb_json_parse(&root, line, len, where), fail);
    r->draft.json = trim(line, len);
    PLUMB_TRY_GOTO(st, plumb_record_read(&r->draft, root, r->o, where), fail);
    PLUMB_TRY_GOTO(st, add_record(r, line_no, where), fail);
    if (repeats_prompt(root))
        r->echo_line = r->echoes++ ? r->echo_line : line_no;
fail:
    plumb_json_free(&root);
    return st;
}

static void report_merged_prompts(const struct reader *r)
{
    if (r->set->cut > 0)
        plumb_log(
            PLUMB_LOG_INFO,
            "%s: in %lld of %lld records (first in line %lld) the tokenizer merges the end of the "
            "prompt with the beginning of the completion: these tokens count as completion. "
            "To avoid this, end the prompt at a token boundary, not with a space",
            r->path, (long long)r->set->cut, (long long)(r->set->n + r->set->skipped),
            (long long)r->set->cut_line);
}

static void say_turns(const struct reader *r)
{
    if (r->set->last_turns > 0)
        plumb_log(
            PLUMB_LOG_INFO,
            "%s: %lld record%s several messages of the assistant: the loss covers only the last "
            "one, because no chat template is used",
            r->path, (long long)r->set->last_turns, r->set->last_turns == 1 ? " has" : "s have");
}

/* Warns if the answers of all records begin with their prompts. */
static void say_echoes(const struct reader *r)
{
    if ((r->o->kind == PLUMB_DATA_SFT || r->o->kind == PLUMB_DATA_PAIRS) && r->echoes > 0 &&
        r->echoes == r->set->n + r->set->skipped)
        plumb_log_alike("%s:%lld: the answer begins with the whole prompt, as in every record of "
                        "the file: the model would read the prompt twice; leave the prompt out of "
                        "\"completion\" (\"chosen\", \"rejected\")",
                        r->path, (long long)r->echo_line);
}

/* Reads the data set *out from the file `path`. If text is not NULL, reads these len bytes instead;
 * path is then only the name for messages. */
static plumb_status read_all(struct plumb_dataset **out, const char *path, const char *text,
                             int64_t len, const struct plumb_data_options *options)
{
    struct reader r = {.path = strcmp(path, "-") == 0 ? "standard input" : path,
                       .o = options,
                       .encoder = {.tokenizer = options->tokenizer,
                                   .no_special = options->no_special,
                                   .append_eos = options->append_eos},
                       .plain = {.tokenizer = options->tokenizer, .no_special = true}};
    plumb_status st = PLUMB_OK;
    *out = NULL;
    PLUMB_TRY(plumb_record_check(options));
    r.set = calloc(1, sizeof *r.set);
    PLUMB_REQUIRE(r.set, PLUMB_ERR_NOMEM, "cannot read the data set %s", path);
    if (text)
        PLUMB_TRY_GOTO(st, plumb_text_lines(text, len, read_line, &r), fail);
    else
        PLUMB_TRY_GOTO(st, plumb_file_lines(path, read_line, &r), fail);
    if (r.set->n == 0 && r.set->skipped == 0)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_FORMAT, fail, "%s: the file has no records%s", r.path,
                        r.left_out > 0 ? " after those that data.skip leaves out" : "");
    if (r.set->n == 0)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_ARG, fail,
                        "%s: no record is left: %s too long%s (data.max_prompt_tokens %lld, "
                        "data.max_tokens %lld; 0: no limit)",
                        r.path, r.set->skipped == 1 ? "the only one is" : "each of them is",
                        options->overlong == PLUMB_OVERLONG_DROP
                            ? ""
                            : ", and cut to the limit it has no token to train on",
                        (long long)options->max_prompt_tokens, (long long)options->max_tokens);
    plumb_misspelt_say(&r.draft.misspelt);
    report_merged_prompts(&r);
    plumb_overlong_say(r.set, options, r.path);
    say_turns(&r);
    say_echoes(&r);
    *out = r.set;
    r.set = NULL;
fail:
    plumb_draft_fini(&r.draft);
    plumb_encoder_fini(&r.encoder);
    plumb_encoder_fini(&r.plain);
    plumb_ids_fini(&r.ids[0]);
    plumb_ids_fini(&r.ids[1]);
    plumb_buf_fini(&r.text);
    plumb_dataset_close(&r.set);
    return st;
}

plumb_status plumb_dataset_open(struct plumb_dataset **out, const char *path,
                                const struct plumb_data_options *options)
{
    return read_all(out, path, NULL, 0, options);
}

plumb_status plumb_dataset_parse(struct plumb_dataset **out, const char *text, int64_t len,
                                 const char *name, const struct plumb_data_options *options)
{
    return read_all(out, name, text, len, options);
}

plumb_status plumb_dataset_blank(struct plumb_dataset **out, int64_t n, int64_t prompt_tokens,
                                 int64_t completion_tokens)
{
    struct plumb_dataset *d = calloc(1, sizeof(*d));
    *out = d;
    if (d)
        d->record = calloc((size_t)n, sizeof(*d->record));
    if (!d || !d->record) {
        plumb_dataset_close(out);
        PLUMB_FAIL(PLUMB_ERR_NOMEM, "cannot create %lld blank records", (long long)n);
    }
    d->n = n;
    for (int64_t i = 0; i < n; i++) {
        d->record[i].prompt.n = prompt_tokens;
        for (int c = 0; c < 2; c++)
            d->record[i].completion[c].n = completion_tokens;
    }
    return PLUMB_OK;
}

int64_t plumb_dataset_longest(const struct plumb_dataset *d)
{
    int64_t longest = 0;
    for (int64_t i = 0; i < d->n; i++)
        longest = plumb_max_i64(longest, d->record[i].prompt.n);
    return longest;
}

void plumb_dataset_close(struct plumb_dataset **d)
{
    if (!*d)
        return;
    for (struct plumb_data_block *b = (*d)->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free((*d)->record);
    free(*d);
    *d = NULL;
}
