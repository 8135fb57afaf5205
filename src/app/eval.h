/* eval.h - plumb eval: computes values for every answer and results (figures) for each model, and
 * writes them.
 * Layer 6. Includes app.h, data/, model/, train/. */
#ifndef PLUMB_APP_EVAL_H
#define PLUMB_APP_EVAL_H

#include "app/app.h"
#include "eval/bleu.h"
#include "stage/scores.h"

/* Indices of the values that describe one answer. The rank that owns the answer computes them, and
 * the other ranks have zeros, so an allreduce with SUM is exact. */
enum {
    EVAL_REWARD,
    EVAL_SCORED, /* 1 if the answer has a reward, else 0 */
    EVAL_TOKENS,
    EVAL_CHARACTERS, /* number of code points of the text */
    EVAL_REPEATED,   /* share of 4-grams that repeat an earlier one of the answer */
    EVAL_CLIPPED,
    EVAL_LOGP, /* log-prob in nats under the model itself; EVAL_LOGP_START: under the first model */
    EVAL_LOGP_START,
    EVAL_JUDGED,    /* 1 if the judge answered for both orders, else 0 */
    EVAL_VERDICT,   /* compared with the first model's answer: 1 better, -1 worse, 0 tie */
    EVAL_DISAGREED, /* 1 if the two verdicts of the judge disagree, which counts as a tie */
    EVAL_BLEU,      /* matches and totals for each n-gram order, then two lengths */
    PLUMB_EVAL_VALUES = EVAL_BLEU + 2 * PLUMB_BLEU_ORDER + 2
};
/* Indices of the values of one prompt's reference: its log-prob in nats and its number of
 * tokens. */
enum { EVAL_REFERENCE_LOGP, EVAL_REFERENCE_TOKENS, PLUMB_EVAL_REFERENCE };

/* Largest number of answers in the table of samples. */
#define PLUMB_EVAL_SHOWN 64 /* upper limit of report.samples */
/* The length n of the n-grams that are counted for EVAL_REPEATED. */
#define PLUMB_EVAL_REPEAT 4

/* The results (figures) of one model over the answers of all ranks. A result that does not exist is
 * NaN. */
struct plumb_eval_figures {
    int64_t answers, missing; /* missing: number of answers without a reward */
    double reward, reward_std, reward_interval[2];
    /* number of answers that are better than, equal to or worse than the first model's answer */
    int64_t win, tie, lose;
    /* disagreed: number of pairs for which the judge's verdicts in the two orders differ.
     * not_judged: number of pairs for which a verdict of the judge is missing; without a judge,
     * number of pairs for which a reward is missing */
    int64_t disagreed, not_judged;
    double win_rate, win_rate_interval[2], lc_win_rate;
    double tokens, tokens_std, tokens_max, characters, clipped;
    /* distinct-1 and distinct-2 over all answers; mean of EVAL_REPEATED */
    double distinct[2], repetition;
    double kl;               /* estimated KL divergence from the first model, in nats per answer */
    double perplexity, bleu; /* perplexity of the references; BLEU of the answers against them */
};

struct plumb_eval_model {
    char name[64];
    const char *dir;
    /* the model has the tokenizer of the first model, so log-probs can be compared */
    bool same_tokens;
    struct plumb_rollouts answers; /* answers to the prompts of this rank */
    struct plumb_scores scores;    /* their rewards */
    /* (prompts * samples, PLUMB_EVAL_VALUES) EVAL_ values of each answer of all ranks */
    double *value;
    double *reference; /* (prompts, PLUMB_EVAL_REFERENCE) values of each reference of all ranks */
    double distinct[2];
    /* The first answers to the first prompts, for the table of samples; NULL if there is none.
     * Before cmd_eval.c shares them, only the answers to this rank's prompts are set. */
    char *text[PLUMB_EVAL_SHOWN];
    struct plumb_eval_figures figures;
};

struct plumb_eval {
    struct plumb_app *app;
    plumb_rewards *rewards; /* NULL if no reward is configured */
    int64_t prompts, n;
    int64_t longest; /* number of bytes of the longest prompt */
    int64_t mine;    /* number of prompts of this rank: prompts rank, rank + world_size, .. */
    bool references; /* true if a prompt has a reference */
    struct plumb_eval_model *model; /* (n,) the models to evaluate */
};

/* Opens the prompts of data.eval for one model. The completion of a record is its reference. dir is
 * the model's folder, for its chat template. If tokenizer is NULL, only the texts are read. */
plumb_status plumb_eval_open_prompts(const struct plumb_eval *e, struct plumb_dataset **out,
                                     const char *dir, const plumb_tokenizer *tokenizer,
                                     int64_t max_pos);
/* eval_answer.c: generates m->answers, the answers to this rank's prompts. An answer is written to
 * output_dir as soon as it is finished, and read back with resume=auto. Sets the callbacks
 * src->options.pause and src->finished to functions that must not be called after this function has
 * returned. Collective. */
plumb_status plumb_eval_answer(const struct plumb_eval *e, struct plumb_eval_model *m,
                               struct plumb_rollout_source *src);
/* eval_answer.c: computes the rewards of the answers in m->answers. Like an answer, a reward is
 * written to output_dir as soon as it is computed, and read back with resume=auto. Does nothing if
 * no reward is configured. Collective. */
plumb_status plumb_eval_score(const struct plumb_eval *e, struct plumb_eval_model *m,
                              const struct plumb_dataset *data);

/* eval_measure.c: computes the EVAL_ values of this rank's answers in m->answers that need no other
 * model, and stores the texts for the table of samples. Not collective. */
plumb_status plumb_eval_measure(const struct plumb_eval *e, struct plumb_eval_model *m,
                                const struct plumb_dataset *data);
/* Computes the log-probs of this rank's references under one model. Not collective. */
plumb_status plumb_eval_references(const struct plumb_eval *e, struct plumb_eval_model *m,
                                   const plumb_model *model, const struct plumb_dataset *data);
/* Computes the log-probs of every model's answers under the first model, if the tokenizers are
 * equal. Not collective. */
plumb_status plumb_eval_start(struct plumb_eval *e, const plumb_model *start,
                              const struct plumb_dataset *data);
/* eval_judge.c: asks the command eval.judge to compare every answer with the first model's answer
 * to the same prompt and sample, in both orders. Not collective. */
plumb_status plumb_eval_judge(struct plumb_eval *e, const struct plumb_dataset *data);

/* eval_figures.c: computes the figures of every model from the values of all answers. */
plumb_status plumb_eval_figure(struct plumb_eval *e);

/* eval_write.c: writes the results. The tables always go to standard output. If output_dir is set,
 * it gets eval.json, and report.html unless the option report.html is false. If `output` names a
 * file, the same JSON is written to it; "-" means that no such file is written (the JSON does not
 * go to standard output). Only rank 0 calls it. */
plumb_status plumb_eval_write(const struct plumb_eval *e);

#endif
