/* gradient_parts.c - divides the trained vector of a model into the parts (layers) that the
 * backward writes one after another.
 * Layer 5. Includes train/gradient_parts.h, train/gradient_rounds.h. */
#include "train/gradient_parts.h"

#include <stdlib.h>

#include "train/gradient_rounds.h"

plumb_status plumb_gradient_parts_of(struct plumb_gradient_parts *out, const plumb_model *m,
                                     const struct plumb_config *cfg)
{
    const int64_t n = plumb_model_parts(m);
    int64_t *border = calloc((size_t)n + 1, sizeof(*border));
    PLUMB_REQUIRE(border, PLUMB_ERR_NOMEM, "parts of a gradient");
    for (int64_t i = 0; i <= n; i++)
        border[i] = plumb_model_part(m, i);
    *out = (struct plumb_gradient_parts){.border = border,
                                         .n = n,
                                         .tied = plumb_model_tied(m),
                                         .bucket =
                                             cfg->comm.bucket * 1000000 / (int64_t)sizeof(float)};
    return PLUMB_OK;
}

plumb_status plumb_gradient_divide(struct plumb_shards *out, const plumb_model *m,
                                   const plumb_comm *comm, const struct plumb_config *cfg)
{
    struct plumb_gradient_parts parts = {0};
    PLUMB_TRY(plumb_gradient_parts_of(&parts, m, cfg));
    const plumb_status st = plumb_rounds_divide(out, comm, &parts);
    free((void *)(uintptr_t)parts.border);
    return st;
}
