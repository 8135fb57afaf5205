/* utf8.c - checks that bytes are UTF-8.
 * Layer 1. Includes utf8.h. */
#include "io/utf8.h"

int plumb_utf8_length(const unsigned char *s, int64_t n)
{
    if (s[0] < 0x80)
        return 1;
    const int len = s[0] >= 0xc2 && s[0] < 0xe0   ? 2
                    : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
                    : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
                                                  : 0;
    if (!len || n < len)
        return 0;
    unsigned char lo = 0x80, hi = 0xbf;
    if (s[0] == 0xe0)
        lo = 0xa0;
    else if (s[0] == 0xed)
        hi = 0x9f;
    else if (s[0] == 0xf0)
        lo = 0x90;
    else if (s[0] == 0xf4)
        hi = 0x8f;
    if (s[1] < lo || s[1] > hi)
        return 0;
    for (int i = 2; i < len; i++)
        if (s[i] < 0x80 || s[i] > 0xbf)
            return 0;
    return len;
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
