/* comm_single.c - a communicator of one rank, in which no message is ever sent.
 * Layer 1. Includes comm/ and base/ only. */
#include <assert.h>
#include <stdlib.h>

#include "comm/comm_impl.h"

static plumb_status single_move(plumb_comm *c, const struct plumb_move *m)
{
    assert(m->to < 0 && m->from < 0);
    (void)c;
    (void)m;
    return PLUMB_OK;
}

static void single_share_raised(plumb_comm *c)
{
    (void)c;
}

static plumb_status single_send_heartbeat(plumb_comm *c)
{
    (void)c;
    return PLUMB_OK;
}

static void single_abort(plumb_comm *c, int exit_code)
{
    (void)c;
    (void)exit_code;
}

static void single_destroy(plumb_comm *c)
{
    plumb_comm_base_fini(c);
    free(c);
}

static const struct plumb_comm_ops single_ops = {
    .name = "single",
    .move = single_move,
    .share_raised = single_share_raised,
    .send_heartbeat = single_send_heartbeat,
    .abort = single_abort,
    .destroy = single_destroy,
};

plumb_status plumb_comm_single_create(plumb_comm **out)
{
    plumb_comm *c = calloc(1, sizeof(*c));
    PLUMB_REQUIRE(c, PLUMB_ERR_NOMEM, "a communicator");
    const plumb_status st = plumb_comm_base_init(c, &single_ops, 0, 1, 0);
    if (st != PLUMB_OK) {
        free(c);
        return plumb_pass_at(st, __FILE__, __LINE__, "plumb_comm_single_create");
    }
    *out = c;
    return PLUMB_OK;
}
