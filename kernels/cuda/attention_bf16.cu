/* attention_bf16.cu - bfloat16 causal attention on tensor cores over a paged KV cache: the kernel
 * that writes pages, and the forward of training and prefill.
 * Layer 1 (cuda). Includes attention_softmax.cuh, which describes the order of the sums. */
#include "cuda/attention_softmax.cuh"

/* ---- writing pages -------------------------------------------------------------------- */

static constexpr int WRITE_THREADS = 256;

/* Each thread copies 16 bytes of a row's keys and 16 bytes of its values. */
static __global__ void __launch_bounds__(WRITE_THREADS)
    kv_write_kernel(plumb_bf16 *kc, plumb_bf16 *vc, const plumb_bf16 *k, const plumb_bf16 *v,
                    plumb_rows rows, int64_t hk, int64_t d)
{
    wait_for_previous();
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
    PLUMB_LAUNCH_EARLY(kv_write_kernel, unsigned(blocks), WRITE_THREADS, 0, context_of(s), kc, vc,
                       k, v, *rows, hk, d);
    return launched("kv_write_fwd");
}

/* ---- fwd_kernel: tiles of pairs ---------------------------------------------------------- */

static constexpr int STAGES = 2;

template <int D, int MT> static constexpr size_t fwd_shared()
{
    return size_t(WARPS * MMA * MT * STRIDE<D> + STAGES * 2 * PAGE_TILE<D>) * sizeof(plumb_bf16);
}

/* Values that fwd_kernel rarely uses, and therefore keeps in local memory instead of in registers.
 * total: the sums of the earlier chunks of positions (fold() in attention_softmax.cuh); folded:
 * true if there are such sums; here: number of pairs of the tile; now: the current page. */
template <int FLOATS> struct rare {
    pairs tile;
    walk now;
    int here;
    bool folded;
    float total[FLOATS];
};

/* The number of fwd_kernel's blocks that must be resident on an SM at the same time (launch
 * bounds). It limits a thread to 65536 / (128 * FWD_BLOCKS) registers. With a larger number the
 * compiler would spill registers to memory. */
template <int D> constexpr int FWD_BLOCKS = D <= 32 ? 4 : D <= 64 ? 3 : 2;

/* Each warp computes MT * 16 consecutive (row, query head) pairs, as MT tensor-core tiles of 16
 * rows. `scale` is the scale of the scores times log2(e), because the softmax computes 2^x instead
 * of e^x. CAP: true if scores are soft-capped (shape.cap > 0). */
template <int D, int MT, bool CAP>
static __global__ void __launch_bounds__(ATTENTION_THREADS, FWD_BLOCKS<D>)
    fwd_kernel(plumb_bf16 *o, float *lse, const plumb_bf16 *q, const plumb_bf16 *kc,
               const plumb_bf16 *vc, plumb_rows rows, heads shape, float scale)
{
    PLUMB_SHARED(plumb_bf16, shared);
    constexpr int TILE = WARPS * MMA * MT;
    const int d = int(shape.d), warp = int(threadIdx.x) / WARP;
    const int64_t kv = blockIdx.y, first = last_first(TILE);
    rare<MT * TOTAL<D>> memory;
    auto *kept = in_memory(&memory);
    const pairs &tile = kept->tile = pairs_from(shape, kv, first);
    const int64_t left = rows.n * tile.group - first;
    const int here = kept->here = int(left < TILE ? left : TILE);
    plumb_bf16 *qs = shared, *stage = qs + TILE * STRIDE<D>;

    copy_rows<D, TILE>(qs, d, q,
                       [&](int p) { return p < here ? q + head_of(tile, p) * d : nullptr; });
    walk &now = kept->now = walk_over(rows, tile.row, row_of(tile, here - 1) + 1, shape.window);
    copy_page<D>(stage, kc, vc, now, shape, kv);
    copy_async_commit();
    online row[MT];
    float acc[MT][D / 8][4];
    for (int m = 0; m < MT; m++)
        for (int i = 0; i < 2; i++) {
            row[m].max[i] = -INFINITY;
            row[m].sum[i] = 0.0f;
            row[m].to[i] = 0;
            for (int n = 0; n < D / 8; n++)
                acc[m][n][2 * i] = acc[m][n][2 * i + 1] = 0.0f;
        }
    kept->folded = false;
    for (int at = 0; more(now); at ^= 1) {
        copy_async_wait(0);
        __syncthreads(); /* this page has arrived, and all threads have read the previous page */
        if (now.block == now.first) { /* a run begins */
#pragma unroll
            for (int m = 0; m < MT; m++)
#pragma unroll
                for (int i = 0; i < 2; i++)
                    row[m].to[i] =
                        visible_to(now, rows, row_of(tile, pair_of_lane(warp, MT, m, i)));
        }
        const int page = now.block * PAGE;
        const bool folds = at_chunk(now.block, now.first);
        advance(now, rows, shape.window);
        if (more(now)) {
            copy_page<D>(stage + (at ^ 1) * 2 * PAGE_TILE<D>, kc, vc, now, shape, kv);
            copy_async_commit();
        }
        const plumb_bf16 *keys = stage + at * 2 * PAGE_TILE<D>;
        if (folds) {
#pragma unroll
            for (int m = 0; m < MT; m++)
                fold<D>(kept->total + m * TOTAL<D>, &row[m], acc[m], !kept->folded);
            kept->folded = true;
        }
        bool any = false;
#pragma unroll
        for (int m = 0; m < MT; m++)
#pragma unroll
            for (int i = 0; i < 2; i++)
                any = any || sees(row[m].to[i], page, shape.window);
        if (__ballot_sync(ALL_LANES, any) == 0)
            continue;
        float s[MT][NT][4], factor[2];
        scores<D, MT>(s, qs + warp * MT * MMA * STRIDE<D>, keys);
#pragma unroll
        for (int m = 0; m < MT; m++) {
            softmax<CAP>(s[m], &row[m], factor, scale, shape, page);
            rescale<D>(acc[m], factor);
        }
        add_product<D, D, MT>(acc, s, keys + PAGE_TILE<D>, 0);
    }
#pragma unroll
    for (int m = 0; m < MT && kept->folded; m++) {
        fold<D>(kept->total + m * TOTAL<D>, &row[m], acc[m], false);
        unfold<D>(kept->total + m * TOTAL<D>, &row[m], acc[m]);
    }
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const float sum = whole_sum(row[m].sum[i]);
            const int p = pair_of_lane(warp, MT, m, i);
            if (p >= kept->here)
                continue;
            const int64_t head = head_of(tile, p);
            store_row<D>(o + head * d, acc[m], i, sum, 0, d);
            if (quad_lane() == 0)
                lse[head] = lse_of(row[m].max[i], sum);
        }
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
    if (decodes(rows))
        return plumb_cuda_attention_decode(s, o, lse, q, kc, vc, rows, shape);
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
