/* attr.c - attributes, subscripts and slices of values.
 * Layer 3. Private to text/jinja.
 *
 * a.name first looks for an attribute of the Python type, then for a key; a[key] looks in the other
 * order. If nothing is found, the result is undefined, which is an error only when it is used. */
#include <stdarg.h>
#include <stdio.h>

#include "text/jinja/run.h"
#include "text/utf8.h"

plumb_status plumb_jinja_undefined(struct plumb_jrun *r, jv *out, const char *fmt, ...)
{
    char text[256];
    jv s;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    PLUMB_TRY(plumb_jv_text(&r->arena, &s, text));
    *out = (jv){.kind = JK_UNDEFINED, .u.str = s.u.str};
    return PLUMB_OK;
}

/* Returns true if a macro, a function or an iterator has this attribute in Python, but plumb does
 * not support it. The other attributes of functions are not available to a template in Jinja's
 * sandbox. `fromkeys` is an attribute of dict, and `mro` one of namespace. */
static bool unsupported_attr(jv a, const struct plumb_jstr *name)
{
    static const char *const macro[] = {"arguments",     "caller",          "catch_kwargs",
                                        "catch_varargs", "explicit_caller", NULL};
    static const char *const function[] = {"fromkeys", "mro", NULL};
    static const char *const generator[] = {"close",      "gi_code",      "gi_frame",
                                            "gi_running", "gi_suspended", "gi_yieldfrom",
                                            "send",       "throw",        NULL};
    const char *const *list = a.kind == JK_MACRO  ? macro
                              : a.kind == JK_FUNC ? function
                              : a.kind == JK_ITER ? generator
                                                  : NULL;
    for (; list && *list; list++)
        if (plumb_jstr_is(name, *list))
            return true;
    return false;
}

/* Gets an attribute of a number or a range that is a value, not a method. Returns false if the type
 * has no such attribute. */
static bool plain_attr(jv *out, jv a, const struct plumb_jstr *name)
{
    if (a.kind == JK_RANGE) {
        const struct plumb_jseq *s = a.u.seq;
        *out = plumb_jv_int(plumb_jstr_is(name, "start")  ? s->start
                            : plumb_jstr_is(name, "stop") ? s->stop
                                                          : s->step);
        return plumb_jstr_is(name, "start") || plumb_jstr_is(name, "stop") ||
               plumb_jstr_is(name, "step");
    }
    if (!plumb_jv_is_number(a))
        return false;
    const bool whole = plumb_jv_is_int(a), imaginary = plumb_jstr_is(name, "imag");
    const jv real = whole ? plumb_jv_int(plumb_jv_as_int(a)) : a;
    *out = !imaginary ? real : whole ? plumb_jv_int(0) : plumb_jv_float(0);
    if (whole && plumb_jstr_is(name, "denominator"))
        *out = plumb_jv_int(1);
    return imaginary || plumb_jstr_is(name, "real") ||
           (whole && (plumb_jstr_is(name, "numerator") || plumb_jstr_is(name, "denominator")));
}

/* Gets an attribute that the Python type has. *found is false if the type has no attribute with
 * this name. */
static plumb_status python_attr(struct plumb_jrun *r, jv *out, bool *found, jv a,
                                const struct plumb_jstr *name)
{
    const char *method;
    *found = true;
    if (name->n > 1 && name->at[0] == '_' && name->at[1] == '_')
        JREFUSE(r, "the attribute %.*s of a %s is not supported", (int)name->n, name->at,
                plumb_jv_type(a));
    if (a.kind == JK_LOOP)
        return plumb_jloop_attr(r, out, a, name);
    if (a.kind == JK_MACRO && plumb_jstr_is(name, "name")) {
        *out = (jv){.kind = JK_STR, .u.str = a.u.macro->def->name};
        return PLUMB_OK;
    }
    if (unsupported_attr(a, name))
        JREFUSE(r, "the attribute %.*s of a %s is not supported", (int)name->n, name->at,
                plumb_jv_type(a));
    if (a.kind == JK_SPACE) {
        const jv *v = plumb_jmap_get_text(a.u.map, name->at, name->n);
        *found = v != NULL;
        if (v)
            *out = *v;
        return PLUMB_OK;
    }
    if (a.kind == JK_TUPLE && a.u.seq->what &&
        (plumb_jstr_is(name, "grouper") || plumb_jstr_is(name, "list"))) {
        *out = a.u.seq->at[plumb_jstr_is(name, "list")];
        return PLUMB_OK;
    }
    if (plain_attr(out, a, name))
        return PLUMB_OK;
    if (a.kind == JK_VIEW && plumb_jstr_is(name, "mapping"))
        JREFUSE(r, "the attribute mapping of %s is not supported", plumb_jv_type(a));
    if (!plumb_jinja_has_method(a, name, &method)) {
        *found = false;
        return PLUMB_OK;
    }
    if (plumb_jinja_mutates(a, method))
        return plumb_jinja_undefined(r, out, "the sandbox does not allow %s of a %s", method,
                                     plumb_jv_type(a));
    struct plumb_jmethod *m;
    PLUMB_TRY(plumb_jarena_get(&r->arena, &m, sizeof(*m)));
    *m = (struct plumb_jmethod){a, method};
    *out = (jv){.kind = JK_METHOD, .u.method = m};
    return PLUMB_OK;
}

plumb_status plumb_jinja_attr(struct plumb_jrun *r, jv *out, jv a, const struct plumb_jstr *name)
{
    bool found;
    if (a.kind == JK_UNDEFINED)
        return plumb_jinja_raise_undefined(r, a);
    PLUMB_TRY(python_attr(r, out, &found, a, name));
    if (found)
        return PLUMB_OK;
    const jv *v = a.kind == JK_DICT ? plumb_jmap_get_text(a.u.map, name->at, name->n) : NULL;
    if (v) {
        *out = *v;
        return PLUMB_OK;
    }
    return plumb_jinja_undefined(r, out, "%s has no attribute %.*s",
                                 a.kind == JK_NONE ? "None" : plumb_jv_type(a),
                                 (int)(name->n < 80 ? name->n : 80), name->at);
}

plumb_status plumb_jinja_item(struct plumb_jrun *r, jv *out, jv a, jv key)
{
    if (a.kind == JK_UNDEFINED)
        return plumb_jinja_raise_undefined(r, a);
    if (a.kind == JK_DICT && plumb_jv_hashable(key)) {
        const jv *v = plumb_jmap_get(a.u.map, key);
        if (v) {
            *out = *v;
            return PLUMB_OK;
        }
    }
    const bool seq = a.kind == JK_LIST || a.kind == JK_TUPLE || a.kind == JK_RANGE;
    if ((seq || a.kind == JK_STR) && plumb_jv_is_int(key)) {
        const int64_t n = seq ? a.u.seq->n : a.u.str->chars;
        int64_t i = plumb_jv_as_int(key);
        i += i < 0 ? n : 0;
        if (i < 0 || i >= n)
            return plumb_jinja_undefined(r, out, "the %s has no element %lld", plumb_jv_type(a),
                                         (long long)plumb_jv_as_int(key));
        if (seq) {
            *out = a.u.seq->at[i];
            return PLUMB_OK;
        }
        const int64_t at = plumb_jstr_offset(a.u.str, i);
        PLUMB_TRY(plumb_jinja_work(r, at));
        return plumb_jv_part(&r->arena, out, a.u.str->at + at, plumb_utf8_size(a.u.str->at[at]));
    }
    if (key.kind == JK_STR) {
        bool found;
        PLUMB_TRY(python_attr(r, out, &found, a, key.u.str));
        if (found)
            return PLUMB_OK;
        return plumb_jinja_undefined(r, out, "%s has no element %.*s",
                                     a.kind == JK_NONE ? "None" : plumb_jv_type(a),
                                     (int)(key.u.str->n < 80 ? key.u.str->n : 80), key.u.str->at);
    }
    return plumb_jinja_undefined(r, out, "%s has no such element", plumb_jv_type(a));
}

static plumb_status bound(struct plumb_jrun *r, int64_t *out, jv v, int64_t otherwise)
{
    *out = otherwise;
    if (v.kind == JK_NONE)
        return PLUMB_OK;
    if (!plumb_jv_is_int(v))
        JFAIL(r, "a slice needs integers, not a %s", plumb_jv_type(v));
    *out = plumb_jv_as_int(v);
    return PLUMB_OK;
}

/* Converts a slice index for a sequence of n elements to the position that Python's slice.indices
 * gives: a negative index counts from the end. `backwards` is true if the step is negative. */
static int64_t clamp(int64_t i, int64_t n, bool backwards)
{
    if (i < 0) {
        i += n;
        return i < 0 ? (backwards ? -1 : 0) : i;
    }
    return i >= n ? (backwards ? n - 1 : n) : i;
}

static plumb_status slice_str(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s,
                              int64_t from, int64_t count, int64_t step)
{
    PLUMB_TRY(plumb_jinja_work(r, s->n));
    if (step == 1) {
        const int64_t begin = plumb_jstr_offset(s, from);
        const struct plumb_jstr rest = {s->at + begin, s->n - begin, s->chars - from, false};
        return plumb_jv_part(&r->arena, out, s->at + begin, plumb_jstr_offset(&rest, count));
    }
    struct plumb_buf b = {0};
    plumb_status st = PLUMB_OK;
    const char *at = s->at + (count ? plumb_jstr_offset(s, from) : 0);
    for (int64_t i = 0; i < count && st == PLUMB_OK; i++) {
        st = plumb_buf_add(&b, at, plumb_utf8_size(*at));
        if (i + 1 == count)
            break;
        for (int64_t k = 0; k < step; k++)
            at += plumb_utf8_size(*at);
        for (int64_t k = 0; k > step; k--)
            at = s->at + plumb_utf8_before(s->at, at - s->at);
    }
    return plumb_jinja_take(r, out, &b, st);
}

/* Sets start, stop and step of the slice [begin:end:stride] of a range. Python prints such a slice
 * as a range. */
static plumb_status slice_bounds(struct plumb_jrun *r, struct plumb_jseq *out,
                                 const struct plumb_jseq *range, int64_t begin, int64_t end,
                                 int64_t stride)
{
    if (__builtin_mul_overflow(begin, range->step, &out->start) ||
        __builtin_add_overflow(out->start, range->start, &out->start) ||
        __builtin_mul_overflow(end, range->step, &out->stop) ||
        __builtin_add_overflow(out->stop, range->start, &out->stop) ||
        __builtin_mul_overflow(range->step, stride, &out->step))
        JREFUSE(r, "an integer of more than 64 bits is not supported");
    return PLUMB_OK;
}

plumb_status plumb_jinja_slice(struct plumb_jrun *r, jv *out, jv a, jv from, jv to, jv step)
{
    int64_t by, n, begin, end;
    if (a.kind == JK_UNDEFINED)
        return plumb_jinja_raise_undefined(r, a);
    const bool seq = a.kind == JK_LIST || a.kind == JK_TUPLE || a.kind == JK_RANGE;
    if (!seq && a.kind != JK_STR)
        JFAIL(r, "a %s cannot be sliced", plumb_jv_type(a));
    n = seq ? a.u.seq->n : a.u.str->chars;
    PLUMB_TRY(bound(r, &by, step, 1));
    if (by == 0)
        JFAIL(r, "the step of a slice must not be 0");
    const bool back = by < 0;
    by = by < -n - 1 ? -n - 1 : by > n + 1 ? n + 1 : by;
    PLUMB_TRY(bound(r, &begin, from, back ? n : 0));
    PLUMB_TRY(bound(r, &end, to, back ? INT64_MIN : n));
    begin = clamp(begin, n, back);
    end = to.kind == JK_NONE && back ? -1 : clamp(end, n, back);
    const int64_t count = back ? (begin > end ? (begin - end - 1) / -by + 1 : 0)
                               : (end > begin ? (end - begin - 1) / by + 1 : 0);
    if (!seq)
        return slice_str(r, out, a.u.str, begin, count, by);
    struct plumb_jseq *s;
    PLUMB_TRY(plumb_jinja_work(r, count));
    PLUMB_TRY(plumb_jseq_new(&r->arena, &s, count));
    for (int64_t i = 0; i < count; i++)
        PLUMB_TRY(plumb_jseq_add(&r->arena, s, a.u.seq->at[begin + i * by]));
    *out = plumb_jv_of(a.kind, s);
    if (a.kind != JK_RANGE)
        return PLUMB_OK;
    return slice_bounds(r, s, a.u.seq, begin, end,
                        step.kind == JK_NONE ? 1 : plumb_jv_as_int(step));
}
