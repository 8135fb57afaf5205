/* rollouts.h - the completions of one iteration on this rank.
 * Layer 5. Includes base/, data/, model/, stage/rewards.h. */
#ifndef PLUMB_STAGE_ROLLOUTS_H
#define PLUMB_STAGE_ROLLOUTS_H

#include "data/dataset.h"
#include "model/generate.h"
#include "stage/rewards.h"

/* Uses of reference log-probs. Each use may have its own reference model, see train/references.h.
 */
enum plumb_role {
    PLUMB_ROLE_LOSS,  /* the objective; method.reference names the model */
    PLUMB_ROLE_START, /* the KL to the model that the run started from; train.kl_to_start */
    PLUMB_ROLE_JUDGE, /* the implicit reward; method.judge names the model */
    PLUMB_ROLES
};

/* One completion of a prompt. */
struct plumb_rollout {
    int64_t prompt;      /* index of its prompt in the iteration's global order */
    int64_t record;      /* index of its prompt in the data set; also keys its random numbers */
    int32_t sample;      /* index in the prompt's group, from 0 */
    bool principled;     /* true if it was sampled from the prompt with the principles */
    bool finished;       /* false if generation has not ended: it has n tokens so far */
    bool scored;         /* true once `reward` is set */
    bool old;            /* true if an earlier iteration generated it, with earlier weights */
    uint64_t weights;    /* fingerprint of the weights that generated it */
    bool dropped;        /* true if it is neither scored nor trained on */
    int64_t n;           /* completion tokens, including the stop token; 0 before generation */
    int32_t *ids;        /* (n,) tokens */
    float *logp;         /* (n,) log-probs of the unmodified logits at sampling, nats */
    float *logp_sampled; /* (n,) log-probs after temperature, top_k and top_p, nats */
    enum plumb_stop stop;
    struct plumb_buf text; /* decoded tokens without special tokens; follows the prompt's text */
    double reward;         /* NaN if missing */
    /* sums of its log-probs (nats) after the plain prompt, under the reference of each role; NaN if
     * not computed */
    double under[PLUMB_ROLES];
};

/* Returns the prompt that an answer was sampled from: plain, or with the principles. */
const struct plumb_piece *plumb_rollout_prompt(const struct plumb_rollout *o,
                                               const struct plumb_dataset *data);
/* Sets o->text by decoding o->ids. PLUMB_ERR_NOMEM if memory runs out. */
plumb_status plumb_rollout_decode(struct plumb_rollout *o, const struct plumb_dataset *data,
                                  const plumb_tokenizer *tokenizer);

/* The completions of this rank. The arrays have n = max_prompts * group_size elements. Completion
 * k * group_size + sample belongs to local prompt k. */
struct plumb_rollouts {
    int64_t max_prompts, group_size, max_new_tokens;
    int64_t prompts;               /* local prompts of this iteration */
    uint64_t weights;              /* fingerprint of the weights that generate them */
    struct plumb_rollout *at;      /* (n,) the completions */
    struct plumb_request *request; /* (n,) scratch of generation */
    int64_t *owner; /* (n,) scratch: local prompt of each request, or completion of each item */
    struct plumb_reward_item *item; /* (n,) scratch: the texts of one completion for the scorer */
    double *score;                  /* (n,) scratch: the scores that come back, same order */
    int32_t *ids;                   /* (n, max_new_tokens) memory of all plumb_rollout.ids */
    float *logp;                    /* (n, 2, max_new_tokens) memory of all logp and logp_sampled */
};

plumb_status plumb_rollouts_init(struct plumb_rollouts *r, int64_t max_prompts, int64_t group_size,
                                 int64_t max_new_tokens);
void plumb_rollouts_fini(struct plumb_rollouts *r);
/* Returns the bytes of host memory that r holds, without the texts. */
int64_t plumb_rollouts_bytes(const struct plumb_rollouts *r);

/* Inputs of generation besides the prompts. */
struct plumb_rollout_source {
    const struct plumb_dataset *data;
    const plumb_tokenizer *tokenizer;
    plumb_generator *generator;
    const plumb_model *model;
    struct plumb_generate_options options;
    bool principled; /* true: sample the second half of each group with the principles */
    /* Called with each answer when it is finished. If it is NULL, rank 0 shows the progress. */
    plumb_status (*finished)(void *arg, const struct plumb_rollout *o);
    void *finished_arg;
};

/* Returns the sampling options of a configuration. The random numbers depend on `iteration`. */
struct plumb_generate_options plumb_generate_options_of(const struct plumb_config *cfg,
                                                        int64_t iteration);

/* Clears r for the n local prompts of an iteration. Local prompt k has the global index prompt[k]
 * and the record record[k]. If src->principled, the second half of each group is principled; all
 * other completions are plain. PLUMB_ERR_NOMEM if n is above max_prompts. Not collective. */
plumb_status plumb_rollouts_begin(struct plumb_rollouts *r, const struct plumb_rollout_source *src,
                                  const int64_t *prompt, const int64_t *record, int64_t n);
/* Stores completion c of local prompt k, as plumb_rollouts_generate does, but does not call
 * src->finished. c->ids and its log-probs may point into the stored answer. Not collective. */
plumb_status plumb_rollouts_put(struct plumb_rollouts *r, const struct plumb_rollout_source *src,
                                int64_t k, const struct plumb_completion *c);
/* Generates all unfinished completions; a partial completion continues after its last token. Not
 * collective. Returns PLUMB_STOPPED if src->options.pause returned true; the tokens so far are
 * kept. PLUMB_ERR_FORMAT if other weights generated the tokens so far. */
plumb_status plumb_rollouts_generate(struct plumb_rollouts *r,
                                     const struct plumb_rollout_source *src);
/* Sets the reward of every completion that is neither scored nor dropped; the sources get the plain
 * prompt. Calls pause (may be NULL) about twice a second. Not collective. Returns PLUMB_STOPPED if
 * pause returned true; the scores so far are kept. */
plumb_status plumb_rollouts_score(struct plumb_rollouts *r, const struct plumb_dataset *data,
                                  plumb_rewards *rewards, plumb_pause_fn *pause, void *pause_arg);

#endif
