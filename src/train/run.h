/* run.h - the record of a run: run.json and config.effective.yaml.
 * Layer 5. Includes base/, io/, comm/. */
#ifndef PLUMB_TRAIN_RUN_H
#define PLUMB_TRAIN_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "comm/comm.h"

struct plumb_run_info {
    const char *command; /* name of the command ("align") */
    int argc;
    char *const *argv;
    uint64_t seed, config_hash, start_fingerprint;
    /* of the whole run; total_iterations is 0 if the command has no iterations */
    int64_t total_steps, total_iterations;
    int64_t resumed_step;     /* step of the resumed checkpoint; 0 for a fresh start */
    const char *gemm_classes; /* a line for each class of GEMM algorithms; "" on a CPU */
    const char *config_yaml;  /* text of config.effective.yaml */
    const char *inputs;       /* JSON object of plumb_inputs_put; NULL if there are no inputs */
    const char *chat;         /* JSON object of plumb_chat_put; NULL without a chat template */
};
typedef struct plumb_run plumb_run;

/* Appends a JSON object with the environment variables that set NCCL, UCX, libfabric or Open MPI.
 * plumb itself sets none. Not collective. */
plumb_status plumb_run_settings(struct plumb_buf *out);

/* Creates output_dir and writes config.effective.yaml and run.json. run.json has version, compiler,
 * command, seed, hashes of the configuration, of the first weights and of the inputs, and a list of
 * sessions (one per start or resume) with command line, hosts, the environment variables of
 * plumb_run_settings, classes of GEMM algorithms, saved checkpoints, start and end time (UTC),
 * result. Collective. Rank 0 writes; if it fails, all ranks return a failure. */
plumb_status plumb_run_begin(plumb_run **out, const char *output_dir, plumb_comm *comm,
                             const struct plumb_run_info *info);
/* Adds the checkpoint folder `name` and the fingerprint of its weights to "weights" of this
 * session, and sets "save_seconds" of the session to the seconds that all its saves have taken. Not
 * collective; rank 0 writes. */
plumb_status plumb_run_saved(plumb_run *run, const char *name, uint64_t fingerprint,
                             double seconds);
/* Records the end time and the result ("ok", or the message of the failure), frees *run and sets it
 * to NULL. Not collective; rank 0 writes. Does nothing if run or *run is NULL. */
plumb_status plumb_run_end(plumb_run **run, const char *result);

/* The result of the last session of a run, and the first weights of the run. */
struct plumb_run_past {
    bool there;    /* output_dir has a run.json */
    bool finished; /* its last session ended with "ok" */
    uint64_t config_hash, start_fingerprint;
};
/* Reads *out from run.json. Not collective. PLUMB_ERR_FORMAT if plumb did not write that file. */
plumb_status plumb_run_past(struct plumb_run_past *out, const char *output_dir);

/* Returns true if the folder only has the files of a run that failed before its first metrics line:
 * run.json with the failure, config.effective.yaml, train.log, an empty metrics.jsonl, and possibly
 * rollouts of the first iteration, outputs of report.to and a lock. A run that was killed or still
 * runs has no result in run.json, so the function returns false. Not collective. */
bool plumb_run_failed_start(const char *output_dir);

#endif
