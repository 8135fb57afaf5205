/* parse.h - what the two halves of the parser share.
 * Layer 3. Private to text/jinja/parse*.c. */
#ifndef PLUMB_TEXT_JINJA_PARSE_H
#define PLUMB_TEXT_JINJA_PARSE_H

#include "text/jinja/run.h"

/* Levels of blocks and brackets inside each other. */
#define PLUMB_JPARSE_DEPTH 200

struct plumb_jparser {
    struct plumb_jinja *t;
    const struct plumb_jtoken *at; /* the current token */
    int depth;
    int loops;                 /* for loops around, inside the innermost macro or call */
    struct plumb_jnode *macro; /* innermost macro or call block; `d` links to the next one out */
};

plumb_status plumb_jparse_node(struct plumb_jparser *p, struct plumb_jnode **out,
                               enum plumb_jnode_kind kind, int64_t line);
plumb_status plumb_jparse_add(struct plumb_jparser *p, struct plumb_jnodes *list,
                              struct plumb_jnode *n);
plumb_status plumb_jparse_intern(struct plumb_jinja *t, const struct plumb_jstr **out,
                                 const char *text, int64_t n);
bool plumb_jparse_is(const struct plumb_jtoken *t, const char *text); /* operator or name */
bool plumb_jparse_skip(struct plumb_jparser *p, const char *text);
plumb_status plumb_jparse_expect(struct plumb_jparser *p, const char *text);
plumb_status plumb_jparse_unexpected(struct plumb_jparser *p, const char *wanted);
plumb_status plumb_jparse_name(struct plumb_jparser *p, const struct plumb_jstr **out);

/* Expressions. without_if: `a if b` ends before `if`. */
plumb_status plumb_jparse_expr(struct plumb_jparser *p, struct plumb_jnode **out, bool without_if);
/* An expression, or a tuple without brackets that ends before the name `end` (NULL: none). */
plumb_status plumb_jparse_tuple(struct plumb_jparser *p, struct plumb_jnode **out, bool without_if,
                                bool target, const char *end);
plumb_status plumb_jparse_filters(struct plumb_jparser *p, struct plumb_jnode **out,
                                  struct plumb_jnode *input, bool started);
plumb_status plumb_jparse_target(struct plumb_jparser *p, struct plumb_jnode **out, bool space,
                                 const char *end);

#endif
