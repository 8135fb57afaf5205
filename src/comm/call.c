/* call.c - starts and ends each collective call: records it for the heartbeat, and runs the
 * collective check.
 * Layer 1. Includes comm/ and base/ only. */
#include "base/log.h"
#include "comm/comm_impl.h"

plumb_comm *plumb_comm_at(plumb_comm *c, const char *file, int line)
{
    c->file = file;
    c->line = line;
    return c;
}

static int site_of(const char *doing, int line)
{
    unsigned h = (unsigned)line;
    for (; *doing; doing++)
        h = h * 31 + (unsigned char)*doing;
    return (int)(h % PLUMB_SITES);
}

struct plumb_traffic plumb_comm_traffic(const plumb_comm *c, enum plumb_traffic_class traffic_class)
{
    return c->traffic[traffic_class];
}

plumb_status plumb_coll_enter(plumb_comm *c, const char *doing, struct plumb_args args)
{
    PLUMB_REQUIRE(!c->broken, PLUMB_ERR_COMM,
                  "%s: an earlier communication of rank %d failed, none is possible any more",
                  doing, c->rank);
    struct plumb_here *here = &c->heartbeat.here;
    pthread_mutex_lock(&c->heartbeat.lock);
    here->call++;
    here->doing = doing;
    here->file = c->file;
    here->line = c->line;
    /* The site is a hash of the caller, which ranks compare to detect different calls. It is 0 if
     * the collective check is on: that check compares the calls itself, and its message lists the
     * call of every rank. */
    here->site = c->check_calls ? 0 : site_of(doing, c->file ? c->line : 0);
    here->inside = true;
    here->since = plumb_now();
    pthread_mutex_unlock(&c->heartbeat.lock);
    c->file = NULL;
    if (c->check_calls && c->size > 1)
        PLUMB_TRY(plumb_collective_check(c, &args));
    return PLUMB_OK;
}

plumb_status plumb_coll_leave(plumb_comm *c, plumb_status st)
{
    const double now = plumb_now();
    c->traffic[c->traffic_class].seconds += now - c->heartbeat.here.since;
    c->traffic_class = PLUMB_TRAFFIC_CONTROL;
    pthread_mutex_lock(&c->heartbeat.lock);
    c->heartbeat.here.inside = false;
    c->heartbeat.here.since = now;
    pthread_mutex_unlock(&c->heartbeat.lock);
    return st;
}
