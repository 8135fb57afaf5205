/* bench_comm.c - the gradient tree against memory bandwidth and MPI_Allreduce.
 *   mpirun -n 2 build/benchmarks/bench_comm [megabytes] */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "comm/mpi_impl.h"

#define TRIALS 15

static int by_time(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Prints the median and the spread of `seconds`, as n floats over time. */
static void report(const plumb_comm *c, const char *what, double *seconds, double bytes)
{
    qsort(seconds, TRIALS, sizeof(double), by_time);
    if (plumb_comm_rank(c) == 0)
        printf("%-34s %6.2f GB/s   (fastest %.2f, slowest %.2f)\n", what,
               bytes / seconds[TRIALS / 2] * 1e-9, bytes / seconds[0] * 1e-9,
               bytes / seconds[TRIALS - 1] * 1e-9);
}

static plumb_status measure(plumb_comm *c, float *x, float *y, int64_t n)
{
    static const char *const names[] = {"copy, all ranks at once", "reduce_tree",
                                        "reduce_tree + allgather_shards", "MPI_Allreduce"};
    const double bytes = (double)n * sizeof(float);
    for (int shared = 1; shared >= 0; shared--) {
        plumb_mpi_of(c)->shared.on = shared != 0;
        if (plumb_comm_rank(c) == 0)
            printf("%s\n", shared ? "shared window:" : "MPI messages:");
        for (int what = shared ? 0 : 1; what < 4; what++) {
            double seconds[TRIALS];
            for (int t = -2; t < TRIALS; t++) {
                PLUMB_TRY(plumb_comm_barrier(c));
                const double start = plumb_now();
                if (what == 0)
                    memcpy(y, x, (size_t)n * sizeof(float));
                if (what == 1 || what == 2)
                    PLUMB_TRY(plumb_comm_reduce_tree(c, x, n));
                if (what == 2)
                    PLUMB_TRY(plumb_comm_allgather_shards(c, x, n));
                if (what == 3)
                    MPI_Allreduce(MPI_IN_PLACE, x, (int)n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
                double worst = plumb_now() - start;
                PLUMB_TRY(plumb_comm_allreduce_f64(c, &worst, 1, PLUMB_MAX));
                if (t >= 0)
                    seconds[t] = worst;
            }
            report(c, names[what], seconds, bytes);
        }
    }
    return PLUMB_OK;
}

int main(int argc, char **argv)
{
    const int64_t n = (argc > 1 ? atol(argv[1]) : 100) * 1000000 / (int64_t)sizeof(float);
    plumb_comm *c;
    if (plumb_comm_mpi_create(&c, 60) != PLUMB_OK) {
        fputs(plumb_trail(), stderr);
        return 1;
    }
    float *x = calloc((size_t)n, sizeof(float)), *y = calloc((size_t)n, sizeof(float));
    for (int64_t i = 0; x && i < n; i++)
        x[i] = 1e-30f;
    if (!x || !y || measure(c, x, y, n) != PLUMB_OK) {
        fputs(plumb_trail(), stderr);
        plumb_comm_abort(c, 1);
        return 1;
    }
    free(x);
    free(y);
    plumb_comm_destroy(&c);
    return 0;
}
