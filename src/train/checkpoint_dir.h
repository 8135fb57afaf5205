/* checkpoint_dir.h - the checkpoint folders of an output_dir: names, order, links, which ones go.
 * Layer 5, private to train/checkpoint*.c. Includes train/checkpoint.h, base/.
 *
 * checkpoint-STEP is complete. checkpoint-STEP-pause-N came after it, in the middle of what
 * follows step STEP; N counts from 1. */
#ifndef PLUMB_TRAIN_CHECKPOINT_DIR_H
#define PLUMB_TRAIN_CHECKPOINT_DIR_H

#include "train/checkpoint.h"

enum { PLUMB_CHECKPOINT_PATH = 4096 };
#define PLUMB_CHECKPOINT_STATE "trainer_state.h5" /* the file of a checkpoint's state */

struct plumb_checkpoint_name {
    int64_t step;
    int64_t pause; /* 0: checkpoint-STEP */
};

/* false: text is the name of something else ("checkpoint-12.tmp"). */
bool plumb_checkpoint_name_read(struct plumb_checkpoint_name *out, const char *text);
/* < 0, 0, > 0: a is older than b, the same, newer. */
int plumb_checkpoint_name_compare(struct plumb_checkpoint_name a, struct plumb_checkpoint_name b);
void plumb_checkpoint_name_write(char out[64], struct plumb_checkpoint_name name);
/* out = OUTPUT_DIR/name and suffix. PLUMB_ERR_ARG when it does not fit. */
plumb_status plumb_checkpoint_path(char out[PLUMB_CHECKPOINT_PATH], const char *output_dir,
                                   struct plumb_checkpoint_name name, const char *suffix);
/* The folders of output_dir, oldest first. *out is owned by the caller. */
plumb_status plumb_checkpoint_list(struct plumb_checkpoint_name **out, int64_t *n,
                                   const char *output_dir);
/* Removes what a kill left behind: only a rename makes a checkpoint, so a .tmp folder is none. */
plumb_status plumb_checkpoint_remove_stale(const char *output_dir);
/* The symbolic link OUTPUT_DIR/link points at `name` from now on; there is always one. */
plumb_status plumb_checkpoint_link(const char *output_dir, const char *link,
                                   struct plumb_checkpoint_name name);
/* Opens the state file of the checkpoint folder dir and reads *state from it. *out is owned by the
 * caller. Errors name the file. */
plumb_status plumb_checkpoint_open_state(plumb_h5 **out, struct plumb_train_state *state,
                                         const char *dir);
/* After `newest` is in place: removes the pauses that it makes needless (the newest one stays where
 * nothing can be resumed from `newest`), points OUTPUT_DIR/best
 * where keep_best asks for it, and removes what keep_last, keep_every and keep_best let go. */
plumb_status plumb_checkpoint_prune(const struct plumb_checkpoint_options *options,
                                    struct plumb_checkpoint_name newest);

#endif
