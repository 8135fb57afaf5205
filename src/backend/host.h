/* host.h - host memory for the backends whose kernels run on the CPU.
 * Layer 2, private to backend/. Includes backend.h. */
#ifndef PLUMB_BACKEND_HOST_H
#define PLUMB_BACKEND_HOST_H

#include "backend/backend.h"
#include "base/pool.h"

/* Creates a backend with everything except the kernel table. threads >= 1; with 1 there is no pool
 * of worker threads. The caller owns *out. */
plumb_status plumb_backend_host_create(struct plumb_backend **out, const char *name, int threads);

#endif
