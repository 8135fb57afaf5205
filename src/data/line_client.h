/* line_client.h - sends requests to a subprocess, one line each, and receives one line per request,
 * in the same order.
 * Layer 4. Includes base/.
 *
 * /bin/sh -c runs the command. The command must keep running between calls and flush every line. */
#ifndef PLUMB_DATA_LINE_CLIENT_H
#define PLUMB_DATA_LINE_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

typedef struct plumb_line_client plumb_line_client;

/* The reason why a request got no answer. */
enum plumb_line_end { PLUMB_LINE_TIMEOUT, PLUMB_LINE_DIED };

struct plumb_line_job {
    int64_t n; /* number of requests */
    /* Appends request i and a line end to *out. */
    plumb_status (*put)(void *arg, int64_t i, struct plumb_buf *out);
    /* Receives the answer to request i, without line end. Returns false if the answer is invalid.
     * The command is then stopped after the last request, to check that it has written no extra
     * lines. */
    bool (*take)(void *arg, int64_t i, const char *line, int64_t len);
    /* Is called instead of take if request i gets no answer. */
    void (*miss)(void *arg, int64_t i, enum plumb_line_end why);
    void *arg;
};

/* Creates a client for `command`. The first plumb_line_client_run starts the command. what: the
 * name of the command in messages, a literal such as "reward command". timeout_s: the limit for one
 * answer; for the first one it includes the start of the command. restarts: how often one call of
 * plumb_line_client_run may start the command again after it exited, or was killed because an
 * answer timed out. The missing answers are then requested again, except one that timed out or on
 * which the command exited twice. Returns PLUMB_ERR_ARG if the command is empty, timeout_s is not
 * above 0 or restarts is negative. */
plumb_status plumb_line_client_create(plumb_line_client **out, const char *what,
                                      const char *command, double timeout_s, int64_t restarts);
void plumb_line_client_destroy(plumb_line_client **c); /* NULL is allowed */

/* Calls take or miss for every request, in order. Calls take once every request that was
 * sent has an answer. If instead the command exits or times out after some answers, it may have
 * left out a line, and the answers after that line would be those of other requests: the requests
 * since the last call of take are sent again, one at a time; this restart does not count. Errors:
 * PLUMB_ERR_IO if the command cannot be started or its restarts are used up; the message has the
 * command, its exit status and its last lines on standard error. PLUMB_ERR_FORMAT if it writes more
 * lines than it got, or answers without reading any of its input. */
plumb_status plumb_line_client_run(plumb_line_client *c, const struct plumb_line_job *job);

#endif
