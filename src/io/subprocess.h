/* subprocess.h - runs a shell command that reads lines from its standard input and writes lines.
 * Layer 1. Includes base/ only. */
#ifndef PLUMB_IO_SUBPROCESS_H
#define PLUMB_IO_SUBPROCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

typedef struct plumb_subprocess plumb_subprocess;

/* Starts /bin/sh -c command in its own process group, with pipes to its standard input, output and
 * error. The caller owns *out. Returns PLUMB_ERR_IO if the shell cannot be started. If the shell
 * does not find the command, the start succeeds and the subprocess exits immediately with status
 * 127. The subprocess ignores SIGUSR1, because Slurm with --signal=USR1 sends it to all processes
 * of a step. */
plumb_status plumb_subprocess_start(plumb_subprocess **out, const char *command);
/* Closes the input of the subprocess, waits up to grace_s seconds for it to exit, kills its whole
 * process group, reaps it and frees *c. *c may be NULL. */
void plumb_subprocess_stop(plumb_subprocess **c, double grace_s);
/* Like plumb_subprocess_stop, but does not free c, so that the exit status and the standard error
 * can still be read. */
void plumb_subprocess_end(plumb_subprocess *c, double grace_s);

/* Waits at most wait_s seconds until a pipe is ready, writes as much of the n bytes at `in` as
 * fits, and reads the available output. *written = the number of bytes written, possibly 0. If the
 * subprocess has exited or closed its input, nothing is written and the call succeeds: see
 * plumb_subprocess_gone. SIGPIPE is never raised. */
plumb_status plumb_subprocess_work(plumb_subprocess *c, const char *in, int64_t n, int64_t *written,
                                   double wait_s);
/* Closes the input of the subprocess, so that it reads the end of the file. */
void plumb_subprocess_finish(plumb_subprocess *c);
/* Returns the next complete line of the output without its line end, or NULL if there is none yet.
 * The line is valid until the next call of any plumb_subprocess function. A last line without a
 * line end is returned once the subprocess has exited or closed its output. */
const char *plumb_subprocess_line(plumb_subprocess *c, int64_t *len);
/* Returns true if the subprocess has exited or closed its output, and every line was read. */
bool plumb_subprocess_gone(plumb_subprocess *c);
/* Returns "exit status 3", "signal 9 (Killed)" or "closed its output". Call it only if
 * plumb_subprocess_gone returns true. */
const char *plumb_subprocess_reason(plumb_subprocess *c);
/* Returns the exit status; -1 if the subprocess is still running or was ended by a signal. */
int plumb_subprocess_exit_status(const plumb_subprocess *c);
/* Returns true if the subprocess has read nothing from its standard input, although bytes were
 * written or an attempt to write failed. */
bool plumb_subprocess_deaf(const plumb_subprocess *c);
/* Returns the last bytes, at most 1024, that the subprocess wrote to standard error; "" if it wrote
 * none. */
const char *plumb_subprocess_stderr(const plumb_subprocess *c);

#endif
