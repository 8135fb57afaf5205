/* trained.c - lists the tensors of a model that a training run changes, and the parts in which
 * their gradients become final.
 * Layer 4. Includes model/lora.h. */
#include "model/lora.h"

struct plumb_trained plumb_model_trained(const plumb_model *m)
{
    const struct plumb_adapter *a = m->adapter;
    if (a)
        return (struct plumb_trained){
            .n_param = a->n_param, .count = a->count, .param = a->param, .w = a->weights.w};
    return (struct plumb_trained){
        .n_param = m->n_param, .count = m->count, .param = m->param, .w = m->masters ? NULL : m->w};
}

int64_t plumb_model_parts(const plumb_model *m)
{
    return m->spec.l + 2;
}

int64_t plumb_model_part(const plumb_model *m, int64_t i)
{
    const struct plumb_adapter *a = m->adapter;
    const int64_t layers = m->spec.l;
    if (i == 0)
        return 0;
    if (i == layers + 2)
        return a ? a->count : m->count;
    if (i == layers + 1)
        return !a ? m->net->norm : a->score.w >= 0 ? a->score.w : a->count;
    return a ? a->begin[i - 1] : m->net->layer[i - 1].begin;
}

bool plumb_model_tied(const plumb_model *m)
{
    return !m->adapter && m->net->head.w == m->net->embed;
}
