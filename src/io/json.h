/* json.h - reads and writes JSON (RFC 8259). Only json.c and versions.c use the library jansson.
 * Layer 1. Includes base/ only.
 *
 * A parsed text is a tree; the caller owns its root, and all other nodes and texts are borrowed
 * from it. `where` names the source in messages, for example "prompts.jsonl:12". Parsing fails for:
 * duplicate keys, text after the value, reals outside the range of double, a NUL byte in the text,
 * \u0000 in a key, more than 2048 levels, more than 2^31 - 1 bytes. If an integer of a text does
 * not fit int64, it becomes a real, and all other integers of this text above 2^53 in absolute
 * value become reals, too. Strings are UTF-8 and may contain NUL bytes (written \u0000). Members
 * keep the order of the text. */
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

/* Parse a file or a text. The caller owns *out. They return PLUMB_ERR_IO, PLUMB_ERR_UNSUPPORTED for
 * a text that is too long, or PLUMB_ERR_FORMAT with the place of the error: line and column, or
 * only the column for a text of one line. */
plumb_status plumb_json_read_file(plumb_json **out, const char *path);
plumb_status plumb_json_parse(plumb_json **out, const char *text, int64_t len, const char *where);
void plumb_json_free(plumb_json **root); /* does nothing if *root is NULL */

/* Returns the type of a node; PLUMB_JSON_NULL if v is NULL. */
enum plumb_json_type plumb_json_type_of(const plumb_json *v);
const char *plumb_json_type_name(enum plumb_json_type t);
/* Returns a member of an object. Returns NULL if v is not an object, if it has no such key, or if
 * the value is null. */
const plumb_json *plumb_json_get(const plumb_json *v, const char *key);
/* Like plumb_json_get, but a member whose value is null is returned as a node of type null. */
const plumb_json *plumb_json_member(const plumb_json *v, const char *key);
/* Returns the number of elements of an array or members of an object; 0 for any other node. */
int64_t plumb_json_count(const plumb_json *v);
/* Returns element i of an array, or NULL if there is none. */
const plumb_json *plumb_json_at(const plumb_json *v, int64_t i);
/* Sets *key and *value to member i of an object, in the order of the text; i is in [0, count). */
plumb_status plumb_json_member_at(const plumb_json *v, int64_t i, const char **key,
                                  const plumb_json **value);
/* Returns true if two values are equal. The order of members does not matter, a member whose value
 * is null counts as absent, and 1 equals 1.0. NULL equals a node of type null. */
bool plumb_json_equal(const plumb_json *a, const plumb_json *b);
/* Return the value of a node, or `fallback` if v is NULL or has another type. */
const char *plumb_json_string(const plumb_json *v, const char *fallback);
int64_t plumb_json_string_len(const plumb_json *v);
int64_t plumb_json_int(const plumb_json *v, int64_t fallback);
/* Returns the value of a node of type real or integer as a double, or `fallback` for any other
 * node. */
double plumb_json_real(const plumb_json *v, double fallback);
bool plumb_json_bool(const plumb_json *v, bool fallback);

/* Read a member of an object with a required type. If fallback is NULL, the member is required;
 * otherwise *fallback is used if the member is missing or null. They return PLUMB_ERR_FORMAT with
 * `where`, the key and the type that was found. A real without a fraction, of at most 2^53 in
 * absolute value, is accepted as an int. */
plumb_status plumb_json_want_int(const plumb_json *v, const char *key, int64_t *out,
                                 const int64_t *fallback, const char *where);
plumb_status plumb_json_want_real(const plumb_json *v, const char *key, double *out,
                                  const double *fallback, const char *where);
plumb_status plumb_json_want_bool(const plumb_json *v, const char *key, bool *out,
                                  const bool *fallback, const char *where);
/* Reads a string member, with the same errors and fallback as plumb_json_want_int. *out is borrowed
 * from the tree. */
plumb_status plumb_json_want_string(const plumb_json *v, const char *key, const char **out,
                                    const char *const *fallback, const char *where);

/* The functions below append JSON text to a buffer. The caller appends commas, colons and braces,
 * unless the comment of a function says otherwise. plumb_json_put_string appends a quoted string;
 * it replaces bytes that are not valid UTF-8 by U+FFFD, so that the output is always valid JSON. */
plumb_status plumb_json_put_string(struct plumb_buf *b, const char *text, int64_t len);
/* Appends the key of the next member of an object, with its colon, and before it a comma unless the
 * buffer ends with the brace that opens the object. */
plumb_status plumb_json_put_key(struct plumb_buf *b, const char *key);
/* Append x with the fewest decimal digits that read back to the same value. NaN and infinities are
 * written as null. */
plumb_status plumb_json_put_real(struct plumb_buf *b, double x);
plumb_status plumb_json_put_f32(struct plumb_buf *b, float x);
/* Appends a node of a parsed tree with all nodes below it, without spaces. */
plumb_status plumb_json_put_node(struct plumb_buf *b, const plumb_json *v);

#endif
