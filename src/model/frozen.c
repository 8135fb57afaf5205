/* frozen.c - loads models that hold every matrix only once, in the form that the forward reads:
 * frozen models, and models whose float32 masters are divided among the ranks.
 * Layer 4. Includes base/, io/, kernels.h, op/, model/{block_hash,provider}.h.
 *
 * The fingerprint equals that of a model that holds the same weights in float32 (plumb_model_open):
 * the hash of the vector of all float32 weights. It is computed tensor by tensor, because this
 * vector is never in memory as a whole. */
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "io/file.h"
#include "kernels.h"
#include "model/block_hash.h"
#include "model/provider.h"

/* Writes matrix w (rows,cols) to `packed`, both on the host, in the form that the matrix products
 * of backend b read. */
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

/* The arguments and the scratch memory of load(). */
struct loading {
    plumb_param_fn *fn; /* returns the values of a tensor */
    void *arg;
    struct plumb_param *whole; /* (n_param,) offsets in the vector of all float32 weights */
    int64_t count;             /* length of that vector, in floats */
    struct plumb_block_hash *hash;
    float *w;     /* values of one tensor, on the host */
    void *packed; /* its packed form */
};

static plumb_status load_param(plumb_model *m, struct loading *x, int64_t i)
{
    const struct plumb_param *p = &m->param[i];
    struct plumb_backend *b = m->backend;
    PLUMB_TRY(x->fn(x->arg, p, x->w));
    PLUMB_TRY(plumb_block_hash_add(x->hash, x->whole[i].offset, x->w, p->count));
    if (m->masters)
        PLUMB_TRY(m->masters->put(m->masters->arg, p, x->w));
    if (p->held >= 0)
        PLUMB_TRY(b->to_device(b, m->w + p->held, x->w, p->count * (int64_t)sizeof(*x->w)));
    if (p->packed < 0)
        return PLUMB_OK;
    PLUMB_TRY(pack(x->packed, x->w, p, b));
    return plumb_provider_store(m, p->packed, x->packed,
                                b->k.linear_packed_count(p->dim[0], p->dim[1]));
}

static plumb_status load(plumb_model *m, struct loading *x)
{
    struct plumb_backend *b = m->backend;
    int64_t n, packed, most = plumb_model_largest(m), most_packed = 1;
    plumb_status st = PLUMB_OK;
    x->whole = calloc((size_t)m->n_param, sizeof(*x->whole));
    PLUMB_REQUIRE(x->whole, PLUMB_ERR_NOMEM, "%s: %lld tensors", m->dir, (long long)m->n_param);
    PLUMB_TRY_GOTO(
        st,
        plumb_params_layout(x->whole, NULL, &n, &x->count, &packed, &m->spec, b, PLUMB_FORM_WHOLE),
        done);
    for (int64_t i = 0; i < m->n_param; i++) {
        const struct plumb_param *p = &m->param[i];
        if (p->packed >= 0)
            most_packed =
                plumb_max_i64(most_packed, b->k.linear_packed_count(p->dim[0], p->dim[1]));
    }
    x->w = malloc((size_t)most * sizeof(*x->w));
    x->packed = malloc((size_t)plumb_real_bytes(b, most_packed));
    if (!x->w || !x->packed)
        PLUMB_FAIL_GOTO(
            st, PLUMB_ERR_NOMEM, done,
            "%s: cannot allocate host memory to load it; its largest tensor has %lld floats",
            m->dir, (long long)most);
    PLUMB_TRY_GOTO(st, plumb_block_hash_create(&x->hash, x->count), done);
    for (int64_t i = 0; i < m->n_param; i++)
        PLUMB_TRY_GOTO(st, load_param(m, x, i), done);
    PLUMB_TRY_GOTO(st, plumb_block_hash_end(x->hash, &m->base_fingerprint), done);
    m->fingerprint = m->base_fingerprint;
    st = plumb_held_hash(m, &m->held_hash);
done:
    plumb_block_hash_destroy(&x->hash);
    free(x->packed);
    free(x->w);
    free(x->whole);
    return st;
}

plumb_status plumb_held_fill(plumb_model *m, plumb_param_fn *fn, void *arg)
{
    struct loading x = {.fn = fn, .arg = arg};
    return load(m, &x);
}

/* Where the values of the tensors come from: the files, or random numbers drawn from seed. */
struct source {
    const plumb_model *m;
    const struct plumb_st *files; /* NULL: all values are random */
    uint64_t seed;
};

static plumb_status take_or_draw(void *arg, const struct plumb_param *p, float *w)
{
    const struct source *s = arg;
    const struct plumb_st_entry *e = s->files ? plumb_param_entry(s->m, s->files, p) : NULL;
    if (e)
        return plumb_param_take(w, e, p);
    plumb_param_draw(w, s->m, p - s->m->param, s->seed);
    return PLUMB_OK;
}

plumb_status plumb_held_load(plumb_model *m, const plumb_st *files, const char *fresh,
                             uint64_t seed)
{
    struct source s = {.m = m, .files = files, .seed = seed};
    if (files)
        PLUMB_TRY(plumb_params_check(m, files, fresh));
    return plumb_held_fill(m, take_or_draw, &s);
}
