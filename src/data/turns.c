/* turns.c - collects the messages of one conversation from a record, renders them, and finds the
 * text of each assistant turn.
 * Layer 4. Includes data/chat.h, base/, io/, text/. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "data/chat.h"
#include "data/fields.h"

enum { TURNS_MOST = 4096 };

void plumb_turns_clear(struct plumb_turns *t)
{
    plumb_buf_clear(&t->json);
    plumb_buf_clear(&t->role);
    t->n = 0;
}

void plumb_turns_fini(struct plumb_turns *t)
{
    plumb_buf_fini(&t->json);
    plumb_buf_fini(&t->role);
    free(t->end);
    free(t->assistant);
    *t = (struct plumb_turns){0};
}

/* ---- collecting ----------------------------------------------------------------------------- */

static const char *found(const plumb_json *v)
{
    return v ? plumb_json_type_name(plumb_json_type_of(v)) : "nothing";
}

/* Prepares the arrays for one more message, and appends the comma before it. The caller then
 * appends the JSON text of the message to t->json and calls end_turn. */
static plumb_status begin_turn(struct plumb_turns *t, const char *where)
{
    PLUMB_REQUIRE(t->n < TURNS_MOST, PLUMB_ERR_FORMAT, "%s: more than %d messages", where,
                  TURNS_MOST);
    if (t->n == t->cap) {
        const int64_t cap = t->cap ? 2 * t->cap : 16;
        int64_t *end = realloc(t->end, (size_t)cap * sizeof(*end));
        t->end = end ? end : t->end;
        bool *assistant = realloc(t->assistant, (size_t)cap * sizeof(*assistant));
        t->assistant = assistant ? assistant : t->assistant;
        PLUMB_REQUIRE(end && assistant, PLUMB_ERR_NOMEM, "%s: cannot store %lld messages", where,
                      (long long)cap);
        t->cap = cap;
    }
    return t->n ? plumb_buf_add_text(&t->json, ",") : PLUMB_OK;
}

static plumb_status end_turn(struct plumb_turns *t, const char *role)
{
    t->end[t->n] = t->json.len;
    t->assistant[t->n++] = strcmp(role, "assistant") == 0;
    plumb_buf_clear(&t->role);
    return plumb_buf_add_text(&t->role, role);
}

plumb_status plumb_turns_add_text(struct plumb_turns *t, const char *role, const char *text,
                                  int64_t len, const char *where)
{
    PLUMB_TRY(begin_turn(t, where));
    PLUMB_TRY(plumb_buf_add_text(&t->json, "{\"role\":"));
    PLUMB_TRY(plumb_json_put_string(&t->json, role, (int64_t)strlen(role)));
    PLUMB_TRY(plumb_buf_add_text(&t->json, ",\"content\":"));
    PLUMB_TRY(plumb_json_put_string(&t->json, text, len));
    PLUMB_TRY(plumb_buf_add_text(&t->json, "}"));
    return end_turn(t, role);
}

static plumb_status join_parts(struct plumb_buf *out, const plumb_json *v, const char *at,
                               const char *where)
{
    for (int64_t i = 0; i < plumb_json_count(v); i++) {
        const plumb_json *part = plumb_json_at(v, i), *text = plumb_json_get(part, "text");
        const char *type = plumb_json_string(plumb_json_get(part, "type"), "text");
        PLUMB_REQUIRE(strcmp(type, "text") == 0, PLUMB_ERR_UNSUPPORTED,
                      "%s: field \"%s\"[%lld]: a part of type \"%.60s\", expected \"text\"; plumb "
                      "reads no images, sounds or videos",
                      where, at, (long long)i, type);
        PLUMB_REQUIRE(plumb_json_type_of(text) == PLUMB_JSON_STRING, PLUMB_ERR_FORMAT,
                      "%s: field \"%s\"[%lld].text: found %s, expected a string", where, at,
                      (long long)i, found(text));
        if (i)
            PLUMB_TRY(plumb_buf_add_text(out, " "));
        PLUMB_TRY(plumb_buf_add(out, plumb_json_string(text, ""), plumb_json_string_len(text)));
    }
    return PLUMB_OK;
}

plumb_status plumb_content_text(struct plumb_buf *out, const plumb_json *v, const char *at,
                                const char *where)
{
    if (plumb_json_type_of(v) == PLUMB_JSON_ARRAY)
        return join_parts(out, v, at, where);
    return plumb_buf_add(out, plumb_json_string(v, ""), plumb_json_string_len(v));
}

/* Appends a message's content as JSON. A list of parts is joined to one string if the template does
 * not accept lists; any other content stays as it is. */
static plumb_status put_content(struct plumb_buf *out, const struct plumb_chat_setting *c,
                                const plumb_json *v, const char *at, const char *where)
{
    const enum plumb_json_type type = plumb_json_type_of(v);
    struct plumb_buf text = {0};
    PLUMB_REQUIRE(type == PLUMB_JSON_STRING || type == PLUMB_JSON_ARRAY || type == PLUMB_JSON_NULL,
                  PLUMB_ERR_FORMAT,
                  "%s: field \"%s\": found %s, expected a string or a list of parts", where, at,
                  found(v));
    if (type != PLUMB_JSON_ARRAY)
        return plumb_json_put_node(out, v);
    plumb_status st = join_parts(&text, v, at, where); /* also checks each part */
    if (st == PLUMB_OK)
        st = c->parts ? plumb_json_put_node(out, v)
                      : plumb_json_put_string(out, plumb_buf_text(&text), text.len);
    plumb_buf_fini(&text);
    return st;
}

/* Appends the message v with all its members, but replaces its content by `content`, a JSON value.
 */
static plumb_status add_with_content(struct plumb_turns *t, const plumb_json *v,
                                     const struct plumb_buf *content, const char *where)
{
    PLUMB_TRY(begin_turn(t, where));
    PLUMB_TRY(plumb_buf_add_text(&t->json, "{"));
    for (int64_t i = 0; i < plumb_json_count(v); i++) {
        const char *key = "";
        const plumb_json *member = NULL;
        PLUMB_TRY(plumb_json_member_at(v, i, &key, &member));
        PLUMB_TRY(plumb_json_put_key(&t->json, key));
        PLUMB_TRY(strcmp(key, "content") == 0 ? plumb_buf_add(&t->json, content->data, content->len)
                                              : plumb_json_put_node(&t->json, member));
    }
    PLUMB_TRY(plumb_buf_add_text(&t->json, "}"));
    return end_turn(t, plumb_json_string(plumb_json_get(v, "role"), ""));
}

/* Appends one message with all its members. If its content is a list of parts and the template does
 * not accept lists, the parts are joined to one string. */
static plumb_status add_message(struct plumb_turns *t, const struct plumb_chat_setting *c,
                                const plumb_json *v, const char *at, const char *where)
{
    const plumb_json *role = plumb_json_get(v, "role");
    char place[96];
    PLUMB_REQUIRE(plumb_json_type_of(v) == PLUMB_JSON_OBJECT, PLUMB_ERR_FORMAT,
                  "%s: field \"%s\": found %s, expected a message {\"role\", \"content\"}", where,
                  at, found(v));
    PLUMB_REQUIRE(plumb_json_type_of(role) == PLUMB_JSON_STRING, PLUMB_ERR_FORMAT,
                  "%s: field \"%s\".role: found %s, expected a string", where, at, found(role));
    PLUMB_REQUIRE(plumb_json_get(v, "content") || plumb_json_get(v, "tool_calls"), PLUMB_ERR_FORMAT,
                  "%s: field \"%s\".content: found nothing, expected a string or a list of parts",
                  where, at);
    snprintf(place, sizeof(place), "%.80s.content", at);
    struct plumb_buf content = {0};
    plumb_status st = PLUMB_OK;
    if (plumb_json_get(v, "content"))
        st = put_content(&content, c, plumb_json_get(v, "content"), place, where);
    if (st == PLUMB_OK)
        st = add_with_content(t, v, &content, where);
    plumb_buf_fini(&content);
    return st;
}

plumb_status plumb_turns_add(struct plumb_turns *t, const struct plumb_chat_setting *c,
                             const plumb_json *v, const char *role, const char *key, int64_t begin,
                             int64_t end, const char *where)
{
    const enum plumb_json_type type = plumb_json_type_of(v);
    PLUMB_REQUIRE(type == PLUMB_JSON_ARRAY || (role && type == PLUMB_JSON_STRING), PLUMB_ERR_FORMAT,
                  "%s: field \"%s\": found %s, expected %sa list of messages", where, key, found(v),
                  role ? "a string or " : "");
    if (type == PLUMB_JSON_STRING)
        return plumb_turns_add_text(t, role, plumb_json_string(v, ""), plumb_json_string_len(v),
                                    where);
    PLUMB_REQUIRE(plumb_json_count(v) > 0, PLUMB_ERR_FORMAT,
                  "%s: field \"%s\": 0 messages, expected 1 to %d", where, key, TURNS_MOST);
    for (int64_t i = begin; i < (end < 0 ? plumb_json_count(v) : end); i++) {
        char at[64];
        snprintf(at, sizeof(at), "%.32s[%lld]", key, (long long)i);
        PLUMB_TRY(add_message(t, c, plumb_json_at(v, i), at, where));
    }
    return PLUMB_OK;
}

/* ---- adding the system text and a principle to the messages ---------------------------------- */

static int64_t trimmed(const char *text)
{
    int64_t n = (int64_t)strlen(text);
    while (n > 0 && isspace((unsigned char)text[n - 1]))
        n--;
    return n;
}

/* Appends the template with {principle} and {prompt} replaced by the two texts. */
static plumb_status fill(struct plumb_buf *out, const char *template, const char *principle,
                         const char *prompt, int64_t prompt_len)
{
    static const char first[] = "{principle}", second[] = "{prompt}";
    for (const char *at = template; *at;) {
        if (strncmp(at, first, sizeof(first) - 1) == 0) {
            PLUMB_TRY(plumb_buf_add(out, principle, trimmed(principle)));
            at += sizeof(first) - 1;
        } else if (strncmp(at, second, sizeof(second) - 1) == 0) {
            PLUMB_TRY(plumb_buf_add(out, prompt, prompt_len));
            at += sizeof(second) - 1;
        } else
            PLUMB_TRY(plumb_buf_add(out, at++, 1));
    }
    return PLUMB_OK;
}

/* Appends the message v, but with a new text as its content. */
static plumb_status add_changed(struct plumb_turns *t, const plumb_json *v, const char *text,
                                int64_t len, const char *where)
{
    struct plumb_buf content = {0};
    plumb_status st = plumb_json_put_string(&content, text, len);
    if (st == PLUMB_OK)
        st = add_with_content(t, v, &content, where);
    plumb_buf_fini(&content);
    return st;
}

static bool has_role(const plumb_json *message, const char *role)
{
    return strcmp(plumb_json_string(plumb_json_get(message, "role"), ""), role) == 0;
}

/* Copies the messages of `all` to `to`, and inserts the principle into the system message (a new
 * one if there is none) or into message `last`, according to x->in_system. */
static plumb_status put_principle(struct plumb_turns *to, const plumb_json *all, int64_t last,
                                  const struct plumb_turns_extra *x, struct plumb_buf *text,
                                  struct plumb_buf *joined, const char *where)
{
    const bool system = has_role(plumb_json_at(all, 0), "system");
    if (x->in_system && !system)
        PLUMB_TRY(plumb_turns_add_text(to, "system", x->principle, trimmed(x->principle), where));
    for (int64_t i = 0; i < plumb_json_count(all); i++) {
        const plumb_json *m = plumb_json_at(all, i);
        const bool here = x->in_system ? system && i == 0 : i == last;
        plumb_buf_clear(text);
        plumb_buf_clear(joined);
        PLUMB_TRY(plumb_content_text(text, plumb_json_get(m, "content"), "content", where));
        if (here)
            PLUMB_TRY(fill(joined, x->in_system ? "{principle}\n\n{prompt}" : x->principle_template,
                           x->principle, plumb_buf_text(text), text->len));
        if (here) {
            PLUMB_TRY(add_changed(to, m, plumb_buf_text(joined), joined->len, where));
            continue;
        }
        PLUMB_TRY(begin_turn(to, where));
        PLUMB_TRY(plumb_json_put_node(&to->json, m));
        PLUMB_TRY(end_turn(to, plumb_json_string(plumb_json_get(m, "role"), "")));
    }
    return PLUMB_OK;
}

static plumb_status parse(plumb_json **out, const struct plumb_turns *t, int64_t n,
                          const char *where)
{
    struct plumb_buf text = {0};
    plumb_status st;
    PLUMB_TRY_GOTO(st, plumb_buf_add_text(&text, "["), done);
    PLUMB_TRY_GOTO(st, plumb_buf_add(&text, plumb_buf_text(&t->json), n ? t->end[n - 1] : 0), done);
    PLUMB_TRY_GOTO(st, plumb_buf_add_text(&text, "]"), done);
    st = plumb_json_parse(out, text.data, text.len, where);
done:
    plumb_buf_fini(&text);
    return st;
}

plumb_status plumb_turns_complete(struct plumb_turns *t, const struct plumb_chat_setting *c,
                                  const struct plumb_turns_extra *extra, const char *where)
{
    struct plumb_turns fresh = {0};
    struct plumb_buf text = {0}, joined = {0};
    plumb_json *all = NULL, *with = NULL;
    plumb_status st;
    PLUMB_TRY(parse(&all, t, t->n, where));
    if (c->system && !has_role(plumb_json_at(all, 0), "system")) {
        PLUMB_TRY_GOTO(
            st,
            plumb_turns_add_text(&fresh, "system", c->system, (int64_t)strlen(c->system), where),
            done);
        PLUMB_TRY_GOTO(st, plumb_turns_add(&fresh, c, all, NULL, "messages", 0, -1, where), done);
    } else if (extra) {
        PLUMB_TRY_GOTO(st, plumb_turns_add(&fresh, c, all, NULL, "messages", 0, -1, where), done);
    }
    st = PLUMB_OK;
    if (extra) {
        int64_t last;
        PLUMB_TRY_GOTO(st, parse(&with, &fresh, fresh.n, where), done);
        plumb_turns_clear(&fresh);
        for (last = plumb_json_count(with) - 1; last >= 0; last--)
            if (has_role(plumb_json_at(with, last), "user"))
                break;
        if (last < 0 && !extra->in_system)
            PLUMB_FAIL_GOTO(st, PLUMB_ERR_FORMAT, done,
                            "%s: the prompt has no user message to put the principle into "
                            "(method.principle_role=user)",
                            where);
        PLUMB_TRY_GOTO(st, put_principle(&fresh, with, last, extra, &text, &joined, where), done);
    }
    if (fresh.n) {
        struct plumb_turns old = *t;
        *t = fresh;
        fresh = old;
    }
done:
    plumb_json_free(&all);
    plumb_json_free(&with);
    plumb_buf_fini(&text);
    plumb_buf_fini(&joined);
    plumb_turns_fini(&fresh);
    return st;
}

/* ---- rendering ------------------------------------------------------------------------------ */

/* Gets a list of objects from a field of the record. The field may also be a string that contains
 * the list as JSON; then *owned is the parsed list, which the caller frees. *out is NULL if the
 * field is absent or empty. */
static plumb_status list_of(const plumb_json **out, plumb_json **owned, const plumb_json *record,
                            const char *key, const char *where)
{
    const plumb_json *v = plumb_json_get(record, key);
    *owned = NULL;
    if (plumb_json_type_of(v) == PLUMB_JSON_STRING && plumb_json_string_len(v) > 0) {
        PLUMB_TRY(
            plumb_json_parse(owned, plumb_json_string(v, ""), plumb_json_string_len(v), where));
        v = *owned;
    }
    *out = plumb_json_count(v) > 0 ? v : NULL;
    PLUMB_REQUIRE(!*out || plumb_json_type_of(v) == PLUMB_JSON_ARRAY, PLUMB_ERR_FORMAT,
                  "%s: field \"%s\": found %s, expected a list", where, key, found(v));
    for (int64_t i = 0; *out && i < plumb_json_count(v); i++)
        PLUMB_REQUIRE(plumb_json_type_of(plumb_json_at(v, i)) == PLUMB_JSON_OBJECT,
                      PLUMB_ERR_FORMAT, "%s: field \"%s\"[%lld]: found %s, expected an object",
                      where, key, (long long)i, found(plumb_json_at(v, i)));
    return PLUMB_OK;
}

/* Merges the template arguments of the run (data.template_arguments) with the record's
 * chat_template_kwargs. If both have the same name, the record's value is used. */
static plumb_status merge_arguments(plumb_json **out, const struct plumb_chat_setting *c,
                                    const plumb_json *more, const char *where)
{
    struct plumb_buf text = {0};
    plumb_status st;
    bool first = true;
    PLUMB_REQUIRE(plumb_json_type_of(more) == PLUMB_JSON_OBJECT, PLUMB_ERR_FORMAT,
                  "%s: field \"chat_template_kwargs\": found %s, expected an object", where,
                  found(more));
    PLUMB_TRY_GOTO(st, plumb_buf_add_text(&text, "{"), done);
    for (int k = 0; k < 2; k++) {
        const plumb_json *from = k ? more : c->arguments;
        for (int64_t i = 0; i < plumb_json_count(from); i++) {
            const char *key = "";
            const plumb_json *v = NULL;
            PLUMB_TRY_GOTO(st, plumb_json_member_at(from, i, &key, &v), done);
            if (k == 0 && plumb_json_member(more, key))
                continue;
            PLUMB_TRY_GOTO(st, plumb_buf_add_text(&text, first ? "" : ","), done);
            first = false;
            PLUMB_TRY_GOTO(st, plumb_json_put_string(&text, key, (int64_t)strlen(key)), done);
            PLUMB_TRY_GOTO(st, plumb_buf_add_text(&text, ":"), done);
            PLUMB_TRY_GOTO(st, plumb_json_put_node(&text, v), done);
        }
    }
    PLUMB_TRY_GOTO(st, plumb_buf_add_text(&text, "}"), done);
    st = plumb_json_parse(out, text.data, text.len, where);
done:
    plumb_buf_fini(&text);
    return st;
}

const plumb_jinja *plumb_chat_template_for(const struct plumb_chat_setting *c,
                                           const plumb_json *record)
{
    const bool tools = !plumb_field_is_empty(plumb_json_get(record, "tools"));
    return tools && c->tool_use ? c->tool_use : c->template;
}

plumb_status plumb_turns_render(const struct plumb_turns *t, int64_t n,
                                const struct plumb_chat_setting *c, const plumb_json *record,
                                enum plumb_turns_tail tail, struct plumb_buf *out,
                                struct plumb_jinja_spans *spans, const char *where)
{
    const char *role = plumb_buf_text(&t->role);
    const bool asks = strcmp(role, "user") == 0 || strcmp(role, "tool") == 0;
    const bool open = tail == PLUMB_TAIL_ROLE && strcmp(role, "assistant") == 0;
    plumb_json *messages = NULL, *tools = NULL, *documents = NULL, *arguments = NULL;
    struct plumb_chat chat = {.arguments = c->arguments};
    plumb_status st;
    PLUMB_REQUIRE(
        tail != PLUMB_TAIL_ROLE || asks || open, PLUMB_ERR_FORMAT,
        "%s: the last message of the prompt is from \"%s\", expected \"user\", \"tool\" or "
        "\"assistant\"",
        where, role);
    PLUMB_TRY_GOTO(st, parse(&messages, t, n, where), done);
    PLUMB_TRY_GOTO(st, list_of(&chat.tools, &tools, record, "tools", where), done);
    PLUMB_TRY_GOTO(st, list_of(&chat.documents, &documents, record, "documents", where), done);
    const plumb_json *more = plumb_json_get(record, "chat_template_kwargs");
    if (!plumb_field_is_empty(more)) {
        PLUMB_TRY_GOTO(st, merge_arguments(&arguments, c, more, where), done);
        chat.arguments = arguments;
    }
    chat.messages = messages;
    chat.continue_final_message = open;
    chat.add_generation_prompt = tail == PLUMB_TAIL_GENERATE || (tail == PLUMB_TAIL_ROLE && asks);
    st = plumb_chat_render(plumb_chat_template_for(c, record), out, spans, &chat, c->token,
                           c->tokens, NULL, where);
done:
    plumb_json_free(&messages);
    plumb_json_free(&tools);
    plumb_json_free(&documents);
    plumb_json_free(&arguments);
    return st;
}

static plumb_status add_span(struct plumb_jinja_spans *s, int64_t begin, int64_t end)
{
    if (s->n == s->cap) {
        const int64_t cap = s->cap ? 2 * s->cap : 8;
        struct plumb_jinja_span *span = realloc(s->span, (size_t)cap * sizeof(*span));
        PLUMB_REQUIRE(span, PLUMB_ERR_NOMEM, "cannot store the byte ranges of %lld messages",
                      (long long)cap);
        s->span = span;
        s->cap = cap;
    }
    s->span[s->n++] = (struct plumb_jinja_span){begin, end};
    return PLUMB_OK;
}

/* Returns the number of bytes at the beginning that are equal in both texts. */
static int64_t common(const struct plumb_buf *a, const struct plumb_buf *b)
{
    const int64_t most = plumb_min_i64(a->len, b->len);
    const char *x = plumb_buf_text(a), *y = plumb_buf_text(b);
    int64_t n = 0;
    while (n < most && x[n] == y[n])
        n++;
    return n;
}

/* Adds the byte range of message i to spans. The function renders messages 0..i-1 with a generation
 * prompt into `before`, and messages 0..i into `with`; the range is the part of `with` after their
 * common beginning. before and with are scratch memory. */
static plumb_status span_of(const struct plumb_turns *t, int64_t i,
                            const struct plumb_chat_setting *c, const plumb_json *record,
                            const struct plumb_buf *whole, struct plumb_buf *before,
                            struct plumb_buf *with, struct plumb_jinja_spans *spans,
                            const char *where)
{
    plumb_buf_clear(before);
    plumb_buf_clear(with);
    if (i > 0)
        PLUMB_TRY(plumb_turns_render(t, i, c, record, PLUMB_TAIL_GENERATE, before, NULL, where));
    PLUMB_TRY(plumb_turns_render(t, i + 1, c, record, PLUMB_TAIL_NONE, with, NULL, where));
    PLUMB_REQUIRE(common(with, whole) == with->len, PLUMB_ERR_UNSUPPORTED,
                  "%s: message %lld: the chat template renders the conversation up to this message "
                  "of the assistant differently when more messages follow, so the tokens of the "
                  "message cannot be found; name a "
                  "template with {%% generation %%} in data.chat_template, or train on all tokens "
                  "(data.assistant_only=false), or give one record for each answer",
                  where, (long long)i);
    return add_span(spans, common(before, with), with->len);
}

plumb_status plumb_turns_spans(const struct plumb_turns *t, const struct plumb_chat_setting *c,
                               const plumb_json *record, struct plumb_buf *whole,
                               struct plumb_jinja_spans *spans, const char *where)
{
    const bool marked = plumb_jinja_has_generation(plumb_chat_template_for(c, record));
    struct plumb_buf before = {0}, with = {0};
    bool any = false;
    plumb_status st = PLUMB_OK;
    for (int64_t i = 0; i < t->n; i++)
        any |= t->assistant[i];
    PLUMB_REQUIRE(any, PLUMB_ERR_FORMAT,
                  "%s: no message is from \"assistant\": there is nothing to train on", where);
    PLUMB_TRY(plumb_turns_render(t, t->n, c, record, PLUMB_TAIL_NONE, whole, marked ? spans : NULL,
                                 where));
    if (marked) {
        PLUMB_REQUIRE(spans->n > 0, PLUMB_ERR_FORMAT,
                      "%s: {%% generation %%} of the chat template wrote nothing for this record: "
                      "there is nothing to train on",
                      where);
        return PLUMB_OK;
    }
    spans->n = 0;
    for (int64_t i = 0; i < t->n && st == PLUMB_OK; i++)
        if (t->assistant[i])
            st = span_of(t, i, c, record, whole, &before, &with, spans, where);
    plumb_buf_fini(&before);
    plumb_buf_fini(&with);
    return st;
}
