/* shapes.c - converts records in the shapes of other programs (alpaca, sharegpt) to plumb's shapes.
 * Layer 4. Includes data/record.h, base/, io/. */
#include <stdio.h>
#include <string.h>

#include "data/chat.h"
#include "data/record.h"

static const char *const chats[] = {"prompt", "completion", "messages", "chosen", "rejected"};
enum { CHATS = sizeof(chats) / sizeof(chats[0]), FIRST_OF_PAIR = 3 };

static bool is_string(const plumb_json *line, const char *key)
{
    return plumb_json_type_of(plumb_json_get(line, key)) == PLUMB_JSON_STRING;
}

/* Returns true if `chosen` and `rejected` are both strings. (If they are lists of messages, they
 * contain the prompt, so the record is not an alpaca pair.) */
static bool is_text_pair(const plumb_json *line)
{
    return is_string(line, "chosen") && is_string(line, "rejected");
}

/* Returns true if the record has the shape {"instruction", "input", "output"}, or {"instruction",
 * "input", "chosen", "rejected"} ("input" is optional), and no other member of plumb's shapes. */
static bool is_alpaca(const plumb_json *line)
{
    const bool pair = is_text_pair(line);
    for (int i = 0; i < CHATS && !(pair && i == FIRST_OF_PAIR); i++)
        if (plumb_json_get(line, chats[i]))
            return false;
    return is_string(line, "instruction") && (pair || is_string(line, "output"));
}

/* Refuses an alpaca record whose output is not a string. */
static plumb_status check_output(const plumb_json *line, const char *where)
{
    const plumb_json *output = plumb_json_member(line, "output");
    for (int i = 0; i < CHATS; i++)
        if (plumb_json_get(line, chats[i]))
            return PLUMB_OK;
    PLUMB_REQUIRE(!is_string(line, "instruction") || !output || is_string(line, "output"),
                  PLUMB_ERR_FORMAT, "%s: field \"output\": found %s, expected a string", where,
                  plumb_json_type_name(plumb_json_type_of(output)));
    return PLUMB_OK;
}

static bool is_shared(const plumb_json *line)
{
    return plumb_json_type_of(plumb_json_get(line, "conversations")) == PLUMB_JSON_ARRAY &&
           !plumb_json_get(line, "messages");
}

static bool has_from(const plumb_json *list)
{
    return plumb_json_get(plumb_json_at(list, 0), "from") != NULL;
}

static bool has_parts(const plumb_json *list)
{
    for (int64_t i = 0; i < plumb_json_count(list); i++) {
        const plumb_json *content = plumb_json_get(plumb_json_at(list, i), "content");
        if (plumb_json_type_of(content) == PLUMB_JSON_ARRAY && plumb_json_count(content) > 0)
            return true;
    }
    return false;
}

/* Returns the role in chat templates for a role name of sharegpt: human -> user, gpt -> assistant.
 * Any other name is returned unchanged. */
static const char *role_of(const char *from)
{
    static const char *const role[][2] = {{"human", "user"}, {"gpt", "assistant"}};
    for (int i = 0; i < 2; i++)
        if (strcmp(from, role[i][0]) == 0)
            return role[i][1];
    return from;
}

/* Appends one message. "from" and "value" are renamed to "role" and "content". If join is true, a
 * content that is a list of text parts is joined to one text. */
static plumb_status put_message(struct plumb_buf *out, const plumb_json *m, bool join,
                                const char *where)
{
    struct plumb_buf text = {0};
    plumb_status st = plumb_buf_add_text(out, "{");
    for (int64_t i = 0; i < plumb_json_count(m) && st == PLUMB_OK; i++) {
        const char *key = "";
        const plumb_json *v = NULL;
        PLUMB_TRY_GOTO(st, plumb_json_member_at(m, i, &key, &v), done);
        const bool from = strcmp(key, "from") == 0 && !plumb_json_get(m, "role");
        const bool value = strcmp(key, "value") == 0 && !plumb_json_get(m, "content");
        PLUMB_TRY_GOTO(st, plumb_json_put_key(out, from ? "role" : value ? "content" : key), done);
        if (from && plumb_json_type_of(v) == PLUMB_JSON_STRING) {
            const char *role = role_of(plumb_json_string(v, ""));
            st = plumb_json_put_string(out, role, (int64_t)strlen(role));
        } else if (join && strcmp(key, "content") == 0 &&
                   plumb_json_type_of(v) == PLUMB_JSON_ARRAY) {
            plumb_buf_clear(&text);
            PLUMB_TRY_GOTO(st, plumb_content_text(&text, v, "content", where), done);
            st = plumb_json_put_string(out, plumb_buf_text(&text), text.len);
        } else
            st = plumb_json_put_node(out, v);
    }
    if (st == PLUMB_OK)
        st = plumb_buf_add_text(out, "}");
done:
    plumb_buf_fini(&text);
    return st;
}

static plumb_status put_messages(struct plumb_buf *out, const plumb_json *list, bool join,
                                 const char *where)
{
    PLUMB_TRY(plumb_buf_add_text(out, "["));
    for (int64_t i = 0; i < plumb_json_count(list); i++) {
        const plumb_json *m = plumb_json_at(list, i);
        PLUMB_TRY(plumb_buf_add_text(out, i ? "," : ""));
        PLUMB_TRY(plumb_json_type_of(m) == PLUMB_JSON_OBJECT ? put_message(out, m, join, where)
                                                             : plumb_json_put_node(out, m));
    }
    return plumb_buf_add_text(out, "]");
}

/* Appends the member "prompt": the instruction and, if there is an input, a blank line and the
 * input. If chat is true, the prompt is a list with one user message. */
static plumb_status put_instruction(struct plumb_buf *out, const plumb_json *line, bool chat,
                                    const char *where)
{
    const plumb_json *text = plumb_json_get(line, "instruction");
    const plumb_json *input = plumb_json_get(line, "input");
    const int64_t n =
        plumb_json_type_of(input) == PLUMB_JSON_STRING ? plumb_json_string_len(input) : 0;
    struct plumb_buf whole = {0};
    PLUMB_REQUIRE(n > 0 || plumb_field_is_empty(input), PLUMB_ERR_FORMAT,
                  "%s: field \"input\": found %s, expected a string", where,
                  plumb_json_type_name(plumb_json_type_of(input)));
    plumb_status st =
        plumb_buf_add(&whole, plumb_json_string(text, ""), plumb_json_string_len(text));
    if (st == PLUMB_OK && n > 0)
        st = plumb_buf_add_text(&whole, "\n\n");
    if (st == PLUMB_OK && n > 0) /* copies a NUL byte, too, so that the later check of the prompt
                                  * refuses it */
        st = plumb_buf_add(&whole, plumb_json_string(input, ""), n);
    if (st == PLUMB_OK)
        st = plumb_json_put_key(out, "prompt");
    if (st == PLUMB_OK && chat)
        st = plumb_buf_add_text(out, "[{\"role\":\"user\",\"content\":");
    if (st == PLUMB_OK)
        st = plumb_json_put_string(out, plumb_buf_text(&whole), whole.len);
    if (st == PLUMB_OK && chat)
        st = plumb_buf_add_text(out, "}]");
    plumb_buf_fini(&whole);
    return st;
}

static plumb_status put_member(struct plumb_buf *out, const char *key, const plumb_json *v,
                               bool chat, const char *where)
{
    const bool list = plumb_json_type_of(v) == PLUMB_JSON_ARRAY;
    PLUMB_TRY(plumb_json_put_key(out, strcmp(key, "conversations") == 0 ? "messages" : key));
    for (int i = 0; i < CHATS && list; i++)
        if (strcmp(key, chats[i]) == 0 || strcmp(key, "conversations") == 0)
            return put_messages(out, v, !chat, where);
    return plumb_json_put_node(out, v);
}

plumb_status plumb_shape_read(plumb_json **out, const plumb_json *line, bool chat,
                              const char *where)
{
    const bool alpaca = is_alpaca(line), shared = is_shared(line);
    struct plumb_buf text = {0};
    bool change = alpaca || shared;
    plumb_status st;
    *out = NULL;
    for (int i = 0; i < CHATS; i++) {
        const plumb_json *v = plumb_json_get(line, chats[i]);
        change |= has_from(v) || (!chat && has_parts(v));
    }
    if (!change)
        PLUMB_TRY(check_output(line, where));
    if (!change || plumb_field_is_generated(line))
        return PLUMB_OK;
    PLUMB_TRY_GOTO(st, plumb_buf_add_text(&text, "{"), done);
    for (int64_t i = 0; i < plumb_json_count(line); i++) {
        const char *key = "";
        const plumb_json *v = NULL;
        PLUMB_TRY_GOTO(st, plumb_json_member_at(line, i, &key, &v), done);
        if (alpaca && strcmp(key, "instruction") == 0)
            st = put_instruction(&text, line, chat, where);
        else if (alpaca && !is_text_pair(line) && strcmp(key, "output") == 0) {
            st = plumb_json_put_key(&text, "completion");
            if (st == PLUMB_OK)
                st = plumb_json_put_node(&text, v);
        } else if (!alpaca || strcmp(key, "input") != 0)
            st = put_member(&text, key, v, chat, where);
        if (st != PLUMB_OK)
            goto done;
    }
    PLUMB_TRY_GOTO(st, plumb_buf_add_text(&text, "}"), done);
    st = plumb_json_parse(out, text.data, text.len, where);
done:
    plumb_buf_fini(&text);
    return st;
}

enum {
    OF_PROMPTS = 1 << PLUMB_DATA_PROMPTS,
    OF_SFT = 1 << PLUMB_DATA_SFT,
    OF_PAIRS = 1 << PLUMB_DATA_PAIRS,
    OF_TEXTS = 1 << PLUMB_DATA_TEXTS,
    OF_ANY = 1 << PLUMB_DATA_ANY
};

/* The shapes that plumb_shape_hint recognises. The function takes the first shape whose members the
 * record has, so the more specific shapes come first. */
static const struct shape {
    const char *member[2]; /* members that the record must have; the second is NULL if one suffices
                            */
    int kinds;             /* the kinds that read this shape */
    const char *name, *readers;
} shapes[] = {
    {{"chosen", "rejected"},
     OF_PAIRS,
     "a preference pair (chosen, rejected)",
     "plumb prefer and plumb reward train on pairs"},
    {{"messages", NULL},
     OF_SFT | OF_TEXTS | OF_ANY,
     "a conversation (messages)",
     "plumb sft trains on it; a prompt is a list of messages in the member \"prompt\", and a pair "
     "has \"chosen\" and \"rejected\""},
    {{"prompt", "completion"},
     OF_SFT | OF_ANY | OF_PROMPTS,
     "a prompt with one completion",
     "plumb sft trains on it; a pair has \"chosen\" and \"rejected\""},
    {{"prompt_ids", "completion_ids"},
     OF_SFT | OF_ANY | OF_PROMPTS,
     "a line of plumb generate",
     "plumb sft, logprob and score read it"},
    {{"prompt", NULL},
     OF_PROMPTS | OF_ANY,
     "a prompt without a completion",
     "plumb generate and plumb align read prompts"},
    {{"text", NULL},
     OF_SFT | OF_TEXTS | OF_ANY,
     "a plain text (text)",
     "plumb sft trains on it; a prompt has the member \"prompt\""},
};

void plumb_shape_hint(char *out, int64_t size, const plumb_json *line, enum plumb_data_kind kind)
{
    out[0] = '\0';
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        const struct shape *s = &shapes[i];
        if (!plumb_json_get(line, s->member[0]) ||
            (s->member[1] && !plumb_json_get(line, s->member[1])))
            continue;
        if (!(s->kinds & 1 << kind))
            snprintf(out, (size_t)size, "; the record is %s: %s", s->name, s->readers);
        return;
    }
    int64_t at = 0;
    for (int i = 0; i < CHATS; i++)
        if (plumb_json_get(line, chats[i]) || plumb_json_get(line, "ids") ||
            plumb_json_get(line, "prompt_ids"))
            return;
    for (int64_t i = 0; i < plumb_json_count(line) && at < size; i++) {
        const char *key;
        const plumb_json *v;
        if (plumb_json_member_at(line, i, &key, &v) == PLUMB_OK)
            at += snprintf(out + at, (size_t)(size - at), "%s \"%.40s\"%s",
                           i ? "," : "; the record has", key,
                           plumb_json_type_of(v) == PLUMB_JSON_NULL ? " (null)" : "");
    }
}
