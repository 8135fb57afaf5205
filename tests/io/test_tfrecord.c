/* test_tfrecord.c - checks CRC-32C and TFRecord framing: known values, records that are written and
 * read back, damaged and cut files.
 * Test. Includes harness.h, io/tfrecord.h. */
#include "io/tfrecord.h"

#include <string.h>

#include "harness.h"

/* The expected values are from RFC 3720, section B.4, and the check value of CRC-32C in the CRC
 * catalogue. */
static void test_crc(void)
{
    unsigned char bytes[32] = {0};
    CHECK(plumb_crc32c("", 0) == 0);
    CHECK(plumb_crc32c("123456789", 9) == 0xe3069283u);
    CHECK(plumb_crc32c(bytes, 32) == 0x8a9136aau);
    memset(bytes, 0xff, sizeof(bytes));
    CHECK(plumb_crc32c(bytes, 32) == 0x62a8ab43u);
    for (int i = 0; i < 32; i++)
        bytes[i] = (unsigned char)i;
    CHECK(plumb_crc32c(bytes, 32) == 0x46dd794eu);
}

static void test_round_trip(void)
{
    struct plumb_buf b = {0};
    const char *data;
    int64_t n, at = 0;
    char zeros[300] = {0};
    CHECK_OK(plumb_tfrecord_put(&b, "abc", 3));
    CHECK_OK(plumb_tfrecord_put(&b, "", 0));
    CHECK_OK(plumb_tfrecord_put(&b, zeros, sizeof(zeros)));
    CHECK(b.len == 3 * 16 + 303);
    CHECK_OK(plumb_tfrecord_next(&data, &n, b.data, b.len, &at, "test"));
    CHECK(data && n == 3 && !memcmp(data, "abc", 3) && at == 19);
    CHECK_OK(plumb_tfrecord_next(&data, &n, b.data, b.len, &at, "test"));
    CHECK(data && n == 0 && at == 35);
    CHECK_OK(plumb_tfrecord_next(&data, &n, b.data, b.len, &at, "test"));
    CHECK(data && n == 300 && at == b.len);
    CHECK_OK(plumb_tfrecord_next(&data, &n, b.data, b.len, &at, "test"));
    CHECK(!data && at == b.len);
    for (int64_t cut = 0; cut < 19; cut++) { /* a file that was cut when the writer was killed */
        at = 0;
        CHECK_OK(plumb_tfrecord_next(&data, &n, b.data, cut, &at, "test"));
        CHECK(!data && at == 0);
    }
    for (int64_t i = 0; i < 19; i++) { /* a change of any byte is detected */
        b.data[i] ^= 4;
        at = 0;
        CHECK_FAILS(plumb_tfrecord_next(&data, &n, b.data, b.len, &at, "test"), PLUMB_ERR_FORMAT,
                    "crc");
        b.data[i] ^= 4;
    }
    plumb_buf_fini(&b);
}

int main(void)
{
    test_crc();
    test_round_trip();
    return 0;
}
