/* test_head.c - checks that the fused vocabulary head gives the same bits for every number of rows
 * per block.
 * Test. */
#include "harness.h"

#include <string.h>

#include "op/op.h"

enum { N = 21, V = 77, C = 12 };

/* The matrices are aligned to 16 bytes, as in an arena. */
struct data {
    _Alignas(16) float x[N * C];
    _Alignas(16) float w[V * C];
    _Alignas(16) float dx[N * C];
    _Alignas(16) float dw[V * C];
    float dlogp[N], logp[N], lse[N];
    int32_t target[N];
};

static float *floats(struct plumb_backend *b, int64_t n)
{
    void *data = NULL;
    CHECK_OK(b->alloc(b, &data, (n > 0 ? n : 1) * 4, "test"));
    return data;
}

/* Runs the forward and backward of the head in the memory of b. The gradients dx and dw are added
 * to 1. */
static void run(struct plumb_backend *b, struct data *host, int64_t head_rows, bool kept, float cap)
{
    const enum plumb_place at = b->place;
    struct data *d;
    void *block;
    const int64_t count = b->k.linear_packed_count(V, C);
    const int64_t room = plumb_op_head_work_count(b, head_rows, V, C, true);
    float *packed_data = floats(b, count), *work_data = floats(b, room);
    CHECK_OK(b->alloc(b, &block, sizeof(*d), "test"));
    d = block;
    const struct plumb_tensor x = plumb_view_f32("x", d->x, at, N, C);
    const struct plumb_tensor w = plumb_view_f32("w", d->w, at, V, C);
    const struct plumb_tensor packed = plumb_view_f32("packed", packed_data, at, count);
    const struct plumb_tensor work = plumb_view_f32("work", work_data, at, room);
    const struct plumb_tensor target = plumb_view_i32("target", d->target, at, N);
    const struct plumb_tensor logp = plumb_view_f32("logp", d->logp, at, N);
    const struct plumb_tensor lse = plumb_view_f32("lse", d->lse, at, N);
    const struct plumb_tensor dlogp = plumb_view_f32("dlogp", d->dlogp, at, N);
    const struct plumb_tensor dx = plumb_view_f32("dx", d->dx, at, N, C);
    const struct plumb_tensor dw = plumb_view_f32("dw", d->dw, at, V, C);
    for (int i = 0; i < N * C; i++)
        host->dx[i] = 1.0f;
    for (int i = 0; i < V * C; i++)
        host->dw[i] = 1.0f;
    CHECK_OK(b->to_device(b, d, host, sizeof(*d)));
    CHECK_OK(plumb_op_linear_pack(b, &packed, &w));
    CHECK_OK(plumb_op_head_logprob_fwd(b, &logp, &lse, NULL, &x, &packed, &target, V, &work,
                                       head_rows, cap));
    CHECK_OK(plumb_op_head_logprob_bwd(b, &dx, &dw, &dlogp, &lse, &x, &w, &packed, &target, &work,
                                       head_rows, kept, cap));
    CHECK_OK(b->to_host(b, host, d, sizeof(*d)));
    b->release(b, d);
    b->release(b, packed_data);
    b->release(b, work_data);
}

/* Computes logp, dx and dw by their definition, in double. dx and dw do not contain the 1 to which
 * run() adds the gradients. */
static void define(struct data *d, float cap)
{
    static double dx[N * C], dw[V * C];
    memset(dx, 0, sizeof(dx));
    memset(dw, 0, sizeof(dw));
    for (int i = 0; i < N; i++) {
        double z[V], sum = 0.0;
        for (int j = 0; j < V; j++) {
            z[j] = 0.0;
            for (int k = 0; k < C; k++)
                z[j] += (double)d->x[i * C + k] * d->w[j * C + k];
            if (cap > 0.0f)
                z[j] = cap * tanh(z[j] / cap);
            sum += exp(z[j]);
        }
        d->logp[i] = (float)(z[d->target[i]] - log(sum));
        for (int j = 0; j < V; j++) {
            const double slope = cap > 0.0f ? 1.0 - z[j] * z[j] / ((double)cap * cap) : 1.0;
            const double g = d->dlogp[i] * ((j == d->target[i]) - exp(z[j]) / sum) * slope;
            for (int k = 0; k < C; k++) {
                dx[i * C + k] += g * d->w[j * C + k];
                dw[j * C + k] += g * d->x[i * C + k];
            }
        }
    }
    for (int i = 0; i < N * C; i++)
        d->dx[i] = (float)(1.0 + dx[i]);
    for (int i = 0; i < V * C; i++)
        d->dw[i] = (float)(1.0 + dw[i]);
}

/* tests/cuda_emu builds this file a second time, for the CUDA backend. */
#ifdef PLUMB_TEST_CUDA
#include "cuda_emu/gpu.h"
enum { BACKENDS = 1 };
static plumb_status create(struct plumb_backend **b, int which)
{
    (void)which;
    return plumb_backend_cuda_create(b, 0);
}
#else
enum { BACKENDS = 2 };
static plumb_status create(struct plumb_backend **b, int which)
{
    return which ? plumb_backend_ref_create(b) : plumb_backend_cpu_create(b, 2, 1);
}
#endif

/* Compares one backend with the definition, for one soft cap of the logits (0: no cap). Other
 * numbers of rows per block must give the same bits of logp, lse and dx, and the same dw within a
 * tolerance. If the logits are kept for the backward, no bit may change. */
static void check(struct plumb_backend *b, struct data *whole, float cap)
{
    static struct data part, want;
    want = *whole;
    define(&want, cap);
    run(b, whole, N, false, cap);
    CHECK(worst(whole->logp, want.logp, N, 1e-6, 1e-6) <= 1.0);
    CHECK(worst(whole->dx, want.dx, N * C, 1e-5, 1e-6) <= 1.0);
    CHECK(worst(whole->dw, want.dw, V * C, 1e-5, 1e-6) <= 1.0);
    part = *whole;
    run(b, &part, N, true, cap);
    CHECK(memcmp(&part, whole, sizeof(*whole)) == 0);
    for (int64_t rows = 1; rows < N; rows += 3) {
        run(b, &part, rows, false, cap);
        CHECKF(memcmp(part.logp, whole->logp, sizeof(whole->logp)) == 0, "%d rows", (int)rows);
        CHECKF(memcmp(part.lse, whole->lse, sizeof(whole->lse)) == 0, "%d rows", (int)rows);
        CHECKF(memcmp(part.dx, whole->dx, sizeof(whole->dx)) == 0, "%d rows", (int)rows);
        CHECK(worst(part.dw, whole->dw, V * C, 1e-5, 1e-6) <= 1.0);
        static struct data kept;
        kept = part;
        run(b, &kept, rows, true, cap);
        CHECKF(memcmp(&kept, &part, sizeof(part)) == 0, "%d rows, logits kept", (int)rows);
    }
    const struct plumb_tensor row = plumb_view_f32("x", whole->x, b->place, N, C);
    CHECK(plumb_op_head_logprob_bwd(b, &row, &row, &row, &row, &row, &row, &row, &row, &row, 0,
                                    true, 0) == PLUMB_ERR_ARG);
}

int main(void)
{
    static struct data whole;
    struct rng r = {5};
    struct plumb_backend *b = NULL;
#ifdef PLUMB_TEST_CUDA
    skip_without_gpu();
#endif
    for (int i = 0; i < N * C; i++)
        whole.x[i] = rng_f(&r, -1, 1);
    for (int i = 0; i < V * C; i++)
        whole.w[i] = rng_f(&r, -1, 1);
    for (int i = 0; i < N; i++) {
        whole.dlogp[i] = rng_f(&r, -1, 1);
        whole.target[i] = (int32_t)(rng_u(&r) * V);
    }
    for (int which = 0; which < 2 * BACKENDS; which++) {
        CHECK_OK(create(&b, which / 2));
        check(b, &whole, which % 2 ? 2.5f : 0.0f);
        plumb_backend_destroy(&b);
    }
    return 0;
}
