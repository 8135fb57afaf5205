/* provider.c - copies or gathers the matrices of a layer to the device before a pass reads them.
 * Layer 4. Includes model/provider.h, base/. */
#include "model/provider.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"

/* A range of elements: begin .. end - 1. */
struct span {
    int64_t begin, end;
};

/* Returns the range of layer l in the packed weights. */
static struct span layer_at(const plumb_model *m, int64_t l)
{
    const struct plumb_net *net = m->net;
    return (struct span){net->layer[l].packed,
                         l + 1 < m->spec.l ? net->layer[l + 1].packed : net->packed_end};
}

static int64_t layer_size(const plumb_model *m, int64_t l)
{
    const struct span at = layer_at(m, l);
    return at.end - at.begin;
}

static bool is_resident(const struct plumb_frozen *how)
{
    return how->mode == PLUMB_FROZEN_RESIDENT;
}

int64_t plumb_provider_resident(const plumb_model *m, const struct plumb_frozen *how,
                                int64_t packed)
{
    const int64_t layers = m->net->packed_end - m->net->layer[0].packed;
    return is_resident(how) ? packed : packed - layers;
}

/* ---- memory --------------------------------------------------------------------------------- */

/* Returns the number of floats that have as many bytes as `elements` elements. A gather counts in
 * floats, and an element of bfloat16 is half a float. */
static int64_t floats(const plumb_model *m, int64_t elements)
{
    return plumb_real_bytes(m->backend, elements) / (int64_t)sizeof(float);
}

/* Returns this rank's share of layer l, in elements from the beginning of the layer. */
static struct span share_of(const plumb_model *m, const struct plumb_frozen *how, int64_t l)
{
    const int64_t per_float = (int64_t)sizeof(float) / plumb_dtype_size(m->backend->dtype);
    struct span part;
    how->share(how->arg, floats(m, layer_size(m, l)), &part.begin, &part.end);
    return (struct span){part.begin * per_float, part.end * per_float};
}

static plumb_status place(struct plumb_provider *p, const plumb_model *m, int64_t shared)
{
    for (int k = 0; k < 2; k++)
        PLUMB_TRY(
            plumb_backend_take(m->backend, &p->arena, &p->buffer[k], p->most, "layer buffer"));
    if (p->how.mode == PLUMB_FROZEN_SHARDED)
        PLUMB_TRY(plumb_backend_take(m->backend, &p->arena, &p->share, shared, "share of layers"));
    return PLUMB_OK;
}

static plumb_status allocate(struct plumb_provider *p, const plumb_model *m)
{
    struct plumb_backend *b = m->backend;
    int64_t all = 0;
    for (int64_t l = 0; l < p->layers; l++) {
        const struct span mine = p->how.mode == PLUMB_FROZEN_SHARDED
                                     ? share_of(m, &p->how, l)
                                     : (struct span){0, layer_size(m, l)};
        p->begin[l] = all;
        all += mine.end - mine.begin;
        p->most = plumb_max_i64(p->most, layer_size(m, l));
    }
    p->arena = (struct plumb_arena){.place = b->place, .name = "frozen layers"};
    PLUMB_TRY(place(p, m, all));
    PLUMB_TRY(plumb_backend_arena_alloc(b, &p->arena));
    PLUMB_TRY(place(p, m, all));
    /* set to zero, because the gather also sends the gaps between tensors */
    if (p->how.mode == PLUMB_FROZEN_SHARDED)
        return b->zero(b, p->share, plumb_real_bytes(b, all));
    void *host = NULL;
    PLUMB_TRY(b->alloc_host(b, &host, plumb_real_bytes(b, all), "frozen layers"));
    p->host = host;
    if (host) /* NULL on a dry backend, which only counts memory */
        memset(host, 0, (size_t)plumb_real_bytes(b, all));
    return PLUMB_OK;
}

plumb_status plumb_provider_create(plumb_model *m, const struct plumb_frozen *how)
{
    if (is_resident(how))
        return PLUMB_OK;
    struct plumb_provider *p = calloc(1, sizeof(*p));
    PLUMB_REQUIRE(p, PLUMB_ERR_NOMEM, "layers of %s", m->dir);
    m->provider = p;
    *p = (struct plumb_provider){.how = *how, .layers = m->spec.l, .held = {-1, -1}};
    p->begin = calloc((size_t)p->layers, sizeof(*p->begin));
    PLUMB_REQUIRE(p->begin, PLUMB_ERR_NOMEM, "layers of %s", m->dir);
    return allocate(p, m);
}

void plumb_provider_destroy(plumb_model *m)
{
    struct plumb_provider *p = m->provider;
    if (!p)
        return;
    if (p->arena.base)
        plumb_backend_arena_release(m->backend, &p->arena);
    if (p->host)
        m->backend->release_host(m->backend, p->host);
    free(p->begin);
    free(p);
    m->provider = NULL;
}

/* ---- loading -------------------------------------------------------------------------------- */

static plumb_real *element(const plumb_model *m, plumb_real *x, int64_t i)
{
    return plumb_real_at(m->backend, x, i);
}

/* Stores elements [at, at + n) of the packed weights, which lie in layer l; if m is sharded, only
 * those in this rank's share of the layer. */
static plumb_status store_in_layer(plumb_model *m, int64_t l, int64_t at, const void *packed,
                                   int64_t n)
{
    struct plumb_provider *p = m->provider;
    struct plumb_backend *b = m->backend;
    at -= layer_at(m, l).begin;
    if (p->how.mode == PLUMB_FROZEN_OFFLOAD) {
        memcpy(element(m, p->host, p->begin[l] + at), packed, (size_t)plumb_real_bytes(b, n));
        return PLUMB_OK;
    }
    const struct span mine = share_of(m, &p->how, l);
    const int64_t from = plumb_max_i64(at, mine.begin), to = plumb_min_i64(at + n, mine.end);
    const char *bytes = packed;
    if (from >= to)
        return PLUMB_OK;
    return b->to_device(b, element(m, p->share, p->begin[l] + from - mine.begin),
                        bytes + plumb_real_bytes(b, from - at), plumb_real_bytes(b, to - from));
}

plumb_status plumb_provider_store(plumb_model *m, int64_t at, const void *packed, int64_t n)
{
    const struct plumb_net *net = m->net;
    const int64_t layers = net->packed_end - net->layer[0].packed;
    struct plumb_backend *b = m->backend;
    int64_t l = 0;
    if (m->provider && at >= net->layer[0].packed && at < net->packed_end) {
        while (l + 1 < m->spec.l && at >= net->layer[l + 1].packed)
            l++;
        return store_in_layer(m, l, at, packed, n);
    }
    if (m->provider && at >= net->packed_end)
        at -= layers; /* m->packed has no layers, which would be before the head */
    return b->to_device(b, element(m, m->packed, at), packed, plumb_real_bytes(b, n));
}

/* ---- passes --------------------------------------------------------------------------------- */

/* Starts to copy (offload) or to gather (sharded) layer l to buffer l mod 2. */
static plumb_status bring(const plumb_model *m, int64_t l)
{
    struct plumb_provider *p = m->provider;
    struct plumb_backend *b = m->backend;
    const int64_t n = layer_size(m, l);
    plumb_real *to = p->buffer[l % 2];
    p->held[l % 2] = -1;
    if (p->how.mode == PLUMB_FROZEN_OFFLOAD) {
        PLUMB_TRY(b->fetch(b, to, element(m, p->host, p->begin[l]), plumb_real_bytes(b, n)));
    } else {
        const struct span mine = share_of(m, &p->how, l);
        p->next = l + 1;
        PLUMB_TRY(b->copy(b, element(m, to, mine.begin), element(m, p->share, p->begin[l]),
                          plumb_real_bytes(b, mine.end - mine.begin)));
        PLUMB_TRY(p->how.gather(p->how.arg, (float *)(void *)to, floats(m, n)));
    }
    p->held[l % 2] = l;
    return PLUMB_OK;
}

plumb_status plumb_provider_want(const plumb_model *m, int64_t l)
{
    struct plumb_provider *p = m->provider;
    struct plumb_backend *b = m->backend;
    if (!p)
        return PLUMB_OK;
    /* If sharded, every pass gathers each layer once, even if a buffer still holds the layer,
     * because a gather is collective. If offloaded, a layer is copied only if no buffer holds
     * it. */
    if (p->how.mode == PLUMB_FROZEN_SHARDED ? p->next <= l : p->held[l % 2] != l)
        PLUMB_TRY(bring(m, l));
    PLUMB_TRY(p->how.mode == PLUMB_FROZEN_OFFLOAD ? b->fetched(b) : p->how.gathered(p->how.arg));
    if (l + 1 < p->layers &&
        (p->how.mode == PLUMB_FROZEN_SHARDED ? p->next == l + 1 : p->held[(l + 1) % 2] != l + 1))
        return bring(m, l + 1);
    return PLUMB_OK;
}

plumb_status plumb_provider_finish(const plumb_model *m)
{
    struct plumb_provider *p = m->provider;
    if (!p || p->how.mode != PLUMB_FROZEN_SHARDED)
        return PLUMB_OK;
    plumb_status st = p->how.gathered(p->how.arg);
    while (p->next < p->layers && st == PLUMB_OK) {
        st = bring(m, p->next);
        if (st == PLUMB_OK)
            st = p->how.gathered(p->how.arg);
    }
    p->next = 0;
    return st;
}

struct plumb_weights plumb_weights_of_layer(const plumb_model *m, int64_t l)
{
    const struct plumb_provider *p = m->provider;
    if (!p)
        return (struct plumb_weights){m->w, m->packed, 0};
    return (struct plumb_weights){m->w, p->buffer[l % 2], layer_at(m, l).begin};
}

struct plumb_weights plumb_weights_of_head(const plumb_model *m)
{
    const struct plumb_linear *head = &m->net->head;
    const bool after = m->provider && head->packed >= m->net->packed_end;
    return (struct plumb_weights){m->w, m->packed,
                                  after ? m->net->packed_end - m->net->layer[0].packed : 0};
}

bool plumb_model_gathers(const plumb_model *m)
{
    return m->provider && m->provider->how.mode == PLUMB_FROZEN_SHARDED;
}

plumb_status plumb_model_follow(const plumb_model *m)
{
    return plumb_provider_finish(m);
}
