/* gemm_skinny.cu - plumb's own kernel for the bfloat16 forward of a linear layer with few rows, on
 * tensor cores.
 * Layer 1 (cuda). Includes gemm.cuh, mma.cuh.
 *
 * A block computes BLOCK_OUT outputs of all rows, a warp WARP_OUT of them. The sums are computed in
 * steps of STEP terms. Asynchronous copies load the weights and rows of each step into one of a
 * ring of STAGES buffers in shared memory:
 *
 *     buffer    | weights (BLOCK_OUT, STEP + 8) | rows (16 TILES, STEP + 8) |     bfloat16
 *
 * The padding of 8 elements keeps load_matrix free of bank conflicts. Elements beyond the ends of
 * the arrays are zeros in a buffer.
 *
 * Order of the sum: one chain of mma with 16 terms each, in ascending order, from 0. gemm_class.cu
 * tests whether these are the bits of cuBLASLt's algorithms, and uses the kernel only then, and for
 * at most SKINNY_ROWS rows. */
#include "cuda/gemm.cuh"
#include "cuda/mma.cuh"

static constexpr int SKINNY_WARPS = 4, SKINNY_THREADS = SKINNY_WARPS * WARP;
static constexpr int WARP_OUT = 8, BLOCK_OUT = SKINNY_WARPS * WARP_OUT;
static constexpr int STEP = 64, ROW = STEP + 8, STAGES = 8, PIECE = PER<plumb_bf16>;
static constexpr int MOST_TILES = 4; /* largest number of tiles of 16 rows */

/* number of elements of a buffer */
template <int TILES> static constexpr int BUFFER = (BLOCK_OUT + 16 * TILES) * ROW;

/* Starts the copies of rows first .. first + most - 1 of x (rows,in), columns k .. k + STEP - 1.
 * WEIGHTS: true if wait_for_previous() has not been called yet. x must then be weights, which are
 * complete before a graph starts. */
template <bool WEIGHTS>
DEVICE void copy_rows(plumb_bf16 *to, const plumb_bf16 *x, int most, int64_t first, int64_t rows,
                      int64_t k, int64_t in)
{
    for (int i = int(threadIdx.x); i < most * (STEP / PIECE); i += SKINNY_THREADS) {
        const int row = i / (STEP / PIECE), column = i % (STEP / PIECE) * PIECE;
        const bool there = first + row < rows && k + column < in;
        const plumb_bf16 *from = there ? x + (first + row) * in + k + column : x;
        if (WEIGHTS)
            copy16_async_early(to + row * ROW + column, from, there);
        else
            copy16_async(to + row * ROW + column, from, there);
    }
}

/* y[i,o] = sum_k x[i,k] w[o,k] + beta y[i,o] for n <= 16 TILES rows. early: number of steps whose
 * weights the kernel starts to copy before it waits for the previous kernel, which computes x; 0 if
 * the weights may not be complete yet. in: a multiple of 8; early < STAGES */
template <int TILES, class Y>
static __global__ void __launch_bounds__(SKINNY_THREADS)
    skinny_kernel(Y *y, const plumb_bf16 *x, const plumb_bf16 *w, float beta, int64_t n,
                  int64_t out, int64_t in, int early)
{
    PLUMB_SHARED(plumb_bf16, shared);
    constexpr int SIZE = BUFFER<TILES>;
    const int lane = int(threadIdx.x % WARP), warp = int(threadIdx.x / WARP);
    const int64_t first = int64_t(blockIdx.x) * BLOCK_OUT, steps = (in + STEP - 1) / STEP;
    float c[TILES][4] = {};
    for (int s = 0; s < early && s < steps; s++)
        copy_rows<true>(shared + s * SIZE, w, BLOCK_OUT, first, out, s * STEP, in);
    wait_for_previous();
    for (int s = 0; s < STAGES - 1; s++) {
        plumb_bf16 *to = shared + s * SIZE;
        if (s < steps) {
            if (s >= early)
                copy_rows<false>(to, w, BLOCK_OUT, first, out, s * STEP, in);
            copy_rows<false>(to + BLOCK_OUT * ROW, x, 16 * TILES, 0, n, s * STEP, in);
        }
        copy_async_commit();
    }
    for (int64_t at = 0; at < steps; at++) {
        copy_async_wait(STAGES - 2);
        __syncthreads(); /* step `at` has arrived, and all warps have finished step at - 1 */
        const int64_t next = at + STAGES - 1;
        plumb_bf16 *to = shared + next % STAGES * SIZE;
        if (next < steps) {
            copy_rows<false>(to, w, BLOCK_OUT, first, out, next * STEP, in);
            copy_rows<false>(to + BLOCK_OUT * ROW, x, 16 * TILES, 0, n, next * STEP, in);
        }
        copy_async_commit();
        const plumb_bf16 *weights = shared + at % STAGES * SIZE + warp * WARP_OUT * ROW;
        const plumb_bf16 *rows = shared + at % STAGES * SIZE + BLOCK_OUT * ROW;
#pragma unroll
        for (int k = 0; k < STEP; k += 32) {
            unsigned b[4]; /* of two products: the words b[0], b[1], then b[2], b[3] */
            load_matrix(b, weights + lane % 8 * ROW + k + lane / 8 * 8);
#pragma unroll
            for (int half = 0; half < 2; half++)
#pragma unroll
                for (int t = 0; t < TILES; t++) {
                    unsigned a[4];
                    load_matrix(a,
                                rows + (16 * t + lane % 16) * ROW + k + 16 * half + lane / 16 * 8);
                    mma_bf16(c[t], a, b[2 * half], b[2 * half + 1]);
                }
        }
    }
    for (int t = 0; t < TILES; t++)
        for (int e = 0; e < 4; e++) {
            const int64_t i = 16 * t + lane / 4 + e / 2 * 8;
            const int64_t o = first + warp * WARP_OUT + 2 * (lane % 4) + e % 2;
            if (i < n && o < out)
                put(y + i * out + o, c[t][e], beta);
        }
}

template <int TILES, class Y>
static plumb_status skinny(struct plumb_cuda *c, Y *y, const plumb_bf16 *x, const plumb_bf16 *w,
                           float beta, int64_t n, int64_t out, int64_t in)
{
    const size_t bytes = STAGES * BUFFER<TILES> * sizeof(plumb_bf16);
    const auto kernel = skinny_kernel<TILES, Y>;
    PLUMB_TRY(allow_shared(kernel, bytes));
    PLUMB_LAUNCH_EARLY(kernel, unsigned(ceil_div(out, BLOCK_OUT)), SKINNY_THREADS, bytes, c, y, x,
                       w, beta, n, out, in, c->early ? STAGES - 1 : 0);
    return launched("product of few rows");
}

template <class Y>
static plumb_status skinny_of(struct plumb_cuda *c, Y *y, const plumb_bf16 *x, const plumb_bf16 *w,
                              float beta, int64_t n, int64_t out, int64_t in)
{
    if (n <= 16)
        return skinny<1>(c, y, x, w, beta, n, out, in);
    if (n <= 32)
        return skinny<2>(c, y, x, w, beta, n, out, in);
    return skinny<MOST_TILES>(c, y, x, w, beta, n, out, in);
}

plumb_status plumb_cuda_gemm_skinny(struct plumb_cuda *c, product p, void *d, const void *a,
                                    const void *b, float beta, int64_t n, int64_t out, int64_t in)
{
    const plumb_bf16 *w = static_cast<const plumb_bf16 *>(a);
    const plumb_bf16 *x = static_cast<const plumb_bf16 *>(b);
    PLUMB_REQUIRE(
        p.is == FORWARD && p.read == CUDA_R_16BF && n <= 16 * MOST_TILES && in % PIECE == 0 &&
            aligned16(a, b),
        PLUMB_ERR_SHAPE,
        "product of few rows: %lld rows of %lld elements; expected a forward in bfloat16 "
        "of at most %d rows, whose length is a multiple of %d and which are aligned to 16 "
        "bytes",
        (long long)n, (long long)in, 16 * MOST_TILES, PIECE);
    PLUMB_TRY(check_grid("product of few rows", ceil_div(out, BLOCK_OUT), 1));
    if (p.written == CUDA_R_32F)
        return skinny_of(c, static_cast<float *>(d), x, w, beta, n, out, in);
    return skinny_of(c, static_cast<plumb_bf16 *>(d), x, w, beta, n, out, in);
}

/* ---- its algorithm --------------------------------------------------------------------------- */

/* The first word of the cublasLtMatmulAlgo_t that stands for this kernel. The first word of
 * cuBLASLt's own algorithms is a small number. */
static constexpr uint64_t MARK = 0x736B696E6E792031; /* "skinny 1" */

extern "C" void plumb_cuda_gemm_skinny_algo(cublasLtMatmulAlgo_t *algo)
{
    memset(algo, 0, sizeof(*algo));
    algo->data[0] = MARK;
}

bool plumb_cuda_gemm_is_skinny(const cublasLtMatmulAlgo_t *algo)
{
    return algo->data[0] == MARK;
}

bool plumb_cuda_gemm_skinny_can(product p, int64_t n, int64_t out, int64_t in)
{
    return p.is == FORWARD && p.read == CUDA_R_16BF && n <= SKINNY_ROWS && in % PIECE == 0 &&
           out > FEW_OUTPUTS;
}
