/* frozen.c - opens a model that no run changes: it holds every matrix once, as a forward reads it.
 * Layer 4. Includes base/, io/, kernels.h, op/, model/provider.h.
 *
 * The fingerprint is that of the same weights in a model that is trained: the hash of the float32
 * vector, which is read tensor by tensor and exists nowhere as a whole. */
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "io/file.h"
#include "kernels.h"
#include "model/provider.h"

/* Hashes the blocks of a flat vector whose tensors come one after the other. */
struct hasher {
    float block[PLUMB_HASH_BLOCK];
    int64_t at;    /* floats so far */
    uint64_t *out; /* one hash per block */
};

static plumb_status hash_add(struct hasher *h, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n;) {
        const int64_t in = h->at % PLUMB_HASH_BLOCK;
        const int64_t k = plumb_min_i64(n - i, PLUMB_HASH_BLOCK - in);
        if (x)
            memcpy(h->block + in, x + i, (size_t)k * sizeof(*x));
        else
            memset(h->block + in, 0, (size_t)k * sizeof(*x));
        i += k;
        h->at += k;
        if (h->at % PLUMB_HASH_BLOCK == 0)
            PLUMB_TRY(plumb_ref_hash_blocks(NULL, &h->out[h->at / PLUMB_HASH_BLOCK - 1], h->block,
                                            PLUMB_HASH_BLOCK));
    }
    return PLUMB_OK;
}

/* Sets *hash to the fingerprint when the vector is complete; its length is `count`. */
static plumb_status hash_end(struct hasher *h, int64_t count, uint64_t *hash)
{
    PLUMB_TRY(hash_add(h, NULL, count - h->at));
    *hash = plumb_hash(h->out, count / PLUMB_HASH_BLOCK * (int64_t)sizeof(*h->out), 0);
    return PLUMB_OK;
}

/* Sets packed, on the host, to the form of w (rows,cols) that the products of b read. */
static plumb_status pack(void *packed, const float *w, const struct plumb_param *p,
                         struct plumb_backend *b)
{
    uint16_t *narrow = packed;
    if (b->place == PLUMB_HOST)
        return b->k.linear_pack(b->stream, packed, w, p->dim[0], p->dim[1]);
    if (b->dtype == PLUMB_F32)
        memcpy(packed, w, (size_t)p->count * sizeof(*w));
    else
        for (int64_t i = 0; i < p->count; i++)
            narrow[i] = plumb_to_bf16(w[i]);
    return PLUMB_OK;
}

/* What loading needs besides the model. */
struct loading {
    const struct plumb_st *files;
    const char *fresh;
    uint64_t seed;
    struct plumb_param *whole; /* (n_param,) the tensors' places in the float32 vector */
    int64_t count;             /* its length */
    struct hasher *hash;
    float *w;     /* one tensor, on the host */
    void *packed; /* its packed form */
};

static plumb_status load_param(plumb_model *m, struct loading *x, int64_t i)
{
    const struct plumb_param *p = &m->param[i];
    struct plumb_backend *b = m->backend;
    const struct plumb_st_entry *e = plumb_param_entry(m, x->files, p);
    if (e)
        PLUMB_TRY(plumb_param_take(x->w, e, p));
    else
        plumb_param_draw(x->w, m, i, x->seed);
    PLUMB_TRY(hash_add(x->hash, NULL, x->whole[i].offset - x->hash->at));
    PLUMB_TRY(hash_add(x->hash, x->w, p->count));
    if (p->offset >= 0)
        PLUMB_TRY(b->to_device(b, m->w + p->offset, x->w, p->count * (int64_t)sizeof(*x->w)));
    if (p->packed < 0)
        return PLUMB_OK;
    PLUMB_TRY(pack(x->packed, x->w, p, b));
    return plumb_provider_store(m, p->packed, x->packed,
                                b->k.linear_packed_count(p->dim[0], p->dim[1]));
}

static plumb_status load(plumb_model *m, struct loading *x)
{
    struct plumb_backend *b = m->backend;
    int64_t n, packed, most = 1, most_packed = 1;
    plumb_status st = PLUMB_OK;
    x->whole = calloc((size_t)m->n_param, sizeof(*x->whole));
    PLUMB_REQUIRE(x->whole, PLUMB_ERR_NOMEM, "%s: %lld tensors", m->dir, (long long)m->n_param);
    PLUMB_TRY_GOTO(
        st, plumb_params_layout(x->whole, NULL, &n, &x->count, &packed, &m->spec, b, false), done);
    for (int64_t i = 0; i < m->n_param; i++) {
        const struct plumb_param *p = &m->param[i];
        most = plumb_max_i64(most, p->count);
        if (p->packed >= 0)
            most_packed =
                plumb_max_i64(most_packed, b->k.linear_packed_count(p->dim[0], p->dim[1]));
    }
    x->w = malloc((size_t)most * sizeof(*x->w));
    x->packed = malloc((size_t)plumb_real_bytes(b, most_packed));
    x->hash = calloc(1, sizeof(*x->hash));
    uint64_t *hashes = calloc((size_t)(x->count / PLUMB_HASH_BLOCK), sizeof(*hashes));
    if (!x->w || !x->packed || !x->hash || !hashes)
        PLUMB_FAIL_GOTO(
            st, PLUMB_ERR_NOMEM, fail,
            "%s: cannot allocate host memory to load it; its largest tensor has %lld floats",
            m->dir, (long long)most);
    x->hash->out = hashes;
    for (int64_t i = 0; i < m->n_param; i++)
        PLUMB_TRY_GOTO(st, load_param(m, x, i), fail);
    st = hash_end(x->hash, x->count, &m->base_fingerprint);
    m->fingerprint = m->base_fingerprint;
fail:
    free(hashes);
    free(x->hash);
    free(x->packed);
    free(x->w);
done:
    free(x->whole);
    return st;
}

plumb_status plumb_frozen_load(plumb_model *m, const plumb_st *files, const char *fresh,
                               uint64_t seed)
{
    struct loading x = {.files = files, .fresh = fresh, .seed = seed};
    PLUMB_TRY(plumb_params_check(m, files, fresh));
    PLUMB_TRY(load(m, &x));
    return plumb_frozen_hash(m, &m->held_hash);
}
