/* checkpoint.h - everything that decides a run's future, in one folder that appears whole.
 * Layer 5. Includes base/, comm/, data/, model/, train/{card,optim,state}.h.
 *
 * OUTPUT_DIR/checkpoint-STEP/ holds
 *   model.safetensors, config.json, generation_config.json, tokenizer files   plumb_model_save
 *   plumb_encoding.json  of a reward model: how it reads records, see data/encoding.h
 *   README.md          model card with Hugging Face front matter
 *   trainer_state.h5   step, cursors, threshold state, seed, config hash; the moments of every
 *                      parameter as a whole array under its name, whatever the world size was
 *   hashes.json        bytes and XXH3-64 of every other file
 * It is written as checkpoint-STEP.tmp, synced, read back against its hashes and renamed; the
 * symbolic link OUTPUT_DIR/latest follows last. A failure removes the .tmp folder and leaves the
 * earlier checkpoints and `latest` as they were.
 *
 * checkpoint-STEP-pause-N is such a folder from the middle of what follows step STEP, with files of
 * the caller's besides. It goes when a later checkpoint is in place. */
#ifndef PLUMB_TRAIN_CHECKPOINT_H
#define PLUMB_TRAIN_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/comm.h"
#include "data/encoding.h"
#include "model/model.h"
#include "report/card.h"
#include "train/optim.h"
#include "train/state.h"

struct plumb_checkpoint_options {
    const char *output_dir;
    int64_t shard_bytes; /* largest weights file; 0 = 5 GB */
    int64_t keep_last;   /* newest checkpoints kept; 0 = all */
    int64_t keep_every;  /* multiples of this many steps are kept besides; 0 = none */
    int64_t keep_best;   /* checkpoints kept with the best state value best_value; 0 = none */
    const char *best_value;
    bool best_is_least;
    const struct plumb_encoding *encoding; /* of a reward model, for its folder; NULL: none */
    const plumb_tokenizer *tokenizer;      /* of the same */
    double retry;                          /* s; how long a failed save is tried again */
    bool weights_only;                     /* without moments: nothing can be resumed from it */
    bool last; /* of the run: points to resume from are not needed any more */
};

/* A save in the middle of things. */
struct plumb_checkpoint_pause {
    /* Writes this rank's own files into the folder; NULL: there are none. */
    plumb_status (*write)(void *arg, const char *dir);
    void *arg;
    int64_t bytes; /* of those files on all ranks, about */
};

/* Saves checkpoint-STEP (pause NULL) or the next checkpoint-STEP-pause-N and, after success,
 * removes what keep_last, keep_every and keep_best let go, and earlier pauses. A complete
 * checkpoint-STEP that is already there stays, and the next pause is saved; stale .tmp folders are
 * removed. With keep_best, the symbolic link OUTPUT_DIR/best is the best one's.
 *
 * Collective; rank 0 writes all but the pause's own files, and one rank's failure is every rank's.
 *   out name                  of the folder
 *   scratch (count,) device   overwritten (the gradient vector may serve)
 *
 * Errors: PLUMB_ERR_IO naming the file and the system's words; on a full disk, what was needed. */
plumb_status plumb_checkpoint_save(char name[64], const struct plumb_checkpoint_options *options,
                                   struct plumb_checkpoint_pause *pause,
                                   const struct plumb_train_state *state,
                                   const struct plumb_card *card, const plumb_model *m,
                                   const plumb_optim *o, plumb_comm *comm, float *scratch);

/* Puts right what a kill in the middle of a save left, before a run goes on from `dir`: removes
 * .tmp folders of output_dir, and points latest at `dir` where that is a checkpoint of output_dir.
 * Not collective, for rank 0. PLUMB_ERR_IO. */
plumb_status plumb_checkpoint_tidy(const char *output_dir, const char *dir);

/* Finds where to resume. `resume`: "auto" = the newest checkpoint of output_dir whose hashes hold
 * (one that does not is warned about and passed over); "never" = none; otherwise a checkpoint
 * folder, which must be sound. out_dir (size bytes) = the folder, or "" for none.
 * Collective: rank 0 looks, all ranks get its answer.
 * Errors: PLUMB_ERR_FORMAT when there are checkpoints but none is sound, or the named one is not;
 * PLUMB_ERR_EXISTS when the named one has later neighbours in output_dir, which a run from there
 * would want to write again. */
plumb_status plumb_checkpoint_find(char *out_dir, int64_t size, const char *output_dir,
                                   const char *resume, plumb_comm *comm);

/* The numbers of a checkpoint alone. Not collective. */
plumb_status plumb_checkpoint_read_state(struct plumb_train_state *state, const char *dir);

/* out += the YAML of the options that decide the results, as they were; nothing when the
 * checkpoint does not say. Not collective. */
plumb_status plumb_checkpoint_read_config(struct plumb_buf *out, const char *dir);

/* Reads state and this rank's share of the moments; o->step = state->step. The weights come from
 * plumb_model_open(dir) before. Any world size. Collective: one rank's failure is every rank's.
 * Errors: PLUMB_ERR_FORMAT names the file and the parameter that is missing or of another size. */
plumb_status plumb_checkpoint_load(const char *dir, struct plumb_train_state *state,
                                   const plumb_model *m, plumb_optim *o, plumb_comm *comm);

/* Whether the folder's trainer state has no moments (checkpoint.optimizer). Not collective. */
plumb_status plumb_checkpoint_weights_only(bool *out, const char *dir);

/* Reads every file of a checkpoint folder against hashes.json. Not collective.
 * Errors: PLUMB_ERR_FORMAT names the first file that is missing or differs. */
plumb_status plumb_checkpoint_verify(const char *dir);

#endif
