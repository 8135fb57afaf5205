/* first_line.c - recognises files that are not JSON lines by their first line.
 * Layer 4. Includes data/first_line.h, base/. */
#include "data/first_line.h"

#include <stdbool.h>
#include <string.h>

/* Names of columns. A first line that contains one of them between commas or tabs is taken as the
 * header of a CSV or TSV table with training data. */
static const char *const columns[] = {
    "prompt",        "completion",  "messages",    "text",     "chosen",
    "rejected",      "instruction", "question",    "input",    "output",
    "conversations", "answer",      "completions", "response", NULL};

/* Splits the line at `separator` and returns true if one of the cells is in `columns`. */
static bool has_column(const char *line, int64_t len, char separator)
{
    const char *at = line, *const end = line + len;
    while (at < end) {
        const char *stop = memchr(at, separator, (size_t)(end - at));
        const char *first = at, *last = stop ? stop : end;
        while (last > first && strchr(" \"'\r", last[-1]))
            last--;
        while (first < last && strchr(" \"'", *first))
            first++;
        for (int i = 0; columns[i]; i++)
            if ((size_t)(last - first) == strlen(columns[i]) &&
                memcmp(first, columns[i], strlen(columns[i])) == 0)
                return true;
        at = stop ? stop + 1 : end;
    }
    return false;
}

plumb_status plumb_first_line_check(const char *path, const char *line, int64_t len)
{
    while (len > 0 && (*line == ' ' || *line == '\t')) {
        line++;
        len--;
    }
    while (len > 0 && strchr(" \t\r", line[len - 1]))
        len--;
    PLUMB_REQUIRE(len != 1 || *line != '{', PLUMB_ERR_FORMAT,
                  "%s: its first record is spread over several lines, expected JSON lines; write a "
                  "record per line: jq -c . IN.json > OUT.jsonl",
                  path);
    if (len == 0 || *line == '{')
        return PLUMB_OK;
    PLUMB_REQUIRE(
        *line != '[', PLUMB_ERR_FORMAT,
        "%s: is one JSON array, expected JSON lines; write a record per line: jq -c '.[]' "
        "IN.json > OUT.jsonl",
        path);
    const bool tabs = memchr(line, '\t', (size_t)len) != NULL;
    const bool table = tabs || memchr(line, ',', (size_t)len);
    PLUMB_REQUIRE(!table || !has_column(line, len, tabs ? '\t' : ','), PLUMB_ERR_FORMAT,
                  "%s: is a table with %s between its columns, expected JSON lines; convert it: "
                  "python3 -c \"import pandas; pandas.read_csv('IN.csv'%s).to_json('OUT.jsonl', "
                  "orient='records', lines=True)\"",
                  path, tabs ? "tabs" : "commas", tabs ? ", sep='\\t'" : "");
    return PLUMB_OK;
}
