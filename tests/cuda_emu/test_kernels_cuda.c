/* test_kernels_cuda.c - every kernel of the CUDA table against ref, on the emulator in several
 * orders of threads, which must all give the same bits; on a GPU twice.
 * Test of layer 1. Includes staged.h, tests/kernels/check.h. */
#include "gpu.h"
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

/* Kernels with 16-byte accesses give the same bits where those are not possible. */
enum { ROWS = 3, WIDTH = 12, CELLS = ROWS * WIDTH, SPARE = 4, ARRAYS = 5 };
struct shelf {
    float x[ARRAYS][CELLS + SPARE] __attribute__((aligned(16)));
};
static void use(const struct plumb_kernels *k, plumb_stream *s, struct shelf *f, int off, int which)
{
    static const int32_t index[ROWS] = {2, 0, 2};
    static const struct plumb_adamw p = {3e-3f, 0.9f, 0.95f, 1e-8f, 0.1f, 0.271f, 0.0975f, 0.7f};
    float *a = f->x[0] + off, *b = f->x[1] + off, *c = f->x[2] + off, *d = f->x[3] + off;
    float *e = f->x[4] + off;
    switch (which) {
    case 0:
        CHECK_OK(k->add_fwd(s, a, b, c, CELLS));
        CHECK_OK(k->accumulate(s, d, a, CELLS));
        return;
    case 1:
        CHECK_OK(k->swiglu_fwd(s, a, b, c, CELLS));
        CHECK_OK(k->swiglu_bwd(s, d, e, a, b, c, CELLS));
        return;
    case 2:
        CHECK_OK(k->rmsnorm_fwd(s, a, f->x[4], b, c, ROWS, WIDTH, 1e-5f));
        CHECK_OK(k->rmsnorm_bwd(s, d, b, a, a, c, f->x[4], ROWS, WIDTH));
        return;
    case 3:
        CHECK_OK(k->rope_fwd(s, a, b, index, ROWS, 1, WIDTH - 4));
        return;
    case 4:
        CHECK_OK(k->gather_fwd(s, a, b, index, ROWS, WIDTH));
        CHECK_OK(k->gather_bwd(s, c, a, index, ROWS, WIDTH, ROWS));
        return;
    case 5:
        CHECK_OK(k->logprob_bwd(s, a, a, f->x[1], index, f->x[2], ROWS, WIDTH));
        return;
    default:
        CHECK_OK(k->adamw(s, a, b, c, d, CELLS, &p));
    }
}

static void check_alignment(void)
{
    struct plumb_kernels k;
    struct plumb_backend *b = NULL;
    staged_table(&k);
    CHECK_OK(plumb_backend_cuda_create(&b, 0, 1));
    for (int which = 0; which < 7; which++) {
        struct shelf first;
        for (int off = 0; off < SPARE; off++) {
            struct shelf f = {0};
            struct rng r = {99};
            for (int i = 0; i < ARRAYS; i++)
                for (int j = 0; j < CELLS; j++)
                    f.x[i][off + j] = rng_f(&r, 0.1f, 1.0f);
            for (int i = 1; which == 5 && i < 3; i++) /* lse and dlogp stay where they are */
                memmove(f.x[i], f.x[i] + off, ROWS * sizeof(float));
            use(&k, staged_stream(b), &f, off, which);
            if (off == 0)
                first = f;
            for (int i = 0; i < 4; i++)
                CHECKF(off == 0 || which == 5 ||
                           memcmp(first.x[i], f.x[i] + off, CELLS * sizeof(float)) == 0,
                       "kernels %d: array %d at offset %d has other bits", which, i, off);
            CHECKF(memcmp(first.x[0], f.x[0] + off, CELLS * sizeof(float)) == 0,
                   "kernels %d at offset %d give other bits", which, off);
        }
    }
    plumb_backend_destroy(&b);
}

/* test_kernels_cuda [KERNEL]... [alignment] */
int main(int argc, char **argv)
{
    skip_without_gpu();
    if (argc == 1 || strcmp(argv[argc - 1], "alignment") == 0)
        check_alignment();
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
