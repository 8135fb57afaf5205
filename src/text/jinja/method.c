/* method.c - lists the methods of each type, and implements those of lists, tuples and dicts.
 * Layer 3. Private to text/jinja. */
#include "text/jinja/run.h"

/* All public attributes of the types in Python 3.11. A use of one that plumb does not implement is
 * refused. */
static const char *const of_str[] = {
    "capitalize",   "casefold",    "center",    "count",      "encode",       "endswith",
    "expandtabs",   "find",        "format",    "format_map", "index",        "isalnum",
    "isalpha",      "isascii",     "isdecimal", "isdigit",    "isidentifier", "islower",
    "isnumeric",    "isprintable", "isspace",   "istitle",    "isupper",      "join",
    "ljust",        "lower",       "lstrip",    "maketrans",  "partition",    "removeprefix",
    "removesuffix", "replace",     "rfind",     "rindex",     "rjust",        "rpartition",
    "rsplit",       "rstrip",      "split",     "splitlines", "startswith",   "strip",
    "swapcase",     "title",       "translate", "upper",      "zfill",        NULL};
static const char *const of_list[] = {"append", "clear", "copy",   "count",   "extend", "index",
                                      "insert", "pop",   "remove", "reverse", "sort",   NULL};
static const char *const of_tuple[] = {"count", "index", NULL};
static const char *const of_range[] = {"count", "index", "start", "step", "stop", NULL};
static const char *const of_dict[] = {"clear", "copy",    "fromkeys",   "get",    "items",  "keys",
                                      "pop",   "popitem", "setdefault", "update", "values", NULL};
static const char *const of_view[] = {"isdisjoint", "mapping", NULL};
static const char *const of_int[] = {
    "as_integer_ratio", "bit_count", "bit_length", "conjugate", "denominator", "from_bytes", "imag",
    "numerator",        "real",      "to_bytes",   NULL};
static const char *const of_float[] = {"as_integer_ratio", "conjugate", "fromhex", "hex", "imag",
                                       "is_integer",       "real",      NULL};
static const char *const of_none[] = {NULL};

bool plumb_jinja_has_method(jv v, const struct plumb_jstr *name, const char **canonical)
{
    const char *const *list = of_none;
    switch (v.kind) {
    case JK_STR:
        list = of_str;
        break;
    case JK_LIST:
        list = of_list;
        break;
    case JK_TUPLE:
        list = of_tuple;
        break;
    case JK_RANGE:
        list = of_range;
        break;
    case JK_DICT:
        list = of_dict;
        break;
    case JK_VIEW:
        list = of_view;
        break;
    case JK_BOOL:
    case JK_INT:
        list = of_int;
        break;
    case JK_FLOAT:
        list = of_float;
        break;
    default:
        break;
    }
    for (; *list; list++)
        if (plumb_jstr_is(name, *list)) {
            *canonical = *list;
            return true;
        }
    return false;
}

bool plumb_jinja_mutates(jv v, const char *name)
{
    static const char *const lists[] = {"append", "clear", "pop",    "reverse",
                                        "insert", "sort",  "extend", "remove"};
    static const char *const dicts[] = {"clear", "pop", "popitem", "setdefault", "update"};
    for (int i = 0; v.kind == JK_LIST && i < 8; i++)
        if (strcmp(name, lists[i]) == 0)
            return true;
    for (int i = 0; v.kind == JK_DICT && i < 5; i++)
        if (strcmp(name, dicts[i]) == 0)
            return true;
    return false;
}

static plumb_status dict_view(struct plumb_jrun *r, jv *out, const struct plumb_jmap *m,
                              const char *name)
{
    const bool keys = *name == 'k', values = *name == 'v';
    struct plumb_jseq *s, *pair;
    PLUMB_TRY(plumb_jinja_work(r, m->n));
    PLUMB_TRY(plumb_jseq_new(&r->arena, &s, m->n));
    for (int64_t i = 0; i < m->n; i++) {
        const struct plumb_jentry *e = &m->at[i];
        jv v = keys ? e->key : e->value;
        if (!keys && !values) {
            PLUMB_TRY(plumb_jseq_new(&r->arena, &pair, 2));
            PLUMB_TRY(plumb_jseq_add(&r->arena, pair, e->key));
            PLUMB_TRY(plumb_jseq_add(&r->arena, pair, e->value));
            v = plumb_jv_of(JK_TUPLE, pair);
        }
        PLUMB_TRY(plumb_jseq_add(&r->arena, s, v));
    }
    s->what = keys ? "dict_keys" : values ? "dict_values" : "dict_items";
    *out = plumb_jv_of(JK_VIEW, s);
    return PLUMB_OK;
}

static plumb_status dict_method(struct plumb_jrun *r, jv *out, const struct plumb_jmap *m,
                                const char *name, const struct plumb_jargs *args)
{
    jv v[2];
    bool got[2];
    if (strcmp(name, "get") == 0) {
        if (args->n_kw)
            JFAIL(r, "dict.get takes no keyword argument");
        PLUMB_TRY(plumb_jinja_spread(r, args, "key,default=", v, got));
        if (!plumb_jv_hashable(v[0]))
            JFAIL(r, "a %s cannot be the key of a dict", plumb_jv_type(v[0]));
        const jv *found = plumb_jmap_get(m, v[0]);
        *out = found ? *found : got[1] ? v[1] : plumb_jv_none();
        return PLUMB_OK;
    }
    if (strcmp(name, "fromkeys") == 0)
        JREFUSE(r, "dict.fromkeys is not supported");
    if (args->n || args->n_kw)
        JFAIL(r, "dict.%s takes no argument", name);
    if (strcmp(name, "copy") != 0)
        return dict_view(r, out, m, name);
    struct plumb_jmap *copy;
    PLUMB_TRY(plumb_jmap_new(&r->arena, &copy, m->n));
    for (int64_t i = 0; i < m->n; i++)
        PLUMB_TRY(plumb_jmap_set(&r->arena, copy, m->at[i].key, m->at[i].value));
    *out = (jv){.kind = JK_DICT, .u.map = copy};
    return PLUMB_OK;
}

static plumb_status seq_method(struct plumb_jrun *r, jv *out, jv self, const char *name,
                               const struct plumb_jargs *args)
{
    const struct plumb_jseq *s = self.u.seq;
    if (strcmp(name, "copy") == 0) {
        struct plumb_jseq *copy;
        if (args->n || args->n_kw)
            JFAIL(r, "list.copy takes no argument");
        PLUMB_TRY(plumb_jseq_new(&r->arena, &copy, s->n));
        for (int64_t i = 0; i < s->n; i++)
            PLUMB_TRY(plumb_jseq_add(&r->arena, copy, s->at[i]));
        *out = plumb_jv_of(JK_LIST, copy);
        return PLUMB_OK;
    }
    if (args->n != 1 || args->n_kw)
        JREFUSE(r, "%s.%s is supported with one argument only", plumb_jv_type(self), name);
    int64_t count = 0, first = -1;
    for (int64_t i = 0; i < s->n; i++) {
        PLUMB_TRY(plumb_jinja_work(r, 0));
        if (!plumb_jv_equal(s->at[i], args->at[0]))
            continue;
        first = first < 0 ? i : first;
        count++;
    }
    if (strcmp(name, "index") == 0 && first < 0)
        JFAIL(r, "the value is not in the %s", plumb_jv_type(self));
    *out = plumb_jv_int(strcmp(name, "index") == 0 ? first : count);
    return PLUMB_OK;
}

plumb_status plumb_jinja_method(struct plumb_jrun *r, jv *out, const struct plumb_jmethod *m,
                                const struct plumb_jargs *args)
{
    const jv self = m->self;
    if (self.kind == JK_LOOP)
        return plumb_jloop_call(r, out, self, m->name, args);
    if (self.kind == JK_STR)
        return plumb_jstr_method(r, out, self, m->name, args);
    if (self.kind == JK_DICT)
        return dict_method(r, out, self.u.map, m->name, args);
    if (self.kind == JK_LIST || self.kind == JK_TUPLE)
        return seq_method(r, out, self, m->name, args);
    JREFUSE(r, "the attribute %s of a %s is not supported", m->name, plumb_jv_type(self));
}
