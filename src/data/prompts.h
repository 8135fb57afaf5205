/* prompts.h - which prompts an iteration uses, as a pure function.
 * Layer 4. Includes base/. */
#ifndef PLUMB_DATA_PROMPTS_H
#define PLUMB_DATA_PROMPTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

struct plumb_prompt_order {
    uint64_t seed;
    int64_t count;         /* prompts in the set */
    int64_t per_iteration; /* in [1, count] */
    bool shuffle;          /* a fresh order every epoch; else the order of the file, in a circle */
};

/* out (per_iteration,) = indices of the prompts of iteration `iteration` >= 1, in global order.
 *
 * Iterations read one endless sequence, epoch after epoch, per_iteration at a time:
 *     epoch e = shuffle of 0..count-1 keyed by (seed, PLUMB_RNG_SHUFFLE, e).
 * Every prompt occurs once per epoch, and at most once per iteration: where an iteration runs
 * from one epoch into the next, prompts it already has are moved back in the new epoch, behind
 * the part it takes.                                         Source: ours
 *
 * Not collective; the same on every rank.
 * Errors: PLUMB_ERR_CONFIG when count or per_iteration is out of range; PLUMB_ERR_NOMEM. */
plumb_status plumb_prompts_at(int64_t *out, int64_t iteration, const struct plumb_prompt_order *o);

#endif
