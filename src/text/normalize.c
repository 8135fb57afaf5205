/* normalize.c - the "normalizer" of tokenizer.json: changes a text before it is split into words.
 * Layer 3. Includes base/, io/json.h and utf8proc. */
#include "text/normalize.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "text/pieces.h"
#include "text/utf8.h"

#define KNOWN     "NFC, NFD, NFKC, NFKD, Sequence, Prepend, Replace, Lowercase, Strip"
#define MAX_DEPTH 8

enum kind { NFC, NFD, NFKC, NFKD, PREPEND, REPLACE, LOWERCASE, STRIP };

struct plumb_normalize_step {
    enum kind kind;
    plumb_pattern *pattern;   /* used by REPLACE */
    struct plumb_buf content; /* used by PREPEND and REPLACE */
    bool left, right;         /* used by STRIP */
};

plumb_status plumb_pattern_from_json(plumb_pattern **out, const plumb_json *v, const char *where)
{
    const plumb_json *text = plumb_json_get(v, "String"), *regex = plumb_json_get(v, "Regex");
    const plumb_json *p = text ? text : regex;
    PLUMB_REQUIRE(p && plumb_json_type_of(p) == PLUMB_JSON_STRING, PLUMB_ERR_FORMAT,
                  "%s: pattern: expected {\"String\": text} or {\"Regex\": text}", where);
    return plumb_pattern_compile(out, text ? PLUMB_PATTERN_LITERAL : PLUMB_PATTERN_ONIG,
                                 plumb_json_string(p, ""), plumb_json_string_len(p), where);
}

void plumb_normalizer_fini(struct plumb_normalizer *z)
{
    for (int64_t i = 0; i < z->n; i++) {
        plumb_pattern_free(&z->step[i].pattern);
        plumb_buf_fini(&z->step[i].content);
    }
    free(z->step);
    *z = (struct plumb_normalizer){0};
}

static plumb_status content(struct plumb_normalize_step *s, const plumb_json *v, const char *key,
                            const char *where)
{
    const char *text;
    PLUMB_TRY(plumb_json_want_string(v, key, &text, NULL, where));
    return plumb_buf_add(&s->content, text, plumb_json_string_len(plumb_json_get(v, key)));
}

static plumb_status fill(struct plumb_normalize_step *s, const char *type, const plumb_json *v,
                         const char *where)
{
    static const struct {
        const char *name;
        enum kind kind;
    } table[] = {
        {"NFC", NFC},         {"NFD", NFD},         {"NFKC", NFKC},           {"NFKD", NFKD},
        {"Prepend", PREPEND}, {"Replace", REPLACE}, {"Lowercase", LOWERCASE}, {"Strip", STRIP}};
    size_t i = 0;
    while (i < sizeof table / sizeof *table && strcmp(type, table[i].name) != 0)
        i++;
    PLUMB_REQUIRE(i < sizeof table / sizeof *table, PLUMB_ERR_UNSUPPORTED,
                  "%s: normalizer: type \"%s\" is not supported; plumb supports " KNOWN, where,
                  type);
    s->kind = table[i].kind;
    if (s->kind == PREPEND)
        PLUMB_TRY(content(s, v, "prepend", where));
    if (s->kind == REPLACE) {
        PLUMB_TRY(plumb_pattern_from_json(&s->pattern, plumb_json_get(v, "pattern"), where));
        PLUMB_TRY(content(s, v, "content", where));
    }
    if (s->kind == STRIP) {
        PLUMB_TRY(plumb_json_want_bool(v, "strip_left", &s->left, NULL, where));
        PLUMB_TRY(plumb_json_want_bool(v, "strip_right", &s->right, NULL, where));
    }
    return PLUMB_OK;
}

static plumb_status add_steps(struct plumb_normalizer *z, const plumb_json *v, const char *where,
                              int depth)
{
    const char *type;
    PLUMB_REQUIRE(depth < MAX_DEPTH, PLUMB_ERR_UNSUPPORTED,
                  "%s: normalizer: sequences are nested too deeply", where);
    PLUMB_TRY(plumb_json_want_string(v, "type", &type, NULL, where));
    if (strcmp(type, "Sequence") == 0) {
        const plumb_json *list = plumb_json_get(v, "normalizers");
        PLUMB_REQUIRE(plumb_json_type_of(list) == PLUMB_JSON_ARRAY, PLUMB_ERR_FORMAT,
                      "%s: normalizer.normalizers: expected an array", where);
        for (int64_t i = 0; i < plumb_json_count(list); i++)
            PLUMB_TRY(add_steps(z, plumb_json_at(list, i), where, depth + 1));
        return PLUMB_OK;
    }
    PLUMB_TRY(plumb_grow((void **)&z->step, z->n, &z->cap, sizeof *z->step));
    z->step[z->n++] = (struct plumb_normalize_step){0};
    return fill(&z->step[z->n - 1], type, v, where);
}

plumb_status plumb_normalizer_init(struct plumb_normalizer *z, const plumb_json *v,
                                   const char *where)
{
    if (plumb_json_type_of(v) == PLUMB_JSON_NULL)
        return PLUMB_OK;
    PLUMB_REQUIRE(plumb_json_type_of(v) == PLUMB_JSON_OBJECT, PLUMB_ERR_FORMAT,
                  "%s: normalizer: expected an object or null, found %s", where,
                  plumb_json_type_name(plumb_json_type_of(v)));
    return add_steps(z, v, where, 0);
}

/* Returns true if no normalisation is needed, judged by the lead bytes: ASCII never changes, and
 * NFC changes nothing below U+0300. */
static bool is_normal(enum kind kind, const struct plumb_buf *text)
{
    const unsigned char limit = kind == NFC ? 0xcc : 0x80;
    for (int64_t i = 0; i < text->len; i++)
        if ((unsigned char)text->data[i] >= limit)
            return false;
    return true;
}

/* Characters that huggingface/tokenizers does not change in any form. That library normalises with
 * the tables of Unicode 9, in which these characters had no decomposition and no combining class.
 * Found by comparing every code point with huggingface/tokenizers 0.23. Sorted by code point. */
static const uint32_t untouched[][2] = {
    {0x7fd, 0x7fd},     {0x898, 0x89f},     {0x8ca, 0x8d3},     {0x9fe, 0x9fe},
    {0xc3c, 0xc3c},     {0xd3b, 0xd3c},     {0xeba, 0xeba},     {0x1715, 0x1715},
    {0x1abf, 0x1ace},   {0x1df6, 0x1dfa},   {0x32ff, 0x32ff},   {0xa7f2, 0xa7f4},
    {0xa82c, 0xa82c},   {0xab69, 0xab69},   {0x10781, 0x10785}, {0x10787, 0x107b0},
    {0x107b2, 0x107ba}, {0x10d24, 0x10d27}, {0x10eab, 0x10eac}, {0x10efd, 0x10eff},
    {0x10f46, 0x10f50}, {0x10f82, 0x10f85}, {0x11070, 0x11070}, {0x1133b, 0x1133b},
    {0x1145e, 0x1145e}, {0x11839, 0x1183a}, {0x11938, 0x11938}, {0x1193d, 0x1193e},
    {0x11943, 0x11943}, {0x119e0, 0x119e0}, {0x11a34, 0x11a34}, {0x11a47, 0x11a47},
    {0x11a99, 0x11a99}, {0x11d42, 0x11d42}, {0x11d44, 0x11d45}, {0x11d97, 0x11d97},
    {0x11f41, 0x11f42}, {0x16ff0, 0x16ff1}, {0x1e030, 0x1e06d}, {0x1e08f, 0x1e08f},
    {0x1e130, 0x1e136}, {0x1e2ae, 0x1e2ae}, {0x1e2ec, 0x1e2ef}, {0x1e4ec, 0x1e4ef},
    {0x1f16c, 0x1f16c}, {0x1fbf0, 0x1fbf9},
};

static bool is_untouched(uint32_t cp)
{
    for (size_t i = 0; i < sizeof untouched / sizeof *untouched && untouched[i][0] <= cp; i++)
        if (cp <= untouched[i][1])
            return true;
    return false;
}

static plumb_status map(enum kind kind, const char *s, int64_t len, struct plumb_buf *out)
{
    const int compose = kind == NFC || kind == NFKC ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
    const int compat = kind == NFKC || kind == NFKD ? UTF8PROC_COMPAT : 0;
    utf8proc_uint8_t *mapped = NULL;
    if (len == 0)
        return PLUMB_OK;
    const utf8proc_ssize_t n =
        utf8proc_map((const utf8proc_uint8_t *)s, len, &mapped,
                     (utf8proc_option_t)(UTF8PROC_STABLE | compose | compat));
    PLUMB_REQUIRE(n >= 0, PLUMB_ERR_FORMAT, "Unicode normalisation: %s", utf8proc_errmsg(n));
    const plumb_status st = plumb_buf_add(out, mapped, n);
    free(mapped);
    return st;
}

/* Normalises the text between the characters of the table `untouched`. The characters of the table
 * stay in place, and no other characters are reordered or composed across them. */
static plumb_status unicode(enum kind kind, const struct plumb_buf *text, struct plumb_buf *out)
{
    int64_t done = 0;
    for (int64_t i = 0, size; i < text->len; i += size) {
        size = plumb_utf8_size(text->data[i]);
        if (size == 1 || !is_untouched(plumb_utf8_at(text->data + i)))
            continue;
        PLUMB_TRY(map(kind, text->data + done, i - done, out));
        PLUMB_TRY(plumb_buf_add(out, text->data + i, size));
        done = i + size;
    }
    return map(kind, text->data + done, text->len - done, out);
}

static plumb_status lowercase(const struct plumb_buf *text, struct plumb_buf *out)
{
    for (int64_t i = 0; i < text->len; i += plumb_utf8_size(text->data[i])) {
        const uint32_t cp = plumb_utf8_at(text->data + i);
        char bytes[4];
        if (cp == 0x130) /* U+0130 is the only capital letter whose small form has two characters */
            PLUMB_TRY(plumb_buf_add(out, "i\xcc\x87", 3));
        else
            PLUMB_TRY(plumb_buf_add(
                out, bytes, plumb_utf8_put(bytes, (uint32_t)utf8proc_tolower((int32_t)cp))));
    }
    return PLUMB_OK;
}

static plumb_status strip(const struct plumb_normalize_step *s, const struct plumb_buf *text,
                          struct plumb_buf *out, bool *start)
{
    int64_t from = 0, to = text->len;
    while (s->left && from < to && plumb_utf8_is_space(plumb_utf8_at(text->data + from)))
        from += plumb_utf8_size(text->data[from]);
    while (s->right && to > from) {
        const int64_t last = plumb_utf8_before(text->data, to);
        if (!plumb_utf8_is_space(plumb_utf8_at(text->data + last)))
            break;
        to = last;
    }
    *start = *start && from == 0;
    return plumb_buf_add(out, text->data + from, to - from);
}

static plumb_status replace(const struct plumb_normalize_step *s, const struct plumb_buf *text,
                            struct plumb_buf *out, struct plumb_matches *m, bool *start)
{
    PLUMB_TRY(plumb_pattern_find(s->pattern, m, text->data, text->len));
    for (int64_t i = 0; i < m->n; i++) {
        const struct plumb_match *a = &m->m[i];
        if (a->hit)
            PLUMB_TRY(plumb_buf_add(out, s->content.data, s->content.len));
        else
            PLUMB_TRY(plumb_buf_add(out, text->data + a->begin, a->end - a->begin));
    }
    /* huggingface/tokenizers records for each character its position in the original text; a
     * replacement of several characters gets the position of the last of them. So the text does not
     * begin at position 0 any more, and *start becomes false. The same holds if the replacement is
     * empty. */
    if (m->n && m->m[0].hit && m->m[0].end > 0 &&
        (s->content.len == 0 || m->m[0].end > plumb_utf8_size(text->data[0])))
        *start = false;
    return PLUMB_OK;
}

plumb_status plumb_normalizer_apply(const struct plumb_normalizer *z, struct plumb_buf *text,
                                    struct plumb_buf *other, struct plumb_matches *m, bool *start)
{
    for (int64_t i = 0; i < z->n && text->len > 0; i++) {
        const struct plumb_normalize_step *s = &z->step[i];
        plumb_buf_clear(other);
        switch (s->kind) {
        case NFC:
        case NFD:
        case NFKC:
        case NFKD:
            if (is_normal(s->kind, text))
                continue;
            PLUMB_TRY(unicode(s->kind, text, other));
            break;
        case PREPEND:
            PLUMB_TRY(plumb_buf_add(other, s->content.data, s->content.len));
            PLUMB_TRY(plumb_buf_add(other, text->data, text->len));
            break;
        case REPLACE:
            PLUMB_TRY(replace(s, text, other, m, start));
            break;
        case LOWERCASE:
            PLUMB_TRY(lowercase(text, other));
            break;
        case STRIP:
            PLUMB_TRY(strip(s, text, other, start));
            break;
        }
        const struct plumb_buf swap = *text;
        *text = *other;
        *other = swap;
    }
    return PLUMB_OK;
}
