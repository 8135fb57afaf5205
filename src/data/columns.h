/* columns.h - the record that is passed to a reward or judge: members of its JSON text.
 * Layer 4. Includes base/, text/regex.h.
 *
 * The text of a record is a line of a data file that was parsed before, so it is known to be a
 * valid JSON object. Members are copied from the text itself, so that a number keeps all digits of
 * the file, even if a double or an int64 could not hold them. */
#ifndef PLUMB_DATA_COLUMNS_H
#define PLUMB_DATA_COLUMNS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "text/regex.h"

/* The JSON text of a record, or of one value in it. It was parsed before, so it is valid JSON. The
 * text is borrowed; NULL if there is no record. */
struct plumb_columns {
    const char *text;
    int64_t len;
};

/* Reads the next member of an object or element of an array. *at is 0 for the first call and is
 * advanced. key is the name without its quotes, as written (empty for an element); value is the
 * JSON text. Returns false at the end, and for a text that is neither an object nor an array. */
bool plumb_columns_next(struct plumb_columns c, int64_t *at, struct plumb_span *key,
                        struct plumb_span *value);

/* Finds the member with this name. If there is none and the name contains a '.', it is searched in
 * the member before the '.' ("reward_model.ground_truth"). Returns false if it is not found. */
bool plumb_columns_find(struct plumb_columns c, const char *name, struct plumb_columns *value);
/* Does the same for a field of a data record. In a line that `plumb generate` wrote (it has
 * "stop_reason"), a member of the record whose name the line uses itself is in "record", and that
 * one is found. */
bool plumb_columns_field(struct plumb_columns c, const char *name, struct plumb_columns *value);

/* Appends the text of a string, or a number as written, to out and sets *is_text to true. For any
 * other value *is_text becomes false and nothing is appended. Returns PLUMB_ERR_NOMEM. */
plumb_status plumb_columns_text(struct plumb_buf *out, struct plumb_columns value, bool *is_text);

/* Appends the members of a record to a JSON object that is open and not empty:
 *   , "prompt_messages": [..]     the record's "prompt" as messages, if it has one; a plain text
 *                                 becomes one message of the user
 *   , "NAME": ..                  each other member, as written
 *   , "record": {"NAME": .., ..}  the members whose names the protocol uses itself, if there are
 *                                 any
 * taken (n) are the names that the protocol uses; "prompt", "prompt_messages" and "record" always
 * belong to them, and "prompt" is not repeated in "record". skip is a member to leave out, or NULL.
 * Returns PLUMB_ERR_NOMEM. */
plumb_status plumb_columns_put(struct plumb_buf *out, struct plumb_columns record,
                               const char *const *taken, int n, const char *skip);

/* Appends all members of a record to a JSON object that is open and not empty:
 *   ,"NAME":..                each member whose name is not among taken (n), as written
 *   ,"record":{"NAME":..,..}  the members whose names are taken, if there are any
 * "record" is always taken. skip are names of members to leave out (ends with NULL). Returns
 * PLUMB_ERR_NOMEM. */
plumb_status plumb_columns_add(struct plumb_buf *out, struct plumb_columns record,
                               const char *const *taken, int n, const char *const *skip);

#endif
