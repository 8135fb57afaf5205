/* yaml.h - reads YAML 1.2 into a tree that stores the line and column of each value. Only yaml.c
 * and versions.c use the library libfyaml.
 * Layer 1. Includes base/ only.
 *
 * The text must be one document of maps, lists and scalars. Anchors, aliases, tags, merge keys,
 * keys that are not scalars, NUL bytes, invalid UTF-8, more than 64 levels and more than 2^24 bytes
 * are refused with a message. A duplicate key is an error that names both lines. A scalar keeps its
 * text; the caller decides whether it is a number, a boolean or a string. */
#ifndef PLUMB_IO_YAML_H
#define PLUMB_IO_YAML_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

enum plumb_yaml_type { PLUMB_YAML_SCALAR, PLUMB_YAML_LIST, PLUMB_YAML_MAP };

struct plumb_yaml {
    enum plumb_yaml_type type;
    int line, column; /* position of the value in the file; both numbers start at 1 */
    const char *text; /* text of a scalar */
    /* True for a quoted scalar or a block scalar, which is text and never a number or null. */
    bool quoted;
    /* First element of a list or member of a map, in the order of the file. */
    struct plumb_yaml *first;
    struct plumb_yaml *next; /* next element or member of the same parent */
    const char *key;         /* key, if this node is a member of a map */
    int key_line, key_column;
    int64_t n; /* number of elements or members */
};

/* Parse a file or a text. The caller owns *out. An empty text gives an empty map. `where` names the
 * source in messages ("align.yaml:12:3: ..."). They return PLUMB_ERR_IO, PLUMB_ERR_UNSUPPORTED for
 * a text that is too long, or PLUMB_ERR_FORMAT with line and column. */
plumb_status plumb_yaml_read_file(struct plumb_yaml **out, const char *path);
plumb_status plumb_yaml_parse(struct plumb_yaml **out, const char *text, int64_t len,
                              const char *where);
void plumb_yaml_free(struct plumb_yaml **root); /* does nothing if *root is NULL */

/* Returns true if v is a YAML null: a NULL pointer, or an unquoted scalar that is empty, ~, null,
 * Null or NULL. */
bool plumb_yaml_is_null(const struct plumb_yaml *v);
/* Returns "a map", "a list" or "a scalar". */
const char *plumb_yaml_type_name(const struct plumb_yaml *v);

/* Appends text (UTF-8) as a scalar that reads back as the same text: unquoted where that is safe in
 * every context, including inside [ ] and { }, otherwise double-quoted. */
plumb_status plumb_yaml_put_string(struct plumb_buf *b, const char *text);

#endif
