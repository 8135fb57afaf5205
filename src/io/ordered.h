/* ordered.h - accepts numbered texts in any order and writes them in the order of their numbers.
 * Layer 1. Includes base/ only.
 *
 *       put 2   put 0   put 1               next = 0 at the start
 *         |       |       |
 *         v       v       v
 *       [ - - 2 ] [ 0 - 2 ] [ 1 2 ]         the ring holds the numbers next .. next + cap - 1
 *                   |         | |
 *                   v         v v
 *       written:    0         1 2           next = 3 at the end
 *
 * A text is kept in memory until all texts with smaller numbers have been put. The ring grows to
 * the largest distance between `next` and a number that was put, rounded up to a power of two; the
 * caller must limit that distance. */
#ifndef PLUMB_IO_ORDERED_H
#define PLUMB_IO_ORDERED_H

#include "base/buf.h"

/* Writes the text of one number. If it returns an error, plumb_ordered_put returns that error. */
typedef plumb_status plumb_ordered_fn(void *arg, const char *text, int64_t len);

struct plumb_ordered {
    int64_t next;    /* all texts with smaller numbers have been written */
    int64_t waiting; /* number of texts in the ring */
    int64_t bytes;   /* total bytes of the texts in the ring */
    plumb_ordered_fn *write;
    void *arg;
    struct plumb_ordered_text *ring; /* (cap,); the text of number i is at index i % cap */
    int64_t cap;
};

/* Initialises o. `first` is the number of the first text to write. */
void plumb_ordered_init(struct plumb_ordered *o, int64_t first, plumb_ordered_fn *write, void *arg);
/* Frees the ring; texts that have not been written are lost. */
void plumb_ordered_fini(struct plumb_ordered *o);

/* If `number` is `next`, writes the text, and then the stored texts of the numbers that follow it
 * without a gap. Otherwise stores a copy of the text, which a later call writes. Returns
 * PLUMB_ERR_ARG if the number was put before or is smaller than the first number, PLUMB_ERR_NOMEM,
 * or the error of the write function. */
plumb_status plumb_ordered_put(struct plumb_ordered *o, int64_t number, const char *text,
                               int64_t len);

#endif
