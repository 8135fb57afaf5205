/* test_buf.c - checks that bytes and formatted text are appended to a growing buffer.
 * Test. */
#include "base/buf.h"

#include <string.h>

#include "harness.h"

int main(void)
{
    struct plumb_buf b = {0};
    CHECK(strcmp(plumb_buf_text(&b), "") == 0);
    plumb_buf_clear(&b);
    CHECK_OK(plumb_buf_add(&b, "", 0));
    CHECK(b.len == 0 && b.data && b.data[0] == '\0');
    char want[5001] = {0};
    for (int i = 0; i < 1000; i++) {
        CHECK_OK(i % 2 ? plumb_buf_addf(&b, "%05d", i) : plumb_buf_add_text(&b, "abcde"));
        if (i % 2)
            snprintf(want + 5 * i, 6, "%05d", i);
        else
            memcpy(want + 5 * i, "abcde", 5);
        CHECK(b.len == 5 * (i + 1) && b.cap > b.len && b.data[b.len] == '\0');
    }
    CHECK(memcmp(plumb_buf_text(&b), want, 5000) == 0);
    CHECK_OK(plumb_buf_add(&b, "a\0b", 3));
    CHECK(b.len == 5003 && b.data[5002] == 'b');
    const int64_t cap = b.cap;
    plumb_buf_clear(&b);
    CHECK(b.len == 0 && b.cap == cap && strcmp(plumb_buf_text(&b), "") == 0);
    CHECK_OK(plumb_buf_addf(&b, "%s", want)); /* this text is longer than the buffer */
    CHECK(b.len == 5000 && strcmp(plumb_buf_text(&b), want) == 0);
    CHECK(plumb_buf_add(&b, "", INT64_MAX) == PLUMB_ERR_NOMEM);
    CHECK(b.len == 5000 && strcmp(plumb_buf_text(&b), want) == 0);
    plumb_buf_fini(&b);
    CHECK(!b.data && b.len == 0 && b.cap == 0);
    return 0;
}
