/* stream.h - adding and copying vectors that are larger than the caches.
 * Layer 1. Includes nothing of ours. For src/comm only. */
#ifndef PLUMB_COMM_STREAM_H
#define PLUMB_COMM_STREAM_H

#include <stdint.h>

/* dst (n,) += src (n,), element by element. dst and src must not overlap. */
void plumb_stream_add(float *dst, const float *src, int64_t n);
/* dst = src; from 64 KB on the stores bypass the caches. dst and src must not overlap. */
void plumb_stream_copy(void *dst, const void *src, int64_t bytes);

#endif
