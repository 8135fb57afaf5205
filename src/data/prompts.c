/* prompts.c - computes which prompts an iteration uses, as a pure function.
 * Layer 4. Includes base/. */
#include "data/prompts.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/rng.h"

/* Copies `fresh` to `order`, but moves the entries marked in `taken` behind the first `need`
 * unmarked ones. Both groups keep their order. Clears taken. */
static void move_back_taken(int64_t *order, const int64_t *fresh, int64_t n, int64_t need,
                            bool *taken)
{
    int64_t k = 0, at = 0;
    for (; k < need; at++)
        if (!taken[fresh[at]])
            order[k++] = fresh[at];
    for (int64_t i = 0; i < at; i++)
        if (taken[fresh[i]])
            order[k++] = fresh[i];
    memcpy(order + k, fresh + at, (size_t)(n - at) * sizeof *order);
    memset(taken, 0, (size_t)n * sizeof *taken);
}

/* Sets out (o->per_iteration,) to the prompts at positions first, first + 1, ... of the endless
 * sequence of epochs. If an iteration ends in another epoch than it began in, it must not get a
 * prompt twice: the new epoch moves back the prompts that the iteration has already. So the order
 * of an epoch depends on the epoch before, and all epochs are computed, from the first one on. An
 * epoch costs O(count). */
static void walk(int64_t *out, int64_t *order, int64_t *fresh, bool *taken, int64_t first,
                 const struct plumb_prompt_order *o)
{
    const int64_t last = first + o->per_iteration - 1;
    const struct plumb_rng_key key = {.seed = o->seed, .purpose = PLUMB_RNG_SHUFFLE};
    for (int64_t epoch = 0; epoch <= last / o->count; epoch++) {
        const int64_t begin = epoch * o->count;
        /* number of prompts that the iteration at the epoch boundary took from the epoch before */
        const int64_t late = begin % o->per_iteration;
        const int64_t need = late ? o->per_iteration - late : 0;
        if (late)
            for (int64_t i = o->count - late; i < o->count; i++)
                taken[order[i]] = true;
        struct plumb_rng_key epoch_key = key;
        epoch_key.iteration = (uint32_t)epoch;
        plumb_rng_shuffle(fresh, o->count, epoch_key);
        move_back_taken(order, fresh, o->count, need, taken);
        for (int64_t i = plumb_max_i64(first, begin); i <= last && i < begin + o->count; i++)
            out[i - first] = order[i - begin];
    }
}

plumb_status plumb_prompts_at(int64_t *out, int64_t iteration, const struct plumb_prompt_order *o)
{
    PLUMB_REQUIRE(o->count >= 1, PLUMB_ERR_CONFIG, "the prompt set is empty");
    PLUMB_REQUIRE(o->per_iteration >= 1 && o->per_iteration <= o->count, PLUMB_ERR_CONFIG,
                  "%lld prompts per iteration: expected 1 to %lld, the size of the prompt set",
                  (long long)o->per_iteration, (long long)o->count);
    int64_t first;
    PLUMB_REQUIRE(iteration >= 1 && plumb_mul(&first, iteration - 1, o->per_iteration),
                  PLUMB_ERR_ARG, "iteration %lld is out of range", (long long)iteration);
    if (!o->shuffle) {
        for (int64_t i = 0; i < o->per_iteration; i++)
            out[i] = (first + i) % o->count;
        return PLUMB_OK;
    }
    int64_t *order = calloc((size_t)o->count * 2, sizeof *order);
    bool *taken = calloc((size_t)o->count, sizeof *taken);
    plumb_status st = PLUMB_OK;
    if (!order || !taken)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "cannot order %lld prompts",
                        (long long)o->count);
    walk(out, order, order + o->count, taken, first, o);
fail:
    free(order);
    free(taken);
    return st;
}
