/* mpi_impl.h - what the files of the MPI carrier share.
 * Layer 1. Includes mpi.h, comm/ and base/. For src/comm/comm_mpi.c and mpi_*.c only. */
#ifndef PLUMB_COMM_MPI_IMPL_H
#define PLUMB_COMM_MPI_IMPL_H

#include <mpi.h>

#include "comm/comm_impl.h"

#define PLUMB_MPI_BLOCK ((int64_t)1 << 20) /* bytes of one MPI message */
#define PLUMB_MPI_DEPTH 4                  /* messages in flight in each direction */

/* Slots of the shared ring of each rank: small enough to stay in its cache. */
#define PLUMB_RING_BLOCK ((int64_t)128 << 10)
#define PLUMB_RING_DEPTH 4

/* One direction of a message, in blocks; [done, posted) are in flight (MPI only). */
struct plumb_flow {
    int64_t bytes, blocks, posted, done;
    bool near;   /* goes through the shared window */
    bool open;   /* shared window only: this message is the one in the ring */
    bool direct; /* and its bytes are read where they are */
    MPI_Request request[PLUMB_MPI_DEPTH];
};

/* How the others find a rank's memory, and what each made of it. A process id alone may mean
 * another process there. */
struct plumb_address {
    int64_t pid, fd, device, inode; /* fd -1: none */
    int64_t reads;                  /* it can read all of its peers */
    int64_t step, error;            /* what failed, enum plumb_window_step, and its errno */
};
enum plumb_window_step { PLUMB_WINDOW_NONE, PLUMB_WINDOW_MAKE, PLUMB_WINDOW_OPEN };

/* Memory of plumb_comm_alloc: the same number on every rank that has it. */
#define PLUMB_WINDOWS 16
struct plumb_window {
    int64_t number; /* 0 = none; counts the calls of alloc */
    int64_t bytes;
    char *mine;
    char **peer; /* (size,): the same of the other ranks; NULL: not readable */
};

/* The ranks of this host. All arrays are there before the first exchange, so that no rank can fail
 * in it alone for want of memory. */
struct plumb_shared {
    MPI_Comm host;
    bool on;                       /* use the rings where they reach; the same on every rank */
    int *world_of;                 /* (local_size,) world rank by local rank */
    struct plumb_ring **ring;      /* (size,) by world rank; NULL: not on this host, or no ring */
    char *own_ring, **peer_ring;   /* peer_ring (size,): as in plumb_window */
    struct plumb_address *address; /* (size,) */
    int64_t *count;                /* (size,) */
    char **peer;                   /* (PLUMB_WINDOWS, size) */
    int64_t windows;               /* calls of alloc so far, the number of the newest window */
    struct plumb_window window[PLUMB_WINDOWS];
};

/* The notes of the watch. */
struct plumb_mail {
    MPI_Comm comm;
    /* By rank, (size,) each. A rank that takes no notes keeps none from the others. */
    struct plumb_note *mine; /* the last to it; must not change while its request is not done */
    MPI_Request *sent;
    int *unanswered; /* notes to it since the last one from it */
    int next;        /* whom the heartbeat tells next */
    double shared;   /* when raised values were last looked for; used by the rank's own thread */
    int64_t spread;  /* the raised value known then; likewise */
};

struct plumb_mpi {
    plumb_comm base;
    MPI_Comm comm;
    bool finalize;        /* this communicator initialised MPI */
    bool up;              /* its create came to the end */
    char *staging;        /* (PLUMB_MPI_DEPTH, PLUMB_MPI_BLOCK) incoming messages */
    bool threads;         /* MPI may be called from the heartbeat */
    pthread_mutex_t lock; /* around every call of MPI while the heartbeat runs, and the notes */
    struct plumb_mail mail;
    struct plumb_shared shared;
};

static inline struct plumb_mpi *plumb_mpi_of(plumb_comm *c)
{
    return (struct plumb_mpi *)c;
}

/* PLUMB_ERR_COMM with MPI's own words for error e of `call`. */
plumb_status plumb_mpi_fail(const char *file, int line, const char *call, int e);
#define PLUMB_MPI(call)                                                                            \
    do {                                                                                           \
        const int e_ = (call);                                                                     \
        if (e_ != MPI_SUCCESS)                                                                     \
            return plumb_mpi_fail(__FILE__, __LINE__, #call, e_);                                  \
    } while (0)

plumb_status plumb_mpi_move(plumb_comm *c, const struct plumb_move *m); /* mpi_move.c */

/* mpi_shared.c: the fast way between ranks of one host. _prepare takes memory, not collective;
 * _create is Collective and works over MPI until it is done. */
plumb_status plumb_shared_prepare(struct plumb_mpi *m);
plumb_status plumb_shared_create(struct plumb_mpi *m);
void plumb_shared_destroy(struct plumb_mpi *m);
bool plumb_shared_reaches(const struct plumb_mpi *m, int peer);
/* One block, if there is room for it (or one there): true, or *moved = true, then. */
bool plumb_shared_send(struct plumb_mpi *m, const struct plumb_move *mv, struct plumb_flow *f);
plumb_status plumb_shared_receive(struct plumb_mpi *m, const struct plumb_move *mv,
                                  struct plumb_flow *f, bool *moved);

/* mpi_window.c: memory that the ranks of a host read in place. */
/* Makes this rank's part, *mine (bytes), and opens those of its peers: peer (size,) by world rank,
 * for writing, too, where `writes`. *ok: every rank of this host has opened all of them; else both
 * are for plumb_window_unmap, and m->shared.address tells which rank failed in what. want false:
 * only takes part. Collective. */
plumb_status plumb_window_share(struct plumb_mpi *m, char **mine, char **peer, int64_t bytes,
                                bool want, bool writes, bool *ok);
void plumb_window_unmap(char **mine, char **peer, int size, int64_t bytes);
plumb_status plumb_window_alloc(plumb_comm *c, void **out, int64_t bytes);
bool plumb_window_release(plumb_comm *c, void *memory);
void plumb_window_destroy(struct plumb_mpi *m);
/* The window that holds these bytes, and where; 0 = none. */
int64_t plumb_window_find(const struct plumb_mpi *m, const void *data, int64_t bytes,
                          int64_t *offset);
/* This rank's view of such bytes of a peer; NULL: it has none. */
const void *plumb_window_peer(const struct plumb_mpi *m, int peer, int64_t number, int64_t offset);

/* mpi_heartbeat.c: the notes of the watch as MPI messages. _prepare takes memory, not collective;
 * _create is Collective. */
plumb_status plumb_mail_prepare(struct plumb_mpi *m);
plumb_status plumb_mail_create(struct plumb_mpi *m);
void plumb_mail_destroy(struct plumb_mpi *m); /* Collective. */
plumb_status plumb_mail_heartbeat(plumb_comm *c);
void plumb_mail_share_raised(plumb_comm *c);
/* One step of waiting: talks, listens, judges, and gives the processor away. */
plumb_status plumb_mail_wait(struct plumb_mpi *m, struct plumb_wait *wait);

#endif
