/* tree.h - the fixed binary tree along which micro-batch gradients add up.
 * Layer 1. Includes comm.h and base/. Pure functions; not collective.
 *
 * A leaf is the gradient of one micro-batch. The M leaves of a step are padded to
 * P = 2^ceil(log2 max(M, W)); padding is skipped, not added. Each inner node is
 * (left subtree) + (right subtree). If W is a power of two, rank r owns the P/W leaves from r P/W,
 * and plumb_comm_reduce_tree adds the levels above. Here M = 6, W = 2, P = 8:
 *
 *                     +                      reduce_tree, between the ranks
 *             +               +              plumb_tree_at, on each rank
 *         +       +       +      pad
 *       0   1   2   3   4   5  pad pad
 *      [   rank 0    ] [    rank 1    ]
 *
 * So the sum has the same bits for every power of two W. Any other W splits the leaves evenly, and
 * the sum agrees to rounding. */
#ifndef PLUMB_COMM_TREE_H
#define PLUMB_COMM_TREE_H

#include "comm/comm.h"

/* Returns the leaves [begin, end) of a step of `leaves` leaves (>= 0) that a rank owns; the range
 * may be empty. */
struct plumb_range plumb_tree_leaves(int64_t leaves, int rank, int world_size);
/* Returns the largest number of leaves that the rank gets in any step of at most `leaves` leaves. A
 * step with fewer leaves may give the rank more of them: the second of two ranks gets 1 of 5
 * leaves, but 2 of 4. */
int64_t plumb_tree_most(int64_t leaves, int rank, int world_size);

/* The leaves begin, begin + step, begin + 2 step ... below end. */
struct plumb_leaves {
    int64_t begin, end, step;
};
/* Returns the leaves of a rank if leaf i belongs to rank i mod W. A round is the W leaves that
 * begin at a multiple of W. If W is a power of two, the lowest log2 W levels of the tree are then
 * the sums of the rounds over the ranks, and the levels above are the tree of the rounds. Here M =
 * 6, W = 2:
 *
 *                     +                      plumb_tree_at over the rounds, on every rank
 *             +               |
 *         +       +       +                  reduce_tree after each round, between the ranks
 *       0   1   2   3   4   5                rank = leaf mod 2
 *
 * A rank without a leaf in the last round takes part with the vector of plumb_tree_empty. */
struct plumb_leaves plumb_tree_rounds(int64_t leaves, int rank, int world_size);
/* Returns the leaves of plumb_tree_leaves as a struct plumb_leaves with step 1. */
struct plumb_leaves plumb_tree_row(int64_t leaves, int rank, int world_size);
/* Returns the number of leaves in l. */
int64_t plumb_leaves_count(struct plumb_leaves l);

/* Local accumulation: a stack of gradient buffers, like the digits of a binary counter. For the
 * t-th of `count` local leaves (t = 0, 1 ...), with at = plumb_tree_at(count, t):
 *   write the leaf's gradient to buffer[at.buffer] (overwriting), then
 *   at.merges times: buffer[top - 1] += buffer[top], top falling from at.buffer.
 * After the last leaf the sum is in buffer[0]. */
struct plumb_tree_step {
    int buffer, merges;
};
struct plumb_tree_step plumb_tree_at(int64_t count, int64_t t);
/* Returns the number of gradient buffers that `count` local leaves need; at least 1. */
int plumb_tree_buffers(int64_t count);
/* Returns the number of buffers for sums that `count` local leaves need if each leaf is in a buffer
 * of its own, from which it is added to a sum: floor(log2 count), for count >= 1. A leaf with
 * at.merges > 0 is then added to buffer[at.buffer - 1], and only the other leaves are copied to
 * buffer[at.buffer]. With one leaf, its own buffer has the sum. */
int plumb_tree_stored(int64_t count);

/* Adds the sum of a right subtree, src (n,), to that of the left subtree, dst (n,). */
void plumb_tree_merge(float *dst, const float *src, int64_t n);
/* Fills dst with the sum of a rank that has no leaves: -0.0, the only value y for which x + y has
 * the bits of x for every x. */
void plumb_tree_empty(float *dst, int64_t n);

#endif
