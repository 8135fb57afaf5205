/* split.h - divides the work of a kernel among the threads of its stream.
 * Layer 1, kernels/cpu only. Includes kernels.h, base/. */
#ifndef PLUMB_KERNELS_CPU_SPLIT_H
#define PLUMB_KERNELS_CPU_SPLIT_H

#include "base/num.h"
#include "base/pool.h"
#include "kernels.h"

/* A kernel that touches fewer floats than this is not divided among threads. */
enum { SPLIT_FLOATS = 1 << 15 };

/* Runs fn over items [0, n) on the threads of the stream; an item touches `width` floats. */
static inline void split(plumb_stream *s, int64_t n, int64_t width, plumb_pool_fn *fn, void *arg)
{
    const int64_t grain = plumb_max_i64(1, SPLIT_FLOATS / plumb_max_i64(1, width));
    plumb_pool_run((plumb_pool *)(void *)s, n, grain, fn, arg);
}

static inline int split_threads(plumb_stream *s)
{
    return plumb_pool_threads((const plumb_pool *)(const void *)s);
}

#endif
