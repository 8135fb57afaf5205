/* linear.c - the matrix products of a model: the projections of its blocks, and its head.
 * Layer 4. Includes op/, model/net.h. */
#include "model/net.h"

struct plumb_tensor plumb_linear_packed(const plumb_model *m, const struct plumb_linear *p)
{
    const struct plumb_backend *b = m->backend;
    const int64_t count = b->k.linear_packed_count(p->out, p->in);
    if (p->packed < 0)
        return *V(m->w + p->w, count);
    return *V(plumb_real_at(b, m->packed, p->packed), count);
}

struct plumb_tensor plumb_linear_weight(const plumb_model *m, const struct plumb_linear *p)
{
    const struct plumb_backend *b = m->backend;
    if (b->dtype == PLUMB_F32)
        return *V(m->w + p->w, p->out, p->in);
    return *V(plumb_real_at(b, m->packed, p->packed), p->out, p->in);
}

/* y (n,out) = x w^T + bias; y is float32 or of b's dtype. */
static plumb_status forward(const plumb_model *m, const struct plumb_linear *p,
                            const struct plumb_tensor *y, const plumb_real *x, int64_t n)
{
    struct plumb_backend *b = m->backend;
    const struct plumb_tensor packed = plumb_linear_packed(m, p);
    return plumb_op_linear_fwd(b, y, V(x, n, p->in), &packed,
                               p->bias < 0 ? NULL : V(m->w + p->bias, p->out));
}

static plumb_status backward(const plumb_model *m, const struct plumb_linear *p, plumb_real *dx,
                             bool accumulate, float *grad, const plumb_real *dy,
                             const plumb_real *x, const struct plumb_back *w, int64_t n)
{
    struct plumb_backend *b = m->backend;
    const struct plumb_tensor weight = plumb_linear_weight(m, p);
    const struct plumb_tensor *work = V(w->work, w->work_count);
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
    return forward(m, p, V(y, n, p->out), x, n);
}

plumb_status plumb_project_backward(const plumb_model *m, int64_t l, enum plumb_projection id,
                                    plumb_real *dx, bool accumulate, float *grad,
                                    const plumb_real *dy, const plumb_real *x,
                                    const struct plumb_back *w, int64_t n)
{
    return backward(m, &m->net->layer[l].project[id], dx, accumulate, grad, dy, x, w, n);
}

plumb_status plumb_head_forward(const plumb_model *m, float *y, const plumb_real *x, int64_t n)
{
    struct plumb_backend *b = m->backend;
    const struct plumb_linear *head = &m->net->head;
    PLUMB_TRY(forward(m, head, V(y, n, head->out), x, n));
    return m->spec.head_cap > 0 ? plumb_op_softcap_fwd(b, V(y, n, head->out), m->spec.head_cap)
                                : PLUMB_OK;
}

plumb_status plumb_head_backward(const plumb_model *m, plumb_real *dx, float *grad,
                                 const plumb_real *dy, const plumb_real *x,
                                 const struct plumb_back *w, int64_t n)
{
    return backward(m, &m->net->head, dx, false, grad, dy, x, w, n);
}
