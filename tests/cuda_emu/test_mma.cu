/* test_mma.cu - compares each instruction of kernels/cuda/mma.cuh, and the tile functions of
 * attention_bf16.cuh, with scalar loops on random fragments (a fragment is the part of a matrix
 * that one thread holds). Also checks that mma computes each row independently of the other rows.
 * Test. Includes attention_bf16.cuh. */
#include "cuda/attention_bf16.cuh"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "harness.h"

static constexpr int LANES = 32;

static float widened(unsigned bits)
{
    const unsigned u = bits << 16;
    float x;
    memcpy(&x, &u, sizeof(x));
    return x;
}
/* Returns the upper bits of the bfloat16 that is nearest to x, ties to even. Tries both
 * neighbours. */
static unsigned nearest(float x)
{
    unsigned u;
    memcpy(&u, &x, sizeof(u));
    const unsigned down = u >> 16;
    const double below = fabs(double(x) - widened(down)),
                 above = fabs(double(widened(down + 1)) - x);
    return below < above || (below == above && down % 2 == 0) ? down : down + 1;
}

/* Checks that a CUDA call has succeeded. */
static void ok(cudaError_t e)
{
    CHECKF(e == cudaSuccess, "%s", cudaGetErrorString(e));
}
static cudaStream_t stream;

template <class T> struct Device {
    T *at = nullptr;
    size_t n;
    explicit Device(size_t count) : n(count)
    {
        ok(cudaMalloc(reinterpret_cast<void **>(&at), n * sizeof(T)));
    }
    explicit Device(const std::vector<T> &host) : Device(host.size())
    {
        ok(cudaMemcpyAsync(at, host.data(), n * sizeof(T), cudaMemcpyHostToDevice, stream));
        ok(cudaStreamSynchronize(stream));
    }
    Device(const Device &) = delete;
    ~Device()
    {
        (void)cudaFree(at);
    }
    std::vector<T> host() const
    {
        std::vector<T> h(n);
        ok(cudaGetLastError()); /* an error of the kernel launch */
        ok(cudaMemcpyAsync(h.data(), at, n * sizeof(T), cudaMemcpyDeviceToHost, stream));
        ok(cudaStreamSynchronize(stream));
        return h;
    }
};

static std::vector<plumb_bf16> random_bf16(struct rng *r, size_t n)
{
    std::vector<plumb_bf16> x(n);
    for (plumb_bf16 &e : x)
        e.bits = uint16_t(nearest(rng_f(r, -2.0f, 2.0f)));
    return x;
}

/* ---- mma ---------------------------------------------------------------------------------- */

static __global__ void mma_kernel(float *d, const unsigned *a, const unsigned *b, const float *c)
{
    const int lane = int(threadIdx.x);
    float sum[4];
    for (int i = 0; i < 4; i++)
        sum[i] = c[lane * 4 + i];
    mma_bf16(sum, a + lane * 4, b[lane * 2], b[lane * 2 + 1]);
    for (int i = 0; i < 4; i++)
        d[lane * 4 + i] = sum[i];
}

struct Product {
    uint16_t a[16][16], b[16][8];
    float c[16][8];
};
static void put(unsigned *word, int high, unsigned bits)
{
    *word |= high ? bits << 16 : bits;
}
/* Sets d (16,8) to the product that mma computes from the fragments of a warp's lanes. */
static void multiply(const Product &p, float d[16][8])
{
    std::vector<unsigned> a(LANES * 4), b(LANES * 2);
    std::vector<float> c(LANES * 4);
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < 16; k++)
            put(&a[size_t((i % 8 * 4 + k % 8 / 2) * 4 + i / 8 + k / 8 * 2)], k % 2, p.a[i][k]);
    for (int k = 0; k < 16; k++)
        for (int j = 0; j < 8; j++)
            put(&b[size_t((j * 4 + k % 8 / 2) * 2 + k / 8)], k % 2, p.b[k][j]);
    auto at = [](int i, int j) { return size_t((i % 8 * 4 + j / 2) * 4 + i / 8 * 2 + j % 2); };
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 8; j++)
            c[at(i, j)] = p.c[i][j];
    const Device<unsigned> da(a), db(b);
    const Device<float> dc(c), dd(LANES * 4);
    PLUMB_LAUNCH(mma_kernel, 1, LANES, 0, stream, dd.at, da.at, db.at, dc.at);
    const std::vector<float> got = dd.host();
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 8; j++)
            d[i][j] = got[at(i, j)];
}
static Product random_product(struct rng *r)
{
    Product p;
    for (int i = 0; i < 256; i++)
        p.a[i / 16][i % 16] = uint16_t(nearest(rng_f(r, -2.0f, 2.0f)));
    for (int i = 0; i < 128; i++) {
        p.b[i / 8][i % 8] = uint16_t(nearest(rng_f(r, -2.0f, 2.0f)));
        p.c[i / 8][i % 8] = rng_f(r, -2.0f, 2.0f);
    }
    return p;
}

static void test_mma()
{
    struct rng r = {11};
    for (int round = 0; round < 8; round++) {
        const Product p = random_product(&r);
        float d[16][8];
        multiply(p, d);
        for (int i = 0; i < 16; i++)
            for (int j = 0; j < 8; j++) {
                double sum = p.c[i][j], size = fabs(sum);
                for (int k = 0; k < 16; k++) {
                    const double x = double(widened(p.a[i][k])) * widened(p.b[k][j]);
                    sum += x;
                    size += fabs(x);
                }
                CHECKF(fabs(d[i][j] - sum) <= size * 17 * 0x1p-23, "(%d,%d): %g, not %g", i, j,
                       double(d[i][j]), sum);
            }
    }
}

/* Checks that a row has the same bits alone as in the whole product. Also checks that a factor 0
 * makes the product 0, whatever finite number the other factor is: in a tile of attention, a row
 * has factor 0 for keys that it does not attend to. */
static void test_row_invariance()
{
    static const float beside[] = {1.0f, -2.0f, 0x1p-120f, 0x1.fep120f, -0x1.8p127f};
    struct rng r = {12};
    for (int round = 0; round < 16; round++) {
        Product p = random_product(&r);
        float d[16][8], other[16][8];
        const int row = round;
        for (int j = 0; j < 8 && round % 4 == 0; j++)
            p.c[row][j] *= 0x1p-100f;
        for (int k = round % 3; k < 16; k += 3) {
            p.a[row][k] = 0;
            memset(p.b[k], 0, sizeof(p.b[k]));
        }
        multiply(p, d);
        Product q = p;
        for (int i = 0; i < 16; i++)
            for (int k = 0; k < 16 && i != row; k++)
                q.a[i][k] = uint16_t(nearest(rng_f(&r, -100.0f, 100.0f)));
        for (int i = 0; i < 16; i++)
            for (int j = 0; j < 8 && i != row; j++)
                q.c[i][j] = rng_f(&r, -100.0f, 100.0f);
        for (int k = 0; k < 16; k++)
            for (int j = 0; j < 8 && k % 3 == round % 3; j++)
                q.b[k][j] = uint16_t(nearest(beside[(k + j + round) % 5]));
        multiply(q, other);
        CHECKF(memcmp(d[row], other[row], sizeof(d[row])) == 0, "row %d has other bits", row);
        for (int k = 0; k < 16; k++)
            q.a[row][k] = 0;
        multiply(q, other);
        CHECKF(memcmp(q.c[row], other[row], sizeof(d[row])) == 0, "zeros change row %d", row);
    }
}

/* ---- ldmatrix ------------------------------------------------------------------------------ */

/* ROW: elements between the starts of two rows, of which the first 8 belong to the matrix */
static constexpr int ROWS = 32, ROW = 24;

static __global__ void load_kernel(unsigned *out, const plumb_bf16 *x, bool trans)
{
    PLUMB_SHARED(plumb_bf16, tile);
    const int lane = int(threadIdx.x);
    for (int at = lane; at < ROWS * ROW; at += LANES)
        tile[at] = x[at];
    __syncthreads();
    unsigned r[4];
    if (trans)
        load_matrix_trans(r, tile + lane * ROW);
    else
        load_matrix(r, tile + lane * ROW);
    for (int i = 0; i < 4; i++)
        out[lane * 4 + i] = r[i];
}

static void test_load()
{
    struct rng r = {13};
    const std::vector<plumb_bf16> x = random_bf16(&r, ROWS * ROW);
    const Device<plumb_bf16> dx(x);
    const Device<unsigned> out(LANES * 4);
    for (int trans = 0; trans < 2; trans++) {
        PLUMB_LAUNCH(load_kernel, 1, LANES, ROWS * ROW * sizeof(plumb_bf16), stream, out.at, dx.at,
                     trans != 0);
        const std::vector<unsigned> got = out.host();
        for (int matrix = 0; matrix < 4; matrix++)
            for (int row = 0; row < 8; row++)
                for (int column = 0; column < 8; column++) {
                    const int i = trans ? column : row, j = trans ? row : column;
                    const unsigned word = got[size_t((i * 4 + j / 2) * 4 + matrix)];
                    CHECKF((j % 2 ? word >> 16 : word & 0xffffu) ==
                               x[size_t((matrix * 8 + row) * ROW + column)].bits,
                           "trans %d, matrix %d, (%d,%d)", trans, matrix, row, column);
                }
    }
}

/* ---- cp.async ------------------------------------------------------------------------------ */

/* Each lane copies one piece in each of two groups. Sets out to what lane l reads, after each wait,
 * from the pieces of lane l+1. */
static __global__ void copy_kernel(plumb_bf16 *out, const plumb_bf16 *x)
{
    PLUMB_SHARED(plumb_bf16, tile);
    const int lane = int(threadIdx.x), next = (lane + 1) % LANES;
    for (int group = 0; group < 2; group++) {
        const int at = (group * LANES + lane) * PIECE;
        copy16_async(tile + at, x + at, lane % 5 != 3);
        copy_async_commit();
    }
    copy_async_wait(1);
    __syncthreads();
    for (int e = 0; e < PIECE; e++)
        out[next * PIECE + e] = tile[next * PIECE + e];
    copy_async_wait(0);
    __syncthreads();
    for (int e = 0; e < PIECE; e++)
        out[(LANES + next) * PIECE + e] = tile[(LANES + next) * PIECE + e];
}

static void test_copy()
{
    struct rng r = {14};
    const std::vector<plumb_bf16> x = random_bf16(&r, 2 * LANES * PIECE);
    const Device<plumb_bf16> dx(x), out(x.size());
    PLUMB_LAUNCH(copy_kernel, 1, LANES, x.size() * sizeof(plumb_bf16), stream, out.at, dx.at);
    const std::vector<plumb_bf16> got = out.host();
    for (size_t i = 0; i < x.size(); i++)
        CHECKF(got[i].bits == (i / PIECE % LANES % 5 == 3 ? 0 : x[i].bits), "element %zu", i);
}

/* ---- rounding ------------------------------------------------------------------------------ */

static __global__ void pack_kernel(unsigned *out, const float *x, int n)
{
    const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n)
        out[i] = pack_bf16(x[i], -x[i]);
}

static void test_pack()
{
    static const unsigned head[] = {0x0000, 0x0001, 0x3f80, 0x3f81, 0x7f7e, 0x0080, 0xc2c9, 0x8000};
    static const unsigned tail[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
    std::vector<float> x;
    for (const unsigned h : head)
        for (const unsigned t : tail) {
            const unsigned u = h << 16 | t;
            float f;
            memcpy(&f, &u, sizeof(f));
            x.push_back(f);
        }
    struct rng r = {15};
    for (int i = 0; i < 1000; i++)
        x.push_back(rng_f(&r, -300.0f, 300.0f));
    x.push_back(INFINITY);
    x.push_back(NAN);
    const int n = int(x.size());
    const Device<float> dx(x);
    const Device<unsigned> out(x.size());
    PLUMB_LAUNCH(pack_kernel, unsigned(ceil_div(n, 128)), 128, 0, stream, out.at, dx.at, n);
    const std::vector<unsigned> got = out.host();
    for (size_t i = 0; i + 2 < x.size(); i++)
        CHECKF((got[i] & 0xffffu) == nearest(x[i]) && (got[i] >> 16) == nearest(-x[i]),
               "%a becomes %08x", double(x[i]), got[i]);
    CHECK(got[x.size() - 2] == 0xff807f80u);
    CHECK(widened(got[x.size() - 1] & 0xffffu) != widened(got[x.size() - 1] & 0xffffu));
}

/* ---- ex2 (2^x) ----------------------------------------------------------------------------- */

static __global__ void exp2_kernel(float *out, const float *x, int n)
{
    const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n)
        out[i] = exp2_fast(x[i]);
}

static void test_exp2()
{
    std::vector<float> x = {0.0f, -0.0f, -INFINITY, -1.0f, -127.0f, -200.0f};
    struct rng r = {17};
    for (int i = 0; i < 1000; i++)
        x.push_back(rng_f(&r, -125.0f, 1.0f));
    const int n = int(x.size());
    const Device<float> dx(x), out(x.size());
    PLUMB_LAUNCH(exp2_kernel, unsigned(ceil_div(n, 128)), 128, 0, stream, out.at, dx.at, n);
    const std::vector<float> got = out.host();
    CHECK(got[0] == 1.0f && got[1] == 1.0f && got[2] == 0.0f);
    for (size_t i = 3; i < x.size(); i++) {
        const double want = x[i] < -126.0f ? 0.0 : exp2(double(x[i]));
        CHECKF(fabs(got[i] - want) <= want * 0x1p-21, "2^%a is %a", double(x[i]), double(got[i]));
    }
}

/* ---- tiles --------------------------------------------------------------------------------- */

static constexpr int D = 64, MT = 2;

/* Sets s (16 MT, PAGE) to a b^T and y (16 MT, D) to bf16(s) b. */
static __global__ void tile_kernel(float *s, float *y, const plumb_bf16 *a, const plumb_bf16 *b,
                                   int d)
{
    PLUMB_SHARED(plumb_bf16, shared);
    plumb_bf16 *rows = shared, *page = rows + MT * MMA * STRIDE<D>;
    copy_rows<D, MT * MMA>(rows, d, a, [&](int r) { return a + r * d; });
    copy_rows<D, PAGE>(page, d, b, [&](int r) { return r < PAGE - 3 ? b + r * d : nullptr; });
    copy_async_commit();
    copy_async_wait(0);
    __syncthreads();
    float c[MT][NT][4], sum[MT][D / 8][4] = {};
    scores<D, MT>(c, rows, page);
    for (int m = 0; m < MT; m++)
        for (int n = 0; n < NT; n++)
            for (int e = 0; e < 4; e++)
                s[(m * MMA + lane_row() + e / 2 * 8) * PAGE + n * 8 + 2 * quad_lane() + e % 2] =
                    c[m][n][e];
    add_product<D, D, MT>(sum, c, page, 0);
    for (int m = 0; m < MT; m++)
        for (int n = 0; n < D / 8; n++)
            for (int e = 0; e < 4; e++)
                y[(m * MMA + lane_row() + e / 2 * 8) * D + n * 8 + 2 * quad_lane() + e % 2] =
                    sum[m][n][e];
}

static void test_tiles(int d)
{
    struct rng r = {16};
    const std::vector<plumb_bf16> a = random_bf16(&r, size_t(MT * MMA * d));
    const std::vector<plumb_bf16> b = random_bf16(&r, size_t(PAGE * d));
    const Device<plumb_bf16> da(a), db(b);
    const Device<float> ds(MT * MMA * PAGE), dy(MT * MMA * D);
    const size_t bytes = (MT * MMA + PAGE) * STRIDE<D> * sizeof(plumb_bf16);
    /* Four warps copy the tiles, and then every warp computes the same result. */
    PLUMB_LAUNCH(tile_kernel, 1, ATTENTION_THREADS, bytes, stream, ds.at, dy.at, da.at, db.at, d);
    const std::vector<float> s = ds.host(), y = dy.host();
    for (int i = 0; i < MT * MMA; i++) {
        for (int j = 0; j < PAGE; j++) {
            double sum = 0.0, size = 0.0;
            for (int e = 0; e < d && j < PAGE - 3; e++) {
                const double x =
                    double(widened(a[size_t(i * d + e)].bits)) * widened(b[size_t(j * d + e)].bits);
                sum += x;
                size += fabs(x);
            }
            CHECKF(fabs(s[size_t(i * PAGE + j)] - sum) <= size * d * 0x1p-23, "s (%d,%d)", i, j);
        }
        for (int e = 0; e < D; e++) {
            double sum = 0.0, size = 0.0;
            for (int j = 0; j < PAGE - 3 && e < d; j++) {
                const double x = double(widened(nearest(s[size_t(i * PAGE + j)]))) *
                                 widened(b[size_t(j * d + e)].bits);
                sum += x;
                size += fabs(x);
            }
            CHECKF(fabs(y[size_t(i * D + e)] - sum) <= size * PAGE * 0x1p-23, "y (%d,%d)", i, e);
        }
    }
}

int main()
{
    int gpus = 0;
    if (cudaGetDeviceCount(&gpus) != cudaSuccess || gpus == 0) {
        printf("skipped: no GPU\n");
        return SKIP;
    }
    ok(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    test_mma();
    test_row_invariance();
    test_load();
    test_copy();
    test_pack();
    test_exp2();
    test_tiles(D);
    test_tiles(D - 24);
#ifdef PLUMB_CUDA_EMU
    CHECK(plumb_emu_bank_conflicts() == 0);
#endif
    ok(cudaStreamDestroy(stream));
    return 0;
}
