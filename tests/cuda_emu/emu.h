/* emu.h - declarations shared by the emulator's files.
 * Test layer, private to cuda_emu/. Includes the emulated runtime. */
#ifndef PLUMB_EMU_EMU_H
#define PLUMB_EMU_EMU_H

#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

namespace emu
{

/* Prints a fault of the program under test and ends it. */
[[noreturn]] void fault(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
uint32_t draw(uint32_t end); /* in [0, end), from the seed */
bool one_order();            /* seed 0: threads and streams in their natural order */

/* block.cpp */
void run_grid(const Launch &l, const std::function<void()> &body);
const char *where(); /* the kernel, block and thread that run now; "" in host code */

/* memory.cpp: device memory is protected, so that host code which touches it ends with a message.
 * An operation of the device opens it while it runs; calls may be nested. */
void memory_open();
void memory_close();
/* Hides all device memory, and shows it again. In between, an access by a kernel is a fault: the
 * kernel must call wait_for_previous() first. */
void memory_hide();
void memory_show();
bool is_device(const void *at);
/* Returns true if [at, at + bytes) lies in one live allocation. */
bool is_allocated(const void *at, size_t bytes);

/* Takes memory as a library does when something is used for the first time. It is never released,
 * as on a GPU. */
void take_for_library(const char *what, size_t bytes);

/* stream.cpp */
cudaError_t fail(cudaError_t e); /* remembered for cudaGetLastError */
bool is_stream(cudaStream_t s);
/* An operation of a stream: `run` is called when a synchronisation needs it. `check` checks its
 * memory; the caller has done so once, and for a recorded operation it is called at each launch of
 * the graph. */
struct Operation {
    std::function<void()> run, check;
};
void push(cudaStream_t s, std::function<void()> run, std::function<void()> check = nullptr);
/* Adds an operation in which other processes take part: step is called until it returns true. */
void push_polled(cudaStream_t s, std::function<bool()> step);
void drain();
void not_while_recording(const char *call); /* a fault when a stream is being captured */
/* Returns a reference to the graph that s is captured into; the graph is null if there is none. */
cudaGraph_t &recording(cudaStream_t s);
extern struct plumb_emu_counts counts;

/* profile.cpp: says that the device begins an operation; returns its entry in the profile. */
struct plumb_emu_work *begin_work(const char *file, const char *name);
/* The running kernel has ended: adds the device memory that it has touched to its entry. */
void end_kernel();
extern size_t live_objects; /* streams, events, handles, pieces of page-locked memory */
extern double clock_ms;     /* the time of the work so far; only products of matrices take time */

} // namespace emu

struct CUgraph_st {
    std::vector<emu::Operation> operation;
};
#endif
