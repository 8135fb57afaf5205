/* heartbeat.h - who is where: what ranks tell each other, and what a waiting rank makes of it.
 * Layer 1. Includes comm.h and base/. For src/comm only.
 *
 * A thread of each rank, the heartbeat, tells all others once per period that the process lives
 * and where it is. So a rank that waits can tell one that is late (logged, up to max_wait) from
 * one that is dead or stopped (silent for timeout: an error), and name it. */
#ifndef PLUMB_COMM_HEARTBEAT_H
#define PLUMB_COMM_HEARTBEAT_H

#include <pthread.h>
#include <stdbool.h>
#include <time.h>

#include "comm/comm.h"

#define PLUMB_COMM_TEXT 64
#define PLUMB_SITE_TEXT 48

/* Ranks that one ops->send_heartbeat tells at most, in turn: short enough to do with MPI locked. */
#define PLUMB_HEARTBEAT_RANKS 64

/* What a rank tells the others. */
struct plumb_note {
    int64_t call;   /* collectives entered */
    int64_t raised; /* the largest value it heard of */
    double busy_s;  /* since it came to where it is */
    int32_t inside; /* of the collective; else it has left it */
    int32_t gone;   /* it has no communicator any more */
    char doing[24], site[PLUMB_SITE_TEXT], phase[PLUMB_COMM_TEXT], host[PLUMB_COMM_TEXT];
};

struct plumb_heard {
    struct plumb_note note; /* the newest */
    double at;              /* when it came; before any: when the watch began */
};

/* Where this rank is. Only its own thread writes, under the watch's lock. */
struct plumb_here {
    int64_t call;      /* collectives entered so far: the same number on every rank */
    const char *doing; /* static name of the current or last one */
    const char *file;  /* of its caller; NULL = unknown */
    int line;
    int site; /* a hash of doing and line: the same on every rank that makes the same call */
    bool inside;
    double since; /* the last change of this */
    char phase[PLUMB_COMM_TEXT];
};

struct plumb_heartbeat {
    pthread_mutex_t lock; /* of here, the limits and the thread's state */
    pthread_cond_t wake;
    pthread_t thread;
    bool ready;  /* lock and wake exist */
    bool running; /* the heartbeat runs */
    bool stop;   /* it shall end */
    bool frozen; /* it keeps silent */
    struct plumb_here here;
    double timeout_s, max_wait_s; /* 0 = for ever */
    double period_s;              /* in which each of the others is told once */

    /* Under the carrier's lock. */
    struct plumb_heard *heard; /* (size,); the own entry is not used */
    double listened;           /* when notes were last taken in */
    double lost_s, lost_until; /* so long this process did not run although it should have */
};

/* A wait for bytes; begin it anew whenever some moved. */
struct plumb_wait {
    double since, lost_s;
    int lines;       /* log lines written */
    bool counted;    /* lost_s is set */
    double stuck_s;  /* > 0: so long it may last once all ranks are in the same collective */
    double together; /* when they were first seen there; 0 = not yet */
};

plumb_status plumb_heartbeat_init(plumb_comm *c, double timeout_s);
void plumb_heartbeat_fini(plumb_comm *c);
plumb_status plumb_heartbeat_start(plumb_comm *c); /* the heartbeat; calls ops->send_heartbeat */
void plumb_heartbeat_stop(plumb_comm *c); /* returns when it has ended; may be called again */
/* Silences the heartbeat as SIGSTOP does: for thread ranks, which cannot be stopped one by one. */
void plumb_heartbeat_freeze(plumb_comm *c, bool frozen);

/* This rank's note, as of now. */
void plumb_heartbeat_note(plumb_comm *c, struct plumb_note *note);
/* CLOCK_MONOTONIC so many seconds from now: for pthread_cond_timedwait. */
struct timespec plumb_clock_in(double seconds);
/* "train/optim.c:210" */
void plumb_site_text(char text[PLUMB_SITE_TEXT], const char *file, int line);

/* To be called with the carrier's lock whenever all notes there are were taken in. Time in which
 * this process did not run itself (a suspended job) does not count as the others' silence. */
void plumb_heartbeat_listened(plumb_comm *c, double now);
/* To be called with the carrier's lock by a rank that waits. Not PLUMB_OK, with the reason in
 * why: a rank is silent, gone, in another collective, or late for more than max_wait. */
plumb_status plumb_heartbeat_judge(plumb_comm *c, struct plumb_wait *wait, double now, char *why,
                                   size_t cap);

#endif
