/* value.h - the values of a template: Python's, as far as chat templates see them.
 * Layer 3. Private to text/jinja. Includes base/ and io/json.h.
 *
 * Values live in an arena and are never freed one by one. Everything is immutable except
 * namespaces, iterators and loops. */
#ifndef PLUMB_TEXT_JINJA_VALUE_H
#define PLUMB_TEXT_JINJA_VALUE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "base/status.h"
#include "io/json.h"

struct plumb_jrun; /* one render */

/* Memory of one lifetime: a compiled template, a set of variables, one render. */
struct plumb_jarena {
    struct plumb_jchunk *chunk;
    int64_t used, limit;    /* bytes handed out; limit 0: none */
    struct plumb_jrun *run; /* names the place in the message of a full arena; NULL outside runs */
};
plumb_status plumb_jarena_get(struct plumb_jarena *a, void *out, int64_t n); /* zeroed */
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
    JK_VIEW,  /* dict.keys(), .values(), .items() */
    JK_RANGE, /* range(..) */
    JK_ITER,  /* a generator or another iterator: can be read once, has no length */
    JK_SPACE, /* namespace(..) */
    JK_LOOP,
    JK_MACRO,
    JK_FUNC,   /* a global function */
    JK_METHOD, /* a method with its object */
};

typedef struct plumb_jv jv;
struct plumb_jv {
    enum plumb_jkind kind;
    union {
        bool b;
        int64_t i; /* JK_INT; JK_FUNC: which */
        double d;
        const struct plumb_jstr *str; /* JK_STR; JK_UNDEFINED: what the error says, or NULL */
        struct plumb_jseq *seq;       /* JK_LIST .. JK_ITER */
        struct plumb_jmap *map;       /* JK_DICT, JK_SPACE */
        struct plumb_jloop *loop;
        struct plumb_jmacro *macro;
        struct plumb_jmethod *method;
    } u;
};

struct plumb_jstr {
    const char *at;   /* valid UTF-8 */
    int64_t n, chars; /* bytes and code points */
    bool markup;      /* came through escape or safe */
};
/* Levels of values inside values; more is an error. JSON text has at most 2048. */
#define PLUMB_JV_DEPTH 3000
struct plumb_jseq {
    jv *at;
    int64_t n, cap;
    int64_t depth;             /* levels, this one included */
    int64_t next;              /* JK_ITER: elements read so far */
    int64_t start, stop, step; /* JK_RANGE */
    const char *what;          /* JK_VIEW: "dict_keys" ..; JK_ITER: Python's type name */
};
struct plumb_jentry {
    jv key, value;
    uint64_t hash;
};
struct plumb_jmap { /* in the order of insertion */
    struct plumb_jentry *at;
    int64_t n, cap, depth;
    int32_t *slot; /* (slots) by hash: an index into at, plus 1; 0: free. NULL in small maps */
    int64_t slots; /* a power of two */
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
/* bool and int count as integers, as in Python. */
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

/* Strings: *out gets a copy of the text, or (part) a value that shares it. */
int64_t plumb_jstr_count(const char *text, int64_t n); /* code points */
plumb_status plumb_jv_str(struct plumb_jarena *a, jv *out, const char *text, int64_t n);
plumb_status plumb_jv_text(struct plumb_jarena *a, jv *out, const char *text);
plumb_status plumb_jv_part(struct plumb_jarena *a, jv *out, const char *text, int64_t n);

plumb_status plumb_jseq_new(struct plumb_jarena *a, struct plumb_jseq **out, int64_t cap);
plumb_status plumb_jseq_add(struct plumb_jarena *a, struct plumb_jseq *s, jv v);
plumb_status plumb_jmap_new(struct plumb_jarena *a, struct plumb_jmap **out, int64_t cap);
/* Sets a key, at its old place if it is there already. The key must be hashable. */
plumb_status plumb_jmap_set(struct plumb_jarena *a, struct plumb_jmap *m, jv key, jv value);
/* The value of a key, or NULL. */
jv *plumb_jmap_get(const struct plumb_jmap *m, jv key);
jv *plumb_jmap_get_text(const struct plumb_jmap *m, const char *text, int64_t n);

plumb_status plumb_jv_from_json(struct plumb_jarena *a, jv *out, const plumb_json *v);

bool plumb_jv_hashable(jv v);
bool plumb_jv_equal(jv a, jv b);
bool plumb_jv_true(jv v);
/* Python's name of the type. */
const char *plumb_jv_type(jv v);

#endif
