/* parse.h - declarations that parse.c and parse_expr.c share.
 * Layer 3. Private to text/jinja/parse*.c. */
#ifndef PLUMB_TEXT_JINJA_PARSE_H
#define PLUMB_TEXT_JINJA_PARSE_H

#include "text/jinja/run.h"

/* Largest number of nested blocks and brackets. */
#define PLUMB_JPARSE_DEPTH 200

struct plumb_jparser {
    struct plumb_jinja *t;
    const struct plumb_jtoken *at; /* the token to read next */
    int depth;
    /* number of for loops around the current token, inside the innermost macro or call block */
    int loops;
    struct plumb_jnode *macro; /* innermost macro or call block; its `d` is the next outer one */
};

plumb_status plumb_jparse_node(struct plumb_jparser *p, struct plumb_jnode **out,
                               enum plumb_jnode_kind kind, int64_t line);
plumb_status plumb_jparse_add(struct plumb_jparser *p, struct plumb_jnodes *list,
                              struct plumb_jnode *n);
plumb_status plumb_jparse_intern(struct plumb_jinja *t, const struct plumb_jstr **out,
                                 const char *text, int64_t n);
/* Returns true if t is this operator or name. */
bool plumb_jparse_is(const struct plumb_jtoken *t, const char *text);
/* Returns true and moves to the next token if the current one is this operator or name. */
bool plumb_jparse_skip(struct plumb_jparser *p, const char *text);
plumb_status plumb_jparse_expect(struct plumb_jparser *p, const char *text);
/* Fails with a message that names what was expected (`wanted`) and the current token. */
plumb_status plumb_jparse_unexpected(struct plumb_jparser *p, const char *wanted);
plumb_status plumb_jparse_name(struct plumb_jparser *p, const struct plumb_jstr **out);

/* Parses an expression. If without_if is true, `a if b` ends before `if`. */
plumb_status plumb_jparse_expr(struct plumb_jparser *p, struct plumb_jnode **out, bool without_if);
/* Parses an expression, or a tuple without brackets. If target is true, only assignment targets are
 * allowed as elements. A tuple ends before the name `end`, which may be NULL. */
plumb_status plumb_jparse_tuple(struct plumb_jparser *p, struct plumb_jnode **out, bool without_if,
                                bool target, const char *end);
plumb_status plumb_jparse_filters(struct plumb_jparser *p, struct plumb_jnode **out,
                                  struct plumb_jnode *input, bool started);
plumb_status plumb_jparse_target(struct plumb_jparser *p, struct plumb_jnode **out, bool space,
                                 const char *end);

#endif
