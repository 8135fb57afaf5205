/* rollout_master.c - writes the master file over the rollout files of all ranks.
 * Layer 4. Includes data/rollout_columns.h, base/, io/. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"
#include "data/rollout_columns.h"
#include "io/file.h"

/* The arrays of one rank's file that are needed to build the master file. */
struct source {
    char name[64];
    int64_t n, tokens, logprobs, bytes;
    int64_t *global_index, *offsets, *completion_start, *logprob_offsets, *record_offsets;
};
/* Rollouts that are consecutive both in one rank's file and in the global order. The last three
 * lines give, for the arrays of tokens, of completion tokens and of bytes of records: the first
 * element in the rank's file, the number of elements, and the first element in the master file. */
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
    PLUMB_REQUIRE(*out, PLUMB_ERR_NOMEM, "cannot store %lld values of \"%s\"", (long long)n, name);
    return plumb_h5_read(f, name, PLUMB_H5_I64, 0, n, *out);
}

static plumb_status read_source(struct source *s, const char *dir,
                                const struct plumb_rollout_meta *want, int64_t rank)
{
    char path[PATH_MAX];
    struct plumb_rollout_meta m;
    int64_t found_rank;
    plumb_h5 *f = NULL;
    plumb_status st = PLUMB_OK;
    plumb_rollout_file_name(s->name, want->iteration, rank);
    PLUMB_TRY(plumb_path_join(path, sizeof path, dir, s->name));
    PLUMB_TRY(plumb_h5_open(&f, path));
    PLUMB_TRY_GOTO(st, plumb_rollout_meta_get(f, &m, &found_rank, NULL), fail);
    if (m.config_hash != want->config_hash || m.seed != want->seed ||
        m.iteration != want->iteration || m.world_size != want->world_size || found_rank != rank)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_FORMAT, fail,
                        "%s: the rollouts in this file are those of another run, iteration, number "
                        "of ranks or rank",
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
    PLUMB_TRY_GOTO(
        st, plumb_rollout_check_offsets(s->record_offsets, s->n, s->bytes, "record_offsets", path),
        fail);
    PLUMB_TRY_GOTO(st, plumb_rollout_check_offsets(s->offsets, s->n, s->tokens, "offsets", path),
                   fail);
    PLUMB_TRY_GOTO(
        st,
        plumb_rollout_check_offsets(s->logprob_offsets, s->n, s->logprobs, "logprob_offsets", path),
        fail);
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

/* Sets m->owner and m->local for the global index of each rollout. Each index must occur in exactly
 * one rank file, once. */
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

/* Computes the offsets of all rollouts in global order, and the runs (struct run) into which the
 * rollouts are divided. */
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

static plumb_status put_column(plumb_h5 *f, const struct master *m,
                               const struct plumb_rollout_column *c, struct plumb_h5_part *part)
{
    if (c->in_the_file) {
        const int64_t *data = c->length == PLUMB_PER_ROLLOUT ? m->completion_start
                              : c->at == offsetof(struct plumb_rollout_store, offsets) ? m->offsets
                              : c->at == offsetof(struct plumb_rollout_store, logprob_offsets)
                                  ? m->logprob_offsets
                                  : m->record_offsets;
        return plumb_h5_put(f, c->name, c->type,
                            plumb_rollout_column_length(c->length, m->n, 0, 0, 0), data);
    }
    for (int64_t k = 0; k < m->runs; k++) {
        const struct run *r = &m->run[k];
        part[k] = (struct plumb_h5_part){r->from->name, r->from->n, r->first, r->n, r->at};
        if (c->length == PLUMB_PER_TOKEN)
            part[k] = (struct plumb_h5_part){r->from->name, r->from->tokens, r->first_token,
                                             r->tokens, r->at_token};
        if (c->length == PLUMB_PER_LOGPROB)
            part[k] = (struct plumb_h5_part){r->from->name, r->from->logprobs, r->first_logprob,
                                             r->logprobs, r->at_logprob};
        if (c->length == PLUMB_PER_BYTE)
            part[k] = (struct plumb_h5_part){r->from->name, r->from->bytes, r->first_byte, r->bytes,
                                             r->at_byte};
    }
    return plumb_h5_put_virtual(
        f, c->name, c->type,
        plumb_rollout_column_length(c->length, m->n, m->tokens, m->logprobs, m->bytes), part,
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
    PLUMB_REQUIRE(part, PLUMB_ERR_NOMEM, "cannot store %lld parts of the master file",
                  (long long)m->runs);
    PLUMB_TRY_GOTO(st, plumb_h5_create(&f, path), fail);
    PLUMB_TRY_GOTO(st, plumb_rollout_meta_put(f, meta, -1), fail);
    for (int i = 0; i < PLUMB_ROLLOUT_COLUMNS; i++)
        PLUMB_TRY_GOTO(st, put_column(f, m, &plumb_rollout_columns[i], part), fail);
    PLUMB_TRY_GOTO(st, plumb_h5_commit(&f), fail);
fail:
    plumb_h5_close(&f);
    free(part);
    return st;
}

/* Removes rank files of this iteration that the master does not use, which a killed run with more
 * ranks may have left, and temporary rank files of this iteration. */
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
                  PLUMB_ERR_NOMEM, "cannot order %lld rollouts", (long long)m->n);
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
    PLUMB_REQUIRE(m.source, PLUMB_ERR_NOMEM, "cannot read the files of %lld ranks",
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
