/* comm_thread.c - n ranks as n threads of one process, so that sanitizers can check all of them.
 * Layer 1. Includes comm/ and base/ only.
 *
 * There is one mailbox for each ordered pair of ranks. The sender stores a pointer to its message
 * in the mailbox, the receiver reads the sender's memory directly, and the sender waits until the
 * receiver has finished. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "comm/comm_impl.h"

#define LOOK_S 0.05 /* a waiting rank checks the heartbeats of the others every LOOK_S seconds */

enum mail { EMPTY, POSTED, TAKING, TAKEN };

struct mailbox {
    enum mail state;
    const void *data;
    int64_t bytes, call;
    int site;
    const char *doing;
};

struct world {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int n, alive;
    struct mailbox *box; /* (n,n) mailboxes by sender and receiver */
    plumb_comm **member; /* (n,) communicators of the ranks; NULL once destroyed */
    plumb_status failed; /* the first failure of any rank; every later call returns it */
    char why[768];
    _Atomic int64_t raised;
    struct plumb_count count; /* the newest round that any rank has begun */
};

struct thread_comm {
    plumb_comm base;
    struct world *world;
};

static struct world *world_of(plumb_comm *c)
{
    return ((struct thread_comm *)c)->world;
}

/* Records a failure that every later call on any rank returns, unless one is already recorded. Call
 * it with the lock held. */
static void fail_world(struct world *w, plumb_status st, const char *why)
{
    if (w->failed == PLUMB_OK) {
        w->failed = st;
        snprintf(w->why, sizeof(w->why), "%s", why);
    }
    pthread_cond_broadcast(&w->changed);
}

/* Copies this rank's heartbeat note to every other rank. Call it with the lock held. */
static void tell_all(plumb_comm *c, double now)
{
    const struct world *w = world_of(c);
    struct plumb_note note;
    plumb_heartbeat_note(c, &note);
    for (int r = 0; r < w->n; r++)
        if (w->member[r] && r != c->rank)
            w->member[r]->heartbeat.heard[c->rank] = (struct plumb_heard){note, now};
}

static plumb_status thread_send_heartbeat(plumb_comm *c)
{
    struct world *w = world_of(c);
    pthread_mutex_lock(&w->lock);
    const double now = plumb_now();
    tell_all(c, now);
    plumb_heartbeat_listened(c, now);
    pthread_mutex_unlock(&w->lock);
    return PLUMB_OK;
}

/* Waits until box->state == want. Call it with the lock held. */
static plumb_status await(plumb_comm *c, const struct mailbox *box, enum mail want)
{
    struct world *w = world_of(c);
    struct plumb_wait wait = {.since = plumb_now()};
    while (box->state != want && w->failed == PLUMB_OK) {
        const struct timespec until = plumb_clock_in(LOOK_S);
        if (pthread_cond_timedwait(&w->changed, &w->lock, &until) != ETIMEDOUT)
            continue;
        char why[sizeof(w->why)];
        const double now = plumb_now();
        tell_all(c, now);
        plumb_heartbeat_listened(c, now);
        const plumb_status st = plumb_heartbeat_judge(c, &wait, now, why, sizeof(why));
        if (st != PLUMB_OK && box->state != want && w->failed == PLUMB_OK)
            fail_world(w, st, why);
    }
    /* The receiver may still be reading; the sender must keep its memory until that is done. */
    while (want == TAKEN && box->state == TAKING)
        pthread_cond_wait(&w->changed, &w->lock);
    return w->failed;
}

static plumb_status receive(plumb_comm *c, const struct plumb_move *m)
{
    struct world *w = world_of(c);
    struct mailbox *box = &w->box[m->from * w->n + c->rank];
    if (await(c, box, POSTED) != PLUMB_OK)
        return w->failed;
    if (box->bytes != m->recv_bytes || box->call != plumb_coll_call(c) ||
        box->site != plumb_coll_site(c)) {
        char why[sizeof(w->why)];
        snprintf(why, sizeof(why),
                 "the ranks disagree: rank %d waits in %s (call %lld) for %lld bytes, rank %d "
                 "sent %lld bytes in %s (call %lld)%s",
                 c->rank, c->heartbeat.here.doing, (long long)plumb_coll_call(c),
                 (long long)m->recv_bytes, m->from, (long long)box->bytes, box->doing,
                 (long long)box->call,
                 box->site == plumb_coll_site(c) ? "" : " from another place of the program");
        fail_world(w, PLUMB_ERR_COMM, why);
        return w->failed;
    }
    box->state = TAKING;
    pthread_mutex_unlock(&w->lock);
    m->take(m->arg, box->data, 0, m->recv_bytes);
    pthread_mutex_lock(&w->lock);
    box->state = TAKEN;
    pthread_cond_broadcast(&w->changed);
    return PLUMB_OK;
}

static plumb_status thread_move(plumb_comm *c, const struct plumb_move *m)
{
    struct world *w = world_of(c);
    struct mailbox *box = m->to >= 0 ? &w->box[c->rank * w->n + m->to] : NULL;

    pthread_mutex_lock(&w->lock);
    plumb_status st = w->failed;
    if (st == PLUMB_OK && box) {
        *box = (struct mailbox){POSTED,
                                m->send,
                                m->send_bytes,
                                plumb_coll_call(c),
                                plumb_coll_site(c),
                                c->heartbeat.here.doing};
        pthread_cond_broadcast(&w->changed);
    }
    if (st == PLUMB_OK && m->from >= 0)
        st = receive(c, m);
    if (box && box->state != EMPTY) {
        const plumb_status sent = await(c, box, TAKEN);
        st = st != PLUMB_OK ? st : sent;
        if (st == PLUMB_OK)
            box->state = EMPTY;
    }
    char why[sizeof(w->why)];
    memcpy(why, w->why, sizeof(why));
    pthread_mutex_unlock(&w->lock);
    PLUMB_REQUIRE(st == PLUMB_OK, st, "%s", why);
    return PLUMB_OK;
}

static void thread_share_raised(plumb_comm *c)
{
    struct world *w = world_of(c);
    const int64_t mine = atomic_load(&c->raised);
    int64_t known = atomic_load(&w->raised);
    while (known < mine && !atomic_compare_exchange_weak(&w->raised, &known, mine))
        continue;
    plumb_coll_raise(c, known);
}

static plumb_status thread_take(plumb_comm *c, int64_t *number)
{
    struct world *w = world_of(c);
    char why[sizeof(w->why)];
    pthread_mutex_lock(&w->lock);
    const plumb_status st = w->failed;
    memcpy(why, w->why, sizeof(why));
    if (c->count.round > w->count.round)
        w->count = c->count;
    *number = plumb_count_next(&w->count);
    pthread_mutex_unlock(&w->lock);
    PLUMB_REQUIRE(st == PLUMB_OK, st, "%s", why);
    return PLUMB_OK;
}

static void thread_abort(plumb_comm *c, int exit_code)
{
    struct world *w = world_of(c);
    char why[sizeof(w->why)];
    snprintf(why, sizeof(why), "rank %d ended the run in phase \"%s\" (exit code %d): %.300s",
             c->rank, c->heartbeat.here.phase, exit_code, plumb_trail_message());
    pthread_mutex_lock(&w->lock);
    fail_world(w, PLUMB_ERR_PEER, why);
    pthread_mutex_unlock(&w->lock);
}

static void world_free(struct world *w)
{
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    free(w->box);
    free(w->member);
    free(w);
}

static void thread_destroy(plumb_comm *c)
{
    struct world *w = world_of(c);
    struct plumb_note last;
    plumb_heartbeat_stop(c);
    plumb_heartbeat_note(c, &last);
    last.gone = 1;
    pthread_mutex_lock(&w->lock);
    w->member[c->rank] = NULL;
    for (int r = 0; r < w->n; r++)
        if (w->member[r])
            w->member[r]->heartbeat.heard[c->rank] = (struct plumb_heard){last, plumb_now()};
    const int left = --w->alive;
    pthread_mutex_unlock(&w->lock);
    if (left == 0)
        world_free(w);
    plumb_comm_base_fini(c);
    free(c);
}

static const struct plumb_comm_ops thread_ops = {
    .name = "thread",
    .move = thread_move,
    .share_raised = thread_share_raised,
    .send_heartbeat = thread_send_heartbeat,
    .take = thread_take,
    .abort = thread_abort,
    .destroy = thread_destroy,
};

static struct world *world_new(int n)
{
    struct world *w = calloc(1, sizeof(*w));
    if (!w)
        return NULL;
    w->n = n;
    w->box = calloc((size_t)n * (size_t)n, sizeof(*w->box));
    w->member = calloc((size_t)n, sizeof(*w->member));
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->changed, &attr);
    pthread_condattr_destroy(&attr);
    if (!w->box || !w->member) {
        world_free(w);
        return NULL;
    }
    return w;
}

plumb_status plumb_comm_thread_create(plumb_comm **out, int n)
{
    PLUMB_REQUIRE(n > 0, PLUMB_ERR_ARG, "%d thread ranks, expected at least 1", n);

    for (int r = 0; r < n; r++)
        out[r] = NULL;
    plumb_status st = PLUMB_OK;
    struct world *w = world_new(n);
    if (!w)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "the mailboxes of %d thread ranks", n);
    for (int r = 0; r < n; r++) {
        struct thread_comm *t = calloc(1, sizeof(*t));
        if (!t)
            PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "communicators of %d thread ranks", n);
        out[r] = &t->base;
        t->world = w;
        w->alive++;
        PLUMB_TRY_GOTO(st, plumb_comm_base_init(&t->base, &thread_ops, r, n, 60.0), fail);
        t->base.local_rank = r, t->base.local_size = n;
        w->member[r] = out[r];
    }
    for (int r = 0; r < n; r++)
        PLUMB_TRY_GOTO(st, plumb_heartbeat_start(out[r]), fail);
    return PLUMB_OK;
fail:
    for (int r = 0; r < n && out[r]; r++)
        plumb_heartbeat_stop(out[r]);
    for (int r = 0; r < n; r++) {
        if (out[r])
            plumb_comm_base_fini(out[r]);
        free(out[r]);
        out[r] = NULL;
    }
    if (w)
        world_free(w);
    return st;
}
