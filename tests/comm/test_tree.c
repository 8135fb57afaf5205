/* test_tree.c - checks the tree along which the gradients of micro-batches (leaves) are added. All
 * numbers of ranks that are powers of two add in the same order. For every number of ranks, each
 * leaf belongs to one rank. */
#include <stdbool.h>
#include <string.h>

#include "base/num.h"
#include "comm/tree.h"
#include "harness.h"

static float leaf(int m)
{
    struct rng r = {(uint64_t)m * 1234567 + 99};
    rng_u(&r);
    return rng_f(&r, -1, 1) * ldexpf(1.0f, (int)(rng_u(&r) * 20) - 10);
}

/* Sets *sum to the sum over leaves [lo, hi), by the definition of the tree. Returns false if all of
 * these are padding. */
static bool tree(float *sum, int lo, int hi, int leaves)
{
    if (lo >= leaves)
        return false;
    if (hi - lo == 1) {
        *sum = leaf(lo);
        return true;
    }
    float right;
    const int mid = lo + (hi - lo) / 2;
    tree(sum, lo, mid, leaves);
    if (tree(&right, mid, hi, leaves))
        *sum += right;
    return true;
}

/* Returns the sum of a rank's leaves as training computes it, with a stack of buffers. Buffers that
 * are not yet written are NaN. */
static float by_stack(struct plumb_range own)
{
    const int64_t count = own.end - own.begin;
    float b[16], x;
    if (count == 0) {
        plumb_tree_empty(&x, 1);
        return x;
    }
    const int have = plumb_tree_buffers(count);
    int used = 0;
    CHECK(have >= 1 && have <= 16);
    for (int i = 0; i < 16; i++)
        b[i] = NAN;
    for (int64_t t = 0; t < count; t++) {
        const struct plumb_tree_step s = plumb_tree_at(count, t);
        CHECK(s.buffer < have);
        used = s.buffer + 1 > used ? s.buffer + 1 : used;
        b[s.buffer] = leaf((int)(own.begin + t));
        for (int top = s.buffer; top > s.buffer - s.merges; top--) {
            plumb_tree_merge(&b[top - 1], &b[top], 1);
            b[top] = NAN;
        }
    }
    CHECKF(used == have, "count %lld: %d buffers used of %d", (long long)count, used, have);
    return b[0];
}

int main(void)
{
    for (int m = 1; m <= 40; m++) {
        float want;
        CHECK(tree(&want, 0, (int)plumb_pow2_ceil(m), m));
        for (int w = 1; w <= 64; w *= 2) {
            float part[64];
            int64_t next = 0;
            for (int r = 0; r < w; r++) {
                const struct plumb_range own = plumb_tree_leaves(m, r, w);
                CHECK(own.begin == next && own.end >= own.begin);
                next = own.end;
                part[r] = by_stack(own);
            }
            CHECK(next == m);
            for (int d = 1; d < w; d *= 2)
                for (int r = 0; r < w; r += 2 * d)
                    part[r] += part[r + d];
            CHECKF(memcmp(&part[0], &want, 4) == 0, "M %d W %d: %a, want %a", m, w, (double)part[0],
                   (double)want);
        }
        /* the ranks' numbers of leaves differ by at most 1 if w is not a power of two */
        for (int w = 3; w <= 48; w++) {
            int64_t next = 0, least = m, most = 0;
            for (int r = 0; r < w; r++) {
                const struct plumb_range own = plumb_tree_leaves(m, r, w);
                CHECK(own.begin == next);
                next = own.end;
                least = plumb_min_i64(least, own.end - own.begin);
                most = plumb_max_i64(most, own.end - own.begin);
            }
            CHECK(next == m && (plumb_is_pow2(w) || most - least <= 1));
        }
    }
    CHECK(plumb_tree_leaves(0, 0, 1).end == 0 && plumb_tree_buffers(1) == 1);
    CHECK(plumb_tree_most(5, 0, 2) == 4 && plumb_tree_most(5, 1, 2) == 2);
    CHECK(plumb_tree_most(0, 0, 1) == 0 && plumb_tree_most(7, 2, 3) == 2);
    /* A rank without leaves must not change the sum, not even the sign of a zero. */
    float x[3] = {-0.0f, 0.0f, 1.5f}, y[3], e[3];
    memcpy(y, x, sizeof(x));
    plumb_tree_empty(e, 3);
    plumb_tree_merge(y, e, 3);
    CHECK(memcmp(x, y, sizeof(x)) == 0);
    plumb_tree_merge(e, x, 3);
    CHECK(memcmp(x, e, sizeof(x)) == 0);

    /* The shards of the ranks have every element once, begin at multiples of a block, and are at
     * most one block larger than an equal share. */
    const int64_t lengths[] = {0, 1, 4095, 4096, 4097, 40960, 1000003, (int64_t)8 << 30};
    for (int i = 0; i < 8; i++)
        for (int w = 1; w <= 17; w++) {
            const int64_t n = lengths[i];
            int64_t sum = 0;
            for (int r = 0; r < w; r++) {
                const struct plumb_range s = plumb_comm_shard_of(n, r, w);
                CHECK(s.begin >= 0 && s.begin <= s.end && s.end <= n);
                if (s.begin == s.end)
                    continue;
                CHECK(s.begin % PLUMB_SHARD_BLOCK == 0);
                CHECK(s.end % PLUMB_SHARD_BLOCK == 0 || s.end == n);
                sum += s.end - s.begin;
                for (int q = 0; q < r; q++) {
                    const struct plumb_range o = plumb_comm_shard_of(n, q, w);
                    CHECK(o.end <= s.begin || o.begin >= s.end || o.begin == o.end);
                }
                int half = 1;
                while (2 * half <= w)
                    half *= 2;
                CHECK(s.end - s.begin <= n / half + PLUMB_SHARD_BLOCK);
            }
            CHECK(sum == n);
        }
    return 0;
}
