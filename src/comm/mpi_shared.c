/* mpi_shared.c - messages between ranks of one host, through an MPI-3 shared window.
 * Layer 1. Includes comm/ and base/ only.
 *
 * Each rank owns one ring of slots that only it fills, for one receiver at a time. The slots stay
 * in the cache, so a byte crosses the memory bus only where it comes from and where it goes. */
#include <stdatomic.h>
#include <string.h>

#include "base/num.h"
#include "comm/mpi_impl.h"

/* Blocks that are taken at once where the sender's memory is read in place. */
#define DIRECT_BLOCKS 64

struct plumb_ring {
    _Alignas(64) _Atomic int receiver; /* world rank + 1 of the message in the ring, 0 = free */
    int64_t bytes, call;               /* of that message; written before `receiver` */
    int64_t window, offset;            /* the bytes are there, not in the slots; window 0: slots */
    _Alignas(64) _Atomic int64_t head; /* blocks written */
    _Alignas(64) _Atomic int64_t tail; /* blocks taken */
    _Alignas(64) unsigned char slot[PLUMB_RING_DEPTH][PLUMB_RING_BLOCK];
};

plumb_status plumb_shared_create(struct plumb_mpi *m)
{
    struct plumb_shared *s = &m->shared;
    int ok = 1, all = 0, *world = s->world_of;
    void *mine = NULL;
    MPI_Comm_set_errhandler(s->host, MPI_ERRORS_RETURN);
    PLUMB_MPI(MPI_Allgather(&m->base.rank, 1, MPI_INT, world, 1, MPI_INT, s->host));
    for (int r = 0; r < m->base.size; r++)
        s->ring[r] = NULL;
    if (m->base.local_size == 1)
        return PLUMB_OK;
    ok = MPI_Win_allocate_shared((MPI_Aint)sizeof(struct plumb_ring), 64, MPI_INFO_NULL, s->host,
                                 &mine, &s->win) == MPI_SUCCESS;
    /* Without room for the window (a small /dev/shm) messages simply go the usual way: all ranks
     * of the host or none. */
    PLUMB_MPI(MPI_Allreduce(&ok, &all, 1, MPI_INT, MPI_MIN, s->host));
    if (!all)
        return PLUMB_OK;
    for (int l = 0; l < m->base.local_size; l++) {
        MPI_Aint size;
        int unit;
        void *at = NULL;
        PLUMB_MPI(MPI_Win_shared_query(s->win, l, &size, &unit, &at));
        s->ring[world[l]] = at;
    }
    struct plumb_ring *own = s->ring[m->base.rank];
    atomic_init(&own->receiver, 0);
    atomic_init(&own->head, 0);
    atomic_init(&own->tail, 0);
    PLUMB_MPI(MPI_Barrier(s->host));
    return PLUMB_OK;
}

void plumb_shared_destroy(struct plumb_mpi *m)
{
    if (m->shared.win != MPI_WIN_NULL)
        MPI_Win_free(&m->shared.win);
    if (m->shared.host != MPI_COMM_NULL)
        MPI_Comm_free(&m->shared.host);
}

bool plumb_shared_reaches(const struct plumb_mpi *m, int peer)
{
    return peer >= 0 && m->shared.on && m->shared.ring[peer];
}

/* Announces the message in the ring, unless the one before is still there. */
static bool open_out(struct plumb_mpi *m, const struct plumb_move *mv, struct plumb_flow *f)
{
    struct plumb_ring *ring = m->shared.ring[m->base.rank];
    if (atomic_load_explicit(&ring->receiver, memory_order_acquire) != 0)
        return false; /* the receiver of the message before has not taken all of it */
    ring->bytes = mv->send_bytes;
    ring->call = plumb_coll_call(&m->base);
    ring->offset = 0;
    ring->window = plumb_window_find(m, mv->send, mv->send_bytes, &ring->offset);
    f->direct = ring->window != 0;
    atomic_store_explicit(&ring->head, 0, memory_order_relaxed);
    atomic_store_explicit(&ring->tail, 0, memory_order_relaxed);
    atomic_store_explicit(&ring->receiver, mv->to + 1, memory_order_release);
    f->open = true;
    return true;
}

bool plumb_shared_send(struct plumb_mpi *m, const struct plumb_move *mv, struct plumb_flow *f)
{
    struct plumb_ring *ring = m->shared.ring[m->base.rank];
    if (!f->open && !open_out(m, mv, f))
        return false;
    if (f->direct) {
        if (atomic_load_explicit(&ring->receiver, memory_order_acquire) != 0)
            return false;
        f->done = f->blocks;
        return true;
    }
    if (f->done - atomic_load_explicit(&ring->tail, memory_order_acquire) >= PLUMB_RING_DEPTH)
        return false;
    const int64_t at = f->done * PLUMB_RING_BLOCK;
    memcpy(ring->slot[f->done % PLUMB_RING_DEPTH], (const char *)mv->send + at,
           (size_t)plumb_min_i64(mv->send_bytes - at, PLUMB_RING_BLOCK));
    atomic_store_explicit(&ring->head, ++f->done, memory_order_release);
    return true;
}

static plumb_status open_in(struct plumb_mpi *m, const struct plumb_move *mv, struct plumb_flow *f)
{
    const struct plumb_ring *ring = m->shared.ring[mv->from];
    if (atomic_load_explicit(&ring->receiver, memory_order_acquire) != m->base.rank + 1)
        return PLUMB_OK;
    PLUMB_REQUIRE(
        ring->bytes == mv->recv_bytes && ring->call == plumb_coll_call(&m->base), PLUMB_ERR_COMM,
        "the ranks disagree: rank %d waits in %s (call %lld) for %lld bytes, rank %d "
        "sent %lld bytes (call %lld)",
        m->base.rank, m->base.watch.here.doing, (long long)plumb_coll_call(&m->base),
        (long long)mv->recv_bytes, mv->from, (long long)ring->bytes, (long long)ring->call);
    f->direct = ring->window != 0;
    PLUMB_REQUIRE(!f->direct || plumb_window_peer(m, mv->from, ring->window, ring->offset),
                  PLUMB_ERR_COMM, "%s: rank %d sends memory %lld, which rank %d has given back",
                  m->base.watch.here.doing, mv->from, (long long)ring->window, m->base.rank);
    f->open = true;
    return PLUMB_OK;
}

plumb_status plumb_shared_receive(struct plumb_mpi *m, const struct plumb_move *mv,
                                  struct plumb_flow *f, bool *moved)
{
    struct plumb_ring *ring = m->shared.ring[mv->from];
    if (!f->open)
        PLUMB_TRY(open_in(m, mv, f));
    if (!f->open)
        return PLUMB_OK;
    const int64_t at = f->done * PLUMB_RING_BLOCK, left = mv->recv_bytes - at;
    if (f->direct) {
        const char *from = plumb_window_peer(m, mv->from, ring->window, ring->offset);
        const int64_t blocks = plumb_min_i64(DIRECT_BLOCKS, f->blocks - f->done);
        mv->take(mv->arg, from + at, at, plumb_min_i64(left, blocks * PLUMB_RING_BLOCK));
        f->done += blocks;
    } else {
        if (atomic_load_explicit(&ring->head, memory_order_acquire) <= f->done)
            return PLUMB_OK;
        mv->take(mv->arg, ring->slot[f->done % PLUMB_RING_DEPTH], at,
                 plumb_min_i64(left, PLUMB_RING_BLOCK));
        f->done++;
    }
    if (f->done == f->blocks)
        atomic_store_explicit(&ring->receiver, 0, memory_order_release);
    else if (!f->direct)
        atomic_store_explicit(&ring->tail, f->done, memory_order_release);
    *moved = true;
    return PLUMB_OK;
}
