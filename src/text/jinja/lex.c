/* lex.c - splits the source of a template into tokens.
 * Layer 3. Private to text/jinja.
 *
 * White space follows trim_blocks and lstrip_blocks: the line break after a block or a comment is
 * dropped, and so is white space between the start of a line and a block or a comment. A minus
 * sign strips all white space on its side; a plus sign keeps it. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

#include "text/jinja/run.h"
#include "text/pieces.h"
#include "text/utf8.h"

struct lexer {
    struct plumb_jinja *t;
    const char *s;
    int64_t at, n, line;
    bool line_start; /* the text before position `at` ended with a line break */
    struct plumb_jtoken *token;
    int64_t count, cap;
    char open[256]; /* brackets that are not closed yet */
    int opened;
};

static plumb_status add(struct lexer *x, enum plumb_jtoken_kind kind, int64_t line, const char *s,
                        int64_t n)
{
    PLUMB_TRY(plumb_grow((void **)&x->token, x->count, &x->cap, sizeof(*x->token)));
    struct plumb_jtoken *t = &x->token[x->count++];
    *t = (struct plumb_jtoken){.kind = kind, .line = line, .text = s, .n = n};
    if (kind == JT_DATA)
        return plumb_jv_part(&x->t->arena, &t->value, s, n);
    return PLUMB_OK;
}

static bool starts(const struct lexer *x, int64_t at, const char *what)
{
    const int64_t n = (int64_t)strlen(what);
    return at + n <= x->n && memcmp(x->s + at, what, (size_t)n) == 0;
}

/* Returns the end of the white space that begins at `at`. */
static int64_t skip_space(const struct lexer *x, int64_t at)
{
    while (at < x->n && plumb_jchar_space(plumb_utf8_at(x->s + at)))
        at += plumb_utf8_size(x->s[at]);
    return at;
}

static void advance(struct lexer *x, int64_t to)
{
    for (int64_t i = x->at; i < to; i++)
        x->line += x->s[i] == '\n';
    if (to > x->at)
        x->line_start = x->s[to - 1] == '\n';
    x->at = to;
}

/* Returns the end of the text [from, to) after white space is removed as the following tag demands.
 * sign is the sign of this tag ('-', '+' or 0); variable is true for {{. */
static int64_t data_end(const struct lexer *x, int64_t from, int64_t to, char sign, bool variable)
{
    if (sign == '-') {
        while (to > from) {
            const int64_t before = plumb_utf8_before(x->s + from, to - from) + from;
            if (!plumb_jchar_space(plumb_utf8_at(x->s + before)))
                break;
            to = before;
        }
        return to;
    }
    if (sign == '+' || variable)
        return to;
    int64_t begin = to;
    while (begin > from && x->s[begin - 1] != '\n')
        begin--;
    if (begin == from && !x->line_start)
        return to;
    for (int64_t i = begin; i < to; i += plumb_utf8_size(x->s[i]))
        if (!plumb_jchar_space(plumb_utf8_at(x->s + i)))
            return to;
    return begin;
}

static char sign_at(const struct lexer *x, int64_t at)
{
    return at < x->n && (x->s[at] == '-' || x->s[at] == '+') ? x->s[at] : 0;
}

/* Returns the position after the end of a tag ("%}" or "}}", perhaps with a sign before it) at
 * `at`; -1 if the tag does not end there. White space after the tag is skipped if the sign is '-';
 * without a sign, one line break is skipped if trim is true. */
static int64_t tag_end(const struct lexer *x, int64_t at, const char *end, bool trim)
{
    const char sign = sign_at(x, at);
    if (sign == '-' && starts(x, at + 1, end))
        return skip_space(x, at + 3);
    if (sign == '+' && trim && starts(x, at + 1, end))
        return at + 3;
    if (!starts(x, at, end))
        return -1;
    return at + 2 + (trim && at + 2 < x->n && x->s[at + 2] == '\n');
}

/* Returns the position after the tag {% word %} if it begins at `at`, else -1. word is "raw", or
 * "endraw" with end = true; only after {% endraw %} a line break is skipped, too (trim_blocks). */
static int64_t raw_begin(const struct lexer *x, int64_t at, const char *word, bool end)
{
    if (!starts(x, at, "{%"))
        return -1;
    at += 2;
    at = skip_space(x, at + (sign_at(x, at) != 0));
    if (!starts(x, at, word))
        return -1;
    at = skip_space(x, at + (int64_t)strlen(word));
    if (end)
        return tag_end(x, at, "%}", true);
    if (starts(x, at, "-%}"))
        return skip_space(x, at + 3);
    return starts(x, at, "%}") ? at + 2 : -1;
}

static plumb_status raw(struct lexer *x, int64_t after)
{
    const int64_t line = x->line;
    advance(x, after);
    for (int64_t i = x->at; i < x->n; i++) {
        const int64_t end = raw_begin(x, i, "endraw", true);
        if (end < 0)
            continue;
        const int64_t stop = data_end(x, x->at, i, sign_at(x, i + 2), false);
        if (stop > x->at)
            PLUMB_TRY(add(x, JT_DATA, x->line, x->s + x->at, stop - x->at));
        advance(x, end);
        return PLUMB_OK;
    }
    return plumb_jinja_bad(x->t, PLUMB_ERR_FORMAT, line, "{%% raw %%} has no {%% endraw %%}");
}

static plumb_status comment(struct lexer *x)
{
    const int64_t line = x->line;
    const int64_t body = x->at + 2 + (sign_at(x, x->at + 2) != 0);
    for (int64_t i = body; i < x->n; i++) {
        const int64_t end = tag_end(x, i, "#}", true);
        if (end >= 0) {
            advance(x, end);
            return PLUMB_OK;
        }
    }
    return plumb_jinja_bad(x->t, PLUMB_ERR_FORMAT, line, "{# has no end #}");
}

/* Reads one escape sequence of a string literal; *i is the index after the backslash. */
static plumb_status escape(struct lexer *x, struct plumb_buf *b, const char *s, int64_t n,
                           int64_t *i)
{
    static const char from[] = "abfnrtv\\'\"", to[] = "\a\b\f\n\r\t\v\\'\"";
    const char c = s[*i];
    const char *known = c ? strchr(from, c) : NULL;
    char text[4];
    int digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    uint32_t cp = 0;
    if (known) {
        ++*i;
        return plumb_buf_add(b, &to[known - from], 1);
    }
    if (c == '\n') {
        ++*i;
        return PLUMB_OK;
    }
    if (c >= '0' && c <= '7') {
        for (int k = 0; k < 3 && *i < n && s[*i] >= '0' && s[*i] <= '7'; k++)
            cp = cp * 8 + (uint32_t)(s[(*i)++] - '0');
        return plumb_buf_add(b, text, plumb_utf8_put(text, cp));
    }
    if (c == 'N' || (unsigned char)c >= 0x80)
        return plumb_jinja_bad(x->t, PLUMB_ERR_UNSUPPORTED, x->line,
                               "the escape \\%s of a string is not supported",
                               c == 'N' ? "N{name}" : "before a non-ASCII character");
    if (!digits) {
        ++*i;
        PLUMB_TRY(plumb_buf_add(b, "\\", 1));
        return plumb_buf_add(b, &c, 1);
    }
    ++*i;
    for (; digits; digits--, ++*i) {
        if (*i >= n || !isxdigit((unsigned char)s[*i]))
            return plumb_jinja_bad(x->t, PLUMB_ERR_FORMAT, x->line,
                                   "a string has the truncated escape \\%c", c);
        const char d = (char)tolower((unsigned char)s[*i]);
        cp = cp * 16 + (uint32_t)(d <= '9' ? d - '0' : d - 'a' + 10);
    }
    if (cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000))
        return plumb_jinja_bad(x->t, PLUMB_ERR_UNSUPPORTED, x->line,
                               "a string has the escape \\%c%x, which is no character", c, cp);
    return plumb_buf_add(b, text, plumb_utf8_put(text, cp));
}

static plumb_status string(struct lexer *x)
{
    const char quote = x->s[x->at];
    int64_t end = x->at + 1;
    while (end < x->n && x->s[end] != quote)
        end += 1 + (x->s[end] == '\\');
    if (end >= x->n)
        return plumb_jinja_bad(x->t, PLUMB_ERR_FORMAT, x->line, "a string has no closing %c",
                               quote);
    const char *s = x->s + x->at + 1;
    const int64_t n = end - x->at - 1;
    struct plumb_buf b = {0};
    plumb_status st = add(x, JT_STRING, x->line, s, n);
    for (int64_t i = 0; st == PLUMB_OK && i < n;) {
        const char *slash = memchr(s + i, '\\', (size_t)(n - i));
        const int64_t run = slash ? slash - s - i : n - i;
        st = plumb_buf_add(&b, s + i, run);
        i += run + 1;
        if (st == PLUMB_OK && slash)
            st = escape(x, &b, s, n, &i);
    }
    if (st == PLUMB_OK)
        st = plumb_jv_str(&x->t->arena, &x->token[x->count - 1].value, plumb_buf_text(&b), b.len);
    plumb_buf_fini(&b);
    PLUMB_TRY(st);
    advance(x, end + 1);
    return PLUMB_OK;
}

/* Returns the position after the digits at `at`, which may have single underscores between them;
 * returns `at` if no digit is there. */
static int64_t digits(const struct lexer *x, int64_t at)
{
    const int64_t begin = at;
    while (at < x->n &&
           (isdigit((unsigned char)x->s[at]) || (x->s[at] == '_' && at > begin && at + 1 < x->n &&
                                                 isdigit((unsigned char)x->s[at + 1]))))
        at++;
    return at;
}

static plumb_status number(struct lexer *x)
{
    const int64_t begin = x->at;
    int64_t end = digits(x, begin);
    bool real = false;
    const bool after_dot = begin > 0 && x->s[begin - 1] == '.';
    if (!after_dot) {
        if (end + 1 < x->n && x->s[end] == '.' && isdigit((unsigned char)x->s[end + 1])) {
            end = digits(x, end + 1);
            real = true;
        }
        int64_t e = end;
        if (e < x->n && (x->s[e] == 'e' || x->s[e] == 'E')) {
            e += 1 + (sign_at(x, e + 1) != 0);
            if (e < x->n && isdigit((unsigned char)x->s[e])) {
                end = digits(x, e);
                real = true;
            }
        }
    }
    int base = 10;
    if (!real && x->s[begin] == '0' && begin + 2 < x->n) {
        const char c = (char)tolower((unsigned char)x->s[begin + 1]);
        base = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 10;
        if (base != 10)
            for (end = begin + 2;
                 end < x->n && (isalnum((unsigned char)x->s[end]) || x->s[end] == '_');)
                end++;
    }
    PLUMB_TRY(add(x, real ? JT_FLOAT : JT_INT, x->line, x->s + begin, end - begin));
    struct plumb_jtoken *t = &x->token[x->count - 1];
    int64_t i = 0;
    double d = 0;
    bool big = false;
    const bool zeros = !real && base == 10 && x->s[begin] == '0';
    bool ok = real ? plumb_jinja_parse_float(t->text, t->n, &d)
                   : plumb_jinja_parse_int(t->text, t->n, base == 10 ? 10 : 0, &i, &big);
    if (ok && zeros && i != 0) /* a number such as 012 is malformed */
        ok = false;
    if (!ok)
        return plumb_jinja_bad(x->t, big ? PLUMB_ERR_UNSUPPORTED : PLUMB_ERR_FORMAT, x->line,
                               "%.*s is %s", (int)(t->n < 40 ? t->n : 40), t->text,
                               big ? "an integer of more than 64 bits" : "no number");
    t->value = real ? plumb_jv_float(d) : plumb_jv_int(i);
    advance(x, end);
    return PLUMB_OK;
}

static plumb_status operator_(struct lexer *x)
{
    static const char *const two[] = {"//", "**", "==", "!=", ">=", "<="};
    int n = 0;
    for (int i = 0; i < 6; i++)
        if (starts(x, x->at, two[i]))
            n = 2;
    const char c = x->s[x->at];
    if (!n && c && strchr("+-/*%~[](){}<>=.:|,;", c))
        n = 1;
    if (!n)
        return plumb_jinja_bad(x->t, PLUMB_ERR_FORMAT, x->line,
                               "the character %.*s is not part of the language", plumb_utf8_size(c),
                               x->s + x->at);
    if (n == 1 && strchr("([{", c)) {
        if (x->opened == (int)sizeof(x->open))
            return plumb_jinja_bad(x->t, PLUMB_ERR_UNSUPPORTED, x->line,
                                   "more than %d open brackets", (int)sizeof(x->open));
        x->open[x->opened++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    }
    if (n == 1 && strchr(")]}", c)) {
        if (!x->opened)
            return plumb_jinja_bad(x->t, PLUMB_ERR_FORMAT, x->line, "unexpected %c", c);
        if (x->open[--x->opened] != c)
            return plumb_jinja_bad(x->t, PLUMB_ERR_FORMAT, x->line, "unexpected %c, expected %c", c,
                                   x->open[x->opened]);
    }
    PLUMB_TRY(add(x, JT_OPERATOR, x->line, x->s + x->at, n));
    memcpy(x->token[x->count - 1].op, x->s + x->at, (size_t)n);
    advance(x, x->at + n);
    return PLUMB_OK;
}

static bool name_char(char c)
{
    return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

/* Reads the tokens inside {% %} (block = true) or {{ }}, including the end of the tag. */
static plumb_status code(struct lexer *x, bool block)
{
    const int64_t line = x->line;
    x->opened = 0;
    while (x->at < x->n) {
        const int64_t end = x->opened ? -1 : tag_end(x, x->at, block ? "%}" : "}}", block);
        if (end >= 0) {
            PLUMB_TRY(add(x, block ? JT_BLOCK_END : JT_VARIABLE_END, x->line, x->s + x->at, 2));
            advance(x, end);
            return PLUMB_OK;
        }
        const char c = x->s[x->at];
        const int64_t space = skip_space(x, x->at);
        if (space > x->at) {
            advance(x, space);
        } else if (isdigit((unsigned char)c)) {
            PLUMB_TRY(number(x));
        } else if (name_char(c)) {
            int64_t e = x->at;
            while (e < x->n && name_char(x->s[e]) && !plumb_jchar_space(plumb_utf8_at(x->s + e)))
                e += plumb_utf8_size(x->s[e]);
            PLUMB_TRY(add(x, JT_NAME, x->line, x->s + x->at, e - x->at));
            advance(x, e);
        } else if (c == '\'' || c == '"') {
            PLUMB_TRY(string(x));
        } else {
            PLUMB_TRY(operator_(x));
        }
    }
    return plumb_jinja_bad(x->t, PLUMB_ERR_FORMAT, line, "%s has no end %s", block ? "{%" : "{{",
                           block ? "%}" : "}}");
}

static plumb_status root(struct lexer *x)
{
    while (x->at < x->n) {
        int64_t tag = x->at;
        while (tag < x->n && !(x->s[tag] == '{' && tag + 1 < x->n && x->s[tag + 1] &&
                               strchr("{%#", x->s[tag + 1])))
            tag++;
        if (tag == x->n) {
            PLUMB_TRY(add(x, JT_DATA, x->line, x->s + x->at, tag - x->at));
            break;
        }
        const char kind = x->s[tag + 1], sign = sign_at(x, tag + 2);
        const int64_t stop = data_end(x, x->at, tag, sign, kind == '{');
        if (stop > x->at)
            PLUMB_TRY(add(x, JT_DATA, x->line, x->s + x->at, stop - x->at));
        advance(x, tag);
        const int64_t after_raw = raw_begin(x, tag, "raw", false);
        if (after_raw >= 0) {
            PLUMB_TRY(raw(x, after_raw));
        } else if (kind == '#') {
            PLUMB_TRY(comment(x));
        } else {
            PLUMB_TRY(
                add(x, kind == '{' ? JT_VARIABLE_BEGIN : JT_BLOCK_BEGIN, x->line, x->s + tag, 2));
            advance(x, tag + 2 + (sign != 0));
            PLUMB_TRY(code(x, kind == '%'));
        }
    }
    return add(x, JT_EOF, x->line, "", 0);
}

plumb_status plumb_jinja_lex(struct plumb_jinja *t, struct plumb_jtoken **out, int64_t *n)
{
    struct lexer x = {.t = t, .s = t->source, .n = t->len, .line = 1, .line_start = true};
    const plumb_status st = root(&x);
    *out = x.token;
    *n = x.count;
    return st;
}
