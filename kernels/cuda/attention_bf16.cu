/* attention_bf16.cu - bfloat16 causal attention on tensor cores over a paged KV cache: the page
 * writes and the forward.
 * Layer 1 (cuda). Includes attention_bf16.cuh.
 *
 * The result of a row does not depend on the tile. Pages are processed in ascending order,
 * beginning with the first page that has a key visible to the row. Scores are tensor-core products
 * over 16 columns at a time, in ascending order. Each lane adds the probabilities of its eight keys
 * in order; the sums of the row's four lanes are added at the end. Outputs are products over 16
 * keys at a time, in ascending order, with probabilities rounded to bfloat16. A page without
 * visible keys has probabilities of zero and a rescaling factor of 1 (or of 0, while the sums are
 * still 0), so it leaves the row unchanged (mma.cuh).
 *
 * Sums restart at every multiple of CHUNK positions, and the sums of the chunks are combined in
 * order. The chunks of a long row can therefore be divided among thread blocks. Two kernels perform
 * these steps: fwd_kernel processes tiles of (row, query head) pairs, for training and prefill; a
 * block of decode_kernel processes one row, and its warps divide the keys of a page and then the
 * columns of v. Source: Dao 2023,
 * arXiv:2307.08691, algorithm 1. */
#include "cuda/attention_bf16.cuh"

/* ---- writing pages -------------------------------------------------------------------- */

static constexpr int WRITE_THREADS = 256;

/* Each thread copies 16 bytes of a row's keys and 16 bytes of its values. */
static __global__ void __launch_bounds__(WRITE_THREADS)
    kv_write_kernel(plumb_bf16 *kc, plumb_bf16 *vc, const plumb_bf16 *k, const plumb_bf16 *v,
                    plumb_rows rows, int64_t hk, int64_t d)
{
    const int64_t at = int64_t(blockIdx.x) * WRITE_THREADS + threadIdx.x, width = hk * d / PIECE;
    if (at >= rows.n * width)
        return;
    const int64_t i = at / width, head = at % width * PIECE / d, e = at % width * PIECE % d;
    const int64_t pos = rows.pos[i], page = page_of(rows, rows.seq[i], pos / PAGE);
    const int64_t to = ((page * hk + head) * PAGE + pos % PAGE) * d + e;
    *reinterpret_cast<float4 *>(kc + to) = *reinterpret_cast<const float4 *>(k + at * PIECE);
    *reinterpret_cast<float4 *>(vc + to) = *reinterpret_cast<const float4 *>(v + at * PIECE);
}

static plumb_status kv_write_fwd(plumb_stream *s, plumb_bf16 *kc, plumb_bf16 *vc,
                                 const plumb_bf16 *k, const plumb_bf16 *v,
                                 const struct plumb_rows *rows, int64_t hk, int64_t d)
{
    const int64_t blocks = ceil_div(rows->n * hk * d / PIECE, WRITE_THREADS);
    if (rows->n == 0)
        return PLUMB_OK;
    PLUMB_TRY(check_bf16("kv_write_fwd", d, aligned16(kc, vc, k, v)));
    PLUMB_TRY(check_grid("kv_write_fwd", blocks, 1));
    PLUMB_LAUNCH(kv_write_kernel, unsigned(blocks), WRITE_THREADS, 0, context_of(s)->stream, kc, vc,
                 k, v, *rows, hk, d);
    return launched("kv_write_fwd");
}

/* ---- steps of the online softmax ---------------------------------------------------------- */

/* positions per chunk; changes the bits of the result */
static constexpr int CHUNK = 512, CHUNK_PAGES = CHUNK / PAGE;

/* State of the online softmax in one lane, for its two rows g and g+8 of the warp's tile (g = lane
 * / 4): the largest score so far (in base 2), the lane's own part of the sum of probabilities, and
 * the visible positions [from, to). */
struct online {
    float max[2], sum[2];
    int from[2], to[2];
};

/* Turns the products q.k in s (16,PAGE) into probabilities relative to each row's largest score so
 * far, and updates `row`. factor[i] receives the factor for the sums over the earlier pages of the
 * lane's row i (0: row g, 1: row g+8). `first` is the position of the page's first key. */
template <bool CAP>
DEVICE void softmax(float (*s)[4], online *row, float *factor, float scale, const heads &shape,
                    int first)
{
    const bool all = row->from[0] <= first && row->from[1] <= first && row->to[0] >= first + PAGE &&
                     row->to[1] >= first + PAGE;
    const bool masks = __ballot_sync(ALL_LANES, !all) != 0;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float top = row->max[i];
#pragma unroll
        for (int n = 0; n < NT; n++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int at = first + n * 8 + 2 * quad_lane() + e;
                float *x = &s[n][2 * i + e];
                *x = CAP ? shape.cap * LOG2E * tanhf(*x * shape.inner) : *x * scale;
                if (masks && (at < row->from[i] || at >= row->to[i]))
                    *x = -INFINITY;
                top = fmaxf(top, *x);
            }
        top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, 1));
        top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, 2));
        const float base = top == -INFINITY ? 0.0f : top; /* the row has no visible key so far */
        float sum = 0.0f;
#pragma unroll
        for (int n = 0; n < NT; n++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                s[n][2 * i + e] = exp2_fast(s[n][2 * i + e] - base);
                sum += s[n][2 * i + e];
            }
        factor[i] = exp2_fast(row->max[i] - base);
        row->sum[i] = fmaf(row->sum[i], factor[i], sum);
        row->max[i] = top;
    }
}

/* Multiplies acc (16,W) by factor, row by row; does nothing if all factors of the warp are 1. */
template <int W> DEVICE void rescale(float (*acc)[4], const float *factor)
{
    if (__ballot_sync(ALL_LANES, factor[0] != 1.0f || factor[1] != 1.0f) == 0)
        return;
#pragma unroll
    for (int n = 0; n < W / 8; n++)
#pragma unroll
        for (int j = 0; j < 4; j++)
            acc[n][j] *= factor[j / 2];
}

/* Returns a row's sum over the four lanes that hold its parts; all four receive the result. */
DEVICE float whole_sum(float sum)
{
    sum += __shfl_xor_sync(ALL_LANES, sum, 1);
    return sum + __shfl_xor_sync(ALL_LANES, sum, 2);
}

/* Stores columns [c, c+W) of the lane's row i (0: row g, 1: row g+8), divided by the row's sum.
 * Adding 0 turns the -0 of an empty sum into 0. */
template <int W>
DEVICE void store_row(plumb_bf16 *o, const float (*acc)[4], int i, float sum, int c, int d)
{
    const float by = 1.0f / sum;
#pragma unroll
    for (int n = 0; n < W / 8; n++)
        store_pair(o, c + n * 8 + 2 * quad_lane(), d, fmaf(acc[n][2 * i], by, 0.0f),
                   fmaf(acc[n][2 * i + 1], by, 0.0f));
}

/* Combines two partial sums whose largest scores are a and b: writes the factor for each sum and
 * returns the larger score. */
DEVICE float join(float a, float b, float *factor_a, float *factor_b)
{
    const float top = fmaxf(a, b), base = top == -INFINITY ? 0.0f : top;
    *factor_a = exp2_fast(a - base);
    *factor_b = exp2_fast(b - base);
    return top;
}

/* Adds the sums of the current chunk to total, which holds max[2], sum[2] and acc (16,W) of the
 * earlier chunks; if `begins`, there are none yet. Then resets row and acc to their initial
 * values. */
template <int W> DEVICE void fold(float *total, online *row, float (*acc)[4], bool begins)
{
    float before[2], now[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        total[i] = join(begins ? -INFINITY : total[i], row->max[i], &before[i], &now[i]);
        total[2 + i] = fmaf(begins ? 0.0f : total[2 + i], before[i], row->sum[i] * now[i]);
        row->max[i] = -INFINITY;
        row->sum[i] = 0.0f;
    }
#pragma unroll
    for (int n = 0; n < W / 8; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            float *t = &total[4 + n * 4 + e];
            *t = fmaf(begins ? 0.0f : *t, before[e / 2], acc[n][e] * now[e / 2]);
            acc[n][e] = 0.0f;
        }
}
/* Copies max, sum and acc of all chunks, which fold() combined in total, back to row and acc. */
template <int W> DEVICE void unfold(const float *total, online *row, float (*acc)[4])
{
#pragma unroll
    for (int i = 0; i < 2; i++) {
        row->max[i] = total[i];
        row->sum[i] = total[2 + i];
    }
#pragma unroll
    for (int n = 0; n < W / 8; n++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            acc[n][e] = total[4 + n * 4 + e];
}

/* number of floats that the array `total` of fold() has in one lane: max[2], sum[2] and acc */
template <int W> constexpr int TOTAL = 4 + W / 2;

/* Returns true if the current page of w is the first one of a chunk but not of the run. */
DEVICE bool at_chunk(const walk &w)
{
    return w.block % CHUNK_PAGES == 0 && w.block > w.first;
}

DEVICE float lse_of(float max, float sum)
{
    return (max + log2f(sum)) * LN2;
}

/* ---- fwd_kernel: tiles of pairs ---------------------------------------------------------- */

static constexpr int STAGES = 2;

template <int D, int MT> static constexpr size_t fwd_shared()
{
    return size_t(WARPS * MMA * MT * STRIDE<D> + STAGES * 2 * PAGE_TILE<D>) * sizeof(plumb_bf16);
}

/* Each warp computes MT tiles of 16 (row, query head) pairs, one below the other. `scale` is the
 * scale of the scores times log2(e), because the softmax computes 2^x instead of e^x. CAP: true if
 * scores are soft-capped (shape.cap > 0). */
template <int D, int MT, bool CAP>
static __global__ void __launch_bounds__(ATTENTION_THREADS)
    fwd_kernel(plumb_bf16 *o, float *lse, const plumb_bf16 *q, const plumb_bf16 *kc,
               const plumb_bf16 *vc, plumb_rows rows, heads shape, float scale)
{
    PLUMB_SHARED(plumb_bf16, shared);
    constexpr int TILE = WARPS * MMA * MT;
    const int d = int(shape.d), warp = int(threadIdx.x) / WARP;
    const int64_t kv = blockIdx.y, first = last_first(TILE);
    const pairs tile = pairs_from(shape, kv, first);
    const int64_t left = rows.n * tile.group - first;
    const int here = int(left < TILE ? left : TILE);
    plumb_bf16 *qs = shared, *stage = qs + TILE * STRIDE<D>;

    copy_rows<D, TILE>(qs, d, q,
                       [&](int p) { return p < here ? q + head_of(tile, p) * d : nullptr; });
    online row[MT];
    int of[MT][2]; /* row of the (row, head) pair, counted from the tile's first row; -1: no pair */
    float acc[MT][D / 8][4];
    for (int m = 0; m < MT; m++)
        for (int i = 0; i < 2; i++) {
            const int p = (warp * MT + m) * MMA + i * 8 + lane_row();
            of[m][i] = p < here ? row_of(tile, p) : -1;
            const int64_t pos = p < here ? rows.pos[tile.row + of[m][i]] : -1;
            row[m].max[i] = -INFINITY;
            row[m].sum[i] = 0.0f;
            row[m].from[i] = int(first_visible(pos, shape.window));
            row[m].to[i] = int(pos + 1);
            for (int n = 0; n < D / 8; n++)
                acc[m][n][2 * i] = acc[m][n][2 * i + 1] = 0.0f;
        }
    /* sums of the earlier chunks; they are kept in memory because they are rarely needed */
    float totals[MT * TOTAL<D>], *total = in_memory(totals);
    bool folded = false;
    const int last = row_of(tile, here - 1) + 1;
    walk now = walk_over(rows, tile.row, last, shape.window), ahead = now;
    copy_page<D>(stage, kc, vc, ahead, rows, shape, kv);
    copy_async_commit();
    advance(ahead, rows);
    for (int at = 0; more(now); advance(now, rows), at ^= 1) {
        copy_async_wait(0);
        __syncthreads(); /* this page has arrived, and all threads have read the previous page */
        if (more(ahead)) {
            copy_page<D>(stage + (at ^ 1) * 2 * PAGE_TILE<D>, kc, vc, ahead, rows, shape, kv);
            copy_async_commit();
            advance(ahead, rows);
        }
        const plumb_bf16 *keys = stage + at * 2 * PAGE_TILE<D>;
        const int page = now.block * PAGE;
        if (at_chunk(now)) {
#pragma unroll
            for (int m = 0; m < MT; m++)
                fold<D>(total + m * TOTAL<D>, &row[m], acc[m], !folded);
            folded = true;
        }
        online seen[MT]; /* state with the visible keys limited to the current run */
        bool any = false;
#pragma unroll
        for (int m = 0; m < MT; m++) {
            seen[m] = row[m];
            for (int i = 0; i < 2; i++) {
                if (of[m][i] < now.begin || of[m][i] >= now.end)
                    seen[m].to[i] = 0;
                any = any || (seen[m].from[i] < page + PAGE && seen[m].to[i] > page);
            }
        }
        if (__ballot_sync(ALL_LANES, any) == 0)
            continue;
        float s[MT][NT][4], factor[2];
        scores<D, MT>(s, qs + warp * MT * MMA * STRIDE<D>, keys);
#pragma unroll
        for (int m = 0; m < MT; m++) {
            softmax<CAP>(s[m], &seen[m], factor, scale, shape, page);
            for (int i = 0; i < 2; i++) {
                row[m].max[i] = seen[m].max[i];
                row[m].sum[i] = seen[m].sum[i];
            }
            rescale<D>(acc[m], factor);
        }
        add_product<D, D, MT>(acc, s, keys + PAGE_TILE<D>, 0);
    }
#pragma unroll
    for (int m = 0; m < MT && folded; m++) {
        fold<D>(total + m * TOTAL<D>, &row[m], acc[m], false);
        unfold<D>(total + m * TOTAL<D>, &row[m], acc[m]);
    }
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const float sum = whole_sum(row[m].sum[i]);
            if (of[m][i] < 0)
                continue;
            const int64_t head = head_of(tile, (warp * MT + m) * MMA + i * 8 + lane_row());
            store_row<D>(o + head * d, acc[m], i, sum, 0, d);
            if (quad_lane() == 0)
                lse[head] = lse_of(row[m].max[i], sum);
        }
}

/* ---- decode_kernel: one row -------------------------------------------------------------- */

static constexpr int64_t ENOUGH_BLOCKS = 512; /* about four blocks per SM of an H100 */
/* floats of a row of scores in shared memory; the 8 of padding put rows into different banks */
static constexpr int SCORE_STRIDE = PAGE + 8;
template <int D> constexpr int DECODE_STAGES = D <= 128 ? 4 : 2;

template <int D> static constexpr size_t decode_shared()
{
    return size_t(MMA * STRIDE<D> + DECODE_STAGES<D> * 2 * PAGE_TILE<D>) * sizeof(plumb_bf16) +
           MMA * SCORE_STRIDE * sizeof(float);
}

/* Computes the scores of the 8 keys that belong to this warp; the bits equal those of scores(). */
template <int D> DEVICE void scores_of_warp(float *s, const plumb_bf16 *q, const plumb_bf16 *keys)
{
    const int lane = int(threadIdx.x) % WARP, warp = int(threadIdx.x) / WARP;
    s[0] = s[1] = s[2] = s[3] = 0.0f;
#pragma unroll
    for (int k = 0; k < D / MMA; k += 2) {
        unsigned a[4], b[4];
        load_matrix(b, keys + (warp * 8 + lane % 8) * STRIDE<D> + k * MMA + lane / 8 * 8);
        load_a<D>(a, q, k);
        mma_bf16(s, a, b[0], b[1]);
        load_a<D>(a, q, k + 1);
        mma_bf16(s, a, b[2], b[3]);
    }
}

/* A share is up to 16 query heads of one row and one kv head. blockIdx.x and blockIdx.y select the
 * share of a block. */
struct share {
    int64_t row, head, pos; /* head: row * h + first query head; pos: position of the row */
    int here;               /* number of query heads */
};
DEVICE share share_of(const plumb_rows &rows, const heads &shape)
{
    const int group = int(shape.h / shape.hk), parts = (group + MMA - 1) / MMA;
    const int part = int(blockIdx.x % unsigned(parts)) * MMA;
    const int64_t row = blockIdx.x / unsigned(parts);
    return share{row, row * shape.h + int64_t(blockIdx.y) * group + part, rows.pos[row],
                 group - part < MMA ? group - part : MMA};
}

/* A record holds the partial result of one share for one chunk of CHUNK positions: acc (R,d), max
 * (R,) and the sum of each lane (R,4), where R is heads_of_share(). Each share has `chunks`
 * records.
 */
static __host__ __device__ inline int heads_of_share(int64_t h, int64_t hk)
{
    return int(h / hk < MMA ? h / hk : MMA);
}
static __host__ __device__ inline int64_t record_floats(int64_t h, int64_t hk, int64_t d)
{
    return heads_of_share(h, hk) * (d + 5);
}
DEVICE float *record_of(float *record, const heads &shape, int chunk, int chunks)
{
    const int64_t share = int64_t(blockIdx.x) * gridDim.y + blockIdx.y;
    return record + (share * chunks + chunk) * record_floats(shape.h, shape.hk, shape.d);
}

/* Each block processes one share: up to 16 query heads of one row and one kv head. If `record` is
 * NULL, it processes all chunks with visible keys. Otherwise the grid has a z axis over chunks, and
 * the block processes only chunk number blockIdx.z, counted from the first chunk with a visible
 * key, and writes the partial result to `record`, for combine_kernel; a block whose chunk lies
 * after the row's position does nothing. */
template <int D, bool CAP>
static __global__ void __launch_bounds__(ATTENTION_THREADS)
    decode_kernel(plumb_bf16 *o, float *lse, const plumb_bf16 *q, const plumb_bf16 *kc,
                  const plumb_bf16 *vc, plumb_rows rows, heads shape, float scale, float *record)
{
    PLUMB_SHARED(plumb_bf16, shared);
    static_assert(WARPS == NT, "a warp has 8 keys of the page");
    constexpr int ST = DECODE_STAGES<D>, SLICES = (D / MMA + WARPS - 1) / WARPS;
    const int d = int(shape.d), warp = int(threadIdx.x) / WARP;
    const share my = share_of(rows, shape);
    const int64_t kv = blockIdx.y;
    plumb_bf16 *qs = shared, *stage = qs + MMA * STRIDE<D>;
    float *exchange = reinterpret_cast<float *>(stage + ST * 2 * PAGE_TILE<D>);

    walk now = walk_over(rows, my.row, 1, shape.window);
    if (record) {
        const int chunk = now.first / CHUNK_PAGES + int(blockIdx.z), from = chunk * CHUNK_PAGES;
        if (from > now.last)
            return;
        now.first = now.block = now.first > from ? now.first : from;
        now.last = now.last < from + CHUNK_PAGES ? now.last : from + CHUNK_PAGES - 1;
    }
    copy_rows<D, MMA>(qs, d, q,
                      [&](int r) { return r < my.here ? q + (my.head + r) * d : nullptr; });
    online row;
    float acc[2 * SLICES][4], total[TOTAL<SLICES * MMA>];
    bool folded = false;
    for (int j = 0; j < 2; j++) {
        row.max[j] = -INFINITY;
        row.sum[j] = 0.0f;
        row.from[j] = int(first_visible(my.pos, shape.window));
        row.to[j] = int(my.pos + 1);
    }
    for (int n = 0; n < 2 * SLICES; n++)
        for (int e = 0; e < 4; e++)
            acc[n][e] = 0.0f;
    walk ahead = now;
    for (int n = 0; n < ST - 1; n++) {
        if (more(ahead)) {
            copy_page<D>(stage + n * 2 * PAGE_TILE<D>, kc, vc, ahead, rows, shape, kv);
            advance(ahead, rows);
        }
        copy_async_commit();
    }
    for (int at = 0; more(now); advance(now, rows), at = (at + 1) % ST) {
        copy_async_wait(ST - 2);
        __syncthreads(); /* this page has arrived, and all threads have read the previous page */
        if (more(ahead)) {
            copy_page<D>(stage + (at + ST - 1) % ST * 2 * PAGE_TILE<D>, kc, vc, ahead, rows, shape,
                         kv);
            advance(ahead, rows);
        }
        copy_async_commit();
        const plumb_bf16 *keys = stage + at * 2 * PAGE_TILE<D>;
        if (at_chunk(now)) {
            fold<SLICES * MMA>(total, &row, acc, !folded);
            folded = true;
        }
        float s[1][NT][4], factor[2];
        scores_of_warp<D>(s[0][0], qs, keys);
        for (int e = 0; e < 4; e++)
            exchange[(lane_row() + e / 2 * 8) * SCORE_STRIDE + warp * 8 + 2 * quad_lane() + e % 2] =
                s[0][0][e];
        __syncthreads();
#pragma unroll
        for (int n = 0; n < NT; n++)
            for (int e = 0; e < 4; e++)
                s[0][n][e] = exchange[(lane_row() + e / 2 * 8) * SCORE_STRIDE + n * 8 +
                                      2 * quad_lane() + e % 2];
        softmax<CAP>(s[0], &row, factor, scale, shape, now.block * PAGE);
#pragma unroll
        for (int n = 0; n < SLICES; n++) {
            const int c = (n * WARPS + warp) * MMA;
            if (c >= D)
                continue;
            rescale<MMA>(acc + 2 * n, factor);
            add_product<D, MMA, 1>(reinterpret_cast<float(*)[2][4]>(acc + 2 * n), s,
                                   keys + PAGE_TILE<D>, c);
        }
    }
    if (folded) {
        fold<SLICES * MMA>(total, &row, acc, false);
        unfold<SLICES * MMA>(total, &row, acc);
    }
    const int most = heads_of_share(shape.h, shape.hk);
    float *out = record ? record_of(record, shape, int(blockIdx.z), int(gridDim.z)) : nullptr;
#pragma unroll
    for (int j = 0; j < 2; j++) {
        const float sum = whole_sum(row.sum[j]);
        const int r = lane_row() + j * 8;
        if (r >= my.here)
            continue;
#pragma unroll
        for (int n = 0; n < SLICES; n++) {
            const int c = (n * WARPS + warp) * MMA;
            if (c >= D)
                continue;
            if (!record)
                store_row<MMA>(o + (my.head + r) * d, acc + 2 * n, j, sum, c, d);
            for (int e = 0; e < 4 && record; e++) {
                const int column = c + e / 2 * 8 + 2 * quad_lane() + e % 2;
                if (column < d)
                    out[r * d + column] = acc[2 * n + e / 2][2 * j + e % 2];
            }
        }
        if (warp > 0)
            continue;
        if (record) {
            out[most * d + r] = row.max[j];
            out[most * (d + 1) + r * 4 + quad_lane()] = row.sum[j];
        } else if (quad_lane() == 0) {
            lse[my.head + r] = lse_of(row.max[j], sum);
        }
    }
}

/* Combines the records of a share (the partial results of its visible chunks) in ascending order,
 * with the same operations as fold(). */
static __global__ void __launch_bounds__(ATTENTION_THREADS)
    combine_kernel(plumb_bf16 *o, float *lse, float *record, plumb_rows rows, heads shape,
                   int chunks)
{
    const int d = int(shape.d), most = heads_of_share(shape.h, shape.hk);
    const share my = share_of(rows, shape);
    const int64_t first = first_visible(my.pos, shape.window);
    const int seen = int(my.pos / CHUNK - first / CHUNK) + 1;
    for (int at = int(threadIdx.x); at < my.here * d; at += ATTENTION_THREADS) {
        const int r = at / d;
        float max = -INFINITY, sum[4] = {}, acc = 0.0f, before, now;
        for (int chunk = 0; chunk < seen; chunk++) {
            const float *in = record_of(record, shape, chunk, chunks);
            max = join(max, in[most * d + r], &before, &now);
            for (int lane = 0; lane < 4; lane++)
                sum[lane] = fmaf(sum[lane], before, in[most * (d + 1) + r * 4 + lane] * now);
            acc = fmaf(acc, before, in[at] * now);
        }
        /* adds the four lane sums in the same order as whole_sum() */
        const float all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
        narrow(&o[my.head * d + at], fmaf(acc, 1.0f / all, 0.0f));
        if (at % d == 0)
            lse[my.head + r] = lse_of(max, all);
    }
}

/* Returns the size of decode_kernel's grid along z: 1 if a block processes all chunks of its row,
 * or the number of chunks that a row can have if each chunk has a block of its own. With few rows,
 * the division keeps the GPU busy; with many rows it is not needed, and without enough memory for
 * the records it is not possible. The bits are the same in both cases. */
static int64_t chunks_apart(const struct plumb_cuda *c, const struct plumb_rows *rows,
                            const struct plumb_attn_shape *shape, int64_t shares)
{
    const int64_t chunks = ceil_div(rows->max_pages, CHUNK_PAGES);
    const int64_t floats = shares * chunks * record_floats(shape->h, shape->hk, shape->d);
    return shares <= ENOUGH_BLOCKS && floats <= c->chunk_floats && chunks <= 65535 ? chunks : 1;
}

template <int D>
static plumb_status run_decode(plumb_stream *s, plumb_bf16 *o, float *lse, const plumb_bf16 *q,
                               const plumb_bf16 *kc, const plumb_bf16 *vc,
                               const struct plumb_rows *rows, const struct plumb_attn_shape *shape)
{
    const struct plumb_cuda *c = context_of(s);
    const auto kernel = shape->cap > 0.0f ? decode_kernel<D, true> : decode_kernel<D, false>;
    const int64_t x = rows->n * ceil_div(shape->h / shape->hk, MMA);
    const int64_t chunks = chunks_apart(c, rows, shape, x * shape->hk);
    PLUMB_TRY(check_grid("attention_fwd", x, shape->hk));
    PLUMB_TRY(allow_shared(kernel, decode_shared<D>()));
    PLUMB_LAUNCH(kernel, dim3(unsigned(x), unsigned(shape->hk), unsigned(chunks)),
                 ATTENTION_THREADS, decode_shared<D>(), c->stream, o, lse, q, kc, vc, *rows,
                 heads_of(shape), shape->scale * LOG2E, chunks > 1 ? c->chunk : nullptr);
    PLUMB_TRY(launched("attention_fwd of one row"));
    if (chunks == 1)
        return PLUMB_OK;
    PLUMB_LAUNCH(combine_kernel, dim3(unsigned(x), unsigned(shape->hk)), ATTENTION_THREADS, 0,
                 c->stream, o, lse, c->chunk, *rows, heads_of(shape), int(chunks));
    return launched("attention_fwd of a row's chunks");
}

/* ---- launches ------------------------------------------------------------------------- */

template <int D, int MT>
static plumb_status run_fwd(plumb_stream *s, plumb_bf16 *o, float *lse, const plumb_bf16 *q,
                            const plumb_bf16 *kc, const plumb_bf16 *vc,
                            const struct plumb_rows *rows, const struct plumb_attn_shape *shape)
{
    const auto kernel = shape->cap > 0.0f ? fwd_kernel<D, MT, true> : fwd_kernel<D, MT, false>;
    const int64_t tiles = ceil_div(rows->n * (shape->h / shape->hk), WARPS * MMA * MT);
    const size_t bytes = fwd_shared<D, MT>();
    if (decodes(rows))
        return run_decode<D>(s, o, lse, q, kc, vc, rows, shape);
    PLUMB_TRY(check_grid("attention_fwd", tiles, shape->hk));
    PLUMB_TRY(allow_shared(kernel, bytes));
    PLUMB_LAUNCH(kernel, dim3(unsigned(tiles), unsigned(shape->hk)), ATTENTION_THREADS, bytes,
                 context_of(s)->stream, o, lse, q, kc, vc, *rows, heads_of(shape),
                 shape->scale * LOG2E);
    return launched("attention_fwd");
}

static plumb_status attention_fwd(plumb_stream *s, plumb_bf16 *o, float *lse, const plumb_bf16 *q,
                                  const plumb_bf16 *kc, const plumb_bf16 *vc,
                                  const struct plumb_rows *rows,
                                  const struct plumb_attn_shape *shape)
{
    if (rows->n == 0)
        return PLUMB_OK;
    PLUMB_TRY(check_bf16("attention_fwd", shape->d, aligned16(o, q, kc, vc)));
    if (shape->d <= 32)
        return run_fwd<32, 2>(s, o, lse, q, kc, vc, rows, shape);
    if (shape->d <= 64)
        return run_fwd<64, 2>(s, o, lse, q, kc, vc, rows, shape);
    if (shape->d <= 96)
        return run_fwd<96, 2>(s, o, lse, q, kc, vc, rows, shape);
    if (shape->d <= 128)
        return run_fwd<128, 2>(s, o, lse, q, kc, vc, rows, shape);
    return run_fwd<256, 1>(s, o, lse, q, kc, vc, rows, shape);
}

void plumb_cuda_init_attention_bf16(struct plumb_kernels *t)
{
    t->bf16.kv_write_fwd = kv_write_fwd;
    t->bf16.attention_fwd = attention_fwd;
}
