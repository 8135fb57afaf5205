/* trainer.h - the parts common to all training commands: model, optimizer step over micro-batches,
 * checkpoints, metrics.
 * Layer 5. Includes base/, comm/, config/, backend/, model/, text/, train/. */
#ifndef PLUMB_TRAIN_TRAINER_H
#define PLUMB_TRAIN_TRAINER_H

#include <stdio.h>

#include "backend/backend.h"
#include "comm/comm.h"
#include "config/config.h"
#include "data/chat.h"
#include "model/model.h"
#include "report/metrics.h"
#include "text/tokenizer.h"
#include "train/checkpoint.h"
#include "train/gradient.h"
#include "train/lock.h"
#include "train/micro.h"
#include "train/optim.h"
#include "train/run.h"
#include "train/stop.h"

struct plumb_trainer {
    const struct plumb_config *cfg; /* borrowed, as are comm and backend */
    plumb_comm *comm;
    struct plumb_backend *backend;
    const char *command;
    int argc; /* borrowed, for run.json */
    char **argv;
    plumb_tokenizer *tokenizer;
    struct plumb_chat_setting chat; /* how messages become prompts; empty on a plan without data */
    plumb_model *model;
    plumb_pass *pass;
    struct plumb_micro *micro;        /* borrowed: the micro-batch that plumb_leaf_fn fills */
    int64_t replay_step, replay_leaf; /* train.replay; -1 = none */
    plumb_optim *optim;
    struct plumb_gradient gradient;
    struct plumb_train_state state;
    struct plumb_buf results; /* YAML of the options that decide the results; state.config */
    struct plumb_buf inputs;  /* on rank 0: hashes of the input files, for run.json */
    char resumed_from[4096];  /* checkpoint folder, "" for a fresh start */
    int64_t resumed_step, resumed_iteration; /* of that checkpoint */
    plumb_metrics *metrics;
    plumb_lock *lock; /* of output_dir, on rank 0 */
    plumb_run *run;
    FILE *log; /* OUTPUT_DIR/train.log on rank 0 */
    struct plumb_stop_watch stop;
    double began, save_seconds; /* time of open; seconds in saves since then */
    int64_t saved_step;         /* of the last checkpoint, saved or resumed from; -1 */
    char saved_name[64];        /* its folder */
    double last_log;
    int64_t last_log_tokens;
};

struct plumb_trainer_source {
    plumb_comm *comm;
    struct plumb_backend *backend;
    const struct plumb_config *cfg;
    const char *command;
    int argc;
    char **argv;
    bool classifier; /* a reward model: one score */
};

/* Takes the lock of output_dir and opens tokenizer and weights, of a fresh start or of the
 * checkpoint that cfg->resume selects. It writes only the lock, which plumb_trainer_close releases.
 * On a dry backend it only reads config.json and, if there is data, the tokenizer. Collective.
 * PLUMB_ERR_EXISTS if another process uses output_dir, or if resume is "never" and output_dir is
 * not empty; files of a failed start do not count. */
plumb_status plumb_trainer_open(struct plumb_trainer **out, const struct plumb_trainer_source *s);
/* Allocates pass, optimizer and gradients. Loads moments and state if the run is resumed. Then
 * creates output_dir, run.json, metrics.jsonl and train.log. On a dry backend it only allocates.
 * Collective. total_steps: steps of the whole schedule; most_leaves: the most micro-batches of any
 * step. */
plumb_status plumb_trainer_prepare(struct plumb_trainer *t, const struct plumb_pass_limit *limit,
                                   int64_t total_steps, int64_t most_leaves);
/* Ends run.json with the outcome and frees everything. Collective. NULL is allowed. */
void plumb_trainer_close(struct plumb_trainer **t, plumb_status outcome);

struct plumb_step_result {
    double value[PLUMB_LEAF_VALUES]; /* sums over all micro-batches, in their order */
    struct plumb_optim_result optim;
    bool paused; /* some rank skipped micro-batches for a stop request: the step was not done */
};

/* One optimizer step: gradient, reduction, AdamW, repacked weights; state.step + 1. Collective.
 * PLUMB_ERR_NUMERIC with weights and moments untouched when a loss or gradient is not finite: the
 * message names the micro-batch and its replay file (train/non_finite.h). */
plumb_status plumb_trainer_step(struct plumb_trainer *t, int64_t leaves, plumb_leaf_fn *fn,
                                void *arg, struct plumb_step_result *out);

/* Sets step, iteration, speed and token counts in row, writes metrics.jsonl, and prints the line.
 */
plumb_status plumb_trainer_log(struct plumb_trainer *t, struct plumb_metrics_row *row,
                               int64_t total_iterations);
/* Call this where all ranks can pause. *paused = whether any rank has a request; if so, this saves
 * checkpoint-STEP-pause-N with the files of `pause`. If there are no such files and this step is
 * already saved, nothing is saved. Returns PLUMB_STOPPED on every rank if the run must end;
 * PLUMB_OK with *paused if it continues. Collective. */
plumb_status plumb_trainer_pause(struct plumb_trainer *t, struct plumb_checkpoint_pause *pause,
                                 bool *paused);
/* Whether a checkpoint is due after step or iteration number `at`. last: it is the last one of the
 * run; evaluated: it was evaluated on data.eval. The result depends only on counts, so it is the
 * same on every rank. */
bool plumb_trainer_saves(const struct plumb_trainer *t, int64_t at, bool last, bool evaluated);
/* Saves checkpoint-STEP, with the metrics of row in its model card. checkpoint.optimizer says
 * whether it has the optimizer's moments. Collective. */
plumb_status plumb_trainer_save(struct plumb_trainer *t, const struct plumb_metrics_row *row,
                                bool last);

#endif
