/* buf.c - appends bytes and formatted text to a growing string.
 * Layer 0. Includes buf.h, num.h. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

static plumb_status reserve(struct plumb_buf *b, int64_t more)
{
    int64_t need;
    PLUMB_REQUIRE(plumb_add(&need, b->len, more) && plumb_add(&need, need, 1), PLUMB_ERR_NOMEM,
                  "cannot grow a string of %lld bytes by %lld bytes: too large", (long long)b->len,
                  (long long)more);
    if (need <= b->cap)
        return PLUMB_OK;
    const int64_t cap = plumb_max_i64(need, b->cap < INT64_MAX / 2 ? b->cap * 2 : need);
    char *data = realloc(b->data, (size_t)plumb_max_i64(cap, 64));
    PLUMB_REQUIRE(data, PLUMB_ERR_NOMEM, "cannot allocate a string of %lld bytes", (long long)cap);
    b->data = data;
    b->cap = plumb_max_i64(cap, 64);
    return PLUMB_OK;
}

plumb_status plumb_buf_add(struct plumb_buf *b, const void *bytes, int64_t n)
{
    PLUMB_TRY(reserve(b, n));
    if (n)
        memcpy(b->data + b->len, bytes, (size_t)n);
    b->len += n;
    b->data[b->len] = '\0';
    return PLUMB_OK;
}

plumb_status plumb_buf_add_text(struct plumb_buf *b, const char *text)
{
    return plumb_buf_add(b, text, (int64_t)strlen(text));
}

plumb_status plumb_buf_addf(struct plumb_buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    PLUMB_REQUIRE(n >= 0, PLUMB_ERR_ARG, "cannot format text with the format '%s'", fmt);
    PLUMB_TRY(reserve(b, n));
    va_start(ap, fmt);
    vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += n;
    return PLUMB_OK;
}

const char *plumb_buf_text(const struct plumb_buf *b)
{
    return b->data ? b->data : "";
}

void plumb_buf_clear(struct plumb_buf *b)
{
    b->len = 0;
    if (b->data)
        b->data[0] = '\0';
}

void plumb_buf_fini(struct plumb_buf *b)
{
    free(b->data);
    *b = (struct plumb_buf){0};
}
