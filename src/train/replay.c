/* replay.c - writes and reads replay files. Such a file has the inputs of one micro-batch and the
 * results of its run, so that `plumb replay` can run it again.
 * Layer 5. Includes train/replay.h, base/, io/. */
#include "train/replay.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "io/file.h"
#include "io/format.h"
#include "io/hdf5.h"

const char *const plumb_replay_outcomes[] = {"healthy", "forward", "gradient", NULL};

enum field_type { TEXT, I64, U64, F64, ENUM, FLAG };
struct field {
    const char *name;
    enum field_type type;
    size_t offset, size;
};
#define FIELD_AS(name, where, type, x)                                                             \
    {                                                                                              \
        name, type, offsetof(struct where, x), sizeof(((struct where *)0)->x)                      \
    }
#define FIELD(where, type, x)  FIELD_AS(#x, where, type, x)
#define HEAD(type, x)          FIELD(plumb_replay, type, x)
#define HEAD_AS(name, type, x) FIELD_AS(name, plumb_replay, type, x)
#define COUNT(a)               (int)(sizeof(a) / sizeof((a)[0]))

static const struct field head_table[] = {
    HEAD(TEXT, command),
    HEAD(TEXT, method),
    HEAD(TEXT, device),
    HEAD(TEXT, weights),
    HEAD(TEXT, reason),
    HEAD(ENUM, outcome),
    HEAD(U64, config_hash),
    HEAD(U64, seed),
    HEAD(U64, fingerprint),
    HEAD(U64, gradient_hash),
    HEAD(I64, step),
    HEAD(I64, iteration),
    HEAD_AS("leaf", I64, micro_batch),
    HEAD(I64, head_rows),
    HEAD(I64, longest),
    HEAD(F64, loss),
};
#define TYPE_REAL                         F64
#define TYPE_INT                          I64
#define TYPE_CHOICE                       ENUM
#define TYPE_BOOL                         FLAG
#define PARAM(X, type, c_type, name, ...) FIELD(plumb_align_param, TYPE_##type, name),
static const struct field param_table[] = {PLUMB_METHOD_LIST(PARAM, PLUMB_PARAM_NONE, )};

plumb_status plumb_replay_path(char *out, int64_t size, const char *dir, int64_t step,
                               int64_t micro_batch)
{
    char name[64];
    snprintf(name, sizeof(name), "replay-%lld-%lld.h5", (long long)step, (long long)micro_batch);
    return plumb_path_join(out, size, dir, name);
}

/* ---- writing ----------------------------------------------------------------------------- */

static plumb_status put_fields(plumb_h5 *f, const struct field *table, int n, const void *base)
{
    for (int i = 0; i < n; i++) {
        const void *p = (const char *)base + table[i].offset;
        const char *name = table[i].name;
        switch (table[i].type) {
        case TEXT:
            PLUMB_TRY(plumb_h5_put_attr_text(f, name, p));
            break;
        case I64:
            PLUMB_TRY(plumb_h5_put_attr_i64(f, name, *(const int64_t *)p));
            break;
        case U64:
            PLUMB_TRY(plumb_h5_put_attr_u64(f, name, *(const uint64_t *)p));
            break;
        case F64:
            PLUMB_TRY(plumb_h5_put_attr_f64(f, name, *(const double *)p));
            break;
        case ENUM:
            PLUMB_TRY(plumb_h5_put_attr_i64(f, name, *(const int *)p));
            break;
        case FLAG:
            PLUMB_TRY(plumb_h5_put_attr_i64(f, name, *(const bool *)p));
            break;
        }
    }
    return PLUMB_OK;
}

static plumb_status put_pairs(plumb_h5 *f, const struct plumb_micro *m)
{
    const int64_t k = m->pairs;
    plumb_status st = PLUMB_OK;
    int64_t *index = calloc(2 * (size_t)k + 1, sizeof(*index));
    double *real = calloc(2 * (size_t)k + 1, sizeof(*real));
    if (!index || !real)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, done, "%lld pairs", (long long)k);
    for (int64_t i = 0; i < k; i++) {
        index[i] = m->pair[i].win;
        index[k + i] = m->pair[i].lose;
        real[i] = m->pair[i].smooth;
        real[k + i] = m->pair[i].weight;
    }
    PLUMB_TRY_GOTO(st, plumb_h5_put(f, "pair_win", PLUMB_H5_I64, k, index), done);
    PLUMB_TRY_GOTO(st, plumb_h5_put(f, "pair_lose", PLUMB_H5_I64, k, index + k), done);
    PLUMB_TRY_GOTO(st, plumb_h5_put(f, "pair_smooth", PLUMB_H5_F64, k, real), done);
    st = plumb_h5_put(f, "pair_weight", PLUMB_H5_F64, k, real + k);
done:
    free(index);
    free(real);
    return st;
}

static plumb_status put_micro(plumb_h5 *f, const struct plumb_micro *m)
{
    const struct plumb_pack *p = &m->pack;
    const int64_t n = p->n_seq;
    PLUMB_TRY(plumb_h5_put_attr_text(f, "kind", plumb_micro_names[m->kind]));
    PLUMB_TRY(plumb_h5_put_attr_text(f, "objective", m->objective ? m->objective->name : ""));
    PLUMB_TRY(plumb_h5_put_attr_i64(f, "reference", m->reference));
    PLUMB_TRY(plumb_h5_put_attr_f64(f, "scale", m->scale));
    PLUMB_TRY(plumb_h5_put_attr_f64(f, "mean_len", m->mean_len));
    PLUMB_TRY(put_fields(f, param_table, COUNT(param_table), &m->param));
    PLUMB_TRY(plumb_h5_put(f, "ids", PLUMB_H5_I32, p->offset[n], p->ids));
    PLUMB_TRY(plumb_h5_put(f, "offsets", PLUMB_H5_I64, n + 1, p->offset));
    PLUMB_TRY(plumb_h5_put(f, "prompt_tokens", PLUMB_H5_I64, n, p->prompt_tokens));
    PLUMB_TRY(plumb_h5_put(f, "record", PLUMB_H5_I64, n, m->record));
    PLUMB_TRY(plumb_h5_put(f, "sample", PLUMB_H5_I32, n, m->sample));
    PLUMB_TRY(plumb_h5_put(f, "logp_ref", PLUMB_H5_F64, n, m->logp_ref));
    PLUMB_TRY(plumb_h5_put(f, "weight", PLUMB_H5_F64, n, m->weight));
    PLUMB_TRY(plumb_h5_put(f, "reward", PLUMB_H5_F64, n, m->reward));
    PLUMB_TRY(plumb_h5_put(f, "groups", PLUMB_H5_I64, m->groups + 1, m->group));
    PLUMB_TRY(put_pairs(f, m));
    if (p->n_trained < p->n_targets)
        PLUMB_TRY(plumb_h5_put(f, "trained", PLUMB_H5_U8, p->n_targets, p->trained));
    if (m->kind == PLUMB_MICRO_SCORE)
        return plumb_h5_put(f, "score", PLUMB_H5_F64, n, m->score);
    return plumb_h5_put(f, "logp", PLUMB_H5_F32, p->n_targets, p->logp);
}

plumb_status plumb_replay_write(const struct plumb_replay *r, const struct plumb_micro *m,
                                const char *path)
{
    plumb_h5 *f = NULL;
    plumb_status st;
    PLUMB_TRY(plumb_h5_create(&f, path));
    PLUMB_TRY_GOTO(st, plumb_format_put(f, PLUMB_FORMAT_REPLAY), fail);
    PLUMB_TRY_GOTO(st, put_fields(f, head_table, COUNT(head_table), r), fail);
    PLUMB_TRY_GOTO(st, put_micro(f, m), fail);
    return plumb_h5_commit(&f);
fail:
    plumb_h5_close(&f);
    return st;
}

/* ---- reading ----------------------------------------------------------------------------- */

static plumb_status get_fields(const plumb_h5 *f, const struct field *table, int n, void *base)
{
    for (int i = 0; i < n; i++) {
        void *p = (char *)base + table[i].offset;
        const char *name = table[i].name;
        int64_t whole = 0;
        switch (table[i].type) {
        case TEXT:
            PLUMB_TRY(plumb_h5_get_attr_text(f, name, p, (int64_t)table[i].size));
            break;
        case I64:
            PLUMB_TRY(plumb_h5_get_attr_i64(f, name, p));
            break;
        case U64:
            PLUMB_TRY(plumb_h5_get_attr_u64(f, name, p));
            break;
        case F64:
            PLUMB_TRY(plumb_h5_get_attr_f64(f, name, p));
            break;
        case ENUM:
            PLUMB_TRY(plumb_h5_get_attr_i64(f, name, &whole));
            *(int *)p = (int)whole;
            break;
        case FLAG:
            PLUMB_TRY(plumb_h5_get_attr_i64(f, name, &whole));
            *(bool *)p = whole != 0;
            break;
        }
    }
    return PLUMB_OK;
}

static plumb_status get_kind(const plumb_h5 *f, enum plumb_micro_kind *kind,
                             const struct plumb_objective **objective)
{
    char text[64];
    PLUMB_TRY(plumb_h5_get_attr_text(f, "kind", text, sizeof(text)));
    for (*kind = 0; *kind < PLUMB_MICRO_KINDS && strcmp(text, plumb_micro_names[*kind]) != 0;)
        (*kind)++;
    PLUMB_REQUIRE(*kind < PLUMB_MICRO_KINDS, PLUMB_ERR_FORMAT, "kind is '%s'", text);
    PLUMB_TRY(plumb_h5_get_attr_text(f, "objective", text, sizeof(text)));
    *objective = plumb_objective_find(text);
    PLUMB_REQUIRE(*objective || *kind == PLUMB_MICRO_TOKENS, PLUMB_ERR_FORMAT,
                  "there is no objective '%s'", text);
    return PLUMB_OK;
}

static plumb_status get_pairs(const plumb_h5 *f, struct plumb_micro *m, int64_t k)
{
    for (int64_t i = 0; i < k; i++) {
        struct plumb_pair *p = &m->pair[i];
        PLUMB_TRY(plumb_h5_read(f, "pair_win", PLUMB_H5_I64, i, 1, &p->win));
        PLUMB_TRY(plumb_h5_read(f, "pair_lose", PLUMB_H5_I64, i, 1, &p->lose));
        PLUMB_TRY(plumb_h5_read(f, "pair_smooth", PLUMB_H5_F64, i, 1, &p->smooth));
        PLUMB_TRY(plumb_h5_read(f, "pair_weight", PLUMB_H5_F64, i, 1, &p->weight));
    }
    m->pairs = k;
    return PLUMB_OK;
}

/* Reads which sequences belong to each prompt (array "groups"), and checks that the groups are
 * ascending and within the sequences, so that plumb_objective_eval reads no other memory. */
static plumb_status get_groups(const plumb_h5 *f, struct plumb_micro *m)
{
    int64_t n = 0;
    PLUMB_TRY(plumb_h5_count(f, "groups", &n));
    PLUMB_REQUIRE(n >= 1 && n <= m->pack.n_seq + 1, PLUMB_ERR_FORMAT,
                  "%lld groups of %lld sequences", (long long)n - 1, (long long)m->pack.n_seq);
    m->groups = n - 1;
    PLUMB_TRY(plumb_h5_read(f, "groups", PLUMB_H5_I64, 0, n, m->group));
    for (int64_t g = 0; g < m->groups; g++)
        PLUMB_REQUIRE(m->group[g] >= 0 && m->group[g] < m->group[g + 1] &&
                          m->group[g + 1] <= m->pack.n_seq,
                      PLUMB_ERR_FORMAT, "group %lld begins at sequence %lld", (long long)g,
                      (long long)m->group[g]);
    return PLUMB_OK;
}

/* Reads which completion tokens the loss covers. If the file has no array "trained", the loss
 * covers all completion tokens. */
static plumb_status get_trained(const plumb_h5 *f, struct plumb_pack *p)
{
    int64_t n = 0;
    if (!plumb_h5_has(f, "trained"))
        return PLUMB_OK;
    PLUMB_TRY(plumb_h5_count(f, "trained", &n));
    PLUMB_REQUIRE(n == p->n_targets, PLUMB_ERR_FORMAT,
                  "trained: found %lld values, expected one for each of %lld completion tokens",
                  (long long)n, (long long)p->n_targets);
    PLUMB_TRY(plumb_h5_read(f, "trained", PLUMB_H5_U8, 0, n, p->trained));
    p->n_trained = 0;
    for (int64_t j = 0; j < n; j++)
        p->n_trained += p->trained[j] != 0;
    return PLUMB_OK;
}

/* Checks the offsets and prompt_tokens of the file, and adds its n sequences to m. */
static plumb_status get_sequences(const plumb_h5 *f, struct plumb_micro *m, int64_t n,
                                  const int64_t *offset, const int32_t *ids)
{
    for (int64_t i = 0; i < n; i++) {
        const int64_t len = offset[i + 1] - offset[i];
        int64_t prompt = 0, record = 0;
        int32_t sample = 0;
        PLUMB_TRY(plumb_h5_read(f, "prompt_tokens", PLUMB_H5_I64, i, 1, &prompt));
        PLUMB_TRY(plumb_h5_read(f, "record", PLUMB_H5_I64, i, 1, &record));
        PLUMB_TRY(plumb_h5_read(f, "sample", PLUMB_H5_I32, i, 1, &sample));
        PLUMB_REQUIRE(prompt >= 1 && prompt <= len, PLUMB_ERR_FORMAT,
                      "sequence %lld: %lld of %lld tokens are prompt", (long long)i,
                      (long long)prompt, (long long)len);
        PLUMB_TRY(plumb_micro_add(m, record, sample, ids + offset[i], prompt,
                                  ids + offset[i] + prompt, len - prompt));
        PLUMB_TRY(plumb_h5_read(f, "logp_ref", PLUMB_H5_F64, i, 1, &m->logp_ref[i]));
        PLUMB_TRY(plumb_h5_read(f, "weight", PLUMB_H5_F64, i, 1, &m->weight[i]));
        PLUMB_TRY(plumb_h5_read(f, "reward", PLUMB_H5_F64, i, 1, &m->reward[i]));
    }
    return PLUMB_OK;
}

static plumb_status get_micro(const plumb_h5 *f, struct plumb_replay *r, struct plumb_micro *m)
{
    enum plumb_micro_kind kind;
    const struct plumb_objective *objective;
    int64_t n = 0, tokens = 0, k = 0, reference = 0, *offset = NULL;
    int32_t *ids = NULL;
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(get_kind(f, &kind, &objective));
    PLUMB_TRY(plumb_h5_count(f, "prompt_tokens", &n));
    PLUMB_TRY(plumb_h5_count(f, "ids", &tokens));
    PLUMB_TRY(plumb_h5_count(f, "pair_win", &k));
    PLUMB_REQUIRE(n >= 1 && tokens >= n && k <= n, PLUMB_ERR_FORMAT,
                  "%lld sequences of %lld tokens with %lld pairs", (long long)n, (long long)tokens,
                  (long long)k);
    PLUMB_TRY(plumb_micro_init(m, kind, tokens, n));
    offset = calloc((size_t)n + 1, sizeof(*offset));
    ids = calloc((size_t)tokens, sizeof(*ids));
    r->logp = calloc((size_t)tokens, sizeof(*r->logp));
    r->score = calloc((size_t)n, sizeof(*r->score));
    if (!offset || !ids || !r->logp || !r->score)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, done, "%lld tokens", (long long)tokens);
    m->objective = kind == PLUMB_MICRO_TOKENS ? NULL : objective;
    PLUMB_TRY_GOTO(st, plumb_h5_get_attr_i64(f, "reference", &reference), done);
    PLUMB_TRY_GOTO(st, plumb_h5_get_attr_f64(f, "scale", &m->scale), done);
    PLUMB_TRY_GOTO(st, plumb_h5_get_attr_f64(f, "mean_len", &m->mean_len), done);
    PLUMB_TRY_GOTO(st, get_fields(f, param_table, COUNT(param_table), &m->param), done);
    PLUMB_TRY_GOTO(st, plumb_align_param_check(&m->param), done);
    m->reference = reference != 0;
    PLUMB_TRY_GOTO(st, plumb_h5_read(f, "offsets", PLUMB_H5_I64, 0, n + 1, offset), done);
    PLUMB_TRY_GOTO(st, plumb_h5_read(f, "ids", PLUMB_H5_I32, 0, tokens, ids), done);
    for (int64_t i = 0; i < n; i++)
        if (offset[i + 1] <= offset[i] || offset[0] != 0 || offset[n] != tokens)
            PLUMB_FAIL_GOTO(st, PLUMB_ERR_FORMAT, done, "offsets do not ascend from 0 to %lld",
                            (long long)tokens);
    PLUMB_TRY_GOTO(st, get_sequences(f, m, n, offset, ids), done);
    PLUMB_TRY_GOTO(st, get_trained(f, &m->pack), done);
    PLUMB_TRY_GOTO(st, get_pairs(f, m, k), done);
    PLUMB_TRY_GOTO(st, get_groups(f, m), done);
    if (kind == PLUMB_MICRO_SCORE)
        st = plumb_h5_read(f, "score", PLUMB_H5_F64, 0, n, r->score);
    else
        st = plumb_h5_read(f, "logp", PLUMB_H5_F32, 0, m->pack.n_targets, r->logp);
done:
    free(offset);
    free(ids);
    if (st != PLUMB_OK)
        plumb_micro_fini(m);
    return st;
}

static plumb_status get_head(const plumb_h5 *f, struct plumb_replay *r)
{
    PLUMB_TRY(get_fields(f, head_table, COUNT(head_table), r));
    PLUMB_REQUIRE(r->outcome < PLUMB_REPLAY_OUTCOMES, PLUMB_ERR_FORMAT, "outcome is %d",
                  (int)r->outcome);
    return PLUMB_OK;
}

/* Makes r->weights a path that can be opened from the current folder. If r->weights is relative, it
 * is relative to the folder of the replay file `path`. */
static plumb_status locate_weights(struct plumb_replay *r, const char *path)
{
    char here[4096], name[sizeof(r->weights)];
    const char *slash = strrchr(path, '/');
    if (r->weights[0] == '/' || !slash)
        return PLUMB_OK;
    snprintf(name, sizeof(name), "%s", r->weights);
    PLUMB_REQUIRE(slash - path < (ptrdiff_t)sizeof(here), PLUMB_ERR_ARG, "path too long");
    snprintf(here, sizeof(here), "%.*s", (int)(slash - path), path);
    return plumb_path_join(r->weights, sizeof(r->weights), here, name);
}

plumb_status plumb_replay_read(struct plumb_replay *r, struct plumb_micro *m, const char *path)
{
    plumb_h5 *f = NULL;
    char message[1024];
    *r = (struct plumb_replay){0};
    *m = (struct plumb_micro){0};
    PLUMB_TRY(plumb_h5_open(&f, path));
    plumb_status st = plumb_format_get(NULL, f, PLUMB_FORMAT_REPLAY);
    if (st != PLUMB_OK) {
        plumb_h5_close(&f);
        return st;
    }
    st = get_head(f, r);
    if (st == PLUMB_OK)
        st = locate_weights(r, path);
    if (st == PLUMB_OK)
        st = get_micro(f, r, m);
    plumb_h5_close(&f);
    if (st == PLUMB_OK)
        return PLUMB_OK;
    plumb_replay_fini(r);
    snprintf(message, sizeof(message), "%s", plumb_trail_message());
    PLUMB_FAIL(st, "%s: %s", path, message);
}

void plumb_replay_fini(struct plumb_replay *r)
{
    free(r->logp);
    free(r->score);
    r->logp = NULL;
    r->score = NULL;
}

/* ---- hash and first non-finite element of a vector, such as the gradient --------------------- */

enum { PIECE = 65536 };

/* Called by each_piece for elements [first, first + n) of a vector, which are in host memory.
 * Returns true if the remaining pieces are not needed. */
typedef bool piece_fn(void *arg, int64_t first, int64_t n, const float *host);

static plumb_status each_piece(const plumb_model *m, const float *x, enum plumb_place place,
                               piece_fn *fn, void *arg)
{
    struct plumb_backend *b = m->backend;
    const int64_t count = plumb_model_trained(m).count;
    float *stage = place == PLUMB_HOST ? NULL : malloc(PIECE * sizeof(*stage));
    plumb_status st = PLUMB_OK;
    PLUMB_REQUIRE(place == PLUMB_HOST || stage, PLUMB_ERR_NOMEM, "staging of a vector");
    for (int64_t at = 0; at < count && st == PLUMB_OK; at += PIECE) {
        const int64_t n = plumb_min_i64(PIECE, count - at);
        if (stage)
            st = b->to_host(b, stage, x + at, n * (int64_t)sizeof(*stage));
        if (st == PLUMB_OK && fn(arg, at, n, stage ? stage : x + at))
            break;
    }
    free(stage);
    return st;
}

static bool hash_piece(void *arg, int64_t first, int64_t n, const float *host)
{
    uint64_t *hash = arg;
    (void)first;
    *hash = plumb_hash(host, n * (int64_t)sizeof(*host), *hash);
    return false;
}

static bool look_at_piece(void *arg, int64_t first, int64_t n, const float *host)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(host[i])) {
            *(int64_t *)arg = first + i;
            return true;
        }
    return false;
}

plumb_status plumb_replay_hash(uint64_t *out, const plumb_model *m, const float *x,
                               enum plumb_place place)
{
    *out = 0;
    return each_piece(m, x, place, hash_piece, out);
}

plumb_status plumb_replay_non_finite(int64_t *tensor, int64_t *element, const plumb_model *m,
                                     const float *x, enum plumb_place place)
{
    const struct plumb_trained t = plumb_model_trained(m);
    int64_t at = -1;
    *tensor = t.n_param;
    *element = 0;
    PLUMB_TRY(each_piece(m, x, place, look_at_piece, &at));
    for (int64_t p = 0; p < t.n_param && at >= 0; p++)
        if (at >= t.param[p].offset && at < t.param[p].offset + t.param[p].count) {
            *tensor = p;
            *element = at - t.param[p].offset;
        }
    return PLUMB_OK;
}
