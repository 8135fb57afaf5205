/* decode.c - the "decoder" of tokenizer.json: turns the texts of tokens into one text.
 * Layer 3. Includes base/ and io/json.h. */
#include "text/decode.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "text/normalize.h"
#include "text/pretokenize.h"
#include "text/utf8.h"

#define KNOWN     "ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace, Sequence"
#define MAX_DEPTH 8

enum kind { BYTE_LEVEL, REPLACE, BYTE_FALLBACK, FUSE, STRIP, METASPACE };

struct plumb_decode_step {
    enum kind kind;
    plumb_pattern *pattern;   /* used by REPLACE */
    struct plumb_buf content; /* used by REPLACE */
    char mark[4];             /* STRIP: character that is removed; METASPACE: character that becomes
                               * a space */
    int mark_len;
    int64_t start, stop; /* STRIP: largest number of marks removed at the beginning and at the end
                          * of a token */
    bool drop_first;     /* METASPACE: marks in the first token are removed instead of becoming
                          * spaces */
};

plumb_status plumb_token_texts_close(struct plumb_token_texts *t)
{
    PLUMB_TRY(plumb_grow((void **)&t->end, t->n, &t->cap, sizeof *t->end));
    t->end[t->n++] = t->text.len;
    return PLUMB_OK;
}

void plumb_token_texts_fini(struct plumb_token_texts *t)
{
    plumb_buf_fini(&t->text);
    free(t->end);
    *t = (struct plumb_token_texts){0};
}

void plumb_decoder_fini(struct plumb_decoder *z)
{
    for (int64_t i = 0; i < z->n; i++) {
        plumb_pattern_free(&z->step[i].pattern);
        plumb_buf_fini(&z->step[i].content);
    }
    free(z->step);
    *z = (struct plumb_decoder){0};
}

static plumb_status fill(struct plumb_decode_step *s, const char *type, const plumb_json *v,
                         const char *where)
{
    static const char *const name[] = {"ByteLevel", "Replace", "ByteFallback",
                                       "Fuse",      "Strip",   "Metaspace"};
    int k = 0;
    while (k < 6 && strcmp(type, name[k]) != 0)
        k++;
    PLUMB_REQUIRE(k < 6, PLUMB_ERR_UNSUPPORTED,
                  "%s: decoder: type \"%s\" is not supported; plumb supports " KNOWN, where, type);
    s->kind = (enum kind)k;
    if (s->kind == REPLACE) {
        const char *content;
        PLUMB_TRY(plumb_pattern_from_json(&s->pattern, plumb_json_get(v, "pattern"), where));
        PLUMB_TRY(plumb_json_want_string(v, "content", &content, NULL, where));
        PLUMB_TRY(plumb_buf_add(&s->content, content,
                                plumb_json_string_len(plumb_json_get(v, "content"))));
    }
    if (s->kind == STRIP) {
        PLUMB_TRY(plumb_char_from_json(s->mark, &s->mark_len, v, "content", where));
        PLUMB_TRY(plumb_json_want_int(v, "start", &s->start, NULL, where));
        PLUMB_TRY(plumb_json_want_int(v, "stop", &s->stop, NULL, where));
    }
    if (s->kind == METASPACE) {
        const char *scheme = "always";
        const bool yes = true;
        bool prefix;
        PLUMB_TRY(plumb_char_from_json(s->mark, &s->mark_len, v, "replacement", where));
        PLUMB_TRY(plumb_json_want_string(v, "prepend_scheme", &scheme,
                                         (const char *const[]){"always"}, where));
        PLUMB_TRY(plumb_json_want_bool(v, "add_prefix_space", &prefix, &yes, where));
        s->drop_first = prefix && strcmp(scheme, "never") != 0;
    }
    return PLUMB_OK;
}

static plumb_status add_steps(struct plumb_decoder *z, const plumb_json *v, const char *where,
                              int depth)
{
    const char *type;
    PLUMB_REQUIRE(depth < MAX_DEPTH, PLUMB_ERR_UNSUPPORTED,
                  "%s: decoder: sequences are nested too deeply", where);
    PLUMB_TRY(plumb_json_want_string(v, "type", &type, NULL, where));
    if (strcmp(type, "Sequence") == 0) {
        const plumb_json *list = plumb_json_get(v, "decoders");
        PLUMB_REQUIRE(plumb_json_type_of(list) == PLUMB_JSON_ARRAY, PLUMB_ERR_FORMAT,
                      "%s: decoder.decoders: expected an array", where);
        for (int64_t i = 0; i < plumb_json_count(list); i++)
            PLUMB_TRY(add_steps(z, plumb_json_at(list, i), where, depth + 1));
        return PLUMB_OK;
    }
    PLUMB_TRY(plumb_grow((void **)&z->step, z->n, &z->cap, sizeof *z->step));
    z->step[z->n++] = (struct plumb_decode_step){0};
    return fill(&z->step[z->n - 1], type, v, where);
}

plumb_status plumb_decoder_init(struct plumb_decoder *z, const plumb_json *v, const char *where)
{
    z->none = plumb_json_type_of(v) == PLUMB_JSON_NULL;
    if (z->none)
        return PLUMB_OK;
    PLUMB_REQUIRE(plumb_json_type_of(v) == PLUMB_JSON_OBJECT, PLUMB_ERR_FORMAT,
                  "%s: decoder: expected an object or null, found %s", where,
                  plumb_json_type_name(plumb_json_type_of(v)));
    return add_steps(z, v, where, 0);
}

static const char *token(const struct plumb_token_texts *t, int64_t i, int64_t *len)
{
    const int64_t begin = i ? t->end[i - 1] : 0;
    *len = t->end[i] - begin;
    return plumb_buf_text(&t->text) + begin;
}

/* Appends the bytes that the characters of s stand for. If one character is not in the byte
 * alphabet, s itself is appended. */
static plumb_status unspell(struct plumb_buf *out, const char *s, int64_t n)
{
    char part[256];
    int len = 0;
    const int64_t before = out->len;
    for (int64_t i = 0; i < n; i += plumb_utf8_size(s[i])) {
        const int byte = plumb_char_byte(plumb_utf8_at(s + i));
        if (byte < 0) {
            out->len = before;
            return plumb_buf_add(out, s, n);
        }
        if (len == sizeof part) {
            PLUMB_TRY(plumb_buf_add(out, part, len));
            len = 0;
        }
        part[len++] = (char)byte;
    }
    return plumb_buf_add(out, part, len);
}

/* Replaces the characters of all tokens by the bytes that they stand for in ByteLevel's alphabet,
 * and joins the tokens to one. Bytes that are not valid UTF-8 become U+FFFD. */
static plumb_status byte_level(struct plumb_token_texts *in, struct plumb_token_texts *out)
{
    plumb_status st = PLUMB_OK;
    struct plumb_buf bytes = {0};
    for (int64_t i = 0; i < in->n; i++) {
        int64_t n;
        const char *s = token(in, i, &n);
        PLUMB_TRY_GOTO(st, unspell(&bytes, s, n), fail);
    }
    PLUMB_TRY_GOTO(st, plumb_utf8_lossy(&out->text, bytes.data, bytes.len), fail);
    PLUMB_TRY_GOTO(st, plumb_token_texts_close(out), fail);
fail:
    plumb_buf_fini(&bytes);
    return st;
}

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Returns the byte that a token "<0x..>" names, or -1. The first digit may be a plus sign, because
 * Rust's number parser accepts it. */
static int named_byte(const char *s, int64_t n)
{
    if (n != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>' || hex(s[4]) < 0)
        return -1;
    if (s[3] == '+')
        return hex(s[4]);
    return hex(s[3]) < 0 ? -1 : hex(s[3]) * 16 + hex(s[4]);
}

/* Ends a run of bytes: they become one token if they are valid UTF-8, otherwise one U+FFFD for each
 * byte. */
static plumb_status flush_bytes(struct plumb_buf *bytes, struct plumb_token_texts *out)
{
    int bad;
    if (bytes->len == 0)
        return PLUMB_OK;
    if (plumb_utf8_prefix(bytes->data, bytes->len, &bad) == bytes->len) {
        PLUMB_TRY(plumb_buf_add(&out->text, bytes->data, bytes->len));
        PLUMB_TRY(plumb_token_texts_close(out));
    } else {
        for (int64_t i = 0; i < bytes->len; i++) {
            PLUMB_TRY(plumb_buf_add(&out->text, "\xef\xbf\xbd", 3));
            PLUMB_TRY(plumb_token_texts_close(out));
        }
    }
    plumb_buf_clear(bytes);
    return PLUMB_OK;
}

static plumb_status byte_fallback(struct plumb_token_texts *in, struct plumb_token_texts *out)
{
    plumb_status st = PLUMB_OK;
    struct plumb_buf bytes = {0};
    for (int64_t i = 0; i < in->n; i++) {
        int64_t n;
        const char *s = token(in, i, &n);
        const int byte = named_byte(s, n);
        if (byte >= 0) {
            const char c = (char)byte;
            PLUMB_TRY_GOTO(st, plumb_buf_add(&bytes, &c, 1), fail);
            continue;
        }
        PLUMB_TRY_GOTO(st, flush_bytes(&bytes, out), fail);
        PLUMB_TRY_GOTO(st, plumb_buf_add(&out->text, s, n), fail);
        PLUMB_TRY_GOTO(st, plumb_token_texts_close(out), fail);
    }
    PLUMB_TRY_GOTO(st, flush_bytes(&bytes, out), fail);
fail:
    plumb_buf_fini(&bytes);
    return st;
}

static bool is_mark(const struct plumb_decode_step *s, const char *at, int64_t left)
{
    return left >= s->mark_len && memcmp(at, s->mark, (size_t)s->mark_len) == 0;
}

static plumb_status replace(const struct plumb_decode_step *s, const char *text, int64_t n,
                            struct plumb_buf *out, struct plumb_matches *m)
{
    PLUMB_TRY(plumb_pattern_find(s->pattern, m, text, n));
    for (int64_t i = 0; i < m->n; i++)
        PLUMB_TRY(m->m[i].hit
                      ? plumb_buf_add(out, s->content.data, s->content.len)
                      : plumb_buf_add(out, text + m->m[i].begin, m->m[i].end - m->m[i].begin));
    return PLUMB_OK;
}

static plumb_status strip(const struct plumb_decode_step *s, const char *text, int64_t n,
                          struct plumb_buf *out)
{
    int64_t from = 0, to = n;
    for (int64_t i = 0; i < s->start && is_mark(s, text + from, to - from); i++)
        from += s->mark_len;
    for (int64_t i = 0; i < s->stop && to - from >= s->mark_len &&
                        is_mark(s, text + to - s->mark_len, s->mark_len);
         i++)
        to -= s->mark_len;
    return plumb_buf_add(out, text + from, to - from);
}

static plumb_status metaspace(const struct plumb_decode_step *s, const char *text, int64_t n,
                              bool first, struct plumb_buf *out)
{
    for (int64_t i = 0, size; i < n; i += size) {
        size = plumb_utf8_size(text[i]);
        if (!is_mark(s, text + i, n - i))
            PLUMB_TRY(plumb_buf_add(out, text + i, size));
        else if (!first || !s->drop_first)
            PLUMB_TRY(plumb_buf_add(out, " ", 1));
    }
    return PLUMB_OK;
}

/* Applies a step that maps each token to one token. */
static plumb_status each(const struct plumb_decode_step *s, struct plumb_token_texts *in,
                         struct plumb_token_texts *out, struct plumb_matches *m)
{
    for (int64_t i = 0; i < in->n; i++) {
        int64_t n;
        const char *text = token(in, i, &n);
        if (s->kind == REPLACE)
            PLUMB_TRY(replace(s, text, n, &out->text, m));
        else if (s->kind == STRIP)
            PLUMB_TRY(strip(s, text, n, &out->text));
        else
            PLUMB_TRY(metaspace(s, text, n, i == 0, &out->text));
        PLUMB_TRY(plumb_token_texts_close(out));
    }
    return PLUMB_OK;
}

static plumb_status join_with_spaces(struct plumb_token_texts *in, struct plumb_buf *out)
{
    for (int64_t i = 0; i < in->n; i++) {
        int64_t n;
        const char *s = token(in, i, &n);
        if (i)
            PLUMB_TRY(plumb_buf_add(out, " ", 1));
        PLUMB_TRY(plumb_buf_add(out, s, n));
    }
    return PLUMB_OK;
}

plumb_status plumb_decoder_apply(const struct plumb_decoder *z, struct plumb_buf *out,
                                 struct plumb_token_texts *in, struct plumb_token_texts *other,
                                 struct plumb_matches *m)
{
    if (z->none)
        return join_with_spaces(in, out);
    for (int64_t i = 0; i < z->n; i++) {
        const struct plumb_decode_step *s = &z->step[i];
        plumb_buf_clear(&other->text);
        other->n = 0;
        switch (s->kind) {
        case BYTE_LEVEL:
            PLUMB_TRY(byte_level(in, other));
            break;
        case BYTE_FALLBACK:
            PLUMB_TRY(byte_fallback(in, other));
            break;
        case FUSE:
            PLUMB_TRY(plumb_buf_add(&other->text, in->text.data, in->text.len));
            PLUMB_TRY(plumb_token_texts_close(other));
            break;
        case REPLACE:
        case STRIP:
        case METASPACE:
            PLUMB_TRY(each(s, in, other, m));
            break;
        }
        const struct plumb_token_texts swap = *in;
        *in = *other;
        *other = swap;
    }
    return plumb_buf_add(out, in->text.data, in->text.len);
}

void plumb_clean_up_spaces(struct plumb_buf *text, int64_t from)
{
    static const struct {
        const char *find, *keep;
    } rule[] = {{" .", "."},     {" ?", "?"},   {" !", "!"},   {" ,", ","},     {" ' ", "'"},
                {" n't", "n't"}, {" 'm", "'m"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    for (size_t r = 0; r < sizeof rule / sizeof *rule; r++) {
        const size_t find = strlen(rule[r].find), keep = strlen(rule[r].keep);
        int64_t to = from;
        for (int64_t i = from; i < text->len;) {
            if ((size_t)(text->len - i) >= find &&
                memcmp(text->data + i, rule[r].find, find) == 0) {
                memcpy(text->data + to, rule[r].keep, keep);
                to += (int64_t)keep;
                i += (int64_t)find;
            } else {
                text->data[to++] = text->data[i++];
            }
        }
        if (text->data)
            text->data[text->len = to] = '\0';
    }
}
