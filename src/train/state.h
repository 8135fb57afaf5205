/* state.h - the state of a run that a checkpoint has besides weights and moments.
 * Layer 5. Includes base/, io/hdf5.h. */
#ifndef PLUMB_TRAIN_STATE_H
#define PLUMB_TRAIN_STATE_H

#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "io/hdf5.h"

#define PLUMB_STATE_VALUES 64

/* One named number that must survive a resume ("threshold.tau", "metric.eval_loss"). */
struct plumb_state_value {
    char name[32];
    double value;
};

/* What a checkpoint stores of a run besides weights and moments. A random number generator has no
 * state to store: random numbers are a function of (seed, purpose, iteration, prompt, sample,
 * position). */
struct plumb_train_state {
    int64_t step;          /* optimizer steps done; the STEP of the checkpoint's folder */
    int64_t iteration;     /* iterations done */
    int64_t total_steps;   /* optimizer steps of the learning rate schedule */
    int64_t prompt_cursor; /* prompts consumed since the start of the run */
    int64_t num_tokens;    /* tokens generated and trained on so far */
    uint64_t seed;
    uint64_t config_hash;        /* hash of the effective configuration */
    uint64_t start_fingerprint;  /* fingerprint of the weights before the first step */
    uint64_t weight_fingerprint; /* fingerprint of the weights after this step */
    /* Fingerprint of the weights in the checkpoint's files if these weights are rounded
     * (checkpoint.dtype); 0 if the files have the float32 weights. */
    uint64_t stored_fingerprint;
    const char *config; /* borrowed: YAML of the options that decide the results; NULL = none.
                         * Reading a state does not set it: see plumb_state_read_config */
    /* borrowed: the classes of GEMM algorithms (backend/backend.h); NULL or "" on a CPU. Reading a
     * state does not set it: see plumb_state_read_gemm_classes */
    const char *gemm_classes;
    int64_t n_values; /* number of named values; the stages of a run save their state in them */
    struct plumb_state_value value[PLUMB_STATE_VALUES];
};

/* Returns the fingerprint of the weights in the checkpoint's files. It differs from
 * weight_fingerprint if saving rounded the weights (checkpoint.dtype). */
static inline uint64_t plumb_state_stored(const struct plumb_train_state *s)
{
    return s->stored_fingerprint ? s->stored_fingerprint : s->weight_fingerprint;
}

/* Sets or replaces a named value. PLUMB_ERR_ARG if the name is empty, too long or has a line end,
 * or if it is new and there are already PLUMB_STATE_VALUES values. */
plumb_status plumb_state_set(struct plumb_train_state *s, const char *name, double value);
/* Returns the value of that name, or fallback if there is none. */
double plumb_state_get(const struct plumb_train_state *s, const char *name, double fallback);

/* Write and read the attributes and the array "values" of an open file. Errors of reading:
 * PLUMB_ERR_FORMAT names the missing item; PLUMB_ERR_UNSUPPORTED if a later version of plumb wrote
 * the file. */
plumb_status plumb_state_write(plumb_h5 *f, const struct plumb_train_state *s);
plumb_status plumb_state_read(struct plumb_train_state *s, const plumb_h5 *f);
/* Appends the array "config" to out; nothing if the file has none. */
plumb_status plumb_state_read_config(struct plumb_buf *out, const plumb_h5 *f);
/* Appends the array "gemm_classes" to out; nothing if the file has none. */
plumb_status plumb_state_read_gemm_classes(struct plumb_buf *out, const plumb_h5 *f);

#endif
