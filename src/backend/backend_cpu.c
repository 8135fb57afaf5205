/* backend_cpu.c - the backend of the fast CPU kernels: host memory and a pool of threads.
 * Layer 2. Includes host.h, base/. */
#include "backend/host.h"

#include <sched.h>

#include "base/num.h"

/* Returns the number of cores that this process may use, divided by the number of ranks that may
 * use them. A launcher that does not bind processes to cores offers all cores of a host to all of
 * its ranks. */
static int cores_for(int sharing)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    const int cores = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
    return (int)plumb_max_i64(1, cores / plumb_max_i64(1, sharing));
}

plumb_status plumb_backend_cpu_create(struct plumb_backend **out, int threads, int sharing)
{
    *out = NULL;
    PLUMB_REQUIRE(threads >= 0, PLUMB_ERR_ARG, "threads=%d, expected 0 (automatic) or more",
                  threads);
    PLUMB_TRY(plumb_backend_host_create(out, "cpu", threads ? threads : cores_for(sharing)));
    plumb_kernels_init_cpu(&(*out)->k);
    return PLUMB_OK;
}
