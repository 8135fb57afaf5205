/* backward.c - gradients of the decoder layers; each function is the backward of a function in
 * forward.c.
 * Layer 4. Includes op/, model/lora.h. */
#include "base/num.h"
#include "model/lora.h"

plumb_status plumb_back_take(struct plumb_back *w, struct plumb_arena *arena, const plumb_model *m,
                             int64_t n)
{
    const struct plumb_spec *s = &m->spec;
    const struct plumb_backend *b = m->backend;
    const int64_t q = s->h * s->d, kv = s->hk * s->d;
    const int64_t size[][2] = {{q, s->c},    {kv, s->c},   {s->c, q},
                               {s->f, s->c}, {s->c, s->f}, {s->labels ? s->labels : 1, s->c}};
    for (int64_t l = 0; l < s->l; l++) {
        const struct plumb_attn_shape shape = plumb_attention_shape(s, l);
        w->work_count = plumb_max_i64(w->work_count, plumb_op_attention_work_count(b, n, &shape));
    }
    for (size_t i = 0; i < sizeof size / sizeof *size; i++)
        w->work_count = plumb_max_i64(
            w->work_count, b->k.linear_work_count(n, size[i][0], size[i][1], b->threads));
    PLUMB_TRY(plumb_backend_take(b, arena, &w->dn, n * s->c, "d norm"));
    if (s->block.norm[PLUMB_NORM_ATTENTION_OUT] || s->block.norm[PLUMB_NORM_MLP_OUT] ||
        s->block.parallel)
        PLUMB_TRY(plumb_backend_take(b, arena, &w->db, n * s->c, "d branch"));
    PLUMB_TRY(plumb_backend_take(b, arena, &w->dq, n * q, "d q"));
    PLUMB_TRY(plumb_backend_take(b, arena, &w->dk, n * kv, "d k"));
    PLUMB_TRY(plumb_backend_take(b, arena, &w->dv, n * kv, "d v"));
    if (s->block.qk_norm) {
        PLUMB_TRY(plumb_backend_take(b, arena, &w->dq0, n * q, "d q before norm"));
        PLUMB_TRY(plumb_backend_take(b, arena, &w->dk0, n * kv, "d k before norm"));
    }
    PLUMB_TRY(plumb_backend_take(b, arena, &w->dout, n * q, "d attention"));
    PLUMB_TRY(plumb_backend_take(b, arena, &w->dy, n * s->f, "d gated"));
    PLUMB_TRY(plumb_arena_take_f32(arena, &w->work, w->work_count, "backward work"));
    return PLUMB_OK;
}

plumb_status plumb_embed_backward(const plumb_model *m, float *grad, plumb_real *dx,
                                  const int32_t *ids, const int32_t *pos, int64_t n)
{
    const struct plumb_spec *s = &m->spec;
    struct plumb_backend *b = m->backend;
    if (m->adapter) /* the embedding is frozen */
        return PLUMB_OK;
    float *dembed = grad + m->net->embed;
    if (s->positions) {
        float *dpositions = grad + m->net->positions;
        PLUMB_TRY(
            plumb_op_gather_bwd(b, V(dpositions, s->max_pos, s->c), V(dx, n, s->c), VI(pos, n)));
    }
    if (s->embed_scale != 1.0f)
        PLUMB_TRY(plumb_op_scale_fwd(b, V(dx, n, s->c), V(dx, n, s->c), plumb_embed_scale(m)));
    return plumb_op_gather_bwd(b, V(dembed, s->v, s->c), V(dx, n, s->c), VI(ids, n));
}

/* Adds the gradients of a norm to dx and grad. w is the offset of the norm's weights in the flat
 * vector. If the model has an adapter, its norms are frozen: the gradients of their weights and
 * biases go to adapter->drop and adapter->drop_bias, which are never read. */
static plumb_status norm_back(const plumb_model *m, plumb_real *dx, float *grad,
                              const plumb_real *dy, const plumb_real *x, int64_t w,
                              const float *rstd, int64_t n, int64_t c)
{
    struct plumb_backend *b = m->backend;
    /* The gradient of a frozen norm goes to memory that is never read. */
    float *dw = m->adapter ? m->adapter->drop : grad + w;
    if (m->spec.block.layer_norm) {
        float *dbias = m->adapter ? m->adapter->drop_bias : grad + plumb_norm_bias(w, c);
        return plumb_op_layernorm_bwd(b, V(dx, n, c), V(dw, c), V(dbias, c), V(dy, n, c),
                                      V(x, n, c), V(plumb_held(m, w), c), V(rstd + n, n),
                                      V(rstd, n));
    }
    return plumb_op_rmsnorm_bwd(b, V(dx, n, c), V(dw, c), V(dy, n, c), V(x, n, c),
                                V(plumb_held(m, w), c), V(rstd, n), m->spec.block.norm_shift);
}

plumb_status plumb_head_norm_backward(const plumb_model *m, plumb_real *dx, float *grad,
                                      plumb_real *dy, const plumb_real *x, const float *rstd,
                                      int64_t n)
{
    struct plumb_backend *b = m->backend;
    const struct plumb_spec *s = &m->spec;
    if (s->head_scale != 1.0f)
        PLUMB_TRY(plumb_op_scale_fwd(b, V(dy, n, s->c), V(dy, n, s->c), s->head_scale));
    return norm_back(m, dx, grad, dy, x, m->net->norm, rstd, n, s->c);
}

static plumb_status qk_norm_back(const plumb_model *m, const struct plumb_layer *p,
                                 const struct plumb_act *a, float *grad, const struct plumb_back *w,
                                 int64_t n)
{
    const struct plumb_spec *s = &m->spec;
    struct plumb_backend *b = m->backend;
    const bool row = s->block.qk_norm == PLUMB_QK_NORM_ROW;
    const int64_t q = s->h * s->d, k = s->hk * s->d, wq = row ? q : s->d, wk = row ? k : s->d;
    PLUMB_TRY(b->zero(b, w->dq0, plumb_real_bytes(b, n * q)));
    PLUMB_TRY(b->zero(b, w->dk0, plumb_real_bytes(b, n * k)));
    PLUMB_TRY(norm_back(m, w->dq0, grad, w->dq, a->q0, p->q_norm, a->rstdq, n * q / wq, wq));
    return norm_back(m, w->dk0, grad, w->dk, a->k0, p->k_norm, a->rstdk, n * k / wk, wk);
}

/* Backpropagates through the sum of the residual stream and a branch (attention or MLP). dx (n,c)
 * is the gradient of the sum. Sets *dy to the gradient (n,c) of the output of the branch's last
 * projection; *dy points to dx, w->dn or w->db. `in` is the input of the norm `place`, if the block
 * has this norm. */
static plumb_status join_back(const plumb_model *m, const struct plumb_layer *p,
                              enum plumb_norm_place place, const plumb_real **dy, float *grad,
                              const plumb_real *dx, const plumb_real *in, const float *rstd,
                              const struct plumb_back *w, int64_t n)
{
    struct plumb_backend *b = m->backend;
    const int64_t c = m->spec.c;
    const float scale = m->spec.block.residual_scale;
    *dy = dx;
    if (scale != 1.0f) {
        PLUMB_TRY(plumb_op_scale_fwd(b, V(w->dn, n, c), V(dx, n, c), scale));
        *dy = w->dn;
    }
    if (p->norm[place] < 0)
        return PLUMB_OK;
    PLUMB_TRY(b->zero(b, w->db, plumb_real_bytes(b, n * c)));
    PLUMB_TRY(norm_back(m, w->db, grad, *dy, in, p->norm[place], rstd, n, c));
    *dy = w->db;
    return PLUMB_OK;
}

/* Backpropagates w->dn, the gradient of the input of a branch, through the branch's first norm, if
 * it has one, and adds the result to dx, the gradient of the residual stream x. */
static plumb_status input_back(const plumb_model *m, const struct plumb_layer *p,
                               enum plumb_norm_place place, plumb_real *dx, float *grad,
                               const plumb_real *x, const float *rstd, const struct plumb_back *w,
                               int64_t n)
{
    struct plumb_backend *b = m->backend;
    const int64_t c = m->spec.c;
    if (p->norm[place] >= 0)
        return norm_back(m, dx, grad, w->dn, x, p->norm[place], rstd, n, c);
    return plumb_op_add_fwd(b, V(dx, n, c), V(dx, n, c), V(w->dn, n, c));
}

static plumb_status rotate_back(const plumb_model *m, int64_t l, const struct plumb_tensor *dq,
                                const struct plumb_tensor *dk, const struct plumb_tensor *pos)
{
    struct plumb_backend *b = m->backend;
    const struct plumb_spec *s = &m->spec;
    const int i = s->rotation[l];
    if (i < 0)
        return PLUMB_OK;
    const float *cos_sin = m->rope + plumb_rope_at(s, i);
    const struct plumb_tensor *table = V(cos_sin, s->max_pos, s->rope[i].columns);
    PLUMB_TRY(plumb_op_rope_bwd(b, dq, table, pos));
    return plumb_op_rope_bwd(b, dk, table, pos);
}

static plumb_status attention_back(const plumb_model *m, int64_t l, const struct plumb_act *a,
                                   plumb_real *dx, float *grad, const struct plumb_back *w,
                                   const struct plumb_rows *rows)
{
    const struct plumb_spec *s = &m->spec;
    const struct plumb_layer *p = &m->net->layer[l];
    struct plumb_backend *b = m->backend;
    const bool normed = s->block.qk_norm != PLUMB_QK_NORM_NONE;
    const plumb_real *in = p->norm[PLUMB_NORM_ATTENTION] >= 0 ? a->n1 : a->x, *dy;
    const int64_t n = rows->n, h = s->h, hk = s->hk, d = s->d;
    const struct plumb_attn_shape shape = plumb_attention_shape(s, l);
    PLUMB_TRY(join_back(m, p, PLUMB_NORM_ATTENTION_OUT, &dy, grad, dx, a->b1,
                        a->rstd[PLUMB_NORM_ATTENTION_OUT], w, n));
    PLUMB_TRY(plumb_project_backward(m, l, PLUMB_O, w->dout, false, grad, dy, a->o, w, n));
    const struct plumb_tensor *dq = V(w->dq, n, h, d), *dk = V(w->dk, n, hk, d);
    PLUMB_TRY(plumb_op_attention_bwd(
        b, dq, dk, V(w->dv, n, hk, d), V(w->dout, n, h, d), V(a->o, n, h, d), V(a->lse, n, h),
        V(a->q, n, h, d), V(a->kc, a->pages, hk, d, PLUMB_KV_PAGE),
        V(a->vc, a->pages, hk, PLUMB_KV_PAGE, d), V(w->work, w->work_count), rows, &shape));
    PLUMB_TRY(rotate_back(m, l, dq, dk, VI(rows->pos, n)));
    if (normed)
        PLUMB_TRY(qk_norm_back(m, p, a, grad, w, n));
    const plumb_real *dq0 = normed ? w->dq0 : w->dq, *dk0 = normed ? w->dk0 : w->dk;
    PLUMB_TRY(plumb_project_backward(m, l, PLUMB_Q, w->dn, false, grad, dq0, in, w, n));
    PLUMB_TRY(plumb_project_backward(m, l, PLUMB_K, w->dn, true, grad, dk0, in, w, n));
    PLUMB_TRY(plumb_project_backward(m, l, PLUMB_V, w->dn, true, grad, w->dv, in, w, n));
    return input_back(m, p, PLUMB_NORM_ATTENTION, dx, grad, a->x, a->rstd[PLUMB_NORM_ATTENTION], w,
                      n);
}

/* Backpropagates w->dy, the gradient of the MLP's gated activation, to w->dn, the gradient of `in`,
 * the input of the projections gate and up. */
static plumb_status mlp_back(const plumb_model *m, int64_t l, const struct plumb_act *a,
                             float *grad, const plumb_real *in, const struct plumb_back *w,
                             int64_t n)
{
    const struct plumb_spec *s = &m->spec;
    struct plumb_backend *b = m->backend;
    const bool gated = s->block.gated;
    if (a->gate_up) {
        const struct plumb_tensor *both = V(a->gate_up, n, 2, s->f);
        PLUMB_TRY(plumb_op_gated_bwd(b, both, V(w->dy, n, s->f), both, s->block.activation));
        return plumb_project_joined_backward(m, l, PLUMB_GATE, 2, w->dn, grad, a->gate_up, in, w,
                                             n);
    }
    const struct plumb_tensor *up = V(a->up, n, s->f), *gate = gated ? V(a->gate, n, s->f) : up;
    const struct plumb_tensor *factor = gated ? up : NULL;
    PLUMB_TRY(
        plumb_op_act_bwd(b, gate, factor, V(w->dy, n, s->f), gate, factor, s->block.activation));
    if (gated)
        PLUMB_TRY(plumb_project_backward(m, l, PLUMB_GATE, w->dn, false, grad, a->gate, in, w, n));
    return plumb_project_backward(m, l, PLUMB_UP, w->dn, gated, grad, a->up, in, w, n);
}

plumb_status plumb_layer_backward(const plumb_model *m, int64_t l, const struct plumb_act *a,
                                  plumb_real *dx, float *grad, const struct plumb_back *w,
                                  const struct plumb_rows *rows)
{
    const struct plumb_spec *s = &m->spec;
    const struct plumb_layer *p = &m->net->layer[l];
    struct plumb_backend *b = m->backend;
    const int64_t n = rows->n;
    const bool parallel = s->block.parallel;
    const plumb_real *mid = parallel ? a->x : a->xm, *dy;
    const plumb_real *in = p->norm[PLUMB_NORM_MLP] >= 0 ? a->n2 : mid;
    plumb_real *dmid = parallel ? w->db : dx; /* receives the gradient of mid */
    if (parallel)
        PLUMB_TRY(b->zero(b, w->db, plumb_real_bytes(b, n * s->c)));
    PLUMB_TRY(join_back(m, p, PLUMB_NORM_MLP_OUT, &dy, grad, dx, a->b2, a->rstd[PLUMB_NORM_MLP_OUT],
                        w, n));
    PLUMB_TRY(plumb_project_backward(m, l, PLUMB_DOWN, w->dy, false, grad, dy, a->y, w, n));
    PLUMB_TRY(mlp_back(m, l, a, grad, in, w, n));
    PLUMB_TRY(input_back(m, p, PLUMB_NORM_MLP, dmid, grad, mid, a->rstd[PLUMB_NORM_MLP], w, n));
    PLUMB_TRY(attention_back(m, l, a, dx, grad, w, rows));
    return parallel ? plumb_op_add_fwd(b, V(dx, n, s->c), V(dx, n, s->c), V(w->db, n, s->c))
                    : PLUMB_OK;
}
