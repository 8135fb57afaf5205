/* bench_gpu.c - measurements that need a GPU: its name, its bandwidth and matrix-product rate,
 * whether a row of a product depends on the other rows of the batch, and the cost of row-invariant
 * products.
 * Benchmark. Includes bench.h, bench_cuda.h, op/.
 *
 *     bench_gpu part=device|ceilings|probe|rows|gemm [shape=1.1b] [rows=4096] [dtype=float32] ...
 *
 * Part probe measures the products of the shape as plumb does at the start of a run. It logs every
 * candidate algorithm with its class (algorithms of a class give the same bits) and its time;
 * benchmarks/gpu.sh turns the log into result lines. */
#include "bench.h"
#include "bench_cuda.h"

#include "base/log.h"
#include "base/num.h"
#include "op/op.h"

struct bench {
    struct bench_device d;
    const struct bench_args *args;
    const struct bench_shape *shape;
    int64_t rows;
};
struct pair {
    int64_t out, in;
};
enum { LAYERS = 6 };

/* Sets pair to the sizes (out, in) of the forward products of the shape, each size once, and
 * returns how many there are. */
static int linear_layers(const struct bench *t, struct pair pair[LAYERS])
{
    const struct bench_shape *s = t->shape;
    const struct plumb_joined joined = bench_joined(t->d.b, s);
    const int64_t q = s->c, kv = (int64_t)s->c / s->h * s->hk;
    const struct pair all[LAYERS] = {{joined.qkv ? q + 2 * kv : q, s->c},
                                     {joined.qkv ? q + 2 * kv : kv, s->c},
                                     {s->c, q},
                                     {joined.gate_up ? 2 * s->f : s->f, s->c},
                                     {s->c, s->f},
                                     {s->v, s->c}};
    int n = 0;
    for (int i = 0; i < LAYERS; i++) {
        bool seen = false;
        for (int j = 0; j < n; j++)
            seen = seen || (pair[j].out == all[i].out && pair[j].in == all[i].in);
        if (!seen)
            pair[n++] = all[i];
    }
    return n;
}

static void *device_data(const struct bench *t, enum plumb_dtype dtype, int64_t n)
{
    void *data;
    BENCH_OK(t->d.b->alloc(t->d.b, &data, n * plumb_dtype_size(dtype), "operand"));
    BENCH_OK(bench_cuda_fill(t->d.b, data, dtype, n));
    return data;
}

struct layer {
    struct pair size;
    int64_t packed; /* number of elements of the packed weights */
    void *w, *x, *y;
    enum plumb_dtype dtype; /* dtype of y: float32 for the vocabulary head */
};

static struct layer layer_create(const struct bench *t, struct pair size)
{
    const int64_t packed = t->d.b->k.linear_packed_count(size.out, size.in);
    const enum plumb_dtype dtype = size.out == t->shape->v ? PLUMB_F32 : t->d.dtype;
    return (struct layer){.size = size,
                          .packed = packed,
                          .w = device_data(t, t->d.dtype, packed),
                          .x = device_data(t, t->d.dtype, t->rows * size.in),
                          .y = device_data(t, dtype, t->rows * size.out),
                          .dtype = dtype};
}

static void layer_destroy(const struct bench *t, struct layer *l)
{
    struct plumb_backend *b = t->d.b;
    b->release(b, l->w);
    b->release(b, l->x);
    b->release(b, l->y);
}

/* Computes n rows of the layer, from row `first` of x onwards. */
static void forward_from(const struct bench *t, const struct layer *l, int64_t n, int64_t first)
{
    const enum plumb_place place = t->d.b->place;
    const enum plumb_dtype dtype = t->d.dtype;
    const struct plumb_tensor y =
        plumb_view("y", l->dtype, l->y, place, 2, (const int64_t[]){n, l->size.out});
    const struct plumb_tensor x =
        plumb_view("x", dtype, (char *)l->x + first * l->size.in * plumb_dtype_size(dtype), place,
                   2, (const int64_t[]){n, l->size.in});
    const struct plumb_tensor w = plumb_view("w", dtype, l->w, place, 1, &l->packed);
    BENCH_OK(plumb_op_linear_fwd(t->d.b, &y, &x, &w, NULL));
}

static void forward(const struct bench *t, const struct layer *l, int64_t n)
{
    forward_from(t, l, n, 0);
}

/* ---- part rows: a product of any number of rows, from any first row, must have the bits of the
 * same rows of the whole product ---- */

/* Number of elements that are compared at each end of a result. Comparing the largest results
 * completely would take minutes. */
#define END (INT64_C(2) << 20)

/* Returns how many of the elements [at, at + count) of y differ from those of the whole product,
 * `all`. host: buffer. */
static int64_t differences(const struct bench *t, const struct layer *l, const char *all,
                           char *host, int64_t at, int64_t count)
{
    const int64_t item = plumb_dtype_size(l->dtype);
    int64_t n = 0;
    BENCH_OK(t->d.b->to_host(t->d.b, host, (char *)l->y + at * item, count * item));
    if (memcmp(host, all + at * item, (size_t)(count * item)) == 0)
        return 0;
    for (int64_t i = 0; i < count; i++)
        n += memcmp(host + i * item, all + (at + i) * item, (size_t)item) != 0;
    return n;
}

static int64_t rows_of_layer(const struct bench *t, struct pair size, int64_t *compared)
{
    struct layer l = layer_create(t, size);
    const int64_t most = t->rows * size.out, item = plumb_dtype_size(l.dtype);
    char *all = malloc((size_t)(most * item));
    char *host = malloc((size_t)(plumb_min_i64(most, END) * item));
    int64_t wrong = 0;
    if (!all || !host)
        exit(1);
    forward(t, &l, t->rows);
    BENCH_OK(t->d.b->to_host(t->d.b, all, l.y, most * item));
    for (int64_t n = 1; n <= t->rows; n++) {
        const int64_t count = n * size.out, end = plumb_min_i64(count, END);
        /* With most even numbers of rows, the product begins at a later row of x than the first. */
        const int64_t first = n % 2 == 0 ? 7 * n % (t->rows - n + 1) : 0;
        const char *want = all + first * size.out * item;
        forward_from(t, &l, n, first);
        wrong += differences(t, &l, want, host, 0, end);
        const int64_t rest = plumb_min_i64(count - end, END);
        if (rest > 0)
            wrong += differences(t, &l, want, host, count - rest, rest);
        *compared += end + rest;
    }
    free(all);
    free(host);
    layer_destroy(t, &l);
    return wrong;
}

static int part_rows(const struct bench *t)
{
    struct pair pair[LAYERS];
    const int n = linear_layers(t, pair);
    int64_t wrong = 0;
    for (int i = 0; i < n; i++) {
        int64_t compared = 0;
        const int64_t bad = rows_of_layer(t, pair[i], &compared);
        char what[96];
        snprintf(what, sizeof what, "%s, elements with other bits, %lld x %lld, 1 to %lld rows",
                 plumb_dtype_name(t->d.dtype), (long long)pair[i].out, (long long)pair[i].in,
                 (long long)t->rows);
        bench_result("invariance", what, (double)bad, "elements", "of %lld compared",
                     (long long)compared);
        wrong += bad;
    }
    return wrong > 0;
}

/* ---- part gemm: the row-invariant algorithm against the fastest one ---------------------- */

static double our_seconds(const struct bench *t, const struct layer *l, int64_t n)
{
    enum { TIMES = 5 };
    double s[TIMES];
    forward(t, l, n); /* the first call with this size also selects cuBLASLt's algorithm */
    const double first = bench_now(&t->d);
    forward(t, l, n);
    const int64_t runs = 1 + plumb_min_i64(1000, (int64_t)(3e-3 / (bench_now(&t->d) - first)));
    for (int i = 0; i < TIMES; i++) {
        const double start = bench_now(&t->d);
        for (int64_t r = 0; r < runs; r++)
            forward(t, l, n);
        s[i] = (bench_now(&t->d) - start) / (double)runs;
    }
    return ceiling_spread(s, TIMES).median;
}

/* Prints, for several numbers of rows, the sum of the forward times of the linear layers (each size
 * once) with plumb's row-invariant algorithms and with the fastest ones. The ratio is about what a
 * model pays for row invariance. */
static int part_gemm(const struct bench *t)
{
    static const int64_t rows[] = {1, 32, 256, 2048, 8192};
    struct pair pair[LAYERS];
    const int layers = linear_layers(t, pair);
    for (size_t k = 0; k < sizeof rows / sizeof *rows && rows[k] <= t->rows; k++) {
        double ours = 0, best = 0;
        char what[96];
        for (int i = 0; i < layers; i++) {
            struct bench now = *t;
            now.rows = rows[k];
            struct layer l = layer_create(&now, pair[i]);
            struct bench_gemm g;
            const double seconds = our_seconds(&now, &l, rows[k]);
            BENCH_OK(bench_cuda_best_gemm(t->d.b, t->d.dtype, l.dtype, rows[k], pair[i].out,
                                          pair[i].in, &g));
            printf("%lld rows, %lld x %lld: row-invariant %.1f us, fastest of %d %.1f us\n",
                   (long long)rows[k], (long long)pair[i].out, (long long)pair[i].in, 1e6 * seconds,
                   g.candidates, 1e6 * g.seconds);
            ours += seconds;
            best += g.seconds;
            layer_destroy(&now, &l);
        }
        snprintf(what, sizeof what, "%s, row-invariant over fastest, %s, %lld rows",
                 plumb_dtype_name(t->d.dtype), t->shape->name, (long long)rows[k]);
        bench_result("row-invariant gemm", what, 100 * (ours / best - 1), "%",
                     "%d layers once each, %.1f us against %.1f us", layers, 1e6 * ours,
                     1e6 * best);
    }
    return 0;
}

/* ---- parts device and ceilings, main ------------------------------------------------------- */

static int part_device(const struct bench *t)
{
    printf("device: %s%s\n", t->d.b->device, t->d.emulated ? " (emulated)" : "");
    bench_result("device", "memory in use before anything", (double)t->d.memory_used(&t->d) / 1e9,
                 "GB", "%s", t->d.b->device);
    return 0;
}

static int part_probe(const struct bench *t)
{
    struct bench_device d = t->d;
    struct plumb_buf text = {0};
    plumb_log_setup(PLUMB_LOG_DEBUG, 0, 1);
    bench_tune(&d, t->args, t->shape->name);
    BENCH_OK(d.b->gemm_classes(d.b, &text));
    fputs(plumb_buf_text(&text), stdout);
    plumb_buf_fini(&text);
    return 0;
}

static int part_ceilings(const struct bench *t)
{
    char what[64];
    snprintf(what, sizeof what, "matrix product, %s", plumb_dtype_name(t->d.dtype));
    bench_result("ceilings", "copy within the device's memory", t->d.bandwidth(&t->d), "GB/s",
                 "bytes read and written; %lld bytes", (long long)t->d.copy_bytes);
    bench_result("ceilings", what, t->d.rate(&t->d) * 1e-3, "TFLOP/s", "%lld^3",
                 (long long)t->d.matrix);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(const struct bench *t);
    } parts[] = {{"device", part_device},
                 {"ceilings", part_ceilings},
                 {"probe", part_probe},
                 {"rows", part_rows},
                 {"gemm", part_gemm}};
    const struct bench_args a = bench_args(argc, argv, BENCH_DEVICE_NAMES "part shape rows");
    const char *part = bench_text(&a, "part", "device");
    struct bench t = {.args = &a,
                      .shape = bench_shape(bench_text(&a, "shape", "1.1b")),
                      .rows = bench_number(&a, "rows", 1, 1 << 16, 4096)};
    int status = 2;
    bench_device_init(&t.d, &a);
    if (strcmp(part, "rows") == 0 || strcmp(part, "gemm") == 0)
        bench_tune(&t.d, &a, t.shape->name);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strcmp(parts[i].name, part) == 0)
            status = parts[i].run(&t);
    if (status == 2)
        fprintf(stderr, "part=%s, expected device, ceilings, probe, rows or gemm\n", part);
    bench_device_fini(&t.d);
    return status;
}
