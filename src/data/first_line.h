/* first_line.h - recognises files that are not JSON lines by their first line.
 * Layer 4. Includes base/. */
#ifndef PLUMB_DATA_FIRST_LINE_H
#define PLUMB_DATA_FIRST_LINE_H

#include <stdint.h>

#include "base/status.h"

/* Refuses the first line of a file if it shows that the file is one JSON array, has a record that
 * is spread over several lines, or is a table (CSV or TSV) with a column such as "prompt". A
 * refusal is PLUMB_ERR_FORMAT; its message has a command that converts the file. Accepts everything
 * else. */
plumb_status plumb_first_line_check(const char *path, const char *line, int64_t len);

#endif
