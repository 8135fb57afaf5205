/* test_backend_cuda.c - checks memory, errors and the kernel table of the CUDA backend.
 * Test. */
#include "backend/backend.h"
#include "gpu.h"
#include "op/op.h"

static void test_memory(struct plumb_backend *b)
{
    static const int64_t sizes[] = {0, 1, 1000, 4096, (2 << 20) + 3};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        void *data = NULL;
        const int64_t n = sizes[i];
        unsigned char *host = malloc((size_t)n + 1);
        CHECK(host);
        CHECK_OK(b->alloc(b, &data, n, "weights"));
        CHECK(data && (uintptr_t)data % 256 == 0);
        for (int64_t j = 0; j < n; j++)
            host[j] = (unsigned char)(j * 7);
        CHECK_OK(b->to_device(b, data, host, n));
        memset(host, 1, (size_t)n);
        CHECK_OK(b->to_host(b, host, data, n));
        for (int64_t j = 0; j < n; j++)
            CHECK(host[j] == (unsigned char)(j * 7));
        CHECK_OK(b->zero(b, data, n));
        CHECK_OK(b->sync(b));
        CHECK_OK(b->to_host(b, host, data, n));
        for (int64_t j = 0; j < n; j++)
            CHECK(host[j] == 0);
        b->release(b, data);
        free(host);
    }
    b->release(b, NULL);
    void *none = &none;
    CHECK_FAILS(b->alloc(b, &none, INT64_MAX, "optimizer state"), PLUMB_ERR_NOMEM,
                "optimizer state");
    CHECK_FAILS(b->alloc(b, &none, INT64_C(1) << 50, "kv cache"), PLUMB_ERR_NOMEM,
                "1125899906842624 bytes");
    CHECK(!none);
}

/* Checks that a kernel does not report the error of an allocation that failed before it. */
static void test_after_failure(struct plumb_backend *b)
{
    struct plumb_arena a = {.name = "act"};
    float *x = NULL, host[3] = {1.0f, 2.0f, 3.0f};
    void *none = NULL;
    CHECK(b->alloc(b, &none, INT64_C(1) << 50, "kv cache") == PLUMB_ERR_NOMEM);
    CHECK_OK(plumb_arena_take_f32(&a, &x, 3, "x"));
    CHECK_OK(plumb_backend_arena_alloc(b, &a));
    CHECK(a.place == PLUMB_DEVICE);
    CHECK_OK(plumb_arena_take_f32(&a, &x, 3, "x"));
    CHECK_OK(b->to_device(b, x, host, sizeof(host)));
    CHECK_OK(b->k.accumulate(b->stream, x, x, 3));
    CHECK_OK(b->k.accumulate(b->stream, x, x, 0));
    CHECK_OK(b->to_host(b, host, x, sizeof(host)));
    CHECK(host[0] == 2.0f && host[1] == 4.0f && host[2] == 6.0f);
    plumb_backend_arena_release(b, &a);
}

/* Checks a backend in bfloat16: tensors that kernels.h declares as REAL must be bfloat16, all
 * others float32. */
static void test_bfloat16(void)
{
    struct plumb_backend *b = NULL;
    float x[16], y[16];
    const int32_t ids[2] = {1, 0};
    struct plumb_arena a = {.name = "act"};
    plumb_real *narrow = NULL;
    float *wide = NULL;
    int32_t *index = NULL;
    CHECK_OK(plumb_backend_cuda_create(&b, 0));
    CHECK_OK(plumb_backend_set_dtype(b, PLUMB_BF16));
    CHECK(strcmp(b->name, "cuda bfloat16") == 0 && plumb_real_bytes(b, 3) == 6);
#define X(kernel) CHECKF(b->k.bf16.kernel, "no bfloat16 " #kernel);
    PLUMB_BF16_KERNEL_LIST(X)
#undef X
    for (int pass = 0; pass < 2; pass++) {
        CHECK_OK(plumb_backend_take(b, &a, &narrow, 16, "narrow"));
        CHECK_OK(plumb_arena_take_f32(&a, &wide, 16, "wide"));
        CHECK_OK(plumb_arena_take_i32(&a, &index, 2, "index"));
        if (pass == 0)
            CHECK_OK(plumb_backend_arena_alloc(b, &a));
    }
    for (int i = 0; i < 16; i++)
        x[i] = 1.0f + (float)i;
    const struct plumb_tensor n = PLUMB_VIEW_("narrow", b->dtype, narrow, b->place, 2, 8);
    const struct plumb_tensor w = plumb_view_f32("wide", wide, b->place, 2, 8);
    const struct plumb_tensor at = plumb_view_i32("index", index, b->place, 2);
    CHECK_OK(b->to_device(b, index, ids, sizeof(ids)));
    CHECK_OK(b->to_device(b, wide, x, sizeof(x)));
    CHECK_OK(plumb_op_gather_fwd(b, &n, &w, &at)); /* n becomes rows 1 and 0 of w */
    CHECK_OK(plumb_op_gather_bwd(b, &w, &n, &at)); /* adds these rows to w, which doubles it */
    CHECK_OK(plumb_op_add_fwd(b, &n, &n, &n));
    CHECK_OK(plumb_op_gather_bwd(b, &w, &n, &at));
    CHECK_OK(b->to_host(b, y, wide, sizeof(y)));
    for (int i = 0; i < 16; i++)
        CHECKF(isfinite(y[i]) && y[i] > 2.0f * x[i], "%d: %g", i, (double)y[i]);
    CHECK_FAILS(plumb_op_add_fwd(b, &w, &w, &w), PLUMB_ERR_SHAPE, "expected bfloat16 (2,8)");
    CHECK_FAILS(plumb_op_gather_fwd(b, &w, &w, &at), PLUMB_ERR_SHAPE, "expected bfloat16 (2,8)");
    CHECK_FAILS(plumb_op_accumulate(b, &n, &n), PLUMB_ERR_SHAPE, "expected float32 (2,8)");
    plumb_backend_arena_release(b, &a);
    plumb_backend_destroy(&b);
}

int main(void)
{
    struct plumb_backend *b = NULL;
    skip_without_gpu();
    CHECK_OK(plumb_backend_cuda_create(&b, 0));
    CHECK(strstr(b->device, "sm_") && strncmp(b->gpu, "GPU-", 4) == 0 && strstr(b->gpu, ", PCI "));
    CHECK(strcmp(b->name, "cuda") == 0 && b->place == PLUMB_DEVICE && b->threads == 1);
#define X(kernel) CHECKF(b->k.kernel, "no " #kernel);
    PLUMB_KERNEL_LIST(X)
#undef X
    test_memory(b);
    test_after_failure(b);
    test_bfloat16();
    const struct plumb_attn_shape wide = {1, 1, 512, 1.0f, 0, 0};
    const struct plumb_rows rows = {1, 1, 1, NULL, NULL, NULL, 1};
    CHECK_FAILS(b->k.attention_fwd(b->stream, NULL, NULL, NULL, NULL, NULL, &rows, &wide),
                PLUMB_ERR_UNSUPPORTED, "head size 512");
    plumb_backend_destroy(&b);
    CHECK(!b);
    CHECK_FAILS(plumb_backend_cuda_create(&b, -1), PLUMB_ERR_ARG, "local rank -1");
    CHECK(!b);
    return 0;
}
