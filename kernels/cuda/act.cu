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
    wait_for_previous();
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
    PLUMB_LAUNCH_EARLY((act_kernel<KIND, T>), unsigned(blocks), THREADS, 0, context_of(s), y, gate,
                       up, n, aligned16(y, gate, up));
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

/* Replaces the gate g and up u by their gradients; d is the gradient of the output. If `gated` is
 * false, u is not read. */
template <int KIND, int N> DEVICE void gradients(vec<N> *g, vec<N> *u, const vec<N> &d, bool gated)
{
    for (int e = 0; e < N; e++) {
        const float z = g->v[e];
        if (KIND == PLUMB_ACT_SILU) {
            const float sig = 1.0f / (1.0f + expf(-z));
            g->v[e] = d.v[e] * (gated ? u->v[e] : 1.0f) * sig * fmaf(z, 1.0f - sig, 1.0f);
            u->v[e] = d.v[e] * z * sig;
        } else {
            const point p = point_of<KIND>(z);
            g->v[e] = d.v[e] * (gated ? u->v[e] : 1.0f) * p.slope;
            u->v[e] = d.v[e] * p.value;
        }
    }
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
    gradients<KIND>(&g, &u, d, up != nullptr);
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

/* ---- gate and up in one array ---------------------------------------------------------------- */

static constexpr int PIECE = PER<plumb_bf16>;

/* Each block computes a part of one row. If dy is NULL, out is y (n,f), computed from gate_up
 * (n,2,f); otherwise out is the gradient of gate_up (n,2,f). The arithmetic is that of act_kernel
 * and act_bwd_kernel. */
template <int KIND>
static __global__ void gated_kernel(plumb_bf16 *out, const plumb_bf16 *dy,
                                    const plumb_bf16 *gate_up, int64_t f, unsigned slices)
{
    wait_for_previous();
    const int64_t i = blockIdx.x / slices;
    const int64_t j = PIECE * (int64_t(blockIdx.x % slices) * blockDim.x + threadIdx.x);
    if (j >= f)
        return;
    const plumb_bf16 *gate = gate_up + i * 2 * f;
    vec<PIECE> g = load<PIECE>(gate, j, f, true), u = load<PIECE>(gate + f, j, f, true);
    if (dy) {
        gradients<KIND>(&g, &u, load<PIECE>(dy + i * f, j, f, true), true);
        store(out + i * 2 * f, g, j, f, true);
        store(out + i * 2 * f + f, u, j, f, true);
        return;
    }
    for (int e = 0; e < PIECE; e++)
        g.v[e] = point_of<KIND>(g.v[e]).value * u.v[e];
    store(out + i * f, g, j, f, true);
}

static plumb_status gated(plumb_stream *s, plumb_bf16 *out, const plumb_bf16 *dy,
                          const plumb_bf16 *gate_up, int64_t n, int64_t f,
                          enum plumb_activation kind)
{
    const int64_t width = f / PIECE;
    const int64_t threads = width < THREADS ? ceil_div(width, WARP) * WARP : THREADS;
    const char *name = dy ? "gated_bwd" : "gated_fwd";
    if (n == 0 || f == 0)
        return PLUMB_OK;
    PLUMB_REQUIRE(f % PIECE == 0 && aligned16(out, dy, gate_up), PLUMB_ERR_SHAPE,
                  "%s: %lld columns of the gate, expected a multiple of %d and arrays that are "
                  "aligned to 16 bytes",
                  name, (long long)f, PIECE);
    const int64_t slices = ceil_div(width, threads);
    PLUMB_TRY(check_grid(name, n * slices, 1));
    const auto kernel = kind == PLUMB_ACT_SILU   ? gated_kernel<PLUMB_ACT_SILU>
                        : kind == PLUMB_ACT_GELU ? gated_kernel<PLUMB_ACT_GELU>
                                                 : gated_kernel<PLUMB_ACT_GELU_TANH>;
    PLUMB_LAUNCH_EARLY(kernel, unsigned(n * slices), unsigned(threads), 0, context_of(s), out, dy,
                       gate_up, f, unsigned(slices));
    return launched(name);
}

static plumb_status gated_fwd(plumb_stream *s, plumb_bf16 *y, const plumb_bf16 *gate_up, int64_t n,
                              int64_t f, enum plumb_activation kind)
{
    return gated(s, y, nullptr, gate_up, n, f, kind);
}

static plumb_status gated_bwd(plumb_stream *s, plumb_bf16 *dgate_up, const plumb_bf16 *dy,
                              const plumb_bf16 *gate_up, int64_t n, int64_t f,
                              enum plumb_activation kind)
{
    return gated(s, dgate_up, dy, gate_up, n, f, kind);
}

void plumb_cuda_init_act(struct plumb_kernels *t)
{
    t->bf16.gated_fwd = gated_fwd;
    t->bf16.gated_bwd = gated_bwd;
    BOTH(t, act_fwd);
    BOTH(t, act_bwd);
}
