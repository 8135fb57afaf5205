/* build.c - allocates a model for the sizes in config.json, and frees it.
 * Layer 4. Includes base/, backend/, model/lora.h, model/provider.h. */
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "model/lora.h"
#include "model/provider.h"

static plumb_status place(plumb_model *m)
{
    const bool half = m->frozen || m->masters;
    const int64_t held = half ? plumb_real_bytes(m->backend, m->n_packed) / 4 : 0;
    PLUMB_TRY(plumb_arena_take_f32(&m->arena, &m->w, m->n_held, "weights"));
    PLUMB_TRY(plumb_backend_take(m->backend, &m->arena, &m->packed, m->n_packed, "packed weights"));
    PLUMB_TRY(plumb_arena_take_f32(&m->arena, &m->rope, plumb_rope_at(&m->spec, m->spec.n_rope),
                                   "rotation table"));
    m->hash.dtype = PLUMB_I64;
    m->hash.rank = 1;
    m->hash.dim[0] =
        plumb_ceil_div(m->n_held, PLUMB_HASH_BLOCK) + plumb_ceil_div(held, PLUMB_HASH_BLOCK);
    m->hash.name = "hashes";
    PLUMB_TRY(plumb_arena_take(&m->arena, &m->hash));
    return PLUMB_OK;
}

plumb_status plumb_model_build(plumb_model **out, struct plumb_backend *b, const char *dir,
                               const struct plumb_spec *s, const struct plumb_opening *o)
{
    int64_t n, count, packed;
    plumb_status st = PLUMB_OK;
    const bool frozen = o->how != NULL;
    const enum plumb_form form = frozen       ? PLUMB_FORM_FROZEN
                                 : o->masters ? PLUMB_FORM_DIVIDED
                                              : PLUMB_FORM_WHOLE;
    PLUMB_TRY(plumb_params_layout(NULL, NULL, &n, &count, &packed, s, b, form));
    plumb_model *m = calloc(1, sizeof *m);
    PLUMB_REQUIRE(m, PLUMB_ERR_NOMEM, "a model");
    m->spec = *s;
    m->backend = b;
    m->longest = s->max_pos;
    m->frozen = frozen;
    m->masters = o->masters;
    m->arena = (struct plumb_arena){.place = b->place, .name = "param"};
    m->dir = strdup(dir);
    m->tokenizer_dir = strdup(dir);
    m->param = calloc((size_t)n, sizeof *m->param);
    m->net = calloc(1, sizeof *m->net + (size_t)s->l * sizeof *m->net->layer);
    if (!m->dir || !m->tokenizer_dir || !m->param || !m->net)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "a model of %lld tensors", (long long)n);
    PLUMB_TRY_GOTO(
        st, plumb_params_layout(m->param, m->net, &m->n_param, &m->count, &packed, s, b, form),
        fail);
    m->n_held = m->net->held;
    m->n_packed = frozen ? plumb_provider_resident(m, o->how, packed) : packed;
    PLUMB_TRY_GOTO(st, place(m), fail);
    PLUMB_TRY_GOTO(st, plumb_backend_arena_alloc(b, &m->arena), fail);
    PLUMB_TRY_GOTO(st, place(m), fail);
    if (frozen)
        PLUMB_TRY_GOTO(st, plumb_provider_create(m, o->how), fail);
    if (o->masters)
        PLUMB_TRY_GOTO(st, o->masters->open(o->masters->arg, m), fail);
    if (form != PLUMB_FORM_WHOLE)
        PLUMB_TRY_GOTO(st, b->zero(b, m->packed, plumb_real_bytes(b, m->n_packed)), fail);
    m->hash_host = malloc((size_t)plumb_tensor_bytes(&m->hash));
    if (!m->hash_host)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "the hashes of a model");
    PLUMB_TRY_GOTO(st, b->zero(b, m->w, m->n_held * (int64_t)sizeof(float)), fail);
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
