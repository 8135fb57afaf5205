/* vocab.cu - token log-probabilities over the vocabulary.
 * Layer 1 (cuda). Includes vocab.cuh. */
#include "cuda/vocab.cuh"

template <int W>
static __global__ void __launch_bounds__(W *WARP)
    logprob_kernel(float *logp, float *lse, const float *logits, const int32_t *target, int64_t v)
{
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
    VOCAB_LAUNCH(logprob_kernel, n, v, s, logp, lse, logits, target, v);
    return launched("logprob_fwd");
}

/* Returns dlogits of one element. expm1 keeps 1 - p accurate when the target's probability p is
 * close to 1. */
DEVICE float slope(float z, float lse, float dlogp, bool target)
{
    const float a = z - lse;
    return dlogp * (target ? -expm1f(a) : -expf(a));
}

static constexpr int THREADS = 256;
template <class T>
static __global__ void logprob_bwd_kernel(T *dlogits, const float *logits, const float *lse,
                                          const int32_t *target, const float *dlogp, int64_t v,
                                          bool wide)
{
    constexpr int N = PER<T>;
    const int64_t i = blockIdx.x, j = N * (int64_t(blockIdx.y) * blockDim.x + threadIdx.x);
    if (j >= v)
        return;
    const int64_t at = target[i] - j;
    const float l = lse[i], d = dlogp[i];
    vec<N> z = load<N>(logits + i * v, j, v, wide);
    for (int e = 0; e < N; e++)
        z.v[e] = slope(z.v[e], l, d, at == e);
    store(dlogits + i * v, z, j, v, wide);
}

template <class T>
static plumb_status logprob_bwd(plumb_stream *s, T *dlogits, const float *logits, const float *lse,
                                const int32_t *target, const float *dlogp, int64_t n, int64_t v)
{
    const int64_t slices = ceil_div(v, PER<T> * THREADS);
    if (n == 0)
        return PLUMB_OK;
    PLUMB_TRY(check_grid("logprob_bwd", n, slices));
    PLUMB_LAUNCH(logprob_bwd_kernel<T>, dim3(unsigned(n), unsigned(slices)), THREADS, 0,
                 context_of(s)->stream, dlogits, logits, lse, target, dlogp, v,
                 v % PER<T> == 0 && aligned16(dlogits, logits));
    return launched("logprob_bwd");
}

void plumb_cuda_init_vocab(struct plumb_kernels *t)
{
    BOTH(t, logprob_bwd);
    t->logprob_fwd = logprob_fwd;
}
