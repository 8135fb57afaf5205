/* utf8.h - checks that bytes are valid UTF-8.
 * Layer 1. Includes no other file of the project. */
#ifndef PLUMB_IO_UTF8_H
#define PLUMB_IO_UTF8_H

#include <stdint.h>

/* Returns the number of bytes of the UTF-8 sequence at s, of which n > 0 bytes are left, or 0 if it
 * is not valid: overlong forms, surrogates and code points above U+10FFFF are invalid. */
int plumb_utf8_length(const unsigned char *s, int64_t n);
/* Returns the number of bytes before the first byte that is not valid UTF-8, or len if all bytes
 * are valid. */
int64_t plumb_utf8_valid(const char *text, int64_t len);

#endif
