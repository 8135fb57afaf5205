/* project.c - the projections of a block and the head: the products with the weights of the model,
 * and what an adapter adds to them.
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
    return plumb_lora_forward(m, l, id, y, x, n);
}

plumb_status plumb_project_backward(const plumb_model *m, int64_t l, enum plumb_projection id,
                                    plumb_real *dx, bool accumulate, float *grad,
                                    const plumb_real *dy, const plumb_real *x,
                                    const struct plumb_back *w, int64_t n)
{
    const struct plumb_weights weights = plumb_weights_of_layer(m, l);
    PLUMB_TRY(plumb_linear_backward(m->backend, &weights, &m->net->layer[l].project[id], dx,
                                    accumulate, m->adapter ? NULL : grad, dy, x, w, n));
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
