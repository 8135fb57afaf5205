/* jinja.h - compiles and renders chat templates, which are written in the Jinja language.
 * Layer 3. Includes base/ and io/json.h.
 *
 * The settings are those of apply_chat_template (transformers 5.24, jinja2 3.1.6): an immutable
 * sandbox, trim_blocks, lstrip_blocks, loop controls (break, continue), the block
 * {% generation %}, tojson without HTML escapes, raise_exception, strftime_now. Values, printing
 * and errors follow Python. plumb refuses a construct that it does not support and names it: at
 * compile time if possible, otherwise when it is rendered. */
#ifndef PLUMB_TEXT_JINJA_JINJA_H
#define PLUMB_TEXT_JINJA_JINJA_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "io/json.h"

typedef struct plumb_jinja plumb_jinja;           /* a compiled template; threads may share it */
typedef struct plumb_jinja_vars plumb_jinja_vars; /* named values; one thread at a time */

/* Compiles len bytes of source, which must be UTF-8. name is the file or field that contains the
 * template; it is copied and used in messages. The caller owns *out. Returns PLUMB_ERR_FORMAT if
 * the source is malformed; PLUMB_ERR_UNSUPPORTED for a construct that plumb does not support. The
 * message has the name, the line and the construct. */
plumb_status plumb_jinja_compile(plumb_jinja **out, const char *source, int64_t len,
                                 const char *name);
void plumb_jinja_free(plumb_jinja **t); /* NULL is allowed */

/* Returns the source of the template (*len bytes, borrowed). Its line breaks are \n, and a line
 * break at its end is removed. */
const char *plumb_jinja_source(const plumb_jinja *t, int64_t *len);

/* Returns true if the template has a {% generation %} block. */
bool plumb_jinja_has_generation(const plumb_jinja *t);
/* Returns true if the source contains `text` anywhere. */
bool plumb_jinja_mentions(const plumb_jinja *t, const char *text);

/* Creates an empty set of variables. The caller owns *out. */
plumb_status plumb_jinja_vars_create(plumb_jinja_vars **out);
void plumb_jinja_vars_free(plumb_jinja_vars **v); /* NULL is allowed */
/* Sets one variable; a later call with the same name replaces the value. Names, strings and JSON
 * values are copied. JSON converts as Python's json.loads does: members keep their order, 1 is an
 * int and 1.0 a float, null is None. PLUMB_ERR_NOMEM if memory runs out; PLUMB_ERR_FORMAT for text
 * that is not UTF-8. */
plumb_status plumb_jinja_set_json(plumb_jinja_vars *v, const char *name, const plumb_json *value);
plumb_status plumb_jinja_set_string(plumb_jinja_vars *v, const char *name, const char *text,
                                    int64_t len);
plumb_status plumb_jinja_set_bool(plumb_jinja_vars *v, const char *name, bool value);
plumb_status plumb_jinja_set_none(plumb_jinja_vars *v, const char *name);

/* Limits for one rendering. A member <= 0 stands for its default. */
struct plumb_jinja_limits {
    /* number of steps: one for each evaluated node and for each 16 processed bytes or elements;
     * default 20 million */
    int64_t steps;
    int64_t depth;  /* number of nested evaluations, including macro calls; default 1,500 */
    int64_t output; /* size of the output in bytes; default 64 MiB */
    int64_t memory; /* size of all values in bytes; default 512 MiB */
};

/* Byte ranges of the output that {% generation %} blocks wrote, in increasing order. Initialise
 * with zeros; release with plumb_jinja_spans_fini. */
struct plumb_jinja_span {
    int64_t begin, end;
};
struct plumb_jinja_spans {
    struct plumb_jinja_span *span;
    int64_t n, cap;
};
void plumb_jinja_spans_fini(struct plumb_jinja_spans *s);

/* Renders a template.
 *
 *   out  out    the output is appended
 *        spans  replaced by the byte ranges of {% generation %} blocks, counted from the beginning
 *               of this output; may be NULL
 *   in   vars   the variables; NULL if there are none
 *        limits NULL for the defaults
 *
 * Errors: PLUMB_ERR_FORMAT if the template fails (for example, if it calls raise_exception); the
 * message has the template, the line and the construct. PLUMB_ERR_UNSUPPORTED for a construct that
 * plumb does not support. PLUMB_ERR_ARG if a limit was reached; the message names it. After an
 * error, out has its old length, and spans is empty. */
plumb_status plumb_jinja_render(const plumb_jinja *t, struct plumb_buf *out,
                                struct plumb_jinja_spans *spans, const plumb_jinja_vars *vars,
                                const struct plumb_jinja_limits *limits);

#endif
