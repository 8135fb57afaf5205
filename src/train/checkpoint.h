/* checkpoint.h - checkpoints: folders with everything that a resumed run depends on, written
 * atomically.
 * Layer 5. Includes base/, comm/, data/, model/, report/card.h, train/{optim,state}.h.
 *
 * OUTPUT_DIR/checkpoint-STEP/ holds
 *   model.safetensors (above shard_bytes: several shards and their index), config.json,
 *   generation_config.json, tokenizer files                                  plumb_model_save
 *   with an adapter, adapter_config.json and adapter_model.safetensors instead of weights,
 *   config.json and generation_config.json
 *   files of the chat template, if there is one                               plumb_chat_write
 *   plumb_encoding.json  of a reward model: how it reads records, see data/encoding.h
 *   README.md          model card with Hugging Face front matter
 *   trainer_state.h5   the state of train/state.h (step, seed, configuration and others); unless
 *                      checkpoint.optimizer leaves them out, the moments of every parameter as a
 *                      whole array under its name, whatever the world size was, and if the weights
 *                      files are rounded, the float32 weights
 *   hashes.json        bytes and XXH3-64 of every other file
 * The folder is written as checkpoint-STEP.tmp, synced, checked against its hashes, and renamed.
 * The symbolic link OUTPUT_DIR/latest is changed last. If a save fails before the rename, the .tmp
 * folder is removed, and the checkpoints of other steps and `latest` are unchanged.
 *
 * checkpoint-STEP-pause-N is such a folder, saved after step STEP but before the next checkpoint,
 * for example during a rollout. It may also have files of the caller. plumb_checkpoint_save removes
 * it once a later checkpoint with moments exists, or after the last save of the run. */
#ifndef PLUMB_TRAIN_CHECKPOINT_H
#define PLUMB_TRAIN_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/comm.h"
#include "data/chat.h"
#include "data/encoding.h"
#include "model/model.h"
#include "report/card.h"
#include "train/optim.h"
#include "train/state.h"

struct plumb_checkpoint_options {
    const char *output_dir;
    int64_t shard_bytes; /* largest size of a weights file, in bytes; 0 = 5 GB */
    int64_t keep_last;   /* number of newest checkpoints kept; 0 = all */
    int64_t keep_every;  /* checkpoints at multiples of this step are kept, too; 0 = none */
    /* number of checkpoints kept because they are best by the state value best_value; 0 = none */
    int64_t keep_best;
    const char *best_value;
    bool best_is_least;
    /* how a reward model reads records, written to plumb_encoding.json; NULL for a policy */
    const struct plumb_encoding *encoding;
    const plumb_tokenizer *tokenizer;      /* the reward model's tokenizer */
    const struct plumb_chat_setting *chat; /* chat template to write; NULL if there is none */
    double retry;                          /* seconds for which a failed save is retried */
    bool weights_only;                     /* save no moments: a run cannot resume from it */
    bool last; /* this is the last save of the run, so earlier pauses are removed */
};

/* What the caller adds to the folder checkpoint-STEP-pause-N, which is saved between two complete
 * checkpoints. */
struct plumb_checkpoint_pause {
    /* Writes this rank's own files into the folder dir; NULL if there are no such files. */
    plumb_status (*write)(void *arg, const char *dir);
    void *arg;
    /* approximate size in bytes of the files that `write` makes on all ranks together */
    int64_t bytes;
};

/* Saves checkpoint-STEP (pause NULL) or the next checkpoint-STEP-pause-N. After a successful save,
 * removes earlier pauses and the checkpoints that keep_last, keep_every and keep_best do not keep.
 * If the save has no moments and is not the last save of the run, the newest pause stays. An
 * existing complete checkpoint-STEP with moments is never overwritten: a pause is saved instead.
 * Stale .tmp folders are removed. With keep_best, the symbolic link OUTPUT_DIR/best points to the
 * best checkpoint.
 *
 * Collective. Rank 0 writes everything except the files of `pause`. If one rank fails, all ranks
 * return a failure.
 *   out name                  name of the folder
 *   scratch (buckets of the optimizer,) device   an array for each bucket, which is overwritten;
 *           the arrays may overlap (callers pass plumb_gradient_scratch)
 *
 * Errors: PLUMB_ERR_IO, after retries for options->retry seconds, names the file and the system's
 * error text, and on a full disk the space that the checkpoint needs. PLUMB_ERR_ARG if optimizer,
 * model and state disagree. */
plumb_status plumb_checkpoint_save(char name[64], const struct plumb_checkpoint_options *options,
                                   struct plumb_checkpoint_pause *pause,
                                   const struct plumb_train_state *state,
                                   const struct plumb_card *card, const plumb_model *m,
                                   const plumb_optim *o, plumb_comm *comm, float *const *scratch);

/* Logs a warning if the disk of options->output_dir has less free space than one complete
 * checkpoint of m needs. Rank 0 calls it when a run starts: the first save may come hours later. Of
 * the options it reads output_dir and weights_only. Not collective. */
void plumb_checkpoint_note_space(const struct plumb_checkpoint_options *options,
                                 const plumb_model *m);

/* Fails with PLUMB_ERR_IO if the disk of options->output_dir has less free space than a checkpoint
 * of m needs, and `more` bytes. A save calls this before it writes anything. name: the folder of
 * the checkpoint, for the message. Not collective. */
plumb_status plumb_checkpoint_check_space(const struct plumb_checkpoint_options *options,
                                          const plumb_model *m, int64_t more, const char *name);

/* Cleans up after a save that was killed, before a run resumes from `dir`: removes the .tmp folders
 * of output_dir, and points latest to `dir` if that is a checkpoint of output_dir. Not collective;
 * rank 0 calls it. PLUMB_ERR_IO. */
plumb_status plumb_checkpoint_tidy(const char *output_dir, const char *dir);

/* Finds the checkpoint to resume from. resume = "auto" selects the newest checkpoint of output_dir
 * that has moments and whose files match their hashes; other checkpoints are skipped, and a log
 * line names them. "never" selects none. Anything else is a checkpoint folder, which must be intact
 * and have moments. out_dir (size bytes) = the folder, or "" for none. Collective: rank 0 searches,
 * and the result is the same on all ranks. Errors: PLUMB_ERR_FORMAT if there are checkpoints but
 * none can be resumed, or if the given folder is damaged or has no moments; PLUMB_ERR_CONFIG if the
 * given folder does not exist; PLUMB_ERR_EXISTS if output_dir has later checkpoints than the given
 * one, which the resumed run would have to overwrite. */
plumb_status plumb_checkpoint_find(char *out_dir, int64_t size, const char *output_dir,
                                   const char *resume, plumb_comm *comm);

/* Reads only the state of a checkpoint. Not collective. */
plumb_status plumb_checkpoint_read_state(struct plumb_train_state *state, const char *dir);

/* Appends the YAML of the options that decide the results, as stored in the checkpoint, to out.
 * Appends nothing if the checkpoint has none. Not collective. */
plumb_status plumb_checkpoint_read_config(struct plumb_buf *out, const char *dir);

/* Appends the classes of GEMM algorithms of the run that wrote the checkpoint. Appends nothing if
 * that run was on a CPU. Not collective. */
plumb_status plumb_checkpoint_read_gemm_classes(struct plumb_buf *out, const char *dir);

/* Replaces the weights of m, which were read from a checkpoint's rounded files (checkpoint.dtype),
 * by the float32 weights in its trainer state. Does nothing if the trainer state has no float32
 * weights. Not collective. Errors: PLUMB_ERR_FORMAT names the parameter. */
plumb_status plumb_checkpoint_load_masters(const char *dir, plumb_model *m);

/* Reads the state and this rank's share of the moments, and sets o->step = state->step. The caller
 * must have opened m from dir. The world size may differ from that of the save. Collective; if one
 * rank fails, all ranks return a failure. Errors: PLUMB_ERR_FORMAT names the file and the parameter
 * that is missing or has another size. */
plumb_status plumb_checkpoint_load(const char *dir, struct plumb_train_state *state,
                                   const plumb_model *m, plumb_optim *o, plumb_comm *comm);

/* Sets *out to true if the checkpoint folder has no optimizer moments (checkpoint.optimizer). Not
 * collective. */
plumb_status plumb_checkpoint_weights_only(bool *out, const char *dir);

/* Reads every file that hashes.json of a checkpoint folder lists, and compares its size and hash.
 * Not collective. Errors: PLUMB_ERR_FORMAT names the first file that is missing, differs, or
 * decides results and is not listed; PLUMB_ERR_IO if the folder does not exist or a file cannot be
 * read. */
plumb_status plumb_checkpoint_verify(const char *dir);

#endif
