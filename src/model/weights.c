/* weights.c - the weights of a model in memory: their copy on the host, their packed form, their
 * fingerprint, and copies from model to model.
 * Layer 4. Includes base/, io/, op/, model/lora.h. */
#include <assert.h>
#include <stdlib.h>

#include "base/num.h"
#include "io/file.h"
#include "model/lora.h"

plumb_status plumb_model_host_weights(const plumb_model *m, float **w, float **owned)
{
    *owned = NULL;
    *w = m->w;
    PLUMB_REQUIRE(!m->frozen && !m->masters, PLUMB_ERR_ARG,
                  "%s: this model has no float32 matrices", m->dir);
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

/* ---- fingerprints --------------------------------------------------------------------------- */

static plumb_status hash_base(const plumb_model *m, uint64_t *hash)
{
    struct plumb_backend *b = m->backend;
    const int64_t bytes = plumb_tensor_bytes(&m->hash);
    if (m->frozen || m->masters) { /* *hash != base_fingerprint if w or packed has changed */
        uint64_t held = 0;
        PLUMB_TRY(plumb_held_hash(m, &held));
        *hash = m->base_fingerprint ^ held ^ m->held_hash;
        return PLUMB_OK;
    }
    PLUMB_TRY(plumb_op_hash_blocks(b, &m->hash, V(m->w, m->count)));
    PLUMB_TRY(b->to_host(b, m->hash_host, m->hash.data, bytes));
    *hash = plumb_hash(m->hash_host, bytes, 0);
    return PLUMB_OK;
}

/* Sets *hash to the fingerprint of m, whose base has the fingerprint `base`: without an adapter it
 * is `base` itself, with an adapter a hash of `base` and of the adapter's weights. */
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

/* ---- after a change of the weights ---------------------------------------------------------- */

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
    assert(!m->masters);
    m->fingerprint = 0;
    if (m->adapter) { /* the base is frozen, so its packed form and its fingerprint do not change */
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
            !to->masters == !from->masters &&
            (!to->adapter || to->base_fingerprint == from->base_fingerprint),
        PLUMB_ERR_SHAPE,
        "cannot copy weights of %lld floats to a model of %lld floats: expected equal sizes, the "
        "same backend, and an adapter of the same base in both models or in neither",
        (long long)x.count, (long long)y.count);
    if (to->masters) {
        PLUMB_TRY(b->copy(b, to->packed, from->packed, plumb_real_bytes(b, to->n_packed)));
        PLUMB_TRY(b->copy(b, to->w, from->w, to->n_held * (int64_t)sizeof(*to->w)));
        return plumb_model_replaced(to, from->fingerprint);
    }
    PLUMB_TRY(b->copy(b, y.w, x.w, y.count * (int64_t)sizeof(*y.w)));
    return plumb_model_refresh(to);
}
