/* ordered.c - keeps numbered texts in a ring until all texts before them have been written.
 * Layer 1. Includes io/ordered.h, base/. */
#include "io/ordered.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

struct plumb_ordered_text {
    char *text; /* text that waits for earlier ones; NULL if it has not been put yet */
    int64_t len;
};

enum { FIRST_CAP = 16 };

void plumb_ordered_init(struct plumb_ordered *o, int64_t first, plumb_ordered_fn *write, void *arg)
{
    *o = (struct plumb_ordered){.next = first, .write = write, .arg = arg};
}

void plumb_ordered_fini(struct plumb_ordered *o)
{
    for (int64_t i = 0; i < o->cap; i++)
        free(o->ring[i].text);
    free(o->ring);
    *o = (struct plumb_ordered){0};
}

/* Enlarges the ring, if necessary, so that it has a slot for the text with this number. */
static plumb_status grow(struct plumb_ordered *o, int64_t number)
{
    if (number - o->next < o->cap)
        return PLUMB_OK;
    const int64_t cap = plumb_pow2_ceil(plumb_max_i64(number - o->next + 1, FIRST_CAP));
    struct plumb_ordered_text *ring = calloc((size_t)cap, sizeof(*ring));
    PLUMB_REQUIRE(ring, PLUMB_ERR_NOMEM, "cannot keep %lld lines that wait for line %lld",
                  (long long)cap, (long long)o->next);
    for (int64_t i = o->next; i < o->next + o->cap; i++)
        ring[i % cap] = o->ring[i % o->cap];
    free(o->ring);
    o->ring = ring;
    o->cap = cap;
    return PLUMB_OK;
}

static plumb_status store(struct plumb_ordered *o, int64_t number, const char *text, int64_t len)
{
    PLUMB_TRY(grow(o, number));
    struct plumb_ordered_text *t = &o->ring[number % o->cap];
    PLUMB_REQUIRE(!t->text, PLUMB_ERR_ARG, "line %lld was given twice", (long long)number);
    t->text = malloc((size_t)len + 1);
    PLUMB_REQUIRE(t->text, PLUMB_ERR_NOMEM, "cannot keep line %lld of %lld bytes",
                  (long long)number, (long long)len);
    memcpy(t->text, text, (size_t)len);
    t->len = len;
    o->waiting++;
    o->bytes += len;
    return PLUMB_OK;
}

static plumb_status write_waiting(struct plumb_ordered *o)
{
    while (o->waiting > 0 && o->ring[o->next % o->cap].text) {
        struct plumb_ordered_text *t = &o->ring[o->next % o->cap];
        PLUMB_TRY(o->write(o->arg, t->text, t->len));
        free(t->text);
        t->text = NULL;
        o->waiting--;
        o->bytes -= t->len;
        o->next++;
    }
    return PLUMB_OK;
}

plumb_status plumb_ordered_put(struct plumb_ordered *o, int64_t number, const char *text,
                               int64_t len)
{
    PLUMB_REQUIRE(number >= o->next, PLUMB_ERR_ARG, "line %lld was given twice", (long long)number);
    /* The slot of `next` is empty, because the text of `next` is written as soon as it is put. */
    if (number != o->next)
        return store(o, number, text, len);
    PLUMB_TRY(o->write(o->arg, text, len));
    o->next++;
    return write_waiting(o);
}
