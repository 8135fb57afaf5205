/* trained.c - the trained view of a model.
 * Layer 4. Includes model/model.h. */
#include "model/model.h"

struct plumb_trained plumb_model_trained(const plumb_model *m)
{
    return (struct plumb_trained){
        .n_param = m->n_param, .count = m->count, .param = m->param, .w = m->w};
}
