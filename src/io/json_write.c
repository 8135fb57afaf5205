/* json_write.c - appends JSON text to a buffer: strings, numbers and parsed nodes.
 * Layer 1. Includes json.h, base/. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/json.h"
#include "io/utf8.h"

static plumb_status put_escape(struct plumb_buf *b, unsigned char c)
{
    static const char letter[] = {['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f',
                                  ['\r'] = 'r', ['"'] = '"',  ['\\'] = '\\'};
    if (c < sizeof(letter) && letter[c])
        PLUMB_TRY(plumb_buf_add(b, (const char[]){'\\', letter[c]}, 2));
    else
        PLUMB_TRY(plumb_buf_addf(b, "\\u%04x", (unsigned)c));
    return PLUMB_OK;
}

plumb_status plumb_json_put_string(struct plumb_buf *b, const char *text, int64_t len)
{
    PLUMB_TRY(plumb_buf_add(b, "\"", 1));
    const unsigned char *s = (const unsigned char *)text;
    int64_t from = 0; /* text[from, i) needs no escape and has not been copied yet */
    for (int64_t i = 0; i < len;) {
        const int n = plumb_utf8_length(s + i, len - i);
        if (n > 0 && s[i] >= 0x20 && s[i] != '"' && s[i] != '\\') {
            i += n;
            continue;
        }
        PLUMB_TRY(plumb_buf_add(b, text + from, i - from));
        if (n == 0)
            /* U+FFFD, the replacement character. */
            PLUMB_TRY(plumb_buf_add_text(b, "\xef\xbf\xbd"));
        else
            PLUMB_TRY(put_escape(b, s[i]));
        from = ++i;
    }
    if (len > from)
        PLUMB_TRY(plumb_buf_add(b, text + from, len - from));
    PLUMB_TRY(plumb_buf_add(b, "\"", 1));
    return PLUMB_OK;
}

plumb_status plumb_json_put_key(struct plumb_buf *b, const char *key)
{
    if (b->len > 0 && b->data[b->len - 1] != '{')
        PLUMB_TRY(plumb_buf_add(b, ",", 1));
    PLUMB_TRY(plumb_json_put_string(b, key, (int64_t)strlen(key)));
    return plumb_buf_add(b, ":", 1);
}

/* Appends x (rounded to float32 if `single`) with the fewest digits that read back to the same
 * value. It tries increasing precisions p of %.<p>g, which omits trailing zeros, and takes the
 * first one whose text reads back to the same value. For a normal number it starts at p = 6 (float)
 * or 15 (double), because a number that has at most that many digits reads back at the first try. A
 * subnormal number has fewer digits and starts at 1. */
static plumb_status put_number(struct plumb_buf *b, double x, bool single)
{
    if (!isfinite(x)) {
        PLUMB_TRY(plumb_buf_add_text(b, "null"));
        return PLUMB_OK;
    }
    if (x == 0 && signbit(x)) { /* "-0" would read back as the integer 0 */
        PLUMB_TRY(plumb_buf_add_text(b, "-0.0"));
        return PLUMB_OK;
    }
    const bool normal = single ? isnormal((float)x) : isnormal(x);
    const int last = single ? 9 : 17;
    char text[40];
    for (int p = normal ? last - (single ? 3 : 2) : 1; p <= last; p++) {
        snprintf(text, sizeof(text), "%.*g", p, x);
        if (single ? strtof(text, NULL) == (float)x : strtod(text, NULL) == x)
            break;
    }
    PLUMB_TRY(plumb_buf_add_text(b, text));
    return PLUMB_OK;
}

plumb_status plumb_json_put_real(struct plumb_buf *b, double x)
{
    PLUMB_TRY(put_number(b, x, false));
    return PLUMB_OK;
}

plumb_status plumb_json_put_f32(struct plumb_buf *b, float x)
{
    PLUMB_TRY(put_number(b, (double)x, true));
    return PLUMB_OK;
}

plumb_status plumb_json_put_node(struct plumb_buf *b, const plumb_json *v)
{
    const enum plumb_json_type t = plumb_json_type_of(v);
    const int64_t n = plumb_json_count(v);
    switch (t) {
    case PLUMB_JSON_NULL:
        PLUMB_TRY(plumb_buf_add_text(b, "null"));
        break;
    case PLUMB_JSON_BOOL:
        PLUMB_TRY(plumb_buf_add_text(b, plumb_json_bool(v, false) ? "true" : "false"));
        break;
    case PLUMB_JSON_INT:
        PLUMB_TRY(plumb_buf_addf(b, "%" PRId64, plumb_json_int(v, 0)));
        break;
    case PLUMB_JSON_REAL: {
        /* A real without '.' or exponent gets ".0", so that it is read back as a real. */
        const int64_t from = b->len;
        PLUMB_TRY(plumb_json_put_real(b, plumb_json_real(v, 0)));
        if (!strpbrk(b->data + from, ".en"))
            PLUMB_TRY(plumb_buf_add_text(b, ".0"));
        break;
    }
    case PLUMB_JSON_STRING:
        PLUMB_TRY(plumb_json_put_string(b, plumb_json_string(v, ""), plumb_json_string_len(v)));
        break;
    case PLUMB_JSON_ARRAY:
    case PLUMB_JSON_OBJECT:
        PLUMB_TRY(plumb_buf_add_text(b, t == PLUMB_JSON_ARRAY ? "[" : "{"));
        for (int64_t i = 0; i < n; i++) {
            const char *key = NULL;
            const plumb_json *item = plumb_json_at(v, i);
            if (i)
                PLUMB_TRY(plumb_buf_add_text(b, ","));
            if (t == PLUMB_JSON_OBJECT) {
                PLUMB_TRY(plumb_json_member_at(v, i, &key, &item));
                PLUMB_TRY(plumb_json_put_string(b, key, (int64_t)strlen(key)));
                PLUMB_TRY(plumb_buf_add_text(b, ":"));
            }
            PLUMB_TRY(plumb_json_put_node(b, item));
        }
        PLUMB_TRY(plumb_buf_add_text(b, t == PLUMB_JSON_ARRAY ? "]" : "}"));
        break;
    }
    return PLUMB_OK;
}
