/* fuzz_tfrecord.c - checks TFRecord framing: any bytes are read to their end or refused, and any
 * bytes written as a record are read back.
 * Test. Includes io/tfrecord.h. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "io/tfrecord.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data, *record;
    struct plumb_buf b = {0};
    int64_t n, at = 0, before = -1;
    while (before < at) {
        before = at;
        if (plumb_tfrecord_next(&record, &n, text, (int64_t)size, &at, "fuzz") != PLUMB_OK ||
            !record)
            break;
        if (record < text || n < 0 || record + n > text + size)
            abort();
    }
    at = 0;
    if (plumb_tfrecord_put(&b, data, (int64_t)size) != PLUMB_OK ||
        plumb_tfrecord_next(&record, &n, b.data, b.len, &at, "fuzz") != PLUMB_OK || !record ||
        n != (int64_t)size || at != b.len || (size && memcmp(record, data, size) != 0))
        abort();
    plumb_buf_fini(&b);
    return 0;
}
