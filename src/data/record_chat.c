/* record_chat.c - renders one JSON record that contains messages with a chat template.
 * Layer 4. Includes data/record.h, base/, io/, text/. */
#include <stdio.h>
#include <string.h>

#include "data/chat.h"
#include "data/record.h"

static bool is_list(const plumb_json *line, const char *key)
{
    return plumb_json_type_of(plumb_json_get(line, key)) == PLUMB_JSON_ARRAY;
}

bool plumb_record_is_chat(const plumb_json *line, const struct plumb_data_options *o)
{
    if (!o->chat || !o->chat->template)
        return false;
    switch (o->kind) {
    case PLUMB_DATA_PROMPTS:
        return is_list(line, "prompt");
    case PLUMB_DATA_PAIRS:
        return is_list(line, "prompt") || is_list(line, "chosen") || is_list(line, "rejected");
    case PLUMB_DATA_TEXTS:
        return is_list(line, "messages");
    default:
        if (plumb_field_is_generated(line))
            return false;
        return is_list(line, "messages") || is_list(line, "prompt") || is_list(line, "completion");
    }
}

/* Checks the members of each message other than role and content (data/fields.h). trained tells
 * whether the loss covers the assistant's messages in this field. An element that is no object is
 * skipped here; plumb_turns_add refuses it. */
static plumb_status check_members(struct plumb_draft *d, const plumb_json *line,
                                  const plumb_json *v, const char *key, bool trained,
                                  const struct plumb_data_options *o, const char *where)
{
    const bool training = o->kind == PLUMB_DATA_SFT || o->kind == PLUMB_DATA_PAIRS;
    for (int64_t i = 0; i < plumb_json_count(v); i++) {
        const plumb_json *m = plumb_json_at(v, i);
        const char *role = plumb_json_string(plumb_json_get(m, "role"), "");
        char at[64];
        if (plumb_json_type_of(m) != PLUMB_JSON_OBJECT)
            continue;
        snprintf(at, sizeof(at), "%.32s[%lld].", key, (long long)i);
        PLUMB_TRY(plumb_fields_check_message(
            m, at, training && trained && !strcmp(role, "assistant"), training,
            plumb_chat_template_for(o->chat, line), &d->named, where));
    }
    return PLUMB_OK;
}

/* Sets *same to true if the message m is from the user and its content is the string `prompt`. */
static plumb_status asks_again(bool *same, const plumb_json *prompt, const plumb_json *m,
                               const char *key, const char *where)
{
    struct plumb_buf text = {0};
    const char *role = plumb_json_string(plumb_json_get(m, "role"), "");
    const plumb_status st = plumb_content_text(&text, plumb_json_get(m, "content"), key, where);
    *same = st == PLUMB_OK && strcmp(role, "user") == 0 &&
            text.len == plumb_json_string_len(prompt) &&
            memcmp(plumb_buf_text(&text), plumb_json_string(prompt, ""), (size_t)text.len) == 0;
    plumb_buf_fini(&text);
    return st;
}

/* Sets *n to the number of prompt messages if the answer repeats all of them at its beginning, else
 * to 0. */
static plumb_status repeated(int64_t *n, const plumb_json *prompt, const plumb_json *answer,
                             const char *key, const char *where)
{
    const bool list = plumb_json_type_of(prompt) == PLUMB_JSON_ARRAY;
    const int64_t count = list ? plumb_json_count(prompt) : 1;
    bool same = plumb_json_type_of(answer) == PLUMB_JSON_ARRAY && plumb_json_count(answer) > count;
    for (int64_t i = 0; i < count && same; i++) {
        const plumb_json *m = plumb_json_at(answer, i);
        if (list)
            same = plumb_json_equal(plumb_json_at(prompt, i), m);
        else
            PLUMB_TRY(asks_again(&same, prompt, m, key, where));
    }
    *n = same ? count : 0;
    return PLUMB_OK;
}

/* Refuses an answer that does not repeat the prompt, but begins with another question or with a
 * system message: the model would see two questions, or a system message after the question. A
 * prompt that ends with an answer may be followed by a question. */
static plumb_status check_first(const plumb_json *prompt, const plumb_json *answer, const char *key,
                                const char *where)
{
    const plumb_json *last = plumb_json_at(prompt, plumb_json_count(prompt) - 1);
    const char *before = plumb_json_string(plumb_json_get(last, "role"), "user");
    const char *role =
        plumb_json_string(plumb_json_get(plumb_json_at(answer, 0), "role"), "assistant");
    const bool system = strcmp(role, "system") == 0 || strcmp(role, "developer") == 0;
    const bool twice = strcmp(role, "user") == 0 && strcmp(before, "user") == 0;
    PLUMB_REQUIRE(!system && !twice, PLUMB_ERR_FORMAT,
                  "%s: field \"%s\": the first message is from \"%s\" and is not that of "
                  "\"prompt\"; expected the answer alone, or all messages of \"prompt\" before it",
                  where, key, role);
    return PLUMB_OK;
}

static bool has_text(const struct plumb_buf *text, const char *content)
{
    return plumb_chat_contains(text->data, text->len, content, (int64_t)strlen(content));
}

/* Warns if the rendered text lacks data.system, or the content of a system, developer or user
 * message among the first n messages (-1: all) of the list v. Templates often rewrite messages of
 * other roles, so these are not checked. */
static plumb_status note_dropped(struct plumb_draft *d, const struct plumb_buf *text,
                                 const plumb_json *v, const char *key, int64_t n,
                                 const struct plumb_data_options *o, const char *where)
{
    char at[96];
    bool own = false;
    for (int64_t i = 0; i < (n < 0 ? plumb_json_count(v) : n); i++) {
        const plumb_json *m = plumb_json_at(v, i);
        const char *role = plumb_json_string(plumb_json_get(m, "role"), "");
        const bool system = strcmp(role, "system") == 0;
        own = own || system;
        snprintf(at, sizeof(at), "field \"%.32s[%lld].content\"", key, (long long)i);
        if ((system || strcmp(role, "developer") == 0 || strcmp(role, "user") == 0) &&
            !has_text(text, plumb_json_string(plumb_json_get(m, "content"), "")))
            PLUMB_TRY(plumb_fields_note_dropped(role, at, &d->named, where));
    }
    if (!own && o->chat->system && !has_text(text, o->chat->system))
        PLUMB_TRY(plumb_fields_note_dropped("data.system", "data.system", &d->named, where));
    return PLUMB_OK;
}

/* A prompt: the first n messages of the list v, or the string v. */
struct asked {
    const plumb_json *v;
    const char *key;
    int64_t n; /* number of messages to render, from the first; -1: all */
};

static plumb_status render_prompt(struct plumb_draft *d, struct plumb_buf *out, struct asked p,
                                  const char *principle, const plumb_json *line,
                                  const struct plumb_data_options *o, const char *where)
{
    const struct plumb_turns_extra extra = {.principle = principle,
                                            .principle_template = o->principle_template
                                                                      ? o->principle_template
                                                                      : "{principle}\n{prompt}",
                                            .in_system = o->principle_in_system};
    plumb_turns_clear(&d->turns);
    PLUMB_TRY(plumb_turns_add(&d->turns, o->chat, p.v, "user", p.key, 0, p.n, where));
    PLUMB_TRY(plumb_turns_complete(&d->turns, o->chat, principle ? &extra : NULL, where));
    return plumb_turns_render(&d->turns, d->turns.n, o->chat, line,
                              o->kind == PLUMB_DATA_SFT || o->kind == PLUMB_DATA_PAIRS
                                  ? PLUMB_TAIL_GENERATE
                                  : PLUMB_TAIL_ROLE,
                              out, NULL, where);
}

static plumb_status put_prompt(struct plumb_draft *d, struct asked p, const plumb_json *line,
                               const struct plumb_data_options *o, const char *where)
{
    const bool prompts = o->kind == PLUMB_DATA_PROMPTS;
    const int64_t n = p.n < 0 ? plumb_json_count(p.v) : p.n;
    const plumb_json *last = plumb_json_type_of(p.v) == PLUMB_JSON_ARRAY
                                 ? plumb_json_get(plumb_json_at(p.v, n - 1), "content")
                                 : p.v;
    PLUMB_TRY(render_prompt(d, &d->prompt, p, NULL, line, o, where));
    if (plumb_json_type_of(p.v) == PLUMB_JSON_ARRAY)
        PLUMB_TRY(note_dropped(d, &d->prompt, p.v, p.key, n, o, where));
    if (o->whole)
        PLUMB_TRY(plumb_content_text(&d->asked, last, p.key, where));
    if (o->principle && prompts)
        PLUMB_TRY(render_prompt(d, &d->principled, p, o->principle, line, o, where));
    if (o->contrary && prompts)
        PLUMB_TRY(render_prompt(d, &d->contrary, p, o->contrary, line, o, where));
    return PLUMB_OK;
}

/* Warns if the messages of the answer v from index `first` on are not all the assistant's. */
static plumb_status note_covered(struct plumb_draft *d, const plumb_json *v, const char *key,
                                 int64_t first, const struct plumb_data_options *o,
                                 const char *where)
{
    if ((o->kind != PLUMB_DATA_SFT && o->kind != PLUMB_DATA_PAIRS) || o->all_tokens)
        return PLUMB_OK;
    for (int64_t i = first; i < plumb_json_count(v); i++) {
        char at[64];
        const char *role =
            plumb_json_string(plumb_json_get(plumb_json_at(v, i), "role"), "assistant");
        snprintf(at, sizeof(at), "%.32s[%lld]", key, (long long)i);
        if (strcmp(role, "assistant") != 0)
            PLUMB_TRY(plumb_fields_note_covered(role, at, &d->named, where));
    }
    return PLUMB_OK;
}

/* Renders the prompt followed by the messages of the answer v from index `first` on; v may also be
 * a string, which is one message of the assistant. */
static plumb_status put_answer(struct plumb_draft *d, struct asked p, const plumb_json *v,
                               const char *key, int64_t first, const plumb_json *line,
                               const struct plumb_data_options *o, const char *where)
{
    const int k = d->completions++;
    const bool list = plumb_json_type_of(v) == PLUMB_JSON_ARRAY;
    const plumb_json *last = plumb_json_at(v, plumb_json_count(v) - 1);
    PLUMB_TRY(check_members(d, line, list ? v : NULL, key, true, o, where));
    PLUMB_TRY(note_covered(d, list ? v : NULL, key, first, o, where));
    plumb_turns_clear(&d->turns);
    PLUMB_TRY(plumb_turns_add(&d->turns, o->chat, p.v, "user", p.key, 0, p.n, where));
    PLUMB_TRY(plumb_turns_add(&d->turns, o->chat, v, "assistant", key, first, -1, where));
    PLUMB_REQUIRE(strcmp(plumb_buf_text(&d->turns.role), "assistant") == 0, PLUMB_ERR_FORMAT,
                  "%s: field \"%s\": the last message is from \"%.60s\", expected \"assistant\"",
                  where, key, plumb_buf_text(&d->turns.role));
    PLUMB_TRY(plumb_turns_complete(&d->turns, o->chat, NULL, where));
    PLUMB_TRY(plumb_turns_render(&d->turns, d->turns.n, o->chat, line, PLUMB_TAIL_NONE,
                                 &d->whole[k], NULL, where));
    return plumb_content_text(&d->completion[k], list ? plumb_json_get(last, "content") : v, key,
                              where);
}

/* Reads a record {"prompt", key[0], key[1], ...}. Each key names an answer. */
static plumb_status read_answers(struct plumb_draft *d, const plumb_json *line,
                                 const char *const *key, int n, const struct plumb_data_options *o,
                                 const char *where)
{
    const struct asked p = {plumb_json_get(line, "prompt"), "prompt", -1};
    PLUMB_TRY(check_members(d, line, plumb_json_type_of(p.v) == PLUMB_JSON_ARRAY ? p.v : NULL,
                            "prompt", false, o, where));
    PLUMB_TRY(put_prompt(d, p, line, o, where));
    for (int i = 0; i < n; i++) {
        const plumb_json *v = plumb_json_get(line, key[i]);
        int64_t first;
        PLUMB_TRY(repeated(&first, p.v, v, key[i], where));
        if (first == 0)
            PLUMB_TRY(check_first(p.v, v, key[i], where));
        PLUMB_TRY(put_answer(d, p, v, key[i], first, line, o, where));
    }
    return PLUMB_OK;
}

/* Reads {"chosen", "rejected"}. The messages with which both begin, without the last message of
 * either, are the prompt. */
static plumb_status read_implicit(struct plumb_draft *d, const plumb_json *line,
                                  const struct plumb_data_options *o, const char *where)
{
    const plumb_json *a = plumb_json_get(line, "chosen"), *b = plumb_json_get(line, "rejected");
    int64_t n = 0;
    const bool list = plumb_json_type_of(a) == PLUMB_JSON_ARRAY;
    const plumb_json *other = list ? b : a;
    PLUMB_REQUIRE(plumb_json_type_of(other) == PLUMB_JSON_ARRAY, PLUMB_ERR_FORMAT,
                  "%s: field \"%s\": found %s, expected a list of messages as in \"%s\"", where,
                  list ? "rejected" : "chosen",
                  other ? plumb_json_type_name(plumb_json_type_of(other)) : "nothing",
                  list ? "chosen" : "rejected");
    for (bool same = true; same && n + 1 < plumb_json_count(a) && n + 1 < plumb_json_count(b);
         n += same)
        same = plumb_json_equal(plumb_json_at(a, n), plumb_json_at(b, n));
    PLUMB_REQUIRE(n > 0, PLUMB_ERR_FORMAT,
                  "%s: field \"prompt\": found nothing, and \"chosen\" and \"rejected\" do not "
                  "begin with the same message; expected a string or a list of messages",
                  where);
    const struct asked p = {a, "chosen", n};
    PLUMB_TRY(put_prompt(d, p, line, o, where));
    PLUMB_TRY(put_answer(d, p, a, "chosen", n, line, o, where));
    return put_answer(d, p, b, "rejected", n, line, o, where);
}

/* Reads {"messages"}. */
static plumb_status read_messages(struct plumb_draft *d, const plumb_json *line,
                                  const struct plumb_data_options *o, const char *where)
{
    const plumb_json *v = plumb_json_get(line, "messages");
    const plumb_json *last = plumb_json_at(v, plumb_json_count(v) - 1);
    const bool trains = o->kind == PLUMB_DATA_SFT;
    PLUMB_TRY(check_members(d, line, v, "messages", trains, o, where));
    PLUMB_TRY(plumb_turns_add(&d->turns, o->chat, v, NULL, "messages", 0, -1, where));
    PLUMB_TRY(plumb_turns_complete(&d->turns, o->chat, NULL, where));
    if (o->whole)
        PLUMB_TRY(
            plumb_content_text(&d->asked, plumb_json_get(last, "content"), "messages", where));
    if (!trains || o->all_tokens) {
        d->all = trains;
        PLUMB_TRY(plumb_turns_render(&d->turns, d->turns.n, o->chat, line, PLUMB_TAIL_NONE,
                                     &d->prompt, NULL, where));
        return note_dropped(d, &d->prompt, v, "messages", -1, o, where);
    }
    PLUMB_TRY(plumb_turns_spans(&d->turns, o->chat, line, &d->whole[0], &d->spans, where));
    PLUMB_TRY(note_dropped(d, &d->whole[0], v, "messages", -1, o, where));
    PLUMB_TRY(
        plumb_content_text(&d->completion[0], plumb_json_get(last, "content"), "messages", where));
    d->completions = 1;
    return PLUMB_OK;
}

plumb_status plumb_record_read_chat(struct plumb_draft *d, const plumb_json *line,
                                    const struct plumb_data_options *o, const char *where)
{
    static const char *const sft[1] = {"completion"}, *const pair[2] = {"chosen", "rejected"};
    const bool answered = plumb_json_get(line, "completion") != NULL;
    d->by_template = true;
    if (o->kind == PLUMB_DATA_PAIRS)
        return plumb_json_get(line, "prompt") ? read_answers(d, line, pair, 2, o, where)
                                              : read_implicit(d, line, o, where);
    if (o->kind == PLUMB_DATA_PROMPTS)
        return read_answers(d, line, sft, o->references && answered, o, where);
    const bool first = o->kind != PLUMB_DATA_ANY || !plumb_json_get(line, "prompt");
    if (is_list(line, "messages") && first)
        return read_messages(d, line, o, where);
    return read_answers(d, line, sft, o->kind == PLUMB_DATA_SFT || answered, o, where);
}
