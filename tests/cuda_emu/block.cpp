/* block.cpp - runs a grid of a kernel: the blocks one after another, the threads of a block as
 * fibers (cooperatively scheduled). A fiber switches to another one only at barriers and warp
 * operations, in an order drawn from the seed.
 * Test. Includes emu.h, emu_mma.h. */
#include "emu.h"

#include <emu_mma.h>
#include <sys/mman.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

extern char __start_plumb_shared[] __attribute__((weak));
extern char __stop_plumb_shared[] __attribute__((weak));

namespace emu
{

Place here;
dim3 block, block_size, grid_size;

namespace
{

enum { WARP = 32, STACK = 256 << 10, GUARD = 4096 };
/* Only this many launches of each kernel hide device memory from a block, because hiding takes
 * time. */
constexpr long long HIDDEN_LAUNCHES = 64;

struct Thread;
struct Fiber {
#if defined(__x86_64__)
    void *sp;
#else
    ucontext_t context;
#endif
    Thread *thread; /* the thread that this fiber runs; null while the fiber is unused */
};
enum Wait { NOTHING, BARRIER, WARP_OP, PREVIOUS, DONE };
struct Thread {
    Place place;
    Wait wait;
    Fiber *fiber; /* null before the thread has begun */
    bool waited;  /* the thread has called wait_for_previous() */
    const char *site;
    Op op;
    unsigned mask;
    uint64_t value, result;
    int from;
    Together *together;
    std::vector<AsyncCopy> copies;
};

struct Warp {
    /* bit masks of lanes: those that wait in a warp operation, and those that have ended or do
     * not exist */
    unsigned waiting, gone;
};
struct State {
    std::vector<Thread> thread;
    std::vector<Warp> warp;
    std::vector<Thread *> runnable;
    std::vector<Fiber *> pool;
    Fiber host;
    Thread *now;
    size_t live, arrived;
    size_t previous; /* number of threads that wait in wait_for_previous() */
    /* device memory is hidden from the first block until all its threads have called
     * wait_for_previous() */
    bool hides;
    const char *barrier_site;
    const Launch *launch;
    const std::function<void()> *body;
    unsigned char *shared;
    size_t shared_room;
};
State &g = *new State(); /* never destroyed, because destructors of other objects may use it */

/* ---- switching ------------------------------------------------------------------------ */

void fiber_main();

#if defined(__x86_64__)
extern "C" void plumb_emu_switch(void **save, void *load);
asm(".text\n"
    ".type plumb_emu_switch,@function\n"
    "plumb_emu_switch:\n"
    "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n    pushq %r13\n"
    "    pushq %r14\n    pushq %r15\n"
    "    movq %rsp, (%rdi)\n"
    "    movq %rsi, %rsp\n"
    "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n"
    "    popq %rbx\n    popq %rbp\n"
    "    ret\n"
    ".size plumb_emu_switch, .-plumb_emu_switch\n");

void prepare(Fiber *f, char *stack, size_t bytes)
{
    /* on the stack of a new fiber: 6 registers, the return address, and 0 */
    void **top = reinterpret_cast<void **>(stack + bytes) - 8;
    for (int i = 0; i < 8; i++)
        top[i] = nullptr;
    top[6] = reinterpret_cast<void *>(&fiber_main);
    f->sp = top;
}
void switch_to(Fiber *from, Fiber *to)
{
    plumb_emu_switch(&from->sp, to->sp);
}
#else
void prepare(Fiber *f, char *stack, size_t bytes)
{
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = stack;
    f->context.uc_stack.ss_size = bytes;
    f->context.uc_link = nullptr;
    makecontext(&f->context, fiber_main, 0);
}
void switch_to(Fiber *from, Fiber *to)
{
    swapcontext(&from->context, &to->context);
}
#endif

Fiber *take_fiber()
{
    if (!g.pool.empty()) {
        Fiber *f = g.pool.back();
        g.pool.pop_back();
        return f;
    }
    void *memory = mmap(nullptr, STACK + GUARD, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, GUARD, PROT_NONE) != 0)
        fault("no memory for the stack of a thread");
    Fiber *f = new Fiber();
    prepare(f, static_cast<char *>(memory) + GUARD, STACK);
    return f;
}

/* ---- scheduling ----------------------------------------------------------------------- */

[[noreturn]] void deadlock()
{
    int shown = 0;
    fprintf(stderr, "emu: %s, block (%u,%u,%u): no thread can go on\n", g.launch->name, block.x,
            block.y, block.z);
    for (const Thread &t : g.thread)
        if (t.wait != DONE && shown++ < 8)
            fprintf(stderr, "    thread %u waits for %s at %s\n", t.place.thread.x,
                    t.wait == BARRIER    ? "all threads"
                    : t.wait == PREVIOUS ? "the kernel before"
                                         : "its warp",
                    t.site);
    fault("a barrier or warp operation that not all of its threads reach");
}

Thread *pick()
{
    if (g.runnable.empty()) {
        if (g.live > 0)
            deadlock();
        return nullptr;
    }
    const size_t last = g.runnable.size() - 1;
    const size_t i = one_order() ? last : draw(static_cast<uint32_t>(last + 1));
    Thread *t = g.runnable[i];
    g.runnable[i] = g.runnable[last];
    g.runnable.pop_back();
    return t;
}

/* Switches from the fiber `self`, whose thread waits or has ended, to the fiber of another runnable
 * thread. */
void leave(Fiber *self)
{
    Thread *t = pick();
    Fiber *next = t ? t->fiber : &g.host;
    if (!next) { /* the thread has not begun; it begins on `self` if that fiber is free */
        next = self->thread ? take_fiber() : self;
        next->thread = t;
        t->fiber = next;
    } else if (!self->thread) {
        g.pool.push_back(self);
    }
    g.now = t;
    if (t)
        here = t->place;
    if (next != self)
        switch_to(self, next);
}

void wake(Thread &t)
{
    t.wait = NOTHING;
    g.runnable.push_back(&t);
}

void open_barrier()
{
    g.arrived = 0;
    for (Thread &t : g.thread)
        if (t.wait == BARRIER)
            wake(t);
}

Warp &warp_of(const Thread *t)
{
    return g.warp[static_cast<size_t>(t - g.thread.data()) / WARP];
}

/* Completes the warp operation in which thread t waits, if every lane of its mask has arrived. */
void finish_warp_op(Thread *t)
{
    Warp &warp = warp_of(t);
    Thread *lane = t - t->place.lane;
    const unsigned mask = t->mask, there = mask & ~warp.gone;
    unsigned votes = 0;
    if (there & ~warp.waiting)
        return;
    for (int l = 0; l < WARP; l++) {
        const Thread *o = &lane[l];
        if (!(there >> l & 1))
            continue;
        if (o->mask != mask || o->op != t->op || o->site != t->site)
            fault("%s: lanes %d and %d meet in different warp operations: %s (mask %08x) and %s "
                  "(mask %08x)",
                  where(), t->place.lane, l, t->site, t->mask, o->site, o->mask);
        votes |= o->value ? 1u << l : 0;
    }
    if (t->op == TOGETHER) {
        void *each[WARP];
        if (there != ~0u)
            fault("%s: an instruction of the whole warp, and only lanes %08x are there", t->site,
                  there);
        for (int l = 0; l < WARP; l++)
            each[l] = reinterpret_cast<void *>(lane[l].value);
        t->together(each);
    }
    for (int l = 0; l < WARP; l++) {
        Thread *o = &lane[l];
        if (!(there >> l & 1))
            continue;
        if (o->op == SHUFFLE && !(there >> o->from & 1))
            fault("%s: lane %d reads from lane %d, which takes no part (mask %08x)", o->site, l,
                  o->from, mask);
        o->result = o->op == SHUFFLE ? lane[o->from].value : votes;
    }
    warp.waiting &= ~there;
    for (int l = 0; l < WARP; l++)
        if (there >> l & 1)
            wake(lane[l]);
}

void end_thread(Thread *t)
{
    if (g.launch->early && !t->waited)
        fault("%s: a thread of a kernel that is launched early ends without wait_for_previous()",
              where());
    t->wait = DONE;
    t->fiber = nullptr;
    g.live--;
    if (g.live > 0 && g.arrived == g.live)
        open_barrier();
    Warp &warp = warp_of(t);
    warp.gone |= 1u << t->place.lane;
    /* completes the operations of lanes that waited only for this lane */
    for (int l = 0; warp.waiting && l < WARP; l++) {
        Thread *o = t - t->place.lane + l;
        if ((warp.waiting >> l & 1) && (o->mask >> t->place.lane & 1)) {
            finish_warp_op(o);
            break;
        }
    }
}

void fiber_main()
{
    for (;;) {
        Fiber *self = g.now->fiber;
        (*g.body)();
        end_thread(self->thread);
        self->thread = nullptr;
        leave(self);
    }
}

/* Fills the static shared memory, including the redzones between its objects, with NaN before each
 * block. */
__attribute__((no_sanitize("address"))) void spoil_static()
{
    if (__start_plumb_shared)
        for (volatile char *p = __start_plumb_shared; p < __stop_plumb_shared; p++)
            *p = static_cast<char>(0xff);
}

void run_block()
{
    const unsigned n = static_cast<unsigned>(g.thread.size());
    g.runnable.clear();
    for (unsigned i = 0; i < n; i++) {
        Thread &t = g.thread[i];
        t = Thread();
        t.place.thread = dim3(i % block_size.x, i / block_size.x % block_size.y,
                              i / block_size.x / block_size.y);
        t.place.lane = static_cast<int>(i % WARP);
        g.runnable.push_back(&g.thread[one_order() ? n - 1 - i : i]);
    }
    for (Warp &w : g.warp)
        w = Warp();
    if (n % WARP)
        g.warp.back().gone = ~0u << n % WARP;
    g.live = n;
    g.arrived = g.previous = 0;
    spoil_static();
    memset(g.shared, 0xff, g.launch->shared);
    Fiber *f = take_fiber();
    Thread *t = pick();
    f->thread = t;
    t->fiber = f;
    g.now = t;
    here = t->place;
    switch_to(&g.host, f);
}

} // namespace

void *dynamic_shared()
{
    return g.shared;
}

void barrier(const char *site)
{
    Thread *t = g.now;
    if (g.arrived > 0 && g.barrier_site != site)
        fault("%s: threads wait at different barriers, %s and %s", where(), g.barrier_site, site);
    g.barrier_site = site;
    t->site = site;
    t->wait = BARRIER;
    if (++g.arrived == g.live)
        open_barrier();
    leave(t->fiber);
}

bool before_wait()
{
    return g.launch->early && !g.now->waited;
}

void wait_for_previous(const char *site)
{
    Thread *t = g.now;
    t->waited = true;
    if (!g.hides)
        return;
    t->site = site;
    t->wait = PREVIOUS;
    if (++g.previous == g.live) {
        g.hides = false;
        memory_show();
        for (Thread &o : g.thread)
            if (o.wait == PREVIOUS)
                wake(o);
    }
    leave(t->fiber);
}

uint64_t warp_op(Op op, const char *site, unsigned mask, uint64_t value, int from)
{
    Thread *t = g.now;
    if (!(mask >> t->place.lane & 1))
        fault("%s: %s: lane %d is not in its own mask %08x", where(), site, t->place.lane, mask);
    t->op = op;
    t->site = site;
    t->mask = mask;
    t->value = value;
    t->from = from;
    t->wait = WARP_OP;
    warp_of(t).waiting |= 1u << t->place.lane;
    finish_warp_op(t);
    leave(t->fiber);
    return t->result;
}

void warp_together(const char *site, Together *act, void *mine)
{
    g.now->together = act;
    (void)warp_op(TOGETHER, site, ~0u, reinterpret_cast<uint64_t>(mine), 0);
}

std::vector<AsyncCopy> &async_copies()
{
    return g.now->copies;
}

bool is_shared(const void *at, size_t bytes)
{
    const char *p = static_cast<const char *>(at);
    const char *shared = reinterpret_cast<const char *>(g.shared);
    return (p >= shared && p + bytes <= shared + g.launch->shared) ||
           (p >= __start_plumb_shared && p + bytes <= __stop_plumb_shared);
}

const char *where()
{
    static char text[256];
    if (!g.now)
        return "";
    snprintf(text, sizeof(text), "%s, block (%u,%u,%u), thread (%u,%u,%u)", g.launch->name, block.x,
             block.y, block.z, here.thread.x, here.thread.y, here.thread.z);
    return text;
}

/* Runs all blocks of a launch. Dynamic shared memory is a heap block of exactly the launch's size,
 * so that the address sanitizer finds accesses behind it. */
void run_grid(const Launch &l, const std::function<void()> &body)
{
    struct plumb_emu_work *w = begin_work(l.file, l.name);
    w->early += l.early;
    g.hides = l.early && w->runs <= HIDDEN_LAUNCHES;
    g.launch = &l;
    g.body = &body;
    g.thread.resize(size_t(l.block.x) * l.block.y * l.block.z);
    g.warp.resize((g.thread.size() + WARP - 1) / WARP);
    g.runnable.reserve(g.thread.size());
    g.shared = static_cast<unsigned char *>(malloc(l.shared));
    if (!g.shared && l.shared)
        fault("%s: no memory for %zu bytes of shared memory", l.name, l.shared);
    block_size = l.block;
    grid_size = l.grid;
    if (g.hides)
        memory_hide();
    for (unsigned z = 0; z < l.grid.z; z++)
        for (unsigned y = 0; y < l.grid.y; y++)
            for (unsigned x = 0; x < l.grid.x; x++) {
                block = dim3(x, y, z);
                run_block();
            }
    free(g.shared);
    g.shared = nullptr;
    g.now = nullptr;
    end_kernel();
}

} // namespace emu
