/* bench.h - what the benchmarks of the model share: options, the device with its ceilings, models
 * with random weights, results that a script reads.
 * Benchmarks only. Includes bench_device.h, ceiling.h, model/. */
#ifndef PLUMB_BENCHMARKS_BENCH_H
#define PLUMB_BENCHMARKS_BENCH_H

#include <string.h>

#include "bench_device.h"
#include "ceiling.h"
#include "model/model.h"

/* NAME=VALUE of the command line. Every program first says which names it knows, separated by
 * spaces; another one ends it. */
struct bench_args {
    int n;
    char **word;
};
struct bench_args bench_args(int argc, char **argv, const char *names);
const char *bench_text(const struct bench_args *a, const char *name, const char *fallback);
int64_t bench_number(const struct bench_args *a, const char *name, int64_t least, int64_t most,
                     int64_t fallback);
/* NAME=1,32,256: at most `most` numbers, none below `least`; their count. */
int bench_numbers(const struct bench_args *a, const char *name, int64_t least, const char *fallback,
                  int64_t *out, int most);

/* Reads device=cpu|cuda (one thread, one GPU), dtype=float32|bfloat16, and, for the ceilings of a
 * GPU, copy=BYTES, matrix=N. */
#define BENCH_DEVICE_NAMES "device dtype copy matrix "
void bench_device_init(struct bench_device *d, const struct bench_args *a);
void bench_device_fini(struct bench_device *d);
/* Seconds, after everything that the device was given is done. */
double bench_now(const struct bench_device *d);

/* Llama's architecture in sizes: width, layers, heads, kv heads, feed-forward, vocabulary. */
struct bench_shape {
    const char *name; /* 0.1b, 0.5b, 1.1b (parameters) or tiny */
    int c, l, h, hk, f, v;
    bool tied;
};
const struct bench_shape *bench_shape(const char *name);
/* A model of this shape with random weights. */
plumb_model *bench_model(struct plumb_backend *b, const char *shape);
/* Parameters, padding excluded; those that a decode step reads (the embedding only if tied). */
int64_t bench_parameters(const plumb_model *m);
int64_t bench_parameters_read(const plumb_model *m);

/* Writes "=<tab>part<tab>what<tab>value<tab>unit<tab>note" to standard output: benchmarks/gpu.sh
 * makes JSON and a table of such lines. The note may be empty. */
void bench_result(const char *part, const char *what, double value, const char *unit,
                  const char *note, ...) __attribute__((format(printf, 5, 6)));

#endif
