/* base.c - initialises and releases the parts that a communicator has on every transport.
 * Layer 1. Includes comm/ and base/ only. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "comm/comm_impl.h"

plumb_status plumb_comm_base_init(plumb_comm *c, const struct plumb_comm_ops *ops, int rank,
                                  int size, double timeout_s)
{
    c->ops = ops;
    c->rank = rank, c->size = size;
    c->local_rank = 0, c->local_size = 1;
    atomic_init(&c->raised, 0);
#ifdef PLUMB_COMM_CHECK_CALLS
    c->check_calls = true;
#endif
    if (gethostname(c->host, sizeof(c->host) - 1) != 0)
        snprintf(c->host, sizeof(c->host), "unknown");
    c->scratch = malloc(PLUMB_COMM_SCRATCH * sizeof(double));
    c->slots = malloc(2 * (size_t)size * sizeof(double));
    plumb_status st = PLUMB_OK;
    if (!c->scratch || !c->slots)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "a communicator of %d ranks", size);
    PLUMB_TRY_GOTO(st, plumb_heartbeat_init(c, timeout_s), fail);
    return PLUMB_OK;
fail:
    plumb_comm_base_fini(c);
    return st;
}

void plumb_comm_base_fini(plumb_comm *c)
{
    plumb_heartbeat_fini(c);
    free(c->scratch);
    free(c->slots);
    c->scratch = c->slots = NULL;
}
