/* elementwise.cu - rotary embedding, AdamW, and the sum of squares by blocks.
 * Layer 1 (cuda). Includes device.cuh. */
#include "cuda/device.cuh"

static constexpr int THREADS = 256;

/* Each thread rotates 16 bytes of the first half of a head's rotated columns (r of its d columns)
 * with 16 bytes of their second half. */
template <class T>
static __global__ void rope_kernel(T *x, const float *cos_sin, const int32_t *pos, int64_t heads,
                                   int64_t h, int64_t d, int64_t half, float sign, bool wide)
{
    wait_for_previous();
    constexpr int N = PER<T>;
    const int64_t parts = (half + N - 1) / N;
    const int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at >= heads * parts)
        return;
    const int64_t head = at / parts, j = N * (at % parts);
    const float *table = cos_sin + pos[head / h] * 2 * half;
    T *x1 = x + head * d, *x2 = x1 + half;
    vec<N> u = load<N>(x1, j, half, wide), v = load<N>(x2, j, half, wide);
    const vec<N> c = load<N>(table, j, half, wide), s = load<N>(table + half, j, half, wide);
    for (int e = 0; e < N; e++) {
        const float before = u.v[e], turn = sign * s.v[e];
        u.v[e] = fmaf(before, c.v[e], -(v.v[e] * turn));
        v.v[e] = fmaf(v.v[e], c.v[e], before * turn);
    }
    store(x1, u, j, half, wide);
    store(x2, v, j, half, wide);
}

template <class T>
static plumb_status rotate(plumb_stream *s, T *x, const float *cos_sin, const int32_t *pos,
                           int64_t n, int64_t h, int64_t d, int64_t r, float sign)
{
    const int64_t half = r / 2, blocks = ceil_div(n * h * ceil_div(half, PER<T>), THREADS);
    if (blocks == 0)
        return PLUMB_OK;
    PLUMB_TRY(check_grid("rope", blocks, 1));
    PLUMB_LAUNCH_EARLY(rope_kernel<T>, unsigned(blocks), THREADS, 0, context_of(s), x, cos_sin, pos,
                       n * h, h, d, half, sign,
                       half % PER<T> == 0 && d % PER<T> == 0 && aligned16(x, cos_sin));
    return launched("rope");
}

template <class T>
static plumb_status rope_fwd(plumb_stream *s, T *x, const float *cos_sin, const int32_t *pos,
                             int64_t n, int64_t h, int64_t d, int64_t r)
{
    return rotate(s, x, cos_sin, pos, n, h, d, r, 1.0f);
}

template <class T>
static plumb_status rope_bwd(plumb_stream *s, T *dx, const float *cos_sin, const int32_t *pos,
                             int64_t n, int64_t h, int64_t d, int64_t r)
{
    return rotate(s, dx, cos_sin, pos, n, h, d, r, -1.0f);
}

DEVICE void adamw_one(float *w, float *m, float *v, float g, const plumb_adamw &p)
{
    g *= p.grad_scale;
    *m = fmaf(p.beta1, *m, (1.0f - p.beta1) * g);
    *v = fmaf(p.beta2, *v, (1.0f - p.beta2) * g * g);
    const float step = *m / p.correction1 / (sqrtf(*v / p.correction2) + p.eps);
    *w = fmaf(-p.lr, fmaf(p.weight_decay, *w, step), *w);
}

static __global__ void adamw_kernel(float *w, float *m, float *v, const float *g, int64_t n,
                                    plumb_adamw p, bool wide)
{
    const int64_t j = 4 * (int64_t(blockIdx.x) * blockDim.x + threadIdx.x);
    if (j >= n)
        return;
    const bool whole = wide && j + 4 <= n;
    vec<4> wj = load<4>(w, j, n, whole), mj = load<4>(m, j, n, whole), vj = load<4>(v, j, n, whole);
    const vec<4> gj = load<4>(g, j, n, whole);
    for (int e = 0; e < 4; e++)
        adamw_one(&wj.v[e], &mj.v[e], &vj.v[e], gj.v[e], p);
    store(w, wj, j, n, whole);
    store(m, mj, j, n, whole);
    store(v, vj, j, n, whole);
}

static plumb_status adamw(plumb_stream *s, float *w, float *m, float *v, const float *g, int64_t n,
                          const struct plumb_adamw *p)
{
    const int64_t blocks = ceil_div(n, 4 * THREADS);
    if (n == 0)
        return PLUMB_OK;
    PLUMB_TRY(check_grid("adamw", blocks, 1));
    PLUMB_LAUNCH(adamw_kernel, unsigned(blocks), THREADS, 0, context_of(s)->stream, w, m, v, g, n,
                 *p, aligned16(w, m, v, g));
    return launched("adamw");
}

/* Sums the squares of each block of x in double, with SIZE threads per block of x. Each thread adds
 * its elements in a chain; block_sum then adds the results of the threads. SIZE (1, WARP or
 * THREADS) depends only on the argument `block`, so the order of the sum depends only on `block`
 * and on the number of elements in the block of x; the last block may have fewer than `block`. */
template <int SIZE>
static __global__ void __launch_bounds__(THREADS)
    sumsq_kernel(double *out, const float *x, int64_t n, int64_t block)
{
    __shared__ double part[THREADS / WARP];
    const int at = int(threadIdx.x) % SIZE;
    const int64_t i = int64_t(blockIdx.x) * (THREADS / SIZE) + threadIdx.x / SIZE;
    const int64_t begin = i * block;
    const int64_t end = begin + block < n ? begin + block : n;
    if (begin >= n)
        return;
    double sum = 0.0;
    for (int64_t j = begin + at; j < end; j += SIZE)
        sum = fma(double(x[j]), double(x[j]), sum);
    if (SIZE > 1)
        sum = block_sum<(SIZE < WARP ? 1 : SIZE / WARP)>(sum, part);
    if (at == 0)
        out[i] = sum;
}

static plumb_status sumsq(plumb_stream *s, double *out, const float *x, int64_t n, int64_t block)
{
    const int64_t blocks = ceil_div(n, block);
    if (n == 0)
        return PLUMB_OK;
    PLUMB_TRY(check_grid("sumsq", blocks, 1));
    if (block <= WARP)
        PLUMB_LAUNCH(sumsq_kernel<1>, unsigned(ceil_div(blocks, THREADS)), THREADS, 0,
                     context_of(s)->stream, out, x, n, block);
    else if (block <= 1024)
        PLUMB_LAUNCH(sumsq_kernel<WARP>, unsigned(ceil_div(blocks, THREADS / WARP)), THREADS, 0,
                     context_of(s)->stream, out, x, n, block);
    else
        PLUMB_LAUNCH(sumsq_kernel<THREADS>, unsigned(blocks), THREADS, 0, context_of(s)->stream,
                     out, x, n, block);
    return launched("sumsq");
}

void plumb_cuda_init_elementwise(struct plumb_kernels *t)
{
    BOTH(t, rope_fwd);
    BOTH(t, rope_bwd);
    t->adamw = adamw;
    t->sumsq = sumsq;
}
