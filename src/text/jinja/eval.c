/* eval.c - evaluates expressions.
 * Layer 3. Private to text/jinja. */
#include "text/jinja/run.h"

static plumb_status name(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s)
{
    for (const struct plumb_jscope *scope = r->scope; scope; scope = scope->up)
        for (int64_t i = 0; i < scope->n; i++)
            if (scope->at[i].name == s) {
                *out = scope->at[i].value;
                return PLUMB_OK;
            }
    const jv *v = r->vars ? plumb_jmap_get_text(&r->vars->map, s->at, s->n) : NULL;
    if (v) {
        *out = *v;
        return PLUMB_OK;
    }
    if (plumb_jinja_global(out, s))
        return PLUMB_OK;
    if (plumb_jstr_is(s, "self") || plumb_jstr_is(s, "lipsum") || plumb_jstr_is(s, "cycler") ||
        plumb_jstr_is(s, "joiner"))
        JREFUSE(r, "the name %s is not supported", s->at);
    return plumb_jinja_undefined(r, out, "%.*s is undefined", (int)(s->n < 80 ? s->n : 80), s->at);
}

static plumb_status display(struct plumb_jrun *r, jv *out, const struct plumb_jnode *n)
{
    if (n->kind == JN_DICT) {
        struct plumb_jmap *m;
        PLUMB_TRY(plumb_jmap_new(&r->arena, &m, n->item.n));
        for (int64_t i = 0; i < n->item.n; i++) {
            jv key, value;
            PLUMB_TRY(plumb_jinja_eval(r, &key, n->item.at[i]));
            PLUMB_TRY(plumb_jinja_eval(r, &value, n->more.at[i]));
            if (!plumb_jv_hashable(key))
                JFAIL(r, "a %s cannot be the key of a dict", plumb_jv_type(key));
            PLUMB_TRY(plumb_jmap_set(&r->arena, m, key, value));
        }
        *out = (jv){.kind = JK_DICT, .u.map = m};
        return PLUMB_OK;
    }
    struct plumb_jseq *s;
    PLUMB_TRY(plumb_jseq_new(&r->arena, &s, n->item.n));
    for (int64_t i = 0; i < n->item.n; i++) {
        jv v;
        PLUMB_TRY(plumb_jinja_eval(r, &v, n->item.at[i]));
        PLUMB_TRY(plumb_jseq_add(&r->arena, s, v));
    }
    *out = plumb_jv_of(n->kind == JN_LIST ? JK_LIST : JK_TUPLE, s);
    return PLUMB_OK;
}

static plumb_status concat(struct plumb_jrun *r, jv *out, const struct plumb_jnode *n)
{
    struct plumb_buf b = {0};
    plumb_status st = PLUMB_OK;
    for (int64_t i = 0; i < n->item.n && st == PLUMB_OK; i++) {
        jv v;
        st = plumb_jinja_eval(r, &v, n->item.at[i]);
        if (st == PLUMB_OK)
            st = plumb_jinja_put_str(r, &b, v);
    }
    return plumb_jinja_take(r, out, &b, st);
}

static plumb_status compare(struct plumb_jrun *r, jv *out, const struct plumb_jnode *n)
{
    jv left, right;
    bool yes = true;
    PLUMB_TRY(plumb_jinja_eval(r, &left, n->a));
    for (int64_t i = 0; i < n->item.n && yes; i++) {
        PLUMB_TRY(plumb_jinja_eval(r, &right, n->item.at[i]->a));
        r->at = n->item.at[i];
        PLUMB_TRY(plumb_jinja_compare(r, &yes, (enum plumb_jop)n->item.at[i]->op, left, right));
        left = right;
    }
    *out = plumb_jv_bool(yes);
    return PLUMB_OK;
}

static plumb_status sign(struct plumb_jrun *r, jv *out, const struct plumb_jnode *n)
{
    jv v;
    PLUMB_TRY(plumb_jinja_eval(r, &v, n->a));
    r->at = n;
    if (v.kind == JK_UNDEFINED)
        return plumb_jinja_raise_undefined(r, v);
    if (!plumb_jv_is_number(v))
        JFAIL(r, "a %s has no sign", plumb_jv_type(v));
    if (v.kind == JK_FLOAT) {
        *out = plumb_jv_float(n->kind == JN_NEG ? -v.u.d : v.u.d);
        return PLUMB_OK;
    }
    const int64_t i = plumb_jv_as_int(v);
    if (n->kind == JN_NEG && i == INT64_MIN)
        JREFUSE(r, "an integer of more than 64 bits is not supported");
    *out = plumb_jv_int(n->kind == JN_NEG ? -i : i);
    return PLUMB_OK;
}

static plumb_status slice(struct plumb_jrun *r, jv *out, const struct plumb_jnode *n)
{
    jv a, part[3];
    const struct plumb_jnode *const node[3] = {n->b, n->c, n->d};
    PLUMB_TRY(plumb_jinja_eval(r, &a, n->a));
    for (int i = 0; i < 3; i++) {
        part[i] = plumb_jv_none();
        if (node[i])
            PLUMB_TRY(plumb_jinja_eval(r, &part[i], node[i]));
    }
    r->at = n;
    return plumb_jinja_slice(r, out, a, part[0], part[1], part[2]);
}

plumb_status plumb_jinja_apply_filter(struct plumb_jrun *r, jv *out, const struct plumb_jnode *n,
                                      jv input)
{
    struct plumb_jargs args;
    if (n->a) {
        if (n->a->kind == JN_FILTER)
            PLUMB_TRY(plumb_jinja_apply_filter(r, &input, n->a, input));
        else
            PLUMB_TRY(plumb_jinja_eval(r, &input, n->a));
    }
    PLUMB_TRY(plumb_jinja_args(r, &args, n));
    r->at = n;
    if (n->index < 0)
        JFAIL(r, "there is no filter of this name");
    if (!plumb_jinja_filter_known(n->index))
        JREFUSE(r, "this filter is not supported");
    return plumb_jinja_filter(r, out, n->index, input, &args);
}

static plumb_status test(struct plumb_jrun *r, jv *out, const struct plumb_jnode *n)
{
    struct plumb_jargs args;
    jv v;
    bool yes;
    PLUMB_TRY(plumb_jinja_eval(r, &v, n->a));
    PLUMB_TRY(plumb_jinja_args(r, &args, n));
    r->at = n;
    if (n->index < 0)
        JFAIL(r, "there is no test of this name");
    PLUMB_TRY(plumb_jinja_test(r, &yes, n->index, v, &args));
    *out = plumb_jv_bool(yes);
    return PLUMB_OK;
}

static plumb_status call(struct plumb_jrun *r, jv *out, const struct plumb_jnode *n)
{
    struct plumb_jargs args;
    jv callee;
    PLUMB_TRY(plumb_jinja_eval(r, &callee, n->a));
    PLUMB_TRY(plumb_jinja_args(r, &args, n));
    r->at = n;
    return plumb_jinja_call(r, out, callee, &args);
}

static plumb_status conditional(struct plumb_jrun *r, jv *out, const struct plumb_jnode *n)
{
    jv v;
    PLUMB_TRY(plumb_jinja_eval(r, &v, n->a));
    if (plumb_jv_true(v))
        return plumb_jinja_eval(r, out, n->b);
    if (n->c)
        return plumb_jinja_eval(r, out, n->c);
    r->at = n;
    return plumb_jinja_undefined(r, out,
                                 "the inline if of line %lld has no else and its condition is "
                                 "false",
                                 (long long)n->line);
}

static plumb_status evaluate(struct plumb_jrun *r, jv *out, const struct plumb_jnode *n)
{
    jv a, b;
    switch (n->kind) {
    case JN_CONST:
        *out = n->value;
        return PLUMB_OK;
    case JN_NAME:
        return name(r, out, n->name);
    case JN_LIST:
    case JN_TUPLE:
    case JN_DICT:
        return display(r, out, n);
    case JN_ATTR:
        PLUMB_TRY(plumb_jinja_eval(r, &a, n->a));
        r->at = n;
        return plumb_jinja_attr(r, out, a, n->name);
    case JN_ITEM:
        PLUMB_TRY(plumb_jinja_eval(r, &a, n->a));
        PLUMB_TRY(plumb_jinja_eval(r, &b, n->b));
        r->at = n;
        return plumb_jinja_item(r, out, a, b);
    case JN_SLICE:
        return slice(r, out, n);
    case JN_CALL:
        return call(r, out, n);
    case JN_FILTER:
        return plumb_jinja_apply_filter(r, out, n, plumb_jv_none());
    case JN_TEST:
        return test(r, out, n);
    case JN_NEG:
    case JN_POS:
        return sign(r, out, n);
    case JN_NOT:
        PLUMB_TRY(plumb_jinja_eval(r, &a, n->a));
        *out = plumb_jv_bool(!plumb_jv_true(a));
        return PLUMB_OK;
    case JN_AND:
    case JN_OR:
        PLUMB_TRY(plumb_jinja_eval(r, out, n->a));
        return plumb_jv_true(*out) == (n->kind == JN_AND) ? plumb_jinja_eval(r, out, n->b)
                                                          : PLUMB_OK;
    case JN_BINARY:
        PLUMB_TRY(plumb_jinja_eval(r, &a, n->a));
        PLUMB_TRY(plumb_jinja_eval(r, &b, n->b));
        r->at = n;
        return plumb_jinja_binary(r, out, (enum plumb_jop)n->op, a, b);
    case JN_CONCAT:
        return concat(r, out, n);
    case JN_COMPARE:
        return compare(r, out, n);
    default:
        return conditional(r, out, n);
    }
}

plumb_status plumb_jinja_eval(struct plumb_jrun *r, jv *out, const struct plumb_jnode *n)
{
    const struct plumb_jnode *outer = r->at;
    r->at = n;
    PLUMB_TRY(plumb_jinja_work(r, 0));
    if (++r->depth > r->limit.depth)
        return plumb_jinja_fail(r, PLUMB_ERR_ARG,
                                "the template exceeded the limit of %lld nested evaluations",
                                (long long)r->limit.depth);
    PLUMB_TRY(evaluate(r, out, n));
    r->depth--;
    r->at = outer;
    return PLUMB_OK;
}
