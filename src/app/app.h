/* app.h - the argument of every sub-command, and the list of sub-commands.
 * Layer 6. May include everything. */
#ifndef PLUMB_APP_APP_H
#define PLUMB_APP_APP_H

#include "backend/backend.h"
#include "base/buf.h"
#include "base/status.h"
#include "comm/comm.h"
#include "config/config.h"
#include "config/stages.h"
#include "train/lock.h"

struct plumb_app {
    const struct plumb_config *cfg;
    struct plumb_stages *stages; /* the stages of `plumb run`; NULL for any other command */
    plumb_comm *comm;
    struct plumb_backend *backend;
    const char *command;
    /* for `plumb plan`: the command whose memory is planned; NULL for any other command */
    const char *planned;
    int argc; /* argc and argv of the whole command line, for run.json */
    char **argv;
    /* hash of the input that plumb_lines_read has read; 0 if it has read none */
    uint64_t input_hash;
};

/* Rank 0 acquires the lock of output_dir. *out is NULL on the other ranks, and on all ranks if
 * output_dir is not set. Collective: if rank 0 fails, all ranks fail. */
plumb_status plumb_app_lock(plumb_lock **out, const struct plumb_app *app);

/* Logs a warning on rank 0 if DIR/generation_config.json asks for settings that the command does
 * not use, or if the file cannot be read. Not collective. */
void plumb_note_generation(const struct plumb_app *app, const char *dir);

/* A sub-command. Collective: every rank runs the same sub-command with the same configuration. */
typedef plumb_status plumb_command_fn(struct plumb_app *app);

plumb_command_fn plumb_cmd_align, plumb_cmd_sft, plumb_cmd_reward, plumb_cmd_prefer, plumb_cmd_run,
    plumb_cmd_generate, plumb_cmd_logprob, plumb_cmd_gradient, plumb_cmd_score, plumb_cmd_eval,
    plumb_cmd_compare, plumb_cmd_tokenize, plumb_cmd_inspect, plumb_cmd_merge, plumb_cmd_replay,
    plumb_cmd_plan, plumb_cmd_doctor, plumb_cmd_top;

#endif
