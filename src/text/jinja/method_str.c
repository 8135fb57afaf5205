/* method_str.c - implements the methods of strings.
 * Layer 3. Private to text/jinja. */
#include "text/jinja/run.h"
#include "text/utf8.h"

typedef plumb_status method_fn(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s,
                               const char *name, const struct plumb_jargs *args);

static plumb_status want_str(struct plumb_jrun *r, jv v, const char *what)
{
    if (v.kind == JK_UNDEFINED && v.u.str)
        return plumb_jinja_raise_undefined(r, v);
    if (v.kind != JK_STR)
        JFAIL(r, "%s must be a string, not a %s", what, plumb_jv_type(v));
    return PLUMB_OK;
}

static plumb_status want_int(struct plumb_jrun *r, jv v, int64_t *out, const char *what)
{
    if (!plumb_jv_is_int(v))
        JFAIL(r, "%s must be an integer, not a %s", what, plumb_jv_type(v));
    *out = plumb_jv_as_int(v);
    return PLUMB_OK;
}

static plumb_status no_keywords(struct plumb_jrun *r, const char *name,
                                const struct plumb_jargs *args)
{
    if (args->n_kw)
        JFAIL(r, "str.%s takes no keyword argument", name);
    return PLUMB_OK;
}

static plumb_status m_case(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s,
                           const char *name, const struct plumb_jargs *args)
{
    if (args->n || args->n_kw)
        JFAIL(r, "str.%s takes no argument", name);
    return plumb_jstr_case(r, out, s,
                           *name == 'u'   ? JC_UPPER
                           : *name == 'l' ? JC_LOWER
                           : *name == 'c' ? JC_CAPITALIZE
                           : *name == 't' ? JC_TITLE
                                          : JC_SWAP);
}

static plumb_status m_strip(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s,
                            const char *name, const struct plumb_jargs *args)
{
    jv chars;
    bool got;
    PLUMB_TRY(no_keywords(r, name, args));
    PLUMB_TRY(plumb_jinja_spread(r, args, "chars=", &chars, &got));
    got = got && chars.kind != JK_NONE;
    if (got)
        PLUMB_TRY(want_str(r, chars, "what is stripped"));
    return plumb_jstr_strip(r, out, s,
                            *name == 'l'   ? 1
                            : *name == 'r' ? 2
                                           : 3,
                            got ? chars.u.str : NULL);
}

static plumb_status add_part(struct plumb_jrun *r, struct plumb_jseq *out, const char *at,
                             int64_t n)
{
    jv v;
    PLUMB_TRY(plumb_jv_part(&r->arena, &v, at, n));
    return plumb_jseq_add(&r->arena, out, v);
}

/* Splits at white space like Python's split() without a separator: a run of white space counts as
 * one separator, and white space at the ends is ignored. */
static plumb_status split_space(struct plumb_jrun *r, struct plumb_jseq *out,
                                const struct plumb_jstr *s, int64_t max, bool right)
{
    jv rest = {.kind = JK_STR, .u.str = s};
    PLUMB_TRY(plumb_jstr_strip(r, &rest, s, right ? 2 : 1, NULL));
    while (rest.u.str->n) {
        const char *at = rest.u.str->at;
        const int64_t n = rest.u.str->n;
        int64_t cut = right ? n : 0;
        if (max >= 0 && out->n == max) /* the rest keeps the white space at its other end */
            return add_part(r, out, at, n);
        while (right ? cut > 0 : cut < n) {
            const int64_t next = right ? plumb_utf8_before(at, cut) : cut;
            if (plumb_jchar_space(plumb_utf8_at(at + next)))
                break;
            cut = right ? next : cut + plumb_utf8_size(at[cut]);
        }
        PLUMB_TRY(right ? add_part(r, out, at + cut, n - cut) : add_part(r, out, at, cut));
        const struct plumb_jstr left = {right ? at : at + cut, right ? cut : n - cut, 0, false};
        PLUMB_TRY(plumb_jstr_strip(r, &rest, &left, right ? 2 : 1, NULL));
    }
    return PLUMB_OK;
}

static int64_t find_last(const char *s, int64_t n, const char *what, int64_t m)
{
    for (int64_t i = n - m; i >= 0; i--)
        if (memcmp(s + i, what, (size_t)m) == 0)
            return i;
    return -1;
}

static plumb_status split_at(struct plumb_jrun *r, struct plumb_jseq *out,
                             const struct plumb_jstr *s, const struct plumb_jstr *sep, int64_t max,
                             bool right)
{
    const char *at = s->at;
    int64_t n = s->n;
    while (max < 0 || out->n < max) {
        PLUMB_TRY(plumb_jinja_work(r, 0));
        const int64_t found =
            right ? find_last(at, n, sep->at, sep->n) : plumb_jstr_find(at, n, sep->at, sep->n);
        if (found < 0)
            break;
        if (right) {
            PLUMB_TRY(add_part(r, out, at + found + sep->n, n - found - sep->n));
            n = found;
        } else {
            PLUMB_TRY(add_part(r, out, at, found));
            at += found + sep->n;
            n -= found + sep->n;
        }
    }
    return add_part(r, out, at, n);
}

static plumb_status m_split(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s,
                            const char *name, const struct plumb_jargs *args)
{
    jv v[2];
    bool got[2];
    int64_t max = -1;
    const bool right = *name == 'r';
    struct plumb_jseq *parts;
    PLUMB_TRY(plumb_jinja_spread(r, args, "sep=,maxsplit=", v, got));
    if (got[1])
        PLUMB_TRY(want_int(r, v[1], &max, "maxsplit"));
    PLUMB_TRY(plumb_jinja_work(r, s->n));
    PLUMB_TRY(plumb_jseq_new(&r->arena, &parts, 0));
    if (!got[0] || v[0].kind == JK_NONE) {
        PLUMB_TRY(split_space(r, parts, s, max, right));
    } else {
        PLUMB_TRY(want_str(r, v[0], "the separator"));
        if (!v[0].u.str->n)
            JFAIL(r, "the separator is empty");
        PLUMB_TRY(split_at(r, parts, s, v[0].u.str, max, right));
    }
    for (int64_t i = 0; right && i < parts->n / 2; i++) {
        const jv swap = parts->at[i];
        parts->at[i] = parts->at[parts->n - 1 - i];
        parts->at[parts->n - 1 - i] = swap;
    }
    *out = plumb_jv_of(JK_LIST, parts);
    return PLUMB_OK;
}

static plumb_status m_splitlines(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s,
                                 const char *name, const struct plumb_jargs *args)
{
    jv keep;
    bool got;
    struct plumb_jseq *lines;
    (void)name;
    PLUMB_TRY(plumb_jinja_spread(r, args, "keepends=", &keep, &got));
    if (got && !plumb_jv_is_int(keep))
        JFAIL(r, "keepends must be true or false, not a %s", plumb_jv_type(keep));
    PLUMB_TRY(plumb_jseq_new(&r->arena, &lines, 0));
    *out = plumb_jv_of(JK_LIST, lines);
    return plumb_jstr_lines(r, lines, s, got && plumb_jv_true(keep));
}

static plumb_status m_partition(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s,
                                const char *name, const struct plumb_jargs *args)
{
    jv sep;
    bool got;
    struct plumb_jseq *parts;
    PLUMB_TRY(no_keywords(r, name, args));
    PLUMB_TRY(plumb_jinja_spread(r, args, "sep", &sep, &got));
    PLUMB_TRY(want_str(r, sep, "the separator"));
    const struct plumb_jstr *p = sep.u.str;
    if (!p->n)
        JFAIL(r, "the separator is empty");
    const bool right = *name == 'r';
    const int64_t at =
        right ? find_last(s->at, s->n, p->at, p->n) : plumb_jstr_find(s->at, s->n, p->at, p->n);
    PLUMB_TRY(plumb_jseq_new(&r->arena, &parts, 3));
    if (at >= 0) {
        PLUMB_TRY(add_part(r, parts, s->at, at));
        PLUMB_TRY(add_part(r, parts, p->at, p->n));
        PLUMB_TRY(add_part(r, parts, s->at + at + p->n, s->n - at - p->n));
    } else {
        PLUMB_TRY(right ? add_part(r, parts, "", 0) : add_part(r, parts, s->at, s->n));
        PLUMB_TRY(add_part(r, parts, "", 0));
        PLUMB_TRY(right ? add_part(r, parts, s->at, s->n) : add_part(r, parts, "", 0));
    }
    *out = plumb_jv_of(JK_TUPLE, parts);
    return PLUMB_OK;
}

/* Converts the optional arguments start and end of a method, v[0] and v[1], to the byte range
 * [begin, end) of s. Both arguments count code points, and a negative one counts from the end of s.
 * *inside is false if start is after end. */
static plumb_status window(struct plumb_jrun *r, const struct plumb_jstr *s, const jv *v,
                           const bool *got, int64_t *begin, int64_t *end, bool *inside)
{
    int64_t at[2] = {0, s->chars};
    for (int i = 0; i < 2; i++) {
        if (got[i] && v[i].kind != JK_NONE)
            PLUMB_TRY(want_int(r, v[i], &at[i], "a position"));
        if (at[i] < 0)
            at[i] = at[i] + s->chars < 0 ? 0 : at[i] + s->chars;
    }
    if (at[1] > s->chars)
        at[1] = s->chars;
    *inside = at[0] <= at[1];
    *begin = *inside ? plumb_jstr_offset(s, at[0]) : 0;
    *end = *inside ? plumb_jstr_offset(s, at[1]) : 0;
    return PLUMB_OK;
}

static plumb_status m_affix(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s,
                            const char *name, const struct plumb_jargs *args)
{
    jv v[3];
    bool got[3], inside, yes = false;
    int64_t begin, end;
    const bool ends = *name == 'e';
    PLUMB_TRY(no_keywords(r, name, args));
    PLUMB_TRY(plumb_jinja_spread(r, args, "affix,start=,end=", v, got));
    PLUMB_TRY(window(r, s, v + 1, got + 1, &begin, &end, &inside));
    const int64_t n = v[0].kind == JK_TUPLE ? v[0].u.seq->n : 1;
    for (int64_t i = 0; i < n && !yes; i++) {
        const jv a = v[0].kind == JK_TUPLE ? v[0].u.seq->at[i] : v[0];
        PLUMB_TRY(want_str(r, a, "the text"));
        const int64_t m = a.u.str->n;
        yes = inside && m <= end - begin &&
              memcmp(s->at + (ends ? end - m : begin), a.u.str->at, (size_t)m) == 0;
    }
    *out = plumb_jv_bool(yes);
    return PLUMB_OK;
}

static plumb_status m_find(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s,
                           const char *name, const struct plumb_jargs *args)
{
    jv v[3];
    bool got[3], inside;
    int64_t begin, end, found = -1, count = 0;
    PLUMB_TRY(no_keywords(r, name, args));
    PLUMB_TRY(plumb_jinja_spread(r, args, "sub,start=,end=", v, got));
    PLUMB_TRY(want_str(r, v[0], "the text"));
    PLUMB_TRY(window(r, s, v + 1, got + 1, &begin, &end, &inside));
    PLUMB_TRY(plumb_jinja_work(r, s->n));
    const struct plumb_jstr *what = v[0].u.str;
    if (strcmp(name, "count") == 0) {
        const struct plumb_jstr part = {s->at + begin, end - begin, 0, false};
        if (inside && !what->n)
            count = plumb_jstr_count(part.at, part.n) + 1;
        for (int64_t at = begin; inside && what->n; count++) {
            const int64_t next = plumb_jstr_find(s->at + at, end - at, what->at, what->n);
            if (next < 0)
                break;
            at += next + what->n;
        }
        *out = plumb_jv_int(count);
        return PLUMB_OK;
    }
    if (inside)
        found = *name == 'r' ? find_last(s->at + begin, end - begin, what->at, what->n)
                             : plumb_jstr_find(s->at + begin, end - begin, what->at, what->n);
    if (found < 0 && strstr(name, "index"))
        JFAIL(r, "the text is not in the string");
    *out = plumb_jv_int(found < 0 ? -1 : plumb_jstr_count(s->at, begin + found));
    return PLUMB_OK;
}

static plumb_status m_replace(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s,
                              const char *name, const struct plumb_jargs *args)
{
    jv v[3];
    bool got[3];
    int64_t count = -1;
    PLUMB_TRY(no_keywords(r, name, args));
    PLUMB_TRY(plumb_jinja_spread(r, args, "old,new,count=", v, got));
    PLUMB_TRY(want_str(r, v[0], "the old text"));
    PLUMB_TRY(want_str(r, v[1], "the new text"));
    if (got[2])
        PLUMB_TRY(want_int(r, v[2], &count, "count"));
    return plumb_jstr_replace(r, out, s, v[0].u.str, v[1].u.str, count);
}

static plumb_status m_join(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s,
                           const char *name, const struct plumb_jargs *args)
{
    jv v;
    bool got;
    struct plumb_jseq *parts;
    struct plumb_buf b = {0};
    PLUMB_TRY(no_keywords(r, name, args));
    PLUMB_TRY(plumb_jinja_spread(r, args, "iterable", &v, &got));
    PLUMB_TRY(plumb_jinja_elements(r, &parts, v));
    plumb_status st = PLUMB_OK;
    for (int64_t i = 0; i < parts->n && st == PLUMB_OK; i++) {
        st = want_str(r, parts->at[i], "each element");
        if (st == PLUMB_OK && i)
            st = plumb_buf_add(&b, s->at, s->n);
        if (st == PLUMB_OK)
            st = plumb_jinja_put_str(r, &b, parts->at[i]);
    }
    return plumb_jinja_take(r, out, &b, st);
}

static plumb_status m_format(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s,
                             const char *name, const struct plumb_jargs *args)
{
    (void)name;
    return plumb_jinja_format(r, out, s, args);
}

static plumb_status m_pad(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s,
                          const char *name, const struct plumb_jargs *args)
{
    jv v[2];
    bool got[2];
    int64_t width = 0;
    PLUMB_TRY(no_keywords(r, name, args));
    PLUMB_TRY(plumb_jinja_spread(r, args, "width,fillchar=", v, got));
    PLUMB_TRY(want_int(r, v[0], &width, "the width"));
    if (got[1]) {
        PLUMB_TRY(want_str(r, v[1], "the fill character"));
        if (v[1].u.str->chars != 1)
            JFAIL(r, "the fill character must be one character");
    }
    return plumb_jstr_pad(r, out, s, width,
                          *name == 'c'   ? 'c'
                          : *name == 'l' ? '<'
                                         : '>',
                          got[1] ? v[1].u.str->at : " ", got[1] ? v[1].u.str->n : 1);
}

static plumb_status m_zfill(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s,
                            const char *name, const struct plumb_jargs *args)
{
    jv v, rest;
    bool got;
    int64_t width = 0;
    PLUMB_TRY(no_keywords(r, name, args));
    PLUMB_TRY(plumb_jinja_spread(r, args, "width", &v, &got));
    PLUMB_TRY(want_int(r, v, &width, "the width"));
    if (!s->n || (*s->at != '-' && *s->at != '+'))
        return plumb_jstr_pad(r, out, s, width, '>', "0", 1);
    const struct plumb_jstr digits = {s->at + 1, s->n - 1, s->chars - 1, false};
    struct plumb_buf b = {0};
    PLUMB_TRY(plumb_jstr_pad(r, &rest, &digits, width - 1, '>', "0", 1));
    plumb_status st = plumb_buf_add(&b, s->at, 1);
    if (st == PLUMB_OK)
        st = plumb_buf_add(&b, rest.u.str->at, rest.u.str->n);
    return plumb_jinja_take(r, out, &b, st);
}

static plumb_status m_remove(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s,
                             const char *name, const struct plumb_jargs *args)
{
    jv v;
    bool got;
    PLUMB_TRY(no_keywords(r, name, args));
    PLUMB_TRY(plumb_jinja_spread(r, args, "affix", &v, &got));
    PLUMB_TRY(want_str(r, v, "the text"));
    const bool suffix = strcmp(name, "removesuffix") == 0;
    const int64_t m = v.u.str->n;
    const bool yes =
        m <= s->n && memcmp(s->at + (suffix ? s->n - m : 0), v.u.str->at, (size_t)m) == 0;
    return plumb_jv_part(&r->arena, out, s->at + (yes && !suffix ? m : 0), s->n - (yes ? m : 0));
}

static plumb_status m_is(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s,
                         const char *name, const struct plumb_jargs *args)
{
    if (args->n || args->n_kw)
        JFAIL(r, "str.%s takes no argument", name);
    const int yes = plumb_jstr_predicate(s, name);
    if (yes == -2)
        JREFUSE(r, "str.%s of letters is not supported", name);
    *out = plumb_jv_bool(yes == 1);
    return PLUMB_OK;
}

static const struct {
    const char *name;
    method_fn *fn;
} method[] = {
    {"capitalize", m_case},     {"center", m_pad},
    {"count", m_find},          {"endswith", m_affix},
    {"find", m_find},           {"format", m_format},
    {"index", m_find},          {"isalnum", m_is},
    {"isalpha", m_is},          {"isascii", m_is},
    {"isdecimal", m_is},        {"isdigit", m_is},
    {"islower", m_is},          {"isnumeric", m_is},
    {"isprintable", m_is},      {"isspace", m_is},
    {"istitle", m_is},          {"isupper", m_is},
    {"join", m_join},           {"ljust", m_pad},
    {"lower", m_case},          {"lstrip", m_strip},
    {"partition", m_partition}, {"removeprefix", m_remove},
    {"removesuffix", m_remove}, {"replace", m_replace},
    {"rfind", m_find},          {"rindex", m_find},
    {"rjust", m_pad},           {"rpartition", m_partition},
    {"rsplit", m_split},        {"rstrip", m_strip},
    {"split", m_split},         {"splitlines", m_splitlines},
    {"startswith", m_affix},    {"strip", m_strip},
    {"swapcase", m_case},       {"title", m_case},
    {"upper", m_case},          {"zfill", m_zfill},
};

plumb_status plumb_jstr_method(struct plumb_jrun *r, jv *out, jv self, const char *name,
                               const struct plumb_jargs *args)
{
    if (self.u.str->markup)
        JREFUSE(r, "str.%s of a string that went through escape or safe is not supported", name);
    for (size_t i = 0; i < sizeof(method) / sizeof(*method); i++)
        if (strcmp(method[i].name, name) == 0)
            return method[i].fn(r, out, self.u.str, name, args);
    JREFUSE(r, "str.%s is not supported", name);
}
