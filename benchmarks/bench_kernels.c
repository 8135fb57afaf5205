/* bench_kernels.c - speed of the kernels other than GEMM, as shares of the read bandwidth and of
 * the FMA peak of one core.
 * Benchmarks. Includes ceiling.h, backend/, kernels.h. Usage: bench_kernels [instruction set] */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "ceiling.h"

/* Sizes of one step of a 110M-parameter model: 8 sequences of 256 rows. */
enum {
    C = 768,
    F = 2048,
    H = 12,
    D = 64,
    SEQ = 8,
    LEN = 256,
    N = SEQ * LEN,
    V = 32000,
    ROWS = 256
};
enum { PAGE = PLUMB_KV_PAGE, REPEAT = 7 };

struct bench {
    struct plumb_backend *b;
    struct plumb_kernels *k;
    double read, fma; /* measured ceilings of one core: read in GB/s, fma in GFLOP/s */
    float *x[6];      /* six arrays of (N,F) floats */
    float *kc, *vc, *logits, *work;
    int32_t *seq, *pos, *page, *target;
    struct plumb_rows rows;
    struct plumb_attn_shape shape;
};

static void must(plumb_status st)
{
    if (st) {
        fprintf(stderr, "%s", plumb_trail());
        exit(1);
    }
}

static void fill(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(i * 2654435761u % 1000) * 1e-3f - 0.5f;
}

static void *memory(struct bench *m, int64_t floats)
{
    void *p = NULL;
    must(m->b->alloc(m->b, &p, floats * 4, "benchmark"));
    fill(p, floats);
    return p;
}

/* Prints the median time of a call, and how near its bytes and operations per second come to the
 * ceilings, in percent. */
#define TIME(name, bytes, flops, call)                                                             \
    do {                                                                                           \
        double t[REPEAT];                                                                          \
        must(call);                                                                                \
        for (int r = 0; r < REPEAT; r++) {                                                         \
            const double start = ceiling_now();                                                    \
            must(call);                                                                            \
            t[r] = ceiling_now() - start;                                                          \
        }                                                                                          \
        report(m, name, (double)(bytes), (double)(flops), ceiling_spread(t, REPEAT));              \
    } while (0)

static void report(const struct bench *m, const char *name, double bytes, double flops,
                   struct ceiling_spread t)
{
    printf("%-22s %9.3f ms (%.3f-%.3f)  %6.1f GB/s %4.0f %%", name, 1e3 * t.median, 1e3 * t.least,
           1e3 * t.most, 1e-9 * bytes / t.median, 1e-7 * bytes / t.median / m->read);
    if (flops > 0)
        printf("  %6.1f GFLOP/s %4.0f %%", 1e-9 * flops / t.median,
               1e-7 * flops / t.median / m->fma);
    putchar('\n');
}

static void elementwise(struct bench *m)
{
    struct plumb_kernels *k = m->k;
    plumb_stream *s = m->b->stream;
    float **x = m->x;
    const struct plumb_adamw adamw = {1e-4f, 0.9f, 0.95f, 1e-8f, 0.1f, 0.5f, 0.5f, 1.0f};
    const double row = 4.0 * N * C, wide = 4.0 * N * F;
    for (int64_t i = 0; i < (int64_t)N * F; i++)
        x[5][i] = fabsf(x[5][i]);
    TIME("gather_fwd", 2 * row, 0, k->gather_fwd(s, x[0], m->logits, m->target, N, C));
    TIME("gather_bwd", 3 * row, 0, k->gather_bwd(s, m->logits, x[0], m->target, N, C, V / 4));
    TIME("add_fwd", 3 * row, 0, k->add_fwd(s, x[0], x[1], x[2], (int64_t)N * C));
    TIME("rmsnorm_fwd", 2 * row, 0, k->rmsnorm_fwd(s, x[0], x[1], x[2], x[3], N, C, 1e-5f, 0));
    TIME("rmsnorm_bwd", 6 * row, 0,
         k->rmsnorm_bwd(s, x[0], m->work, x[1], x[2], x[3], x[4], N, C, 0));
    TIME("layernorm_fwd", 2 * row, 0,
         k->layernorm_fwd(s, x[0], x[1], x[2], x[3], x[4], x[4], N, C, 1e-5f));
    TIME("rope_fwd", 2 * row, 0, k->rope_fwd(s, x[0], x[1], m->pos, N, H, D, D));
    TIME("act_fwd silu", 3 * wide, 0,
         k->act_fwd(s, x[0], x[1], x[2], (int64_t)N * F, PLUMB_ACT_SILU));
    TIME("act_bwd silu", 5 * wide, 0,
         k->act_bwd(s, x[0], x[3], x[4], x[1], x[2], (int64_t)N * F, PLUMB_ACT_SILU));
    TIME("accumulate", 3 * wide, 0, k->accumulate(s, x[0], x[1], (int64_t)N * F));
    TIME("sumsq", wide, 0, k->sumsq(s, (double *)(void *)m->work, x[0], (int64_t)N * F, 65536));
    TIME("hash_blocks", wide, 0,
         k->hash_blocks(s, (uint64_t *)(void *)m->work, x[0], (int64_t)N * F));
    TIME("adamw", 7 * wide, 0, k->adamw(s, x[0], x[1], x[5], x[2], (int64_t)N * F, &adamw));
}

static void vocabulary(struct bench *m)
{
    static double u[ROWS];
    static int32_t token[ROWS];
    struct plumb_kernels *k = m->k;
    plumb_stream *s = m->b->stream;
    const double bytes = 4.0 * ROWS * V;
    const struct plumb_sample_param greedy = {0.0f, 0, 1.0f, 0.0f}, plain = {1.0f, 0, 1.0f, 0.0f};
    const struct plumb_sample_param top = {0.7f, 50, 0.9f, 0.0f}, nucleus = {1.0f, 0, 0.9f, 0.0f};
    for (int i = 0; i < ROWS; i++)
        u[i] = (i + 0.5) / ROWS;
    TIME("logprob_fwd", bytes, 0,
         k->logprob_fwd(s, m->x[0], m->x[1], m->logits, m->target, ROWS, V));
    TIME("sample greedy", bytes, 0,
         k->sample_fwd(s, token, m->x[0], m->x[4], m->logits, u, &greedy, m->work, ROWS, V));
    TIME("sample T 1", bytes, 0,
         k->sample_fwd(s, token, m->x[0], m->x[4], m->logits, u, &plain, m->work, ROWS, V));
    TIME("sample top_k 50", bytes, 0,
         k->sample_fwd(s, token, m->x[0], m->x[4], m->logits, u, &top, m->work, ROWS, V));
    TIME("sample top_p 0.9", bytes, 0,
         k->sample_fwd(s, token, m->x[0], m->x[4], m->logits, u, &nucleus, m->work, ROWS, V));
    TIME("logprob_bwd", 2 * bytes, 0,
         k->logprob_bwd(s, m->logits, m->logits, m->x[1], m->target, m->x[2], ROWS, V, 0));
}

static void attention(struct bench *m)
{
    struct plumb_kernels *k = m->k;
    plumb_stream *s = m->b->stream;
    float **x = m->x;
    /* number of (row, key) pairs in which the row attends to the key */
    const double pairs = (double)SEQ * H * LEN * (LEN + 1) / 2;
    const double row = 4.0 * N * C;
    /* refills x, because elementwise() may leave subnormal numbers, with which arithmetic is
     * slow */
    for (int i = 0; i < 6; i++)
        fill(x[i], (int64_t)N * F);
    TIME("kv_write_fwd", 4 * row, 0, k->kv_write_fwd(s, m->kc, m->vc, x[0], x[1], &m->rows, H, D));
    TIME("attention_fwd train", 4 * row, pairs * 4 * D,
         k->attention_fwd(s, x[2], x[3], x[0], m->kc, m->vc, &m->rows, &m->shape));
    TIME("attention_bwd train", 8 * row, pairs * 10 * D,
         k->attention_bwd(s, x[4], x[5], x[1], x[0], x[2], x[3], x[0], m->kc, m->vc, m->work,
                          &m->rows, &m->shape));
}

/* Measures decoding: `many` sequences, each with `len` positions in a KV cache that is larger than
 * the CPU caches. */
static void decode(struct bench *m, int64_t many, int64_t len)
{
    const int64_t pages = len / PAGE, step = (int64_t)H * D * PAGE;
    float *kc = memory(m, many * pages * step), *vc = memory(m, many * pages * step);
    int32_t *seq = memory(m, many), *pos = memory(m, many), *page = memory(m, many * pages);
    char name[64];
    for (int64_t i = 0; i < many; i++) {
        seq[i] = (int32_t)i;
        pos[i] = (int32_t)(len - 1);
        for (int64_t p = 0; p < pages; p++)
            /* the pages of the sequences alternate, as continuous batching assigns them */
            page[i * pages + p] = (int32_t)(p * many + i);
    }
    const struct plumb_rows rows = {many, many, pages, seq, pos, page, many};
    snprintf(name, sizeof(name), "decode %lld x %lld", (long long)many, (long long)len);
    TIME(name, 8.0 * (double)(many * pages * step), 4.0 * (double)(many * len * H * D),
         m->k->attention_fwd(m->b->stream, m->x[2], m->x[3], m->x[0], kc, vc, &rows, &m->shape));
    void *all[] = {kc, vc, seq, pos, page};
    for (int i = 0; i < 5; i++)
        m->b->release(m->b, all[i]);
}

static void create(struct bench *m)
{
    for (int i = 0; i < 6; i++)
        m->x[i] = memory(m, (int64_t)N * F);
    m->shape = (struct plumb_attn_shape){H, H, D, 0.125f, 0, 0};
    m->kc = memory(m, (int64_t)N * C);
    m->vc = memory(m, (int64_t)N * C);
    m->logits = memory(m, (int64_t)ROWS * V);
    m->work = memory(m, 1 << 22);
    m->seq = memory(m, N);
    m->pos = memory(m, N);
    m->page = memory(m, N / PAGE);
    m->target = memory(m, N);
    for (int i = 0; i < N; i++) {
        m->seq[i] = i / LEN;
        m->pos[i] = i % LEN;
        m->target[i] = (int32_t)((uint32_t)i * 2654435761u % (V / 4));
    }
    for (int i = 0; i < N / PAGE; i++)
        m->page[i] = i;
    m->rows = (struct plumb_rows){N, SEQ, LEN / PAGE, m->seq, m->pos, m->page, SEQ};
}

int main(int argc, char **argv)
{
    struct bench bench = {0}, *m = &bench;
    const int64_t large = 512 << 20;
    must(plumb_backend_cpu_create(&m->b, 1, 1));
    if (argc > 1 && !plumb_kernels_init_isa(&m->b->k, argv[1])) {
        fprintf(stderr, "instruction set '%s' is not available on this machine\n", argv[1]);
        return 1;
    }
    m->k = &m->b->k;
    void *stream = ceiling_alloc(large);
    if (!stream)
        return 1;
    memset(stream, 1, (size_t)large);
    for (int i = 0; i < 5; i++) {
        m->read = fmax(m->read, ceiling_read(stream, large));
        m->fma = fmax(m->fma, ceiling_fma(0.2));
    }
    free(stream);
    printf("ceilings of one core: %.1f GB/s streaming read, %.1f GFLOP/s float32 FMA\n", m->read,
           m->fma);
    create(m);
    elementwise(m);
    attention(m);
    vocabulary(m);
    decode(m, 8, 1024);
    decode(m, 32, 256);
    plumb_backend_destroy(&m->b);
    return 0;
}
