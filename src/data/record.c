/* record.c - reads the texts of one JSON record according to its shape.
 * Layer 4. Includes base/, io/, text/. */
#include "data/record.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/template.h"

#define CHAT_MAX  4096
#define PRINCIPLE "{principle}"
#define PROMPT    "{prompt}"
#define CONTENT   "{content}"

/* The messages of a field that is a plain string or a list of messages; a string becomes one
 * message. The texts are borrowed from the JSON tree. */
struct talk {
    struct plumb_message *message;
    int64_t n;
};

static void talk_fini(struct talk *t)
{
    free(t->message);
    *t = (struct talk){0};
}

static const char *found(const plumb_json *v)
{
    return v ? plumb_json_type_name(plumb_json_type_of(v)) : "nothing";
}

/* Sets *out to the text of a string. A NUL inside is refused, because it would silently cut the
 * text. */
static plumb_status take_text(const char **out, const plumb_json *v, const char *key,
                              const char *where)
{
    *out = plumb_json_string(v, "");
    PLUMB_REQUIRE((int64_t)strlen(*out) == plumb_json_string_len(v), PLUMB_ERR_FORMAT,
                  "%s: field \"%s\": the text contains a NUL character at byte %lld", where, key,
                  (long long)strlen(*out));
    return PLUMB_OK;
}

/* Returns true if the loss covers records of this kind. */
static bool is_trained_on(const struct plumb_data_options *o)
{
    return o->kind == PLUMB_DATA_SFT || o->kind == PLUMB_DATA_PAIRS;
}

/* Reads the role and content of one message. answer is true for the last message of any field but
 * "prompt". For SFT and PAIRS the loss covers such a message, so its other members are checked more
 * strictly than those of a prompt's message (data/fields.h). */
static plumb_status read_message(struct plumb_draft *d, struct plumb_message *m,
                                 const plumb_json *v, int64_t i, const char *key, bool answer,
                                 const struct plumb_data_options *o, const char *where)
{
    const plumb_json *role = plumb_json_get(v, "role"), *content = plumb_json_get(v, "content");
    PLUMB_REQUIRE(plumb_json_type_of(v) == PLUMB_JSON_OBJECT, PLUMB_ERR_FORMAT,
                  "%s: field \"%s\"[%lld]: found %s, expected a message "
                  "{\"role\", \"content\"}",
                  where, key, (long long)i, found(v));
    PLUMB_REQUIRE(plumb_json_type_of(role) == PLUMB_JSON_STRING, PLUMB_ERR_FORMAT,
                  "%s: field \"%s\"[%lld].role: found %s, expected a string", where, key,
                  (long long)i, found(role));
    char at[64];
    snprintf(at, sizeof(at), "%.32s[%lld].", key, (long long)i);
    PLUMB_TRY(plumb_fields_check_message(v, at, answer && is_trained_on(o), is_trained_on(o), NULL,
                                         &d->named, where));
    PLUMB_REQUIRE(plumb_json_type_of(content) == PLUMB_JSON_STRING, PLUMB_ERR_FORMAT,
                  "%s: field \"%s\"[%lld].content: found %s, expected a string", where, key,
                  (long long)i, found(content));
    PLUMB_TRY(take_text(&m->role, role, key, where));
    return take_text(&m->content, content, key, where);
}

/* Reads a field that is a plain string or a list of messages. role is the role of a string; if it
 * is NULL, a string is refused. */
static plumb_status read_talk(struct plumb_draft *d, struct talk *t, const plumb_json *v,
                              const char *key, const char *role, const struct plumb_data_options *o,
                              const char *where)
{
    const enum plumb_json_type type = plumb_json_type_of(v);
    const bool chat = type == PLUMB_JSON_ARRAY;
    PLUMB_REQUIRE(chat || (role && type == PLUMB_JSON_STRING), PLUMB_ERR_FORMAT,
                  "%s: field \"%s\": found %s, expected %sa list of messages", where, key, found(v),
                  role ? "a string or " : "");
    t->n = chat ? plumb_json_count(v) : 1;
    PLUMB_REQUIRE(t->n >= 1 && t->n <= CHAT_MAX, PLUMB_ERR_FORMAT,
                  "%s: field \"%s\": %lld messages, expected 1 to %d", where, key, (long long)t->n,
                  CHAT_MAX);
    t->message = calloc((size_t)t->n, sizeof *t->message);
    PLUMB_REQUIRE(t->message, PLUMB_ERR_NOMEM, "%s: cannot store %lld messages", where,
                  (long long)t->n);
    if (!chat) {
        t->message[0].role = role;
        return take_text(&t->message[0].content, v, key, where);
    }
    for (int64_t i = 0; i < t->n; i++)
        PLUMB_TRY(read_message(d, &t->message[i], plumb_json_at(v, i), i, key,
                               i == t->n - 1 && strcmp(key, "prompt") != 0, o, where));
    return PLUMB_OK;
}

static bool same_message(const struct plumb_message *a, const struct plumb_message *b)
{
    return strcmp(a->content, b->content) == 0 && strcmp(a->role, b->role) == 0;
}

static const char *template_of(const struct plumb_data_options *o)
{
    return o->prompt_template ? o->prompt_template : PLUMB_TEMPLATE_DEFAULT;
}

static const char *principle_template_of(const struct plumb_data_options *o)
{
    return o->principle_template ? o->principle_template : PRINCIPLE "\n" PROMPT;
}

static bool is_system(const struct plumb_message *m)
{
    return strcmp(m->role, "system") == 0;
}

/* Refuses messages for which the prompt template has no placeholder, because the template would
 * drop them silently. */
static plumb_status check_places(const struct plumb_message *m, int64_t n,
                                 const struct plumb_data_options *o, const char *key,
                                 const char *where)
{
    const char *text = template_of(o);
    if (strstr(text, "{#messages}"))
        return PLUMB_OK;
    PLUMB_REQUIRE(!is_system(m) || strstr(text, "{system}"), PLUMB_ERR_FORMAT,
                  "%s: field \"%s\": it has a system message, but prompt_template has neither "
                  "{system} nor {#messages}",
                  where, key);
    PLUMB_REQUIRE(n - is_system(m) <= 1, PLUMB_ERR_FORMAT,
                  "%s: field \"%s\": it has %lld messages, and prompt_template has no {#messages} "
                  "and would drop all but the last",
                  where, key, (long long)n);
    return PLUMB_OK;
}

/* Appends principle_template with {principle} and {prompt} replaced. */
static plumb_status put_principle(struct plumb_buf *out, const char *prompt, const char *principle,
                                  const struct plumb_data_options *o)
{
    int64_t len = (int64_t)strlen(principle);
    while (len > 0 && isspace((unsigned char)principle[len - 1]))
        len--;
    for (const char *at = principle_template_of(o); *at;) {
        if (strncmp(at, PRINCIPLE, strlen(PRINCIPLE)) == 0) {
            PLUMB_TRY(plumb_buf_add(out, principle, len));
            at += strlen(PRINCIPLE);
        } else if (strncmp(at, PROMPT, strlen(PROMPT)) == 0) {
            PLUMB_TRY(plumb_buf_add_text(out, prompt));
            at += strlen(PROMPT);
        } else
            PLUMB_TRY(plumb_buf_add(out, at++, 1));
    }
    return PLUMB_OK;
}

/* Renders the prompt with the principle inserted into its last message. */
static plumb_status put_principled(struct plumb_buf *out, const char *principle,
                                   const struct plumb_message *m, int64_t n,
                                   const struct plumb_data_options *o, const char *where)
{
    struct plumb_buf joined = {0};
    struct plumb_message *all = calloc((size_t)n, sizeof *all);
    plumb_status st = PLUMB_OK;
    if (!all)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "%s: cannot store %lld messages", where,
                        (long long)n);
    memcpy(all, m, (size_t)n * sizeof *m);
    PLUMB_TRY_GOTO(st, put_principle(&joined, m[n - 1].content, principle, o), fail);
    all[n - 1].content = plumb_buf_text(&joined);
    PLUMB_TRY_GOTO(st, plumb_template_render(out, template_of(o), all, n), fail);
fail:
    free(all);
    plumb_buf_fini(&joined);
    return st;
}

static plumb_status put_prompt(struct plumb_draft *d, const struct plumb_message *m, int64_t n,
                               const char *key, const struct plumb_data_options *o,
                               const char *where)
{
    PLUMB_REQUIRE(*m[n - 1].content, PLUMB_ERR_FORMAT, "%s: field \"%s\": the prompt is empty",
                  where, key);
    PLUMB_TRY(check_places(m, n, o, key, where));
    PLUMB_TRY(plumb_template_render(&d->prompt, template_of(o), m, n));
    if (o->whole)
        PLUMB_TRY(plumb_buf_add_text(&d->asked, m[n - 1].content));
    if (o->principle && o->kind == PLUMB_DATA_PROMPTS)
        PLUMB_TRY(put_principled(&d->principled, o->principle, m, n, o, where));
    if (o->contrary && o->kind == PLUMB_DATA_PROMPTS)
        PLUMB_TRY(put_principled(&d->contrary, o->contrary, m, n, o, where));
    return PLUMB_OK;
}

/* Appends an answer, which must be one message of the assistant. The answer may begin with a copy
 * of all messages of the prompt; these are ignored. */
static plumb_status put_answer(struct plumb_draft *d, const struct plumb_message *prompt,
                               int64_t prompt_n, const struct talk *answer, const char *key,
                               const char *where)
{
    int64_t same = 0;
    while (same < prompt_n && same < answer->n &&
           same_message(&prompt[same], &answer->message[same]))
        same++;
    const int64_t first = same == prompt_n ? same : 0;
    const char *role = answer->n > first ? answer->message[answer->n - 1].role : "nobody";
    PLUMB_REQUIRE(answer->n == first + 1 && strcmp(role, "assistant") == 0, PLUMB_ERR_FORMAT,
                  "%s: field \"%s\": found %lld messages after the prompt, the last from \"%s\"; "
                  "expected one from \"assistant\"",
                  where, key, (long long)(answer->n - first), role);
    return plumb_buf_add_text(&d->completion[d->completions++], answer->message[first].content);
}

/* Reads a record {"prompt", key[0], .., key[n-1]}. Each key names an answer. */
static plumb_status read_answers(struct plumb_draft *d, const plumb_json *line,
                                 const char *const *key, int n, const struct plumb_data_options *o,
                                 const char *where)
{
    struct talk prompt = {0}, answer = {0};
    plumb_status st = PLUMB_OK;
    PLUMB_TRY_GOTO(
        st, read_talk(d, &prompt, plumb_json_get(line, "prompt"), "prompt", "user", o, where),
        fail);
    PLUMB_TRY_GOTO(st, put_prompt(d, prompt.message, prompt.n, "prompt", o, where), fail);
    for (int i = 0; i < n; i++) {
        PLUMB_TRY_GOTO(
            st, read_talk(d, &answer, plumb_json_get(line, key[i]), key[i], "assistant", o, where),
            fail);
        PLUMB_TRY_GOTO(st, put_answer(d, prompt.message, prompt.n, &answer, key[i], where), fail);
        talk_fini(&answer);
    }
fail:
    talk_fini(&prompt);
    talk_fini(&answer);
    return st;
}

/* Reads a record {"messages"}. For SFT the last message is the answer; for other kinds all messages
 * are the prompt. */
static plumb_status read_messages(struct plumb_draft *d, const plumb_json *v,
                                  const struct plumb_data_options *o, const char *where)
{
    struct talk all = {0};
    plumb_status st = PLUMB_OK;
    PLUMB_TRY_GOTO(st, read_talk(d, &all, v, "messages", NULL, o, where), fail);
    const int64_t n = all.n - (o->kind == PLUMB_DATA_SFT);
    if (n < 1)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_FORMAT, fail,
                        "%s: field \"messages\": found one message, expected a prompt and an "
                        "answer",
                        where);
    PLUMB_TRY_GOTO(st, put_prompt(d, all.message, n, "messages", o, where), fail);
    if (o->kind == PLUMB_DATA_SFT)
        PLUMB_TRY_GOTO(st, put_answer(d, all.message, n, &all, "messages", where), fail);
    d->all = o->kind == PLUMB_DATA_SFT && o->all_tokens;
    for (int64_t i = 0; i < n; i++)
        d->earlier |=
            o->kind == PLUMB_DATA_SFT && !d->all && strcmp(all.message[i].role, "assistant") == 0;
fail:
    talk_fini(&all);
    return st;
}

/* Returns the number of bytes that two texts have in common at their beginning, cut like TRL does:
 * at a character boundary and before a final space. */
static int64_t common(const char *a, const char *b)
{
    int64_t n = 0;
    while (a[n] && a[n] == b[n])
        n++;
    while (n > 0 && (((unsigned char)a[n] & 0xC0) == 0x80 || ((unsigned char)b[n] & 0xC0) == 0x80))
        n--;
    return n > 0 && a[n - 1] == ' ' ? n - 1 : n;
}

/* Splits "chosen" and "rejected", both plain strings: the prompt is their common beginning, cut by
 * common(), and the answers are the rest of each. */
static plumb_status split_texts(struct plumb_draft *d, const struct talk *a,
                                const struct plumb_data_options *o, const char *where)
{
    const char *chosen = a[0].message->content, *rejected = a[1].message->content;
    const int64_t n = common(chosen, rejected);
    struct plumb_buf text = {0};
    plumb_status st = PLUMB_OK;
    PLUMB_TRY_GOTO(st, plumb_buf_add(&text, chosen, n), fail);
    const struct plumb_message m = {"user", plumb_buf_text(&text)};
    PLUMB_TRY_GOTO(st, put_prompt(d, &m, 1, "chosen", o, where), fail);
    PLUMB_TRY_GOTO(st, plumb_buf_add_text(&d->completion[0], chosen + n), fail);
    PLUMB_TRY_GOTO(st, plumb_buf_add_text(&d->completion[1], rejected + n), fail);
    d->completions = 2;
fail:
    plumb_buf_fini(&text);
    return st;
}

/* Splits "chosen" and "rejected" if both are lists of messages: the prompt is the messages with
 * which both begin, without the last message of either. */
static plumb_status split_chats(struct plumb_draft *d, const struct talk *a,
                                const struct plumb_data_options *o, const char *where)
{
    int64_t n = 0;
    while (n + 1 < a[0].n && n + 1 < a[1].n && same_message(&a[0].message[n], &a[1].message[n]))
        n++;
    PLUMB_REQUIRE(n > 0, PLUMB_ERR_FORMAT,
                  "%s: field \"prompt\": found nothing, and \"chosen\" and \"rejected\" do not "
                  "begin with the same message; expected a string or a list of messages",
                  where);
    PLUMB_TRY(put_prompt(d, a[0].message, n, "chosen", o, where));
    PLUMB_TRY(put_answer(d, a[0].message, n, &a[0], "chosen", where));
    return put_answer(d, a[0].message, n, &a[1], "rejected", where);
}

/* Reads {"chosen","rejected"} without a prompt. */
static plumb_status read_implicit(struct plumb_draft *d, const plumb_json *line,
                                  const struct plumb_data_options *o, const char *where)
{
    static const char *const key[2] = {"chosen", "rejected"};
    struct talk a[2] = {{0}, {0}};
    plumb_status st = PLUMB_OK;
    const bool chats = plumb_json_type_of(plumb_json_get(line, key[0])) == PLUMB_JSON_ARRAY;
    for (int i = 0; i < 2; i++)
        PLUMB_TRY_GOTO(
            st, read_talk(d, &a[i], plumb_json_get(line, key[i]), key[i], "assistant", o, where),
            fail);
    if (chats != (plumb_json_type_of(plumb_json_get(line, key[1])) == PLUMB_JSON_ARRAY))
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_FORMAT, fail,
                        "%s: field \"rejected\": found %s, expected the type of \"chosen\"", where,
                        found(plumb_json_get(line, key[1])));
    if (!chats)
        PLUMB_TRY_GOTO(st, plumb_fields_check_asked(line, a[0].message->content, where), fail);
    PLUMB_TRY_GOTO(st, chats ? split_chats(d, a, o, where) : split_texts(d, a, o, where), fail);
fail:
    talk_fini(&a[0]);
    talk_fini(&a[1]);
    return st;
}

/* Appends a list of token ids to d->ids. */
static plumb_status add_ids(struct plumb_draft *d, const plumb_json *line, const char *key,
                            const struct plumb_data_options *o, const char *where)
{
    const plumb_json *v = plumb_json_get(line, key);
    const int64_t n = plumb_json_count(v);
    const int64_t vocab = o->vocab       ? o->vocab
                          : o->tokenizer ? plumb_tokenizer_vocab(o->tokenizer)
                                         : INT32_MAX;
    PLUMB_REQUIRE(plumb_json_type_of(v) == PLUMB_JSON_ARRAY && n > 0, PLUMB_ERR_FORMAT,
                  "%s: field \"%s\": found %s, expected a list of token ids", where, key,
                  n > 0 || plumb_json_type_of(v) != PLUMB_JSON_ARRAY ? found(v) : "an empty list");
    d->by_ids = true;
    for (int64_t i = 0; i < n; i++) {
        const plumb_json *e = plumb_json_at(v, i);
        const int64_t id = plumb_json_int(e, -1);
        PLUMB_REQUIRE(plumb_json_type_of(e) == PLUMB_JSON_INT, PLUMB_ERR_FORMAT,
                      "%s: field \"%s\"[%lld]: found %s, expected a token id, which is an integer",
                      where, key, (long long)i, found(e));
        PLUMB_REQUIRE(id >= 0 && id < vocab, PLUMB_ERR_FORMAT,
                      "%s: field \"%s\"[%lld]: %lld is not a token id, expected 0 to %lld", where,
                      key, (long long)i, (long long)id, (long long)vocab - 1);
        PLUMB_TRY(plumb_ids_add(&d->ids, (int32_t)id));
    }
    return PLUMB_OK;
}

/* Reads {"ids", "prompt_tokens"}. Without prompt_tokens, the first id is the prompt and all others
 * are the completion. */
static plumb_status read_ids(struct plumb_draft *d, const plumb_json *line,
                             const struct plumb_data_options *o, const char *where)
{
    const int64_t whole = 1;
    PLUMB_TRY(add_ids(d, line, "ids", o, where));
    const int64_t n = d->ids.n;
    PLUMB_TRY(plumb_json_want_int(line, "prompt_tokens", &d->prompt_tokens, &whole, where));
    PLUMB_REQUIRE(d->prompt_tokens >= 1 && d->prompt_tokens <= n, PLUMB_ERR_FORMAT,
                  "%s: field \"prompt_tokens\": %lld, expected 1 to %lld, the number of ids", where,
                  (long long)d->prompt_tokens, (long long)n);
    d->completions = 1;
    return PLUMB_OK;
}

/* Reads {"prompt_ids", "completion_ids"}. */
static plumb_status read_generated(struct plumb_draft *d, const plumb_json *line,
                                   const struct plumb_data_options *o, const char *where)
{
    PLUMB_TRY(add_ids(d, line, "prompt_ids", o, where));
    d->prompt_tokens = d->ids.n;
    d->completions = 1;
    return add_ids(d, line, "completion_ids", o, where);
}

static plumb_status read_id(struct plumb_draft *d, const plumb_json *line, const char *where)
{
    const plumb_json *v = plumb_json_get(line, "id");
    const enum plumb_json_type type = plumb_json_type_of(v);
    if (!v)
        return PLUMB_OK;
    PLUMB_REQUIRE(type == PLUMB_JSON_STRING || type == PLUMB_JSON_INT || type == PLUMB_JSON_REAL,
                  PLUMB_ERR_FORMAT, "%s: field \"id\": found %s, expected a string or a number",
                  where, found(v));
    /* JSON text of the value, so that a number keeps the digits of the file */
    struct plumb_columns text;
    d->has_id = plumb_columns_find(d->json, "id", &text);
    return d->has_id ? plumb_buf_add(&d->id, text.text, text.len) : PLUMB_OK;
}

/* Sets d->solution to the value of "solution", or else of "answer". A number keeps the digits of
 * the file. A value that is neither a text nor a number is only passed on to reward commands, which
 * get the whole record. */
static plumb_status read_solution(struct plumb_draft *d, const plumb_json *line)
{
    const char *key = plumb_json_get(line, "solution") ? "solution" : "answer";
    struct plumb_columns value;
    if (!plumb_json_get(line, key) || !plumb_columns_find(d->json, key, &value))
        return PLUMB_OK;
    return plumb_columns_text(&d->solution, value, &d->has_solution);
}

static plumb_status read_prompt(struct plumb_draft *d, const plumb_json *line,
                                const struct plumb_data_options *o, const char *where)
{
    static const char *const none[1] = {NULL};
    if (plumb_json_get(line, "prompt_ids") && !plumb_json_get(line, "prompt")) {
        PLUMB_REQUIRE(!o->principle, PLUMB_ERR_FORMAT,
                      "%s: field \"prompt_ids\": a principle needs the prompt as text", where);
        PLUMB_TRY(add_ids(d, line, "prompt_ids", o, where));
        d->prompt_tokens = d->ids.n;
        return PLUMB_OK;
    }
    return read_answers(d, line, none, 0, o, where);
}

static plumb_status read_shape(struct plumb_draft *d, const plumb_json *line,
                               const struct plumb_data_options *o, const char *where)
{
    static const char *const sft[1] = {"completion"}, *const pair[2] = {"chosen", "rejected"};
    const plumb_json *messages = plumb_json_get(line, "messages");
    switch (o->kind) {
    case PLUMB_DATA_PROMPTS:
        if (o->references && plumb_json_get(line, "prompt") && plumb_json_get(line, "completion"))
            return read_answers(d, line, sft, 1, o, where);
        return read_prompt(d, line, o, where);
    case PLUMB_DATA_SFT:
        if (messages)
            return read_messages(d, messages, o, where);
        if (plumb_json_get(line, "ids"))
            return read_ids(d, line, o, where);
        if (plumb_field_is_generated(line))
            return read_generated(d, line, o, where);
        if (plumb_json_get(line, "prompt") || !plumb_json_get(line, "text"))
            return read_answers(d, line, sft, 1, o, where);
        d->all = true;
        break;
    case PLUMB_DATA_PAIRS:
        if (!plumb_json_get(line, "prompt"))
            return read_implicit(d, line, o, where);
        return read_answers(d, line, pair, 2, o, where);
    case PLUMB_DATA_ANY:
        if (plumb_json_get(line, "ids"))
            return read_ids(d, line, o, where);
        if (plumb_json_get(line, "completion"))
            return read_answers(d, line, sft, 1, o, where);
        if (plumb_field_is_generated(line))
            return read_generated(d, line, o, where);
        if (plumb_json_get(line, "prompt"))
            return read_prompt(d, line, o, where);
        break;
    case PLUMB_DATA_TEXTS:
        break;
    }
    if (messages && !d->all)
        return read_messages(d, messages, o, where);
    const char *text;
    PLUMB_TRY(plumb_json_want_string(line, "text", &text, NULL, where));
    return plumb_buf_add(&d->prompt, text, plumb_json_string_len(plumb_json_get(line, "text")));
}

static plumb_status read_scores(struct plumb_draft *d, const plumb_json *line, const char *where)
{
    static const char *const key[2] = {"score_chosen", "score_rejected"};
    for (int i = 0; i < 2; i++) {
        const plumb_json *v = plumb_json_get(line, key[i]);
        const enum plumb_json_type type = plumb_json_type_of(v);
        if (!v)
            continue;
        PLUMB_REQUIRE(type == PLUMB_JSON_INT || type == PLUMB_JSON_REAL, PLUMB_ERR_FORMAT,
                      "%s: field \"%s\": found %s, expected a number", where, key[i], found(v));
        d->score[i] = plumb_json_real(v, NAN);
    }
    PLUMB_REQUIRE(
        isnan(d->score[0]) == isnan(d->score[1]), PLUMB_ERR_FORMAT,
        "%s: field \"%s\": found nothing, but the other score is given; expected a number", where,
        key[isnan(d->score[0]) ? 0 : 1]);
    return PLUMB_OK;
}

plumb_status plumb_record_check(const struct plumb_data_options *o)
{
    const char *join = principle_template_of(o);
    PLUMB_REQUIRE(
        !o->principle || (strstr(join, PRINCIPLE) && strstr(join, PROMPT)), PLUMB_ERR_CONFIG,
        "principle_template is \"%.200s\"; expected " PRINCIPLE " and " PROMPT " in it", join);
    const char *template = template_of(o);
    PLUMB_REQUIRE(strstr(template, PROMPT) || strstr(template, CONTENT), PLUMB_ERR_CONFIG,
                  "prompt_template is \"%.200s\": it would not contain the record; expected " PROMPT
                  " or {#messages} with " CONTENT,
                  template);
    return plumb_template_check(template);
}

static plumb_status read_line(struct plumb_draft *d, const plumb_json *line,
                              const struct plumb_data_options *o, const char *where)
{
    PLUMB_REQUIRE(plumb_json_type_of(line) == PLUMB_JSON_OBJECT, PLUMB_ERR_FORMAT,
                  "%s: found %s, expected an object", where, found(line));
    const bool chat = plumb_record_is_chat(line, o);
    char hint[256];
    PLUMB_TRY(plumb_fields_check_record(
        line, o->kind, chat ? plumb_chat_template_for(o->chat, line) : NULL, &d->named, where));
    PLUMB_TRY(plumb_misspelt_look(&d->misspelt, line, o, where));
    const plumb_status st =
        chat ? plumb_record_read_chat(d, line, o, where) : read_shape(d, line, o, where);
    if (st == PLUMB_ERR_FORMAT && d->misspelt.last >= 0) {
        const struct plumb_misspelt_name *name = &d->misspelt.item[d->misspelt.last];
        PLUMB_FAIL(st, "%s; the record has a field \"%s\": did you mean \"%s\"?",
                   plumb_trail_message(), name->name, name->meant);
    }
    plumb_shape_hint(hint, sizeof(hint), line, o->kind);
    PLUMB_REQUIRE(st != PLUMB_ERR_FORMAT || !*hint, st, "%s%s", plumb_trail_message(), hint);
    PLUMB_TRY(st);
    if (o->kind == PLUMB_DATA_PAIRS)
        PLUMB_TRY(read_scores(d, line, where));
    PLUMB_TRY(read_id(d, line, where));
    return read_solution(d, line);
}

plumb_status plumb_record_read(struct plumb_draft *d, const plumb_json *line,
                               const struct plumb_data_options *o, const char *where)
{
    plumb_json *shaped = NULL;
    PLUMB_REQUIRE(plumb_json_type_of(line) == PLUMB_JSON_OBJECT, PLUMB_ERR_FORMAT,
                  "%s: found %s, expected an object", where, found(line));
    plumb_draft_clear(d);
    PLUMB_TRY(plumb_shape_read(&shaped, line, o->chat && o->chat->template, where));
    const plumb_status st = read_line(d, shaped ? shaped : line, o, where);
    plumb_json_free(&shaped);
    return st;
}

void plumb_draft_clear(struct plumb_draft *d)
{
    plumb_buf_clear(&d->prompt);
    plumb_buf_clear(&d->principled);
    plumb_buf_clear(&d->contrary);
    plumb_buf_clear(&d->completion[0]);
    plumb_buf_clear(&d->completion[1]);
    plumb_buf_clear(&d->id);
    plumb_buf_clear(&d->solution);
    plumb_buf_clear(&d->asked);
    d->ids.n = 0;
    d->completions = 0;
    plumb_buf_clear(&d->whole[0]);
    plumb_buf_clear(&d->whole[1]);
    plumb_turns_clear(&d->turns);
    d->spans.n = 0;
    d->all = d->earlier = d->by_template = false;
    d->by_ids = d->has_id = d->has_solution = false;
    d->prompt_tokens = 0;
    d->score[0] = d->score[1] = NAN;
}

void plumb_draft_fini(struct plumb_draft *d)
{
    plumb_buf_fini(&d->prompt);
    plumb_buf_fini(&d->principled);
    plumb_buf_fini(&d->contrary);
    plumb_buf_fini(&d->completion[0]);
    plumb_buf_fini(&d->completion[1]);
    plumb_buf_fini(&d->id);
    plumb_buf_fini(&d->solution);
    plumb_buf_fini(&d->asked);
    plumb_buf_fini(&d->whole[0]);
    plumb_buf_fini(&d->whole[1]);
    plumb_turns_fini(&d->turns);
    plumb_jinja_spans_fini(&d->spans);
    plumb_ids_fini(&d->ids);
    plumb_fields_fini(&d->named);
}
