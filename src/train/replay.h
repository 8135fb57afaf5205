/* replay.h - the replay file: the inputs that decide a micro-batch's loss and gradient, and the
 * results of its run.
 * Layer 5. Includes base/, model/, train/micro.h.
 *
 * OUTPUT_DIR/replay-STEP-LEAF.h5 is written when a loss or a gradient is not finite, and for the
 * micro-batch that train.replay names. `plumb replay FILE` runs the micro-batch again. With n
 * sequences, t completion tokens and k pairs, the file has:
 *   attributes  format, version, command, method, objective, kind, device, outcome, reason, weights
 *               (folder of the weights: an absolute path, or a path from the folder of this file),
 *               config_hash, seed, fingerprint (of the weights), gradient_hash, step, iteration,
 *               leaf (number of the micro-batch), head_rows, longest, reference, scale, mean_len,
 *               loss, and the parameters of the method under their names
 *   ids i32, offsets i64 (n+1,), prompt_tokens i64 (n,)   sequence i is ids[offsets[i] ..
 *               offsets[i+1]-1]; its first prompt_tokens[i] tokens are the prompt
 *   trained u8 (t,)   1 for the completion tokens that the SFT loss covers; absent if it covers all
 *   record i64, sample i32, logp_ref, weight, reward f64  (n,)
 *   groups i64 (prompts+1,)                               first sequence of each prompt
 *   pair_win, pair_lose i64, pair_smooth, pair_weight f64 (k,)
 *   logp f32 (t,)   log-probs of the run; for kind score, score f64 (n,), the scores of the run,
 *                   instead
 * The content of the file does not depend on the number of ranks. */
#ifndef PLUMB_TRAIN_REPLAY_H
#define PLUMB_TRAIN_REPLAY_H

#include "train/micro.h"

/* Which result of the micro-batch was the first that was not finite. */
enum plumb_replay_outcome {
    PLUMB_REPLAY_HEALTHY, /* all results were finite */
    /* a log-prob, a score or the loss was not finite; the file has loss NaN and gradient_hash 0 */
    PLUMB_REPLAY_FORWARD,
    PLUMB_REPLAY_GRADIENT, /* the gradient was not finite */
    PLUMB_REPLAY_OUTCOMES
};
/* Names of the outcomes: "healthy", "forward", "gradient"; the last element is NULL. */
extern const char *const plumb_replay_outcomes[];

struct plumb_replay {
    char command[16], method[64], device[16];
    /* folder of the weights; a relative path is relative to the folder of the replay file */
    char weights[4096];
    char reason[1024]; /* text that says why the file was written */
    enum plumb_replay_outcome outcome;
    uint64_t config_hash, seed, fingerprint, gradient_hash;
    /* step from 1; iteration from 1, 0 if none; micro-batch from 0 (attribute leaf) */
    int64_t step, iteration, micro_batch;
    int64_t head_rows; /* see plumb_pass_limit */
    int64_t longest;   /* longest sequence of the run: plumb_model_set_longest */
    double loss;
    float *logp;   /* (pack.n_targets,) log-probs of the run that wrote the file */
    double *score; /* (pack.n_seq,) scores of that run */
};

/* Writes the path of the replay file of a step and micro-batch in dir to out. PLUMB_ERR_ARG if it
 * does not fit. */
plumb_status plumb_replay_path(char *out, int64_t size, const char *dir, int64_t step,
                               int64_t micro_batch);
/* Writes the replay file `path` atomically, from r and the inputs and results of m. Not collective.
 */
plumb_status plumb_replay_write(const struct plumb_replay *r, const struct plumb_micro *m,
                                const char *path);
/* Reads a replay file. r->weights becomes a path that can be opened from the current folder. m gets
 * the inputs, but no results. The caller must free both (plumb_replay_fini, plumb_micro_fini),
 * except after an error. PLUMB_ERR_FORMAT names the missing or invalid item; PLUMB_ERR_UNSUPPORTED
 * if a later version of plumb wrote the file. */
plumb_status plumb_replay_read(struct plumb_replay *r, struct plumb_micro *m, const char *path);
void plumb_replay_fini(struct plumb_replay *r);

/* Sets *out to the hash of x (count,), a vector with the layout of m's trained view, for example a
 * gradient. place: where x is. */
plumb_status plumb_replay_hash(uint64_t *out, const plumb_model *m, const float *x,
                               enum plumb_place place);
/* Finds the first element of x (count,) that is not finite: its tensor and its index in that tensor
 * of the trained view. *tensor is the number of tensors if all elements are finite. */
plumb_status plumb_replay_non_finite(int64_t *tensor, int64_t *element, const plumb_model *m,
                                     const float *x, enum plumb_place place);

#endif
