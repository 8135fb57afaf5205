/* hash.cu - the block hash (hash_blocks in kernels.h); one thread block per hash block.
 * Layer 1 (cuda). Includes device.cuh. */
#include "cuda/device.cuh"

static constexpr int THREADS = 256, LANES = PLUMB_HASH_LANES, ROWS = THREADS / LANES;

DEVICE uint64_t mix(uint64_t h)
{
    PLUMB_HASH_MIX(h);
    return h;
}

DEVICE uint64_t word_at(const float *x, int64_t i, int64_t n)
{
    const uint64_t low = i < n ? __float_as_uint(x[i]) : 0u;
    const uint64_t high = i + 1 < n ? __float_as_uint(x[i + 1]) : 0u;
    return low | high << 32;
}

/* Thread t processes lane t % LANES of every ROWS-th row, from row t / LANES on. The sums are
 * modulo 2^64, so their order does not change the result. */
static __global__ void __launch_bounds__(THREADS)
    hash_kernel(uint64_t *out, const float *x, int64_t n)
{
    __shared__ uint64_t part[2][ROWS][LANES];
    const int64_t begin = int64_t(blockIdx.x) * PLUMB_HASH_BLOCK;
    const int64_t left = n - begin, size = left < PLUMB_HASH_BLOCK ? left : PLUMB_HASH_BLOCK;
    const int lane = int(threadIdx.x) % LANES, first = int(threadIdx.x) / LANES;
    const uint64_t key = mix(uint64_t(lane) + 1);
    uint64_t p = 0, s = 0;
    for (int64_t row = first; row * 2 * LANES < size; row += ROWS) {
        const uint64_t v = word_at(x + begin, 2 * (row * LANES + lane), size);
        const uint64_t k = v ^ (key + uint64_t(row) * PLUMB_HASH_STEP);
        p += (k & 0xffffffffu) * (k >> 32);
        s += v;
    }
    part[0][first][lane] = p;
    part[1][first][lane] = s;
    __syncthreads();
    if (threadIdx.x >= WARP)
        return;
    for (int i = 1; first == 0 && i < ROWS; i++) {
        p += part[0][i][lane];
        part[1][0][lane] += part[1][i][lane];
    }
    __syncwarp();
    const uint64_t other = part[1][0][lane ^ 1];
    const uint64_t h = warp_sum(first == 0 ? mix(p + other + uint64_t(lane)) : uint64_t(0));
    if (threadIdx.x == 0)
        out[blockIdx.x] = mix(h + uint64_t(size));
}

static plumb_status hash_blocks(plumb_stream *s, uint64_t *out, const float *x, int64_t n)
{
    const int64_t blocks = ceil_div(n, PLUMB_HASH_BLOCK);
    if (n == 0)
        return PLUMB_OK;
    PLUMB_TRY(check_grid("hash_blocks", blocks, 1));
    PLUMB_LAUNCH(hash_kernel, unsigned(blocks), THREADS, 0, context_of(s)->stream, out, x, n);
    return launched("hash_blocks");
}

void plumb_cuda_init_hash(struct plumb_kernels *t)
{
    t->hash_blocks = hash_blocks;
}
