/* bench.h - shared by the benchmarks of whole models: options, the device with its measured highest
 * speeds (ceilings), models with random weights, and result lines that a script can read.
 * Benchmarks only. Includes bench_device.h, ceiling.h, model/. */
#ifndef PLUMB_BENCHMARKS_BENCH_H
#define PLUMB_BENCHMARKS_BENCH_H

#include <string.h>

#include "bench_device.h"
#include "ceiling.h"
#include "model/model.h"

/* The NAME=VALUE words of the command line. bench_args takes the option names that a program
 * accepts, separated by spaces. It exits if a word has any other name. */
struct bench_args {
    int n;
    char **word;
};
struct bench_args bench_args(int argc, char **argv, const char *names);
const char *bench_text(const struct bench_args *a, const char *name, const char *fallback);
int64_t bench_number(const struct bench_args *a, const char *name, int64_t least, int64_t most,
                     int64_t fallback);
/* Reads an option such as NAME=1,32,256, or the text `fallback` if the option is absent: at most
 * `most` numbers, each at least `least`. Returns how many numbers it read. */
int bench_numbers(const struct bench_args *a, const char *name, int64_t least, const char *fallback,
                  int64_t *out, int most);

/* Reads the options device=cpu|cuda (one CPU thread, or one GPU) and dtype=float32|bfloat16. For
 * the bandwidth and matrix-product rate of a GPU it also reads copy=BYTES (size of the copy) and
 * matrix=N (an N x N product). */
#define BENCH_DEVICE_NAMES "device dtype copy matrix pins "
void bench_device_init(struct bench_device *d, const struct bench_args *a);
void bench_device_fini(struct bench_device *d);
/* Selects the cuBLASLt algorithms of the model's matrix products as plumb does for a run: reads the
 * file of the option pins=FILE if it exists, measures the products that the file lacks, and writes
 * the file. Does nothing on a CPU. */
void bench_tune(struct bench_device *d, const struct bench_args *a, const char *shape);
/* Waits until all work launched on the device has finished, and returns the time of a monotonic
 * clock in seconds. */
double bench_now(const struct bench_device *d);

/* Sizes of a Llama model: hidden size c, layers l, heads h, kv heads hk, MLP size f, vocabulary v,
 * and whether head and embedding are tied. */
struct bench_shape {
    /* number of parameters (0.1b, 0.5b, 1.1b), 8b.4 (4 layers of an 8B model), or tiny */
    const char *name;
    int c, l, h, hk, f, v;
    bool tied;
};
const struct bench_shape *bench_shape(const char *name);
/* Returns which projections of such a model (q, k, v; gate, up) the backend b computes as one
 * matrix product. */
struct plumb_joined bench_joined(const struct plumb_backend *b, const struct bench_shape *s);
/* Creates a model of this shape with random weights. */
plumb_model *bench_model(struct plumb_backend *b, const char *shape);
/* bench_parameters returns the number of parameters, without the padding of the parameter array.
 * bench_parameters_read returns the number of parameters that a decode step reads: all but the
 * embedding, or all if the head is tied to the embedding. */
int64_t bench_parameters(const plumb_model *m);
int64_t bench_parameters_read(const plumb_model *m);

/* Writes the line "=<tab>part<tab>what<tab>value<tab>unit<tab>note" to standard output.
 * benchmarks/gpu.sh collects these lines into JSON and a table. The note may be empty. */
void bench_result(const char *part, const char *what, double value, const char *unit,
                  const char *note, ...) __attribute__((format(printf, 5, 6)));

#endif
