/* gpu.h - skips a test of the CUDA backend if CUDA finds no GPU. The emulator always has one.
 * Test. Includes backend/, harness.h. */
#ifndef PLUMB_TESTS_CUDA_EMU_GPU_H
#define PLUMB_TESTS_CUDA_EMU_GPU_H

#include "backend/backend.h"
#include "harness.h"

static inline void skip_without_gpu(void)
{
#ifndef PLUMB_CUDA_EMU
    struct plumb_backend *b = NULL;
    if (plumb_backend_cuda_create(&b, 0) == PLUMB_ERR_DEVICE) {
        printf("skipped: %s\n", plumb_trail_message());
        exit(SKIP);
    }
    plumb_backend_destroy(&b);
#endif
}

#endif
