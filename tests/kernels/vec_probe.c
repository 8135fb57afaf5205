/* vec_probe.c - a function that runs every operation of cpu/vec.h. It is compiled once for each
 * instruction set.
 * Test. Includes cpu/vec.h. */
#include "cpu/vec.h"

#include "vec_probe.h"

#define PROBE_(isa) vec_probe_##isa
#define PROBE(isa)  PROBE_(isa)

void PROBE(PLUMB_ISA)(float *out, const float *x, const float *y, const float *z, int n)
{
    const v16 a = v16_load(x), b = v16_load(y), c = v16_load(z);
    const v16 result[] = {v16_add(a, b),         v16_sub(a, b),    v16_mul(a, b),
                          v16_div(a, b),         v16_sqrt(a),      v16_fma(a, b, c),
                          v16_max(a, b),         v16_min(a, b),    v16_exp(a),
                          v16_set1(v16_sum(a)),  v16_load_n(x, n), v16_load_fill(x, n, -7.5f),
                          v16_set1(v16_hmax(a)), v16_tanh(a)};
    for (int i = 0; i < VEC_PROBE_RESULTS; i++)
        v16_store(out + 16 * i, result[i]);
    v16_store_n(out + 16 * VEC_PROBE_RESULTS, a, n);
}
