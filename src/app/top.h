/* top.h - plumb top: what a running or ended run does, from the files in its folder.
 * Layer 6. Includes base/.
 *
 * It only reads: run.json (sessions, hosts, planned steps), run.lock (whether the run lives),
 * metrics.jsonl (progress, times), load.jsonl (waits and tokens of each rank) and train.log (the
 * newest warning). */
#ifndef PLUMB_APP_TOP_H
#define PLUMB_APP_TOP_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/status.h"

/* Appends the page about the folder to out: of one run, or a line for each run below it. *running:
 * a process works on it. PLUMB_ERR_IO if there is no run. */
plumb_status plumb_top_put(struct plumb_buf *out, bool *running, const char *dir);

#endif
