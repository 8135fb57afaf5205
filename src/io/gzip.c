/* gzip.c - decompresses gzip data with zlib.
 * Layer 1. Includes io/gzip.h, base/. */
#include "io/gzip.h"

#include <string.h>
#include <zlib.h>

#include "base/num.h"

enum { CHUNK = 1 << 16, GZIP_ONLY = 15 + 16 /* windowBits of inflateInit2: gzip, no other form */ };

/* Appends the decompressed bytes of the gzip member that begins at `from`; n bytes are available
 * there. Sets *used to the number of compressed bytes of this member. */
static plumb_status add_member(struct plumb_buf *out, int64_t *used, const char *from, int64_t n,
                               const char *path)
{
    z_stream z = {0};
    char chunk[CHUNK];
    int64_t given = 0;
    int code = Z_OK;
    plumb_status st = PLUMB_OK;
    PLUMB_REQUIRE(inflateInit2(&z, GZIP_ONLY) == Z_OK, PLUMB_ERR_NOMEM,
                  "%s: cannot decompress this gzip data", path);
    while (code == Z_OK) {
        if (z.avail_in == 0) {
            z.next_in = (Bytef *)(uintptr_t)(from + given);
            z.avail_in = (uInt)plumb_min_i64(n - given, 1 << 30);
            given += z.avail_in;
        }
        z.next_out = (Bytef *)chunk;
        z.avail_out = CHUNK;
        code = inflate(&z, Z_NO_FLUSH);
        PLUMB_TRY_GOTO(st, plumb_buf_add(out, chunk, CHUNK - (int64_t)z.avail_out), done);
    }
    *used = given - (int64_t)z.avail_in;
    if (code == Z_BUF_ERROR)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_FORMAT, done,
                        "%s: the gzip data ends too early, after %lld bytes of text; the file is "
                        "not complete",
                        path, (long long)out->len);
    if (code != Z_STREAM_END)
        PLUMB_FAIL_GOTO(st, code == Z_MEM_ERROR ? PLUMB_ERR_NOMEM : PLUMB_ERR_FORMAT, done,
                        "%s: the gzip data is damaged after %lld bytes of text: %s", path,
                        (long long)out->len, z.msg ? z.msg : "unknown error");
done:
    inflateEnd(&z);
    return st;
}

static plumb_status add_members(struct plumb_buf *out, const struct plumb_buf *b, const char *path)
{
    int64_t at = 0;
    while (at < b->len) {
        int64_t used = 0;
        const unsigned char *head = (const unsigned char *)b->data + at;
        if (at > 0 && *head == 0) { /* a zero byte between or after members is padding */
            at++;
            continue;
        }
        PLUMB_REQUIRE(b->len - at >= 2 && head[0] == 0x1f && head[1] == 0x8b, PLUMB_ERR_FORMAT,
                      "%s: byte %lld: other data follows the gzip data", path, (long long)at);
        PLUMB_TRY(add_member(out, &used, b->data + at, b->len - at, path));
        at += used;
    }
    return PLUMB_OK;
}

plumb_status plumb_gunzip(struct plumb_buf *b, const char *path)
{
    struct plumb_buf out = {0};
    const plumb_status st = add_members(&out, b, path);
    if (st != PLUMB_OK) {
        plumb_buf_fini(&out);
        return st;
    }
    plumb_buf_fini(b);
    *b = out;
    return PLUMB_OK;
}
