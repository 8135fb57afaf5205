/* tfrecord.c - writes and reads TFRecord framing.
 * Layer 1. Includes io/tfrecord.h, base/. */
#include "io/tfrecord.h"

#include <stddef.h>

enum { HEAD = 12, TAIL = 4 };

#define POLYNOMIAL 0x82f63b78u /* Castagnoli, with its bits reversed */
#define MASK_DELTA 0xa282ead8u

/* Computes the checksum bit by bit, without a table: this is fast enough for small event files. */
uint32_t plumb_crc32c(const void *bytes, int64_t n)
{
    const unsigned char *p = bytes;
    uint32_t crc = 0xffffffffu;
    for (int64_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
    }
    return ~crc;
}

static uint32_t masked(const void *bytes, int64_t n)
{
    const uint32_t crc = plumb_crc32c(bytes, n);
    return (crc >> 15 | crc << 17) + MASK_DELTA;
}

static void put_le(unsigned char *out, uint64_t x, int bytes)
{
    for (int i = 0; i < bytes; i++)
        out[i] = (unsigned char)(x >> 8 * i);
}

static uint64_t get_le(const char *p, int bytes)
{
    uint64_t x = 0;
    for (int i = 0; i < bytes; i++)
        x |= (uint64_t)(unsigned char)p[i] << 8 * i;
    return x;
}

plumb_status plumb_tfrecord_put(struct plumb_buf *out, const void *data, int64_t n)
{
    unsigned char head[HEAD], tail[TAIL];
    put_le(head, (uint64_t)n, 8);
    put_le(head + 8, masked(head, 8), 4);
    put_le(tail, masked(data, n), TAIL);
    PLUMB_TRY(plumb_buf_add(out, head, HEAD));
    PLUMB_TRY(plumb_buf_add(out, data, n));
    return plumb_buf_add(out, tail, TAIL);
}

plumb_status plumb_tfrecord_next(const char **data, int64_t *n, const char *text, int64_t len,
                                 int64_t *at, const char *where)
{
    const char *p = text + *at;
    const int64_t left = len - *at;
    *data = NULL;
    *n = 0;
    if (left < HEAD)
        return PLUMB_OK;
    PLUMB_REQUIRE(get_le(p + 8, 4) == masked(p, 8), PLUMB_ERR_FORMAT,
                  "%s: byte %lld: the crc of a record's length is wrong", where, (long long)*at);
    const uint64_t bytes = get_le(p, 8);
    if (bytes > (uint64_t)(left - HEAD) || left - HEAD - (int64_t)bytes < TAIL)
        return PLUMB_OK;
    PLUMB_REQUIRE(get_le(p + HEAD + bytes, TAIL) == masked(p + HEAD, (int64_t)bytes),
                  PLUMB_ERR_FORMAT, "%s: byte %lld: the crc of a record's data is wrong", where,
                  (long long)*at);
    *data = p + HEAD;
    *n = (int64_t)bytes;
    *at += HEAD + (int64_t)bytes + TAIL;
    return PLUMB_OK;
}
