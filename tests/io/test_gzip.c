/* test_gzip.c - checks gzip data: several members, padding, data cut at every byte, damage, and
 * bytes after the end. Test. */
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "io/gzip.h"

/* Made by Python: gzip.compress(b'{"text": "a"}\n' * 3, mtime=0) and gzip.compress(b"end\n",
 * mtime=0) */
static const char first[] =
    "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xab\x56\x2a\x49\xad\x28\x51\xb2\x52\x50"
    "\x4a\x54\xaa\xe5\xaa\xc6\xc3\x03\x00\xb5\xf1\xe1\x3f\x2a\x00\x00\x00";
static const char second[] =
    "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\x4b\xcd\x4b\xe1\x02\x00\xba\x79\xb1\x8e"
    "\x04\x00\x00\x00";
#define TEXT "{\"text\": \"a\"}\n{\"text\": \"a\"}\n{\"text\": \"a\"}\n"

static plumb_status unpack(struct plumb_buf *b, const char *bytes, size_t n)
{
    b->len = 0;
    CHECK_OK(plumb_buf_add(b, bytes, (int64_t)n));
    return plumb_gunzip(b, "packed");
}

int main(void)
{
    enum { N = sizeof first - 1, M = sizeof second - 1 };
    struct plumb_buf b = {0};
    char all[N + M + 8] = {0};
    CHECK_OK(unpack(&b, first, N));
    CHECK(b.len == (int64_t)strlen(TEXT) && !strcmp(b.data, TEXT));
    memcpy(all, first, N);
    memcpy(all + N, second, M);
    CHECK_OK(unpack(&b, all, N + M + 8)); /* two members, then eight zero bytes as padding */
    CHECK(!strcmp(b.data, TEXT "end\n"));
    all[N + M + 2] = 'x';
    CHECK(unpack(&b, all, N + M + 8) == PLUMB_ERR_FORMAT);
    CHECK(strstr(plumb_trail_message(), "other data follows"));
    CHECKF(b.len == N + M + 8, "refused data was changed: %lld bytes", (long long)b.len);
    for (size_t n = 1; n < N; n++)
        CHECKF(unpack(&b, first, n) == PLUMB_ERR_FORMAT, "the first %d bytes are accepted", (int)n);
    CHECK(strstr(plumb_trail_message(), "packed: the gzip data ends too early"));
    for (size_t i = 10; i < N; i++) { /* after the header, a change of any byte is detected */
        memcpy(all, first, N);
        all[i] ^= 1;
        CHECKF(unpack(&b, all, N) == PLUMB_ERR_FORMAT, "damage of byte %d is accepted", (int)i);
    }
    plumb_buf_fini(&b);
    return 0;
}
