/* vocab.cu - the soft cap of logits, token log-probabilities and their gradient, and the entropy.
 * Layer 1 (cuda). Includes vocab.cuh. */
#include "cuda/vocab.cuh"

template <int W>
static __global__ void __launch_bounds__(W *WARP)
    logprob_kernel(float *logp, float *lse, const float *logits, const int32_t *target, int64_t v)
{
    wait_for_previous();
    __shared__ mass part[W];
    const int64_t i = blockIdx.x;
    const double sum = block_lse<W>(logits + i * v, v, part);
    if (threadIdx.x > 0)
        return;
    lse[i] = float(sum);
    logp[i] = float(double(logits[i * v + target[i]]) - sum);
}

static plumb_status logprob_fwd(plumb_stream *s, float *logp, float *lse, const float *logits,
                                const int32_t *target, int64_t n, int64_t v)
{
    if (n == 0)
        return PLUMB_OK;
    PLUMB_TRY(check_grid("logprob_fwd", n, 1));
    VOCAB_LAUNCH_EARLY(logprob_kernel, n, v, s, logp, lse, logits, target, v);
    return launched("logprob_fwd");
}

template <int W>
static __global__ void __launch_bounds__(W *WARP)
    entropy_kernel(float *entropy, float *mean, const float *logits, const float *lse, int64_t v)
{
    __shared__ double part[W];
    const int64_t i = blockIdx.x;
    const float l = lse[i];
    double sum = 0.0, all = 0.0;
    for (int64_t j = threadIdx.x; j < v; j += W * WARP) {
        const float z = logits[i * v + j], a = z - l;
        sum -= double(expf(a) * a);
        all += double(z);
    }
    sum = block_sum<W>(sum, part);
    __syncthreads(); /* the block_sum below writes to `part` again */
    all = block_sum<W>(all, part);
    if (threadIdx.x > 0)
        return;
    entropy[i] = float(sum);
    mean[i] = float(all / double(v));
}

static plumb_status entropy_fwd(plumb_stream *s, float *entropy, float *mean, const float *logits,
                                const float *lse, int64_t n, int64_t v)
{
    if (n == 0)
        return PLUMB_OK;
    PLUMB_TRY(check_grid("entropy_fwd", n, 1));
    VOCAB_LAUNCH(entropy_kernel, n, v, s, entropy, mean, logits, lse, v);
    return launched("entropy_fwd");
}

/* Returns dlogits of one element with logit z. expm1 keeps 1 - p accurate when the target's
 * probability p is close to 1. With cap > 0, z is soft-capped, and the gradient is that of the
 * cap's input. */
DEVICE float slope(float z, float lse, float dlogp, bool target, float cap)
{
    const float a = z - lse, dz = dlogp * (target ? -expm1f(a) : -expf(a));
    if (cap <= 0.0f)
        return dz;
    const float t = z / cap;
    return dz * fmaf(-t, t, 1.0f);
}

static constexpr int THREADS = 256;
template <class T>
static __global__ void logprob_bwd_kernel(T *dlogits, const float *logits, const float *lse,
                                          const int32_t *target, const float *dlogp, int64_t v,
                                          float cap, bool wide)
{
    constexpr int N = PER<T>;
    const int64_t i = blockIdx.x, j = N * (int64_t(blockIdx.y) * blockDim.x + threadIdx.x);
    if (j >= v)
        return;
    const int64_t at = target[i] - j;
    const float l = lse[i], d = dlogp[i];
    vec<N> z = load<N>(logits + i * v, j, v, wide);
    for (int e = 0; e < N; e++)
        z.v[e] = slope(z.v[e], l, d, at == e, cap);
    store(dlogits + i * v, z, j, v, wide);
}

template <class T>
static plumb_status logprob_bwd(plumb_stream *s, T *dlogits, const float *logits, const float *lse,
                                const int32_t *target, const float *dlogp, int64_t n, int64_t v,
                                float cap)
{
    const int64_t slices = ceil_div(v, PER<T> * THREADS);
    if (n == 0)
        return PLUMB_OK;
    PLUMB_TRY(check_grid("logprob_bwd", n, slices));
    PLUMB_LAUNCH(logprob_bwd_kernel<T>, dim3(unsigned(n), unsigned(slices)), THREADS, 0,
                 context_of(s)->stream, dlogits, logits, lse, target, dlogp, v, cap,
                 v % PER<T> == 0 && aligned16(dlogits, logits));
    return launched("logprob_bwd");
}

static __global__ void softcap_kernel(float *z, int64_t n, float cap, bool wide)
{
    wait_for_previous();
    const int64_t j = 4 * (int64_t(blockIdx.x) * blockDim.x + threadIdx.x);
    if (j >= n)
        return;
    const bool whole = wide && j + 4 <= n;
    vec<4> v = load<4>(z, j, n, whole);
    for (int e = 0; e < 4; e++)
        v.v[e] = cap * tanhf(v.v[e] / cap);
    store(z, v, j, n, whole);
}

static plumb_status softcap_fwd(plumb_stream *s, float *z, int64_t n, float cap)
{
    const int64_t blocks = ceil_div(n, 4 * THREADS);
    if (n == 0)
        return PLUMB_OK;
    PLUMB_TRY(check_grid("softcap_fwd", blocks, 1));
    PLUMB_LAUNCH_EARLY(softcap_kernel, unsigned(blocks), THREADS, 0, context_of(s), z, n, cap,
                       aligned16(z));
    return launched("softcap_fwd");
}

void plumb_cuda_init_vocab(struct plumb_kernels *t)
{
    t->softcap_fwd = softcap_fwd;
    BOTH(t, logprob_bwd);
    t->logprob_fwd = logprob_fwd;
    t->entropy_fwd = entropy_fwd;
}
