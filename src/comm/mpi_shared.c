/* mpi_shared.c - messages between ranks of one host through shared memory.
 * Layer 1. Includes comm/ and base/ only.
 *
 * Each rank owns one ring of slots. Only the owner writes it, for one receiver at a time. The slots
 * stay in the cache, so main memory is accessed only at the source and at the destination.
 *
 *     owner:     head ->  counts the blocks written          slot[head % DEPTH] is filled next
 *     receiver:  tail ->  counts the blocks read             0 <= head - tail <= DEPTH
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "comm/mpi_impl.h"

/* Largest number of blocks that one call receives if the sender's memory is read directly. */
#define DIRECT_BLOCKS 64

struct plumb_ring {
    /* world rank + 1 of the receiver of the current message; 0 if there is no message */
    _Alignas(64) _Atomic int receiver;
    int64_t bytes, call, site; /* size and collective of the message; written before `receiver` */
    /* the window that contains the message, and its offset there; window = 0: it is in slot[] */
    int64_t window, offset;
    _Alignas(64) _Atomic int64_t head; /* number of blocks that the owner has written */
    _Alignas(64) _Atomic int64_t tail; /* number of blocks that the receiver has read */
    _Alignas(64) unsigned char slot[PLUMB_RING_DEPTH][PLUMB_RING_BLOCK];
};

plumb_status plumb_shared_prepare(struct plumb_mpi *m)
{
    struct plumb_shared *s = &m->shared;
    const size_t size = (size_t)m->base.size;
    s->world_of = calloc(size, sizeof(*s->world_of));
    s->ring = calloc(size, sizeof(s->ring[0]));
    s->peer_ring = calloc(size, sizeof(s->peer_ring[0]));
    s->address = calloc(size, sizeof(s->address[0]));
    s->count = calloc(size, sizeof(s->count[0]));
    s->peer = calloc(PLUMB_WINDOWS * size, sizeof(s->peer[0]));
    PLUMB_REQUIRE(s->world_of && s->ring && s->peer_ring && s->address && s->count && s->peer,
                  PLUMB_ERR_NOMEM, "tables of what is shared among %d ranks", m->base.size);
    for (int i = 0; i < PLUMB_WINDOWS; i++)
        s->window[i].peer = s->peer + (size_t)i * size;
    return PLUMB_OK;
}

/* Logs why the messages of this host go through MPI. Only one rank of the host logs; it names the
 * first rank that failed and its error. */
static void tell_why(const struct plumb_mpi *m)
{
    static const char *const what[] = {"", "cannot make memory to share",
                                       "cannot open the memory of the others in /proc"};
    const struct plumb_shared *s = &m->shared;
    for (int l = 0; l < m->base.local_size && m->base.local_rank == 0; l++) {
        const struct plumb_address *a = &s->address[s->world_of[l]];
        if (a->step == PLUMB_WINDOW_NONE)
            continue;
        plumb_log(PLUMB_LOG_WARN,
                  "rank %d on %s %s: %s; messages between the ranks of this host go through MPI, "
                  "which is slower and changes no result",
                  s->world_of[l], m->base.host, what[a->step], strerror((int)a->error));
        return;
    }
}

/* Creates the rings. Each rank's ring is an anonymous memory file that the other ranks of the host
 * map (mpi_window.c). An MPI shared-memory window is not used: it may need space in /dev/shm, and
 * if one rank does not get this space, the other ranks wait inside of MPI forever. */
plumb_status plumb_shared_create(struct plumb_mpi *m)
{
    struct plumb_shared *s = &m->shared;
    const int64_t bytes = (int64_t)sizeof(struct plumb_ring);
    const bool want = m->base.local_size > 1;
    bool ok = false;
    PLUMB_TRY(plumb_window_share(m, &s->own_ring, s->peer_ring, bytes, want, true, &ok));
    if (want && !ok)
        tell_why(m);
    if (!ok) {
        plumb_window_unmap(&s->own_ring, s->peer_ring, m->base.size, bytes);
        return PLUMB_OK;
    }
    for (int l = 0; l < m->base.local_size; l++)
        s->ring[s->world_of[l]] = (struct plumb_ring *)(void *)s->peer_ring[s->world_of[l]];
    s->ring[m->base.rank] = (struct plumb_ring *)(void *)s->own_ring;
    return PLUMB_OK;
}

void plumb_shared_destroy(struct plumb_mpi *m)
{
    struct plumb_shared *s = &m->shared;
    const int64_t bytes = (int64_t)sizeof(struct plumb_ring);
    plumb_window_unmap(&s->own_ring, s->peer_ring, m->base.size, bytes);
    free(s->world_of);
    free(s->ring);
    free(s->peer_ring);
    free(s->address);
    free(s->count);
    free(s->peer);
    if (s->host != MPI_COMM_NULL)
        MPI_Comm_free(&s->host);
}

bool plumb_shared_reaches(const struct plumb_mpi *m, int peer)
{
    return peer >= 0 && m->shared.on && m->shared.ring[peer];
}

/* Announces the message in the ring; returns false if the previous message is still in it. */
static bool open_out(struct plumb_mpi *m, const struct plumb_move *mv, struct plumb_flow *f)
{
    struct plumb_ring *ring = m->shared.ring[m->base.rank];
    if (atomic_load_explicit(&ring->receiver, memory_order_acquire) != 0)
        return false; /* the receiver has not read all of the previous message */
    ring->bytes = mv->send_bytes;
    ring->call = plumb_coll_call(&m->base);
    ring->site = plumb_coll_site(&m->base);
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
        ring->bytes == mv->recv_bytes && ring->call == plumb_coll_call(&m->base) &&
            ring->site == plumb_coll_site(&m->base),
        PLUMB_ERR_COMM,
        "the ranks disagree: rank %d waits in %s (call %lld) for %lld bytes, rank %d "
        "sent %lld bytes (call %lld)%s",
        m->base.rank, m->base.heartbeat.here.doing, (long long)plumb_coll_call(&m->base),
        (long long)mv->recv_bytes, mv->from, (long long)ring->bytes, (long long)ring->call,
        ring->site == plumb_coll_site(&m->base) ? "" : " from another place of the program");
    f->direct = ring->window != 0;
    PLUMB_REQUIRE(
        !f->direct || plumb_window_peer(m, mv->from, ring->window, ring->offset), PLUMB_ERR_COMM,
        "%s: rank %d sends from shared memory number %lld, which rank %d has already freed",
        m->base.heartbeat.here.doing, mv->from, (long long)ring->window, m->base.rank);
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
