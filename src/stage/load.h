/* load.h - measures the seconds that each phase of an iteration takes on this rank, and the seconds
 * of these that the rank spends in collectives.
 * Layer 5, private to stage/. Includes comm/, model/generate.h, report/, train/trainer.h. */
#ifndef PLUMB_STAGE_LOAD_H
#define PLUMB_STAGE_LOAD_H

#include "model/generate.h"
#include "report/load.h"
#include "train/trainer.h"

/* The times and counts of one iteration on this rank. A lap is the time between two calls of
 * plumb_load_lap. */
struct plumb_load {
    const plumb_comm *comm; /* borrowed */
    const plumb_generator *generator;
    /* at the end of the last lap: the time, and the total seconds in collectives */
    double since, waited;
    /* seconds of each phase; idle: the part of them in collectives */
    double seconds[PLUMB_LOAD_PHASES], idle[PLUMB_LOAD_PHASES];
    /* tokens and forward passes of the rollout; before the rollout's lap ends, the generator's
     * counts at the start */
    struct plumb_generator_count count;
    /* (prompts,) borrowed: the rank that generated the completions of each prompt of the iteration;
     * NULL if that is the rank that trains on them */
    const int32_t *made_by;
    int64_t prompts;
};

/* Starts an iteration. Not collective. */
void plumb_load_begin(struct plumb_load *l, const plumb_comm *comm,
                      const plumb_generator *generator);
/* Ends a lap and returns its time in seconds. Adds this time to `phase` (PLUMB_LOAD_ROLLOUT to
 * PLUMB_LOAD_TRAIN), or to no phase if `phase` is PLUMB_LOAD_COUNT. Not collective. */
double plumb_load_lap(struct plumb_load *l, enum plumb_load_value phase);
/* Exchanges the measured load between the ranks. Sets in row the metrics comm/idle_* (share of each
 * phase's time that a rank spends in collectives, mean over the ranks) and comm/tail_* (generated
 * tokens, and forward passes of generation: the largest number of a rank divided by the mean over
 * the ranks). Rank 0 appends a line to load.jsonl. Call it after t->state.iteration has counted the
 * iteration. Does nothing on one rank. Collective. */
plumb_status plumb_load_share(const struct plumb_load *l, const struct plumb_trainer *t,
                              struct plumb_metrics_row *row);

#endif
