/* fused.cu - bfloat16 kernels that do the work of two or three other kernels in one launch, with
 * the same bits: add and RMSNorm; the RMSNorm of q and k, rotary embedding and writing keys and
 * values into pages. Also kernels that copy, or add to, some columns of an array.
 * Layer 1 (cuda). Includes norm.cuh, attention.cuh. */
#include "cuda/attention.cuh"
#include "cuda/norm.cuh"

static constexpr int THREADS = 256, PIECE = PER<plumb_bf16>;

DEVICE float rounded(float x)
{
    plumb_bf16 y;
    narrow(&y, x);
    return widen(y);
}

/* Computes sum = a + b and y = RMSNorm of sum, with one team of threads (norm.cuh) per row. The sum
 * is rounded and stored before it is normalised; each thread reads back what it wrote. The squares
 * of a row are added in the order of rmsnorm_fwd. */
template <int TEAM, class T>
static __global__ void __launch_bounds__(TEAM_THREADS)
    add_rmsnorm_kernel(T *sum, T *y, float *rstd, const T *a, const T *b, const float *w, int64_t n,
                       int64_t c, float eps, float shift, bool wide)
{
    wait_for_previous();
    constexpr int N = PER<T>;
    __shared__ float part[TEAM_WARPS];
    const team t = my_team<TEAM>();
    if (t.row >= n)
        return;
    a += t.row * c;
    b += t.row * c;
    sum += t.row * c;
    y += t.row * c;
    float square = 0.0f;
    for (int64_t j = N * t.at; j < c; j += N * t.size) {
        vec<N> u = load<N>(a, j, c, wide);
        const vec<N> v = load<N>(b, j, c, wide);
        for (int e = 0; e < N; e++) {
            u.v[e] = rounded(u.v[e] + v.v[e]);
            square = fmaf(u.v[e], u.v[e], square);
        }
        store(sum, u, j, c, wide);
    }
    square = block_sum<TEAM>(square, part);
    normalise_row(t, y, rstd + t.row, sum, w, c, square, eps, shift, wide);
}

static plumb_status add_rmsnorm_fwd(plumb_stream *s, plumb_bf16 *sum, plumb_bf16 *y, float *rstd,
                                    const plumb_bf16 *a, const plumb_bf16 *b, const float *w,
                                    int64_t n, int64_t c, float eps, float shift)
{
    using T = plumb_bf16;
    if (n == 0)
        return PLUMB_OK;
    const bool wide = c % PIECE == 0 && aligned16(sum, y, a, b, w);
    PLUMB_TRY(check_grid("add_rmsnorm_fwd", n, 1));
    TEAM_LAUNCH_EARLY(add_rmsnorm_kernel, n, c, s, sum, y, rstd, a, b, w, n, c, eps, shift, wide);
    return launched("add_rmsnorm_fwd");
}

/* Rotates columns [j, j + PIECE) of a head with columns [j + half, j + half + PIECE), as rope_fwd
 * does. `half` is half of the rotated columns; table holds their cosines and then their sines. All
 * addresses are multiples of 16 bytes. `to` may be `from`. */
DEVICE void rotate_piece(plumb_bf16 *to, const plumb_bf16 *from, const float *table, int64_t j,
                         int64_t half)
{
    vec<PIECE> x1 = load<PIECE>(from, j, half, true), x2 = load<PIECE>(from + half, j, half, true);
    const vec<PIECE> c = load<PIECE>(table, j, half, true);
    const vec<PIECE> s = load<PIECE>(table + half, j, half, true);
    for (int e = 0; e < PIECE; e++) {
        const float before = x1.v[e];
        x1.v[e] = fmaf(before, c.v[e], -(x2.v[e] * s.v[e]));
        x2.v[e] = fmaf(x2.v[e], c.v[e], before * s.v[e]);
    }
    store(to, x1, j, half, true);
    store(to + half, x2, j, half, true);
}

/* Each thread rotates 16 bytes of the first half of a head of q or k with 16 bytes of the second
 * half, as rope_fwd does, or copies 16 bytes of each half of a head of v. The threads of a row are
 * numbered by head: first the heads of q, which are rotated in place, then those of k and those of
 * v, which are written to their pages. */
static __global__ void __launch_bounds__(THREADS)
    rope_write_kernel(plumb_bf16 *q, plumb_bf16 *kc, plumb_bf16 *vc, const plumb_bf16 *k,
                      const plumb_bf16 *v, const float *cos_sin, plumb_rows rows, int64_t h,
                      int64_t hk, int64_t d)
{
    wait_for_previous();
    const int64_t half = d / 2, parts = half / PIECE, width = (h + 2 * hk) * parts;
    const int64_t at = int64_t(blockIdx.x) * THREADS + threadIdx.x;
    if (at >= rows.n * width)
        return;
    const int64_t i = at / width, head = at % width / parts, j = PIECE * (at % parts);
    const int64_t pos = rows.pos[i];
    const int64_t kv = head < h + hk ? head - h : head - h - hk;
    plumb_bf16 *to = q + (i * h + head) * d;
    if (head >= h) {
        const int64_t page = page_of(rows, rows.seq[i], pos / PAGE);
        to = (head < h + hk ? kc : vc) + ((page * hk + kv) * PAGE + pos % PAGE) * d;
    }
    if (head >= h + hk) {
        const plumb_bf16 *from = v + (i * hk + kv) * d;
        *reinterpret_cast<float4 *>(to + j) = *reinterpret_cast<const float4 *>(from + j);
        *reinterpret_cast<float4 *>(to + half + j) =
            *reinterpret_cast<const float4 *>(from + half + j);
        return;
    }
    const plumb_bf16 *from = head < h ? to : k + (i * hk + kv) * d;
    const float *table = cos_sin + pos * d;
    rotate_piece(to, from, table, j, half);
}

static plumb_status rope_write_fwd(plumb_stream *s, plumb_bf16 *q, plumb_bf16 *kc, plumb_bf16 *vc,
                                   const plumb_bf16 *k, const plumb_bf16 *v, const float *cos_sin,
                                   const struct plumb_rows *rows, int64_t h, int64_t hk, int64_t d)
{
    const int64_t blocks = ceil_div(rows->n * (h + 2 * hk) * (d / 2 / PIECE), THREADS);
    if (rows->n == 0)
        return PLUMB_OK;
    PLUMB_REQUIRE(d % (2 * PIECE) == 0 && aligned16(q, kc, vc, k, v) && aligned16(cos_sin),
                  PLUMB_ERR_SHAPE,
                  "rope_write_fwd: head size %lld, expected a multiple of %d and arrays that are "
                  "aligned to 16 bytes",
                  (long long)d, 2 * PIECE);
    PLUMB_TRY(check_grid("rope_write_fwd", blocks, 1));
    PLUMB_LAUNCH_EARLY(rope_write_kernel, unsigned(blocks), THREADS, 0, context_of(s), q, kc, vc, k,
                       v, cos_sin, *rows, h, hk, d);
    return launched("rope_write_fwd");
}

/* Each thread processes one unit of a head of qkv, and writes it to q (heads of q) or to its page
 * (heads of k and v). With WIDE a unit is 16 columns: unit u < r / 16 of a head of q or k rotates
 * columns 8 u .. 8 u + 7 with columns r / 2 + 8 u .. r / 2 + 8 u + 7, as rope_fwd does; every other
 * unit copies its 16 columns. Without WIDE, for any r, unit u is columns 8 u .. 8 u + 7, which are
 * processed one by one. */
template <bool WIDE>
static __global__ void __launch_bounds__(THREADS)
    qkv_write_kernel(plumb_bf16 *q, plumb_bf16 *kc, plumb_bf16 *vc, const plumb_bf16 *qkv,
                     const float *cos_sin, plumb_rows rows, int h, int hk, int d, int r,
                     unsigned slices)
{
    wait_for_previous();
    constexpr int UNIT = WIDE ? 2 * PIECE : PIECE;
    const int units = d / UNIT, half = r / 2;
    const int64_t i = blockIdx.x / slices;
    const int at = int(blockIdx.x % slices * blockDim.x + threadIdx.x);
    if (at >= (h + 2 * hk) * units)
        return;
    const int head = at / units, unit = at % units;
    const int64_t pos = rows.pos[i];
    const plumb_bf16 *from = qkv + (i * (h + 2 * hk) + head) * d;
    const float *table = cos_sin + pos * r;
    plumb_bf16 *to = q + (i * h + head) * d;
    if (head >= h) {
        const bool key = head < h + hk;
        const int64_t page = page_of(rows, rows.seq[i], pos / PAGE);
        to = (key ? kc : vc) + ((page * hk + head - (key ? h : h + hk)) * PAGE + pos % PAGE) * d;
    }
    if (head >= h + hk || unit * UNIT >= r) {
        const int j = unit * UNIT;
        for (int e = 0; e < UNIT; e += PIECE)
            *reinterpret_cast<float4 *>(to + j + e) =
                *reinterpret_cast<const float4 *>(from + j + e);
        return;
    }
    const int j = unit * PIECE;
    if (!WIDE) {
        for (int e = j; e < j + PIECE; e++) {
            const int a = e < half ? e : e - half; /* columns a and a + half are rotated together */
            if (e >= r) {
                to[e] = from[e];
                continue;
            }
            const float x1 = widen(from[a]), x2 = widen(from[a + half]);
            const float c = table[a], s = table[a + half];
            narrow(to + e, e < half ? fmaf(x1, c, -(x2 * s)) : fmaf(x2, c, x1 * s));
        }
        return;
    }
    rotate_piece(to, from, table, j, half);
}

static constexpr int NORM_WARPS = THREADS / WARP;

/* A warp normalises, rotates and stores one head of q or k, or copies one head of v. The order of
 * the head's sum is that of rmsnorm_fwd for rows of d elements. */
static __global__ void __launch_bounds__(THREADS)
    qkv_norm_write_kernel(plumb_bf16 *q, plumb_bf16 *kc, plumb_bf16 *vc, const plumb_bf16 *qkv,
                          plumb_qk_rmsnorm norm, const float *cos_sin, plumb_rows rows, int h,
                          int hk, int d, int r, unsigned slices)
{
    wait_for_previous();
    __shared__ float shared[NORM_WARPS][MOST_D];
    const int lane = int(threadIdx.x % WARP), warp = int(threadIdx.x / WARP), half = r / 2;
    const int head = int(blockIdx.x % slices) * NORM_WARPS + warp;
    const int64_t i = blockIdx.x / slices;
    if (head >= h + 2 * hk)
        return;
    const bool query = head < h, key = !query && head < h + hk;
    const int kv = head - (key ? h : h + hk);
    const int64_t pos = rows.pos[i], page = page_of(rows, rows.seq[i], pos / PAGE);
    const plumb_bf16 *from = qkv + (i * (h + 2 * hk) + head) * d;
    plumb_bf16 *to = query ? q + (i * h + head) * d
                           : (key ? kc : vc) + ((page * hk + kv) * PAGE + pos % PAGE) * d;
    if (!query && !key) {
        for (int j = PIECE * lane; j < d; j += PIECE * WARP)
            *reinterpret_cast<float4 *>(to + j) = *reinterpret_cast<const float4 *>(from + j);
        return;
    }
    plumb_bf16 *saved = query ? norm.q0 + (i * h + head) * d : norm.k0 + (i * hk + kv) * d;
    const float *w = query ? norm.w_q : norm.w_k, *table = cos_sin + pos * r;
    float *y = shared[warp], square = 0.0f;
    for (int j = PIECE * lane; j < d; j += PIECE * WARP) {
        const vec<PIECE> v = load<PIECE>(from, j, d, true);
        for (int e = 0; e < PIECE; e++)
            square = fmaf(v.v[e], v.v[e], square);
        *reinterpret_cast<float4 *>(saved + j) = *reinterpret_cast<const float4 *>(from + j);
    }
    const float rstd = 1.0f / sqrtf(warp_sum(square) / float(d) + norm.eps);
    if (lane == 0)
        *(query ? norm.rstd_q + i * h + head : norm.rstd_k + i * hk + kv) = rstd;
    for (int j = PIECE * lane; j < d; j += PIECE * WARP) {
        const vec<PIECE> v = load<PIECE>(from, j, d, true);
        for (int e = 0; e < PIECE; e++)
            y[j + e] = rounded(v.v[e] * rstd * (w[j + e] + norm.shift));
    }
    __syncwarp();
    for (int j = PIECE * lane; j < d; j += PIECE * WARP) {
        vec<PIECE> out;
        for (int e = 0; e < PIECE; e++) {
            const int at = j + e, a = at < half ? at : at - half; /* columns a, a + half: a pair */
            out.v[e] = at >= r     ? y[at]
                       : at < half ? fmaf(y[at], table[a], -(y[at + half] * table[half + a]))
                                   : fmaf(y[at], table[a], y[a] * table[half + a]);
        }
        store(to, out, j, d, true);
    }
}

static plumb_status norm_write(plumb_stream *s, plumb_bf16 *q, plumb_bf16 *kc, plumb_bf16 *vc,
                               const plumb_bf16 *qkv, const struct plumb_qk_rmsnorm *norm,
                               const float *cos_sin, const struct plumb_rows *rows, int64_t h,
                               int64_t hk, int64_t d, int64_t r)
{
    const int64_t slices = ceil_div(h + 2 * hk, NORM_WARPS);
    PLUMB_REQUIRE(d <= MOST_D && aligned16(norm->q0, norm->k0), PLUMB_ERR_UNSUPPORTED,
                  "qkv_write_fwd: norms of heads of %lld elements; expected at most %d, and arrays "
                  "that are aligned to 16 bytes",
                  (long long)d, MOST_D);
    PLUMB_TRY(check_grid("qkv_write_fwd", rows->n * slices, 1));
    PLUMB_LAUNCH_EARLY(qkv_norm_write_kernel, unsigned(rows->n * slices), THREADS, 0, context_of(s),
                       q, kc, vc, qkv, *norm, cos_sin, *rows, int(h), int(hk), int(d), int(r),
                       unsigned(slices));
    return launched("qkv_write_fwd");
}

static plumb_status qkv_write_fwd(plumb_stream *s, plumb_bf16 *q, plumb_bf16 *kc, plumb_bf16 *vc,
                                  const plumb_bf16 *qkv, const struct plumb_qk_rmsnorm *norm,
                                  const float *cos_sin, const struct plumb_rows *rows, int64_t h,
                                  int64_t hk, int64_t d, int64_t r)
{
    const bool wide = d % (2 * PIECE) == 0 && r % (2 * PIECE) == 0;
    const int64_t width = (h + 2 * hk) * (d / (wide ? 2 * PIECE : PIECE));
    const int64_t threads = width < THREADS ? ceil_div(width, WARP) * WARP : THREADS;
    if (rows->n == 0)
        return PLUMB_OK;
    PLUMB_REQUIRE(d % PIECE == 0, PLUMB_ERR_UNSUPPORTED,
                  "attention in bfloat16 with head size %lld: expected a multiple of %d",
                  (long long)d, PIECE);
    PLUMB_REQUIRE(r % 2 == 0 && r <= d && aligned16(q, kc, vc, qkv, cos_sin), PLUMB_ERR_SHAPE,
                  "qkv_write_fwd: %lld of %lld columns of a head rotated; expected an even number "
                  "of them, and arrays that are aligned to 16 bytes",
                  (long long)r, (long long)d);
    if (norm)
        return norm_write(s, q, kc, vc, qkv, norm, cos_sin, rows, h, hk, d, r);
    const int64_t slices = ceil_div(width, threads);
    PLUMB_TRY(check_grid("qkv_write_fwd", rows->n * slices, 1));
    const auto kernel = wide ? qkv_write_kernel<true> : qkv_write_kernel<false>;
    PLUMB_LAUNCH_EARLY(kernel, unsigned(rows->n * slices), unsigned(threads), 0, context_of(s), q,
                       kc, vc, qkv, cos_sin, *rows, int(h), int(hk), int(d), int(r),
                       unsigned(slices));
    return launched("qkv_write_fwd");
}

/* ---- columns --------------------------------------------------------------------------------- */

/* y[i,j] = x[i,j], or y[i,j] += x[i,j] with ADD, for j < c. A row of y has wy elements, a row of x
 * has wx. Each block processes a part of one row. */
template <bool ADD>
static __global__ void __launch_bounds__(THREADS)
    columns_kernel(plumb_bf16 *y, const plumb_bf16 *x, int64_t c, int64_t wy, int64_t wx,
                   unsigned slices, bool wide)
{
    wait_for_previous();
    const int64_t i = blockIdx.x / slices;
    const int64_t j = PIECE * (int64_t(blockIdx.x % slices) * blockDim.x + threadIdx.x);
    if (j >= c)
        return;
    const bool whole = wide && j + PIECE <= c;
    vec<PIECE> v = load<PIECE>(x + i * wx, j, c, whole);
    if (ADD) {
        const vec<PIECE> before = load<PIECE>(y + i * wy, j, c, whole);
        for (int e = 0; e < PIECE; e++)
            v.v[e] = before.v[e] + v.v[e];
    }
    store(y + i * wy, v, j, c, whole);
}

template <bool ADD>
static plumb_status columns(plumb_stream *s, plumb_bf16 *y, const plumb_bf16 *x, int64_t n,
                            int64_t c, int64_t wy, int64_t wx)
{
    const int64_t width = ceil_div(c, PIECE);
    const int64_t threads = width < THREADS ? ceil_div(width, WARP) * WARP : THREADS;
    if (n == 0 || c == 0)
        return PLUMB_OK;
    const int64_t slices = ceil_div(width, threads);
    PLUMB_TRY(check_grid("columns", n * slices, 1));
    PLUMB_LAUNCH_EARLY(columns_kernel<ADD>, unsigned(n * slices), unsigned(threads), 0,
                       context_of(s), y, x, c, wy, wx, unsigned(slices),
                       wy % PIECE == 0 && wx % PIECE == 0 && aligned16(y, x));
    return launched("columns");
}

static plumb_status columns_take(plumb_stream *s, plumb_bf16 *y, const plumb_bf16 *x, int64_t n,
                                 int64_t c, int64_t at, int64_t width)
{
    return columns<false>(s, y, x + at, n, c, c, width);
}

static plumb_status columns_add(plumb_stream *s, plumb_bf16 *y, const plumb_bf16 *x, int64_t n,
                                int64_t c, int64_t at, int64_t width)
{
    return columns<true>(s, y + at, x, n, c, width, c);
}

void plumb_cuda_init_fused(struct plumb_kernels *t)
{
    t->bf16.add_rmsnorm_fwd = add_rmsnorm_fwd;
    t->bf16.rope_write_fwd = rope_write_fwd;
    t->bf16.qkv_write_fwd = qkv_write_fwd;
    t->bf16.columns_take = columns_take;
    t->bf16.columns_add = columns_add;
}
