/* saved.c - the tensors of checkpoint files: their layout, dtype and fingerprint; also calls a
 * function for each parameter in host memory.
 * Layer 4. Includes base/, io/, model/{block_hash,net}.h. */
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "io/safetensors.h"
#include "model/block_hash.h"
#include "model/net.h"

plumb_status plumb_param_read(const plumb_model *m, const struct plumb_param *p, float *copy,
                              const float **w)
{
    PLUMB_REQUIRE(!m->frozen, PLUMB_ERR_ARG,
                  "%s: the model was loaded frozen, without the float32 matrices needed here",
                  m->dir);
    *w = copy;
    if (m->masters)
        return m->masters->get(m->masters->arg, p, copy);
    *w = m->w + p->offset;
    if (m->backend->place == PLUMB_HOST)
        return PLUMB_OK;
    *w = copy;
    return m->backend->to_host(m->backend, copy, m->w + p->offset,
                               p->count * (int64_t)sizeof(*copy));
}

/* Allocates host memory for the largest tensor of m. The callers do not use it if the weights are
 * in host memory. */
static plumb_status take_copy(float **out, const plumb_model *m)
{
    const int64_t most = plumb_model_largest(m);
    *out = malloc((size_t)most * sizeof(**out));
    PLUMB_REQUIRE(*out, PLUMB_ERR_NOMEM, "a host copy of a tensor of %lld floats", (long long)most);
    return PLUMB_OK;
}

/* Adds the values of a tensor, rounded to bfloat16, to a hash. copy: host memory for one tensor. */
static plumb_status hash_rounded(struct plumb_block_hash *hash, const plumb_model *m,
                                 const struct plumb_param *p, float *copy)
{
    const float *w;
    PLUMB_TRY(plumb_param_read(m, p, copy, &w));
    for (int64_t i = 0; i < p->count; i++)
        copy[i] = plumb_from_bf16(plumb_to_bf16(w[i]));
    return plumb_block_hash_add(hash, p->offset, copy, p->count);
}

plumb_status plumb_model_saved_hash(const plumb_model *m, uint64_t *hash)
{
    float *copy = NULL;
    struct plumb_block_hash *blocks = NULL;
    plumb_status st = PLUMB_OK;
    if (m->saved_as == PLUMB_F32) {
        *hash = m->fingerprint;
        return PLUMB_OK;
    }
    PLUMB_TRY(take_copy(&copy, m));
    PLUMB_TRY_GOTO(st, plumb_block_hash_create(&blocks, m->count), done);
    for (int64_t i = 0; i < m->n_param; i++)
        PLUMB_TRY_GOTO(st, hash_rounded(blocks, m, &m->param[i], copy), done);
    st = plumb_block_hash_end(blocks, hash);
done:
    plumb_block_hash_destroy(&blocks);
    free(copy);
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

/* ---- tensors of the files ------------------------------------------------------------------- */

bool plumb_param_is_whole(const struct plumb_param *p)
{
    return p->dim[0] == p->file_rows && !p->turned && !p->paired;
}

void plumb_param_give(float *tensor, const float *w, const struct plumb_param *p)
{
    const int64_t width = p->count / p->dim[0];
    for (int64_t r = 0; r < p->dim[0]; r++) {
        const int64_t at = plumb_param_file_row(p, r);
        for (int64_t i = 0; i < width; i++)
            tensor[p->turned ? i * p->file_rows + at : at * width + i] = w[r * width + i];
    }
}

void plumb_param_describe(struct plumb_st_entry *e, const struct plumb_param *p)
{
    const int64_t count = plumb_param_file_count(p);
    *e = (struct plumb_st_entry){.name = p->file,
                                 .dtype = PLUMB_F32,
                                 .rank = p->rank,
                                 .dim = {p->file_rows, p->dim[1]},
                                 .bytes = count * (int64_t)sizeof(float),
                                 .count = count};
    if (p->turned) {
        e->dim[0] = p->dim[1];
        e->dim[1] = p->file_rows;
    }
}

/* Makes the entry of a file tensor. Parameter i holds its first row; later parameters may hold its
 * other rows. If the tensor is parameter i alone in the same layout, the data of the entry are in w
 * and *built stays NULL. Otherwise the data are collected in *built, which the caller frees. */
static plumb_status make_entry(struct plumb_st_entry *e, float **built,
                               const struct plumb_param *param, int64_t n_param, const float *w,
                               int64_t i)
{
    const struct plumb_param *p = &param[i];
    plumb_param_describe(e, p);
    e->data = w + p->offset;
    if (plumb_param_is_whole(p))
        return PLUMB_OK;
    float *all = *built = malloc((size_t)e->bytes);
    PLUMB_REQUIRE(all, PLUMB_ERR_NOMEM, "tensor %s of %lld bytes", p->file, (long long)e->bytes);
    for (int64_t k = i; k < n_param && k < i + PLUMB_FILE_NEAR; k++)
        if (!strcmp(param[k].file, p->file))
            plumb_param_give(all, w + param[k].offset, &param[k]);
    e->data = all;
    return PLUMB_OK;
}

plumb_status plumb_file_tensors_make(struct plumb_file_tensors *t, const struct plumb_param *param,
                                     int64_t n_param, const float *w)
{
    plumb_status st = PLUMB_OK;
    *t = (struct plumb_file_tensors){.entry = calloc((size_t)n_param, sizeof *t->entry),
                                     .built = calloc((size_t)n_param, sizeof *t->built)};
    if (!t->entry || !t->built)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "a list of %lld tensors", (long long)n_param);
    for (int64_t i = 0; i < n_param; i++)
        if (param[i].file_row == 0) {
            PLUMB_TRY_GOTO(st, make_entry(&t->entry[t->n], &t->built[t->n], param, n_param, w, i),
                           fail);
            t->n++;
        }
    return PLUMB_OK;
fail:
    plumb_file_tensors_fini(t);
    return st;
}

void plumb_file_tensors_fini(struct plumb_file_tensors *t)
{
    for (int64_t i = 0; i < t->n; i++)
        free(t->built[i]);
    free(t->built);
    free(t->entry);
    *t = (struct plumb_file_tensors){0};
}

/* ---- parameters in host memory -------------------------------------------------------------- */

plumb_status plumb_model_each(const plumb_model *m, plumb_param_fn *fn, void *arg)
{
    float *copy = NULL;
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(take_copy(&copy, m));
    for (int64_t i = 0; i < m->n_param && st == PLUMB_OK; i++) {
        const float *w;
        st = plumb_param_read(m, &m->param[i], copy, &w);
        if (st == PLUMB_OK)
            st = fn(arg, &m->param[i], (float *)(uintptr_t)w); /* fn does not write */
    }
    free(copy);
    return st;
}

plumb_status plumb_model_fill(plumb_model *m, plumb_param_fn *fn, void *arg)
{
    struct plumb_backend *b = m->backend;
    float *w, *owned;
    plumb_status st = PLUMB_OK;
    if (m->masters)
        return plumb_held_fill(m, fn, arg);
    PLUMB_TRY(plumb_model_host_weights(m, &w, &owned));
    for (int64_t i = 0; i < m->n_param && st == PLUMB_OK; i++)
        st = fn(arg, &m->param[i], w + m->param[i].offset);
    if (st == PLUMB_OK && owned)
        st = b->to_device(b, m->w, owned, m->count * (int64_t)sizeof(*owned));
    free(owned);
    return st == PLUMB_OK ? plumb_model_refresh(m) : st;
}
