/* gradient_state.c - fills a gradient on the device with -0.0, the sum of zero micro-batches.
 * Layer 5. Includes train/gradient_state.h, base/, comm/tree.h. */
#include "train/gradient_state.h"

#include <stdlib.h>

#include "base/num.h"
#include "comm/tree.h"

plumb_status plumb_gradient_empty(struct plumb_backend *b, float *x, int64_t n)
{
    enum { STAGE = 65536 };
    const int64_t size = (int64_t)sizeof(*x);
    if (b->place == PLUMB_HOST) {
        plumb_tree_empty(x, n);
        return PLUMB_OK;
    }
    float *stage = malloc(STAGE * sizeof(*stage));
    PLUMB_REQUIRE(stage, PLUMB_ERR_NOMEM, "gradient of no micro-batches");
    plumb_tree_empty(stage, STAGE);
    int64_t done = plumb_min_i64(STAGE, n);
    plumb_status st = b->to_device(b, x, stage, done * size);
    for (int64_t part = 0; done < n && st == PLUMB_OK; done += part) {
        part = plumb_min_i64(done, n - done);
        st = b->copy(b, x + done, x, part * size);
    }
    free(stage);
    return st;
}
