/* test_vec.c - checks that the vector operations of cpu/vec.h give the same bits on every
 * instruction set, and compares exp and tanh with libm in double. Test. */
#include "harness.h"

#include <float.h>
#include <string.h>

#include "kernels.h"
#include "vec_probe.h"

enum { OUT = (VEC_PROBE_RESULTS + 1) * 16 };
enum { ADD, SUB, MUL, DIV, SQRT, FMA, MAX, MIN, EXP, SUM, LOAD_N, LOAD_FILL, HMAX, TANH, STORE_N };

static vec_probe_fn *probe_of(const char *isa)
{
    struct plumb_kernels t;
    if (!plumb_kernels_init_isa(&t, isa))
        return NULL;
#if defined(__x86_64__)
    if (strcmp(isa, "avx2") == 0)
        return vec_probe_avx2;
    if (strcmp(isa, "avx512") == 0)
        return vec_probe_avx512;
#endif
    return vec_probe_baseline;
}

/* Returns true if the bits of a and b are equal or both are NaN. The bits of a NaN depend on the
 * machine. */
static bool same(float a, float b)
{
    return memcmp(&a, &b, sizeof(a)) == 0 || (isnan(a) && isnan(b));
}

static float tree_sum(const float *x)
{
    float h[16];
    memcpy(h, x, sizeof(h));
    for (int w = 8; w >= 1; w /= 2)
        for (int i = 0; i < w; i++)
            h[i] += h[i + w];
    return h[0];
}

/* Returns a float between -20 and 20 if `tame`; else a float of random bits, which may be of any
 * kind. */
static float any_float(struct rng *r, bool tame)
{
    if (tame)
        return rng_f(r, -20.0f, 20.0f);
    const uint32_t bits = (uint32_t)(rng_u(r) * 65536) << 16 | (uint32_t)(rng_u(r) * 65536);
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

static void check_against_scalar(const char *isa, vec_probe_fn *probe)
{
    struct rng r = {7};
    for (int round = 0; round < 2000; round++) {
        float x[16], y[16], z[16], out[OUT];
        const int n = round % 17;
        const bool tame = round % 3 > 0;
        for (int i = 0; i < 16; i++)
            x[i] = any_float(&r, tame), y[i] = any_float(&r, tame), z[i] = any_float(&r, tame);
        for (int i = 0; i < OUT; i++)
            out[i] = 123.0f;
        probe(out, x, y, z, n);
        float largest = -INFINITY;
        for (int i = 0; i < 16; i++) {
            largest = x[i] > largest ? x[i] : largest;
            const float want[] = {[ADD] = x[i] + y[i],
                                  [SUB] = x[i] - y[i],
                                  [MUL] = x[i] * y[i],
                                  [DIV] = x[i] / y[i],
                                  [SQRT] = sqrtf(x[i]),
                                  [FMA] = fmaf(x[i], y[i], z[i]),
                                  [MAX] = x[i] > y[i] ? x[i] : y[i],
                                  [MIN] = x[i] < y[i] ? x[i] : y[i],
                                  [EXP] = out[16 * EXP + i],
                                  [SUM] = tree_sum(x),
                                  [LOAD_N] = i < n ? x[i] : 0.0f,
                                  [LOAD_FILL] = i < n ? x[i] : -7.5f,
                                  [HMAX] = out[16 * HMAX + i],
                                  [TANH] = out[16 * TANH + i],
                                  [STORE_N] = i < n ? x[i] : 123.0f};
            for (int q = 0; q <= VEC_PROBE_RESULTS; q++)
                CHECKF(same(out[16 * q + i], want[q]), "%s: result %d lane %d of %d: %a, not %a",
                       isa, q, i, n, out[16 * q + i], want[q]);
        }
        CHECKF(!tame || out[16 * HMAX] == largest, "%s: hmax %a, not %a", isa, out[16 * HMAX],
               largest);
    }
}

static float exp_of(vec_probe_fn *probe, float x)
{
    float a[16], out[OUT];
    for (int i = 0; i < 16; i++)
        a[i] = x;
    probe(out, a, a, a, 16);
    return out[16 * EXP];
}

static void check_exp(const char *isa, vec_probe_fn *probe)
{
    double most = 0;
    float x[16], out[OUT];
    for (int64_t k = 0; k < 1500000; k += 16) {
        for (int i = 0; i < 16; i++)
            x[i] = (float)(-105.0 + 194.5 * (double)(k + i) / 1500000.0);
        probe(out, x, x, x, 16);
        for (int i = 0; i < 16; i++) {
            const double want = exp((double)x[i]);
            const float got = out[16 * EXP + i], nearest = (float)want;
            if (isinf(nearest)) {
                CHECK(isinf(got));
                continue;
            }
            const double ulp = nearest < FLT_MIN
                                   ? 0x1p-149
                                   : (double)nextafterf(nearest, INFINITY) - (double)nearest;
            const double error = fabs((double)got - want) / ulp;
            CHECKF(error < 1.0, "%s: exp(%a) = %a, expected %a", isa, x[i], got, want);
            most = error > most ? error : most;
        }
    }
    printf("%s: exp within %.3f ulp\n", isa, most);
    CHECK(exp_of(probe, 0.0f) == 1.0f);
    CHECK(exp_of(probe, -0.0f) == 1.0f);
    CHECK(exp_of(probe, -INFINITY) == 0.0f);
    CHECK(exp_of(probe, -1e30f) == 0.0f);
    CHECK(exp_of(probe, INFINITY) == INFINITY);
    CHECK(exp_of(probe, 1e30f) == INFINITY);
    CHECK(isnan(exp_of(probe, NAN)));
    CHECK(isnan(exp_of(probe, -NAN)));
    CHECK(exp_of(probe, -100.0f) > 0.0f);
}

static float tanh_of(vec_probe_fn *probe, float x)
{
    float a[16], out[OUT];
    for (int i = 0; i < 16; i++)
        a[i] = x;
    probe(out, a, a, a, 16);
    return out[16 * TANH];
}

/* Checks tanh for arguments of both signs: small ones down to 1e-30, and large ones up to 12, where
 * tanh is 1. */
static void check_tanh(const char *isa, vec_probe_fn *probe)
{
    double most = 0;
    float x[16], out[OUT];
    for (int64_t k = 0; k < 400000; k += 16) {
        for (int i = 0; i < 16; i++) {
            const double t = (double)(k + i) / 400000.0;
            x[i] = (float)(k % 32 ? 24.0 * t - 12.0 : (i % 2 ? 1.0 : -1.0) * pow(10.0, -30.0 * t));
        }
        probe(out, x, x, x, 16);
        for (int i = 0; i < 16; i++) {
            const double want = tanh((double)x[i]);
            const float nearest = (float)fabs(want);
            const double ulp = (double)nextafterf(nearest, INFINITY) - (double)nearest;
            const double error = fabs((double)out[16 * TANH + i] - want) / ulp;
            CHECKF(error < 3.0, "%s: tanh(%a) = %a, expected %a", isa, x[i], out[16 * TANH + i],
                   want);
            most = error > most ? error : most;
        }
    }
    printf("%s: tanh within %.3f ulp\n", isa, most);
    CHECK(tanh_of(probe, 0.0f) == 0.0f);
    CHECK(tanh_of(probe, INFINITY) == 1.0f && tanh_of(probe, -INFINITY) == -1.0f);
    CHECK(tanh_of(probe, 1e30f) == 1.0f && tanh_of(probe, -1e30f) == -1.0f);
    CHECK(isnan(tanh_of(probe, NAN)));
}

static void check_same_bits(const char *isa, vec_probe_fn *probe, vec_probe_fn *first)
{
    struct rng r = {11};
    for (int round = 0; round < 4000; round++) {
        float x[16], out[OUT] = {0}, want[OUT] = {0};
        for (int i = 0; i < 16; i++)
            x[i] = any_float(&r, round % 2 > 0);
        probe(out, x, x, x, 16);
        first(want, x, x, x, 16);
        for (int i = 0; i < 16; i++)
            for (int q = EXP; q <= TANH; q += TANH - EXP)
                CHECKF(same(out[16 * q + i], want[16 * q + i]), "%s: %s(%a) = %a, baseline %a", isa,
                       q == EXP ? "exp" : "tanh", x[i], out[16 * q + i], want[16 * q + i]);
    }
}

int main(void)
{
    CHECK(probe_of("baseline"));
    CHECK(!probe_of("avx3"));
    for (int i = 0; plumb_kernels_isa[i]; i++) {
        vec_probe_fn *probe = probe_of(plumb_kernels_isa[i]);
        if (!probe) {
            printf("%s: not on this machine\n", plumb_kernels_isa[i]);
            continue;
        }
        check_against_scalar(plumb_kernels_isa[i], probe);
        check_exp(plumb_kernels_isa[i], probe);
        check_tanh(plumb_kernels_isa[i], probe);
        check_same_bits(plumb_kernels_isa[i], probe, vec_probe_baseline);
    }
    return 0;
}
