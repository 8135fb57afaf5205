/* mpi_move.c - a message as MPI blocks, polled so that a missing rank cannot hang this one.
 * Layer 1. Includes comm/ and base/ only. */
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "comm/mpi_impl.h"

/* One direction of a message: blocks [done, posted) are in flight. */
struct flow {
    int64_t bytes, blocks, posted, done;
    MPI_Request request[PLUMB_MPI_DEPTH];
};

static struct flow flow_of(int peer, int64_t bytes)
{
    struct flow f = {.bytes = peer >= 0 ? bytes : 0};
    f.blocks = plumb_ceil_div(f.bytes, PLUMB_MPI_BLOCK);
    return f;
}

static int block_bytes(const struct flow *f, int64_t i)
{
    return (int)plumb_min_i64(f->bytes - i * PLUMB_MPI_BLOCK, PLUMB_MPI_BLOCK);
}

static char *staging_of(struct plumb_mpi *m, int64_t i)
{
    return m->staging + i % PLUMB_MPI_DEPTH * PLUMB_MPI_BLOCK;
}

static plumb_status post(struct plumb_mpi *m, const struct plumb_move *mv, struct flow *out,
                         struct flow *in, int tag)
{
    for (; in->posted < in->blocks && in->posted - in->done < PLUMB_MPI_DEPTH; in->posted++)
        PLUMB_MPI(MPI_Irecv(staging_of(m, in->posted), block_bytes(in, in->posted), MPI_BYTE,
                            mv->from, tag, m->comm, &in->request[in->posted % PLUMB_MPI_DEPTH]));
    for (; out->posted < out->blocks && out->posted - out->done < PLUMB_MPI_DEPTH; out->posted++)
        PLUMB_MPI(MPI_Isend((const char *)mv->send + out->posted * PLUMB_MPI_BLOCK,
                            block_bytes(out, out->posted), MPI_BYTE, mv->to, tag, m->comm,
                            &out->request[out->posted % PLUMB_MPI_DEPTH]));
    return PLUMB_OK;
}

/* Takes the oldest incoming block if it is there. */
static plumb_status poll_in(struct plumb_mpi *m, const struct plumb_move *mv, struct flow *in,
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

plumb_status plumb_mpi_move(plumb_comm *c, const struct plumb_move *mv)
{
    struct plumb_mpi *m = plumb_mpi_of(c);
    struct flow out = flow_of(mv->to, mv->send_bytes), in = flow_of(mv->from, mv->recv_bytes);
    const int tag = (int)(c->call % 16384); /* MPI promises tags up to 32767 */
    double since = plumb_now();

    while (out.done < out.blocks || in.done < in.blocks) {
        bool moved = false;
        PLUMB_TRY(post(m, mv, &out, &in, tag));
        if (in.done < in.blocks)
            PLUMB_TRY(poll_in(m, mv, &in, &moved));
        if (out.done < out.blocks) {
            int left = 0;
            PLUMB_MPI(MPI_Test(&out.request[out.done % PLUMB_MPI_DEPTH], &left, MPI_STATUS_IGNORE));
            out.done += left;
            moved = moved || left;
        }
        const double now = plumb_now();
        if (moved)
            since = now;
        else
            PLUMB_TRY(plumb_watch_wait(m, now - since));
    }
    return PLUMB_OK;
}
