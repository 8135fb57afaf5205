/* start.c - counts what a rank needs before the first collective of a run, when there are many
 * ranks.
 *   bench_start RANKS
 * Simulates RANKS ranks in one process. The code of src/comm creates each communicator as it does
 * under MPI, and then all ranks start together. Each rank has a stack of its own and runs until it
 * waits for a message. Messages carry their data. The few MPI functions that this code calls are
 * replaced below. Prints one JSON object:
 *   memory     bytes and number of allocations of a communicator, without the memory of MPI, and
 *              without the ring buffers and windows that the ranks of one host share
 *   start      messages of the start-up after MPI_Init: of all ranks, of the busiest one, longest
 *   path
 *   allgather  the same for an allgather of 8 bytes per rank
 *   heartbeat  seconds between two heartbeat messages to a rank, number that a rank sends in this
 *   time,
 *              bytes of one, and number that a rank sends when it has waited for long in a
 *              collective */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "base/log.h"
#include "comm/mpi_impl.h"
#include "replay.h"

#define STACK_BYTES ((size_t)256 << 10)
/* a rank that has waited this long in a collective sends heartbeat messages (mpi_heartbeat.c) */
#define LONG_WAIT_S   0.06
#define TIMEOUT_S     60.0 /* the default of comm.timeout */
#define RANKS_AT_MOST 4096

/* A message that was sent and is not yet received. */
struct letter {
    struct letter *next;
    int from;
    int64_t bytes;
    _Alignas(64) char data[];
};

struct pretended {
    struct plumb_mpi mpi; /* must be the first member */
    struct replay_program program;
    struct letter *first; /* messages that have arrived, oldest first */
    ucontext_t context;
    char *stack; /* STACK_BYTES bytes */
    plumb_status st;
    bool done;
};

/* A function that run_all runs on every rank. */
typedef plumb_status rank_fn(struct plumb_mpi *m);

static struct {
    struct pretended *rank; /* one per rank */
    int ranks, current;
    ucontext_t scheduler;
    rank_fn *fn;
    int64_t moved; /* number of messages sent plus number of messages received so far */
} world;

/* ---- counts of allocations and of MPI's messages --------------------------------------------- */

/* The linker option --wrap redirects calls of these functions in plumb's code to the functions
 * below. */
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t a, size_t b);
void *__real_malloc(size_t n);
void *__real_calloc(size_t a, size_t b);
int __wrap_MPI_Isend(const void *buf, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm,
                     MPI_Request *request);
int __wrap_MPI_Iprobe(int from, int tag, MPI_Comm comm, int *flag, MPI_Status *status);
int __wrap_MPI_Test(MPI_Request *request, int *flag, MPI_Status *status);

static int64_t allocated_bytes, allocations, notes, note_bytes;

void *__wrap_malloc(size_t n)
{
    allocated_bytes += (int64_t)n;
    allocations++;
    return __real_malloc(n);
}

void *__wrap_calloc(size_t a, size_t b)
{
    allocated_bytes += (int64_t)(a * b);
    allocations++;
    return __real_calloc(a, b);
}

/* Replaces the send of a heartbeat message: counts it and its bytes, and sends nothing. */
int __wrap_MPI_Isend(const void *buf, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm,
                     MPI_Request *request)
{
    (void)buf, (void)type, (void)to, (void)tag, (void)comm;
    notes++;
    note_bytes += count; /* all heartbeat messages are sent as MPI_BYTE */
    *request = MPI_REQUEST_NULL;
    return MPI_SUCCESS;
}

/* Replaces the test for an incoming heartbeat message: reports that there is none. */
int __wrap_MPI_Iprobe(int from, int tag, MPI_Comm comm, int *flag, MPI_Status *status)
{
    (void)from, (void)tag, (void)comm, (void)status;
    *flag = 0;
    return MPI_SUCCESS;
}

/* Reports that the request is complete, so that plumb_mpi sends the next heartbeat message. */
int __wrap_MPI_Test(MPI_Request *request, int *flag, MPI_Status *status)
{
    (void)request, (void)status;
    *flag = 1;
    return MPI_SUCCESS;
}

/* ---- messages between simulated ranks -------------------------------------------------------- */

static plumb_status post(struct pretended *to, int from, const struct plumb_move *m)
{
    struct letter **end = &to->first;
    struct letter *x = __real_malloc(sizeof(*x) + (size_t)m->send_bytes + 64);
    PLUMB_REQUIRE(x, PLUMB_ERR_NOMEM, "a message of %lld bytes", (long long)m->send_bytes);
    *x = (struct letter){.from = from, .bytes = m->send_bytes};
    memcpy(x->data, m->send, (size_t)m->send_bytes);
    while (*end)
        end = &(*end)->next;
    *end = x;
    world.moved++;
    return PLUMB_OK;
}

/* Removes and returns the oldest message from rank `from`, or returns NULL if there is none. */
static struct letter *take(struct pretended *p, int from)
{
    for (struct letter **at = &p->first; *at; at = &(*at)->next)
        if ((*at)->from == from) {
            struct letter *x = *at;
            *at = x->next;
            return x;
        }
    return NULL;
}

static plumb_status pretended_move(plumb_comm *c, const struct plumb_move *m)
{
    struct pretended *p = (struct pretended *)plumb_mpi_of(c);
    struct letter *x;
    PLUMB_TRY(replay_add(&p->program, m));
    if (m->to >= 0)
        PLUMB_TRY(post(&world.rank[m->to], c->rank, m));
    if (m->from < 0)
        return PLUMB_OK;
    while (!(x = take(p, m->from)))
        swapcontext(&p->context, &world.scheduler);
    world.moved++;
    const bool good = x->bytes == m->recv_bytes;
    if (good)
        m->take(m->arg, x->data, 0, x->bytes);
    free(x);
    PLUMB_REQUIRE(good, PLUMB_ERR_COMM, "rank %d expected a message of another size from rank %d",
                  c->rank, m->from);
    return PLUMB_OK;
}

static void pretended_share_raised(plumb_comm *c)
{
    (void)c;
}

static const struct plumb_comm_ops pretended_ops = {
    .name = "pretended",
    .move = pretended_move,
    .share_raised = pretended_share_raised,
    .send_heartbeat = plumb_mail_heartbeat,
};

/* ---- ranks ----------------------------------------------------------------------------------- */

static void run_current(void)
{
    struct pretended *p = &world.rank[world.current];
    p->st = world.fn(&p->mpi);
    p->done = true;
}

/* Runs fn on every rank, one rank at a time, until all have returned. */
static plumb_status run_all(rank_fn *fn)
{
    int left = world.ranks;
    world.fn = fn;
    for (int r = 0; r < world.ranks; r++) {
        struct pretended *p = &world.rank[r];
        p->done = false;
        p->program.n = 0;
        getcontext(&p->context);
        p->context.uc_stack.ss_sp = p->stack;
        p->context.uc_stack.ss_size = STACK_BYTES;
        p->context.uc_link = &world.scheduler;
        makecontext(&p->context, run_current, 0);
    }
    while (left > 0) {
        const int64_t moved = world.moved;
        const int before = left;
        for (world.current = 0; world.current < world.ranks; world.current++) {
            struct pretended *p = &world.rank[world.current];
            if (p->done)
                continue;
            swapcontext(&world.scheduler, &p->context);
            left -= p->done;
            PLUMB_REQUIRE(!p->done || p->st == PLUMB_OK, p->st, "%s", plumb_trail_message());
        }
        PLUMB_REQUIRE(left < before || world.moved > moved, PLUMB_ERR_COMM,
                      "%d ranks wait for messages that no rank sends", left);
    }
    return PLUMB_OK;
}

static plumb_status run_allgather(struct plumb_mpi *m)
{
    int64_t mine = m->base.rank;
    const int64_t size = (int64_t)sizeof(mine), all = size * m->base.size;
    /* uses two arrays of the communicator that are otherwise used only during its start */
    return plumb_comm_allgather(&m->base, m->shared.address, all, m->shared.count, &mine, size);
}

static plumb_status create(struct pretended *p, int rank, int ranks)
{
    struct plumb_mpi *m = &p->mpi;
    m->comm = m->mail.comm = m->shared.host = MPI_COMM_NULL;
    pthread_mutex_init(&m->lock, NULL);
    PLUMB_TRY(plumb_mpi_prepare(m, &pretended_ops, rank, ranks, TIMEOUT_S));
    m->base.check_calls = false; /* a release build does not send the messages of this check */
    p->stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    PLUMB_REQUIRE(p->stack != MAP_FAILED, PLUMB_ERR_NOMEM, "the stack of rank %d", rank);
    return PLUMB_OK;
}

/* ---- output ---------------------------------------------------------------------------------- */

/* Runs fn on every rank and prints the messages under `name`. */
static plumb_status count(const char *name, rank_fn *fn)
{
    struct replay_program *program = calloc((size_t)world.ranks, sizeof(*program));
    struct replay_counts counts;
    PLUMB_REQUIRE(program, PLUMB_ERR_NOMEM, "%d ranks", world.ranks);
    plumb_status st = run_all(fn);
    for (int r = 0; r < world.ranks; r++)
        program[r] = world.rank[r].program;
    if (st == PLUMB_OK)
        st = replay_count(&counts, program, world.ranks);
    free(program);
    PLUMB_TRY(st);
    printf(" \"%s\": {", name);
    replay_print(&counts);
    printf("},\n");
    return PLUMB_OK;
}

/* Makes rank 0 send the heartbeat messages of one period, and then those of a long wait in a new
 * collective. */
static plumb_status count_notes(void)
{
    struct plumb_mpi *m = &world.rank[0].mpi;
    const double pause = plumb_heartbeat_pause(&m->base);
    const int64_t calls = plumb_ceil_div(world.ranks, PLUMB_HEARTBEAT_RANKS);
    for (int64_t i = 0; i < calls; i++)
        PLUMB_TRY(plumb_mail_heartbeat(&m->base));
    const int64_t regular = notes;
    struct plumb_wait wait = {.since = plumb_now() - LONG_WAIT_S};
    PLUMB_TRY(plumb_coll_enter(&m->base, "barrier", (struct plumb_args){-1, NULL, -1}));
    PLUMB_TRY(plumb_mail_wait(m, &wait));
    PLUMB_TRY(plumb_coll_leave(&m->base, PLUMB_OK));
    printf(" \"heartbeat\": {\"period_s\": %.9g, \"notes_per_period\": %" PRId64
           ", \"bytes_per_note\": %" PRId64 ", \"notes_of_a_wait\": %" PRId64 "}}\n",
           pause * (double)calls, regular, notes > 0 ? note_bytes / notes : 0, notes - regular);
    return PLUMB_OK;
}

static plumb_status count_all(int ranks)
{
    world.rank = calloc((size_t)ranks, sizeof(*world.rank));
    PLUMB_REQUIRE(world.rank, PLUMB_ERR_NOMEM, "%d ranks", ranks);
    world.ranks = ranks;
    allocated_bytes = allocations = 0;
    PLUMB_TRY(create(&world.rank[0], 0, ranks));
    printf("{\"ranks\": %d,\n \"memory\": {\"bytes\": %" PRId64 ", \"allocations\": %" PRId64
           "},\n",
           ranks, allocated_bytes + (int64_t)sizeof(struct plumb_mpi), allocations + 1);
    for (int r = 1; r < ranks; r++)
        PLUMB_TRY(create(&world.rank[r], r, ranks));
    PLUMB_TRY(count("start", plumb_mpi_start));
    PLUMB_TRY(count("allgather", run_allgather));
    return count_notes();
}

int main(int argc, char **argv)
{
    const int ranks = argc == 2 ? atoi(argv[1]) : 0;
    if (ranks < 1 || ranks > RANKS_AT_MOST) {
        fprintf(stderr, "usage: bench_start RANKS, 1 to %d\n", RANKS_AT_MOST);
        return 2;
    }
    if (count_all(ranks) == PLUMB_OK)
        return 0;
    fputs(plumb_trail(), stderr);
    return 1;
}
