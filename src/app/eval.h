/* eval.h - plumb eval: what is measured on every answer, the figures made of it, how they show.
 * Layer 6. Includes app.h, data/, model/, train/. */
#ifndef PLUMB_APP_EVAL_H
#define PLUMB_APP_EVAL_H

#include "app/app.h"
#include "eval/bleu.h"
#include "stage/rewards.h"
#include "stage/rollouts.h"

/* Scalars of one answer, shared among ranks (one owner, zeros elsewhere: sums are exact). */
enum {
    EVAL_REWARD,
    EVAL_SCORED, /* 1: there is a reward */
    EVAL_TOKENS,
    EVAL_CHARACTERS, /* code points of the text */
    EVAL_REPEATED,   /* self-repetition of 4-grams */
    EVAL_CLIPPED,
    EVAL_LOGP, /* nats, under the model itself and under the first one */
    EVAL_LOGP_START,
    EVAL_JUDGED,    /* 1: the judge answered for both orders */
    EVAL_VERDICT,   /* 1 better, -1 worse than the first model's answer, 0 tie */
    EVAL_DISAGREED, /* 1: the judge changed its mind with the order; a tie */
    EVAL_BLEU,      /* matches and totals of each order, two lengths */
    PLUMB_EVAL_VALUES = EVAL_BLEU + 2 * PLUMB_BLEU_ORDER + 2
};
/* Scalars of one prompt's reference. */
enum { EVAL_REFERENCE_LOGP, EVAL_REFERENCE_TOKENS, PLUMB_EVAL_REFERENCE };

/* Answers that the table of samples shows. */
#define PLUMB_EVAL_SHOWN 64 /* upper limit of report.samples */
/* Tokens of the runs whose repetition within an answer is counted. */
#define PLUMB_EVAL_REPEAT 4

/* The figures of one model; NaN where there is nothing to say. */
struct plumb_eval_figures {
    int64_t answers, missing; /* missing: rewards */
    double reward, reward_std, reward_interval[2];
    /* against the first model, answer by answer */
    int64_t win, tie, lose;
    int64_t disagreed, not_judged; /* of the judge's pairs */
    double win_rate, win_rate_interval[2], lc_win_rate;
    double tokens, tokens_std, tokens_max, characters, clipped;
    double distinct[2], repetition; /* distinct-1 and -2 over all answers */
    double kl;                      /* to the first model, nats per answer */
    double perplexity, bleu;        /* of and against references */
};

struct plumb_eval_model {
    char name[64];
    const char *dir;
    bool same_tokens;             /* as the first model: its log-probs can be compared */
    struct plumb_answers answers; /* of this rank's prompts */
    double *value;                /* (prompts * samples, PLUMB_EVAL_VALUES) */
    double *reference;            /* (prompts, PLUMB_EVAL_REFERENCE) */
    double distinct[2];
    char *text[PLUMB_EVAL_SHOWN]; /* rank 0: the answers to the first prompts */
    struct plumb_eval_figures figures;
};

struct plumb_eval {
    struct plumb_app *app;
    plumb_rewards *rewards; /* NULL: none is configured */
    int64_t prompts, n;
    int64_t longest; /* bytes of a prompt */
    int64_t mine;    /* this rank's prompts: slot rank, rank + world_size, .. of all */
    bool references; /* some prompt has one */
    struct plumb_eval_model *model; /* (n,) */
};

/* The prompts of data.eval for one model, a record's completion being its reference; tokenizer
 * NULL: texts only. */
plumb_status plumb_eval_open_prompts(const struct plumb_eval *e, struct plumb_dataset **out,
                                     const plumb_tokenizer *tokenizer, int64_t max_pos);
/* eval_answer.c: the model answers the prompts that m->answers was begun with. The answers are
 * kept in output_dir as they come, and read back with resume=auto. src->options.pause and
 * src->finished are set here. Collective. */
plumb_status plumb_eval_answer(const struct plumb_eval *e, struct plumb_eval_model *m,
                               struct plumb_answer_source *src);
/* eval_answer.c: the rewards of these answers, kept in the same way; nothing without rewards.
 * Collective. */
plumb_status plumb_eval_score(const struct plumb_eval *e, struct plumb_eval_model *m,
                              const struct plumb_dataset *data);

/* eval_measure.c: the scalars of this rank's answers in m->answers, and the texts of those that
 * are shown. Not collective. */
plumb_status plumb_eval_measure(const struct plumb_eval *e, struct plumb_eval_model *m,
                                const struct plumb_dataset *data);
/* Log-probs of this rank's references under one model. Not collective. */
plumb_status plumb_eval_references(const struct plumb_eval *e, struct plumb_eval_model *m,
                                   const plumb_model *model, const struct plumb_dataset *data);
/* Log-probs of every model's answers under the first model, where tokens are the same. Not
 * collective. */
plumb_status plumb_eval_start(struct plumb_eval *e, const plumb_model *start,
                              const struct plumb_dataset *data);
/* eval_judge.c: asks eval.judge about every answer against the first model's, in both orders. Not
 * collective. */
plumb_status plumb_eval_judge(struct plumb_eval *e, const struct plumb_dataset *data);

/* eval_figures.c: the figures of every model from the shared scalars. */
plumb_status plumb_eval_figure(struct plumb_eval *e);

/* eval_write.c: tables on standard output; eval.json and report.html in output_dir when it is set;
 * JSON to `output` when that is no "-". Rank 0 only. */
plumb_status plumb_eval_write(const struct plumb_eval *e);

#endif
