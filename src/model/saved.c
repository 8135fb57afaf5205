/* saved.c - the weights as files have them: their dtype, their fingerprint, and tensor by tensor in
 * host memory.
 * Layer 4. Includes base/, io/, kernels.h, model/net.h. */
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "io/file.h"
#include "io/safetensors.h"
#include "kernels.h"
#include "model/net.h"

plumb_status plumb_model_saved_hash(const plumb_model *m, uint64_t *hash)
{
    float *w, *owned, block[PLUMB_HASH_BLOCK];
    if (m->saved_as == PLUMB_F32) {
        *hash = m->fingerprint;
        return PLUMB_OK;
    }
    const int64_t blocks = plumb_tensor_count(&m->hash);
    PLUMB_TRY(plumb_model_host_weights(m, &w, &owned));
    plumb_status st = PLUMB_OK;
    uint64_t *all = malloc((size_t)blocks * sizeof(*all));
    if (!all)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "the hashes of %lld blocks", (long long)blocks);
    for (int64_t i = 0, at = 0; i < blocks; i++, at += PLUMB_HASH_BLOCK) {
        const int64_t n = plumb_min_i64(PLUMB_HASH_BLOCK, m->count - at);
        for (int64_t j = 0; j < n; j++)
            block[j] = plumb_from_bf16(plumb_to_bf16(w[at + j]));
        PLUMB_TRY_GOTO(st, plumb_ref_hash_blocks(NULL, &all[i], block, n), fail);
    }
    *hash = plumb_hash(all, blocks * (int64_t)sizeof(*all), 0);
fail:
    free(all);
    free(owned);
    return st;
}

plumb_status plumb_model_dtype_in(enum plumb_dtype *out, const char *dir)
{
    int64_t values[PLUMB_U8 + 1] = {0};
    plumb_st *files = NULL;
    PLUMB_TRY(plumb_st_open_dir(&files, dir));
    *out = PLUMB_F32;
    for (int64_t i = 0; i < plumb_st_count(files); i++) {
        const struct plumb_st_entry *e = plumb_st_at(files, i);
        if (e->other)
            continue;
        values[e->dtype] += e->count;
        *out = values[e->dtype] > values[*out] ? e->dtype : *out;
    }
    plumb_st_close(&files);
    return PLUMB_OK;
}

plumb_status plumb_model_each(const plumb_model *m, plumb_param_fn *fn, void *arg)
{
    float *w, *owned;
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(plumb_model_host_weights(m, &w, &owned));
    for (int64_t i = 0; i < m->n_param && st == PLUMB_OK; i++)
        st = fn(arg, &m->param[i], w + m->param[i].offset);
    free(owned);
    return st;
}

plumb_status plumb_model_fill(plumb_model *m, plumb_param_fn *fn, void *arg)
{
    struct plumb_backend *b = m->backend;
    float *w, *owned;
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(plumb_model_host_weights(m, &w, &owned));
    for (int64_t i = 0; i < m->n_param && st == PLUMB_OK; i++)
        st = fn(arg, &m->param[i], w + m->param[i].offset);
    if (st == PLUMB_OK && owned)
        st = b->to_device(b, m->w, owned, m->count * (int64_t)sizeof(*owned));
    free(owned);
    return st == PLUMB_OK ? plumb_model_refresh(m) : st;
}
