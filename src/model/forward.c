/* forward.c - the forward of the decoder layers on packed rows.
 * Layer 4. Includes op/, model/net.h. */
#include "model/net.h"

plumb_status plumb_act_take(struct plumb_act *a, struct plumb_arena *arena,
                            const struct plumb_backend *b, const struct plumb_spec *s, int64_t n)
{
    const int64_t q = s->h * s->d, kv = s->hk * s->d;
    PLUMB_TRY(plumb_backend_take(b, arena, &a->n1, n * s->c, "norm 1"));
    PLUMB_TRY(plumb_arena_take_f32(arena, &a->rstd[PLUMB_NORM_ATTENTION], n, "rstd 1"));
    PLUMB_TRY(plumb_backend_take(b, arena, &a->q, n * q, "q"));
    PLUMB_TRY(plumb_backend_take(b, arena, &a->k, n * kv, "k"));
    PLUMB_TRY(plumb_backend_take(b, arena, &a->v, n * kv, "v"));
    if (s->block.qk_norm) {
        PLUMB_TRY(plumb_backend_take(b, arena, &a->q0, n * q, "q before norm"));
        PLUMB_TRY(plumb_backend_take(b, arena, &a->k0, n * kv, "k before norm"));
        PLUMB_TRY(plumb_arena_take_f32(arena, &a->rstdq, n * s->h, "rstd q"));
        PLUMB_TRY(plumb_arena_take_f32(arena, &a->rstdk, n * s->hk, "rstd k"));
    }
    PLUMB_TRY(plumb_backend_take(b, arena, &a->o, n * q, "attention"));
    PLUMB_TRY(plumb_arena_take_f32(arena, &a->lse, n * s->h, "attention lse"));
    PLUMB_TRY(plumb_backend_take(b, arena, &a->xm, n * s->c, "residual"));
    PLUMB_TRY(plumb_backend_take(b, arena, &a->n2, n * s->c, "norm 2"));
    PLUMB_TRY(plumb_arena_take_f32(arena, &a->rstd[PLUMB_NORM_MLP], n, "rstd 2"));
    PLUMB_TRY(plumb_backend_take(b, arena, &a->gate, n * s->f, "gate"));
    PLUMB_TRY(plumb_backend_take(b, arena, &a->up, n * s->f, "up"));
    PLUMB_TRY(plumb_backend_take(b, arena, &a->y, n * s->f, "gated"));
    return PLUMB_OK;
}

plumb_status plumb_act_take_pages(struct plumb_act *a, struct plumb_arena *arena,
                                  const struct plumb_backend *b, const struct plumb_spec *s,
                                  int64_t pages)
{
    const int64_t n = pages * s->hk * s->d * PLUMB_KV_PAGE;
    a->pages = pages;
    PLUMB_TRY(plumb_backend_take(b, arena, &a->kc, n, "key pages"));
    PLUMB_TRY(plumb_backend_take(b, arena, &a->vc, n, "value pages"));
    return PLUMB_OK;
}

plumb_status plumb_embed_forward(const plumb_model *m, plumb_real *x, const int32_t *ids, int64_t n)
{
    const struct plumb_spec *s = &m->spec;
    struct plumb_backend *b = m->backend;
    const float *embed = m->w + m->net->embed;
    return plumb_op_gather_fwd(b, V(x, n, s->c), V(embed, s->v, s->c), VI(ids, n));
}

static plumb_status norm(const plumb_model *m, plumb_real *y, float *rstd, const plumb_real *x,
                         int64_t w, int64_t n, int64_t c)
{
    struct plumb_backend *b = m->backend;
    return plumb_op_rmsnorm_fwd(b, V(y, n, c), V(rstd, n), V(x, n, c), V(m->w + w, c),
                                (float)m->spec.eps, 0.0f);
}

plumb_status plumb_norm_forward(const plumb_model *m, plumb_real *y, float *rstd,
                                const plumb_real *x, int64_t n)
{
    return norm(m, y, rstd, x, m->net->norm, n, m->spec.c);
}

/* The attention part of a layer: a->o = attention over the KV pages, a->xm = x + projection of
 * a->o. */
static plumb_status attention(const plumb_model *m, int64_t l, const struct plumb_act *a,
                              const struct plumb_rows *rows)
{
    const struct plumb_spec *s = &m->spec;
    const struct plumb_layer *p = &m->net->layer[l];
    struct plumb_backend *b = m->backend;
    const bool qk_norm = s->block.qk_norm;
    const int64_t n = rows->n, h = s->h, hk = s->hk, d = s->d;
    const struct plumb_attn_shape shape = plumb_attention_shape(s, l);
    PLUMB_TRY(plumb_project_forward(m, l, PLUMB_Q, qk_norm ? a->q0 : a->q, a->n1, n));
    PLUMB_TRY(plumb_project_forward(m, l, PLUMB_K, qk_norm ? a->k0 : a->k, a->n1, n));
    PLUMB_TRY(plumb_project_forward(m, l, PLUMB_V, a->v, a->n1, n));
    if (qk_norm) {
        PLUMB_TRY(norm(m, a->q, a->rstdq, a->q0, p->q_norm, n * h, d));
        PLUMB_TRY(norm(m, a->k, a->rstdk, a->k0, p->k_norm, n * hk, d));
    }
    const struct plumb_tensor *table = V(m->rope, s->max_pos, d), *pos = VI(rows->pos, n);
    const struct plumb_tensor *q = V(a->q, n, h, d), *k = V(a->k, n, hk, d);
    const struct plumb_tensor *kc = V(a->kc, a->pages, hk, d, PLUMB_KV_PAGE);
    const struct plumb_tensor *vc = V(a->vc, a->pages, hk, PLUMB_KV_PAGE, d);
    PLUMB_TRY(plumb_op_rope_fwd(b, q, table, pos));
    PLUMB_TRY(plumb_op_rope_fwd(b, k, table, pos));
    PLUMB_TRY(plumb_op_kv_write_fwd(b, kc, vc, k, V(a->v, n, hk, d), rows));
    PLUMB_TRY(
        plumb_op_attention_fwd(b, V(a->o, n, h, d), V(a->lse, n, h), q, kc, vc, rows, &shape));
    PLUMB_TRY(plumb_project_forward(m, l, PLUMB_O, a->xm, a->o, n));
    const struct plumb_tensor *xm = V(a->xm, n, s->c);
    return plumb_op_add_fwd(b, xm, xm, V(a->x, n, s->c));
}

plumb_status plumb_layer_forward(const plumb_model *m, int64_t l, const struct plumb_act *a,
                                 plumb_real *out, const struct plumb_rows *rows)
{
    const struct plumb_spec *s = &m->spec;
    const struct plumb_layer *p = &m->net->layer[l];
    struct plumb_backend *b = m->backend;
    const int64_t n = rows->n;
    PLUMB_TRY(norm(m, a->n1, a->rstd[PLUMB_NORM_ATTENTION], a->x, p->norm[PLUMB_NORM_ATTENTION], n,
                   s->c));
    PLUMB_TRY(attention(m, l, a, rows));
    PLUMB_TRY(norm(m, a->n2, a->rstd[PLUMB_NORM_MLP], a->xm, p->norm[PLUMB_NORM_MLP], n, s->c));
    PLUMB_TRY(plumb_project_forward(m, l, PLUMB_GATE, a->gate, a->n2, n));
    PLUMB_TRY(plumb_project_forward(m, l, PLUMB_UP, a->up, a->n2, n));
    PLUMB_TRY(plumb_op_act_fwd(b, V(a->y, n, s->f), V(a->gate, n, s->f), V(a->up, n, s->f),
                               PLUMB_ACT_SILU));
    if (!out)
        return PLUMB_OK;
    PLUMB_TRY(plumb_project_forward(m, l, PLUMB_DOWN, out, a->y, n));
    const struct plumb_tensor *sum = V(out, n, s->c);
    return plumb_op_add_fwd(b, sum, sum, V(a->xm, n, s->c));
}
