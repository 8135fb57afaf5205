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
    bool open; /* shared window only: this message is the one in the ring */
    MPI_Request request[PLUMB_MPI_DEPTH];
};

/* The ranks of this host. */
struct plumb_shared {
    MPI_Comm host;
    MPI_Win win;
    bool on;                  /* use the window where it reaches; the same on every rank */
    int *world_of;            /* (local_size,) world rank by local rank */
    struct plumb_ring **ring; /* (size,) by world rank; NULL: not on this host, or no window */
};

/* What a rank that waits tells the others, once per collective. */
struct plumb_watch_note {
    int64_t call, raised;
    char doing[24], phase[PLUMB_COMM_TEXT], host[PLUMB_COMM_TEXT];
};

struct plumb_watch {
    MPI_Comm comm;
    /* (size,) each, by rank: the newest note from it, the last note to it, which must not change
     * while its request is not done. A rank that takes no notes keeps none from the others. */
    struct plumb_watch_note *heard, *mine;
    MPI_Request *sent;
    double shared;  /* when raised values were last looked for */
    int64_t spread; /* the raised value known then */
};

struct plumb_mpi {
    plumb_comm base;
    MPI_Comm comm;
    bool finalize; /* this communicator initialised MPI */
    char *staging; /* (PLUMB_MPI_DEPTH, PLUMB_MPI_BLOCK) incoming messages */
    struct plumb_watch watch;
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

/* mpi_shared.c: the fast way between ranks of one host. Collective. */
plumb_status plumb_shared_create(struct plumb_mpi *m);
void plumb_shared_destroy(struct plumb_mpi *m);
bool plumb_shared_reaches(const struct plumb_mpi *m, int peer);
/* One block, if there is room for it (or one there): true, or *moved = true, then. */
bool plumb_shared_send(struct plumb_mpi *m, const struct plumb_move *mv, struct plumb_flow *f);
plumb_status plumb_shared_receive(struct plumb_mpi *m, const struct plumb_move *mv,
                                  struct plumb_flow *f, bool *moved);

/* mpi_watch.c: who is where, found out only while somebody waits for long. */
plumb_status plumb_watch_create(struct plumb_mpi *m);
void plumb_watch_destroy(struct plumb_mpi *m);
/* One step of waiting, `waited` seconds after the last byte moved: tells the others, listens, and
 * gives the processor away. PLUMB_ERR_COMM after the time-out, or when the ranks are in different
 * collectives. */
plumb_status plumb_watch_wait(struct plumb_mpi *m, double waited);
/* Takes in what other ranks told. */
plumb_status plumb_watch_listen(struct plumb_mpi *m);
void plumb_watch_share_raised(plumb_comm *c);

#endif
