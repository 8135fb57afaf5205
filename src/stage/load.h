/* load.h - measures how long each phase of an iteration takes on this rank, and how long it waits.
 * Layer 5, private to stage/. Includes comm/, model/generate.h, report/, train/trainer.h. */
#ifndef PLUMB_STAGE_LOAD_H
#define PLUMB_STAGE_LOAD_H

#include "model/generate.h"
#include "report/load.h"
#include "train/trainer.h"

/* One iteration on this rank. */
struct plumb_load {
    const plumb_comm *comm; /* borrowed, as is the generator */
    const plumb_generator *generator;
    double since, waited; /* time of the last lap; seconds in collectives until then */
    double seconds[PLUMB_LOAD_PHASES], idle[PLUMB_LOAD_PHASES]; /* idle: of these seconds */
    struct plumb_generator_count count; /* of the rollout; before its lap: at the start */
};

/* Starts an iteration. Not collective. */
void plumb_load_begin(struct plumb_load *l, const plumb_comm *comm,
                      const plumb_generator *generator);
/* Adds the time since the last lap to a phase, PLUMB_LOAD_ROLLOUT to PLUMB_LOAD_TRAIN, or to none
 * if phase is PLUMB_LOAD_COUNT. Returns that time in seconds. Not collective. */
double plumb_load_lap(struct plumb_load *l, enum plumb_load_value phase);
/* On several ranks, sets the metrics comm/idle_* and comm/tail_* in row, and writes the line of
 * load.jsonl for the iteration that the trainer's state counts last. Collective. */
plumb_status plumb_load_share(const struct plumb_load *l, const struct plumb_trainer *t,
                              struct plumb_metrics_row *row);

#endif
