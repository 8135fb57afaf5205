/* attention_bwd.cu - gradients of float32 attention, one kernel per output, without atomics.
 * Layer 1 (cuda). Includes attention.cuh.
 *
 * First, delta = dout.o is computed for every (row, head) pair. dq_kernel computes dq in tiles of
 * pairs and loops over the pages that they attend to, like the forward. dkv_kernel computes dk and
 * dv in tiles of keys and loops over the pairs that attend to them. Each output element is one
 * chain: dq over ascending keys; dk and dv over ascending rows and within a row over query heads.
 * Source: Dao 2023, arXiv:2307.08691, algorithm 2. */
#include "cuda/attention.cuh"

/* ---- dq ------------------------------------------------------------------------------- */

/* Input arrays of the kernels below. */
struct saved {
    const float *dout, *lse, *q, *kc, *vc, *delta;
};

/* Returns the bytes of shared memory of dq_kernel with R = r pairs per warp. Keys (d,PAGE+1) and
 * values (PAGE,d+1) are padded, because lanes read them along rows and along columns. */
static size_t dq_shared(int64_t d, int r)
{
    return size_t(d * (PAGE + 1) + PAGE * (d + 1) + 2 * WARPS * r * d + WARPS * r * PAGE) *
           sizeof(float);
}

template <int NT, int R>
static __global__ void __launch_bounds__(ATTENTION_THREADS)
    dq_kernel(float *dq, saved in, plumb_rows rows, heads shape, float scale)
{
    PLUMB_SHARED(float, shared);
    const int d = int(shape.d), lane = int(threadIdx.x % WARP), warp = int(threadIdx.x / WARP);
    const int64_t group = shape.h / shape.hk, kv = blockIdx.y;
    const int64_t first = int64_t(blockIdx.x) * WARPS * R, all = rows.n * group;
    const int here = int(all - first < WARPS * R ? all - first : WARPS * R);
    const int64_t first_row = first / group, last_row = (first + here - 1) / group;
    float *keys = shared, *values = keys + d * (PAGE + 1), *qs = values + PAGE * (d + 1);
    float *dos = qs + WARPS * R * d, *slope = dos + WARPS * R * d + warp * R * PAGE;

    for (int at = int(threadIdx.x); at < here * d; at += ATTENTION_THREADS) {
        const int64_t pair = first + at / d;
        const int64_t from = (pair / group * shape.h + kv * group + pair % group) * d + at % d;
        qs[at] = in.q[from];
        dos[at] = in.dout[from];
    }
    int row[R], pos[R];
    float lse[R], delta[R], acc[R][NT];
    for (int r = 0; r < R; r++) {
        const int64_t pair = first + warp * R + r, of = pair / group;
        const bool is = warp * R + r < here;
        const int64_t head = of * shape.h + kv * group + pair % group;
        row[r] = is ? int(of - first_row) : -1;
        pos[r] = is ? rows.pos[of] : 0;
        lse[r] = is ? in.lse[head] : 0.0f;
        delta[r] = is ? in.delta[head] : 0.0f;
        for (int t = 0; t < NT; t++)
            acc[r][t] = 0.0f;
    }
    for (int64_t begin = first_row, end; begin <= last_row; begin = end) {
        end = run_end(rows, begin, last_row);
        const int64_t low = first_visible(rows.pos[begin], shape.window);
        for (int64_t block = low / PAGE; block * PAGE <= rows.pos[end - 1]; block++) {
            const int64_t page = (page_of(rows, rows.seq[begin], block) * shape.hk + kv) * PAGE * d;
            __syncthreads();
            copy_padded(keys, in.kc + page, d, PAGE, PAGE + 1);
            copy_padded(values, in.vc + page, PAGE, d, d + 1);
            __syncthreads();
            float score[R], dp[R];
            for (int r = 0; r < R; r++)
                score[r] = dp[r] = 0.0f;
            for (int e = 0; e < d; e++) {
                const float key = keys[e * (PAGE + 1) + lane], value = values[lane * (d + 1) + e];
#pragma unroll
                for (int r = 0; r < R; r++) {
                    if (row[r] < 0)
                        continue;
                    score[r] = fmaf(qs[(warp * R + r) * d + e], key, score[r]);
                    dp[r] = fmaf(dos[(warp * R + r) * d + e], value, dp[r]);
                }
            }
            int from[R], to[R];
#pragma unroll
            for (int r = 0; r < R; r++) {
                from[r] = to[r] = 0;
                if (row[r] < begin - first_row || row[r] >= end - first_row)
                    continue;
                const int64_t lo = first_visible(pos[r], shape.window) - block * PAGE;
                const int64_t hi = pos[r] + 1 - block * PAGE;
                from[r] = int(lo < 0 ? 0 : lo < PAGE ? lo : PAGE);
                to[r] = int(hi < from[r] ? from[r] : hi < PAGE ? hi : PAGE);
                const float s = score_of(score[r], scale, shape);
                slope[r * PAGE + lane] =
                    lane >= from[r] && lane < to[r]
                        ? expf(s - lse[r]) * (dp[r] - delta[r]) * cap_slope(s, shape)
                        : 0.0f;
            }
            __syncwarp();
            for (int j = 0; j < PAGE; j++)
#pragma unroll
                for (int r = 0; r < R; r++)
                    if (j >= from[r] && j < to[r])
                        for (int t = 0; t < NT; t++)
                            if (lane + t * WARP < d)
                                acc[r][t] =
                                    fmaf(slope[r * PAGE + j],
                                         keys[(lane + t * WARP) * (PAGE + 1) + j], acc[r][t]);
            __syncwarp();
        }
    }
#pragma unroll
    for (int r = 0; r < R; r++) {
        const int64_t pair = first + warp * R + r;
        if (row[r] < 0)
            continue;
        float *to = dq + (pair / group * shape.h + kv * group + pair % group) * d;
        for (int t = 0; t < NT; t++)
            if (lane + t * WARP < d)
                to[lane + t * WARP] = acc[r][t] * scale;
    }
}

/* ---- dk, dv --------------------------------------------------------------------------- */

/* Returns the bytes of shared memory of dkv_kernel with R = r keys per warp: the tile's keys and
 * values (WARPS*R,d), q and dout of 32 pairs (d,33), and each warp's p and ds (R,32). */
static size_t dkv_shared(int64_t d, int r)
{
    return size_t(2 * WARPS * r * d + 2 * d * (WARP + 1) + 2 * WARPS * r * WARP) * sizeof(float);
}

/* Each warp computes dk and dv of R keys for one kv head. Its lanes process 32 pairs (query row,
 * query head of the kv head's group) at a time. A tile consists of WARPS * R adjacent rows; the key
 * of each row is one key of the tile. If a tile holds rows of several sequences, these are
 * processed one after another. */
template <int NT, int R>
static __global__ void __launch_bounds__(ATTENTION_THREADS)
    dkv_kernel(float *dk, float *dv, saved in, plumb_rows rows, heads shape, float scale)
{
    PLUMB_SHARED(float, shared);
    const int d = int(shape.d), lane = int(threadIdx.x % WARP), warp = int(threadIdx.x / WARP);
    const int64_t group = shape.h / shape.hk, kv = blockIdx.y;
    const int64_t first = int64_t(blockIdx.x) * WARPS * R;
    const int here = int(rows.n - first < WARPS * R ? rows.n - first : WARPS * R);
    float *keys = shared, *values = keys + WARPS * R * d;
    float *qs = values + WARPS * R * d, *dos = qs + d * (WARP + 1);
    float *prob = dos + d * (WARP + 1) + warp * 2 * R * WARP, *slope = prob + R * WARP;

    for (int at = int(threadIdx.x); at < here * d; at += ATTENTION_THREADS) {
        const int r = at / d, e = at % d;
        const int64_t pos = rows.pos[first + r];
        const int64_t page = page_of(rows, rows.seq[first + r], pos / PAGE) * shape.hk + kv;
        keys[at] = in.kc[(page * d + e) * PAGE + pos % PAGE];
        values[at] = in.vc[(page * PAGE + pos % PAGE) * d + e];
    }
    int pos[R];
    float acc_k[R][NT], acc_v[R][NT];
    for (int r = 0; r < R; r++) {
        pos[r] = warp * R + r < here ? rows.pos[first + warp * R + r] : -1;
        for (int t = 0; t < NT; t++)
            acc_k[r][t] = acc_v[r][t] = 0.0f;
    }
    for (int64_t begin = first, end; begin < first + here; begin = end) {
        end = run_end(rows, begin, first + here - 1);
        const int32_t seq = rows.seq[begin];
        /* rows at this position or later attend to no key of this run */
        const int64_t beyond = shape.window > 0 ? rows.pos[end - 1] + shape.window : INT64_MAX;
        for (int64_t pair = begin * group;; pair += WARP) {
            const int64_t row = pair / group;
            if (row >= rows.n || rows.seq[row] != seq || rows.pos[row] >= beyond)
                break;
            __syncthreads(); /* all threads have finished reading the previous pairs */
            for (int at = int(threadIdx.x); at < WARP * d; at += ATTENTION_THREADS) {
                const int64_t p = pair + at / d, i = p / group;
                const bool is = i < rows.n && rows.seq[i] == seq;
                const int64_t from = (i * shape.h + kv * group + p % group) * d + at % d;
                qs[at % d * (WARP + 1) + at / d] = is ? in.q[from] : 0.0f;
                dos[at % d * (WARP + 1) + at / d] = is ? in.dout[from] : 0.0f;
            }
            __syncthreads();
            const int64_t i = (pair + lane) / group;
            const bool is = i < rows.n && rows.seq[i] == seq;
            const int64_t head = i * shape.h + kv * group + (pair + lane) % group;
            const int64_t at = is ? rows.pos[i] : -1;
            const float lse = is ? in.lse[head] : 0.0f, delta = is ? in.delta[head] : 0.0f;
            float score[R], dp[R];
            for (int r = 0; r < R; r++)
                score[r] = dp[r] = 0.0f;
            for (int e = 0; e < d; e++) {
                const float qe = qs[e * (WARP + 1) + lane], oe = dos[e * (WARP + 1) + lane];
#pragma unroll
                for (int r = 0; r < R; r++) {
                    if (pos[r] < 0)
                        continue;
                    score[r] = fmaf(keys[(warp * R + r) * d + e], qe, score[r]);
                    dp[r] = fmaf(values[(warp * R + r) * d + e], oe, dp[r]);
                }
            }
#pragma unroll
            for (int r = 0; r < R; r++) {
                const int64_t own = first + warp * R + r;
                const bool sees = own >= begin && own < end && pos[r] >= 0 && at >= pos[r] &&
                                  (shape.window == 0 || at - pos[r] < shape.window);
                const float s = score_of(score[r], scale, shape);
                const float p = sees ? expf(s - lse) : 0.0f;
                prob[r * WARP + lane] = p;
                slope[r * WARP + lane] = sees ? p * (dp[r] - delta) * cap_slope(s, shape) : 0.0f;
            }
            __syncwarp();
            for (int j = 0; j < WARP; j++)
                for (int t = 0; t < NT; t++) {
                    if (lane + t * WARP >= d)
                        continue;
                    const float qe = qs[(lane + t * WARP) * (WARP + 1) + j];
                    const float oe = dos[(lane + t * WARP) * (WARP + 1) + j];
#pragma unroll
                    for (int r = 0; r < R; r++) {
                        acc_k[r][t] = fmaf(slope[r * WARP + j], qe, acc_k[r][t]);
                        acc_v[r][t] = fmaf(prob[r * WARP + j], oe, acc_v[r][t]);
                    }
                }
            __syncwarp();
        }
    }
#pragma unroll
    for (int r = 0; r < R; r++) {
        const int64_t to = ((first + warp * R + r) * shape.hk + kv) * d;
        for (int t = 0; t < NT; t++)
            if (pos[r] >= 0 && lane + t * WARP < d) {
                dk[to + lane + t * WARP] = acc_k[r][t] * scale;
                dv[to + lane + t * WARP] = acc_v[r][t];
            }
    }
}

/* ---- launches ------------------------------------------------------------------------- */

template <int NT, int R>
static plumb_status run_bwd(plumb_stream *s, float *dq, float *dk, float *dv, const saved &in,
                            const struct plumb_rows *rows, const struct plumb_attn_shape *shape)
{
    const auto by_pairs = dq_kernel<NT, R>;
    const auto by_keys = dkv_kernel<NT, R>;
    const cudaStream_t stream = context_of(s)->stream;
    const int64_t group = shape->h / shape->hk;
    const int64_t tiles = ceil_div(rows->n * group, WARPS * R);
    const size_t dq_bytes = dq_shared(shape->d, R), dkv_bytes = dkv_shared(shape->d, R);
    PLUMB_TRY(check_grid("attention_bwd", tiles, shape->hk));
    PLUMB_TRY(allow_shared(by_pairs, dq_bytes));
    PLUMB_TRY(allow_shared(by_keys, dkv_bytes));
    PLUMB_LAUNCH(by_pairs, dim3(unsigned(tiles), unsigned(shape->hk)), ATTENTION_THREADS, dq_bytes,
                 stream, dq, in, *rows, heads_of(shape), shape->scale);
    PLUMB_TRY(launched("attention_bwd dq"));
    PLUMB_LAUNCH(by_keys, dim3(unsigned(ceil_div(rows->n, WARPS * R)), unsigned(shape->hk)),
                 ATTENTION_THREADS, dkv_bytes, stream, dk, dv, in, *rows, heads_of(shape),
                 shape->scale);
    return launched("attention_bwd dk, dv");
}

static plumb_status attention_bwd(plumb_stream *s, float *dq, float *dk, float *dv,
                                  const float *dout, const float *o, const float *lse,
                                  const float *q, const float *kc, const float *vc, float *work,
                                  const struct plumb_rows *rows,
                                  const struct plumb_attn_shape *shape)
{
    const saved in = {dout, lse, q, kc, vc, work};
    const int64_t n = rows->n * shape->h, d = shape->d;
    if (rows->n == 0)
        return PLUMB_OK;
    PLUMB_TRY(check_head("attention_bwd", shape));
    PLUMB_TRY(run_delta(s, work, dout, o, n, d));
    if (d <= WARP)
        return run_bwd<1, 8>(s, dq, dk, dv, in, rows, shape);
    if (d <= 2 * WARP)
        return run_bwd<2, 8>(s, dq, dk, dv, in, rows, shape);
    if (d <= 4 * WARP)
        return run_bwd<4, 8>(s, dq, dk, dv, in, rows, shape);
    return run_bwd<8, 4>(s, dq, dk, dv, in, rows, shape);
}

void plumb_cuda_init_attention_bwd(struct plumb_kernels *t)
{
    t->attention_bwd = attention_bwd;
}
