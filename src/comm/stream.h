/* stream.h - adds and copies vectors that are larger than the CPU caches.
 * Layer 1. Includes nothing of ours. For src/comm only. */
#ifndef PLUMB_COMM_STREAM_H
#define PLUMB_COMM_STREAM_H

#include <stdint.h>

/* Adds src (n,) to dst (n,), element by element. They must not overlap. */
void plumb_stream_add(float *dst, const float *src, int64_t n);
/* Copies src to dst. From 64 KB on, and with AVX2, the stores bypass the caches. dst and src must
 * not overlap. */
void plumb_stream_copy(void *dst, const void *src, int64_t bytes);

#endif
