/* attention_bf16_decode.cu - bfloat16 causal attention on tensor cores: the forward of decoding.
 * Layer 1 (cuda). Includes attention_softmax.cuh, which describes the order of the sums. */
#include "cuda/attention_softmax.cuh"

static constexpr int64_t ENOUGH_BLOCKS = 512; /* about four blocks per SM of an H100 */
/* number of floats of a row of scores in shared memory; the padding of 8 puts the rows into
 * different banks */
static constexpr int SCORE_STRIDE = PAGE + 8;
template <int D> constexpr int DECODE_STAGES = D <= 128 ? 4 : 2;

template <int D> static constexpr size_t decode_shared()
{
    return size_t(MMA * STRIDE<D> + DECODE_STAGES<D> * 2 * PAGE_TILE<D>) * sizeof(plumb_bf16) +
           MMA * SCORE_STRIDE * sizeof(float);
}

/* Computes the scores of the 8 keys of the page that belong to this warp, with the bits of scores()
 * (attention_bf16.cuh). */
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

/* A share is the work of one block: up to 16 query heads of one row and one kv head. blockIdx.x and
 * blockIdx.y select it. */
struct share {
    int64_t row, head, pos; /* head: row * h + first query head; pos: position of the row */
    int here;               /* number of query heads */
};
DEVICE share share_of(const plumb_rows &rows, const heads &shape)
{
    const int group = int(shape.group), parts = (group + MMA - 1) / MMA;
    const int part = int(blockIdx.x % unsigned(parts)) * MMA;
    const int64_t row = blockIdx.x / unsigned(parts);
    return share{row, row * shape.h + int64_t(blockIdx.y) * group + part, rows.pos[row],
                 group - part < MMA ? group - part : MMA};
}

/* A record holds the partial result of one share for one chunk of CHUNK positions: acc (R,d), max
 * (R,) and the sum of each lane (R,4), where R is heads_of_share(). Each share has `chunks`
 * records.
 */
static __host__ __device__ inline int heads_of_share(int64_t group)
{
    return int(group < MMA ? group : MMA);
}
static __host__ __device__ inline int64_t record_floats(int64_t group, int64_t d)
{
    return heads_of_share(group) * (d + 5);
}
DEVICE float *record_of(float *record, const heads &shape, int chunk, int chunks)
{
    const int64_t share = int64_t(blockIdx.x) * gridDim.y + blockIdx.y;
    return record + (share * chunks + chunk) * record_floats(shape.group, shape.d);
}

/* Each block processes one share: up to 16 query heads of one row and one kv head. If `record` is
 * NULL, it processes all chunks with keys that the row attends to. Otherwise the grid has a z axis
 * over these chunks, and the block processes only chunk number blockIdx.z of them, and writes the
 * partial result to `record`, for combine_kernel; a block whose chunk lies after the row's position
 * does nothing. */
template <int D, bool CAP>
static __global__ void __launch_bounds__(ATTENTION_THREADS)
    decode_kernel(plumb_bf16 *o, float *lse, const plumb_bf16 *q, const plumb_bf16 *kc,
                  const plumb_bf16 *vc, plumb_rows rows, heads shape, float scale, float *record)
{
    wait_for_previous();
    PLUMB_SHARED(plumb_bf16, shared);
    static_assert(WARPS == NT, "a warp has 8 keys of the page");
    constexpr int ST = DECODE_STAGES<D>, SLICES = (D / MMA + WARPS - 1) / WARPS;
    const int d = int(shape.d), warp = int(threadIdx.x) / WARP;
    const share my = share_of(rows, shape);
    const int64_t kv = blockIdx.y;
    plumb_bf16 *qs = shared, *stage = qs + MMA * STRIDE<D>;
    float *exchange = reinterpret_cast<float *>(stage + ST * 2 * PAGE_TILE<D>);

    /* the loop over the pages of the block's row, which forms a run by itself; ahead.block is the
     * next page to copy */
    walk ahead = walk_over(rows, my.row, 1, shape.window);
    if (record) {
        const int chunk = ahead.first / CHUNK_PAGES + int(blockIdx.z), from = chunk * CHUNK_PAGES;
        const int end = (from + CHUNK_PAGES) * PAGE;
        if (from * PAGE >= ahead.keys)
            return;
        ahead.first = ahead.block = ahead.first > from ? ahead.first : from;
        ahead.keys = ahead.keys < end ? ahead.keys : end;
    }
    copy_rows<D, MMA>(qs, d, q,
                      [&](int r) { return r < my.here ? q + (my.head + r) * d : nullptr; });
    online row;
    float acc[2 * SLICES][4], total[TOTAL<SLICES * MMA>];
    bool folded = false;
    for (int j = 0; j < 2; j++) {
        row.max[j] = -INFINITY;
        row.sum[j] = 0.0f;
        row.to[j] = int(my.pos + 1);
    }
    for (int n = 0; n < 2 * SLICES; n++)
        for (int e = 0; e < 4; e++)
            acc[n][e] = 0.0f;
    auto copy_ahead = [&](int to) { /* to buffer `to` of the ring */
                                    if (ahead.block * PAGE < ahead.keys)
                                        copy_page<D>(stage + to * 2 * PAGE_TILE<D>, kc, vc, ahead,
                                                     shape, kv);
                                    ahead.block++;
                                    copy_async_commit();
    };
    for (int n = 0; n < ST - 1; n++)
        copy_ahead(n);
    int at = 0;
    for (int block = ahead.first; block * PAGE < ahead.keys; block++, at = (at + 1) % ST) {
        copy_async_wait(ST - 2);
        __syncthreads(); /* this page has arrived, and all threads have read the previous page */
        copy_ahead((at + ST - 1) % ST);
        const plumb_bf16 *keys = stage + at * 2 * PAGE_TILE<D>;
        if (at_chunk(block, ahead.first)) {
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
        softmax<CAP>(s[0], &row, factor, scale, shape, block * PAGE);
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
    const int most = heads_of_share(shape.group);
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

/* Combines the records of a share, the partial results of the chunks that its row attends to, in
 * ascending order and with the same operations as fold(). */
static __global__ void __launch_bounds__(ATTENTION_THREADS)
    combine_kernel(plumb_bf16 *o, float *lse, float *record, plumb_rows rows, heads shape,
                   int chunks)
{
    wait_for_previous();
    const int d = int(shape.d), most = heads_of_share(shape.group);
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
 * more blocks use more SMs of the GPU. With many rows the division is not needed, and without
 * enough memory for the records it is not possible. The bits are the same in both cases. */
static int64_t chunks_apart(const struct plumb_cuda *c, const struct plumb_rows *rows,
                            const struct plumb_attn_shape *shape, int64_t shares)
{
    const int64_t chunks = ceil_div(rows->max_pages, CHUNK_PAGES);
    const int64_t floats = shares * chunks * record_floats(shape->h / shape->hk, shape->d);
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
    PLUMB_LAUNCH_EARLY(kernel, dim3(unsigned(x), unsigned(shape->hk), unsigned(chunks)),
                       ATTENTION_THREADS, decode_shared<D>(), c, o, lse, q, kc, vc, *rows,
                       heads_of(shape), shape->scale * LOG2E, chunks > 1 ? c->chunk : nullptr);
    PLUMB_TRY(launched("attention_fwd of one row"));
    if (chunks == 1)
        return PLUMB_OK;
    PLUMB_LAUNCH_EARLY(combine_kernel, dim3(unsigned(x), unsigned(shape->hk)), ATTENTION_THREADS, 0,
                       c, o, lse, c->chunk, *rows, heads_of(shape), int(chunks));
    return launched("attention_fwd of a row's chunks");
}

plumb_status plumb_cuda_attention_decode(plumb_stream *s, plumb_bf16 *o, float *lse,
                                         const plumb_bf16 *q, const plumb_bf16 *kc,
                                         const plumb_bf16 *vc, const struct plumb_rows *rows,
                                         const struct plumb_attn_shape *shape)
{
    if (shape->d <= 32)
        return run_decode<32>(s, o, lse, q, kc, vc, rows, shape);
    if (shape->d <= 64)
        return run_decode<64>(s, o, lse, q, kc, vc, rows, shape);
    if (shape->d <= 96)
        return run_decode<96>(s, o, lse, q, kc, vc, rows, shape);
    if (shape->d <= 128)
        return run_decode<128>(s, o, lse, q, kc, vc, rows, shape);
    return run_decode<256>(s, o, lse, q, kc, vc, rows, shape);
}
