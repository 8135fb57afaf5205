/* profile.cpp - records what the device has run: the launches of each kernel, and the device memory
 * that each launch accesses. The option -fsanitize=thread makes the compiler call a function at
 * each memory access of a kernel. These functions are defined here; the thread sanitizer's library
 * is not linked.
 * Test. Includes emu.h. */
#include "emu.h"

#include <map>
#include <string>
#include <unordered_set>

namespace
{

constexpr uintptr_t SECTOR = 32; /* smallest number of bytes that a GPU transfers */

/* At exit, writes how often the host has waited for the device to the file that PLUMB_EMU_WAITS
 * names. */
void write_waits()
{
    if (FILE *f = fopen(getenv("PLUMB_EMU_WAITS"), "w")) {
        fprintf(f, "%d\n", emu::counts.waits);
        fclose(f);
    }
}

struct Profile {
    std::map<std::string, plumb_emu_work> work; /* key: file and name of a kernel or operation */
    plumb_emu_work *now = nullptr;              /* the entry of the running kernel */
    bool bytes = false;
    std::unordered_set<uintptr_t> read, written;
    Profile()
    {
        if (getenv("PLUMB_EMU_WAITS"))
            atexit(write_waits);
    }
};
Profile &p()
{
    /* never destroyed, because destructors of other objects may use it */
    static Profile *profile = new Profile();
    return *profile;
}

void touch(std::unordered_set<uintptr_t> *sectors, void *at, uintptr_t bytes)
{
    if (!p().bytes || !p().now || !emu::is_device(at))
        return;
    const uintptr_t first = reinterpret_cast<uintptr_t>(at) / SECTOR;
    const uintptr_t last = (reinterpret_cast<uintptr_t>(at) + bytes - 1) / SECTOR;
    for (uintptr_t s = first; s <= last; s++)
        sectors->insert(s);
}

} // namespace

struct plumb_emu_work *emu::begin_work(const char *file, const char *name)
{
    const char *slash = strrchr(file, '/');
    file = slash ? slash + 1 : file;
    plumb_emu_work &w = p().work[std::string(file) + ":" + name];
    w.file = file;
    w.name = name;
    w.runs++;
    p().now = &w;
    p().read.clear();
    p().written.clear();
    return &w;
}

void emu::end_kernel()
{
    p().now->bytes_read += static_cast<long long>(p().read.size() * SECTOR);
    p().now->bytes_written += static_cast<long long>(p().written.size() * SECTOR);
    p().now = nullptr;
}

void emu::count_shared_atomic(const void *at, size_t bytes)
{
    if (p().now && bytes == 8 && !is_device(at))
        p().now->shared_atomics++;
}

extern "C" void plumb_emu_profile(plumb_emu_work_fn *fn, void *arg)
{
    for (const auto &w : p().work)
        fn(arg, &w.second);
}

extern "C" void plumb_emu_profile_reset(int bytes)
{
    p().bytes = bytes != 0;
    p().work.clear();
    p().now = nullptr;
}

#define ACCESS(name, bytes, sectors)                                                               \
    extern "C" void __tsan_##name(void *at);                                                       \
    extern "C" void __tsan_##name(void *at)                                                        \
    {                                                                                              \
        touch(&p().sectors, at, bytes);                                                            \
    }
ACCESS(read1, 1, read)
ACCESS(read2, 2, read)
ACCESS(read4, 4, read)
ACCESS(read8, 8, read)
ACCESS(read16, 16, read)
ACCESS(write1, 1, written)
ACCESS(write2, 2, written)
ACCESS(write4, 4, written)
ACCESS(write8, 8, written)
ACCESS(write16, 16, written)
ACCESS(unaligned_read2, 2, read)
ACCESS(unaligned_read4, 4, read)
ACCESS(unaligned_read8, 8, read)
ACCESS(unaligned_read16, 16, read)
ACCESS(unaligned_write2, 2, written)
ACCESS(unaligned_write4, 4, written)
ACCESS(unaligned_write8, 8, written)
ACCESS(unaligned_write16, 16, written)

extern "C" void __tsan_read_range(void *at, uintptr_t bytes);
extern "C" void __tsan_read_range(void *at, uintptr_t bytes)
{
    touch(&p().read, at, bytes);
}
extern "C" void __tsan_write_range(void *at, uintptr_t bytes);
extern "C" void __tsan_write_range(void *at, uintptr_t bytes)
{
    touch(&p().written, at, bytes);
}
extern "C" void __tsan_vptr_update(void **, void *);
extern "C" void __tsan_vptr_update(void **, void *) {}
extern "C" void __tsan_func_entry(void *);
extern "C" void __tsan_func_entry(void *) {}
extern "C" void __tsan_func_exit(void);
extern "C" void __tsan_func_exit(void) {}
extern "C" void __tsan_init(void);
extern "C" void __tsan_init(void) {}
