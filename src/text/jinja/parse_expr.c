/* parse_expr.c - parses tokens to expressions. One function handles each level of precedence.
 * Layer 3. Private to text/jinja. */
#include "text/jinja/parse.h"

static plumb_status parse_unary(struct plumb_jparser *p, struct plumb_jnode **out, bool filters);
static plumb_status parse_primary(struct plumb_jparser *p, struct plumb_jnode **out, bool space);
static plumb_status parse_postfix(struct plumb_jparser *p, struct plumb_jnode **node);

static plumb_status enter(struct plumb_jparser *p)
{
    if (++p->depth > PLUMB_JPARSE_DEPTH)
        return plumb_jinja_bad(p->t, PLUMB_ERR_UNSUPPORTED, p->at->line,
                               "expressions and blocks are nested deeper than %d levels",
                               PLUMB_JPARSE_DEPTH);
    return PLUMB_OK;
}

/* Notes that the body of the macro uses caller, kwargs or varargs. The macro then accepts such
 * arguments. */
static void note_name(struct plumb_jparser *p, const struct plumb_jstr *name)
{
    for (struct plumb_jnode *m = p->macro; m; m = m->d) {
        m->uses_caller |= name == p->t->caller;
        m->catch_kwargs |= name == p->t->kwargs;
        m->catch_varargs |= name == p->t->varargs;
    }
}

static plumb_status parse_call_args(struct plumb_jparser *p, struct plumb_jnode *call)
{
    const int64_t line = p->at->line;
    PLUMB_TRY(plumb_jparse_expect(p, "("));
    for (bool first = true; !plumb_jparse_is(p->at, ")"); first = false) {
        struct plumb_jnode *n, *kw;
        if (!first) {
            PLUMB_TRY(plumb_jparse_expect(p, ","));
            if (plumb_jparse_is(p->at, ")"))
                break;
        }
        bool ok = true;
        if (plumb_jparse_skip(p, "*")) {
            ok = !call->c && !call->d;
            PLUMB_TRY(plumb_jparse_expr(p, &call->c, false));
        } else if (plumb_jparse_skip(p, "**")) {
            ok = !call->d;
            PLUMB_TRY(plumb_jparse_expr(p, &call->d, false));
        } else if (p->at->kind == JT_NAME && plumb_jparse_is(p->at + 1, "=")) {
            ok = !call->d;
            PLUMB_TRY(plumb_jparse_node(p, &kw, JN_KEYWORD, p->at->line));
            PLUMB_TRY(plumb_jparse_name(p, &kw->name));
            p->at++;
            PLUMB_TRY(plumb_jparse_expr(p, &kw->a, false));
            PLUMB_TRY(plumb_jparse_add(p, &call->more, kw));
        } else {
            ok = !call->c && !call->d && !call->more.n;
            PLUMB_TRY(plumb_jparse_expr(p, &n, false));
            PLUMB_TRY(plumb_jparse_add(p, &call->item, n));
        }
        if (!ok)
            return plumb_jinja_bad(p->t, PLUMB_ERR_FORMAT, line,
                                   "the arguments of a call are in the wrong order");
    }
    return plumb_jparse_expect(p, ")");
}

static plumb_status dotted_name(struct plumb_jparser *p, const struct plumb_jtoken **name)
{
    *name = p->at;
    if (p->at->kind != JT_NAME)
        return plumb_jparse_unexpected(p, "a name");
    p->at++;
    if (plumb_jparse_is(p->at, "."))
        return plumb_jinja_bad(p->t, PLUMB_ERR_UNSUPPORTED, p->at->line,
                               "a filter or test with a dot in its name is not supported");
    return PLUMB_OK;
}

plumb_status plumb_jparse_filters(struct plumb_jparser *p, struct plumb_jnode **out,
                                  struct plumb_jnode *input, bool started)
{
    while (started || plumb_jparse_skip(p, "|")) {
        const struct plumb_jtoken *name;
        struct plumb_jnode *n;
        PLUMB_TRY(dotted_name(p, &name));
        PLUMB_TRY(plumb_jparse_node(p, &n, JN_FILTER, name->line));
        PLUMB_TRY(plumb_jparse_intern(p->t, &n->name, name->text, name->n));
        n->index = plumb_jinja_find_filter(name->text, name->n);
        if (plumb_jparse_is(p->at, "("))
            PLUMB_TRY(parse_call_args(p, n));
        n->a = input;
        input = n;
        started = false;
    }
    *out = input;
    return PLUMB_OK;
}

static plumb_status parse_test(struct plumb_jparser *p, struct plumb_jnode **node)
{
    const struct plumb_jtoken *name;
    struct plumb_jnode *n, *arg;
    const int64_t line = p->at[-1].line;
    const bool negated = plumb_jparse_skip(p, "not");
    PLUMB_TRY(dotted_name(p, &name));
    PLUMB_TRY(plumb_jparse_node(p, &n, JN_TEST, line));
    PLUMB_TRY(plumb_jparse_intern(p->t, &n->name, name->text, name->n));
    n->a = *node;
    n->index = plumb_jinja_find_test(name->text, name->n);
    const struct plumb_jtoken *t = p->at;
    const bool starts = t->kind == JT_NAME || t->kind == JT_STRING || t->kind == JT_INT ||
                        t->kind == JT_FLOAT || plumb_jparse_is(t, "[") || plumb_jparse_is(t, "{");
    if (plumb_jparse_is(t, "(")) {
        PLUMB_TRY(parse_call_args(p, n));
    } else if (starts && !plumb_jparse_is(t, "else") && !plumb_jparse_is(t, "or") &&
               !plumb_jparse_is(t, "and")) {
        if (plumb_jparse_is(t, "is"))
            return plumb_jinja_bad(p->t, PLUMB_ERR_FORMAT, line,
                                   "tests cannot be chained with \"is\"");
        PLUMB_TRY(parse_primary(p, &arg, false));
        PLUMB_TRY(parse_postfix(p, &arg));
        PLUMB_TRY(plumb_jparse_add(p, &n->item, arg));
    }
    *node = n;
    if (negated) {
        PLUMB_TRY(plumb_jparse_node(p, node, JN_NOT, line));
        (*node)->a = n;
    }
    return PLUMB_OK;
}

/* Parses one subscript of the expression `of`, up to ] or a comma: an index or a slice. */
static plumb_status parse_subscript(struct plumb_jparser *p, struct plumb_jnode **out,
                                    struct plumb_jnode *of)
{
    struct plumb_jnode *part[3] = {NULL, NULL, NULL};
    const int64_t line = p->at->line;
    int at = 0;
    bool slice = false;
    while (!plumb_jparse_is(p->at, "]") && !plumb_jparse_is(p->at, ",")) {
        if (plumb_jparse_is(p->at, ":")) {
            slice = true;
            p->at++;
            if (++at > 2)
                return plumb_jparse_unexpected(p, "]");
        } else if (part[at]) {
            return plumb_jparse_unexpected(p, "] or :");
        } else {
            PLUMB_TRY(plumb_jparse_expr(p, &part[at], false));
        }
    }
    if (plumb_jparse_is(p->at, ","))
        return plumb_jinja_bad(p->t, PLUMB_ERR_UNSUPPORTED, line,
                               "a subscript of several values is not supported");
    if (!slice && !part[0])
        return plumb_jparse_unexpected(p, "an index");
    PLUMB_TRY(plumb_jparse_node(p, out, slice ? JN_SLICE : JN_ITEM, line));
    (*out)->a = of;
    (*out)->b = part[0];
    (*out)->c = part[1];
    (*out)->d = part[2];
    p->at++;
    return PLUMB_OK;
}

static plumb_status parse_postfix(struct plumb_jparser *p, struct plumb_jnode **node)
{
    for (;;) {
        struct plumb_jnode *n;
        const struct plumb_jtoken *t = p->at;
        if (plumb_jparse_skip(p, ".")) {
            PLUMB_TRY(plumb_jparse_node(p, &n, p->at->kind == JT_INT ? JN_ITEM : JN_ATTR, t->line));
            n->a = *node;
            if (p->at->kind == JT_INT) {
                PLUMB_TRY(plumb_jparse_node(p, &n->b, JN_CONST, t->line));
                n->b->value = p->at++->value;
            } else {
                PLUMB_TRY(plumb_jparse_name(p, &n->name));
            }
        } else if (plumb_jparse_skip(p, "[")) {
            PLUMB_TRY(parse_subscript(p, &n, *node));
        } else if (plumb_jparse_is(t, "(")) {
            PLUMB_TRY(plumb_jparse_node(p, &n, JN_CALL, t->line));
            n->a = *node;
            PLUMB_TRY(parse_call_args(p, n));
        } else {
            return PLUMB_OK;
        }
        *node = n;
    }
}

static plumb_status parse_display(struct plumb_jparser *p, struct plumb_jnode **out, bool dict)
{
    const char *end = dict ? "}" : "]";
    PLUMB_TRY(plumb_jparse_node(p, out, dict ? JN_DICT : JN_LIST, p->at[-1].line));
    while (!plumb_jparse_is(p->at, end)) {
        struct plumb_jnode *n;
        if ((*out)->item.n) {
            PLUMB_TRY(plumb_jparse_expect(p, ","));
            if (plumb_jparse_is(p->at, end))
                break;
        }
        PLUMB_TRY(plumb_jparse_expr(p, &n, false));
        PLUMB_TRY(plumb_jparse_add(p, &(*out)->item, n));
        if (dict) {
            PLUMB_TRY(plumb_jparse_expect(p, ":"));
            PLUMB_TRY(plumb_jparse_expr(p, &n, false));
            PLUMB_TRY(plumb_jparse_add(p, &(*out)->more, n));
        }
    }
    return plumb_jparse_expect(p, end);
}

static plumb_status parse_string(struct plumb_jparser *p, struct plumb_jnode *n)
{
    struct plumb_buf b = {0};
    plumb_status st = PLUMB_OK;
    n->value = p->at->value;
    if (p->at[1].kind != JT_STRING) {
        p->at++;
        return PLUMB_OK;
    }
    for (; p->at->kind == JT_STRING && st == PLUMB_OK; p->at++)
        st = plumb_buf_add(&b, p->at->value.u.str->at, p->at->value.u.str->n);
    if (st == PLUMB_OK)
        st = plumb_jv_str(&p->t->arena, &n->value, plumb_buf_text(&b), b.len);
    plumb_buf_fini(&b);
    return st;
}

static plumb_status parse_primary(struct plumb_jparser *p, struct plumb_jnode **out, bool space)
{
    const struct plumb_jtoken *t = p->at;
    if (plumb_jparse_skip(p, "(")) {
        PLUMB_TRY(enter(p));
        if (plumb_jparse_is(p->at, ")"))
            PLUMB_TRY(plumb_jparse_node(p, out, JN_TUPLE, t->line));
        else
            PLUMB_TRY(plumb_jparse_tuple(p, out, false, false, NULL));
        p->depth--;
        return plumb_jparse_expect(p, ")");
    }
    if (plumb_jparse_is(t, "[") || plumb_jparse_is(t, "{")) {
        PLUMB_TRY(enter(p));
        p->at++;
        PLUMB_TRY(parse_display(p, out, t->op[0] == '{'));
        p->depth--;
        return PLUMB_OK;
    }
    PLUMB_TRY(plumb_jparse_node(p, out, JN_CONST, t->line));
    if (t->kind == JT_STRING)
        return parse_string(p, *out);
    if (t->kind == JT_INT || t->kind == JT_FLOAT) {
        (*out)->value = p->at++->value;
        return PLUMB_OK;
    }
    const bool yes = plumb_jparse_is(t, "true") || plumb_jparse_is(t, "True");
    if (yes || plumb_jparse_is(t, "false") || plumb_jparse_is(t, "False")) {
        (*out)->value = plumb_jv_bool(yes);
        p->at++;
        return PLUMB_OK;
    }
    if (plumb_jparse_is(t, "none") || plumb_jparse_is(t, "None")) {
        (*out)->value = plumb_jv_none();
        p->at++;
        return PLUMB_OK;
    }
    if (t->kind != JT_NAME)
        return plumb_jparse_unexpected(p, "an expression");
    (*out)->kind = JN_NAME;
    PLUMB_TRY(plumb_jparse_name(p, &(*out)->name));
    note_name(p, (*out)->name);
    if (space && plumb_jparse_skip(p, ".")) {
        const struct plumb_jstr *attr;
        PLUMB_TRY(plumb_jparse_name(p, &attr));
        (*out)->kind = JN_NSREF;
        (*out)->value = (jv){.kind = JK_STR, .u.str = attr};
    }
    return PLUMB_OK;
}

static plumb_status parse_unary(struct plumb_jparser *p, struct plumb_jnode **out, bool filters)
{
    const struct plumb_jtoken *t = p->at;
    PLUMB_TRY(enter(p));
    if (plumb_jparse_is(t, "-") || plumb_jparse_is(t, "+")) {
        p->at++;
        PLUMB_TRY(plumb_jparse_node(p, out, t->op[0] == '-' ? JN_NEG : JN_POS, t->line));
        struct plumb_jnode *inner; /* a pointer of its own, because *out is replaced below */
        PLUMB_TRY(parse_unary(p, &inner, false));
        (*out)->a = inner;
    } else {
        PLUMB_TRY(parse_primary(p, out, false));
    }
    PLUMB_TRY(parse_postfix(p, out));
    while (filters) {
        if (plumb_jparse_is(p->at, "|")) {
            PLUMB_TRY(plumb_jparse_filters(p, out, *out, false));
        } else if (p->at->kind == JT_NAME && plumb_jparse_skip(p, "is")) {
            PLUMB_TRY(parse_test(p, out));
        } else if (plumb_jparse_is(p->at, "(")) {
            struct plumb_jnode *n;
            PLUMB_TRY(plumb_jparse_node(p, &n, JN_CALL, p->at->line));
            n->a = *out;
            PLUMB_TRY(parse_call_args(p, n));
            *out = n;
        } else {
            break;
        }
    }
    p->depth--;
    return PLUMB_OK;
}

static int operator_of(const struct plumb_jtoken *t, const char *const *names, int n)
{
    for (int i = 0; t->kind == JT_OPERATOR && i < n; i++)
        if (strcmp(t->op, names[i]) == 0)
            return i;
    return -1;
}

typedef plumb_status level_fn(struct plumb_jparser *p, struct plumb_jnode **out);

/* Parses left-associative binary operators of one level of precedence: a op b op c. `next` parses
 * an operand; ops[i] is the operator that the template writes as names[i]. */
static plumb_status parse_left(struct plumb_jparser *p, struct plumb_jnode **out, level_fn *next,
                               const char *const *names, const enum plumb_jop *ops, int n)
{
    PLUMB_TRY(next(p, out));
    for (int i; (i = operator_of(p->at, names, n)) >= 0;) {
        struct plumb_jnode *b;
        PLUMB_TRY(plumb_jparse_node(p, &b, JN_BINARY, p->at->line));
        p->at++;
        b->op = (int)ops[i];
        b->a = *out;
        PLUMB_TRY(next(p, &b->b));
        *out = b;
    }
    return PLUMB_OK;
}

static plumb_status parse_filtered(struct plumb_jparser *p, struct plumb_jnode **out)
{
    return parse_unary(p, out, true);
}

static plumb_status parse_pow(struct plumb_jparser *p, struct plumb_jnode **out)
{
    static const char *const names[] = {"**"};
    static const enum plumb_jop ops[] = {JO_POW};
    return parse_left(p, out, parse_filtered, names, ops, 1);
}

static plumb_status parse_product(struct plumb_jparser *p, struct plumb_jnode **out)
{
    static const char *const names[] = {"*", "/", "//", "%"};
    static const enum plumb_jop ops[] = {JO_MUL, JO_DIV, JO_FLOORDIV, JO_MOD};
    return parse_left(p, out, parse_pow, names, ops, 4);
}

static plumb_status parse_concat(struct plumb_jparser *p, struct plumb_jnode **out)
{
    struct plumb_jnode *first, *n;
    PLUMB_TRY(parse_product(p, &first));
    *out = first;
    if (!plumb_jparse_is(p->at, "~"))
        return PLUMB_OK;
    PLUMB_TRY(plumb_jparse_node(p, out, JN_CONCAT, p->at->line));
    PLUMB_TRY(plumb_jparse_add(p, &(*out)->item, first));
    while (plumb_jparse_skip(p, "~")) {
        PLUMB_TRY(parse_product(p, &n));
        PLUMB_TRY(plumb_jparse_add(p, &(*out)->item, n));
    }
    return PLUMB_OK;
}

static plumb_status parse_sum(struct plumb_jparser *p, struct plumb_jnode **out)
{
    static const char *const names[] = {"+", "-"};
    static const enum plumb_jop ops[] = {JO_ADD, JO_SUB};
    return parse_left(p, out, parse_concat, names, ops, 2);
}

static plumb_status parse_compare(struct plumb_jparser *p, struct plumb_jnode **out)
{
    static const char *const names[] = {"==", "!=", "<", "<=", ">", ">="};
    struct plumb_jnode *first, *all = NULL;
    PLUMB_TRY(parse_sum(p, &first));
    for (;;) {
        const struct plumb_jtoken *t = p->at;
        int op = operator_of(t, names, 6);
        if (op >= 0) {
            op += JO_EQ;
            p->at++;
        } else if (plumb_jparse_skip(p, "in")) {
            op = JO_IN;
        } else if (plumb_jparse_is(t, "not") && plumb_jparse_is(t + 1, "in")) {
            op = JO_NOT_IN;
            p->at += 2;
        } else {
            break;
        }
        struct plumb_jnode *n;
        if (!all) {
            PLUMB_TRY(plumb_jparse_node(p, &all, JN_COMPARE, t->line));
            all->a = first;
        }
        PLUMB_TRY(plumb_jparse_node(p, &n, JN_OPERAND, t->line));
        n->op = op;
        PLUMB_TRY(parse_sum(p, &n->a));
        PLUMB_TRY(plumb_jparse_add(p, &all->item, n));
    }
    *out = all ? all : first;
    return PLUMB_OK;
}

static plumb_status parse_not(struct plumb_jparser *p, struct plumb_jnode **out)
{
    if (!plumb_jparse_is(p->at, "not"))
        return parse_compare(p, out);
    PLUMB_TRY(enter(p));
    PLUMB_TRY(plumb_jparse_node(p, out, JN_NOT, p->at->line));
    p->at++;
    PLUMB_TRY(parse_not(p, &(*out)->a));
    p->depth--;
    return PLUMB_OK;
}

static plumb_status parse_logic(struct plumb_jparser *p, struct plumb_jnode **out, bool or_)
{
    struct plumb_jnode *left;
    PLUMB_TRY(or_ ? parse_logic(p, &left, false) : parse_not(p, &left));
    const char *word = or_ ? "or" : "and";
    while (p->at->kind == JT_NAME && plumb_jparse_is(p->at, word)) {
        struct plumb_jnode *n;
        PLUMB_TRY(plumb_jparse_node(p, &n, or_ ? JN_OR : JN_AND, p->at->line));
        p->at++;
        n->a = left;
        PLUMB_TRY(or_ ? parse_logic(p, &n->b, false) : parse_not(p, &n->b));
        left = n;
    }
    *out = left;
    return PLUMB_OK;
}

plumb_status plumb_jparse_expr(struct plumb_jparser *p, struct plumb_jnode **out, bool without_if)
{
    struct plumb_jnode *value;
    PLUMB_TRY(enter(p));
    PLUMB_TRY(parse_logic(p, &value, true));
    while (!without_if && plumb_jparse_is(p->at, "if")) {
        struct plumb_jnode *n;
        PLUMB_TRY(plumb_jparse_node(p, &n, JN_IF_EXPR, p->at->line));
        p->at++;
        n->b = value;
        PLUMB_TRY(parse_logic(p, &n->a, true));
        if (plumb_jparse_skip(p, "else"))
            PLUMB_TRY(plumb_jparse_expr(p, &n->c, false));
        value = n;
    }
    *out = value;
    p->depth--;
    return PLUMB_OK;
}

static bool tuple_ends(const struct plumb_jtoken *t, const char *end)
{
    return t->kind == JT_VARIABLE_END || t->kind == JT_BLOCK_END || plumb_jparse_is(t, ")") ||
           (end && plumb_jparse_is(t, end));
}

plumb_status plumb_jparse_tuple(struct plumb_jparser *p, struct plumb_jnode **out, bool without_if,
                                bool target, const char *end)
{
    struct plumb_jnode *n = NULL, *tuple = NULL;
    const int64_t line = p->at->line;
    while (!tuple_ends(p->at, end)) {
        PLUMB_TRY(target ? parse_primary(p, &n, strcmp(end, "in") != 0)
                         : plumb_jparse_expr(p, &n, without_if));
        if (!tuple && plumb_jparse_is(p->at, ","))
            PLUMB_TRY(plumb_jparse_node(p, &tuple, JN_TUPLE, line));
        if (tuple)
            PLUMB_TRY(plumb_jparse_add(p, &tuple->item, n));
        if (!plumb_jparse_skip(p, ","))
            break;
    }
    if (!n)
        return plumb_jparse_unexpected(p, "an expression");
    *out = tuple ? tuple : n;
    return PLUMB_OK;
}

static plumb_status check_target(struct plumb_jparser *p, const struct plumb_jnode *n)
{
    if (n->kind == JN_TUPLE) {
        for (int64_t i = 0; i < n->item.n; i++)
            PLUMB_TRY(check_target(p, n->item.at[i]));
        return PLUMB_OK;
    }
    if (n->kind != JN_NAME && n->kind != JN_NSREF)
        return plumb_jinja_bad(p->t, PLUMB_ERR_FORMAT, n->line,
                               "only names, and attributes of namespaces, can be assigned to");
    return PLUMB_OK;
}

plumb_status plumb_jparse_target(struct plumb_jparser *p, struct plumb_jnode **out, bool space,
                                 const char *end)
{
    PLUMB_TRY(plumb_jparse_tuple(p, out, true, true, space ? "=" : end));
    return check_target(p, *out);
}
