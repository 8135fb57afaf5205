/* rollouts.h - the completions of one iteration on this rank.
 * Layer 5. Includes base/, config/, data/, model/. */
#ifndef PLUMB_STAGE_ROLLOUTS_H
#define PLUMB_STAGE_ROLLOUTS_H

#include "config/config.h"
#include "data/dataset.h"
#include "model/generate.h"

/* One completion of a prompt. */
struct plumb_rollout {
    int64_t prompt;      /* index of the prompt in the iteration's global order */
    int64_t record;      /* index of the prompt in the data set; one of the keys of the completion's
                          * random numbers */
    int32_t sample;      /* index in the prompt's group, from 0 */
    bool principled;     /* true if it was sampled from the prompt with the principles */
    bool finished;       /* false while generation has not ended; ids and log-probs then hold the n
                          * tokens so far */
    bool old;            /* true if an earlier iteration generated it, with earlier weights */
    uint64_t weights;    /* fingerprint of the weights that generated it */
    int64_t n;           /* number of completion tokens, including the stop token; 0 before
                          * generation */
    int32_t *ids;        /* (n,) tokens */
    float *logp;         /* (n,) log-probs of the unmodified logits at sampling, nats */
    float *logp_sampled; /* (n,) log-probs after all sampling options, nats */
    enum plumb_stop stop;
    struct plumb_buf text; /* decoded tokens without special tokens, as a continuation of the
                            * prompt's text */
};

/* Returns the prompt that the completion *o was sampled from: plain, or with the principles. */
const struct plumb_piece *plumb_rollout_prompt(const struct plumb_rollout *o,
                                               const struct plumb_dataset *data);
/* Sets o->text by decoding o->ids. PLUMB_ERR_NOMEM if memory runs out. */
plumb_status plumb_rollout_decode(struct plumb_rollout *o, const struct plumb_dataset *data,
                                  const plumb_tokenizer *tokenizer);

/* The completions of this rank. The arrays have n = max_prompts * group_size elements. Completion
 * k * group_size + sample belongs to local prompt k. */
struct plumb_rollouts {
    int64_t max_prompts, group_size, max_new_tokens;
    int64_t prompts;          /* local prompts of this iteration */
    int64_t principled;       /* the last `principled` completions of each group are principled */
    uint64_t weights;         /* fingerprint of the weights that generate the completions */
    struct plumb_rollout *at; /* (n,) the completions */
    /* (prompts,) borrowed: the local prompts in the order in which they are generated; NULL stands
     * for ascending order. The completions do not depend on it. */
    const int64_t *order;
    struct plumb_request *request; /* (n,) scratch of generation */
    int64_t *owner;                /* (n,) scratch: local prompt of each request */
    int32_t *ids;                  /* (n, max_new_tokens) memory of all plumb_rollout.ids */
    float *logp;                   /* (n, 2, max_new_tokens) memory of all logp and logp_sampled */
};

plumb_status plumb_rollouts_init(struct plumb_rollouts *r, int64_t max_prompts, int64_t group_size,
                                 int64_t max_new_tokens);
void plumb_rollouts_fini(struct plumb_rollouts *r);
/* Returns the number of completions of this iteration on this rank. */
static inline int64_t plumb_rollouts_n(const struct plumb_rollouts *r)
{
    return r->prompts * r->group_size;
}
/* Returns the index, among this rank's completions, of completion `sample` of a local prompt. */
static inline int64_t plumb_rollouts_completion(const struct plumb_rollouts *r,
                                                int64_t local_prompt, int64_t sample)
{
    return local_prompt * r->group_size + sample;
}
/* Returns the local prompt of a completion. */
static inline int64_t plumb_rollouts_local_prompt(const struct plumb_rollouts *r,
                                                  int64_t completion)
{
    return completion / r->group_size;
}
/* Returns the entry of a completion: its index among the completions of all ranks. */
static inline int64_t plumb_rollouts_entry(const struct plumb_rollouts *r,
                                           const struct plumb_rollout *o)
{
    return o->prompt * r->group_size + o->sample;
}
/* Returns the bytes of host memory that r has allocated, without those of the texts. */
int64_t plumb_rollouts_bytes(const struct plumb_rollouts *r);

/* Result of plumb_rollout_source.take: ask again later; a prompt; no prompt is left. */
enum plumb_take { PLUMB_TAKE_LATER, PLUMB_TAKE_PROMPT, PLUMB_TAKE_NONE };

/* Inputs of plumb_rollouts_generate, besides the list of prompts. */
struct plumb_rollout_source {
    const struct plumb_dataset *data;
    const plumb_tokenizer *tokenizer;
    plumb_generator *generator;
    const plumb_model *model;
    struct plumb_generate_options options;
    int64_t principled; /* the last `principled` completions of each group are sampled with the
                         * principles */
    const char *what;   /* name that the progress display shows; NULL stands for "generate" */
    /* Called with each completion when the completion is finished. If this function is NULL, rank 0
     * shows the progress instead. */
    plumb_status (*finished)(void *arg, const struct plumb_rollout *o);
    void *finished_arg;
    /* Supplies more prompts during generation; NULL if there are none. Called before a decode step
     * if a slot is free and every prompt so far has begun, until it sets *next to PLUMB_TAKE_NONE.
     * Sets *next to PLUMB_TAKE_PROMPT and sets *prompt and *record, as plumb_rollouts_begin expects
     * them; or to PLUMB_TAKE_LATER, if the next prompt is not known yet. wait is true if no
     * completion is running; then the function waits and must not return PLUMB_TAKE_LATER. A
     * failure ends generation. */
    plumb_status (*take)(void *arg, bool wait, enum plumb_take *next, int64_t *prompt,
                         int64_t *record);
    void *take_arg;
};

/* Returns the sizes with which a generator must be created: `slots` concurrent sequences of at most
 * max_tokens tokens, and what the sampling options of cfg require. */
struct plumb_generator_need plumb_generator_need_of(const struct plumb_config *cfg, int64_t slots,
                                                    int64_t max_tokens,
                                                    const plumb_tokenizer *tokenizer);
/* Returns the sampling options of a configuration. The random numbers depend on `iteration`. */
struct plumb_generate_options plumb_generate_options_of(const struct plumb_config *cfg,
                                                        int64_t iteration);

/* Clears r for the n local prompts of an iteration. Local prompt k has the global index prompt[k]
 * and the record record[k]. The last src->principled completions of each group are principled; all
 * others are plain. PLUMB_ERR_NOMEM if n is above max_prompts. Not collective. */
plumb_status plumb_rollouts_begin(struct plumb_rollouts *r, const struct plumb_rollout_source *src,
                                  const int64_t *prompt, const int64_t *record, int64_t n);
/* Stores completion c of local prompt k, as plumb_rollouts_generate does, but does not call
 * src->finished. The arrays of c may be those of the stored completion itself. Not collective. */
plumb_status plumb_rollouts_put(struct plumb_rollouts *r, const struct plumb_rollout_source *src,
                                int64_t k, const struct plumb_completion *c);
/* Generates all unfinished completions; a partial completion continues after its last token. The
 * prompts of src->take are added behind the others; PLUMB_ERR_NOMEM if they are more than
 * max_prompts together. Not collective, unless the layers of src->model are sharded over the ranks
 * (plumb_generate). Returns PLUMB_STOPPED if src->options.pause or src->options.pass returned
 * PLUMB_STOPPED; the tokens so far are kept. PLUMB_ERR_FORMAT if other weights generated the tokens
 * so far. */
plumb_status plumb_rollouts_generate(struct plumb_rollouts *r,
                                     const struct plumb_rollout_source *src);

#endif
