/* exec.c - runs statements: output, conditions, assignments, blocks.
 * Layer 3. Private to text/jinja.
 *
 * Scopes are as in jinja2: the bodies of for, macro, call, with, filter, block and block set each
 * have their own scope, in which their assignments are made. The body of if has no own scope. */
#include "text/jinja/run.h"
#include "text/pieces.h"

plumb_status plumb_jscope_new(struct plumb_jrun *r, struct plumb_jscope **out,
                              struct plumb_jscope *up)
{
    PLUMB_TRY(plumb_jarena_get(&r->arena, out, sizeof(**out)));
    (*out)->up = up;
    return PLUMB_OK;
}

plumb_status plumb_jscope_set(struct plumb_jrun *r, struct plumb_jscope *s,
                              const struct plumb_jstr *name, jv v)
{
    for (int64_t i = 0; i < s->n; i++)
        if (s->at[i].name == name) {
            s->at[i].value = v;
            return PLUMB_OK;
        }
    if (s->n == s->cap) {
        const int64_t cap = s->cap ? 2 * s->cap : 4;
        struct plumb_jslot *at;
        PLUMB_TRY(plumb_jarena_get(&r->arena, &at, cap * (int64_t)sizeof(*at)));
        if (s->n)
            memcpy(at, s->at, (size_t)s->n * sizeof(*at));
        s->at = at;
        s->cap = cap;
    }
    s->at[s->n++] = (struct plumb_jslot){name, v};
    return PLUMB_OK;
}

static plumb_status assign_attr(struct plumb_jrun *r, const struct plumb_jnode *target, jv v)
{
    const struct plumb_jnode load = {.kind = JN_NAME, .line = target->line, .name = target->name};
    jv space;
    PLUMB_TRY(plumb_jinja_eval(r, &space, &load));
    const struct plumb_jstr *attr = target->value.u.str;
    if (space.kind != JK_SPACE)
        JFAIL(r, "cannot assign the attribute %.*s of %.*s, which is no namespace", (int)attr->n,
              attr->at, (int)target->name->n, target->name->at);
    if (attr->n && attr->at[0] == '_')
        JFAIL(r, "a namespace cannot have the attribute %.*s, which begins with _", (int)attr->n,
              attr->at);
    return plumb_jmap_set(&r->arena, space.u.map, target->value, v);
}

plumb_status plumb_jinja_assign(struct plumb_jrun *r, struct plumb_jscope *s,
                                const struct plumb_jnode *target, jv v)
{
    struct plumb_jseq *part;
    if (target->kind == JN_NAME)
        return plumb_jscope_set(r, s, target->name, v);
    if (target->kind == JN_NSREF)
        return assign_attr(r, target, v);
    PLUMB_TRY(plumb_jinja_elements(r, &part, v));
    if (part->n != target->item.n)
        JFAIL(r, "%lld values cannot be unpacked into %lld names", (long long)part->n,
              (long long)target->item.n);
    for (int64_t i = 0; i < part->n; i++)
        PLUMB_TRY(plumb_jinja_assign(r, s, target->item.at[i], part->at[i]));
    return PLUMB_OK;
}

plumb_status plumb_jinja_write(struct plumb_jrun *r, const char *text, int64_t n)
{
    const int64_t before = r->out->len - (r->out == r->root ? r->start : 0);
    if (n > r->limit.output - before - r->captured)
        return plumb_jinja_fail(r, PLUMB_ERR_ARG, "the output exceeded the limit of %lld bytes",
                                (long long)r->limit.output);
    return plumb_buf_add(r->out, text, n);
}

plumb_status plumb_jinja_capture(struct plumb_jrun *r, jv *out, const struct plumb_jnodes *body)
{
    struct plumb_buf b = {0}, *outer = r->out;
    const int64_t before = outer->len - (outer == r->root ? r->start : 0);
    r->out = &b;
    r->captured += before;
    const plumb_status st = plumb_jinja_exec(r, body);
    r->captured -= before;
    r->out = outer;
    return plumb_jinja_take(r, out, &b, st);
}

/* Runs a body in a new scope and captures its output. Assignments in the body are lost. */
static plumb_status capture_inner(struct plumb_jrun *r, jv *out, const struct plumb_jnodes *body)
{
    struct plumb_jscope *outer = r->scope, *inner;
    PLUMB_TRY(plumb_jscope_new(r, &inner, outer));
    r->scope = inner;
    const plumb_status st = plumb_jinja_capture(r, out, body);
    r->scope = outer;
    return st;
}

static plumb_status print(struct plumb_jrun *r, const struct plumb_jnode *n)
{
    for (int64_t i = 0; i < n->item.n; i++) {
        jv v;
        PLUMB_TRY(plumb_jinja_eval(r, &v, n->item.at[i]));
        PLUMB_TRY(plumb_jinja_str(r, &v, v));
        PLUMB_TRY(plumb_jinja_write(r, v.u.str->at, v.u.str->n));
    }
    return PLUMB_OK;
}

static plumb_status branch(struct plumb_jrun *r, const struct plumb_jnode *n)
{
    for (;;) {
        jv v;
        PLUMB_TRY(plumb_jinja_eval(r, &v, n->a));
        if (plumb_jv_true(v))
            return plumb_jinja_exec(r, &n->item);
        /* an elif is a JN_IF that is the only node of the else body */
        if (n->more.n != 1 || n->more.at[0]->kind != JN_IF)
            return plumb_jinja_exec(r, &n->more);
        n = n->more.at[0];
        r->at = n;
    }
}

static plumb_status with(struct plumb_jrun *r, const struct plumb_jnode *n)
{
    struct plumb_jscope *outer = r->scope, *inner;
    PLUMB_TRY(plumb_jscope_new(r, &inner, outer));
    for (int64_t i = 0; i < n->more.n; i++) {
        jv v;
        PLUMB_TRY(plumb_jinja_eval(r, &v, n->arg.at[i]));
        PLUMB_TRY(plumb_jinja_assign(r, inner, n->more.at[i], v));
    }
    r->scope = inner;
    const plumb_status st = plumb_jinja_exec(r, &n->item);
    r->scope = outer;
    return st;
}

static plumb_status block(struct plumb_jrun *r, const struct plumb_jnode *n)
{
    struct plumb_jscope *outer = r->scope, *inner;
    PLUMB_TRY(plumb_jscope_new(r, &inner, n->op ? outer : r->top));
    r->scope = inner;
    const plumb_status st = plumb_jinja_exec(r, &n->item);
    r->scope = outer;
    return st;
}

static plumb_status generation(struct plumb_jrun *r, const struct plumb_jnode *n)
{
    jv text;
    if (r->spans && r->out != r->root)
        JREFUSE(r, "a generation block inside a macro, a set block or another block whose output "
                   "is caught has no place in the output that plumb knows");
    PLUMB_TRY(capture_inner(r, &text, &n->item));
    const int64_t begin = r->out->len - r->start;
    PLUMB_TRY(plumb_jinja_write(r, text.u.str->at, text.u.str->n));
    if (!r->spans)
        return PLUMB_OK;
    PLUMB_TRY(
        plumb_grow((void **)&r->spans->span, r->spans->n, &r->spans->cap, sizeof(*r->spans->span)));
    r->spans->span[r->spans->n++] = (struct plumb_jinja_span){begin, r->out->len - r->start};
    return PLUMB_OK;
}

static plumb_status call_block(struct plumb_jrun *r, const struct plumb_jnode *n)
{
    struct plumb_jmacro *caller;
    struct plumb_jargs args;
    jv callee, v;
    PLUMB_TRY(plumb_jarena_get(&r->arena, &caller, sizeof(*caller)));
    *caller = (struct plumb_jmacro){.def = n->b, .scope = r->scope};
    PLUMB_TRY(plumb_jinja_eval(r, &callee, n->a->a));
    PLUMB_TRY(plumb_jinja_args(r, &args, n->a));
    struct plumb_jkwarg *kw;
    PLUMB_TRY(plumb_jarena_get(&r->arena, &kw, (args.n_kw + 1) * (int64_t)sizeof(*kw)));
    for (int64_t i = 0; i < args.n_kw; i++) {
        kw[i] = args.kw[i];
        if (kw[i].name == r->t->caller)
            JFAIL(r, "a call block gives caller itself; the call names it again");
    }
    kw[args.n_kw++] = (struct plumb_jkwarg){r->t->caller, {.kind = JK_MACRO, .u.macro = caller}};
    args.kw = kw;
    PLUMB_TRY(plumb_jinja_call(r, &v, callee, &args));
    PLUMB_TRY(plumb_jinja_str(r, &v, v));
    return plumb_jinja_write(r, v.u.str->at, v.u.str->n);
}

static plumb_status statement(struct plumb_jrun *r, const struct plumb_jnode *n)
{
    jv v;
    switch (n->kind) {
    case JN_DATA:
        return plumb_jinja_write(r, n->value.u.str->at, n->value.u.str->n);
    case JN_PRINT:
        return print(r, n);
    case JN_IF:
        return branch(r, n);
    case JN_FOR:
        return plumb_jinja_for(r, n);
    case JN_SET:
        PLUMB_TRY(plumb_jinja_eval(r, &v, n->b));
        return plumb_jinja_assign(r, r->scope, n->a, v);
    case JN_SET_BLOCK:
    case JN_FILTER_BLOCK:
        PLUMB_TRY(capture_inner(r, &v, &n->item));
        if (r->flow != JF_NORMAL) /* the body ended with break or continue: assign nothing */
            return PLUMB_OK;
        if (n->b)
            PLUMB_TRY(plumb_jinja_apply_filter(r, &v, n->b, v));
        if (n->kind == JN_SET_BLOCK)
            return plumb_jinja_assign(r, r->scope, n->a, v);
        PLUMB_TRY(plumb_jinja_str(r, &v, v));
        return plumb_jinja_write(r, v.u.str->at, v.u.str->n);
    case JN_MACRO: {
        struct plumb_jmacro *m;
        PLUMB_TRY(plumb_jarena_get(&r->arena, &m, sizeof(*m)));
        *m = (struct plumb_jmacro){.def = n, .scope = r->scope};
        return plumb_jscope_set(r, r->scope, n->name, (jv){.kind = JK_MACRO, .u.macro = m});
    }
    case JN_CALL_BLOCK:
        return call_block(r, n);
    case JN_WITH:
        return with(r, n);
    case JN_BLOCK:
        return block(r, n);
    case JN_GENERATION:
        return generation(r, n);
    default:
        break;
    }
    r->flow = n->kind == JN_BREAK ? JF_BREAK : JF_CONTINUE;
    return PLUMB_OK;
}

plumb_status plumb_jinja_exec(struct plumb_jrun *r, const struct plumb_jnodes *body)
{
    if (++r->depth > r->limit.depth)
        return plumb_jinja_fail(r, PLUMB_ERR_ARG,
                                "the template exceeded the limit of %lld nested "
                                "evaluations",
                                (long long)r->limit.depth);
    for (int64_t i = 0; i < body->n && r->flow == JF_NORMAL; i++) {
        r->at = body->at[i];
        PLUMB_TRY(plumb_jinja_work(r, 0));
        PLUMB_TRY(statement(r, body->at[i]));
    }
    r->depth--;
    return PLUMB_OK;
}
