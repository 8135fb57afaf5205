/* utf8.h - reads and writes the characters of UTF-8 text, and replaces invalid bytes.
 * Layer 3. Includes base/. */
#ifndef PLUMB_TEXT_UTF8_H
#define PLUMB_TEXT_UTF8_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

/* Returns the number of bytes of the character that starts with byte c of valid UTF-8. */
static inline int plumb_utf8_size(char c)
{
    const unsigned char u = (unsigned char)c;
    return u < 0x80 ? 1 : u < 0xe0 ? 2 : u < 0xf0 ? 3 : 4;
}

/* Returns the code point at s, which must be the start of a character of valid UTF-8. */
static inline uint32_t plumb_utf8_at(const char *s)
{
    const unsigned char *u = (const unsigned char *)s;
    switch (plumb_utf8_size(*s)) {
    case 1:
        return u[0];
    case 2:
        return (u[0] & 0x1fu) << 6 | (u[1] & 0x3fu);
    case 3:
        return (u[0] & 0x0fu) << 12 | (u[1] & 0x3fu) << 6 | (u[2] & 0x3fu);
    default:
        return (u[0] & 0x07u) << 18 | (u[1] & 0x3fu) << 12 | (u[2] & 0x3fu) << 6 | (u[3] & 0x3fu);
    }
}

/* Returns the offset of the character that ends just before s + at; at > 0. */
static inline int64_t plumb_utf8_before(const char *s, int64_t at)
{
    do
        at--;
    while (at > 0 && ((unsigned char)s[at] & 0xc0) == 0x80);
    return at;
}

/* Writes the UTF-8 bytes of the Unicode scalar value cp and returns their number, 1..4. */
int plumb_utf8_put(char out[4], uint32_t cp);

/* Returns the number of bytes of s before the first invalid sequence, or n if there is none. In the
 * first case *bad is the length (1..3) of the invalid sequence, a maximal subpart as defined in the
 * Unicode standard, chapter 3.9. */
int64_t plumb_utf8_prefix(const char *s, int64_t n, int *bad);

/* Appends s to out and replaces each maximal invalid subpart by U+FFFD, like Rust's
 * from_utf8_lossy. */
plumb_status plumb_utf8_lossy(struct plumb_buf *out, const char *s, int64_t n);

/* Returns true for a letter, a mark or a number (general categories L, M and N). */
bool plumb_utf8_is_letter(uint32_t cp);
/* Returns the lower-case letter of an upper-case letter (simple mapping), or cp itself. */
uint32_t plumb_utf8_lower(uint32_t cp);

/* Returns true for characters with the Unicode property White_Space (stable since Unicode 6.3). */
bool plumb_utf8_is_space(uint32_t cp);

#endif
