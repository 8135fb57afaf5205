/* bench_gemm.c - speed of the linear kernels, as a share of the FMA peak and of the read bandwidth
 * of one core.
 * Benchmark. Includes base/, kernels.h, ceiling.h.
 *
 *     bench_gemm [seconds per row, default 1] [fwd|bwd_x|bwd_w n out in cache|memory]
 *
 * For each row of the table, the ceiling (the bandwidth or the peak) and the kernel are measured
 * alternately, at least nine times. With `memory`, every call uses other weights out of 1 GB. The
 * first share is the median of the samples, each divided by the ceiling measured next to it. The
 * second share is the best sample divided by the best ceiling; on a shared machine it shows the
 * speed without other load. GFLOP/s, GB/s and times are printed as median (least..most). */
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
    bool memory; /* the weights are read from memory, not from a cache */
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
    float *weights; /* 1 GB of weights */
    int64_t weight_count;
    float *x, *y, *work, *alone;
    int64_t at; /* offset of the next call's weights in `weights`, in floats */
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

/* Computes a sample of the rows of the forward product again, each row alone. Returns how many of
 * these rows have other bits than in the whole product. */
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

/* The samples of one row of the table. */
enum { MOST = 1000 };
struct samples {
    int n;
    double seconds[MOST]; /* seconds per call */
    /* ceilings (GFLOP/s and GB/s) measured before each sample and after the last one */
    double peak[MOST + 1], read[MOST + 1];
};

/* Shares of a ceiling, in percent. best: the best sample divided by the best ceiling. median:
 * the median over the samples, each divided by the mean of the ceilings measured before and
 * after it. */
struct share {
    double best, median;
};
static struct share share_of(const struct samples *s, const double *ceiling, double amount)
{
    static double share[MOST];
    double most = 0, least = s->seconds[0];
    for (int i = 0; i <= s->n; i++)
        most = ceiling[i] > most ? ceiling[i] : most;
    for (int i = 0; i < s->n; i++) {
        least = s->seconds[i] < least ? s->seconds[i] : least;
        share[i] = 100.0 * amount / s->seconds[i] / (0.5 * (ceiling[i] + ceiling[i + 1]));
    }
    return (struct share){100.0 * amount / least / most, ceiling_spread(share, s->n).median};
}

static void measure_ceilings(struct data *d, const struct size *z, struct samples *s)
{
    enum { STREAM = 32 << 20 };
    s->peak[s->n] = ceiling_fma(0.002);
    if (z->memory)
        s->read[s->n] =
            ceiling_read((const char *)d->weights + (int64_t)(s->n % 32) * STREAM, STREAM);
}

static bool measure(struct data *d, const struct size *z, double seconds, struct samples *s)
{
    const double flop = 2.0 * (double)z->n * (double)z->out * (double)z->in;
    const int calls = 1 + (int)(5e8 / flop);
    d->at = s->n = 0;
    if (run(d, z) != PLUMB_OK)
        return false;
    const double start = ceiling_now();
    while (s->n < SAMPLES || (s->n < MOST && ceiling_now() - start < seconds)) {
        measure_ceilings(d, z, s);
        const double begin = ceiling_now();
        for (int i = 0; i < calls; i++)
            if (run(d, z) != PLUMB_OK)
                return false;
        s->seconds[s->n++] = (ceiling_now() - begin) / calls;
    }
    measure_ceilings(d, z, s);
    return true;
}

static bool bench(struct data *d, const struct size *z, double seconds)
{
    static struct samples s;
    const double flop = 2.0 * (double)z->n * (double)z->out * (double)z->in;
    const double bytes = 4.0 * (double)d->k.linear_packed_count(z->out, z->in);
    if (!measure(d, z, seconds, &s))
        return false;
    const struct share fma = share_of(&s, s.peak, 1e-9 * flop);
    printf("%-5s %5lld %6lld %5lld %s  FMA %5.1f%% best %5.1f%%", what_name[z->what],
           (long long)z->n, (long long)z->out, (long long)z->in, z->memory ? "memory" : "cache ",
           fma.median, fma.best);
    if (z->memory) {
        const struct share read = share_of(&s, s.read, 1e-9 * bytes);
        printf("  read %5.1f%% best %5.1f%%", read.median, read.best);
    } else {
        printf("  %23s", "");
    }
    const struct ceiling_spread t = ceiling_spread(s.seconds, s.n);
    printf("  %6.1f GFLOP/s %5.1f GB/s  ms %.3f (%.3f..%.3f) of %d", 1e-9 * flop / t.median,
           1e-9 * bytes / t.median, 1e3 * t.median, 1e3 * t.least, 1e3 * t.most, s.n);
    if (z->what == FWD)
        printf("  rows that differ alone: %d", rows_that_differ(d, z));
    putchar('\n');
    fflush(stdout);
    return true;
}

/* Checks that a size from the command line fits into the arrays that main allocates. */
enum { ROWS = 2048 * 4096, OUTPUTS = 32000 * 2048 };
static bool fits(const struct size *z)
{
    const double n = (double)z->n, out = (double)z->out, in = (double)z->in;
    return n * in < OUTPUTS && n * out < OUTPUTS && out * in < OUTPUTS && out < ROWS;
}

int main(int argc, char **argv)
{
    const double seconds = argc > 1 ? atof(argv[1]) : 1.0;
    struct data d = {.weight_count = (int64_t)1 << 28};
    plumb_kernels_init_cpu(&d.k);
    d.weights = ceiling_alloc(d.weight_count * 4);
    d.x = ceiling_alloc((int64_t)OUTPUTS * 4);
    d.y = ceiling_alloc((int64_t)OUTPUTS * 4);
    d.alone = ceiling_alloc((int64_t)ROWS * 4);
    d.work = ceiling_alloc((int64_t)64 << 20);
    if (!d.weights || !d.x || !d.y || !d.alone || !d.work) {
        fprintf(stderr, "bench_gemm: not enough memory; 2.5 GB are needed\n");
        return 1;
    }
    for (int64_t i = 0; i < d.weight_count; i++)
        d.weights[i] = (float)(i * 2654435761 % 1000003) * 1e-6f - 0.5f;
    for (int64_t i = 0; i < OUTPUTS; i++)
        d.x[i] = d.y[i] = (float)(i * 2246822519 % 1000033) * 1e-6f - 0.5f;
    const double until = ceiling_now() + 0.2;
    while (ceiling_now() < until)
        (void)ceiling_fma(0.01);
    printf("one thread; FMA loop %.1f GFLOP/s, streaming read %.1f GB/s (best of each row's own "
           "measurements below)\n",
           ceiling_fma(0.05), ceiling_read(d.weights, d.weight_count * 4));
    bool ok = true;
    if (argc == 7) {
        struct size one = {FWD, atoll(argv[3]), atoll(argv[4]), atoll(argv[5]),
                           strcmp(argv[6], "memory") == 0};
        while (one.what < BWD_W && strcmp(argv[2], what_name[one.what]) != 0)
            one.what++;
        ok = one.n > 0 && one.out > 0 && one.in > 0 && fits(&one) && bench(&d, &one, seconds);
    }
    for (size_t i = 0; argc < 7 && i < sizeof(sizes) / sizeof(*sizes); i++)
        ok = bench(&d, &sizes[i], seconds) && ok;
    free(d.weights), free(d.x), free(d.y), free(d.alone), free(d.work);
    return ok ? 0 : 1;
}
