/* comm_impl.h - what a carrier of messages must provide, and what the collectives keep.
 * Layer 1. Includes comm.h and base/. For src/comm only.
 *
 * A carrier moves bytes between two ranks; every collective is written once, over that. So the
 * order of additions, the time-outs and their messages are the same on every carrier. */
#ifndef PLUMB_COMM_IMPL_H
#define PLUMB_COMM_IMPL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/num.h"
#include "comm/heartbeat.h"

/* Receives `bytes` bytes of a message, which start at byte `at` of it: a multiple of 64, as all
 * pieces but the last have a multiple of 64 bytes. The piece is borrowed for the call. */
typedef void plumb_take_fn(void *arg, const void *piece, int64_t at, int64_t bytes);

/* One message out and one in, at the same time. */
struct plumb_move {
    int to; /* -1: sends nothing */
    const void *send;
    int64_t send_bytes; /* > 0 unless to = -1 */
    int from;           /* -1: receives nothing */
    int64_t recv_bytes;
    plumb_take_fn *take; /* may write anywhere but in `send` */
    void *arg;
};

struct plumb_comm_ops {
    const char *name;
    /* Returns when the message in was taken and `send` may be changed. The two ranks name the same
     * size. Errors: PLUMB_ERR_COMM when plumb_heartbeat_judge says so, or when the carrier fails;
     * PLUMB_ERR_PEER after an abort. */
    plumb_status (*move)(plumb_comm *c, const struct plumb_move *m);
    /* Brings c->raised and what the other ranks raised together. Never waits. */
    void (*share_raised)(plumb_comm *c);
    /* Sends this rank's note to the others and takes in theirs. Never waits for another rank.
     * Called by the heartbeat, at the same time as any other. */
    plumb_status (*send_heartbeat)(plumb_comm *c);
    /* One step of waiting for something else than a message: as a move waits. NULL: not there. */
    plumb_status (*idle)(plumb_comm *c, struct plumb_wait *wait);
    /* Memory that this rank's peers can read in place; *out stays NULL where there is none. release
     * says whether the memory was such. Both NULL: no such thing. */
    plumb_status (*alloc)(plumb_comm *c, void **out, int64_t bytes);
    bool (*release)(plumb_comm *c, void *memory);
    void (*abort)(plumb_comm *c, int exit_code);
    void (*destroy)(plumb_comm *c); /* frees c itself, after plumb_comm_base_fini */
};

/* One exchange of two ranks in a tree: x[give] to the peer, and x[take] = the peer's, or += with
 * add. Either may be empty. */
struct plumb_swap {
    int peer;
    float *x;
    struct plumb_range give, take;
    bool add;
};
/* Errors: those of move, and the device's. */
typedef plumb_status plumb_swap_fn(plumb_comm *c, const struct plumb_swap *s);

/* How vectors in device memory travel. */
struct plumb_link {
    plumb_swap_fn *swap; /* of the trees in reduce.c */
    /* Instead of those trees; NULL: there is nothing better. */
    plumb_status (*reduce)(plumb_comm *c, float *grad, int64_t n);
    plumb_status (*gather)(plumb_comm *c, float *x, int64_t n);
    /* As swap, but only told to the device; drain waits for all that was. NULL: cannot. */
    plumb_swap_fn *queue;
    plumb_status (*drain)(plumb_comm *c);
    void (*drop)(plumb_comm *c);   /* gives up what was queued */
    void (*detach)(plumb_comm *c); /* gives back what the attach took */
};

/* The i-th piece of a range; empty behind its end. */
static inline struct plumb_range plumb_piece_of(struct plumb_range r, int64_t i, int64_t piece)
{
    const int64_t begin = plumb_min_i64(r.begin + i * piece, r.end);
    return (struct plumb_range){begin, plumb_min_i64(begin + piece, r.end)};
}

#define PLUMB_PARTS 64 /* of a reduction, at most */

#define PLUMB_COMM_SCRATCH 4096 /* doubles */

struct plumb_comm {
    const struct plumb_comm_ops *ops;
    int rank, size, local_rank, local_size;
    char host[PLUMB_COMM_TEXT];
    const char *file; /* who calls the next collective; NULL = unknown */
    int line;
    bool broken;            /* a move failed: nothing can be sent any more */
    bool check_calls;       /* compares the ranks' calls before each collective */
    _Atomic int64_t raised; /* the largest value heard of */
    double *scratch;        /* (PLUMB_COMM_SCRATCH,) */
    double *slots;          /* (2 size,) */
    struct plumb_heartbeat heartbeat;
    const struct plumb_link *link; /* NULL: no device attached */
    char link_name[PLUMB_COMM_TEXT];
    struct plumb_comm_device device;
    struct {
        float *grad; /* NULL: no reduction in parts has begun */
        int64_t n, from;
    } parts;                 /* grad[from, n) is queued */
    struct plumb_nccl *nccl; /* comm_nccl.c; NULL: another link, or none */
    struct {
        float *out, *in; /* (device.piece,) host */
        float *sum;      /* (device.piece,) device: what is to be added */
    } staging;
};

/* Fills *c (zeroed, ops set by the caller); scratch and slots are owned by it. */
plumb_status plumb_comm_base_init(plumb_comm *c, const struct plumb_comm_ops *ops, int rank,
                                  int size, double timeout_s);
void plumb_comm_base_fini(plumb_comm *c);

/* The arguments of a collective that must be the same on every rank. */
struct plumb_args {
    int64_t n;      /* elements or bytes; -1 = they may differ */
    const char *op; /* "sum"; NULL = none */
    int root;       /* -1 = none */
};

/* Every collective is one call of enter, and of leave, which returns st. */
plumb_status plumb_coll_enter(plumb_comm *c, const char *doing, struct plumb_args args);
plumb_status plumb_coll_leave(plumb_comm *c, plumb_status st);

static inline int64_t plumb_coll_call(const plumb_comm *c)
{
    return c->heartbeat.here.call;
}

/* In [0, PLUMB_SITES): differs for most pairs of places that collectives are called from. A carrier
 * sends it with each message, so that a rank that failed alone and goes on elsewhere is noticed
 * where its call has the same number and size. */
#define PLUMB_SITES 16384
static inline int plumb_coll_site(const plumb_comm *c)
{
    return c->heartbeat.here.site;
}

/* raised = max(raised, value) */
void plumb_coll_raise(plumb_comm *c, int64_t value);

/* collective_check.c: compares this call of all ranks. PLUMB_ERR_COMM on every rank when they
 * differ. */
plumb_status plumb_collective_check(plumb_comm *c, const struct plumb_args *args);

/* collective.c: the collectives below their argument checks. */
plumb_status plumb_coll_barrier(plumb_comm *c);
plumb_status plumb_coll_allreduce(plumb_comm *c, double *buf, int64_t n, enum plumb_redop op);
plumb_status plumb_coll_broadcast(plumb_comm *c, void *buf, int64_t bytes, int root);
plumb_status plumb_coll_allgather(plumb_comm *c, void *recv, int64_t recv_cap, int64_t *count,
                                  const void *send, int64_t bytes);
plumb_status plumb_coll_move(plumb_comm *c, const struct plumb_move *m);
void plumb_take_copy(void *arg, const void *piece, int64_t at, int64_t bytes); /* arg: dest */

/* Largest power of two <= n. */
static inline int plumb_pow2_floor(int n)
{
    int p = 1;
    while (p <= n / 2)
        p *= 2;
    return p;
}

#endif
