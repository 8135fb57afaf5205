/* test_fused.c - checks bfloat16 kernels that do the work of several kernels, also on joined
 * projections (q, k, v in one matrix). They must give the same bits as the separate kernels, which
 * test_kernels_cuda.c compares with ref.
 * Test. */
#include <string.h>

#include "base/num.h"
#include "gpu.h"
#include "op/op.h"

#ifdef PLUMB_CUDA_EMU
#include <cuda_runtime_api.h>
static const unsigned seeds[] = {0, 1, 2};
#else
static void plumb_emu_seed(unsigned seed)
{
    (void)seed;
}
static const unsigned seeds[] = {0};
#endif

/* n elements of 2 or 4 bytes on the device. */
struct array {
    void *data;
    int64_t n, bytes;
};

static struct array take(struct plumb_backend *b, int64_t n, int64_t size)
{
    struct array a = {.n = n, .bytes = n * size};
    CHECK_OK(b->alloc(b, &a.data, a.bytes, "array"));
    return a;
}

/* Returns n random bfloat16 values of the given scale on the device. */
static struct array real_array(struct plumb_backend *b, struct rng *r, int64_t n, double scale)
{
    struct array a = take(b, n, 2);
    uint16_t *x = calloc((size_t)n, sizeof(*x));
    CHECK(x);
    for (int64_t i = 0; i < n; i++)
        x[i] = plumb_to_bf16((float)(scale * (rng_u(r) - 0.5)));
    CHECK_OK(b->to_device(b, a.data, x, a.bytes));
    free(x);
    return a;
}

static struct array float_array(struct plumb_backend *b, struct rng *r, int64_t n)
{
    struct array a = take(b, n, 4);
    float *x = calloc((size_t)n, sizeof(*x));
    CHECK(x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(2.0 * rng_u(r) - 1.0);
    CHECK_OK(b->to_device(b, a.data, x, a.bytes));
    free(x);
    return a;
}

static struct array twin(struct plumb_backend *b, const struct array *x)
{
    struct array a = take(b, x->bytes, 1);
    a.n = x->n;
    CHECK_OK(b->copy(b, a.data, x->data, x->bytes));
    return a;
}

static void same(struct plumb_backend *b, const char *what, const struct array *x,
                 const struct array *y)
{
    char *host = malloc((size_t)(2 * x->bytes));
    CHECK(host && x->bytes == y->bytes);
    CHECK_OK(b->to_host(b, host, x->data, x->bytes));
    CHECK_OK(b->to_host(b, host + x->bytes, y->data, y->bytes));
    CHECKF(memcmp(host, host + x->bytes, (size_t)x->bytes) == 0, "%s: other bits", what);
    free(host);
}

static void give(struct plumb_backend *b, struct array *a, int n)
{
    for (int i = 0; i < n; i++)
        b->release(b, a[i].data);
}

#define R(a, ...)                                                                                  \
    ((const struct plumb_tensor[1]){PLUMB_VIEW_(#a, PLUMB_BF16, (a).data, b->place, __VA_ARGS__)})
#define F(a, ...)                                                                                  \
    ((const struct plumb_tensor[1]){PLUMB_VIEW_(#a, PLUMB_F32, (a).data, b->place, __VA_ARGS__)})

static void test_add_rmsnorm(struct plumb_backend *b, struct rng *r, int64_t n, int64_t c)
{
    struct array a[] = {real_array(b, r, n * c, 3.0),
                        real_array(b, r, n * c, 0.4),
                        float_array(b, r, c),
                        take(b, n * c, 2),
                        take(b, n * c, 2),
                        take(b, n, 4),
                        take(b, n * c, 2),
                        take(b, n, 4)};
    const struct array *x1 = &a[0], *x2 = &a[1], *w = &a[2], *sum = &a[3], *y = &a[4];
    const struct array *rstd = &a[5], *want = &a[6], *want_rstd = &a[7];
    CHECK_OK(plumb_op_add_fwd(b, R(*sum, n, c), R(*x1, n, c), R(*x2, n, c)));
    CHECK_OK(plumb_op_rmsnorm_fwd(b, R(*want, n, c), F(*want_rstd, n), R(*sum, n, c), F(*w, c),
                                  1e-5f, 1.0f));
    CHECK_OK(plumb_op_add_rmsnorm_fwd(b, R(*x1, n, c), R(*y, n, c), F(*rstd, n), R(*x1, n, c),
                                      R(*x2, n, c), F(*w, c), 1e-5f, 1.0f));
    same(b, "sum", x1, sum);
    same(b, "norm", y, want);
    same(b, "rstd", rstd, want_rstd);
    give(b, a, 8);
}

static void test_rope_write(struct plumb_backend *b, struct rng *r, int64_t n, int64_t h,
                            int64_t hk, int64_t d, int64_t columns)
{
    enum { PAGES = 4, LONGEST = 2 * PLUMB_KV_PAGE };
    const int64_t all = PAGES * hk * d * PLUMB_KV_PAGE;
    int32_t seq[LONGEST], pos[LONGEST];
    const int32_t page[PAGES] = {2, 0, 3, 1};
    struct array a[] = {real_array(b, r, n * h * d, 2.0),
                        real_array(b, r, n * hk * d, 2.0),
                        real_array(b, r, n * hk * d, 2.0),
                        float_array(b, r, LONGEST * columns),
                        take(b, n, 4),
                        take(b, n, 4),
                        take(b, PAGES, 4),
                        real_array(b, r, all, 1.0),
                        real_array(b, r, all, 1.0)};
    struct array t[] = {twin(b, &a[0]), twin(b, &a[1]), twin(b, &a[7]), twin(b, &a[8])};
    for (int64_t i = 0; i < n; i++) {
        seq[i] = i < n / 2 ? 0 : 1;
        /* the second sequence crosses the end of a page */
        pos[i] = (int32_t)(i < n / 2 ? i : i - n / 2 + 30);
    }
    CHECK_OK(b->to_device(b, a[4].data, seq, a[4].bytes));
    CHECK_OK(b->to_device(b, a[5].data, pos, a[5].bytes));
    CHECK_OK(b->to_device(b, a[6].data, page, a[6].bytes));
    const struct plumb_rows rows = {n, 2, 2, a[4].data, a[5].data, a[6].data, 2};
    const struct plumb_tensor at = plumb_view_i32("pos", a[5].data, b->place, n);
    const struct plumb_tensor *table = F(a[3], LONGEST, columns), *v = R(a[2], n, hk, d);
    CHECK_OK(plumb_op_rope_write_fwd(b, R(a[0], n, h, d), R(a[7], PAGES, hk, d, PLUMB_KV_PAGE),
                                     R(a[8], PAGES, hk, PLUMB_KV_PAGE, d), R(a[1], n, hk, d), v,
                                     table, &at, &rows));
    CHECK_OK(plumb_op_rope_fwd(b, R(t[0], n, h, d), table, &at));
    CHECK_OK(plumb_op_rope_fwd(b, R(t[1], n, hk, d), table, &at));
    CHECK_OK(plumb_op_kv_write_fwd(b, R(t[2], PAGES, hk, d, PLUMB_KV_PAGE),
                                   R(t[3], PAGES, hk, PLUMB_KV_PAGE, d), R(t[1], n, hk, d), v,
                                   &rows));
    same(b, "q", &a[0], &t[0]);
    same(b, "key pages", &a[7], &t[2]);
    same(b, "value pages", &a[8], &t[3]);
    give(b, a, 9);
    give(b, t, 4);
}

/* Returns a copy of columns [at, at + c) of x (n,width). */
static struct array part_of(struct plumb_backend *b, const struct array *x, int64_t n, int64_t c,
                            int64_t at, int64_t width)
{
    struct array a = take(b, n * c, 2);
    uint16_t *host = malloc((size_t)x->bytes), *part = malloc((size_t)a.bytes + 1);
    CHECK(host && part && x->bytes == 2 * n * width);
    CHECK_OK(b->to_host(b, host, x->data, x->bytes));
    for (int64_t i = 0; i < n; i++)
        memcpy(part + i * c, host + i * width + at, (size_t)(2 * c));
    CHECK_OK(b->to_device(b, a.data, part, a.bytes));
    free(host);
    free(part);
    return a;
}

/* Checks the kernel that takes joined q, k and v, rotates q and k, and writes k and v to the store.
 * `columns` of the d columns of a head are rotated; none if it is 0. normed: q and k are normalised
 * first. */
static void qkv_write(struct plumb_backend *b, struct rng *r, int64_t n, int64_t h, int64_t hk,
                      int64_t d, int64_t columns, bool normed)
{
    enum { PAGES = 4, LONGEST = 2 * PLUMB_KV_PAGE };
    const int64_t all = PAGES * hk * d * PLUMB_KV_PAGE, width = (h + 2 * hk) * d;
    int32_t seq[LONGEST], pos[LONGEST];
    const int32_t page[PAGES] = {2, 0, 3, 1};
    struct array a[] = {real_array(b, r, n * width, 2.0),
                        take(b, n * h * d, 2),
                        take(b, n, 4),
                        take(b, n, 4),
                        take(b, PAGES, 4),
                        real_array(b, r, all, 1.0),
                        real_array(b, r, all, 1.0),
                        float_array(b, r, LONGEST * (columns ? columns : 1)),
                        take(b, n * h * d, 2),
                        take(b, n * hk * d, 2),
                        take(b, n * h, 4),
                        take(b, n * hk, 4),
                        float_array(b, r, d),
                        float_array(b, r, d)};
    const struct array *q0 = &a[8], *k0 = &a[9], *rstd_q = &a[10], *rstd_k = &a[11];
    const struct array *w_q = &a[12], *w_k = &a[13];
    const struct plumb_op_qk_norm norm = {R(*q0, n, h, d),
                                          R(*k0, n, hk, d),
                                          F(*rstd_q, n, h),
                                          F(*rstd_k, n, hk),
                                          F(*w_q, d),
                                          F(*w_k, d),
                                          1e-5f,
                                          1.0f};
    struct array t[] = {
        part_of(b, &a[0], n, h * d, 0, width), part_of(b, &a[0], n, hk * d, h * d, width),
        part_of(b, &a[0], n, hk * d, (h + hk) * d, width), twin(b, &a[5]), twin(b, &a[6])};
    for (int64_t i = 0; i < n; i++) {
        seq[i] = i < n / 2 ? 0 : 1;
        /* the second sequence crosses the end of a page */
        pos[i] = (int32_t)(i < n / 2 ? i : i - n / 2 + 30);
    }
    CHECK_OK(b->to_device(b, a[2].data, seq, a[2].bytes));
    CHECK_OK(b->to_device(b, a[3].data, pos, a[3].bytes));
    CHECK_OK(b->to_device(b, a[4].data, page, a[4].bytes));
    const struct plumb_rows rows = {n, 2, 2, a[2].data, a[3].data, a[4].data, 2};
    const struct plumb_tensor at = plumb_view_i32("pos", a[3].data, b->place, n);
    const struct plumb_tensor *table = columns ? F(a[7], LONGEST, columns) : NULL;
    CHECK_OK(plumb_op_qkv_write_fwd(b, R(a[1], n, h, d), R(a[5], PAGES, hk, d, PLUMB_KV_PAGE),
                                    R(a[6], PAGES, hk, PLUMB_KV_PAGE, d), R(a[0], n, h + 2 * hk, d),
                                    normed ? &norm : NULL, table, &rows));
    if (normed) {
        struct array x[] = {twin(b, &t[0]), twin(b, &t[1]), take(b, n * h, 4), take(b, n * hk, 4)};
        same(b, "q before the norm", q0, &x[0]);
        same(b, "k before the norm", k0, &x[1]);
        CHECK_OK(plumb_op_rmsnorm_fwd(b, R(t[0], n, h, d), F(x[2], n * h), R(x[0], n, h, d),
                                      F(*w_q, d), 1e-5f, 1.0f));
        CHECK_OK(plumb_op_rmsnorm_fwd(b, R(t[1], n, hk, d), F(x[3], n * hk), R(x[1], n, hk, d),
                                      F(*w_k, d), 1e-5f, 1.0f));
        same(b, "rstd of q", rstd_q, &x[2]);
        same(b, "rstd of k", rstd_k, &x[3]);
        give(b, x, 4);
    }
    if (columns) {
        CHECK_OK(plumb_op_rope_fwd(b, R(t[0], n, h, d), table, &at));
        CHECK_OK(plumb_op_rope_fwd(b, R(t[1], n, hk, d), table, &at));
    }
    CHECK_OK(plumb_op_kv_write_fwd(b, R(t[3], PAGES, hk, d, PLUMB_KV_PAGE),
                                   R(t[4], PAGES, hk, PLUMB_KV_PAGE, d), R(t[1], n, hk, d),
                                   R(t[2], n, hk, d), &rows));
    same(b, "q", &a[1], &t[0]);
    same(b, "key pages", &a[5], &t[3]);
    same(b, "value pages", &a[6], &t[4]);
    give(b, a, 14);
    give(b, t, 5);
}

static void test_qkv_write(struct plumb_backend *b, struct rng *r, int64_t n, int64_t h, int64_t hk,
                           int64_t d, int64_t columns)
{
    qkv_write(b, r, n, h, hk, d, columns, false);
    qkv_write(b, r, n, h, hk, d, columns, true);
}

static void test_gated(struct plumb_backend *b, struct rng *r, int64_t n, int64_t f,
                       enum plumb_activation act)
{
    struct array a[] = {real_array(b, r, n * 2 * f, 6.0), real_array(b, r, n * f, 1.0),
                        take(b, n * f, 2), take(b, n * f, 2)};
    struct array gate = part_of(b, &a[0], n, f, 0, 2 * f), up = part_of(b, &a[0], n, f, f, 2 * f);
    CHECK_OK(plumb_op_gated_fwd(b, R(a[2], n, f), R(a[0], n, 2, f), act));
    CHECK_OK(plumb_op_act_fwd(b, R(a[3], n, f), R(gate, n, f), R(up, n, f), act));
    same(b, "gated", &a[2], &a[3]);
    CHECK_OK(plumb_op_gated_bwd(b, R(a[0], n, 2, f), R(a[1], n, f), R(a[0], n, 2, f), act));
    CHECK_OK(plumb_op_act_bwd(b, R(gate, n, f), R(up, n, f), R(a[1], n, f), R(gate, n, f),
                              R(up, n, f), act));
    struct array got[] = {part_of(b, &a[0], n, f, 0, 2 * f), part_of(b, &a[0], n, f, f, 2 * f)};
    same(b, "gradient of the gate", &got[0], &gate);
    same(b, "gradient of up", &got[1], &up);
    give(b, a, 4);
    give(b, got, 2);
    give(b, &gate, 1);
    give(b, &up, 1);
}

static void test_columns(struct plumb_backend *b, struct rng *r, int64_t n, int64_t c, int64_t at,
                         int64_t width)
{
    struct array all = real_array(b, r, n * width, 2.0), add = real_array(b, r, n * c, 2.0);
    struct array before = twin(b, &all), got = take(b, n * c, 2), rest[2];
    struct array want = part_of(b, &all, n, c, at, width);
    CHECK_OK(plumb_op_columns_take(b, R(got, n, c), R(all, n, width), at));
    same(b, "taken columns", &got, &want);
    CHECK_OK(plumb_op_columns_add(b, R(all, n, width), at, R(add, n, c)));
    CHECK_OK(plumb_op_add_fwd(b, R(want, n, c), R(want, n, c), R(add, n, c)));
    CHECK_OK(plumb_op_columns_take(b, R(got, n, c), R(all, n, width), at));
    same(b, "columns after the sum", &got, &want);
    for (int k = 0; k < 2; k++) { /* the other columns must not change */
        const int64_t from = k ? at + c : 0, count = k ? width - at - c : at;
        rest[0] = part_of(b, &all, n, count, from, width);
        rest[1] = part_of(b, &before, n, count, from, width);
        same(b, "other columns", &rest[0], &rest[1]);
        give(b, rest, 2);
    }
    give(b, (struct array[]){all, add, before, got, want}, 5);
}

static void test_refusals(struct plumb_backend *b, struct rng *r)
{
    struct array a[] = {real_array(b, r, 64, 1.0), float_array(b, r, 64)};
    const struct array *x = &a[0], *f = &a[1];
    CHECK_FAILS(plumb_op_add_rmsnorm_fwd(b, R(*x, 2, 8), R(*x, 2, 8), F(*f, 3), R(*x, 2, 8),
                                         R(*x, 2, 8), F(*f, 8), 1e-5f, 0.0f),
                PLUMB_ERR_SHAPE, "float32 (2)");
    CHECK_FAILS(plumb_op_add_rmsnorm_fwd(b, R(*x, 2, 8), R(*x, 2, 8), F(*f, 2), R(*x, 2, 8),
                                         F(*f, 2, 8), F(*f, 8), 1e-5f, 0.0f),
                PLUMB_ERR_SHAPE, "bfloat16 (2,8)");
    const struct plumb_rows rows = {1, 1, 1, NULL, NULL, NULL, 1};
    CHECK_FAILS(
        b->k.bf16.rope_write_fwd(b->stream, NULL, NULL, NULL, NULL, NULL, NULL, &rows, 1, 1, 24),
        PLUMB_ERR_SHAPE, "head size 24");
    CHECK_FAILS(
        b->k.bf16.qkv_write_fwd(b->stream, NULL, NULL, NULL, NULL, NULL, NULL, &rows, 1, 1, 32, 5),
        PLUMB_ERR_SHAPE, "5 of 32 columns of a head rotated; expected an even number");
    CHECK_FAILS(
        b->k.bf16.qkv_write_fwd(b->stream, NULL, NULL, NULL, NULL, NULL, NULL, &rows, 1, 1, 12, 0),
        PLUMB_ERR_UNSUPPORTED, "head size 12");
    CHECK_FAILS(plumb_op_gated_fwd(b, R(*x, 2, 4), R(*x, 2, 2, 4), PLUMB_ACT_SILU), PLUMB_ERR_SHAPE,
                "4 columns of the gate, expected a multiple of 8");
    CHECK_FAILS(plumb_op_columns_take(b, R(*x, 2, 8), R(*x, 2, 16), 9), PLUMB_ERR_SHAPE,
                "columns 9 to 16 of rows with 16 columns");
    give(b, a, 2);
}

/* Checks that operations that exist only in bfloat16 are refused in float32. */
static void test_float32(void)
{
    struct plumb_backend *b = NULL;
    CHECK_OK(plumb_backend_cuda_create(&b, 0));
    struct array a[] = {take(b, 64, 4)};
    const struct array *x = &a[0];
    CHECK_FAILS(plumb_op_columns_add(b, F(*x, 2, 16), 0, F(*x, 2, 8)), PLUMB_ERR_UNSUPPORTED,
                "computes in float32, expected bfloat16");
    CHECK_FAILS(plumb_op_gated_fwd(b, F(*x, 2, 8), F(*x, 2, 2, 8), PLUMB_ACT_SILU),
                PLUMB_ERR_UNSUPPORTED, "gated_fwd: ");
    CHECK_FAILS(plumb_op_qkv_write_fwd(b, F(*x, 2, 2, 8), F(*x, 1, 1, 8, 8), F(*x, 1, 1, 8, 8),
                                       F(*x, 1, 4, 16), NULL, NULL, NULL),
                PLUMB_ERR_UNSUPPORTED, "qkv_write_fwd: ");
    give(b, a, 1);
    plumb_backend_destroy(&b);
}

int main(void)
{
    static const int64_t columns[] = {8, 12, 64, 136, 520, 1024};
    struct rng r = {77};
    struct plumb_backend *b = NULL;
    skip_without_gpu();
    CHECK_OK(plumb_backend_cuda_create(&b, 0));
    CHECK_OK(plumb_backend_set_dtype(b, PLUMB_BF16));
    for (size_t s = 0; s < sizeof(seeds) / sizeof(*seeds); s++) {
        plumb_emu_seed(seeds[s]);
        for (size_t i = 0; i < sizeof(columns) / sizeof(*columns); i++)
            for (int64_t n = 1; n < 20; n += 9)
                test_add_rmsnorm(b, &r, n, columns[i]);
        test_rope_write(b, &r, 1, 1, 1, 16, 16);
        test_rope_write(b, &r, 37, 4, 2, 16, 16);
        test_rope_write(b, &r, 20, 6, 3, 64, 64);
        test_rope_write(b, &r, 9, 2, 2, 128, 128);
        /* not a case of the fused kernel, so three kernels run */
        test_rope_write(b, &r, 9, 2, 1, 64, 32);
        test_rope_write(b, &r, 9, 2, 1, 24, 24);
        test_qkv_write(b, &r, 1, 1, 1, 16, 16);
        test_qkv_write(b, &r, 37, 4, 2, 16, 16);
        test_qkv_write(b, &r, 20, 6, 3, 64, 32);
        test_qkv_write(b, &r, 9, 40, 8, 128, 128); /* a row needs more than one block */
        test_qkv_write(b, &r, 9, 2, 2, 96, 48);
        test_qkv_write(b, &r, 9, 2, 1, 32, 0);
        test_qkv_write(b, &r, 9, 2, 2, 16, 12); /* computed one column at a time */
        test_qkv_write(b, &r, 37, 3, 1, 24, 24);
        test_qkv_write(b, &r, 5, 4, 2, 8, 2);
        test_qkv_write(b, &r, 3, 4, 2, 80, 20);
        for (int act = PLUMB_ACT_SILU; act <= PLUMB_ACT_GELU_TANH; act++) {
            test_gated(b, &r, 1, 8, (enum plumb_activation)act);
            test_gated(b, &r, 7, 264, (enum plumb_activation)act);
        }
        test_gated(b, &r, 2, 2056, PLUMB_ACT_SILU); /* a row needs more than one block */
        test_columns(b, &r, 5, 16, 32, 64);
        test_columns(b, &r, 3, 12, 5, 20); /* not aligned to 16 bytes */
        test_columns(b, &r, 2, 2064, 0, 2080);
    }
    test_refusals(b, &r);
    plumb_backend_destroy(&b);
    test_float32();
    return 0;
}
