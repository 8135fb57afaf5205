/* bench_comm.c - speed of plumb's gradient exchange (tree reduction and all-gather), compared with
 * memcpy and MPI_Allreduce.
 * In every round, all variants are measured one after another, so that other load on the machine
 * affects all of them.
 *   mpirun -n 2 build/benchmarks/bench_comm [megabytes] [rounds]
 * GB/s = bytes of the vector / seconds of the slowest rank. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "comm/mpi_impl.h"

#define MOST_ROUNDS 1000

struct bench {
    plumb_comm *c;
    /* n floats each. near comes from plumb_comm_alloc (shared by the ranks of a host); far and
     * other come from calloc. */
    float *near, *far, *other;
    int64_t n;
};

static plumb_status copy(struct bench *b)
{
    memcpy(b->other, b->far, (size_t)b->n * sizeof(float));
    return PLUMB_OK;
}

static plumb_status library(struct bench *b)
{
    struct plumb_mpi *m = plumb_mpi_of(b->c);
    pthread_mutex_lock(&m->lock);
    const int e = MPI_Allreduce(MPI_IN_PLACE, b->far, (int)b->n, MPI_FLOAT, MPI_SUM, m->comm);
    pthread_mutex_unlock(&m->lock);
    PLUMB_MPI(e);
    return PLUMB_OK;
}

static plumb_status both(struct bench *b, float *x)
{
    PLUMB_TRY(plumb_comm_reduce_tree(b->c, x, b->n, PLUMB_HOST));
    return plumb_comm_allgather_shards(b->c, x, b->n, PLUMB_HOST);
}

static plumb_status in_place(struct bench *b)
{
    return both(b, b->near);
}

static plumb_status reduce_in_place(struct bench *b)
{
    return plumb_comm_reduce_tree(b->c, b->near, b->n, PLUMB_HOST);
}

/* the gradient lies in memory of plumb_comm_alloc, the weights in memory of calloc */
static plumb_status mixed(struct bench *b)
{
    PLUMB_TRY(plumb_comm_reduce_tree(b->c, b->near, b->n, PLUMB_HOST));
    return plumb_comm_allgather_shards(b->c, b->far, b->n, PLUMB_HOST);
}

static plumb_status ring(struct bench *b)
{
    return both(b, b->far);
}

static plumb_status messages(struct bench *b)
{
    struct plumb_shared *s = &plumb_mpi_of(b->c)->shared;
    s->on = false;
    const plumb_status st = both(b, b->far);
    s->on = true;
    return st;
}

static const struct contest {
    const char *name;
    plumb_status (*run)(struct bench *b);
} contests[] = {
    {"memcpy, all ranks at once", copy},
    {"MPI_Allreduce", library},
    {"tree: memory read in place", in_place},
    {"  its reduce_tree alone", reduce_in_place},
    {"tree: reduce in place, gather by ring", mixed},
    {"tree: ring of slots", ring},
    {"tree: MPI messages", messages},
};
#define CONTESTS (int)(sizeof(contests) / sizeof(contests[0]))

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof(*v), by_size);
    return v[n / 2];
}

static plumb_status measure(struct bench *b, double (*seconds)[MOST_ROUNDS], int rounds)
{
    /* round -1 touches the memory for the first time and is not counted */
    for (int t = -1; t < rounds; t++)
        for (int k = 0; k < CONTESTS; k++) {
            PLUMB_TRY(plumb_comm_barrier(b->c));
            const double start = plumb_now();
            PLUMB_TRY(contests[k].run(b));
            double slowest = plumb_now() - start;
            PLUMB_TRY(plumb_comm_allreduce_f64(b->c, &slowest, 1, PLUMB_MAX));
            if (t >= 0)
                seconds[k][t] = slowest;
        }
    return PLUMB_OK;
}

/* Prints the median of each variant over the rounds. A ratio of two variants is computed within
 * each round, because other load on a shared machine changes from round to round. */
static void report(const struct bench *b, double (*seconds)[MOST_ROUNDS], int rounds)
{
    const double bytes = (double)b->n * sizeof(float);
    double copy_ratio[CONTESTS], mpi_ratio[CONTESTS], v[MOST_ROUNDS];
    for (int k = 0; k < CONTESTS; k++) {
        for (int t = 0; t < rounds; t++)
            v[t] = seconds[0][t] / seconds[k][t];
        copy_ratio[k] = median(v, rounds);
        for (int t = 0; t < rounds; t++)
            v[t] = seconds[1][t] / seconds[k][t];
        mpi_ratio[k] = median(v, rounds);
    }
    printf("%d ranks, %.0f MB, %d rounds\n%-38s %7s %7s %7s  %s\n", plumb_comm_size(b->c),
           bytes * 1e-6, rounds, "GB/s", "median", "best", "worst", "x memcpy  x MPI_Allreduce");
    for (int k = 0; k < CONTESTS; k++) {
        const double mid = median(seconds[k], rounds);
        printf("%-38s %7.2f %7.2f %7.2f  %8.2f  %8.2f\n", contests[k].name, bytes / mid * 1e-9,
               bytes / seconds[k][0] * 1e-9, bytes / seconds[k][rounds - 1] * 1e-9, copy_ratio[k],
               mpi_ratio[k]);
    }
}

int main(int argc, char **argv)
{
    static double seconds[CONTESTS][MOST_ROUNDS];
    const int rounds = argc > 2 ? atoi(argv[2]) : 15;
    struct bench b = {.n = (argc > 1 ? atol(argv[1]) : 100) * 1000000 / (int64_t)sizeof(float)};
    const size_t bytes = (size_t)b.n * sizeof(float);
    plumb_status st = PLUMB_OK;
    if (b.n < 1 || rounds < 1 || rounds > MOST_ROUNDS) {
        fputs("usage: bench_comm [megabytes] [rounds]\n", stderr);
        return 2;
    }
    PLUMB_TRY_GOTO(st, plumb_comm_mpi_create(&b.c, 60), fail);
    PLUMB_TRY_GOTO(st, plumb_comm_alloc(b.c, (void **)&b.near, (int64_t)bytes), fail);
    b.far = calloc(1, bytes);
    b.other = calloc(1, bytes);
    if (!b.far || !b.other)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "3 x %zu bytes", bytes);
    for (int64_t i = 0; i < b.n; i++)
        b.near[i] = b.far[i] = 1e-30f;
    PLUMB_TRY_GOTO(st, measure(&b, seconds, rounds), fail);
    if (plumb_comm_rank(b.c) == 0)
        report(&b, seconds, rounds);
fail:
    if (st != PLUMB_OK) {
        fputs(plumb_trail(), stderr);
        if (b.c)
            plumb_comm_abort(b.c, 1);
        return 1;
    }
    free(b.far);
    free(b.other);
    plumb_comm_free(b.c, b.near);
    plumb_comm_destroy(&b.c);
    return 0;
}
