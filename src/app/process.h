/* process.h - what a command does before it reads and computes: it makes its process safe to write
 * from, and checks where it will write.
 * Layer 6. Includes app.h. */
#ifndef PLUMB_APP_PROCESS_H
#define PLUMB_APP_PROCESS_H

#include "app/app.h"

/* Opens /dev/null for each of the descriptors 0, 1 and 2 that is closed. Otherwise the next file
 * that is opened gets the number, and log lines are written into a checkpoint or metrics.jsonl.
 * Reading such a standard input and writing to such a standard output fail. Call it first. */
void plumb_process_standard_files(void);
/* From now on a write beyond a limit of file size fails with EFBIG, and one into a closed pipe with
 * EPIPE, and neither ends the process: the failure is reported, and work is saved. */
void plumb_process_ignore_signals(void);
/* Writes out standard output. PLUMB_ERR_IO when what was printed could not be written. */
plumb_status plumb_process_flush(void);
/* Checks before any work that the file of `output` can be written later: it has a place
 * (plumb_file_check_output), it is no link, and neither it nor PATH.tmp or PATH.run.json is a
 * file that the command reads. "-", pipes
 * and devices are fine. Not collective. */
plumb_status plumb_process_check_output(const struct plumb_app *app, const char *path);
/* Logs the warnings of a configuration, on rank 0. Not collective. */
void plumb_say_warnings(const struct plumb_app *app, const struct plumb_config *cfg);

#endif
