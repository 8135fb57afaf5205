/* columns.c - reads members of a record from its JSON text.
 * Layer 4. Includes base/, io/json.h, data/columns.h. */
#include "data/columns.h"

#include <string.h>

#include "io/json.h"

static int64_t skip_space(struct plumb_columns c, int64_t i)
{
    while (i < c.len && (c.text[i] == ' ' || c.text[i] == '\t' || c.text[i] == '\n' ||
                         c.text[i] == '\r' || c.text[i] == ',' || c.text[i] == ':'))
        i++;
    return i;
}

/* Returns the index after the string whose opening quote is at i. */
static int64_t skip_string(struct plumb_columns c, int64_t i)
{
    for (i++; i < c.len && c.text[i] != '"'; i++)
        i += c.text[i] == '\\';
    return i < c.len ? i + 1 : c.len;
}

/* Returns the index after the JSON value that begins at byte i of c.text. */
static int64_t skip_value(struct plumb_columns c, int64_t i)
{
    int64_t depth = 0;
    while (i < c.len) {
        const char ch = c.text[i];
        if (ch == '"') {
            i = skip_string(c, i);
        } else if (ch == '{' || ch == '[') {
            depth++;
            i++;
        } else if (ch == '}' || ch == ']') {
            if (depth == 0)
                return i; /* this bracket ends the object or array around the value */
            depth--;
            i++;
        } else if (depth == 0 && strchr(", \t\r\n", ch)) {
            return i;
        } else {
            i++;
            continue;
        }
        if (depth == 0)
            return i;
    }
    return c.len;
}

bool plumb_columns_next(struct plumb_columns c, int64_t *at, struct plumb_span *key,
                        struct plumb_span *value)
{
    int64_t i = *at;
    *key = *value = (struct plumb_span){0, 0};
    if (!c.text || c.len < 2 || (c.text[0] != '{' && c.text[0] != '['))
        return false;
    i = skip_space(c, i ? i : 1);
    if (i >= c.len || c.text[i] == '}' || c.text[i] == ']')
        return false;
    if (c.text[0] == '{') {
        const int64_t end = skip_string(c, i);
        *key = (struct plumb_span){i + 1, end - 1};
        i = skip_space(c, end);
    }
    *at = skip_value(c, i);
    *value = (struct plumb_span){i, *at};
    return *at > i;
}

static struct plumb_columns part_of(struct plumb_columns c, struct plumb_span s)
{
    return (struct plumb_columns){c.text + s.begin, s.end - s.begin};
}

/* Returns true if a key, which may contain escapes, equals the name of n bytes. */
static bool is_named(struct plumb_columns c, struct plumb_span key, const char *name, int64_t n)
{
    const int64_t len = key.end - key.begin;
    if (!memchr(c.text + key.begin, '\\', (size_t)len))
        return len == n && memcmp(c.text + key.begin, name, (size_t)n) == 0;
    plumb_json *v = NULL;
    const bool same = plumb_json_parse(&v, c.text + key.begin - 1, len + 2, "a name") == PLUMB_OK &&
                      plumb_json_string_len(v) == n &&
                      memcmp(plumb_json_string(v, ""), name, (size_t)n) == 0;
    plumb_json_free(&v);
    return same;
}

static bool find(struct plumb_columns c, const char *name, int64_t n, struct plumb_columns *value)
{
    struct plumb_span key, span;
    if (!c.text || c.len < 1 || c.text[0] != '{')
        return false;
    for (int64_t at = 0; plumb_columns_next(c, &at, &key, &span);)
        if (is_named(c, key, name, n)) {
            *value = part_of(c, span);
            return true;
        }
    return false;
}

bool plumb_columns_find(struct plumb_columns c, const char *name, struct plumb_columns *value)
{
    struct plumb_columns inner;
    if (find(c, name, (int64_t)strlen(name), value))
        return true;
    for (const char *point = strchr(name, '.'); point; point = strchr(point + 1, '.'))
        if (find(c, name, point - name, &inner) && plumb_columns_find(inner, point + 1, value))
            return true;
    return false;
}

bool plumb_columns_field(struct plumb_columns c, const char *name, struct plumb_columns *value)
{
    struct plumb_columns stop, record;
    if (find(c, "stop_reason", 11, &stop) && find(c, "record", 6, &record) &&
        plumb_columns_find(record, name, value))
        return true;
    return plumb_columns_find(c, name, value);
}

plumb_status plumb_columns_text(struct plumb_buf *out, struct plumb_columns value, bool *is_text)
{
    const char first = value.len > 0 ? value.text[0] : 'n';
    plumb_json *v = NULL;
    *is_text = first == '"' || first == '-' || (first >= '0' && first <= '9');
    if (!*is_text)
        return PLUMB_OK;
    if (first != '"')
        return plumb_buf_add(out, value.text, value.len);
    PLUMB_TRY(plumb_json_parse(&v, value.text, value.len, "a field of a record"));
    const plumb_status st = plumb_buf_add(out, plumb_json_string(v, ""), plumb_json_string_len(v));
    plumb_json_free(&v);
    return st;
}

static bool is_among(struct plumb_columns c, struct plumb_span key, const char *const *name, int n)
{
    for (int i = 0; i < n; i++)
        if (is_named(c, key, name[i], (int64_t)strlen(name[i])))
            return true;
    return false;
}

static bool is_taken(struct plumb_columns c, struct plumb_span key, const char *const *taken, int n)
{
    return is_among(c, key, taken, n) || is_named(c, key, "prompt_messages", 15) ||
           is_named(c, key, "record", 6);
}

static plumb_status put_member(struct plumb_buf *out, struct plumb_columns c, struct plumb_span key,
                               struct plumb_span value)
{
    PLUMB_TRY(plumb_buf_add(out, c.text + key.begin - 1, key.end - key.begin + 2));
    PLUMB_TRY(plumb_buf_add_text(out, ": "));
    return plumb_buf_add(out, c.text + value.begin, value.end - value.begin);
}

/* Appends the record's prompt as the member "prompt_messages": a list of messages as written, a
 * text as one message of the user. Without a prompt of these types nothing is appended. */
static plumb_status put_messages(struct plumb_buf *out, struct plumb_columns record)
{
    struct plumb_columns prompt;
    if (!plumb_columns_find(record, "prompt", &prompt) || !strchr("[\"", prompt.text[0]))
        return PLUMB_OK;
    const bool text = prompt.text[0] == '"';
    PLUMB_TRY(plumb_buf_add_text(out, ", \"prompt_messages\": "));
    if (text)
        PLUMB_TRY(plumb_buf_add_text(out, "[{\"role\": \"user\", \"content\": "));
    PLUMB_TRY(plumb_buf_add(out, prompt.text, prompt.len));
    return text ? plumb_buf_add_text(out, "}]") : PLUMB_OK;
}

plumb_status plumb_columns_add(struct plumb_buf *out, struct plumb_columns record,
                               const char *const *taken, int n, const char *const *skip)
{
    struct plumb_span key, value;
    int inner = 0, skipped = 0;
    while (skip[skipped])
        skipped++;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t at = 0; plumb_columns_next(record, &at, &key, &value);) {
            const bool mine = is_among(record, key, taken, n) || is_named(record, key, "record", 6);
            if (is_among(record, key, skip, skipped) || mine != (pass == 1))
                continue;
            PLUMB_TRY(plumb_buf_add_text(out, mine && inner++ == 0 ? ",\"record\":{" : ","));
            PLUMB_TRY(plumb_buf_add(out, record.text + key.begin - 1, key.end - key.begin + 2));
            PLUMB_TRY(plumb_buf_add_text(out, ":"));
            PLUMB_TRY(plumb_buf_add(out, record.text + value.begin, value.end - value.begin));
        }
    return inner ? plumb_buf_add_text(out, "}") : PLUMB_OK;
}

plumb_status plumb_columns_put(struct plumb_buf *out, struct plumb_columns record,
                               const char *const *taken, int n, const char *skip)
{
    struct plumb_span key, value;
    int inner = 0;
    if (!record.text)
        return PLUMB_OK;
    PLUMB_TRY(put_messages(out, record));
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t at = 0; plumb_columns_next(record, &at, &key, &value);) {
            const bool mine = is_taken(record, key, taken, n);
            if (is_named(record, key, "prompt", 6) || mine != (pass == 1) ||
                (skip && is_named(record, key, skip, (int64_t)strlen(skip))))
                continue;
            if (mine)
                PLUMB_TRY(plumb_buf_add_text(out, inner++ ? ", " : ", \"record\": {"));
            else
                PLUMB_TRY(plumb_buf_add_text(out, ", "));
            PLUMB_TRY(put_member(out, record, key, value));
        }
    }
    return inner ? plumb_buf_add_text(out, "}") : PLUMB_OK;
}
