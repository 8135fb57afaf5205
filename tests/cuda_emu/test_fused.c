/* test_fused.c - bfloat16 kernels that do the work of several: the same bits as the kernels that
 * they stand for, which test_kernels_cuda.c compares with ref.
 * Test of layers 1 and 3. */
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

/* An array on the device, of elements of 2 or 4 bytes. */
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

/* Random values, of the given scale. */
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
        pos[i] = (int32_t)(i < n / 2 ? i : i - n / 2 + 30); /* over the end of a page */
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
    give(b, a, 2);
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
        test_rope_write(b, &r, 9, 2, 1, 64, 32); /* the three kernels themselves */
        test_rope_write(b, &r, 9, 2, 1, 24, 24);
    }
    test_refusals(b, &r);
    plumb_backend_destroy(&b);
    return 0;
}
