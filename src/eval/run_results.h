/* run_results.h - reads the results of a run from its folder: command, metrics and evaluation.
 * Layer 5. Includes base/, config/, report/metrics.h. */
#ifndef PLUMB_EVAL_RUN_RESULTS_H
#define PLUMB_EVAL_RUN_RESULTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "config/config.h"
#include "io/json.h"
#include "report/metrics.h"

/* The results by which runs are compared: enum, key, column head, factor and decimals of the shown
 * value. The keys are those of eval.json, except for the last two results. */
#define PLUMB_FIGURE_LIST(X)                                                                       \
    X(REWARD, "reward", "held-out reward", 1, 3)                                                   \
    X(WIN_RATE, "win_rate", "win rate, %", 100, 1)                                                 \
    X(LC_WIN_RATE, "lc_win_rate", "LC win rate, %", 100, 1)                                        \
    X(KL, "kl", "KL, nats", 1, 2)                                                                  \
    X(LENGTH, "mean_length", "tokens", 1, 1)                                                       \
    X(DISTINCT_1, "distinct_1", "distinct-1", 1, 4)                                                \
    X(DISTINCT_2, "distinct_2", "distinct-2", 1, 4)                                                \
    X(REPETITION, "self_repetition", "repeated, %", 100, 2)                                        \
    X(PERPLEXITY, "perplexity", "perplexity", 1, 3)                                                \
    X(BLEU, "bleu", "BLEU", 1, 2)                                                                  \
    X(LAST_REWARD, "last_reward", "reward in training", 1, 3)                                      \
    X(GENERATED, "generated_tokens", "generated tokens", 1, 0)

enum plumb_figure {
#define X(id, key, head, factor, decimals) PLUMB_FIGURE_##id,
    PLUMB_FIGURE_LIST(X)
#undef X
        PLUMB_FIGURE_COUNT
};
struct plumb_figure_info {
    const char *key, *head;
    double factor;
    int decimals;
};
const struct plumb_figure_info *plumb_figure_info(enum plumb_figure id);

/* The results of one model in an eval.json. */
struct plumb_model_results {
    char name[64];
    double figure[PLUMB_FIGURE_COUNT]; /* by enum plumb_figure; NaN if the file does not have it */
};

struct plumb_run_results {
    const char *dir;  /* borrowed */
    char command[16]; /* "align" or "prefer" */
    bool ended;       /* true if the run's last session ended with "ok" */
    char commit[64];  /* commit of the plumb that ran it; "" if run.json has none */
    struct plumb_config *cfg;
    uint64_t start;         /* fingerprint of the weights before the first step */
    plumb_json *run, *eval; /* run.json; eval.json, or NULL if there is none. Owned */
    struct plumb_metrics_row *row;
    int64_t n_rows;
    bool evaluated;
    char evaluation[512]; /* the data, prompts, samples and judge of the evaluation, as text */
    /* the trained model; without an evaluation only last_reward and generated_tokens are set */
    struct plumb_model_results own;
    /* results of the model against which the wins are counted, if it is not the trained model */
    struct plumb_model_results first;
};

/* Reads DIR/run.json, config.effective.yaml and metrics.jsonl. If DIR/EVALUATION/eval.json exists,
 * also reads from it the results of the trained model, which is the model whose folder is inside of
 * DIR. The caller must close *out, also after a failure. Errors: PLUMB_ERR_IO if DIR is no run
 * folder; PLUMB_ERR_UNSUPPORTED if the run's command is neither align nor prefer; PLUMB_ERR_FORMAT
 * naming the file. */
plumb_status plumb_run_results_open(struct plumb_run_results *out, const char *dir,
                                    const char *evaluation);
void plumb_run_results_close(struct plumb_run_results *f);

#endif
