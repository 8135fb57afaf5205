/* pool.h - worker threads that split outputs, never sums.
 * Layer 0. Includes status.h. */
#ifndef PLUMB_BASE_POOL_H
#define PLUMB_BASE_POOL_H

#include <stdint.h>

#include "base/status.h"

typedef struct plumb_pool plumb_pool;

/* Work on items [begin, end); `thread` in [0, threads) names the caller's scratch. */
typedef void plumb_pool_fn(void *arg, int64_t begin, int64_t end, int thread);

/* threads >= 1, the caller counted as one. *out is owned by the caller. */
plumb_status plumb_pool_create(plumb_pool **out, int threads);
void plumb_pool_destroy(plumb_pool **p);     /* NULL is allowed */
int plumb_pool_threads(const plumb_pool *p); /* 1 for NULL */

/* Cuts [0, n) into chunks of `grain` items (the last may be shorter) and deals them to the
 * threads; returns when all are done. fn must give the same result for every cut.
 * With one thread, a NULL pool or n <= grain, fn runs once in the caller, on all of [0, n).
 * Not re-entrant: fn must not call it, and one thread at a time may use a pool. */
void plumb_pool_run(plumb_pool *p, int64_t n, int64_t grain, plumb_pool_fn *fn, void *arg);

#endif
