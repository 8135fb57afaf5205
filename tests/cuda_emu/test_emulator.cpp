/* test_emulator.cpp - checks that the emulator finds faults of a CUDA program. Each fault of the
 * lists below gives a wrong result in some order of threads or streams, or ends the program with a
 * message. Test. Includes the emulated runtime. */
#include <cuda_runtime.h>
#include <emu_mma.h>

#include <cstdio>
#include <cstdlib>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(c)                                                                                   \
    do {                                                                                           \
        if (!(c)) {                                                                                \
            fprintf(stderr, "%s:%d: CHECK(%s)\n", __FILE__, __LINE__, #c);                         \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

namespace
{

enum { N = 1000, ORDERS = 12 };

float *device_floats(size_t n)
{
    void *data = nullptr;
    CHECK(cudaMalloc(&data, n * sizeof(float)) == cudaSuccess);
    return static_cast<float *>(data);
}
cudaStream_t new_stream()
{
    cudaStream_t s;
    CHECK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking) == cudaSuccess);
    return s;
}

/* ---- faults that end the program --------------------------------------------------------- */

__global__ void fill(float *x, int n, float value)
{
    const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n)
        x[i] = value;
}
__global__ void fill_one_more(float *x, int n, float value)
{
    const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (i <= n)
        x[i] = value;
}
__global__ void reach(float *x, int far)
{
    x[far] = x[far] + 1.0f;
}
__global__ void half_mask(float *x)
{
    x[threadIdx.x] = __shfl_xor_sync(0x0000ffffu, x[threadIdx.x], 1);
}
__global__ void outside_lane(float *x)
{
    if (threadIdx.x < 16)
        x[threadIdx.x] = __shfl_xor_sync(0x0000ffffu, x[threadIdx.x], 16);
}
__global__ void two_barriers(float *x)
{
    if (threadIdx.x < 16)
        __syncthreads();
    else
        __syncthreads();
    x[threadIdx.x] = 1.0f;
}
__global__ void never_meet(float *x)
{
    if (threadIdx.x < 16)
        x[threadIdx.x] = __shfl_sync(0xffffffffu, 1.0f, 0);
    __syncthreads();
}
__global__ void past_shared(float *x)
{
    PLUMB_SHARED(float, part);
    part[threadIdx.x + 1] = 1.0f;
    x[threadIdx.x] = part[threadIdx.x];
}
__global__ void half_a_product(float *x)
{
    unsigned a[4] = {};
    if (threadIdx.x < 16)
        mma_bf16(x, a, 0, 0);
    __syncthreads();
}
__global__ void odd_row(float *x)
{
    PLUMB_SHARED(float, part);
    unsigned r[4];
    load_matrix(r, part + threadIdx.x % 2);
    x[threadIdx.x] = __uint_as_float(r[0]);
}
__global__ void row_outside(float *x)
{
    unsigned r[4];
    load_matrix(r, x);
    x[threadIdx.x] = __uint_as_float(r[0]);
}
__global__ void copy_outside(float *x)
{
    copy16_async(x, x + 4, true);
    copy_async_commit();
    copy_async_wait(0);
}
__global__ void odd_vector(float *x)
{
    *reinterpret_cast<float4 *>(x + 1) = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
}

/* The kernels below are launched early: before the end of the previous kernel. */

__global__ void late_wait(float *x)
{
    x[threadIdx.x] = 1.0f;
    emu::wait_for_previous(EMU_SITE);
}
__global__ void some_wait(float *x)
{
    if (blockIdx.x == 1 && threadIdx.x > 3)
        return;
    emu::wait_for_previous(EMU_SITE);
    x[threadIdx.x] = 1.0f;
}
__global__ void early_copy(float *x)
{
    PLUMB_SHARED(float, part);
    copy16_async(part, x, true);
    emu::wait_for_previous(EMU_SITE);
}
/* Copies x[4..7] before the wait, which is allowed because no kernel writes them. Then adds 1 to
 * x[0..3]. */
__global__ void add_early(float *x)
{
    PLUMB_SHARED(float, part);
    if (threadIdx.x == 0)
        copy16_async_early(part, x + 4, true);
    emu::wait_for_previous(EMU_SITE);
    copy_async_commit();
    copy_async_wait(0);
    __syncthreads();
    x[threadIdx.x] += part[threadIdx.x];
}

struct context {
    cudaStream_t stream;
};
/* Launches the kernel early, with 2 blocks of 16 threads, on stream s. */
void launch_early(void (*kernel)(float *), float *x, cudaStream_t s)
{
    const context c = {s};
    PLUMB_LAUNCH_EARLY(kernel, 2, 16, 512, &c, x);
}

cudaGraphExec_t record(float *x, cudaStream_t s)
{
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    CHECK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
    PLUMB_LAUNCH(reach, 1, 1, 0, s, x, 0);
    CHECK(cudaStreamEndCapture(s, &graph) == cudaSuccess);
    CHECK(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess);
    CHECK(cudaGraphDestroy(graph) == cudaSuccess);
    return exec;
}

struct Fault {
    /* part of the expected message; "" if the sanitizer prints its own message */
    const char *name, *says;
    bool sanitizer; /* the fault is found only in builds with the sanitizers */
    void (*make)(float *x, cudaStream_t s);
};

const Fault faults[] = {
    {"tail guard off by one", "", false,
     [](float *x, cudaStream_t s) {
         PLUMB_LAUNCH(fill_one_more, 4, 256, 0, s, x, int(N), 1.0f);
         (void)cudaFree(x);
     }},
    {"read far past the end", "", false,
     [](float *x, cudaStream_t s) { PLUMB_LAUNCH(reach, 1, 1, 0, s, x, int(N) + 1024); }},
    {"write before the beginning", "", false,
     [](float *x, cudaStream_t s) { PLUMB_LAUNCH(reach, 1, 1, 0, s, x, -1); }},
    {"past dynamic shared memory", "", true,
     [](float *x, cudaStream_t s) { PLUMB_LAUNCH(past_shared, 1, 32, 128, s, x); }},
    {"a vector that is not aligned", "", true,
     [](float *x, cudaStream_t s) { PLUMB_LAUNCH(odd_vector, 1, 1, 0, s, x); }},
    {"a product of half a warp", "no thread can go on", false,
     [](float *x, cudaStream_t s) { PLUMB_LAUNCH(half_a_product, 1, 32, 0, s, x); }},
    {"a matrix's row that is not aligned", "not aligned", false,
     [](float *x, cudaStream_t s) { PLUMB_LAUNCH(odd_row, 1, 32, 512, s, x); }},
    {"a matrix's row outside of shared memory", "not in shared memory", false,
     [](float *x, cudaStream_t s) { PLUMB_LAUNCH(row_outside, 1, 32, 512, s, x); }},
    {"an asynchronous copy to elsewhere", "not in shared memory", false,
     [](float *x, cudaStream_t s) { PLUMB_LAUNCH(copy_outside, 1, 1, 512, s, x); }},
    {"memory read before the kernel before has ended", "before wait_for_previous()", false,
     [](float *x, cudaStream_t s) { launch_early(late_wait, x, s); }},
    {"a copy before the kernel before has ended", "before wait_for_previous()", false,
     [](float *x, cudaStream_t s) { launch_early(early_copy, x, s); }},
    {"a thread that does not wait for the kernel before", "ends without wait_for_previous()", false,
     [](float *x, cudaStream_t s) { launch_early(some_wait, x, s); }},
    {"freed memory as an argument", "freed device memory", false,
     [](float *x, cudaStream_t s) {
         (void)cudaFree(x);
         PLUMB_LAUNCH(fill, 4, 256, 0, s, x, int(N), 1.0f);
     }},
    {"waiting while a stream is captured", "cudaStreamSynchronize while a stream is captured",
     false,
     [](float *x, cudaStream_t s) {
         (void)cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal);
         PLUMB_LAUNCH(fill, 4, 256, 0, s, x, int(N), 1.0f);
         (void)cudaStreamSynchronize(s);
     }},
    {"memory taken while a stream is captured", "cudaMalloc while", false,
     [](float *, cudaStream_t s) {
         (void)cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal);
         (void)device_floats(1);
     }},
    {"a graph whose memory was freed", "argument 0 holds", false,
     [](float *x, cudaStream_t s) {
         const cudaGraphExec_t graph = record(x, s);
         (void)cudaFree(x);
         (void)cudaGraphLaunch(graph, s);
     }},
    {"a graph that is left over", "1 streams, events, graphs", false,
     [](float *x, cudaStream_t s) {
         (void)record(x, s);
         (void)cudaFree(x);
         (void)cudaStreamDestroy(s);
         exit(0);
     }},
    {"memory freed twice", "no allocation of now", false,
     [](float *x, cudaStream_t) {
         (void)cudaFree(x);
         (void)cudaFree(x);
     }},
    {"host memory as an argument", "an address of host memory", false,
     [](float *, cudaStream_t s) {
         float host[4] = {0};
         PLUMB_LAUNCH(fill, 1, 32, 0, s, host, 4, 1.0f);
     }},
    {"host code reads device memory", "host code touched device memory", false,
     [](float *x, cudaStream_t) { printf("%g\n", double(*static_cast<volatile float *>(x))); }},
    {"a copy of the wrong kind", "kind", false,
     [](float *x, cudaStream_t s) {
         float host[4] = {0};
         (void)cudaMemcpyAsync(x, host, sizeof(host), cudaMemcpyDeviceToHost, s);
     }},
    {"a copy past the end", "inside one allocation", false,
     [](float *x, cudaStream_t s) { (void)cudaMemsetAsync(x + 1, 0, N * sizeof(float), s); }},
    {"a lane outside of its mask", "not in its own mask", false,
     [](float *x, cudaStream_t s) { PLUMB_LAUNCH(half_mask, 1, 32, 0, s, x); }},
    {"a lane that takes no part", "takes no part", false,
     [](float *x, cudaStream_t s) { PLUMB_LAUNCH(outside_lane, 1, 32, 0, s, x); }},
    {"a full mask in a block of half a warp", "takes no part", false,
     [](float *x, cudaStream_t s) { PLUMB_LAUNCH(outside_lane, 1, 16, 0, s, x); }},
    {"two barriers at once", "different barriers", false,
     [](float *x, cudaStream_t s) { PLUMB_LAUNCH(two_barriers, 1, 32, 0, s, x); }},
    {"a shuffle that half of the warp reaches", "no thread can go on", false,
     [](float *x, cudaStream_t s) { PLUMB_LAUNCH(never_meet, 1, 32, 0, s, x); }},
    {"memory that is never freed", "still there", false, [](float *, cudaStream_t) { exit(0); }},
};

/* Runs one fault in a child process. Sets out to the child's standard error, and returns its exit
 * status. */
int run_child(const Fault &f, char *out, size_t room)
{
    int pipe_end[2];
    CHECK(pipe(pipe_end) == 0);
    fflush(nullptr);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        (void)dup2(pipe_end[1], 2);
        close(pipe_end[0]);
        float *x = device_floats(N);
        cudaStream_t s = new_stream();
        f.make(x, s);
        (void)cudaDeviceSynchronize();
        _exit(0);
    }
    close(pipe_end[1]);
    size_t n = 0;
    for (ssize_t k; n + 1 < room && (k = read(pipe_end[0], out + n, room - 1 - n)) > 0;)
        n += size_t(k);
    out[n] = '\0';
    char rest[512];
    while (read(pipe_end[0], rest, sizeof(rest)) > 0)
        continue;
    close(pipe_end[0]);
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    return status;
}

/* ---- faults that show in some orders of threads or streams -------------------------------- */

__global__ void block_total(float *out, const float *x, bool barrier)
{
    __shared__ float part[4];
    float v = x[blockIdx.x * blockDim.x + threadIdx.x];
    for (int with = 16; with > 0; with >>= 1)
        v += __shfl_xor_sync(0xffffffffu, v, with);
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = v;
    if (barrier)
        __syncthreads();
    if (threadIdx.x == 0)
        out[blockIdx.x] = part[0] + part[1] + part[2] + part[3];
}

/* Returns the number of orders of threads in which the sums of three blocks are right. */
int right_totals(bool barrier)
{
    int right = 0;
    for (unsigned seed = 1; seed <= ORDERS; seed++) {
        plumb_emu_seed(seed);
        float host[384], total[3];
        for (int i = 0; i < 384; i++)
            host[i] = float(i);
        float *x = device_floats(384), *out = device_floats(3);
        cudaStream_t s = new_stream();
        CHECK(cudaMemcpyAsync(x, host, sizeof(host), cudaMemcpyHostToDevice, s) == cudaSuccess);
        PLUMB_LAUNCH(block_total, 3, 128, 0, s, out, x, barrier);
        CHECK(cudaMemcpyAsync(total, out, sizeof(total), cudaMemcpyDeviceToHost, s) == cudaSuccess);
        CHECK(cudaStreamSynchronize(s) == cudaSuccess);
        bool same = true;
        for (int b = 0; b < 3; b++)
            same = same && total[b] == 64.0f * float(2 * b * 128 + 127);
        right += same;
        CHECK(cudaFree(x) == cudaSuccess && cudaFree(out) == cudaSuccess);
        CHECK(cudaStreamDestroy(s) == cudaSuccess);
    }
    return right;
}

__global__ void copied(float *out, const float *x, bool wait)
{
    PLUMB_SHARED(float, part);
    copy16_async(part + 4 * threadIdx.x, x + 4 * threadIdx.x, true);
    copy_async_commit();
    if (wait)
        copy_async_wait(0);
    __syncthreads();
    out[threadIdx.x] = part[(threadIdx.x + 4) % 128];
}

/* Returns the number of orders of threads in which an asynchronous copy is complete when it is
 * read. */
int right_copies(bool wait)
{
    int right = 0;
    for (unsigned seed = 1; seed <= ORDERS; seed++) {
        plumb_emu_seed(seed);
        float host[128], got[32];
        for (int i = 0; i < 128; i++)
            host[i] = float(i);
        float *x = device_floats(128), *out = device_floats(32);
        cudaStream_t s = new_stream();
        CHECK(cudaMemcpyAsync(x, host, sizeof(host), cudaMemcpyHostToDevice, s) == cudaSuccess);
        PLUMB_LAUNCH(copied, 1, 32, sizeof(host), s, out, x, wait);
        CHECK(cudaMemcpyAsync(got, out, sizeof(got), cudaMemcpyDeviceToHost, s) == cudaSuccess);
        CHECK(cudaStreamSynchronize(s) == cudaSuccess);
        bool same = true;
        for (int i = 0; i < 32; i++)
            same = same && got[i] == float(i + 4);
        right += same;
        CHECK(cudaFree(x) == cudaSuccess && cudaFree(out) == cudaSuccess);
        CHECK(cudaStreamDestroy(s) == cudaSuccess);
    }
    return right;
}

/* Returns the number of orders of operations in which a second stream reads what the first stream
 * writes. */
int right_waits(bool wait)
{
    int right = 0;
    for (unsigned seed = 1; seed <= ORDERS; seed++) {
        plumb_emu_seed(seed);
        float *x = device_floats(N), host[N];
        cudaStream_t writer = new_stream(), reader = new_stream();
        cudaEvent_t written;
        CHECK(cudaEventCreateWithFlags(&written, cudaEventDisableTiming) == cudaSuccess);
        PLUMB_LAUNCH(fill, 4, 256, 0, writer, x, int(N), 3.0f);
        CHECK(cudaEventRecord(written, writer) == cudaSuccess);
        if (wait)
            CHECK(cudaStreamWaitEvent(reader, written, 0) == cudaSuccess);
        CHECK(cudaMemcpyAsync(host, x, sizeof(host), cudaMemcpyDeviceToHost, reader) ==
              cudaSuccess);
        CHECK(cudaStreamSynchronize(reader) == cudaSuccess);
        right += host[N - 1] == 3.0f;
        while (cudaEventQuery(written) != cudaSuccess)
            continue;
        CHECK(cudaEventSynchronize(written) == cudaSuccess);
        CHECK(cudaEventDestroy(written) == cudaSuccess);
        CHECK(cudaStreamDestroy(writer) == cudaSuccess);
        CHECK(cudaStreamDestroy(reader) == cudaSuccess && cudaFree(x) == cudaSuccess);
    }
    return right;
}

/* Checks that kernels that are launched early still give the results of running one after
 * another. */
void test_early()
{
    const float zero[8] = {0, 0, 0, 0, 1, 1, 1, 1};
    for (unsigned seed = 0; seed < ORDERS; seed++) {
        plumb_emu_seed(seed);
        float *x = device_floats(8), got[4];
        cudaStream_t s = new_stream();
        const context c = {s};
        CHECK(cudaMemcpyAsync(x, zero, sizeof(zero), cudaMemcpyHostToDevice, s) == cudaSuccess);
        for (int i = 0; i < 3; i++)
            PLUMB_LAUNCH_EARLY(add_early, 1, 4, 16, &c, x);
        CHECK(cudaMemcpyAsync(got, x, sizeof(got), cudaMemcpyDeviceToHost, s) == cudaSuccess);
        CHECK(cudaStreamSynchronize(s) == cudaSuccess);
        for (int i = 0; i < 4; i++)
            CHECK(got[i] == 3.0f);
        CHECK(cudaFree(x) == cudaSuccess && cudaStreamDestroy(s) == cudaSuccess);
    }
}

/* Checks that with seed 0 no operation runs before a synchronisation. */
void test_delay()
{
    plumb_emu_seed(0);
    float *x = device_floats(1), host = 7.0f;
    cudaStream_t s = new_stream();
    CHECK(cudaMemsetAsync(x, 0, sizeof(*x), s) == cudaSuccess);
    CHECK(cudaMemcpyAsync(&host, x, sizeof(host), cudaMemcpyDeviceToHost, s) == cudaSuccess);
    CHECK(host == 7.0f);
    CHECK(cudaStreamSynchronize(s) == cudaSuccess && host == 0.0f);
    CHECK(cudaFree(x) == cudaSuccess && cudaStreamDestroy(s) == cudaSuccess);
}

/* Checks that recording a graph runs no operation. Each launch of the graph must run every
 * operation once, after the operations that were in the stream before. */
void test_graph()
{
    float *x = device_floats(1), host = 0.0f;
    cudaStream_t s = new_stream();
    CHECK(cudaMemsetAsync(x, 0, sizeof(*x), s) == cudaSuccess);
    cudaGraphExec_t graph = record(x, s);
    const size_t before = plumb_emu_graph_launches();
    for (int i = 0; i < 3; i++)
        CHECK(cudaGraphLaunch(graph, s) == cudaSuccess);
    CHECK(plumb_emu_graph_launches() == before + 3);
    CHECK(cudaGraphExecDestroy(graph) == cudaSuccess);
    CHECK(cudaMemcpyAsync(&host, x, sizeof(host), cudaMemcpyDeviceToHost, s) == cudaSuccess);
    CHECK(cudaStreamSynchronize(s) == cudaSuccess && host == 3.0f);
    CHECK(cudaFree(x) == cudaSuccess && cudaStreamDestroy(s) == cudaSuccess);
}

void test_limits()
{
    float *x = device_floats(1);
    void *none = x;
    cudaStream_t s = new_stream();
    CHECK(cudaMalloc(&none, size_t(1) << 50) == cudaErrorMemoryAllocation && !none);
    CHECK(cudaGetLastError() == cudaErrorMemoryAllocation && cudaGetLastError() == cudaSuccess);
    PLUMB_LAUNCH(fill, 1, 2048, 0, s, x, 1, 1.0f);
    CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
    PLUMB_LAUNCH(fill, 0, 32, 0, s, x, 1, 1.0f);
    CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
    PLUMB_LAUNCH(fill, 1, 32, 49 << 10, s, x, 1, 1.0f);
    CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
    CHECK(cudaFuncSetAttribute(fill, cudaFuncAttributeMaxDynamicSharedMemorySize, 64 << 10) ==
          cudaSuccess);
    PLUMB_LAUNCH(fill, 1, 32, 49 << 10, s, x, 1, 1.0f);
    CHECK(cudaGetLastError() == cudaSuccess);
    CHECK(cudaSetDevice(99) == cudaErrorInvalidDevice);
    CHECK(cudaStreamDestroy(s) == cudaSuccess && cudaFree(x) == cudaSuccess);
}

} // namespace

int main()
{
    for (const Fault &f : faults) {
        char said[8192];
        if (f.sanitizer && !PLUMB_EMU_ASAN)
            continue;
        const int status = run_child(f, said, sizeof(said));
        if (status == 0 || !strstr(said, f.says)) {
            fprintf(stderr, "%s: status %d, expected a failure that says '%s':\n%s\n", f.name,
                    status, f.says, said);
            return 1;
        }
        printf("seen: %s\n", f.name);
    }
    CHECK(right_totals(true) == ORDERS);
    const int dropped = right_totals(false);
    printf("a dropped barrier: right in %d of %d orders\n", dropped, int(ORDERS));
    CHECK(dropped < ORDERS);
    CHECK(right_copies(true) == ORDERS);
    const int early = right_copies(false);
    printf("a dropped wait for a copy: right in %d of %d orders\n", early, int(ORDERS));
    CHECK(early < ORDERS);
    CHECK(right_waits(true) == ORDERS);
    const int unordered = right_waits(false);
    printf("a missing wait between streams: right in %d of %d orders\n", unordered, int(ORDERS));
    CHECK(unordered < ORDERS);
    test_early();
    test_delay();
    test_graph();
    test_limits();
    CHECK(plumb_emu_live() == 0);
    return 0;
}
