/* act.cu - the activations of the MLP, gated and plain.
 * Layer 1 (cuda). Includes device.cuh. */
#include "cuda/device.cuh"

static constexpr int THREADS = 256;

/* The constants of GELU's tanh form: (1 + tanh(u)) / 2 = sigmoid(2 u) with 2 u = z (GELU_K +
 * GELU_K3 z^2), GELU_K = 2 sqrt(2/pi), GELU_K3 = 0.044715 GELU_K */
static constexpr float GELU_K = 1.5957691216057308f, GELU_K3 = 0.0713548162726f;

/* The value of an activation at z, and its slope. */
struct point {
    float value, slope;
};

template <int KIND> DEVICE point point_of(float z)
{
    if (KIND == PLUMB_ACT_SILU) {
        const float sig = 1.0f / (1.0f + expf(-z));
        return point{z / (1.0f + expf(-z)), sig * fmaf(z, 1.0f - sig, 1.0f)};
    }
    if (KIND == PLUMB_ACT_GELU) {
        const float below = 0.5f * erfcf(z * -0.70710678f);
        return point{z * below, fmaf(z * 0.39894228f, expf(-0.5f * z * z), below)};
    }
    const float near = fminf(fmaxf(z, -30.0f), 30.0f), square = near * near;
    const float sig = 1.0f / (1.0f + expf(-near * fmaf(GELU_K3, square, GELU_K)));
    const float inner = fmaf(3.0f * GELU_K3, square, GELU_K);
    return point{z * sig, fmaf(sig, near * (1.0f - sig) * inner, sig)};
}

template <int KIND, class T>
static __global__ void act_kernel(T *y, const T *gate, const T *up, int64_t n, bool wide)
{
    constexpr int N = PER<T>;
    const int64_t j = N * (int64_t(blockIdx.x) * blockDim.x + threadIdx.x);
    if (j >= n)
        return;
    const bool whole = wide && j + N <= n;
    vec<N> g = load<N>(gate, j, n, whole), u;
    if (up)
        u = load<N>(up, j, n, whole);
    for (int e = 0; e < N; e++)
        g.v[e] = point_of<KIND>(g.v[e]).value * (up ? u.v[e] : 1.0f);
    store(y, g, j, n, whole);
}

template <int KIND, class T>
static plumb_status run_fwd(plumb_stream *s, T *y, const T *gate, const T *up, int64_t n)
{
    const int64_t blocks = ceil_div(n, PER<T> * THREADS);
    if (n == 0)
        return PLUMB_OK;
    PLUMB_TRY(check_grid("act_fwd", blocks, 1));
    PLUMB_LAUNCH((act_kernel<KIND, T>), unsigned(blocks), THREADS, 0, context_of(s)->stream, y,
                 gate, up, n, aligned16(y, gate, up));
    return launched("act_fwd");
}

template <class T>
static plumb_status act_fwd(plumb_stream *s, T *y, const T *gate, const T *up, int64_t n,
                            enum plumb_activation kind)
{
    if (kind == PLUMB_ACT_SILU)
        return run_fwd<PLUMB_ACT_SILU>(s, y, gate, up, n);
    if (kind == PLUMB_ACT_GELU)
        return run_fwd<PLUMB_ACT_GELU>(s, y, gate, up, n);
    return run_fwd<PLUMB_ACT_GELU_TANH>(s, y, gate, up, n);
}

template <int KIND, class T>
static __global__ void act_bwd_kernel(T *dgate, T *dup, const T *dy, const T *gate, const T *up,
                                      int64_t n, bool wide)
{
    constexpr int N = PER<T>;
    const int64_t j = N * (int64_t(blockIdx.x) * blockDim.x + threadIdx.x);
    if (j >= n)
        return;
    const bool whole = wide && j + N <= n;
    const vec<N> d = load<N>(dy, j, n, whole);
    vec<N> g = load<N>(gate, j, n, whole), u;
    if (up)
        u = load<N>(up, j, n, whole);
    for (int e = 0; e < N; e++) {
        const float z = g.v[e];
        if (KIND == PLUMB_ACT_SILU) {
            const float sig = 1.0f / (1.0f + expf(-z));
            g.v[e] = d.v[e] * (up ? u.v[e] : 1.0f) * sig * fmaf(z, 1.0f - sig, 1.0f);
            u.v[e] = d.v[e] * z * sig;
        } else {
            const point p = point_of<KIND>(z);
            g.v[e] = d.v[e] * (up ? u.v[e] : 1.0f) * p.slope;
            u.v[e] = d.v[e] * p.value;
        }
    }
    store(dgate, g, j, n, whole);
    if (up)
        store(dup, u, j, n, whole);
}

template <int KIND, class T>
static plumb_status run_bwd(plumb_stream *s, T *dgate, T *dup, const T *dy, const T *gate,
                            const T *up, int64_t n)
{
    const int64_t blocks = ceil_div(n, PER<T> * THREADS);
    if (n == 0)
        return PLUMB_OK;
    PLUMB_TRY(check_grid("act_bwd", blocks, 1));
    PLUMB_LAUNCH((act_bwd_kernel<KIND, T>), unsigned(blocks), THREADS, 0, context_of(s)->stream,
                 dgate, dup, dy, gate, up, n, aligned16(dgate, up ? dup : nullptr, dy, gate, up));
    return launched("act_bwd");
}

template <class T>
static plumb_status act_bwd(plumb_stream *s, T *dgate, T *dup, const T *dy, const T *gate,
                            const T *up, int64_t n, enum plumb_activation kind)
{
    if (kind == PLUMB_ACT_SILU)
        return run_bwd<PLUMB_ACT_SILU>(s, dgate, dup, dy, gate, up, n);
    if (kind == PLUMB_ACT_GELU)
        return run_bwd<PLUMB_ACT_GELU>(s, dgate, dup, dy, gate, up, n);
    return run_bwd<PLUMB_ACT_GELU_TANH>(s, dgate, dup, dy, gate, up, n);
}

void plumb_cuda_init_act(struct plumb_kernels *t)
{
    BOTH(t, act_fwd);
    BOTH(t, act_bwd);
}
