/* comm.c - reads the properties of a communicator; plumb_comm_raise, the counter, abort and
 * destroy.
 * Layer 1. Includes comm/ and base/ only. */
#include "comm/comm.h"

#include "base/log.h"
#include "comm/comm_impl.h"

int plumb_comm_rank(const plumb_comm *c)
{
    return c->rank;
}

int plumb_comm_size(const plumb_comm *c)
{
    return c->size;
}

int plumb_comm_local_rank(const plumb_comm *c)
{
    return c->local_rank;
}

int plumb_comm_local_size(const plumb_comm *c)
{
    return c->local_size;
}

const char *plumb_comm_name(const plumb_comm *c)
{
    return c->ops->name;
}

const char *plumb_comm_host(const plumb_comm *c)
{
    return c->host;
}

void plumb_coll_raise(plumb_comm *c, int64_t value)
{
    int64_t known = atomic_load(&c->raised);
    while (known < value && !atomic_compare_exchange_weak(&c->raised, &known, value))
        continue;
}

void plumb_comm_raise(plumb_comm *c, int64_t value)
{
    plumb_coll_raise(c, value);
    c->ops->share_raised(c);
}

int64_t plumb_comm_raised(plumb_comm *c)
{
    c->ops->share_raised(c);
    return atomic_load(&c->raised);
}

void plumb_comm_count_begin(plumb_comm *c, int64_t n)
{
    c->count = (struct plumb_count){.round = c->count.round + 1, .n = n};
}

plumb_status plumb_comm_count_take(plumb_comm *c, bool wait, int64_t *number)
{
    struct plumb_wait state = {.since = plumb_now()};
    *number = -1;
    PLUMB_REQUIRE(!c->broken, PLUMB_ERR_COMM,
                  "an earlier communication of rank %d failed, none is possible any more", c->rank);
    if (!c->ops->take) {
        *number = plumb_count_next(&c->count);
        return PLUMB_OK;
    }
    plumb_status st = c->ops->take(c, number);
    while (wait && st == PLUMB_OK && *number < 0) {
        st = c->ops->idle(c, &state);
        if (st == PLUMB_OK)
            st = c->ops->take(c, number);
    }
    c->traffic[PLUMB_TRAFFIC_CONTROL].seconds += wait ? plumb_now() - state.since : 0;
    c->broken = st != PLUMB_OK;
    return st;
}

void plumb_comm_abort(plumb_comm *c, int exit_code)
{
    c->broken = true;
    c->ops->abort(c, exit_code);
}

void plumb_comm_destroy(plumb_comm **c)
{
    if (!*c)
        return;
    (*c)->ops->destroy(*c);
    *c = NULL;
}
