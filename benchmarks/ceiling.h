/* ceiling.h - measures the highest speeds of one core (the ceilings), in the same process as the
 * kernels that are compared with these speeds.
 * Benchmarks only. Includes nothing from plumb. */
#ifndef PLUMB_BENCHMARKS_CEILING_H
#define PLUMB_BENCHMARKS_CEILING_H

#include <stdint.h>

/* Returns the GFLOP/s of float32 fused multiply-adds on registers, one thread, measured for about
 * `seconds`. A fused multiply-add counts as 2 operations. */
double ceiling_fma(double seconds);

/* Returns the bandwidth, in GB/s, of one thread that reads `bytes` bytes once. To measure memory,
 * `data` must be larger than the last-level cache. `data` must be aligned to 64 bytes. */
double ceiling_read(const void *data, int64_t bytes);

/* Allocates `bytes`, rounded up to whole huge pages, and requests huge pages. Returns NULL if there
 * is not enough memory. Release with free(). */
void *ceiling_alloc(int64_t bytes);

/* Returns the seconds of a monotonic clock. */
double ceiling_now(void);

/* Returns median, least and most of n measurements; sorts them in place. */
struct ceiling_spread {
    double median, least, most;
};
struct ceiling_spread ceiling_spread(double *x, int n);

#endif
