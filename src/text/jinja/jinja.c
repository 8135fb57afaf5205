/* jinja.c - the functions of jinja.h for compiling and rendering, and error messages.
 * Layer 3. Includes base/ and io/json.h. */
#include "text/jinja/jinja.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "io/utf8.h"
#include "text/jinja/run.h"
#include "text/pieces.h"

#define DEFAULT_STEPS  20000000
#define DEFAULT_DEPTH  1500
#define DEFAULT_OUTPUT (64ll << 20)
#define DEFAULT_MEMORY (512ll << 20)
#define MAX_SOURCE     (4ll << 20)

plumb_status plumb_jinja_bad(const struct plumb_jinja *t, plumb_status code, int64_t line,
                             const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    PLUMB_FAIL(code, "%s line %lld: %s", t->name, (long long)line, text);
}

/* Writes what the node is to out, as the end of an error message, such as ", filter upper". Writes
 * "" for a kind of node that has no such text. */
static void describe(char *out, size_t size, const struct plumb_jnode *n)
{
    static const char *const op[] = {
        "+", "-", "*", "/", "//", "%", "**", "==", "!=", "<", "<=", ">", ">=", "in", "not in"};
    const int len = n->name ? (int)(n->name->n < 40 ? n->name->n : 40) : 0;
    const char *name = n->name ? n->name->at : "";
    out[0] = 0;
    switch (n->kind) {
    case JN_NAME:
        snprintf(out, size, ", name %.*s", len, name);
        break;
    case JN_ATTR:
        snprintf(out, size, ", attribute %.*s", len, name);
        break;
    case JN_ITEM:
    case JN_SLICE:
        snprintf(out, size, ", subscript [..]");
        break;
    case JN_FILTER:
        snprintf(out, size, ", filter %.*s", len, name);
        break;
    case JN_TEST:
        snprintf(out, size, ", test %.*s", len, name);
        break;
    case JN_BINARY:
    case JN_OPERAND:
        snprintf(out, size, ", operator %s", op[n->op]);
        break;
    case JN_CALL:
    case JN_CALL_BLOCK:
        if (n->a && n->a->name)
            snprintf(out, size, ", call of %.*s", (int)(n->a->name->n < 40 ? n->a->name->n : 40),
                     n->a->name->at);
        else
            snprintf(out, size, ", call");
        break;
    case JN_FOR:
        snprintf(out, size, ", for");
        break;
    case JN_SET:
    case JN_SET_BLOCK:
        snprintf(out, size, ", set");
        break;
    case JN_MACRO:
        snprintf(out, size, ", macro %.*s", len, name);
        break;
    case JN_GENERATION:
        snprintf(out, size, ", generation");
        break;
    default:
        break;
    }
}

plumb_status plumb_jinja_fail(struct plumb_jrun *r, plumb_status code, const char *fmt, ...)
{
    char text[1024], what[96] = "";
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (!r)
        PLUMB_FAIL(code, "%s", text);
    if (r->at)
        describe(what, sizeof(what), r->at);
    PLUMB_FAIL(code, "%s line %lld%s: %s", r->t->name, (long long)(r->at ? r->at->line : 1), what,
               text);
}

plumb_status plumb_jinja_work(struct plumb_jrun *r, int64_t n)
{
    r->steps += 1 + n / 16;
    if (r->steps > r->limit.steps)
        return plumb_jinja_fail(r, PLUMB_ERR_ARG, "the template exceeded the limit of %lld steps",
                                (long long)r->limit.steps);
    return PLUMB_OK;
}

/* Copies the source. Each line break becomes \n, and a line break at the end is removed. */
static plumb_status copy_source(struct plumb_jinja *t, const char *source, int64_t len)
{
    char *s;
    PLUMB_TRY(plumb_jarena_get(&t->arena, &s, len + 1));
    for (int64_t i = 0; i < len; i++) {
        if (source[i] == '\r' && i + 1 < len && source[i + 1] == '\n')
            continue;
        s[t->len++] = source[i] == '\r' ? '\n' : source[i];
    }
    if (t->len && s[t->len - 1] == '\n')
        t->len--;
    s[t->len] = 0;
    t->source = s;
    return PLUMB_OK;
}

static plumb_status compile(struct plumb_jinja *t, const char *source, int64_t len,
                            const char *name)
{
    jv copy;
    struct plumb_jtoken *token = NULL;
    int64_t n = 0;
    PLUMB_TRY(plumb_jv_text(&t->arena, &copy, name));
    t->name = copy.u.str->at;
    PLUMB_REQUIRE(len <= MAX_SOURCE, PLUMB_ERR_UNSUPPORTED,
                  "%s: a template of %lld bytes is longer than the limit of %lld", name,
                  (long long)len, MAX_SOURCE);
    const int64_t valid = plumb_utf8_valid(source, len);
    PLUMB_REQUIRE(valid == len, PLUMB_ERR_FORMAT, "%s: the template is not UTF-8 at byte %lld",
                  name, (long long)valid);
    PLUMB_TRY(copy_source(t, source, len));
    plumb_status st = plumb_jinja_lex(t, &token, &n);
    if (st == PLUMB_OK)
        st = plumb_jinja_parse(t, token);
    free(token);
    return st;
}

plumb_status plumb_jinja_compile(plumb_jinja **out, const char *source, int64_t len,
                                 const char *name)
{
    *out = NULL;
    struct plumb_jinja *t = calloc(1, sizeof(*t));
    PLUMB_REQUIRE(t, PLUMB_ERR_NOMEM, "cannot create the template %s", name);
    const plumb_status st = compile(t, source, len, name);
    if (st != PLUMB_OK)
        plumb_jinja_free(&t);
    *out = t;
    return st;
}

void plumb_jinja_free(plumb_jinja **t)
{
    if (*t)
        plumb_jarena_fini(&(*t)->arena);
    free(*t);
    *t = NULL;
}

bool plumb_jinja_has_generation(const plumb_jinja *t)
{
    return t->generation;
}

const char *plumb_jinja_source(const plumb_jinja *t, int64_t *len)
{
    *len = t->len;
    return t->source;
}

bool plumb_jinja_mentions(const plumb_jinja *t, const char *text)
{
    return plumb_jstr_find(t->source, t->len, text, (int64_t)strlen(text)) >= 0;
}

plumb_status plumb_jinja_vars_create(plumb_jinja_vars **out)
{
    *out = calloc(1, sizeof(**out));
    PLUMB_REQUIRE(*out, PLUMB_ERR_NOMEM, "cannot create the variables of a template");
    return PLUMB_OK;
}

void plumb_jinja_vars_free(plumb_jinja_vars **v)
{
    if (*v)
        plumb_jarena_fini(&(*v)->arena);
    free(*v);
    *v = NULL;
}

static plumb_status set(plumb_jinja_vars *v, const char *name, jv value)
{
    jv key;
    PLUMB_TRY(plumb_jv_text(&v->arena, &key, name));
    return plumb_jmap_set(&v->arena, &v->map, key, value);
}

plumb_status plumb_jinja_set_json(plumb_jinja_vars *v, const char *name, const plumb_json *value)
{
    jv copy;
    PLUMB_TRY(plumb_jv_from_json(&v->arena, &copy, value));
    return set(v, name, copy);
}

plumb_status plumb_jinja_set_string(plumb_jinja_vars *v, const char *name, const char *text,
                                    int64_t len)
{
    jv copy;
    const int64_t valid = plumb_utf8_valid(text, len);
    PLUMB_REQUIRE(valid == len, PLUMB_ERR_FORMAT,
                  "the template variable %s is not UTF-8 at byte %lld", name, (long long)valid);
    PLUMB_TRY(plumb_jv_str(&v->arena, &copy, text, len));
    return set(v, name, copy);
}

plumb_status plumb_jinja_set_bool(plumb_jinja_vars *v, const char *name, bool value)
{
    return set(v, name, plumb_jv_bool(value));
}

plumb_status plumb_jinja_set_none(plumb_jinja_vars *v, const char *name)
{
    return set(v, name, plumb_jv_none());
}

void plumb_jinja_spans_fini(struct plumb_jinja_spans *s)
{
    free(s->span);
    *s = (struct plumb_jinja_spans){0};
}

static int64_t or_default(int64_t wanted, int64_t otherwise)
{
    return wanted > 0 ? wanted : otherwise;
}

plumb_status plumb_jinja_render(const plumb_jinja *t, struct plumb_buf *out,
                                struct plumb_jinja_spans *spans, const plumb_jinja_vars *vars,
                                const struct plumb_jinja_limits *limits)
{
    const struct plumb_jinja_limits none = {0}, *want = limits ? limits : &none;
    struct plumb_jrun r = {
        .t = t,
        .vars = vars,
        .out = out,
        .root = out,
        .start = out->len,
        .spans = spans,
        .limit = {.steps = or_default(want->steps, DEFAULT_STEPS),
                  .depth = or_default(want->depth, DEFAULT_DEPTH),
                  .output = or_default(want->output, DEFAULT_OUTPUT),
                  .memory = or_default(want->memory, DEFAULT_MEMORY)},
    };
    r.arena.limit = r.limit.memory;
    r.arena.run = &r;
    if (spans)
        spans->n = 0;
    plumb_status st = plumb_jscope_new(&r, &r.top, NULL);
    r.scope = r.top;
    if (st == PLUMB_OK)
        st = plumb_jinja_exec(&r, &t->body);
    plumb_jarena_fini(&r.arena);
    if (st != PLUMB_OK) {
        out->len = r.start;
        if (out->data)
            out->data[out->len] = 0;
        if (spans)
            spans->n = 0;
    }
    return st;
}
