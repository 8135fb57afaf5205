/* replay.h - one micro-batch in a file: everything that decides its loss and its gradient, and what
 * came out when it was run.
 * Layer 5. Includes base/, model/, train/micro.h.
 *
 * OUTPUT_DIR/replay-STEP-LEAF.h5 is written when a loss or a gradient is not finite, and on purpose
 * by train.replay. `plumb replay FILE` runs it again. n sequences, t completion tokens, k pairs:
 *   attributes  format, version, command, method, objective, kind, device, outcome, reason, weights
 *               (folder, relative to the file's where it stands beside it), config_hash, seed,
 *               weight_fingerprint, gradient_hash, step, iteration, leaf, head_rows, reference,
 *               scale, loss, and the parameters of the method under their names
 *   ids i32, offsets i64 (n+1,), prompt_tokens i64 (n,)   sequence i is ids[offsets[i] ..
 *               offsets[i+1]-1]; of these, what follows prompt_tokens[i] is trained on
 *   record i64, sample i32, logp_ref, weight, reward f64  (n,)
 *   groups i64 (prompts+1,)                               first sequence of each prompt
 *   pair_win, pair_lose i64, pair_smooth, pair_weight f64 (k,)
 *   logp f32 (t,)   as recorded; kind score: none         score f64 (n,) as recorded
 * Nothing in it depends on the rank count. */
#ifndef PLUMB_TRAIN_REPLAY_H
#define PLUMB_TRAIN_REPLAY_H

#include "train/micro.h"

/* What was not finite. Of FORWARD and LOSS, loss and gradient_hash hold nothing. */
enum plumb_replay_outcome {
    PLUMB_REPLAY_HEALTHY,
    PLUMB_REPLAY_FORWARD, /* or another failure before the backward pass */
    PLUMB_REPLAY_GRADIENT,
    PLUMB_REPLAY_OUTCOMES
};
extern const char *const plumb_replay_outcomes[]; /* "healthy", "forward", "gradient"; NULL ends */

struct plumb_replay {
    char command[16], method[64], device[16];
    char weights[4096]; /* folder; a relative one is beside the file */
    char reason[1024];  /* why it was written, in words */
    enum plumb_replay_outcome outcome;
    uint64_t config_hash, seed, fingerprint, gradient_hash;
    int64_t step, iteration, leaf; /* steps from 1, leaves from 0; iteration 0: none */
    int64_t head_rows;
    double loss;
    float *logp;   /* (pack.n_targets,) recorded; filled by _read, released by _fini */
    double *score; /* (pack.n_seq,) recorded; the same */
};

/* The file's name in a folder. PLUMB_ERR_ARG when it does not fit. */
plumb_status plumb_replay_path(char *out, int64_t size, const char *dir, int64_t step,
                               int64_t leaf);
/* Writes path atomically: r, and the inputs and results of m. Not collective. */
plumb_status plumb_replay_write(const struct plumb_replay *r, const struct plumb_micro *m,
                                const char *path);
/* r->weights becomes a path that can be opened from here; m holds the inputs, its results are not
 * filled. Both are released by the caller (plumb_replay_fini, plumb_micro_fini), not after an
 * error. PLUMB_ERR_FORMAT names what is missing or senseless; PLUMB_ERR_UNSUPPORTED a later
 * version. */
plumb_status plumb_replay_read(struct plumb_replay *r, struct plumb_micro *m, const char *path);
void plumb_replay_fini(struct plumb_replay *r);

/* Hash of a gradient or any other vector like the weights (count,) device. */
plumb_status plumb_replay_hash(uint64_t *out, const plumb_model *m, const float *x);
/* First element of x (count,) device that is not finite: *tensor (m->n_param: none) and its place
 * in it. */
plumb_status plumb_replay_non_finite(int64_t *tensor, int64_t *element, const plumb_model *m,
                                     const float *x);

#endif
