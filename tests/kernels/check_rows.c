/* check_rows.c - checks of the kernels that work on single rows or elements, such as norms,
 * activations and AdamW. Test. */
#include <string.h>

#include "base/rng.h"
#include "check.h"

static const int64_t rows_of[] = {1, 2, 7, 33}, columns_of[] = {1, 2, 15, 16, 17, 65, 130, 768};
static const int64_t counts[] = {1, 15, 16, 17, 1000, 70000};
#define EACH(i, list) for (size_t i = 0; i < sizeof(list) / sizeof(*(list)); i++)

void check_gather_fwd(struct check *c)
{
    EACH(a, rows_of) EACH(b, columns_of) for (int64_t m = 1; m < 12; m += 5)
    {
        const int64_t n = rows_of[a], w = columns_of[b];
        check_at(c, "n %lld c %lld m %lld", (long long)n, (long long)w, (long long)m);
        const float *x = check_in(c, m * w, RANDOM);
        const int32_t *index = check_index(c, n, m);
        float *y = check_out(c, n * w), *want = check_out(c, n * w);
        CHECK_OK(c->k.gather_fwd(c->s, y, x, index, n, w));
        CHECK_OK(c->ref.gather_fwd(NULL, want, x, index, n, w));
        for (int64_t i = 0; i < n; i++)
            check_same(c, "ref's row", want + i * w, x + index[i] * w, w * 4);
        check_round(c, want, n * w);
        check_same(c, "y", y, want, n * w * 4);
        check_done(c);
    }
}

void check_gather_bwd(struct check *c)
{
    EACH(a, rows_of) EACH(b, columns_of) for (int64_t m = 1; m < 12; m += 5)
    {
        const int64_t n = rows_of[a] * 20, w = columns_of[b];
        check_at(c, "n %lld c %lld m %lld", (long long)n, (long long)w, (long long)m);
        const float *dy = check_in(c, n * w, RANDOM);
        const int32_t *index = check_index(c, n, m);
        float *dx = check_inout(c, m * w, RANDOM), *want = check_twin(c, dx, m * w);
        CHECK_OK(c->k.gather_bwd(c->s, dx, dy, index, n, w, m));
        CHECK_OK(c->ref.gather_bwd(NULL, want, dy, index, n, w, m));
        check_round(c, want, m * w);
        /* the order of the sum is defined, so the bits must be equal */
        check_same(c, "dx", dx, want, m * w * 4);
        check_done(c);
    }
}

void check_move_rows(struct check *c)
{
    EACH(b, columns_of)
    for (int64_t n = 1; n < 8; n += 3)
        for (int64_t planes = 1; planes < 4; planes++) {
            const int64_t w = columns_of[b], m = 3 * n, stride = m * w + (planes > 2 ? 5 : 8);
            const int64_t all = (planes - 1) * stride + m * w;
            int32_t *pair = check_bytes(c, 2 * n * (int64_t)sizeof(*pair));
            /* pairs: from an even row of the first third to a row of the last third, backwards */
            for (int64_t i = 0; i < n; i++) {
                pair[2 * i] = (int32_t)(2 * (i / 2));
                pair[2 * i + 1] = (int32_t)(m - 1 - i);
            }
            check_freeze(c, pair);
            check_at(c, "n %lld c %lld planes %lld", (long long)n, (long long)w, (long long)planes);
            float *x = check_inout(c, all, RANDOM), *want = check_twin(c, x, all);
            CHECK_OK(c->k.move_rows(c->s, x, pair, n, w, planes, stride));
            CHECK_OK(c->ref.move_rows(NULL, want, pair, n, w, planes, stride));
            for (int64_t p = 0; p < planes; p++)
                for (int64_t i = 0; i < n; i++)
                    check_same(c, "ref's row", want + p * stride + pair[2 * i + 1] * w,
                               want + p * stride + pair[2 * i] * w, w * 4);
            check_round(c, want, all);
            check_same(c, "x", x, want, all * 4);
            check_done(c);
        }
}

void check_segment_mean_fwd(struct check *c)
{
    EACH(b, columns_of) for (int64_t g = 1; g < 9; g += 3)
    {
        const int64_t w = columns_of[b];
        int64_t *offset = check_bytes(c, (g + 1) * 8);
        offset[0] = 2;
        for (int64_t i = 0; i < g; i++)
            offset[i + 1] = offset[i] + (int64_t)(rng_u(&c->r) * 4.0);
        check_freeze(c, offset);
        check_at(c, "g %lld c %lld", (long long)g, (long long)w);
        const float *x = check_in(c, offset[g] * w, RANDOM);
        float *y = check_out(c, g * w), *want = check_out(c, g * w), *alone = check_out(c, w);
        CHECK_OK(c->k.segment_mean_fwd(c->s, y, x, offset, g, w));
        CHECK_OK(c->ref.segment_mean_fwd(NULL, want, x, offset, g, w));
        check_close(c, "y", y, want, g * w, 1e-6, 1e-6);
        for (int64_t i = 0; i < g; i++) {
            CHECK_OK(c->k.segment_mean_fwd(c->s, alone, x, offset + i, 1, w));
            check_same(c, "segment alone", alone, y + i * w, w * 4);
            for (int64_t j = 0; j < w; j++) {
                double sum = 0.0; /* computed here from the definition, which also checks ref */
                for (int64_t r = offset[i]; r < offset[i + 1]; r++)
                    sum += x[r * w + j];
                const double n = (double)(offset[i + 1] - offset[i]);
                const float mean = n > 0 ? (float)(sum / n) : 0.0f;
                check_close(c, "mean", y + i * w + j, &mean, 1, 1e-6, 0.0);
            }
        }
        check_digest(c, y, g * w * 4);
        check_done(c);
    }
}

void check_add_fwd(struct check *c)
{
    EACH(a, counts) for (int kind = 0; kind < KINDS; kind++)
    {
        const int64_t n = counts[a];
        check_at(c, "n %lld kind %d", (long long)n, kind);
        const float *x1 = check_in(c, n, (enum kind)kind), *x2 = check_in(c, n, RANDOM);
        float *y = check_out(c, n), *want = check_out(c, n), *in_place = check_twin(c, x2, n);
        CHECK_OK(c->k.add_fwd(c->s, y, x1, x2, n));
        CHECK_OK(c->ref.add_fwd(NULL, want, x1, x2, n));
        CHECK_OK(c->k.add_fwd(c->s, in_place, x1, in_place, n));
        CHECKF(want[n / 2] == x1[n / 2] + x2[n / 2], "%s", c->at);
        check_round(c, want, n);
        check_same(c, "y", y, want, n * 4);
        check_same(c, "y = b", in_place, want, n * 4);
        check_done(c);
    }
}

void check_scale_fwd(struct check *c)
{
    EACH(a, counts)
    {
        const int64_t n = counts[a];
        check_at(c, "n %lld", (long long)n);
        const float *x = check_in(c, n, RANDOM);
        float *y = check_out(c, n), *want = check_out(c, n), *in_place = check_twin(c, x, n);
        CHECK_OK(c->k.scale_fwd(c->s, y, x, 1.7f, n));
        CHECK_OK(c->k.scale_fwd(c->s, in_place, in_place, 1.7f, n));
        CHECK_OK(c->ref.scale_fwd(NULL, want, x, 1.7f, n));
        CHECKF(want[n / 2] == 1.7f * x[n / 2], "%s", c->at);
        check_round(c, want, n);
        check_same(c, "y", y, want, n * 4);
        check_same(c, "y = x", in_place, want, n * 4);
        check_done(c);
    }
}

void check_accumulate(struct check *c)
{
    EACH(a, counts)
    {
        const int64_t n = counts[a];
        check_at(c, "n %lld", (long long)n);
        const float *x = check_in(c, n, RANDOM), *before = check_in(c, n, RANDOM);
        float *y = check_twin(c, before, n), *want = check_twin(c, before, n);
        CHECK_OK(c->k.accumulate(c->s, y, x, n));
        CHECK_OK(c->ref.accumulate(NULL, want, x, n));
        check_same(c, "y", y, want, n * 4);
        CHECKF(y[n - 1] == before[n - 1] + x[n - 1], "%s", c->at);
        check_done(c);
    }
}

static void rmsnorm_alone(struct check *c, const float *y, const float *rstd, const float *x,
                          const float *w, int64_t n, int64_t width, float eps, float shift)
{
    float *alone = check_out(c, width), *r = check_out(c, 1);
    for (int64_t i = 0; i < n; i++) {
        CHECK_OK(c->k.rmsnorm_fwd(c->s, alone, r, x + i * width, w, 1, width, eps, shift));
        check_same(c, "row alone", alone, y + i * width, width * 4);
        check_same(c, "rstd alone", r, rstd + i, 4);
    }
}

void check_rmsnorm_fwd(struct check *c)
{
    c->huge = 1e12f;
    EACH(a, rows_of) EACH(b, columns_of) for (int kind = 0; kind < KINDS; kind++)
    {
        const int64_t n = rows_of[a], w = columns_of[b];
        const float eps = kind == TINY ? 1e-26f : 1e-5f, shift = a % 2 ? 1.0f : 0.0f;
        check_at(c, "n %lld c %lld kind %d", (long long)n, (long long)w, kind);
        const float *x = check_in(c, n * w, (enum kind)kind), *g = check_in(c, w, RANDOM);
        float *y = check_out(c, n * w), *rstd = check_out(c, n);
        float *want = check_out(c, n * w), *want_r = check_out(c, n);
        CHECK_OK(c->k.rmsnorm_fwd(c->s, y, rstd, x, g, n, w, eps, shift));
        CHECK_OK(c->ref.rmsnorm_fwd(NULL, want, want_r, x, g, n, w, eps, shift));
        check_stored(c, "y", y, want, n * w, 2e-6, 0.0);
        check_close(c, "rstd", rstd, want_r, n, 1e-6, 0.0);
        check_digest(c, y, n * w * 4);
        rmsnorm_alone(c, y, rstd, x, g, n, w, eps, shift);
        check_done(c);
    }
}

static void rmsnorm_bwd(struct check *c, int64_t n, int64_t w, float shift, enum kind kind)
{
    check_at(c, "n %lld c %lld kind %d", (long long)n, (long long)w, kind);
    const float *x = check_in(c, n * w, kind), *g = check_in(c, w, RANDOM);
    const float *dy = check_in(c, n * w, RANDOM);
    float *y = check_out(c, n * w), *rstd = check_out(c, n);
    CHECK_OK(c->ref.rmsnorm_fwd(NULL, y, rstd, x, g, n, w, 1e-5f, shift));
    check_freeze(c, rstd);
    float *dx = check_inout(c, n * w, RANDOM), *want = check_twin(c, dx, n * w);
    float *dw = check_inout(c, w, RANDOM), *want_w = check_twin(c, dw, w);
    CHECK_OK(c->k.rmsnorm_bwd(c->s, dx, dw, dy, x, g, rstd, n, w, shift));
    CHECK_OK(c->ref.rmsnorm_bwd(NULL, want, want_w, dy, x, g, rstd, n, w, shift));
    check_stored(c, "dx", dx, want, n * w, 1e-5, 2e-6);
    c->floor = 1.0; /* terms of size 1 may cancel; one of them is the old value of dw */
    check_close(c, "dw", dw, want_w, w, 1e-5, 2e-6);
    c->floor = 0.0;
    check_digest(c, dx, n * w * 4);
    check_digest(c, dw, w * 4);
    check_done(c);
}

void check_rmsnorm_bwd(struct check *c)
{
    /* so many rows that a kernel may divide the sums over them into parts */
    static const int64_t many[][2] = {{257, 130}, {777, 17}, {1500, 16}};
    EACH(a, rows_of)
    EACH(b, columns_of)
    for (int kind = 0; kind < KINDS; kind++)
        rmsnorm_bwd(c, rows_of[a], columns_of[b], a % 2 ? 1.0f : 0.0f, (enum kind)kind);
    EACH(a, many)
    for (int kind = 0; kind < KINDS; kind++)
        rmsnorm_bwd(c, many[a][0], many[a][1], 1.0f, (enum kind)kind);
}

void check_layernorm_fwd(struct check *c)
{
    c->huge = 1e12f;
    EACH(a, rows_of) EACH(b, columns_of) for (int kind = 0; kind < KINDS; kind++)
    {
        const int64_t n = rows_of[a], w = columns_of[b];
        /* The variance of a row of equal values is 0, so eps alone decides its reciprocal standard
         * deviation. */
        const float eps = kind == TINY ? 1e-26f : kind == ONES ? 1e-2f : 1e-5f;
        check_at(c, "n %lld c %lld kind %d", (long long)n, (long long)w, kind);
        const float *x = check_in(c, n * w, (enum kind)kind);
        const float *g = check_in(c, w, RANDOM), *bias = check_in(c, w, RANDOM);
        float *y = check_out(c, n * w), *mean = check_out(c, n), *rstd = check_out(c, n);
        float *want = check_out(c, n * w), *want_m = check_out(c, n), *want_r = check_out(c, n);
        float *alone = check_out(c, w), *m = check_out(c, 1), *r = check_out(c, 1);
        CHECK_OK(c->k.layernorm_fwd(c->s, y, mean, rstd, x, g, bias, n, w, eps));
        CHECK_OK(c->ref.layernorm_fwd(NULL, want, want_m, want_r, x, g, bias, n, w, eps));
        check_stored(c, "y", y, want, n * w, 2e-6, 2e-6);
        check_close(c, "mean", mean, want_m, n, 1e-6, 2e-6);
        check_close(c, "rstd", rstd, want_r, n, 2e-6, 0.0);
        check_digest(c, y, n * w * 4);
        for (int64_t i = 0; i < n; i++) {
            CHECK_OK(c->k.layernorm_fwd(c->s, alone, m, r, x + i * w, g, bias, 1, w, eps));
            check_same(c, "row alone", alone, y + i * w, w * 4);
            check_same(c, "mean alone", m, mean + i, 4);
            check_same(c, "rstd alone", r, rstd + i, 4);
        }
        check_done(c);
    }
}

void check_layernorm_bwd(struct check *c)
{
    EACH(a, rows_of) EACH(b, columns_of) for (int kind = 0; kind < KINDS; kind++)
    {
        const int64_t n = rows_of[a], w = columns_of[b];
        check_at(c, "n %lld c %lld kind %d", (long long)n, (long long)w, kind);
        const float *x = check_in(c, n * w, (enum kind)kind);
        const float *g = check_in(c, w, RANDOM), *dy = check_in(c, n * w, RANDOM);
        float *y = check_out(c, n * w), *mean = check_out(c, n), *rstd = check_out(c, n);
        CHECK_OK(c->ref.layernorm_fwd(NULL, y, mean, rstd, x, g, g, n, w, 1e-2f));
        check_freeze(c, mean);
        check_freeze(c, rstd);
        float *dx = check_inout(c, n * w, RANDOM), *want = check_twin(c, dx, n * w);
        float *dw = check_inout(c, w, RANDOM), *want_w = check_twin(c, dw, w);
        float *db = check_inout(c, w, RANDOM), *want_b = check_twin(c, db, w);
        CHECK_OK(c->k.layernorm_bwd(c->s, dx, dw, db, dy, x, g, mean, rstd, n, w));
        CHECK_OK(c->ref.layernorm_bwd(NULL, want, want_w, want_b, dy, x, g, mean, rstd, n, w));
        check_stored(c, "dx", dx, want, n * w, 1e-5, 5e-6);
        check_close(c, "dw", dw, want_w, w, 1e-5, 5e-6);
        check_close(c, "dbias", db, want_b, w, 1e-5, 2e-6);
        check_digest(c, dx, n * w * 4);
        check_digest(c, dw, w * 4);
        check_digest(c, db, w * 4);
        check_done(c);
    }
}

static void check_rope(struct check *c, plumb_rope_fwd_fn *k, plumb_rope_fwd_fn *ref)
{
    static const int64_t size[] = {2, 4, 14, 16, 34, 64, 130};
    EACH(a, rows_of) EACH(b, size) for (int64_t h = 1; h < 4; h += 2)
    {
        const int64_t n = rows_of[a], d = size[b], r = h == 1 ? d : size[b / 2];
        check_at(c, "n %lld h %lld d %lld r %lld", (long long)n, (long long)h, (long long)d,
                 (long long)r);
        const float *table = check_in(c, 40 * r, RANDOM);
        const int32_t *pos = check_index(c, n, 40);
        const float *before = check_in(c, n * h * d, RANDOM);
        float *x = check_twin(c, before, n * h * d), *want = check_twin(c, before, n * h * d);
        CHECK_OK(k(c->s, x, table, pos, n, h, d, r));
        CHECK_OK(ref(NULL, want, table, pos, n, h, d, r));
        check_stored(c, "x", x, want, n * h * d, 1e-6, 1e-6);
        check_digest(c, x, n * h * d * 4);
        for (int64_t i = 0; i < n * h; i++)
            check_same(c, "other columns", x + i * d + r, before + i * d + r, (d - r) * 4);
        float *alone = check_twin(c, before, n * h * d);
        for (int64_t i = n - 1; i >= 0; i--)
            CHECK_OK(k(c->s, alone + i * h * d, table, pos + i, 1, h, d, r));
        check_same(c, "rows alone", alone, x, n * h * d * 4);
        check_done(c);
    }
}

void check_rope_fwd(struct check *c)
{
    check_rope(c, c->k.rope_fwd, c->ref.rope_fwd);
    /* Checks which elements form a pair: with d = 4, cos 0 and sin 1, (1,2,3,4) becomes
     * (-3,-4,1,2). */
    float x[4] = {1, 2, 3, 4};
    const float table[4] = {0, 0, 1, 1}, want[4] = {-3, -4, 1, 2};
    const int32_t pos = 0;
    CHECK_OK(c->k.rope_fwd(c->s, x, table, &pos, 1, 1, 4, 4));
    check_same(c, "quarter turn", x, want, sizeof(x));
}

void check_rope_bwd(struct check *c)
{
    check_rope(c, c->k.rope_bwd, c->ref.rope_bwd);
}

/* Numbers of the cases: 2a is activation a, 2a + 1 is the gated form of activation a. */
enum { FORMS = 2 * (PLUMB_ACT_GELU_TANH + 1) };

void check_act_fwd(struct check *c)
{
    c->huge = 80.0f;
    EACH(a, counts) for (int at = 0; at < KINDS * FORMS; at++)
    {
        const int kind = at % KINDS, form = at / KINDS;
        const int64_t n = counts[a];
        const enum plumb_activation act = (enum plumb_activation)(form / 2);
        check_at(c, "n %lld kind %d form %d", (long long)n, kind, form);
        const float *g = check_in(c, n, (enum kind)kind);
        const float *u = form % 2 ? check_in(c, n, RANDOM) : NULL;
        float *y = check_out(c, n), *want = check_out(c, n), *alone = check_out(c, n);
        CHECK_OK(c->k.act_fwd(c->s, y, g, u, n, act));
        CHECK_OK(c->ref.act_fwd(NULL, want, g, u, n, act));
        /* For inputs far below 0, GELU is tiny and its relative error large, so there is an
         * absolute tolerance. */
        const bool silu = act == PLUMB_ACT_SILU;
        check_stored(c, "y", y, want, n, silu ? 1e-6 : 2e-6, silu ? 0.0 : 1e-9);
        check_digest(c, y, n * 4);
        for (int64_t i = 0; i < n; i += i < 40 ? 1 : 997)
            CHECK_OK(c->k.act_fwd(c->s, alone + i, g + i, u ? u + i : NULL, 1, act));
        for (int64_t i = 0; i < n; i += i < 40 ? 1 : 997)
            check_same(c, "alone", alone + i, y + i, 4);
        check_done(c);
    }
}

void check_act_bwd(struct check *c)
{
    c->huge = 60.0f;
    EACH(a, counts) for (int at = 0; at < KINDS * FORMS; at++)
    {
        const int kind = at % KINDS, form = at / KINDS;
        const int64_t n = counts[a];
        const bool gated = form % 2;
        const enum plumb_activation act = (enum plumb_activation)(form / 2);
        check_at(c, "n %lld kind %d form %d", (long long)n, kind, form);
        const float *g = check_in(c, n, (enum kind)kind);
        const float *u = gated ? check_in(c, n, RANDOM) : NULL;
        const float *dy = check_in(c, n, RANDOM);
        float *dg = check_out(c, n), *du = gated ? check_out(c, n) : NULL;
        float *want_g = check_out(c, n), *want_u = gated ? check_out(c, n) : NULL;
        float *same_g = check_twin(c, g, n), *same_u = gated ? check_twin(c, u, n) : NULL;
        CHECK_OK(c->k.act_bwd(c->s, dg, du, dy, g, u, n, act));
        CHECK_OK(c->ref.act_bwd(NULL, want_g, want_u, dy, g, u, n, act));
        CHECK_OK(c->k.act_bwd(c->s, same_g, same_u, dy, same_g, same_u, n, act));
        check_stored(c, "dgate", dg, want_g, n, 1e-5, 1e-6);
        check_same(c, "dgate in place", same_g, dg, n * 4);
        check_digest(c, dg, n * 4);
        if (gated) {
            check_stored(c, "dup", du, want_u, n, act == PLUMB_ACT_SILU ? 1e-6 : 2e-6, 1e-9);
            check_same(c, "dup in place", same_u, du, n * 4);
            check_digest(c, du, n * 4);
        }
        check_done(c);
    }
}

void check_sumsq(struct check *c)
{
    static const int64_t block[] = {1, 7, 16, 100, 4096};
    c->huge = 1e15f;
    EACH(a, counts) EACH(b, block) for (int kind = 0; kind < KINDS; kind++)
    {
        const int64_t n = counts[a], size = block[b], blocks = (n + size - 1) / size;
        check_at(c, "n %lld block %lld kind %d", (long long)n, (long long)size, kind);
        const float *x = check_in(c, n, (enum kind)kind);
        double *out = check_bytes(c, blocks * 8), *want = check_bytes(c, blocks * 8);
        memset(out, 0xff, (size_t)blocks * 8);
        CHECK_OK(c->k.sumsq(c->s, out, x, n, size));
        CHECK_OK(c->ref.sumsq(NULL, want, x, n, size));
        for (int64_t i = 0; i < blocks; i++)
            CHECKF(fabs(out[i] - want[i]) <= 1e-13 * want[i], "%s: block %lld %g %g", c->at,
                   (long long)i, out[i], want[i]);
        check_digest(c, out, blocks * 8);
        check_done(c);
    }
}

/* Checks that every bit of the normal numbers is that of the formula on the host, for keys that
 * differ in every field. */
void check_normal(struct check *c)
{
    EACH(a, counts)
    {
        const int64_t n = counts[a];
        const struct plumb_rng_key key = {
            .seed = 77 + a, .purpose = PLUMB_RNG_INIT, .prompt = 5 * a, .iteration = (uint32_t)a};
        check_at(c, "n %lld", (long long)n);
        float *w = check_out(c, n), *want = check_out(c, n);
        CHECK_OK(c->k.normal(c->s, w, n, 0.02, &key));
        CHECK_OK(c->ref.normal(NULL, want, n, 0.02, &key));
        check_same(c, "w", w, want, n * 4);
        for (int64_t i = 0; i < n; i += 97) {
            struct plumb_rng_key one = key;
            one.position = (uint32_t)i;
            CHECKF(w[i] == (float)(0.02 * plumb_rng_normal(&one)), "%s: number %lld", c->at,
                   (long long)i);
        }
        check_digest(c, w, n * 4);
        check_done(c);
    }
}

static uint64_t hash_of(struct check *c, const float *x, int64_t n)
{
    uint64_t *out = check_bytes(c, (n + PLUMB_HASH_BLOCK - 1) / PLUMB_HASH_BLOCK * 8);
    CHECK_OK(c->k.hash_blocks(c->s, out, x, n));
    return out[0];
}

/* Checks the hashes against ref. Checks that a changed sign and two exchanged values change the
 * hash. */
void check_hash_blocks(struct check *c)
{
    static const int64_t count[] = {1, 2, 31, 32, 33, 63, 64, 100, 4095, 4096, 4097, 12345};
    EACH(a, count) for (int kind = 0; kind < KINDS; kind++)
    {
        const int64_t n = count[a], blocks = (n + PLUMB_HASH_BLOCK - 1) / PLUMB_HASH_BLOCK;
        check_at(c, "n %lld kind %d", (long long)n, kind);
        const float *x = check_in(c, n, (enum kind)kind);
        uint64_t *out = check_bytes(c, blocks * 8), *want = check_bytes(c, blocks * 8);
        memset(out, 0xff, (size_t)blocks * 8);
        CHECK_OK(c->k.hash_blocks(c->s, out, x, n));
        CHECK_OK(c->ref.hash_blocks(NULL, want, x, n));
        check_same(c, "hashes", out, want, blocks * 8);
        check_digest(c, out, blocks * 8);
        float *y = check_twin(c, x, n);
        const int64_t i = n < PLUMB_HASH_BLOCK ? n - 1 : PLUMB_HASH_BLOCK - 1, j = i / 2;
        const float was = y[i];
        y[i] = -was;
        CHECKF(hash_of(c, y, n) != out[0], "%s: a sign", c->at);
        y[i] = was;
        y[j] = y[i];
        y[i] = x[j];
        if (memcmp(&x[i], &x[j], 4) != 0)
            CHECKF(hash_of(c, y, n) != out[0], "%s: swapped", c->at);
        check_done(c);
    }
    /* The numbers 1 .. 40. The expected hash is from a Python program of the definition. */
    float golden[40];
    for (int i = 0; i < 40; i++)
        golden[i] = (float)(i + 1);
    CHECK(hash_of(c, golden, 40) == 0x274FE3EBA615799Cull);
}

void check_adamw(struct check *c)
{
    static const struct plumb_adamw p = {3e-3f, 0.9f, 0.95f, 1e-8f, 0.1f, 0.271f, 0.0975f, 0.7f};
    EACH(a, counts) for (int kind = 0; kind < KINDS; kind++)
    {
        const int64_t n = counts[a];
        check_at(c, "n %lld kind %d", (long long)n, kind);
        const float *g = check_in(c, n, (enum kind)kind);
        float *w = check_inout(c, n, RANDOM), *m = check_inout(c, n, RANDOM);
        float *v = check_inout(c, n, RANDOM);
        for (int64_t i = 0; i < n; i++)
            v[i] = v[i] * v[i];
        float *want_w = check_twin(c, w, n), *want_m = check_twin(c, m, n);
        float *want_v = check_twin(c, v, n);
        CHECK_OK(c->k.adamw(c->s, w, m, v, g, n, &p));
        CHECK_OK(c->ref.adamw(NULL, want_w, want_m, want_v, g, n, &p));
        check_close(c, "m", m, want_m, n, 1e-6, 1e-7);
        check_close(c, "v", v, want_v, n, 1e-6, 0.0);
        check_close(c, "w", w, want_w, n, 1e-6, 1e-6);
        check_digest(c, w, n * 4);
        check_done(c);
    }
    /* Computed by hand: with w = 1, g = 2, lr = 0.1, eps = 0 and no weight decay, each of the two
     * steps subtracts lr. */
    float w = 1.0f, m = 0.0f, v = 0.0f, g = 2.0f;
    for (int step = 1; step <= 2; step++) {
        const struct plumb_adamw q = {.lr = 0.1f,
                                      .beta1 = 0.5f,
                                      .beta2 = 0.75f,
                                      .grad_scale = 1.0f,
                                      .correction1 = 1.0f - powf(0.5f, (float)step),
                                      .correction2 = 1.0f - powf(0.75f, (float)step)};
        CHECK_OK(c->k.adamw(c->s, &w, &m, &v, &g, 1, &q));
    }
    CHECKF(fabsf(w - 0.8f) < 1e-6f, "w %g", (double)w);
}
