/* bench_device.h - the device of a benchmark: its backend, and its measured highest speeds
 * (ceilings). Benchmarks only. Includes backend/. */
#ifndef PLUMB_BENCHMARKS_BENCH_DEVICE_H
#define PLUMB_BENCHMARKS_BENCH_DEVICE_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "backend/backend.h"

/* Prints the error trail and exits if the status e is an error. Benchmarks release nothing after an
 * error. */
#define BENCH_OK(e)                                                                                \
    do {                                                                                           \
        if ((e) != PLUMB_OK) {                                                                     \
            fputs(plumb_trail(), stderr);                                                          \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* The device on which a benchmark computes, and functions that measure its highest speeds. */
struct bench_device {
    struct plumb_backend *b;
    bool emulated;          /* the device is emulated; its speed says nothing about a GPU */
    enum plumb_dtype dtype; /* dtype of weights and activations */
    int64_t copy_bytes;     /* number of bytes that are read or copied to measure the bandwidth */
    int64_t matrix;         /* rows and columns of the matrix product that measures a GPU's rate */
    void *memory;           /* host memory that is read to measure the bandwidth */
    /* Each call makes one measurement. `bandwidth` returns GB/s: of streaming reads by one core, or
     * of a device-to-device copy on a GPU (bytes read plus bytes written). `rate` returns GFLOP/s:
     * the FMA peak of one core, or the fastest matrix product of the GPU in this dtype. */
    double (*bandwidth)(const struct bench_device *d);
    double (*rate)(const struct bench_device *d);
    /* Returns the bytes of GPU memory in use by all processes; 0 on the CPU. */
    int64_t (*memory_used)(const struct bench_device *d);
};

#endif
