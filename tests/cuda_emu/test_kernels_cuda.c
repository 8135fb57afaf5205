/* test_kernels_cuda.c - every kernel of the CUDA table against ref, on the emulator in several
 * orders of threads, which must all give the same bits; on a GPU twice.
 * Test of layer 1. Includes staged.h, tests/kernels/check.h. */
#include "kernels/check.h"
#include "staged.h"

static const struct {
    const char *name;
    void (*check)(struct check *c);
} list[] = {
#define X(k) {#k, check_##k},
    PLUMB_KERNEL_LIST(X)
#undef X
};

#ifdef PLUMB_CUDA_EMU
#include <cuda_runtime_api.h>
static const unsigned seeds[] = {0, 1, 2};
#else
static void plumb_emu_seed(unsigned seed)
{
    (void)seed;
}
static size_t plumb_emu_live(void)
{
    return 0;
}
static const unsigned seeds[] = {0, 1};
#endif

enum { KERNELS = sizeof(list) / sizeof(*list), ORDERS = sizeof(seeds) / sizeof(*seeds) };

static uint64_t run(int kernel, unsigned seed)
{
    struct check c = {.threads = 1, .r = {1234567u + (unsigned)kernel}, .huge = 1e4f};
    struct plumb_backend *b = NULL;
    plumb_emu_seed(seed);
    plumb_kernels_init_ref(&c.ref);
    staged_table(&c.k);
    CHECK_OK(plumb_backend_cuda_create(&b, 0, 1));
    c.s = staged_stream(b);
    c.at_len = snprintf(c.at, sizeof(c.at), "%s order %u ", list[kernel].name, seed);
    list[kernel].check(&c);
    check_done(&c);
    plumb_backend_destroy(&b);
    CHECK(plumb_emu_live() == 0);
    return c.digest;
}

/* test_kernels_cuda [KERNEL]... */
int main(int argc, char **argv)
{
    for (int i = 0; i < KERNELS; i++) {
        bool wanted = argc == 1;
        for (int j = 1; j < argc; j++)
            wanted = wanted || strcmp(argv[j], list[i].name) == 0;
        uint64_t digest = 0;
        /* sample_fwd takes half of all the time: two orders */
        const size_t orders = strcmp(list[i].name, "sample_fwd") == 0 ? 2 : ORDERS;
        for (size_t j = 0; wanted && j < orders; j++) {
            const uint64_t d = run(i, seeds[j]);
            CHECKF(j == 0 || d == digest, "%s: order %u gives other bits than order %u",
                   list[i].name, seeds[j], seeds[0]);
            digest = d;
        }
        if (wanted)
            printf("%s\n", list[i].name);
    }
    return 0;
}
