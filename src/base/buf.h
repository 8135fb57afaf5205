/* buf.h - a growing string of bytes that always ends with a NUL byte.
 * Layer 0. Includes status.h. */
#ifndef PLUMB_BASE_BUF_H
#define PLUMB_BASE_BUF_H

#include <stdint.h>

#include "base/status.h"

/* Initialise this struct with zeros. Whoever declares it owns it and releases it with
 * plumb_buf_fini. */
struct plumb_buf {
    char *data; /* NULL until the first byte is added */
    int64_t len, cap;
};

/* These append functions return PLUMB_ERR_NOMEM if the string cannot grow. The string then keeps
 * its old content. */
plumb_status plumb_buf_add(struct plumb_buf *b, const void *bytes, int64_t n);
plumb_status plumb_buf_add_text(struct plumb_buf *b, const char *text);
plumb_status plumb_buf_addf(struct plumb_buf *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Returns "" for an empty buffer, never NULL. */
const char *plumb_buf_text(const struct plumb_buf *b);
void plumb_buf_clear(struct plumb_buf *b); /* sets the length to 0, keeps the allocation */
void plumb_buf_fini(struct plumb_buf *b);

#endif
