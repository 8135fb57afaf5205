/* utf8.c - reads and writes the characters of UTF-8 text, and replaces invalid bytes.
 * Layer 3. Includes base/ and utf8proc. */
#include "text/utf8.h"

#include <utf8proc.h>

bool plumb_utf8_is_letter(uint32_t cp)
{
    const utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_NO;
}

uint32_t plumb_utf8_lower(uint32_t cp)
{
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
}

int plumb_utf8_put(char out[4], uint32_t cp)
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xc0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3f));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xe0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3f));
        out[2] = (char)(0x80 | (cp & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3f));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3f));
    out[3] = (char)(0x80 | (cp & 0x3f));
    return 4;
}

/* Returns the number of bytes of the character at u, or minus the length of the invalid subpart
 * there. The valid range of the second byte depends on the first byte (Unicode, table 3-7). */
static int char_at(const unsigned char *u, int64_t n)
{
    const unsigned char c = u[0];
    if (c < 0x80)
        return 1;
    if (c < 0xc2 || c > 0xf4)
        return -1;
    const int size = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    const unsigned char low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    const unsigned char high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    if (n < 2 || u[1] < low || u[1] > high)
        return -1;
    for (int i = 2; i < size; i++)
        if (i >= n || (u[i] & 0xc0) != 0x80)
            return -i;
    return size;
}

int64_t plumb_utf8_prefix(const char *s, int64_t n, int *bad)
{
    const unsigned char *u = (const unsigned char *)s;
    int64_t at = 0;
    while (at < n) {
        const int size = char_at(u + at, n - at);
        if (size < 0) {
            *bad = -size;
            return at;
        }
        at += size;
    }
    *bad = 0;
    return n;
}

plumb_status plumb_utf8_lossy(struct plumb_buf *out, const char *s, int64_t n)
{
    while (n > 0) {
        int bad;
        const int64_t good = plumb_utf8_prefix(s, n, &bad);
        PLUMB_TRY(plumb_buf_add(out, s, good));
        if (bad)
            PLUMB_TRY(plumb_buf_add(out, "\xef\xbf\xbd", 3));
        s += good + bad;
        n -= good + bad;
    }
    return PLUMB_OK;
}

bool plumb_utf8_is_space(uint32_t cp)
{
    return (cp >= 0x09 && cp <= 0x0d) || cp == 0x20 || cp == 0x85 || cp == 0xa0 || cp == 0x1680 ||
           (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029 || cp == 0x202f ||
           cp == 0x205f || cp == 0x3000;
}
