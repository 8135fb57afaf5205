/* sample.c - draws one token per row of logits, vectorised.
 * Layer 1 (cpu). Includes vocab.h, split.h. */
#include "cpu/split.h"
#include "cpu/vocab.h"

/* Sampling first adds the weights (unnormalised probabilities) of blocks of BLOCK tokens to find
 * the block of the drawn token, then searches that block. */
enum { BLOCK = 512 };
/* top_k and top_p first sort the tokens into BINS bins by the distance of their logit from the
 * largest logit, divided by the temperature, in steps of 1/64 nat. The last bin has no upper limit.
 */
enum { BINS = 2048, BINS_PER_NAT = 64 };

struct job {
    int32_t *token;
    float *logp, *logp_sampled;
    const float *z;
    const double *u;
    const struct plumb_sample_param *p;
    float *work;
    int64_t v, work_count; /* work_count: floats of scratch memory per thread */
};

static void heap_sort(uint64_t *x, int64_t n)
{
    for (int64_t start = n / 2, end = n; end > 1;) {
        if (start > 0) {
            start--;
        } else {
            end--;
            const uint64_t last = x[end];
            x[end] = x[0];
            x[0] = last;
        }
        const uint64_t moved = x[start];
        int64_t at = start;
        for (int64_t child; (child = 2 * at + 1) < end; at = child) {
            child += child + 1 < end && x[child] < x[child + 1];
            if (x[child] <= moved)
                break;
            x[at] = x[child];
        }
        x[at] = moved;
    }
}

/* Returns a sort key: ascending keys mean descending logits, and equal logits are in ascending
 * id. */
static uint64_t key_of(float z, int64_t id)
{
    /* adding 0 turns -0 into +0, so that both have the same sort key */
    const float positive = z + 0.0f;
    uint32_t bits;
    memcpy(&bits, &positive, sizeof(bits));
    bits ^= bits >> 31 ? 0xffffffffu : 0x80000000u;
    return (uint64_t)~bits << 32 | (uint64_t)id;
}

static int bin_of(float z, float max, float inverse)
{
    const float at = (max - z) * inverse * BINS_PER_NAT;
    return at < BINS - 1 ? (int)at : BINS - 1;
}

/* Returns the sum of n weights: each lane adds its own weights, then the lanes are added. The
 * weights must be 0 from n up to the next multiple of 16. */
static double block_sum(const float *e, int64_t n)
{
    v16 sum = v16_set1(0.0f);
    for (int64_t j = 0; j < n; j += 16)
        sum = v16_add(sum, v16_load(e + j));
    return (double)v16_sum(sum);
}

static double sum_blocks(const float *e, int64_t v)
{
    double total = 0.0;
    for (int64_t b = 0; b < v; b += BLOCK)
        total += block_sum(e + b, plumb_min_i64(v - b, BLOCK));
    return total;
}

/* Computes e[j] = exp((z[j] - max)/T) and returns their sum. inverse is 1/T, T the temperature. */
static double weigh(float *e, const float *z, int64_t v, float max, float inverse)
{
    const v16 m = v16_set1(max), it = v16_set1(inverse);
    for (int64_t j = 0; j < v; j += 16)
        v16_store(e + j, v16_exp(v16_mul(v16_sub(vocab_load(z + j, v - j), m), it)));
    return sum_blocks(e, v);
}

/* Returns the first id whose cumulative weight exceeds u times the total. First finds the block of
 * this id by the block sums (block_sum), then searches the block with a running sum. The running
 * sum is rounded differently from the block sum, so the limit is rescaled by the ratio of the two
 * totals; otherwise the last id of the block could be drawn too often. */
static int32_t find(const float *e, int64_t v, double u, double total)
{
    double before = 0.0, lanes = 0.0;
    int64_t b = 0;
    for (;; b += BLOCK) {
        lanes = block_sum(e + b, plumb_min_i64(v - b, BLOCK));
        if (before + lanes > u * total || b + BLOCK >= v)
            break;
        before += lanes;
    }
    const int64_t end = plumb_min_i64(v, b + BLOCK);
    double all = 0.0, sum = 0.0;
    for (int64_t j = b; j < end; j++)
        all += (double)e[j];
    const double mark = (u * total - before) / lanes * all;
    int64_t last = b;
    for (int64_t j = b; j < end && !(sum > mark); j++)
        if (sum + (double)e[j] > sum) {
            sum += (double)e[j];
            last = j;
        }
    return (int32_t)last;
}

/* Returns a lower bound of the weights that a filter keeps, so that the caller can skip the many
 * smaller weights. `total` is the sum of all weights, `mass` the sum that top_p keeps.
 *   count > 0 (top_k): the vocabulary is divided into `count` groups of adjacent ids. The bound is
 *              the smallest of the groups' maxima, because at least one weight of each group, so at
 *              least `count` weights, are not below it.
 *   count = 0 (top_p): the weights below (total - mass)/v sum up to less than total - mass, so the
 *              others sum up to at least `mass`. */
static float tail_below(const float *e, int64_t v, int64_t count, double mass, double total)
{
    if (count == 0)
        return (float)(0.99 * (total - mass) / (double)v);
    const int64_t width = v / count / 16 * 16;
    float least = 1.0f;
    for (int64_t g = 0; g < count && width > 0; g++) {
        v16 most = v16_set1(0.0f);
        for (int64_t j = 0; j < width; j += 16)
            most = v16_max(most, v16_load(e + g * width + j));
        least = fminf(least, v16_hmax(most));
    }
    /* Tokens are ordered by logit, and exp may be non-monotonic in its last bit: a larger logit
     * may have a slightly smaller weight. The factor lowers the bound by more than that. */
    return width > 0 ? 0.999999f * least : 0.0f;
}

static float weight_of(const float *e, uint64_t key)
{
    return e[key & 0xffffffffu];
}

/* Keeps the largest logits: `count` of them if count > 0, else as many as needed for their weights
 * to sum up to `mass`. Sets the weights of all others to 0. Sorts only the bin (see BINS) that
 * contains the smallest kept logit. */
static void keep_largest(uint64_t *key, float *e, const float *z, int64_t v, float max,
                         float inverse, int64_t count, double mass, double total)
{
    int32_t bin_count[BINS] = {0};
    double bin_mass[BINS] = {0};
    const bool by_count = count > 0;
    const float tail = tail_below(e, v, count, mass, total);
    int64_t all = 0, n = 0, m = 0;
    for (int64_t j = 0; j < v; j++)
        if (e[j] >= tail && e[j] > 0.0f) {
            const int bin = bin_of(z[j], max, inverse);
            bin_count[bin]++;
            bin_mass[bin] += (double)e[j];
            key[all++] = key_of(z[j], j);
        }
    int border = 0;
    for (; border < BINS - 1; border++) {
        if (by_count ? bin_count[border] >= count : bin_mass[border] >= mass)
            break;
        count -= bin_count[border];
        mass -= bin_mass[border];
    }
    for (int64_t i = 0; i < all; i++)
        if (bin_of(z[key[i] & 0xffffffffu], max, inverse) == border)
            key[n++] = key[i];
    heap_sort(key, n);
    if (by_count)
        m = plumb_min_i64(count, n);
    else
        for (double sum = 0.0; m < n && sum < mass; m++)
            sum += (double)weight_of(e, key[m]);
    /* m is the number of kept tokens in bin `border`, the one with the smallest kept logit. If the
     * bins before it already have the mass, because of rounding, m is 0 and only those bins are
     * kept. */
    const uint64_t last = m > 0 ? key[m - 1] : 0;
    for (int64_t j = 0; j < v; j++) {
        if (e[j] >= tail && e[j] > 0.0f) {
            const int bin = bin_of(z[j], max, inverse);
            if (bin < border || (bin == border && key_of(z[j], j) <= last))
                continue;
        }
        e[j] = 0.0f;
    }
}

/* Applies top_k, top_p and min_p to the weights e, whose sum is `total`. Returns the sum of the
 * remaining weights. */
static double filter(uint64_t *key, float *e, const float *z, int64_t v, float max, float inverse,
                     double total, const struct plumb_sample_param *p)
{
    if (p->top_k > 0 && p->top_k < v) {
        keep_largest(key, e, z, v, max, inverse, p->top_k, 0.0, total);
        total = sum_blocks(e, v);
    }
    if (p->top_p < 1.0f)
        keep_largest(key, e, z, v, max, inverse, 0, (double)p->top_p * total, total);
    for (int64_t j = 0; p->min_p > 0.0f && j < v; j++)
        e[j] = e[j] >= p->min_p ? e[j] : 0.0f;
    return sum_blocks(e, v);
}

static int32_t first_equal(const float *z, int64_t v, float max)
{
    for (int64_t j = 0; j < v; j++)
        if (z[j] == max)
            return (int32_t)j;
    return 0;
}

static void rows(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct job *b = arg;
    const struct plumb_sample_param *p = b->p;
    const int64_t v = b->v;
    uint64_t *key = (uint64_t *)(void *)(b->work + thread * b->work_count);
    float *e = b->work + thread * b->work_count + 2 * v;
    for (int64_t i = begin; i < end; i++) {
        const float *z = b->z + i * v, max = vocab_max(z, v);
        int32_t token = 0;
        b->logp_sampled[i] = 0.0f;
        if (p->temperature > 0.0f) {
            const float inverse = 1.0f / p->temperature;
            double total = weigh(e, z, v, max, inverse);
            if (p->top_k > 0 || p->top_p < 1.0f || p->min_p > 0.0f)
                total = filter(key, e, z, v, max, inverse, total, p);
            token = find(e, v, b->u[i], total);
            b->logp_sampled[i] = (float)(((double)z[token] - max) / p->temperature - log(total));
        } else {
            token = first_equal(z, v, max);
        }
        b->token[i] = token;
        b->logp[i] = (float)((double)z[token] - vocab_lse(z, v, max));
    }
}

static int64_t work_of_thread(int64_t v)
{
    /* in floats: 2 v for the 64-bit keys, v for the weights, 16 to pad the weights to full vectors
     */
    return plumb_ceil_div(3 * v + 16, 64) * 64;
}

int64_t PLUMB_CPU(sample_work_count)(int64_t n, int64_t v, int threads)
{
    (void)n;
    return threads * work_of_thread(v);
}

plumb_status PLUMB_CPU(sample_fwd)(plumb_stream *s, int32_t *token, float *logp,
                                   float *logp_sampled, const float *logits, const double *u,
                                   const struct plumb_sample_param *p, float *work, int64_t n,
                                   int64_t v)
{
    struct job b = {token, logp, logp_sampled, logits, u, p, work, v, work_of_thread(v)};
    split(s, n, 4 * v, rows, &b);
    return PLUMB_OK;
}
