/* rollout_store.h - stores the rollouts of an iteration as HDF5 files.
 * Layer 4. Includes base/, io/.
 *
 *   DIR/iteration-0001.rank-0.h5     one file per rank, written by that rank
 *   DIR/iteration-0001.h5            the master: the same arrays in global order, as virtual arrays
 *                                    over the rank files (with relative names, so that the folder
 *                                    can be moved as a whole)
 *
 * Arrays for n rollouts:
 *   global_index i64, prompt_id i64, sample i32, principled u8, stop_reason u8, branch u8,
 *   reward f32 (NaN: missing), weight f32, tau f64, weight_fingerprint u64            (n,)
 *   offsets i64 (n+1,)            rollout i is tokens[offsets[i] .. offsets[i+1]-1]
 *   completion_start i64 (n,)     its completion begins at tokens[completion_start[i]]
 *   tokens i32                    the prompt as it was sampled from (with the principle), then the
 *                                 completion
 *   logprob_offsets i64 (n+1,)    range of rollout i's completion tokens in the next two arrays
 *   logprob f32                   log pi at temperature 1, in nats, per completion token
 *   logprob_sampled f32           log-prob under the distribution that was sampled from,
 *                                 renormalised after temperature, top-k, top-p and min-p
 *                                 (the behaviour policy)
 *   record_offsets i64 (n+1,)     the record of rollout i's prompt is records[record_offsets[i] ..
 *                                 record_offsets[i+1]-1]; it is stored for the first rollout of a
 *                                 prompt, and empty for the prompt's other rollouts
 *   records u8                    the prompts' records as written in the data file (UTF-8 JSON)
 * Tokens and records together hold all inputs from which the reward was computed. branch is an enum
 * plumb_branch, weight the weight of the completion's -logp term in the loss, tau the threshold of
 * the iteration, weight_fingerprint the hash of the weights that sampled the completion. Files of
 * format_version 1 have no records. Attributes: format_version, config_hash, seed, iteration,
 * world_size, rank (-1 in the master). */
#ifndef PLUMB_DATA_ROLLOUT_STORE_H
#define PLUMB_DATA_ROLLOUT_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

struct plumb_rollout_meta {
    uint64_t config_hash, seed;
    int64_t iteration; /* number of the iteration, from 1 */
    int64_t world_size;
};

/* One rollout to add. Pointers are used only during the call. */
struct plumb_rollout_row {
    /* Position in the global order of the iteration, which does not depend on the number of
     * ranks. */
    int64_t global_index;
    int64_t prompt_id;
    int32_t sample;
    bool principled;
    uint8_t stop_reason; /* an enum plumb_stop */
    uint8_t branch;      /* an enum plumb_branch */
    float reward, weight;
    double tau;
    uint64_t weight_fingerprint;
    const int32_t *ids; /* token ids of prompt and completion */
    int64_t n, prompt_tokens;
    const float *logprob, *logprob_sampled; /* (n - prompt_tokens,) nats per completion token */
    /* JSON text of the prompt's record; only for the first rollout of a prompt. */
    const char *record;
    int64_t record_len;
};

/* The rollouts of one iteration. Callers may read the fields; only the functions below change them.
 * The file head describes the arrays. */
struct plumb_rollout_store {
    int64_t n, n_tokens, n_logprobs, n_bytes; /* n_bytes: number of bytes of all records */
    int64_t cap, cap_tokens, cap_logprobs, cap_bytes;
    struct plumb_rollout_meta meta; /* filled by plumb_rollout_store_read */
    int64_t *global_index, *prompt_id, *offsets, *completion_start, *logprob_offsets;
    int64_t *record_offsets;
    int32_t *sample, *tokens;
    uint8_t *principled, *stop_reason, *branch, *records;
    float *reward, *weight, *logprob, *logprob_sampled;
    double *tau;
    uint64_t *weight_fingerprint;
    void *memory;
};

/* Allocates memory for this many rollouts, tokens (including prompts), completion tokens and bytes
 * of records. The caller owns *out. */
plumb_status plumb_rollout_store_create(struct plumb_rollout_store **out, int64_t rollouts,
                                        int64_t tokens, int64_t completion_tokens,
                                        int64_t record_bytes);
void plumb_rollout_store_destroy(struct plumb_rollout_store **r); /* does nothing if *r is NULL */
void plumb_rollout_store_clear(struct plumb_rollout_store *r);
/* Appends a rollout. Returns PLUMB_ERR_SHAPE if the allocated memory does not suffice. */
plumb_status plumb_rollout_store_add(struct plumb_rollout_store *r,
                                     const struct plumb_rollout_row *one);

/* Returns the record of rollout i's prompt (*len bytes, borrowed), or "" if that record is not
 * stored (format_version 1). */
const char *plumb_rollout_store_record(const struct plumb_rollout_store *r, int64_t i,
                                       int64_t *len);

/* Sets out to the path of a rank's file; rank -1 gives the master file. Returns PLUMB_ERR_ARG if it
 * does not fit. */
plumb_status plumb_rollout_store_path(char *out, int64_t size, const char *dir, int64_t iteration,
                                      int64_t rank);
/* Writes this rank's file into the existing folder DIR, atomically. Not collective. */
plumb_status plumb_rollout_store_write(const struct plumb_rollout_store *r, const char *dir,
                                       int64_t rank, const struct plumb_rollout_meta *meta);
/* Writes the master file over the files of all ranks. Call it on one rank after all ranks have
 * written their files. Not collective. Returns PLUMB_ERR_FORMAT with the file's name if a file
 * belongs to another run or iteration, or if the global indices of all files are not 0 .. n-1, each
 * once. */
plumb_status plumb_rollout_store_write_master(const char *dir,
                                              const struct plumb_rollout_meta *meta);

/* Reads a rank's file or a master file completely. The caller owns *out. Returns PLUMB_ERR_IO if
 * the file, or a rank's file behind a master, is missing; PLUMB_ERR_FORMAT if it is malformed. */
plumb_status plumb_rollout_store_read(struct plumb_rollout_store **out, const char *path);

#endif
