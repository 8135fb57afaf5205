/* lock_holder.h - the holder of a lock: which process it is, and whether it still runs.
 * Layer 5, private to train/lock.c. Includes base/. */
#ifndef PLUMB_TRAIN_LOCK_HOLDER_H
#define PLUMB_TRAIN_LOCK_HOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* The lock file begins with this text; the digits of the heartbeat counter follow. */
#define PLUMB_LOCK_BEFORE_BEAT "{\"beat\": \""
#define PLUMB_LOCK_BEAT_DIGITS 12

/* The holder of a lock. An unknown text is "". */
struct plumb_lock_holder {
    char host[256], boot[64], pids[64]; /* boot: boot id of the kernel; pids: PID namespace */
    char job[64], command[32], since[32];
    char nonce[24]; /* hash of host, process id and time, unique to this lock; "" if the file is no
                     * valid lock */
    char beat[24];  /* heartbeat counter, as text */
    int64_t pid, start; /* start: when the process began, in clock ticks since boot */
    int64_t restart;    /* how often the batch system has restarted the job */
    double silent_s;    /* seconds; see plumb_lock_take */
};

enum plumb_lock_life {
    PLUMB_HOLDER_GONE,    /* the process no longer exists, or the batch system restarted its job */
    PLUMB_HOLDER_RUNS,    /* the process exists on this system */
    PLUMB_HOLDER_UNKNOWN, /* only its heartbeat can show whether it runs */
};

/* Sets *me to the description of this process as a holder. */
void plumb_lock_holder_self(struct plumb_lock_holder *me, const char *command, double silent_s);
/* Appends the text of a lock file of holder h, with heartbeat counter 0. */
plumb_status plumb_lock_holder_put(struct plumb_buf *b, const struct plumb_lock_holder *h);
/* Reads the holder from a lock file. Returns false if there is no such file. If the content of the
 * file is not a valid lock, h->nonce is "". */
bool plumb_lock_holder_read(struct plumb_lock_holder *h, const char *path);
/* Writes "process 42 on HOST (plumb sft, job 7, since 2026-01-31T10:00:00Z)". */
void plumb_lock_holder_describe(char *out, size_t size, const struct plumb_lock_holder *h);
/* Returns whether the process of h still runs, as far as this process (`me`) can find out without
 * waiting for a heartbeat. */
enum plumb_lock_life plumb_lock_holder_life(const struct plumb_lock_holder *h,
                                            const struct plumb_lock_holder *me);

#endif
