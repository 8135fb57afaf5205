/* log.h - log lines and progress lines of a run.
 * Layer 0. Includes no other file of the project. */
#ifndef PLUMB_BASE_LOG_H
#define PLUMB_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum plumb_log_level { PLUMB_LOG_ERROR, PLUMB_LOG_WARN, PLUMB_LOG_INFO, PLUMB_LOG_DEBUG };

/* plumb_log_setup sets the log level and the rank of this process; call it once at start-up.
 * plumb_log prints a line to standard error if its level is at most the log level: rank 0 alone
 * prints INFO and DEBUG lines, and every rank prints its WARN and ERROR lines, marked with its rank
 * if world_size > 1. plumb_log_mirror also writes each printed log line, but no progress line, to a
 * second file, the log file of the run; NULL ends this. The caller keeps ownership of that file. */
void plumb_log_setup(enum plumb_log_level level, int rank, int world_size);
void plumb_log_mirror(FILE *mirror);
void plumb_log(enum plumb_log_level level, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Prints a warning on rank 0 only, without the rank. Use it for a problem that every rank finds,
 * for example an unknown field in a file that all ranks read. */
void plumb_log_alike(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Prints a line of any level on rank 0 only. A text is printed only once per process; this holds
 * for the first 256 different texts, later ones may be repeated. */
void plumb_log_once(enum plumb_log_level level, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Returns the ending of a noun that is counted in a message: "" for 1, otherwise "s". */
static inline const char *plumb_plural(int64_t n)
{
    return n == 1 ? "" : "s";
}

/* Returns the seconds of a monotonic clock; only differences between two calls have a meaning. */
double plumb_now(void);
/* Returns the seconds since 1970 by the wall clock. The system may set this clock forward or back.
 */
double plumb_wall_now(void);

/* Shows progress over `total` items (0 if the total is unknown). Only rank 0 prints, and only if
 * the log level is INFO or DEBUG. On a terminal, one line is updated in place (`live`); otherwise a
 * plain line is printed at most every 5 seconds. Launchers such as mpirun give each rank a
 * pseudo-terminal that no user sees, so isatty is not enough: `live` also depends on TERM and on
 * the environment variables of launchers. The environment variable PLUMB_PROGRESS=live|plain|off
 * overrides the decision; plain:SECONDS also sets the time between two plain lines. */
struct plumb_progress {
    const char *what; /* name of the work, such as "generate"; the caller keeps ownership */
    const char *unit; /* unit of the items, such as "prompts"; the caller keeps ownership */
    int64_t total, done;
    int64_t first; /* items that an earlier process had finished; the rate does not count them */
    /* Times of plumb_now at the start and at the last printed line; shortest time between two
     * lines. All are in seconds. */
    double started, shown, every;
    /* on: this process prints; live: the line is updated in place. */
    bool on, live;
};
void plumb_progress_start(struct plumb_progress *p, const char *what, const char *unit,
                          int64_t total);
/* Returns true if plumb_progress_at would print now. A caller can test this first when its `extra`
 * text is expensive to compute. */
bool plumb_progress_due(const struct plumb_progress *p);
/* Sets the number of finished items, and prints the progress if it is due. extra is a short text
 * that is printed after the counts, or NULL. */
void plumb_progress_at(struct plumb_progress *p, int64_t done, const char *extra);
/* Removes the progress line from the terminal, if there is one. */
void plumb_progress_end(struct plumb_progress *p);

#endif
