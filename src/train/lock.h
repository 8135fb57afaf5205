/* lock.h - a lock on a folder, so that only one process at a time writes to it.
 * Layer 5. Includes base/status.h.
 *
 * DIR/run.lock is one line of JSON: host, process, job and command of the holder, and a heartbeat
 * that a thread of the holder updates. The file is created atomically, by a hard link, or by O_EXCL
 * if the file system has no hard links. So the lock needs neither flock nor a lock server. A
 * process that finds a lock decides as follows whether its holder is still alive:
 *
 *     same boot, same PID namespace       alive if a process with that id and start time exists
 *     same job, restarted since           not alive: the batch system has ended it
 *     any other case, or the start        alive if the heartbeat changes within the holder's
 *     time cannot be read                 silent_s (5 s if the lock file cannot be read)
 *
 * The lock file of a dead holder is renamed and removed, and a warning is logged. */
#ifndef PLUMB_TRAIN_LOCK_H
#define PLUMB_TRAIN_LOCK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

typedef struct plumb_lock plumb_lock;

/* Creates dir and its parents if needed, and takes the lock. If another process holds the lock and
 * only its heartbeat can show whether it is alive, this function waits up to the silent_s of that
 * process.
 *   command    name of the command, for messages ("sft")
 *   silent_s   seconds, > 0; after that long without a heartbeat of this process, another process
 *              takes over the lock
 * Not collective; rank 0 calls it. Errors: PLUMB_ERR_EXISTS names the live holder; PLUMB_ERR_IO. */
plumb_status plumb_lock_take(plumb_lock **out, const char *dir, const char *command,
                             double silent_s);

/* Checks that this process still holds the lock; call it before each write to the folder. If the
 * lock file was removed, creates it again. Does nothing if lock is NULL. Not collective. Errors:
 * PLUMB_ERR_EXISTS names the process that has taken over the lock; PLUMB_ERR_IO. */
plumb_status plumb_lock_check(plumb_lock *lock);

/* Releases the lock and sets *lock to NULL. Removes the folders that plumb_lock_take created if
 * they are empty. Does nothing if *lock is NULL. Not collective. */
void plumb_lock_release(plumb_lock **lock);

enum plumb_lock_state {
    PLUMB_LOCK_FREE, /* the folder has no lock */
    PLUMB_LOCK_RUNS, /* the holder runs: its process exists here, or its heartbeat is recent */
    /* the holder's process on this system no longer exists, or its job was restarted */
    PLUMB_LOCK_GONE,
    /* only the heartbeat can show whether the holder runs, and it has not changed for more than
     * silent_s */
    PLUMB_LOCK_SILENT,
};

/* Returns the state of the lock of dir, without taking the lock and without waiting.
 *   who      size bytes: "process 42 on HOST (plumb sft, job 7, since TIME)"; "" without a lock
 *   beat_s   seconds since the heartbeat was written last, computed from the modification time of
 * the file Not collective. */
enum plumb_lock_state plumb_lock_look(char *who, size_t size, double *beat_s, const char *dir);

/* Returns true if a file of this name is the lock, or a leftover of a process that was killed while
 * it took the lock. */
bool plumb_lock_owns(const char *name);

#endif
