/* run.h - the state of one rendering, and the functions that the files of text/jinja share.
 * Layer 3. Private to text/jinja. */
#ifndef PLUMB_TEXT_JINJA_RUN_H
#define PLUMB_TEXT_JINJA_RUN_H

#include "text/jinja/jinja.h"
#include "text/jinja/node.h"

struct plumb_jinja_vars {
    struct plumb_jarena arena;
    struct plumb_jmap map;
};

/* The variables of one block of the template; `up` is the scope of the block around it. */
struct plumb_jscope {
    struct plumb_jscope *up;
    struct plumb_jslot {
        const struct plumb_jstr *name; /* name of the variable, interned */
        jv value;
    } * at;
    int64_t n, cap;
};

struct plumb_jmacro {
    const struct plumb_jnode *def;
    struct plumb_jscope *scope; /* scope in which the macro was defined */
};

enum plumb_jflow { JF_NORMAL, JF_BREAK, JF_CONTINUE };

struct plumb_jrun {
    const struct plumb_jinja *t;
    const plumb_jinja_vars *vars;
    struct plumb_jinja_limits limit;
    struct plumb_jarena arena;
    /* out: the buffer that receives the output now, which is root or that of a captured block.
     * root: the buffer that the caller has passed. */
    struct plumb_buf *out, *root;
    int64_t start;    /* length of root in bytes before the rendering */
    int64_t captured; /* bytes of output in the buffers around the current one */
    struct plumb_jinja_spans *spans;
    struct plumb_jscope *scope, *top;
    const struct plumb_jnode *at; /* the current node, for error messages */
    int64_t steps, depth;
    enum plumb_jflow flow;
};

/* The evaluated arguments of a call, a filter or a test. */
struct plumb_jargs {
    jv *at;
    int64_t n;
    struct plumb_jkwarg {
        const struct plumb_jstr *name;
        jv value;
    } * kw;
    int64_t n_kw;
};

/* Fails with a message that has the line of the template that is being rendered. r may be NULL;
 * then the message has no line. */
plumb_status plumb_jinja_fail(struct plumb_jrun *r, plumb_status code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
#define JFAIL(r, ...)   return plumb_jinja_fail((r), PLUMB_ERR_FORMAT, __VA_ARGS__)
#define JREFUSE(r, ...) return plumb_jinja_fail((r), PLUMB_ERR_UNSUPPORTED, __VA_ARGS__)
/* Adds 1 + n / 16 to the number of steps of the rendering, for n processed bytes or elements.
 * Returns PLUMB_ERR_ARG if the limit of steps is exceeded. */
plumb_status plumb_jinja_work(struct plumb_jrun *r, int64_t n);

/* Defined in eval.c (expressions, filters) and exec.c (statements, output, scopes). */
plumb_status plumb_jinja_eval(struct plumb_jrun *r, jv *out, const struct plumb_jnode *n);
plumb_status plumb_jinja_exec(struct plumb_jrun *r, const struct plumb_jnodes *body);
plumb_status plumb_jinja_write(struct plumb_jrun *r, const char *text, int64_t n);
plumb_status plumb_jinja_apply_filter(struct plumb_jrun *r, jv *out, const struct plumb_jnode *n,
                                      jv input);
/* Runs the body and returns its output as a string instead of writing it. */
plumb_status plumb_jinja_capture(struct plumb_jrun *r, jv *out, const struct plumb_jnodes *body);
plumb_status plumb_jscope_new(struct plumb_jrun *r, struct plumb_jscope **out,
                              struct plumb_jscope *up);
plumb_status plumb_jscope_set(struct plumb_jrun *r, struct plumb_jscope *s,
                              const struct plumb_jstr *name, jv v);
plumb_status plumb_jinja_assign(struct plumb_jrun *r, struct plumb_jscope *s,
                                const struct plumb_jnode *target, jv v);

/* Defined in loop.c. */
plumb_status plumb_jinja_for(struct plumb_jrun *r, const struct plumb_jnode *n);
plumb_status plumb_jloop_attr(struct plumb_jrun *r, jv *out, jv loop,
                              const struct plumb_jstr *name);
plumb_status plumb_jloop_call(struct plumb_jrun *r, jv *out, jv loop, const char *name,
                              const struct plumb_jargs *args);

/* Defined in call.c: calls, global functions, macros. */
plumb_status plumb_jinja_args(struct plumb_jrun *r, struct plumb_jargs *out,
                              const struct plumb_jnode *n);
plumb_status plumb_jinja_call(struct plumb_jrun *r, jv *out, jv callee,
                              const struct plumb_jargs *args);
plumb_status plumb_jinja_macro(struct plumb_jrun *r, jv *out, const struct plumb_jmacro *m,
                               const struct plumb_jargs *args);
/* Finds a global function by its name. Returns false if there is none. */
bool plumb_jinja_global(jv *out, const struct plumb_jstr *name);
/* Assigns arguments to parameters. names lists the parameters, e.g. "value,default="; = marks an
 * optional one. If parameter i has no argument, got[i] is false and v[i].kind is JK_UNDEFINED.
 * Fails if a required parameter has no argument. */
plumb_status plumb_jinja_spread(struct plumb_jrun *r, const struct plumb_jargs *args,
                                const char *names, jv *v, bool *got);

/* Defined in ops.c: operators, comparison, iteration. */
plumb_status plumb_jinja_binary(struct plumb_jrun *r, jv *out, enum plumb_jop op, jv a, jv b);
plumb_status plumb_jinja_compare(struct plumb_jrun *r, bool *out, enum plumb_jop op, jv a, jv b);
plumb_status plumb_jinja_less(struct plumb_jrun *r, bool *out, jv a, jv b);
plumb_status plumb_jinja_contains(struct plumb_jrun *r, bool *out, jv in, jv what);
plumb_status plumb_jinja_length(struct plumb_jrun *r, int64_t *out, jv v);
/* Sets *out to the elements of an iterable, like Python's list(v). A sequence is returned without a
 * copy; an iterator is exhausted. */
plumb_status plumb_jinja_elements(struct plumb_jrun *r, struct plumb_jseq **out, jv v);
bool plumb_jinja_iterable(jv v);
plumb_status plumb_jinja_raise_undefined(struct plumb_jrun *r, jv v);
plumb_status plumb_jinja_new_iter(struct plumb_jrun *r, jv *out, struct plumb_jseq *s,
                                  const char *what);

/* Defined in attr.c: a.name, a[b], a[b:c:d]. */
plumb_status plumb_jinja_attr(struct plumb_jrun *r, jv *out, jv a, const struct plumb_jstr *name);
plumb_status plumb_jinja_item(struct plumb_jrun *r, jv *out, jv a, jv key);
plumb_status plumb_jinja_slice(struct plumb_jrun *r, jv *out, jv a, jv from, jv to, jv step);
plumb_status plumb_jinja_undefined(struct plumb_jrun *r, jv *out, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Defined in repr.c: the text of a value. str functions give the text that print shows, repr
 * functions the text of an element inside a list. */
plumb_status plumb_jinja_str(struct plumb_jrun *r, jv *out, jv v);
plumb_status plumb_jinja_put_str(struct plumb_jrun *r, struct plumb_buf *b, jv v);
plumb_status plumb_jinja_put_repr(struct plumb_jrun *r, struct plumb_buf *b, jv v);
plumb_status plumb_jinja_put_float(struct plumb_buf *b, double d);
plumb_status plumb_jinja_tojson(struct plumb_jrun *r, jv *out, jv v,
                                const struct plumb_jargs *args);
/* Sets *out to the buffer's text as a string, or returns st if st is an error. The buffer is
 * released in both cases. */
plumb_status plumb_jinja_take(struct plumb_jrun *r, jv *out, struct plumb_buf *b, plumb_status st);

/* Defined in filter.c and filter_seq.c (filters) and in test.c (tests, as in "x is defined"). A
 * filter sets *out to the filtered value of `in`. */
typedef plumb_status plumb_jfilter_fn(struct plumb_jrun *r, jv *out, jv in,
                                      const struct plumb_jargs *args);
struct plumb_jfilter {
    const char *name;
    plumb_jfilter_fn *fn; /* NULL if Jinja has this filter but plumb does not support it */
};
int plumb_jinja_find_filter(const char *name, int64_t n); /* -1 if there is no such filter */
int plumb_jinja_find_test(const char *name, int64_t n);
bool plumb_jinja_filter_known(int index); /* true if plumb supports the filter */
plumb_status plumb_jinja_filter(struct plumb_jrun *r, jv *out, int index, jv in,
                                const struct plumb_jargs *args);
plumb_status plumb_jinja_test(struct plumb_jrun *r, bool *out, int index, jv in,
                              const struct plumb_jargs *args);
extern const struct plumb_jfilter plumb_jinja_seq_filters[];
/* Follows the path of an attribute argument, such as "a.b", from item. */
plumb_status plumb_jinja_path(struct plumb_jrun *r, jv *out, jv item, jv path);

/* Defined in method.c: methods of values. */
/* Returns true if a value of this type has this attribute in Python; then *canonical is the name
 * as a string constant. */
bool plumb_jinja_has_method(jv v, const struct plumb_jstr *name, const char **canonical);
/* Returns true if this method would change the value, which the sandbox does not allow. */
bool plumb_jinja_mutates(jv v, const char *name);
plumb_status plumb_jinja_method(struct plumb_jrun *r, jv *out, const struct plumb_jmethod *m,
                                const struct plumb_jargs *args);
plumb_status plumb_jstr_method(struct plumb_jrun *r, jv *out, jv self, const char *name,
                               const struct plumb_jargs *args);

/* Defined in text.c: functions on code points of strings. */
bool plumb_jchar_space(uint32_t c);
/* Returns the offset in bytes of the code point with this index. */
int64_t plumb_jstr_offset(const struct plumb_jstr *s, int64_t index);
enum plumb_jcase { JC_UPPER, JC_LOWER, JC_CAPITALIZE, JC_TITLE, JC_SWAP, JC_JINJA_TITLE };
plumb_status plumb_jstr_case(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s,
                             enum plumb_jcase how);
/* Removes characters from the ends of a string. sides: 1 = left, 2 = right, 3 = both. chars: the
 * characters to remove; NULL for white space. */
plumb_status plumb_jstr_strip(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s, int sides,
                              const struct plumb_jstr *chars);
plumb_status plumb_jstr_replace(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s,
                                const struct plumb_jstr *old, const struct plumb_jstr *new,
                                int64_t count);
/* Returns the offset in bytes of the first `what` (m bytes) in s (n bytes); -1 if there is none. */
int64_t plumb_jstr_find(const char *s, int64_t n, const char *what, int64_t m);
plumb_status plumb_jstr_lines(struct plumb_jrun *r, struct plumb_jseq *out,
                              const struct plumb_jstr *s, bool keep);
bool plumb_jstr_is_case(const struct plumb_jstr *s, enum plumb_jcase how);
/* Calls the method str.isX with this name. Returns 0 or 1, -1 if there is no such method, -2 if
 * plumb cannot decide the result. */
int plumb_jstr_predicate(const struct plumb_jstr *s, const char *name);
plumb_status plumb_jstr_pad(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s,
                            int64_t width, char align, const char *fill, int64_t fill_n);
bool plumb_jchar_printable(uint32_t c);
plumb_status plumb_jinja_escape(struct plumb_jrun *r, jv *out, jv v);

/* Defined in format.c: "%s" % v and "{}".format(v). */
plumb_status plumb_jinja_percent(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s, jv v);
plumb_status plumb_jinja_format(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s,
                                const struct plumb_jargs *args);

/* Defined in number.c: converts text to numbers, and rounds. */
bool plumb_jinja_parse_int(const char *s, int64_t n, int base, int64_t *out, bool *big);
bool plumb_jinja_parse_float(const char *s, int64_t n, double *out);
plumb_status plumb_jinja_round(struct plumb_jrun *r, jv *out, jv v, int64_t digits);

#endif
