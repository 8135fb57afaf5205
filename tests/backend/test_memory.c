/* test_memory.c - checks how a backend counts its memory, the reserved block that its phases share,
 * and the dry run.
 * Test. */
#include "backend/memory.h"

#include "backend/backend.h"
#include "harness.h"

enum { KB = 1024, MB = 1 << 20 };

static void *take(struct plumb_backend *b, int64_t bytes, enum plumb_phase phase)
{
    void *data = NULL;
    const struct plumb_memory_scope outer = plumb_memory_enter(b, "test", phase);
    CHECK_OK(b->alloc(b, &data, bytes, "piece"));
    plumb_memory_leave(b, outer);
    return data;
}

/* Makes the same requests for memory on any backend. Sets at (6,) to the addresses. */
static void requests(struct plumb_backend *b, char *at[6])
{
    at[0] = take(b, 1000, PLUMB_PHASE_ALWAYS);
    at[1] = take(b, 3 * MB, PLUMB_PHASE_ROLLOUT);
    at[2] = take(b, 5 * MB + 1, PLUMB_PHASE_ALWAYS);
    at[3] = take(b, 100, PLUMB_PHASE_TRAIN);
    at[4] = take(b, 4 * MB, PLUMB_PHASE_TRAIN);
    at[5] = take(b, 0, PLUMB_PHASE_REWARD);
}

static void release(struct plumb_backend *b, char *at[6])
{
    for (int i = 0; i < 6; i++)
        b->release(b, at[i]);
}

static bool apart(const char *a, int64_t bytes, const char *b, int64_t other)
{
    return a + bytes <= b || b + other <= a;
}

static void test_reserved(struct plumb_backend *b)
{
    static const int64_t size[] = {1000, 3 * MB, 5 * MB + 1, 100, 4 * MB, 1};
    struct plumb_backend *dry = NULL;
    char *at[6];
    CHECK_OK(plumb_backend_dry_create(&dry, b));
    requests(dry, at);
    for (int i = 0; i < 6; i++)
        CHECK(!at[i]);
    const struct plumb_memory *plan = &dry->memory, *m = &b->memory;
    const int64_t planned = plumb_memory_bytes(dry);
    CHECK(plan->most == planned && plan->calls == 6 && plan->rows == 6);
    CHECK(plan->row[2].bytes == 5 * MB + 1 && !strcmp(plan->row[2].what, "piece"));
    /* under the address sanitizer, phases do not share memory */
    const bool shared = !plumb_arena_guards(b->place);
    CHECKF(planned % b->page == 0 && planned < (shared ? 16 : 20) * MB, "%lld", (long long)planned);

    /* taken before the block is reserved, so it lies outside of the block */
    char *early = take(b, 64 * KB, PLUMB_PHASE_ALWAYS);
    CHECK_OK(plumb_memory_reserve(b, planned));
    CHECK(plumb_memory_reserve(b, planned) == PLUMB_ERR_ARG);
    /* the second round takes the memory that the first round released */
    for (int round = 0; round < 2; round++) {
        requests(b, at);
        CHECK(m->outside == 0 && m->most == planned);
        for (int i = 0; i < 6; i++) {
            CHECK((char *)m->base <= at[i] && at[i] + size[i] <= (char *)m->base + m->size);
            CHECK((uintptr_t)at[i] % (size[i] >= b->page ? b->page : 256) == 0);
            memset(at[i], i, (size_t)size[i]);
            for (int k = 0; k < i; k++) {
                const bool other =
                    (i == 1 || k == 1 || i == 5 || k == 5) && k != 0 && k != 2 && i != 2;
                CHECKF(other || apart(at[i], size[i], at[k], size[k]), "%d on %d", i, k);
            }
        }
        /* two phases share the same memory */
        CHECK(!shared || !apart(at[1], size[1], at[4], size[4]));
        /* this request is not in the plan */
        char *more = take(b, 64 * MB, PLUMB_PHASE_TRAIN);
        CHECK(m->outside == 64 * MB && m->most == planned);
        more[64 * MB - 1] = 1;
        b->release(b, more);
        b->memory.outside = 0;
        release(b, at);
        CHECK(plumb_memory_bytes(b) == 0);
    }
    b->release(b, early);
    plumb_memory_unreserve(b);
    CHECK(!m->base);
    requests(b, at); /* requests without a reserved block */
    CHECK(!m->base && m->outside == 0 && plumb_memory_bytes(b) == planned);
    release(b, at);
    plumb_backend_destroy(&dry);
}

static void test_rows(struct plumb_backend *b)
{
    struct plumb_arena a = {.place = b->place, .name = "act"};
    float *x;
    int32_t *ids;
    const int64_t before = b->memory.rows;
    const struct plumb_memory_scope outer = plumb_memory_enter(b, "pass", PLUMB_PHASE_TRAIN);
    for (int pass = 0; pass < 2; pass++) {
        CHECK_OK(plumb_arena_take_f32(&a, &x, 100, "x"));
        CHECK_OK(plumb_arena_take_i32(&a, &ids, 10, "ids"));
        CHECK_OK(plumb_arena_take_f32(&a, &x, 50, "x"));
        if (pass == 0)
            CHECK_OK(plumb_backend_arena_alloc(b, &a));
    }
    CHECK_OK(plumb_memory_beside(b, "staging", 77));
    plumb_memory_leave(b, outer);
    const struct plumb_memory_row *r = &b->memory.row[before];
    CHECK(b->memory.rows == before + 3 && !strcmp(r[0].owner, "pass"));
    CHECK(!strcmp(r[0].what, "x") && !strcmp(r[1].what, "ids") && !strcmp(r[2].what, "staging"));
    CHECK(r[0].bytes + r[1].bytes == a.cap && r[0].bytes >= 600 && r[1].bytes >= 40);
    CHECK(!r[0].beside && r[2].beside && r[2].bytes == 77);
    plumb_backend_arena_release(b, &a);
    int64_t available = 0;
    CHECK_OK(b->available(b, &available));
    CHECK(available > MB);
}

/* Checks that memory released by an arena with guard areas can be used completely by its next
 * owner. Otherwise the address sanitizer reports an error. */
static void test_again(struct plumb_backend *b)
{
    struct plumb_arena a = {.place = b->place, .name = "gone"};
    float *x;
    CHECK_OK(plumb_memory_reserve(b, MB));
    for (int pass = 0; pass < 2; pass++) {
        CHECK_OK(plumb_arena_take_f32(&a, &x, 1000, "x"));
        if (pass == 0)
            CHECK_OK(plumb_backend_arena_alloc(b, &a));
    }
    const int64_t bytes = a.cap;
    const void *was = a.base;
    plumb_backend_arena_release(b, &a);
    void *data = take(b, bytes, PLUMB_PHASE_ALWAYS);
    CHECK(data == was);
    CHECK_OK(b->zero(b, data, bytes));
    b->release(b, data);
    plumb_memory_unreserve(b);
}

int main(void)
{
    struct plumb_backend *b = NULL;
    CHECK_OK(plumb_backend_cpu_create(&b, 1, 1));
    test_reserved(b);
    test_rows(b);
    test_again(b);
    plumb_backend_destroy(&b);
    return 0;
}
