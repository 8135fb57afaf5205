/* eval.h - plumb eval: the scalars of every answer, the figures of each model, and their output.
 * Layer 6. Includes app.h, data/, model/, train/. */
#ifndef PLUMB_APP_EVAL_H
#define PLUMB_APP_EVAL_H

#include "app/app.h"
#include "eval/bleu.h"
#include "stage/rewards.h"
#include "stage/rollouts.h"

/* The scalars of one answer. One rank computes them, the others have zeros, so that the sum over
 * ranks is exact. */
enum {
    EVAL_REWARD,
    EVAL_SCORED, /* 1: there is a reward */
    EVAL_TOKENS,
    EVAL_CHARACTERS, /* code points of the text */
    EVAL_REPEATED,   /* self-repetition of 4-grams */
    EVAL_CLIPPED,
    EVAL_LOGP, /* nats, under the model itself, and below under the first model */
    EVAL_LOGP_START,
    EVAL_JUDGED,    /* 1: the judge answered for both orders */
    EVAL_VERDICT,   /* 1 better, -1 worse than the first model's answer, 0 tie */
    EVAL_DISAGREED, /* 1: the two verdicts of the judge disagree, which counts as a tie */
    EVAL_BLEU,      /* matches and totals of each order, two lengths */
    PLUMB_EVAL_VALUES = EVAL_BLEU + 2 * PLUMB_BLEU_ORDER + 2
};
/* The scalars of one prompt's reference. */
enum { EVAL_REFERENCE_LOGP, EVAL_REFERENCE_TOKENS, PLUMB_EVAL_REFERENCE };

/* The most answers in the table of samples. */
#define PLUMB_EVAL_SHOWN 64 /* upper limit of report.samples */
/* The n of the n-grams whose repetition within an answer is counted. */
#define PLUMB_EVAL_REPEAT 4

/* The figures of one model; NaN if a figure does not exist. */
struct plumb_eval_figures {
    int64_t answers, missing; /* missing: answers without a reward */
    double reward, reward_std, reward_interval[2];
    /* against the first model, answer by answer */
    int64_t win, tie, lose;
    int64_t disagreed, not_judged; /* pairs of the judge */
    double win_rate, win_rate_interval[2], lc_win_rate;
    double tokens, tokens_std, tokens_max, characters, clipped;
    double distinct[2], repetition; /* distinct-1 and -2 over all answers */
    double kl;                      /* to the first model, nats per answer */
    double perplexity, bleu;        /* perplexity of references, BLEU against them */
};

struct plumb_eval_model {
    char name[64];
    const char *dir;
    bool same_tokens; /* it has the tokenizer of the first model, so log-probs are comparable */
    struct plumb_answers answers; /* answers to this rank's prompts */
    double *value;                /* (prompts * samples, PLUMB_EVAL_VALUES) */
    double *reference;            /* (prompts, PLUMB_EVAL_REFERENCE) */
    double distinct[2];
    char *text[PLUMB_EVAL_SHOWN]; /* on rank 0: the answers to the first prompts */
    struct plumb_eval_figures figures;
};

struct plumb_eval {
    struct plumb_app *app;
    plumb_rewards *rewards; /* NULL: no reward is configured */
    int64_t prompts, n;
    int64_t longest; /* bytes of the longest prompt */
    int64_t mine;    /* number of this rank's prompts: rank, rank + world_size, .. of all */
    bool references; /* some prompt has a reference */
    struct plumb_eval_model *model; /* (n,) */
};

/* Opens the prompts of data.eval for one model. The completion of a record is its reference. dir is
 * the model's folder, for its chat template. If tokenizer is NULL, only the texts are read. */
plumb_status plumb_eval_open_prompts(const struct plumb_eval *e, struct plumb_dataset **out,
                                     const char *dir, const plumb_tokenizer *tokenizer,
                                     int64_t max_pos);
/* eval_answer.c: generates the answers to the prompts in m->answers. Answers are written to
 * output_dir as soon as they are finished, and read back with resume=auto. Sets src->options.pause
 * and src->finished. Collective. */
plumb_status plumb_eval_answer(const struct plumb_eval *e, struct plumb_eval_model *m,
                               struct plumb_answer_source *src);
/* eval_answer.c: computes the rewards of these answers and keeps them in the same way. Does nothing
 * if no reward is configured. Collective. */
plumb_status plumb_eval_score(const struct plumb_eval *e, struct plumb_eval_model *m,
                              const struct plumb_dataset *data);

/* eval_measure.c: computes the scalars of this rank's answers in m->answers, and the texts for the
 * table of samples. Not collective. */
plumb_status plumb_eval_measure(const struct plumb_eval *e, struct plumb_eval_model *m,
                                const struct plumb_dataset *data);
/* Computes the log-probs of this rank's references under one model. Not collective. */
plumb_status plumb_eval_references(const struct plumb_eval *e, struct plumb_eval_model *m,
                                   const plumb_model *model, const struct plumb_dataset *data);
/* Computes the log-probs of every model's answers under the first model, if the tokenizers are
 * equal. Not collective. */
plumb_status plumb_eval_start(struct plumb_eval *e, const plumb_model *start,
                              const struct plumb_dataset *data);
/* eval_judge.c: lets eval.judge compare every answer with the first model's, in both orders. Not
 * collective. */
plumb_status plumb_eval_judge(struct plumb_eval *e, const struct plumb_dataset *data);

/* eval_figures.c: computes the figures of every model from the scalars of all ranks. */
plumb_status plumb_eval_figure(struct plumb_eval *e);

/* eval_write.c: writes tables to standard output. If output_dir is set, writes eval.json and
 * report.html there. If `output` is not "-", writes the JSON to that file. Only rank 0 calls it. */
plumb_status plumb_eval_write(const struct plumb_eval *e);

#endif
