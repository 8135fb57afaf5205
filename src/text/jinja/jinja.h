/* jinja.h - chat templates: compiles and renders the Jinja language as transformers sets it up.
 * Layer 3. Includes base/ and io/json.h.
 *
 * The settings are those of apply_chat_template (transformers 5.24, jinja2 3.1.6): an immutable
 * sandbox, trim_blocks, lstrip_blocks, loop controls (break, continue), the block
 * {% generation %}, tojson without HTML escapes, raise_exception, strftime_now. Values, printing
 * and errors follow Python. A construct that plumb does not know is refused by name: at compile
 * time where the source shows it, otherwise at render time. */
#ifndef PLUMB_TEXT_JINJA_JINJA_H
#define PLUMB_TEXT_JINJA_JINJA_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "io/json.h"

typedef struct plumb_jinja plumb_jinja;           /* a compiled template; shared by threads */
typedef struct plumb_jinja_vars plumb_jinja_vars; /* named values; read by one thread at a time */

/* Compiles source[0 .. len), which must be UTF-8. name: a file or a field, for messages; copied.
 * *out is owned by the caller.
 * Errors: PLUMB_ERR_FORMAT for malformed source, PLUMB_ERR_UNSUPPORTED for what plumb does not
 * know; the message gives name, line and construct. */
plumb_status plumb_jinja_compile(plumb_jinja **out, const char *source, int64_t len,
                                 const char *name);
void plumb_jinja_free(plumb_jinja **t); /* NULL is allowed */

/* The source that was compiled, *len bytes; borrowed. */
const char *plumb_jinja_source(const plumb_jinja *t, int64_t *len);

/* Whether the template has a {% generation %} block. */
bool plumb_jinja_has_generation(const plumb_jinja *t);
/* Whether the source contains this text anywhere. */
bool plumb_jinja_mentions(const plumb_jinja *t, const char *text);

/* An empty set of variables. *out is owned by the caller. */
plumb_status plumb_jinja_vars_create(plumb_jinja_vars **out);
void plumb_jinja_vars_free(plumb_jinja_vars **v); /* NULL is allowed */
/* Sets one variable; a later call with the same name replaces the value. Names, strings and JSON
 * values are copied. JSON converts as Python's json.loads does: members keep their order, 1 is an
 * int and 1.0 a float, null is None. Errors: PLUMB_ERR_NOMEM, and PLUMB_ERR_FORMAT for text that
 * is not UTF-8. */
plumb_status plumb_jinja_set_json(plumb_jinja_vars *v, const char *name, const plumb_json *value);
plumb_status plumb_jinja_set_string(plumb_jinja_vars *v, const char *name, const char *text,
                                    int64_t len);
plumb_status plumb_jinja_set_bool(plumb_jinja_vars *v, const char *name, bool value);
plumb_status plumb_jinja_set_none(plumb_jinja_vars *v, const char *name);

/* Bounds of one render. A member that is 0 or less takes its default. */
struct plumb_jinja_limits {
    int64_t steps;  /* evaluated nodes; default 20 million */
    int64_t depth;  /* nested evaluations, macro calls among them; default 400 */
    int64_t output; /* bytes of output; default 64 MiB */
    int64_t memory; /* bytes of values; default 512 MiB */
};

/* Byte ranges of the output, in order, that {% generation %} blocks wrote. Zero-initialise;
 * released with plumb_jinja_spans_fini. */
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
 *   out  out    text += the output
 *        spans  replaced by the ranges of {% generation %} blocks, counted from where this output
 *               begins; NULL when they are not wanted
 *   in   vars   the variables, NULL for none; unchanged
 *        limits NULL for the defaults
 *
 * Errors: PLUMB_ERR_FORMAT with template, line and construct when the template itself fails, its
 * raise_exception among it; PLUMB_ERR_UNSUPPORTED for what plumb does not know; PLUMB_ERR_ARG
 * names the bound that was reached. After an error out has its old length. */
plumb_status plumb_jinja_render(const plumb_jinja *t, struct plumb_buf *out,
                                struct plumb_jinja_spans *spans, const plumb_jinja_vars *vars,
                                const struct plumb_jinja_limits *limits);

#endif
