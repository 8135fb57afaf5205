/* staged.h - a kernel table for host memory that calls one for device memory: every call copies its
 * arguments to the device and back, so that the checks of tests/kernels run on any backend.
 * Test of layer 1. Includes backend/. */
#ifndef PLUMB_TESTS_CUDA_EMU_STAGED_H
#define PLUMB_TESTS_CUDA_EMU_STAGED_H

#include "backend/backend.h"

/* *t = the table; its kernels need staged_stream(b) as their stream. A device buffer has the size
 * of its host buffer and the same distance from 16-byte alignment; const arguments must be
 * unchanged by the kernel. If b computes in bfloat16, the REAL arguments of kernels.h are float32
 * in host memory and rounded when they are copied. */
void staged_table(struct plumb_kernels *t);
/* As staged_table, but t->gather_fwd, t->gather_bwd and t->linear_fwd call the device's embed_fwd,
 * embed_bwd and head_fwd, which have both bfloat16 and float32 arguments. */
void staged_mixed_table(struct plumb_kernels *t);
plumb_stream *staged_stream(struct plumb_backend *b);

#endif
