/* emu.h - declarations shared by the emulator's files.
 * Test, private to cuda_emu/. Includes the emulated runtime. */
#ifndef PLUMB_EMU_EMU_H
#define PLUMB_EMU_EMU_H

#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

namespace emu
{

/* Prints a fault of the program under test, and ends the program. */
[[noreturn]] void fault(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
uint32_t draw(uint32_t end); /* returns a random number in [0, end) that follows from the seed */
bool one_order();            /* true for seed 0: threads and streams run in their natural order */

/* defined in block.cpp */
void run_grid(const Launch &l, const std::function<void()> &body);
const char *where(); /* returns the kernel, block and thread that run now, or "" in host code */

/* memory.cpp: device memory is protected. Host code that accesses it ends with a message.
 * memory_open permits access while an operation of the device runs; memory_close ends this. Calls
 * may be nested. */
void memory_open();
void memory_close();
/* memory_hide makes all device memory inaccessible also for the running kernel, and memory_show
 * ends this. In between, an access is a fault: the kernel must call wait_for_previous() first. */
void memory_hide();
void memory_show();
bool is_device(const void *at);
/* Returns true if [at, at + bytes) lies in one allocation that is not released. */
bool is_allocated(const void *at, size_t bytes);

/* Takes device memory as a CUDA library does when it is used for the first time. As on a GPU, this
 * memory is never released. */
void take_for_library(const char *what, size_t bytes);

/* defined in stream.cpp */
cudaError_t fail(cudaError_t e); /* stores e for cudaGetLastError and returns it */
bool is_stream(cudaStream_t s);
/* An operation of a stream. `run` is called when a synchronisation needs the operation. `check`
 * checks the memory that it uses. The caller of push has done this check once; for an operation in
 * a graph, it is repeated at each launch of the graph. */
struct Operation {
    std::function<void()> run, check;
};
void push(cudaStream_t s, std::function<void()> run, std::function<void()> check = nullptr);
/* Adds an operation that depends on other processes. `step` is called again and again until it
 * returns true. */
void push_polled(cudaStream_t s, std::function<bool()> step);
void drain();
void not_while_recording(const char *call); /* reports a fault if a stream is being captured */
/* Returns a reference to the graph into which s is captured. The graph is null if s is not
 * captured. */
cudaGraph_t &recording(cudaStream_t s);
extern struct plumb_emu_counts counts;

/* profile.cpp: records that the device begins an operation. Returns the entry for this operation in
 * the profile. */
struct plumb_emu_work *begin_work(const char *file, const char *name);
/* Records that the running kernel has ended: adds the device memory that it has accessed to its
 * entry. */
void end_kernel();
/* number of streams, events, handles and blocks of page-locked memory that exist */
extern size_t live_objects;
extern double clock_ms; /* milliseconds of all work so far; only matrix products take time */

} // namespace emu

struct CUgraph_st {
    std::vector<emu::Operation> operation;
};
#endif
