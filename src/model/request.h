/* request.h - the limits of a generator, its requests and options, and the completions it returns.
 * Layer 4. Includes base/, kernels.h, text/tokenizer.h. */
#ifndef PLUMB_MODEL_REQUEST_H
#define PLUMB_MODEL_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "kernels.h"
#include "text/tokenizer.h"

enum plumb_stop {
    PLUMB_STOP_EOS,
    PLUMB_STOP_ID,
    PLUMB_STOP_STRING,
    PLUMB_STOP_LENGTH,
    PLUMB_STOP_PAUSED, /* unfinished: generation was paused before its next token */
};

/* Called between two parts of the work, such as two decode steps. PLUMB_OK: the work goes on;
 * PLUMB_STOPPED: it pauses there; any other failure ends it. The caller returns the failure with
 * its message, which says why. */
typedef plumb_status plumb_pause_fn(void *arg);

/* For requests that become known while other requests run. plumb_generate reads this struct before
 * every decode step. The caller's pause function changes it. While no request runs and none is
 * ready, plumb_generate calls the pause function in a loop. */
struct plumb_supply {
    /* the first `ready` requests may begin; never decreases. plumb_generate does not read the
     * others, so they need not be set yet */
    int64_t ready;
    bool closed; /* true once `ready` will not grow any more; never true before */
};

struct plumb_generate_options {
    struct plumb_sample_param sample;
    /* The logits of all tokens of the prompt and of the completion so far are penalised by this
     * factor, before the filters and the draw (plumb_penalty_fwd_fn). 0 and 1 change nothing. Any
     * other value needs a generator that was created with `penalty`. */
    double repetition_penalty;
    int64_t max_new_tokens;
    uint64_t seed;
    uint32_t iteration; /* the iteration in the key of each random number */
    /* more end tokens in addition to the model's eos ids; the end token stays in the output */
    const int32_t *stop_id;
    int64_t n_stop_id;
    /* strings that end a completion; the output keeps all tokens up to and including the token that
     * completes the string */
    const char *const *stop;
    int64_t n_stop;
    bool ignore_eos; /* do not stop at the model's eos ids; for benchmarks */
    /* launch the kernels of every step one by one, even if the backend could replay a recorded
     * step; the results are the same */
    bool eager;
    plumb_pause_fn *pause; /* called before every decode step; NULL if generation never pauses */
    void *pause_arg;
    /* NULL, or called before each forward pass with pass_arg. If the layers of the model are
     * divided among the ranks, a pass needs all ranks, and this function waits for them. If it
     * returns PLUMB_STOPPED, generation pauses there; any other failure ends generation. */
    plumb_status (*pass)(void *arg);
    void *pass_arg;
    const struct plumb_supply *supply; /* NULL: all requests may begin at once */
};

/* One prompt and the completions to generate for it: samples first_sample ..
 * first_sample+n_samples-1, which share the prompt's KV pages. */
struct plumb_request {
    const int32_t *ids; /* the prompt's tokens; owned by the caller */
    int64_t n;          /* number of prompt tokens, >= 1 */
    int64_t prompt_id;  /* number of the prompt; part of the key of each random number */
    int32_t first_sample, n_samples;
    /* The first n_given tokens of a completion that was paused earlier, and their log-probs. They
     * are read like a prompt; the rest of the completion is then the same as without the pause. If
     * n_given > 0, n_samples must be 1. Owned by the caller. */
    const int32_t *given;
    const float *given_logp, *given_logp_sampled;
    int64_t n_given;
};

/* One completion, finished or paused, including its given tokens. Valid only during the call of
 * plumb_completion_fn. */
struct plumb_completion {
    int64_t request; /* index of the completion's request */
    int32_t sample;
    const int32_t *ids;
    /* log-probs under the raw logits (temperature 1, no repetition penalty), in nats */
    const float *logp;
    /* log-probs under the distribution from which the tokens were drawn */
    const float *logp_sampled;
    int64_t n;
    enum plumb_stop stop;
};
typedef plumb_status plumb_completion_fn(void *arg, const struct plumb_completion *c);

typedef struct plumb_generator plumb_generator;

/* The limits for which a generator is created. */
struct plumb_generator_need {
    int64_t slots;      /* number of completions that are generated at a time */
    int64_t max_tokens; /* largest number of tokens of a prompt and its completion */
    bool penalty;       /* reserve the memory for a repetition penalty */
    /* owned by the caller; NULL if no stop strings are used */
    const plumb_tokenizer *tokenizer;
};

#endif
