/* rollouts.h - the completions of one iteration on this rank.
 * Layer 5. Includes base/, data/, model/, stage/rewards.h. */
#ifndef PLUMB_STAGE_ROLLOUTS_H
#define PLUMB_STAGE_ROLLOUTS_H

#include "data/dataset.h"
#include "model/generate.h"
#include "stage/rewards.h"

/* What asks for log-probs under frozen weights, see train/references.h. */
enum plumb_role {
    PLUMB_ROLE_LOSS,  /* the objective, by method.reference */
    PLUMB_ROLE_START, /* the divergence from the start, train.kl_to_start */
    PLUMB_ROLE_JUDGE, /* the implicit reward, by method.judge */
    PLUMB_ROLES
};

struct plumb_answer {
    int64_t prompt; /* its prompt's place in the iteration's global order */
    int64_t record; /* its prompt's place in the data set; the prompt id of random numbers */
    int32_t sample; /* within the group */
    bool principled;
    bool finished; /* false: n tokens so far */
    bool scored;
    bool old;         /* of an earlier iteration, and its weights */
    uint64_t weights; /* fingerprint of those that gave it */
    bool dropped;     /* not in the running: neither scored nor trained on */
    int64_t n;        /* completion tokens, the stop token included; 0 = not there yet */
    int32_t *ids;
    float *logp;         /* raw log-probs as sampled, nats */
    float *logp_sampled; /* of the distribution drawn from */
    enum plumb_stop stop;
    struct plumb_buf text; /* without special tokens; the prompt's text and this one join */
    double reward;         /* NaN = missing */
    /* log-prob sums under each role's reference and the plain prompt; NaN = not asked */
    double under[PLUMB_ROLES];
};

/* The prompt that an answer was sampled from: the plain one, or the one under the principles. */
const struct plumb_piece *plumb_answer_prompt(const struct plumb_answer *o,
                                              const struct plumb_dataset *data);
/* o->text = the text of o->ids. PLUMB_ERR_NOMEM. */
plumb_status plumb_answer_decode(struct plumb_answer *o, const struct plumb_dataset *data,
                                 const plumb_tokenizer *tokenizer);

/* Fixed room for max_prompts groups of group_size; rollout k * group_size + sample belongs to the
 * k-th local prompt. */
struct plumb_answers {
    int64_t max_prompts, group_size, max_new_tokens;
    int64_t prompts;  /* local prompts of this iteration */
    uint64_t weights; /* fingerprint of those that answered */
    struct plumb_answer *at;
    struct plumb_request *request; /* (max_prompts * group_size,) scratch of generation */
    int64_t *owner; /* the same; local prompt of each request, or answer of each item to score */
    struct plumb_reward_item *item;
    double *score;
    int32_t *ids;
    float *logp;
};

plumb_status plumb_answers_init(struct plumb_answers *r, int64_t max_prompts, int64_t group_size,
                                int64_t max_new_tokens);
void plumb_answers_fini(struct plumb_answers *r);
int64_t plumb_answers_bytes(const struct plumb_answers *r); /* host memory, texts left out */

/* What generation needs besides the prompts. */
struct plumb_answer_source {
    const struct plumb_dataset *data;
    const plumb_tokenizer *tokenizer;
    plumb_generator *generator;
    const plumb_model *model;
    struct plumb_generate_options options;
    bool principled; /* the second half of each group under the principles */
    /* Is told each answer that is finished. NULL: nobody is, and rank 0 shows the progress. */
    plumb_status (*finished)(void *arg, const struct plumb_answer *o);
    void *finished_arg;
};

/* The sampling options of a configuration, for the random numbers of one iteration. */
struct plumb_generate_options plumb_generate_options_of(const struct plumb_config *cfg,
                                                        int64_t iteration);

/* Empties r for n local prompts: local prompt k is the prompt prompt[k], of the record record[k];
 * the first half of each group is plain, the second principled if src->principled. Not collective.
 */
plumb_status plumb_answers_begin(struct plumb_answers *r, const struct plumb_answer_source *src,
                                 const int64_t *prompt, const int64_t *record, int64_t n);
/* Local prompt k has this completion: as if plumb_answers_generate had made it, but src->finished
 * is not told. c may point into the answer itself. Not collective. */
plumb_status plumb_answers_put(struct plumb_answers *r, const struct plumb_answer_source *src,
                               int64_t k, const struct plumb_completion *c);
/* Samples what is not finished, from where it is. Not collective. PLUMB_STOPPED when
 * src->options.pause said so: what was sampled so far is kept.
 * PLUMB_ERR_FORMAT when the tokens so far are of other weights. */
plumb_status plumb_answers_generate(struct plumb_answers *r, const struct plumb_answer_source *src);
/* Fills reward of every rollout that is not scored yet, on its plain prompt. pause (NULL: never) is
 * asked about twice a second. Not collective. PLUMB_STOPPED when it said so: scores so far are
 * kept. */
plumb_status plumb_answers_score(struct plumb_answers *r, const struct plumb_dataset *data,
                                 plumb_rewards *rewards, plumb_pause_fn *pause, void *pause_arg);

#endif
