/* backend_ref.c - the backend of the scalar reference kernels: host memory, one thread.
 * Layer 2. Includes host.h. */
#include "backend/host.h"

plumb_status plumb_backend_ref_create(struct plumb_backend **out)
{
    PLUMB_TRY(plumb_backend_host_create(out, "ref", 1));
    plumb_kernels_init_ref(&(*out)->k);
    return PLUMB_OK;
}
