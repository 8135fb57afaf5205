/* normal.c - reference implementation of the random weights (normal in kernels.h).
 * Layer 1 (ref). Includes base/, kernels.h. */
#include "base/rng.h"
#include "kernels.h"

plumb_status plumb_ref_normal(plumb_stream *s, float *w, int64_t n, double std,
                              const struct plumb_rng_key *key)
{
    struct plumb_rng_key k = *key;
    (void)s;
    for (int64_t i = 0; i < n; i++) {
        k.position = (uint32_t)i;
        k.sample = (uint32_t)(i >> 32);
        w[i] = (float)(std * plumb_rng_normal(&k));
    }
    return PLUMB_OK;
}
