/* bench_linear.h - linear kernels that call the matrix product of a library (OpenBLAS or oneDNN).
 * With such a product, the bits of a row may depend on the other rows of the batch. Benchmarks
 * only. Includes backend/. */
#ifndef PLUMB_BENCHMARKS_BENCH_LINEAR_H
#define PLUMB_BENCHMARKS_BENCH_LINEAR_H

#include "backend/backend.h"

struct bench_linear {
    const char *name;
    plumb_linear_fwd_fn *fwd;
    plumb_linear_bwd_x_fn *bwd_x;
    plumb_linear_bwd_w_fn *bwd_w;
};

enum { BENCH_LIBRARIES = 2 };
/* the libraries: OpenBLAS and oneDNN */
extern const struct bench_linear bench_library[BENCH_LIBRARIES];

/* Replaces the linear kernels of a backend. Must be called before a model is created on the
 * backend. */
void bench_linear_use(struct plumb_backend *b, const struct bench_linear *library);

#endif
