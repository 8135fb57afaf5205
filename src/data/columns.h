/* columns.h - a record as it is handed over to whoever scores an answer: members of its JSON text.
 * Layer 4. Includes base/, text/regex.h.
 *
 * The JSON text of a record is a line of a data file that has been parsed before, so it is known to
 * be an object and in order. Members are taken from the text itself: a number keeps every digit
 * that the file has, whatever a double or an int64 could hold. */
#ifndef PLUMB_DATA_COLUMNS_H
#define PLUMB_DATA_COLUMNS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "text/regex.h"

/* JSON text that was parsed before; borrowed. text NULL: there is no record. */
struct plumb_columns {
    const char *text;
    int64_t len;
};

/* The next member of an object or element of an array, from *at, which begins at 0. key is its name
 * between the quotes as it is written, empty for an element; value its JSON text. False at the end,
 * and for text that is neither. */
bool plumb_columns_next(struct plumb_columns c, int64_t *at, struct plumb_span *key,
                        struct plumb_span *value);

/* The member of that name or, where there is none and the name has a point, the member of the
 * member before the point ("reward_model.ground_truth"). False when there is none. */
bool plumb_columns_find(struct plumb_columns c, const char *name, struct plumb_columns *value);

/* out += the text of a string, or a number as it is written; *is_text false and nothing for any
 * other value. PLUMB_ERR_NOMEM. */
plumb_status plumb_columns_text(struct plumb_buf *out, struct plumb_columns value, bool *is_text);

/* Appends what is handed over of a record to a JSON object that is open and not empty:
 *     , "prompt_messages": [..]     the record's "prompt" as messages, if it has one; a text is a
 *                                   message of the user
 *     , "NAME": ..                  every other member, as it is written
 *     , "record": {"NAME": .., ..}  the members whose names the protocol has for itself, if there
 *                                   are any
 * taken (n): names of the protocol; "prompt", "prompt_messages" and "record" are always taken, and
 * "prompt" is not repeated in "record". skip: a member that is not handed over at all, or NULL.
 * PLUMB_ERR_NOMEM. */
plumb_status plumb_columns_put(struct plumb_buf *out, struct plumb_columns record,
                               const char *const *taken, int n, const char *skip);

#endif
