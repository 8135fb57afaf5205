/* pool.h - a thread pool. A job must split its outputs between the threads, and must not split one
 * sum: then its results do not depend on the number of threads.
 * Layer 0. Includes status.h. */
#ifndef PLUMB_BASE_POOL_H
#define PLUMB_BASE_POOL_H

#include <stdint.h>

#include "base/status.h"

typedef struct plumb_pool plumb_pool;

/* A job function. It works on the items [begin, end). `thread`, in [0, threads), is the index of
 * the calling thread; the function uses it to select its scratch memory. */
typedef void plumb_pool_fn(void *arg, int64_t begin, int64_t end, int thread);

/* Creates a pool of 1 to 1024 threads; the thread that calls plumb_pool_run is one of them. The
 * caller owns *out. Returns PLUMB_ERR_ARG for another number of threads. */
plumb_status plumb_pool_create(plumb_pool **out, int threads);
void plumb_pool_destroy(plumb_pool **p);     /* does nothing if *p is NULL */
int plumb_pool_threads(const plumb_pool *p); /* returns 1 if p is NULL */

/* Calls fn for all items [0, n), in chunks of `grain` items (grain < 1 counts as 1; the last chunk
 * may be shorter) that the threads share; returns when all chunks are done. The result of fn must
 * not depend on the chunk boundaries. With one thread, a NULL pool or n <= grain, fn is called once
 * for all items in the caller's thread. Not re-entrant: fn must not call plumb_pool_run, and only
 * one thread at a time may use a pool. */
void plumb_pool_run(plumb_pool *p, int64_t n, int64_t grain, plumb_pool_fn *fn, void *arg);

#endif
