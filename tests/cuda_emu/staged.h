/* staged.h - a kernel table for host memory over one for device memory: every call stages its
 * arguments, so that the checks of tests/kernels run on any backend.
 * Test of layer 1. Includes backend/. */
#ifndef PLUMB_TESTS_CUDA_EMU_STAGED_H
#define PLUMB_TESTS_CUDA_EMU_STAGED_H

#include "backend/backend.h"

/* The table, and the stream that its kernels want: b itself. Device buffers are as large as their
 * host ones and as far from 16-byte alignment; const arguments must come back unchanged. When b
 * computes in bfloat16, so does the table: what kernels.h calls REAL is float32 here and rounded
 * on the way. */
void staged_table(struct plumb_kernels *t);
/* With embed_fwd, embed_bwd and head_fwd as gather_fwd, gather_bwd and linear_fwd. */
void staged_mixed_table(struct plumb_kernels *t);
plumb_stream *staged_stream(struct plumb_backend *b);

#endif
