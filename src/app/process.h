/* process.h - sets up the process before a command starts: descriptors, signals, and checks of the
 * output. Layer 6. Includes app.h. */
#ifndef PLUMB_APP_PROCESS_H
#define PLUMB_APP_PROCESS_H

#include "app/app.h"

/* Opens /dev/null for each closed descriptor among 0, 1 and 2. Without this, the next opened file
 * would get that number, and log lines would be written to a checkpoint or metrics.jsonl. Reading
 * such a standard input and writing to such a standard output fail. Call it first. */
void plumb_process_standard_files(void);
/* Ignores SIGXFSZ and SIGPIPE: a write beyond the file size limit then fails with EFBIG, a write to
 * a closed pipe with EPIPE. So the process can report the failure and save its work. */
void plumb_process_ignore_signals(void);
/* Ignores SIGTERM. Call it when a run that was asked to stop has saved everything: as soon as one
 * process of a job has ended with a non-zero exit code, mpirun sends SIGTERM to the others. If one
 * of them died of it, mpirun would report the signal instead of the exit code. */
void plumb_process_ignore_term(void);
/* Flushes standard output. Returns PLUMB_ERR_IO if the printed text could not be written. */
plumb_status plumb_process_flush(void);
/* Checks before any work that the file of `output` can be written later: its folder is writable
 * (plumb_file_check_output), it is no symbolic link, and none of PATH, PATH.tmp, PATH.run.json and
 * PATH.run.json.tmp is an input of the command. "-", pipes and devices are accepted. Not
 * collective. */
plumb_status plumb_process_check_output(const struct plumb_app *app, const char *path);
/* Logs the warnings of a configuration, on rank 0. Not collective. */
void plumb_say_warnings(const struct plumb_app *app, const struct plumb_config *cfg);

#endif
