/* regex.h - one regular expression, searched for with its first group.
 * Layer 3. Includes base/. Syntax: PCRE2, over UTF-8 text; text that is no UTF-8 does not match. */
#ifndef PLUMB_TEXT_REGEX_H
#define PLUMB_TEXT_REGEX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

typedef struct plumb_regex plumb_regex; /* one thread at a time */

/* Bytes [begin, end) of a text. */
struct plumb_span {
    int64_t begin, end;
};

/* where: what the pattern belongs to, for messages. *out is owned by the caller.
 * PLUMB_ERR_CONFIG with the place and kind of the fault in the pattern. */
plumb_status plumb_regex_compile(plumb_regex **out, const char *pattern, const char *where);
void plumb_regex_free(plumb_regex **r); /* NULL is allowed */

/* The first match that begins at or after byte `from` of text: *hit, and *group = its first
 * group, or the whole match when the pattern has none or it took no part. `from` of the next
 * search is *next. PLUMB_ERR_NUMERIC when the search is given up after 10 million steps. */
plumb_status plumb_regex_search(plumb_regex *r, const char *text, int64_t len, int64_t from,
                                bool *hit, struct plumb_span *group, int64_t *next);

#endif
