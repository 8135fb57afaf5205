/* app.h - the argument of every sub-command, and their list.
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
    struct plumb_stages *stages; /* the stages of `plumb run`; else NULL */
    plumb_comm *comm;
    struct plumb_backend *backend;
    const char *command;
    const char *planned; /* the command whose memory `plumb plan` plans; else NULL */
    int argc;            /* the whole command line, for run.json */
    char **argv;
    uint64_t input_hash; /* hash of the input that plumb_lines_read has read; 0: none */
};

/* Takes the lock of output_dir on rank 0, if output_dir is set; else *out = NULL. Collective: a
 * failure of rank 0 is every rank's. */
plumb_status plumb_app_lock(plumb_lock **out, const struct plumb_app *app);

/* Warns, on rank 0, of what DIR/generation_config.json asks for and the command does not follow,
 * and of a file that cannot be read. Not collective. */
void plumb_note_generation(const struct plumb_app *app, const char *dir);

/* A sub-command: Collective. Every rank runs the same one with the same configuration. */
typedef plumb_status plumb_command_fn(struct plumb_app *app);

plumb_command_fn plumb_cmd_align, plumb_cmd_sft, plumb_cmd_reward, plumb_cmd_prefer, plumb_cmd_run,
    plumb_cmd_generate, plumb_cmd_logprob, plumb_cmd_gradient, plumb_cmd_score, plumb_cmd_eval,
    plumb_cmd_compare, plumb_cmd_tokenize, plumb_cmd_inspect, plumb_cmd_replay, plumb_cmd_plan,
    plumb_cmd_doctor;

#endif
