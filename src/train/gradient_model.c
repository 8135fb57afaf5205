/* gradient_model.c - allocates the gradient of a model, whole or sharded, and attaches it to a
 * pass.
 * Layer 5. Includes train/gradient_model.h, train/gradient_parts.h, base/. */
#include "train/gradient_model.h"

#include <stdlib.h>

#include "train/gradient_parts.h"

plumb_status plumb_gradient_open(struct plumb_gradient *g, const plumb_model *m, plumb_comm *comm,
                                 const struct plumb_config *cfg, int64_t most_micro_batches)
{
    struct plumb_gradient_parts parts = {0};
    if (cfg->train.shard != PLUMB_SHARD_GRADIENTS)
        return plumb_gradient_init_shared(
            g, m->backend, comm, plumb_model_part(m, plumb_model_parts(m)), most_micro_batches);
    plumb_status st = plumb_comm_agree(comm, plumb_gradient_parts_of(&parts, m, cfg));
    if (st == PLUMB_OK)
        st = plumb_gradient_init_sharded(g, m->backend, comm, &parts, most_micro_batches);
    free((void *)(uintptr_t)parts.border);
    return st;
}

void plumb_gradient_attach(struct plumb_gradient *g, plumb_pass *pass)
{
    plumb_pass_on_final(pass, plumb_gradient_final, g);
    if (g->rounds)
        plumb_pass_on_place(pass, plumb_gradient_place, g);
}
