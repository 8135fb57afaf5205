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
    const int32_t *made_by; /* (prompts,) borrowed: the rank that generated for each prompt of the
                             * iteration; NULL: the one that trains on it */
    int64_t prompts;
};

/* Starts an iteration. Not collective. */
void plumb_load_begin(struct plumb_load *l, const plumb_comm *comm,
                      const plumb_generator *generator);
/* Adds the time since the last lap to a phase, PLUMB_LOAD_ROLLOUT to PLUMB_LOAD_TRAIN, or to none
 * if phase is PLUMB_LOAD_COUNT. Returns that time in seconds. Not collective. */
double plumb_load_lap(struct plumb_load *l, enum plumb_load_value phase);
/* Exchanges the measured load between the ranks. Sets in row the metrics comm/idle_* (share of each
 * phase that a rank waits, mean over the ranks) and comm/tail_* (largest number of generated tokens
 * and of forward passes of a rank, divided by the mean). Rank 0 appends a line to load.jsonl. Call
 * it after t->state.iteration has counted the iteration. Does nothing on one rank. Collective. */
plumb_status plumb_load_share(const struct plumb_load *l, const struct plumb_trainer *t,
                              struct plumb_metrics_row *row);

#endif
