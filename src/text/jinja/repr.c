/* repr.c - converts values to text like Python's str and repr, and to JSON like the filter tojson
 * of transformers.
 * Layer 3. Private to text/jinja. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "text/jinja/run.h"
#include "text/utf8.h"

static plumb_status put_text(struct plumb_buf *b, const char *text)
{
    return plumb_buf_add(b, text, (int64_t)strlen(text));
}

plumb_status plumb_jinja_take(struct plumb_jrun *r, jv *out, struct plumb_buf *b, plumb_status st)
{
    if (st == PLUMB_OK)
        st = plumb_jinja_work(r, b->len);
    if (st == PLUMB_OK)
        st = plumb_jv_str(&r->arena, out, plumb_buf_text(b), b->len);
    plumb_buf_fini(b);
    return st;
}

/* Appends the shortest decimal text that reads back as d, in the layout of Python's repr. */
plumb_status plumb_jinja_put_float(struct plumb_buf *b, double d)
{
    char text[40], digits[24];
    int n = 0, precision = 0;
    if (isnan(d))
        return put_text(b, "nan");
    if (isinf(d))
        return put_text(b, d < 0 ? "-inf" : "inf");
    do
        snprintf(text, sizeof(text), "%.*e", precision, d);
    while (strtod(text, NULL) != d && ++precision < 17);
    const char *e = strchr(text, 'e');
    const int exponent = atoi(e + 1);
    for (const char *p = text; p < e; p++)
        if (*p >= '0' && *p <= '9')
            digits[n++] = *p;
    if (signbit(d))
        PLUMB_TRY(put_text(b, "-"));
    if (exponent < -4 || exponent >= 16) {
        PLUMB_TRY(plumb_buf_add(b, digits, 1));
        if (n > 1) {
            PLUMB_TRY(put_text(b, "."));
            PLUMB_TRY(plumb_buf_add(b, digits + 1, n - 1));
        }
        return plumb_buf_addf(b, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
    }
    if (exponent < 0) {
        PLUMB_TRY(put_text(b, "0."));
        for (int i = -1; i > exponent; i--)
            PLUMB_TRY(put_text(b, "0"));
        return plumb_buf_add(b, digits, n);
    }
    for (int i = 0; i <= exponent; i++)
        PLUMB_TRY(plumb_buf_add(b, i < n ? digits + i : "0", 1));
    PLUMB_TRY(put_text(b, "."));
    return n > exponent + 1 ? plumb_buf_add(b, digits + exponent + 1, n - exponent - 1)
                            : put_text(b, "0");
}

static plumb_status put_repr_str(struct plumb_buf *b, const struct plumb_jstr *s)
{
    const bool twice = memchr(s->at, '\'', (size_t)s->n) && !memchr(s->at, '"', (size_t)s->n);
    const char quote = twice ? '"' : '\'';
    PLUMB_TRY(plumb_buf_add(b, &quote, 1));
    for (int64_t i = 0; i < s->n;) {
        const char c = s->at[i];
        const int size = plumb_utf8_size(c);
        const uint32_t cp = plumb_utf8_at(s->at + i);
        if (c == quote || c == '\\')
            PLUMB_TRY(plumb_buf_addf(b, "\\%c", c));
        else if (c == '\n' || c == '\r' || c == '\t')
            PLUMB_TRY(put_text(b, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t"));
        else if (plumb_jchar_printable(cp))
            PLUMB_TRY(plumb_buf_add(b, s->at + i, size));
        else
            PLUMB_TRY(plumb_buf_addf(b,
                                     cp < 0x100     ? "\\x%02x"
                                     : cp < 0x10000 ? "\\u%04x"
                                                    : "\\U%08x",
                                     cp));
        i += size;
    }
    return plumb_buf_add(b, &quote, 1);
}

static plumb_status repr(struct plumb_jrun *r, struct plumb_buf *b, jv v, int depth);

static plumb_status put_seq(struct plumb_jrun *r, struct plumb_buf *b, jv v, int depth)
{
    const struct plumb_jseq *s = v.u.seq;
    const bool tuple = v.kind == JK_TUPLE;
    if (v.kind == JK_VIEW)
        PLUMB_TRY(plumb_buf_addf(b, "%s(", s->what));
    PLUMB_TRY(put_text(b, tuple ? "(" : "["));
    for (int64_t i = 0; i < s->n; i++) {
        if (i)
            PLUMB_TRY(put_text(b, ", "));
        PLUMB_TRY(repr(r, b, s->at[i], depth + 1));
    }
    if (tuple && s->n == 1)
        PLUMB_TRY(put_text(b, ","));
    PLUMB_TRY(put_text(b, tuple ? ")" : "]"));
    return v.kind == JK_VIEW ? put_text(b, ")") : PLUMB_OK;
}

static plumb_status put_map(struct plumb_jrun *r, struct plumb_buf *b, const struct plumb_jmap *m,
                            int depth)
{
    PLUMB_TRY(put_text(b, "{"));
    for (int64_t i = 0; i < m->n; i++) {
        if (i)
            PLUMB_TRY(put_text(b, ", "));
        PLUMB_TRY(repr(r, b, m->at[i].key, depth + 1));
        PLUMB_TRY(put_text(b, ": "));
        PLUMB_TRY(repr(r, b, m->at[i].value, depth + 1));
    }
    return put_text(b, "}");
}

static plumb_status repr(struct plumb_jrun *r, struct plumb_buf *b, jv v, int depth)
{
    PLUMB_TRY(plumb_jinja_work(r, 0));
    if (depth > PLUMB_JV_DEPTH) /* a namespace may contain itself */
        return plumb_jinja_fail(
            r, PLUMB_ERR_ARG, "a value exceeded the limit of %d levels of nesting", PLUMB_JV_DEPTH);
    if (b->len > r->limit.output)
        return plumb_jinja_fail(r, PLUMB_ERR_ARG,
                                "the text of a value exceeded the limit of the "
                                "output, %lld bytes",
                                (long long)r->limit.output);
    switch (v.kind) {
    case JK_UNDEFINED:
        return put_text(b, "Undefined");
    case JK_NONE:
        return put_text(b, "None");
    case JK_BOOL:
        return put_text(b, v.u.b ? "True" : "False");
    case JK_INT:
        return plumb_buf_addf(b, "%lld", (long long)v.u.i);
    case JK_FLOAT:
        return plumb_jinja_put_float(b, v.u.d);
    case JK_STR:
        if (v.u.str->markup)
            PLUMB_TRY(put_text(b, "Markup("));
        PLUMB_TRY(put_repr_str(b, v.u.str));
        return v.u.str->markup ? put_text(b, ")") : PLUMB_OK;
    case JK_LIST:
    case JK_TUPLE:
    case JK_VIEW:
        return put_seq(r, b, v, depth);
    case JK_DICT:
        return put_map(r, b, v.u.map, depth);
    case JK_RANGE:
        PLUMB_TRY(plumb_buf_addf(b, "range(%lld, %lld", (long long)v.u.seq->start,
                                 (long long)v.u.seq->stop));
        return v.u.seq->step == 1 ? put_text(b, ")")
                                  : plumb_buf_addf(b, ", %lld)", (long long)v.u.seq->step);
    case JK_MACRO: {
        const struct plumb_jstr *name = v.u.macro->def->name;
        return plumb_buf_addf(b, "<Macro '%.*s'>", (int)name->n, name->at);
    }
    case JK_SPACE:
        PLUMB_TRY(put_text(b, "<Namespace "));
        PLUMB_TRY(put_map(r, b, v.u.map, depth));
        return put_text(b, ">");
    default:
        JREFUSE(r, "the text of a %s is not supported", plumb_jv_type(v));
    }
}

plumb_status plumb_jinja_put_repr(struct plumb_jrun *r, struct plumb_buf *b, jv v)
{
    return repr(r, b, v, 0);
}

plumb_status plumb_jinja_put_str(struct plumb_jrun *r, struct plumb_buf *b, jv v)
{
    if (v.kind == JK_UNDEFINED)
        return PLUMB_OK;
    if (v.kind == JK_STR) {
        if (v.u.str->n > r->limit.output - b->len)
            return plumb_jinja_fail(r, PLUMB_ERR_ARG,
                                    "a string exceeded the limit of the output, "
                                    "%lld bytes",
                                    (long long)r->limit.output);
        return plumb_buf_add(b, v.u.str->at, v.u.str->n);
    }
    return repr(r, b, v, 0);
}

plumb_status plumb_jinja_str(struct plumb_jrun *r, jv *out, jv v)
{
    if (v.kind == JK_STR) {
        *out = v;
        return PLUMB_OK;
    }
    struct plumb_buf b = {0};
    const plumb_status st = plumb_jinja_put_str(r, &b, v);
    return plumb_jinja_take(r, out, &b, st);
}

/* The settings of one call of tojson, which are those of Python's json.dumps. */
struct dump {
    struct plumb_jrun *r;
    struct plumb_buf *b;
    bool ascii, sort;
    const char *item, *key; /* separators between members, and between key and value */
    int64_t item_n, key_n;
    const char *indent; /* indentation of one level; NULL to write a single line */
    int64_t indent_n;
};

static plumb_status dump_str(const struct dump *d, const struct plumb_jstr *s)
{
    static const char from[] = "\"\\\n\r\t\f\b", to[] = "\"\\nrtfb";
    PLUMB_TRY(put_text(d->b, "\""));
    for (int64_t i = 0; i < s->n;) {
        const int size = plumb_utf8_size(s->at[i]);
        const uint32_t cp = plumb_utf8_at(s->at + i);
        const char *known = cp && cp < 0x80 ? strchr(from, (int)cp) : NULL;
        if (known)
            PLUMB_TRY(plumb_buf_addf(d->b, "\\%c", to[known - from]));
        else if (cp >= 0x10000 && d->ascii)
            PLUMB_TRY(plumb_buf_addf(d->b, "\\u%04x\\u%04x", 0xd800 + ((cp - 0x10000) >> 10),
                                     0xdc00 + ((cp - 0x10000) & 0x3ff)));
        else if (cp < 0x20 || (cp >= 0x7f && d->ascii))
            PLUMB_TRY(plumb_buf_addf(d->b, "\\u%04x", cp));
        else
            PLUMB_TRY(plumb_buf_add(d->b, s->at + i, size));
        i += size;
    }
    return put_text(d->b, "\"");
}

static plumb_status dump_float(const struct dump *d, double x)
{
    if (isnan(x))
        return put_text(d->b, "NaN");
    if (isinf(x))
        return put_text(d->b, x < 0 ? "-Infinity" : "Infinity");
    return plumb_jinja_put_float(d->b, x);
}

static plumb_status dump_line(const struct dump *d, int64_t depth)
{
    if (!d->indent)
        return PLUMB_OK;
    PLUMB_TRY(put_text(d->b, "\n"));
    for (int64_t i = 0; i < depth; i++)
        PLUMB_TRY(plumb_buf_add(d->b, d->indent, d->indent_n));
    return PLUMB_OK;
}

static plumb_status dump(const struct dump *d, jv v, int64_t depth);

static plumb_status dump_key(const struct dump *d, jv key)
{
    if (key.kind == JK_STR)
        return dump_str(d, key.u.str);
    if (key.kind != JK_NONE && !plumb_jv_is_number(key))
        JFAIL(d->r, "a key of type %s cannot be written as JSON", plumb_jv_type(key));
    PLUMB_TRY(put_text(d->b, "\""));
    PLUMB_TRY(dump(d, key, 0));
    return put_text(d->b, "\"");
}

/* Sets order to the indices of the entries in the order in which they are written. */
static plumb_status key_order(const struct dump *d, const struct plumb_jmap *m, int64_t **order)
{
    PLUMB_TRY(plumb_jarena_get(&d->r->arena, order, (m->n + 1) * (int64_t)sizeof(**order)));
    for (int64_t i = 0; i < m->n; i++) {
        int64_t k = i;
        for (bool less = d->sort; less && k > 0;) {
            PLUMB_TRY(plumb_jinja_work(d->r, 0));
            PLUMB_TRY(plumb_jinja_less(d->r, &less, m->at[i].key, m->at[(*order)[k - 1]].key));
            if (less) {
                (*order)[k] = (*order)[k - 1];
                k--;
            }
        }
        (*order)[k] = i;
    }
    return PLUMB_OK;
}

static plumb_status dump_map(const struct dump *d, const struct plumb_jmap *m, int64_t depth)
{
    int64_t *order;
    PLUMB_TRY(key_order(d, m, &order));
    PLUMB_TRY(put_text(d->b, "{"));
    for (int64_t i = 0; i < m->n; i++) {
        if (i)
            PLUMB_TRY(plumb_buf_add(d->b, d->item, d->item_n));
        PLUMB_TRY(dump_line(d, depth + 1));
        PLUMB_TRY(dump_key(d, m->at[order[i]].key));
        PLUMB_TRY(plumb_buf_add(d->b, d->key, d->key_n));
        PLUMB_TRY(dump(d, m->at[order[i]].value, depth + 1));
    }
    if (m->n)
        PLUMB_TRY(dump_line(d, depth));
    return put_text(d->b, "}");
}

static plumb_status dump_seq(const struct dump *d, const struct plumb_jseq *s, int64_t depth)
{
    PLUMB_TRY(put_text(d->b, "["));
    for (int64_t i = 0; i < s->n; i++) {
        if (i)
            PLUMB_TRY(plumb_buf_add(d->b, d->item, d->item_n));
        PLUMB_TRY(dump_line(d, depth + 1));
        PLUMB_TRY(dump(d, s->at[i], depth + 1));
    }
    if (s->n)
        PLUMB_TRY(dump_line(d, depth));
    return put_text(d->b, "]");
}

static plumb_status dump(const struct dump *d, jv v, int64_t depth)
{
    PLUMB_TRY(plumb_jinja_work(d->r, 0));
    if (d->b->len > d->r->limit.output)
        return plumb_jinja_fail(d->r, PLUMB_ERR_ARG,
                                "JSON text exceeded the limit of the output, "
                                "%lld bytes",
                                (long long)d->r->limit.output);
    switch (v.kind) {
    case JK_NONE:
        return put_text(d->b, "null");
    case JK_BOOL:
        return put_text(d->b, v.u.b ? "true" : "false");
    case JK_INT:
        return plumb_buf_addf(d->b, "%lld", (long long)v.u.i);
    case JK_FLOAT:
        return dump_float(d, v.u.d);
    case JK_STR:
        return dump_str(d, v.u.str);
    case JK_LIST:
    case JK_TUPLE:
        return dump_seq(d, v.u.seq, depth);
    case JK_DICT:
        return dump_map(d, v.u.map, depth);
    case JK_UNDEFINED:
        if (v.u.str)
            JFAIL(d->r, "an undefined value cannot be written as JSON: %s", v.u.str->at);
        break;
    default:
        break;
    }
    JFAIL(d->r, "a %s cannot be written as JSON", plumb_jv_type(v));
}

static plumb_status separators(struct dump *d, jv v)
{
    struct plumb_jseq *s;
    PLUMB_TRY(plumb_jinja_elements(d->r, &s, v));
    if (s->n != 2 || s->at[0].kind != JK_STR || s->at[1].kind != JK_STR)
        JFAIL(d->r, "separators must be two strings");
    d->item = s->at[0].u.str->at;
    d->item_n = s->at[0].u.str->n;
    d->key = s->at[1].u.str->at;
    d->key_n = s->at[1].u.str->n;
    return PLUMB_OK;
}

plumb_status plumb_jinja_tojson(struct plumb_jrun *r, jv *out, jv v, const struct plumb_jargs *args)
{
    enum { ASCII, INDENT, SEPARATORS, SORT };
    jv o[4];
    bool got[4];
    struct plumb_buf b = {0};
    struct dump d = {.r = r, .b = &b, .item = ", ", .item_n = 2, .key = ": ", .key_n = 2};
    PLUMB_TRY(plumb_jinja_spread(r, args, "ensure_ascii=,indent=,separators=,sort_keys=", o, got));
    d.ascii = plumb_jv_true(o[ASCII]);
    d.sort = plumb_jv_true(o[SORT]);
    if (got[INDENT] && o[INDENT].kind != JK_NONE) {
        d.item_n = 1;
        if (plumb_jv_is_int(o[INDENT])) {
            const int64_t n = plumb_jv_as_int(o[INDENT]);
            if (n > 1000)
                JREFUSE(r, "an indent of more than 1000 is not supported");
            char *spaces;
            PLUMB_TRY(plumb_jarena_get(&r->arena, &spaces, n > 0 ? n + 1 : 1));
            memset(spaces, ' ', (size_t)(n > 0 ? n : 0));
            d.indent = spaces;
            d.indent_n = n > 0 ? n : 0;
        } else if (o[INDENT].kind == JK_STR) {
            d.indent = o[INDENT].u.str->at;
            d.indent_n = o[INDENT].u.str->n;
        } else {
            JFAIL(r, "indent must be an integer or a string, not a %s", plumb_jv_type(o[INDENT]));
        }
    }
    if (got[SEPARATORS] && o[SEPARATORS].kind != JK_NONE)
        PLUMB_TRY(separators(&d, o[SEPARATORS]));
    const plumb_status st = dump(&d, v, 0);
    return plumb_jinja_take(r, out, &b, st);
}
