/* ops.c - operators, comparison, membership and iteration with Python's rules.
 * Layer 3. Private to text/jinja. */
#include <math.h>

#include "text/jinja/run.h"
#include "text/utf8.h"

plumb_status plumb_jinja_raise_undefined(struct plumb_jrun *r, jv v)
{
    const struct plumb_jstr *why = v.u.str;
    JFAIL(r, "%.*s", why ? (int)(why->n < 400 ? why->n : 400) : 22,
          why ? why->at : "the value is undefined");
}

static plumb_status mismatch(struct plumb_jrun *r, jv a, jv b)
{
    if (a.kind == JK_UNDEFINED)
        return plumb_jinja_raise_undefined(r, a);
    if (b.kind == JK_UNDEFINED)
        return plumb_jinja_raise_undefined(r, b);
    JFAIL(r, "the operator does not take %s and %s", plumb_jv_type(a), plumb_jv_type(b));
}

static plumb_status too_big(struct plumb_jrun *r)
{
    JREFUSE(r, "an integer of more than 64 bits is not supported");
}

static plumb_status join(struct plumb_jrun *r, jv *out, jv a, jv b)
{
    char *p;
    const bool markup = a.u.str->markup || b.u.str->markup;
    /* If only one string is Markup, the other one is escaped for HTML first, as in Jinja. */
    if (a.u.str->markup != b.u.str->markup)
        PLUMB_TRY(plumb_jinja_escape(r, a.u.str->markup ? &b : &a, a.u.str->markup ? b : a));
    const int64_t n = a.u.str->n + b.u.str->n;
    PLUMB_TRY(plumb_jinja_work(r, n));
    PLUMB_TRY(plumb_jarena_get(&r->arena, &p, n + 1));
    memcpy(p, a.u.str->at, (size_t)a.u.str->n);
    memcpy(p + a.u.str->n, b.u.str->at, (size_t)b.u.str->n);
    struct plumb_jstr *s;
    PLUMB_TRY(plumb_jarena_get(&r->arena, &s, sizeof(*s)));
    *s = (struct plumb_jstr){p, n, a.u.str->chars + b.u.str->chars, markup};
    *out = (jv){.kind = JK_STR, .u.str = s};
    return PLUMB_OK;
}

static plumb_status repeat(struct plumb_jrun *r, jv *out, jv a, int64_t times)
{
    times = times > 0 ? times : 0;
    if (a.kind == JK_STR) {
        char *p;
        int64_t n;
        if (__builtin_mul_overflow(a.u.str->n, times, &n))
            n = INT64_MAX / 2;
        PLUMB_TRY(plumb_jinja_work(r, n));
        PLUMB_TRY(plumb_jarena_get(&r->arena, &p, n + 1));
        for (int64_t i = 0; i < times && a.u.str->n; i++)
            memcpy(p + i * a.u.str->n, a.u.str->at, (size_t)a.u.str->n);
        return plumb_jv_part(&r->arena, out, p, n);
    }
    struct plumb_jseq *s;
    PLUMB_TRY(plumb_jseq_new(&r->arena, &s, 0));
    for (int64_t k = 0; k < times && a.u.seq->n; k++)
        for (int64_t i = 0; i < a.u.seq->n; i++) {
            PLUMB_TRY(plumb_jinja_work(r, 0));
            PLUMB_TRY(plumb_jseq_add(&r->arena, s, a.u.seq->at[i]));
        }
    *out = plumb_jv_of(a.kind, s);
    return PLUMB_OK;
}

static plumb_status add_seq(struct plumb_jrun *r, jv *out, jv a, jv b)
{
    struct plumb_jseq *s;
    PLUMB_TRY(plumb_jinja_work(r, a.u.seq->n + b.u.seq->n));
    PLUMB_TRY(plumb_jseq_new(&r->arena, &s, a.u.seq->n + b.u.seq->n));
    for (int64_t i = 0; i < a.u.seq->n; i++)
        PLUMB_TRY(plumb_jseq_add(&r->arena, s, a.u.seq->at[i]));
    for (int64_t i = 0; i < b.u.seq->n; i++)
        PLUMB_TRY(plumb_jseq_add(&r->arena, s, b.u.seq->at[i]));
    *out = plumb_jv_of(a.kind, s);
    return PLUMB_OK;
}

static plumb_status power(struct plumb_jrun *r, jv *out, jv a, jv b)
{
    if (plumb_jv_is_int(a) && plumb_jv_is_int(b) && plumb_jv_as_int(b) >= 0) {
        int64_t base = plumb_jv_as_int(a), x = 1;
        for (int64_t e = plumb_jv_as_int(b); e; e >>= 1) {
            if (e & 1 && __builtin_mul_overflow(x, base, &x))
                return too_big(r);
            if (e > 1 && __builtin_mul_overflow(base, base, &base))
                return too_big(r);
        }
        *out = plumb_jv_int(x);
        return PLUMB_OK;
    }
    const double x = plumb_jv_as_float(a), y = plumb_jv_as_float(b), z = pow(x, y);
    if (x == 0 && y < 0)
        JFAIL(r, "0 cannot be raised to a negative power");
    if (x < 0 && floor(y) != y && isfinite(y))
        JREFUSE(r, "complex numbers are not supported");
    if (isinf(z) && isfinite(x) && isfinite(y))
        JFAIL(r, "the result is too large");
    *out = plumb_jv_float(z);
    return PLUMB_OK;
}

static plumb_status divide_int(struct plumb_jrun *r, jv *out, enum plumb_jop op, int64_t x,
                               int64_t y)
{
    if (op == JO_DIV) {
        *out = plumb_jv_float((double)((long double)x / (long double)y));
        return PLUMB_OK;
    }
    if (y == -1) {
        if (x == INT64_MIN && op == JO_FLOORDIV)
            return too_big(r);
        *out = plumb_jv_int(op == JO_FLOORDIV ? -x : 0);
        return PLUMB_OK;
    }
    const int64_t rest = x % y;
    const bool fix = rest && (rest < 0) != (y < 0);
    *out = plumb_jv_int(op == JO_MOD ? rest + (fix ? y : 0) : x / y - fix);
    return PLUMB_OK;
}

static plumb_status arithmetic(struct plumb_jrun *r, jv *out, enum plumb_jop op, jv a, jv b)
{
    const bool whole = plumb_jv_is_int(a) && plumb_jv_is_int(b);
    const double x = plumb_jv_as_float(a), y = plumb_jv_as_float(b);
    if (op == JO_POW)
        return power(r, out, a, b);
    if ((op == JO_DIV || op == JO_FLOORDIV || op == JO_MOD) && y == 0)
        JFAIL(r, "division by zero");
    if (!whole) {
        double m = op == JO_MOD || op == JO_FLOORDIV ? fmod(x, y) : 0, z;
        double quotient = (x - m) / y;
        if (m != 0 && (m < 0) != (y < 0)) {
            m += y;
            quotient -= 1;
        }
        if (m == 0)
            m = copysign(0, y);
        z = floor(quotient);
        if (quotient - z > 0.5)
            z += 1;
        if (quotient == 0)
            z = copysign(0, x / y);
        *out = plumb_jv_float(op == JO_ADD        ? x + y
                              : op == JO_SUB      ? x - y
                              : op == JO_MUL      ? x * y
                              : op == JO_DIV      ? x / y
                              : op == JO_FLOORDIV ? z
                                                  : m);
        return PLUMB_OK;
    }
    const int64_t i = plumb_jv_as_int(a), k = plumb_jv_as_int(b);
    int64_t z;
    if (op == JO_ADD || op == JO_SUB || op == JO_MUL) {
        if (op == JO_ADD   ? __builtin_add_overflow(i, k, &z)
            : op == JO_SUB ? __builtin_sub_overflow(i, k, &z)
                           : __builtin_mul_overflow(i, k, &z))
            return too_big(r);
        *out = plumb_jv_int(z);
        return PLUMB_OK;
    }
    return divide_int(r, out, op, i, k);
}

plumb_status plumb_jinja_binary(struct plumb_jrun *r, jv *out, enum plumb_jop op, jv a, jv b)
{
    if (plumb_jv_is_number(a) && plumb_jv_is_number(b))
        return arithmetic(r, out, op, a, b);
    if (op == JO_MOD && a.kind == JK_STR) {
        if (a.u.str->markup)
            JREFUSE(r, "%% of a string that went through escape or safe is not supported");
        return plumb_jinja_percent(r, out, a.u.str, b);
    }
    if (op == JO_ADD && a.kind == b.kind) {
        if (a.kind == JK_STR)
            return join(r, out, a, b);
        if (a.kind == JK_LIST || a.kind == JK_TUPLE)
            return add_seq(r, out, a, b);
    }
    if (op == JO_MUL) {
        if (plumb_jv_is_int(a)) {
            const jv swap = a;
            a = b;
            b = swap;
        }
        if (plumb_jv_is_int(b) && (a.kind == JK_STR || a.kind == JK_LIST || a.kind == JK_TUPLE))
            return repeat(r, out, a, plumb_jv_as_int(b));
    }
    return mismatch(r, a, b);
}

plumb_status plumb_jinja_less(struct plumb_jrun *r, bool *out, jv a, jv b)
{
    if (plumb_jv_is_int(a) && plumb_jv_is_int(b)) {
        *out = plumb_jv_as_int(a) < plumb_jv_as_int(b);
        return PLUMB_OK;
    }
    if (plumb_jv_is_number(a) && plumb_jv_is_number(b)) {
        *out = plumb_jv_as_float(a) < plumb_jv_as_float(b);
        return PLUMB_OK;
    }
    /* UTF-8 bytes sort in the same order as code points */
    if (a.kind == JK_STR && b.kind == JK_STR) {
        const int64_t n = a.u.str->n < b.u.str->n ? a.u.str->n : b.u.str->n;
        const int c = memcmp(a.u.str->at, b.u.str->at, (size_t)n);
        *out = c < 0 || (c == 0 && a.u.str->n < b.u.str->n);
        return PLUMB_OK;
    }
    if ((a.kind == JK_LIST || a.kind == JK_TUPLE) && a.kind == b.kind) {
        const struct plumb_jseq *s = a.u.seq, *t = b.u.seq;
        for (int64_t i = 0; i < s->n && i < t->n; i++) {
            PLUMB_TRY(plumb_jinja_work(r, 0));
            if (!plumb_jv_equal(s->at[i], t->at[i]))
                return plumb_jinja_less(r, out, s->at[i], t->at[i]);
        }
        *out = s->n < t->n;
        return PLUMB_OK;
    }
    return mismatch(r, a, b);
}

plumb_status plumb_jinja_compare(struct plumb_jrun *r, bool *out, enum plumb_jop op, jv a, jv b)
{
    switch (op) {
    case JO_EQ:
    case JO_NE:
        *out = plumb_jv_equal(a, b) == (op == JO_EQ);
        return PLUMB_OK;
    case JO_LT:
        return plumb_jinja_less(r, out, a, b);
    case JO_GT:
        return plumb_jinja_less(r, out, b, a);
    case JO_LE:
    case JO_GE: {
        const jv x = op == JO_LE ? a : b, y = op == JO_LE ? b : a;
        PLUMB_TRY(plumb_jinja_less(r, out, x, y));
        *out |= plumb_jv_equal(x, y);
        return PLUMB_OK;
    }
    default:
        PLUMB_TRY(plumb_jinja_contains(r, out, b, a));
        *out = *out == (op == JO_IN);
        return PLUMB_OK;
    }
}

plumb_status plumb_jinja_contains(struct plumb_jrun *r, bool *out, jv in, jv what)
{
    *out = false;
    if (in.kind == JK_STR) {
        if (what.kind != JK_STR)
            JFAIL(r, "only a string can be in a string, not a %s", plumb_jv_type(what));
        PLUMB_TRY(plumb_jinja_work(r, in.u.str->n));
        *out = plumb_jstr_find(in.u.str->at, in.u.str->n, what.u.str->at, what.u.str->n) >= 0;
        return PLUMB_OK;
    }
    if (in.kind == JK_DICT) {
        if (!plumb_jv_hashable(what))
            JFAIL(r, "a %s cannot be the key of a dict", plumb_jv_type(what));
        *out = plumb_jmap_get(in.u.map, what) != NULL;
        return PLUMB_OK;
    }
    if (in.kind == JK_VIEW && strcmp(in.u.seq->what, "dict_keys") == 0 && !plumb_jv_hashable(what))
        JFAIL(r, "a %s cannot be the key of a dict", plumb_jv_type(what));
    if (!plumb_jinja_iterable(in))
        JFAIL(r, "a %s has no elements to look among", plumb_jv_type(in));
    struct plumb_jseq *s;
    PLUMB_TRY(plumb_jinja_elements(r, &s, in));
    for (int64_t i = 0; i < s->n && !*out; i++) {
        PLUMB_TRY(plumb_jinja_work(r, 0));
        *out = plumb_jv_equal(s->at[i], what);
    }
    return PLUMB_OK;
}

plumb_status plumb_jinja_length(struct plumb_jrun *r, int64_t *out, jv v)
{
    switch (v.kind) {
    case JK_UNDEFINED:
        *out = 0;
        return PLUMB_OK;
    case JK_STR:
        *out = v.u.str->chars;
        return PLUMB_OK;
    case JK_DICT:
        *out = v.u.map->n;
        return PLUMB_OK;
    case JK_LIST:
    case JK_TUPLE:
    case JK_VIEW:
    case JK_RANGE:
        *out = v.u.seq->n;
        return PLUMB_OK;
    default:
        JFAIL(r, "a %s has no length", plumb_jv_type(v));
    }
}

bool plumb_jinja_iterable(jv v)
{
    return v.kind == JK_UNDEFINED || (v.kind >= JK_STR && v.kind <= JK_ITER) || v.kind == JK_LOOP;
}

plumb_status plumb_jinja_elements(struct plumb_jrun *r, struct plumb_jseq **out, jv v)
{
    if (v.kind == JK_LIST || v.kind == JK_TUPLE || v.kind == JK_VIEW || v.kind == JK_RANGE) {
        *out = v.u.seq;
        return PLUMB_OK;
    }
    if (v.kind == JK_LOOP)
        JREFUSE(r, "the elements of loop are not supported");
    if (!plumb_jinja_iterable(v))
        JFAIL(r, "a %s has no elements to go over", plumb_jv_type(v));
    PLUMB_TRY(plumb_jseq_new(&r->arena, out, 0));
    if (v.kind == JK_ITER) {
        struct plumb_jseq *s = v.u.seq;
        for (; s->next < s->n; s->next++)
            PLUMB_TRY(plumb_jseq_add(&r->arena, *out, s->at[s->next]));
    } else if (v.kind == JK_DICT) {
        for (int64_t i = 0; i < v.u.map->n; i++)
            PLUMB_TRY(plumb_jseq_add(&r->arena, *out, v.u.map->at[i].key));
    } else if (v.kind == JK_STR) {
        const char *at = v.u.str->at, *end = at + v.u.str->n;
        while (at < end) {
            jv c;
            const int size = plumb_utf8_size(*at);
            PLUMB_TRY(plumb_jv_part(&r->arena, &c, at, size));
            PLUMB_TRY(plumb_jseq_add(&r->arena, *out, c));
            at += size;
        }
    }
    return plumb_jinja_work(r, (*out)->n);
}

plumb_status plumb_jinja_new_iter(struct plumb_jrun *r, jv *out, struct plumb_jseq *s,
                                  const char *what)
{
    struct plumb_jseq *copy;
    PLUMB_TRY(plumb_jarena_get(&r->arena, &copy, sizeof(*copy)));
    *copy = *s;
    copy->next = 0;
    copy->what = what;
    *out = plumb_jv_of(JK_ITER, copy);
    return PLUMB_OK;
}
