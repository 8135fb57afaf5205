/* bench_device.h - the device of a benchmark: its backend and its measured ceilings.
 * Benchmarks only. Includes backend/. */
#ifndef PLUMB_BENCHMARKS_BENCH_DEVICE_H
#define PLUMB_BENCHMARKS_BENCH_DEVICE_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "backend/backend.h"

/* Prints the trail and ends the program if e failed: a benchmark has nothing to clean up. */
#define BENCH_OK(e)                                                                                \
    do {                                                                                           \
        if ((e) != PLUMB_OK) {                                                                     \
            fputs(plumb_trail(), stderr);                                                          \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* The device that computes the model, and its ceilings. */
struct bench_device {
    struct plumb_backend *b;
    bool emulated;          /* figures mean nothing */
    enum plumb_dtype dtype; /* of weights and activations */
    int64_t copy_bytes;     /* read or copied to measure the bandwidth */
    int64_t matrix;         /* rows and columns of the product that measures a GPU's rate */
    void *memory;           /* host memory to read */
    /* One measurement each, GB/s and GFLOP/s: a core's streaming read and FMA peak; a GPU's copy,
     * bytes read and written, and its fastest matrix product of this dtype. */
    double (*bandwidth)(const struct bench_device *d);
    double (*rate)(const struct bench_device *d);
    /* Bytes of a GPU's memory that are in use by anyone; 0 on the CPU. */
    int64_t (*memory_used)(const struct bench_device *d);
};

#endif
