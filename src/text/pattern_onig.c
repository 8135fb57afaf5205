/* pattern_onig.c - rewrites an Oniguruma expression (Ruby syntax) for PCRE2.
 * Layer 3. Includes base/.
 *
 * The two syntaxes differ as follows:
 *   \s \w \b   PCRE2 10.42 takes U+180E for a space and has a smaller \w: written with properties
 *   \h \v      a hex digit and the vertical tab in Ruby: written as classes
 *   {,n}       written as {0,n}
 *   x{n,m}+    in Ruby not possessive, but a quantifier on a quantifier: written as (?:x{n,m})+ ;
 *              the same holds for x{n}?
 *   (?m:       written as (?s: ; in Ruby ^ and $ always match at line ends (PCRE2_MULTILINE)
 * Nested classes, &&, absent operators and options inside an expression are refused with a
 * message. */
#include <string.h>

#include "text/pattern.h"
#include "text/utf8.h"

/* The characters of \w in Oniguruma, which include the superscripts and fractions of Latin-1. */
#define WORD      "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\xb2\\xb3\\xb9\\xbc-\\xbe"
#define MAX_DEPTH 100

struct onig {
    const char *s;
    int64_t n, i; /* n: length of s; i: offset of the next byte */
    struct plumb_buf *out;
    int64_t atom; /* offset in `out` of the last atom; -1 if there is none */
    int64_t group[MAX_DEPTH];
    int depth;
    const char *where;
};

static plumb_status refuse(const struct onig *o, const char *what)
{
    PLUMB_FAIL(PLUMB_ERR_UNSUPPORTED, "%s: regular expression %.200s: %s (at byte %lld)", o->where,
               o->s, what, (long long)o->i);
}

static plumb_status copy(struct onig *o, int64_t bytes)
{
    if (bytes > o->n - o->i)
        bytes = o->n - o->i;
    PLUMB_TRY(plumb_buf_add(o->out, o->s + o->i, bytes));
    o->i += bytes;
    return PLUMB_OK;
}

static plumb_status put(struct onig *o, int64_t skip, const char *text)
{
    o->i += skip;
    return plumb_buf_add_text(o->out, text);
}

/* Copies an escape with brackets, \p{..}, \P{..}, \x{..} or \k<..>, up to the closing bracket,
 * which must be there. Without an opening bracket, copies the two characters of the escape. */
static plumb_status copy_bracketed(struct onig *o, char open, char close)
{
    PLUMB_TRY(copy(o, 2));
    if (o->i >= o->n || o->s[o->i] != open)
        return PLUMB_OK;
    const char *end = memchr(o->s + o->i, close, (size_t)(o->n - o->i));
    return end ? copy(o, end - (o->s + o->i) + 1)
               : refuse(o, "an escape without its closing bracket");
}

/* Rewrites \p{..} or \P{..} so that the category also has the characters that PCRE2 does not know
 * yet. \P inside a class is copied unchanged, because one part of a class cannot exclude
 * characters. */
static plumb_status property(struct onig *o, bool in_class)
{
    const bool negated = o->s[o->i + 1] == 'P';
    const char *name = o->s + o->i + 3;
    const char *end = o->n - o->i > 3 ? memchr(name, '}', (size_t)(o->n - o->i - 3)) : NULL;
    const char *newer = end && name[-1] == '{' ? plumb_pattern_newer(name, end - name) : NULL;
    if (!newer || (in_class && negated))
        return copy_bracketed(o, '{', '}');
    o->i = end + 1 - o->s;
    return plumb_buf_addf(o->out,
                          in_class  ? "\\p{%.*s}%s"
                          : negated ? "[^\\p{%.*s}%s]"
                                    : "[\\p{%.*s}%s]",
                          (int)(end - name), name, newer);
}

/* Rewrites \uHHHH as \x{HHHH}. */
static plumb_status copy_unicode(struct onig *o)
{
    if (o->n - o->i < 6)
        return refuse(o, "\\u without four digits");
    o->i += 2;
    PLUMB_TRY(plumb_buf_addf(o->out, "\\x{%.4s}", o->s + o->i));
    o->i += 4;
    return PLUMB_OK;
}

/* Rewrites the escape that begins with the backslash at o->i. */
static plumb_status escape(struct onig *o, bool in_class)
{
    if (o->i + 1 >= o->n)
        return refuse(o, "a backslash at the end");
    const char e = o->s[o->i + 1];
    switch (e) {
    case 's':
        return put(o, 2, "\\p{White_Space}");
    case 'S':
        return put(o, 2, "\\P{White_Space}");
    case 'w':
        return put(o, 2, in_class ? WORD : "[" WORD "]");
    case 'h':
        return put(o, 2, in_class ? "0-9a-fA-F" : "[0-9a-fA-F]");
    case 'W':
        return in_class ? refuse(o, "\\W inside a class") : put(o, 2, "[^" WORD "]");
    case 'H':
        return in_class ? refuse(o, "\\H inside a class") : put(o, 2, "[^0-9a-fA-F]");
    case 'b':
        return put(o, 2,
                   in_class ? "\\x08"
                            : "(?:(?<=[" WORD "])(?![" WORD "])|(?<![" WORD "])(?=[" WORD "]))");
    case 'B':
        return put(o, 2, "(?:(?<=[" WORD "])(?=[" WORD "])|(?<![" WORD "])(?![" WORD "]))");
    case 'v':
        return put(o, 2, "\\x0b");
    case 'p':
    case 'P':
        return property(o, in_class);
    case 'x':
        return copy_bracketed(o, '{', '}');
    case 'k':
        return copy_bracketed(o, '<', '>');
    case 'u':
        return copy_unicode(o);
    default:
        if (strchr("dDtnrfaeAzZRX0123456789", e))
            return copy(o, 2);
        if ((e >= 'a' && e <= 'z') || (e >= 'A' && e <= 'Z')) {
            const char name[] = {'\\', e, 0};
            return refuse(o, name);
        }
        return copy(o, 1 + plumb_utf8_size(e));
    }
}

/* Rewrites [:name:] inside a class: [:space:] and [:word:] become properties, because PCRE2 means
 * other characters by them; every other name is copied. */
static plumb_status posix_class(struct onig *o)
{
    const char *end = memmem(o->s + o->i, (size_t)(o->n - o->i), ":]", 2);
    if (!end)
        return refuse(o, "[: without :]");
    const int64_t len = end + 2 - (o->s + o->i);
    if (len == 9 && memcmp(o->s + o->i, "[:space:]", 9) == 0)
        return put(o, len, "\\p{White_Space}");
    if (len == 8 && memcmp(o->s + o->i, "[:word:]", 8) == 0)
        return put(o, len, WORD);
    return copy(o, len);
}

/* Rewrites the class that begins with the '[' at o->i. */
static plumb_status class(struct onig *o)
{
    PLUMB_TRY(copy(o, 1));
    if (o->i < o->n && o->s[o->i] == '^')
        PLUMB_TRY(copy(o, 1));
    if (o->i < o->n && o->s[o->i] == ']')
        PLUMB_TRY(put(o, 1, "\\]"));
    while (o->i < o->n && o->s[o->i] != ']') {
        const char c = o->s[o->i], after = o->i + 1 < o->n ? o->s[o->i + 1] : 0;
        if (c == '\\')
            PLUMB_TRY(escape(o, true));
        else if (c == '[' && after == ':')
            PLUMB_TRY(posix_class(o));
        else if (c == '[')
            return refuse(o, "a class inside a class");
        else if (c == '&' && after == '&')
            return refuse(o, "&& inside a class");
        else
            PLUMB_TRY(copy(o, plumb_utf8_size(c)));
    }
    if (o->i >= o->n)
        return refuse(o, "[ without ]");
    return copy(o, 1);
}

/* Rewrites the option letters of a group such as (?im-i: and refuses all other letters than i and
 * m. o->i is after the question mark. Options without a group, such as (?i), are refused unless
 * at_start is true, which means that the expression begins with them. */
static plumb_status options(struct onig *o, bool at_start)
{
    while (o->i < o->n && o->s[o->i] != ':' && o->s[o->i] != ')') {
        const char c = o->s[o->i];
        if (c == 'm')
            PLUMB_TRY(put(o, 1, "s"));
        else if (c == 'i' || c == '-')
            PLUMB_TRY(copy(o, 1));
        else
            return refuse(o, "a group of this kind");
    }
    if (o->i < o->n && o->s[o->i] == ')') {
        if (!at_start)
            return refuse(o, "options that are not at the beginning");
        o->depth--;
        o->atom = -1;
    }
    return copy(o, 1);
}

/* Rewrites the beginning of the group whose '(' is at o->i. */
static plumb_status group(struct onig *o)
{
    if (o->depth == MAX_DEPTH)
        return refuse(o, "groups are nested too deeply");
    const bool at_start = o->i == 0;
    o->group[o->depth++] = o->out->len;
    o->atom = -1;
    PLUMB_TRY(copy(o, 1));
    if (o->i >= o->n || o->s[o->i] != '?')
        return PLUMB_OK;
    PLUMB_TRY(copy(o, 1));
    if (o->i >= o->n)
        return refuse(o, "( without )");
    if (strchr(":=!>", o->s[o->i]))
        return copy(o, 1);
    if (o->s[o->i] == '<') {
        const char kind = o->i + 1 < o->n ? o->s[o->i + 1] : 0;
        if (kind == '=' || kind == '!')
            return copy(o, 2);
        const char *end = memchr(o->s + o->i, '>', (size_t)(o->n - o->i));
        return end ? copy(o, end - (o->s + o->i) + 1) : refuse(o, "(?< without >");
    }
    return options(o, at_start);
}

/* Returns the length of the quantifier {n}, {n,}, {,m} or {n,m} at o->i. Returns 0 if the text
 * there is not a quantifier; then the brace is an ordinary character. *fixed becomes true for {n},
 * and *open for {,m}. */
static int64_t interval(const struct onig *o, bool *fixed, bool *open)
{
    int64_t i = o->i + 1, digits = 0;
    *fixed = true;
    *open = i < o->n && o->s[i] == ',';
    for (; i < o->n && o->s[i] != '}'; i++) {
        if (o->s[i] >= '0' && o->s[i] <= '9')
            digits++;
        else if (o->s[i] == ',' && *fixed)
            *fixed = false;
        else
            return 0;
    }
    return i < o->n && digits > 0 ? i + 1 - o->i : 0;
}

/* Rewrites the quantifier that begins with the '{' at o->i and follows an atom. */
static plumb_status brace(struct onig *o)
{
    bool fixed, open;
    const int64_t len = interval(o, &fixed, &open);
    if (len == 0 || o->atom < 0) {
        o->atom = o->out->len;
        return put(o, 1, "\\{");
    }
    const char after = o->i + len < o->n ? o->s[o->i + len] : 0;
    const bool wrap = after == '+' || (after == '?' && fixed);
    if (wrap) {
        PLUMB_TRY(plumb_buf_add(o->out, "(?:", 3));
        char *from = o->out->data + o->atom;
        memmove(from + 3, from, (size_t)(o->out->len - 3 - o->atom));
        memcpy(from, "(?:", 3);
    }
    if (open)
        PLUMB_TRY(plumb_buf_addf(o->out, "{0%.*s", (int)(len - 1), o->s + o->i + 1));
    else
        PLUMB_TRY(plumb_buf_add(o->out, o->s + o->i, len));
    o->i += len;
    if (wrap)
        PLUMB_TRY(plumb_buf_add(o->out, ")", 1));
    else if (after == '?')
        PLUMB_TRY(copy(o, 1));
    return PLUMB_OK;
}

static plumb_status quantifier(struct onig *o)
{
    PLUMB_TRY(copy(o, 1));
    if (o->i < o->n && (o->s[o->i] == '?' || o->s[o->i] == '+'))
        PLUMB_TRY(copy(o, 1));
    return PLUMB_OK;
}

static plumb_status atom(struct onig *o)
{
    const char c = o->s[o->i];
    o->atom = o->out->len;
    if (c == '\\')
        return escape(o, false);
    if (c == '[')
        return class(o);
    return copy(o, plumb_utf8_size(c));
}

plumb_status plumb_pattern_from_onig(struct plumb_buf *out, const char *text, int64_t len,
                                     const char *where)
{
    struct onig o = {.s = text, .n = len, .out = out, .atom = -1, .where = where};
    while (o.i < o.n) {
        switch (o.s[o.i]) {
        case '(':
            PLUMB_TRY(group(&o));
            break;
        case ')':
            PLUMB_REQUIRE(o.depth > 0, PLUMB_ERR_FORMAT,
                          "%s: regular expression %.200s: ) without (", where, text);
            o.atom = o.group[--o.depth];
            PLUMB_TRY(copy(&o, 1));
            break;
        case '|':
        case '^':
        case '$':
            PLUMB_TRY(copy(&o, 1));
            o.atom = -1;
            break;
        case '*':
        case '+':
        case '?':
            PLUMB_TRY(quantifier(&o));
            break;
        case '{':
            PLUMB_TRY(brace(&o));
            break;
        default:
            PLUMB_TRY(atom(&o));
        }
    }
    return PLUMB_OK;
}
