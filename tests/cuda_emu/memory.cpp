/* memory.cpp - emulates device memory. It has an address region of its own, which is protected from
 * access except while an operation of the device runs. If the processor has protection keys, one
 * register of the thread switches the protection; else the protection of every page is changed. A
 * page that is always protected follows every allocation. The bytes between the end of the
 * allocation and that page are poisoned with the address sanitizer; without it they have a pattern
 * that cudaFree checks.
 * Test. Includes emu.h. */
#include "emu.h"

#include <csignal>
#include <cstdarg>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

#if PLUMB_EMU_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes)   ((void)(at), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

namespace emu
{

namespace
{

constexpr uintptr_t PAGE = 4096, REGION = uintptr_t(1) << 40;
/* bytes that fill the rest of an allocation's last page, and new memory; floats of FRESH bytes
 * are NaN */
constexpr unsigned char SLACK = 0xA5, FRESH = 0xff;

struct Block {
    size_t bytes, pages; /* pages: bytes of all pages of the allocation */
};
struct Memory {
    uintptr_t base = 0, next = 0;
    std::map<uintptr_t, Block> live;
    std::set<void *> pinned;
    size_t libraries = 0; /* total bytes of take_for_library */
    size_t used = 0, total = size_t(4) << 30;
    /* protection key of all pages; -1 if the processor has no keys */
    int key = -1;
    int depth = 0;                        /* nesting depth of memory_open if there are no keys */
    bool hidden = false;                  /* true between memory_hide and memory_show */
    struct sigaction segv = {}, bus = {}; /* the signal handlers that were installed before */
};
Memory &m()
{
    /* never destroyed, because destructors of other objects may use it */
    static Memory *memory = new Memory();
    return *memory;
}

thread_local int opened; /* nesting depth of memory_open in this thread, if there are keys */

std::map<uintptr_t, Block>::const_iterator block_at(uintptr_t at)
{
    auto it = m().live.upper_bound(at);
    if (it == m().live.begin())
        return m().live.end();
    it = std::prev(it);
    return at < it->first + it->second.pages + PAGE ? it : m().live.end();
}

/* Handles an access that the hardware refused. Prints what was accessed; if it was device memory,
 * ends the program. */
void on_fault(int signal, siginfo_t *info, void *)
{
    const uintptr_t at = reinterpret_cast<uintptr_t>(info->si_addr);
    if (!is_device(info->si_addr)) {
        if (*where())
            fprintf(stderr, "emu: %s: access to %p, which is no device memory\n", where(),
                    info->si_addr);
        sigaction(signal, signal == SIGSEGV ? &m().segv : &m().bus, nullptr);
        return; /* repeats the access, which the handler installed before then gets */
    }
    const auto it = block_at(at);
    char what[96] = "no allocation of now";
    if (it != m().live.end())
        snprintf(what, sizeof(what), "byte %zu of an allocation of %zu", size_t(at - it->first),
                 it->second.bytes);
    if ((m().key >= 0 ? opened : m().depth) == 0)
        fault("host code touched device memory at %p: %s", info->si_addr, what);
    if (m().hidden)
        fault("%s: access to device memory before wait_for_previous(), at %p: %s", where(),
              info->si_addr, what);
    fault("%s: access to device memory at %p: %s", where(), info->si_addr, what);
}

/* Runs at exit. Ends the process with code 70 if device memory was not released. A process that
 * failed keeps its own exit code, which tests/timed.py needs; it ended early, so memory may be
 * left. */
void at_exit(int code, void *)
{
    if (code != 0 || (m().live.empty() && live_objects == 0))
        return;
    fprintf(stderr,
            "emu: at exit %zu allocations (%zu bytes of device memory) and %zu streams, "
            "events, graphs, handles or page-locked pieces are still there\n",
            m().live.size(), m().used, live_objects);
    for (const auto &b : m().live)
        fprintf(stderr, "    %zu bytes\n", b.second.bytes);
    fflush(nullptr);
    _exit(70);
}

void begin()
{
    void *region =
        mmap(nullptr, REGION, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (region == MAP_FAILED)
        fault("no address space for device memory");
    m().base = m().next = reinterpret_cast<uintptr_t>(region);
#ifdef PKEY_DISABLE_ACCESS
    m().key = pkey_alloc(0, PKEY_DISABLE_ACCESS);
    if (m().key >= 0 && pkey_mprotect(region, REGION, PROT_NONE, m().key) != 0)
        fault("no protection key for the address space of device memory");
#endif
    if (const char *text = getenv("PLUMB_EMU_MEMORY"))
        m().total = strtoull(text, nullptr, 10);
    struct sigaction a = {};
    a.sa_sigaction = on_fault;
    a.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSEGV, &a, &m().segv);
    sigaction(SIGBUS, &a, &m().bus);
    on_exit(at_exit, nullptr);
}

void protect(uintptr_t at, size_t bytes, int how)
{
    void *const pages = reinterpret_cast<void *>(at);
#ifdef PKEY_DISABLE_ACCESS
    if ((m().key >= 0 ? pkey_mprotect(pages, bytes, how, m().key) : mprotect(pages, bytes, how)) !=
        0)
#else
    if (mprotect(pages, bytes, how) != 0)
#endif
        fault("mprotect refuses %zu bytes", bytes);
}

/* Permits the emulator itself to access one allocation. */
void block_open(uintptr_t at, size_t pages)
{
    if (m().key >= 0)
        memory_open();
    else
        protect(at, pages, PROT_READ | PROT_WRITE);
}

void block_close(uintptr_t at, size_t pages)
{
    if (m().key >= 0)
        memory_close();
    else if (m().depth == 0)
        protect(at, pages, PROT_NONE);
}

void set_all(int how)
{
    for (const auto &b : m().live)
        protect(b.first, b.second.pages, how);
}

} // namespace

void fault(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "emu: ");
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    fflush(nullptr);
    _exit(71);
}

void memory_open()
{
#ifdef PKEY_DISABLE_ACCESS
    if (m().key >= 0) {
        if (opened++ == 0)
            pkey_set(m().key, 0);
        return;
    }
#endif
    if (m().depth++ == 0)
        set_all(PROT_READ | PROT_WRITE);
}

void memory_close()
{
#ifdef PKEY_DISABLE_ACCESS
    if (m().key >= 0) {
        if (--opened == 0)
            pkey_set(m().key, PKEY_DISABLE_ACCESS);
        return;
    }
#endif
    if (--m().depth == 0)
        set_all(PROT_NONE);
}

void memory_hide()
{
    m().hidden = true;
#ifdef PKEY_DISABLE_ACCESS
    if (m().key >= 0) {
        pkey_set(m().key, PKEY_DISABLE_ACCESS);
        return;
    }
#endif
    set_all(PROT_NONE);
}

void memory_show()
{
    m().hidden = false;
#ifdef PKEY_DISABLE_ACCESS
    if (m().key >= 0) {
        pkey_set(m().key, 0);
        return;
    }
#endif
    set_all(PROT_READ | PROT_WRITE);
}

bool is_device(const void *at)
{
    const uintptr_t a = reinterpret_cast<uintptr_t>(at);
    return m().base && a >= m().base && a < m().base + REGION;
}

bool is_allocated(const void *at, size_t bytes)
{
    const uintptr_t a = reinterpret_cast<uintptr_t>(at);
    const auto it = block_at(a);
    return it != m().live.end() && a + bytes <= it->first + it->second.bytes;
}

/* Checks the arguments of a kernel. A word from 2^40 to 2^47 counts as an address and must be in
 * device memory. No kernel of plumb gets a number of that size. */
void check_argument(const char *kernel, int index, const void *words, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 8) {
        uintptr_t w;
        memcpy(&w, static_cast<const char *>(words) + i, sizeof(w));
        const void *at = reinterpret_cast<const void *>(w);
        if (w < uintptr_t(1) << 40 || w >= uintptr_t(1) << 47)
            continue;
        if (!is_device(at))
            fault("%s: argument %d holds %p, an address of host memory", kernel, index, at);
        if (block_at(w) == m().live.end())
            fault("%s: argument %d holds %p, freed device memory", kernel, index, at);
    }
}

void take_for_library(const char *what, size_t bytes)
{
    static std::set<std::string> *taken = new std::set<std::string>();
    if (!taken->insert(what).second)
        return;
    if (bytes > m().total - m().used - m().libraries)
        fault("%s: the device has no memory left for it", what);
    m().libraries += bytes;
}

} // namespace emu

using namespace emu;

extern "C" cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    *total = m().total;
    *available = m().total - m().used - m().libraries;
    return cudaSuccess;
}

extern "C" cudaError_t cudaMalloc(void **out, size_t bytes)
{
    *out = nullptr;
    not_while_recording("cudaMalloc");
    if (!m().base)
        begin();
    if (bytes > m().total - m().used - m().libraries)
        return fail(cudaErrorMemoryAllocation);
    if (bytes == 0)
        return cudaSuccess;
    const size_t pages = (bytes + PAGE - 1) / PAGE * PAGE;
    if (m().next + pages + 2 * PAGE > m().base + REGION)
        fault("the emulator's address space for device memory is used up");
    const uintptr_t at = m().next + PAGE;
    /* addresses are never used again, so pointers to released memory stay invalid */
    m().next += pages + PAGE;
    protect(at, pages, PROT_READ | PROT_WRITE);
    block_open(at, pages);
    unsigned char *data = reinterpret_cast<unsigned char *>(at);
    memset(data, FRESH, bytes);
    memset(data + bytes, SLACK, pages - bytes);
    ASAN_POISON_MEMORY_REGION(data + bytes, pages - bytes);
    block_close(at, pages);
    m().live[at] = {bytes, pages};
    m().used += bytes;
    *out = data;
    return cudaSuccess;
}

extern "C" cudaError_t cudaFree(void *data)
{
    if (!data)
        return cudaSuccess;
    drain(); /* cudaFree waits for the device, too */
    const uintptr_t at = reinterpret_cast<uintptr_t>(data);
    const auto it = m().live.find(at);
    if (it == m().live.end())
        fault("cudaFree of %p, which is no allocation of now", data);
    const Block b = it->second;
    ASAN_UNPOISON_MEMORY_REGION(static_cast<char *>(data) + b.bytes, b.pages - b.bytes);
    block_open(at, b.pages);
    for (size_t i = b.bytes; i < b.pages; i++)
        if (static_cast<unsigned char *>(data)[i] != SLACK)
            fault("byte %zu of an allocation of %zu was written", i, b.bytes);
    block_close(at, b.pages);
    protect(at, b.pages, PROT_NONE);
    (void)madvise(data, b.pages, MADV_DONTNEED);
    m().used -= b.bytes;
    m().live.erase(it);
    return cudaSuccess;
}

extern "C" cudaError_t cudaMallocHost(void **out, size_t bytes)
{
    not_while_recording("cudaMallocHost");
    *out = malloc(bytes);
    if (!*out)
        return fail(cudaErrorMemoryAllocation);
    memset(*out, FRESH, bytes);
    m().pinned.insert(*out);
    live_objects++;
    return cudaSuccess;
}

extern "C" cudaError_t cudaFreeHost(void *data)
{
    if (!data)
        return cudaSuccess;
    drain();
    if (!m().pinned.erase(data))
        fault("cudaFreeHost of %p, which is no page-locked memory of now", data);
    free(data);
    live_objects--;
    return cudaSuccess;
}

extern "C" size_t plumb_emu_live(void)
{
    return m().used + live_objects;
}
