/* stop.h - requests to stop or save, by a signal, a file or a time limit. Any rank may notice a
 * request; then all ranks agree on it. Layer 5. Includes base/, comm/. */
#ifndef PLUMB_TRAIN_STOP_H
#define PLUMB_TRAIN_STOP_H

#include <stdbool.h>

#include "base/status.h"
#include "comm/comm.h"

/* The reasons for a save, in ascending order of priority. The run ends after the save, except after
 * PLUMB_REQUEST_SAVE. */
enum plumb_stop_request {
    PLUMB_REQUEST_NONE,
    PLUMB_REQUEST_SAVE,   /* checkpoint.interval: save and continue */
    PLUMB_REQUEST_TIME,   /* train.max_time has passed */
    PLUMB_REQUEST_FILE,   /* the file OUTPUT_DIR/stop exists */
    PLUMB_REQUEST_SIGNAL, /* the process got USR1 (Slurm, before the time limit) or TERM */
};

struct plumb_stop_watch {
    plumb_comm *comm;          /* borrowed */
    char file[4096];           /* path of the file `stop`; "" if no file is watched */
    double max_time, interval; /* seconds; max_time 0: no limit; interval 0: no saves by time */
    /* mean time between failures, in seconds, from which the interval is computed; 0: not used */
    double mtbf;
    /* largest share of the run's time that all saves together may take; 1 = no limit */
    double share;
    double began, saved; /* time of plumb_stop_begin; time when the last save ended */
    double spent, last;  /* seconds that all saves took so far, and the last one alone */
    double waited;       /* seconds from the last save to the request for the next one */
    bool busy;           /* true while a step runs that a save by time must not interrupt */
    /* true from a save until the next step begins; a save by time must not interrupt that step */
    bool held;
    double looked; /* time of the last check for the file `stop` */
    enum plumb_stop_request
        /* the request that this rank has noticed and on which the ranks have not agreed yet */
        reason;
    int64_t agreed; /* the number of the last agreed request */
};

/* Installs handlers for USR1 and TERM in this process; a second TERM ends the process at once. A
 * signal that comes before plumb_stop_begin is a request as soon as that has been called. So a run
 * that gets a signal while it starts, for example while it reads its model, also saves and ends
 * with the exit code of a pause. Not collective. */
void plumb_stop_catch(void);
/* Calls plumb_stop_catch and begins to watch the file and the time limits.
 * output_dir: the folder in which a file `stop` is a request; NULL if no file is watched. Not
 * collective. */
plumb_status plumb_stop_begin(struct plumb_stop_watch *w, plumb_comm *comm, const char *output_dir,
                              double max_time, double interval, double share);
/* Returns the time from the end of a save to the next save by time, in seconds; 0: never. With
 * mtbf:
 *
 *     interval = sqrt(2 last mtbf)     Source: Young 1974, doi:10.1145/361147.361115, eq. 5
 *
 * which minimises the sum of the time for saves and the expected work that failures lose; `last` is
 * the duration of the last save. Before the first save the result is w->interval, or mtbf / 10 if
 * that is less. Without mtbf it is w->interval. Not collective. */
double plumb_stop_interval(const struct plumb_stop_watch *w);
/* Removes the handlers: USR1 and TERM end the process at once. Not collective. */
void plumb_stop_end(void);
/* Returns true if another save by time keeps the time of all saves within the share w->share of the
 * run's time. Two more saves of the last save's duration, this one and the final one, must fit. Not
 * collective. */
bool plumb_stop_affordable(const struct plumb_stop_watch *w, double now);
/* Returns true if any rank has a request, as far as this rank knows. The function does not wait for
 * other ranks; it is cheap enough to be called before every micro-batch and decode step. The first
 * rank that notices a request announces it to the others. The argument is a struct
 * plumb_stop_watch. Not collective. */
bool plumb_stop_noticed(void *watch);
/* Returns PLUMB_STOPPED if plumb_stop_noticed returns true. It is a plumb_pause_fn
 * (model/request.h). Not collective. */
plumb_status plumb_stop_pause(void *watch);
/* Requests a save (PLUMB_REQUEST_SAVE), unless this rank already has a request: on every rank,
 * plumb_stop_noticed soon returns true. app/lines.c uses this to make all ranks call
 * plumb_stop_agree. Not collective. */
void plumb_stop_ask(struct plumb_stop_watch *w);
/* Sets *reason to the request with the highest priority of all ranks, or to PLUMB_REQUEST_NONE. The
 * result is the same on every rank. Collective. */
plumb_status plumb_stop_agree(struct plumb_stop_watch *w, enum plumb_stop_request *reason);
/* Writes the request as text: "by the file runs/x/stop". Not collective. */
void plumb_stop_describe(const struct plumb_stop_watch *w, enum plumb_stop_request reason,
                         char *out, int64_t size);
/* Records that a save has ended and took `seconds` (0: there was nothing to save). The interval
 * starts again. Not collective. */
void plumb_stop_saved(struct plumb_stop_watch *w, double seconds);
/* Call this function when the run ends on a request: rank 0 removes the file `stop`. Not
 * collective. */
void plumb_stop_honoured(struct plumb_stop_watch *w);

#endif
