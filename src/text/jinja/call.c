/* call.c - calls: arguments, macros, global functions.
 * Layer 3. Private to text/jinja. */
#include <stdio.h>
#include <sys/time.h>
#include <time.h>

#include "text/jinja/run.h"

enum { FUNC_RANGE, FUNC_DICT, FUNC_NAMESPACE, FUNC_RAISE, FUNC_STRFTIME, N_FUNC };
static const char *const func_name[N_FUNC] = {"range", "dict", "namespace", "raise_exception",
                                              "strftime_now"};
#define MAX_RANGE 100000

static plumb_status evaluate_args(struct plumb_jrun *r, struct plumb_jseq *at,
                                  const struct plumb_jnode *n)
{
    jv v;
    for (int64_t i = 0; i < n->item.n; i++) {
        PLUMB_TRY(plumb_jinja_eval(r, &v, n->item.at[i]));
        PLUMB_TRY(plumb_jseq_add(&r->arena, at, v));
    }
    if (!n->c)
        return PLUMB_OK;
    struct plumb_jseq *more;
    PLUMB_TRY(plumb_jinja_eval(r, &v, n->c));
    PLUMB_TRY(plumb_jinja_elements(r, &more, v));
    for (int64_t i = 0; i < more->n; i++)
        PLUMB_TRY(plumb_jseq_add(&r->arena, at, more->at[i]));
    return PLUMB_OK;
}

plumb_status plumb_jinja_args(struct plumb_jrun *r, struct plumb_jargs *out,
                              const struct plumb_jnode *n)
{
    struct plumb_jseq *at;
    jv more = plumb_jv_none();
    *out = (struct plumb_jargs){0};
    if (!n->item.n && !n->more.n && !n->c && !n->d)
        return PLUMB_OK;
    PLUMB_TRY(plumb_jseq_new(&r->arena, &at, n->item.n));
    PLUMB_TRY(evaluate_args(r, at, n));
    out->at = at->at;
    out->n = at->n;
    if (n->d) {
        PLUMB_TRY(plumb_jinja_eval(r, &more, n->d));
        if (more.kind != JK_DICT)
            JFAIL(r, "** needs a dict, not a %s", plumb_jv_type(more));
    }
    const int64_t extra = n->d ? more.u.map->n : 0;
    PLUMB_TRY(
        plumb_jarena_get(&r->arena, &out->kw, (n->more.n + extra) * (int64_t)sizeof(*out->kw)));
    for (int64_t i = 0; i < n->more.n + extra; i++) {
        struct plumb_jkwarg *kw = &out->kw[out->n_kw];
        if (i < n->more.n) {
            kw->name = n->more.at[i]->name;
            PLUMB_TRY(plumb_jinja_eval(r, &kw->value, n->more.at[i]->a));
        } else {
            const struct plumb_jentry *e = &more.u.map->at[i - n->more.n];
            if (e->key.kind != JK_STR)
                JFAIL(r, "the keys of ** must be strings, not %s", plumb_jv_type(e->key));
            kw->name = e->key.u.str;
            kw->value = e->value;
        }
        for (int64_t k = 0; k < out->n_kw; k++)
            if (out->kw[k].name->n == kw->name->n &&
                memcmp(out->kw[k].name->at, kw->name->at, (size_t)kw->name->n) == 0)
                JFAIL(r, "the keyword argument %.*s is given twice", (int)kw->name->n,
                      kw->name->at);
        out->n_kw++;
    }
    return PLUMB_OK;
}

plumb_status plumb_jinja_spread(struct plumb_jrun *r, const struct plumb_jargs *args,
                                const char *names, jv *v, bool *got)
{
    const char *name[16];
    int len[16], n = 0;
    bool optional[16];
    for (const char *at = names; *at; n++) {
        len[n] = (int)strcspn(at, "=,");
        name[n] = at;
        at += len[n];
        optional[n] = *at == '=';
        at += optional[n];
        at += *at == ',';
    }
    if (args->n > n)
        JFAIL(r, "at most %d argument(s) are allowed, %lld were given", n, (long long)args->n);
    for (int i = 0; i < n; i++) {
        got[i] = i < args->n;
        v[i] = got[i] ? args->at[i] : (jv){.kind = JK_UNDEFINED};
    }
    for (int64_t k = 0; k < args->n_kw; k++) {
        const struct plumb_jstr *key = args->kw[k].name;
        int i = 0;
        while (i < n && !(key->n == len[i] && memcmp(key->at, name[i], (size_t)len[i]) == 0))
            i++;
        if (i == n)
            JFAIL(r, "there is no argument %.*s", (int)key->n, key->at);
        if (got[i])
            JFAIL(r, "the argument %.*s is given twice", (int)key->n, key->at);
        got[i] = true;
        v[i] = args->kw[k].value;
    }
    for (int i = 0; i < n; i++)
        if (!got[i] && !optional[i])
            JFAIL(r, "the argument %.*s is missing", len[i], name[i]);
    return PLUMB_OK;
}

/* Finds the keyword argument with this name and marks it as used. Returns NULL if there is none. */
static jv *take_keyword(struct plumb_jargs *args, bool *used, const struct plumb_jstr *name)
{
    for (int64_t i = 0; i < args->n_kw; i++)
        if (!used[i] && args->kw[i].name->n == name->n &&
            memcmp(args->kw[i].name->at, name->at, (size_t)name->n) == 0) {
            used[i] = true;
            return &args->kw[i].value;
        }
    return NULL;
}

static plumb_status bind_extra(struct plumb_jrun *r, const struct plumb_jnode *def,
                               const struct plumb_jargs *args, const bool *used)
{
    struct plumb_jmap *kw;
    struct plumb_jseq *rest;
    PLUMB_TRY(plumb_jmap_new(&r->arena, &kw, 0));
    for (int64_t i = 0; i < args->n_kw; i++) {
        const struct plumb_jstr *name = args->kw[i].name;
        if (used[i])
            continue;
        if (!def->catch_kwargs)
            JFAIL(r, "the macro %.*s takes no keyword argument %.*s", (int)def->name->n,
                  def->name->at, (int)name->n, name->at);
        PLUMB_TRY(
            plumb_jmap_set(&r->arena, kw, (jv){.kind = JK_STR, .u.str = name}, args->kw[i].value));
    }
    if (def->catch_kwargs)
        PLUMB_TRY(plumb_jscope_set(r, r->scope, r->t->kwargs, (jv){.kind = JK_DICT, .u.map = kw}));
    if (args->n > def->arg.n && !def->catch_varargs)
        JFAIL(r, "the macro %.*s takes at most %lld argument(s), %lld were given",
              (int)def->name->n, def->name->at, (long long)def->arg.n, (long long)args->n);
    PLUMB_TRY(plumb_jseq_new(&r->arena, &rest, 0));
    for (int64_t i = def->arg.n; i < args->n; i++)
        PLUMB_TRY(plumb_jseq_add(&r->arena, rest, args->at[i]));
    return def->catch_varargs
               ? plumb_jscope_set(r, r->scope, r->t->varargs, plumb_jv_of(JK_TUPLE, rest))
               : PLUMB_OK;
}

/* Assigns the arguments to the parameters in the current scope, which is the scope of the macro's
 * body. */
static plumb_status bind(struct plumb_jrun *r, const struct plumb_jnode *def,
                         struct plumb_jargs *args)
{
    bool *used, *missing;
    jv v;
    PLUMB_TRY(plumb_jarena_get(&r->arena, &used, args->n_kw + 1));
    PLUMB_TRY(plumb_jarena_get(&r->arena, &missing, def->arg.n + 1));
    for (int64_t i = 0; i < def->arg.n; i++) {
        const struct plumb_jstr *name = def->arg.at[i]->name;
        const jv *given = i < args->n ? &args->at[i] : take_keyword(args, used, name);
        missing[i] = !given;
        if (given)
            PLUMB_TRY(plumb_jscope_set(r, r->scope, name, *given));
    }
    if (def->uses_caller) {
        const jv *caller = take_keyword(args, used, r->t->caller);
        if (caller && caller->kind != JK_NONE)
            v = *caller;
        else
            PLUMB_TRY(plumb_jinja_undefined(r, &v, "no caller was given"));
        PLUMB_TRY(plumb_jscope_set(r, r->scope, r->t->caller, v));
    }
    PLUMB_TRY(bind_extra(r, def, args, used));
    for (int64_t i = 0; i < def->arg.n; i++) {
        const struct plumb_jnode *arg = def->arg.at[i];
        if (!missing[i])
            continue;
        if (arg->a)
            PLUMB_TRY(plumb_jinja_eval(r, &v, arg->a));
        else
            PLUMB_TRY(plumb_jinja_undefined(r, &v, "the parameter %.*s was not provided",
                                            (int)(arg->name->n < 80 ? arg->name->n : 80),
                                            arg->name->at));
        PLUMB_TRY(plumb_jscope_set(r, r->scope, arg->name, v));
    }
    return PLUMB_OK;
}

plumb_status plumb_jinja_macro(struct plumb_jrun *r, jv *out, const struct plumb_jmacro *m,
                               const struct plumb_jargs *args)
{
    struct plumb_jscope *outer = r->scope, *inner;
    const struct plumb_jnode *at = r->at;
    struct plumb_jargs own = *args;
    PLUMB_TRY(plumb_jscope_new(r, &inner, m->scope));
    r->scope = inner;
    plumb_status st = bind(r, m->def, &own);
    if (st == PLUMB_OK)
        st = plumb_jinja_capture(r, out, &m->def->item);
    r->scope = outer;
    if (st == PLUMB_OK)
        r->at = at;
    return st;
}

static plumb_status call_range(struct plumb_jrun *r, jv *out, const struct plumb_jargs *args)
{
    int64_t part[3] = {0, 0, 1};
    struct plumb_jseq *s;
    if (args->n_kw || args->n < 1 || args->n > 3)
        JFAIL(r, "range takes 1 to 3 integers");
    for (int64_t i = 0; i < args->n; i++) {
        if (args->at[i].kind == JK_UNDEFINED)
            return plumb_jinja_raise_undefined(r, args->at[i]);
        if (!plumb_jv_is_int(args->at[i]))
            JFAIL(r, "range needs integers, not a %s", plumb_jv_type(args->at[i]));
        part[args->n == 1 ? 1 : i] = plumb_jv_as_int(args->at[i]);
    }
    const int64_t step = part[2];
    if (step == 0)
        JFAIL(r, "the step of range must not be 0");
    for (int i = 0; i < 3; i++)
        if (part[i] > INT64_MAX / 4 || part[i] < INT64_MIN / 4)
            JREFUSE(r, "a range of numbers of more than 61 bits is not supported");
    const int64_t span = step > 0 ? part[1] - part[0] : part[0] - part[1];
    const int64_t stride = step > 0 ? step : -step;
    const int64_t n = span > 0 ? (span + stride - 1) / stride : 0;
    if (n > MAX_RANGE)
        JFAIL(r, "a range of more than %d numbers is blocked by the sandbox", MAX_RANGE);
    PLUMB_TRY(plumb_jinja_work(r, n));
    PLUMB_TRY(plumb_jseq_new(&r->arena, &s, n));
    for (int64_t i = 0; i < n; i++)
        PLUMB_TRY(plumb_jseq_add(&r->arena, s, plumb_jv_int(part[0] + i * step)));
    s->start = part[0];
    s->stop = part[1];
    s->step = step;
    *out = plumb_jv_of(JK_RANGE, s);
    return PLUMB_OK;
}

/* Calls dict(..) or namespace(..). The arguments are a mapping or pairs, followed by keywords. */
static plumb_status call_dict(struct plumb_jrun *r, jv *out, const struct plumb_jargs *args,
                              bool space)
{
    struct plumb_jmap *m;
    PLUMB_TRY(plumb_jmap_new(&r->arena, &m, 0));
    if (args->n > 1)
        JFAIL(r, "%s takes at most one argument without a name", space ? "namespace" : "dict");
    if (args->n && args->at[0].kind == JK_UNDEFINED)
        return plumb_jinja_raise_undefined(r, args->at[0]);
    if (args->n && args->at[0].kind == JK_DICT) {
        const struct plumb_jmap *from = args->at[0].u.map;
        for (int64_t i = 0; i < from->n; i++)
            PLUMB_TRY(plumb_jmap_set(&r->arena, m, from->at[i].key, from->at[i].value));
    } else if (args->n) {
        struct plumb_jseq *pairs, *pair;
        PLUMB_TRY(plumb_jinja_elements(r, &pairs, args->at[0]));
        for (int64_t i = 0; i < pairs->n; i++) {
            PLUMB_TRY(plumb_jinja_elements(r, &pair, pairs->at[i]));
            if (pair->n != 2 || !plumb_jv_hashable(pair->at[0]))
                JFAIL(r, "element %lld is no pair of a key and a value", (long long)i);
            PLUMB_TRY(plumb_jmap_set(&r->arena, m, pair->at[0], pair->at[1]));
        }
    }
    for (int64_t i = 0; i < args->n_kw; i++)
        PLUMB_TRY(plumb_jmap_set(&r->arena, m, (jv){.kind = JK_STR, .u.str = args->kw[i].name},
                                 args->kw[i].value));
    for (int64_t i = 0; space && i < m->n; i++) {
        const jv key = m->at[i].key;
        if (key.kind == JK_STR && key.u.str->n && key.u.str->at[0] == '_')
            JFAIL(r, "a namespace cannot have the attribute %.*s, which begins with _",
                  (int)key.u.str->n, key.u.str->at);
    }
    *out = (jv){.kind = space ? JK_SPACE : JK_DICT, .u.map = m};
    return PLUMB_OK;
}

static plumb_status call_raise(struct plumb_jrun *r, const struct plumb_jargs *args)
{
    jv message;
    bool got;
    PLUMB_TRY(plumb_jinja_spread(r, args, "message", &message, &got));
    PLUMB_TRY(plumb_jinja_str(r, &message, message));
    JFAIL(r, "%.*s", (int)(message.u.str->n < 900 ? message.u.str->n : 900), message.u.str->at);
}

/* Calls strftime_now: formats the local time like Python's datetime.now().strftime(format). */
static plumb_status call_strftime(struct plumb_jrun *r, jv *out, const struct plumb_jargs *args)
{
    struct plumb_buf format = {0};
    struct timeval now;
    struct tm tm;
    jv v;
    bool got;
    char text[4096];
    PLUMB_TRY(plumb_jinja_spread(r, args, "format", &v, &got));
    if (v.kind != JK_STR)
        JFAIL(r, "strftime_now needs a string, not a %s", plumb_jv_type(v));
    gettimeofday(&now, NULL);
    if (!localtime_r(&now.tv_sec, &tm))
        JFAIL(r, "the local time is not known");
    /* Python's now() has no time zone: %f gives microseconds, %z and %Z give an empty text. */
    plumb_status st = PLUMB_OK;
    const char *s = v.u.str->at;
    for (int64_t i = 0; i < v.u.str->n && st == PLUMB_OK; i++) {
        const char c = s[i] == '%' && i + 1 < v.u.str->n ? s[i + 1] : 0;
        if (c == 'f')
            st = plumb_buf_addf(&format, "%06d", (int)now.tv_usec);
        else if (c && c != 'z' && c != 'Z')
            st = plumb_buf_add(&format, s + i, 2);
        else if (!c)
            st = plumb_buf_add(&format, s + i, 1);
        i += c != 0;
    }
    size_t n = 0;
    if (st == PLUMB_OK && format.len)
        n = strftime(text, sizeof(text), plumb_buf_text(&format), &tm);
    const bool long_one = format.len && !n;
    plumb_buf_fini(&format);
    PLUMB_TRY(st);
    if (long_one && v.u.str->n > 64)
        JREFUSE(r, "a time of more than %d bytes is not supported", (int)sizeof(text));
    return plumb_jv_str(&r->arena, out, text, n);
}

bool plumb_jinja_global(jv *out, const struct plumb_jstr *name)
{
    for (int i = 0; i < N_FUNC; i++)
        if (plumb_jstr_is(name, func_name[i])) {
            *out = (jv){.kind = JK_FUNC, .u.i = i};
            return true;
        }
    return false;
}

plumb_status plumb_jinja_call(struct plumb_jrun *r, jv *out, jv callee,
                              const struct plumb_jargs *args)
{
    switch (callee.kind) {
    case JK_MACRO:
        return plumb_jinja_macro(r, out, callee.u.macro, args);
    case JK_METHOD:
        return plumb_jinja_method(r, out, callee.u.method, args);
    case JK_UNDEFINED:
        return plumb_jinja_raise_undefined(r, callee);
    case JK_LOOP:
        JREFUSE(r, "a recursive for is not supported");
    case JK_FUNC:
        break;
    default:
        JFAIL(r, "a %s cannot be called", plumb_jv_type(callee));
    }
    switch (callee.u.i) {
    case FUNC_RANGE:
        return call_range(r, out, args);
    case FUNC_RAISE:
        return call_raise(r, args);
    case FUNC_STRFTIME:
        return call_strftime(r, out, args);
    default:
        return call_dict(r, out, args, callee.u.i == FUNC_NAMESPACE);
    }
}
