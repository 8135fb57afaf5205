/* parse.c - parses tokens to statements.
 * Layer 3. Private to text/jinja. */
#include "text/jinja/parse.h"

static plumb_status parse_body(struct plumb_jparser *p, struct plumb_jnodes *out,
                               const char *const *ends);

plumb_status plumb_jparse_node(struct plumb_jparser *p, struct plumb_jnode **out,
                               enum plumb_jnode_kind kind, int64_t line)
{
    PLUMB_TRY(plumb_jarena_get(&p->t->arena, out, sizeof(**out)));
    (*out)->kind = kind;
    (*out)->line = line;
    return PLUMB_OK;
}

plumb_status plumb_jparse_add(struct plumb_jparser *p, struct plumb_jnodes *list,
                              struct plumb_jnode *n)
{
    if (list->n == list->cap) {
        const int64_t cap = list->cap ? 2 * list->cap : 4;
        struct plumb_jnode **at;
        PLUMB_TRY(plumb_jarena_get(&p->t->arena, &at, cap * (int64_t)sizeof(*at)));
        if (list->n)
            memcpy(at, list->at, (size_t)list->n * sizeof(*at));
        list->at = at;
        list->cap = cap;
    }
    list->at[list->n++] = n;
    return PLUMB_OK;
}

plumb_status plumb_jparse_intern(struct plumb_jinja *t, const struct plumb_jstr **out,
                                 const char *text, int64_t n)
{
    const jv *known = plumb_jmap_get_text(&t->names, text, n);
    jv v;
    if (known) {
        v = *known;
    } else {
        PLUMB_TRY(plumb_jv_str(&t->arena, &v, text, n));
        PLUMB_TRY(plumb_jmap_set(&t->arena, &t->names, v, v));
    }
    *out = v.u.str;
    return PLUMB_OK;
}

bool plumb_jparse_is(const struct plumb_jtoken *t, const char *text)
{
    return (t->kind == JT_NAME || t->kind == JT_OPERATOR) && (size_t)t->n == strlen(text) &&
           memcmp(t->text, text, (size_t)t->n) == 0;
}

bool plumb_jparse_skip(struct plumb_jparser *p, const char *text)
{
    if (!plumb_jparse_is(p->at, text))
        return false;
    p->at++;
    return true;
}

plumb_status plumb_jparse_unexpected(struct plumb_jparser *p, const char *wanted)
{
    const struct plumb_jtoken *t = p->at;
    if (t->kind == JT_EOF)
        return plumb_jinja_bad(p->t, PLUMB_ERR_FORMAT, t->line,
                               "expected %s, found the end of the template", wanted);
    return plumb_jinja_bad(p->t, PLUMB_ERR_FORMAT, t->line, "expected %s, found %.*s", wanted,
                           (int)(t->n < 40 ? t->n : 40), t->text);
}

plumb_status plumb_jparse_expect(struct plumb_jparser *p, const char *text)
{
    return plumb_jparse_skip(p, text) ? PLUMB_OK : plumb_jparse_unexpected(p, text);
}

plumb_status plumb_jparse_name(struct plumb_jparser *p, const struct plumb_jstr **out)
{
    if (p->at->kind != JT_NAME)
        return plumb_jparse_unexpected(p, "a name");
    PLUMB_TRY(plumb_jparse_intern(p->t, out, p->at->text, p->at->n));
    p->at++;
    return PLUMB_OK;
}

static plumb_status end_block(struct plumb_jparser *p)
{
    if (p->at->kind != JT_BLOCK_END)
        return plumb_jparse_unexpected(p, "%}");
    p->at++;
    return PLUMB_OK;
}

static bool is_reserved(const struct plumb_jstr *name)
{
    static const char *const words[] = {"true", "True", "false", "False", "none", "None"};
    for (int i = 0; i < 6; i++)
        if (plumb_jstr_is(name, words[i]))
            return true;
    return false;
}

static plumb_status target_name(struct plumb_jparser *p, const struct plumb_jstr **out)
{
    const int64_t line = p->at->line;
    PLUMB_TRY(plumb_jparse_name(p, out));
    if (is_reserved(*out))
        return plumb_jinja_bad(p->t, PLUMB_ERR_FORMAT, line, "%.*s cannot be assigned to",
                               (int)(*out)->n, (*out)->at);
    return PLUMB_OK;
}

/* Parses the rest of a start tag, the body, and the name of the end tag. *which is the index in
 * ends of the name that was found. The current token is then the one after this name. */
static plumb_status statements(struct plumb_jparser *p, struct plumb_jnodes *out,
                               const char *const *ends, int *which)
{
    plumb_jparse_skip(p, ":");
    PLUMB_TRY(end_block(p));
    PLUMB_TRY(parse_body(p, out, ends));
    for (*which = 0; !plumb_jparse_skip(p, ends[*which]);)
        ++*which;
    return PLUMB_OK;
}

static plumb_status body_until(struct plumb_jparser *p, struct plumb_jnodes *out, const char *end)
{
    const char *const ends[] = {end, NULL};
    int which;
    return statements(p, out, ends, &which);
}

static plumb_status parse_if(struct plumb_jparser *p, struct plumb_jnode *n)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    for (;;) {
        int which;
        PLUMB_TRY(plumb_jparse_tuple(p, &n->a, true, false, NULL));
        PLUMB_TRY(statements(p, &n->item, ends, &which));
        if (which == 1)
            return body_until(p, &n->more, "endif");
        if (which == 2)
            return PLUMB_OK;
        struct plumb_jnode *next;
        PLUMB_TRY(plumb_jparse_node(p, &next, JN_IF, p->at->line));
        PLUMB_TRY(plumb_jparse_add(p, &n->more, next));
        n = next;
    }
}

static plumb_status parse_for(struct plumb_jparser *p, struct plumb_jnode *n)
{
    static const char *const ends[] = {"endfor", "else", NULL};
    int which;
    PLUMB_TRY(plumb_jparse_target(p, &n->a, false, "in"));
    if (n->a->kind == JN_NAME && n->a->name == p->t->loop)
        return plumb_jinja_bad(p->t, PLUMB_ERR_FORMAT, n->line,
                               "loop cannot be the variable of a for");
    PLUMB_TRY(plumb_jparse_expect(p, "in"));
    PLUMB_TRY(plumb_jparse_tuple(p, &n->b, true, false, "recursive"));
    if (plumb_jparse_skip(p, "if"))
        PLUMB_TRY(plumb_jparse_expr(p, &n->c, false));
    if (plumb_jparse_is(p->at, "recursive"))
        return plumb_jinja_bad(p->t, PLUMB_ERR_UNSUPPORTED, n->line,
                               "a recursive for is not supported");
    p->loops++;
    PLUMB_TRY(statements(p, &n->item, ends, &which));
    p->loops--;
    return which == 1 ? body_until(p, &n->more, "endfor") : PLUMB_OK;
}

static plumb_status parse_set(struct plumb_jparser *p, struct plumb_jnode *n)
{
    PLUMB_TRY(plumb_jparse_target(p, &n->a, true, "="));
    if (plumb_jparse_skip(p, "="))
        return plumb_jparse_tuple(p, &n->b, false, false, NULL);
    n->kind = JN_SET_BLOCK;
    PLUMB_TRY(plumb_jparse_filters(p, &n->b, NULL, false));
    return body_until(p, &n->item, "endset");
}

static plumb_status parse_signature(struct plumb_jparser *p, struct plumb_jnode *n)
{
    bool defaults = false;
    PLUMB_TRY(plumb_jparse_expect(p, "("));
    while (!plumb_jparse_is(p->at, ")")) {
        struct plumb_jnode *arg;
        if (n->arg.n)
            PLUMB_TRY(plumb_jparse_expect(p, ","));
        PLUMB_TRY(plumb_jparse_node(p, &arg, JN_KEYWORD, p->at->line));
        PLUMB_TRY(target_name(p, &arg->name));
        if (plumb_jparse_skip(p, "=")) {
            defaults = true;
            PLUMB_TRY(plumb_jparse_expr(p, &arg->a, false));
        } else if (defaults) {
            return plumb_jinja_bad(p->t, PLUMB_ERR_FORMAT, arg->line,
                                   "a parameter without a default follows one with a default");
        } else if (arg->name == p->t->caller) {
            return plumb_jinja_bad(p->t, PLUMB_ERR_FORMAT, arg->line,
                                   "the parameter caller needs a default");
        }
        PLUMB_TRY(plumb_jparse_add(p, &n->arg, arg));
    }
    return plumb_jparse_expect(p, ")");
}

/* Parses the body of a macro or a call block. In it, break and continue may not refer to a loop
 * outside. */
static plumb_status macro_body(struct plumb_jparser *p, struct plumb_jnode *n, const char *end)
{
    const int loops = p->loops;
    p->loops = 0;
    n->d = p->macro;
    p->macro = n;
    PLUMB_TRY(body_until(p, &n->item, end));
    p->macro = n->d;
    n->d = NULL;
    p->loops = loops;
    for (int64_t i = 0; i < n->arg.n; i++) {
        const struct plumb_jstr *name = n->arg.at[i]->name;
        n->catch_kwargs &= name != p->t->kwargs;
        n->catch_varargs &= name != p->t->varargs;
        n->uses_caller &= name != p->t->caller;
    }
    return PLUMB_OK;
}

static plumb_status parse_call_block(struct plumb_jparser *p, struct plumb_jnode *n)
{
    PLUMB_TRY(plumb_jparse_node(p, &n->b, JN_MACRO, n->line));
    n->b->name = p->t->caller;
    if (plumb_jparse_is(p->at, "("))
        PLUMB_TRY(parse_signature(p, n->b));
    PLUMB_TRY(plumb_jparse_expr(p, &n->a, false));
    if (n->a->kind != JN_CALL)
        return plumb_jinja_bad(p->t, PLUMB_ERR_FORMAT, n->line, "a call block needs a call");
    return macro_body(p, n->b, "endcall");
}

static plumb_status parse_with(struct plumb_jparser *p, struct plumb_jnode *n)
{
    while (p->at->kind != JT_BLOCK_END) {
        struct plumb_jnode *target, *value;
        if (n->more.n)
            PLUMB_TRY(plumb_jparse_expect(p, ","));
        PLUMB_TRY(plumb_jparse_target(p, &target, false, "in"));
        PLUMB_TRY(plumb_jparse_expect(p, "="));
        PLUMB_TRY(plumb_jparse_expr(p, &value, false));
        PLUMB_TRY(plumb_jparse_add(p, &n->more, target));
        PLUMB_TRY(plumb_jparse_add(p, &n->arg, value));
    }
    return body_until(p, &n->item, "endwith");
}

static plumb_status parse_print(struct plumb_jparser *p, struct plumb_jnode *n)
{
    while (p->at->kind != JT_BLOCK_END) {
        struct plumb_jnode *value;
        if (n->item.n)
            PLUMB_TRY(plumb_jparse_expect(p, ","));
        PLUMB_TRY(plumb_jparse_expr(p, &value, false));
        PLUMB_TRY(plumb_jparse_add(p, &n->item, value));
    }
    return PLUMB_OK;
}

static plumb_status parse_block(struct plumb_jparser *p, struct plumb_jnode *n)
{
    PLUMB_TRY(plumb_jparse_name(p, &n->name));
    n->op = plumb_jparse_skip(p, "scoped");
    if (plumb_jparse_is(p->at, "required"))
        return plumb_jinja_bad(p->t, PLUMB_ERR_UNSUPPORTED, n->line,
                               "a required block is not supported");
    const int loops = p->loops;
    p->loops = 0;
    PLUMB_TRY(body_until(p, &n->item, "endblock"));
    p->loops = loops;
    if (p->at->kind == JT_NAME && p->at->n == n->name->n &&
        memcmp(p->at->text, n->name->at, (size_t)n->name->n) == 0)
        p->at++;
    return PLUMB_OK;
}

static plumb_status parse_generation(struct plumb_jparser *p, struct plumb_jnode *n)
{
    const int loops = p->loops;
    p->t->generation = true;
    p->loops = 0;
    PLUMB_TRY(body_until(p, &n->item, "endgeneration"));
    p->loops = loops;
    return PLUMB_OK;
}

static plumb_status parse_loop_control(struct plumb_jparser *p, struct plumb_jnode *n)
{
    if (!p->loops)
        return plumb_jinja_bad(p->t, PLUMB_ERR_FORMAT, n->line,
                               "%s stands outside a for loop of its own block",
                               n->kind == JN_BREAK ? "break" : "continue");
    return PLUMB_OK;
}

static plumb_status parse_macro(struct plumb_jparser *p, struct plumb_jnode *n)
{
    PLUMB_TRY(target_name(p, &n->name));
    PLUMB_TRY(parse_signature(p, n));
    return macro_body(p, n, "endmacro");
}

static plumb_status parse_filter_block(struct plumb_jparser *p, struct plumb_jnode *n)
{
    PLUMB_TRY(plumb_jparse_filters(p, &n->b, NULL, true));
    return body_until(p, &n->item, "endfilter");
}

typedef plumb_status parse_fn(struct plumb_jparser *p, struct plumb_jnode *n);
static const struct {
    const char *tag;
    enum plumb_jnode_kind kind;
    parse_fn *fn; /* NULL if Jinja has this tag but plumb does not support it */
} statement[] = {
    {"if", JN_IF, parse_if},
    {"for", JN_FOR, parse_for},
    {"set", JN_SET, parse_set},
    {"macro", JN_MACRO, parse_macro},
    {"call", JN_CALL_BLOCK, parse_call_block},
    {"filter", JN_FILTER_BLOCK, parse_filter_block},
    {"with", JN_WITH, parse_with},
    {"print", JN_PRINT, parse_print},
    {"block", JN_BLOCK, parse_block},
    {"generation", JN_GENERATION, parse_generation},
    {"break", JN_BREAK, parse_loop_control},
    {"continue", JN_CONTINUE, parse_loop_control},
    {"include", JN_DATA, NULL},
    {"import", JN_DATA, NULL},
    {"from", JN_DATA, NULL},
    {"extends", JN_DATA, NULL},
    {"autoescape", JN_DATA, NULL},
};

static plumb_status parse_statement(struct plumb_jparser *p, struct plumb_jnode **out)
{
    const struct plumb_jtoken *t = p->at;
    if (t->kind != JT_NAME)
        return plumb_jparse_unexpected(p, "the name of a tag");
    for (size_t i = 0; i < sizeof(statement) / sizeof(*statement); i++) {
        if (!plumb_jparse_is(t, statement[i].tag))
            continue;
        if (!statement[i].fn)
            return plumb_jinja_bad(p->t, PLUMB_ERR_UNSUPPORTED, t->line,
                                   "the tag %s is not supported", statement[i].tag);
        p->at++;
        PLUMB_TRY(plumb_jparse_node(p, out, statement[i].kind, t->line));
        return statement[i].fn(p, *out);
    }
    return plumb_jinja_bad(p->t, PLUMB_ERR_FORMAT, t->line, "unknown tag %.*s",
                           (int)(t->n < 40 ? t->n : 40), t->text);
}

/* Parses statements, text and outputs up to one of the end tags; the current token is then the name
 * of that tag. If ends is NULL, parses up to the end of the template. */
static plumb_status parse_body(struct plumb_jparser *p, struct plumb_jnodes *out,
                               const char *const *ends)
{
    struct plumb_jnode *n;
    if (++p->depth > PLUMB_JPARSE_DEPTH)
        return plumb_jinja_bad(p->t, PLUMB_ERR_UNSUPPORTED, p->at->line,
                               "expressions and blocks are nested deeper than %d levels",
                               PLUMB_JPARSE_DEPTH);
    for (;;) {
        const struct plumb_jtoken *t = p->at;
        if (t->kind == JT_EOF)
            break;
        p->at++;
        if (t->kind == JT_DATA) {
            PLUMB_TRY(plumb_jparse_node(p, &n, JN_DATA, t->line));
            n->value = t->value;
        } else if (t->kind == JT_VARIABLE_BEGIN) {
            struct plumb_jnode *value;
            PLUMB_TRY(plumb_jparse_node(p, &n, JN_PRINT, t->line));
            PLUMB_TRY(plumb_jparse_tuple(p, &value, false, false, NULL));
            PLUMB_TRY(plumb_jparse_add(p, &n->item, value));
            if (p->at->kind != JT_VARIABLE_END)
                return plumb_jparse_unexpected(p, "}}");
            p->at++;
        } else {
            for (int i = 0; ends && ends[i]; i++)
                if (plumb_jparse_is(p->at, ends[i])) {
                    p->depth--;
                    return PLUMB_OK;
                }
            PLUMB_TRY(parse_statement(p, &n));
            PLUMB_TRY(end_block(p));
        }
        PLUMB_TRY(plumb_jparse_add(p, out, n));
    }
    p->depth--;
    if (!ends)
        return PLUMB_OK;
    struct plumb_buf b = {0};
    plumb_status st = PLUMB_OK;
    for (int i = 0; ends[i] && st == PLUMB_OK; i++)
        st = plumb_buf_addf(&b, "%s{%% %s %%}", i ? " or " : "", ends[i]);
    if (st == PLUMB_OK)
        st = plumb_jinja_bad(p->t, PLUMB_ERR_FORMAT, p->at->line,
                             "expected %s, found the end of the template", plumb_buf_text(&b));
    plumb_buf_fini(&b);
    return st;
}

static plumb_status check_names(const struct plumb_jinja *t, const struct plumb_jnode *n,
                                bool soft);

static plumb_status check_list(const struct plumb_jinja *t, const struct plumb_jnodes *list,
                               bool soft)
{
    for (int64_t i = 0; i < list->n; i++)
        PLUMB_TRY(check_names(t, list->at[i], soft));
    return PLUMB_OK;
}

static plumb_status check_name(const struct plumb_jinja *t, const struct plumb_jnode *n)
{
    const bool filter = n->kind == JN_FILTER;
    const int len = (int)(n->name->n < 40 ? n->name->n : 40);
    if (n->index < 0)
        return plumb_jinja_bad(t, PLUMB_ERR_FORMAT, n->line, "there is no %s named %.*s",
                               filter ? "filter" : "test", len, n->name->at);
    if (filter && !plumb_jinja_filter_known(n->index))
        return plumb_jinja_bad(t, PLUMB_ERR_UNSUPPORTED, n->line,
                               "the filter %.*s is not supported", len, n->name->at);
    return PLUMB_OK;
}

/* Refuses filters and tests that do not exist. As in jinja2, an unknown one in a branch of an if
 * (soft = true) is an error only when it is used; inside a block of another kind in that branch,
 * soft is false again. Chains of operators and of elif are as long as the source, so they are
 * walked without recursion. */
static plumb_status check_names(const struct plumb_jinja *t, const struct plumb_jnode *n, bool soft)
{
    while (n) {
        const bool block = n->kind >= JN_FOR && n->kind != JN_SET;
        if ((n->kind == JN_FILTER || n->kind == JN_TEST) && !soft)
            PLUMB_TRY(check_name(t, n));
        soft |= n->kind == JN_IF || n->kind == JN_IF_EXPR;
        PLUMB_TRY(check_list(t, &n->item, soft && !block));
        PLUMB_TRY(check_list(t, &n->arg, soft && !block));
        PLUMB_TRY(check_names(t, n->b, soft && n->kind != JN_SET_BLOCK));
        PLUMB_TRY(check_names(t, n->c, soft));
        PLUMB_TRY(check_names(t, n->d, soft));
        if (n->kind == JN_IF && n->more.n == 1 && n->more.at[0]->kind == JN_IF) {
            PLUMB_TRY(check_names(t, n->a, soft));
            n = n->more.at[0];
            continue;
        }
        PLUMB_TRY(check_list(t, &n->more, soft && !block));
        n = n->a;
    }
    return PLUMB_OK;
}

plumb_status plumb_jinja_parse(struct plumb_jinja *t, const struct plumb_jtoken *token)
{
    struct plumb_jparser p = {.t = t, .at = token};
    PLUMB_TRY(plumb_jparse_intern(t, &t->loop, "loop", 4));
    PLUMB_TRY(plumb_jparse_intern(t, &t->caller, "caller", 6));
    PLUMB_TRY(plumb_jparse_intern(t, &t->kwargs, "kwargs", 6));
    PLUMB_TRY(plumb_jparse_intern(t, &t->varargs, "varargs", 7));
    PLUMB_TRY(parse_body(&p, &t->body, NULL));
    return check_list(t, &t->body, false);
}
