/* node.h - the tokens and the syntax tree of a template.
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
    char op[3];       /* JT_OPERATOR: the operator, NUL-terminated */
    const char *text; /* the token's text in the source, n bytes */
    int64_t n;
    /* JT_STRING, JT_INT, JT_FLOAT: the value of the literal. JT_DATA: the text as a string. */
    jv value;
};

enum plumb_jnode_kind {
    /* Expressions. The comments show in which fields of plumb_jnode the parts are stored. */
    JN_CONST, /* a literal in value */
    JN_NAME,  /* a variable in name */
    JN_NSREF, /* the assignment target name.attribute; value: the attribute's name */
    JN_LIST,  /* elements in item */
    JN_TUPLE,
    JN_DICT,  /* keys in item, their values in more */
    JN_ATTR,  /* attribute `name` of a */
    JN_ITEM,  /* a[b] */
    JN_SLICE, /* a[b:c:d]; b, c and d may each be NULL */
    JN_CALL,  /* a(item, more, *c, **d); more has the keyword arguments */
    /* a | name(arguments). a is NULL in a filter block. index is the filter's index in the
     * table. */
    JN_FILTER,
    JN_TEST,    /* a is name(arguments) */
    JN_KEYWORD, /* the keyword argument name = a */
    JN_NEG,
    JN_POS,
    JN_NOT,
    JN_AND,
    JN_OR,
    JN_BINARY,  /* a op b */
    JN_CONCAT,  /* the elements of item, joined by ~ */
    JN_COMPARE, /* a, followed by comparisons; item has one JN_OPERAND for each comparison */
    JN_OPERAND, /* one operator of a comparison and its right operand a */
    JN_IF_EXPR, /* b if a else c; c may be NULL */
    /* Statements. */
    JN_DATA,  /* literal text in value */
    JN_PRINT, /* prints each element of item */
    /* Condition in a, body in item, else body in more. An elif is a JN_IF that is the only node in
     * more. */
    JN_IF,
    /* Target in a, iterable in b, filter condition in c or NULL, body in item, else body in
     * more. */
    JN_FOR,
    JN_SET,          /* a = b */
    JN_SET_BLOCK,    /* target in a, filters in b or NULL, body in item */
    JN_MACRO,        /* name, parameters in arg, body in item */
    JN_CALL_BLOCK,   /* the called macro in a; b is a JN_MACRO for the body */
    JN_FILTER_BLOCK, /* filters in b, body in item */
    JN_WITH,         /* targets in more, values in arg, body in item */
    JN_BLOCK,        /* name, body in item; op is 1 if the block is scoped */
    JN_GENERATION,   /* body in item */
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
    int op;    /* an enum plumb_jop */
    int index; /* JN_FILTER, JN_TEST: index in the table of filters or tests */
    int64_t line;
    const struct plumb_jstr *name; /* interned: two equal names have the same pointer */
    jv value;
    struct plumb_jnode *a, *b, *c, *d;
    struct plumb_jnodes item, more;
    /* JN_MACRO: one JN_KEYWORD per parameter, whose a is the default value or NULL */
    struct plumb_jnodes arg;
    /* JN_MACRO: true if the body uses the variable kwargs, varargs or caller. */
    bool catch_kwargs, catch_varargs, uses_caller;
};

/* A compiled template. It does not change after it is compiled. */
struct plumb_jinja {
    struct plumb_jarena arena;
    const char *name; /* name of the template for error messages */
    /* source text; line breaks are \n, and a line break at the end is removed */
    const char *source;
    int64_t len;
    struct plumb_jnodes body;
    struct plumb_jmap names; /* all interned names */
    const struct plumb_jstr *loop, *caller, *kwargs, *varargs;
    bool generation;
};

/* Splits the source into tokens; the last one is JT_EOF. Error messages have the template's name
 * and the line. */
plumb_status plumb_jinja_lex(struct plumb_jinja *t, struct plumb_jtoken **out, int64_t *n);
plumb_status plumb_jinja_parse(struct plumb_jinja *t, const struct plumb_jtoken *token);
/* Fails with a message that has the template's name and the line of the source. */
plumb_status plumb_jinja_bad(const struct plumb_jinja *t, plumb_status code, int64_t line,
                             const char *fmt, ...) __attribute__((format(printf, 4, 5)));

#endif
