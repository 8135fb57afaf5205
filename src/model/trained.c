/* trained.c - the trained view of a model.
 * Layer 4. Includes model/lora.h. */
#include "model/lora.h"

struct plumb_trained plumb_model_trained(const plumb_model *m)
{
    const struct plumb_adapter *a = m->adapter;
    if (a)
        return (struct plumb_trained){
            .n_param = a->n_param, .count = a->count, .param = a->param, .w = a->weights.w};
    return (struct plumb_trained){
        .n_param = m->n_param, .count = m->count, .param = m->param, .w = m->w};
}

int64_t plumb_trained_begin(const plumb_model *m, int64_t l)
{
    return m->adapter ? m->adapter->begin[l] : m->net->layer[l].begin;
}

const struct plumb_lora *plumb_adapter_lora(const plumb_model *m)
{
    return m->adapter ? &m->adapter->lora : NULL;
}
