/* normal.cu - random weights, drawn on the device with the bits that the host draws.
 * Layer 1 (cuda). Includes device.cuh, base/rng.h.
 *
 * The device computes the host's formula in double. Its log and cos may differ from the host's in
 * the last bits, and almost always both results become the same float32. If a number is so close to
 * the middle between two float32 numbers that a relative error of NEAR could change its float32
 * value, it is doubtful. About one in 4 million is. The device lists the doubtful numbers, and the
 * host computes them again:
 *
 *     device    | draw all numbers of a part, list the doubtful ones |                  | store |
 *     host                                                             | compute these |
 */
#include <stdlib.h>

#include "cuda/device.cuh"

extern "C" { /* the headers of base/ are plain C, without extern "C" guards */
#include "base/rng.h"
}

static constexpr int THREADS = 256;
/* count of numbers per part; the host waits for the device once per part */
static constexpr int64_t PART = 1 << 26;
/* largest number of doubtful numbers of one part; a GPU finds about 16 */
static constexpr int MOST_DOUBTS = 1 << 16;

/* NEAR is an upper bound of the relative difference between the device's result and the host's.
 * CUDA's log has an error of at most 1 unit of 2^-52, its cos of at most 2, and the host's
 * functions of less than 1 each: together less than 2^-49. The emulator of the tests uses the
 * host's functions and adds an error of its own, so large that even a short test finds doubtful
 * numbers. */
#ifdef PLUMB_CUDA_EMU
static constexpr double NEAR = 0x1p-35, EMULATED_ERROR = 0x1p-36;
#else
static constexpr double NEAR = 0x1p-46, EMULATED_ERROR = 0.0;
#endif

/* The doubtful numbers of a part: *count is their number, list[i] the index of the i-th one in the
 * part, and value[i] its value, computed by the host. *count may exceed MOST_DOUBTS; the list then
 * holds only MOST_DOUBTS of them. */
struct doubts {
    unsigned *count;
    int64_t *list;
    float *value;
};

/* The scratch memory of the context:  | count, padded to 8 bytes | list | value | */
static doubts doubts_of(const struct plumb_cuda *c)
{
    int64_t *base = reinterpret_cast<int64_t *>(c->chunk);
    return doubts{reinterpret_cast<unsigned *>(base), base + 1,
                  reinterpret_cast<float *>(base + 1 + MOST_DOUBTS)};
}
static constexpr int64_t DOUBT_FLOATS = 2 + 3 * int64_t(MOST_DOUBTS);

/* Draws w[i] for i < n: number first + i of the key. */
static __global__ void __launch_bounds__(THREADS)
    normal_kernel(float *w, int64_t first, int64_t n, double std, plumb_rng_key key, doubts doubt)
{
    for (int64_t i = int64_t(blockIdx.x) * THREADS + threadIdx.x; i < n;
         i += int64_t(gridDim.x) * THREADS) {
        uint32_t b[4];
        key.position = uint32_t(first + i);
        key.sample = uint32_t((first + i) >> 32);
        plumb_rng_bits(b, &key);
        const double u1 = (double((uint64_t{b[0]} << 32 | b[1]) >> 11) + 1.0) * 0x1p-53;
        const double u2 = double((uint64_t{b[2]} << 32 | b[3]) >> 11) * 0x1p-53;
        double z = sqrt(-2.0 * log(u1)) * cos(6.283185307179586476925286766559 * u2);
        if (EMULATED_ERROR > 0.0)
            z += i % 2 ? z * EMULATED_ERROR : -z * EMULATED_ERROR;
        w[i] = float(std * z);
        if (float(std * (z * (1.0 - NEAR))) == float(std * (z * (1.0 + NEAR))))
            continue;
        const unsigned slot = atomicAdd(doubt.count, 1u);
        if (slot < MOST_DOUBTS)
            doubt.list[slot] = i;
    }
}

static __global__ void __launch_bounds__(THREADS) store_kernel(float *w, doubts doubt, int count)
{
    const int i = int(blockIdx.x * THREADS + threadIdx.x);
    if (i < count)
        w[doubt.list[i]] = doubt.value[i];
}

static plumb_status copy(struct plumb_cuda *c, void *to, const void *from, int64_t bytes,
                         cudaMemcpyKind kind)
{
    PLUMB_CUDA_TRY(cudaMemcpyAsync(to, from, size_t(bytes), kind, c->stream));
    PLUMB_CUDA_TRY(cudaStreamSynchronize(c->stream));
    return PLUMB_OK;
}

/* Draws the n numbers of one part. list is scratch memory of the host for MOST_DOUBTS indices,
 * followed by MOST_DOUBTS values. */
static plumb_status draw_part(struct plumb_cuda *c, float *w, int64_t first, int64_t n, double std,
                              plumb_rng_key key, int64_t *list)
{
    const doubts doubt = doubts_of(c);
    const int64_t blocks = ceil_div(n, THREADS);
    float *value = reinterpret_cast<float *>(list + MOST_DOUBTS);
    unsigned count = 0;
    PLUMB_CUDA_TRY(cudaMemsetAsync(doubt.count, 0, sizeof(*doubt.count), c->stream));
    PLUMB_LAUNCH(normal_kernel, unsigned(blocks < 4096 ? blocks : 4096), THREADS, 0, c->stream, w,
                 first, n, std, key, doubt);
    PLUMB_TRY(launched("normal"));
    PLUMB_TRY(copy(c, &count, doubt.count, sizeof(count), cudaMemcpyDeviceToHost));
    PLUMB_REQUIRE(
        count <= MOST_DOUBTS, PLUMB_ERR_DEVICE,
        "normal: %u of %lld random numbers are close to the middle of two float32 numbers, "
        "expected at most %d",
        count, (long long)n, MOST_DOUBTS);
    if (count == 0)
        return PLUMB_OK;
    PLUMB_TRY(copy(c, list, doubt.list, count * int64_t(sizeof(*list)), cudaMemcpyDeviceToHost));
    for (unsigned i = 0; i < count; i++) {
        key.position = uint32_t(first + list[i]);
        key.sample = uint32_t((first + list[i]) >> 32);
        value[i] = float(std * plumb_rng_normal(&key));
    }
    PLUMB_TRY(copy(c, doubt.value, value, count * int64_t(sizeof(*value)), cudaMemcpyHostToDevice));
    PLUMB_LAUNCH(store_kernel, unsigned(ceil_div(count, THREADS)), THREADS, 0, c->stream, w, doubt,
                 int(count));
    return launched("normal: doubtful numbers");
}

static plumb_status normal(plumb_stream *s, float *w, int64_t n, double std,
                           const struct plumb_rng_key *key)
{
    struct plumb_cuda *c = context_of(s);
    plumb_status st = PLUMB_OK;
    PLUMB_REQUIRE(c->chunk_floats >= DOUBT_FLOATS, PLUMB_ERR_DEVICE,
                  "normal: %lld floats of scratch memory, expected %lld",
                  (long long)c->chunk_floats, (long long)DOUBT_FLOATS);
    int64_t *host = static_cast<int64_t *>(malloc(MOST_DOUBTS * (sizeof(int64_t) + sizeof(float))));
    PLUMB_REQUIRE(host, PLUMB_ERR_NOMEM, "normal: a list of %d numbers", MOST_DOUBTS);
    for (int64_t i = 0; i < n && st == PLUMB_OK; i += PART)
        st = draw_part(c, w + i, i, n - i < PART ? n - i : PART, std, *key, host);
    free(host);
    return st;
}

void plumb_cuda_init_normal(struct plumb_kernels *t)
{
    t->normal = normal;
}
