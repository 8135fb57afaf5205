/* prompts.h - computes which prompts an iteration uses, as a pure function.
 * Layer 4. Includes base/. */
#ifndef PLUMB_DATA_PROMPTS_H
#define PLUMB_DATA_PROMPTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

struct plumb_prompt_order {
    uint64_t seed;
    int64_t count;         /* number of prompts in the set */
    int64_t per_iteration; /* number of prompts of one iteration, in [1, count] */
    /* If true, each epoch has a new order; otherwise the order of the file is repeated. */
    bool shuffle;
};

/* Sets out (per_iteration,) to the indices of the prompts of iteration `iteration` >= 1, in global
 * order.
 *
 * Iterations read one endless sequence of epochs, per_iteration prompts at a time:
 *   epoch e = shuffle of 0..count-1 keyed by (seed, PLUMB_RNG_SHUFFLE, e).
 * Without `shuffle`, each epoch is 0..count-1 in order. With it, each prompt occurs once per epoch
 * and at most once per iteration: if an iteration continues into the next epoch, the prompts that
 * it already has are moved back in that epoch, behind the part that the iteration takes. Source:
 * ours
 *
 * Not collective; gives the same result on every rank. Returns PLUMB_ERR_CONFIG if count or
 * per_iteration is out of range, PLUMB_ERR_ARG if iteration is out of range, or PLUMB_ERR_NOMEM. */
plumb_status plumb_prompts_at(int64_t *out, int64_t iteration, const struct plumb_prompt_order *o);

/* Calls use(arg, i) for the iterations i = 1 .. iterations, in this order, with the prompts of
 * iteration i in out (per_iteration,), as plumb_prompts_at sets them. Computes each epoch once,
 * whereas each call of plumb_prompts_at with `shuffle` computes all earlier epochs again. Stops at
 * the first error of `use` and returns it; otherwise the errors of plumb_prompts_at. */
plumb_status plumb_prompts_each(int64_t *out, int64_t iterations,
                                const struct plumb_prompt_order *o,
                                plumb_status (*use)(void *arg, int64_t iteration), void *arg);

#endif
