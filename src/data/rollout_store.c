/* rollout_store.c - writes and reads the rollouts of an iteration as HDF5 files.
 * Layer 4. Includes data/rollout_columns.h, base/, io/. */
#include "data/rollout_columns.h"

#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "io/file.h"
#include "io/format.h"

#define COLUMN(name, type, length, own)                                                            \
    {                                                                                              \
#name, PLUMB_H5_##type, length, offsetof(struct plumb_rollout_store, name), own            \
    }
const struct plumb_rollout_column plumb_rollout_columns[] = {
    COLUMN(global_index, I64, PLUMB_PER_ROLLOUT, false),
    COLUMN(prompt_id, I64, PLUMB_PER_ROLLOUT, false),
    COLUMN(offsets, I64, PLUMB_PER_ROLLOUT_1, true),
    COLUMN(completion_start, I64, PLUMB_PER_ROLLOUT, true),
    COLUMN(logprob_offsets, I64, PLUMB_PER_ROLLOUT_1, true),
    COLUMN(weight_fingerprint, U64, PLUMB_PER_ROLLOUT, false),
    COLUMN(tau, F64, PLUMB_PER_ROLLOUT, false),
    COLUMN(sample, I32, PLUMB_PER_ROLLOUT, false),
    COLUMN(tokens, I32, PLUMB_PER_TOKEN, false),
    COLUMN(reward, F32, PLUMB_PER_ROLLOUT, false),
    COLUMN(weight, F32, PLUMB_PER_ROLLOUT, false),
    COLUMN(logprob, F32, PLUMB_PER_LOGPROB, false),
    COLUMN(logprob_sampled, F32, PLUMB_PER_LOGPROB, false),
    COLUMN(principled, U8, PLUMB_PER_ROLLOUT, false),
    COLUMN(stop_reason, U8, PLUMB_PER_ROLLOUT, false),
    COLUMN(branch, U8, PLUMB_PER_ROLLOUT, false),
    COLUMN(record_offsets, I64, PLUMB_PER_ROLLOUT_1, true),
    COLUMN(records, U8, PLUMB_PER_BYTE, false),
};

int64_t plumb_rollout_column_length(enum plumb_rollout_length l, int64_t n, int64_t tokens,
                                    int64_t logprobs, int64_t bytes)
{
    switch (l) {
    case PLUMB_PER_ROLLOUT:
        return n;
    case PLUMB_PER_ROLLOUT_1:
        return n + 1;
    case PLUMB_PER_TOKEN:
        return tokens;
    case PLUMB_PER_LOGPROB:
        return logprobs;
    case PLUMB_PER_BYTE:
        break;
    }
    return bytes;
}

void **plumb_rollout_column_data(const struct plumb_rollout_store *r,
                                 const struct plumb_rollout_column *c)
{
    return (void **)((char *)(uintptr_t)r + c->at);
}

plumb_status plumb_rollout_store_create(struct plumb_rollout_store **out, int64_t rollouts,
                                        int64_t tokens, int64_t completion_tokens,
                                        int64_t record_bytes)
{
    int64_t bytes = 0, part;
    *out = NULL;
    for (int pass = 0; pass < PLUMB_ROLLOUT_COLUMNS; pass++) {
        const int64_t n = plumb_rollout_column_length(plumb_rollout_columns[pass].length, rollouts,
                                                      tokens, completion_tokens, record_bytes);
        PLUMB_REQUIRE(
            rollouts >= 0 &&
                plumb_mul(&part, n, plumb_h5_type_size(plumb_rollout_columns[pass].type)) &&
                plumb_add(&part, part, 8) && plumb_add(&bytes, bytes, part / 8 * 8),
            PLUMB_ERR_ARG, "%lld rollouts with %lld tokens in all need more than 2^63 bytes",
            (long long)rollouts, (long long)tokens);
    }
    struct plumb_rollout_store *r = calloc(1, sizeof *r);
    void *memory = calloc(1, (size_t)bytes);
    if (!r || !memory) {
        free(r);
        free(memory);
        PLUMB_FAIL(PLUMB_ERR_NOMEM, "cannot store %lld rollouts (%lld bytes)", (long long)rollouts,
                   (long long)bytes);
    }
    *r = (struct plumb_rollout_store){.cap = rollouts,
                                      .cap_tokens = tokens,
                                      .cap_logprobs = completion_tokens,
                                      .cap_bytes = record_bytes,
                                      .memory = memory};
    char *at = memory;
    for (int i = 0; i < PLUMB_ROLLOUT_COLUMNS; i++) {
        *plumb_rollout_column_data(r, &plumb_rollout_columns[i]) = at;
        at += (plumb_rollout_column_length(plumb_rollout_columns[i].length, rollouts, tokens,
                                           completion_tokens, record_bytes) *
                   plumb_h5_type_size(plumb_rollout_columns[i].type) +
               8) /
              8 * 8;
    }
    *out = r;
    return PLUMB_OK;
}

void plumb_rollout_store_destroy(struct plumb_rollout_store **r)
{
    if (!*r)
        return;
    free((*r)->memory);
    free(*r);
    *r = NULL;
}

void plumb_rollout_store_clear(struct plumb_rollout_store *r)
{
    r->n = r->n_tokens = r->n_logprobs = r->n_bytes = 0;
}

plumb_status plumb_rollout_store_add(struct plumb_rollout_store *r,
                                     const struct plumb_rollout_row *one)
{
    const int64_t i = r->n, c = one->n - one->prompt_tokens;
    PLUMB_REQUIRE(one->prompt_tokens >= 0 && c >= 0, PLUMB_ERR_ARG,
                  "rollout of prompt %lld has %lld prompt tokens, expected 0 to its length %lld",
                  (long long)one->prompt_id, (long long)one->prompt_tokens, (long long)one->n);
    PLUMB_REQUIRE(
        i < r->cap && one->n <= r->cap_tokens - r->n_tokens &&
            c <= r->cap_logprobs - r->n_logprobs && one->record_len <= r->cap_bytes - r->n_bytes,
        PLUMB_ERR_SHAPE,
        "no room for rollout %lld: at most %lld rollouts, %lld tokens, %lld of completions, %lld "
        "bytes of records",
        (long long)i, (long long)r->cap, (long long)r->cap_tokens, (long long)r->cap_logprobs,
        (long long)r->cap_bytes);
    r->global_index[i] = one->global_index;
    r->prompt_id[i] = one->prompt_id;
    r->sample[i] = one->sample;
    r->principled[i] = one->principled;
    r->stop_reason[i] = one->stop_reason;
    r->branch[i] = one->branch;
    r->reward[i] = one->reward;
    r->weight[i] = one->weight;
    r->tau[i] = one->tau;
    r->weight_fingerprint[i] = one->weight_fingerprint;
    r->offsets[i] = r->n_tokens;
    r->completion_start[i] = r->n_tokens + one->prompt_tokens;
    r->logprob_offsets[i] = r->n_logprobs;
    if (one->n)
        memcpy(r->tokens + r->n_tokens, one->ids, (size_t)one->n * sizeof *one->ids);
    if (c) {
        memcpy(r->logprob + r->n_logprobs, one->logprob, (size_t)c * sizeof(float));
        memcpy(r->logprob_sampled + r->n_logprobs, one->logprob_sampled, (size_t)c * sizeof(float));
    }
    r->record_offsets[i] = r->n_bytes;
    if (one->record_len > 0)
        memcpy(r->records + r->n_bytes, one->record, (size_t)one->record_len);
    r->n++;
    r->n_bytes += one->record_len;
    r->n_tokens += one->n;
    r->n_logprobs += c;
    r->offsets[r->n] = r->n_tokens;
    r->logprob_offsets[r->n] = r->n_logprobs;
    r->record_offsets[r->n] = r->n_bytes;
    return PLUMB_OK;
}

const char *plumb_rollout_store_record(const struct plumb_rollout_store *r, int64_t i, int64_t *len)
{
    while (i > 0 && r->record_offsets[i + 1] == r->record_offsets[i] &&
           r->prompt_id[i - 1] == r->prompt_id[i])
        i--;
    *len = r->record_offsets[i + 1] - r->record_offsets[i];
    return *len ? (const char *)r->records + r->record_offsets[i] : "";
}

/* ---- files ---- */

void plumb_rollout_file_name(char out[64], int64_t iteration, int64_t rank)
{
    if (rank < 0)
        snprintf(out, 64, "iteration-%04lld.h5", (long long)iteration);
    else
        snprintf(out, 64, "iteration-%04lld.rank-%lld.h5", (long long)iteration, (long long)rank);
}

plumb_status plumb_rollout_store_path(char *out, int64_t size, const char *dir, int64_t iteration,
                                      int64_t rank)
{
    char name[64];
    plumb_rollout_file_name(name, iteration, rank);
    return plumb_path_join(out, size, dir, name);
}

plumb_status plumb_rollout_meta_put(plumb_h5 *f, const struct plumb_rollout_meta *m, int64_t rank)
{
    PLUMB_TRY(plumb_format_put(f, PLUMB_FORMAT_ROLLOUTS));
    PLUMB_TRY(plumb_h5_put_attr_u64(f, "config_hash", m->config_hash));
    PLUMB_TRY(plumb_h5_put_attr_u64(f, "seed", m->seed));
    PLUMB_TRY(plumb_h5_put_attr_i64(f, "iteration", m->iteration));
    PLUMB_TRY(plumb_h5_put_attr_i64(f, "world_size", m->world_size));
    return plumb_h5_put_attr_i64(f, "rank", rank);
}

plumb_status plumb_rollout_meta_get(const plumb_h5 *f, struct plumb_rollout_meta *m, int64_t *rank,
                                    int64_t *version)
{
    PLUMB_TRY(plumb_format_get(version, f, PLUMB_FORMAT_ROLLOUTS));
    PLUMB_TRY(plumb_h5_get_attr_u64(f, "config_hash", &m->config_hash));
    PLUMB_TRY(plumb_h5_get_attr_u64(f, "seed", &m->seed));
    PLUMB_TRY(plumb_h5_get_attr_i64(f, "iteration", &m->iteration));
    PLUMB_TRY(plumb_h5_get_attr_i64(f, "world_size", &m->world_size));
    return plumb_h5_get_attr_i64(f, "rank", rank);
}

plumb_status plumb_rollout_store_write(const struct plumb_rollout_store *r, const char *dir,
                                       int64_t rank, const struct plumb_rollout_meta *meta)
{
    char path[PATH_MAX];
    plumb_h5 *f = NULL;
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(plumb_rollout_store_path(path, sizeof path, dir, meta->iteration, rank));
    if (r->n == 0)
        r->offsets[0] = r->logprob_offsets[0] = r->record_offsets[0] = 0;
    PLUMB_TRY_GOTO(st, plumb_h5_create(&f, path), fail);
    PLUMB_TRY_GOTO(st, plumb_rollout_meta_put(f, meta, rank), fail);
    for (int i = 0; i < PLUMB_ROLLOUT_COLUMNS; i++)
        PLUMB_TRY_GOTO(
            st,
            plumb_h5_put(f, plumb_rollout_columns[i].name, plumb_rollout_columns[i].type,
                         plumb_rollout_column_length(plumb_rollout_columns[i].length, r->n,
                                                     r->n_tokens, r->n_logprobs, r->n_bytes),
                         *plumb_rollout_column_data(r, &plumb_rollout_columns[i])),
            fail);
    PLUMB_TRY_GOTO(st, plumb_h5_commit(&f), fail);
fail:
    plumb_h5_close(&f);
    return st;
}

/* ---- reading ---- */

plumb_status plumb_rollout_check_offsets(const int64_t *offset, int64_t n, int64_t end,
                                         const char *name, const char *path)
{
    for (int64_t i = 0; i < n; i++)
        PLUMB_REQUIRE(offset[i] <= offset[i + 1], PLUMB_ERR_FORMAT,
                      "%s: array \"%s\"[%lld] = %lld decreases", path, name, (long long)i + 1,
                      (long long)offset[i + 1]);
    PLUMB_REQUIRE(offset[0] == 0 && offset[n] == end, PLUMB_ERR_FORMAT,
                  "%s: array \"%s\" runs from %lld to %lld, expected 0 to %lld", path, name,
                  (long long)offset[0], (long long)offset[n], (long long)end);
    return PLUMB_OK;
}

/* Checks that the rank files to which the master file refers exist, so that the error message names
 * the missing file. */
static plumb_status check_sources(const char *path, const struct plumb_rollout_meta *m)
{
    char dir[PATH_MAX], source[PATH_MAX];
    snprintf(dir, sizeof dir, "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash)
        slash[slash == dir] = 0;
    for (int64_t r = 0; r < m->world_size; r++) {
        PLUMB_TRY(
            plumb_rollout_store_path(source, sizeof source, slash ? dir : ".", m->iteration, r));
        PLUMB_REQUIRE(plumb_file_exists(source), PLUMB_ERR_IO,
                      "%s: the file refers to %s, which is missing", path, source);
    }
    return PLUMB_OK;
}

static plumb_status check_read(const struct plumb_rollout_store *r, bool master, const char *path)
{
    PLUMB_TRY(plumb_rollout_check_offsets(r->offsets, r->n, r->n_tokens, "offsets", path));
    PLUMB_TRY(plumb_rollout_check_offsets(r->logprob_offsets, r->n, r->n_logprobs,
                                          "logprob_offsets", path));
    PLUMB_TRY(
        plumb_rollout_check_offsets(r->record_offsets, r->n, r->n_bytes, "record_offsets", path));
    for (int64_t i = 0; i < r->n; i++) {
        const bool inside =
            r->completion_start[i] >= r->offsets[i] && r->completion_start[i] <= r->offsets[i + 1];
        const int64_t c = inside ? r->offsets[i + 1] - r->completion_start[i] : -1;
        PLUMB_REQUIRE(inside && c == r->logprob_offsets[i + 1] - r->logprob_offsets[i],
                      PLUMB_ERR_FORMAT,
                      "%s: rollout %lld: its completion of %lld tokens (-1: it begins outside of "
                      "the rollout) has %lld log-probs, expected one per token",
                      path, (long long)i, (long long)c,
                      (long long)(r->logprob_offsets[i + 1] - r->logprob_offsets[i]));
        PLUMB_REQUIRE(
            !master || r->global_index[i] == i, PLUMB_ERR_FORMAT,
            "%s: rollout %lld has global index %lld, expected the same number: the file of a "
            "rank was replaced; generate the rollouts again",
            path, (long long)i, (long long)r->global_index[i]);
    }
    return PLUMB_OK;
}

plumb_status plumb_rollout_store_read(struct plumb_rollout_store **out, const char *path)
{
    struct plumb_rollout_meta meta;
    int64_t rank, n, tokens, logprobs, bytes = 0, version;
    plumb_h5 *f = NULL;
    plumb_status st = PLUMB_OK;
    *out = NULL;
    PLUMB_TRY(plumb_h5_open(&f, path));
    PLUMB_TRY_GOTO(st, plumb_rollout_meta_get(f, &meta, &rank, &version), fail);
    if (rank < 0)
        PLUMB_TRY_GOTO(st, check_sources(path, &meta), fail);
    PLUMB_TRY_GOTO(st, plumb_h5_count(f, "prompt_id", &n), fail);
    PLUMB_TRY_GOTO(st, plumb_h5_count(f, "tokens", &tokens), fail);
    PLUMB_TRY_GOTO(st, plumb_h5_count(f, "logprob", &logprobs), fail);
    if (version > 1)
        PLUMB_TRY_GOTO(st, plumb_h5_count(f, "records", &bytes), fail);
    PLUMB_TRY_GOTO(st, plumb_rollout_store_create(out, n, tokens, logprobs, bytes), fail);
    (*out)->meta = meta;
    (*out)->n = n;
    (*out)->n_tokens = tokens;
    (*out)->n_logprobs = logprobs;
    (*out)->n_bytes = bytes;
    /* Files of version 1 have no records, which are the last two columns. */
    for (int i = 0; i < (version > 1 ? PLUMB_ROLLOUT_COLUMNS : PLUMB_ROLLOUT_COLUMNS - 2); i++)
        PLUMB_TRY_GOTO(st,
                       plumb_h5_read(f, plumb_rollout_columns[i].name,
                                     plumb_rollout_columns[i].type, 0,
                                     plumb_rollout_column_length(plumb_rollout_columns[i].length, n,
                                                                 tokens, logprobs, bytes),
                                     *plumb_rollout_column_data(*out, &plumb_rollout_columns[i])),
                       fail);
    PLUMB_TRY_GOTO(st, check_read(*out, rank < 0, path), fail);
fail:
    plumb_h5_close(&f);
    if (st != PLUMB_OK)
        plumb_rollout_store_destroy(out);
    return st;
}
