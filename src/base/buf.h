/* buf.h - a growing string of bytes, always NUL-terminated.
 * Layer 0. Includes status.h. */
#ifndef PLUMB_BASE_BUF_H
#define PLUMB_BASE_BUF_H

#include <stdint.h>

#include "base/status.h"

/* Zero-initialise; owned by whoever declared it, released with plumb_buf_fini. */
struct plumb_buf {
    char *data; /* NULL while empty */
    int64_t len, cap;
};

/* All: PLUMB_ERR_NOMEM when it cannot grow; the content so far stays. */
plumb_status plumb_buf_add(struct plumb_buf *b, const void *bytes, int64_t n);
plumb_status plumb_buf_add_text(struct plumb_buf *b, const char *text);
plumb_status plumb_buf_addf(struct plumb_buf *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
const char *plumb_buf_text(const struct plumb_buf *b); /* "" while empty; never NULL */
void plumb_buf_clear(struct plumb_buf *b);             /* keeps the memory */
void plumb_buf_fini(struct plumb_buf *b);

#endif
