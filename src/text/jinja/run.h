/* run.h - one render of a template: its state, and the functions that its parts share.
 * Layer 3. Private to text/jinja. */
#ifndef PLUMB_TEXT_JINJA_RUN_H
#define PLUMB_TEXT_JINJA_RUN_H

#include "text/jinja/jinja.h"
#include "text/jinja/node.h"

struct plumb_jinja_vars {
    struct plumb_jarena arena;
    struct plumb_jmap map;
};

/* Variables of one block of the template; `up` is the block around it. */
struct plumb_jscope {
    struct plumb_jscope *up;
    struct plumb_jslot {
        const struct plumb_jstr *name; /* interned */
        jv value;
    } * at;
    int64_t n, cap;
};

struct plumb_jmacro {
    const struct plumb_jnode *def;
    struct plumb_jscope *scope; /* where it was defined */
};

enum plumb_jflow { JF_NORMAL, JF_BREAK, JF_CONTINUE };

struct plumb_jrun {
    const struct plumb_jinja *t;
    const plumb_jinja_vars *vars;
    struct plumb_jinja_limits limit;
    struct plumb_jarena arena;
    struct plumb_buf *out, *root; /* where output goes; where the template's own goes */
    int64_t start;                /* length of root before the render */
    int64_t captured;             /* bytes in buffers around the current one */
    struct plumb_jinja_spans *spans;
    struct plumb_jscope *scope, *top;
    const struct plumb_jnode *at; /* for messages */
    int64_t steps, depth;
    enum plumb_jflow flow;
};

/* Arguments of a call, a filter or a test. */
struct plumb_jargs {
    jv *at;
    int64_t n;
    struct plumb_jkwarg {
        const struct plumb_jstr *name;
        jv value;
    } * kw;
    int64_t n_kw;
};

/* Raises an error at the place that the run is at; run may be NULL. */
plumb_status plumb_jinja_fail(struct plumb_jrun *r, plumb_status code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
#define JFAIL(r, ...)   return plumb_jinja_fail((r), PLUMB_ERR_FORMAT, __VA_ARGS__)
#define JREFUSE(r, ...) return plumb_jinja_fail((r), PLUMB_ERR_UNSUPPORTED, __VA_ARGS__)
/* Counts work of `n` bytes or elements against the bound of steps. */
plumb_status plumb_jinja_work(struct plumb_jrun *r, int64_t n);

/* eval.c, exec.c */
plumb_status plumb_jinja_eval(struct plumb_jrun *r, jv *out, const struct plumb_jnode *n);
plumb_status plumb_jinja_exec(struct plumb_jrun *r, const struct plumb_jnodes *body);
plumb_status plumb_jinja_write(struct plumb_jrun *r, const char *text, int64_t n);
plumb_status plumb_jinja_apply_filter(struct plumb_jrun *r, jv *out, const struct plumb_jnode *n,
                                      jv input);
/* Runs the body with its output caught as a string. */
plumb_status plumb_jinja_capture(struct plumb_jrun *r, jv *out, const struct plumb_jnodes *body);
plumb_status plumb_jscope_new(struct plumb_jrun *r, struct plumb_jscope **out,
                              struct plumb_jscope *up);
plumb_status plumb_jscope_set(struct plumb_jrun *r, struct plumb_jscope *s,
                              const struct plumb_jstr *name, jv v);
plumb_status plumb_jinja_assign(struct plumb_jrun *r, struct plumb_jscope *s,
                                const struct plumb_jnode *target, jv v);

/* loop.c */
plumb_status plumb_jinja_for(struct plumb_jrun *r, const struct plumb_jnode *n);
plumb_status plumb_jloop_attr(struct plumb_jrun *r, jv *out, jv loop,
                              const struct plumb_jstr *name);
plumb_status plumb_jloop_call(struct plumb_jrun *r, jv *out, jv loop, const char *name,
                              const struct plumb_jargs *args);

/* call.c: calls, global functions, macros. */
plumb_status plumb_jinja_args(struct plumb_jrun *r, struct plumb_jargs *out,
                              const struct plumb_jnode *n);
plumb_status plumb_jinja_call(struct plumb_jrun *r, jv *out, jv callee,
                              const struct plumb_jargs *args);
plumb_status plumb_jinja_macro(struct plumb_jrun *r, jv *out, const struct plumb_jmacro *m,
                               const struct plumb_jargs *args);
/* Global function by name; false if there is none. */
bool plumb_jinja_global(jv *out, const struct plumb_jstr *name);
/* Spreads arguments over parameters. names: "value,default=,.." where = marks an optional one; the
 * first `given` of them are taken already. v[i].kind stays JK_UNDEFINED and got[i] false where an
 * argument is absent. what: the construct, for messages. */
plumb_status plumb_jinja_spread(struct plumb_jrun *r, const struct plumb_jargs *args,
                                const char *names, jv *v, bool *got);

/* ops.c: operators, subscripts, iteration. */
plumb_status plumb_jinja_binary(struct plumb_jrun *r, jv *out, enum plumb_jop op, jv a, jv b);
plumb_status plumb_jinja_compare(struct plumb_jrun *r, bool *out, enum plumb_jop op, jv a, jv b);
plumb_status plumb_jinja_less(struct plumb_jrun *r, bool *out, jv a, jv b);
plumb_status plumb_jinja_contains(struct plumb_jrun *r, bool *out, jv in, jv what);
plumb_status plumb_jinja_length(struct plumb_jrun *r, int64_t *out, jv v);
/* The elements of an iterable, as Python's list(v) takes them. What is already a sequence is given
 * as it is; an iterator is used up. */
plumb_status plumb_jinja_elements(struct plumb_jrun *r, struct plumb_jseq **out, jv v);
bool plumb_jinja_iterable(jv v);
plumb_status plumb_jinja_raise_undefined(struct plumb_jrun *r, jv v);
plumb_status plumb_jinja_new_iter(struct plumb_jrun *r, jv *out, struct plumb_jseq *s,
                                  const char *what);

/* attr.c: a.name, a[b], a[b:c:d] */
plumb_status plumb_jinja_attr(struct plumb_jrun *r, jv *out, jv a, const struct plumb_jstr *name);
plumb_status plumb_jinja_item(struct plumb_jrun *r, jv *out, jv a, jv key);
plumb_status plumb_jinja_slice(struct plumb_jrun *r, jv *out, jv a, jv from, jv to, jv step);
plumb_status plumb_jinja_undefined(struct plumb_jrun *r, jv *out, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* repr.c: text of values. str: as print does; repr: as inside a list. */
plumb_status plumb_jinja_str(struct plumb_jrun *r, jv *out, jv v);
plumb_status plumb_jinja_put_str(struct plumb_jrun *r, struct plumb_buf *b, jv v);
plumb_status plumb_jinja_put_repr(struct plumb_jrun *r, struct plumb_buf *b, jv v);
plumb_status plumb_jinja_put_float(struct plumb_buf *b, double d);
plumb_status plumb_jinja_tojson(struct plumb_jrun *r, jv *out, jv v,
                                const struct plumb_jargs *args);
/* *out = the buffer's text; the buffer is released in any case. st: the status so far. */
plumb_status plumb_jinja_take(struct plumb_jrun *r, jv *out, struct plumb_buf *b, plumb_status st);

/* filter.c, filter_seq.c, test.c */
typedef plumb_status plumb_jfilter_fn(struct plumb_jrun *r, jv *out, jv in,
                                      const struct plumb_jargs *args);
struct plumb_jfilter {
    const char *name;
    plumb_jfilter_fn *fn; /* NULL: known to Jinja, and refused */
};
int plumb_jinja_find_filter(const char *name, int64_t n); /* -1: none */
int plumb_jinja_find_test(const char *name, int64_t n);
bool plumb_jinja_filter_known(int index); /* plumb has it */
plumb_status plumb_jinja_filter(struct plumb_jrun *r, jv *out, int index, jv in,
                                const struct plumb_jargs *args);
plumb_status plumb_jinja_test(struct plumb_jrun *r, bool *out, int index, jv in,
                              const struct plumb_jargs *args);
extern const struct plumb_jfilter plumb_jinja_seq_filters[];
/* item.part.part of an attribute argument. */
plumb_status plumb_jinja_path(struct plumb_jrun *r, jv *out, jv item, jv path);

/* method.c: methods of values. */
/* Whether a value of this type has this attribute in Python. */
bool plumb_jinja_has_method(jv v, const struct plumb_jstr *name, const char **canonical);
bool plumb_jinja_mutates(jv v, const char *name);
plumb_status plumb_jinja_method(struct plumb_jrun *r, jv *out, const struct plumb_jmethod *m,
                                const struct plumb_jargs *args);
plumb_status plumb_jstr_method(struct plumb_jrun *r, jv *out, jv self, const char *name,
                               const struct plumb_jargs *args);

/* text.c: strings by code points. */
bool plumb_jchar_space(uint32_t c);
int64_t plumb_jstr_offset(const struct plumb_jstr *s, int64_t index); /* byte of a code point */
enum plumb_jcase { JC_UPPER, JC_LOWER, JC_CAPITALIZE, JC_TITLE, JC_SWAP, JC_JINJA_TITLE };
plumb_status plumb_jstr_case(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s,
                             enum plumb_jcase how);
/* sides: 1 left, 2 right, 3 both; chars NULL: white space. */
plumb_status plumb_jstr_strip(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s, int sides,
                              const struct plumb_jstr *chars);
plumb_status plumb_jstr_replace(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s,
                                const struct plumb_jstr *old, const struct plumb_jstr *new,
                                int64_t count);
int64_t plumb_jstr_find(const char *s, int64_t n, const char *what, int64_t m); /* -1: not there */
plumb_status plumb_jstr_lines(struct plumb_jrun *r, struct plumb_jseq *out,
                              const struct plumb_jstr *s, bool keep);
bool plumb_jstr_is_case(const struct plumb_jstr *s, enum plumb_jcase how);
/* Name of a str.isX method; -1 for a name that is none, -2 where the answer is not known. */
int plumb_jstr_predicate(const struct plumb_jstr *s, const char *name);
plumb_status plumb_jstr_pad(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s,
                            int64_t width, char align, const char *fill, int64_t fill_n);
bool plumb_jchar_printable(uint32_t c);
plumb_status plumb_jinja_escape(struct plumb_jrun *r, jv *out, jv v);

/* format.c: "%s" % v and "{}".format(v) */
plumb_status plumb_jinja_percent(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s, jv v);
plumb_status plumb_jinja_format(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s,
                                const struct plumb_jargs *args);

/* number.c */
bool plumb_jinja_parse_int(const char *s, int64_t n, int base, int64_t *out, bool *big);
bool plumb_jinja_parse_float(const char *s, int64_t n, double *out);
plumb_status plumb_jinja_round(struct plumb_jrun *r, jv *out, jv v, int64_t digits);

#endif
