/* generate.h - batched sampling with a paged KV store and continuous batching.
 * Layer 4. Includes model/model.h, text/tokenizer.h, kernels.h. */
#ifndef PLUMB_MODEL_GENERATE_H
#define PLUMB_MODEL_GENERATE_H

#include "model/model.h"
#include "text/tokenizer.h"

enum plumb_stop {
    PLUMB_STOP_EOS,
    PLUMB_STOP_ID,
    PLUMB_STOP_STRING,
    PLUMB_STOP_LENGTH,
    PLUMB_STOP_PAUSED, /* it has not stopped: generation was paused before its next token */
};
/* "eos", "stop_id", "stop_string", "length", "paused" */
const char *plumb_stop_name(enum plumb_stop s);

/* Asked before every decode step; true: generation shall pause there. */
typedef bool plumb_pause_fn(void *arg);

struct plumb_generate_options {
    struct plumb_sample_param sample;
    int64_t max_new_tokens;
    uint64_t seed;
    uint32_t iteration;     /* of the random number key */
    const int32_t *stop_id; /* besides the model's eos ids; the stop token stays in the output */
    int64_t n_stop_id;
    const char *const *stop; /* strings that end a completion; the tokens up to and with the one
                                that completes the string stay in the output */
    int64_t n_stop;
    bool ignore_eos;       /* for benchmarks */
    bool eager;            /* launch the kernels of every step one by one, where the backend could
                              replay a recorded step; the results are the same */
    plumb_pause_fn *pause; /* NULL: never */
    void *pause_arg;
    /* How many of the requests may begin so far, counted from the first; read before every decode
     * step, never falls. NULL: all of them. With fewer than all, pause must raise it in time: while
     * nothing runs and nothing may begin, the call does nothing but ask pause again and again. */
    const int64_t *ready;
};

/* One prompt and the completions wanted of it: samples first_sample .. first_sample+n_samples-1
 * share the prompt's KV pages. */
struct plumb_request {
    const int32_t *ids; /* borrowed */
    int64_t n;          /* >= 1 */
    int64_t prompt_id;  /* of the random number key */
    int32_t first_sample, n_samples;
    /* The first n_given tokens of the completion and their log-probs, when it was paused before:
     * they are read like a prompt, and sampling goes on behind them to the very completion that
     * it would have been. n_samples is 1 then. Borrowed. */
    const int32_t *given;
    const float *given_logp, *given_logp_sampled;
    int64_t n_given;
};

/* One completion, finished or paused, given tokens included; valid during the call only. */
struct plumb_completion {
    int64_t request; /* index */
    int32_t sample;
    const int32_t *ids;
    const float *logp;         /* raw log-probs, temperature 1, nats */
    const float *logp_sampled; /* of the distribution that was drawn from */
    int64_t n;
    enum plumb_stop stop;
};
typedef plumb_status plumb_completion_fn(void *arg, const struct plumb_completion *c);

typedef struct plumb_generator plumb_generator;

/* slots: sequences alive at a time. max_tokens: longest prompt + completion. All memory is
 * allocated here. tokenizer is borrowed and may be NULL when no stop strings are used. */
plumb_status plumb_generator_create(plumb_generator **out, const plumb_model *m, int64_t slots,
                                    int64_t max_tokens, const plumb_tokenizer *tokenizer);
void plumb_generator_destroy(plumb_generator **g); /* NULL is allowed */
int64_t plumb_generator_bytes(const plumb_generator *g);

/* What the generator has done since it was created, and what it does now. */
struct plumb_generator_count {
    int64_t steps;   /* forward passes; each reads one token of every running sequence */
    int64_t tokens;  /* drawn */
    int64_t running; /* slots that hold a sequence now, also one that waits for its prompt */
};
void plumb_generator_count(const plumb_generator *g, struct plumb_generator_count *out);

/* Runs all requests to their end; done is called once per completion, in the order in which
 * they finish. What is generated does not depend on slots, on the order of requests or on what
 * else runs. A prompt that does not fit (n + 1 > max_tokens or the model's max_pos) is
 * PLUMB_ERR_ARG naming its prompt_id, before anything runs; a completion that reaches
 * max_tokens or max_pos stops with PLUMB_STOP_LENGTH.
 * When o->pause says so, the completions that have gained tokens are handed out too, with
 * PLUMB_STOP_PAUSED, and the call returns PLUMB_STOPPED; the others stay as their request has
 * them. */
plumb_status plumb_generate(plumb_generator *g, const plumb_model *m,
                            const struct plumb_request *request, int64_t n,
                            const struct plumb_generate_options *o, plumb_completion_fn *done,
                            void *arg);

#endif
