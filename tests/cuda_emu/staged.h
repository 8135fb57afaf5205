/* staged.h - a table of kernels for host memory that call the kernels of a device. Every call
 * copies its arguments to the device and the results back, so that the checks of tests/kernels can
 * run on any backend.
 * Test. Includes backend/. */
#ifndef PLUMB_TESTS_CUDA_EMU_STAGED_H
#define PLUMB_TESTS_CUDA_EMU_STAGED_H

#include "backend/backend.h"

/* Sets *t to the table. The kernels must be called with staged_stream(b) as their stream. A device
 * buffer has the size of its host buffer and the same address modulo 16 bytes. A kernel must not
 * change its const arguments. If b computes in bfloat16, the arguments that kernels.h declares as
 * REAL are float32 in host memory and are rounded when they are copied. */
void staged_table(struct plumb_kernels *t);
/* Like staged_table, but t->gather_fwd, t->gather_bwd and t->linear_fwd call the device's
 * embed_fwd, embed_bwd and head_fwd, which have both bfloat16 and float32 arguments. */
void staged_mixed_table(struct plumb_kernels *t);
plumb_stream *staged_stream(struct plumb_backend *b);

#endif
