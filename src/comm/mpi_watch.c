/* mpi_watch.c - naming the rank that does not come.
 * Layer 1. Includes comm/ and base/ only.
 *
 * A rank that has waited for a while tells all others where it is, once per collective; who hears
 * that and waits too answers likewise. So by the time-out each waiting rank knows all ranks that
 * wait with it: those it has not heard from are the missing ones. A run in which nobody waits for
 * long sends nothing. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "comm/mpi_impl.h"

#define NOTE_TAG 1
#define SPIN_S   20e-6
#define YIELD_S  2e-3
#define LISTEN_S 0.05 /* before that a wait is nothing to talk about */

plumb_status plumb_watch_create(struct plumb_mpi *m)
{
    struct plumb_watch *w = &m->watch;
    const size_t size = (size_t)m->base.size;
    w->heard = calloc(size, sizeof(*w->heard));
    w->sent = malloc(size * sizeof(MPI_Request));
    PLUMB_REQUIRE(w->heard && w->sent, PLUMB_ERR_NOMEM, "watch of %d ranks", m->base.size);
    for (size_t r = 0; r < size; r++)
        w->sent[r] = MPI_REQUEST_NULL;
    PLUMB_MPI(MPI_Comm_dup(m->comm, &w->comm));
    return PLUMB_OK;
}

void plumb_watch_destroy(struct plumb_mpi *m)
{
    struct plumb_watch *w = &m->watch;
    if (w->comm != MPI_COMM_NULL)
        MPI_Comm_free(&w->comm);
    free(w->heard);
    free(w->sent);
}

/* Notes are small enough to leave at once; one that has not left yet is simply not repeated. */
static plumb_status tell(struct plumb_mpi *m)
{
    struct plumb_watch *w = &m->watch;
    int left = 0;
    PLUMB_MPI(MPI_Testall(m->base.size, w->sent, &left, MPI_STATUSES_IGNORE));
    if (!left)
        return PLUMB_OK;
    memset(&w->mine, 0, sizeof(w->mine));
    w->mine.call = m->base.call;
    snprintf(w->mine.doing, sizeof(w->mine.doing), "%s", m->base.doing);
    memcpy(w->mine.phase, m->base.phase, sizeof(w->mine.phase));
    memcpy(w->mine.host, m->base.host, sizeof(w->mine.host));
    for (int r = 0; r < m->base.size; r++)
        if (r != m->base.rank)
            PLUMB_MPI(MPI_Isend(&w->mine, (int)sizeof(w->mine), MPI_BYTE, r, NOTE_TAG, w->comm,
                                &w->sent[r]));
    w->told = m->base.call;
    return PLUMB_OK;
}

plumb_status plumb_watch_listen(struct plumb_mpi *m)
{
    struct plumb_watch *w = &m->watch;
    for (;;) {
        MPI_Status status;
        int there = 0;
        PLUMB_MPI(MPI_Iprobe(MPI_ANY_SOURCE, NOTE_TAG, w->comm, &there, &status));
        if (!there)
            return PLUMB_OK;
        PLUMB_MPI(MPI_Recv(&w->heard[status.MPI_SOURCE], (int)sizeof(*w->heard), MPI_BYTE,
                           status.MPI_SOURCE, NOTE_TAG, w->comm, MPI_STATUS_IGNORE));
    }
}

static plumb_status give_up(struct plumb_mpi *m)
{
    const plumb_comm *c = &m->base;
    char text[640];
    size_t len = 0;
    int missing = 0;
    for (int r = 0; r < c->size && len < sizeof(text); r++) {
        const struct plumb_watch_note *h = &m->watch.heard[r];
        if (r == c->rank || h->call >= c->call)
            continue;
        missing++;
        len += (size_t)snprintf(text + len, sizeof(text) - len, " rank %d", r);
        if (h->call > 0 && len < sizeof(text))
            len += (size_t)snprintf(text + len, sizeof(text) - len,
                                    " (last heard on %s in %s, call %lld, phase \"%s\")", h->host,
                                    h->doing, (long long)h->call, h->phase);
    }
    PLUMB_FAIL(PLUMB_ERR_COMM, "%s (call %lld, phase \"%s\"): no progress for %g s; %s%s", c->doing,
               (long long)c->call, c->phase, c->timeout_s,
               missing ? "did not come:" : "all ranks came, the connection between them is stuck",
               missing ? text : "");
}

static plumb_status compare_notes(const struct plumb_mpi *m)
{
    const plumb_comm *c = &m->base;
    for (int r = 0; r < c->size; r++) {
        const struct plumb_watch_note *h = &m->watch.heard[r];
        PLUMB_REQUIRE(h->call != c->call || r == c->rank || strcmp(h->doing, c->doing) == 0,
                      PLUMB_ERR_COMM,
                      "the ranks disagree: rank %d is in %s (phase \"%s\"), rank %d in %s "
                      "(phase \"%s\")",
                      c->rank, c->doing, c->phase, r, h->doing, h->phase);
    }
    return PLUMB_OK;
}

static bool somebody_asks(const struct plumb_mpi *m)
{
    for (int r = 0; r < m->base.size; r++)
        if (m->watch.heard[r].call >= m->base.call)
            return true;
    return false;
}

plumb_status plumb_watch_wait(struct plumb_mpi *m, double waited)
{
    const double timeout = m->base.timeout_s;
    if (waited < SPIN_S)
        return PLUMB_OK;
    if (waited < YIELD_S) {
        sched_yield();
        return PLUMB_OK;
    }
    if (waited > LISTEN_S) {
        const double talk = timeout > 0 && timeout < 3.0 ? timeout / 3.0 : 1.0;
        PLUMB_TRY(plumb_watch_listen(m));
        if (m->watch.told < m->base.call && (waited > talk || somebody_asks(m)))
            PLUMB_TRY(tell(m));
        PLUMB_TRY(compare_notes(m)); /* after telling, so that the others can compare too */
        if (timeout > 0 && waited > timeout)
            return give_up(m);
    }
    const long ns = (long)((waited < 0.1 ? waited / 50.0 : 1e-3) * 1e9);
    nanosleep(&(struct timespec){0, ns}, NULL);
    return PLUMB_OK;
}
