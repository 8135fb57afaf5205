/* sample.c - reference implementation of sampling: draws one token per row of logits, and applies
 * the repetition penalty.
 * Layer 1 (ref). Includes kernels.h only. */
#include "kernels.h"

#include <math.h>

/* Returns whether id a is sorted before id b: larger logits z come first, equal logits are sorted
 * by ascending id. */
static int before_by_logit(const float *z, int32_t a, int32_t b)
{
    return z[a] > z[b] || (z[a] == z[b] && a < b);
}
static int before_by_id(const float *z, int32_t a, int32_t b)
{
    (void)z;
    return a < b;
}

static void sort(int32_t *id, int64_t n, const float *z,
                 int (*before)(const float *, int32_t, int32_t))
{
    for (int64_t start = n / 2, end = n; end > 1;) {
        if (start > 0) {
            start--;
        } else {
            end--;
            const int32_t last = id[end];
            id[end] = id[0];
            id[0] = last;
        }
        for (int64_t at = start, child; (child = 2 * at + 1) < end; at = child) {
            if (child + 1 < end && before(z, id[child], id[child + 1]))
                child++;
            if (!before(z, id[at], id[child]))
                break;
            const int32_t up = id[child];
            id[child] = id[at];
            id[at] = up;
        }
    }
}

/* Returns how many of the ids, sorted by descending logit, pass top_k, top_p and min_p. */
static int64_t keep_count(const float *z, const int32_t *id, int64_t v,
                          const struct plumb_sample_param *p)
{
    int64_t n = p->top_k > 0 && p->top_k < v ? p->top_k : v;
    if (p->top_p < 1.0f) {
        double total = 0.0, sum = 0.0;
        for (int64_t i = 0; i < n; i++)
            total += exp(((double)z[id[i]] - z[id[0]]) / p->temperature);
        int64_t m = 0;
        while (m < n && sum < p->top_p * total)
            sum += exp(((double)z[id[m++]] - z[id[0]]) / p->temperature);
        n = m > 1 ? m : 1;
    }
    while (n > 1 && exp(((double)z[id[n - 1]] - z[id[0]]) / p->temperature) < p->min_p)
        n--;
    return n;
}

int64_t plumb_ref_sample_work_count(int64_t n, int64_t v, int threads)
{
    (void)n, (void)threads;
    return v; /* the scratch memory holds the sorted ids of one row as int32 */
}

plumb_status plumb_ref_sample_fwd(plumb_stream *s, int32_t *token, float *logp, float *logp_sampled,
                                  const float *logits, const double *u,
                                  const struct plumb_sample_param *p, float *work, int64_t n,
                                  int64_t v)
{
    int32_t *id = (int32_t *)(void *)work;
    for (int64_t i = 0; i < n; i++) {
        const float *z = logits + i * v;
        for (int64_t j = 0; j < v; j++)
            id[j] = (int32_t)j;
        sort(id, v, z, before_by_logit);
        const int32_t best = id[0];
        token[i] = best;
        logp_sampled[i] = 0.0f;
        if (p->temperature > 0.0f) {
            const int64_t m = keep_count(z, id, v, p);
            double total = 0.0, sum = 0.0;
            sort(id, m, z, before_by_id);
            for (int64_t j = 0; j < m; j++)
                total += exp(((double)z[id[j]] - z[best]) / p->temperature);
            int64_t at = -1;
            do
                sum += exp(((double)z[id[++at]] - z[best]) / p->temperature);
            while (at + 1 < m && sum <= u[i] * total);
            token[i] = id[at];
            logp_sampled[i] = (float)(((double)z[id[at]] - z[best]) / p->temperature - log(total));
        }
        float lse;
        PLUMB_TRY(plumb_ref_logprob_fwd(s, logp + i, &lse, z, token + i, 1, v));
    }
    return PLUMB_OK;
}

plumb_status plumb_ref_penalty_fwd(plumb_stream *s, float *y, const float *x, const int32_t *seen,
                                   float penalty, int64_t n, int64_t v)
{
    (void)s;
    const int64_t words = (v + 31) / 32;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < v; j++) {
            const uint32_t word = (uint32_t)seen[i * words + j / 32];
            const float z = x[i * v + j], lower = z < 0.0f ? z * penalty : z / penalty;
            y[i * v + j] = word >> (j % 32) & 1 ? lower : z;
        }
    return PLUMB_OK;
}
