/* mpi_move.c - a message as MPI blocks, polled so that a missing rank cannot hang this one.
 * Layer 1. Includes comm/ and base/ only. */
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "comm/mpi_impl.h"

static struct plumb_flow flow_of(int peer, int64_t bytes, int64_t block)
{
    struct plumb_flow f = {.bytes = peer >= 0 ? bytes : 0};
    f.blocks = plumb_ceil_div(f.bytes, block);
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

/* Takes the oldest incoming block if it is there. */
static plumb_status poll_in(struct plumb_mpi *m, const struct plumb_move *mv, struct plumb_flow *in,
                            bool *moved)
{
    MPI_Status status;
    int there = 0, got = 0;
    const int want = block_bytes(in, in->done);
    PLUMB_MPI(MPI_Test(&in->request[in->done % PLUMB_MPI_DEPTH], &there, &status));
    if (!there)
        return PLUMB_OK;
    PLUMB_MPI(MPI_Get_count(&status, MPI_BYTE, &got));
    PLUMB_REQUIRE(got == want, PLUMB_ERR_COMM,
                  "%s (call %lld): rank %d sent %d bytes where rank %d expects %d: the ranks are "
                  "not in the same place of the program",
                  m->base.doing, (long long)m->base.call, mv->from, got, m->base.rank, want);
    mv->take(mv->arg, staging_of(m, in->done), in->done * PLUMB_MPI_BLOCK, want);
    in->done++;
    *moved = true;
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

plumb_status plumb_mpi_move(plumb_comm *c, const struct plumb_move *mv)
{
    struct plumb_mpi *m = plumb_mpi_of(c);
    const bool near_to = plumb_shared_reaches(m, mv->to);
    const bool near_from = plumb_shared_reaches(m, mv->from);
    struct plumb_flow out =
        flow_of(mv->to, mv->send_bytes, near_to ? PLUMB_RING_BLOCK : PLUMB_MPI_BLOCK);
    struct plumb_flow in =
        flow_of(mv->from, mv->recv_bytes, near_from ? PLUMB_RING_BLOCK : PLUMB_MPI_BLOCK);
    const int tag = (int)(c->call % 16384); /* MPI promises tags up to 32767 */
    double since = plumb_now();

    while (out.done < out.blocks || in.done < in.blocks) {
        bool moved = false;
        if (!near_from)
            PLUMB_TRY(post_in(m, mv, &in, tag));
        if (!near_to)
            PLUMB_TRY(post_out(m, mv, &out, tag));
        if (out.done < out.blocks && near_to)
            moved = plumb_shared_send(m, mv, &out);
        else if (out.done < out.blocks)
            PLUMB_TRY(poll_out(&out, &moved));
        if (in.done < in.blocks)
            PLUMB_TRY(near_from ? plumb_shared_receive(m, mv, &in, &moved)
                                : poll_in(m, mv, &in, &moved));
        if (moved)
            since = plumb_now();
        else
            PLUMB_TRY(plumb_watch_wait(m, plumb_now() - since));
    }
    return PLUMB_OK;
}
