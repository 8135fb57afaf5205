/* ordered.h - texts that come in any order, handed on in the order of their numbers.
 * Layer 1. Includes base/ only.
 *
 *     put 2   put 0   put 1               next = 0 at the start
 *       |       |       |
 *       v       v       v
 *     [ - - 2 ] [ 0 - 2 ] [ 1 2 ]         a ring of the numbers next .. next + cap - 1
 *                 |         | |
 *                 v         v v
 *     written:    0         1 2           next = 3
 *
 * A text waits in memory until all before it are there. The ring grows to the largest distance
 * that ever was between next and a number that came: whoever makes the texts bounds it. */
#ifndef PLUMB_IO_ORDERED_H
#define PLUMB_IO_ORDERED_H

#include "base/buf.h"

/* Takes the text of one number; an error stops the writer and is passed on. */
typedef plumb_status plumb_ordered_fn(void *arg, const char *text, int64_t len);

struct plumb_ordered {
    int64_t next;    /* all before this number have been handed on */
    int64_t waiting; /* texts that wait for one before them */
    int64_t bytes;   /* of those texts */
    plumb_ordered_fn *write;
    void *arg;
    struct plumb_ordered_text *ring; /* (cap,); number i is at i % cap */
    int64_t cap;
};

/* first: the number that is handed on first. */
void plumb_ordered_init(struct plumb_ordered *o, int64_t first, plumb_ordered_fn *write, void *arg);
void plumb_ordered_fini(struct plumb_ordered *o); /* what waits is lost */

/* Stores a copy of the text, then writes every stored text whose number is next. Errors:
 * PLUMB_ERR_ARG for a number that came before; PLUMB_ERR_NOMEM; what write says. */
plumb_status plumb_ordered_put(struct plumb_ordered *o, int64_t number, const char *text,
                               int64_t len);

#endif
