/* ask.h - questions to a shell command: one line out, one line back, in order.
 * Layer 4. Includes base/.
 *
 * The command is run by /bin/sh -c, stays alive between calls and flushes every line. */
#ifndef PLUMB_DATA_ASK_H
#define PLUMB_DATA_ASK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

typedef struct plumb_ask plumb_ask;

/* Why a question stays without answer. */
enum plumb_ask_end { PLUMB_ASK_TIMEOUT, PLUMB_ASK_DIED };

struct plumb_ask_job {
    int64_t n; /* questions */
    /* Appends question i and its line end. */
    plumb_status (*put)(void *arg, int64_t i, struct plumb_buf *out);
    /* The answer to question i, without line end; false when it makes no sense: the command is
     * then let end after the last question, to see whether questions and answers are in step. */
    bool (*take)(void *arg, int64_t i, const char *line, int64_t len);
    void (*miss)(void *arg, int64_t i, enum plumb_ask_end why);
    void *arg;
};

/* what: "reward command", a literal for messages. timeout_s: for one answer, the start of the
 * command included in the first. restarts: how often per call of _run a command that died, or was
 * killed because it hung, is started again; the answers that are still missing are asked for again,
 * but for the one that it hung on or died on twice. The command is started by the first _run.
 * PLUMB_ERR_ARG. */
plumb_status plumb_ask_create(plumb_ask **out, const char *what, const char *command,
                              double timeout_s, int64_t restarts);
void plumb_ask_destroy(plumb_ask **c); /* NULL is allowed */

/* Calls take or miss for every question, in order.
 * Errors: PLUMB_ERR_IO naming the command, how it ended and its last words, when it cannot be
 * started or its restarts are used up; PLUMB_ERR_FORMAT when it writes more lines than it got. */
plumb_status plumb_ask_run(plumb_ask *c, const struct plumb_ask_job *job);

#endif
