/* checkpoint_dir.h - the checkpoint folders of an output_dir: names, order, links, removal, and
 * opening of their state file.
 * Layer 5, private to train/checkpoint*.c. Includes train/checkpoint.h, base/.
 *
 * checkpoint-STEP is complete. checkpoint-STEP-pause-N was saved later, before the next complete
 * checkpoint; N counts from 1. */
#ifndef PLUMB_TRAIN_CHECKPOINT_DIR_H
#define PLUMB_TRAIN_CHECKPOINT_DIR_H

#include "train/checkpoint.h"

enum { PLUMB_CHECKPOINT_PATH = 4096 };
/* name of the state file in a checkpoint folder */
#define PLUMB_CHECKPOINT_STATE "trainer_state.h5"

struct plumb_checkpoint_name {
    int64_t step;
    int64_t pause; /* number N of checkpoint-STEP-pause-N; 0 for checkpoint-STEP */
};

/* Reads a folder name. Returns false if text is not the name of a checkpoint, such as
 * "checkpoint-12.tmp". */
bool plumb_checkpoint_name_read(struct plumb_checkpoint_name *out, const char *text);
/* Returns < 0 if a is older than b, 0 if they are the same, > 0 if a is newer. */
int plumb_checkpoint_name_compare(struct plumb_checkpoint_name a, struct plumb_checkpoint_name b);
void plumb_checkpoint_name_write(char out[64], struct plumb_checkpoint_name name);
/* Writes the path OUTPUT_DIR/name with the suffix to out. PLUMB_ERR_ARG if it does not fit. */
plumb_status plumb_checkpoint_path(char out[PLUMB_CHECKPOINT_PATH], const char *output_dir,
                                   struct plumb_checkpoint_name name, const char *suffix);
/* Lists the checkpoint folders of output_dir, oldest first: *out (*n,). The caller frees *out. */
plumb_status plumb_checkpoint_list(struct plumb_checkpoint_name **out, int64_t *n,
                                   const char *output_dir);
/* Removes the folders checkpoint-*.tmp of output_dir, which are incomplete: the process was killed
 * while it saved a checkpoint, before the rename to the final name, or while it removed one, after
 * the rename to .tmp. */
plumb_status plumb_checkpoint_remove_stale(const char *output_dir);
/* Points the symbolic link OUTPUT_DIR/link to `name`. The link is replaced atomically. */
plumb_status plumb_checkpoint_link(const char *output_dir, const char *link,
                                   struct plumb_checkpoint_name name);
/* Opens the state file of the checkpoint folder dir and reads *state from it. *out is owned by the
 * caller. Errors name the file. */
plumb_status plumb_checkpoint_open_state(plumb_h5 **out, struct plumb_train_state *state,
                                         const char *dir);
/* Call this on rank 0 after `newest` was saved. With keep_best, points OUTPUT_DIR/best to the best
 * checkpoint, if a checkpoint has the metric. Then removes the checkpoints that keep_last,
 * keep_every and keep_best do not keep, and all pauses of the step of `newest` and of earlier
 * steps, except `newest` itself. If `newest` has no moments and is not the last save of the run,
 * the newest pause stays, because a run can only resume from that pause. */
plumb_status plumb_checkpoint_prune(const struct plumb_checkpoint_options *options,
                                    struct plumb_checkpoint_name newest);

#endif
