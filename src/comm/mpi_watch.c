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

#include "base/log.h"
#include "base/num.h"
#include "comm/mpi_impl.h"

#define NOTE_TAG 1
#define SPIN_S   20e-6
#define YIELD_S  2e-3
#define LISTEN_S 0.05 /* before that a wait is nothing to talk about */
#define SHARE_S  2e-3 /* how often raised values are looked for */

plumb_status plumb_watch_create(struct plumb_mpi *m)
{
    struct plumb_watch *w = &m->watch;
    const size_t size = (size_t)m->base.size;
    w->heard = calloc(size, sizeof(*w->heard));
    w->mine = calloc(size, sizeof(*w->mine));
    w->sent = malloc(size * sizeof(MPI_Request));
    PLUMB_REQUIRE(w->heard && w->mine && w->sent, PLUMB_ERR_NOMEM, "watch of %d ranks",
                  m->base.size);
    for (size_t r = 0; r < size; r++)
        w->sent[r] = MPI_REQUEST_NULL;
    PLUMB_MPI(MPI_Comm_dup(m->comm, &w->comm));
    return PLUMB_OK;
}

void plumb_watch_destroy(struct plumb_mpi *m)
{
    struct plumb_watch *w = &m->watch;
    if (w->comm != MPI_COMM_NULL) {
        /* The ranks end together: all notes leave, or have left. */
        MPI_Waitall(m->base.size, w->sent, MPI_STATUSES_IGNORE);
        MPI_Comm_free(&w->comm);
    }
    free(w->heard);
    free(w->mine);
    free(w->sent);
}

/* Tells rank r. Notes are small enough to leave at once; while one has not left, that rank is
 * told nothing newer. */
static plumb_status tell_one(struct plumb_mpi *m, int r)
{
    struct plumb_watch *w = &m->watch;
    struct plumb_watch_note *note = &w->mine[r];
    int left = 0;
    PLUMB_MPI(MPI_Test(&w->sent[r], &left, MPI_STATUS_IGNORE));
    if (!left)
        return PLUMB_OK;
    memset(note, 0, sizeof(*note));
    note->call = m->base.call;
    note->raised = m->base.raised;
    snprintf(note->doing, sizeof(note->doing), "%s", m->base.doing);
    memcpy(note->phase, m->base.phase, sizeof(note->phase));
    memcpy(note->host, m->base.host, sizeof(note->host));
    PLUMB_MPI(MPI_Isend(note, (int)sizeof(*note), MPI_BYTE, r, NOTE_TAG, w->comm, &w->sent[r]));
    return PLUMB_OK;
}

/* Tells the ranks that do not know yet in which collective this one is, or what was raised. */
static plumb_status tell(struct plumb_mpi *m)
{
    for (int r = 0; r < m->base.size; r++)
        if (r != m->base.rank &&
            (m->watch.mine[r].call < m->base.call || m->watch.mine[r].raised < m->base.raised))
            PLUMB_TRY(tell_one(m, r));
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
        m->base.raised = plumb_max_i64(m->base.raised, w->heard[status.MPI_SOURCE].raised);
    }
}

static plumb_status spread_raised(struct plumb_mpi *m)
{
    PLUMB_TRY(plumb_watch_listen(m));
    for (int r = 0; r < m->base.size; r++)
        if (r != m->base.rank && m->watch.mine[r].raised < m->base.raised)
            PLUMB_TRY(tell_one(m, r));
    return PLUMB_OK;
}

void plumb_watch_share_raised(plumb_comm *c)
{
    struct plumb_mpi *m = plumb_mpi_of(c);
    const double now = plumb_now();
    const bool new = c->raised > m->watch.spread;
    if (c->broken || (!new &&now - m->watch.shared < SHARE_S))
        return;
    m->watch.shared = now;
    m->watch.spread = c->raised;
    c->broken = spread_raised(m) != PLUMB_OK;
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
        if (waited > talk || somebody_asks(m))
            PLUMB_TRY(tell(m));
        PLUMB_TRY(compare_notes(m)); /* after telling, so that the others can compare too */
        if (timeout > 0 && waited > timeout)
            return give_up(m);
    }
    const long ns = (long)((waited < 0.1 ? waited / 50.0 : 1e-3) * 1e9);
    nanosleep(&(struct timespec){0, ns}, NULL);
    return PLUMB_OK;
}
