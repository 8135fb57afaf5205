/* test_backend.c - checks memory, threads and kernel tables of the CPU backends: the fast one and
 * the reference one. Test. */
#include "backend/backend.h"

#include <sched.h>
#include <string.h>

#include "harness.h"

/* Makes the address sanitizer return NULL for an allocation that is too large, as malloc does. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static void test_memory(struct plumb_backend *b)
{
    static const int64_t sizes[] = {0, 1, 1000, (2 << 20) - 1, 2 << 20, (5 << 20) + 3};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        void *data = NULL;
        const char in[4] = "abc";
        char out[4] = "";
        CHECK_OK(b->alloc(b, &data, sizes[i], "weights"));
        CHECK(data && (uintptr_t)data % 256 == 0);
        CHECK(sizes[i] < (2 << 20) || (uintptr_t)data % (2 << 20) == 0);
        memset(data, 7, (size_t)sizes[i]);
        CHECK_OK(b->zero(b, data, sizes[i]));
        for (int64_t j = 0; j < sizes[i]; j++)
            CHECK(((char *)data)[j] == 0);
        if (sizes[i] >= 4) {
            CHECK_OK(b->to_device(b, (char *)data + sizes[i] - 4, in, 4));
            CHECK_OK(b->to_host(b, out, (char *)data + sizes[i] - 4, 4));
            CHECK(strcmp(out, "abc") == 0);
        }
        CHECK_OK(b->sync(b));
        b->release(b, data);
    }
    void *none = &none;
    CHECK(b->alloc(b, &none, INT64_MAX, "optimizer state") == PLUMB_ERR_NOMEM && !none);
    CHECK(strstr(plumb_trail_message(), "optimizer state"));
    CHECK(b->alloc(b, &none, INT64_C(1) << 50, "kv cache") == PLUMB_ERR_NOMEM && !none);
    CHECK(strstr(plumb_trail_message(), "kv cache"));
    CHECK(strstr(plumb_trail_message(), "1125899906842624 bytes"));
}

static void test_arena(struct plumb_backend *b)
{
    struct plumb_arena a = {.name = "act"};
    float *x = NULL;
    CHECK_OK(plumb_arena_take_f32(&a, &x, 1000, "x"));
    CHECK_OK(plumb_backend_arena_alloc(b, &a));
    CHECK(a.base && a.used == 0 && a.cap >= 4000 && a.place == b->place);
    CHECK_OK(plumb_arena_take_f32(&a, &x, 1000, "x"));
    CHECK(x && a.used == a.cap);
    x[0] = x[999] = 1.0f;
    CHECK(plumb_backend_arena_alloc(b, &a) == PLUMB_ERR_ARG);
    plumb_backend_arena_release(b, &a);
    CHECK(!a.base && a.cap == 0);
}

static void test_table(const struct plumb_backend *b)
{
#define X(name_) CHECKF(b->k.name_, "%s has no " #name_, b->name);
    PLUMB_KERNEL_LIST(X)
#undef X
}

int main(void)
{
    cpu_set_t set;
    struct plumb_backend *b = NULL;
    CHECK(sched_getaffinity(0, sizeof(set), &set) == 0);
    for (int i = 0; i < 4; i++) {
        if (i == 0)
            CHECK_OK(plumb_backend_ref_create(&b));
        else
            CHECK_OK(plumb_backend_cpu_create(&b, i == 3 ? 0 : i, 1));
        CHECK(strcmp(b->name, i == 0 ? "ref" : "cpu") == 0 && b->place == PLUMB_HOST);
        CHECK(b->threads == (i == 0 ? 1 : i == 3 ? CPU_COUNT(&set) : i));
        test_table(b);
        test_memory(b);
        test_arena(b);
        CHECK_OK(plumb_backend_set_dtype(b, PLUMB_F32));
        CHECK_FAILS(plumb_backend_set_dtype(b, PLUMB_BF16), PLUMB_ERR_UNSUPPORTED,
                    i == 0 ? "dtype: bfloat16 is not supported on device: ref"
                           : "use device: cuda");
        CHECK(b->dtype == PLUMB_F32);
        plumb_backend_destroy(&b);
        CHECK(!b);
    }
    plumb_backend_destroy(&b);
    /* with more ranks than cores, a rank gets one thread */
    CHECK_OK(plumb_backend_cpu_create(&b, 0, 1000000));
    CHECK(b->threads == 1);
    plumb_backend_destroy(&b);
    CHECK(plumb_backend_cpu_create(&b, -1, 1) == PLUMB_ERR_ARG && !b);
    return 0;
}
