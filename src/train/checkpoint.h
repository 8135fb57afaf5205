/* checkpoint.h - everything that decides a run's future, in one folder that appears whole.
 * Layer 5. Includes base/, io/, model/, comm/, train/optim.h.
 *
 * OUTPUT_DIR/checkpoint-STEP/ holds
 *   model.safetensors, config.json, generation_config.json, tokenizer files   plumb_model_save
 *   README.md          model card with Hugging Face front matter
 *   trainer_state.h5   step, cursors, threshold state, seed, config hash; the moments of every
 *                      parameter as a whole array under its name, whatever the world size was
 *   hashes.json        bytes and XXH3-64 of every other file
 * It is written as checkpoint-STEP.tmp, synced, read back against its hashes and renamed; the
 * symbolic link OUTPUT_DIR/latest follows last. A failure removes the .tmp folder and leaves the
 * earlier checkpoints and `latest` as they were. */
#ifndef PLUMB_TRAIN_CHECKPOINT_H
#define PLUMB_TRAIN_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/comm.h"
#include "model/model.h"
#include "train/optim.h"

#define PLUMB_STATE_VALUES 64

/* One named number of a stage with memory ("tau", "decay_power"). */
struct plumb_state_value {
    char name[32];
    double value;
};

/* What is saved beside weights and moments. The generator needs none: random numbers are a
 * function of (seed, purpose, iteration, prompt, sample, position). */
struct plumb_train_state {
    int64_t step;          /* optimizer steps done; names the folder */
    int64_t iteration;     /* iterations done */
    int64_t total_steps;   /* of the schedule */
    int64_t prompt_cursor; /* prompts consumed since the start of the run */
    int64_t num_tokens;    /* tokens generated and trained on so far */
    uint64_t seed;
    uint64_t config_hash;       /* of the effective configuration */
    uint64_t start_fingerprint; /* weights that the run began with */
    int64_t n_values;           /* of the threshold and other stages */
    struct plumb_state_value value[PLUMB_STATE_VALUES];
};

/* Sets or replaces a named value. PLUMB_ERR_ARG: name too long, or no room. */
plumb_status plumb_state_set(struct plumb_train_state *s, const char *name, double value);
/* Value of that name, or fallback. */
double plumb_state_get(const struct plumb_train_state *s, const char *name, double fallback);

/* What README.md says. All text is borrowed and UTF-8. */
struct plumb_card_field {
    const char *name;
    const char *value;
};
struct plumb_card {
    const char *base_model;                   /* folder or name that the run started from */
    const char *method;                       /* "psle" */
    const char *dataset;                      /* prompt file or name; NULL = none named */
    const char *license;                      /* of the weights; NULL = "other" */
    const struct plumb_card_field *parameter; /* key hyper-parameters */
    int64_t n_parameter;
    const struct plumb_card_field *metric; /* figures at this step */
    int64_t n_metric;
};

struct plumb_checkpoint_options {
    const char *output_dir;
    int64_t shard_bytes; /* largest weights file; 0 = 5 GB */
    int64_t keep_last;   /* newest checkpoints kept; 0 = all */
    int64_t keep_every;  /* multiples of this many steps are kept besides; 0 = none */
};

/* Saves checkpoint-STEP and, after success, removes what keep_last and keep_every let go. A
 * complete checkpoint-STEP that is already there is PLUMB_ERR_EXISTS; stale .tmp folders are
 * removed.
 *
 * Collective; rank 0 writes, and its failure is every rank's.
 *   scratch (count,) device   overwritten (the gradient vector may serve)
 *
 * Errors: PLUMB_ERR_IO naming the file and the system's words; on a full disk, what was needed. */
plumb_status plumb_checkpoint_save(const struct plumb_checkpoint_options *options,
                                   const struct plumb_train_state *state,
                                   const struct plumb_card *card, const plumb_model *m,
                                   const plumb_optim *o, plumb_comm *comm, float *scratch);

/* Finds where to resume. `resume`: "auto" = the newest complete checkpoint of output_dir whose
 * hashes hold (one that does not is warned about and passed over); "never" = none; otherwise a
 * checkpoint folder, which must be sound. out_dir (size bytes) = the folder, or "" for none.
 * Collective: rank 0 looks, all ranks get its answer. */
plumb_status plumb_checkpoint_find(char *out_dir, int64_t size, const char *output_dir,
                                   const char *resume, plumb_comm *comm);

/* The numbers of a checkpoint alone. Not collective. */
plumb_status plumb_checkpoint_read_state(struct plumb_train_state *state, const char *dir);

/* Reads state and this rank's share of the moments; o->step = state->step. The weights come from
 * plumb_model_open(dir) before. Any world size. Collective: one rank's failure is every rank's.
 * Errors: PLUMB_ERR_FORMAT names the file and the parameter that is missing or of another size. */
plumb_status plumb_checkpoint_load(const char *dir, struct plumb_train_state *state,
                                   const plumb_model *m, plumb_optim *o, plumb_comm *comm);

/* Reads every file of a checkpoint folder against hashes.json. Not collective.
 * Errors: PLUMB_ERR_FORMAT names the first file that is missing or differs. */
plumb_status plumb_checkpoint_verify(const char *dir);

#endif
