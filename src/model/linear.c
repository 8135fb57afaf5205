/* linear.c - the matrix products of a linear layer.
 * Layer 4. Includes op/, model/net.h. */
#include "model/net.h"

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

plumb_status plumb_linear_forward(struct plumb_backend *b, const struct plumb_weights *w,
                                  const struct plumb_linear *p, const struct plumb_tensor *y,
                                  const plumb_real *x, int64_t n, const float *bias)
{
    const struct plumb_tensor packed = plumb_linear_packed(b, w, p);
    return plumb_op_linear_fwd(b, y, V(x, n, p->in), &packed, bias ? V(bias, p->out) : NULL);
}

plumb_status plumb_linear_backward(struct plumb_backend *b, const struct plumb_weights *weights,
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
