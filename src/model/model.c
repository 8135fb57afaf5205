/* model.c - creates a model, and copies and hashes its parameters.
 * Layer 4. Includes base/, io/, backend/, op/, model/adapter.h, model/lora.h. */
#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "io/file.h"
#include "model/adapter.h"
#include "model/lora.h"
#include "model/provider.h"

const struct plumb_param *plumb_model_find(const plumb_model *m, const char *name)
{
    for (int64_t i = 0; i < m->n_param; i++)
        if (!strcmp(m->param[i].name, name))
            return &m->param[i];
    return NULL;
}

static plumb_status place(plumb_model *m)
{
    const int64_t held = m->frozen ? plumb_real_bytes(m->backend, m->n_packed) / 4 : 0;
    PLUMB_TRY(plumb_arena_take_f32(&m->arena, &m->w, m->count, "weights"));
    PLUMB_TRY(plumb_backend_take(m->backend, &m->arena, &m->packed, m->n_packed, "packed weights"));
    PLUMB_TRY(plumb_arena_take_f32(&m->arena, &m->rope, plumb_rope_at(&m->spec, m->spec.n_rope),
                                   "rotation table"));
    m->hash.dtype = PLUMB_I64;
    m->hash.rank = 1;
    m->hash.dim[0] =
        plumb_ceil_div(m->count, PLUMB_HASH_BLOCK) + plumb_ceil_div(held, PLUMB_HASH_BLOCK);
    m->hash.name = "hashes";
    PLUMB_TRY(plumb_arena_take(&m->arena, &m->hash));
    return PLUMB_OK;
}

/* Creates a model with zero weights. how: of a frozen model; NULL for any other. */
static plumb_status build(plumb_model **out, struct plumb_backend *b, const char *dir,
                          const struct plumb_spec *s, const struct plumb_frozen *how)
{
    int64_t n, count, packed;
    plumb_status st = PLUMB_OK;
    const bool frozen = how != NULL;
    PLUMB_TRY(plumb_params_layout(NULL, NULL, &n, &count, &packed, s, b, frozen));
    plumb_model *m = calloc(1, sizeof *m);
    PLUMB_REQUIRE(m, PLUMB_ERR_NOMEM, "a model");
    m->spec = *s;
    m->backend = b;
    m->longest = s->max_pos;
    m->frozen = frozen;
    m->arena = (struct plumb_arena){.place = b->place, .name = "param"};
    m->dir = strdup(dir);
    m->tokenizer_dir = strdup(dir);
    m->param = calloc((size_t)n, sizeof *m->param);
    m->net = calloc(1, sizeof *m->net + (size_t)s->l * sizeof *m->net->layer);
    if (!m->dir || !m->tokenizer_dir || !m->param || !m->net)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "a model of %lld tensors", (long long)n);
    PLUMB_TRY_GOTO(
        st, plumb_params_layout(m->param, m->net, &m->n_param, &m->count, &packed, s, b, frozen),
        fail);
    m->n_packed = frozen ? plumb_provider_resident(m, how, packed) : packed;
    PLUMB_TRY_GOTO(st, place(m), fail);
    PLUMB_TRY_GOTO(st, plumb_backend_arena_alloc(b, &m->arena), fail);
    PLUMB_TRY_GOTO(st, place(m), fail);
    if (frozen) {
        PLUMB_TRY_GOTO(st, plumb_provider_create(m, how), fail);
        PLUMB_TRY_GOTO(st, b->zero(b, m->packed, plumb_real_bytes(b, m->n_packed)), fail);
    }
    m->hash_host = malloc((size_t)plumb_tensor_bytes(&m->hash));
    if (!m->hash_host)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "the hashes of a model");
    PLUMB_TRY_GOTO(st, b->zero(b, m->w, m->count * (int64_t)sizeof(float)), fail);
    PLUMB_TRY_GOTO(st, plumb_rope_upload(m), fail);
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
    plumb_lora_detach(*m);
    if (!(*m)->shared) {
        plumb_provider_destroy(*m);
        plumb_backend_arena_release((*m)->backend, &(*m)->arena);
        free((*m)->hash_host);
        free((*m)->net);
        free((*m)->param);
    }
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
        PLUMB_FAIL(PLUMB_ERR_NOMEM, "the folder name %s", dir);
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
    PLUMB_REQUIRE(!m->frozen, PLUMB_ERR_ARG, "%s: a frozen model has no float32 matrices", m->dir);
    if (m->backend->place == PLUMB_HOST)
        return PLUMB_OK;
    const int64_t bytes = m->count * (int64_t)sizeof(float);
    *w = *owned = malloc((size_t)bytes);
    PLUMB_REQUIRE(*w, PLUMB_ERR_NOMEM, "a host copy of the weights of %lld bytes",
                  (long long)bytes);
    const plumb_status st = m->backend->to_host(m->backend, *w, m->w, bytes);
    if (st != PLUMB_OK) {
        free(*owned);
        *owned = NULL;
    }
    return st;
}

static plumb_status hash_base(const plumb_model *m, uint64_t *hash)
{
    struct plumb_backend *b = m->backend;
    const int64_t bytes = plumb_tensor_bytes(&m->hash);
    if (m->frozen) { /* other bits than after loading: another fingerprint */
        uint64_t held = 0;
        PLUMB_TRY(plumb_frozen_hash(m, &held));
        *hash = m->base_fingerprint ^ held ^ m->held_hash;
        return PLUMB_OK;
    }
    PLUMB_TRY(plumb_op_hash_blocks(b, &m->hash, V(m->w, m->count)));
    PLUMB_TRY(b->to_host(b, m->hash_host, m->hash.data, bytes));
    *hash = plumb_hash(m->hash_host, bytes, 0);
    return PLUMB_OK;
}

/* Sets *hash to the fingerprint of a model whose base has the fingerprint `base`. */
static plumb_status hash_with(const plumb_model *m, uint64_t base, uint64_t *hash)
{
    uint64_t adapter = 0;
    *hash = base;
    if (!m->adapter)
        return PLUMB_OK;
    PLUMB_TRY(plumb_lora_hash(m, &adapter));
    *hash = plumb_hash(&adapter, sizeof adapter, base);
    return PLUMB_OK;
}

plumb_status plumb_model_hash(const plumb_model *m, uint64_t *hash)
{
    uint64_t base = 0;
    PLUMB_TRY(hash_base(m, &base));
    return hash_with(m, base, hash);
}

static plumb_status pack_base(const plumb_model *m)
{
    struct plumb_backend *b = m->backend;
    for (int64_t i = 0; i < m->n_param; i++) {
        const struct plumb_param *p = &m->param[i];
        if (p->packed >= 0)
            PLUMB_TRY(plumb_op_linear_pack(b,
                                           V(plumb_real_at(b, m->packed, p->packed),
                                             b->k.linear_packed_count(p->dim[0], p->dim[1])),
                                           V(m->w + p->offset, p->dim[0], p->dim[1])));
    }
    return PLUMB_OK;
}

plumb_status plumb_model_refresh(plumb_model *m)
{
    m->fingerprint = 0;
    if (m->adapter) { /* the base is frozen: its packed form and its fingerprint stay */
        PLUMB_TRY(plumb_lora_pack(m));
        return hash_with(m, m->base_fingerprint, &m->fingerprint);
    }
    m->base_fingerprint = 0;
    PLUMB_TRY(pack_base(m));
    PLUMB_TRY(hash_base(m, &m->base_fingerprint));
    m->fingerprint = m->base_fingerprint;
    return PLUMB_OK;
}

plumb_status plumb_model_copy(plumb_model *to, const plumb_model *from)
{
    struct plumb_backend *b = to->backend;
    const struct plumb_trained x = plumb_model_trained(from), y = plumb_model_trained(to);
    PLUMB_REQUIRE(
        x.count == y.count && from->backend == b && !to->adapter == !from->adapter &&
            (!to->adapter || to->base_fingerprint == from->base_fingerprint),
        PLUMB_ERR_SHAPE,
        "cannot copy weights of %lld floats to a model of %lld floats: expected equal sizes, the "
        "same backend, and an adapter of the same base in both models or in neither",
        (long long)x.count, (long long)y.count);
    PLUMB_TRY(b->copy(b, y.w, x.w, y.count * (int64_t)sizeof(*y.w)));
    return plumb_model_refresh(to);
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
                            struct plumb_spec *s, const char *fresh, uint64_t seed,
                            const struct plumb_frozen *how)
{
    plumb_model *m = NULL;
    plumb_st *files = NULL;
    plumb_status st = PLUMB_OK;
    if (b->dry && !has_weights(dir)) /* a plan needs only the sizes in config.json */
        return build(out, b, dir, s, how);
    PLUMB_TRY(plumb_st_open_dir(&files, dir));
    PLUMB_TRY_GOTO(st, plumb_tie_resolve(s, files, dir), fail);
    PLUMB_TRY_GOTO(st, build(&m, b, dir, s, how), fail);
    if (b->dry) {
        *out = m;
        m = NULL;
        goto fail;
    }
    if (how) {
        PLUMB_TRY_GOTO(st, plumb_frozen_load(m, files, fresh, seed), fail);
    } else {
        PLUMB_TRY_GOTO(st, plumb_params_load(m, files, fresh, seed), fail);
        PLUMB_TRY_GOTO(st, plumb_model_refresh(m), fail);
    }
    *out = m;
    m = NULL;
fail:
    plumb_model_destroy(&m);
    plumb_st_close(&files);
    return st;
}

static plumb_status open_plain(plumb_model **out, struct plumb_backend *b, const char *dir,
                               const struct plumb_frozen *how)
{
    struct plumb_spec s;
    PLUMB_TRY(plumb_spec_read(&s, dir));
    return open_as(out, b, dir, &s, NULL, 0, how);
}

void plumb_model_drop_pad(plumb_model *m)
{
    plumb_log_once(PLUMB_LOG_INFO,
                   "pad_token_id %d of %s is the end token; the classifier is saved with "
                   "pad_token_id null, so that transformers also reads its score at the end token",
                   (int)m->spec.pad, m->dir);
    m->spec.pad = -1;
}

static plumb_status open_classifier(plumb_model **out, struct plumb_backend *b, const char *dir,
                                    int64_t labels, uint64_t seed, const struct plumb_frozen *how)
{
    struct plumb_spec s;
    PLUMB_REQUIRE(labels >= 1 && labels <= 1 << 16, PLUMB_ERR_ARG,
                  "a classifier with %lld labels, expected 1 to 65536", (long long)labels);
    PLUMB_TRY(plumb_spec_read(&s, dir));
    PLUMB_REQUIRE(s.labels == 0 || s.labels == labels, PLUMB_ERR_SHAPE,
                  "%s: the classifier has %lld labels, expected %lld", dir, (long long)s.labels,
                  (long long)labels);
    PLUMB_TRY(plumb_spec_check_classifier(&s, dir));
    const char *fresh = s.labels ? NULL : "score.weight";
    s.labels = labels;
    s.head_scale = 1.0f; /* the score has no scale and no cap */
    s.head_cap = 0.0f;
    PLUMB_TRY(open_as(out, b, dir, &s, fresh, seed, how));
    (*out)->fresh_score = fresh != NULL;
    if (fresh && s.pad >= 0 && plumb_spec_stops_at(&s, s.pad))
        plumb_model_drop_pad(*out);
    return PLUMB_OK;
}

/* Opens the base of an adapter folder as a language model or as a classifier, as the adapter needs,
 * and adds the adapter. labels: the number of scores that the caller asks for; 0 if it takes any
 * model. A classifier's score rows are weights of the adapter, so its base is not frozen. */
static plumb_status open_adapted(plumb_model **out, struct plumb_backend *b, const char *dir,
                                 int64_t labels, const struct plumb_frozen *how)
{
    char base[4096];
    struct plumb_lora lora;
    int64_t has = 0;
    plumb_model *m = NULL;
    PLUMB_TRY(plumb_adapter_base(base, sizeof base, dir));
    PLUMB_TRY(plumb_adapter_describe(&lora, &has, dir));
    PLUMB_REQUIRE(labels == 0 || labels == has, PLUMB_ERR_SHAPE,
                  "%s: the adapter has %lld scores, expected %lld; to train a reward model on this "
                  "adapter's model, merge them first (plumb merge)",
                  dir, (long long)has, (long long)labels);
    PLUMB_REQUIRE(has == 0 || !how || how->mode == PLUMB_FROZEN_RESIDENT, PLUMB_ERR_UNSUPPORTED,
                  "frozen: %s is the adapter of a classifier, which can only be resident; set "
                  "frozen=resident, or merge the adapter first (plumb merge)",
                  dir);
    PLUMB_TRY(has > 0 ? open_classifier(&m, b, base, has, 0, NULL) : open_plain(&m, b, base, how));
    const plumb_status st = plumb_adapter_open(m, dir);
    if (st == PLUMB_OK)
        *out = m;
    else
        plumb_model_destroy(&m);
    return st;
}

plumb_status plumb_model_open(plumb_model **out, struct plumb_backend *b, const char *dir)
{
    return plumb_adapter_in(dir) ? open_adapted(out, b, dir, 0, NULL)
                                 : open_plain(out, b, dir, NULL);
}

plumb_status plumb_model_open_classifier(plumb_model **out, struct plumb_backend *b,
                                         const char *dir, int64_t labels, uint64_t seed)
{
    return plumb_adapter_in(dir) ? open_adapted(out, b, dir, labels, NULL)
                                 : open_classifier(out, b, dir, labels, seed, NULL);
}

plumb_status plumb_model_open_frozen(plumb_model **out, struct plumb_backend *b, const char *dir,
                                     int64_t labels, const struct plumb_frozen *how)
{
    if (plumb_adapter_in(dir))
        return open_adapted(out, b, dir, labels, how);
    return labels > 0 ? open_classifier(out, b, dir, labels, 0, how) : open_plain(out, b, dir, how);
}

plumb_status plumb_model_create(plumb_model **out, struct plumb_backend *b, const char *dir,
                                uint64_t seed)
{
    struct plumb_spec s;
    plumb_model *m = NULL;
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(plumb_spec_read(&s, dir));
    PLUMB_TRY(build(&m, b, dir, &s, NULL));
    if (b->dry) {
        *out = m;
        return PLUMB_OK;
    }
    PLUMB_TRY_GOTO(st, plumb_params_draw(m, seed), fail);
    PLUMB_TRY_GOTO(st, plumb_model_refresh(m), fail);
    *out = m;
    return PLUMB_OK;
fail:
    plumb_model_destroy(&m);
    return st;
}
