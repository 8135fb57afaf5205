/* attention_bf16.cuh - functions shared by attention's forward and backward on tensor cores.
 * Layer 1, kernels/cuda only. Includes attention.cuh, mma.cuh.
 *
 * A tile in shared memory has rows of D + 8 elements:
 *
 *     row 0:  d elements | zeros up to D | 16 bytes of padding
 *     row 1:  ...
 *
 * The padding puts the eight rows that one ldmatrix reads into different memory banks. */
#ifndef PLUMB_KERNELS_CUDA_ATTENTION_BF16_CUH
#define PLUMB_KERNELS_CUDA_ATTENTION_BF16_CUH

#include "cuda/attention.cuh"
#include "cuda/mma.cuh"

/* rows of a warp's tile, and number of terms that one mma sums */
static constexpr int MMA = 16;
static constexpr int PIECE = 8; /* elements per 16-byte access */
/* number of tiles of 8 columns (C in mma.cuh) for the keys of a page */
static constexpr int NT = PAGE / 8;
static constexpr float LOG2E = 1.4426950408889634f, LN2 = 0.6931471805599453f;
template <int D> constexpr int STRIDE = D + PIECE;
/* elements of one page of keys or values in shared memory */
template <int D> constexpr int PAGE_TILE = PAGE *STRIDE<D>;

DEVICE int quad_lane()
{
    return int(threadIdx.x) % 4;
}
DEVICE int lane_row()
{
    return int(threadIdx.x) % WARP / 4;
}

/* Returns the index of a pair among the WARPS * tiles * 16 pairs of the block; each warp has
 * `tiles` tiles of 16 pairs. The pair is that of row i of this lane (0: row g, 1: row g+8, mma.cuh)
 * in tile m of its warp. */
DEVICE int pair_of_lane(int warp, int tiles, int m, int i)
{
    return (warp * tiles + m) * MMA + i * 8 + lane_row();
}

/* ---- copies to shared memory -------------------------------------------------------------- */

/* Copies ROWS rows of d columns to shared memory: row r is copied from the address from(r), or
 * becomes zeros if from(r) is NULL. Columns d..D-1 become zeros. `valid` is any readable address of
 * device memory; a copy that only writes zeros needs an address, but does not read it. */
template <int D, int ROWS, class F>
DEVICE void copy_rows(plumb_bf16 *to, int d, const plumb_bf16 *valid, F from)
{
    for (int at = int(threadIdx.x); at < ROWS * (D / PIECE); at += ATTENTION_THREADS) {
        const int r = at / (D / PIECE), e = at % (D / PIECE) * PIECE;
        const plumb_bf16 *row = from(r);
        const bool there = row && e < d;
        copy16_async(to + r * STRIDE<D> + e, there ? row + e : valid, there);
    }
}

/* A list of (row, query head) pairs of one kv head, ordered by row and then by query head. Its
 * first pair is row `row` with query head number `rest` of the kv head's `group` query heads. */
struct pairs {
    int64_t row, first_head, h; /* first_head: first query head of the kv head */
    int rest, group;
};
DEVICE int row_of(const pairs &t, int p) /* returns the row of pair p, counted from t.row */
{
    return (t.rest + p) / t.group;
}
DEVICE int64_t head_of(const pairs &t, int p)
{
    return (t.row + row_of(t, p)) * t.h + t.first_head + (t.rest + p) % t.group;
}
DEVICE pairs pairs_from(const heads &shape, int64_t kv, int64_t first)
{
    const int64_t group = shape.group;
    return pairs{first / group, kv * group, shape.h, int(first % group), int(group)};
}

/* Returns the index of this block's first pair, if each block processes `pairs` pairs. Block 0 gets
 * the last pairs, because a GPU usually starts it first, and the last rows of a sequence, which
 * have the most keys, take longest. */
DEVICE int64_t last_first(int pairs)
{
    return int64_t(gridDim.x - 1 - blockIdx.x) * pairs;
}

/* The state of a loop over the pages of the KV cache that the rows of a tile attend to: run by run,
 * and within a run from its first page to its last. A run is the rows [begin, end) of the tile,
 * counted from its first row, that belong to one sequence. */
struct walk {
    int64_t row;          /* first row of the tile */
    const int32_t *table; /* the pages of the run's sequence, in ascending order of positions */
    /* rows: number of rows of the tile. The run has rows begin..end-1. first: the first page that
     * the run attends to; block: the current page. Pages are numbered from the start of the
     * sequence. keys: number of keys from the start of the sequence to the run's last row,
     * inclusive. */
    int rows, begin, end, first, block, keys;
};
DEVICE void begin_run(walk &w, const plumb_rows &rows, int64_t window)
{
    if (w.begin >= w.rows)
        return;
    const int64_t begin = w.row + w.begin;
    w.end = int(run_end(rows, begin, w.row + w.rows - 1) - w.row);
    w.block = w.first = int(first_visible(rows.pos[begin], window) / PAGE);
    w.keys = rows.pos[w.row + w.end - 1] + 1;
    w.table = rows.page + rows.seq[begin] * rows.max_pages;
}
DEVICE walk walk_over(const plumb_rows &rows, int64_t row, int n, int64_t window)
{
    walk w = {row, nullptr, n, 0, 0, 0, 0, 0};
    begin_run(w, rows, window);
    return w;
}
DEVICE bool more(const walk &w)
{
    return w.begin < w.rows;
}
DEVICE void advance(walk &w, const plumb_rows &rows, int64_t window)
{
    if (++w.block * PAGE < w.keys)
        return;
    w.begin = w.end;
    begin_run(w, rows, window);
}

/* Returns the end (exclusive) of the positions that row `row` of the tile, counted from its first
 * row, attends to: its own position + 1. Returns 0 if the row is not in the current run. */
DEVICE int visible_to(const walk &w, const plumb_rows &rows, int row)
{
    return row >= w.begin && row < w.end ? rows.pos[w.row + row] + 1 : 0;
}
/* Returns the first position that a row attends to; `to` is the result of visible_to for the row.
 */
DEVICE int first_key(int to, int64_t window)
{
    return window > 0 && to > window ? to - int(window) : 0;
}
/* Returns true if a row whose visible_to is `to` attends to a key of the page that begins at
 * position `page`. */
DEVICE bool sees(int to, int page, int64_t window)
{
    return to > page && first_key(to, window) < page + PAGE;
}

/* Copies the current page of w to shared memory: keys, then values. Positions after the run's last
 * row are replaced by zeros, because they belong to later rows or were never written. */
template <int D>
DEVICE void copy_page(plumb_bf16 *to, const plumb_bf16 *kc, const plumb_bf16 *vc, const walk &w,
                      const heads &shape, int64_t kv)
{
    constexpr int PIECES = D / PIECE, EACH = PAGE * PIECES / ATTENTION_THREADS;
    static_assert(EACH * ATTENTION_THREADS == PAGE * PIECES, "all threads copy equally many");
    const int thread = anew(int(threadIdx.x)), d = anew(int(shape.d));
    const int keys = w.keys - w.block * PAGE;
    const int64_t page = (w.table[w.block] * shape.hk + kv) * PAGE * d;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int at = thread + i * ATTENTION_THREADS;
        const int r = at / PIECES, e = at % PIECES * PIECE;
        const bool there = r < keys && e < d;
        const int64_t from = page + (there ? r * d + e : 0);
        copy16_async(to + r * STRIDE<D> + e, kc + from, there);
        copy16_async(to + PAGE_TILE<D> + r * STRIDE<D> + e, vc + from, there);
    }
}

/* ---- products ---------------------------------------------------------------------------- */

/* Loads a = rows 0..15, columns 16k..16k+15 of a tile, as operand A of a product. */
template <int D> DEVICE void load_a(unsigned *a, const plumb_bf16 *tile, int k)
{
    const int lane = int(threadIdx.x) % WARP;
    load_matrix(a, tile + lane % 16 * STRIDE<D> + k * MMA + lane / 16 * 8);
}
/* Loads the operands B of two products with the transpose of a tile, summed over the tile's columns
 * 16k..16k+15: b[0], b[1] from the tile's rows 0..7, and b[2], b[3] from its rows 8..15. */
template <int D> DEVICE void load_b(unsigned *b, const plumb_bf16 *tile, int k)
{
    const int lane = int(threadIdx.x) % WARP;
    load_matrix(b, tile + (lane / 16 * 8 + lane % 8) * STRIDE<D> + k * MMA + lane / 8 % 2 * 8);
}
/* Loads the operands B of two products with a tile, summed over the tile's rows 0..15: b[0], b[1]
 * from the tile's columns c..c+7, and b[2], b[3] from its columns c+8..c+15. */
template <int D> DEVICE void load_b_trans(unsigned *b, const plumb_bf16 *tile, int c)
{
    const int lane = int(threadIdx.x) % WARP;
    load_matrix_trans(b, tile + lane % 16 * STRIDE<D> + c + lane / 16 * 8);
}

/* Computes s[m] (16,PAGE) = rows 16m..16m+15 of a times the transpose of the PAGE rows of b, summed
 * over D in ascending order. */
template <int D, int MT>
DEVICE void scores(float (*s)[NT][4], const plumb_bf16 *a, const plumb_bf16 *b)
{
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int n = 0; n < NT; n++)
            s[m][n][0] = s[m][n][1] = s[m][n][2] = s[m][n][3] = 0.0f;
#pragma unroll
    for (int k = 0; k < D / MMA; k++) {
        unsigned fa[MT][4], fb[4];
#pragma unroll
        for (int m = 0; m < MT; m++)
            load_a<D>(fa[m], a + m * MMA * STRIDE<D>, k);
#pragma unroll
        for (int n = 0; n < NT; n += 2) {
            load_b<D>(fb, b + n * 8 * STRIDE<D>, k);
#pragma unroll
            for (int m = 0; m < MT; m++) {
                mma_bf16(s[m][n], fa[m], fb[0], fb[1]);
                mma_bf16(s[m][n + 1], fa[m], fb[2], fb[3]);
            }
        }
    }
}

/* Rounds (16,PAGE) values to bfloat16 and converts them from the layout of C (mma.cuh) to the
 * operands A of two products that each sum over 16 of the columns. */
DEVICE void as_a(unsigned (*a)[4], const float (*s)[4])
{
#pragma unroll
    for (int k = 0; k < PAGE / MMA; k++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            a[k][2 * i] = pack_bf16(s[2 * k + i][0], s[2 * k + i][1]);
            a[k][2 * i + 1] = pack_bf16(s[2 * k + i][2], s[2 * k + i][3]);
        }
}

/* Computes acc[m] (16,W) += s[m] (16,PAGE), rounded to bfloat16, times columns [c, c+W) of the tile
 * (PAGE,D), summed over the tile's rows in ascending order. */
template <int D, int W, int MT>
DEVICE void add_product(float (*acc)[W / 8][4], const float (*s)[NT][4], const plumb_bf16 *tile,
                        int c)
{
    unsigned a[MT][PAGE / MMA][4];
#pragma unroll
    for (int m = 0; m < MT; m++)
        as_a(a[m], s[m]);
#pragma unroll
    for (int k = 0; k < PAGE / MMA; k++)
#pragma unroll
        for (int n = 0; n < W / 8; n += 2) {
            unsigned b[4];
            load_b_trans<D>(b, tile + k * MMA * STRIDE<D>, c + n * 8);
#pragma unroll
            for (int m = 0; m < MT; m++) {
                mma_bf16(acc[m][n], a[m][k], b[0], b[1]);
                mma_bf16(acc[m][n + 1], a[m][k], b[2], b[3]);
            }
        }
}

/* Stores columns c and c+1 of a row, rounded; columns from d on are not stored. */
DEVICE void store_pair(plumb_bf16 *row, int c, int d, float low, float high)
{
    if (c < d)
        *reinterpret_cast<unsigned *>(row + c) = pack_bf16(low, high);
}

/* ---- host -------------------------------------------------------------------------------- */

/* Fails if the bfloat16 kernels do not support head size d, or if `aligned` is false. `aligned`
 * says whether all arrays that the kernel accesses 16 bytes at a time are 16-byte aligned. */
static inline plumb_status check_bf16(const char *kernel, int64_t d, bool aligned)
{
    PLUMB_REQUIRE(d % PIECE == 0 && d <= MOST_D, PLUMB_ERR_UNSUPPORTED,
                  "%s: head size %lld; the bfloat16 kernels support multiples of %d up to %d",
                  kernel, (long long)d, PIECE, MOST_D);
    PLUMB_REQUIRE(aligned, PLUMB_ERR_SHAPE, "%s: an array is not aligned to 16 bytes", kernel);
    return PLUMB_OK;
}

#endif
