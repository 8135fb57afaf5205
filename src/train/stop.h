/* stop.h - requests to pause: a signal, a file, a clock. Any rank notices, all agree.
 * Layer 5. Includes base/, comm/. */
#ifndef PLUMB_TRAIN_STOP_H
#define PLUMB_TRAIN_STOP_H

#include <stdbool.h>

#include "base/status.h"
#include "comm/comm.h"

/* Later ones win over earlier ones; all but SAVE ask to leave after the save. */
enum plumb_stop_request {
    PLUMB_REQUEST_NONE,
    PLUMB_REQUEST_SAVE,   /* checkpoint.interval: save, and go on */
    PLUMB_REQUEST_TIME,   /* train.max_time */
    PLUMB_REQUEST_FILE,   /* OUTPUT_DIR/stop is there */
    PLUMB_REQUEST_SIGNAL, /* USR1 (Slurm, before the time limit) or TERM */
};

struct plumb_stop_watch {
    plumb_comm *comm;              /* borrowed */
    char file[4096];               /* "": none is looked for */
    double max_time, interval;     /* s; 0 = none */
    double share;                  /* of the time that saves may take; 1 = no limit */
    double began, saved;           /* when: the watch, the last save */
    double spent, last;            /* s: all saves so far, the last one */
    double waited;                 /* s: from a save to the request for the next one */
    bool busy;                     /* in the middle of a step: no save by time now */
    bool held;                     /* saved, and no step since: the next one is not held up again */
    double looked;                 /* when, for the file */
    enum plumb_stop_request reason; /* that this rank has and that is not agreed on yet */
    int64_t agreed;                /* the number of the last request that all agreed on */
};

/* Catches USR1 and TERM from now on, in the whole process; a second TERM ends it at once.
 * output_dir: where the file `stop` is looked for, NULL = nowhere. Not collective. */
plumb_status plumb_stop_begin(struct plumb_stop_watch *w, plumb_comm *comm, const char *output_dir,
                              double max_time, double interval, double share);
/* USR1 and TERM end the process at once again. Not collective. */
void plumb_stop_end(void);
/* Whether a save by time may come now, as far as its share of the time goes: two more saves as long
 * as the last one, this one and the one at the end, must fit. Not collective. */
bool plumb_stop_affordable(const struct plumb_stop_watch *w, double now);
/* Whether any rank wants to pause, as far as this one knows. Never waits: made for every
 * micro-batch and decode step. The first rank to notice tells the others. Not collective. The
 * argument is a struct plumb_stop_watch. */
bool plumb_stop_noticed(void *watch);
/* Asks all ranks to agree soon, for PLUMB_REQUEST_SAVE: on every rank plumb_stop_noticed says so at
 * its next call. Not collective. */
void plumb_stop_ask(struct plumb_stop_watch *w);
/* *reason = the strongest that any rank has, NONE when no rank has noticed anything: the same on
 * every rank. Collective. */
plumb_status plumb_stop_agree(struct plumb_stop_watch *w, enum plumb_stop_request *reason);
/* In words: "by the file runs/x/stop". Not collective. */
void plumb_stop_describe(const struct plumb_stop_watch *w, enum plumb_stop_request reason,
                         char *out, int64_t size);
/* A save that took so long (0: there was nothing to save) is done: the interval begins again. Not
 * collective. */
void plumb_stop_saved(struct plumb_stop_watch *w, double seconds);
/* A request to leave is fulfilled: rank 0 removes the file. Not collective. */
void plumb_stop_honoured(struct plumb_stop_watch *w);

#endif
