/* model.c - creates a model, and loads, copies and hashes its parameters.
 * Layer 4. Includes base/, io/, backend/, op/, model/net.h. */
#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "base/rng.h"
#include "io/file.h"
#include "model/net.h"

const struct plumb_param *plumb_model_find(const plumb_model *m, const char *name)
{
    for (int64_t i = 0; i < m->n_param; i++)
        if (!strcmp(m->param[i].name, name))
            return &m->param[i];
    return NULL;
}

static plumb_status place(plumb_model *m, int64_t packed)
{
    PLUMB_TRY(plumb_arena_take_f32(&m->arena, &m->w, m->count, "weights"));
    PLUMB_TRY(plumb_backend_take(m->backend, &m->arena, &m->packed, packed, "packed weights"));
    PLUMB_TRY(
        plumb_arena_take_f32(&m->arena, &m->rope, m->spec.max_pos * m->spec.d, "rotation table"));
    m->hash.dtype = PLUMB_I64;
    m->hash.rank = 1;
    m->hash.dim[0] = plumb_ceil_div(m->count, PLUMB_HASH_BLOCK);
    m->hash.name = "hashes";
    PLUMB_TRY(plumb_arena_take(&m->arena, &m->hash));
    return PLUMB_OK;
}

static plumb_status upload_rope(plumb_model *m)
{
    const int64_t n = m->spec.max_pos * m->spec.d;
    if (m->backend->dry)
        return PLUMB_OK;
    float *table = malloc((size_t)n * sizeof *table);
    PLUMB_REQUIRE(table, PLUMB_ERR_NOMEM, "rotation table: %lld floats", (long long)n);
    plumb_rope_table(table, &m->spec);
    const plumb_status st =
        m->backend->to_device(m->backend, m->rope, table, n * (int64_t)sizeof *table);
    free(table);
    return st;
}

/* Creates a model with zero weights. */
static plumb_status build(plumb_model **out, struct plumb_backend *b, const char *dir,
                          const struct plumb_spec *s)
{
    int64_t n, count, packed;
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(plumb_params_layout(NULL, NULL, &n, &count, &packed, s, b));
    plumb_model *m = calloc(1, sizeof *m);
    PLUMB_REQUIRE(m, PLUMB_ERR_NOMEM, "model");
    m->spec = *s;
    m->backend = b;
    m->arena = (struct plumb_arena){.place = b->place, .name = "param"};
    m->dir = strdup(dir);
    m->tokenizer_dir = strdup(dir);
    m->param = calloc((size_t)n, sizeof *m->param);
    m->net = calloc(1, sizeof *m->net + (size_t)s->l * sizeof *m->net->layer);
    if (!m->dir || !m->tokenizer_dir || !m->param || !m->net)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "model: %lld tensors", (long long)n);
    PLUMB_TRY_GOTO(st, plumb_params_layout(m->param, m->net, &m->n_param, &m->count, &packed, s, b),
                   fail);
    PLUMB_TRY_GOTO(st, place(m, packed), fail);
    PLUMB_TRY_GOTO(st, plumb_backend_arena_alloc(b, &m->arena), fail);
    PLUMB_TRY_GOTO(st, place(m, packed), fail);
    m->hash_host = malloc((size_t)plumb_tensor_bytes(&m->hash));
    if (!m->hash_host)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "model: hashes");
    PLUMB_TRY_GOTO(st, b->zero(b, m->w, m->count * (int64_t)sizeof(float)), fail);
    PLUMB_TRY_GOTO(st, upload_rope(m), fail);
    *out = m;
    return PLUMB_OK;
fail:
    plumb_model_destroy(&m);
    return st;
}

void plumb_model_destroy(plumb_model **m)
{
    if (!m || !*m)
        return;
    plumb_backend_arena_release((*m)->backend, &(*m)->arena);
    free((*m)->hash_host);
    free((*m)->net);
    free((*m)->param);
    free((*m)->dir);
    free((*m)->tokenizer_dir);
    free(*m);
    *m = NULL;
}

plumb_status plumb_model_set_source(plumb_model *m, const char *dir, const char *tokenizer_dir)
{
    char *mine = strdup(dir), *words = strdup(tokenizer_dir);
    if (!mine || !words) {
        free(mine);
        free(words);
        PLUMB_FAIL(PLUMB_ERR_NOMEM, "name of %s", dir);
    }
    free(m->dir);
    free(m->tokenizer_dir);
    m->dir = mine;
    m->tokenizer_dir = words;
    return PLUMB_OK;
}

plumb_status plumb_model_host_weights(const plumb_model *m, float **w, float **owned)
{
    *owned = NULL;
    *w = m->w;
    if (m->backend->place == PLUMB_HOST)
        return PLUMB_OK;
    const int64_t bytes = m->count * (int64_t)sizeof(float);
    *w = *owned = malloc((size_t)bytes);
    PLUMB_REQUIRE(*w, PLUMB_ERR_NOMEM, "host copy of the weights: %lld bytes", (long long)bytes);
    const plumb_status st = m->backend->to_host(m->backend, *w, m->w, bytes);
    if (st != PLUMB_OK) {
        free(*owned);
        *owned = NULL;
    }
    return st;
}

/* Finishes a change of the weights from plumb_model_host_weights: copies them to the device if they
 * were a host copy. */
static plumb_status put_host_weights(plumb_model *m, float *owned)
{
    plumb_status st = PLUMB_OK;
    if (owned)
        st = m->backend->to_device(m->backend, m->w, owned, m->count * (int64_t)sizeof(float));
    free(owned);
    return st;
}

plumb_status plumb_model_hash(const plumb_model *m, uint64_t *hash)
{
    struct plumb_backend *b = m->backend;
    const int64_t bytes = plumb_tensor_bytes(&m->hash);
    PLUMB_TRY(plumb_op_hash_blocks(b, &m->hash, V(m->w, m->count)));
    PLUMB_TRY(b->to_host(b, m->hash_host, m->hash.data, bytes));
    *hash = plumb_hash(m->hash_host, bytes, 0);
    return PLUMB_OK;
}

plumb_status plumb_model_refresh(plumb_model *m)
{
    struct plumb_backend *b = m->backend;
    m->fingerprint = 0;
    for (int64_t i = 0; i < m->n_param; i++) {
        const struct plumb_param *p = &m->param[i];
        if (p->packed >= 0)
            PLUMB_TRY(plumb_op_linear_pack(b,
                                           V(plumb_real_at(b, m->packed, p->packed),
                                             b->k.linear_packed_count(p->dim[0], p->dim[1])),
                                           V(m->w + p->offset, p->dim[0], p->dim[1])));
    }
    return plumb_model_hash(m, &m->fingerprint);
}

plumb_status plumb_model_copy(plumb_model *to, const plumb_model *from)
{
    enum { STAGE = 65536 };
    struct plumb_backend *b = to->backend;
    PLUMB_REQUIRE(
        to->count == from->count && from->backend == b, PLUMB_ERR_SHAPE,
        "cannot copy weights of %lld floats to a model of %lld floats, or to another backend",
        (long long)from->count, (long long)to->count);
    float *stage = malloc(STAGE * sizeof(*stage));
    PLUMB_REQUIRE(stage, PLUMB_ERR_NOMEM, "copy of %s", from->dir);
    plumb_status st = PLUMB_OK;
    for (int64_t at = 0; at < to->count && st == PLUMB_OK; at += STAGE) {
        const int64_t bytes = plumb_min_i64(STAGE, to->count - at) * (int64_t)sizeof(*stage);
        st = b->to_host(b, stage, from->w + at, bytes);
        if (st == PLUMB_OK)
            st = b->to_device(b, to->w + at, stage, bytes);
    }
    free(stage);
    PLUMB_TRY(st);
    return plumb_model_refresh(to);
}

static void fill_fresh(float *w, const struct plumb_param *p, int64_t index, double std,
                       uint64_t seed)
{
    struct plumb_rng_key key = {.seed = seed, .purpose = PLUMB_RNG_INIT, .prompt = (uint64_t)index};
    const size_t len = strlen(p->name);
    const bool bias = len > 5 && !strcmp(p->name + len - 5, ".bias");
    for (int64_t i = 0; i < p->count; i++) {
        key.position = (uint32_t)i;
        key.sample = (uint32_t)(i >> 32);
        w[i] = p->rank == 2 ? (float)(std * plumb_rng_normal(&key)) : bias ? 0.0f : 1.0f;
    }
}

static void write_shape(char *out, size_t size, int rank, const int64_t *dim)
{
    size_t used = 0;
    out[0] = '\0';
    for (int i = 0; i < rank && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, i ? ", %lld" : "%lld", (long long)dim[i]);
}

static bool shape_is(const struct plumb_st_entry *e, int rank, const int64_t *dim)
{
    bool same = e->rank == rank;
    for (int i = 0; same && i < rank; i++)
        same = e->dim[i] == dim[i];
    return same;
}

static plumb_status check_shape(const struct plumb_st_entry *e, int rank, const int64_t *dim)
{
    char found[128], want[64];
    write_shape(found, sizeof found, e->rank, e->dim);
    write_shape(want, sizeof want, rank, dim);
    PLUMB_REQUIRE(shape_is(e, rank, dim), PLUMB_ERR_SHAPE,
                  "%s: tensor %s has shape (%s), config.json asks for (%s)", e->file, e->name,
                  found, want);
    return PLUMB_OK;
}

/* Accepts the tensors of a checkpoint that are not parameters of the model: the rotary buffer, and
 * a language-model head that the model does not have (the embedding saved a second time, or the
 * head of a checkpoint that is opened as a classifier). Refuses all others. */
static plumb_status check_extra(const plumb_model *m, const struct plumb_st_entry *e)
{
    static const char buffer[] = "rotary_emb.inv_freq";
    const size_t len = strlen(e->name), tail = sizeof buffer - 1;
    if (len >= tail && !strcmp(e->name + len - tail, buffer))
        return PLUMB_OK;
    const int64_t head[] = {m->spec.v, m->spec.c};
    PLUMB_REQUIRE(!strcmp(e->name, PLUMB_HEAD_NAME), PLUMB_ERR_FORMAT,
                  "%s: tensor %s does not belong to the %s that config.json describes", e->file,
                  e->name, plumb_spec_architecture(&m->spec));
    return check_shape(e, 2, head);
}

/* Returns the checkpoint's tensor of parameter p, or NULL. If head and embedding are tied, the
 * tensor may have either name. */
static const struct plumb_st_entry *entry_of(const plumb_model *m, const plumb_st *st,
                                             const struct plumb_param *p)
{
    const struct plumb_st_entry *e = plumb_st_find(st, p->name);
    const bool either = m->spec.tied && m->spec.labels == 0 && !strcmp(p->name, PLUMB_EMBED_NAME);
    return e || !either ? e : plumb_st_find(st, PLUMB_HEAD_NAME);
}

/* Loads all parameters. `fresh` names a tensor that may be missing and is then drawn from seed;
 * NULL if none may be missing. */
static plumb_status load(plumb_model *m, const plumb_st *st, const char *fresh, uint64_t seed)
{
    for (int64_t i = 0; i < plumb_st_count(st); i++) {
        const struct plumb_st_entry *e = plumb_st_at(st, i);
        const struct plumb_param *p = plumb_model_find(m, e->name);
        if (p)
            PLUMB_TRY(check_shape(e, p->rank, p->dim));
        else
            PLUMB_TRY(check_extra(m, e));
    }
    for (int64_t i = 0; i < m->n_param; i++)
        PLUMB_REQUIRE(entry_of(m, st, &m->param[i]) || (fresh && !strcmp(fresh, m->param[i].name)),
                      PLUMB_ERR_FORMAT, "%s: tensor %s (%lld floats) is missing", m->dir,
                      m->param[i].name, (long long)m->param[i].count);
    float *w, *owned;
    plumb_status r = PLUMB_OK;
    PLUMB_TRY(plumb_model_host_weights(m, &w, &owned));
    for (int64_t i = 0; i < m->n_param && r == PLUMB_OK; i++) {
        const struct plumb_param *p = &m->param[i];
        const struct plumb_st_entry *e = entry_of(m, st, p);
        if (e)
            r = plumb_st_to_f32(w + p->offset, e);
        else
            fill_fresh(w + p->offset, p, i, m->spec.init_range, seed);
    }
    const plumb_status put = put_host_weights(m, owned);
    return r != PLUMB_OK ? r : put;
}

static bool has_weights(const char *dir)
{
    static const char *const name[] = {"model.safetensors", "model.safetensors.index.json"};
    char path[4096];
    for (int i = 0; i < 2; i++)
        if (plumb_path_join(path, sizeof path, dir, name[i]) == PLUMB_OK && plumb_file_exists(path))
            return true;
    return false;
}

static plumb_status open_as(plumb_model **out, struct plumb_backend *b, const char *dir,
                            struct plumb_spec *s, const char *fresh, uint64_t seed)
{
    plumb_model *m = NULL;
    plumb_st *files = NULL;
    plumb_status st = PLUMB_OK;
    if (b->dry && !has_weights(dir)) /* a plan needs only the sizes in config.json */
        return build(out, b, dir, s);
    PLUMB_TRY(plumb_st_open_dir(&files, dir));
    PLUMB_TRY_GOTO(st, plumb_tie_resolve(s, files, dir), fail);
    PLUMB_TRY_GOTO(st, build(&m, b, dir, s), fail);
    if (b->dry) {
        *out = m;
        m = NULL;
        goto fail;
    }
    PLUMB_TRY_GOTO(st, load(m, files, fresh, seed), fail);
    PLUMB_TRY_GOTO(st, plumb_model_refresh(m), fail);
    *out = m;
    m = NULL;
fail:
    plumb_model_destroy(&m);
    plumb_st_close(&files);
    return st;
}

plumb_status plumb_model_open(plumb_model **out, struct plumb_backend *b, const char *dir)
{
    struct plumb_spec s;
    PLUMB_TRY(plumb_spec_read(&s, dir));
    return open_as(out, b, dir, &s, NULL, 0);
}

void plumb_model_drop_pad(plumb_model *m)
{
    plumb_log_once(PLUMB_LOG_INFO,
                   "pad_token_id %d of %s is the end token; the classifier is saved with "
                   "pad_token_id null, so that transformers also reads its score at the end token",
                   (int)m->spec.pad, m->dir);
    m->spec.pad = -1;
}

plumb_status plumb_model_open_classifier(plumb_model **out, struct plumb_backend *b,
                                         const char *dir, int64_t labels, uint64_t seed)
{
    struct plumb_spec s;
    PLUMB_REQUIRE(labels >= 1 && labels <= 1 << 16, PLUMB_ERR_ARG,
                  "a classifier with %lld labels, expected 1 to 65536", (long long)labels);
    PLUMB_TRY(plumb_spec_read(&s, dir));
    PLUMB_REQUIRE(s.labels == 0 || s.labels == labels, PLUMB_ERR_SHAPE,
                  "%s: the classifier has %lld labels, expected %lld", dir, (long long)s.labels,
                  (long long)labels);
    const char *fresh = s.labels ? NULL : "score.weight";
    s.labels = labels;
    PLUMB_TRY(open_as(out, b, dir, &s, fresh, seed));
    (*out)->fresh_score = fresh != NULL;
    if (fresh && s.pad >= 0 && plumb_spec_stops_at(&s, s.pad))
        plumb_model_drop_pad(*out);
    return PLUMB_OK;
}

plumb_status plumb_model_create(plumb_model **out, struct plumb_backend *b, const char *dir,
                                uint64_t seed)
{
    struct plumb_spec s;
    plumb_model *m = NULL;
    plumb_status st = PLUMB_OK;
    float *w, *owned;
    PLUMB_TRY(plumb_spec_read(&s, dir));
    PLUMB_TRY(build(&m, b, dir, &s));
    if (b->dry) {
        *out = m;
        return PLUMB_OK;
    }
    PLUMB_TRY_GOTO(st, plumb_model_host_weights(m, &w, &owned), fail);
    for (int64_t i = 0; i < m->n_param; i++)
        fill_fresh(w + m->param[i].offset, &m->param[i], i, s.init_range, seed);
    PLUMB_TRY_GOTO(st, put_host_weights(m, owned), fail);
    PLUMB_TRY_GOTO(st, plumb_model_refresh(m), fail);
    *out = m;
    return PLUMB_OK;
fail:
    plumb_model_destroy(&m);
    return st;
}
