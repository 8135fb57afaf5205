/* filter.c - the filters that take one value, and the table of all filters.
 * Layer 3. Private to text/jinja. */
#include <math.h>

#include "text/jinja/run.h"
#include "text/utf8.h"

typedef struct plumb_jrun run;
typedef const struct plumb_jargs args_t;

/* Converts a value to a string like Jinja's soft_str: a string stays unchanged. */
static plumb_status soft(run *r, jv *v)
{
    return plumb_jinja_str(r, v, *v);
}

static plumb_status no_args(run *r, args_t *args)
{
    if (args->n || args->n_kw)
        JFAIL(r, "the filter takes no argument");
    return PLUMB_OK;
}

static plumb_status want_int(run *r, jv v, int64_t *out, const char *what)
{
    if (v.kind == JK_UNDEFINED && v.u.str)
        return plumb_jinja_raise_undefined(r, v);
    if (!plumb_jv_is_int(v))
        JFAIL(r, "%s must be an integer, not a %s", what, plumb_jv_type(v));
    *out = plumb_jv_as_int(v);
    return PLUMB_OK;
}

static plumb_status f_abs(run *r, jv *out, jv in, args_t *args)
{
    PLUMB_TRY(no_args(r, args));
    if (in.kind == JK_FLOAT) {
        *out = plumb_jv_float(fabs(in.u.d));
        return PLUMB_OK;
    }
    int64_t i = 0;
    PLUMB_TRY(want_int(r, in, &i, "the value"));
    if (i == INT64_MIN)
        JREFUSE(r, "an integer of more than 64 bits is not supported");
    *out = plumb_jv_int(i < 0 ? -i : i);
    return PLUMB_OK;
}

static plumb_status f_attr(run *r, jv *out, jv in, args_t *args)
{
    jv name;
    bool got;
    const char *method;
    PLUMB_TRY(plumb_jinja_spread(r, args, "name", &name, &got));
    if (name.kind != JK_STR)
        JFAIL(r, "the name must be a string, not a %s", plumb_jv_type(name));
    if (in.kind == JK_DICT && !plumb_jinja_has_method(in, name.u.str, &method))
        return plumb_jinja_undefined(r, out, "dict has no attribute %.*s",
                                     (int)(name.u.str->n < 80 ? name.u.str->n : 80),
                                     name.u.str->at);
    return plumb_jinja_attr(r, out, in, name.u.str);
}

static plumb_status change_case(run *r, jv *out, jv in, args_t *args, enum plumb_jcase how)
{
    PLUMB_TRY(no_args(r, args));
    PLUMB_TRY(soft(r, &in));
    return plumb_jstr_case(r, out, in.u.str, how);
}

static plumb_status f_upper(run *r, jv *out, jv in, args_t *args)
{
    return change_case(r, out, in, args, JC_UPPER);
}

static plumb_status f_lower(run *r, jv *out, jv in, args_t *args)
{
    return change_case(r, out, in, args, JC_LOWER);
}

static plumb_status f_capitalize(run *r, jv *out, jv in, args_t *args)
{
    return change_case(r, out, in, args, JC_CAPITALIZE);
}

static plumb_status f_title(run *r, jv *out, jv in, args_t *args)
{
    return change_case(r, out, in, args, JC_JINJA_TITLE);
}

static plumb_status f_center(run *r, jv *out, jv in, args_t *args)
{
    jv v;
    bool got;
    int64_t width = 80;
    PLUMB_TRY(plumb_jinja_spread(r, args, "width=", &v, &got));
    if (got)
        PLUMB_TRY(want_int(r, v, &width, "the width"));
    PLUMB_TRY(soft(r, &in));
    return plumb_jstr_pad(r, out, in.u.str, width, 'c', " ", 1);
}

static plumb_status f_length(run *r, jv *out, jv in, args_t *args)
{
    int64_t n;
    PLUMB_TRY(no_args(r, args));
    PLUMB_TRY(plumb_jinja_length(r, &n, in));
    *out = plumb_jv_int(n);
    return PLUMB_OK;
}

static plumb_status f_default(run *r, jv *out, jv in, args_t *args)
{
    jv v[2];
    bool got[2];
    PLUMB_TRY(plumb_jinja_spread(r, args, "default_value=,boolean=", v, got));
    if (in.kind != JK_UNDEFINED && !(got[1] && plumb_jv_true(v[1]) && !plumb_jv_true(in))) {
        *out = in;
        return PLUMB_OK;
    }
    *out = v[0];
    return got[0] ? PLUMB_OK : plumb_jv_text(&r->arena, out, "");
}

static plumb_status f_escape(run *r, jv *out, jv in, args_t *args)
{
    PLUMB_TRY(no_args(r, args));
    return plumb_jinja_escape(r, out, in);
}

static plumb_status f_safe(run *r, jv *out, jv in, args_t *args)
{
    PLUMB_TRY(no_args(r, args));
    PLUMB_TRY(soft(r, &in));
    PLUMB_TRY(plumb_jv_part(&r->arena, out, in.u.str->at, in.u.str->n));
    ((struct plumb_jstr *)(uintptr_t)out->u.str)->markup = true;
    return PLUMB_OK;
}

static plumb_status f_float(run *r, jv *out, jv in, args_t *args)
{
    jv otherwise;
    bool got;
    double d;
    PLUMB_TRY(plumb_jinja_spread(r, args, "default=", &otherwise, &got));
    if (in.kind == JK_UNDEFINED && in.u.str)
        return plumb_jinja_raise_undefined(r, in);
    if (plumb_jv_is_number(in))
        *out = plumb_jv_float(plumb_jv_as_float(in));
    else if (in.kind == JK_STR && plumb_jinja_parse_float(in.u.str->at, in.u.str->n, &d))
        *out = plumb_jv_float(d);
    else
        *out = got ? otherwise : plumb_jv_float(0);
    return PLUMB_OK;
}

static plumb_status f_int(run *r, jv *out, jv in, args_t *args)
{
    jv v[2];
    bool got[2], big = false;
    int64_t i = 0, base = 10;
    double d = 0;
    PLUMB_TRY(plumb_jinja_spread(r, args, "default=,base=", v, got));
    /* If Python's int refuses the base, every text counts as one that is not an integer. */
    bool usable = true;
    if (got[1]) {
        usable = plumb_jv_is_int(v[1]);
        base = usable ? plumb_jv_as_int(v[1]) : 10;
        usable &= base == 0 || (base >= 2 && base <= 36);
    }
    if (in.kind == JK_UNDEFINED && in.u.str)
        return plumb_jinja_raise_undefined(r, in);
    if (plumb_jv_is_int(in)) {
        *out = plumb_jv_int(plumb_jv_as_int(in));
        return PLUMB_OK;
    }
    bool real = in.kind == JK_FLOAT;
    if (real)
        d = in.u.d;
    if (in.kind == JK_STR) {
        if (usable && plumb_jinja_parse_int(in.u.str->at, in.u.str->n, (int)base, &i, &big)) {
            *out = plumb_jv_int(i);
            return PLUMB_OK;
        }
        real = !big && plumb_jinja_parse_float(in.u.str->at, in.u.str->n, &d);
    }
    if (in.kind == JK_FLOAT && isinf(d))
        JFAIL(r, "an infinite float is no integer");
    if (big || (real && fabs(d) >= 9.2e18 && isfinite(d)))
        JREFUSE(r, "an integer of more than 64 bits is not supported");
    *out = real && isfinite(d) ? plumb_jv_int((int64_t)d) : got[0] ? v[0] : plumb_jv_int(0);
    return PLUMB_OK;
}

static plumb_status f_format(run *r, jv *out, jv in, args_t *args)
{
    PLUMB_TRY(soft(r, &in));
    if (in.u.str->markup)
        JREFUSE(r, "the format of a string that went through escape or safe is not supported");
    if (args->n && args->n_kw)
        JFAIL(r, "format takes positional or keyword arguments, not both");
    if (args->n_kw) {
        struct plumb_jmap *m;
        PLUMB_TRY(plumb_jmap_new(&r->arena, &m, args->n_kw));
        for (int64_t i = 0; i < args->n_kw; i++)
            PLUMB_TRY(plumb_jmap_set(&r->arena, m, (jv){.kind = JK_STR, .u.str = args->kw[i].name},
                                     args->kw[i].value));
        return plumb_jinja_percent(r, out, in.u.str, (jv){.kind = JK_DICT, .u.map = m});
    }
    struct plumb_jseq s = {.at = args->at, .n = args->n};
    return plumb_jinja_percent(r, out, in.u.str, plumb_jv_of(JK_TUPLE, &s));
}

static plumb_status f_indent(run *r, jv *out, jv in, args_t *args)
{
    jv v[3];
    bool got[3];
    int64_t width = 4;
    struct plumb_buf b = {0}, fill = {0};
    struct plumb_jseq *lines;
    PLUMB_TRY(plumb_jinja_spread(r, args, "width=,first=,blank=", v, got));
    if (in.kind == JK_UNDEFINED && in.u.str)
        return plumb_jinja_raise_undefined(r, in);
    if (in.kind != JK_STR)
        JFAIL(r, "a %s cannot be indented", plumb_jv_type(in));
    if (in.u.str->markup)
        JREFUSE(r, "the indent of a string that went through escape or safe is not supported");
    if (got[0] && v[0].kind != JK_STR)
        PLUMB_TRY(want_int(r, v[0], &width, "the width"));
    if (width > 10000)
        JREFUSE(r, "an indent of more than 10000 is not supported");
    const bool first = got[1] && plumb_jv_true(v[1]), blank = got[2] && plumb_jv_true(v[2]);
    PLUMB_TRY(plumb_jseq_new(&r->arena, &lines, 0));
    PLUMB_TRY(plumb_jstr_lines(r, lines, in.u.str, false));
    /* Jinja appends a line break before it splits the text, so a line break at the end gives an
     * empty last line. */
    const char *end = in.u.str->at + in.u.str->n;
    jv empty;
    PLUMB_TRY(plumb_jv_text(&r->arena, &empty, ""));
    if (!lines->n ||
        (lines->n && lines->at[lines->n - 1].u.str->at + lines->at[lines->n - 1].u.str->n < end))
        PLUMB_TRY(plumb_jseq_add(&r->arena, lines, empty));
    plumb_status st = PLUMB_OK;
    if (got[0] && v[0].kind == JK_STR)
        st = plumb_buf_add(&fill, v[0].u.str->at, v[0].u.str->n);
    for (int64_t i = 0; st == PLUMB_OK && !(got[0] && v[0].kind == JK_STR) && i < width; i++)
        st = plumb_buf_add(&fill, " ", 1);
    for (int64_t i = 0; i < lines->n && st == PLUMB_OK; i++) {
        const struct plumb_jstr *line = lines->at[i].u.str;
        if (i)
            st = plumb_buf_add(&b, "\n", 1);
        if (st == PLUMB_OK && (i ? blank || line->n : first))
            st = plumb_buf_add(&b, plumb_buf_text(&fill), fill.len);
        if (st == PLUMB_OK)
            st = plumb_buf_add(&b, line->at, line->n);
        if (st == PLUMB_OK && b.len > r->limit.memory)
            st = plumb_jinja_fail(r, PLUMB_ERR_ARG,
                                  "a string exceeded the limit of %lld bytes of memory",
                                  (long long)r->limit.memory);
    }
    plumb_buf_fini(&fill);
    return plumb_jinja_take(r, out, &b, st);
}

static plumb_status f_replace(run *r, jv *out, jv in, args_t *args)
{
    jv v[3];
    bool got[3];
    int64_t count = -1;
    PLUMB_TRY(plumb_jinja_spread(r, args, "old,new,count=", v, got));
    if (got[2] && v[2].kind != JK_NONE)
        PLUMB_TRY(want_int(r, v[2], &count, "count"));
    PLUMB_TRY(soft(r, &in));
    PLUMB_TRY(soft(r, &v[0]));
    PLUMB_TRY(soft(r, &v[1]));
    return plumb_jstr_replace(r, out, in.u.str, v[0].u.str, v[1].u.str, count);
}

static plumb_status f_round(run *r, jv *out, jv in, args_t *args)
{
    jv v[2];
    bool got[2];
    int64_t digits = 0;
    PLUMB_TRY(plumb_jinja_spread(r, args, "precision=,method=", v, got));
    if (got[0])
        PLUMB_TRY(want_int(r, v[0], &digits, "the precision"));
    if (in.kind == JK_UNDEFINED && in.u.str)
        return plumb_jinja_raise_undefined(r, in);
    if (!plumb_jv_is_number(in))
        JFAIL(r, "a %s cannot be rounded", plumb_jv_type(in));
    if (!got[1] || (v[1].kind == JK_STR && plumb_jstr_is(v[1].u.str, "common")))
        return plumb_jinja_round(r, out, in, digits);
    const bool up = v[1].kind == JK_STR && plumb_jstr_is(v[1].u.str, "ceil");
    if (!up && !(v[1].kind == JK_STR && plumb_jstr_is(v[1].u.str, "floor")))
        JFAIL(r, "the method must be common, ceil or floor");
    if (digits < 0 || digits > 15)
        JREFUSE(r, "%s to %lld digits is not supported", up ? "ceil" : "floor", (long long)digits);
    const double unit = pow(10, (double)digits), x = plumb_jv_as_float(in) * unit;
    if (!isfinite(x))
        JFAIL(r, "the value is no integer");
    *out = plumb_jv_float((up ? ceil(x) : floor(x)) / unit);
    return PLUMB_OK;
}

static plumb_status f_string(run *r, jv *out, jv in, args_t *args)
{
    PLUMB_TRY(no_args(r, args));
    return plumb_jinja_str(r, out, in);
}

static plumb_status f_trim(run *r, jv *out, jv in, args_t *args)
{
    jv chars;
    bool got;
    PLUMB_TRY(plumb_jinja_spread(r, args, "chars=", &chars, &got));
    got = got && chars.kind != JK_NONE;
    if (got && chars.kind != JK_STR)
        JFAIL(r, "the characters must be a string, not a %s", plumb_jv_type(chars));
    PLUMB_TRY(soft(r, &in));
    return plumb_jstr_strip(r, out, in.u.str, 3, got ? chars.u.str : NULL);
}

static plumb_status f_truncate(run *r, jv *out, jv in, args_t *args)
{
    jv v[4];
    bool got[4];
    int64_t length = 255, leeway = 5;
    const struct plumb_jstr dots = {"...", 3, 3, false}, *end = &dots;
    PLUMB_TRY(plumb_jinja_spread(r, args, "length=,killwords=,end=,leeway=", v, got));
    if (got[0])
        PLUMB_TRY(want_int(r, v[0], &length, "the length"));
    if (got[3] && v[3].kind != JK_NONE)
        PLUMB_TRY(want_int(r, v[3], &leeway, "the leeway"));
    if (got[2] && v[2].kind != JK_STR)
        JFAIL(r, "the end must be a string, not a %s", plumb_jv_type(v[2]));
    if (got[2])
        end = v[2].u.str;
    if (in.kind != JK_STR || in.u.str->markup)
        JREFUSE(r, "truncate is supported for plain strings only");
    const struct plumb_jstr *s = in.u.str;
    if (length < end->chars || leeway < 0)
        JFAIL(r, "the length is shorter than the end, or the leeway is negative");
    *out = in;
    if (s->chars <= length + leeway)
        return PLUMB_OK;
    int64_t n = plumb_jstr_offset(s, length - end->chars);
    if (!got[1] || !plumb_jv_true(v[1])) {
        int64_t space = n;
        while (space > 0 && s->at[space - 1] != ' ')
            space--;
        n = space > 0 ? space - 1 : n;
    }
    struct plumb_buf b = {0};
    plumb_status st = plumb_buf_add(&b, s->at, n);
    if (st == PLUMB_OK)
        st = plumb_buf_add(&b, end->at, end->n);
    return plumb_jinja_take(r, out, &b, st);
}

static plumb_status f_wordcount(run *r, jv *out, jv in, args_t *args)
{
    int64_t count = 0;
    bool inside = false;
    PLUMB_TRY(no_args(r, args));
    PLUMB_TRY(soft(r, &in));
    const struct plumb_jstr *s = in.u.str;
    for (int64_t i = 0; i < s->n; i += plumb_utf8_size(s->at[i])) {
        const uint32_t c = plumb_utf8_at(s->at + i);
        const struct plumb_jstr one = {s->at + i, plumb_utf8_size(s->at[i]), 1, false};
        const bool word = c == '_' || plumb_jstr_predicate(&one, "isalnum") == 1;
        count += word && !inside;
        inside = word;
    }
    *out = plumb_jv_int(count);
    return PLUMB_OK;
}

static const struct plumb_jfilter filters[] = {
    {"abs", f_abs},
    {"attr", f_attr},
    {"capitalize", f_capitalize},
    {"center", f_center},
    {"count", f_length},
    {"d", f_default},
    {"default", f_default},
    {"e", f_escape},
    {"escape", f_escape},
    {"filesizeformat", NULL},
    {"float", f_float},
    {"forceescape", NULL},
    {"format", f_format},
    {"indent", f_indent},
    {"int", f_int},
    {"length", f_length},
    {"lower", f_lower},
    {"pprint", NULL},
    {"random", NULL},
    {"replace", f_replace},
    {"round", f_round},
    {"safe", f_safe},
    {"string", f_string},
    {"striptags", NULL},
    {"title", f_title},
    {"tojson", plumb_jinja_tojson},
    {"trim", f_trim},
    {"truncate", f_truncate},
    {"upper", f_upper},
    {"urlencode", NULL},
    {"urlize", NULL},
    {"wordcount", f_wordcount},
    {"wordwrap", NULL},
    {"xmlattr", NULL},
};
#define N_FILTERS ((int)(sizeof(filters) / sizeof(*filters)))

/* Returns the filter with this index. An index below N_FILTERS belongs to this file, a larger one
 * to filter_seq.c. */
static const struct plumb_jfilter *filter_at(int index)
{
    return index < N_FILTERS ? &filters[index] : &plumb_jinja_seq_filters[index - N_FILTERS];
}

int plumb_jinja_find_filter(const char *name, int64_t n)
{
    for (int i = 0; filter_at(i)->name; i++)
        if ((int64_t)strlen(filter_at(i)->name) == n &&
            memcmp(filter_at(i)->name, name, (size_t)n) == 0)
            return i;
    return -1;
}

bool plumb_jinja_filter_known(int index)
{
    return filter_at(index)->fn != NULL;
}

plumb_status plumb_jinja_filter(struct plumb_jrun *r, jv *out, int index, jv in,
                                const struct plumb_jargs *args)
{
    return filter_at(index)->fn(r, out, in, args);
}
