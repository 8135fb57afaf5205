/* stream.cpp - emulates streams and events. An operation waits in its stream until a
 * synchronisation needs it. Operations of other streams may run at any time before, as the seed
 * decides. So if no event orders two operations, they run in a wrong order with some seeds.
 * Test. Includes emu.h. */
#include "emu.h"

#include <deque>
#include <map>
#include <memory>
#include <unistd.h>
#include <vector>

struct CUstream_st {
    /* an entry returns false if it is not complete and must be called again */
    std::deque<std::function<bool()>> waiting;
    uint64_t done = 0, pushed = 0;
    bool running = false;
    cudaGraph_t graph = nullptr; /* the graph into which the stream is captured, or null */
};
struct CUevent_st {
    /* null if the event was never recorded; then there is nothing to wait for */
    cudaStream_t stream = nullptr;
    uint64_t position = 0;
    /* time of the device's clock in milliseconds; null for an event without timing */
    std::shared_ptr<double> time;
};

namespace emu
{

size_t live_objects;
double clock_ms;
struct plumb_emu_counts counts;

namespace
{

struct Runtime {
    std::vector<cudaStream_t> streams;
    std::map<const void *, size_t> shared_limit;
    cudaError_t last = cudaSuccess;
    uint64_t random = 0;
    unsigned seed = 1;
    int device = 0, devices = 1;
    int first = 0; /* the host's number of the GPU that is device 0 of this process */
    Runtime()
    {
        if (const char *text = getenv("PLUMB_EMU_SEED"))
            seed = static_cast<unsigned>(strtoul(text, nullptr, 10));
        if (const char *text = getenv("PLUMB_EMU_DEVICES"))
            devices = atoi(text);
        /* With PLUMB_EMU_BIND, each process sees a single GPU of the host, which depends on its
         * local rank, as with srun --gpus-per-task=1. */
        const char *rank = getenv("OMPI_COMM_WORLD_LOCAL_RANK");
        if (getenv("PLUMB_EMU_BIND") && rank && devices > 0) {
            first = atoi(rank) % devices;
            devices = 1;
        }
        random = seed;
    }
};
Runtime &rt()
{
    static Runtime *runtime = new Runtime();
    return *runtime;
}

constexpr size_t SHARED_DEFAULT = 48 << 10, SHARED_MOST = 227 << 10;
constexpr int MAJOR = 9; /* major number of the compute capability */

/* Runs the operations of s up to number `position`, as far as possible without waiting for another
 * process. Returns true if all of them have run. */
bool try_until(cudaStream_t s, uint64_t position)
{
    if (s->running) /* the caller is an operation of s itself */
        return s->done >= position;
    s->running = true;
    memory_open();
    while (s->done < position && s->waiting.front()()) {
        s->waiting.pop_front();
        s->done++;
    }
    memory_close();
    s->running = false;
    return s->done >= position;
}

void run_until(cudaStream_t s, uint64_t position)
{
    while (!try_until(s, position))
        usleep(50);
}

/* Runs a random number of operations of every stream: a real device could have done any of them by
 * now. */
void advance_others()
{
    if (one_order())
        return;
    for (cudaStream_t s : rt().streams)
        if (draw(2))
            (void)try_until(s, s->done + draw(static_cast<uint32_t>(s->pushed - s->done + 1)));
}

} // namespace

bool one_order()
{
    return rt().seed == 0;
}

uint32_t draw(uint32_t end)
{
    uint64_t x = rt().random += 0x9E3779B97F4A7C15ull; /* the splitmix64 generator */
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    x ^= x >> 31;
    return static_cast<uint32_t>(((x >> 32) * end) >> 32);
}

cudaError_t fail(cudaError_t e)
{
    return rt().last = e;
}

bool is_stream(cudaStream_t s)
{
    for (cudaStream_t t : rt().streams)
        if (s == t)
            return true;
    return false;
}

void push_polled(cudaStream_t s, std::function<bool()> step)
{
    if (!is_stream(s))
        fault("an operation on %p, which is no stream of now", static_cast<void *>(s));
    if (s->graph)
        fault("a call to other processes while a stream is captured: not in the emulator");
    s->waiting.push_back(std::move(step));
    s->pushed++;
}

void push(cudaStream_t s, std::function<void()> run, std::function<void()> check)
{
    if (is_stream(s) && s->graph) {
        s->graph->operation.push_back({std::move(run), std::move(check)});
        return;
    }
    push_polled(s, [run] {
        run();
        return true;
    });
}

cudaGraph_t &recording(cudaStream_t s)
{
    return s->graph;
}

void not_while_recording(const char *call)
{
    for (cudaStream_t s : rt().streams)
        if (s->graph)
            fault("%s while a stream is captured", call);
}

void drain()
{
    not_while_recording("a call that waits for the device");
    advance_others();
    for (cudaStream_t s : rt().streams)
        run_until(s, s->pushed);
}

cudaError_t enqueue(const Launch &l, cudaStream_t s, std::function<void()> body,
                    std::function<void()> check)
{
    const uint64_t threads = uint64_t(l.block.x) * l.block.y * l.block.z;
    size_t limit = SHARED_DEFAULT;
    if (rt().shared_limit.count(l.kernel))
        limit = rt().shared_limit[l.kernel];
    if (threads < 1 || threads > 1024 || l.block.z > 64 || l.grid.x < 1 || l.grid.y < 1 ||
        l.grid.z < 1 || l.grid.x > 0x7fffffffu || l.grid.y > 65535 || l.grid.z > 65535 ||
        l.shared > limit)
        return fail(cudaErrorInvalidConfiguration);
    counts.kernels++;
    push(
        s, [l, body] { run_grid(l, body); }, std::move(check));
    return cudaSuccess;
}

} // namespace emu

using namespace emu;

extern "C" struct plumb_emu_counts plumb_emu_counted(void)
{
    return counts;
}

extern "C" void plumb_emu_seed(unsigned seed)
{
    rt().seed = seed;
    rt().random = seed;
}

extern "C" const char *cudaGetErrorName(cudaError_t e)
{
    switch (e) {
#define NAME(x)                                                                                    \
    case x:                                                                                        \
        return #x;
        NAME(cudaSuccess)
        NAME(cudaErrorInvalidValue)
        NAME(cudaErrorMemoryAllocation)
        NAME(cudaErrorInvalidConfiguration)
        NAME(cudaErrorInvalidDevicePointer)
        NAME(cudaErrorInvalidMemcpyDirection)
        NAME(cudaErrorNoDevice)
        NAME(cudaErrorInvalidDevice)
        NAME(cudaErrorInvalidResourceHandle)
        NAME(cudaErrorNotReady)
#undef NAME
    }
    return "unrecognized error code";
}

extern "C" const char *cudaGetErrorString(cudaError_t e)
{
    return cudaGetErrorName(e);
}

extern "C" cudaError_t cudaGetLastError(void)
{
    const cudaError_t e = rt().last;
    rt().last = cudaSuccess;
    return e;
}

extern "C" cudaError_t cudaGetDeviceCount(int *n)
{
    *n = rt().devices;
    return rt().devices > 0 ? cudaSuccess : fail(cudaErrorNoDevice);
}

extern "C" cudaError_t cudaSetDevice(int device)
{
    if (device < 0 || device >= rt().devices)
        return fail(cudaErrorInvalidDevice);
    rt().device = device;
    return cudaSuccess;
}

extern "C" cudaError_t cudaGetDevice(int *device)
{
    *device = rt().device;
    return cudaSuccess;
}

extern "C" cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
    if (device < 0 || device >= rt().devices)
        return fail(cudaErrorInvalidDevice);
    *p = cudaDeviceProp();
    snprintf(p->name, sizeof(p->name), "plumb's emulator");
    size_t available;
    (void)cudaMemGetInfo(&available, &p->totalGlobalMem);
    p->sharedMemPerBlockOptin = SHARED_MOST;
    p->major = MAJOR;
    p->multiProcessorCount = 1;
    p->pciBusID = rt().first + device + 1;
    memcpy(p->uuid.bytes, &p->pciBusID, sizeof(p->pciBusID));
    return cudaSuccess;
}

extern "C" cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr what, int device)
{
    if (device < 0 || device >= rt().devices || what != cudaDevAttrComputeCapabilityMajor)
        return fail(cudaErrorInvalidValue);
    *value = MAJOR;
    return cudaSuccess;
}

extern "C" cudaError_t cudaDriverGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

extern "C" cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *a, const void *)
{
    a->ptxVersion = 10 * MAJOR;
    return cudaSuccess;
}

extern "C" cudaError_t cudaDeviceGetPCIBusId(char *id, int size, int device)
{
    if (device < 0 || device >= rt().devices)
        return fail(cudaErrorInvalidDevice);
    snprintf(id, (size_t)size, "ffff:%02x:00.0", (unsigned)device);
    return cudaSuccess;
}

extern "C" cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute what,
                                            int value)
{
    if (what != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
        static_cast<size_t>(value) > SHARED_MOST)
        return fail(cudaErrorInvalidValue);
    rt().shared_limit[kernel] = static_cast<size_t>(value);
    return cudaSuccess;
}

static bool right_side(const void *at, size_t bytes, bool device)
{
    return device ? is_allocated(at, bytes) : at && !is_device(at);
}

extern "C" cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes,
                                       enum cudaMemcpyKind kind, cudaStream_t s)
{
    const bool device_to = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool device_from = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (bytes == 0)
        return cudaSuccess;
    counts.copies++;
    const auto check = [=] {
        if (!right_side(to, bytes, device_to) || !right_side(from, bytes, device_from))
            fault(
                "cudaMemcpyAsync of kind %d, %zu bytes from %p to %p: not where the kind says, or "
                "not inside one allocation",
                kind, bytes, from, to);
    };
    check();
    push(
        s,
        [=] {
            struct plumb_emu_work *w =
                begin_work("", device_to && device_from ? "device copy" : "copy");
            w->bytes_read += device_from ? static_cast<long long>(bytes) : 0;
            w->bytes_written += device_to ? static_cast<long long>(bytes) : 0;
            memmove(to, from, bytes);
        },
        check);
    return cudaSuccess;
}

extern "C" cudaError_t cudaMemsetAsync(void *data, int value, size_t bytes, cudaStream_t s)
{
    if (bytes == 0)
        return cudaSuccess;
    counts.fills++;
    const auto check = [=] {
        if (!is_allocated(data, bytes))
            fault("cudaMemsetAsync of %zu bytes at %p: not inside one allocation", bytes, data);
    };
    check();
    push(
        s,
        [=] {
            begin_work("", "fill")->bytes_written += static_cast<long long>(bytes);
            memset(data, value, bytes);
        },
        check);
    return cudaSuccess;
}

extern "C" cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned)
{
    *s = new CUstream_st();
    rt().streams.push_back(*s);
    live_objects++;
    return cudaSuccess;
}

extern "C" cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    if (!is_stream(s))
        return fail(cudaErrorInvalidResourceHandle);
    not_while_recording("cudaStreamDestroy");
    run_until(s, s->pushed);
    for (size_t i = 0; i < rt().streams.size(); i++)
        if (rt().streams[i] == s)
            rt().streams.erase(rt().streams.begin() + static_cast<std::ptrdiff_t>(i--));
    delete s;
    live_objects--;
    return cudaSuccess;
}

extern "C" cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    if (!is_stream(s))
        return fail(cudaErrorInvalidResourceHandle);
    not_while_recording("cudaStreamSynchronize");
    counts.waits++;
    memory_open();
    advance_others();
    run_until(s, s->pushed);
    memory_close();
    return cudaSuccess;
}

extern "C" cudaError_t cudaDeviceSynchronize(void)
{
    drain();
    return cudaSuccess;
}

extern "C" cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags)
{
    *e = new CUevent_st();
    if (!(flags & cudaEventDisableTiming))
        (*e)->time = std::make_shared<double>(0.0);
    live_objects++;
    return cudaSuccess;
}

extern "C" cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    delete e;
    live_objects--;
    return cudaSuccess;
}

extern "C" cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    if (!is_stream(s))
        return fail(cudaErrorInvalidResourceHandle);
    if (s->graph)
        fault("cudaEventRecord in a stream that is captured: not in the emulator");
    if (e->time)
        push(s, [time = e->time] { *time = clock_ms; });
    e->stream = s;
    e->position = s->pushed;
    return cudaSuccess;
}

/* Makes s wait for the event as it is recorded now. If it is recorded again later, this wait does
 * not change. */
extern "C" cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned)
{
    const CUevent_st at = *e;
    if (is_stream(s) && s->graph)
        fault("cudaStreamWaitEvent in a stream that is captured: not in the emulator");
    if (at.stream && is_stream(at.stream))
        push_polled(s, [at] { return !is_stream(at.stream) || try_until(at.stream, at.position); });
    return cudaSuccess;
}

extern "C" cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t begin, cudaEvent_t end)
{
    if (!begin->time || !end->time)
        return fail(cudaErrorInvalidResourceHandle);
    *ms = float(*end->time - *begin->time);
    return cudaSuccess;
}

extern "C" cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    not_while_recording("cudaEventSynchronize");
    counts.waits++;
    advance_others();
    if (e->stream && is_stream(e->stream))
        run_until(e->stream, e->position);
    return cudaSuccess;
}

/* Each call runs one more operation of the event's stream, so that a loop of calls ends. */
extern "C" cudaError_t cudaEventQuery(cudaEvent_t e)
{
    not_while_recording("cudaEventQuery");
    advance_others();
    if (!e->stream || !is_stream(e->stream) || e->stream->done >= e->position)
        return cudaSuccess;
    (void)try_until(e->stream, e->stream->done + 1);
    return cudaErrorNotReady;
}
