/* elementwise.cu - rotary embedding, SwiGLU and AdamW: every element by itself.
 * Layer 1 (cuda). Includes device.cuh. */
#include "cuda/device.cuh"

static constexpr int THREADS = 256;

/* One thread per four pairs of a head. */
static __global__ void rope_kernel(float *x, const float *cos_sin, const int32_t *pos,
                                   int64_t heads, int64_t h, int64_t half, float sign, bool wide)
{
    const int64_t quads = (half + 3) / 4;
    const int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at >= heads * quads)
        return;
    const int64_t head = at / quads, j = 4 * (at % quads);
    const float *table = cos_sin + pos[head / h] * 2 * half;
    float *x1 = x + head * 2 * half, *x2 = x1 + half;
    const float4 u = load4(x1, j, half, wide), v = load4(x2, j, half, wide);
    const float4 c = load4(table, j, half, wide), s = load4(table + half, j, half, wide);
    store4(x1,
           make_float4(fmaf(u.x, c.x, -(v.x * sign * s.x)), fmaf(u.y, c.y, -(v.y * sign * s.y)),
                       fmaf(u.z, c.z, -(v.z * sign * s.z)), fmaf(u.w, c.w, -(v.w * sign * s.w))),
           j, half, wide);
    store4(x2,
           make_float4(fmaf(v.x, c.x, u.x * sign * s.x), fmaf(v.y, c.y, u.y * sign * s.y),
                       fmaf(v.z, c.z, u.z * sign * s.z), fmaf(v.w, c.w, u.w * sign * s.w)),
           j, half, wide);
}

static plumb_status rotate(plumb_stream *s, float *x, const float *cos_sin, const int32_t *pos,
                           int64_t n, int64_t h, int64_t d, float sign)
{
    const int64_t half = d / 2, blocks = ceil_div(n * h * ceil_div(half, 4), THREADS);
    if (blocks == 0)
        return PLUMB_OK;
    PLUMB_TRY(check_grid("rope", blocks, 1));
    PLUMB_LAUNCH(rope_kernel, unsigned(blocks), THREADS, 0, context_of(s)->stream, x, cos_sin, pos,
                 n * h, h, half, sign, half % 4 == 0 && aligned16(x, cos_sin));
    return launched("rope");
}

extern "C" plumb_status plumb_cuda_rope_fwd(plumb_stream *s, float *x, const float *cos_sin,
                                            const int32_t *pos, int64_t n, int64_t h, int64_t d)
{
    return rotate(s, x, cos_sin, pos, n, h, d, 1.0f);
}

extern "C" plumb_status plumb_cuda_rope_bwd(plumb_stream *s, float *dx, const float *cos_sin,
                                            const int32_t *pos, int64_t n, int64_t h, int64_t d)
{
    return rotate(s, dx, cos_sin, pos, n, h, d, -1.0f);
}

DEVICE float silu_times(float gate, float up)
{
    return gate / (1.0f + expf(-gate)) * up;
}

static __global__ void swiglu_kernel(float *y, const float *gate, const float *up, int64_t n,
                                     bool wide)
{
    const int64_t j = 4 * (int64_t(blockIdx.x) * blockDim.x + threadIdx.x);
    if (j >= n)
        return;
    const bool whole = wide && j + 4 <= n;
    const float4 g = load4(gate, j, n, whole), u = load4(up, j, n, whole);
    store4(y,
           make_float4(silu_times(g.x, u.x), silu_times(g.y, u.y), silu_times(g.z, u.z),
                       silu_times(g.w, u.w)),
           j, n, whole);
}

extern "C" plumb_status plumb_cuda_swiglu_fwd(plumb_stream *s, float *y, const float *gate,
                                              const float *up, int64_t n)
{
    const int64_t blocks = ceil_div(n, 4 * THREADS);
    if (n == 0)
        return PLUMB_OK;
    PLUMB_TRY(check_grid("swiglu_fwd", blocks, 1));
    PLUMB_LAUNCH(swiglu_kernel, unsigned(blocks), THREADS, 0, context_of(s)->stream, y, gate, up, n,
                 aligned16(y, gate, up));
    return launched("swiglu_fwd");
}

/* (dgate, dup) of one element. */
struct slopes {
    float gate, up;
};
DEVICE slopes swiglu_slopes(float dy, float g, float u)
{
    const float sig = 1.0f / (1.0f + expf(-g));
    return slopes{dy * u * sig * fmaf(g, 1.0f - sig, 1.0f), dy * g * sig};
}

static __global__ void swiglu_bwd_kernel(float *dgate, float *dup, const float *dy,
                                         const float *gate, const float *up, int64_t n, bool wide)
{
    const int64_t j = 4 * (int64_t(blockIdx.x) * blockDim.x + threadIdx.x);
    if (j >= n)
        return;
    const bool whole = wide && j + 4 <= n;
    const float4 d = load4(dy, j, n, whole), g = load4(gate, j, n, whole),
                 u = load4(up, j, n, whole);
    const slopes x = swiglu_slopes(d.x, g.x, u.x), y = swiglu_slopes(d.y, g.y, u.y);
    const slopes z = swiglu_slopes(d.z, g.z, u.z), w = swiglu_slopes(d.w, g.w, u.w);
    store4(dgate, make_float4(x.gate, y.gate, z.gate, w.gate), j, n, whole);
    store4(dup, make_float4(x.up, y.up, z.up, w.up), j, n, whole);
}

extern "C" plumb_status plumb_cuda_swiglu_bwd(plumb_stream *s, float *dgate, float *dup,
                                              const float *dy, const float *gate, const float *up,
                                              int64_t n)
{
    const int64_t blocks = ceil_div(n, 4 * THREADS);
    if (n == 0)
        return PLUMB_OK;
    PLUMB_TRY(check_grid("swiglu_bwd", blocks, 1));
    PLUMB_LAUNCH(swiglu_bwd_kernel, unsigned(blocks), THREADS, 0, context_of(s)->stream, dgate, dup,
                 dy, gate, up, n, aligned16(dgate, dup, dy, gate, up));
    return launched("swiglu_bwd");
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
    float4 wj = load4(w, j, n, whole), mj = load4(m, j, n, whole), vj = load4(v, j, n, whole);
    const float4 gj = load4(g, j, n, whole);
    adamw_one(&wj.x, &mj.x, &vj.x, gj.x, p);
    adamw_one(&wj.y, &mj.y, &vj.y, gj.y, p);
    adamw_one(&wj.z, &mj.z, &vj.z, gj.z, p);
    adamw_one(&wj.w, &mj.w, &vj.w, gj.w, p);
    store4(w, wj, j, n, whole);
    store4(m, mj, j, n, whole);
    store4(v, vj, j, n, whole);
}

extern "C" plumb_status plumb_cuda_adamw(plumb_stream *s, float *w, float *m, float *v,
                                         const float *g, int64_t n, const struct plumb_adamw *p)
{
    const int64_t blocks = ceil_div(n, 4 * THREADS);
    if (n == 0)
        return PLUMB_OK;
    PLUMB_TRY(check_grid("adamw", blocks, 1));
    PLUMB_LAUNCH(adamw_kernel, unsigned(blocks), THREADS, 0, context_of(s)->stream, w, m, v, g, n,
                 *p, aligned16(w, m, v, g));
    return launched("adamw");
}

/* A team of one thread, a warp or THREADS per block of x, in double: every thread its own chain,
 * then the tree. Which, and so the order, depends on the block's size alone. */
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

extern "C" plumb_status plumb_cuda_sumsq(plumb_stream *s, double *out, const float *x, int64_t n,
                                         int64_t block)
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
