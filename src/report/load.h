/* load.h - load.jsonl: how evenly the work of each iteration was distributed over the ranks.
 * Layer 4. Includes base/.
 *
 * A line has "step", "iteration", and an array with one value of each rank for each entry of
 * PLUMB_LOAD_LIST. With generate.balance it also has "rollout/made_by", an array with the rank that
 * generated the completions of each prompt of the iteration; -1 for a prompt whose completions were
 * all finished before the run was paused. With the value `queue` these ranks differ from run to
 * run. metrics.jsonl has the means and maxima over the ranks (comm/idle_*, comm/tail_*). Only runs
 * of align on several ranks write the file; rank 0 writes it. */
#ifndef PLUMB_REPORT_LOAD_H
#define PLUMB_REPORT_LOAD_H

#include <stdint.h>

#include "base/status.h"

#define PLUMB_LOAD_FILE "load.jsonl"

/* The values that are recorded for each rank: enum, name in load.jsonl. idle/PHASE is the share,
 * from 0 to 1, of the phase's time in which the rank waited for other ranks or exchanged data with
 * them; 0 if the phase took no time. The rollout phase includes the rollouts that the alignment
 * method adds, the reference phase the scores that it adds. TOKENS and STEPS count the tokens that
 * the rank sampled in the rollout, and its forward passes for them. */
#define PLUMB_LOAD_LIST(X)                                                                         \
    X(ROLLOUT, "idle/rollout")                                                                     \
    X(REWARD, "idle/reward")                                                                       \
    X(REFERENCE, "idle/reference")                                                                 \
    X(TRAIN, "idle/train")                                                                         \
    X(TOKENS, "rollout/tokens")                                                                    \
    X(STEPS, "rollout/decode_steps")

enum plumb_load_value {
#define X(id, name) PLUMB_LOAD_##id,
    PLUMB_LOAD_LIST(X)
#undef X
        PLUMB_LOAD_COUNT
};
/* the first values of the enum belong to phases */
enum { PLUMB_LOAD_PHASES = PLUMB_LOAD_TRAIN + 1 };

/* One line of load.jsonl. */
struct plumb_load_line {
    int64_t step, iteration, ranks;
    double *value; /* (ranks, PLUMB_LOAD_COUNT) */
    /* (prompts,) borrowed; plumb_load_newest does not set it; NULL: not known */
    const int32_t *made_by;
    int64_t prompts;
};

/* Mean and maximum of one value over the ranks of a line; `who` is the first rank with the
 * maximum. */
struct plumb_load_spread {
    double mean, most;
    int64_t who;
};
struct plumb_load_spread plumb_load_spread(const struct plumb_load_line *line,
                                           enum plumb_load_value value);

/* Appends a line to load.jsonl in the folder. Not collective. PLUMB_ERR_IO, PLUMB_ERR_NOMEM. */
plumb_status plumb_load_write(const char *dir, const struct plumb_load_line *line);
/* Reads the newest line of load.jsonl in the folder; out->ranks is 0 if there is none. An
 * incomplete last line is ignored. The caller frees out->value. Not collective. PLUMB_ERR_FORMAT if
 * the line is broken; PLUMB_ERR_IO, PLUMB_ERR_NOMEM. */
plumb_status plumb_load_newest(struct plumb_load_line *out, const char *dir);

#endif
