/* child.h - a shell command that works for us: lines to its input, lines from its output.
 * Layer 1. Includes base/ only. */
#ifndef PLUMB_IO_CHILD_H
#define PLUMB_IO_CHILD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

typedef struct plumb_child plumb_child;

/* Starts /bin/sh -c command as the head of its own process group, with pipes to its standard
 * input, output and error. *out is owned by the caller. PLUMB_ERR_IO when it cannot be started
 * (a command that the shell does not find starts, and ends at once with exit status 127). */
plumb_status plumb_child_start(plumb_child **out, const char *command);
/* Closes its input, gives it grace_s seconds to end, then kills the whole group; reaps it. NULL
 * is allowed. */
void plumb_child_stop(plumb_child **c, double grace_s);
/* The same without freeing: how it ended and what it said can still be asked. */
void plumb_child_end(plumb_child *c, double grace_s);

/* One round: writes what fits of the n bytes at `in`, reads what is there, waits at most wait_s
 * for either. *written (may be 0) counts what was taken. A child that is gone takes nothing and is
 * no error: see plumb_child_gone. SIGPIPE is never raised. */
plumb_status plumb_child_work(plumb_child *c, const char *in, int64_t n, int64_t *written,
                              double wait_s);
/* Nothing more will be written: the child reads the end of its input. */
void plumb_child_finish(plumb_child *c);
/* The next whole line of its output, without the line end; NULL when there is none yet. Valid
 * until the next call of any function here. A last line without line end counts once it is gone. */
const char *plumb_child_line(plumb_child *c, int64_t *len);
/* It has ended or closed its output, and every line was taken. */
bool plumb_child_gone(plumb_child *c);
/* "exit status 3", "signal 9 (Killed)" or "closed its output". Only when gone. */
const char *plumb_child_reason(plumb_child *c);
int plumb_child_exit_status(const plumb_child *c); /* -1: not known, or a signal */
/* The last lines it wrote to standard error, "" when none. */
const char *plumb_child_stderr(const plumb_child *c);

#endif
