/* trainer.h - what every training command shares: the model, its optimizer step over logical
 * micro-batches, checkpoints, metrics.
 * Layer 5. Includes base/, comm/, config/, backend/, model/, text/, train/. */
#ifndef PLUMB_TRAIN_TRAINER_H
#define PLUMB_TRAIN_TRAINER_H

#include <stdio.h>

#include "backend/backend.h"
#include "comm/comm.h"
#include "config/config.h"
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
    plumb_model *model;
    plumb_pass *pass;
    struct plumb_micro *micro;        /* borrowed: the micro-batch that the leaf function fills */
    int64_t replay_step, replay_leaf; /* train.replay; -1 = none */
    plumb_optim *optim;
    struct plumb_gradient gradient;
    struct plumb_train_state state;
    struct plumb_buf results; /* YAML of the options that decide them: state.config */
    struct plumb_buf inputs;  /* of rank 0: hashes of what the run reads, for run.json */
    char resumed_from[4096];  /* checkpoint folder, "" for a fresh start */
    plumb_metrics *metrics;
    plumb_lock *lock; /* of output_dir, on rank 0 */
    plumb_run *run;
    FILE *log; /* OUTPUT_DIR/train.log on rank 0 */
    struct plumb_stop_watch stop;
    double began, save_seconds; /* when it was opened; in saves since then */
    int64_t saved_step;         /* of the last checkpoint, also of one that was resumed from; -1 */
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

/* Takes the lock of output_dir and opens tokenizer and weights (a fresh start, or the newest
 * checkpoint as cfg->resume says). Writes nothing but the lock, which trainer_close gives back; on
 * a dry backend only config.json and, if there is data, the tokenizer are read. Collective.
 * PLUMB_ERR_EXISTS when another process works in output_dir, and when it holds something and resume
 * is "never", unless that is all of a start that failed. */
plumb_status plumb_trainer_open(struct plumb_trainer **out, const struct plumb_trainer_source *s);
/* Allocates pass, optimizer and gradients, loads moments and state when resuming, then creates
 * output_dir, run.json, metrics.jsonl and train.log; on a dry backend it only allocates.
 * Collective.
 *   total_steps: of the whole schedule; most_leaves: of any step. */
plumb_status plumb_trainer_prepare(struct plumb_trainer *t, const struct plumb_pass_limit *limit,
                                   int64_t total_steps, int64_t most_leaves);
/* Ends run.json with the outcome and frees everything. Collective. NULL is allowed. */
void plumb_trainer_close(struct plumb_trainer **t, plumb_status outcome);

struct plumb_step_result {
    double value[PLUMB_LEAF_VALUES]; /* sums over all leaves, in leaf order */
    struct plumb_optim_result optim;
    bool paused; /* a rank left before its last leaf: nothing was done, the step is still to do */
};

/* One optimizer step: gradient, reduction, AdamW, repacked weights; state.step + 1. Collective.
 * PLUMB_ERR_NUMERIC with weights and moments untouched when a loss or gradient is not finite: the
 * message names the micro-batch and its replay file (train/non_finite.h). */
plumb_status plumb_trainer_step(struct plumb_trainer *t, int64_t leaves, plumb_leaf_fn *fn,
                                void *arg, struct plumb_step_result *out);

/* Fills step, iteration, rate and token counts in, writes metrics.jsonl, prints the line. */
plumb_status plumb_trainer_log(struct plumb_trainer *t, struct plumb_metrics_row *row,
                               int64_t total_iterations);
/* Where all ranks can pause: whether any has been asked to (*paused), and if so saves
 * checkpoint-STEP-pause-N with pause's files. Without files of its own, what a checkpoint of this
 * step holds already is not saved again. Collective. PLUMB_STOPPED on every rank when the request
 * was to leave; PLUMB_OK with *paused: go on where you were. */
plumb_status plumb_trainer_pause(struct plumb_trainer *t, struct plumb_checkpoint_pause *pause,
                                 bool *paused);
/* Whether a checkpoint is due after step or iteration number `at`; last: of the run; evaluated: on
 * data.eval. The same on every rank: it depends on counts alone. */
bool plumb_trainer_saves(const struct plumb_trainer *t, int64_t at, bool last, bool evaluated);
/* checkpoint-STEP with this row's figures in its model card; with the optimizer's moments as
 * checkpoint.optimizer says. Collective. */
plumb_status plumb_trainer_save(struct plumb_trainer *t, const struct plumb_metrics_row *row,
                                bool last);

#endif
