/* regex.h - searches for one regular expression and returns its first capture group.
 * Layer 3. Includes base/. The syntax is that of PCRE2, over UTF-8 text. Invalid UTF-8 never
 * matches. */
#ifndef PLUMB_TEXT_REGEX_H
#define PLUMB_TEXT_REGEX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

typedef struct plumb_regex plumb_regex; /* only one thread at a time may use it */

/* The byte range [begin, end) of a text. */
struct plumb_span {
    int64_t begin, end;
};

/* Compiles a pattern. `where` names the source of the pattern in messages. The caller owns *out.
 * Returns PLUMB_ERR_CONFIG with the position and kind of the error in the pattern. */
plumb_status plumb_regex_compile(plumb_regex **out, const char *pattern, const char *where);
void plumb_regex_free(plumb_regex **r); /* does nothing if *r is NULL */

/* Searches for the first match that begins at or after byte `from`. *hit tells whether there is
 * one. *group is its first capture group, or the whole match if the pattern has no group or the
 * group took no part in the match. *next is the position from which to search for the next match.
 * Returns PLUMB_ERR_NUMERIC if the search exceeds 10 million steps. */
plumb_status plumb_regex_search(plumb_regex *r, const char *text, int64_t len, int64_t from,
                                bool *hit, struct plumb_span *group, int64_t *next);

#endif
