/* fuzz_json.c - reads any bytes as JSON. plumb must refuse them, or give a tree that can be read
 * completely, written and parsed again.
 * Test. Includes io/, base/. */
#include <stdlib.h>
#include <string.h>

#include "io/json.h"
#include "io/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Visits every node. Access to a member by its index and by its key must give the same node. Every
 * string must be valid UTF-8. */
static void walk(const plumb_json *v)
{
    const int64_t n = plumb_json_count(v);
    for (int64_t i = 0; i < n; i++) {
        const plumb_json *item = plumb_json_at(v, i);
        const char *key;
        if (plumb_json_type_of(v) == PLUMB_JSON_OBJECT) {
            if (plumb_json_member_at(v, i, &key, &item) || plumb_json_member(v, key) != item)
                abort();
        }
        walk(item);
    }
    if (plumb_json_type_of(v) == PLUMB_JSON_STRING &&
        plumb_utf8_valid(plumb_json_string(v, ""), plumb_json_string_len(v)) !=
            plumb_json_string_len(v))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    plumb_json *v, *again;
    if (plumb_json_parse(&v, (const char *)data, (int64_t)size, "fuzz") != PLUMB_OK)
        return 0;
    walk(v);
    struct plumb_buf once = {0}, twice = {0};
    if (plumb_json_put_node(&once, v) || plumb_json_parse(&again, once.data, once.len, "again") ||
        plumb_json_put_node(&twice, again))
        abort();
    if (once.len != twice.len || memcmp(once.data, twice.data, (size_t)once.len))
        abort();
    plumb_buf_fini(&once);
    plumb_buf_fini(&twice);
    plumb_json_free(&v);
    plumb_json_free(&again);
    return 0;
}
