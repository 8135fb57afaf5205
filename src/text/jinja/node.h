/* node.h - the tree of a compiled template, and its tokens.
 * Layer 3. Private to text/jinja. */
#ifndef PLUMB_TEXT_JINJA_NODE_H
#define PLUMB_TEXT_JINJA_NODE_H

#include "text/jinja/value.h"

enum plumb_jtoken_kind {
    JT_DATA,
    JT_VARIABLE_BEGIN,
    JT_VARIABLE_END,
    JT_BLOCK_BEGIN,
    JT_BLOCK_END,
    JT_NAME,
    JT_STRING,
    JT_INT,
    JT_FLOAT,
    JT_OPERATOR,
    JT_EOF,
};
struct plumb_jtoken {
    enum plumb_jtoken_kind kind;
    int64_t line;
    char op[3];       /* JT_OPERATOR: its text */
    const char *text; /* the source: name, data, operator */
    int64_t n;
    jv value; /* JT_STRING, JT_INT, JT_FLOAT; JT_DATA: a string */
};

enum plumb_jnode_kind {
    /* expressions */
    JN_CONST, /* value */
    JN_NAME,  /* name */
    JN_NSREF, /* name.value(str): a target only */
    JN_LIST,  /* item */
    JN_TUPLE,
    JN_DICT,    /* item: keys, more: values */
    JN_ATTR,    /* a.name */
    JN_ITEM,    /* a[b] */
    JN_SLICE,   /* a[b:c:d], any of b c d may be NULL */
    JN_CALL,    /* a(item, more: keywords, *c, **d) */
    JN_FILTER,  /* a | name(..), a NULL in filter blocks; index: which */
    JN_TEST,    /* a is name(..) */
    JN_KEYWORD, /* name = a */
    JN_NEG,
    JN_POS,
    JN_NOT,
    JN_AND,
    JN_OR,
    JN_BINARY,  /* a op b */
    JN_CONCAT,  /* item ~ item */
    JN_COMPARE, /* a, item: operands, JN_OPERAND each */
    JN_OPERAND, /* op a */
    JN_IF_EXPR, /* b if a else c, c may be NULL */
    /* statements */
    JN_DATA,       /* value */
    JN_PRINT,      /* item */
    JN_IF,         /* a: test, item: body, more: else body (elif: one JN_IF) */
    JN_FOR,        /* a: target, b: iterable, c: filter or NULL, item, more: else body */
    JN_SET,        /* a = b */
    JN_SET_BLOCK,  /* a, b: filters or NULL, item */
    JN_MACRO,      /* name, arg, item */
    JN_CALL_BLOCK, /* a: the call, b: JN_MACRO of the caller */
    JN_FILTER_BLOCK,
    JN_WITH,  /* more: targets, arg: values, item */
    JN_BLOCK, /* name, op 1: scoped, item */
    JN_GENERATION,
    JN_BREAK,
    JN_CONTINUE,
};

/* Operators of JN_BINARY and JN_OPERAND. */
enum plumb_jop {
    JO_ADD,
    JO_SUB,
    JO_MUL,
    JO_DIV,
    JO_FLOORDIV,
    JO_MOD,
    JO_POW,
    JO_EQ,
    JO_NE,
    JO_LT,
    JO_LE,
    JO_GT,
    JO_GE,
    JO_IN,
    JO_NOT_IN,
};

struct plumb_jnode;
struct plumb_jnodes {
    struct plumb_jnode **at;
    int64_t n, cap;
};
struct plumb_jnode {
    enum plumb_jnode_kind kind;
    int op;    /* enum plumb_jop */
    int index; /* JN_FILTER, JN_TEST: place in the table */
    int64_t line;
    const struct plumb_jstr *name; /* interned: equal names are equal pointers */
    jv value;
    struct plumb_jnode *a, *b, *c, *d;
    struct plumb_jnodes item, more;
    struct plumb_jnodes arg; /* JN_MACRO: JN_KEYWORD each, a: default or NULL */
    bool catch_kwargs, catch_varargs, uses_caller; /* JN_MACRO */
};

/* A compiled template. Immutable after compile. */
struct plumb_jinja {
    struct plumb_jarena arena;
    const char *name;   /* for messages */
    const char *source; /* with \n as its only line break */
    int64_t len;
    struct plumb_jnodes body;
    struct plumb_jmap names; /* interned names */
    const struct plumb_jstr *loop, *caller, *kwargs, *varargs;
    bool generation;
};

/* All tokens of a source, the last one JT_EOF. Error messages name template and line. */
plumb_status plumb_jinja_lex(struct plumb_jinja *t, struct plumb_jtoken **out, int64_t *n);
plumb_status plumb_jinja_parse(struct plumb_jinja *t, const struct plumb_jtoken *token);
/* Raises an error of the source. */
plumb_status plumb_jinja_bad(const struct plumb_jinja *t, plumb_status code, int64_t line,
                             const char *fmt, ...) __attribute__((format(printf, 4, 5)));

#endif
