/* json.h - reading and writing JSON (RFC 8259): the only user of jansson is json.c.
 * Layer 1. Includes base/ only.
 *
 * Reading: a tree of borrowed nodes under one owned root. `where` names the file and line in
 * messages ("prompts.jsonl:12"). Duplicate keys and trailing text are errors, as are integers
 * outside int64, reals outside double, NUL inside a key and more than 2048 levels; strings may
 * hold NUL and are UTF-8. Members keep the order of the file. */
#ifndef PLUMB_IO_JSON_H
#define PLUMB_IO_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

typedef struct plumb_json plumb_json;

enum plumb_json_type {
    PLUMB_JSON_NULL,
    PLUMB_JSON_BOOL,
    PLUMB_JSON_INT,
    PLUMB_JSON_REAL,
    PLUMB_JSON_STRING,
    PLUMB_JSON_ARRAY,
    PLUMB_JSON_OBJECT,
};

/* *out is owned by the caller. Errors: PLUMB_ERR_IO, PLUMB_ERR_FORMAT with line and column. */
plumb_status plumb_json_read_file(plumb_json **out, const char *path);
plumb_status plumb_json_parse(plumb_json **out, const char *text, int64_t len, const char *where);
void plumb_json_free(plumb_json **root); /* NULL is allowed */

enum plumb_json_type plumb_json_type_of(const plumb_json *v); /* NULL counts as null */
const char *plumb_json_type_name(enum plumb_json_type t);
/* Member of an object; NULL when v is no object, has no such key, or holds null there. */
const plumb_json *plumb_json_get(const plumb_json *v, const char *key);
/* Like get, but a member that holds null is returned (as a node of type null). */
const plumb_json *plumb_json_member(const plumb_json *v, const char *key);
int64_t plumb_json_count(const plumb_json *v);                   /* of an array or object; else 0 */
const plumb_json *plumb_json_at(const plumb_json *v, int64_t i); /* array element, or NULL */
/* Object members in file order. i in [0, count). */
plumb_status plumb_json_member_at(const plumb_json *v, int64_t i, const char **key,
                                  const plumb_json **value);
/* Values of a node; the fallback when v is NULL or of another type. */
const char *plumb_json_string(const plumb_json *v, const char *fallback);
int64_t plumb_json_string_len(const plumb_json *v);
int64_t plumb_json_int(const plumb_json *v, int64_t fallback);
double plumb_json_real(const plumb_json *v, double fallback); /* an int counts as a real */
bool plumb_json_bool(const plumb_json *v, bool fallback);

/* Required or defaulted typed members of an object; PLUMB_ERR_FORMAT names where, key and the
 * type that was found. fallback == NULL: the member is required. A member that is null counts
 * as absent; a real without a fraction counts as an int. */
plumb_status plumb_json_want_int(const plumb_json *v, const char *key, int64_t *out,
                                 const int64_t *fallback, const char *where);
plumb_status plumb_json_want_real(const plumb_json *v, const char *key, double *out,
                                  const double *fallback, const char *where);
plumb_status plumb_json_want_bool(const plumb_json *v, const char *key, bool *out,
                                  const bool *fallback, const char *where);
/* *out is borrowed from the tree. */
plumb_status plumb_json_want_string(const plumb_json *v, const char *key, const char **out,
                                    const char *const *fallback, const char *where);

/* Writing: appends to a buffer. The caller writes the commas and braces. Bytes of a string that
 * are no UTF-8 become U+FFFD, so that the output is always JSON. */
plumb_status plumb_json_put_string(struct plumb_buf *b, const char *text, int64_t len);
/* Shortest text that reads back to the same value; non-finite becomes null. */
plumb_status plumb_json_put_real(struct plumb_buf *b, double x);
plumb_status plumb_json_put_f32(struct plumb_buf *b, float x);
/* A node of a parsed tree, compact. */
plumb_status plumb_json_put_node(struct plumb_buf *b, const plumb_json *v);

#endif
