/* rollout_store.h - what was sampled in an iteration, on disk.
 * Layer 4. Includes base/, io/.
 *
 * DIR/iteration-0001.rank-0.h5 ... one file per rank, written by that rank, and
 * DIR/iteration-0001.h5            the same arrays in global order, as virtual arrays over the rank
 *                                  files (by relative name: the folder can be moved as a whole).
 * Arrays, n rollouts:
 *   global_index i64, prompt_id i64, sample i32, principled u8, stop_reason u8, branch u8,
 *   reward f32 (NaN: missing), weight f32, tau f64, weight_fingerprint u64            (n,)
 *   offsets i64 (n+1,)            rollout i is tokens[offsets[i] .. offsets[i+1]-1]
 *   completion_start i64 (n,)     of these, the completion begins at tokens[completion_start[i]]
 *   tokens i32                    prompt as it was sampled from (principle included), completion
 *   logprob_offsets i64 (n+1,)    rollout i's completion tokens in the next two arrays
 *   logprob f32                   log pi at temperature 1, nats, per completion token
 *   record_offsets i64 (n+1,)     rollout i's record is records[record_offsets[i] .. next - 1]; it
 *                                 stands at the first rollout of a prompt and is empty at the
 * others records u8                    the prompts' records as the data file has them, UTF-8 JSON:
 * with the texts of the tokens all that a reward was given logprob_sampled f32           of the
 * distribution that was drawn from, renormalised after temperature, top-k, top-p and min-p: the
 * behaviour log-prob Files of format_version 1 have no records. Attributes: format_version,
 * config_hash, seed, iteration, world_size, rank (-1: the master). */
#ifndef PLUMB_DATA_ROLLOUT_STORE_H
#define PLUMB_DATA_ROLLOUT_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

struct plumb_rollout_meta {
    uint64_t config_hash, seed;
    int64_t iteration; /* from 1 */
    int64_t world_size;
};

/* One rollout, for adding. Pointers are borrowed for the call. */
struct plumb_rollout {
    int64_t global_index; /* place in the iteration's global order, the same on any rank count */
    int64_t prompt_id;
    int32_t sample;
    bool principled;
    uint8_t stop_reason; /* enum plumb_stop */
    uint8_t branch;      /* enum plumb_branch */
    float reward, weight;
    double tau;
    uint64_t weight_fingerprint;
    const int32_t *ids; /* prompt and completion */
    int64_t n, prompt_tokens;
    const float *logprob, *logprob_sampled; /* (n - prompt_tokens,) */
    const char *record;                     /* JSON of the prompt's record, at its first rollout */
    int64_t record_len;
};

/* Readable by callers; written by the functions below. Arrays as listed above. */
struct plumb_rollouts {
    int64_t n, n_tokens, n_logprobs, n_bytes; /* bytes: of records */
    int64_t cap, cap_tokens, cap_logprobs, cap_bytes;
    struct plumb_rollout_meta meta; /* filled by _read */
    int64_t *global_index, *prompt_id, *offsets, *completion_start, *logprob_offsets;
    int64_t *record_offsets;
    int32_t *sample, *tokens;
    uint8_t *principled, *stop_reason, *branch, *records;
    float *reward, *weight, *logprob, *logprob_sampled;
    double *tau;
    uint64_t *weight_fingerprint;
    void *memory;
};

/* Room for that many rollouts, tokens (prompts included), completion tokens and bytes of records:
 * all memory is taken here. *out is owned by the caller. */
plumb_status plumb_rollouts_create(struct plumb_rollouts **out, int64_t rollouts, int64_t tokens,
                                   int64_t completion_tokens, int64_t record_bytes);
void plumb_rollouts_destroy(struct plumb_rollouts **r); /* NULL is allowed */
void plumb_rollouts_clear(struct plumb_rollouts *r);
/* PLUMB_ERR_SHAPE when there is no room left. */
plumb_status plumb_rollouts_add(struct plumb_rollouts *r, const struct plumb_rollout *one);

/* The record of rollout i's prompt, *len bytes, borrowed; "" where the file has none. */
const char *plumb_rollouts_record(const struct plumb_rollouts *r, int64_t i, int64_t *len);

/* rank -1: the master. PLUMB_ERR_ARG when it does not fit. */
plumb_status plumb_rollouts_path(char *out, int64_t size, const char *dir, int64_t iteration,
                                 int64_t rank);
/* Writes this rank's file into the existing folder DIR, atomically. Not collective. */
plumb_status plumb_rollouts_write(const struct plumb_rollouts *r, const char *dir, int64_t rank,
                                  const struct plumb_rollout_meta *meta);
/* Writes the master over the files of all ranks, which must be there: call it on one rank, after
 * all have written. Not collective. PLUMB_ERR_FORMAT naming the file when one is of another run
 * or iteration, or when the global indices of all files are not 0 .. n-1, each once. */
plumb_status plumb_rollouts_write_master(const char *dir, const struct plumb_rollout_meta *meta);

/* Reads a rank's file or a master with everything in it. *out is owned by the caller.
 * PLUMB_ERR_IO when the file, or a rank's file behind a master, is missing; PLUMB_ERR_FORMAT. */
plumb_status plumb_rollouts_read(struct plumb_rollouts **out, const char *path);

#endif
