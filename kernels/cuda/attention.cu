/* attention.cu - float32 causal attention over a paged KV cache: the kernel that writes pages, and
 * the forward.
 * Layer 1 (cuda). Includes attention.cuh.
 *
 * The result of a row does not depend on the tile. A warp processes the pages in ascending order,
 * beginning with the first page with a key that the row attends to. Within a page, each lane owns
 * one key, and the key's score is one chain of fused multiply-adds over d. Maximum and sum over the
 * lanes are butterfly reductions. Each output element is one chain over the keys in ascending
 * order; keys that the row does not attend to are skipped. */
#include "cuda/attention.cuh"

/* ---- writing pages -------------------------------------------------------------------- */

/* Each block writes the keys and values of up to 32 rows of one kv head. Neighbouring threads read
 * neighbouring components. In a page the positions of one component of the keys are contiguous, so
 * the block transposes the keys in shared memory before it writes them. It writes the values
 * directly. */
static __global__ void __launch_bounds__(ATTENTION_THREADS)
    kv_write_kernel(float *kc, float *vc, const float *k, const float *v, plumb_rows rows,
                    int64_t hk, int d)
{
    PLUMB_SHARED(float, tile); /* 32 rows of d floats, padded by 1 against bank conflicts */
    const int64_t first = int64_t(blockIdx.x) * WARP, head = blockIdx.y;
    const int n = int(rows.n - first < WARP ? rows.n - first : WARP);
    for (int at = int(threadIdx.x); at < n * d; at += ATTENTION_THREADS) {
        const int r = at / d, e = at % d;
        const int64_t pos = rows.pos[first + r];
        const int64_t page = page_of(rows, rows.seq[first + r], pos / PAGE);
        const int64_t from = ((first + r) * hk + head) * d + e;
        tile[r * (d + 1) + e] = k[from];
        vc[((page * hk + head) * PAGE + pos % PAGE) * d + e] = v[from];
    }
    __syncthreads();
    for (int at = int(threadIdx.x); at < WARP * d; at += ATTENTION_THREADS) {
        const int r = at % WARP, e = at / WARP;
        if (r >= n)
            continue;
        const int64_t pos = rows.pos[first + r];
        const int64_t page = page_of(rows, rows.seq[first + r], pos / PAGE);
        kc[((page * hk + head) * d + e) * PAGE + pos % PAGE] = tile[r * (d + 1) + e];
    }
}

static plumb_status kv_write_fwd(plumb_stream *s, float *kc, float *vc, const float *k,
                                 const float *v, const struct plumb_rows *rows, int64_t hk,
                                 int64_t d)
{
    const int64_t tiles = ceil_div(rows->n, WARP);
    const size_t bytes = size_t(WARP * (d + 1)) * sizeof(float);
    if (rows->n == 0)
        return PLUMB_OK;
    PLUMB_REQUIRE(d <= MOST_D, PLUMB_ERR_UNSUPPORTED,
                  "kv_write_fwd: head size %lld; the CUDA kernels support up to %d", (long long)d,
                  MOST_D);
    PLUMB_TRY(check_grid("kv_write_fwd", tiles, hk));
    PLUMB_LAUNCH(kv_write_kernel, dim3(unsigned(tiles), unsigned(hk)), ATTENTION_THREADS, bytes,
                 context_of(s)->stream, kc, vc, k, v, *rows, hk, int(d));
    return launched("kv_write_fwd");
}

/* ---- forward -------------------------------------------------------------------------- */

/* Returns the bytes of shared memory of fwd_kernel with R = r pairs per warp: keys (d,PAGE) and
 * values (PAGE,d) of one page, the tile's q (WARPS*R,d) and the warps' probabilities
 * (WARPS,R,PAGE). */
static size_t fwd_shared(int64_t d, int r)
{
    return size_t(2 * PAGE * d + WARPS * r * d + WARPS * r * PAGE) * sizeof(float);
}

/* One step of the online softmax of a pair (Dao et al. 2022, algorithm 1). Returns the unnormalised
 * probability of this lane's key, or 0 if `sees` is false: the pair does not attend to the key.
 * *scale_by receives the factor by which the sums of the earlier pages must be multiplied. */
DEVICE float advance(float score, bool sees, float *max, float *sum, float *scale_by)
{
    const float top = fmaxf(*max, warp_max(sees ? score : -INFINITY));
    const float p = sees ? expf(score - top) : 0.0f;
    *scale_by = expf(*max - top); /* exp(-inf) = 0 in the first page */
    *sum = fmaf(*sum, *scale_by, warp_sum(p));
    *max = top;
    return p;
}

/* NT is the number of columns per lane, so d <= 32 NT. R is the number of (row, head) pairs per
 * warp; `pairs` is the number of pairs per tile, at most WARPS * R. */
template <int NT, int R>
static __global__ void __launch_bounds__(ATTENTION_THREADS)
    fwd_kernel(float *o, float *lse, const float *q, const float *kc, const float *vc,
               plumb_rows rows, heads shape, float scale, int pairs)
{
    PLUMB_SHARED(float, shared);
    const int d = int(shape.d), lane = int(threadIdx.x % WARP), warp = int(threadIdx.x / WARP);
    const int64_t group = shape.h / shape.hk, kv = blockIdx.y;
    const int64_t first = int64_t(blockIdx.x) * pairs, all = rows.n * group;
    const int here = int(all - first < pairs ? all - first : pairs);
    float *keys = shared, *values = keys + PAGE * d, *qs = values + PAGE * d;
    float *prob = qs + WARPS * R * d + warp * R * PAGE;

    for (int at = int(threadIdx.x); at < here * d; at += ATTENTION_THREADS) {
        const int64_t pair = first + at / d;
        qs[at] = q[(pair / group * shape.h + kv * group + pair % group) * d + at % d];
    }
    const int64_t first_row = first / group, last_row = (first + here - 1) / group;
    /* row: the row of each pair, counted from first_row, or -1 if there is no pair; pos: its
     * position */
    int row[R], pos[R];
    float max[R], sum[R], acc[R][NT];
    for (int r = 0; r < R; r++) {
        const int64_t of = (first + warp * R + r) / group;
        row[r] = warp * R + r < here ? int(of - first_row) : -1;
        pos[r] = warp * R + r < here ? rows.pos[of] : 0;
        max[r] = -INFINITY;
        sum[r] = 0.0f;
        for (int t = 0; t < NT; t++)
            acc[r][t] = 0.0f;
    }
    const float *mine = qs + warp * R * d;
    for (int64_t begin = first_row, end; begin <= last_row; begin = end) {
        end = run_end(rows, begin, last_row);
        const int64_t low = first_visible(rows.pos[begin], shape.window);
        for (int64_t block = low / PAGE; block * PAGE <= rows.pos[end - 1]; block++) {
            const int64_t page = (page_of(rows, rows.seq[begin], block) * shape.hk + kv) * PAGE * d;
            __syncthreads(); /* all threads have finished reading the previous page */
            copy_tile(keys, kc + page, PAGE * d);
            copy_tile(values, vc + page, PAGE * d);
            __syncthreads();
            float score[R];
            for (int r = 0; r < R; r++)
                score[r] = 0.0f;
            for (int e = 0; e < d; e++) {
                const float key = keys[e * PAGE + lane];
#pragma unroll
                for (int r = 0; r < R; r++)
                    if (row[r] >= 0)
                        score[r] = fmaf(mine[r * d + e], key, score[r]);
            }
            int from[R], to[R]; /* the keys [from, to) of this page that each pair attends to */
#pragma unroll
            for (int r = 0; r < R; r++) {
                from[r] = to[r] = 0;
                if (row[r] < begin - first_row || row[r] >= end - first_row)
                    continue;
                const int64_t lo = first_visible(pos[r], shape.window) - block * PAGE;
                const int64_t hi = pos[r] + 1 - block * PAGE;
                from[r] = int(lo < 0 ? 0 : lo < PAGE ? lo : PAGE);
                to[r] = int(hi < from[r] ? from[r] : hi < PAGE ? hi : PAGE);
                if (from[r] == to[r])
                    continue;
                float scale_by;
                prob[r * PAGE + lane] =
                    advance(score_of(score[r], scale, shape), lane >= from[r] && lane < to[r],
                            &max[r], &sum[r], &scale_by);
                for (int t = 0; t < NT; t++)
                    acc[r][t] *= scale_by;
            }
            __syncwarp();
            for (int j = 0; j < PAGE; j++) {
                float value[NT];
                for (int t = 0; t < NT; t++)
                    value[t] = lane + t * WARP < d ? values[j * d + lane + t * WARP] : 0.0f;
#pragma unroll
                for (int r = 0; r < R; r++)
                    if (j >= from[r] && j < to[r])
                        for (int t = 0; t < NT; t++)
                            acc[r][t] = fmaf(prob[r * PAGE + j], value[t], acc[r][t]);
            }
            __syncwarp();
        }
    }
#pragma unroll
    for (int r = 0; r < R; r++) {
        const int64_t pair = first + warp * R + r;
        if (row[r] < 0)
            continue;
        const int64_t head = pair / group * shape.h + kv * group + pair % group;
        for (int t = 0; t < NT; t++)
            if (lane + t * WARP < d)
                o[head * d + lane + t * WARP] = acc[r][t] / sum[r];
        if (lane == 0)
            lse[head] = max[r] + logf(sum[r]);
    }
}

template <int NT, int R>
static plumb_status run_fwd(plumb_stream *s, float *o, float *lse, const float *q, const float *kc,
                            const float *vc, const struct plumb_rows *rows,
                            const struct plumb_attn_shape *shape)
{
    const auto kernel = fwd_kernel<NT, R>;
    const int64_t group = shape->h / shape->hk;
    /* In decoding (R == 2) adjacent rows usually belong to different sequences and so have
     * different keys. If the query heads of one row (group) are fewer than WARPS * R, a tile
     * therefore holds only these. Otherwise a tile has WARPS * R pairs, which may belong to two
     * rows. */
    const int64_t pairs = R == 2 && group < WARPS * R ? group : WARPS * R;
    const int64_t tiles = ceil_div(rows->n * group, pairs);
    const size_t bytes = fwd_shared(shape->d, R);
    PLUMB_TRY(check_grid("attention_fwd", tiles, shape->hk));
    PLUMB_TRY(allow_shared(kernel, bytes));
    PLUMB_LAUNCH(kernel, dim3(unsigned(tiles), unsigned(shape->hk)), ATTENTION_THREADS, bytes,
                 context_of(s)->stream, o, lse, q, kc, vc, *rows, heads_of(shape), shape->scale,
                 int(pairs));
    return launched("attention_fwd");
}

static plumb_status attention_fwd(plumb_stream *s, float *o, float *lse, const float *q,
                                  const float *kc, const float *vc, const struct plumb_rows *rows,
                                  const struct plumb_attn_shape *shape)
{
    const bool decode = decodes(rows);
    if (rows->n == 0)
        return PLUMB_OK;
    PLUMB_TRY(check_head("attention_fwd", shape));
#define RUN(nt, most)                                                                              \
    (decode ? run_fwd<nt, 2>(s, o, lse, q, kc, vc, rows, shape)                                    \
            : run_fwd<nt, most>(s, o, lse, q, kc, vc, rows, shape))
    if (shape->d <= WARP)
        return RUN(1, 8);
    if (shape->d <= 2 * WARP)
        return RUN(2, 8);
    if (shape->d <= 4 * WARP)
        return RUN(4, 8);
    return RUN(8, 4);
#undef RUN
}

void plumb_cuda_init_attention(struct plumb_kernels *t)
{
    t->kv_write_fwd = kv_write_fwd;
    t->attention_fwd = attention_fwd;
}
