/* check_linear.c - checks of the linear kernels with check.h. test_gemm.c has more cases.
 * Test. */
#include "check.h"

static const struct {
    int64_t n, out, in;
} size[] = {{1, 1, 1},    {19, 33, 17},  {5, 16, 64},   {13, 70, 31},
            {23, 1, 200}, {40, 97, 130}, {11, 734, 48}, {300, 40, 300}};
#define EACH(i, list) for (size_t i = 0; i < sizeof(list) / sizeof(*(list)); i++)

void check_linear_packed_count(struct check *c)
{
    EACH(i, size)
    CHECKF(c->k.linear_packed_count(size[i].out, size[i].in) >= size[i].out * size[i].in, "%s",
           c->at);
}

void check_linear_work_count(struct check *c)
{
    EACH(i, size)
    /* fewer rows must not need more work memory, because the last block of the head has fewer
     * rows */
    for (int64_t n = 1; n < size[i].n; n++)
        CHECKF(c->k.linear_work_count(n, size[i].out, size[i].in, c->threads) <=
                   c->k.linear_work_count(size[i].n, size[i].out, size[i].in, c->threads),
               "%s", c->at);
}

/* Checks that the rows of y (n,out), a product with x (n,in), have the same bits if they are
 * computed alone or in products that begin at a later row. */
static void fwd_places(struct check *c, const float *y, const float *x, const float *packed,
                       const float *bias, int64_t n, int64_t out, int64_t in)
{
    float *alone = check_out(c, out);
    for (int64_t r = 0; r < n; r += 1 + n / 5) {
        CHECK_OK(c->k.linear_fwd(c->s, alone, x + r * in, packed, bias, 1, out, in));
        check_same(c, "row alone", alone, y + r * out, out * 4);
    }
    for (int64_t r = 1; r < n; r = 2 * r + 1) {
        float *rest = check_out(c, (n - r) * out);
        CHECK_OK(c->k.linear_fwd(c->s, rest, x + r * in, packed, bias, n - r, out, in));
        check_same(c, "rows at other places", rest, y + r * out, (n - r) * out * 4);
    }
}

static void fwd(struct check *c, bool with_bias)
{
    EACH(i, size) for (int kind = 0; kind < KINDS; kind++)
    {
        const int64_t n = size[i].n, out = size[i].out, in = size[i].in;
        check_at(c, "n %lld out %lld in %lld kind %d", (long long)n, (long long)out, (long long)in,
                 kind);
        const float *x = check_in(c, n * in, (enum kind)kind), *w = check_in(c, out * in, RANDOM);
        const float *bias = with_bias ? check_in(c, out, RANDOM) : NULL;
        float *packed = check_out(c, c->k.linear_packed_count(out, in));
        float *ref_packed = check_out(c, c->ref.linear_packed_count(out, in));
        float *y = check_out(c, n * out), *want = check_out(c, n * out);
        CHECK_OK(c->k.linear_pack(c->s, packed, w, out, in));
        CHECK_OK(c->ref.linear_pack(NULL, ref_packed, w, out, in));
        CHECK_OK(c->k.linear_fwd(c->s, y, x, packed, bias, n, out, in));
        CHECK_OK(c->ref.linear_fwd(NULL, want, x, ref_packed, bias, n, out, in));
        check_stored(c, "y", y, want, n * out, 1e-5, 1e-5);
        check_digest(c, y, n * out * 4);
        fwd_places(c, y, x, packed, bias, n, out, in);
        check_done(c);
    }
}

void check_linear_pack(struct check *c)
{
    fwd(c, false);
}

void check_linear_fwd(struct check *c)
{
    fwd(c, true);
}

void check_linear_bwd_x(struct check *c)
{
    EACH(i, size) for (int accumulate = 0; accumulate < 2; accumulate++)
    {
        const int64_t n = size[i].n, out = size[i].out, in = size[i].in;
        check_at(c, "n %lld out %lld in %lld", (long long)n, (long long)out, (long long)in);
        const float *dy = check_in(c, n * out, RANDOM), *w = check_in(c, out * in, RANDOM);
        float *dx = accumulate ? check_inout(c, n * in, RANDOM) : check_out(c, n * in);
        float *want = check_twin(c, dx, n * in);
        float *work = check_out(c, c->k.linear_work_count(n, out, in, c->threads));
        float *ref_work = check_out(c, c->ref.linear_work_count(n, out, in, 1));
        CHECK_OK(c->k.linear_bwd_x(c->s, dx, dy, w, work, n, out, in, accumulate));
        CHECK_OK(c->ref.linear_bwd_x(NULL, want, dy, w, ref_work, n, out, in, accumulate));
        check_stored(c, "dx", dx, want, n * in, 1e-5, 1e-5);
        check_digest(c, dx, n * in * 4);
        check_done(c);
    }
}

void check_linear_bwd_w(struct check *c)
{
    EACH(i, size)
    {
        const int64_t n = size[i].n, out = size[i].out, in = size[i].in;
        check_at(c, "n %lld out %lld in %lld", (long long)n, (long long)out, (long long)in);
        const float *dy = check_in(c, n * out, RANDOM), *x = check_in(c, n * in, RANDOM);
        float *dw = check_inout(c, out * in, RANDOM), *want = check_twin(c, dw, out * in);
        float *db = check_inout(c, out, RANDOM), *want_b = check_twin(c, db, out);
        float *work = check_out(c, c->k.linear_work_count(n, out, in, c->threads));
        float *ref_work = check_out(c, c->ref.linear_work_count(n, out, in, 1));
        CHECK_OK(c->k.linear_bwd_w(c->s, dw, db, dy, x, work, n, out, in));
        CHECK_OK(c->ref.linear_bwd_w(NULL, want, want_b, dy, x, ref_work, n, out, in));
        check_close(c, "dw", dw, want, out * in, 1e-5, 1e-5);
        check_close(c, "dbias", db, want_b, out, 1e-5, 1e-5);
        check_digest(c, dw, out * in * 4);
        check_digest(c, db, out * 4);
        check_done(c);
    }
}
