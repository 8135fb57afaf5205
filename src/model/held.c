/* held.c - addresses and hash of the weights that a frozen model, or a model whose float32 masters
 * are divided among the ranks, always holds on the device (m->w and m->packed). Layer 4. Includes
 * base/, io/, op/, model/net.h. */
#include <assert.h>

#include "base/num.h"
#include "io/file.h"
#include "model/net.h"

float *plumb_held(const plumb_model *m, int64_t at)
{
    int64_t low = 0, high = m->n_param;
    if (!m->masters)
        return m->w + at;
    while (high - low > 1) { /* the offsets are in ascending order */
        const int64_t mid = (low + high) / 2;
        if (m->param[mid].offset <= at)
            low = mid;
        else
            high = mid;
    }
    assert(m->param[low].offset == at && m->param[low].held >= 0);
    return m->w + m->param[low].held;
}

plumb_status plumb_held_hash(const plumb_model *m, uint64_t *hash)
{
    struct plumb_backend *b = m->backend;
    const int64_t packed = plumb_real_bytes(b, m->n_packed) / (int64_t)sizeof(float);
    const int64_t blocks = plumb_ceil_div(m->n_held, PLUMB_HASH_BLOCK);
    const int64_t more = plumb_ceil_div(packed, PLUMB_HASH_BLOCK);
    struct plumb_tensor first = m->hash, second = m->hash;
    first.dim[0] = blocks;
    second.dim[0] = more;
    second.data = (int64_t *)m->hash.data + blocks;
    float *bits = (float *)(void *)m->packed;
    if (blocks > 0)
        PLUMB_TRY(plumb_op_hash_blocks(b, &first, V(m->w, m->n_held)));
    if (more > 0)
        PLUMB_TRY(plumb_op_hash_blocks(b, &second, V(bits, packed)));
    PLUMB_TRY(b->to_host(b, m->hash_host, m->hash.data, plumb_tensor_bytes(&m->hash)));
    *hash = plumb_hash(m->hash_host, plumb_tensor_bytes(&m->hash), 0);
    return PLUMB_OK;
}

plumb_status plumb_model_replaced(plumb_model *m, uint64_t fingerprint)
{
    m->fingerprint = m->base_fingerprint = fingerprint;
    return plumb_held_hash(m, &m->held_hash);
}
