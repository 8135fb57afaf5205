/* load.c - sets the parameters of a model: from the tensors of a checkpoint, or randomly.
 * Layer 4. Includes base/, io/, kernels.h, op/, model/net.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/rng.h"
#include "kernels.h"
#include "model/net.h"

/* Copies the changed host copy `owned` of the weights (plumb_model_host_weights) to the device and
 * frees it. Does nothing if owned is NULL, because the weights were then changed in place. */
static plumb_status put_host_weights(plumb_model *m, float *owned)
{
    plumb_status st = PLUMB_OK;
    if (owned)
        st = m->backend->to_device(m->backend, m->w, owned, m->count * (int64_t)sizeof(float));
    free(owned);
    return st;
}

/* Returns the key of the random numbers from which parameter `index` is initialised. */
static struct plumb_rng_key key_of(int64_t index, uint64_t seed)
{
    return (struct plumb_rng_key){
        .seed = seed, .purpose = PLUMB_RNG_INIT, .prompt = (uint64_t)index};
}

void plumb_param_draw(float *w, const plumb_model *m, int64_t index, uint64_t seed)
{
    const struct plumb_param *p = &m->param[index];
    const float one =
        1.0f - m->spec.block.norm_shift; /* initial weight of a norm, which then multiplies by 1 */
    const struct plumb_rng_key key = key_of(index, seed);
    const size_t len = strlen(p->name);
    const bool bias = len > 5 && !strcmp(p->name + len - 5, ".bias");
    if (p->rank == 2)
        (void)plumb_ref_normal(NULL, w, p->count, m->spec.init_range, &key); /* cannot fail */
    else
        for (int64_t i = 0; i < p->count; i++)
            w[i] = bias ? 0.0f : one;
}

static void write_shape(char *out, size_t size, int rank, const int64_t *dim)
{
    size_t used = 0;
    out[0] = '\0';
    for (int i = 0; i < rank && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, i ? ", %lld" : "%lld", (long long)dim[i]);
}

static bool shape_is(const struct plumb_st_entry *e, int rank, const int64_t *dim)
{
    bool same = e->rank == rank;
    for (int i = 0; same && i < rank; i++)
        same = e->dim[i] == dim[i];
    return same;
}

static plumb_status check_shape(const struct plumb_st_entry *e, int rank, const int64_t *dim)
{
    char found[128], want[64];
    write_shape(found, sizeof found, e->rank, e->dim);
    write_shape(want, sizeof want, rank, dim);
    PLUMB_REQUIRE(shape_is(e, rank, dim), PLUMB_ERR_SHAPE,
                  "%s: tensor %s has shape (%s), config.json asks for (%s)", e->file, e->name,
                  found, want);
    return PLUMB_OK;
}

/* Accepts the tensors of a checkpoint that are not parameters of the model: the rotary buffer, the
 * masks that old GPT-2 and GPT-NeoX files hold, and a language-model head that the model does not
 * have (the embedding saved a second time, or the head of a checkpoint that is opened as a
 * classifier). Refuses all others. */
static plumb_status check_extra(const plumb_model *m, const struct plumb_st_entry *e)
{
    static const char *const buffer[] = {"rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias",
                                         ".attention.bias", ".attention.masked_bias"};
    const enum plumb_file_layout files = m->spec.block.files;
    const bool masks = files == PLUMB_FILES_GPT2 || files == PLUMB_FILES_NEOX;
    const size_t len = strlen(e->name);
    for (size_t i = 0; i < (masks ? sizeof buffer / sizeof *buffer : 1); i++) {
        const size_t tail = strlen(buffer[i]);
        if (len >= tail && !strcmp(e->name + len - tail, buffer[i]))
            return PLUMB_OK;
    }
    const int64_t head[] = {m->spec.v, m->spec.c};
    PLUMB_REQUIRE(plumb_file_has_name(plumb_head_file(&m->spec), e->name), PLUMB_ERR_FORMAT,
                  "%s: tensor %s does not belong to the %s that config.json describes", e->file,
                  e->name, plumb_spec_architecture(&m->spec));
    return check_shape(e, 2, head);
}

/* Returns the first parameter whose values are in tensor `name` of the files, or NULL. */
static const struct plumb_param *first_in(const plumb_model *m, const char *name)
{
    for (int64_t i = 0; i < m->n_param; i++)
        if (plumb_file_has_name(m->param[i].file, name))
            return &m->param[i];
    return NULL;
}

/* A checkpoint may store a tied embedding under the name of the head, so this name is tried,
 * too. */
const struct plumb_st_entry *plumb_param_entry(const plumb_model *m, const plumb_st *st,
                                               const struct plumb_param *p)
{
    const struct plumb_st_entry *e = plumb_find_tensor(st, p->file);
    const bool either = m->spec.tied && m->spec.labels == 0 && !strcmp(p->name, PLUMB_EMBED_NAME);
    return e || !either ? e : plumb_find_tensor(st, plumb_head_file(&m->spec));
}

plumb_status plumb_params_check(const plumb_model *m, const plumb_st *st, const char *fresh)
{
    for (int64_t i = 0; i < plumb_st_count(st); i++) {
        const struct plumb_st_entry *e = plumb_st_at(st, i);
        const struct plumb_param *p = first_in(m, e->name);
        const int64_t dim[2][2] = {{p ? p->file_rows : 0, p ? p->dim[1] : 0},
                                   {p ? p->dim[1] : 0, p ? p->file_rows : 0}};
        if (!p) {
            PLUMB_TRY(check_extra(m, e));
            continue;
        }
        PLUMB_TRY(check_shape(e, p->rank, dim[p->turned]));
        const struct plumb_st_entry *used = plumb_param_entry(m, st, p);
        PLUMB_REQUIRE(used == e, PLUMB_ERR_FORMAT,
                      "%s: tensors %s and %s are two names of one parameter; remove one of them",
                      e->file, e->name, used->name);
    }
    for (int64_t i = 0; i < m->n_param; i++) {
        const struct plumb_param *p = &m->param[i];
        PLUMB_REQUIRE(plumb_param_entry(m, st, p) || (fresh && !strcmp(fresh, p->name)),
                      PLUMB_ERR_FORMAT, "%s: tensor %s (%lld floats) is missing", m->dir, p->file,
                      (long long)(p->count / p->dim[0] * p->file_rows));
    }
    return PLUMB_OK;
}

plumb_status plumb_param_take(float *w, const struct plumb_st_entry *e, const struct plumb_param *p)
{
    const int64_t rows = p->dim[0], width = p->count / rows;
    plumb_status st = PLUMB_OK;
    if (!p->turned) {
        const int64_t run = p->paired ? 1 : p->file_run;
        for (int64_t r = 0; r < rows; r += run)
            PLUMB_TRY(plumb_entry_part(w + r * width, e, plumb_param_file_row(p, r) * width,
                                       run * width));
        return PLUMB_OK;
    }
    float *column = malloc((size_t)rows * sizeof *column);
    PLUMB_REQUIRE(column, PLUMB_ERR_NOMEM, "a column of %lld floats of %s", (long long)rows,
                  p->file);
    for (int64_t i = 0; i < width && st == PLUMB_OK; i++) {
        st = plumb_entry_part(column, e, i * p->file_rows + p->file_row, rows);
        for (int64_t r = 0; r < rows; r++)
            w[r * width + i] = column[r];
    }
    free(column);
    return st;
}

plumb_status plumb_params_load(plumb_model *m, const plumb_st *st, const char *fresh, uint64_t seed)
{
    float *w, *owned;
    plumb_status r = PLUMB_OK;
    PLUMB_TRY(plumb_params_check(m, st, fresh));
    PLUMB_TRY(plumb_model_host_weights(m, &w, &owned));
    for (int64_t i = 0; i < m->n_param && r == PLUMB_OK; i++) {
        const struct plumb_param *p = &m->param[i];
        const struct plumb_st_entry *e = plumb_param_entry(m, st, p);
        if (e)
            r = plumb_param_take(w + p->offset, e, p);
        else
            plumb_param_draw(w + p->offset, m, i, seed);
    }
    const plumb_status put = put_host_weights(m, owned);
    return r != PLUMB_OK ? r : put;
}

/* Matrices are drawn on the device. Norm weights and biases are constants, which are set on the
 * host and copied. */
plumb_status plumb_params_draw(plumb_model *m, uint64_t seed)
{
    struct plumb_backend *b = m->backend;
    int64_t most = 0;
    plumb_status st = PLUMB_OK;
    for (int64_t i = 0; i < m->n_param; i++)
        most = m->param[i].rank == 2 ? most : plumb_max_i64(most, m->param[i].count);
    float *vector = malloc((size_t)(most + 1) * sizeof *vector);
    PLUMB_REQUIRE(vector, PLUMB_ERR_NOMEM, "a vector of %lld floats", (long long)most);
    for (int64_t i = 0; i < m->n_param && st == PLUMB_OK; i++) {
        const struct plumb_param *p = &m->param[i];
        float *w = m->w + p->offset;
        if (p->rank == 2) {
            const struct plumb_rng_key key = key_of(i, seed);
            st = plumb_op_normal(b, V(w, p->count), m->spec.init_range, &key);
            continue;
        }
        plumb_param_draw(vector, m, i, seed);
        st = b->to_device(b, w, vector, p->count * (int64_t)sizeof *vector);
    }
    free(vector);
    return st;
}
