/* cuda_runtime_api.h - declares the part of CUDA's runtime that plumb calls, for the emulator.
 * Test. Replaces CUDA's header of the same name. Includes the C library only. */
#ifndef PLUMB_EMU_CUDA_RUNTIME_API_H
#define PLUMB_EMU_CUDA_RUNTIME_API_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CUDART_VERSION 12030
typedef enum cudaError {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorInvalidDevicePointer = 17,
    cudaErrorInvalidMemcpyDirection = 21,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorInvalidResourceHandle = 400,
    cudaErrorNotReady = 600
} cudaError_t;

/* Streams, events and graphs. An operation of a stream runs at the latest when a synchronisation
 * needs it. The seed decides which operations run earlier. */
typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;
typedef struct CUgraph_st *cudaGraph_t;
typedef struct CUgraphExec_st *cudaGraphExec_t;
enum cudaStreamCaptureMode {
    cudaStreamCaptureModeGlobal = 0,
    cudaStreamCaptureModeThreadLocal = 1,
    cudaStreamCaptureModeRelaxed = 2
};
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };
enum cudaMemcpyKind {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaDeviceAttr { cudaDevAttrComputeCapabilityMajor = 75 };
struct cudaFuncAttributes {
    int ptxVersion; /* the compute capability that the kernel was compiled for, times 10 */
};
typedef struct {
    char bytes[16];
} cudaUUID_t;
struct cudaDeviceProp {
    char name[256];
    cudaUUID_t uuid;
    size_t totalGlobalMem, sharedMemPerBlockOptin;
    int major, minor, multiProcessorCount, l2CacheSize, pciDomainID, pciBusID, pciDeviceID;
};

const char *cudaGetErrorString(cudaError_t e);
const char *cudaGetErrorName(cudaError_t e);
cudaError_t cudaGetLastError(void);
cudaError_t cudaGetDeviceCount(int *n);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device);
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr what, int device);
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaDeviceGetPCIBusId(char *id, int size, int device);
cudaError_t cudaMemGetInfo(size_t *available, size_t *total);
cudaError_t cudaMalloc(void **out, size_t bytes);
cudaError_t cudaFree(void *data);
cudaError_t cudaMallocHost(void **out, size_t bytes);
cudaError_t cudaFreeHost(void *data);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t s);
cudaError_t cudaMemsetAsync(void *data, int value, size_t bytes, cudaStream_t s);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t s);
cudaError_t cudaStreamSynchronize(cudaStream_t s);
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags);
/* Between begin and end of a capture, the operations of the stream are recorded and not run. A call
 * that waits for the device, or that allocates or releases memory, is then a fault. A launch of the
 * graph checks the memory of every operation. */
cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph,
                                 unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
cudaError_t cudaDeviceSynchronize(void);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t e);
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s);
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t begin, cudaEvent_t end);
cudaError_t cudaEventSynchronize(cudaEvent_t e);
cudaError_t cudaEventQuery(cudaEvent_t e);
cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute what, int value);
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *a, const void *kernel);

/* Sets the seed that decides the order of threads and streams from now on. The environment variable
 * PLUMB_EMU_SEED is the first seed. */
void plumb_emu_seed(unsigned seed);
/* Returns a sum that is 0 if everything was released: bytes of device memory, plus the numbers of
 * page-locked host blocks, streams, events, graphs and cuBLASLt handles. */
size_t plumb_emu_live(void);
/* Numbers of operations so far. A kernel of a graph counts once, when it is recorded. waits: number
 * of calls in which the host waits for the device. */
struct plumb_emu_counts {
    int kernels, products, copies, fills, waits;
};
struct plumb_emu_counts plumb_emu_counted(void);
/* What the device has run under one name: a kernel (those of graphs at each launch), or a product,
 * copy or fill of the libraries (file is ""). The bytes of a kernel are the 32-byte sectors of
 * device memory that a launch accesses, each counted once; they are 0 unless the kernel was
 * compiled with -fsanitize=thread. The bytes of copies and fills are their sizes. */
struct plumb_emu_work {
    const char *file, *name;
    long long runs, bytes_read, bytes_written;
    /* number of launches by PLUMB_LAUNCH_EARLY, which do not wait for the end of the previous
     * kernel */
    long long early;
    long long shared_atomics; /* number of 64-bit atomic operations in shared memory */
};
typedef void plumb_emu_work_fn(void *arg, const struct plumb_emu_work *w);
/* Calls fn for each name, in alphabetical order. */
void plumb_emu_profile(plumb_emu_work_fn *fn, void *arg);
/* Sets all counts to 0. With bytes = 0, the memory that kernels access is not counted from now on,
 * which is faster. */
void plumb_emu_profile_reset(int bytes);
/* Returns the number of graphs that were launched. */
size_t plumb_emu_graph_launches(void);

#ifdef __cplusplus
}
#endif
#endif
