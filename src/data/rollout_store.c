/* rollout_store.c - writes and reads the rollouts of an iteration as HDF5 files.
 * Layer 4. Includes base/, io/. */
#include "data/rollout_store.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"
#include "io/file.h"
#include "io/format.h"
#include "io/hdf5.h"

/* Describes each array of a file: its name, its type, its position in struct plumb_rollout_store,
 * and what its length counts (rollouts, tokens, completion tokens or bytes of records). */
enum length { PER_ROLLOUT, PER_ROLLOUT_1, PER_TOKEN, PER_LOGPROB, PER_BYTE };
struct column {
    const char *name;
    enum plumb_h5_type type;
    enum length length;
    size_t at; /* offset of the pointer in struct plumb_rollout_store */
    /* The master file stores this array itself, because its values depend on the global order. */
    bool in_the_file;
};
#define COLUMN(name, type, length, own)                                                            \
    {                                                                                              \
#name, PLUMB_H5_##type, length, offsetof(struct plumb_rollout_store, name), own            \
    }
static const struct column column[] = {
    COLUMN(global_index, I64, PER_ROLLOUT, false),
    COLUMN(prompt_id, I64, PER_ROLLOUT, false),
    COLUMN(offsets, I64, PER_ROLLOUT_1, true),
    COLUMN(completion_start, I64, PER_ROLLOUT, true),
    COLUMN(logprob_offsets, I64, PER_ROLLOUT_1, true),
    COLUMN(weight_fingerprint, U64, PER_ROLLOUT, false),
    COLUMN(tau, F64, PER_ROLLOUT, false),
    COLUMN(sample, I32, PER_ROLLOUT, false),
    COLUMN(tokens, I32, PER_TOKEN, false),
    COLUMN(reward, F32, PER_ROLLOUT, false),
    COLUMN(weight, F32, PER_ROLLOUT, false),
    COLUMN(logprob, F32, PER_LOGPROB, false),
    COLUMN(logprob_sampled, F32, PER_LOGPROB, false),
    COLUMN(principled, U8, PER_ROLLOUT, false),
    COLUMN(stop_reason, U8, PER_ROLLOUT, false),
    COLUMN(branch, U8, PER_ROLLOUT, false),
    COLUMN(record_offsets, I64, PER_ROLLOUT_1, true),
    COLUMN(records, U8, PER_BYTE, false),
};
enum { COLUMNS = sizeof column / sizeof column[0] };

static int64_t length_of(enum length l, int64_t n, int64_t tokens, int64_t logprobs, int64_t bytes)
{
    switch (l) {
    case PER_ROLLOUT:
        return n;
    case PER_ROLLOUT_1:
        return n + 1;
    case PER_TOKEN:
        return tokens;
    case PER_LOGPROB:
        return logprobs;
    case PER_BYTE:
        break;
    }
    return bytes;
}

static void **slot(const struct plumb_rollout_store *r, const struct column *c)
{
    return (void **)((char *)(uintptr_t)r + c->at);
}

plumb_status plumb_rollout_store_create(struct plumb_rollout_store **out, int64_t rollouts,
                                        int64_t tokens, int64_t completion_tokens,
                                        int64_t record_bytes)
{
    int64_t bytes = 0, part;
    *out = NULL;
    for (int pass = 0; pass < COLUMNS; pass++) {
        const int64_t n =
            length_of(column[pass].length, rollouts, tokens, completion_tokens, record_bytes);
        PLUMB_REQUIRE(rollouts >= 0 && plumb_mul(&part, n, plumb_h5_type_size(column[pass].type)) &&
                          plumb_add(&part, part, 8) && plumb_add(&bytes, bytes, part / 8 * 8),
                      PLUMB_ERR_ARG, "%lld rollouts with %lld tokens are too many",
                      (long long)rollouts, (long long)tokens);
    }
    struct plumb_rollout_store *r = calloc(1, sizeof *r);
    void *memory = calloc(1, (size_t)bytes);
    if (!r || !memory) {
        free(r);
        free(memory);
        PLUMB_FAIL(PLUMB_ERR_NOMEM, "out of memory: cannot store %lld rollouts (%lld bytes)",
                   (long long)rollouts, (long long)bytes);
    }
    *r = (struct plumb_rollout_store){.cap = rollouts,
                                      .cap_tokens = tokens,
                                      .cap_logprobs = completion_tokens,
                                      .cap_bytes = record_bytes,
                                      .memory = memory};
    char *at = memory;
    for (int i = 0; i < COLUMNS; i++) {
        *slot(r, &column[i]) = at;
        at += (length_of(column[i].length, rollouts, tokens, completion_tokens, record_bytes) *
                   plumb_h5_type_size(column[i].type) +
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
                  "rollout of prompt %lld: %lld of its %lld tokens are prompt",
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

static void file_name(char out[64], int64_t iteration, int64_t rank)
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
    file_name(name, iteration, rank);
    return plumb_path_join(out, size, dir, name);
}

static plumb_status put_meta(plumb_h5 *f, const struct plumb_rollout_meta *m, int64_t rank)
{
    PLUMB_TRY(plumb_format_put(f, PLUMB_FORMAT_ROLLOUTS));
    PLUMB_TRY(plumb_h5_put_attr_u64(f, "config_hash", m->config_hash));
    PLUMB_TRY(plumb_h5_put_attr_u64(f, "seed", m->seed));
    PLUMB_TRY(plumb_h5_put_attr_i64(f, "iteration", m->iteration));
    PLUMB_TRY(plumb_h5_put_attr_i64(f, "world_size", m->world_size));
    return plumb_h5_put_attr_i64(f, "rank", rank);
}

static plumb_status get_meta(const plumb_h5 *f, struct plumb_rollout_meta *m, int64_t *rank,
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
    PLUMB_TRY_GOTO(st, put_meta(f, meta, rank), fail);
    for (int i = 0; i < COLUMNS; i++)
        PLUMB_TRY_GOTO(
            st,
            plumb_h5_put(f, column[i].name, column[i].type,
                         length_of(column[i].length, r->n, r->n_tokens, r->n_logprobs, r->n_bytes),
                         *slot(r, &column[i])),
            fail);
    PLUMB_TRY_GOTO(st, plumb_h5_commit(&f), fail);
fail:
    plumb_h5_close(&f);
    return st;
}

/* ---- master file ---- */

/* The arrays of one rank's file that are needed to build the master file. */
struct source {
    char name[64];
    int64_t n, tokens, logprobs, bytes;
    int64_t *global_index, *offsets, *completion_start, *logprob_offsets, *record_offsets;
};
/* Rollouts that are consecutive both in one rank's file and in the global order. */
struct run {
    const struct source *from;
    /* index of the first rollout in the rank's file, number of rollouts, and index of the first one
     * in the master file */
    int64_t first, n, at;
    int64_t first_token, tokens, at_token;
    int64_t first_logprob, logprobs, at_logprob;
    int64_t first_byte, bytes, at_byte;
};
struct master {
    struct source *source;
    struct run *run;
    int64_t n, tokens, logprobs, bytes, runs;
    const struct source **owner; /* (n,) rank's file of each global index */
    int64_t *local;              /* (n,) index of the rollout in the rank's file */
    int64_t *offsets, *completion_start, *logprob_offsets, *record_offsets;
};

static plumb_status read_i64(int64_t **out, const plumb_h5 *f, const char *name, int64_t n)
{
    *out = malloc((size_t)(n + 1) * sizeof **out);
    PLUMB_REQUIRE(*out, PLUMB_ERR_NOMEM, "out of memory: cannot store %lld values of \"%s\"",
                  (long long)n, name);
    return plumb_h5_read(f, name, PLUMB_H5_I64, 0, n, *out);
}

static plumb_status check_offsets(const int64_t *offset, int64_t n, int64_t end, const char *name,
                                  const char *path)
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

static plumb_status read_source(struct source *s, const char *dir,
                                const struct plumb_rollout_meta *want, int64_t rank)
{
    char path[PATH_MAX];
    struct plumb_rollout_meta m;
    int64_t found_rank;
    plumb_h5 *f = NULL;
    plumb_status st = PLUMB_OK;
    file_name(s->name, want->iteration, rank);
    PLUMB_TRY(plumb_path_join(path, sizeof path, dir, s->name));
    PLUMB_TRY(plumb_h5_open(&f, path));
    PLUMB_TRY_GOTO(st, get_meta(f, &m, &found_rank, NULL), fail);
    if (m.config_hash != want->config_hash || m.seed != want->seed ||
        m.iteration != want->iteration || m.world_size != want->world_size || found_rank != rank)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_FORMAT, fail, "%s: the file belongs to another run or rank",
                        path);
    PLUMB_TRY_GOTO(st, plumb_h5_count(f, "prompt_id", &s->n), fail);
    PLUMB_TRY_GOTO(st, plumb_h5_count(f, "tokens", &s->tokens), fail);
    PLUMB_TRY_GOTO(st, plumb_h5_count(f, "logprob", &s->logprobs), fail);
    PLUMB_TRY_GOTO(st, plumb_h5_count(f, "records", &s->bytes), fail);
    PLUMB_TRY_GOTO(st, read_i64(&s->global_index, f, "global_index", s->n), fail);
    PLUMB_TRY_GOTO(st, read_i64(&s->completion_start, f, "completion_start", s->n), fail);
    PLUMB_TRY_GOTO(st, read_i64(&s->offsets, f, "offsets", s->n + 1), fail);
    PLUMB_TRY_GOTO(st, read_i64(&s->logprob_offsets, f, "logprob_offsets", s->n + 1), fail);
    PLUMB_TRY_GOTO(st, read_i64(&s->record_offsets, f, "record_offsets", s->n + 1), fail);
    PLUMB_TRY_GOTO(st, check_offsets(s->record_offsets, s->n, s->bytes, "record_offsets", path),
                   fail);
    PLUMB_TRY_GOTO(st, check_offsets(s->offsets, s->n, s->tokens, "offsets", path), fail);
    PLUMB_TRY_GOTO(
        st, check_offsets(s->logprob_offsets, s->n, s->logprobs, "logprob_offsets", path), fail);
    for (int64_t i = 0; i < s->n; i++)
        if (s->completion_start[i] < s->offsets[i] || s->completion_start[i] > s->offsets[i + 1])
            PLUMB_FAIL_GOTO(st, PLUMB_ERR_FORMAT, fail,
                            "%s: rollout %lld: its completion begins at token %lld, which is "
                            "outside of the rollout",
                            path, (long long)i, (long long)s->completion_start[i]);
fail:
    plumb_h5_close(&f);
    return st;
}

/* Sets m->owner and m->local for each global index. Each index must occur exactly once. */
static plumb_status find_owners(struct master *m, int64_t world_size)
{
    for (int64_t r = 0; r < world_size; r++) {
        const struct source *s = &m->source[r];
        for (int64_t i = 0; i < s->n; i++) {
            const int64_t g = s->global_index[i];
            PLUMB_REQUIRE(g >= 0 && g < m->n && !m->owner[g], PLUMB_ERR_FORMAT,
                          "%s: rollout %lld has global index %lld, expected each of 0 to %lld once "
                          "over all ranks",
                          s->name, (long long)i, (long long)g, (long long)m->n - 1);
            m->owner[g] = s;
            m->local[g] = i;
        }
    }
    return PLUMB_OK;
}

/* Computes the offsets of all rollouts in global order. Rollouts that are also consecutive in their
 * rank's file share a run. */
static void place_rollouts(struct master *m)
{
    for (int64_t g = 0; g < m->n; g++) {
        const struct source *s = m->owner[g];
        const int64_t i = m->local[g];
        struct run *last = m->runs ? &m->run[m->runs - 1] : NULL;
        if (!last || last->from != s || last->first + last->n != i) {
            last = &m->run[m->runs++];
            *last = (struct run){.from = s,
                                 .first = i,
                                 .at = g,
                                 .first_token = s->offsets[i],
                                 .at_token = m->offsets[g],
                                 .first_logprob = s->logprob_offsets[i],
                                 .at_logprob = m->logprob_offsets[g],
                                 .first_byte = s->record_offsets[i],
                                 .at_byte = m->record_offsets[g]};
        }
        const int64_t tokens = s->offsets[i + 1] - s->offsets[i];
        const int64_t logprobs = s->logprob_offsets[i + 1] - s->logprob_offsets[i];
        const int64_t bytes = s->record_offsets[i + 1] - s->record_offsets[i];
        last->n++;
        last->bytes += bytes;
        last->tokens += tokens;
        last->logprobs += logprobs;
        m->completion_start[g] = m->offsets[g] + s->completion_start[i] - s->offsets[i];
        m->offsets[g + 1] = m->offsets[g] + tokens;
        m->logprob_offsets[g + 1] = m->logprob_offsets[g] + logprobs;
        m->record_offsets[g + 1] = m->record_offsets[g] + bytes;
    }
}

static plumb_status put_column(plumb_h5 *f, const struct master *m, const struct column *c,
                               struct plumb_h5_part *part)
{
    if (c->in_the_file) {
        const int64_t *data = c->length == PER_ROLLOUT ? m->completion_start
                              : c->at == offsetof(struct plumb_rollout_store, offsets) ? m->offsets
                              : c->at == offsetof(struct plumb_rollout_store, logprob_offsets)
                                  ? m->logprob_offsets
                                  : m->record_offsets;
        return plumb_h5_put(f, c->name, c->type, length_of(c->length, m->n, 0, 0, 0), data);
    }
    for (int64_t k = 0; k < m->runs; k++) {
        const struct run *r = &m->run[k];
        part[k] = (struct plumb_h5_part){r->from->name, r->from->n, r->first, r->n, r->at};
        if (c->length == PER_TOKEN)
            part[k] = (struct plumb_h5_part){r->from->name, r->from->tokens, r->first_token,
                                             r->tokens, r->at_token};
        if (c->length == PER_LOGPROB)
            part[k] = (struct plumb_h5_part){r->from->name, r->from->logprobs, r->first_logprob,
                                             r->logprobs, r->at_logprob};
        if (c->length == PER_BYTE)
            part[k] = (struct plumb_h5_part){r->from->name, r->from->bytes, r->first_byte, r->bytes,
                                             r->at_byte};
    }
    return plumb_h5_put_virtual(f, c->name, c->type,
                                length_of(c->length, m->n, m->tokens, m->logprobs, m->bytes), part,
                                m->runs);
}

static plumb_status put_master(const struct master *m, const char *dir,
                               const struct plumb_rollout_meta *meta)
{
    char path[PATH_MAX];
    plumb_h5 *f = NULL;
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(plumb_rollout_store_path(path, sizeof path, dir, meta->iteration, -1));
    struct plumb_h5_part *part = calloc((size_t)m->runs + 1, sizeof *part);
    PLUMB_REQUIRE(part, PLUMB_ERR_NOMEM,
                  "out of memory: cannot store %lld parts of the master file", (long long)m->runs);
    PLUMB_TRY_GOTO(st, plumb_h5_create(&f, path), fail);
    PLUMB_TRY_GOTO(st, put_meta(f, meta, -1), fail);
    for (int i = 0; i < COLUMNS; i++)
        PLUMB_TRY_GOTO(st, put_column(f, m, &column[i], part), fail);
    PLUMB_TRY_GOTO(st, plumb_h5_commit(&f), fail);
fail:
    plumb_h5_close(&f);
    free(part);
    return st;
}

/* Removes rank files of this iteration that the master does not use; a killed run with more ranks
 * may have left them. */
static plumb_status remove_stale(const char *dir, const struct plumb_rollout_meta *meta)
{
    struct plumb_names names = {0};
    char prefix[64], path[PATH_MAX];
    plumb_status st = PLUMB_OK;
    snprintf(prefix, sizeof prefix, "iteration-%04lld.rank-", (long long)meta->iteration);
    PLUMB_TRY(plumb_dir_list(&names, dir));
    for (int64_t i = 0; i < names.n; i++) {
        if (strncmp(names.name[i], prefix, strlen(prefix)) != 0)
            continue;
        char *end;
        const int64_t rank = strtoll(names.name[i] + strlen(prefix), &end, 10);
        const bool whole = strcmp(end, ".h5") == 0;
        if ((!whole && strcmp(end, ".h5.tmp") != 0) || (whole && rank < meta->world_size))
            continue;
        PLUMB_TRY_GOTO(st, plumb_path_join(path, sizeof path, dir, names.name[i]), fail);
        if (unlink(path) != 0 && errno != ENOENT)
            PLUMB_FAIL_GOTO(st, PLUMB_ERR_IO, fail, "%s: cannot remove: %s", path, strerror(errno));
    }
fail:
    plumb_names_fini(&names);
    return st;
}

static plumb_status master_alloc(struct master *m, int64_t world_size)
{
    for (int64_t r = 0; r < world_size; r++) {
        m->n += m->source[r].n;
        m->tokens += m->source[r].tokens;
        m->logprobs += m->source[r].logprobs;
        m->bytes += m->source[r].bytes;
    }
    const size_t n = (size_t)m->n + 1;
    m->run = calloc(n, sizeof *m->run);
    m->owner = calloc(n, sizeof *m->owner);
    m->local = calloc(n, sizeof *m->local);
    m->offsets = calloc(n, sizeof *m->offsets);
    m->completion_start = calloc(n, sizeof *m->completion_start);
    m->logprob_offsets = calloc(n, sizeof *m->logprob_offsets);
    m->record_offsets = calloc(n, sizeof *m->record_offsets);
    PLUMB_REQUIRE(m->run && m->owner && m->local && m->offsets && m->completion_start &&
                      m->logprob_offsets && m->record_offsets,
                  PLUMB_ERR_NOMEM, "out of memory: cannot order %lld rollouts", (long long)m->n);
    return PLUMB_OK;
}

static void master_free(struct master *m, int64_t world_size)
{
    for (int64_t r = 0; m->source && r < world_size; r++) {
        free(m->source[r].global_index);
        free(m->source[r].offsets);
        free(m->source[r].completion_start);
        free(m->source[r].logprob_offsets);
        free(m->source[r].record_offsets);
    }
    free(m->source);
    free(m->run);
    free(m->owner);
    free(m->local);
    free(m->offsets);
    free(m->completion_start);
    free(m->logprob_offsets);
    free(m->record_offsets);
}

plumb_status plumb_rollout_store_write_master(const char *dir,
                                              const struct plumb_rollout_meta *meta)
{
    struct master m = {0};
    plumb_status st = PLUMB_OK;
    PLUMB_REQUIRE(meta->world_size >= 1, PLUMB_ERR_ARG, "cannot write the rollouts of %lld ranks",
                  (long long)meta->world_size);
    m.source = calloc((size_t)meta->world_size, sizeof *m.source);
    PLUMB_REQUIRE(m.source, PLUMB_ERR_NOMEM, "out of memory: cannot read the files of %lld ranks",
                  (long long)meta->world_size);
    for (int64_t r = 0; r < meta->world_size; r++)
        PLUMB_TRY_GOTO(st, read_source(&m.source[r], dir, meta, r), fail);
    PLUMB_TRY_GOTO(st, master_alloc(&m, meta->world_size), fail);
    PLUMB_TRY_GOTO(st, find_owners(&m, meta->world_size), fail);
    place_rollouts(&m);
    PLUMB_TRY_GOTO(st, put_master(&m, dir, meta), fail);
    PLUMB_TRY_GOTO(st, remove_stale(dir, meta), fail);
fail:
    master_free(&m, meta->world_size);
    return st;
}

/* ---- reading ---- */

/* Checks that all files behind the master exist, so that the message names a missing one. */
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
    PLUMB_TRY(check_offsets(r->offsets, r->n, r->n_tokens, "offsets", path));
    PLUMB_TRY(check_offsets(r->logprob_offsets, r->n, r->n_logprobs, "logprob_offsets", path));
    PLUMB_TRY(check_offsets(r->record_offsets, r->n, r->n_bytes, "record_offsets", path));
    for (int64_t i = 0; i < r->n; i++) {
        const bool inside =
            r->completion_start[i] >= r->offsets[i] && r->completion_start[i] <= r->offsets[i + 1];
        const int64_t c = inside ? r->offsets[i + 1] - r->completion_start[i] : -1;
        PLUMB_REQUIRE(inside && c == r->logprob_offsets[i + 1] - r->logprob_offsets[i],
                      PLUMB_ERR_FORMAT,
                      "%s: rollout %lld: its completion of %lld tokens has %lld log-probs", path,
                      (long long)i, (long long)c,
                      (long long)(r->logprob_offsets[i + 1] - r->logprob_offsets[i]));
        PLUMB_REQUIRE(!master || r->global_index[i] == i, PLUMB_ERR_FORMAT,
                      "%s: rollout %lld reads global index %lld: a rank's file was replaced", path,
                      (long long)i, (long long)r->global_index[i]);
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
    PLUMB_TRY_GOTO(st, get_meta(f, &meta, &rank, &version), fail);
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
    for (int i = 0; i < (version > 1 ? COLUMNS : COLUMNS - 2); i++)
        PLUMB_TRY_GOTO(st,
                       plumb_h5_read(f, column[i].name, column[i].type, 0,
                                     length_of(column[i].length, n, tokens, logprobs, bytes),
                                     *slot(*out, &column[i])),
                       fail);
    PLUMB_TRY_GOTO(st, check_read(*out, rank < 0, path), fail);
fail:
    plumb_h5_close(&f);
    if (st != PLUMB_OK)
        plumb_rollout_store_destroy(out);
    return st;
}
