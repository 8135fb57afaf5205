/* host.h - host memory for the backends whose kernels run on the CPU.
 * Layer 2, private to backend/. Includes backend.h. */
#ifndef PLUMB_BACKEND_HOST_H
#define PLUMB_BACKEND_HOST_H

#include "backend/backend.h"
#include "base/pool.h"

/* Fills in everything of *out except the kernel table, with `threads` >= 1 workers (none when
 * it is 1). *out is owned by the caller. */
plumb_status plumb_backend_host_create(struct plumb_backend **out, const char *name, int threads);

#endif
