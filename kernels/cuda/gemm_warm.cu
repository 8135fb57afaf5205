/* gemm_warm.cu - runs every algorithm of the GEMM algorithm cache once.
 * Layer 1 (cuda). Includes gemm.cuh. */
#include "cuda/gemm.cuh"

/* Returns a number of rows for which algorithm k of a cache entry is used. */
static int64_t rows_of(int k)
{
    return k < PLUMB_CUDA_GEMM_BUCKETS - 1 ? GEMM_ROWS[k] : GEMM_ROWS[k - 1] + 1;
}

/* The offsets of the operands x and y in memory, in bytes, and the bytes of w, x and y together; w
 * is at 0. Every element has 4 bytes in this memory, which is enough for both element types. */
struct operands {
    int64_t x, y, bytes;
};

static operands operands_of(const struct plumb_cuda_gemm_entry *e)
{
    const int64_t n = rows_of(PLUMB_CUDA_GEMM_BUCKETS - 1), item = sizeof(float);
    const int64_t x = ceil_div(e->out * e->in * item, 256) * 256;
    const int64_t y = x + ceil_div(n * e->in * item, 256) * 256;
    return operands{x, y, y + n * e->out * item};
}

static plumb_status warm(struct plumb_cuda *c, const struct plumb_cuda_gemm_entry *e, char *memory)
{
    const product p = {static_cast<form>(e->product), e->read, e->written};
    const operands o = operands_of(e);
    char *w = memory, *x = memory + o.x, *y = memory + o.y;
    const bool back_x = p.is == BACKWARD_X, back_w = p.is == BACKWARD_W;
    for (int k = 0; k < PLUMB_CUDA_GEMM_BUCKETS; k++)
        PLUMB_TRY(plumb_cuda_gemm_run(c, p, e->own ? nullptr : &e->algo[k],
                                      back_w   ? w
                                      : back_x ? x
                                               : y,
                                      back_w ? x : w, back_w || back_x ? y : x,
                                      reinterpret_cast<float *>(memory), 0.0f, rows_of(k), e->out,
                                      e->in));
    return PLUMB_OK;
}

extern "C" plumb_status plumb_cuda_gemm_warm(struct plumb_cuda *c)
{
    int64_t most = 0;
    void *memory = nullptr;
    plumb_status st = PLUMB_OK;
    for (int i = 0; i < c->n_cached; i++) {
        const int64_t bytes = operands_of(&c->cached[i]).bytes;
        most = bytes > most ? bytes : most;
    }
    if (most == 0)
        return PLUMB_OK;
    PLUMB_CUDA_TRY(cudaMalloc(&memory, size_t(most)));
    PLUMB_TRY_GOTO(
        st, plumb_cuda_check(cudaMemsetAsync(memory, 0, size_t(most), c->stream), "warm-up"), done);
    for (int i = 0; i < c->n_cached; i++)
        PLUMB_TRY_GOTO(st, warm(c, &c->cached[i], static_cast<char *>(memory)), done);
    st = plumb_cuda_check(cudaStreamSynchronize(c->stream), "warm-up");
done:
    (void)cudaFree(memory);
    return st;
}
