/* lines.h - commands that turn JSON lines into JSON lines: one out for one in, in input order,
 * on any rank count.
 * Layer 6. Includes app.h, io/. */
#ifndef PLUMB_APP_LINES_H
#define PLUMB_APP_LINES_H

#include <stdio.h>

#include "app/app.h"

/* Rank 0 reads path ("-" = standard input), every rank gets the bytes. Collective.
 * PLUMB_ERR_IO, or PLUMB_ERR_FORMAT when it holds nothing. */
plumb_status plumb_lines_read(struct plumb_app *app, struct plumb_buf *text, const char *path);

/* An output that appears whole or not at all: rank 0 writes path.tmp and renames it in commit.
 * "-" is standard output, written as results come, and so is a path that is a pipe or a device. */
struct plumb_lines_out {
    FILE *file; /* rank 0 only */
    const char *path;
    char tmp[4096]; /* "" for a stream */
};
plumb_status plumb_lines_open(struct plumb_app *app, struct plumb_lines_out *o, const char *path);
/* Appends every rank's text in rank order; clears local. Collective. */
plumb_status plumb_lines_gather(struct plumb_app *app, struct plumb_lines_out *o,
                                struct plumb_buf *local);
plumb_status plumb_lines_commit(struct plumb_app *app, struct plumb_lines_out *o); /* Collective. */
void plumb_lines_discard(struct plumb_lines_out *o); /* after a failure; harmless after commit */

/* Works through n items in chunks of per_rank * world_size: fn handles the items of its own
 * contiguous share, in order, and appends their lines to out. Failures are agreed per chunk.
 * Collective. */
typedef plumb_status plumb_lines_fn(void *arg, int64_t begin, int64_t end, struct plumb_buf *out);
plumb_status plumb_lines_run(struct plumb_app *app, const char *what, int64_t n, int64_t per_rank,
                             plumb_lines_fn *fn, void *arg);

#endif
