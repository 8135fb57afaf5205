/* lock.h - one process at a time writes a folder.
 * Layer 5. Includes base/status.h.
 *
 * DIR/run.lock is one line of JSON: host, process, job and command of the holder, and a heartbeat
 * that a thread of the holder writes. It comes into being whole, by a hard link (or by O_EXCL where
 * there are no hard links), so that it needs neither flock nor a server that keeps locks. Whoever
 * finds one decides whether its holder still lives:
 *
 *     the same system and process ids     is there such a process, started at that time?
 *     the same job, restarted since       no: the batch system has ended it
 *     anywhere else                       does the heartbeat change within the holder's silent_s?
 *
 * The lock of a holder that is gone is moved away, which is logged as a warning. */
#ifndef PLUMB_TRAIN_LOCK_H
#define PLUMB_TRAIN_LOCK_H

#include <stdbool.h>

#include "base/status.h"

typedef struct plumb_lock plumb_lock;

/* Creates dir, with parents, where it is not there, and takes its lock. Waits up to silent_s
 * seconds of the other process where only its heartbeat can tell whether it lives.
 *   command    "sft", for messages
 *   silent_s   > 0 s; how long this process may be silent before others take its lock
 * Not collective, for rank 0. Errors: PLUMB_ERR_EXISTS names the holder that lives; PLUMB_ERR_IO.
 */
plumb_status plumb_lock_take(plumb_lock **out, const char *dir, const char *command,
                             double silent_s);

/* Whether the lock is still held: before something is written that another process would be in the
 * way of. A lock file that was removed is made again. NULL is allowed. Not collective.
 * Errors: PLUMB_ERR_EXISTS names the process that has taken the lock over; PLUMB_ERR_IO. */
plumb_status plumb_lock_check(plumb_lock *lock);

/* Gives the lock back, and removes what _take created of dir where nothing else was put there.
 * NULL is allowed. Not collective. */
void plumb_lock_release(plumb_lock **lock);

/* Whether a name in a folder is its lock, or what a process left that was killed taking it. */
bool plumb_lock_owns(const char *name);

#endif
