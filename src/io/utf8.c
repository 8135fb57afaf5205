/* utf8.c - checks that bytes are valid UTF-8.
 * Layer 1. Includes utf8.h, utf8proc. */
#include "io/utf8.h"

#include <utf8proc.h>

int plumb_utf8_length(const unsigned char *s, int64_t n)
{
    utf8proc_int32_t cp;
    if (s[0] < 0x80)
        return 1;
    const utf8proc_ssize_t bytes = utf8proc_iterate(s, n, &cp);
    return bytes > 0 ? (int)bytes : 0;
}

int64_t plumb_utf8_valid(const char *text, int64_t len)
{
    int64_t i = 0;
    while (i < len) {
        const int n = plumb_utf8_length((const unsigned char *)text + i, len - i);
        if (n == 0)
            break;
        i += n;
    }
    return i;
}
