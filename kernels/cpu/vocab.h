/* vocab.h - maximum and log-sum-exp of a row of logits, shared by the kernels that report a
 * log-prob. Layer 1, kernels/cpu only. Includes vec.h. */
#ifndef PLUMB_KERNELS_CPU_VOCAB_H
#define PLUMB_KERNELS_CPU_VOCAB_H

#include "cpu/vec.h"

VEC_FN v16 vocab_load(const float *z, int64_t left)
{
    return left >= 16 ? v16_load(z) : v16_load_fill(z, (int)left, -INFINITY);
}

/* Returns the largest element of z (v,). */
VEC_FN float vocab_max(const float *z, int64_t v)
{
    v16 m[4];
    for (int i = 0; i < 4; i++)
        m[i] = v16_set1(-INFINITY);
    int64_t j = 0;
    for (; j + 64 <= v; j += 64)
        for (int i = 0; i < 4; i++)
            m[i] = v16_max(m[i], v16_load(z + j + 16 * i));
    for (; j < v; j += 16)
        m[0] = v16_max(m[0], vocab_load(z + j, v - j));
    return v16_hmax(v16_max(v16_max(m[0], m[1]), v16_max(m[2], m[3])));
}

/* Returns log sum_j exp z_j in nats; max must be the largest z_j. Blocks of 4096 logits are summed
 * in four accumulators of 16 lanes; the block sums are added in double, so that large vocabularies
 * lose no accuracy. The order depends on v only. */
VEC_FN double vocab_lse(const float *z, int64_t v, float max)
{
    const v16 m = v16_set1(max);
    double total = 0.0;
    for (int64_t b = 0; b < v; b += 4096) {
        const int64_t end = v - b < 4096 ? v : b + 4096;
        v16 acc[4];
        for (int i = 0; i < 4; i++)
            acc[i] = v16_set1(0.0f);
        int64_t j = b;
        for (; j + 64 <= end; j += 64)
            for (int i = 0; i < 4; i++)
                acc[i] = v16_add(acc[i], v16_exp(v16_sub(v16_load(z + j + 16 * i), m)));
        for (; j < end; j += 16)
            acc[0] = v16_add(acc[0], v16_exp(v16_sub(vocab_load(z + j, end - j), m)));
        total += (double)v16_sum(v16_add(v16_add(acc[0], acc[1]), v16_add(acc[2], acc[3])));
    }
    return (double)max + log(total);
}

#endif
