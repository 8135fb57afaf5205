/* tree_sums.h - adds vectors along the tree over all ranks, distributes the sums, and compares them
 * with the whole tree computed on one rank.
 * Test. Includes base/, comm/, harness.h. */
#ifndef PLUMB_TESTS_COMM_TREE_SUMS_H
#define PLUMB_TESTS_COMM_TREE_SUMS_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "comm/comm.h"
#include "comm/tree.h"
#include "harness.h"

/* Sets g (n,) to leaf m of the tree: floats of very different sizes, whose sum depends on the
 * order. */
static void leaf(float *g, int64_t n, int m)
{
    struct rng rng = {(uint64_t)m * 77 + 5};
    for (int64_t i = 0; i < n; i++)
        g[i] = rng_f(&rng, -1, 1) * ldexpf(1.0f, (int)(rng_u(&rng) * 24) - 12);
}

/* sum += leaf m, sizes += |leaf m|, element by element, in double */
static void add_leaf(double *sum, double *sizes, int64_t n, int m)
{
    float *g = malloc((size_t)(n + 1) * sizeof(float));
    leaf(g, n, m);
    for (int64_t i = 0; i < n; i++) {
        sum[i] += (double)g[i];
        sizes[i] += fabs((double)g[i]);
    }
    free(g);
}

/* Sets out (n,) to the sum over leaves [lo, hi) of the tree, which is padded to a power of two of
 * leaves. Returns false if all of these leaves are padding. */
static bool whole_tree(float *out, int64_t n, int lo, int hi, int leaves)
{
    if (lo >= leaves)
        return false;
    if (hi - lo == 1) {
        leaf(out, n, lo);
        return true;
    }
    float *right = malloc((size_t)(n + 1) * sizeof(float));
    const int mid = lo + (hi - lo) / 2;
    whole_tree(out, n, lo, mid, leaves);
    if (whole_tree(right, n, mid, hi, leaves))
        for (int64_t i = 0; i < n; i++)
            out[i] += right[i];
    free(right);
    return true;
}

static void local_sum(float *g, int64_t n, struct plumb_range own)
{
    const int64_t count = own.end - own.begin;
    if (count == 0) {
        plumb_tree_empty(g, n);
        return;
    }
    const int buffers = plumb_tree_buffers(count);
    float *stack = malloc((size_t)buffers * (size_t)(n + 1) * sizeof(float));
    for (int64_t t = 0; t < count; t++) {
        const struct plumb_tree_step at = plumb_tree_at(count, t);
        CHECK(at.buffer < buffers && at.merges <= at.buffer);
        leaf(stack + at.buffer * n, n, (int)(own.begin + t));
        for (int top = at.buffer; top > at.buffer - at.merges; top--)
            plumb_tree_merge(stack + (top - 1) * n, stack + top * n, n);
    }
    memcpy(g, stack, (size_t)n * sizeof(float));
    free(stack);
}

/* Checks the sum of the leaves over all ranks, and its distribution to all ranks. g (n + 1,):
 * memory for the vector and one guard element. */
static void check_vectors(plumb_comm *c, float *g, int64_t n, int leaves)
{
    const int r = plumb_comm_rank(c), size = plumb_comm_size(c);
    const int64_t padded = plumb_pow2_ceil(leaves);
    float *want = malloc((size_t)(n + 1) * sizeof(float));
    local_sum(g, n, plumb_tree_leaves(leaves, r, size));
    g[n] = 77.0f;
    whole_tree(want, n, 0, (int)padded, leaves);
    double *sum = calloc((size_t)n + 1, sizeof(double)),
           *sizes = calloc((size_t)n + 1, sizeof(double));
    for (int k = 0; k < leaves; k++)
        add_leaf(sum, sizes, n, k);

    CHECK_OK(plumb_comm_reduce_tree(c, g, n, PLUMB_HOST));
    const struct plumb_range own = plumb_comm_shard(c, n, r);
    for (int64_t i = 0; i < n; i++)
        if (i < own.begin || i >= own.end)
            /* only the elements of the rank's own shard are defined after the reduction */
            g[i] = NAN;
    CHECK_OK(plumb_comm_allgather_shards(c, g, n, PLUMB_HOST));
    for (int64_t i = 0; i < n; i++)
        if (plumb_is_pow2(size))
            CHECKF(memcmp(&g[i], &want[i], 4) == 0, "W %d, M %d: [%lld of %lld] %a, want %a", size,
                   leaves, (long long)i, (long long)n, (double)g[i], (double)want[i]);
        else /* another order of additions; allows 4 roundings of 2^-24 per path, times 2 */
            CHECKF(fabs((double)g[i] - sum[i]) <= 8 * 0x1p-24 * sizes[i], "W %d: %a, want %a", size,
                   (double)g[i], sum[i]);
    CHECK(g[n] == 77.0f);
    free(want);
    free(sum);
    free(sizes);
}

static void check_tree(plumb_comm *c, int64_t n, int leaves)
{
    float *g = malloc((size_t)(n + 1) * sizeof(float));
    check_vectors(c, g, n, leaves);
    free(g);
}

/* Checks the all-gather of 2-byte elements: every rank gets the other ranks' shards, which have the
 * same elements as with floats. On a power of two of ranks, it sends half as many bytes as with
 * floats. */
static void check_halves(plumb_comm *c, int64_t n)
{
    uint16_t *x = malloc((size_t)n * sizeof(*x) + 4);
    const int64_t begin = plumb_comm_traffic(c, PLUMB_TRAFFIC_EXCHANGE).bytes;
    const struct plumb_range own = plumb_comm_shard(c, n, plumb_comm_rank(c));
    for (int64_t i = 0; i < n; i++)
        x[i] = i >= own.begin && i < own.end ? (uint16_t)(i * 31 + 5) : 0xdead;
    x[n] = 0x77;
    CHECK_OK(plumb_comm_allgather_halves(c, x, n, PLUMB_HOST));
    const int64_t sent = plumb_comm_traffic(c, PLUMB_TRAFFIC_EXCHANGE).bytes - begin;
    for (int64_t i = 0; i < n; i++)
        CHECKF(x[i] == (uint16_t)(i * 31 + 5), "[%lld of %lld]", (long long)i, (long long)n);
    CHECK(x[n] == 0x77);
    float *f = calloc((size_t)n + 1, sizeof(*f));
    const int64_t before = plumb_comm_traffic(c, PLUMB_TRAFFIC_EXCHANGE).bytes;
    CHECK_OK(plumb_comm_allgather_shards(c, f, n, PLUMB_HOST));
    CHECK(2 * sent == plumb_comm_traffic(c, PLUMB_TRAFFIC_EXCHANGE).bytes - before);
    CHECK_FAILS(plumb_comm_allgather_halves(c, x, 3, PLUMB_HOST), PLUMB_ERR_ARG, "even number");
    free(x);
    free(f);
}

#endif
