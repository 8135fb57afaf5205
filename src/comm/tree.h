/* tree.h - the fixed binary tree along which micro-batch gradients add up.
 * Layer 1. Includes comm.h and base/. Pure functions; not collective.
 *
 * The M leaves are padded to P = 2^ceil(log2 max(M, W)); padding is skipped, not added. Each
 * inner node is (left subtree) + (right subtree). Rank r of W (a power of two) owns the P/W
 * leaves from r P/W; what remains above is plumb_comm_reduce_tree. So the sum has the same bits
 * for every power-of-two W. Other W split the leaves evenly: correct to rounding. */
#ifndef PLUMB_COMM_TREE_H
#define PLUMB_COMM_TREE_H

#include "comm/comm.h"

/* The leaves of this rank: [begin, end), possibly empty. leaves >= 0. */
struct plumb_range plumb_tree_leaves(int64_t leaves, int rank, int world_size);
/* The most leaves that this rank has of any number up to `leaves`. Of fewer it may have more: with
 * 5 leaves the second of two ranks has 1, with 4 it has 2. */
int64_t plumb_tree_most(int64_t leaves, int rank, int world_size);

/* Local accumulation: a stack of gradient buffers, like the digits of a binary counter. For the
 * t-th of `count` local leaves (t = 0, 1 ...):
 *   write the leaf's gradient to buffer[at.buffer] (overwriting), then
 *   at.merges times: buffer[top - 1] += buffer[top], top falling from at.buffer.
 * After the last leaf the sum is in buffer[0]. */
struct plumb_tree_step {
    int buffer, merges;
};
struct plumb_tree_step plumb_tree_at(int64_t count, int64_t t);
int plumb_tree_buffers(int64_t count); /* gradient buffers needed; at least 1 */

/* dst (n,) += src (n,): left subtree += right subtree. */
void plumb_tree_merge(float *dst, const float *src, int64_t n);
/* What a rank without leaves brings to the tree: -0.0, the one value that x + it leaves
 * unchanged for every x. */
void plumb_tree_empty(float *dst, int64_t n);

#endif
