/* test_kernels.c - compares every kernel of every CPU table with ref (the reference
 * implementation, kernels/ref). Checks that all instruction sets and numbers of threads give the
 * same bits. Test. */
#include <string.h>

#include "base/pool.h"
#include "check.h"

static const struct {
    const char *name;
    void (*check)(struct check *c);
} list[] = {
#define X(k) {#k, check_##k},
    PLUMB_KERNEL_LIST(X)
#undef X
};
enum { KERNELS = sizeof(list) / sizeof(*list) };

static uint64_t run(int kernel, const char *isa, int threads, bool *available)
{
    struct check c = {.threads = threads, .r = {1234567u + (unsigned)kernel}, .huge = 1e4f};
    plumb_pool *pool = NULL;
    plumb_kernels_init_ref(&c.ref);
    *available = plumb_kernels_init_isa(&c.k, isa);
    if (!*available)
        return 0;
    CHECK_OK(plumb_pool_create(&pool, threads));
    c.s = (plumb_stream *)(void *)pool;
    c.at_len = snprintf(c.at, sizeof(c.at), "%s %s threads %d ", list[kernel].name, isa, threads);
    list[kernel].check(&c);
    check_done(&c);
    plumb_pool_destroy(&pool);
    return c.digest;
}

int main(int argc, char **argv)
{
    for (int i = 0; i < KERNELS; i++) {
        uint64_t digest = 0;
        bool first = true;
        if (argc > 1 && strcmp(argv[1], list[i].name) != 0)
            continue;
        for (int j = 0; plumb_kernels_isa[j]; j++)
            for (int threads = 1; threads <= 3; threads++) {
                bool available;
                const uint64_t d = run(i, plumb_kernels_isa[j], threads, &available);
                if (!available) {
                    printf("%s: not on this machine, not checked\n", plumb_kernels_isa[j]);
                    break;
                }
                CHECKF(first || d == digest,
                       "%s: %s with %d threads gives other bits than %s with 1", list[i].name,
                       plumb_kernels_isa[j], threads, plumb_kernels_isa[0]);
                digest = d;
                first = false;
            }
        printf("%s\n", list[i].name);
    }
    return 0;
}
