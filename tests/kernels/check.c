/* check.c - buffers between guard bytes (canaries), kinds of input, and comparisons.
 * Test. */
#include "check.h"

#include <stdarg.h>
#include <string.h>

#include "base/num.h"

enum { CANARY = 64 };

static unsigned char *hold(struct check *c, int64_t bytes)
{
    CHECKF(c->n_held < (int)(sizeof(c->held) / sizeof(*c->held)), "%s", c->at);
    unsigned char *m = aligned_alloc(64, (size_t)((bytes + 2 * CANARY + 63) / 64 * 64));
    CHECK(m);
    memset(m, 0xA5, CANARY);
    memset(m + CANARY + bytes, 0xA5, CANARY);
    c->held[c->n_held++] = (struct held){m, NULL, bytes};
    return m + CANARY;
}

static float draw(struct check *c, enum kind kind, int64_t i, int64_t spike)
{
    const float x = rng_f(&c->r, -1.0f, 1.0f);
    switch (kind) {
    case ONES:
        return 1.0f;
    case TINY:
        return x * 1e-12f;
    case HUGE_VALUES:
        return x * c->huge;
    case ZERO:
        return 0.0f;
    case SPIKE:
        return i == spike ? c->huge : x * 0.01f;
    default:
        return x * 2.0f;
    }
}

float *check_inout(struct check *c, int64_t n, enum kind kind)
{
    float *x = (float *)(void *)hold(c, n * 4);
    const int64_t spike = (int64_t)(rng_u(&c->r) * (double)n);
    for (int64_t i = 0; i < n; i++) {
        x[i] = draw(c, kind, i, spike);
        if (c->narrow_in)
            x[i] = plumb_from_bf16(plumb_to_bf16(x[i]));
    }
    return x;
}

void check_freeze(struct check *c, const void *memory)
{
    for (int i = 0; i < c->n_held; i++) {
        struct held *h = &c->held[i];
        if (h->memory + CANARY != memory)
            continue;
        free(h->copy);
        h->copy = malloc((size_t)h->bytes + 1);
        CHECK(h->copy);
        memcpy(h->copy, memory, (size_t)h->bytes);
        return;
    }
    CHECKF(0, "not a buffer of this check");
}

float *check_in(struct check *c, int64_t n, enum kind kind)
{
    float *x = check_inout(c, n, kind);
    check_freeze(c, x);
    return x;
}

int32_t *check_index(struct check *c, int64_t n, int64_t end)
{
    int32_t *x = (int32_t *)(void *)hold(c, n * 4);
    for (int64_t i = 0; i < n; i++)
        x[i] = (int32_t)(rng_u(&c->r) * (double)end);
    check_freeze(c, x);
    return x;
}

float *check_out(struct check *c, int64_t n)
{
    float *x = (float *)(void *)hold(c, n * 4);
    for (int64_t i = 0; i < n; i++)
        x[i] = NAN;
    return x;
}

float *check_twin(struct check *c, const float *x, int64_t n)
{
    float *y = (float *)(void *)hold(c, n * 4);
    memcpy(y, x, (size_t)n * 4);
    return y;
}

void *check_bytes(struct check *c, int64_t bytes)
{
    return hold(c, bytes);
}

void check_done(struct check *c)
{
    for (int i = 0; i < c->n_held; i++) {
        struct held *h = &c->held[i];
        for (int j = 0; j < CANARY; j++) {
            CHECKF(h->memory[j] == 0xA5, "%s: buffer %d written %d bytes before", c->at, i,
                   CANARY - j);
            CHECKF(h->memory[CANARY + h->bytes + j] == 0xA5, "%s: buffer %d written past its end",
                   c->at, i);
        }
        CHECKF(!h->copy || memcmp(h->copy, h->memory + CANARY, (size_t)h->bytes) == 0,
               "%s: input %d was changed", c->at, i);
        free(h->copy);
        free(h->memory);
    }
    c->n_held = 0;
}

void check_at(struct check *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->at + c->at_len, sizeof(c->at) - (size_t)c->at_len, fmt, ap);
    va_end(ap);
}

void check_close(struct check *c, const char *name, const float *got, const float *want, int64_t n,
                 double rtol, double atol)
{
    double largest = c->floor;
    for (int64_t i = 0; i < n; i++)
        if (isfinite(want[i]) && fabs((double)want[i]) > largest)
            largest = fabs((double)want[i]);
    for (int64_t i = 0; i < n; i++) {
        const double d = fabs((double)got[i] - want[i]);
        const bool same = got[i] == want[i] || (isnan(got[i]) && isnan(want[i]));
        CHECKF(same || d <= rtol * fabs((double)want[i]) + atol * largest + 1e-37,
               "%s: %s[%lld] = %.9g, ref has %.9g (largest %.3g)", c->at, name, (long long)i,
               (double)got[i], (double)want[i], largest);
    }
}

void check_stored(struct check *c, const char *name, const float *got, const float *want, int64_t n,
                  double rtol, double atol)
{
    check_close(c, name, got, want, n, rtol + (c->narrow_out ? 0x1p-8 : 0.0), atol);
}

void check_round(struct check *c, float *x, int64_t n)
{
    for (int64_t i = 0; i < n && c->narrow_out; i++)
        x[i] = plumb_from_bf16(plumb_to_bf16(x[i]));
}

void check_same(struct check *c, const char *name, const void *a, const void *b, int64_t bytes)
{
    const unsigned char *x = a, *y = b;
    for (int64_t i = 0; i < bytes; i++)
        CHECKF(x[i] == y[i], "%s: %s differs at word %lld: %08x and %08x", c->at, name,
               (long long)(i / 4), ((const unsigned *)a)[i / 4], ((const unsigned *)b)[i / 4]);
}

void check_digest(struct check *c, const void *x, int64_t bytes)
{
    const unsigned char *p = x;
    for (int64_t i = 0; i < bytes; i++)
        c->digest = (c->digest ^ p[i]) * 0x100000001B3ull; /* the hash FNV-1a */
}
