/* prompts.c - computes which prompts an iteration uses, as a pure function.
 * Layer 4. Includes base/. */
#include "data/prompts.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/rng.h"

/* Copies `fresh` (n,) to `order`, but moves the prompts p with taken[p] behind the first `need`
 * prompts without that mark. Prompts with and without the mark keep their order. Sets taken to
 * false. */
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

/* The epoch that was computed last, and scratch. */
struct walk {
    int64_t *order, *fresh; /* (count,) each: the prompts of the epoch; scratch */
    bool *taken;            /* (count,); all false between two epochs */
};

static void walk_fini(struct walk *w)
{
    free(w->order);
    free(w->fresh);
    free(w->taken);
}

/* Checks o and allocates w. The caller calls walk_fini, also after a failure. */
static plumb_status walk_init(struct walk *w, const struct plumb_prompt_order *o)
{
    PLUMB_REQUIRE(o->count >= 1, PLUMB_ERR_CONFIG, "the prompt set is empty");
    PLUMB_REQUIRE(o->per_iteration >= 1 && o->per_iteration <= o->count, PLUMB_ERR_CONFIG,
                  "%lld prompts per iteration: expected 1 to %lld, the size of the prompt set",
                  (long long)o->per_iteration, (long long)o->count);
    w->order = calloc((size_t)o->count, sizeof *w->order);
    w->fresh = calloc((size_t)o->count, sizeof *w->fresh);
    w->taken = calloc((size_t)o->count, sizeof *w->taken);
    PLUMB_REQUIRE(w->order && w->fresh && w->taken, PLUMB_ERR_NOMEM, "cannot order %lld prompts",
                  (long long)o->count);
    return PLUMB_OK;
}

/* Sets w->order to the order of the prompts in `epoch`. On entry, w->order must be that of the
 * epoch before. If an iteration begins in one epoch and ends in the next, it must not get a prompt
 * twice, so the new epoch moves back the prompts that the iteration already has. Therefore the
 * order of an epoch depends on the epoch before. Takes O(count) time. */
static void walk_to(struct walk *w, int64_t epoch, const struct plumb_prompt_order *o)
{
    const struct plumb_rng_key key = {
        .seed = o->seed, .purpose = PLUMB_RNG_SHUFFLE, .iteration = (uint32_t)epoch};
    if (!o->shuffle) {
        for (int64_t i = 0; i < o->count; i++)
            w->order[i] = i;
        return;
    }
    /* number of prompts that the iteration at the epoch boundary took from the epoch before */
    const int64_t late = epoch * o->count % o->per_iteration;
    const int64_t need = late ? o->per_iteration - late : 0;
    for (int64_t i = o->count - late; i < o->count; i++)
        w->taken[w->order[i]] = true;
    plumb_rng_shuffle(w->fresh, o->count, key);
    move_back_taken(w->order, w->fresh, o->count, need, w->taken);
}

/* Calls use(arg, i) for the iterations i = first .. last, with the prompts of i in out
 * (o->per_iteration,). */
static plumb_status walk_over(int64_t *out, int64_t first, int64_t last,
                              const struct plumb_prompt_order *o,
                              plumb_status (*use)(void *arg, int64_t iteration), void *arg)
{
    struct walk w = {0};
    int64_t begin = 0, end = 0; /* positions in the endless sequence of epochs */
    plumb_status st = PLUMB_OK;
    PLUMB_TRY_GOTO(st, walk_init(&w, o), done);
    if (!plumb_mul(&end, last, o->per_iteration))
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_ARG, done, "iteration %lld is out of range", (long long)last);
    if (!o->shuffle && first == last) { /* needs no epoch before */
        for (int64_t i = 0; i < o->per_iteration; i++)
            out[i] = (end - o->per_iteration + i) % o->count;
        PLUMB_TRY_GOTO(st, use(arg, last), done);
        goto done;
    }
    begin = (first - 1) * o->per_iteration;
    for (int64_t epoch = 0; epoch * o->count < end; epoch++) {
        const int64_t start = epoch * o->count, stop = plumb_min_i64(start + o->count, end);
        walk_to(&w, epoch, o);
        for (int64_t at = plumb_max_i64(start, begin); at < stop; at++) {
            out[at % o->per_iteration] = w.order[at - start];
            if ((at + 1) % o->per_iteration == 0)
                PLUMB_TRY_GOTO(st, use(arg, at / o->per_iteration + 1), done);
        }
    }
done:
    walk_fini(&w);
    return st;
}

static plumb_status use_nothing(void *arg, int64_t iteration)
{
    (void)arg;
    (void)iteration;
    return PLUMB_OK;
}

plumb_status plumb_prompts_at(int64_t *out, int64_t iteration, const struct plumb_prompt_order *o)
{
    PLUMB_REQUIRE(iteration >= 1, PLUMB_ERR_ARG, "iteration %lld is out of range",
                  (long long)iteration);
    return walk_over(out, iteration, iteration, o, use_nothing, NULL);
}

plumb_status plumb_prompts_each(int64_t *out, int64_t iterations,
                                const struct plumb_prompt_order *o,
                                plumb_status (*use)(void *arg, int64_t iteration), void *arg)
{
    return walk_over(out, 1, iterations, o, use, arg);
}
