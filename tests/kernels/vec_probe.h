/* vec_probe.h - functions that run the operations of cpu/vec.h, one for each instruction set.
 * Test. Includes no header of plumb. */
#ifndef PLUMB_TESTS_VEC_PROBE_H
#define PLUMB_TESTS_VEC_PROBE_H

enum { VEC_PROBE_RESULTS = 14 };

/* Sets out ((VEC_PROBE_RESULTS + 1) * 16,) to 16 lanes per operation: add, sub, mul, div, sqrt(x),
 * fma, max, min, exp(x), sum of x, load_n, load_fill with -7.5, hmax(x), tanh(x), and last lanes
 * 0..n-1 of x, stored by store_n. */
typedef void vec_probe_fn(float *out, const float *x, const float *y, const float *z, int n);
vec_probe_fn vec_probe_baseline, vec_probe_avx2, vec_probe_avx512;

#endif
