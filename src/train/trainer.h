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
#include "report/monitor.h"
#include "text/tokenizer.h"
#include "train/checkpoint.h"
#include "train/frozen.h"
#include "train/gradient_model.h"
#include "train/health.h"
#include "train/lock.h"
#include "train/masters.h"
#include "train/micro.h"
#include "train/optim.h"
#include "train/run.h"
#include "train/stop.h"

struct plumb_trainer {
    const struct plumb_config *cfg; /* borrowed, as are comm and backend */
    plumb_comm *comm;
    struct plumb_backend *backend;
    struct plumb_frozen_run frozen; /* where the run's frozen models are */
    const char *command;
    bool ahead; /* see plumb_trainer_source */
    int argc;   /* the command line, for run.json; borrowed */
    char **argv;
    plumb_tokenizer *tokenizer;
    struct plumb_chat_setting chat; /* chat template; empty in a memory plan without data */
    plumb_model *model;
    struct plumb_masters masters; /* masters of model, if they are divided among the ranks */
    plumb_pass *pass;
    struct plumb_micro *micro; /* the micro-batch that plumb_micro_batch_fn fills; borrowed */
    int64_t replay_step,
        replay_micro_batch; /* step and micro-batch of train.replay; -1 if not set */
    plumb_optim *optim;
    struct plumb_gradient gradient;
    struct plumb_train_state state;
    struct plumb_buf
        results; /* YAML of the options that affect results; state.config points here */
    struct plumb_buf gemm_classes; /* state.gemm_classes points here; empty on a CPU */
    struct plumb_buf inputs;       /* on rank 0: hashes of the input files, for run.json */
    char resumed_from[4096];       /* checkpoint folder, "" for a fresh start */
    int64_t resumed_step, resumed_iteration; /* step and iteration of resumed_from */
    plumb_metrics *metrics;
    plumb_monitor *monitor; /* outputs of report.to; only on rank 0, NULL if there are none */
    plumb_lock *lock;       /* lock of output_dir; only on rank 0 */
    plumb_run *run;
    FILE *log; /* OUTPUT_DIR/train.log on rank 0 */
    struct plumb_stop_watch stop;
    struct plumb_health health;
    double began, save_seconds; /* time of plumb_trainer_open; seconds spent in saves since then */
    int64_t saved_step;         /* step of the last checkpoint (saved or resumed); -1 if none */
    char saved_name[64];        /* folder name of that checkpoint */
    double last_log;            /* time of the last line of metrics, as plumb_now returns it */
    int64_t last_log_tokens;    /* state.num_tokens at the last line of metrics */
    struct plumb_traffic last_traffic[PLUMB_TRAFFIC_CLASSES]; /* at the last line of metrics */
};

struct plumb_trainer_source {
    plumb_comm *comm;
    struct plumb_backend *backend;
    const struct plumb_config *cfg;
    const char *command;
    int argc;
    char **argv;
    bool classifier; /* true if a reward model is trained, which has one score as output */
    /* true if `plumb plan` plans a later stage of `plumb run`. The reward model may not be trained
     * yet, so a language model in the folder reward.model is then planned as a reward model */
    bool ahead;
};

/* Takes the lock of output_dir and opens the tokenizer and the weights, those of a fresh start or
 * of the checkpoint that cfg->resume selects. Writes only the lock file; plumb_trainer_close
 * releases the lock. On a dry backend it only reads config.json and, if there is data, the
 * tokenizer. Collective. PLUMB_ERR_EXISTS if another process uses output_dir, or if resume is
 * "never" and output_dir is not empty; files of a failed start do not count. */
plumb_status plumb_trainer_open(struct plumb_trainer **out, const struct plumb_trainer_source *s);
/* Allocates pass, optimizer and gradients. Loads moments and state if the run is resumed. Then
 * creates run.json, config.effective.yaml, metrics.jsonl and train.log. On a dry backend it only
 * counts the allocations.
 * Collective. total_steps: steps of the whole schedule; most_micro_batches: the most micro-batches
 * of any step. */
plumb_status plumb_trainer_prepare(struct plumb_trainer *t, const struct plumb_pass_limit *limit,
                                   int64_t total_steps, int64_t most_micro_batches);
/* Writes the outcome to run.json, frees everything and sets *t to NULL. Collective. Does nothing if
 * *t is NULL. */
void plumb_trainer_close(struct plumb_trainer **t, plumb_status outcome);

/* Returns true with train.shard: gradients, that is, if each rank stores only its shard of the
 * gradients. */
static inline bool plumb_trainer_sharded(const struct plumb_config *cfg)
{
    return cfg->train.shard == PLUMB_SHARD_GRADIENTS;
}
/* Returns the micro-batches of a step of `micro_batches` that this rank computes. Not collective.
 */
static inline struct plumb_leaves plumb_trainer_leaves(const struct plumb_trainer *t,
                                                       int64_t micro_batches)
{
    return plumb_gradient_leaves(plumb_trainer_sharded(t->cfg), micro_batches, t->comm);
}

struct plumb_step_result {
    double value[PLUMB_MICRO_BATCH_VALUES]; /* sums over all micro-batches, in their order */
    struct plumb_optim_result optim;
    bool paused; /* true if a rank skipped micro-batches for a request: no step was taken */
};

/* Takes one optimizer step: computes and reduces the gradient, runs AdamW and increases state.step.
 * fn computes each of the `micro_batches`. PLUMB_ERR_NUMERIC if a loss or gradient is not
 * finite: weights and moments do not change, and the message names the micro-batch and its replay
 * file (train/non_finite.h). Collective. */
plumb_status plumb_trainer_step(struct plumb_trainer *t, int64_t micro_batches,
                                plumb_micro_batch_fn *fn, void *arg, struct plumb_step_result *out);

/* Sets step, iteration, speed and token counts in row, writes metrics.jsonl, and prints the line.
 */
plumb_status plumb_trainer_log(struct plumb_trainer *t, struct plumb_metrics_row *row,
                               int64_t total_iterations);
/* Call this function on all ranks where a run can pause. If any rank has a request (train/stop.h),
 * sets *paused to true and saves checkpoint-STEP-pause-N with the files that `pause` writes. If
 * `pause` writes no files and this step is already saved, nothing is saved. Returns PLUMB_STOPPED
 * on every rank if the request ends the run, and PLUMB_OK if the run continues. Collective. */
plumb_status plumb_trainer_pause(struct plumb_trainer *t, struct plumb_checkpoint_pause *pause,
                                 bool *paused);
/* Warns on rank 0 if the disk of output_dir has no room for a checkpoint. Not collective. */
void plumb_trainer_note_space(const struct plumb_trainer *t);
/* Returns true if a checkpoint is due after step or iteration number `at`. last: `at` is the last
 * one of the run; evaluated: data.eval was evaluated after it. The result depends only on counts,
 * so it is the same on every rank. */
bool plumb_trainer_saves(const struct plumb_trainer *t, int64_t at, bool last, bool evaluated);
/* Saves checkpoint-STEP, with the metrics of row in its model card. The option checkpoint.optimizer
 * decides whether the checkpoint has the optimizer's moments. Collective. */
plumb_status plumb_trainer_save(struct plumb_trainer *t, const struct plumb_metrics_row *row,
                                bool last);

#endif
