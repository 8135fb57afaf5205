/* vectors.h - adds and distributes a vector in device memory, and compares the results with host
 * memory.
 * Test. Includes comm/, harness.h. */
#ifndef PLUMB_TESTS_COMM_VECTORS_H
#define PLUMB_TESTS_COMM_VECTORS_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "comm/comm.h"
#include "harness.h"

/* Returns device memory with the values of this rank, x (n,), and sets host (n,) to the same
 * values. Their sums over the ranks are rounded. */
static float *vector_new(const plumb_comm *c, const struct plumb_comm_device *d, float *host,
                         int64_t n)
{
    void *x = NULL;
    for (int64_t i = 0; i < n; i++)
        host[i] = (float)sin((double)(i * 7 + plumb_comm_rank(c) * 131 + 1)) * (i % 5 ? 1 : 1e6f);
    CHECK_OK(d->alloc(d->arg, &x, n * 4 + 4));
    CHECK_OK(d->to_device(d->arg, x, host, n * 4));
    return (float *)x;
}

/* Checks the sum and the distribution of a vector in device memory against host memory. If `exact`,
 * the bits must be the same; else the results may differ by a rounding. */
static void vector_check(plumb_comm *c, const struct plumb_comm_device *d, int64_t n, bool exact)
{
    float *host = malloc((size_t)n * 4 + 4), *back = malloc((size_t)n * 4 + 4);
    CHECK(host && back);
    float *x = vector_new(c, d, host, n);
    for (int64_t i = 0; i < n; i++)
        host[i] *= 2;
    CHECK_OK(plumb_comm_reduce_tree(c, host, n, PLUMB_HOST));
    /* this kernel may still be running when the exchange begins */
    CHECK_OK(d->accumulate(d->arg, x, x, n));
    CHECK_OK(plumb_comm_reduce_tree(c, x, n, PLUMB_DEVICE));
    const struct plumb_range own = plumb_comm_shard(c, n, plumb_comm_rank(c));
    CHECK_OK(d->to_host(d->arg, back, x, n * 4));
    for (int64_t i = own.begin; i < own.end; i++)
        CHECKF(exact ? memcmp(&back[i], &host[i], 4) == 0
                     : fabsf(back[i] - host[i]) <= 1e-6f * (i % 5 ? 8 : 8e6f),
               "[%lld of %lld]: %a, in host memory %a", (long long)i, (long long)n, (double)back[i],
               (double)host[i]);
    for (int64_t i = 0; i < n; i++)
        if (i >= own.begin && i < own.end)
            host[i] = 2 * back[i]; /* new values of this rank's shard, which are then distributed */
        else
            back[i] = NAN;
    CHECK_OK(d->to_device(d->arg, x, back, n * 4));
    CHECK_OK(plumb_comm_allgather_shards(c, host, n, PLUMB_HOST));
    CHECK_OK(d->accumulate(d->arg, x, x, n));
    CHECK_OK(plumb_comm_allgather_shards(c, x, n, PLUMB_DEVICE));
    CHECK_OK(d->to_host(d->arg, back, x, n * 4));
    CHECK(!memcmp(back, host, (size_t)n * 4));
    /* the same with gather_begin and gather_end, between which the device can do other work */
    for (int64_t i = 0; i < n; i++)
        back[i] = i >= own.begin && i < own.end ? 0.5f * host[i] : NAN;
    CHECK_OK(d->to_device(d->arg, x, back, n * 4));
    CHECK_OK(d->accumulate(d->arg, x, x, n));
    CHECK_OK(plumb_comm_gather_begin(c, x, n, PLUMB_DEVICE));
    CHECK_OK(plumb_comm_gather_end(c));
    CHECK_OK(plumb_comm_gather_end(c)); /* a second call does nothing */
    CHECK_OK(d->to_host(d->arg, back, x, n * 4));
    CHECK(!memcmp(back, host, (size_t)n * 4));
    d->release(d->arg, x);
    free(host);
    free(back);
}

#endif
