/* probe.c - measures latency and bandwidth of plumb's collectives between the ranks of this MPI
 * job.
 *   mpirun -n 2 build/benchmarks/bench_probe [seconds per size, default 0.5]
 * Prints one JSON object: the median seconds of an allreduce of one number, and of a gradient
 * exchange (plumb_comm_reduce_tree, then plumb_comm_allgather_shards) of several sizes. Each time
 * is that of the slowest rank. As in training, the gradient lies in memory of plumb_comm_alloc and
 * the weights do not. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "comm/comm.h"

#define MOST_ROUNDS  4096
#define LEAST_ROUNDS 5

/* numbers of floats in the gradient */
static const int64_t sizes[] = {1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24};
#define SIZES (int)(sizeof(sizes) / sizeof(sizes[0]))

struct vectors {
    float *gradient, *weights; /* each with the largest number of floats in `sizes` */
};

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Runs one allreduce (n = 0) or one exchange of n floats. */
static plumb_status once(plumb_comm *c, const struct vectors *v, int64_t n)
{
    double x = 1;
    if (n == 0)
        return plumb_comm_allreduce_f64(c, &x, 1, PLUMB_SUM);
    PLUMB_TRY(plumb_comm_reduce_tree(c, v->gradient, n, PLUMB_HOST));
    return plumb_comm_allgather_shards(c, v->weights, n, PLUMB_HOST);
}

/* Sets *out to the median over rounds of the slowest rank's seconds for once(). Measures for about
 * `budget` seconds. */
static plumb_status measure(double *out, plumb_comm *c, const struct vectors *v, int64_t n,
                            double budget)
{
    static double seconds[MOST_ROUNDS];
    int rounds = 0;
    PLUMB_TRY(once(c, v, n)); /* touches the memory for the first time and is not counted */
    const double began = plumb_now();
    for (double go_on = 1; go_on > 0 && rounds < MOST_ROUNDS;) {
        PLUMB_TRY(plumb_comm_barrier(c));
        const double start = plumb_now();
        PLUMB_TRY(once(c, v, n));
        double slowest = plumb_now() - start;
        PLUMB_TRY(plumb_comm_allreduce_f64(c, &slowest, 1, PLUMB_MAX));
        seconds[rounds++] = slowest;
        go_on = rounds < LEAST_ROUNDS || plumb_now() - began < budget;
        /* so that all ranks stop after the same round */
        PLUMB_TRY(plumb_comm_allreduce_f64(c, &go_on, 1, PLUMB_MIN));
    }
    qsort(seconds, (size_t)rounds, sizeof(*seconds), by_size);
    *out = seconds[rounds / 2];
    return PLUMB_OK;
}

static plumb_status probe(plumb_comm *c, const struct vectors *v, double budget)
{
    const bool prints = plumb_comm_rank(c) == 0;
    double median;
    PLUMB_TRY(measure(&median, c, v, 0, budget));
    if (prints)
        printf("{\"ranks\": %d, \"transport\": \"%s\", \"allreduce_s\": %.4g, \"exchange\": [",
               plumb_comm_size(c), plumb_comm_name(c), median);
    for (int i = 0; i < SIZES; i++) {
        PLUMB_TRY(measure(&median, c, v, sizes[i], budget));
        if (prints)
            printf("%s{\"elements\": %" PRId64 ", \"seconds\": %.4g}", i ? ", " : "", sizes[i],
                   median);
    }
    if (prints)
        printf("]}\n");
    return PLUMB_OK;
}

int main(int argc, char **argv)
{
    const double budget = argc > 1 ? atof(argv[1]) : 0.5;
    const int64_t bytes = sizes[SIZES - 1] * (int64_t)sizeof(float);
    plumb_comm *c = NULL;
    struct vectors v = {0};
    plumb_status st = PLUMB_OK;
    if (argc > 2 || budget <= 0) {
        fputs("usage: bench_probe [seconds per size]\n", stderr);
        return 2;
    }
    PLUMB_TRY_GOTO(st, plumb_comm_create(&c, 60), fail);
    v.weights = calloc(1, (size_t)bytes);
    if (!v.weights)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "%lld bytes", (long long)bytes);
    PLUMB_TRY_GOTO(st, plumb_comm_agree(c, plumb_comm_alloc(c, (void **)&v.gradient, bytes)), fail);
    PLUMB_TRY_GOTO(st, probe(c, &v, budget), fail);
fail:
    if (st != PLUMB_OK) {
        fputs(plumb_trail(), stderr);
        if (c)
            plumb_comm_abort(c, 1);
        return 1;
    }
    plumb_comm_free(c, v.gradient);
    free(v.weights);
    plumb_comm_destroy(&c);
    return 0;
}
