/* project.c - the projections of a block and the head: the products with the weights of the model,
 * plus the products of an adapter.
 * Layer 4. Includes op/, model/lora.h, model/provider.h. */
#include "model/lora.h"
#include "model/provider.h"

plumb_status plumb_project_forward(const plumb_model *m, int64_t l, enum plumb_projection id,
                                   plumb_real *y, const plumb_real *x, int64_t n)
{
    struct plumb_backend *b = m->backend;
    const struct plumb_linear *p = &m->net->layer[l].project[id];
    const struct plumb_weights w = plumb_weights_of_layer(m, l);
    const float *bias = p->bias < 0 ? NULL : plumb_held(m, p->bias);
    PLUMB_TRY(plumb_linear_forward(b, &w, p, V(y, n, p->out), x, n, bias));
    return plumb_lora_forward(m, l, id, y, (struct plumb_columns){0, p->out}, x, n);
}

plumb_status plumb_project_backward(const plumb_model *m, int64_t l, enum plumb_projection id,
                                    plumb_real *dx, bool accumulate, float *grad,
                                    const plumb_real *dy, const plumb_real *x,
                                    const struct plumb_back *w, int64_t n)
{
    const struct plumb_weights weights = plumb_weights_of_layer(m, l);
    PLUMB_TRY(plumb_linear_backward(m->backend, &weights, &m->net->layer[l].project[id], dx,
                                    accumulate, m->adapter ? NULL : grad, dy, x, w, n));
    return plumb_lora_backward(m, l, id, dx, grad, dy,
                               (struct plumb_columns){0, m->net->layer[l].project[id].out}, x, n);
}

/* ---- joined projections ---------------------------------------------------------------------- */

/* The kernels that read joined outputs move 8 elements at a time, so sizes must be multiples of
 * 8. */
struct plumb_joined plumb_joined_of(const struct plumb_backend *b, const struct plumb_spec *s)
{
    const int64_t q = s->h * s->d, kv = s->hk * s->d, align = PLUMB_PARAM_ALIGN;
    const bool *bias = s->block.bias;
    /* a bias is placed between the matrices (params.c), which are then not adjacent in every enum
     * plumb_form */
    const bool no_bias = !bias[PLUMB_Q] && !bias[PLUMB_K] && !bias[PLUMB_V];
    /* the kernel normalises heads of up to 256 elements by RMSNorm */
    const bool normed =
        s->block.qk_norm == PLUMB_QK_NORM_NONE ||
        (s->block.qk_norm == PLUMB_QK_NORM_HEAD && !s->block.layer_norm && s->d <= 256);
    const struct plumb_joined j = {.qkv = normed && no_bias && s->d % 8 == 0 &&
                                          q * s->c % align == 0 && kv * s->c % align == 0,
                                   .gate_up = s->block.gated && s->f % 8 == 0 &&
                                              s->f * s->c % align == 0 && !bias[PLUMB_GATE] &&
                                              !bias[PLUMB_UP]};
    return b->dtype == PLUMB_BF16 ? j : (struct plumb_joined){false, false};
}

/* Returns one linear layer that stands for the joined projections. Its weights begin at those of
 * the first projection. */
static struct plumb_linear join(const plumb_model *m, int64_t l, enum plumb_projection first,
                                int parts)
{
    const struct plumb_linear *p = &m->net->layer[l].project[first];
    struct plumb_linear all = {0, p->in, p->w, -1, p->packed};
    for (int i = 0; i < parts; i++)
        all.out += p[i].out;
    return all;
}

plumb_status plumb_project_joined_forward(const plumb_model *m, int64_t l,
                                          enum plumb_projection first, int parts, plumb_real *y,
                                          const plumb_real *x, int64_t n)
{
    struct plumb_backend *b = m->backend;
    const struct plumb_linear *p = &m->net->layer[l].project[first];
    const struct plumb_linear all = join(m, l, first, parts);
    const struct plumb_weights w = plumb_weights_of_layer(m, l);
    int64_t at = 0;
    PLUMB_TRY(plumb_linear_forward(b, &w, &all, V(y, n, all.out), x, n, NULL));
    for (int i = 0; i < parts; at += p[i++].out)
        PLUMB_TRY(plumb_lora_forward(m, l, (enum plumb_projection)(first + i), y,
                                     (struct plumb_columns){at, all.out}, x, n));
    return PLUMB_OK;
}

plumb_status plumb_project_joined_backward(const plumb_model *m, int64_t l,
                                           enum plumb_projection first, int parts, plumb_real *dx,
                                           float *grad, const plumb_real *dy, const plumb_real *x,
                                           const struct plumb_back *w, int64_t n)
{
    const struct plumb_linear *p = &m->net->layer[l].project[first];
    const struct plumb_linear all = join(m, l, first, parts);
    const struct plumb_weights weights = plumb_weights_of_layer(m, l);
    int64_t at = 0;
    PLUMB_TRY(plumb_linear_backward(m->backend, &weights, &all, dx, false, m->adapter ? NULL : grad,
                                    dy, x, w, n));
    for (int i = 0; i < parts; at += p[i++].out)
        PLUMB_TRY(plumb_lora_backward(m, l, (enum plumb_projection)(first + i), dx, grad, dy,
                                      (struct plumb_columns){at, all.out}, x, n));
    return PLUMB_OK;
}

/* ---- the head -------------------------------------------------------------------------------- */

/* Returns the head: the score rows of an adapter, or the head of the model itself. Sets *w to the
 * weights that contain it. */
static const struct plumb_linear *head_of(struct plumb_weights *w, const plumb_model *m)
{
    const bool adapted = m->adapter && m->adapter->score.w >= 0;
    *w = adapted ? m->adapter->weights : plumb_weights_of_head(m);
    return adapted ? &m->adapter->score : &m->net->head;
}

plumb_status plumb_head_forward(const plumb_model *m, float *y, const plumb_real *x, int64_t n)
{
    struct plumb_backend *b = m->backend;
    struct plumb_weights w;
    const struct plumb_linear *head = head_of(&w, m);
    /* no head has a bias */
    PLUMB_TRY(plumb_linear_forward(b, &w, head, V(y, n, head->out), x, n, NULL));
    return m->spec.head_cap > 0 ? plumb_op_softcap_fwd(b, V(y, n, head->out), m->spec.head_cap)
                                : PLUMB_OK;
}

plumb_status plumb_head_backward(const plumb_model *m, plumb_real *dx, float *grad,
                                 const plumb_real *dy, const plumb_real *x,
                                 const struct plumb_back *w, int64_t n)
{
    struct plumb_weights weights;
    const struct plumb_linear *head = head_of(&weights, m);
    return plumb_linear_backward(m->backend, &weights, head, dx, false, grad, dy, x, w, n);
}
