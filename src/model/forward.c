/* forward.c - the forward of the decoder layers on packed rows.
 * Layer 4. Includes base/, op/, model/net.h. */
#include "base/num.h"
#include "model/net.h"
#include "model/provider.h"

/* Allocates two buffers of the norm `place` from the arena: a->rstd[place], the statistics that the
 * backward needs, and *rows (n,c), which holds the output of a norm before attention or the MLP, or
 * the input of a norm after attention or the MLP. */
static plumb_status take_norm(struct plumb_act *a, enum plumb_norm_place place, plumb_real **rows,
                              struct plumb_arena *arena, const struct plumb_backend *b, int64_t n,
                              const struct plumb_spec *s)
{
    const int64_t c = s->c, saved = n * plumb_norm_saved(s);
    static const char *const name[PLUMB_N_NORM] = {"norm 1", "before norm 1", "norm 2",
                                                   "before norm 2"};
    PLUMB_TRY(plumb_backend_take(b, arena, rows, n * c, name[place]));
    return plumb_arena_take_f32(arena, &a->rstd[place], saved, "rstd");
}

/* Returns the number of columns over which a qk norm is computed: `row`, which is the number of
 * columns of all heads, or that of one head. */
static int64_t qk_width(const struct plumb_spec *s, int64_t row)
{
    return s->block.qk_norm == PLUMB_QK_NORM_ROW ? row : s->d;
}

/* Allocates the MLP's activations for n rows from the arena. If q, k and v are computed as one
 * product, the first allocated array (a->gate_up, a->gate or a->up) is large enough for the output
 * of this product, and a->qkv points to the array. */
static plumb_status take_mlp(struct plumb_act *a, struct plumb_arena *arena,
                             const struct plumb_backend *b, const struct plumb_spec *s, int64_t n,
                             struct plumb_joined joined)
{
    const int64_t first = joined.gate_up ? 2 * s->f : s->f;
    const int64_t most = plumb_max_i64(first, joined.qkv ? (s->h + 2 * s->hk) * s->d : 0);
    plumb_real **to = joined.gate_up ? &a->gate_up : s->block.gated ? &a->gate : &a->up;
    PLUMB_TRY(plumb_backend_take(b, arena, to, n * most,
                                 joined.gate_up   ? "gate and up"
                                 : s->block.gated ? "gate"
                                                  : "up"));
    a->qkv = joined.qkv ? *to : NULL;
    if (to == &a->gate)
        PLUMB_TRY(plumb_backend_take(b, arena, &a->up, n * s->f, "up"));
    return plumb_backend_take(b, arena, &a->y, n * s->f, "gated");
}

plumb_status plumb_act_take(struct plumb_act *a, struct plumb_arena *arena,
                            const struct plumb_backend *b, const struct plumb_spec *s, int64_t n)
{
    const int64_t q = s->h * s->d, kv = s->hk * s->d;
    const struct plumb_joined joined = plumb_joined_of(b, s);
    if (s->block.norm[PLUMB_NORM_ATTENTION])
        PLUMB_TRY(take_norm(a, PLUMB_NORM_ATTENTION, &a->n1, arena, b, n, s));
    PLUMB_TRY(plumb_backend_take(b, arena, &a->q, n * q, "q"));
    if (!joined.qkv) {
        PLUMB_TRY(plumb_backend_take(b, arena, &a->k, n * kv, "k"));
        PLUMB_TRY(plumb_backend_take(b, arena, &a->v, n * kv, "v"));
    }
    if (s->block.qk_norm) {
        PLUMB_TRY(plumb_backend_take(b, arena, &a->q0, n * q, "q before norm"));
        PLUMB_TRY(plumb_backend_take(b, arena, &a->k0, n * kv, "k before norm"));
        PLUMB_TRY(plumb_arena_take_f32(arena, &a->rstdq, n * q / qk_width(s, q), "rstd q"));
        PLUMB_TRY(plumb_arena_take_f32(arena, &a->rstdk, n * kv / qk_width(s, kv), "rstd k"));
    }
    PLUMB_TRY(plumb_backend_take(b, arena, &a->o, n * q, "attention"));
    PLUMB_TRY(plumb_arena_take_f32(arena, &a->lse, n * s->h, "attention lse"));
    PLUMB_TRY(plumb_backend_take(b, arena, &a->xm, n * s->c, "residual"));
    if (s->block.norm[PLUMB_NORM_ATTENTION_OUT])
        PLUMB_TRY(take_norm(a, PLUMB_NORM_ATTENTION_OUT, &a->b1, arena, b, n, s));
    if (s->block.norm[PLUMB_NORM_MLP])
        PLUMB_TRY(take_norm(a, PLUMB_NORM_MLP, &a->n2, arena, b, n, s));
    PLUMB_TRY(take_mlp(a, arena, b, s, n, joined));
    if (s->block.norm[PLUMB_NORM_MLP_OUT])
        PLUMB_TRY(take_norm(a, PLUMB_NORM_MLP_OUT, &a->b2, arena, b, n, s));
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

float plumb_embed_scale(const plumb_model *m)
{
    const float scale = m->spec.embed_scale;
    const bool rounds = m->spec.embed_scale_rounds && m->backend->dtype == PLUMB_BF16;
    return rounds ? plumb_from_bf16(plumb_to_bf16(scale)) : scale;
}

plumb_status plumb_embed_forward(const plumb_model *m, plumb_real *x, plumb_real *scratch,
                                 const int32_t *ids, const int32_t *pos, int64_t n)
{
    const struct plumb_spec *s = &m->spec;
    struct plumb_backend *b = m->backend;
    const float *embed = m->w + m->net->embed;
    const plumb_real *narrow = plumb_real_at(b, m->packed, m->net->embed_packed);
    if (m->net->embed_packed < 0)
        PLUMB_TRY(plumb_op_gather_fwd(b, V(x, n, s->c), V(embed, s->v, s->c), VI(ids, n)));
    else
        PLUMB_TRY(plumb_op_gather_fwd(b, V(x, n, s->c), V(narrow, s->v, s->c), VI(ids, n)));
    if (s->embed_scale != 1.0f)
        PLUMB_TRY(plumb_op_scale_fwd(b, V(x, n, s->c), V(x, n, s->c), plumb_embed_scale(m)));
    if (!s->positions)
        return PLUMB_OK;
    const float *positions = plumb_held(m, m->net->positions);
    PLUMB_TRY(
        plumb_op_gather_fwd(b, V(scratch, n, s->c), V(positions, s->max_pos, s->c), VI(pos, n)));
    return plumb_op_add_fwd(b, V(x, n, s->c), V(x, n, s->c), V(scratch, n, s->c));
}

static plumb_status norm(const plumb_model *m, plumb_real *y, float *rstd, const plumb_real *x,
                         int64_t w, int64_t n, int64_t c)
{
    struct plumb_backend *b = m->backend;
    if (m->spec.block.layer_norm)
        return plumb_op_layernorm_fwd(
            b, V(y, n, c), V(rstd + n, n), V(rstd, n), V(x, n, c), V(plumb_held(m, w), c),
            V(plumb_held(m, plumb_norm_bias(w, c)), c), (float)m->spec.eps);
    return plumb_op_rmsnorm_fwd(b, V(y, n, c), V(rstd, n), V(x, n, c), V(plumb_held(m, w), c),
                                (float)m->spec.eps, m->spec.block.norm_shift);
}

plumb_status plumb_norm_forward(const plumb_model *m, plumb_real *y, float *rstd,
                                const plumb_real *x, int64_t n)
{
    return norm(m, y, rstd, x, m->net->norm, n, m->spec.c);
}

plumb_status plumb_head_norm_forward(const plumb_model *m, plumb_real *y, float *rstd,
                                     const plumb_real *x, int64_t n)
{
    struct plumb_backend *b = m->backend;
    const struct plumb_spec *s = &m->spec;
    PLUMB_TRY(plumb_norm_forward(m, y, rstd, x, n));
    if (s->head_scale == 1.0f)
        return PLUMB_OK;
    return plumb_op_scale_fwd(b, V(y, n, s->c), V(y, n, s->c), s->head_scale);
}

/* Computes out = x + residual_scale norm(y), all (n,c), with the block's norm `place`; y must then
 * be another buffer than out. If the block lacks this norm, out = x + residual_scale y, and y must
 * be out. */
static plumb_status join(const plumb_model *m, const struct plumb_layer *p,
                         enum plumb_norm_place place, plumb_real *out, float *rstd,
                         const plumb_real *y, const plumb_real *x, int64_t n)
{
    struct plumb_backend *b = m->backend;
    const int64_t c = m->spec.c;
    const float scale = m->spec.block.residual_scale;
    const struct plumb_tensor *sum = V(out, n, c);
    if (p->norm[place] >= 0)
        PLUMB_TRY(norm(m, out, rstd, y, p->norm[place], n, c));
    if (scale != 1.0f)
        PLUMB_TRY(plumb_op_scale_fwd(b, sum, sum, scale));
    return plumb_op_add_fwd(b, sum, sum, V(x, n, c));
}

/* Calls join(). If w >= 0, also computes the norm of out with the weights at offset w: writes its
 * output to y and its statistics to norm_rstd. Sum and norm are one kernel if the norm is an
 * RMSNorm, the branch has no norm of its own, and residual_scale is 1. */
static plumb_status join_and_norm(const plumb_model *m, const struct plumb_layer *p,
                                  enum plumb_norm_place place, plumb_real *out,
                                  const struct plumb_act *a, const plumb_real *branch,
                                  const plumb_real *x, int64_t w, plumb_real *y, float *norm_rstd,
                                  int64_t n)
{
    struct plumb_backend *b = m->backend;
    const struct plumb_block *block = &m->spec.block;
    const int64_t c = m->spec.c;
    if (w >= 0 && p->norm[place] < 0 && block->residual_scale == 1.0f && !block->layer_norm)
        return plumb_op_add_rmsnorm_fwd(b, V(out, n, c), V(y, n, c), V(norm_rstd, n),
                                        V(branch, n, c), V(x, n, c), V(plumb_held(m, w), c),
                                        (float)m->spec.eps, block->norm_shift);
    PLUMB_TRY(join(m, p, place, out, a->rstd[place], branch, x, n));
    return w < 0 ? PLUMB_OK : norm(m, y, norm_rstd, out, w, n, c);
}

static plumb_status qk_norm(const plumb_model *m, const struct plumb_layer *p,
                            const struct plumb_act *a, int64_t n)
{
    const struct plumb_spec *s = &m->spec;
    const int64_t q = s->h * s->d, k = s->hk * s->d, wq = qk_width(s, q), wk = qk_width(s, k);
    PLUMB_TRY(norm(m, a->q, a->rstdq, a->q0, p->q_norm, n * q / wq, wq));
    return norm(m, a->k, a->rstdk, a->k0, p->k_norm, n * k / wk, wk);
}

/* Rotates q and k, if layer l uses a rotary embedding, and writes the keys and values to the
 * layer's KV pages. */
static plumb_status rotate_and_write(const plumb_model *m, int64_t l, const struct plumb_act *a,
                                     const struct plumb_rows *rows)
{
    struct plumb_backend *b = m->backend;
    const struct plumb_spec *s = &m->spec;
    const int64_t n = rows->n, hk = s->hk, d = s->d;
    const int i = s->rotation[l];
    const struct plumb_tensor *k = V(a->k, n, hk, d), *v = V(a->v, n, hk, d);
    const struct plumb_tensor *kc = V(a->kc, a->pages, hk, d, PLUMB_KV_PAGE);
    const struct plumb_tensor *vc = V(a->vc, a->pages, hk, PLUMB_KV_PAGE, d);
    if (i < 0)
        return plumb_op_kv_write_fwd(b, kc, vc, k, v, rows);
    const float *cos_sin = m->rope + plumb_rope_at(s, i);
    const struct plumb_tensor *table = V(cos_sin, s->max_pos, s->rope[i].columns);
    return plumb_op_rope_write_fwd(b, V(a->q, n, s->h, d), kc, vc, k, v, table, VI(rows->pos, n),
                                   rows);
}

/* Computes q, k and v of `in` with one product, normalises and rotates q and k as separate_qkv
 * does, writes q to a->q, and writes the keys and values to the layer's KV pages. */
static plumb_status joined_qkv(const plumb_model *m, int64_t l, const struct plumb_act *a,
                               const plumb_real *in, const struct plumb_rows *rows)
{
    struct plumb_backend *b = m->backend;
    const struct plumb_spec *s = &m->spec;
    const struct plumb_layer *p = &m->net->layer[l];
    const int64_t n = rows->n, h = s->h, hk = s->hk, d = s->d;
    const int i = s->rotation[l];
    const float *cos_sin = m->rope + plumb_rope_at(s, i < 0 ? 0 : i);
    const struct plumb_tensor *table = i < 0 ? NULL : V(cos_sin, s->max_pos, s->rope[i].columns);
    const struct plumb_tensor *q = V(a->q, n, h, d), *qkv = V(a->qkv, n, h + 2 * hk, d);
    const struct plumb_tensor *kc = V(a->kc, a->pages, hk, d, PLUMB_KV_PAGE);
    const struct plumb_tensor *vc = V(a->vc, a->pages, hk, PLUMB_KV_PAGE, d);
    PLUMB_TRY(plumb_project_joined_forward(m, l, PLUMB_Q, 3, a->qkv, in, n));
    if (s->block.qk_norm == PLUMB_QK_NORM_NONE)
        return plumb_op_qkv_write_fwd(b, q, kc, vc, qkv, NULL, table, rows);
    const struct plumb_op_qk_norm norm = {V(a->q0, n, h, d),
                                          V(a->k0, n, hk, d),
                                          V(a->rstdq, n, h),
                                          V(a->rstdk, n, hk),
                                          V(plumb_held(m, p->q_norm), d),
                                          V(plumb_held(m, p->k_norm), d),
                                          (float)s->eps,
                                          s->block.norm_shift};
    return plumb_op_qkv_write_fwd(b, q, kc, vc, qkv, &norm, table, rows);
}

/* Does the same as joined_qkv, but with one product each for q, k and v. q and k are normalised if
 * the model has norms for them. */
static plumb_status separate_qkv(const plumb_model *m, int64_t l, const struct plumb_act *a,
                                 const plumb_real *in, const struct plumb_rows *rows)
{
    const bool normed = m->spec.block.qk_norm != PLUMB_QK_NORM_NONE;
    const int64_t n = rows->n;
    PLUMB_TRY(plumb_project_forward(m, l, PLUMB_Q, normed ? a->q0 : a->q, in, n));
    PLUMB_TRY(plumb_project_forward(m, l, PLUMB_K, normed ? a->k0 : a->k, in, n));
    PLUMB_TRY(plumb_project_forward(m, l, PLUMB_V, a->v, in, n));
    if (normed)
        PLUMB_TRY(qk_norm(m, &m->net->layer[l], a, n));
    return rotate_and_write(m, l, a, rows);
}

/* Computes the attention part of a layer: q, k and v, their norm and rotation, a->o = attention
 * over the KV pages, and the output projection of a->o. The result of the output projection goes to
 * a->b1 if a norm follows, else to a->xm. */
static plumb_status attention(const plumb_model *m, int64_t l, const struct plumb_act *a,
                              const struct plumb_rows *rows)
{
    const struct plumb_spec *s = &m->spec;
    const struct plumb_layer *p = &m->net->layer[l];
    struct plumb_backend *b = m->backend;
    const plumb_real *in = p->norm[PLUMB_NORM_ATTENTION] >= 0 ? a->n1 : a->x;
    const int64_t n = rows->n, h = s->h, hk = s->hk, d = s->d;
    const struct plumb_attn_shape shape = plumb_attention_shape(s, l);
    const struct plumb_tensor *q = V(a->q, n, h, d);
    const struct plumb_tensor *kc = V(a->kc, a->pages, hk, d, PLUMB_KV_PAGE);
    const struct plumb_tensor *vc = V(a->vc, a->pages, hk, PLUMB_KV_PAGE, d);
    PLUMB_TRY((a->qkv ? joined_qkv : separate_qkv)(m, l, a, in, rows));
    PLUMB_TRY(
        plumb_op_attention_fwd(b, V(a->o, n, h, d), V(a->lse, n, h), q, kc, vc, rows, &shape));
    plumb_real *out = p->norm[PLUMB_NORM_ATTENTION_OUT] >= 0 ? a->b1 : a->xm;
    return plumb_project_forward(m, l, PLUMB_O, out, a->o, n);
}

/* Computes the MLP of a layer without its last projection: a->y = act(gate) up for the input `in`,
 * or act(up) if the block has no gate. */
static plumb_status mlp(const plumb_model *m, int64_t l, const struct plumb_act *a,
                        const plumb_real *in, int64_t n)
{
    const struct plumb_spec *s = &m->spec;
    struct plumb_backend *b = m->backend;
    if (a->gate_up) {
        PLUMB_TRY(plumb_project_joined_forward(m, l, PLUMB_GATE, 2, a->gate_up, in, n));
        return plumb_op_gated_fwd(b, V(a->y, n, s->f), V(a->gate_up, n, 2, s->f),
                                  s->block.activation);
    }
    if (s->block.gated)
        PLUMB_TRY(plumb_project_forward(m, l, PLUMB_GATE, a->gate, in, n));
    PLUMB_TRY(plumb_project_forward(m, l, PLUMB_UP, a->up, in, n));
    const struct plumb_tensor *up = V(a->up, n, s->f);
    const struct plumb_tensor *gate = s->block.gated ? V(a->gate, n, s->f) : up;
    return plumb_op_act_fwd(b, V(a->y, n, s->f), gate, s->block.gated ? up : NULL,
                            s->block.activation);
}

/* Does the work of plumb_layer_forward. ready: true if a->n1, the output of the first norm, has
 * been computed already. next: if not NULL, the activations of layer l + 1, whose first norm
 * (next->n1) is computed here, too. */
static plumb_status layer(const plumb_model *m, int64_t l, const struct plumb_act *a, bool ready,
                          plumb_real *out, const struct plumb_act *next,
                          const struct plumb_rows *rows)
{
    const struct plumb_spec *s = &m->spec;
    const struct plumb_layer *p = &m->net->layer[l];
    const int64_t n = rows->n;
    const int64_t first = p->norm[PLUMB_NORM_ATTENTION], second = p->norm[PLUMB_NORM_MLP];
    const plumb_real *mid = s->block.parallel ? a->x : a->xm;
    PLUMB_TRY(plumb_provider_want(m, l));
    if (first >= 0 && !ready)
        PLUMB_TRY(norm(m, a->n1, a->rstd[PLUMB_NORM_ATTENTION], a->x, first, n, s->c));
    PLUMB_TRY(attention(m, l, a, rows));
    const plumb_real *branch = p->norm[PLUMB_NORM_ATTENTION_OUT] >= 0 ? a->b1 : a->xm;
    PLUMB_TRY(join_and_norm(m, p, PLUMB_NORM_ATTENTION_OUT, a->xm, a, branch, a->x,
                            s->block.parallel ? -1 : second, a->n2, a->rstd[PLUMB_NORM_MLP], n));
    if (second >= 0 && s->block.parallel)
        PLUMB_TRY(norm(m, a->n2, a->rstd[PLUMB_NORM_MLP], mid, second, n, s->c));
    PLUMB_TRY(mlp(m, l, a, second >= 0 ? a->n2 : mid, n));
    if (!out)
        return PLUMB_OK;
    plumb_real *down = p->norm[PLUMB_NORM_MLP_OUT] >= 0 ? a->b2 : out;
    PLUMB_TRY(plumb_project_forward(m, l, PLUMB_DOWN, down, a->y, n));
    return join_and_norm(m, p, PLUMB_NORM_MLP_OUT, out, a, down, a->xm,
                         next ? m->net->layer[l + 1].norm[PLUMB_NORM_ATTENTION] : -1,
                         next ? next->n1 : NULL, next ? next->rstd[PLUMB_NORM_ATTENTION] : NULL, n);
}

plumb_status plumb_layer_forward(const plumb_model *m, int64_t l, const struct plumb_act *a,
                                 plumb_real *out, const struct plumb_rows *rows)
{
    return layer(m, l, a, false, out, NULL, rows);
}

plumb_status plumb_layers_forward(const plumb_model *m, const struct plumb_act *act,
                                  plumb_real *out, const struct plumb_rows *rows)
{
    for (int64_t l = 0; l < m->spec.l; l++) {
        const struct plumb_act *next = l + 1 < m->spec.l ? &act[l + 1] : NULL;
        PLUMB_TRY(layer(m, l, &act[l], l > 0, next ? next->x : out, next, rows));
    }
    return PLUMB_OK;
}
