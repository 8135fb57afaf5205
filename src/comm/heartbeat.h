/* heartbeat.h - the heartbeat: tells each rank the state of the others, and ends waits for dead
 * ranks.
 * Layer 1. Includes comm.h and base/. For src/comm only.
 *
 * Each rank runs a heartbeat thread. Once per period it sends every other rank a note, which shows
 * that the process is alive and which collective or phase it is in. So a waiting rank can tell if
 * another rank is late (this is logged, and allowed up to max_wait) or dead or stopped (no note for
 * timeout seconds: an error). The message names that rank. */
#ifndef PLUMB_COMM_HEARTBEAT_H
#define PLUMB_COMM_HEARTBEAT_H

#include <pthread.h>
#include <stdbool.h>
#include <time.h>

#include "comm/comm.h"

#define PLUMB_COMM_TEXT 64
#define PLUMB_SITE_TEXT 48

/* The largest number of ranks to which one call of ops->send_heartbeat sends a note. The call holds
 * the lock of MPI, so it must be short; the next call continues with the next ranks. */
#define PLUMB_HEARTBEAT_RANKS 64

/* The note that a rank sends the others. */
struct plumb_note {
    int64_t call;   /* number of collectives that the rank has entered so far */
    int64_t raised; /* the largest value of plumb_comm_raise that the rank knows of */
    /* seconds since the rank entered or left that collective or changed its phase */
    double busy_s;
    int32_t inside; /* 1 if the rank is inside collective number `call`, 0 if it has left it */
    int32_t gone;   /* 1 if the rank has destroyed its communicator */
    char doing[24], site[PLUMB_SITE_TEXT], phase[PLUMB_COMM_TEXT], host[PLUMB_COMM_TEXT];
};

/* The newest note from another rank. */
struct plumb_heard {
    struct plumb_note note; /* the newest note of that rank */
    double at;              /* time of its arrival; before the first note, start of the heartbeat */
};

/* The collective and the phase that this rank is in. Only the rank's main thread writes this
 * struct, with the heartbeat's lock held. */
struct plumb_here {
    int64_t call;      /* collectives entered so far: the same number on every rank */
    const char *doing; /* static name of the current or last collective */
    const char *file;  /* source file that calls the collective; NULL if unknown */
    int line;
    int site; /* plumb_coll_site: the same on every rank that makes the same call */
    bool inside;
    double since; /* time of the last change of this struct */
    char phase[PLUMB_COMM_TEXT];
};

struct plumb_heartbeat {
    pthread_mutex_t lock; /* protects `here`, the limits and the state of the thread */
    pthread_cond_t wake;
    pthread_t thread;
    bool ready;   /* true if lock and wake are initialised */
    bool running; /* true while the heartbeat thread runs */
    bool stop;    /* true if the thread must end */
    bool frozen;  /* true if the thread must send no notes (tests) */
    struct plumb_here here;
    double timeout_s, max_wait_s; /* seconds, see plumb_comm_timeout and _max_wait; 0 = no limit */
    double period_s;              /* each of the other ranks gets one note per period */

    /* The transport's lock protects all fields below. */
    struct plumb_heard *heard; /* (size,) by rank; the entry of this rank is not used */
    double *late_s;            /* (size,) seconds that this rank has waited for each other rank */
    double listened;           /* when the arrived notes were last read */
    double lost_s, lost_until; /* seconds that this process was suspended, and when that ended */
};

/* The state of a wait for bytes from other ranks. When some bytes have moved, a new wait starts. */
struct plumb_wait {
    double since;  /* when the wait began */
    double lost_s; /* plumb_heartbeat.lost_s at the first check of this wait */
    int lines;     /* log lines written during this wait */
    bool counted;  /* true if lost_s is set */
    /* > 0: longest wait, in seconds, after all ranks have entered the collective */
    double stuck_s;
    double together; /* when all ranks were first seen in the collective; 0 = not yet */
    double judged;   /* time of the last check; 0 before the first */
};

plumb_status plumb_heartbeat_init(plumb_comm *c, double timeout_s);
void plumb_heartbeat_fini(plumb_comm *c);
plumb_status
plumb_heartbeat_start(plumb_comm *c); /* starts the thread, which calls ops->send_heartbeat */
void plumb_heartbeat_stop(
    plumb_comm *c); /* returns once the thread has ended; may be called again */
/* Returns the seconds between two calls of ops->send_heartbeat. A call sends to at most
 * PLUMB_HEARTBEAT_RANKS ranks, so several calls may be needed to reach every rank once. Together
 * these calls take one period. Call this function with the heartbeat's lock held, or before the
 * thread starts. */
double plumb_heartbeat_pause(const plumb_comm *c);
/* If frozen is true, the heartbeat thread sends nothing, as after SIGSTOP. For tests with thread
 * ranks, because SIGSTOP stops all threads of a process. */
void plumb_heartbeat_freeze(plumb_comm *c, bool frozen);

/* Fills *note with the current state of this rank. */
void plumb_heartbeat_note(plumb_comm *c, struct plumb_note *note);
/* Returns the time of CLOCK_MONOTONIC in `seconds` seconds, for pthread_cond_timedwait. */
struct timespec plumb_clock_in(double seconds);
/* Writes to text the last folder, the file and the line, as in "train/optim.c:210"; "" if file is
 * NULL. */
void plumb_site_text(char text[PLUMB_SITE_TEXT], const char *file, int line);

/* Call this after all notes that have arrived were read, with the transport's lock held. If this
 * process was suspended (SIGSTOP), the time of the suspension does not count as time without notes
 * from the others. */
void plumb_heartbeat_listened(plumb_comm *c, double now);
/* A waiting rank calls this with the transport's lock held. It fails, with the reason in `why`, if
 * another rank sends no notes, has left, is in another collective, or is later than max_wait, or if
 * no bytes move for wait->stuck_s seconds although all ranks are in the collective. */
plumb_status plumb_heartbeat_judge(plumb_comm *c, struct plumb_wait *wait, double now, char *why,
                                   size_t cap);

#endif
