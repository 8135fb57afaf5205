/* log.h - what a run says while it works: log lines and progress.
 * Layer 0. Includes nothing of ours. */
#ifndef PLUMB_BASE_LOG_H
#define PLUMB_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum plumb_log_level { PLUMB_LOG_ERROR, PLUMB_LOG_WARN, PLUMB_LOG_INFO, PLUMB_LOG_DEBUG };

/* The process-wide level and identity; set once at start-up. With quiet ranks, INFO lines
 * come from rank 0 only; WARN and ERROR name their rank. mirror, if not NULL, receives a
 * copy of every line (the run's log file); it is borrowed. */
void plumb_log_setup(enum plumb_log_level level, int rank, int world_size);
void plumb_log_mirror(FILE *mirror);
void plumb_log(enum plumb_log_level level, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* A warning about something that every rank finds alike, a field of a file that all of them read:
 * rank 0 gives it, the others are quiet. */
void plumb_log_alike(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The same at any level, and the same text once only, however often the file is read. */
void plumb_log_once(enum plumb_log_level level, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Seconds of a monotonic clock. */
double plumb_now(void);

/* Progress over `total` items (0 = unknown): one live line on a terminal, one plain line
 * every few seconds otherwise. Only rank 0 prints. Under a launcher the output is a pty
 * although nobody watches it live, so `live` is decided from TERM and the launcher's own
 * marks, and PLUMB_PROGRESS=live|plain|off overrides; plain:SECONDS sets the time between two
 * plain lines, which is 5 s otherwise. */
struct plumb_progress {
    const char *what; /* "generate", borrowed */
    const char *unit; /* "prompts", borrowed */
    int64_t total, done;
    int64_t first; /* so many were done before this process began; they do not count in the rate */
    double started, shown, every;
    bool on, live;
};
void plumb_progress_start(struct plumb_progress *p, const char *what, const char *unit,
                          int64_t total);
/* Whether plumb_progress_at would show something now: for a caller whose `extra` costs time. */
bool plumb_progress_due(const struct plumb_progress *p);
/* extra: short text behind the counts, or NULL. */
void plumb_progress_at(struct plumb_progress *p, int64_t done, const char *extra);
void plumb_progress_end(struct plumb_progress *p);

#endif
