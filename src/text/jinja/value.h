/* value.h - the values of a template: Python's types, as far as chat templates use them.
 * Layer 3. Private to text/jinja. Includes base/ and io/json.h.
 *
 * The memory of the values comes from an arena, so values are not freed one by one. All values are
 * immutable except namespaces, iterators and loops. */
#ifndef PLUMB_TEXT_JINJA_VALUE_H
#define PLUMB_TEXT_JINJA_VALUE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "base/status.h"
#include "io/json.h"

struct plumb_jrun; /* the state of one rendering */

/* Memory that is freed together: that of a compiled template, a set of variables, or a
 * rendering. */
struct plumb_jarena {
    struct plumb_jchunk *chunk;
    /* used: number of bytes allocated so far; limit: largest value of `used`, or 0 for no limit. */
    int64_t used, limit;
    /* The rendering whose current line is shown if the arena is full; NULL if there is none. */
    struct plumb_jrun *run;
};
/* Sets the pointer at out to n zeroed bytes. Returns PLUMB_ERR_ARG if the limit of the arena is
 * exceeded, PLUMB_ERR_NOMEM if there is no memory. */
plumb_status plumb_jarena_get(struct plumb_jarena *a, void *out, int64_t n);
void plumb_jarena_fini(struct plumb_jarena *a);

enum plumb_jkind {
    JK_UNDEFINED,
    JK_NONE,
    JK_BOOL,
    JK_INT,
    JK_FLOAT,
    JK_STR,
    JK_LIST,
    JK_TUPLE,
    JK_DICT,
    JK_VIEW,  /* the result of dict.keys(), .values() or .items() */
    JK_RANGE, /* the result of range(..) */
    JK_ITER,  /* a generator or other iterator: it can be read only once and has no length */
    JK_SPACE, /* the result of namespace(..) */
    JK_LOOP,
    JK_MACRO,
    JK_FUNC,   /* a global function */
    JK_METHOD, /* a method together with its object */
};

typedef struct plumb_jv jv;
struct plumb_jv {
    enum plumb_jkind kind;
    union {
        bool b;
        int64_t i; /* JK_INT: the value; JK_FUNC: index of the function */
        double d;
        /* JK_STR: the text; JK_UNDEFINED: error message for its use, or NULL */
        const struct plumb_jstr *str;
        struct plumb_jseq *seq; /* for all kinds from JK_LIST to JK_ITER except JK_DICT */
        struct plumb_jmap *map; /* for JK_DICT and JK_SPACE */
        struct plumb_jloop *loop;
        struct plumb_jmacro *macro;
        struct plumb_jmethod *method;
    } u;
};

struct plumb_jstr {
    const char *at;   /* valid UTF-8 */
    int64_t n, chars; /* number of bytes and of code points */
    bool markup;      /* the string is Markup: the filter escape or safe made it */
};
/* Largest nesting depth of values; a deeper value is an error. JSON text has at most 2048
 * levels. */
#define PLUMB_JV_DEPTH 3000
struct plumb_jseq {
    jv *at;
    int64_t n, cap;
    int64_t depth;             /* 0 if empty, otherwise 1 + the largest depth of an element */
    int64_t next;              /* JK_ITER: number of elements read so far */
    int64_t start, stop, step; /* JK_RANGE: the arguments of range() */
    const char *what; /* JK_VIEW: a name such as "dict_keys"; JK_ITER: name of the Python type */
};
struct plumb_jentry {
    jv key, value;
    uint64_t hash;
};
struct plumb_jmap { /* entries are in insertion order */
    struct plumb_jentry *at;
    int64_t n, cap, depth;
    /* (slots,) Hash table: the index of an entry in at, plus 1; 0 means free. NULL if the map is
     * small. */
    int32_t *slot;
    int64_t slots; /* size of the hash table, a power of two */
};
struct plumb_jmethod {
    jv self;
    const char *name;
};

static inline jv plumb_jv_none(void)
{
    return (jv){.kind = JK_NONE};
}
static inline jv plumb_jv_bool(bool b)
{
    return (jv){.kind = JK_BOOL, .u.b = b};
}
static inline jv plumb_jv_int(int64_t i)
{
    return (jv){.kind = JK_INT, .u.i = i};
}
static inline jv plumb_jv_float(double d)
{
    return (jv){.kind = JK_FLOAT, .u.d = d};
}
static inline jv plumb_jv_of(enum plumb_jkind kind, struct plumb_jseq *seq)
{
    return (jv){.kind = kind, .u.seq = seq};
}
static inline bool plumb_jstr_is(const struct plumb_jstr *s, const char *text)
{
    return (size_t)s->n == strlen(text) && memcmp(s->at, text, (size_t)s->n) == 0;
}
/* Returns true for a bool, too: like in Python, it counts as an integer. */
static inline bool plumb_jv_is_int(jv v)
{
    return v.kind == JK_INT || v.kind == JK_BOOL;
}
static inline int64_t plumb_jv_as_int(jv v)
{
    return v.kind == JK_BOOL ? v.u.b : v.u.i;
}
static inline bool plumb_jv_is_number(jv v)
{
    return plumb_jv_is_int(v) || v.kind == JK_FLOAT;
}
static inline double plumb_jv_as_float(jv v)
{
    return v.kind == JK_FLOAT ? v.u.d : (double)plumb_jv_as_int(v);
}

/* Returns the number of code points in n bytes. */
int64_t plumb_jstr_count(const char *text, int64_t n);
/* The next three functions set *out to a string. plumb_jv_str and plumb_jv_text copy the text;
 * plumb_jv_part refers to it. */
plumb_status plumb_jv_str(struct plumb_jarena *a, jv *out, const char *text, int64_t n);
plumb_status plumb_jv_text(struct plumb_jarena *a, jv *out, const char *text);
plumb_status plumb_jv_part(struct plumb_jarena *a, jv *out, const char *text, int64_t n);

plumb_status plumb_jseq_new(struct plumb_jarena *a, struct plumb_jseq **out, int64_t cap);
plumb_status plumb_jseq_add(struct plumb_jarena *a, struct plumb_jseq *s, jv v);
plumb_status plumb_jmap_new(struct plumb_jarena *a, struct plumb_jmap **out, int64_t cap);
/* Sets the value of a key. An existing key keeps its position. The key must be hashable. */
plumb_status plumb_jmap_set(struct plumb_jarena *a, struct plumb_jmap *m, jv key, jv value);
/* Returns the value of a key; NULL if the map does not have it. */
jv *plumb_jmap_get(const struct plumb_jmap *m, jv key);
jv *plumb_jmap_get_text(const struct plumb_jmap *m, const char *text, int64_t n);

plumb_status plumb_jv_from_json(struct plumb_jarena *a, jv *out, const plumb_json *v);

bool plumb_jv_hashable(jv v);
bool plumb_jv_equal(jv a, jv b);
bool plumb_jv_true(jv v);
/* Returns Python's name of the value's type. */
const char *plumb_jv_type(jv v);

#endif
