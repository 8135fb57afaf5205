/* value.c - memory, construction, equality and truth of a template's values.
 * Layer 3. Private to text/jinja. */
#include "text/jinja/value.h"

#include <math.h>
#include <stdlib.h>

#include "base/num.h"
#include "text/jinja/run.h"

#define CHUNK 16384

struct plumb_jchunk {
    struct plumb_jchunk *next;
    int64_t used, size;
    _Alignas(16) char at[];
};

plumb_status plumb_jarena_get(struct plumb_jarena *a, void *out, int64_t n)
{
    void **p = out;
    const int64_t size = n + (-n & 15);
    if (a->limit && (n > a->limit || a->used > a->limit - size))
        return plumb_jinja_fail(a->run, PLUMB_ERR_ARG,
                                "the values of the template exceeded the limit of %lld bytes of "
                                "memory",
                                (long long)a->limit);
    if (!a->chunk || a->chunk->size - a->chunk->used < size) {
        /* a large value gets its own chunk, so the current chunk stays in use */
        const bool large = size > CHUNK / 4;
        const int64_t room = large ? size : CHUNK;
        struct plumb_jchunk *c = calloc(1, sizeof(*c) + (size_t)room);
        PLUMB_REQUIRE(c, PLUMB_ERR_NOMEM, "cannot store %lld bytes of the values of a template",
                      (long long)room);
        c->size = room;
        if (large && a->chunk) {
            c->next = a->chunk->next;
            a->chunk->next = c;
            c->used = size;
            a->used += size;
            *p = c->at;
            return PLUMB_OK;
        }
        c->next = a->chunk;
        a->chunk = c;
    }
    *p = a->chunk->at + a->chunk->used;
    a->chunk->used += size;
    a->used += size;
    return PLUMB_OK;
}

void plumb_jarena_fini(struct plumb_jarena *a)
{
    while (a->chunk) {
        struct plumb_jchunk *next = a->chunk->next;
        free(a->chunk);
        a->chunk = next;
    }
    a->used = 0;
}

int64_t plumb_jstr_count(const char *text, int64_t n)
{
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++)
        count += ((unsigned char)text[i] & 0xc0) != 0x80;
    return count;
}

plumb_status plumb_jv_part(struct plumb_jarena *a, jv *out, const char *text, int64_t n)
{
    struct plumb_jstr *s;
    PLUMB_TRY(plumb_jarena_get(a, &s, sizeof(*s)));
    s->at = text ? text : "";
    s->n = n;
    s->chars = plumb_jstr_count(text, n);
    *out = (jv){.kind = JK_STR, .u.str = s};
    return PLUMB_OK;
}

plumb_status plumb_jv_str(struct plumb_jarena *a, jv *out, const char *text, int64_t n)
{
    char *copy;
    PLUMB_TRY(plumb_jarena_get(a, &copy, n + 1));
    if (n)
        memcpy(copy, text, (size_t)n);
    return plumb_jv_part(a, out, copy, n);
}

plumb_status plumb_jv_text(struct plumb_jarena *a, jv *out, const char *text)
{
    return plumb_jv_str(a, out, text, (int64_t)strlen(text));
}

plumb_status plumb_jseq_new(struct plumb_jarena *a, struct plumb_jseq **out, int64_t cap)
{
    PLUMB_TRY(plumb_jarena_get(a, out, sizeof(**out)));
    if (cap > 0)
        PLUMB_TRY(plumb_jarena_get(a, &(*out)->at, cap * (int64_t)sizeof(jv)));
    (*out)->cap = cap > 0 ? cap : 0;
    return PLUMB_OK;
}

static plumb_status deepen(struct plumb_jarena *a, int64_t *depth, jv inner)
{
    int64_t d = 1;
    if (inner.kind >= JK_LIST && inner.kind <= JK_ITER && inner.kind != JK_DICT)
        d += inner.u.seq->depth;
    else if (inner.kind == JK_DICT)
        d += inner.u.map->depth;
    *depth = d > *depth ? d : *depth;
    if (d > PLUMB_JV_DEPTH)
        return plumb_jinja_fail(a->run, PLUMB_ERR_ARG,
                                "a value exceeded the limit of %d levels of nesting",
                                PLUMB_JV_DEPTH);
    return PLUMB_OK;
}

plumb_status plumb_jseq_add(struct plumb_jarena *a, struct plumb_jseq *s, jv v)
{
    PLUMB_TRY(deepen(a, &s->depth, v));
    if (s->n == s->cap) {
        const int64_t cap = s->cap ? 2 * s->cap : 4;
        jv *at;
        PLUMB_TRY(plumb_jarena_get(a, &at, cap * (int64_t)sizeof(jv)));
        if (s->n)
            memcpy(at, s->at, (size_t)s->n * sizeof(jv));
        s->at = at;
        s->cap = cap;
    }
    s->at[s->n++] = v;
    return PLUMB_OK;
}

plumb_status plumb_jmap_new(struct plumb_jarena *a, struct plumb_jmap **out, int64_t cap)
{
    PLUMB_TRY(plumb_jarena_get(a, out, sizeof(**out)));
    if (cap > 0)
        PLUMB_TRY(plumb_jarena_get(a, &(*out)->at, cap * (int64_t)sizeof(struct plumb_jentry)));
    (*out)->cap = cap > 0 ? cap : 0;
    return PLUMB_OK;
}

/* Returns the FNV-1a hash of n bytes; h is the hash of the bytes before them, or the seed. */
static uint64_t hash_bytes(const void *bytes, int64_t n, uint64_t h)
{
    const unsigned char *p = bytes;
    for (int64_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3ull;
    return h;
}

/* Returns the hash of a value. Equal values, such as 1, 1.0 and True, have equal hashes. */
static uint64_t hash(jv v)
{
    const uint64_t seed = 0xcbf29ce484222325ull;
    uint64_t h = seed;
    switch (v.kind) {
    case JK_STR:
        return hash_bytes(v.u.str->at, v.u.str->n, seed);
    case JK_BOOL:
    case JK_INT:
    case JK_FLOAT: {
        const double d = plumb_jv_as_float(v) + 0.0; /* adding 0.0 turns -0.0 into 0.0 */
        return hash_bytes(&d, sizeof(d), seed + 1);
    }
    case JK_TUPLE:
        for (int64_t i = 0; i < v.u.seq->n; i++)
            h = h * 31 + hash(v.u.seq->at[i]);
        return h;
    default:
        return seed + (uint64_t)v.kind;
    }
}

#define SMALL 8 /* larger maps have a hash table; up to this size the search is linear */

static jv *find(const struct plumb_jmap *m, jv key, uint64_t h)
{
    if (m->slots) {
        for (int64_t i = (int64_t)(h >> 7) & (m->slots - 1); m->slot[i];
             i = (i + 1) & (m->slots - 1)) {
            struct plumb_jentry *e = &m->at[m->slot[i] - 1];
            if (e->hash == h && plumb_jv_equal(e->key, key))
                return &e->value;
        }
        return NULL;
    }
    for (int64_t i = 0; i < m->n; i++)
        if (m->at[i].hash == h && plumb_jv_equal(m->at[i].key, key))
            return &m->at[i].value;
    return NULL;
}

static void put_slot(struct plumb_jmap *m, int64_t entry)
{
    int64_t i = (int64_t)(m->at[entry].hash >> 7) & (m->slots - 1);
    while (m->slot[i])
        i = (i + 1) & (m->slots - 1);
    m->slot[i] = (int32_t)(entry + 1);
}

/* Adds the entries with index `from` and above to the hash table, which grows if necessary. */
static plumb_status index_from(struct plumb_jarena *a, struct plumb_jmap *m, int64_t from)
{
    if (m->n <= SMALL)
        return PLUMB_OK;
    if (m->n > INT32_MAX / 8)
        return plumb_jinja_fail(a->run, PLUMB_ERR_ARG, "a dict of %lld entries is too large",
                                (long long)m->n);
    if (2 * m->n > m->slots) {
        const int64_t slots = plumb_pow2_ceil(4 * m->n);
        PLUMB_TRY(plumb_jarena_get(a, &m->slot, slots * (int64_t)sizeof(*m->slot)));
        m->slots = slots;
        from = 0;
    }
    for (int64_t i = from; i < m->n; i++)
        put_slot(m, i);
    return PLUMB_OK;
}

plumb_status plumb_jmap_set(struct plumb_jarena *a, struct plumb_jmap *m, jv key, jv value)
{
    const uint64_t h = hash(key);
    PLUMB_TRY(deepen(a, &m->depth, value));
    jv *old = find(m, key, h);
    if (old) {
        *old = value;
        return PLUMB_OK;
    }
    if (m->n == m->cap) {
        const int64_t cap = m->cap ? 2 * m->cap : 4;
        struct plumb_jentry *at;
        PLUMB_TRY(plumb_jarena_get(a, &at, cap * (int64_t)sizeof(*at)));
        if (m->n)
            memcpy(at, m->at, (size_t)m->n * sizeof(*at));
        m->at = at;
        m->cap = cap;
    }
    m->at[m->n++] = (struct plumb_jentry){.key = key, .value = value, .hash = h};
    return index_from(a, m, m->n - 1);
}

jv *plumb_jmap_get(const struct plumb_jmap *m, jv key)
{
    return find(m, key, hash(key));
}

jv *plumb_jmap_get_text(const struct plumb_jmap *m, const char *text, int64_t n)
{
    const struct plumb_jstr s = {.at = text, .n = n};
    return plumb_jmap_get(m, (jv){.kind = JK_STR, .u.str = &s});
}

/* The depth of the recursion is limited, because the JSON reader limits the nesting depth. */
plumb_status plumb_jv_from_json(struct plumb_jarena *a, jv *out, const plumb_json *v)
{
    const int64_t n = plumb_json_count(v);
    switch (plumb_json_type_of(v)) {
    case PLUMB_JSON_NULL:
        *out = plumb_jv_none();
        return PLUMB_OK;
    case PLUMB_JSON_BOOL:
        *out = plumb_jv_bool(plumb_json_bool(v, false));
        return PLUMB_OK;
    case PLUMB_JSON_INT:
        *out = plumb_jv_int(plumb_json_int(v, 0));
        return PLUMB_OK;
    case PLUMB_JSON_REAL:
        *out = plumb_jv_float(plumb_json_real(v, 0));
        return PLUMB_OK;
    case PLUMB_JSON_STRING:
        return plumb_jv_str(a, out, plumb_json_string(v, ""), plumb_json_string_len(v));
    case PLUMB_JSON_ARRAY: {
        struct plumb_jseq *s;
        PLUMB_TRY(plumb_jseq_new(a, &s, n));
        for (int64_t i = 0; i < n; i++) {
            jv item;
            PLUMB_TRY(plumb_jv_from_json(a, &item, plumb_json_at(v, i)));
            PLUMB_TRY(plumb_jseq_add(a, s, item));
        }
        *out = plumb_jv_of(JK_LIST, s);
        return PLUMB_OK;
    }
    case PLUMB_JSON_OBJECT:
        break;
    }
    struct plumb_jmap *m;
    PLUMB_TRY(plumb_jmap_new(a, &m, n));
    for (; m->n < n; m->n++) { /* no key occurs twice, because the JSON reader refuses that */
        const char *key;
        const plumb_json *value;
        struct plumb_jentry *e = &m->at[m->n];
        PLUMB_TRY(plumb_json_member_at(v, m->n, &key, &value));
        PLUMB_TRY(plumb_jv_text(a, &e->key, key));
        PLUMB_TRY(plumb_jv_from_json(a, &e->value, value));
        PLUMB_TRY(deepen(a, &m->depth, e->value));
        e->hash = hash(e->key);
    }
    *out = (jv){.kind = JK_DICT, .u.map = m};
    return index_from(a, m, 0);
}

bool plumb_jv_hashable(jv v)
{
    if (v.kind == JK_TUPLE)
        for (int64_t i = 0; i < v.u.seq->n; i++)
            if (!plumb_jv_hashable(v.u.seq->at[i]))
                return false;
    return v.kind != JK_LIST && v.kind != JK_DICT && v.kind != JK_VIEW;
}

static bool equal_seq(const struct plumb_jseq *a, const struct plumb_jseq *b)
{
    if (a->n != b->n)
        return false;
    for (int64_t i = 0; i < a->n; i++)
        if (!plumb_jv_equal(a->at[i], b->at[i]))
            return false;
    return true;
}

/* Returns true if both views are keys, or both are items, and have the same elements in any order.
 * A view of values equals only itself. */
static bool equal_view(const struct plumb_jseq *a, const struct plumb_jseq *b)
{
    if (a == b)
        return true;
    if (a->n != b->n || strcmp(a->what, b->what) != 0 || strcmp(a->what, "dict_values") == 0)
        return false;
    for (int64_t i = 0; i < a->n; i++) {
        int64_t k = 0;
        while (k < b->n && !plumb_jv_equal(a->at[i], b->at[k]))
            k++;
        if (k == b->n)
            return false;
    }
    return true;
}

static bool equal_map(const struct plumb_jmap *a, const struct plumb_jmap *b)
{
    if (a->n != b->n)
        return false;
    for (int64_t i = 0; i < a->n; i++) {
        const jv *other = find(b, a->at[i].key, a->at[i].hash);
        if (!other || !plumb_jv_equal(a->at[i].value, *other))
            return false;
    }
    return true;
}

bool plumb_jv_equal(jv a, jv b)
{
    if (plumb_jv_is_int(a) && plumb_jv_is_int(b))
        return plumb_jv_as_int(a) == plumb_jv_as_int(b);
    if (plumb_jv_is_number(a) && plumb_jv_is_number(b))
        return plumb_jv_as_float(a) == plumb_jv_as_float(b);
    if (a.kind != b.kind)
        return false;
    switch (a.kind) {
    case JK_UNDEFINED:
    case JK_NONE:
        return true;
    case JK_STR:
        return a.u.str->n == b.u.str->n &&
               memcmp(a.u.str->at, b.u.str->at, (size_t)a.u.str->n) == 0;
    case JK_LIST:
    case JK_TUPLE:
    case JK_RANGE:
        return equal_seq(a.u.seq, b.u.seq);
    case JK_DICT:
        return equal_map(a.u.map, b.u.map);
    case JK_VIEW:
        return equal_view(a.u.seq, b.u.seq);
    case JK_FUNC:
        return a.u.i == b.u.i;
    case JK_METHOD:
        return a.u.method->name == b.u.method->name &&
               a.u.method->self.kind == b.u.method->self.kind &&
               a.u.method->self.u.seq == b.u.method->self.u.seq;
    default:
        return a.u.seq == b.u.seq; /* identity: an iterator equals only itself */
    }
}

bool plumb_jv_true(jv v)
{
    switch (v.kind) {
    case JK_UNDEFINED:
    case JK_NONE:
        return false;
    case JK_BOOL:
        return v.u.b;
    case JK_INT:
        return v.u.i != 0;
    case JK_FLOAT:
        return v.u.d != 0;
    case JK_STR:
        return v.u.str->n > 0;
    case JK_LIST:
    case JK_TUPLE:
    case JK_VIEW:
    case JK_RANGE:
        return v.u.seq->n > 0;
    case JK_DICT:
        return v.u.map->n > 0;
    default:
        return true;
    }
}

const char *plumb_jv_type(jv v)
{
    switch (v.kind) {
    case JK_UNDEFINED:
        return "Undefined";
    case JK_NONE:
        return "NoneType";
    case JK_BOOL:
        return "bool";
    case JK_INT:
        return "int";
    case JK_FLOAT:
        return "float";
    case JK_STR:
        return v.u.str->markup ? "Markup" : "str";
    case JK_LIST:
        return "list";
    case JK_TUPLE:
        return "tuple";
    case JK_DICT:
        return "dict";
    case JK_VIEW:
    case JK_ITER:
        return v.u.seq->what;
    case JK_RANGE:
        return "range";
    case JK_SPACE:
        return "Namespace";
    case JK_LOOP:
        return "LoopContext";
    case JK_MACRO:
        return "Macro";
    case JK_FUNC:
        return "function";
    case JK_METHOD:
        break;
    }
    return "method";
}
