/* test_tensor.c - checks the sizes of tensors, and that a dry run of an arena counts the bytes that
 * a real run uses.
 * Test. With an argument, the program misuses an arena, and the address sanitizer must
 * end it. */
#include "base/tensor.h"

#include <string.h>

#include "harness.h"

static struct plumb_arena arena_of(int64_t cap)
{
    struct plumb_arena a = {.cap = cap, .name = "work", .place = PLUMB_HOST};
    a.base = aligned_alloc(PLUMB_ARENA_ALIGN, (size_t)cap);
    CHECK(a.base);
    return a;
}

static void layout(struct plumb_arena *a, float *out[3])
{
    static const int64_t n[3] = {100, 1, 3000};
    for (int i = 0; i < 3; i++)
        CHECK_OK(plumb_arena_take_f32(a, &out[i], n[i], "x"));
}

static void test_arena(void)
{
    struct plumb_arena dry = {.name = "work"}, a;
    float *x[3];
    layout(&dry, x);
    CHECK(!x[0] && !x[1] && !x[2]);
    a = arena_of((dry.used + 255) / 256 * 256);
    a.cap = dry.used;
    layout(&a, x);
    CHECK(a.used == dry.used && a.peak == dry.peak);
    for (int i = 0; i < 3; i++)
        CHECK((uintptr_t)x[i] % PLUMB_ARENA_ALIGN == 0);
    CHECK(x[1] >= x[0] + 100 && x[2] >= x[1] + 1);
    float *more = NULL;
    CHECK(plumb_arena_take_f32(&a, &more, 1, "scores") == PLUMB_ERR_NOMEM);
    CHECK(strstr(plumb_trail_message(), "scores") && strstr(plumb_trail_message(), "work"));
    plumb_arena_reset(&a, 0);
    CHECK(a.used == 0 && a.peak == dry.peak);
    float *again[3];
    layout(&a, again);
    CHECK(again[2] == x[2]);
    free(a.base);
}

static void test_sizes(void)
{
    struct plumb_tensor t = {.dtype = PLUMB_F64, .rank = 3, .dim = {2, 3, 4}, .name = "t"};
    CHECK(plumb_tensor_count(&t) == 24 && plumb_tensor_bytes(&t) == 192);
    t.dim[1] = 0;
    CHECK(plumb_tensor_bytes(&t) == 0);
    t.dim[1] = -1;
    CHECK(plumb_tensor_count(&t) == -1);
    t.dim[0] = t.dim[1] = INT64_MAX / 2;
    CHECK(plumb_tensor_count(&t) == -1);
    struct plumb_arena dry = {.name = "work"};
    CHECK(plumb_arena_take(&dry, &t) == PLUMB_ERR_SHAPE && dry.used == 0);
    t.dim[0] = INT64_MAX / 16, t.dim[1] = 1, t.dim[2] = 2;
    CHECK(plumb_tensor_bytes(&t) == (INT64_MAX / 16) * 16);
    dry.used = 4096;
    CHECK(plumb_arena_take(&dry, &t) == PLUMB_ERR_SHAPE && dry.used == 4096);
    static const struct {
        enum plumb_dtype t;
        int64_t size;
        const char *name;
    } want[] = {{PLUMB_F32, 4, "float32"}, {PLUMB_BF16, 2, "bfloat16"}, {PLUMB_F16, 2, "float16"},
                {PLUMB_I32, 4, "int32"},   {PLUMB_I64, 8, "int64"},     {PLUMB_F64, 8, "float64"},
                {PLUMB_U8, 1, "uint8"}};
    for (int i = 0; i < 7; i++) {
        CHECK(plumb_dtype_size(want[i].t) == want[i].size);
        CHECK(strcmp(plumb_dtype_name(want[i].t), want[i].name) == 0);
    }
}

/* Writes outside of the memory that an arena handed out. Returns 0 if the address sanitizer did not
 * end the process. */
static int misuse(const char *how)
{
    struct plumb_arena a = arena_of(8192);
    float *x = NULL, *y = NULL;
    CHECK_OK(plumb_arena_take_f32(&a, &x, 64, "x"));
    CHECK_OK(plumb_arena_take_f32(&a, &y, 64, "y"));
    volatile float *p = x;
    if (strcmp(how, "overrun") == 0) {
        p[64] = 1.0f;
    } else {
        plumb_arena_reset(&a, 0);
        p[3] = 1.0f;
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return misuse(argv[1]);
    test_sizes();
    test_arena();
    return 0;
}
