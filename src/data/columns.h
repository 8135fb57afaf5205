/* columns.h - finds the members of a record in its JSON text, and copies them into other JSON text,
 * such as the line that a reward command reads.
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

/* Finds the next member of an object, or the next element of an array. *at is 0 for the first call
 * and is advanced. key and value become byte ranges of c.text: key is the name as written, without
 * its quotes (empty for an element), and value is the JSON text of the value. Returns false at the
 * end, and if the text is neither an object nor an array. */
bool plumb_columns_next(struct plumb_columns c, int64_t *at, struct plumb_span *key,
                        struct plumb_span *value);

/* Sets *value to the JSON text of the member with this name. If the object has no such member, a
 * name with a '.' stands for a member of a member: "reward_model.ground_truth" is the member
 * ground_truth of the member reward_model. Returns false if there is no such member either. */
bool plumb_columns_find(struct plumb_columns c, const char *name, struct plumb_columns *value);
/* Finds a member of a data record like plumb_columns_find. A line that `plumb generate` wrote has
 * the member "stop_reason". In such a line, record members whose names the line itself uses (such
 * as "completion") are stored in the object "record". So the function searches that object first,
 * and then the line. */
bool plumb_columns_field(struct plumb_columns c, const char *name, struct plumb_columns *value);

/* Appends the text of a string, or a number as written, to out and sets *is_text to true. For any
 * other value *is_text becomes false and nothing is appended. PLUMB_ERR_NOMEM if memory runs out.
 */
plumb_status plumb_columns_text(struct plumb_buf *out, struct plumb_columns value, bool *is_text);

/* Appends the members of a record to the line for a reward or judge command, which is a JSON object
 * that is open and not empty:
 *   , "prompt_messages": [..]     the record's "prompt" as messages, if it has one; a plain text
 *                                 becomes one message of the user
 *   , "NAME": ..                  each other member, as written
 *   , "record": {"NAME": .., ..}  the members whose names the line uses itself, if there are any
 * taken (n,): the names that the line uses itself, besides "prompt_messages" and "record". The
 * record's "prompt" is copied only into "prompt_messages". skip: name of one more member that is
 * left out, or NULL. PLUMB_ERR_NOMEM if memory runs out. */
plumb_status plumb_columns_put(struct plumb_buf *out, struct plumb_columns record,
                               const char *const *taken, int n, const char *skip);

/* Appends all members of a record to a JSON object that is open and not empty:
 *   ,"NAME":..                each member whose name is not among taken (n), as written
 *   ,"record":{"NAME":..,..}  the members whose names are taken, if there are any
 * "record" always counts as taken. skip: names of members to leave out; the last element is NULL.
 * PLUMB_ERR_NOMEM if memory runs out. */
plumb_status plumb_columns_add(struct plumb_buf *out, struct plumb_columns record,
                               const char *const *taken, int n, const char *const *skip);

#endif
