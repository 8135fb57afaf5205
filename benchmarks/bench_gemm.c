/* bench_gemm.c - the linear kernels against the two ceilings of one core.
 * Benchmark of layer 1. Includes base/, kernels.h, ceiling.h.
 *
 *     bench_gemm [seconds per size, default 1]
 *
 * Each size: nine times or more (ceiling, kernel) in turn, on weights that are somewhere else in
 * one large buffer every time where they are to come from memory. The shares are best against
 * best; the spread is of the kernel's own times. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ceiling.h"
#include "kernels.h"

enum { SAMPLES = 9 };

enum what { FWD, BWD_X, BWD_W };
static const char *const what_name[] = {"fwd", "bwd_x", "bwd_w"};

static const struct size {
    enum what what;
    int64_t n, out, in;
    bool memory; /* weights from memory, not from a cache */
} sizes[] = {
    {FWD, 2048, 3072, 768, false},   {FWD, 256, 3072, 768, false},
    {FWD, 2048, 768, 3072, false},   {FWD, 2048, 768, 768, false},
    {FWD, 2048, 2048, 1024, false},  {FWD, 2048, 1024, 4096, false},
    {FWD, 64, 3072, 768, false},     {FWD, 64, 3072, 768, true},
    {FWD, 32, 3072, 768, false},     {FWD, 32, 3072, 768, true},
    {FWD, 32, 768, 3072, true},      {FWD, 32, 32000, 768, true},
    {FWD, 16, 3072, 768, true},      {FWD, 12, 3072, 768, true},
    {FWD, 8, 3072, 768, true},       {FWD, 8, 768, 3072, true},
    {FWD, 8, 768, 768, true},        {FWD, 8, 32000, 768, true},
    {FWD, 4, 3072, 768, true},       {FWD, 1, 3072, 768, true},
    {FWD, 1, 768, 3072, true},       {FWD, 1, 32000, 768, true},
    {FWD, 1, 3072, 768, false},      {FWD, 8, 3072, 768, false},
    {BWD_X, 2048, 3072, 768, false}, {BWD_X, 2048, 768, 3072, false},
    {BWD_X, 2048, 768, 768, false},  {BWD_X, 256, 32000, 768, false},
    {BWD_W, 2048, 3072, 768, false}, {BWD_W, 2048, 768, 3072, false},
    {BWD_W, 2048, 768, 768, false},  {BWD_W, 256, 32000, 768, false},
};

struct data {
    struct plumb_kernels k;
    float *weights; /* large, what memory is read from */
    int64_t weight_count;
    float *x, *y, *work, *alone;
    int64_t at; /* next place in weights */
};

static plumb_status run(struct data *d, const struct size *z)
{
    const int64_t count = d->k.linear_packed_count(z->out, z->in);
    if (!z->memory || d->at + count > d->weight_count)
        d->at = 0;
    const float *w = d->weights + d->at;
    d->at += (count + 15) / 16 * 16;
    switch (z->what) {
    case FWD:
        return d->k.linear_fwd(NULL, d->y, d->x, w, NULL, z->n, z->out, z->in);
    case BWD_X:
        return d->k.linear_bwd_x(NULL, d->y, d->x, w, d->work, z->n, z->out, z->in, 0);
    case BWD_W:
        return d->k.linear_bwd_w(NULL, d->y, NULL, d->x, w, d->work, z->n, z->out, z->in);
    }
    return PLUMB_ERR_ARG;
}

/* Rows of the last forward pass that are other bits when computed alone. */
static int rows_that_differ(struct data *d, const struct size *z)
{
    int differ = 0;
    for (int64_t i = 0; i < z->n; i += 1 + z->n / 16) {
        const float *w = d->weights;
        if (d->k.linear_fwd(NULL, d->y, d->x, w, NULL, z->n, z->out, z->in) != PLUMB_OK ||
            d->k.linear_fwd(NULL, d->alone, d->x + i * z->in, w, NULL, 1, z->out, z->in) !=
                PLUMB_OK)
            return -1;
        differ += memcmp(d->alone, d->y + i * z->out, (size_t)z->out * sizeof(float)) != 0;
    }
    return differ;
}

static bool bench(struct data *d, const struct size *z, double seconds)
{
    const double flop = 2.0 * (double)z->n * (double)z->out * (double)z->in;
    const double bytes = 4.0 * (double)d->k.linear_packed_count(z->out, z->in);
    const int calls = 1 + (int)(2e9 / flop);
    const int64_t stream = 256 << 20;
    double t[1000], peak = 0, read = 0;
    int n = 0;
    d->at = 0;
    if (run(d, z) != PLUMB_OK)
        return false;
    const double start = ceiling_now();
    while (n < SAMPLES || (n < 1000 && ceiling_now() - start < seconds)) {
        const double f = ceiling_fma(0.003);
        peak = f > peak ? f : peak;
        if (z->memory) {
            const char *from = (const char *)d->weights + (n % 4) * stream;
            const double r = ceiling_read(from, stream);
            read = r > read ? r : read;
        }
        const double begin = ceiling_now();
        for (int i = 0; i < calls; i++)
            if (run(d, z) != PLUMB_OK)
                return false;
        t[n++] = (ceiling_now() - begin) / calls;
    }
    const struct ceiling_spread s = ceiling_spread(t, n);
    printf("%-5s %5lld %6lld %5lld %s  %7.1f %6.1f%%  median %6.1f%%", what_name[z->what],
           (long long)z->n, (long long)z->out, (long long)z->in, z->memory ? "memory" : "cache ",
           1e-9 * flop / s.least, 1e-7 * flop / s.least / peak, 1e-7 * flop / s.median / peak);
    if (z->memory)
        printf("  %6.1f GB/s %6.1f%%  median %6.1f%%", 1e-9 * bytes / s.least,
               1e-7 * bytes / s.least / read, 1e-7 * bytes / s.median / read);
    else
        printf("  %*s", 35, "");
    printf("  ms %.3f..%.3f of %d", 1e3 * s.least, 1e3 * s.most, n);
    if (z->what == FWD)
        printf("  rows that differ alone: %d", rows_that_differ(d, z));
    putchar('\n');
    fflush(stdout);
    return true;
}

int main(int argc, char **argv)
{
    const double seconds = argc > 1 ? atof(argv[1]) : 1.0;
    struct data d = {.weight_count = (int64_t)1 << 28};
    plumb_kernels_init_cpu(&d.k);
    const int64_t rows = (int64_t)2048 * 4096, outputs = (int64_t)32000 * 2048;
    d.weights = ceiling_alloc(d.weight_count * 4);
    d.x = ceiling_alloc(outputs * 4);
    d.y = ceiling_alloc(outputs * 4);
    d.alone = ceiling_alloc(rows * 4);
    d.work = ceiling_alloc((int64_t)64 << 20);
    if (!d.weights || !d.x || !d.y || !d.alone || !d.work) {
        fprintf(stderr, "bench_gemm: not enough memory, 2.5 GB needed\n");
        return 1;
    }
    for (int64_t i = 0; i < d.weight_count; i++)
        d.weights[i] = (float)(i * 2654435761 % 1000003) * 1e-6f - 0.5f;
    for (int64_t i = 0; i < outputs; i++)
        d.x[i] = d.y[i] = (float)(i * 2246822519 % 1000033) * 1e-6f - 0.5f;
    const double until = ceiling_now() + 0.2;
    while (ceiling_now() < until)
        (void)ceiling_fma(0.01);
    printf("one thread; FMA loop %.1f GFLOP/s, streaming read %.1f GB/s (best of each row's own "
           "measurements below)\n",
           ceiling_fma(0.05), ceiling_read(d.weights, d.weight_count * 4));
    bool ok = true;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
        if (argc < 3 || strstr(argv[2], what_name[sizes[i].what]))
            ok = bench(&d, &sizes[i], seconds) && ok;
    free(d.weights), free(d.x), free(d.y), free(d.alone), free(d.work);
    return ok ? 0 : 1;
}
