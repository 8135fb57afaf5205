/* attention_bf16_bwd.cu - gradients of bfloat16 attention on tensor cores, one kernel per output,
 * without atomics.
 * Layer 1 (cuda). Includes attention_bf16.cuh.
 *
 * First, delta = dout.o is computed for every (row, head) pair. dq_kernel computes dq in tiles of
 * pairs and loops over the pages that they attend to, like the forward. dkv_kernel computes dk and
 * dv in tiles of keys and loops over the pairs that attend to them, by ascending row and within a
 * row by query head. A sum is a chain of tensor-core products that each add 16 terms in float32; p
 * and ds are rounded to bfloat16 before they are multiplied. Source: Dao 2023, arXiv:2307.08691,
 * algorithm 2. */
#include "cuda/attention_bf16.cuh"

/* Input arrays of the kernels below. */
struct saved {
    const plumb_bf16 *dout, *q, *kc, *vc;
    const float *lse, *delta;
};

/* ---- dq ------------------------------------------------------------------------------- */

/* Number of buffers in shared memory, each for one page of keys and values. With D = 256 only one
 * buffer fits into the 99 KiB of shared memory of sm_86 and sm_89. */
template <int D> constexpr int STAGES = D <= 128 ? 2 : 1;

template <int D, int MT> static constexpr size_t bwd_shared()
{
    return size_t(2 * WARPS * MMA * MT * STRIDE<D> + STAGES<D> * 2 * PAGE_TILE<D>) *
           sizeof(plumb_bf16);
}

/* Returns (score - lse) log2(e), where `dot` is the product q.k of the score; the argument lse is
 * already multiplied by log2(e). If CAP, the score is soft-capped and *slope is multiplied by the
 * derivative of the soft cap. */
template <bool CAP>
DEVICE float score_minus(float dot, float scale, float lse, const heads &shape, float *slope)
{
    if (!CAP)
        return fmaf(dot, scale * LOG2E, -lse);
    const float t = tanhf(dot * shape.inner);
    *slope *= fmaf(-t, t, 1.0f);
    return fmaf(t, shape.cap * LOG2E, -lse);
}

/* Data of one pair: lse log2(e), delta, and in dkv_kernel the position of its row (-1: the pair
 * does not belong to the run). It is stored in the padding bytes behind the pair's row of q. */
struct of_pair {
    float lse, delta;
    int pos;
};
static_assert(sizeof(of_pair) <= PIECE * sizeof(plumb_bf16), "fits between two rows");
template <int D> DEVICE of_pair *beside(plumb_bf16 *qs, int p)
{
    return reinterpret_cast<of_pair *>(qs + p * STRIDE<D> + D);
}

/* The number of dq_kernel's blocks that must be resident on an SM at the same time (launch bounds).
 * It limits a thread to 65536 / (128 * DQ_BLOCKS) registers. With a larger number the compiler
 * would spill registers to memory. */
template <int D> constexpr int DQ_BLOCKS = D <= 32 ? 4 : D <= 64 || D == 128 ? 3 : 2;

/* Computes dq. Each warp computes MT * 16 consecutive (row, query head) pairs, as MT tensor-core
 * tiles of 16 rows. CAP: true if the scores are soft-capped (shape.cap > 0). */
template <int D, int MT, bool CAP>
static __global__ void __launch_bounds__(ATTENTION_THREADS, DQ_BLOCKS<D>)
    dq_kernel(plumb_bf16 *dq, saved in, plumb_rows rows, heads shape, float scale)
{
    PLUMB_SHARED(plumb_bf16, shared);
    constexpr int TILE = WARPS * MMA * MT, ST = STAGES<D>;
    const int d = int(shape.d), warp = int(threadIdx.x) / WARP;
    const int64_t kv = blockIdx.y, first = last_first(TILE);
    struct {
        pairs tile;
        walk now;
        int here; /* number of pairs of the tile */
    } memory, *kept = in_memory(&memory);
    const pairs &tile = kept->tile = pairs_from(shape, kv, first);
    const int64_t left = rows.n * tile.group - first;
    const int here = kept->here = int(left < TILE ? left : TILE);
    plumb_bf16 *qs = shared, *dos = qs + TILE * STRIDE<D>, *stage = dos + TILE * STRIDE<D>;

    copy_rows<D, TILE>(qs, d, in.q,
                       [&](int p) { return p < here ? in.q + head_of(tile, p) * d : nullptr; });
    copy_rows<D, TILE>(dos, d, in.q,
                       [&](int p) { return p < here ? in.dout + head_of(tile, p) * d : nullptr; });
    for (int p = int(threadIdx.x); p < TILE; p += ATTENTION_THREADS) {
        const int64_t head = p < here ? head_of(tile, p) : 0;
        *beside<D>(qs, p) = of_pair{in.lse[head] * LOG2E, in.delta[head], 0};
    }
    walk &now = kept->now = walk_over(rows, tile.row, row_of(tile, here - 1) + 1, shape.window);
    if (ST > 1) {
        copy_page<D>(stage, in.kc, in.vc, now, shape, kv);
        copy_async_commit();
    }
    int to[MT][2] = {}; /* visible_to of the lane's rows in the current run */
    float acc[MT][D / 8][4];
    for (int m = 0; m < MT; m++)
        for (int n = 0; n < D / 8; n++)
            for (int e = 0; e < 4; e++)
                acc[m][n][e] = 0.0f;
    for (int at = 0; more(now); at = (at + 1) % ST) {
        if (ST == 1) {
            __syncthreads(); /* all threads have finished reading the previous page */
            copy_page<D>(stage, in.kc, in.vc, now, shape, kv);
            copy_async_commit();
        }
        copy_async_wait(0);
        __syncthreads(); /* this page has arrived, and all threads have read the previous page */
        if (now.block == now.first) { /* a run begins */
#pragma unroll
            for (int m = 0; m < MT; m++)
#pragma unroll
                for (int i = 0; i < 2; i++)
                    to[m][i] = visible_to(now, rows, row_of(tile, pair_of_lane(warp, MT, m, i)));
        }
        const int page = now.block * PAGE;
        advance(now, rows, shape.window);
        if (ST > 1 && more(now)) {
            copy_page<D>(stage + (at ^ 1) * 2 * PAGE_TILE<D>, in.kc, in.vc, now, shape, kv);
            copy_async_commit();
        }
        const plumb_bf16 *keys = stage + at * 2 * PAGE_TILE<D>;
        bool any = false;
#pragma unroll
        for (int m = 0; m < MT; m++)
#pragma unroll
            for (int i = 0; i < 2; i++)
                any = any || sees(to[m][i], page, shape.window);
        if (__ballot_sync(ALL_LANES, any) == 0)
            continue;
        float s[MT][NT][4], dp[MT][NT][4];
        scores<D, MT>(s, qs + warp * MT * MMA * STRIDE<D>, keys);
        scores<D, MT>(dp, dos + warp * MT * MMA * STRIDE<D>, keys + PAGE_TILE<D>);
#pragma unroll
        for (int m = 0; m < MT; m++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const of_pair f = *beside<D>(qs, pair_of_lane(warp, MT, m, i));
                const int from = first_key(to[m][i], shape.window);
#pragma unroll
                for (int n = 0; n < NT; n++)
#pragma unroll
                    for (int e = 2 * i; e < 2 * i + 2; e++) {
                        const int key = page + n * 8 + 2 * quad_lane() + e % 2;
                        const bool seen = key >= from && key < to[m][i];
                        float g = dp[m][n][e] - f.delta;
                        const float score = score_minus<CAP>(s[m][n][e], scale, f.lse, shape, &g);
                        s[m][n][e] = seen ? exp2_fast(score) * g : 0.0f;
                    }
            }
        add_product<D, D, MT>(acc, s, keys, 0);
    }
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int p = pair_of_lane(warp, MT, m, i);
            if (p >= kept->here)
                continue;
            plumb_bf16 *row = dq + head_of(tile, p) * d;
#pragma unroll
            for (int n = 0; n < D / 8; n++)
                store_pair(row, n * 8 + 2 * quad_lane(), d, acc[m][n][2 * i] * scale,
                           acc[m][n][2 * i + 1] * scale);
        }
}

/* ---- dk, dv --------------------------------------------------------------------------- */

static constexpr int BLOCK = PAGE; /* number of pairs that are loaded per step */

/* The state of a loop over blocks of BLOCK pairs that attend to a tile of keys, one run after
 * another. The tile consists of adjacent rows; its keys are the keys of these rows. A run is the
 * rows [begin, end) of the tile that belong to one sequence. */
struct turn {
    /* first: the tile's first row; beyond: rows at this position or later attend to no key of the
     * run */
    int64_t first, beyond;
    /* here: number of rows of the tile. seq: the run's sequence. pair: index of the current block's
     * first (row, query head) pair; pair 0 is the first pair of the run's first row. */
    int here, begin, end, seq, pair;
};
DEVICE pairs pairs_of(const turn &t, const heads &shape, int64_t kv)
{
    return pairs{t.first + t.begin, kv * shape.group, shape.h, t.pair, int(shape.group)};
}
DEVICE bool in_run(const turn &t, const plumb_rows &rows, int64_t row)
{
    return row < rows.n && rows.seq[row] == t.seq && rows.pos[row] < t.beyond;
}
DEVICE void begin_run(turn &t, const plumb_rows &rows, int64_t window)
{
    t.pair = 0;
    if (t.begin >= t.here)
        return;
    t.seq = rows.seq[t.first + t.begin];
    t.end = int(run_end(rows, t.first + t.begin, t.first + t.here - 1) - t.first);
    t.beyond = window > 0 ? rows.pos[t.first + t.end - 1] + window : INT64_MAX;
}
DEVICE void advance(turn &t, const plumb_rows &rows, const heads &shape)
{
    t.pair += BLOCK;
    if (in_run(t, rows, t.first + t.begin + t.pair / int(shape.group)))
        return;
    t.begin = t.end;
    begin_run(t, rows, shape.window);
}

/* Copies q and dout of the current block of pairs to shared memory, and the data of each pair
 * (of_pair). Lane p of each warp computes the place of pair p in q: the index of its vector of d
 * elements, counted from the run's first row, or -1 if the pair is not in the run. */
template <int D>
DEVICE void copy_pairs(plumb_bf16 *to, const saved &in, const turn &t, const plumb_rows &rows,
                       const heads &shape, int64_t kv)
{
    constexpr int PIECES = D / PIECE, EACH = BLOCK * PIECES / ATTENTION_THREADS;
    static_assert(BLOCK == WARP, "each lane finds the place of a pair");
    static_assert(EACH * ATTENTION_THREADS == BLOCK * PIECES, "all threads copy equally many");
    const int thread = anew(int(threadIdx.x)), d = anew(int(shape.d)), lane = thread % WARP;
    const pairs block = pairs_of(t, shape, kv);
    const int64_t row = block.row + row_of(block, lane), base = block.row * shape.h;
    const bool inside = in_run(t, rows, row);
    const int place = inside ? int(head_of(block, lane) - base) : -1;
    const plumb_bf16 *q = in.q + base * d, *dout = in.dout + base * d;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int at = thread + i * ATTENTION_THREADS;
        const int r = at / PIECES, e = at % PIECES * PIECE;
        const int of = __shfl_sync(ALL_LANES, place, r);
        const bool there = of >= 0 && e < d;
        const int64_t from = there ? int64_t(of) * d + e : 0;
        copy16_async(to + r * STRIDE<D> + e, q + from, there);
        copy16_async(to + PAGE_TILE<D> + r * STRIDE<D> + e, dout + from, there);
    }
    if (thread >= BLOCK)
        return;
    of_pair f = {0.0f, 0.0f, -1};
    if (inside)
        f = of_pair{in.lse[base + place] * LOG2E, in.delta[base + place], rows.pos[row]};
    *beside<D>(to, lane) = f;
}

/* Each warp computes dk and dv of MT tiles of 16 keys, in the W columns from column blockIdx.z * W
 * on. CAP: true if the scores are soft-capped. */
template <int D, int W, int MT, bool CAP>
static __global__ void __launch_bounds__(ATTENTION_THREADS)
    dkv_kernel(plumb_bf16 *dk, plumb_bf16 *dv, saved in, plumb_rows rows, heads shape, float scale)
{
    PLUMB_SHARED(plumb_bf16, shared);
    constexpr int TILE = WARPS * MMA * MT, ST = STAGES<D>;
    const int d = int(shape.d), warp = int(threadIdx.x) / WARP, c = int(blockIdx.z) * W;
    const int64_t kv = blockIdx.y, first = int64_t(blockIdx.x) * TILE;
    const int here = int(rows.n - first < TILE ? rows.n - first : TILE);
    plumb_bf16 *keys = shared, *values = keys + TILE * STRIDE<D>;
    plumb_bf16 *stage = values + TILE * STRIDE<D>;

    auto from = [&](const plumb_bf16 *store, int r) -> const plumb_bf16 * {
        if (r >= here)
            return nullptr;
        const int64_t pos = rows.pos[first + r];
        const int64_t page = page_of(rows, rows.seq[first + r], pos / PAGE) * shape.hk + kv;
        return store + (page * PAGE + pos % PAGE) * d;
    };
    copy_rows<D, TILE>(keys, d, in.kc, [&](int r) { return from(in.kc, r); });
    copy_rows<D, TILE>(values, d, in.kc, [&](int r) { return from(in.vc, r); });
    /* positions of the lane's keys; INT32_MAX for a key outside of the current run, to which no
     * pair attends */
    int key[MT][2] = {};
    /* a pair attends to a key that is less than `window` positions before its own position */
    const int window = shape.window > 0 && shape.window < INT32_MAX ? int(shape.window) : INT32_MAX;
    float acc_k[MT][W / 8][4], acc_v[MT][W / 8][4];
    for (int m = 0; m < MT; m++)
        for (int i = 0; i < 2; i++)
            for (int n = 0; n < W / 8; n++)
                acc_k[m][n][2 * i] = acc_k[m][n][2 * i + 1] = acc_v[m][n][2 * i] =
                    acc_v[m][n][2 * i + 1] = 0.0f;
    turn now = {first, 0, here, 0, 0, 0, 0};
    keep_in_memory(&now);
    begin_run(now, rows, shape.window);
    if (ST > 1) {
        copy_pairs<D>(stage, in, now, rows, shape, kv);
        copy_async_commit();
    }
    for (int at = 0; now.begin < now.here; at = (at + 1) % ST) {
        if (ST == 1) {
            __syncthreads(); /* all threads have finished reading the previous pairs */
            copy_pairs<D>(stage, in, now, rows, shape, kv);
            copy_async_commit();
        }
        copy_async_wait(0);
        __syncthreads(); /* these pairs have arrived, and all threads have read the previous ones */
        if (now.pair == 0) { /* a run begins */
#pragma unroll
            for (int m = 0; m < MT; m++)
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const int own = pair_of_lane(warp, MT, m, i);
                    key[m][i] =
                        own >= now.begin && own < now.end ? rows.pos[now.first + own] : INT32_MAX;
                }
        }
        advance(now, rows, shape);
        if (ST > 1 && now.begin < now.here) {
            copy_pairs<D>(stage + (at ^ 1) * 2 * PAGE_TILE<D>, in, now, rows, shape, kv);
            copy_async_commit();
        }
        plumb_bf16 *qs = stage + at * 2 * PAGE_TILE<D>, *dos = qs + PAGE_TILE<D>;
        /* The position of the block's last pair is the largest one of the block. It is -1 if the
         * block is not full; the largest position is then not known here. */
        const int last = beside<D>(qs, BLOCK - 1)->pos;
        bool any = false;
#pragma unroll
        for (int m = 0; m < MT; m++)
#pragma unroll
            for (int i = 0; i < 2; i++)
                any = any || key[m][i] <= (last < 0 ? INT32_MAX - 1 : last);
        if (__ballot_sync(ALL_LANES, any) == 0)
            continue;
        float s[MT][NT][4], ds[MT][NT][4];
        scores<D, MT>(s, keys + warp * MT * MMA * STRIDE<D>, qs);
        scores<D, MT>(ds, values + warp * MT * MMA * STRIDE<D>, dos);
#pragma unroll
        for (int n = 0; n < NT; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int i = e / 2;
                const of_pair f = *beside<D>(qs, n * 8 + 2 * quad_lane() + e % 2);
#pragma unroll
                for (int m = 0; m < MT; m++) {
                    const bool seen = f.pos >= key[m][i] && f.pos - key[m][i] < window;
                    float g = ds[m][n][e] - f.delta;
                    const float score = score_minus<CAP>(s[m][n][e], scale, f.lse, shape, &g);
                    s[m][n][e] = seen ? exp2_fast(score) : 0.0f;
                    ds[m][n][e] = seen ? s[m][n][e] * g : 0.0f;
                }
            }
        add_product<D, W, MT>(acc_v, s, dos, c);
        add_product<D, W, MT>(acc_k, ds, qs, c);
    }
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int own = pair_of_lane(warp, MT, m, i);
            if (own >= now.here)
                continue;
            const int64_t to = ((now.first + own) * shape.hk + kv) * d;
#pragma unroll
            for (int n = 0; n < W / 8; n++) {
                const int column = c + n * 8 + 2 * quad_lane();
                store_pair(dk + to, column, d, acc_k[m][n][2 * i] * scale,
                           acc_k[m][n][2 * i + 1] * scale);
                store_pair(dv + to, column, d, acc_v[m][n][2 * i], acc_v[m][n][2 * i + 1]);
            }
        }
}

/* ---- launches ------------------------------------------------------------------------- */

/* MQ and MK are the numbers of tiles per warp in dq_kernel and dkv_kernel. With two tiles, each
 * operand that is read from shared memory is used twice. Two are used where the registers and 99
 * KiB of shared memory suffice. */
template <int D>
static plumb_status run_bwd(plumb_stream *s, plumb_bf16 *dq, plumb_bf16 *dk, plumb_bf16 *dv,
                            const saved &in, const struct plumb_rows *rows,
                            const struct plumb_attn_shape *shape)
{
    constexpr int W = D <= 128 ? D : 128, MQ = D <= 96 ? 2 : 1, MK = D <= 64 ? 2 : 1;
    const bool cap = shape->cap > 0.0f;
    const auto by_pairs = cap ? dq_kernel<D, MQ, true> : dq_kernel<D, MQ, false>;
    const auto by_keys = cap ? dkv_kernel<D, W, MK, true> : dkv_kernel<D, W, MK, false>;
    const cudaStream_t stream = context_of(s)->stream;
    const int64_t tiles = ceil_div(rows->n * (shape->h / shape->hk), WARPS * MMA * MQ);
    const int64_t key_tiles = ceil_div(rows->n, WARPS * MMA * MK);
    PLUMB_TRY(check_grid("attention_bwd", tiles, shape->hk));
    PLUMB_TRY(allow_shared(by_pairs, bwd_shared<D, MQ>()));
    PLUMB_TRY(allow_shared(by_keys, bwd_shared<D, MK>()));
    PLUMB_LAUNCH(by_pairs, dim3(unsigned(tiles), unsigned(shape->hk)), ATTENTION_THREADS,
                 (bwd_shared<D, MQ>()), stream, dq, in, *rows, heads_of(shape), shape->scale);
    PLUMB_TRY(launched("attention_bwd dq"));
    PLUMB_LAUNCH(by_keys, dim3(unsigned(key_tiles), unsigned(shape->hk), D / W), ATTENTION_THREADS,
                 (bwd_shared<D, MK>()), stream, dk, dv, in, *rows, heads_of(shape), shape->scale);
    return launched("attention_bwd dk, dv");
}

static plumb_status attention_bwd(plumb_stream *s, plumb_bf16 *dq, plumb_bf16 *dk, plumb_bf16 *dv,
                                  const plumb_bf16 *dout, const plumb_bf16 *o, const float *lse,
                                  const plumb_bf16 *q, const plumb_bf16 *kc, const plumb_bf16 *vc,
                                  float *work, const struct plumb_rows *rows,
                                  const struct plumb_attn_shape *shape)
{
    const saved in = {dout, q, kc, vc, lse, work};
    const int64_t n = rows->n * shape->h, d = shape->d;
    if (rows->n == 0)
        return PLUMB_OK;
    PLUMB_TRY(
        check_bf16("attention_bwd", d, aligned16(dq, dk, dv, dout, o) && aligned16(q, kc, vc)));
    PLUMB_TRY(run_delta(s, work, dout, o, n, d));
    if (d <= 32)
        return run_bwd<32>(s, dq, dk, dv, in, rows, shape);
    if (d <= 64)
        return run_bwd<64>(s, dq, dk, dv, in, rows, shape);
    if (d <= 96)
        return run_bwd<96>(s, dq, dk, dv, in, rows, shape);
    if (d <= 128)
        return run_bwd<128>(s, dq, dk, dv, in, rows, shape);
    return run_bwd<256>(s, dq, dk, dv, in, rows, shape);
}

void plumb_cuda_init_attention_bf16_bwd(struct plumb_kernels *t)
{
    t->bf16.attention_bwd = attention_bwd;
}
