/* top.h - plumb top: what a running or ended run does, from the files in its folder.
 * Layer 6. Includes base/.
 *
 * It only reads: run.json (sessions, hosts, planned steps), run.lock (whether the run is still
 * running), metrics.jsonl (progress, times), load.jsonl (waits and tokens of each rank) and
 * train.log (the newest warning). */
#ifndef PLUMB_APP_TOP_H
#define PLUMB_APP_TOP_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/status.h"

/* Appends the description of the folder to out: a page if it is a run's folder, or else one line
 * for each run in the folders below it. *running becomes true if one of these runs is still
 * running. Returns PLUMB_ERR_IO if there is no run. */
plumb_status plumb_top_put(struct plumb_buf *out, bool *running, const char *dir);

#endif
