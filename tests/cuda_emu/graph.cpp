/* graph.cpp - emulates CUDA graphs: the operations that a stream recorded while it was captured can
 * be launched again and again.
 * Test. Includes emu.h. */
#include "emu.h"

struct CUgraphExec_st {
    std::vector<emu::Operation> operation;
};

using namespace emu;

static size_t launches;

extern "C" size_t plumb_emu_graph_launches(void)
{
    return launches;
}

extern "C" cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode)
{
    if (!is_stream(s))
        return fail(cudaErrorInvalidResourceHandle);
    not_while_recording("cudaStreamBeginCapture");
    recording(s) = new CUgraph_st();
    live_objects++;
    return cudaSuccess;
}

extern "C" cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *graph)
{
    *graph = nullptr;
    if (!is_stream(s) || !recording(s))
        return fail(cudaErrorInvalidResourceHandle);
    *graph = recording(s);
    recording(s) = nullptr;
    return cudaSuccess;
}

extern "C" cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph,
                                            unsigned long long)
{
    not_while_recording("cudaGraphInstantiate");
    *exec = new CUgraphExec_st{graph->operation};
    live_objects++;
    return cudaSuccess;
}

extern "C" cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s)
{
    not_while_recording("cudaGraphLaunch");
    for (const Operation &o : exec->operation) {
        if (o.check)
            o.check();
        push(s, o.run);
    }
    launches++;
    return cudaSuccess;
}

extern "C" cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    live_objects--;
    return cudaSuccess;
}

extern "C" cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    delete exec;
    live_objects--;
    return cudaSuccess;
}
