/* eval.h - the figures of plumb eval and how they are shown.
 * Layer 6. Includes app.h, train/. */
#ifndef PLUMB_APP_EVAL_H
#define PLUMB_APP_EVAL_H

#include "app/app.h"
#include "train/answers.h"
#include "train/rewards.h"

/* Scalars of one answer, shared among ranks (one owner, zeros elsewhere). */
enum { EVAL_REWARD, EVAL_SCORED, EVAL_TOKENS, EVAL_DISTINCT, EVAL_CLIPPED, PLUMB_EVAL_VALUES };

/* Answers that the table of samples shows. */
#define PLUMB_EVAL_SHOWN 8

struct plumb_eval_model {
    char name[64];
    const char *dir;
    double *value;                /* (prompts * samples, PLUMB_EVAL_VALUES) */
    char *text[PLUMB_EVAL_SHOWN]; /* rank 0: its first answers */
    /* over all scored answers */
    int64_t scored, missing;
    double mean, std, half_width; /* of the reward; 95 % normal interval of the mean */
    double length, distinct, clipped;
    /* against the first model, prompt by prompt (mean over samples), of prompts scored for both */
    int64_t win, tie, lose;
};

struct plumb_eval {
    struct plumb_app *app;
    plumb_rewards *rewards;
    int64_t prompts, n;
    struct plumb_eval_model *model; /* (n,) */
};

/* The prompts of data.eval for one model; tokenizer NULL: texts only. */
plumb_status plumb_eval_open_prompts(const struct plumb_eval *e, struct plumb_dataset **out,
                                     const plumb_tokenizer *tokenizer, int64_t max_pos);
/* Scalars and, on rank 0, the first texts of one model's answers. */
plumb_status plumb_eval_keep(const struct plumb_eval *e, struct plumb_eval_model *m,
                             const struct plumb_answers *answers);
/* Fills the figures of every model from the shared scalars. */
void plumb_eval_compare(struct plumb_eval *e);
/* Table on standard output; eval.json and report.html in output_dir when it is set; JSON to
 * `output` when that is no "-". Rank 0 only. */
plumb_status plumb_eval_write(const struct plumb_eval *e);
void plumb_eval_model_fini(struct plumb_eval_model *m);

#endif
