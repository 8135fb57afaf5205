/* buf.h - a growing string of bytes. Once it is allocated, a NUL byte follows its last byte.
 * Layer 0. Includes status.h. */
#ifndef PLUMB_BASE_BUF_H
#define PLUMB_BASE_BUF_H

#include <stdint.h>

#include "base/status.h"

/* Initialise this struct with zeros. Whoever declares it owns it and releases it with
 * plumb_buf_fini. */
struct plumb_buf {
    char *data; /* NULL before the first successful call of an append function */
    /* len is the number of bytes of the string, without the final NUL; cap is the number of
     * allocated bytes. */
    int64_t len, cap;
};

/* Append n bytes, a NUL-terminated text, or a formatted text. They return PLUMB_ERR_NOMEM if the
 * string cannot grow; plumb_buf_addf also returns PLUMB_ERR_ARG if the text cannot be formatted.
 * After an error the string has its old content. */
plumb_status plumb_buf_add(struct plumb_buf *b, const void *bytes, int64_t n);
plumb_status plumb_buf_add_text(struct plumb_buf *b, const char *text);
plumb_status plumb_buf_addf(struct plumb_buf *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Returns the NUL-terminated string; "" and never NULL if nothing was added. */
const char *plumb_buf_text(const struct plumb_buf *b);
void plumb_buf_clear(struct plumb_buf *b); /* sets the length to 0, keeps the allocation */
void plumb_buf_fini(struct plumb_buf *b);

#endif
