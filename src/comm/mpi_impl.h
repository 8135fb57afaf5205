/* mpi_impl.h - declarations shared by the files of the MPI transport.
 * Layer 1. Includes mpi.h, comm/ and base/. For src/comm/comm_mpi.c and mpi_*.c only. */
#ifndef PLUMB_COMM_MPI_IMPL_H
#define PLUMB_COMM_MPI_IMPL_H

#include <mpi.h>

#include "comm/comm_impl.h"

#define PLUMB_MPI_BLOCK ((int64_t)1 << 20) /* bytes of one MPI message */
#define PLUMB_MPI_DEPTH 4                  /* messages in flight in each direction */

/* Each rank has a ring of PLUMB_RING_DEPTH slots of PLUMB_RING_BLOCK bytes in shared memory. These
 * 512 KiB are small enough to stay in the cache of the rank's core. */
#define PLUMB_RING_BLOCK ((int64_t)128 << 10)
#define PLUMB_RING_DEPTH 4

/* The progress of one message that is sent or received in blocks. Blocks [0, done) are complete. If
 * the message goes through MPI, blocks [done, posted) are in flight; through shared memory, posted
 * and request are not used. */
struct plumb_flow {
    int64_t bytes, blocks, posted, done;
    bool near;   /* true if the message goes through shared memory */
    bool open;   /* near only: true if this message is the current one of the ring */
    bool direct; /* open only: true if the receiver reads the sender's memory directly */
    MPI_Request request[PLUMB_MPI_DEPTH];
};

/* What other ranks need to open a rank's memory file, and whether this rank could open those of the
 * others. device and inode identify the file, because the same process id may be another process in
 * another container. */
struct plumb_address {
    int64_t pid, fd, device, inode; /* fd is -1 if the rank has no memory file */
    int64_t reads;                  /* 1 if this rank has mapped the memory of all its peers */
    int64_t step, error; /* the step that failed (enum plumb_window_step), and its errno */
};
enum plumb_window_step { PLUMB_WINDOW_NONE, PLUMB_WINDOW_MAKE, PLUMB_WINDOW_OPEN };

/* Largest number of windows: shared memory that plumb_comm_alloc has allocated and that is not
 * freed yet. The memory of one call has the same window number on every rank. */
#define PLUMB_WINDOWS 16
struct plumb_window {
    int64_t number; /* number of the plumb_window_alloc call, from 1; 0: unused entry */
    int64_t bytes;
    char *mine;
    char **peer; /* (size,) the windows of the other ranks; NULL where this rank cannot read it */
};

/* The ranks of this host. All arrays are allocated before the first exchange, so that no rank can
 * run out of memory during it. */
struct plumb_shared {
    MPI_Comm host;
    bool on;                       /* true if the rings may be used; the same on every rank */
    int *world_of;                 /* (local_size,) world rank by local rank */
    struct plumb_ring **ring;      /* (size,) by world rank; NULL on another host or without ring */
    char *own_ring, **peer_ring;   /* memory of this rank's ring; (size,) those of the peers */
    struct plumb_address *address; /* (size,) by world rank */
    int64_t *count;                /* (size,) bytes of each rank in an allgather */
    char **peer;                   /* (PLUMB_WINDOWS, size) memory of all plumb_window.peer */
    /* number of calls of plumb_window_alloc so far; also the number of the newest window */
    int64_t windows;
    struct plumb_window window[PLUMB_WINDOWS];
};

/* The state of sending and receiving heartbeat notes. */
struct plumb_mail {
    MPI_Comm comm;
    /* Arrays (size,) by receiving rank. A rank that reads no notes does not delay the notes to
     * other ranks. */
    struct plumb_note
        *mine; /* the last note to each rank; must not change until its request is complete */
    MPI_Request *sent;
    int *unanswered; /* number of notes sent to each rank since the last note from that rank */
    int next;        /* the rank that gets the next note */
    double shared;   /* time of the last exchange of raised values; only the main thread uses it */
    int64_t spread;  /* value of raised at that time; only the main thread uses it */
};

/* The message of rank 0 with the next number of a round. */
struct plumb_answer {
    int64_t round, number;
};

/* The state of the counter (mpi_count.c). */
struct plumb_counter {
    /* rank 0 */
    struct plumb_count round; /* the newest round that any rank has begun */
    /* number of answers of this round that said that no number is left */
    int64_t told;
    _Atomic bool open;              /* true if other ranks may still ask in this round */
    struct plumb_answer *answer_to; /* (size,) the last answer to each rank */
    MPI_Request *answered;          /* (size,) */
    /* the other ranks */
    int64_t asked;              /* round of the question that has no answer yet; 0: none */
    struct plumb_answer answer; /* the newest answer; round = 0: there is none, or it was used */
    int64_t question[2];        /* round and n of the last question */
    MPI_Request sent;
};

struct plumb_mpi {
    plumb_comm base;
    MPI_Comm comm;
    bool finalize;        /* true if this communicator initialised MPI and must finalize it */
    bool up;              /* true after a successful create */
    char *staging;        /* (PLUMB_MPI_DEPTH, PLUMB_MPI_BLOCK) bytes of incoming messages */
    bool threads;         /* true if MPI lets the heartbeat thread call it */
    pthread_mutex_t lock; /* held for every MPI call while the heartbeat runs; protects the notes */
    struct plumb_mail mail;
    struct plumb_counter counter;
    struct plumb_shared shared;
};

static inline struct plumb_mpi *plumb_mpi_of(plumb_comm *c)
{
    return (struct plumb_mpi *)c;
}

/* Raises PLUMB_ERR_COMM with MPI's text for the error e of `call`. */
plumb_status plumb_mpi_fail(const char *file, int line, const char *call, int e);
#define PLUMB_MPI(call)                                                                            \
    do {                                                                                           \
        const int e_ = (call);                                                                     \
        if (e_ != MPI_SUCCESS)                                                                     \
            return plumb_mpi_fail(__FILE__, __LINE__, #call, e_);                                  \
    } while (0)

plumb_status plumb_mpi_move(plumb_comm *c, const struct plumb_move *m); /* mpi_move.c */

/* comm_mpi.c: the two parts of creating a communicator that call no MPI function themselves.
 * benchmarks/scaling calls them with another transport.
 *     _prepare: initialises the communicator, which the caller has zeroed, and allocates its memory
 *               for messages and notes. Sends no message. Not collective. PLUMB_ERR_NOMEM.
 *     _start: runs when the ranks are connected, and sends its messages with ops->move. Starts the
 *             heartbeat if m->threads is true, and connects the ranks of each host. Collective. */
plumb_status plumb_mpi_prepare(struct plumb_mpi *m, const struct plumb_comm_ops *ops, int rank,
                               int size, double timeout_s);
plumb_status plumb_mpi_start(struct plumb_mpi *m);

/* mpi_shared.c: messages between ranks of one host. _prepare allocates memory and is not
 * collective. _create is Collective; until it returns, all messages go through MPI. */
plumb_status plumb_shared_prepare(struct plumb_mpi *m);
plumb_status plumb_shared_create(struct plumb_mpi *m);
void plumb_shared_destroy(struct plumb_mpi *m);
bool plumb_shared_reaches(const struct plumb_mpi *m, int peer);
/* Continues the message of flow f through shared memory without waiting. _send copies one block to
 * the ring if a slot is free; if the receiver reads this rank's memory directly, it only checks
 * whether the receiver has read all. It returns true if the flow advanced. _receive takes blocks if
 * any have arrived, and then sets *moved = true. */
bool plumb_shared_send(struct plumb_mpi *m, const struct plumb_move *mv, struct plumb_flow *f);
plumb_status plumb_shared_receive(struct plumb_mpi *m, const struct plumb_move *mv,
                                  struct plumb_flow *f, bool *moved);

/* mpi_window.c: memory that the ranks of a host can read directly.
 *
 * Allocates shared memory of this rank at *mine (bytes), and maps that of each other rank of this
 * host to peer[world rank] (size,), writable if `writes` is true. Sets *ok to true if every rank of
 * this host has mapped the memory of all others. If *ok is false, the caller must call
 * plumb_window_unmap, and m->shared.address says which rank failed in which step. If `want` is
 * false, this rank allocates and maps nothing. Collective. */
plumb_status plumb_window_share(struct plumb_mpi *m, char **mine, char **peer, int64_t bytes,
                                bool want, bool writes, bool *ok);
void plumb_window_unmap(char **mine, char **peer, int size, int64_t bytes);
plumb_status plumb_window_alloc(plumb_comm *c, void **out, int64_t bytes);
bool plumb_window_release(plumb_comm *c, void *memory);
void plumb_window_destroy(struct plumb_mpi *m);
/* Returns the serial number of the window of this rank that contains the `bytes` bytes at data, and
 * sets *offset to their offset in the window. Returns 0 if no window contains them. */
int64_t plumb_window_find(const struct plumb_mpi *m, const void *data, int64_t bytes,
                          int64_t *offset);
/* Returns the address at which this rank has mapped byte `offset` of window `number` of a peer, or
 * NULL if it has not mapped that window. */
const void *plumb_window_peer(const struct plumb_mpi *m, int peer, int64_t number, int64_t offset);

/* mpi_heartbeat.c: the notes of the heartbeat as MPI messages. _prepare allocates memory and is
 * not collective; _create is Collective. */
plumb_status plumb_mail_prepare(struct plumb_mpi *m);
plumb_status plumb_mail_create(struct plumb_mpi *m);
void plumb_mail_destroy(struct plumb_mpi *m); /* Collective. */
plumb_status plumb_mail_heartbeat(plumb_comm *c);
void plumb_mail_share_raised(plumb_comm *c);

/* mpi_count.c: the numbers of plumb_comm_count_take.
 *     prepare: allocates memory. Not collective.
 *     destroy: frees it. Call it before plumb_mail_destroy.
 *     serve: on rank 0, answers all questions that have arrived; on the others, reads the answer to
 *            this rank's question, if it has arrived. Never waits. Call it with the lock held. Not
 *            collective.
 *     take: plumb_comm_ops.take.
 *     settle: waits until this rank's question is answered, if it has asked one. */
plumb_status plumb_counter_prepare(struct plumb_mpi *m);
void plumb_counter_destroy(struct plumb_mpi *m);
plumb_status plumb_counter_serve(struct plumb_mpi *m);
plumb_status plumb_counter_take(plumb_comm *c, int64_t *number);
plumb_status plumb_counter_settle(struct plumb_mpi *m);

/* Does one step of a wait: exchanges notes, checks the limits, and yields the processor. */
plumb_status plumb_mail_wait(struct plumb_mpi *m, struct plumb_wait *wait);

#endif
