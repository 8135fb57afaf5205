/* linear.c - the matrix products of a model: the projections of its blocks, and its head.
 * Layer 4. Includes op/, model/lora.h. */
#include "model/lora.h"
#include "model/provider.h"

bool plumb_linear_packs(const struct plumb_backend *b)
{
    return !b->k.linear_plain || b->dtype != PLUMB_F32;
}

struct plumb_tensor plumb_linear_packed(const struct plumb_backend *b,
                                        const struct plumb_weights *w, const struct plumb_linear *p)
{
    const int64_t count = b->k.linear_packed_count(p->out, p->in);
    if (p->packed < 0)
        return *V(w->w + p->w, count);
    return *V(plumb_real_at(b, w->packed, p->packed - w->packed_begin), count);
}

struct plumb_tensor plumb_linear_weight(const struct plumb_backend *b,
                                        const struct plumb_weights *w, const struct plumb_linear *p)
{
    if (b->dtype == PLUMB_F32)
        return *V(w->w + p->w, p->out, p->in);
    return *V(plumb_real_at(b, w->packed, p->packed - w->packed_begin), p->out, p->in);
}

/* y (n,out) = x w^T + bias; y is float32 or of b's dtype. */
static plumb_status forward(struct plumb_backend *b, const struct plumb_weights *w,
                            const struct plumb_linear *p, const struct plumb_tensor *y,
                            const plumb_real *x, int64_t n)
{
    const struct plumb_tensor packed = plumb_linear_packed(b, w, p);
    return plumb_op_linear_fwd(b, y, V(x, n, p->in), &packed,
                               p->bias < 0 ? NULL : V(w->w + p->bias, p->out));
}

/* dx = dy w (or +=), and grad += the gradients of w and bias, unless grad is NULL (frozen). */
static plumb_status backward(struct plumb_backend *b, const struct plumb_weights *weights,
                             const struct plumb_linear *p, plumb_real *dx, bool accumulate,
                             float *grad, const plumb_real *dy, const plumb_real *x,
                             const struct plumb_back *w, int64_t n)
{
    const struct plumb_tensor weight = plumb_linear_weight(b, weights, p);
    const struct plumb_tensor *work = V(w->work, w->work_count);
    if (grad)
        PLUMB_TRY(plumb_op_linear_bwd_w(b, V(grad + p->w, p->out, p->in),
                                        p->bias < 0 ? NULL : V(grad + p->bias, p->out),
                                        V(dy, n, p->out), V(x, n, p->in), work));
    return plumb_op_linear_bwd_x(b, V(dx, n, p->in), V(dy, n, p->out), &weight, work, accumulate);
}

plumb_status plumb_project_forward(const plumb_model *m, int64_t l, enum plumb_projection id,
                                   plumb_real *y, const plumb_real *x, int64_t n)
{
    struct plumb_backend *b = m->backend;
    const struct plumb_linear *p = &m->net->layer[l].project[id];
    const struct plumb_weights w = plumb_weights_of_layer(m, l);
    PLUMB_TRY(forward(b, &w, p, V(y, n, p->out), x, n));
    return plumb_lora_forward(m, l, id, y, x, n);
}

plumb_status plumb_project_backward(const plumb_model *m, int64_t l, enum plumb_projection id,
                                    plumb_real *dx, bool accumulate, float *grad,
                                    const plumb_real *dy, const plumb_real *x,
                                    const struct plumb_back *w, int64_t n)
{
    const struct plumb_weights weights = plumb_weights_of_layer(m, l);
    PLUMB_TRY(backward(m->backend, &weights, &m->net->layer[l].project[id], dx, accumulate,
                       m->adapter ? NULL : grad, dy, x, w, n));
    return plumb_lora_backward(m, l, id, dx, grad, dy, x, n);
}

/* Returns the head: the score rows of an adapter, or the head of the model itself. *w is the vector
 * that holds it. */
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
    PLUMB_TRY(forward(b, &w, head, V(y, n, head->out), x, n));
    return m->spec.head_cap > 0 ? plumb_op_softcap_fwd(b, V(y, n, head->out), m->spec.head_cap)
                                : PLUMB_OK;
}

plumb_status plumb_head_backward(const plumb_model *m, plumb_real *dx, float *grad,
                                 const plumb_real *dy, const plumb_real *x,
                                 const struct plumb_back *w, int64_t n)
{
    struct plumb_weights weights;
    const struct plumb_linear *head = head_of(&weights, m);
    return backward(m->backend, &weights, head, dx, false, grad, dy, x, w, n);
}
