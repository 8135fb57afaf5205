/* generate.h - batched sampling with a paged KV cache and continuous batching.
 * Layer 4. Includes model/model.h, model/request.h. */
#ifndef PLUMB_MODEL_GENERATE_H
#define PLUMB_MODEL_GENERATE_H

#include "model/model.h"
#include "model/request.h"

/* Returns the name of a stop reason: "eos", "stop_id", "stop_string", "length" or "paused". */
const char *plumb_stop_name(enum plumb_stop s);

/* Creates a generator. All its memory is allocated here. */
plumb_status plumb_generator_create(plumb_generator **out, const plumb_model *m,
                                    const struct plumb_generator_need *need);
/* frees a generator and sets *g to NULL; *g may be NULL */
void plumb_generator_destroy(plumb_generator **g);
/* Returns the bytes of the generator's device memory. */
int64_t plumb_generator_bytes(const plumb_generator *g);

/* Counters of a generator: steps and tokens since its creation, and the sequences that run now. */
struct plumb_generator_count {
    /* forward passes: on the CPU, each computes the next token of all live sequences and may also
     * read parts of prompts; on a device, a pass does one or the other */
    int64_t steps;
    int64_t tokens;  /* number of tokens drawn */
    int64_t running; /* slots in use, including slots that wait for their prompt */
    int64_t free;    /* slots not in use */
    /* requests of the last call of plumb_generate for which every sample has or had a slot */
    int64_t begun;
};
void plumb_generator_count(const plumb_generator *g, struct plumb_generator_count *out);

/* Runs all requests and calls done once per completion, in the order in which they finish. The
 * tokens do not depend on the number of slots, on the order of the requests or on the other
 * requests. A prompt that does not fit (n + 1 > max_tokens or the model's max_pos) fails with
 * PLUMB_ERR_ARG and its prompt_id before anything runs, or, with o->supply, when it becomes ready.
 * n is the length of the array `request`. If o->supply is closed before n requests are ready, only
 * the ready ones run. A completion that reaches max_tokens or max_pos stops with PLUMB_STOP_LENGTH.
 *
 * If o->pause or o->pass returns PLUMB_STOPPED, done is also called for the
 * unfinished completions that have new tokens, with PLUMB_STOP_PAUSED, and plumb_generate returns
 * PLUMB_STOPPED. done is not called for completions without new tokens; the caller can pass their
 * requests again unchanged.
 *
 * Not collective, unless the layers of m are divided among the ranks (plumb_model_gathers). Then
 * each forward pass is collective, and o->pass must be set (otherwise PLUMB_ERR_ARG): a rank calls
 * it before each of its passes, and the other ranks run the same pass or call plumb_model_follow. A
 * pass gathers all layers even if it fails. */
plumb_status plumb_generate(plumb_generator *g, const plumb_model *m,
                            const struct plumb_request *request, int64_t n,
                            const struct plumb_generate_options *o, plumb_completion_fn *done,
                            void *arg);

#endif
