/* generator.c - allocates and frees the memory of a generator.
 * Layer 4. Includes base/, model/generate.h, model/generator.h. */
#include "model/generator.h"

#include <assert.h>
#include <stdlib.h>

#include "base/num.h"
#include "model/generate.h"

#define MAX_BLOCK 128 /* largest number of rows of logits that exist at a time */

static plumb_status take_step(struct plumb_generator *g)
{
    struct plumb_tensor read = {.dtype = PLUMB_U8, .rank = 1, .name = "rows of prompts"};
    struct plumb_tensor t = {.dtype = PLUMB_U8, .rank = 1, .name = "rows and draws of a step"};
    plumb_step_place(&g->dev, g, NULL);
    t.dim[0] = g->dev.bytes;
    PLUMB_TRY(plumb_arena_take(&g->arena, &t));
    plumb_step_place(&g->dev, g, t.data);
    plumb_prefill_place(&g->read_dev, g, NULL);
    read.dim[0] = g->read_dev.bytes;
    PLUMB_TRY(plumb_arena_take(&g->arena, &read));
    plumb_prefill_place(&g->read_dev, g, read.data);
    return PLUMB_OK;
}

/* Places the generator's device memory in its arena. Runs twice: first it only counts the size. */
static plumb_status place(plumb_generator *g)
{
    const struct plumb_spec *s = &g->spec;
    struct plumb_arena *a = &g->arena;
    PLUMB_TRY(take_step(g));
    PLUMB_TRY(plumb_backend_take(g->backend, a, &g->x, (g->max_rows + g->groups) * s->c, "hidden"));
    PLUMB_TRY(plumb_act_take(&g->act[0], a, g->backend, s, g->max_rows));
    for (int64_t l = 0; l < s->l; l++) {
        if (l > 0)
            g->act[l] = g->act[0];
        g->act[l].x = g->x;
        PLUMB_TRY(plumb_act_take_pages(&g->act[l], a, g->backend, s, g->kv.n + 1));
    }
    /* The key pages of layer 0, its value pages, the key pages of layer 1 and so on lie one after
     * another in the arena, all of one size, so `plane` is the distance between any two neighbours.
     */
    const int64_t size = plumb_dtype_size(g->backend->dtype);
    g->plane = ((char *)g->act[0].vc - (char *)g->act[0].kc) / size;
    for (int64_t l = 0; l < s->l; l++)
        assert((char *)g->act[l].kc - (char *)g->act[0].kc == 2 * l * g->plane * size);
    PLUMB_TRY(plumb_backend_take(g->backend, a, &g->hx, g->block * s->c, "head input"));
    PLUMB_TRY(plumb_backend_take(g->backend, a, &g->hn, g->block * s->c, "head norm"));
    PLUMB_TRY(plumb_arena_take_f32(a, &g->hrstd, g->block * plumb_norm_saved(s), "head rstd"));
    PLUMB_TRY(plumb_arena_take_f32(a, &g->logits, g->block * s->v, "logits"));
    PLUMB_TRY(plumb_arena_take_f32(a, &g->work, g->work_count, "sampling work"));
    if (g->seen_words == 0)
        return PLUMB_OK;
    PLUMB_TRY(plumb_arena_take_f32(a, &g->penalised, g->block * s->v, "penalised logits"));
    return plumb_arena_take_f32(a, &g->lse, g->block, "log-sum-exp");
}

static plumb_status place_host(plumb_generator *g)
{
    const size_t n = (size_t)g->slots;
    void *block = NULL;
    g->slot = calloc(n, sizeof *g->slot);
    g->group = calloc((size_t)g->groups, sizeof *g->group);
    g->prefill = calloc((size_t)g->groups, sizeof *g->prefill);
    g->act = calloc((size_t)g->spec.l, sizeof *g->act);
    g->drawer = calloc(n, sizeof *g->drawer);
    bool all = g->slot && g->group && g->prefill && g->act && g->drawer;
    for (int64_t i = 0; all && i < g->slots; i++) {
        struct plumb_slot *s = &g->slot[i];
        s->ids = calloc((size_t)g->limit, sizeof *s->ids);
        s->logp = calloc((size_t)g->limit, sizeof *s->logp);
        s->logp_sampled = calloc((size_t)g->limit, sizeof *s->logp_sampled);
        s->seen = calloc((size_t)g->seen_words + 1, sizeof *s->seen);
        all = s->ids && s->logp && s->logp_sampled && s->seen;
    }
    PLUMB_REQUIRE(all, PLUMB_ERR_NOMEM, "the host arrays of a generator of %lld slots",
                  (long long)g->slots);
    plumb_step_place(&g->host, g, NULL);
    PLUMB_TRY(g->backend->alloc_host(g->backend, &block, g->host.bytes, "a step of generation"));
    plumb_step_place(&g->host, g, block);
    plumb_prefill_place(&g->read_host, g, NULL);
    PLUMB_TRY(g->backend->alloc_host(g->backend, &block, g->read_host.bytes, "rows of prompts"));
    plumb_prefill_place(&g->read_host, g, block);
    return PLUMB_OK;
}

plumb_status plumb_generator_create(plumb_generator **out, const plumb_model *m,
                                    const struct plumb_generator_need *need)
{
    plumb_status st = PLUMB_OK;
    struct plumb_backend *b = m->backend;
    const int64_t slots = need->slots, max_tokens = need->max_tokens;
    PLUMB_REQUIRE(m->spec.labels == 0, PLUMB_ERR_ARG, "a %s cannot generate text",
                  plumb_spec_architecture(&m->spec));
    PLUMB_REQUIRE(
        slots >= 1 && slots <= 1 << 20 && max_tokens >= 2, PLUMB_ERR_ARG,
        "a generator of %lld slots of %lld tokens: expected 1 to 1048576 slots and at least 2 "
        "tokens",
        (long long)slots, (long long)max_tokens);
    plumb_generator *g = calloc(1, sizeof *g);
    PLUMB_REQUIRE(g, PLUMB_ERR_NOMEM, "a generator");
    g->backend = b;
    g->spec = m->spec;
    g->tokenizer = need->tokenizer;
    g->slots = slots;
    /* One more group than slots: in the worst case every slot waits for the prompt of a different
     * group. At most one further group is in use: the one that still has samples in the queue. */
    g->groups = slots + 1;
    g->sequences = g->slots + g->groups + 1;
    g->limit = plumb_min_i64(max_tokens, m->spec.max_pos);
    g->max_pages = plumb_ceil_div(g->limit, PLUMB_KV_PAGE);
    g->apart = b->place == PLUMB_DEVICE;
    g->max_rows =
        g->apart ? plumb_max_i64(slots, plumb_min_i64(PLUMB_PREFILL_ROWS_APART, slots * g->limit))
                 : slots + plumb_min_i64(PLUMB_PREFILL_ROWS, slots * g->limit);
    g->step_rows = g->apart ? slots : g->max_rows;
    g->block = plumb_min_i64(slots, MAX_BLOCK);
    g->seen_words = need->penalty ? plumb_ceil_div(m->spec.v, 32) : 0;
    g->work_count = b->k.sample_work_count(g->block, m->spec.v, b->threads);
    g->arena = (struct plumb_arena){.place = b->place, .name = "kv"};
    /* Each slot may need max_pages pages. A group whose samples have no slot yet may also need
     * max_pages pages, for its prompt; there is at most one such group at a time. */
    PLUMB_TRY_GOTO(st, plumb_kv_init(&g->kv, (slots + 1) * g->max_pages), fail);
    PLUMB_TRY_GOTO(st, place_host(g), fail);
    PLUMB_TRY_GOTO(st, place(g), fail);
    PLUMB_TRY_GOTO(st, plumb_backend_arena_alloc(b, &g->arena), fail);
    PLUMB_TRY_GOTO(st, place(g), fail);
    *out = g;
    return PLUMB_OK;
fail:
    plumb_generator_destroy(&g);
    return st;
}

void plumb_generator_destroy(plumb_generator **generator)
{
    if (!generator || !*generator)
        return;
    plumb_generator *g = *generator;
    plumb_decode_forget(g);
    plumb_backend_arena_release(g->backend, &g->arena);
    g->backend->release_host(g->backend, g->host.u);
    g->backend->release_host(g->backend, g->read_host.last);
    for (int64_t i = 0; g->slot && i < g->slots; i++) {
        free(g->slot[i].ids);
        free(g->slot[i].logp);
        free(g->slot[i].logp_sampled);
        free(g->slot[i].seen);
    }
    free(g->slot);
    free(g->group);
    free(g->prefill);
    free(g->act);
    free(g->drawer);
    plumb_buf_fini(&g->text);
    plumb_buf_fini(&g->before);
    plumb_ids_fini(&g->tail);
    plumb_kv_fini(&g->kv);
    free(g);
    *generator = NULL;
}

int64_t plumb_generator_bytes(const plumb_generator *g)
{
    return g->arena.cap;
}
