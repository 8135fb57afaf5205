/* comm_pretend.c - a communicator of one rank whose other ranks do not exist, to plan memory. It
 * sends nothing. A move that both sends and receives the same number of bytes receives what it
 * would have sent; any other move receives nothing. Layer 1. Includes comm/ and base/ only. */
#include <stdlib.h>

#include "comm/comm_impl.h"

static plumb_status pretend_move(plumb_comm *c, const struct plumb_move *m)
{
    (void)c;
    if (m->to >= 0 && m->from >= 0 && m->recv_bytes == m->send_bytes)
        m->take(m->arg, m->send, 0, m->send_bytes);
    return PLUMB_OK;
}

static void pretend_share_raised(plumb_comm *c)
{
    (void)c;
}

static plumb_status pretend_send_heartbeat(plumb_comm *c)
{
    (void)c;
    return PLUMB_OK;
}

static void pretend_abort(plumb_comm *c, int exit_code)
{
    (void)c;
    (void)exit_code;
}

static void pretend_destroy(plumb_comm *c)
{
    plumb_comm_base_fini(c);
    free(c);
}

static const struct plumb_comm_ops pretend_ops = {
    .name = "pretend",
    .move = pretend_move,
    .share_raised = pretend_share_raised,
    .send_heartbeat = pretend_send_heartbeat,
    .abort = pretend_abort,
    .destroy = pretend_destroy,
};

plumb_status plumb_comm_pretend_create(plumb_comm **out, int rank, int size)
{
    PLUMB_REQUIRE(size >= 1 && rank >= 0 && rank < size, PLUMB_ERR_ARG,
                  "rank %d of %d ranks, expected at least 1 rank, and a rank from 0 to ranks - 1",
                  rank, size);
    plumb_comm *c = calloc(1, sizeof(*c));
    PLUMB_REQUIRE(c, PLUMB_ERR_NOMEM, "a communicator");
    const plumb_status st = plumb_comm_base_init(c, &pretend_ops, rank, size, 0);
    if (st != PLUMB_OK) {
        free(c);
        return plumb_pass_at(st, __FILE__, __LINE__, "plumb_comm_pretend_create");
    }
    c->check_calls = false; /* there are no other ranks whose calls could be compared */
    *out = c;
    return PLUMB_OK;
}
