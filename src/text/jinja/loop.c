/* loop.c - for loops and the loop variable.
 * Layer 3. Private to text/jinja.
 *
 * The filter condition of a loop is evaluated only when the next element is needed, like in the
 * generator of jinja2. So the condition sees changes that the loop's body makes to a namespace.
 * loop.last evaluates the condition for one element in advance. */
#include "text/jinja/run.h"

struct plumb_jloop {
    const struct plumb_jnode *def;
    struct plumb_jseq *src;
    int64_t next; /* index of the next element of src */
    struct plumb_jscope *outer, *test;
    /* elements that loop.length has read in advance; NULL if the template has not used loop.length
     */
    struct plumb_jseq *rest;
    int64_t rest_next;
    jv current, before, after;
    bool has_after, ended;
    int64_t index0, length; /* length is -1 as long as it is unknown */
    struct plumb_jseq *changed;
};

static plumb_status passes(struct plumb_jrun *r, struct plumb_jloop *l, jv v, bool *yes)
{
    struct plumb_jscope *scope = r->scope;
    const struct plumb_jnode *at = r->at;
    jv result;
    l->test->n = 0;
    PLUMB_TRY(plumb_jinja_assign(r, l->test, l->def->a, v));
    r->scope = l->test;
    const plumb_status st = plumb_jinja_eval(r, &result, l->def->c);
    r->scope = scope;
    PLUMB_TRY(st);
    r->at = at;
    *yes = plumb_jv_true(result);
    return PLUMB_OK;
}

/* Gets the next element that passes the filter condition; *have is false at the end. */
static plumb_status pull(struct plumb_jrun *r, struct plumb_jloop *l, jv *v, bool *have)
{
    if (l->rest) {
        *have = l->rest_next < l->rest->n;
        if (*have)
            *v = l->rest->at[l->rest_next++];
        return PLUMB_OK;
    }
    for (*have = false; !*have && l->next < l->src->n;) {
        *v = l->src->at[l->next++];
        *have = true;
        if (l->test)
            PLUMB_TRY(passes(r, l, *v, have));
    }
    return PLUMB_OK;
}

static plumb_status peek(struct plumb_jrun *r, struct plumb_jloop *l)
{
    if (l->has_after || l->ended)
        return PLUMB_OK;
    PLUMB_TRY(pull(r, l, &l->after, &l->has_after));
    l->ended = !l->has_after;
    return PLUMB_OK;
}

static plumb_status measure(struct plumb_jrun *r, struct plumb_jloop *l)
{
    if (l->length >= 0)
        return PLUMB_OK;
    struct plumb_jseq *rest;
    PLUMB_TRY(plumb_jseq_new(&r->arena, &rest, 0));
    for (;;) {
        jv v;
        bool have;
        PLUMB_TRY(pull(r, l, &v, &have));
        if (!have)
            break;
        PLUMB_TRY(plumb_jseq_add(&r->arena, rest, v));
    }
    l->rest = rest;
    l->rest_next = 0;
    l->length = rest->n + l->index0 + 1 + l->has_after;
    return PLUMB_OK;
}

static plumb_status iterate(struct plumb_jrun *r, struct plumb_jloop *l, bool *completed)
{
    const struct plumb_jnode *n = l->def;
    struct plumb_jscope *scope;
    PLUMB_TRY(plumb_jscope_new(r, &scope, l->outer));
    for (;;) {
        jv v = l->after;
        bool have = true;
        r->at = n;
        PLUMB_TRY(plumb_jinja_work(r, 0));
        if (l->has_after)
            l->has_after = false;
        else if (l->ended)
            have = false;
        else
            PLUMB_TRY(pull(r, l, &v, &have));
        if (!have)
            return PLUMB_OK;
        l->index0++;
        l->before = l->current;
        l->current = v;
        scope->n = 0;
        PLUMB_TRY(plumb_jscope_set(r, scope, r->t->loop, (jv){.kind = JK_LOOP, .u.loop = l}));
        PLUMB_TRY(plumb_jinja_assign(r, scope, n->a, v));
        r->scope = scope;
        const plumb_status st = plumb_jinja_exec(r, &n->item);
        r->scope = l->outer;
        PLUMB_TRY(st);
        const enum plumb_jflow flow = r->flow;
        r->flow = JF_NORMAL;
        /* As in jinja2, the else body is skipped if an iteration has reached the end of the loop
         * body; an iteration that ends with break or continue does not count. */
        *completed |= flow == JF_NORMAL;
        if (flow == JF_BREAK)
            return PLUMB_OK;
    }
}

plumb_status plumb_jinja_for(struct plumb_jrun *r, const struct plumb_jnode *n)
{
    struct plumb_jloop *l;
    bool completed = false;
    jv source;
    PLUMB_TRY(plumb_jinja_eval(r, &source, n->b));
    r->at = n;
    PLUMB_TRY(plumb_jarena_get(&r->arena, &l, sizeof(*l)));
    PLUMB_TRY(plumb_jinja_elements(r, &l->src, source));
    l->def = n;
    l->outer = r->scope;
    l->index0 = -1;
    l->length = n->c || source.kind == JK_ITER ? -1 : l->src->n;
    if (n->c)
        PLUMB_TRY(plumb_jscope_new(r, &l->test, r->scope));
    PLUMB_TRY(iterate(r, l, &completed));
    if (completed || !n->more.n)
        return PLUMB_OK;
    struct plumb_jscope *outer = r->scope, *inner;
    PLUMB_TRY(plumb_jscope_new(r, &inner, outer));
    r->scope = inner;
    const plumb_status st = plumb_jinja_exec(r, &n->more);
    r->scope = outer;
    return st;
}

plumb_status plumb_jloop_attr(struct plumb_jrun *r, jv *out, jv loop, const struct plumb_jstr *name)
{
    struct plumb_jloop *l = loop.u.loop;
    const bool length = plumb_jstr_is(name, "length"), rev = plumb_jstr_is(name, "revindex"),
               rev0 = plumb_jstr_is(name, "revindex0");
    if (length || rev || rev0)
        PLUMB_TRY(measure(r, l));
    if (length)
        *out = plumb_jv_int(l->length);
    else if (rev)
        *out = plumb_jv_int(l->length - l->index0);
    else if (rev0)
        *out = plumb_jv_int(l->length - l->index0 - 1);
    else if (plumb_jstr_is(name, "index"))
        *out = plumb_jv_int(l->index0 + 1);
    else if (plumb_jstr_is(name, "index0"))
        *out = plumb_jv_int(l->index0);
    else if (plumb_jstr_is(name, "first"))
        *out = plumb_jv_bool(l->index0 == 0);
    else if (plumb_jstr_is(name, "depth"))
        *out = plumb_jv_int(1);
    else if (plumb_jstr_is(name, "depth0"))
        *out = plumb_jv_int(0);
    else if (plumb_jstr_is(name, "last")) {
        PLUMB_TRY(peek(r, l));
        *out = plumb_jv_bool(!l->has_after);
    } else if (plumb_jstr_is(name, "previtem")) {
        if (l->index0 == 0)
            return plumb_jinja_undefined(r, out, "there is no previous item");
        *out = l->before;
    } else if (plumb_jstr_is(name, "nextitem")) {
        PLUMB_TRY(peek(r, l));
        if (!l->has_after)
            return plumb_jinja_undefined(r, out, "there is no next item");
        *out = l->after;
    } else if (plumb_jstr_is(name, "cycle") || plumb_jstr_is(name, "changed")) {
        struct plumb_jmethod *m;
        PLUMB_TRY(plumb_jarena_get(&r->arena, &m, sizeof(*m)));
        *m = (struct plumb_jmethod){loop, plumb_jstr_is(name, "cycle") ? "cycle" : "changed"};
        *out = (jv){.kind = JK_METHOD, .u.method = m};
    } else {
        return plumb_jinja_undefined(r, out, "loop has no attribute %.*s",
                                     (int)(name->n < 80 ? name->n : 80), name->at);
    }
    return PLUMB_OK;
}

plumb_status plumb_jloop_call(struct plumb_jrun *r, jv *out, jv loop, const char *name,
                              const struct plumb_jargs *args)
{
    struct plumb_jloop *l = loop.u.loop;
    if (args->n_kw)
        JFAIL(r, "loop.%s takes no keyword argument", name);
    if (strcmp(name, "cycle") == 0) {
        if (!args->n)
            JFAIL(r, "loop.cycle needs at least one value");
        *out = args->at[l->index0 % args->n];
        return PLUMB_OK;
    }
    struct plumb_jseq *now;
    PLUMB_TRY(plumb_jseq_new(&r->arena, &now, args->n));
    for (int64_t i = 0; i < args->n; i++)
        PLUMB_TRY(plumb_jseq_add(&r->arena, now, args->at[i]));
    const bool same =
        l->changed && plumb_jv_equal(plumb_jv_of(JK_TUPLE, l->changed), plumb_jv_of(JK_TUPLE, now));
    *out = plumb_jv_bool(!same);
    if (!same)
        l->changed = now;
    return PLUMB_OK;
}
