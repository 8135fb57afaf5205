/* lora.c - the memory and the matrix products of a LoRA adapter.
 * Layer 4. Includes base/, io/, op/, model/lora.h. */
#include "model/lora.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "io/file.h"

/* ---- layout ------------------------------------------------------------------------------- */

struct layout {
    struct plumb_param *param; /* NULL if the tensors are only counted */
    int64_t n, count, packed;
    const struct plumb_backend *b;
};

static struct plumb_linear place(struct layout *y, const char *name, int64_t rows, int64_t cols,
                                 const char *file, const struct plumb_param *like)
{
    const bool packs = plumb_linear_packs(y->b);
    const struct plumb_linear p = {
        .out = rows, .in = cols, .w = y->count, .bias = -1, .packed = packs ? y->packed : -1};
    if (y->param) {
        struct plumb_param *t = &y->param[y->n];
        *t = (struct plumb_param){.rank = 2,
                                  .dim = {rows, cols},
                                  .offset = y->count,
                                  .count = rows * cols,
                                  .decay = true,
                                  .packed = p.packed};
        snprintf(t->name, sizeof t->name, "base_model.model.%s.weight", name);
        snprintf(t->file, sizeof t->file, "base_model.model.%s.weight", file);
        t->file_row = like ? like->file_row : 0;
        t->file_rows = like ? like->file_rows : rows;
        t->file_run = like ? like->file_run : rows;
        t->file_step = like ? like->file_step : rows;
        t->head = like ? like->head : 0;
        t->paired = like ? like->paired : 0;
    }
    if (packs)
        y->packed += plumb_ceil_div(y->b->k.linear_packed_count(rows, cols), PLUMB_PARAM_ALIGN) *
                     PLUMB_PARAM_ALIGN;
    y->n++;
    y->count = plumb_ceil_div(y->count + rows * cols, PLUMB_PARAM_ALIGN) * PLUMB_PARAM_ALIGN;
    return p;
}

static bool is_target(const struct plumb_adapter *a, const plumb_model *m, int id)
{
    return plumb_lora_is_target(&a->lora, m->spec.block.files, (enum plumb_projection)id);
}

/* Places A and B of projection id of layer l in the adapter's flat vector. If the files store
 * several projections as one module (such as qkv_proj), these projections share the A of the first
 * one. */
static void place_pair(struct layout *y, struct plumb_adapter *a, const plumb_model *m, int64_t l,
                       enum plumb_projection id)
{
    const struct plumb_linear *w = &m->net->layer[l].project[id];
    const enum plumb_projection first = plumb_lora_shares(m, id);
    struct plumb_lora_pair *pair = &a->pair[l][id];
    char name[112], own[80], file[96];
    snprintf(own, sizeof own, "model.layers.%lld.%s", (long long)l, plumb_projection_name(id));
    snprintf(name, sizeof name, "%s.weight", own);
    const struct plumb_param *p = plumb_model_find(m, name);
    const int stem = (int)(strlen(p->file) - strlen(".weight")); /* the module's name */
    snprintf(file, sizeof file, "%.*s.lora_A", stem, p->file);
    if (first != id)
        pair->a = a->pair[l][first].a;
    else
        pair->a = place(y, file, a->lora.r, w->in, file, NULL);
    file[strlen(file) - 1] = 'B';
    snprintf(name, sizeof name, "%s.lora_B", own);
    pair->b = place(y, p->file_rows == w->out ? file : name, w->out, a->lora.r, file, p);
}

static void layout(struct layout *y, struct plumb_adapter *a, const plumb_model *m)
{
    const struct plumb_lora_pair none = {{.w = -1}, {.w = -1}};
    for (int64_t l = 0; l < a->layers; l++) {
        a->begin[l] = y->count;
        for (int id = 0; id < PLUMB_N_PROJECTION; id++) {
            a->pair[l][id] = none;
            /* a block without a gate has no gate projection */
            if (is_target(a, m, id) && m->net->layer[l].project[id].out > 0)
                place_pair(y, a, m, l, (enum plumb_projection)id);
        }
    }
    a->score = none.a;
    if (m->spec.labels > 0)
        a->score = place(y, "score", m->spec.labels, m->spec.c, "score", NULL);
    a->n_param = y->n;
    a->count = plumb_ceil_div(y->count, PLUMB_PARAM_BLOCK) * PLUMB_PARAM_BLOCK;
}

/* ---- memory ------------------------------------------------------------------------------- */

/* Returns the largest output size of the targets; *work_count becomes the number of floats of
 * scratch memory that their backward needs. */
static int64_t widest(int64_t *work_count, const struct plumb_adapter *a, const plumb_model *m)
{
    const struct plumb_backend *b = m->backend;
    const int64_t n = PLUMB_LORA_ROWS, r = a->lora.r;
    int64_t most = 1;
    *work_count = 1;
    for (int id = 0; id < PLUMB_N_PROJECTION; id++) {
        const struct plumb_linear *w = &m->net->layer[0].project[id];
        if (!is_target(a, m, id) || w->out == 0)
            continue;
        most = plumb_max_i64(most, w->out);
        *work_count = plumb_max_i64(*work_count, b->k.linear_work_count(n, r, w->in, b->threads));
        *work_count = plumb_max_i64(*work_count, b->k.linear_work_count(n, w->out, r, b->threads));
    }
    return most;
}

/* Returns the number of weights of the largest norm. */
static int64_t widest_norm(const plumb_model *m)
{
    return plumb_max_i64(m->spec.c, m->spec.h * m->spec.d);
}

static plumb_status take(struct plumb_adapter *a, const plumb_model *m, int64_t packed)
{
    const struct plumb_backend *b = m->backend;
    struct plumb_arena *arena = &a->arena;
    const int64_t n = PLUMB_LORA_ROWS, wide = widest(&a->work_count, a, m);
    const int64_t norm = widest_norm(m);
    PLUMB_TRY(plumb_arena_take_f32(arena, &a->weights.w, a->count, "adapter"));
    PLUMB_TRY(plumb_backend_take(b, arena, &a->weights.packed, packed, "packed adapter"));
    PLUMB_TRY(plumb_backend_take(b, arena, &a->low, n * a->lora.r, "A x"));
    PLUMB_TRY(plumb_backend_take(b, arena, &a->dlow, n * a->lora.r, "d A x"));
    PLUMB_TRY(plumb_backend_take(b, arena, &a->wide, n * wide, "B A x"));
    PLUMB_TRY(plumb_arena_take_f32(arena, &a->work, a->work_count, "adapter work"));
    PLUMB_TRY(plumb_arena_take_f32(arena, &a->drop, norm, "gradient of frozen norms"));
    if (m->spec.block.layer_norm)
        PLUMB_TRY(plumb_arena_take_f32(arena, &a->drop_bias, norm, "gradient of frozen norms"));
    a->hash = (struct plumb_tensor){.dtype = PLUMB_I64,
                                    .rank = 1,
                                    .dim = {plumb_ceil_div(a->count, PLUMB_HASH_BLOCK)},
                                    .name = "hashes"};
    return plumb_arena_take(arena, &a->hash);
}

static plumb_status allocate(struct plumb_adapter *a, const plumb_model *m)
{
    struct plumb_backend *b = m->backend;
    struct layout count = {.b = b};
    const size_t l = (size_t)m->spec.l;
    a->layers = m->spec.l;
    a->pair = calloc(l, sizeof *a->pair);
    a->begin = calloc(l, sizeof *a->begin);
    PLUMB_REQUIRE(a->pair && a->begin, PLUMB_ERR_NOMEM, "an adapter");
    layout(&count, a, m);
    PLUMB_REQUIRE(a->n_param > 0, PLUMB_ERR_CONFIG, "lora.targets: no projection is a target");
    a->param = calloc((size_t)a->n_param, sizeof *a->param);
    PLUMB_REQUIRE(a->param, PLUMB_ERR_NOMEM, "an adapter of %lld tensors", (long long)a->n_param);
    struct layout places = {.param = a->param, .b = b};
    layout(&places, a, m);
    PLUMB_TRY(take(a, m, places.packed));
    PLUMB_TRY(plumb_backend_arena_alloc(b, &a->arena));
    PLUMB_TRY(take(a, m, places.packed));
    a->hash_host = malloc((size_t)plumb_tensor_bytes(&a->hash));
    PLUMB_REQUIRE(a->hash_host, PLUMB_ERR_NOMEM, "the hashes of an adapter");
    PLUMB_TRY(b->zero(b, a->drop, widest_norm(m) * (int64_t)sizeof(float)));
    if (a->drop_bias)
        PLUMB_TRY(b->zero(b, a->drop_bias, widest_norm(m) * (int64_t)sizeof(float)));
    return b->zero(b, a->weights.w, a->count * (int64_t)sizeof(float));
}

plumb_status plumb_lora_attach(plumb_model *m, const struct plumb_lora *lora)
{
    PLUMB_REQUIRE(!m->adapter, PLUMB_ERR_ARG, "%s: the model has an adapter already", m->dir);
    PLUMB_TRY(plumb_lora_check_targets(lora, m));
    PLUMB_REQUIRE(lora->r >= 1 && lora->r <= PLUMB_LORA_MAX_RANK && lora->alpha > 0,
                  PLUMB_ERR_CONFIG,
                  "an adapter of rank %lld and alpha %g: expected a rank of 1 to %d "
                  "and an alpha above 0",
                  (long long)lora->r, lora->alpha, PLUMB_LORA_MAX_RANK);
    struct plumb_adapter *a = calloc(1, sizeof *a);
    PLUMB_REQUIRE(a, PLUMB_ERR_NOMEM, "an adapter");
    const double r = (double)lora->r;
    a->lora = *lora;
    a->scale = (float)(lora->alpha / (lora->rslora ? sqrt(r) : r));
    a->arena = (struct plumb_arena){.place = m->backend->place, .name = "adapter"};
    m->adapter = a;
    const plumb_status st = allocate(a, m);
    if (st != PLUMB_OK)
        plumb_lora_detach(m);
    return st;
}

void plumb_lora_detach(plumb_model *m)
{
    struct plumb_adapter *a = m->adapter;
    if (!a)
        return;
    plumb_backend_arena_release(m->backend, &a->arena);
    free(a->hash_host);
    free(a->param);
    free(a->pair);
    free(a->begin);
    free(a);
    m->adapter = NULL;
}

plumb_status plumb_lora_pack(const plumb_model *m)
{
    const struct plumb_adapter *a = m->adapter;
    struct plumb_backend *b = m->backend;
    for (int64_t i = 0; i < a->n_param; i++) {
        const struct plumb_param *p = &a->param[i];
        if (p->packed >= 0)
            PLUMB_TRY(plumb_op_linear_pack(b,
                                           V(plumb_real_at(b, a->weights.packed, p->packed),
                                             b->k.linear_packed_count(p->dim[0], p->dim[1])),
                                           V(a->weights.w + p->offset, p->dim[0], p->dim[1])));
    }
    return PLUMB_OK;
}

plumb_status plumb_lora_hash(const plumb_model *m, uint64_t *hash)
{
    const struct plumb_adapter *a = m->adapter;
    struct plumb_backend *b = m->backend;
    const int64_t bytes = plumb_tensor_bytes(&a->hash);
    PLUMB_TRY(plumb_op_hash_blocks(b, &a->hash, V(a->weights.w, a->count)));
    PLUMB_TRY(b->to_host(b, a->hash_host, a->hash.data, bytes));
    *hash = plumb_hash(a->hash_host, bytes, 0);
    return PLUMB_OK;
}

/* ---- matrix products ------------------------------------------------------------------------ */

/* Computes a->low (n,r) = scale A x. */
static plumb_status lower(const plumb_model *m, const struct plumb_lora_pair *p,
                          const plumb_real *x, int64_t n)
{
    const struct plumb_adapter *a = m->adapter;
    struct plumb_backend *b = m->backend;
    const struct plumb_tensor *low = V(a->low, n, p->a.out);
    const struct plumb_tensor packed = plumb_linear_packed(b, &a->weights, &p->a);
    PLUMB_TRY(plumb_op_linear_fwd(b, low, V(x, n, p->a.in), &packed, NULL));
    return plumb_op_scale_fwd(b, low, low, a->scale);
}

plumb_status plumb_lora_forward(const plumb_model *m, int64_t l, enum plumb_projection id,
                                plumb_real *y, struct plumb_columns where, const plumb_real *x,
                                int64_t n)
{
    const struct plumb_adapter *a = m->adapter;
    struct plumb_backend *b = m->backend;
    if (!a || a->pair[l][id].a.w < 0)
        return PLUMB_OK;
    const struct plumb_lora_pair *p = &a->pair[l][id];
    const int64_t out = p->b.out, in = p->a.in, r = p->a.out;
    const struct plumb_tensor packed = plumb_linear_packed(b, &a->weights, &p->b);
    for (int64_t i = 0; i < n; i += PLUMB_LORA_ROWS) {
        const int64_t k = plumb_min_i64(PLUMB_LORA_ROWS, n - i);
        const struct plumb_tensor *sum = V(plumb_real_at(b, y, i * where.width), k, where.width);
        PLUMB_TRY(lower(m, p, plumb_real_at(b, x, i * in), k));
        PLUMB_TRY(plumb_op_linear_fwd(b, V(a->wide, k, out), V(a->low, k, r), &packed, NULL));
        if (where.width == out)
            PLUMB_TRY(plumb_op_add_fwd(b, sum, sum, V(a->wide, k, out)));
        else
            PLUMB_TRY(plumb_op_columns_add(b, sum, where.at, V(a->wide, k, out)));
    }
    return PLUMB_OK;
}

/* Does the work of plumb_lora_backward for n <= PLUMB_LORA_ROWS rows. With low = scale A x:
 *     dB += dy^T low;   dlow = scale dy B;   dA += dlow^T x;   dx += dlow A */
static plumb_status backward(const plumb_model *m, const struct plumb_lora_pair *p, plumb_real *dx,
                             float *grad, const plumb_real *dy, const plumb_real *x, int64_t n)
{
    const struct plumb_adapter *a = m->adapter;
    struct plumb_backend *b = m->backend;
    const int64_t out = p->b.out, in = p->a.in, r = p->a.out;
    const struct plumb_tensor wa = plumb_linear_weight(b, &a->weights, &p->a);
    const struct plumb_tensor wb = plumb_linear_weight(b, &a->weights, &p->b);
    const struct plumb_tensor *work = V(a->work, a->work_count), *dlow = V(a->dlow, n, r);
    PLUMB_TRY(lower(m, p, x, n));
    PLUMB_TRY(plumb_op_linear_bwd_w(b, V(grad + p->b.w, out, r), NULL, V(dy, n, out),
                                    V(a->low, n, r), work));
    PLUMB_TRY(plumb_op_linear_bwd_x(b, dlow, V(dy, n, out), &wb, work, false));
    PLUMB_TRY(plumb_op_scale_fwd(b, dlow, dlow, a->scale));
    PLUMB_TRY(plumb_op_linear_bwd_w(b, V(grad + p->a.w, r, in), NULL, dlow, V(x, n, in), work));
    return plumb_op_linear_bwd_x(b, V(dx, n, in), dlow, &wa, work, true);
}

plumb_status plumb_lora_backward(const plumb_model *m, int64_t l, enum plumb_projection id,
                                 plumb_real *dx, float *grad, const plumb_real *dy,
                                 struct plumb_columns where, const plumb_real *x, int64_t n)
{
    const struct plumb_adapter *a = m->adapter;
    struct plumb_backend *b = m->backend;
    if (!a || a->pair[l][id].a.w < 0)
        return PLUMB_OK;
    const struct plumb_lora_pair *p = &a->pair[l][id];
    const int64_t out = p->b.out, in = p->a.in, width = where.width;
    for (int64_t i = 0; i < n; i += PLUMB_LORA_ROWS) {
        const int64_t k = plumb_min_i64(PLUMB_LORA_ROWS, n - i);
        const plumb_real *dyi = plumb_real_at(b, dy, i * width);
        if (width != out) {
            PLUMB_TRY(plumb_op_columns_take(b, V(a->wide, k, out), V(dyi, k, width), where.at));
            dyi = a->wide;
        }
        PLUMB_TRY(backward(m, p, plumb_real_at(b, dx, i * in), grad, dyi,
                           plumb_real_at(b, x, i * in), k));
    }
    return PLUMB_OK;
}
