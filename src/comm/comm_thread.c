/* comm_thread.c - n ranks as n threads of one process: the sanitizers see all of them.
 * Layer 1. Includes comm/ and base/ only.
 *
 * One mailbox per ordered pair of ranks. The sender posts a pointer, the receiver reads the
 * sender's memory itself, the sender waits until that is done. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/num.h"
#include "comm/comm_impl.h"

enum mail { EMPTY, POSTED, TAKING, TAKEN };

struct mailbox {
    enum mail state;
    const void *data;
    int64_t bytes, call;
};

/* Where a rank is, for messages about it. */
struct place {
    int64_t call;
    const char *doing;
    char phase[PLUMB_COMM_TEXT];
};

struct world {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int n, alive;
    struct mailbox *box; /* (n,n) by sender, receiver */
    struct place *place; /* (n,) */
    plumb_status failed; /* once set, every call returns it */
    char why[512];
    _Atomic int64_t raised;
};

struct thread_comm {
    plumb_comm base;
    struct world *world;
};

static struct world *world_of(plumb_comm *c)
{
    return ((struct thread_comm *)c)->world;
}

static void deadline_in(struct timespec *t, double seconds)
{
    clock_gettime(CLOCK_MONOTONIC, t);
    t->tv_sec += (time_t)seconds;
    t->tv_nsec += (long)((seconds - (double)(time_t)seconds) * 1e9);
    if (t->tv_nsec >= 1000000000L) {
        t->tv_nsec -= 1000000000L;
        t->tv_sec++;
    }
}

/* Under the lock: the first failure stays. */
static void fail_world(struct world *w, plumb_status st, const char *why)
{
    if (w->failed == PLUMB_OK) {
        w->failed = st;
        snprintf(w->why, sizeof(w->why), "%s", why);
    }
    pthread_cond_broadcast(&w->changed);
}

static void describe_missing(plumb_comm *c, char *text, size_t cap)
{
    const struct world *w = world_of(c);
    size_t len = (size_t)snprintf(text, cap, "%s (call %lld, phase \"%s\"): no progress for %g s;",
                                  c->doing, (long long)c->call, c->phase, c->timeout_s);
    for (int r = 0; r < w->n && len < cap; r++)
        if (w->place[r].call < c->call)
            len +=
                (size_t)snprintf(text + len, cap - len,
                                 " rank %d did not come (last in %s, call %lld, phase \"%s\")", r,
                                 w->place[r].doing, (long long)w->place[r].call, w->place[r].phase);
        else if (w->place[r].call == c->call && strcmp(w->place[r].doing, c->doing) != 0)
            len += (size_t)snprintf(text + len, cap - len, " rank %d is in %s instead", r,
                                    w->place[r].doing);
}

/* Under the lock: waits for box->state == want. */
static plumb_status await(plumb_comm *c, const struct mailbox *box, enum mail want)
{
    struct world *w = world_of(c);
    struct timespec until;
    deadline_in(&until, c->timeout_s);
    while (box->state != want && w->failed == PLUMB_OK) {
        const int e = c->timeout_s > 0 ? pthread_cond_timedwait(&w->changed, &w->lock, &until)
                                       : pthread_cond_wait(&w->changed, &w->lock);
        if (e != 0 && box->state != want && w->failed == PLUMB_OK) {
            char why[sizeof(w->why)];
            describe_missing(c, why, sizeof(why));
            fail_world(w, PLUMB_ERR_COMM, why);
        }
    }
    /* A receiver that is reading must finish before the sender gives up its memory. */
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
    if (box->bytes != m->recv_bytes || box->call != c->call) {
        char why[sizeof(w->why)];
        snprintf(why, sizeof(why),
                 "the ranks disagree: rank %d waits in %s (call %lld) for %lld bytes, rank %d "
                 "sent %lld bytes in %s (call %lld)",
                 c->rank, c->doing, (long long)c->call, (long long)m->recv_bytes, m->from,
                 (long long)box->bytes, w->place[m->from].doing, (long long)box->call);
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
    struct place *here = &w->place[c->rank];
    here->call = c->call, here->doing = c->doing;
    memcpy(here->phase, c->phase, sizeof(here->phase));

    plumb_status st = w->failed;
    if (st == PLUMB_OK && box) {
        *box = (struct mailbox){POSTED, m->send, m->send_bytes, c->call};
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
    int64_t known = atomic_load(&w->raised);
    while (known < c->raised && !atomic_compare_exchange_weak(&w->raised, &known, c->raised))
        continue;
    c->raised = plumb_max_i64(c->raised, known);
}

static void thread_abort(plumb_comm *c, int exit_code)
{
    struct world *w = world_of(c);
    char why[sizeof(w->why)];
    snprintf(why, sizeof(why), "rank %d ended the run in phase \"%s\" (exit code %d): %.300s",
             c->rank, c->phase, exit_code, plumb_trail_message());
    pthread_mutex_lock(&w->lock);
    fail_world(w, PLUMB_ERR_PEER, why);
    pthread_mutex_unlock(&w->lock);
}

static void world_free(struct world *w)
{
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    free(w->box);
    free(w->place);
    free(w);
}

static void thread_destroy(plumb_comm *c)
{
    struct world *w = world_of(c);
    pthread_mutex_lock(&w->lock);
    const int left = --w->alive;
    pthread_mutex_unlock(&w->lock);
    if (left == 0)
        world_free(w);
    plumb_comm_base_fini(c);
    free(c);
}

static const struct plumb_comm_ops thread_ops = {"thread", thread_move, thread_share_raised,
                                                 thread_abort, thread_destroy};

static struct world *world_new(int n)
{
    struct world *w = calloc(1, sizeof(*w));
    if (!w)
        return NULL;
    w->n = n;
    w->box = calloc((size_t)n * (size_t)n, sizeof(*w->box));
    w->place = calloc((size_t)n, sizeof(*w->place));
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->changed, &attr);
    pthread_condattr_destroy(&attr);
    if (!w->box || !w->place) {
        world_free(w);
        return NULL;
    }
    for (int r = 0; r < n; r++) {
        w->place[r].doing = "start";
        snprintf(w->place[r].phase, sizeof(w->place[r].phase), "start");
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
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "%d thread ranks", n);
    for (int r = 0; r < n; r++) {
        struct thread_comm *t = calloc(1, sizeof(*t));
        if (!t)
            PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "%d thread ranks", n);
        out[r] = &t->base;
        t->world = w;
        w->alive++;
        PLUMB_TRY_GOTO(st, plumb_comm_base_init(&t->base, &thread_ops, r, n, 60.0), fail);
        t->base.local_rank = r, t->base.local_size = n;
    }
    return PLUMB_OK;
fail:
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
