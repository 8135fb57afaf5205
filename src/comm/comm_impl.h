/* comm_impl.h - the operations of a transport, and the state of a communicator.
 * Layer 1. Includes comm.h and base/. For src/comm only.
 *
 * A transport (MPI, threads) moves bytes between two ranks. Every collective is written once, with
 * the operations of a transport, so the order of additions, the timeouts and the error messages do
 * not depend on the transport. */
#ifndef PLUMB_COMM_IMPL_H
#define PLUMB_COMM_IMPL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/num.h"
#include "comm/heartbeat.h"

/* Receives one piece of a message: `bytes` bytes that start at byte `at` of the message. All pieces
 * but the last have a multiple of 64 bytes, so `at` is a multiple of 64, too. `piece` is borrowed
 * for the call. */
typedef void plumb_take_fn(void *arg, const void *piece, int64_t at, int64_t bytes);

/* One message to send and one to receive, at the same time. */
struct plumb_move {
    int to; /* rank that gets `send`; -1 to send nothing */
    const void *send;
    int64_t send_bytes; /* > 0 unless to = -1 */
    int from;           /* rank that sends the incoming message; -1 to receive nothing */
    int64_t recv_bytes;
    plumb_take_fn *take; /* must not write to `send` */
    void *arg;
};

struct plumb_comm_ops {
    const char *name;
    /* Returns after the incoming message was received and the caller may change `send`. Sender and
     * receiver must give the same size. Errors: PLUMB_ERR_COMM if the transport fails, or if
     * plumb_heartbeat_judge ends the wait; PLUMB_ERR_PEER after an abort. */
    plumb_status (*move)(plumb_comm *c, const struct plumb_move *m);
    /* Exchanges the values of plumb_comm_raise: sets c->raised to the largest of c->raised and the
     * values that have arrived from other ranks, and sends it to them. Never waits. */
    void (*share_raised)(plumb_comm *c);
    /* Sends this rank's heartbeat note (comm/heartbeat.h) to at most PLUMB_HEARTBEAT_RANKS other
     * ranks, and reads the notes that have arrived. Never waits for another rank. The heartbeat
     * thread calls this while another thread may be in any other operation. */
    plumb_status (*send_heartbeat)(plumb_comm *c);
    /* Does one step of a wait for an event that is not a message: makes the checks that `move`
     * makes while it waits. NULL if the transport does not support this. */
    plumb_status (*idle)(plumb_comm *c, struct plumb_wait *wait);
    /* Allocates memory that the other ranks of this host can read in place; *out stays NULL if that
     * is impossible. release returns true if it freed the memory. Both are NULL if the transport
     * does not support this. */
    plumb_status (*alloc)(plumb_comm *c, void **out, int64_t bytes);
    bool (*release)(plumb_comm *c, void *memory);
    /* Asks for the next number of c->count, or reads the answer to an earlier question. Sets
     * *number to -1 if there is no answer yet; the caller then waits with `idle`, which such a
     * transport must have. Never waits. NULL if this rank is the only one. */
    plumb_status (*take)(plumb_comm *c, int64_t *number);
    void (*abort)(plumb_comm *c, int exit_code);
    void (*destroy)(plumb_comm *c); /* calls plumb_comm_base_fini, then frees c itself */
};

/* One exchange between two ranks of a tree. x[give] is sent to the peer. The peer's values are
 * stored in x[take], or added to x[take] if `add` is set. Either range may be empty. */
struct plumb_swap {
    int peer;
    float *x;
    struct plumb_range give, take;
    bool add;
};
/* Carries out the exchange *s. Returns an error of plumb_comm_ops.move or of a device function. */
typedef plumb_status plumb_swap_fn(plumb_comm *c, const struct plumb_swap *s);

/* The operations that exchange vectors in device memory. */
struct plumb_link {
    plumb_swap_fn *swap; /* used by the tree algorithms in reduce.c */
    /* reduce and gather replace the tree algorithms of reduce.c. They are NULL if those are used.
     */
    plumb_status (*reduce)(plumb_comm *c, float *grad, int64_t n);
    plumb_status (*gather)(plumb_comm *c, float *x, int64_t n);
    /* queue does the same as swap, but only enqueues the work on the device. drain waits until all
     * enqueued work is done. Both are NULL if the link does not support this. */
    plumb_swap_fn *queue;
    plumb_status (*drain)(plumb_comm *c);
    void (*drop)(plumb_comm *c);   /* abandons the enqueued work */
    void (*detach)(plumb_comm *c); /* releases what attach allocated */
};

/* Returns the i-th piece of `piece` elements of range r; it is empty past the end of r. */
static inline struct plumb_range plumb_piece_of(struct plumb_range r, int64_t i, int64_t piece)
{
    const int64_t begin = plumb_min_i64(r.begin + i * piece, r.end);
    return (struct plumb_range){begin, plumb_min_i64(begin + piece, r.end)};
}

/* A round of the counter of plumb_comm_count_take. */
struct plumb_count {
    int64_t round; /* number of this round, from 1 */
    int64_t n;     /* numbers of the round */
    int64_t next;  /* the next number; n if none is left */
};
/* Returns the next number of a round, or n if none is left. */
static inline int64_t plumb_count_next(struct plumb_count *count)
{
    return count->next < count->n ? count->next++ : count->n;
}

#define PLUMB_PARTS 64 /* the largest number of parts of one reduction */

#define PLUMB_COMM_SCRATCH 4096 /* number of doubles in plumb_comm.scratch */

struct plumb_comm {
    const struct plumb_comm_ops *ops;
    int rank, size, local_rank, local_size;
    char host[PLUMB_COMM_TEXT];
    const char *file; /* source file that calls the next collective; NULL if unknown */
    int line;
    bool broken;            /* true after a failed move: every later collective fails */
    bool check_calls;       /* true if the collective check is on */
    _Atomic int64_t raised; /* the largest value of plumb_comm_raise that this rank knows of */
    /* messages, bytes and time of the collectives so far, and the class of the collective in
     * progress */
    struct plumb_traffic traffic[PLUMB_TRAFFIC_CLASSES];
    enum plumb_traffic_class traffic_class;
    /* this rank's round; only without ops->take are its numbers taken from this struct */
    struct plumb_count count;
    double *scratch; /* (PLUMB_COMM_SCRATCH,) copy of the values that an allreduce sends */
    double *slots;   /* (2 size,) scratch of allgather: bytes and buffer size of each rank */
    struct plumb_heartbeat heartbeat;
    const struct plumb_link *link; /* NULL if no device is attached */
    char link_name[PLUMB_COMM_TEXT];
    struct plumb_comm_device device;
    struct {
        float *grad; /* NULL if no reduction in parts is in progress */
        int64_t n, from;
    } parts;                 /* elements grad[from, n) are already enqueued for reduction */
    bool gathering;          /* a gather is enqueued (plumb_comm_gather_begin) */
    struct plumb_nccl *nccl; /* state of comm_nccl.c; NULL if NCCL is not attached */
    struct {
        float *out, *in; /* (device.piece,) host: values to send; received values */
        float *sum;      /* (device.piece,) device: the values to add */
    } staging;
};

/* Initialises *c, which the caller has zeroed. *c owns scratch and slots. */
plumb_status plumb_comm_base_init(plumb_comm *c, const struct plumb_comm_ops *ops, int rank,
                                  int size, double timeout_s);
void plumb_comm_base_fini(plumb_comm *c);

/* Those arguments of a collective that must be the same on every rank. */
struct plumb_args {
    int64_t n;      /* number of elements or bytes; -1 if it may differ between ranks */
    const char *op; /* name of the operation ("sum"); NULL if there is none */
    int root;       /* root rank; -1 if there is none */
};

/* Every collective calls plumb_coll_enter once at its start and plumb_coll_leave once at its end.
 * leave returns st. */
plumb_status plumb_coll_enter(plumb_comm *c, const char *doing, struct plumb_args args);
plumb_status plumb_coll_leave(plumb_comm *c, plumb_status st);

/* Counts a message of `bytes` bytes that this rank sends. */
static inline void plumb_coll_count(plumb_comm *c, enum plumb_traffic_class traffic_class,
                                    int64_t bytes)
{
    c->traffic[traffic_class].messages++;
    c->traffic[traffic_class].bytes += bytes;
}

static inline int64_t plumb_coll_call(const plumb_comm *c)
{
    return c->heartbeat.here.call;
}

/* Returns a hash in [0, PLUMB_SITES) of the name and the source line of the current collective; 0
 * while the collective check is on. A transport sends it with each message. If ranks are in
 * different collectives, because one of them skipped a call after a failure, the hashes differ in
 * most cases, even if the number and the size of the calls are equal. */
#define PLUMB_SITES 16384
static inline int plumb_coll_site(const plumb_comm *c)
{
    return c->heartbeat.here.site;
}

/* Sets c->raised to max(c->raised, value). */
void plumb_coll_raise(plumb_comm *c, int64_t value);

/* collective_check.c: compares this call of all ranks. If they differ, every rank fails with
 * PLUMB_ERR_COMM. */
plumb_status plumb_collective_check(plumb_comm *c, const struct plumb_args *args);

/* collective.c: the collectives without their argument checks. */
plumb_status plumb_coll_barrier(plumb_comm *c);
plumb_status plumb_coll_allreduce(plumb_comm *c, double *buf, int64_t n, enum plumb_redop op);
plumb_status plumb_coll_broadcast(plumb_comm *c, void *buf, int64_t bytes, int root);
plumb_status plumb_coll_allgather(plumb_comm *c, void *recv, int64_t recv_cap, int64_t *count,
                                  const void *send, int64_t bytes);
plumb_status plumb_coll_alltoall(plumb_comm *c, void *recv, const int64_t *recv_bytes,
                                 const void *send, const int64_t *send_bytes);
plumb_status plumb_coll_move(plumb_comm *c, const struct plumb_move *m);
void plumb_take_copy(void *arg, const void *piece, int64_t at, int64_t bytes); /* arg: dest */

/* Returns the largest power of two <= n, for n >= 1. */
static inline int plumb_pow2_floor(int n)
{
    int p = 1;
    while (p <= n / 2)
        p *= 2;
    return p;
}

#endif
