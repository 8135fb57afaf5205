/* yaml.h - reading YAML 1.2 into a tree that knows where everything stood: the only user of
 * libfyaml is yaml.c.
 * Layer 1. Includes base/ only.
 *
 * Plain data only: one document of maps, lists and scalars. Anchors, aliases, tags, merge keys,
 * keys that are no scalars, NUL bytes and more than 64 levels are refused by name; a duplicate
 * key is an error that names both lines. Scalars keep their text: what it means is for the reader
 * of the tree to say. */
#ifndef PLUMB_IO_YAML_H
#define PLUMB_IO_YAML_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

enum plumb_yaml_type { PLUMB_YAML_SCALAR, PLUMB_YAML_LIST, PLUMB_YAML_MAP };

struct plumb_yaml {
    enum plumb_yaml_type type;
    int line, column;         /* of the value, from 1 */
    const char *text;         /* of a scalar */
    bool quoted;              /* a quoted or block scalar: text and never a number or null */
    struct plumb_yaml *first; /* of a list or map, in file order */
    struct plumb_yaml *next;  /* the next element or member beside this one */
    const char *key;          /* of a member of a map */
    int key_line, key_column;
    int64_t n; /* elements or members */
};

/* *out is owned by the caller; an empty file is an empty map. `where` names the source in
 * messages ("align.yaml:12:3: ..."). Errors: PLUMB_ERR_IO; PLUMB_ERR_FORMAT with line and column.
 */
plumb_status plumb_yaml_read_file(struct plumb_yaml **out, const char *path);
plumb_status plumb_yaml_parse(struct plumb_yaml **out, const char *text, int64_t len,
                              const char *where);
void plumb_yaml_free(struct plumb_yaml **root); /* NULL is allowed */

/* Whether v is the null of YAML: NULL, or a plain scalar that is empty, ~, null, Null or NULL. */
bool plumb_yaml_is_null(const struct plumb_yaml *v);
const char *plumb_yaml_type_name(const struct plumb_yaml *v); /* "a map", "a list", "a scalar" */

/* Appends text as a scalar that reads back as the same text: plain where that is safe, also
 * inside [ ] and { }, else double-quoted. text is UTF-8. */
plumb_status plumb_yaml_put_string(struct plumb_buf *b, const char *text);

#endif
