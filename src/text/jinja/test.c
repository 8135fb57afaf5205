/* test.c - implements the tests, as in "x is defined".
 * Layer 3. Private to text/jinja. */
#include <math.h>

#include "text/jinja/run.h"

typedef struct plumb_jrun run;
typedef plumb_status test_fn(run *r, bool *out, jv v, const jv *arg);

static plumb_status remainder_is(run *r, bool *out, jv v, jv by, int64_t rest)
{
    jv m;
    PLUMB_TRY(plumb_jinja_binary(r, &m, JO_MOD, v, by));
    *out = plumb_jv_equal(m, plumb_jv_int(rest));
    return PLUMB_OK;
}

static plumb_status t_odd(run *r, bool *out, jv v, const jv *arg)
{
    (void)arg;
    return remainder_is(r, out, v, plumb_jv_int(2), 1);
}

static plumb_status t_even(run *r, bool *out, jv v, const jv *arg)
{
    (void)arg;
    return remainder_is(r, out, v, plumb_jv_int(2), 0);
}

static plumb_status t_divisibleby(run *r, bool *out, jv v, const jv *arg)
{
    return remainder_is(r, out, v, arg[0], 0);
}

static plumb_status t_filter(run *r, bool *out, jv v, const jv *arg)
{
    (void)arg;
    if (!plumb_jv_hashable(v))
        JFAIL(r, "a %s is no name of a filter", plumb_jv_type(v));
    *out = v.kind == JK_STR && plumb_jinja_find_filter(v.u.str->at, v.u.str->n) >= 0;
    return PLUMB_OK;
}

static plumb_status t_test(run *r, bool *out, jv v, const jv *arg)
{
    (void)arg;
    if (!plumb_jv_hashable(v))
        JFAIL(r, "a %s is no name of a test", plumb_jv_type(v));
    *out = v.kind == JK_STR && plumb_jinja_find_test(v.u.str->at, v.u.str->n) >= 0;
    return PLUMB_OK;
}

static plumb_status t_lower(run *r, bool *out, jv v, const jv *arg)
{
    (void)arg;
    PLUMB_TRY(plumb_jinja_str(r, &v, v));
    *out = plumb_jstr_is_case(v.u.str, JC_LOWER);
    return PLUMB_OK;
}

static plumb_status t_upper(run *r, bool *out, jv v, const jv *arg)
{
    (void)arg;
    PLUMB_TRY(plumb_jinja_str(r, &v, v));
    *out = plumb_jstr_is_case(v.u.str, JC_UPPER);
    return PLUMB_OK;
}

static plumb_status t_sequence(run *r, bool *out, jv v, const jv *arg)
{
    (void)r;
    (void)arg;
    /* In Jinja, "is sequence" is true for values that have len() and __getitem__ in Python. */
    *out = v.kind == JK_STR || v.kind == JK_LIST || v.kind == JK_TUPLE || v.kind == JK_DICT ||
           v.kind == JK_RANGE || v.kind == JK_UNDEFINED;
    return PLUMB_OK;
}

static plumb_status t_iterable(run *r, bool *out, jv v, const jv *arg)
{
    (void)r;
    (void)arg;
    *out = plumb_jinja_iterable(v);
    return PLUMB_OK;
}

static plumb_status t_callable(run *r, bool *out, jv v, const jv *arg)
{
    (void)r;
    (void)arg;
    *out = v.kind == JK_MACRO || v.kind == JK_FUNC || v.kind == JK_METHOD || v.kind == JK_LOOP ||
           v.kind == JK_UNDEFINED;
    return PLUMB_OK;
}

static plumb_status t_sameas(run *r, bool *out, jv v, const jv *arg)
{
    const jv w = arg[0];
    *out = false;
    if (v.kind != w.kind)
        return PLUMB_OK;
    if (v.kind == JK_STR || v.kind == JK_INT || v.kind == JK_FLOAT || v.kind == JK_TUPLE ||
        v.kind == JK_UNDEFINED || v.kind == JK_METHOD)
        JREFUSE(r, "whether two values of type %s are the same object is not known",
                plumb_jv_type(v));
    *out = v.kind == JK_NONE || (v.kind == JK_BOOL ? v.u.b == w.u.b : v.u.seq == w.u.seq);
    return PLUMB_OK;
}

static plumb_status t_in(run *r, bool *out, jv v, const jv *arg)
{
    return plumb_jinja_contains(r, out, arg[0], v);
}

#define KIND_TEST(name, condition)                                                                 \
    static plumb_status name(run *r, bool *out, jv v, const jv *arg)                               \
    {                                                                                              \
        (void)r;                                                                                   \
        (void)arg;                                                                                 \
        *out = (condition);                                                                        \
        return PLUMB_OK;                                                                           \
    }
KIND_TEST(t_defined, v.kind != JK_UNDEFINED)
KIND_TEST(t_undefined, v.kind == JK_UNDEFINED)
KIND_TEST(t_none, v.kind == JK_NONE)
KIND_TEST(t_boolean, v.kind == JK_BOOL)
KIND_TEST(t_false, v.kind == JK_BOOL && !v.u.b)
KIND_TEST(t_true, v.kind == JK_BOOL && v.u.b)
KIND_TEST(t_integer, v.kind == JK_INT)
KIND_TEST(t_float, v.kind == JK_FLOAT)
KIND_TEST(t_number, plumb_jv_is_number(v))
KIND_TEST(t_string, v.kind == JK_STR)
KIND_TEST(t_mapping, v.kind == JK_DICT)
KIND_TEST(t_escaped, v.kind == JK_STR && v.u.str->markup)

#define ORDER_TEST(name, op)                                                                       \
    static plumb_status name(run *r, bool *out, jv v, const jv *arg)                               \
    {                                                                                              \
        return plumb_jinja_compare(r, out, op, v, arg[0]);                                         \
    }
ORDER_TEST(t_eq, JO_EQ)
ORDER_TEST(t_ne, JO_NE)
ORDER_TEST(t_gt, JO_GT)
ORDER_TEST(t_ge, JO_GE)
ORDER_TEST(t_lt, JO_LT)
ORDER_TEST(t_le, JO_LE)

static const struct {
    const char *name;
    test_fn *fn;
    const char *params;
} tests[] = {
    {"odd", t_odd, ""},
    {"even", t_even, ""},
    {"divisibleby", t_divisibleby, "num"},
    {"defined", t_defined, ""},
    {"undefined", t_undefined, ""},
    {"filter", t_filter, ""},
    {"test", t_test, ""},
    {"none", t_none, ""},
    {"boolean", t_boolean, ""},
    {"false", t_false, ""},
    {"true", t_true, ""},
    {"integer", t_integer, ""},
    {"float", t_float, ""},
    {"lower", t_lower, ""},
    {"upper", t_upper, ""},
    {"string", t_string, ""},
    {"mapping", t_mapping, ""},
    {"number", t_number, ""},
    {"sequence", t_sequence, ""},
    {"iterable", t_iterable, ""},
    {"callable", t_callable, ""},
    {"sameas", t_sameas, "other"},
    {"escaped", t_escaped, ""},
    {"in", t_in, "seq"},
    {"==", t_eq, "b"},
    {"eq", t_eq, "b"},
    {"equalto", t_eq, "b"},
    {"!=", t_ne, "b"},
    {"ne", t_ne, "b"},
    {">", t_gt, "b"},
    {"gt", t_gt, "b"},
    {"greaterthan", t_gt, "b"},
    {"ge", t_ge, "b"},
    {">=", t_ge, "b"},
    {"<", t_lt, "b"},
    {"lt", t_lt, "b"},
    {"lessthan", t_lt, "b"},
    {"<=", t_le, "b"},
    {"le", t_le, "b"},
};

int plumb_jinja_find_test(const char *name, int64_t n)
{
    for (int i = 0; i < (int)(sizeof(tests) / sizeof(*tests)); i++)
        if ((int64_t)strlen(tests[i].name) == n && memcmp(tests[i].name, name, (size_t)n) == 0)
            return i;
    return -1;
}

plumb_status plumb_jinja_test(struct plumb_jrun *r, bool *out, int index, jv in,
                              const struct plumb_jargs *args)
{
    jv arg;
    bool got;
    PLUMB_TRY(plumb_jinja_spread(r, args, tests[index].params, &arg, &got));
    return tests[index].fn(r, out, in, &arg);
}
