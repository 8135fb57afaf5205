/* json.c - parses JSON with jansson and copies the result into a tree in which members are found
 * fast.
 * Layer 1. Includes json.h, file.h, base/, jansson, xxhash.
 *
 * jansson checks the text and keeps the order of members, but reaches the i-th member only by
 * walking over all members before it, and a vocabulary is one object of 150,000 members. Therefore
 * the tree is copied once into memory blocks that the root owns. There, members and elements are
 * arrays, and an object of more than SMALL members also has a hash table from key to index. */
#include "io/json.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/num.h"
#include "io/file.h"

enum { SMALL = 8, BLOCK = 16 * 1024 };

struct plumb_json {
    enum plumb_json_type type;
    int64_t count; /* number of elements or members, or bytes of a string */
    union {
        bool yes;
        int64_t integer;
        double real;
        const char *text;
        struct plumb_json *item; /* (count,) elements of an array, or values of an object */
    };
    const char **key; /* (count,) keys of an object */
    /* Open-addressing hash table of an object: each slot holds 1 + index of a member, or 0 if the
     * slot is free. NULL for an object of at most SMALL members. */
    const uint32_t *slot;
    uint32_t slot_mask;
};

struct block {
    struct block *next;
    int64_t used, cap;
    _Alignas(16) unsigned char bytes[];
};

struct root {
    struct plumb_json node; /* must be first: a pointer to the root node is cast to struct root */
    struct block *blocks;
    /* true if load() has read every number of the text as a double */
    bool wide;
};

/* 2^53: a double holds every integer up to this one exactly. */
#define EXACT_WHOLE 9007199254740992.0

/* Returns `bytes` bytes of 16-byte aligned memory that are freed together with the root, or NULL if
 * the allocation fails. */
static void *take(struct root *root, int64_t bytes)
{
    int64_t need;
    if (!plumb_add(&need, bytes, 15))
        return NULL;
    need &= ~(int64_t)15;
    struct block *b = root->blocks;
    if (!b || b->cap - b->used < need) {
        const int64_t cap = plumb_max_i64(need, BLOCK);
        b = malloc(sizeof(*b) + (size_t)cap);
        if (!b)
            return NULL;
        *b = (struct block){.next = root->blocks, .cap = cap};
        root->blocks = b;
    }
    void *at = b->bytes + b->used;
    b->used += need;
    return at;
}

static const char *take_text(struct root *root, const char *text, size_t len)
{
    char *copy = take(root, (int64_t)len + 1);
    if (copy) {
        memcpy(copy, text, len);
        copy[len] = '\0';
    }
    return copy;
}

static bool index_members(struct root *root, struct plumb_json *v)
{
    const uint32_t slots = (uint32_t)plumb_pow2_ceil(2 * v->count);
    uint32_t *slot = take(root, (int64_t)slots * (int64_t)sizeof(*slot));
    if (!slot)
        return false;
    memset(slot, 0, slots * sizeof(*slot));
    for (int64_t i = 0; i < v->count; i++) {
        uint32_t at = (uint32_t)XXH3_64bits(v->key[i], strlen(v->key[i])) & (slots - 1);
        while (slot[at])
            at = (at + 1) & (slots - 1);
        slot[at] = (uint32_t)(i + 1);
    }
    v->slot = slot;
    v->slot_mask = slots - 1;
    return true;
}

/* Copies a jansson tree into *v. Returns false if an allocation fails. The recursion is limited by
 * jansson's own limit of 2048 levels. */
static bool copy(struct root *root, struct plumb_json *v, json_t *from)
{
    *v = (struct plumb_json){.type = PLUMB_JSON_NULL};
    if (json_is_boolean(from)) {
        v->type = PLUMB_JSON_BOOL;
        v->yes = json_is_true(from);
    } else if (json_is_integer(from)) {
        v->type = PLUMB_JSON_INT;
        v->integer = json_integer_value(from);
    } else if (json_is_real(from)) {
        const double x = json_real_value(from);
        const bool whole = root->wide && fabs(x) <= EXACT_WHOLE && x == trunc(x);
        v->type = whole ? PLUMB_JSON_INT : PLUMB_JSON_REAL;
        if (whole)
            v->integer = (int64_t)x;
        else
            v->real = x;
    } else if (json_is_string(from)) {
        v->type = PLUMB_JSON_STRING;
        v->count = (int64_t)json_string_length(from);
        v->text = take_text(root, json_string_value(from), json_string_length(from));
        return v->text != NULL;
    } else if (json_is_array(from)) {
        v->type = PLUMB_JSON_ARRAY;
        v->count = (int64_t)json_array_size(from);
        v->item = take(root, v->count * (int64_t)sizeof(*v->item));
        for (int64_t i = 0; v->item && i < v->count; i++)
            if (!copy(root, &v->item[i], json_array_get(from, (size_t)i)))
                return false;
        return v->item != NULL;
    } else if (json_is_object(from)) {
        v->type = PLUMB_JSON_OBJECT;
        v->count = (int64_t)json_object_size(from);
        v->item = take(root, v->count * (int64_t)sizeof(*v->item));
        v->key = take(root, v->count * (int64_t)sizeof(*v->key));
        if (!v->item || !v->key)
            return false;
        int64_t i = 0;
        for (void *at = json_object_iter(from); at; at = json_object_iter_next(from, at), i++) {
            v->key[i] = take_text(root, json_object_iter_key(at), json_object_iter_key_len(at));
            if (!v->key[i] || !copy(root, &v->item[i], json_object_iter_value(at)))
                return false;
        }
        return v->count <= SMALL || index_members(root, v);
    }
    return true;
}

/* Replaces control bytes by spaces. jansson's message quotes the text around an error, and control
 * bytes of a file must not be sent to a terminal. */
static const char *printable(char *text)
{
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = ' ';
    return text;
}

/* Parses with jansson. If a whole number does not fit int64, the text is parsed again with every
 * number as a double, and *wide becomes true. transformers writes such a number,
 * 1000000000000000019884624838656, for "no limit" in model_max_length. */
static json_t *load(const char *text, int64_t len, bool *wide, json_error_t *e)
{
    const size_t flags = JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES | JSON_DECODE_ANY;
    json_t *tree = json_loadb(text, (size_t)len, flags, e);
    *wide = !tree && json_error_code(e) == json_error_numeric_overflow;
    return *wide ? json_loadb(text, (size_t)len, flags | JSON_DECODE_INT_AS_REAL, e) : tree;
}

static plumb_status parse(plumb_json **out, const char *text, int64_t len, const char *where,
                          bool is_file)
{
    *out = NULL;
    PLUMB_REQUIRE(len >= 0 && len <= INT32_MAX, PLUMB_ERR_UNSUPPORTED,
                  "%s: the JSON text has %" PRId64 " bytes, but at most %d are allowed", where, len,
                  INT32_MAX);
    /* jansson treats a NUL byte after a number as the end of the text, so fail for any NUL byte. */
    const char *nul = len ? memchr(text, '\0', (size_t)len) : NULL;
    PLUMB_REQUIRE(!nul, PLUMB_ERR_FORMAT, "%s: JSON: a NUL byte at byte %" PRId64, where,
                  (int64_t)(nul - text));
    json_error_t e;
    bool wide;
    json_t *tree = load(text ? text : "", len, &wide, &e);
    if (!tree) {
        const plumb_status st =
            json_error_code(&e) == json_error_out_of_memory ? PLUMB_ERR_NOMEM : PLUMB_ERR_FORMAT;
        if (is_file)
            PLUMB_FAIL(st, "%s:%d:%d: JSON: %s", where, e.line, e.column, printable(e.text));
        if (memchr(text ? text : "", '\n', (size_t)len))
            PLUMB_FAIL(st, "%s: line %d, column %d: JSON: %s", where, e.line, e.column,
                       printable(e.text));
        PLUMB_FAIL(st, "%s: column %d: JSON: %s", where, e.column, printable(e.text));
    }
    struct root *root = calloc(1, sizeof(*root));
    if (root)
        root->wide = wide;
    const bool ok = root && copy(root, &root->node, tree);
    json_decref(tree);
    plumb_json *result = root ? &root->node : NULL;
    if (!ok) {
        plumb_json_free(&result);
        PLUMB_FAIL(PLUMB_ERR_NOMEM, "%s: cannot store JSON of %" PRId64 " bytes", where, len);
    }
    *out = result;
    return PLUMB_OK;
}

plumb_status plumb_json_parse(plumb_json **out, const char *text, int64_t len, const char *where)
{
    PLUMB_TRY(parse(out, text, len, where, false));
    return PLUMB_OK;
}

plumb_status plumb_json_read_file(plumb_json **out, const char *path)
{
    *out = NULL;
    struct plumb_buf text = {0};
    plumb_status st;
    PLUMB_TRY_GOTO(st, plumb_file_read_text(&text, path, "a JSON file"), fail);
    PLUMB_TRY_GOTO(st, parse(out, text.data, text.len, path, true), fail);
fail:
    plumb_buf_fini(&text);
    return st;
}

void plumb_json_free(plumb_json **v)
{
    if (!v || !*v)
        return;
    struct root *root = (struct root *)*v;
    for (struct block *b = root->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(root);
    *v = NULL;
}

enum plumb_json_type plumb_json_type_of(const plumb_json *v)
{
    return v ? v->type : PLUMB_JSON_NULL;
}

const char *plumb_json_type_name(enum plumb_json_type t)
{
    static const char *const name[] = {"null", "bool", "int", "real", "string", "array", "object"};
    return name[t];
}

const plumb_json *plumb_json_member(const plumb_json *v, const char *key)
{
    if (plumb_json_type_of(v) != PLUMB_JSON_OBJECT)
        return NULL;
    if (!v->slot) {
        for (int64_t i = 0; i < v->count; i++)
            if (!strcmp(v->key[i], key))
                return &v->item[i];
        return NULL;
    }
    uint32_t at = (uint32_t)XXH3_64bits(key, strlen(key)) & v->slot_mask;
    for (; v->slot[at]; at = (at + 1) & v->slot_mask)
        if (!strcmp(v->key[v->slot[at] - 1], key))
            return &v->item[v->slot[at] - 1];
    return NULL;
}

const plumb_json *plumb_json_get(const plumb_json *v, const char *key)
{
    const plumb_json *m = plumb_json_member(v, key);
    return plumb_json_type_of(m) == PLUMB_JSON_NULL ? NULL : m;
}

int64_t plumb_json_count(const plumb_json *v)
{
    const enum plumb_json_type t = plumb_json_type_of(v);
    return t == PLUMB_JSON_ARRAY || t == PLUMB_JSON_OBJECT ? v->count : 0;
}

const plumb_json *plumb_json_at(const plumb_json *v, int64_t i)
{
    if (plumb_json_type_of(v) != PLUMB_JSON_ARRAY || i < 0 || i >= v->count)
        return NULL;
    return &v->item[i];
}

plumb_status plumb_json_member_at(const plumb_json *v, int64_t i, const char **key,
                                  const plumb_json **value)
{
    PLUMB_REQUIRE(plumb_json_type_of(v) == PLUMB_JSON_OBJECT && i >= 0 && i < v->count,
                  PLUMB_ERR_ARG,
                  "cannot read member %" PRId64 " of a JSON %s with %" PRId64 " members", i,
                  plumb_json_type_name(plumb_json_type_of(v)), plumb_json_count(v));
    *key = v->key[i];
    *value = &v->item[i];
    return PLUMB_OK;
}

const char *plumb_json_string(const plumb_json *v, const char *fallback)
{
    return plumb_json_type_of(v) == PLUMB_JSON_STRING ? v->text : fallback;
}

int64_t plumb_json_string_len(const plumb_json *v)
{
    return plumb_json_type_of(v) == PLUMB_JSON_STRING ? v->count : 0;
}

int64_t plumb_json_int(const plumb_json *v, int64_t fallback)
{
    return plumb_json_type_of(v) == PLUMB_JSON_INT ? v->integer : fallback;
}

double plumb_json_real(const plumb_json *v, double fallback)
{
    switch (plumb_json_type_of(v)) {
    case PLUMB_JSON_INT:
        return (double)v->integer;
    case PLUMB_JSON_REAL:
        return v->real;
    default:
        return fallback;
    }
}

bool plumb_json_bool(const plumb_json *v, bool fallback)
{
    return plumb_json_type_of(v) == PLUMB_JSON_BOOL ? v->yes : fallback;
}

/* The members of each pair are compared once; for the members of b it is enough that a has them.
 * Otherwise the time would double with each level. */
static bool equal_members(const plumb_json *a, const plumb_json *b)
{
    for (int64_t i = 0; i < a->count; i++)
        if (!plumb_json_equal(&a->item[i], plumb_json_get(b, a->key[i])))
            return false;
    for (int64_t i = 0; i < b->count; i++)
        if (b->item[i].type != PLUMB_JSON_NULL && !plumb_json_get(a, b->key[i]))
            return false;
    return true;
}

bool plumb_json_equal(const plumb_json *a, const plumb_json *b)
{
    const enum plumb_json_type x = plumb_json_type_of(a), y = plumb_json_type_of(b);
    if (x != y)
        return (x == PLUMB_JSON_INT || x == PLUMB_JSON_REAL) &&
               (y == PLUMB_JSON_INT || y == PLUMB_JSON_REAL) &&
               plumb_json_real(a, 0) == plumb_json_real(b, 0);
    switch (x) {
    case PLUMB_JSON_BOOL:
        return a->yes == b->yes;
    case PLUMB_JSON_INT:
        return a->integer == b->integer;
    case PLUMB_JSON_REAL:
        return a->real == b->real;
    case PLUMB_JSON_STRING:
        return a->count == b->count && memcmp(a->text, b->text, (size_t)a->count) == 0;
    case PLUMB_JSON_ARRAY:
        for (int64_t i = 0; i < a->count && a->count == b->count; i++)
            if (!plumb_json_equal(&a->item[i], &b->item[i]))
                return false;
        return a->count == b->count;
    case PLUMB_JSON_OBJECT:
        return equal_members(a, b);
    default:
        return true;
    }
}

/* Sets *m to member `key`, or to NULL if the member is missing or null and there is a fallback.
 * Returns an error if v is not an object, or if the member is missing or null and there is no
 * fallback. */
static plumb_status want(const plumb_json **m, const plumb_json *v, const char *key,
                         bool has_fallback, const char *expected, const char *where)
{
    PLUMB_REQUIRE(plumb_json_type_of(v) == PLUMB_JSON_OBJECT, PLUMB_ERR_FORMAT,
                  "%s: expected an object with '%s', found %s", where, key,
                  plumb_json_type_name(plumb_json_type_of(v)));
    *m = plumb_json_get(v, key);
    PLUMB_REQUIRE(*m || has_fallback, PLUMB_ERR_FORMAT, "%s: '%s' is %s, expected %s", where, key,
                  plumb_json_member(v, key) ? "null" : "missing", expected);
    return PLUMB_OK;
}

static plumb_status wrong_type(const plumb_json *m, const char *key, const char *expected,
                               const char *where)
{
    PLUMB_FAIL(PLUMB_ERR_FORMAT, "%s: '%s' is %s, expected %s", where, key,
               plumb_json_type_name(plumb_json_type_of(m)), expected);
}

plumb_status plumb_json_want_int(const plumb_json *v, const char *key, int64_t *out,
                                 const int64_t *fallback, const char *where)
{
    const plumb_json *m = NULL;
    PLUMB_TRY(want(&m, v, key, fallback != NULL, "int", where));
    if (!m)
        *out = *fallback;
    else if (m->type == PLUMB_JSON_INT)
        *out = m->integer;
    else if (m->type == PLUMB_JSON_REAL && fabs(m->real) <= 0x1p53 && m->real == trunc(m->real))
        *out = (int64_t)m->real; /* a real without a fraction such as 4096.0 counts as an int */
    else
        PLUMB_TRY(wrong_type(m, key, "int", where));
    return PLUMB_OK;
}

plumb_status plumb_json_want_real(const plumb_json *v, const char *key, double *out,
                                  const double *fallback, const char *where)
{
    const plumb_json *m = NULL;
    PLUMB_TRY(want(&m, v, key, fallback != NULL, "number", where));
    if (m && m->type != PLUMB_JSON_INT && m->type != PLUMB_JSON_REAL)
        PLUMB_TRY(wrong_type(m, key, "number", where));
    *out = m ? plumb_json_real(m, 0) : *fallback;
    return PLUMB_OK;
}

plumb_status plumb_json_want_bool(const plumb_json *v, const char *key, bool *out,
                                  const bool *fallback, const char *where)
{
    const plumb_json *m = NULL;
    PLUMB_TRY(want(&m, v, key, fallback != NULL, "true or false", where));
    if (m && m->type != PLUMB_JSON_BOOL)
        PLUMB_TRY(wrong_type(m, key, "true or false", where));
    *out = m ? m->yes : *fallback;
    return PLUMB_OK;
}

plumb_status plumb_json_want_string(const plumb_json *v, const char *key, const char **out,
                                    const char *const *fallback, const char *where)
{
    const plumb_json *m = NULL;
    PLUMB_TRY(want(&m, v, key, fallback != NULL, "string", where));
    if (m && m->type != PLUMB_JSON_STRING)
        PLUMB_TRY(wrong_type(m, key, "string", where));
    *out = m ? m->text : *fallback;
    return PLUMB_OK;
}
