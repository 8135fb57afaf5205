/* gradient_model.c - allocates the gradient of a model, whole or sharded, and attaches it to a
 * pass.
 * Layer 5. Includes train/gradient_model.h, base/. */
#include "train/gradient_model.h"

#include <stdlib.h>

plumb_status plumb_gradient_open(struct plumb_gradient *g, const plumb_model *m, plumb_comm *comm,
                                 const struct plumb_config *cfg, int64_t most_micro_batches)
{
    const int64_t n = plumb_model_parts(m);
    if (cfg->train.shard != PLUMB_SHARD_GRADIENTS)
        return plumb_gradient_init_shared(g, m->backend, comm, plumb_model_part(m, n),
                                          most_micro_batches);
    int64_t *border = calloc((size_t)n + 1, sizeof(*border));
    PLUMB_TRY(plumb_comm_agree(
        comm, border ? PLUMB_OK
                     : plumb_fail_at(PLUMB_ERR_NOMEM, __FILE__, __LINE__, "parts of a gradient")));
    for (int64_t i = 0; i <= n; i++)
        border[i] = plumb_model_part(m, i);
    const struct plumb_gradient_parts parts = {.border = border,
                                               .n = n,
                                               .tied = plumb_model_tied(m),
                                               .bucket = cfg->comm.bucket * 1000000 /
                                                         (int64_t)sizeof(float)};
    const plumb_status st =
        plumb_gradient_init_sharded(g, m->backend, comm, &parts, most_micro_batches);
    free(border);
    return st;
}

void plumb_gradient_attach(struct plumb_gradient *g, plumb_pass *pass)
{
    plumb_pass_on_final(pass, plumb_gradient_final, g);
    if (g->rounds)
        plumb_pass_on_place(pass, plumb_gradient_place, g);
}
