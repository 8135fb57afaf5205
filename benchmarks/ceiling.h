/* ceiling.h - what one core of this machine can do at most, measured where it is compared with.
 * Benchmarks only. Includes nothing of ours. */
#ifndef PLUMB_BENCHMARKS_CEILING_H
#define PLUMB_BENCHMARKS_CEILING_H

#include <stdint.h>

/* GFLOP/s of float32 fused multiply-adds on registers, one thread, one measurement of about
 * `seconds`; a fused multiply-add counts as 2. */
double ceiling_fma(double seconds);

/* GB/s of reading `bytes` bytes once, one thread. `data` must be larger than
 * the last-level cache for the figure to be the memory's, and aligned to 64 bytes. */
double ceiling_read(const void *data, int64_t bytes);

/* `bytes` rounded up to whole huge pages, which the system is asked for; NULL when there is no
 * memory. Free with free(). */
void *ceiling_alloc(int64_t bytes);

/* Seconds of a monotonic clock. */
double ceiling_now(void);

/* Median, least and most of n measurements; sorts them in place. */
struct ceiling_spread {
    double median, least, most;
};
struct ceiling_spread ceiling_spread(double *x, int n);

#endif
