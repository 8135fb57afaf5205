/* tree.c - leaves, buffers and merges of the micro-batch tree.
 * Layer 1. Includes comm/ and base/ only. */
#include "comm/tree.h"

#include <assert.h>

#include "base/num.h"
#include "comm/stream.h"

struct plumb_range plumb_tree_leaves(int64_t leaves, int rank, int world_size)
{
    assert(leaves >= 0 && rank >= 0 && rank < world_size);
    if (!plumb_is_pow2(world_size)) {
        const int64_t share = leaves / world_size, extra = leaves % world_size;
        const int64_t begin = share * rank + plumb_min_i64(rank, extra);
        return (struct plumb_range){begin, begin + share + (rank < extra)};
    }
    const int64_t padded = plumb_pow2_ceil(plumb_max_i64(leaves, world_size));
    const int64_t each = padded / world_size;
    return (struct plumb_range){plumb_min_i64(rank * each, leaves),
                                plumb_min_i64((rank + 1) * each, leaves)};
}

int64_t plumb_tree_most(int64_t leaves, int rank, int world_size)
{
    int64_t most = 0;
    for (int64_t n = 1; n <= leaves; n++) {
        const struct plumb_range own = plumb_tree_leaves(n, rank, world_size);
        most = plumb_max_i64(most, own.end - own.begin);
    }
    return most;
}

struct plumb_leaves plumb_tree_rounds(int64_t leaves, int rank, int world_size)
{
    assert(leaves >= 0 && rank >= 0 && rank < world_size);
    return (struct plumb_leaves){rank, leaves, world_size};
}

struct plumb_leaves plumb_tree_row(int64_t leaves, int rank, int world_size)
{
    const struct plumb_range own = plumb_tree_leaves(leaves, rank, world_size);
    return (struct plumb_leaves){own.begin, own.end, 1};
}

int64_t plumb_leaves_count(struct plumb_leaves l)
{
    return l.end > l.begin ? plumb_ceil_div(l.end - l.begin, l.step) : 0;
}

struct plumb_tree_step plumb_tree_at(int64_t count, int64_t t)
{
    assert(t >= 0 && t < count);
    /* Before leaf t the stack holds one subtree per set bit of t. After the last leaf all subtrees
     * are merged: a subtree whose right sibling is padding moves up unchanged. */
    const int height = __builtin_popcountll((unsigned long long)t);
    const int full = __builtin_ctzll((unsigned long long)t + 1);
    return (struct plumb_tree_step){height, t == count - 1 ? height : full};
}

int plumb_tree_buffers(int64_t count)
{
    /* Leaf t is written to buffer[popcount(t)] (plumb_tree_at), so `most` is the largest number of
     * set bits of any t < count. It is that of count - 1, or of a number that results from clearing
     * one set bit of count - 1 and setting all bits below it. */
    int most = 0;
    for (int64_t t = count - 1; t > 0; t &= t - 1) {
        const int here = __builtin_popcountll((unsigned long long)t);
        const int below = __builtin_popcountll((unsigned long long)(t - 1));
        const int best = here > below ? here : below;
        most = best > most ? best : most;
    }
    return most + 1;
}

int plumb_tree_stored(int64_t count)
{
    /* Leaf t is copied to buffer[popcount(t)] if t is even and not the last leaf; the other leaves
     * are added to a buffer immediately. For 2^k <= count < 2^(k+1), the largest popcount of such a
     * t is k - 1, so k buffers are enough. */
    int k = 0;
    while (count >= 2) {
        count /= 2;
        k++;
    }
    return k;
}

void plumb_tree_merge(float *dst, const float *src, int64_t n)
{
    plumb_stream_add(dst, src, n);
}

void plumb_tree_empty(float *dst, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dst[i] = -0.0f;
}
