/* utf8.h - checks that bytes are UTF-8.
 * Layer 1. Includes nothing. */
#ifndef PLUMB_IO_UTF8_H
#define PLUMB_IO_UTF8_H

#include <stdint.h>

/* Bytes of the UTF-8 sequence at s, of which n > 0 bytes are left; 0 if there is no valid sequence
 * (Unicode 15, table 3-7: no overlong forms, no surrogates, nothing above U+10FFFF). */
int plumb_utf8_length(const unsigned char *s, int64_t n);
/* Returns the number of bytes before the first invalid one, or len if all are valid UTF-8. */
int64_t plumb_utf8_valid(const char *text, int64_t len);

#endif
