/* app.h - what every sub-command gets, and the table of them.
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
    struct plumb_stages *stages; /* of `plumb run`; else NULL */
    plumb_comm *comm;
    struct plumb_backend *backend;
    const char *command;
    const char *planned; /* by the command plan; NULL otherwise */
    int argc;            /* the whole command line, for run.json */
    char **argv;
    uint64_t input_hash; /* of what plumb_lines_read has read; 0: nothing */
};

/* Rank 0 takes the lock of output_dir where that is set; *out = NULL elsewhere. Collective: its
 * failure is every rank's. */
plumb_status plumb_app_lock(plumb_lock **out, const struct plumb_app *app);

/* Warns of what the model's generation_config.json asks for and generate does not follow. Not
 * collective. PLUMB_ERR_FORMAT when the file cannot be read. */
plumb_status plumb_note_generation(const struct plumb_config *cfg);

/* A sub-command: Collective. Every rank runs the same one with the same configuration. */
typedef plumb_status plumb_command_fn(struct plumb_app *app);

plumb_command_fn plumb_cmd_align, plumb_cmd_sft, plumb_cmd_reward, plumb_cmd_prefer, plumb_cmd_run,
    plumb_cmd_generate, plumb_cmd_logprob, plumb_cmd_gradient, plumb_cmd_score, plumb_cmd_eval,
    plumb_cmd_compare, plumb_cmd_tokenize, plumb_cmd_inspect, plumb_cmd_replay, plumb_cmd_plan,
    plumb_cmd_doctor;

#endif
