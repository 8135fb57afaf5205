/* mpi_heartbeat.c - sends and receives the heartbeat notes as MPI messages.
 * Layer 1. Includes comm/ and base/ only.
 *
 * Notes are sent on a communicator of their own, by the heartbeat thread or by a waiting rank. No
 * call here waits for another rank. If MPI does not support threads there is no heartbeat thread,
 * and a rank sends and reads notes only while it waits. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/num.h"
#include "comm/mpi_impl.h"

#define NOTE_TAG 1
#define SPIN_S   20e-6 /* s; a wait polls without pause for this time */
/* s; until this time a wait yields the processor between polls, and afterwards it sleeps */
#define YIELD_S 2e-3
#define TALK_S  0.05 /* s; a wait sends notes after this time */
#define SHARE_S 2e-3 /* s; time between two checks for raised values */

#define UNANSWERED                                                                                 \
    16 /* most unread notes to one rank, so that a stopped rank does not fill MPI's buffers */

plumb_status plumb_mail_prepare(struct plumb_mpi *m)
{
    struct plumb_mail *w = &m->mail;
    const size_t size = (size_t)m->base.size;
    w->mine = calloc(size, sizeof(*w->mine));
    w->unanswered = calloc(size, sizeof(*w->unanswered));
    w->sent = malloc(size * sizeof(*w->sent));
    PLUMB_REQUIRE(w->mine && w->unanswered && w->sent, PLUMB_ERR_NOMEM,
                  "cannot store the heartbeat messages to %d ranks", m->base.size);
    for (size_t r = 0; r < size; r++)
        w->sent[r] = MPI_REQUEST_NULL;
    return PLUMB_OK;
}

plumb_status plumb_mail_create(struct plumb_mpi *m)
{
    PLUMB_MPI(MPI_Comm_dup(m->comm, &m->mail.comm));
    return PLUMB_OK;
}

void plumb_mail_destroy(struct plumb_mpi *m)
{
    struct plumb_mail *w = &m->mail;
    if (w->comm != MPI_COMM_NULL) {
        /* All ranks call this function together, so the last notes are delivered. */
        MPI_Waitall(m->base.size, w->sent, MPI_STATUSES_IGNORE);
        MPI_Comm_free(&w->comm);
    }
    free(w->mine);
    free(w->unanswered);
    free(w->sent);
}

/* Sends this rank's note to rank r. Sends nothing if the previous note to r is still in flight, or
 * if r has sent no note since the last UNANSWERED notes to it. */
static plumb_status tell(struct plumb_mpi *m, int r)
{
    struct plumb_mail *w = &m->mail;
    int left = 0;
    PLUMB_MPI(MPI_Test(&w->sent[r], &left, MPI_STATUS_IGNORE));
    if (!left || w->unanswered[r] >= UNANSWERED)
        return PLUMB_OK;
    plumb_heartbeat_note(&m->base, &w->mine[r]);
    w->unanswered[r]++;
    PLUMB_MPI(MPI_Isend(&w->mine[r], (int)sizeof(w->mine[r]), MPI_BYTE, r, NOTE_TAG, w->comm,
                        &w->sent[r]));
    return PLUMB_OK;
}

/* Sends a note to each rank whose last note from this rank had an older call number or a smaller
 * raised value. */
static plumb_status tell_news(struct plumb_mpi *m, int64_t call)
{
    const int64_t raised = atomic_load(&m->base.raised);
    for (int r = 0; r < m->base.size; r++)
        if (r != m->base.rank && (m->mail.mine[r].call < call || m->mail.mine[r].raised < raised))
            PLUMB_TRY(tell(m, r));
    return PLUMB_OK;
}

static plumb_status listen(struct plumb_mpi *m)
{
    struct plumb_mail *w = &m->mail;
    for (;;) {
        MPI_Status status;
        int there = 0;
        PLUMB_MPI(MPI_Iprobe(MPI_ANY_SOURCE, NOTE_TAG, w->comm, &there, &status));
        const double now = plumb_now();
        if (!there) {
            plumb_heartbeat_listened(&m->base, now);
            return plumb_counter_serve(m);
        }
        const int r = status.MPI_SOURCE;
        struct plumb_heard *h = &m->base.heartbeat.heard[r];
        PLUMB_MPI(MPI_Recv(&h->note, (int)sizeof(h->note), MPI_BYTE, r, NOTE_TAG, w->comm,
                           MPI_STATUS_IGNORE));
        h->at = now;
        w->unanswered[r] = 0;
        plumb_coll_raise(&m->base, h->note.raised);
    }
}

plumb_status plumb_mail_heartbeat(plumb_comm *c)
{
    struct plumb_mpi *m = plumb_mpi_of(c);
    pthread_mutex_lock(&m->lock);
    plumb_status st = listen(m);
    for (int i = plumb_min_i64(c->size, PLUMB_HEARTBEAT_RANKS); i > 0 && st == PLUMB_OK; i--) {
        const int r = m->mail.next;
        m->mail.next = (r + 1) % c->size;
        if (r != c->rank)
            st = tell(m, r);
    }
    pthread_mutex_unlock(&m->lock);
    return st;
}

void plumb_mail_share_raised(plumb_comm *c)
{
    struct plumb_mpi *m = plumb_mpi_of(c);
    const int64_t raised = atomic_load(&c->raised);
    const double now = plumb_now();
    const bool due = raised != m->mail.spread || now - m->mail.shared >= SHARE_S;
    plumb_status st = PLUMB_OK;
    if (c->broken || (!due && !m->counter.open) || pthread_mutex_trylock(&m->lock) != 0)
        /* nothing is due, or another thread holds the lock: the next call or the heartbeat thread
         * exchanges the values */
        return;
    if (due) {
        m->mail.shared = now;
        m->mail.spread = raised;
        st = listen(m);
        if (st == PLUMB_OK)
            st = tell_news(m, 0);
    } else {
        st = plumb_counter_serve(m);
    }
    pthread_mutex_unlock(&m->lock);
    c->broken = st != PLUMB_OK;
}

/* Exchanges notes with the other ranks and checks the time limits of the wait. Call it with the
 * lock held. */
static plumb_status talk(struct plumb_mpi *m, struct plumb_wait *wait)
{
    char why[768];
    PLUMB_TRY(listen(m));
    PLUMB_TRY(tell_news(m, plumb_coll_call(&m->base)));
    const plumb_status st = plumb_heartbeat_judge(&m->base, wait, plumb_now(), why, sizeof(why));
    PLUMB_REQUIRE(st == PLUMB_OK, st, "%s", why);
    return PLUMB_OK;
}

plumb_status plumb_mail_wait(struct plumb_mpi *m, struct plumb_wait *wait)
{
    const double waited = plumb_now() - wait->since;
    if (waited < SPIN_S)
        return PLUMB_OK;
    if (m->counter.open) {
        pthread_mutex_lock(&m->lock);
        const plumb_status st = plumb_counter_serve(m);
        pthread_mutex_unlock(&m->lock);
        PLUMB_TRY(st);
    }
    if (waited < YIELD_S) {
        sched_yield();
        return PLUMB_OK;
    }
    if (waited > TALK_S) {
        pthread_mutex_lock(&m->lock);
        const plumb_status st = talk(m, wait);
        pthread_mutex_unlock(&m->lock);
        PLUMB_TRY(st);
    }
    const long ns = (long)((waited < 0.1 ? waited / 50.0 : 1e-3) * 1e9);
    nanosleep(&(struct timespec){0, ns}, NULL);
    return PLUMB_OK;
}
