/* mpi_move.c - sends and receives a message in blocks, through MPI or through shared memory, and
 * polls for them, so that a missing rank cannot block this one forever.
 * Layer 1. Includes comm/ and base/ only. */
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "comm/mpi_impl.h"

static struct plumb_flow flow_of(const struct plumb_mpi *m, int peer, int64_t bytes)
{
    struct plumb_flow f = {.bytes = peer >= 0 ? bytes : 0, .near = plumb_shared_reaches(m, peer)};
    f.blocks = plumb_ceil_div(f.bytes, f.near ? PLUMB_RING_BLOCK : PLUMB_MPI_BLOCK);
    return f;
}

static int block_bytes(const struct plumb_flow *f, int64_t i)
{
    return (int)plumb_min_i64(f->bytes - i * PLUMB_MPI_BLOCK, PLUMB_MPI_BLOCK);
}

static char *staging_of(struct plumb_mpi *m, int64_t i)
{
    return m->staging + i % PLUMB_MPI_DEPTH * PLUMB_MPI_BLOCK;
}

static plumb_status post_out(struct plumb_mpi *m, const struct plumb_move *mv, struct plumb_flow *f,
                             int tag)
{
    for (; f->posted < f->blocks && f->posted - f->done < PLUMB_MPI_DEPTH; f->posted++)
        PLUMB_MPI(MPI_Isend((const char *)mv->send + f->posted * PLUMB_MPI_BLOCK,
                            block_bytes(f, f->posted), MPI_BYTE, mv->to, tag, m->comm,
                            &f->request[f->posted % PLUMB_MPI_DEPTH]));
    return PLUMB_OK;
}

static plumb_status post_in(struct plumb_mpi *m, const struct plumb_move *mv, struct plumb_flow *f,
                            int tag)
{
    for (; f->posted < f->blocks && f->posted - f->done < PLUMB_MPI_DEPTH; f->posted++)
        PLUMB_MPI(MPI_Irecv(staging_of(m, f->posted), block_bytes(f, f->posted), MPI_BYTE, mv->from,
                            tag, m->comm, &f->request[f->posted % PLUMB_MPI_DEPTH]));
    return PLUMB_OK;
}

/* Sets *came to true if the oldest incoming block has arrived. Fails if it has an unexpected size.
 */
static plumb_status poll_in(struct plumb_mpi *m, const struct plumb_move *mv, struct plumb_flow *in,
                            bool *came)
{
    MPI_Status status;
    int there = 0, got = 0;
    const int want = block_bytes(in, in->done);
    PLUMB_MPI(MPI_Test(&in->request[in->done % PLUMB_MPI_DEPTH], &there, &status));
    *came = there;
    if (!there)
        return PLUMB_OK;
    PLUMB_MPI(MPI_Get_count(&status, MPI_BYTE, &got));
    PLUMB_REQUIRE(got == want, PLUMB_ERR_COMM,
                  "%s (call %lld): rank %d sent %d bytes where rank %d expects %d: the ranks are "
                  "not in the same place of the program",
                  m->base.heartbeat.here.doing, (long long)plumb_coll_call(&m->base), mv->from, got,
                  m->base.rank, want);
    return PLUMB_OK;
}

static plumb_status poll_out(struct plumb_flow *f, bool *moved)
{
    int left = 0;
    PLUMB_MPI(MPI_Test(&f->request[f->done % PLUMB_MPI_DEPTH], &left, MPI_STATUS_IGNORE));
    f->done += left;
    *moved = *moved || left;
    return PLUMB_OK;
}

/* Starts MPI requests for the next blocks of both flows, unless they use shared memory, and tests
 * if earlier ones are complete. Call it with the lock held. */
static plumb_status pump(struct plumb_mpi *m, const struct plumb_move *mv, struct plumb_flow *out,
                         struct plumb_flow *in, bool *moved, bool *came)
{
    /* MPI guarantees tags up to 32767. A message of another collective, or of another source line,
     * has another tag in most cases and is not received; the heartbeat then reports the collective
     * of each rank. */
    const int tag = (int)(plumb_coll_call(&m->base) % PLUMB_SITES) ^ plumb_coll_site(&m->base);
    if (in->done < in->blocks && !in->near) {
        PLUMB_TRY(post_in(m, mv, in, tag));
        PLUMB_TRY(poll_in(m, mv, in, came));
    }
    if (out->done < out->blocks && !out->near) {
        PLUMB_TRY(post_out(m, mv, out, tag));
        PLUMB_TRY(poll_out(out, moved));
    }
    return PLUMB_OK;
}

/* Continues a move as far as is possible without waiting. Sets *moved to true if a block was sent
 * or received. */
static plumb_status step(struct plumb_mpi *m, const struct plumb_move *mv, struct plumb_flow *out,
                         struct plumb_flow *in, bool *moved)
{
    bool came = false;
    if ((in->done < in->blocks && !in->near) || (out->done < out->blocks && !out->near)) {
        pthread_mutex_lock(&m->lock);
        const plumb_status st = pump(m, mv, out, in, moved, &came);
        pthread_mutex_unlock(&m->lock);
        PLUMB_TRY(st);
    }
    if (came) {
        mv->take(mv->arg, staging_of(m, in->done), in->done * PLUMB_MPI_BLOCK,
                 block_bytes(in, in->done));
        in->done++;
        *moved = true;
    }
    if (out->done < out->blocks && out->near && plumb_shared_send(m, mv, out))
        *moved = true;
    if (in->done < in->blocks && in->near)
        PLUMB_TRY(plumb_shared_receive(m, mv, in, moved));
    return PLUMB_OK;
}

plumb_status plumb_mpi_move(plumb_comm *c, const struct plumb_move *mv)
{
    struct plumb_mpi *m = plumb_mpi_of(c);
    struct plumb_flow out = flow_of(m, mv->to, mv->send_bytes);
    struct plumb_flow in = flow_of(m, mv->from, mv->recv_bytes);
    struct plumb_wait wait = {.since = plumb_now()};
    while (out.done < out.blocks || in.done < in.blocks) {
        bool moved = false;
        PLUMB_TRY(step(m, mv, &out, &in, &moved));
        if (moved)
            wait = (struct plumb_wait){.since = plumb_now()};
        else
            PLUMB_TRY(plumb_mail_wait(m, &wait));
    }
    return PLUMB_OK;
}
