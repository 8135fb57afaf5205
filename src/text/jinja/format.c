/* format.c - formats text: "%s" % value and "{}".format(value).
 * Layer 3. Private to text/jinja. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>

#include "text/jinja/run.h"
#include "text/utf8.h"

/* A parsed format specification: [[fill]align][sign][#][0][width][,][.precision][type]. */
struct spec {
    const char *fill;
    int fill_n;
    char align, sign, type;
    bool alternate, zero;
    char group;
    int64_t width, precision; /* precision is -1 if the specification has none */
};
#define MAX_WIDTH 100000

/* Appends n digits, with the separator `group` between groups of three; 0 means no separator. */
static plumb_status put_grouped(struct plumb_buf *b, const char *digits, int64_t n, char group)
{
    for (int64_t i = 0; i < n; i++) {
        if (group && i && (n - i) % 3 == 0)
            PLUMB_TRY(plumb_buf_add(b, &group, 1));
        PLUMB_TRY(plumb_buf_add(b, digits + i, 1));
    }
    return PLUMB_OK;
}

/* Appends the digits of a number without its sign. */
static plumb_status put_digits(struct plumb_jrun *r, struct plumb_buf *b, const struct spec *f,
                               jv v)
{
    char text[1024];
    const char type = f->type;
    if (plumb_jv_is_int(v) && (!type || strchr("dxXobc", type))) {
        const int64_t i = plumb_jv_as_int(v);
        uint64_t u = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
        const unsigned base = type == 'x' || type == 'X' ? 16
                              : type == 'o'              ? 8
                              : type == 'b'              ? 2
                                                         : 10;
        int at = (int)sizeof(text);
        if (f->precision >= 0)
            JFAIL(r, "a precision is not allowed for an integer");
        if (f->group && base != 10)
            JREFUSE(r, "groups of digits that are not decimal are not supported");
        if (type == 'c')
            JREFUSE(r, "the format type c is not supported");
        do
            text[--at] = (type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[u % base];
        while (u /= base);
        if (f->alternate && base != 10)
            PLUMB_TRY(plumb_buf_addf(b, "0%c", type));
        return put_grouped(b, text + at, (int64_t)sizeof(text) - at, f->group);
    }
    const double d = fabs(plumb_jv_as_float(v));
    if (type && !strchr("eEfFgG%", type))
        JFAIL(r, "the format type %c is not for a %s", type, plumb_jv_type(v));
    if (f->alternate || f->precision > 300)
        JREFUSE(r, "this format of a float is not supported");
    if (!type && f->precision < 0) {
        struct plumb_buf digits = {0};
        plumb_status st = plumb_jinja_put_float(&digits, d);
        const char *s = plumb_buf_text(&digits);
        const int64_t whole = (int64_t)strspn(s, "0123456789");
        if (st == PLUMB_OK)
            st = put_grouped(b, s, whole, strchr(s, 'e') ? 0 : f->group);
        if (st == PLUMB_OK)
            st = plumb_buf_add(b, s + whole, digits.len - whole);
        plumb_buf_fini(&digits);
        return st;
    }
    if (!type)
        JREFUSE(r, "a precision without a type is not supported for a float");
    if (!isfinite(d))
        return plumb_buf_addf(b, "%s%s", isnan(d) ? "nan" : "inf", type == '%' ? "%" : "");
    const int precision = f->precision < 0 ? 6 : (int)f->precision;
    const char c[] = {'%', '.', '*', type == '%' ? 'f' : type, 0};
    const int n = type == 'e' || type == 'E'
                      ? snprintf(text, sizeof(text), type == 'e' ? "%.*e" : "%.*E", precision, d)
                  : type == 'g' || type == 'G'
                      ? snprintf(text, sizeof(text), type == 'g' ? "%.*g" : "%.*G",
                                 precision ? precision : 1, d)
                      : snprintf(text, sizeof(text), "%.*f", precision,
                                 c[3] == 'f' && type == '%' ? d * 100 : d);
    if (n < 0 || n >= (int)sizeof(text))
        JREFUSE(r, "a number of this length is not supported");
    const int64_t whole = (int64_t)strspn(text, "0123456789");
    PLUMB_TRY(put_grouped(b, text, whole, f->group));
    PLUMB_TRY(plumb_buf_add(b, text + whole, n - whole));
    return type == '%' ? plumb_buf_add(b, "%", 1) : PLUMB_OK;
}

static plumb_status put_fill(struct plumb_buf *b, const struct spec *f, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        PLUMB_TRY(plumb_buf_add(b, f->fill, f->fill_n));
    return PLUMB_OK;
}

/* Appends the sign ("" for none) and the n bytes of body, padded to the width of f. `align` is the
 * side to which sign and body are aligned; with '=' the padding is between the sign and the body.
 */
static plumb_status put_padded(struct plumb_buf *b, const struct spec *f, const char *sign,
                               const char *body, int64_t n, char align)
{
    const int64_t chars = plumb_jstr_count(body, n) + (*sign != 0);
    const int64_t room = f->width > chars ? f->width - chars : 0;
    const int64_t left = align == '>' || align == '=' ? room : align == '^' ? room / 2 : 0;
    if (align == '=')
        PLUMB_TRY(plumb_buf_add(b, sign, *sign != 0));
    PLUMB_TRY(put_fill(b, f, left));
    if (align != '=')
        PLUMB_TRY(plumb_buf_add(b, sign, *sign != 0));
    PLUMB_TRY(plumb_buf_add(b, body, n));
    return put_fill(b, f, room - left);
}

static plumb_status put_number(struct plumb_jrun *r, struct plumb_buf *b, const struct spec *f,
                               jv v)
{
    struct plumb_buf digits = {0};
    const bool negative = v.kind == JK_FLOAT ? signbit(v.u.d) != 0 : plumb_jv_as_int(v) < 0;
    const char sign[2] = {negative ? '-' : f->sign == '+' || f->sign == ' ' ? f->sign : 0, 0};
    if (f->zero && f->group)
        JREFUSE(r, "zeros together with a group separator are not supported");
    plumb_status st = put_digits(r, &digits, f, v);
    if (st == PLUMB_OK)
        st = put_padded(b, f, sign, plumb_buf_text(&digits), digits.len, f->align ? f->align : '>');
    plumb_buf_fini(&digits);
    return st;
}

static plumb_status put_string(struct plumb_buf *b, const struct spec *f,
                               const struct plumb_jstr *s)
{
    int64_t n = s->n;
    if (f->precision >= 0 && f->precision < s->chars)
        n = plumb_jstr_offset(s, f->precision);
    return put_padded(b, f, "", s->at, n, f->align ? f->align : '<');
}

static plumb_status parse_number(struct plumb_jrun *r, const char **at, const char *end,
                                 int64_t *out)
{
    int64_t x = 0;
    for (; *at < end && isdigit((unsigned char)**at); ++*at) {
        x = x * 10 + (**at - '0');
        if (x > MAX_WIDTH)
            JREFUSE(r, "a width or precision of more than %d is not supported", MAX_WIDTH);
    }
    *out = x;
    return PLUMB_OK;
}

/* The state of one "%" formatting: the value on the right, and how many of its elements are
 * used. */
struct percent {
    struct plumb_jrun *r;
    struct plumb_buf *b;
    jv v;
    int64_t used;
};

static plumb_status next_arg(struct percent *p, jv *out)
{
    if (p->v.kind == JK_TUPLE) {
        if (p->used >= p->v.u.seq->n)
            JFAIL(p->r, "there are not enough arguments for the format");
        *out = p->v.u.seq->at[p->used++];
        return PLUMB_OK;
    }
    if (p->used++)
        JFAIL(p->r, "there are not enough arguments for the format");
    *out = p->v;
    return PLUMB_OK;
}

static plumb_status put_char(struct percent *p, const struct spec *f, jv v)
{
    char text[4];
    if (v.kind == JK_STR && v.u.str->chars == 1)
        return put_padded(p->b, f, "", v.u.str->at, v.u.str->n, f->align ? f->align : '>');
    if (!plumb_jv_is_int(v) || plumb_jv_as_int(v) < 0 || plumb_jv_as_int(v) > 0x10ffff ||
        (plumb_jv_as_int(v) >= 0xd800 && plumb_jv_as_int(v) < 0xe000))
        JFAIL(p->r, "%%c needs a character");
    return put_padded(p->b, f, "", text, plumb_utf8_put(text, (uint32_t)plumb_jv_as_int(v)), '>');
}

static plumb_status convert(struct percent *p, struct spec *f, char type, jv v)
{
    if (type == 'c')
        return put_char(p, f, v);
    if (type == 's' || type == 'r') {
        struct plumb_buf text = {0};
        jv s;
        const plumb_status st = type == 's' ? plumb_jinja_put_str(p->r, &text, v)
                                            : plumb_jinja_put_repr(p->r, &text, v);
        PLUMB_TRY(plumb_jinja_take(p->r, &s, &text, st));
        f->fill = " ";
        f->align = f->align ? f->align : '>';
        return put_string(p->b, f, s.u.str);
    }
    if (!strchr("diuoxXeEfFgG", type))
        JREFUSE(p->r, "the conversion %%%c is not supported", type);
    if (v.kind == JK_UNDEFINED && v.u.str)
        return plumb_jinja_raise_undefined(p->r, v);
    if (!plumb_jv_is_number(v))
        JFAIL(p->r, "%%%c needs a number, not a %s", type, plumb_jv_type(v));
    f->type = type == 'i' || type == 'u' ? 'd' : type;
    if (strchr("dxXo", f->type)) {
        if (v.kind == JK_FLOAT) {
            if (f->type != 'd' || !isfinite(v.u.d))
                JFAIL(p->r, "%%%c needs an integer, not a float", type);
            if (fabs(v.u.d) >= 9.2e18)
                JREFUSE(p->r, "an integer of more than 64 bits is not supported");
            v = plumb_jv_int((int64_t)v.u.d);
        }
        if (f->precision >= 0)
            JREFUSE(p->r, "the precision of %%%c is not supported", type);
    }
    f->align = f->align ? f->align : f->zero ? '=' : '>';
    f->fill = f->align == '=' ? "0" : " ";
    return put_number(p->r, p->b, f, v);
}

/* Formats one conversion of "%"; *at is the position after the percent sign. */
static plumb_status conversion(struct percent *p, const char **at, const char *end)
{
    struct spec f = {.fill = " ", .fill_n = 1, .precision = -1};
    jv v = plumb_jv_none();
    bool named = false;
    if (*at < end && **at == '(') {
        const char *close = memchr(*at, ')', (size_t)(end - *at));
        if (!close || p->v.kind != JK_DICT)
            JFAIL(p->r, "%%(name) needs a closing bracket and a dict");
        const jv *found = plumb_jmap_get_text(p->v.u.map, *at + 1, close - *at - 1);
        if (!found)
            JFAIL(p->r, "the dict has no key %.*s", (int)(close - *at - 1), *at + 1);
        v = *found;
        named = true;
        *at = close + 1;
    }
    if (!named && *at < end && **at == '%') {
        ++*at;
        return plumb_buf_add(p->b, "%", 1);
    }
    for (; *at < end && strchr("-+ #0", **at); ++*at) {
        if (**at == '-')
            f.align = '<';
        else if (**at == '#')
            f.alternate = true;
        else if (**at == '0')
            f.zero = true;
        else if (f.sign != '+')
            f.sign = **at;
    }
    if (*at < end && **at == '*')
        JREFUSE(p->r, "a width of * is not supported");
    PLUMB_TRY(parse_number(p->r, at, end, &f.width));
    if (*at < end && **at == '.') {
        ++*at;
        PLUMB_TRY(parse_number(p->r, at, end, &f.precision));
    }
    while (*at < end && strchr("hlL", **at))
        ++*at;
    if (*at == end)
        JFAIL(p->r, "the format ends within a conversion");
    const char type = *(*at)++;
    if (type == '%')
        JFAIL(p->r, "a percent sign is written %%%%, without anything between the two");
    if (!named)
        PLUMB_TRY(next_arg(p, &v));
    return convert(p, &f, type, v);
}

plumb_status plumb_jinja_percent(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s, jv v)
{
    struct plumb_buf b = {0};
    struct percent p = {.r = r, .b = &b, .v = v};
    const char *at = s->at, *end = at + s->n;
    plumb_status st = PLUMB_OK;
    while (at < end && st == PLUMB_OK) {
        const char *next = memchr(at, '%', (size_t)(end - at));
        st = plumb_buf_add(&b, at, (next ? next : end) - at);
        at = next ? next + 1 : end;
        if (st == PLUMB_OK && next)
            st = conversion(&p, &at, end);
        if (st == PLUMB_OK)
            st = plumb_jinja_work(r, 16);
    }
    const bool mapping =
        v.kind == JK_DICT || v.kind == JK_LIST || v.kind == JK_RANGE || v.kind == JK_UNDEFINED;
    const int64_t given = v.kind == JK_TUPLE ? v.u.seq->n : !mapping;
    if (st == PLUMB_OK && p.used < given)
        st = plumb_jinja_fail(r, PLUMB_ERR_FORMAT, "the format does not use all its arguments");
    return plumb_jinja_take(r, out, &b, st);
}

static plumb_status parse_spec(struct plumb_jrun *r, struct spec *f, const char *at,
                               const char *end)
{
    *f = (struct spec){.precision = -1};
    const int first = at < end ? plumb_utf8_size(*at) : 0;
    if (at + first < end && strchr("<>^=", at[first])) {
        f->fill = at;
        f->fill_n = first;
        f->align = at[first];
        at += first + 1;
    } else if (at < end && strchr("<>^=", *at)) {
        f->align = *at++;
    }
    if (at < end && strchr("+- ", *at))
        f->sign = *at++;
    if (at < end && *at == '#')
        f->alternate = *at++ == '#';
    if (at < end && *at == '0') {
        at++;
        if (f->fill_n == 0) {
            f->fill = "0";
            f->fill_n = 1;
        }
        f->zero = !f->align;
    }
    if (f->fill_n == 0) {
        f->fill = " ";
        f->fill_n = 1;
    }
    PLUMB_TRY(parse_number(r, &at, end, &f->width));
    if (at < end && (*at == ',' || *at == '_'))
        f->group = *at++;
    if (at < end && *at == '.') {
        at++;
        if (at == end || !isdigit((unsigned char)*at))
            JFAIL(r, "the format has no precision after the point");
        PLUMB_TRY(parse_number(r, &at, end, &f->precision));
    }
    if (at < end)
        f->type = *at++;
    if (at < end)
        JFAIL(r, "the format %.*s is not valid", (int)(end - at), at);
    return PLUMB_OK;
}

static plumb_status put_formatted(struct plumb_jrun *r, struct plumb_buf *b, jv v, const char *at,
                                  const char *end)
{
    struct spec f;
    if (at == end)
        return plumb_jinja_put_str(r, b, v);
    PLUMB_TRY(parse_spec(r, &f, at, end));
    if (v.kind == JK_STR) {
        if ((f.type && f.type != 's') || f.sign || f.alternate || f.group || f.align == '=')
            JFAIL(r, "the format is not for a string");
        return put_string(b, &f, v.u.str);
    }
    if (!plumb_jv_is_number(v))
        JFAIL(r, "a format other than {} is not for a %s", plumb_jv_type(v));
    if (f.type == 'n' || f.type == 'c')
        JREFUSE(r, "the format type %c is not supported", f.type);
    if (f.zero)
        f.align = '=';
    return put_number(r, b, &f, v);
}

/* Gets the value of the replacement field [at, end): an argument by name or index, then its
 * .attribute and [key] parts. *automatic is the index for the next field {} without one, or -1 once
 * a field has named an index. */
static plumb_status field_value(struct plumb_jrun *r, jv *out, const char *at, const char *end,
                                const struct plumb_jargs *args, int64_t *automatic)
{
    const char *p = at;
    int64_t index = 0;
    while (p < end && *p != '.' && *p != '[')
        p++;
    bool digits = p > at;
    for (const char *q = at; q < p; q++)
        digits &= isdigit((unsigned char)*q) != 0;
    if (p == at || digits) {
        if ((p == at) != (*automatic >= 0) && *automatic != 0)
            JFAIL(r, "{} and {0} cannot be mixed in one format");
        if (p == at)
            index = (*automatic)++;
        else {
            const char *q = at;
            *automatic = -1;
            PLUMB_TRY(parse_number(r, &q, p, &index));
        }
        if (index >= args->n)
            JFAIL(r, "the format has no argument %lld", (long long)index);
        *out = args->at[index];
    } else {
        int64_t k = 0;
        while (k < args->n_kw && !(args->kw[k].name->n == p - at &&
                                   memcmp(args->kw[k].name->at, at, (size_t)(p - at)) == 0))
            k++;
        if (k == args->n_kw)
            JFAIL(r, "the format has no argument %.*s", (int)(p - at), at);
        *out = args->kw[k].value;
    }
    while (p < end) {
        const bool attr = *p++ == '.';
        const char *q = p;
        jv key;
        while (q < end && (attr ? *q != '.' && *q != '[' : *q != ']'))
            q++;
        if (q == p || (!attr && q == end))
            JFAIL(r, "a field of the format is malformed");
        PLUMB_TRY(plumb_jv_part(&r->arena, &key, p, q - p));
        const char *d = p;
        while (d < q && isdigit((unsigned char)*d))
            d++;
        if (!attr && d == q) {
            const char *number = p;
            PLUMB_TRY(parse_number(r, &number, q, &index));
            key = plumb_jv_int(index);
        }
        PLUMB_TRY(attr ? plumb_jinja_attr(r, out, *out, key.u.str)
                       : plumb_jinja_item(r, out, *out, key));
        p = q + !attr;
    }
    return PLUMB_OK;
}

static plumb_status field(struct plumb_jrun *r, struct plumb_buf *b, const char *at,
                          const char *end, const struct plumb_jargs *args, int64_t *automatic)
{
    const char *spec = at;
    jv v;
    int bracket = 0;
    while (spec < end && (bracket || *spec != ':')) {
        bracket += (*spec == '[') - (*spec == ']');
        spec++;
    }
    const char *name_end = spec;
    char conversion = 0;
    if (name_end - at >= 2 && name_end[-2] == '!') {
        conversion = name_end[-1];
        name_end -= 2;
    }
    PLUMB_TRY(field_value(r, &v, at, name_end, args, automatic));
    if (spec < end && memchr(spec, '{', (size_t)(end - spec)))
        JREFUSE(r, "a field inside the format of a field is not supported");
    if (conversion == 's') {
        PLUMB_TRY(plumb_jinja_str(r, &v, v));
    } else if (conversion == 'r') {
        struct plumb_buf text = {0};
        const plumb_status st = plumb_jinja_put_repr(r, &text, v);
        PLUMB_TRY(plumb_jinja_take(r, &v, &text, st));
    } else if (conversion) {
        JREFUSE(r, "the conversion !%c is not supported", conversion);
    }
    return put_formatted(r, b, v, spec + (spec < end), end);
}

static plumb_status format(struct plumb_jrun *r, struct plumb_buf *b, const struct plumb_jstr *s,
                           const struct plumb_jargs *args)
{
    const char *at = s->at, *end = at + s->n;
    int64_t automatic = 0;
    while (at < end) {
        const char c = *at;
        if (c != '{' && c != '}') {
            PLUMB_TRY(plumb_buf_add(b, at++, 1));
            continue;
        }
        if (at + 1 < end && at[1] == c) {
            PLUMB_TRY(plumb_buf_add(b, at, 1));
            at += 2;
            continue;
        }
        const char *close = at + 1;
        for (int depth = 1; c == '{' && close < end; close++) {
            depth += (*close == '{') - (*close == '}');
            if (!depth)
                break;
        }
        if (c == '}' || close == end)
            JFAIL(r, "the format has a single %c", c);
        PLUMB_TRY(field(r, b, at + 1, close, args, &automatic));
        PLUMB_TRY(plumb_jinja_work(r, 16));
        at = close + 1;
    }
    return PLUMB_OK;
}

plumb_status plumb_jinja_format(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s,
                                const struct plumb_jargs *args)
{
    struct plumb_buf b = {0};
    const plumb_status st = format(r, &b, s, args);
    return plumb_jinja_take(r, out, &b, st);
}
