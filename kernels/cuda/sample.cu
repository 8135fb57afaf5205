/* sample.cu - draws one token per row of logits, and penalises the logits of tokens that a sequence
 * has already.
 * Layer 1 (cuda). Includes vocab.cuh.
 *
 * Sampling: one block processes one row, without sorting. Probabilities are integer multiples of
 * 2^-40 of the largest one, so their sums are exact in any order. The histograms can therefore be
 * summed with atomics, and the drawn token still depends only on the row and on u. One radix
 * selection over the bits of the logits serves top-k and top-p: it finds the smallest set of the
 * largest logits (of equal ones, those with the lowest ids) that has a given mass. */
#include "cuda/vocab.cuh"

typedef unsigned long long count_t;

static constexpr int BINS = 256, DIGIT = 8;

/* A row of logits and its filters. An id is kept if two conditions hold: the key of its logit
 * (key_of) is above `key`, or it equals `key` and the id is at most `last`; and its probability is
 * at least min_p times the largest. */
struct row {
    const float *z;
    int64_t v;
    float best, temperature, min_p;
    uint32_t key;
    int64_t last;
};
/* What mass_of returns for an id that is kept. COUNT: 1. WEIGHT: its probability, as a multiple of
 * 2^-40 of the largest one. TIES: 1 if the key of its logit (key_of) equals `tie`, else 0. */
enum weigh { COUNT, WEIGHT, TIES };

struct scratch {
    count_t bin[BINS], part[MOST_WARPS], need;
    mass lse[MOST_WARPS];
    float max[MOST_WARPS];
    int64_t found;
    uint32_t digit;
};

/* Maps a float to an integer with the same order; -0 and +0 have the same key. */
DEVICE uint32_t key_of(float z)
{
    const uint32_t bits = __float_as_uint(z + 0.0f);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

DEVICE count_t mass_of(const row &x, weigh how, uint32_t tie, int64_t j)
{
    const float z = x.z[j];
    const uint32_t key = key_of(z);
    if (key < x.key || (key == x.key && j > x.last))
        return 0;
    if (how == TIES && key != tie)
        return 0;
    if (how != WEIGHT && x.min_p == 0.0f)
        return 1;
    const float p = expf((z - x.best) / x.temperature);
    if (!(p >= x.min_p))
        return 0;
    return how == WEIGHT ? count_t(p * 0x1p40f) : 1;
}

/* Returns the lowest id at which the cumulative mass reaches `need`; need must be between 1 and the
 * total mass. Each warp owns a range of ids; the warp whose range reaches `need` searches it. */
template <int W>
DEVICE int64_t find(const row &x, weigh how, uint32_t tie, count_t need, scratch *s)
{
    const int lane = int(threadIdx.x % WARP), warp = int(threadIdx.x / WARP);
    const int64_t range = (x.v + W * WARP - 1) / (W * WARP) * WARP;
    const int64_t begin = warp * range, end = begin + range < x.v ? begin + range : x.v;
    count_t sum = 0, before = 0;
    for (int64_t j = begin + lane; j < end; j += WARP)
        sum += mass_of(x, how, tie, j);
    sum = warp_sum(sum);
    __syncthreads();
    if (lane == 0)
        s->part[warp] = sum;
    __syncthreads();
    for (int i = 0; i < warp; i++)
        before += s->part[i];
    if (before < need && need <= before + sum) {
        need -= before;
        for (int64_t base = begin; base < end; base += WARP) {
            count_t reach = base + lane < end ? mass_of(x, how, tie, base + lane) : 0;
            for (int by = 1; by < WARP; by <<= 1) {
                const count_t lower = __shfl_up_sync(ALL_LANES, reach, by);
                reach += lane >= by ? lower : 0;
            }
            const unsigned there = __ballot_sync(ALL_LANES, reach >= need);
            if (there) {
                if (lane == 0)
                    s->found = base + __ffs(int(there)) - 1;
                break;
            }
            need -= __shfl_sync(ALL_LANES, reach, WARP - 1);
        }
    }
    __syncthreads();
    return s->found;
}

/* One step of the radix selection. s has one bin of mass for each value of a digit. Adds the bins
 * from the largest digit down, and sets s->digit to the digit at which the sum reaches `need`, and
 * s->need to the mass that is needed of this bin. Runs in warp 0, with eight bins per lane. */
DEVICE void pick_digit(count_t need, scratch *s)
{
    const int lane = int(threadIdx.x), per = BINS / WARP, top = BINS - 1 - lane * per;
    count_t own = 0;
    for (int i = 0; i < per; i++)
        own += s->bin[top - i];
    count_t reach = own;
    for (int by = 1; by < WARP; by <<= 1) {
        const count_t lower = __shfl_up_sync(ALL_LANES, reach, by);
        reach += lane >= by ? lower : 0;
    }
    if (reach < need || reach - own >= need)
        return;
    need -= reach - own;
    int i = 0;
    while (s->bin[top - i] < need)
        need -= s->bin[top - i++];
    s->digit = uint32_t(top - i);
    s->need = need;
}

/* add_to_bin adds each lane's mass to its bin. Most logits of a row share a few bins, so lanes with
 * the same bin first add up their masses. This is done up to MERGED times, each time for the bin of
 * the lowest remaining lane; then each remaining lane adds its mass by itself. All lanes of the
 * warp must call it together. */
static constexpr int MERGED = 3;
DEVICE void add_to_bin(scratch *s, uint32_t bin, count_t mass)
{
    unsigned left = __ballot_sync(ALL_LANES, mass != 0);
    for (int i = 0; i < MERGED && left; i++) {
        const uint32_t common = __shfl_sync(ALL_LANES, bin, __ffs(int(left)) - 1);
        const bool mine = mass != 0 && bin == common;
        const count_t sum = warp_sum(mine ? mass : 0);
        if (threadIdx.x % WARP == 0)
            atomicAdd(&s->bin[common], sum);
        mass = mine ? 0 : mass;
        left = __ballot_sync(ALL_LANES, mass != 0);
    }
    if (mass)
        atomicAdd(&s->bin[bin], mass);
}

/* Limits x to the smallest set of the largest logits whose mass is at least `need`. The mass of a
 * token is 1 for top_k (COUNT) and its probability for top_p (WEIGHT). Of equal logits, those with
 * the lowest ids are kept. */
template <int W> DEVICE void narrow(row *x, weigh how, count_t need, scratch *s)
{
    uint32_t prefix = 0, known = 0;
    for (int shift = 32 - DIGIT; shift >= 0; shift -= DIGIT) {
        __syncthreads();
        for (int i = int(threadIdx.x); i < BINS; i += W * WARP)
            s->bin[i] = 0;
        __syncthreads();
        /* all lanes make the same number of steps */
        for (int64_t base = 0; base < x->v; base += W * WARP) {
            const int64_t j = base + threadIdx.x;
            const uint32_t key = j < x->v ? key_of(x->z[j]) : ~prefix;
            const bool there = j < x->v && (key & known) == prefix;
            add_to_bin(s, key >> shift & (BINS - 1), there ? mass_of(*x, how, 0, j) : 0);
        }
        __syncthreads();
        if (threadIdx.x < WARP)
            pick_digit(need, s);
        __syncthreads();
        need = s->need;
        prefix |= s->digit << shift;
        known |= uint32_t(BINS - 1) << shift;
    }
    /* `prefix` is now the key of the smallest logit that is kept. Of the ids with this logit, keep
     * the lowest ones, as many as are needed to reach the mass. */
    const uint32_t sign = prefix & 0x80000000u;
    const float z = __uint_as_float(sign ? prefix & 0x7fffffffu : ~prefix);
    count_t each = 1;
    if (how == WEIGHT)
        each = count_t(expf((z - x->best) / x->temperature) * 0x1p40f);
    const int64_t last = find<W>(*x, TIES, prefix, (need + each - 1) / each, s);
    x->key = prefix;
    x->last = last;
}

template <int W> DEVICE count_t total_mass(const row &x, scratch *s)
{
    count_t sum = 0;
    for (int64_t j = threadIdx.x; j < x.v; j += W * WARP)
        sum += mass_of(x, WEIGHT, 0, j);
    return block_sum<W>(sum, s->part);
}

template <int W> DEVICE float block_best(const float *z, int64_t v, float *part)
{
    float best = -INFINITY;
    for (int64_t j = threadIdx.x; j < v; j += W * WARP)
        best = fmaxf(best, z[j]);
    best = warp_max(best);
    if (threadIdx.x % WARP == 0)
        part[threadIdx.x / WARP] = best;
    __syncthreads();
    for (int i = 0; i < W; i++)
        best = fmaxf(best, part[i]);
    return best;
}

template <int W>
static __global__ void __launch_bounds__(W *WARP)
    sample_kernel(int32_t *token, float *logp, float *logp_sampled, const float *logits,
                  const double *u, int64_t v, float temperature, int top_k, float top_p,
                  float min_p)
{
    wait_for_previous();
    __shared__ scratch s;
    const int64_t i = blockIdx.x;
    row x = {logits + i * v, v, 0.0f, temperature, 0.0f, 0, v};
    if (threadIdx.x == 0)
        s.found = 0; /* token that is drawn if all logits are NaN */
    x.best = block_best<W>(x.z, v, s.max);
    double drawn = 0.0;
    int64_t id;
    if (temperature > 0.0f) {
        if (top_k > 0 && top_k < v)
            narrow<W>(&x, COUNT, count_t(top_k), &s);
        if (top_p < 1.0f) {
            const count_t all = total_mass<W>(x, &s);
            const count_t part = count_t(ceil(double(top_p) * double(all)));
            if (all > 0)
                narrow<W>(&x, WEIGHT, part < 1 ? 1 : part < all ? part : all, &s);
        }
        x.min_p = min_p;
        const count_t all = total_mass<W>(x, &s);
        /* the smallest cumulative sum that exceeds u times the total */
        const count_t need = count_t(u[i] * double(all)) + 1;
        id = find<W>(x, WEIGHT, 0, need < all ? need : all, &s);
        drawn = (double(x.z[id]) - double(x.best)) / double(temperature) -
                (log(double(all)) - 40.0 * 0.69314718055994530942);
    } else {
        id = find<W>(x, TIES, key_of(x.best), 1, &s);
    }
    const double lse = block_lse<W>(x.z, v, s.lse);
    if (threadIdx.x > 0)
        return;
    token[i] = int32_t(id);
    logp[i] = float(double(x.z[id]) - lse);
    logp_sampled[i] = float(drawn);
}

static plumb_status sample_fwd(plumb_stream *s, int32_t *token, float *logp, float *logp_sampled,
                               const float *logits, const double *u,
                               const struct plumb_sample_param *p, float *work, int64_t n,
                               int64_t v)
{
    (void)work;
    if (n == 0)
        return PLUMB_OK;
    PLUMB_TRY(check_grid("sample_fwd", n, 1));
    VOCAB_LAUNCH_EARLY(sample_kernel, n, v, s, token, logp, logp_sampled, logits, u, v,
                       p->temperature, p->top_k, p->top_p, p->min_p);
    return launched("sample_fwd");
}

static __global__ void penalty_kernel(float *y, const float *x, const int32_t *seen, float penalty,
                                      int64_t n, int64_t v)
{
    wait_for_previous();
    const int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at >= n * v)
        return;
    const int64_t i = at / v, j = at % v, words = (v + 31) / 32;
    const float z = x[at], lower = z < 0.0f ? z * penalty : z / penalty;
    y[at] = uint32_t(seen[i * words + j / 32]) >> (j % 32) & 1 ? lower : z;
}

static plumb_status penalty_fwd(plumb_stream *s, float *y, const float *x, const int32_t *seen,
                                float penalty, int64_t n, int64_t v)
{
    constexpr int threads = 256;
    const int64_t blocks = ceil_div(n * v, threads);
    if (blocks == 0)
        return PLUMB_OK;
    PLUMB_TRY(check_grid("penalty_fwd", blocks, 1));
    PLUMB_LAUNCH_EARLY(penalty_kernel, unsigned(blocks), threads, 0, context_of(s), y, x, seen,
                       penalty, n, v);
    return launched("penalty_fwd");
}

void plumb_cuda_init_sample(struct plumb_kernels *t)
{
    t->sample_fwd = sample_fwd;
    t->penalty_fwd = penalty_fwd;
}
