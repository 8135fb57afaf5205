/* fused.cu - bfloat16 kernels that do the work of two or three others in one launch, with the same
 * bits: sum and norm; rotary embedding and page writes.
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

/* The sum is rounded and stored before it is normalised; each thread reads back what it wrote. The
 * order of the row's sum is that of rmsnorm_fwd. */
template <int TEAM, class T>
static __global__ void __launch_bounds__(TEAM_THREADS)
    add_rmsnorm_kernel(T *sum, T *y, float *rstd, const T *a, const T *b, const float *w, int64_t n,
                       int64_t c, float eps, float shift, bool wide)
{
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
    TEAM_LAUNCH(add_rmsnorm_kernel, n, c, s, sum, y, rstd, a, b, w, n, c, eps, shift, wide);
    return launched("add_rmsnorm_fwd");
}

/* A thread rotates 16 bytes of the first half of a head with 16 bytes of the second half, as
 * rope_fwd does, or copies 32 bytes of a row's values. The threads of a row: the heads of q, which
 * stay in place; those of k, which go to their page; those of v. */
static __global__ void __launch_bounds__(THREADS)
    rope_write_kernel(plumb_bf16 *q, plumb_bf16 *kc, plumb_bf16 *vc, const plumb_bf16 *k,
                      const plumb_bf16 *v, const float *cos_sin, plumb_rows rows, int64_t h,
                      int64_t hk, int64_t d)
{
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
    PLUMB_LAUNCH(rope_write_kernel, unsigned(blocks), THREADS, 0, context_of(s)->stream, q, kc, vc,
                 k, v, cos_sin, *rows, h, hk, d);
    return launched("rope_write_fwd");
}

void plumb_cuda_init_fused(struct plumb_kernels *t)
{
    t->bf16.add_rmsnorm_fwd = add_rmsnorm_fwd;
    t->bf16.rope_write_fwd = rope_write_fwd;
}
