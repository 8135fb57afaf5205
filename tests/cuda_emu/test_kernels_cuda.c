/* test_kernels_cuda.c - compares every kernel of the CUDA table with ref, in float32 and bfloat16.
 * On the emulator, each kernel runs in several orders of threads; on a GPU it runs twice. All runs
 * must give the same bits.
 * Test. Includes staged.h, tests/kernels/check.h. */
#include "base/num.h"
#include "gpu.h"
#include "kernels/check.h"
#include "staged.h"

static const struct item {
    const char *name;
    void (*check)(struct check *c);
    enum plumb_dtype dtype;
    bool mixed, narrow_in, narrow_out;
} list[] = {
#define X(k) {#k, check_##k, PLUMB_F32, false, false, false},
    PLUMB_KERNEL_LIST(X)
#undef X
#define X(k) {"bf16_" #k, check_##k, PLUMB_BF16, false, true, true},
        PLUMB_REAL_KERNEL_LIST(X)
#undef X
            {"bf16_embed_fwd", check_gather_fwd, PLUMB_BF16, true, false, true},
    {"bf16_embed_bwd", check_gather_bwd, PLUMB_BF16, true, true, false},
    {"bf16_head_fwd", check_linear_pack, PLUMB_BF16, true, true, false},
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

static struct plumb_backend *backend_of(enum plumb_dtype dtype)
{
    struct plumb_backend *b = NULL;
    CHECK_OK(plumb_backend_cuda_create(&b, 0));
    CHECK_OK(plumb_backend_set_dtype(b, dtype));
    return b;
}

static uint64_t run(int kernel, unsigned seed)
{
    const struct item *m = &list[kernel];
    struct check c = {.threads = 1,
                      .r = {1234567u + (unsigned)kernel},
                      .huge = 1e4f,
                      .narrow_in = m->narrow_in,
                      .narrow_out = m->narrow_out};
    plumb_emu_seed(seed);
    plumb_kernels_init_ref(&c.ref);
    (m->mixed ? staged_mixed_table : staged_table)(&c.k);
    if (m->dtype == PLUMB_BF16)
        c.k.attention_work_count = c.k.bf16.attention_work_count;
    struct plumb_backend *b = backend_of(m->dtype);
    c.s = staged_stream(b);
    c.at_len = snprintf(c.at, sizeof(c.at), "%s order %u ", m->name, seed);
    m->check(&c);
    check_done(&c);
    plumb_backend_destroy(&b);
    CHECK(plumb_emu_live() == 0);
    return c.digest;
}

/* Checks the rounding of float32 to bfloat16: every exponent, ties to either side, infinities and
 * NaN. */
static void check_rounding(void)
{
    static const uint32_t low[] = {0,      1,      0x7fff, 0x8000,  0x8001,
                                   0xffff, 0x4000, 0xc000, 0x17fff, 0x18000};
    enum { LOWS = sizeof(low) / sizeof(*low), N = 512 * LOWS };
    static float w[N], packed[N];
    struct plumb_kernels k;
    struct plumb_backend *b = backend_of(PLUMB_BF16);
    staged_table(&k);
    for (uint32_t i = 0; i < N; i++) {
        const uint32_t bits = i / LOWS << 23 | low[i % LOWS];
        memcpy(&w[i], &bits, sizeof(bits));
    }
    CHECK_OK(k.linear_pack(staged_stream(b), packed, w, 512, LOWS));
    for (int i = 0; i < N; i++) {
        const double x = w[i], got = packed[i], ulp = fmax(ldexp(fabs(x), -7), 0x1p-133);
        CHECKF(isnan(x) ? isnan(got) : got == plumb_from_bf16(plumb_to_bf16(w[i])), "%a became %a",
               x, got);
        CHECKF(!isfinite(x) || !isfinite(got) || fabs(got - x) <= ulp / 2, "%a became %a", x, got);
    }
    /* exactly half an ulp above 1: rounded to even */
    CHECK(packed[LOWS * 127 + 3] == 1.0f);
    CHECK(packed[LOWS * 127 + 4] == 1.0f + 0x1p-7f); /* a little more than half an ulp above 1 */
    /* an ulp and a half above 1: rounded to even */
    CHECK(packed[LOWS * 127 + 9] == 1.0f + 0x1p-6f);
    CHECK(packed[LOWS * 255] == INFINITY && isnan(packed[LOWS * 255 + 1]));
    plumb_backend_destroy(&b);
}

/* Sizes for check_alignment(): kernels that use 16-byte accesses must give the same bits on arrays
 * that are not aligned to 16 bytes. */
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
        CHECK_OK(k->act_fwd(s, a, b, c, CELLS, PLUMB_ACT_SILU));
        CHECK_OK(k->act_bwd(s, d, e, a, b, c, CELLS, PLUMB_ACT_SILU));
        return;
    case 2:
        CHECK_OK(k->rmsnorm_fwd(s, a, f->x[4], b, c, ROWS, WIDTH, 1e-5f, 0));
        CHECK_OK(k->rmsnorm_bwd(s, d, b, a, a, c, f->x[4], ROWS, WIDTH, 0));
        return;
    case 3:
        CHECK_OK(k->rope_fwd(s, a, b, index, ROWS, 1, WIDTH - 4, WIDTH - 4));
        return;
    case 4:
        CHECK_OK(k->gather_fwd(s, a, b, index, ROWS, WIDTH));
        CHECK_OK(k->gather_bwd(s, c, a, index, ROWS, WIDTH, ROWS));
        return;
    case 5:
        CHECK_OK(k->logprob_bwd(s, d, a, f->x[1], index, f->x[2], ROWS, WIDTH, 0));
        return;
    case 6:
        CHECK_OK(k->layernorm_fwd(s, a, f->x[4], f->x[4] + ROWS, b, c, c, ROWS, WIDTH, 1e-5f));
        CHECK_OK(k->layernorm_bwd(s, d, b, f->x[4] + 8 + off, a, a, c, f->x[4], f->x[4] + ROWS,
                                  ROWS, WIDTH));
        return;
    default:
        CHECK_OK(k->adamw(s, a, b, c, d, CELLS, &p));
    }
}

static void check_alignment(enum plumb_dtype dtype)
{
    struct plumb_kernels k;
    struct plumb_backend *b = backend_of(dtype);
    staged_table(&k);
    for (int which = 0; which < 8; which++) {
        struct shelf first;
        for (int off = 0; off < SPARE; off++) {
            struct shelf f = {0};
            struct rng r = {99};
            for (int i = 0; i < ARRAYS; i++)
                for (int j = 0; j < CELLS; j++)
                    f.x[i][off + j] = rng_f(&r, 0.1f, 1.0f);
            /* lse and dlogp are not shifted by the offset */
            for (int i = 1; which == 5 && i < 3; i++)
                memmove(f.x[i], f.x[i] + off, ROWS * sizeof(float));
            use(&k, staged_stream(b), &f, off, which);
            if (off == 0)
                first = f;
            for (int i = 0; i < 4; i++)
                CHECKF(off == 0 || which == 5 ||
                           memcmp(first.x[i], f.x[i] + off, CELLS * sizeof(float)) == 0,
                       "kernels %d: array %d at offset %d has other bits", which, i, off);
            CHECKF(memcmp(first.x[3], f.x[3] + off, CELLS * sizeof(float)) == 0,
                   "kernels %d at offset %d give other bits", which, off);
        }
    }
    plumb_backend_destroy(&b);
}

/* Returns true for the kernels of attention in bfloat16. test_attention_bf16.c checks these, with
 * other pages and other bounds. */
static bool is_elsewhere(const struct item *m)
{
    return m->dtype == PLUMB_BF16 &&
           (m->check == check_kv_write_fwd || m->check == check_attention_fwd ||
            m->check == check_attention_work_count || m->check == check_attention_bwd);
}

static bool is_name(const char *text)
{
    bool known = strcmp(text, "alignment") == 0;
    for (int i = 0; i < KERNELS; i++)
        known = known || strcmp(text, list[i].name) == 0;
    return known;
}

static int print_names(void)
{
    puts("alignment");
    for (int i = 0; i < KERNELS; i++)
        if (!is_elsewhere(&list[i]))
            puts(list[i].name);
    return 0;
}

/* test_kernels_cuda [KERNEL]... [alignment]: checks these kernels, or all. test_kernels_cuda list:
 * prints the names of the kernels. test_kernels_cuda part K N: checks every N-th kernel from the
 * K-th one on, so that N processes together check all; the process with K = 1 also checks the
 * alignment. */
int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "list") == 0)
        return print_names();
    skip_without_gpu();
    int first = 0, parts = 1;
    if (argc == 4 && strcmp(argv[1], "part") == 0) {
        first = atoi(argv[2]) - 1;
        parts = atoi(argv[3]);
        CHECKF(first >= 0 && first < parts, "part %s of %s", argv[2], argv[3]);
        argc = 1;
    }
    for (int j = 1; j < argc; j++)
        CHECKF(is_name(argv[j]), "'%s' is no kernel; 'list' prints their names", argv[j]);
    if (argc == 1 ? first == 0 : strcmp(argv[argc - 1], "alignment") == 0) {
        check_alignment(PLUMB_F32);
        check_alignment(PLUMB_BF16);
        check_rounding();
    }
    for (int i = 0; i < KERNELS; i++) {
        bool wanted = argc == 1 && i % parts == first && !is_elsewhere(&list[i]);
        for (int j = 1; j < argc; j++)
            wanted = wanted || strcmp(argv[j], list[i].name) == 0;
        uint64_t digest = 0;
        /* Only two orders for bfloat16, and for sample_fwd, which takes half of the whole time. */
        const bool two = list[i].dtype == PLUMB_BF16 || strcmp(list[i].name, "sample_fwd") == 0;
        const size_t orders = two ? 2 : ORDERS;
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
