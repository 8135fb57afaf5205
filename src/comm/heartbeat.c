/* heartbeat.c - the heartbeat thread, and the checks that end a wait for a rank that is dead or too
 * late.
 * Layer 1. Includes comm/ and base/ only. */
#include "comm/heartbeat.h"

#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/num.h"
#include "comm/comm_impl.h"

#define MAX_WAIT_S 1800.0 /* the default of plumb_comm_max_wait */

/* Returns the seconds between two heartbeats: a tenth of the timeout, within [0.1 s, 1 s]. With
 * many ranks the period is longer, so that a rank sends at most 500 notes per second and receives
 * at most as many. At about 1 us per note they take 0.1 % of a core; at 5 us, the latency of a
 * network, 0.5 %. */
static double period_of(double timeout_s, int size)
{
    const double wanted = timeout_s > 0 ? timeout_s / 10 : 1;
    return fmax(fmin(fmax(wanted, 0.1), 1), 2e-3 * size);
}

plumb_status plumb_heartbeat_init(plumb_comm *c, double timeout_s)
{
    struct plumb_heartbeat *w = &c->heartbeat;
    w->heard = calloc((size_t)c->size, sizeof(*w->heard));
    w->late_s = calloc((size_t)c->size, sizeof(*w->late_s));
    PLUMB_REQUIRE(w->heard && w->late_s, PLUMB_ERR_NOMEM, "the heartbeat notes of %d ranks",
                  c->size);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->wake, &attr);
    pthread_condattr_destroy(&attr);
    w->ready = true;
    w->timeout_s = timeout_s > 0 ? timeout_s : 0;
    w->max_wait_s = MAX_WAIT_S;
    w->period_s = period_of(w->timeout_s, c->size);
    w->listened = plumb_now();
    w->here = (struct plumb_here){.doing = "start", .phase = "start", .since = w->listened};
    for (int r = 0; r < c->size; r++) {
        w->heard[r].at = w->listened;
        snprintf(w->heard[r].note.host, PLUMB_COMM_TEXT, "an unknown host");
    }
    return PLUMB_OK;
}

void plumb_heartbeat_fini(plumb_comm *c)
{
    struct plumb_heartbeat *w = &c->heartbeat;
    if (w->ready) {
        plumb_heartbeat_stop(c);
        pthread_cond_destroy(&w->wake);
        pthread_mutex_destroy(&w->lock);
    }
    free(w->heard);
    free(w->late_s);
    w->heard = NULL;
    w->late_s = NULL;
    w->ready = false;
}

struct timespec plumb_clock_in(double seconds)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    const int64_t ns = t.tv_nsec + (int64_t)(seconds * 1e9);
    t.tv_sec += (time_t)(ns / 1000000000);
    t.tv_nsec = (long)(ns % 1000000000);
    return t;
}

double plumb_heartbeat_pause(const plumb_comm *c)
{
    return c->heartbeat.period_s * fmin(1, (double)PLUMB_HEARTBEAT_RANKS / c->size);
}

/* The heartbeat thread. It ends if sending fails; the other ranks then get no more notes from this
 * rank and report it as dead. */
static void *heartbeat(void *arg)
{
    plumb_comm *c = arg;
    struct plumb_heartbeat *w = &c->heartbeat;
    plumb_status st = PLUMB_OK;
    pthread_mutex_lock(&w->lock);
    while (!w->stop && st == PLUMB_OK) {
        const bool frozen = w->frozen;
        pthread_mutex_unlock(&w->lock);
        if (!frozen)
            st = c->ops->send_heartbeat(c);
        pthread_mutex_lock(&w->lock);
        const struct timespec until = plumb_clock_in(plumb_heartbeat_pause(c));
        if (!w->stop)
            pthread_cond_timedwait(&w->wake, &w->lock, &until);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

plumb_status plumb_heartbeat_start(plumb_comm *c)
{
    struct plumb_heartbeat *w = &c->heartbeat;
    if (c->size == 1)
        return PLUMB_OK;
    /* Block signals in the new thread, so that the main thread handles them. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int e = pthread_create(&w->thread, NULL, heartbeat, c);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    PLUMB_REQUIRE(e == 0, PLUMB_ERR_NOMEM, "the heartbeat thread of rank %d: %s", c->rank,
                  strerror(e));
    w->running = true;
    return PLUMB_OK;
}

void plumb_heartbeat_stop(plumb_comm *c)
{
    struct plumb_heartbeat *w = &c->heartbeat;
    if (!w->running)
        return;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    w->running = false;
}

void plumb_heartbeat_freeze(plumb_comm *c, bool frozen)
{
    pthread_mutex_lock(&c->heartbeat.lock);
    c->heartbeat.frozen = frozen;
    pthread_mutex_unlock(&c->heartbeat.lock);
}

void plumb_comm_timeout(plumb_comm *c, double seconds)
{
    struct plumb_heartbeat *w = &c->heartbeat;
    pthread_mutex_lock(&w->lock);
    w->timeout_s = seconds > 0 ? seconds : 0;
    w->period_s = period_of(w->timeout_s, c->size);
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
}

void plumb_comm_max_wait(plumb_comm *c, double seconds)
{
    pthread_mutex_lock(&c->heartbeat.lock);
    c->heartbeat.max_wait_s = seconds > 0 ? seconds : 0;
    pthread_mutex_unlock(&c->heartbeat.lock);
}

void plumb_comm_phase(plumb_comm *c, const char *phase)
{
    struct plumb_here *here = &c->heartbeat.here;
    pthread_mutex_lock(&c->heartbeat.lock);
    snprintf(here->phase, sizeof(here->phase), "%s", phase);
    here->since = plumb_now();
    pthread_mutex_unlock(&c->heartbeat.lock);
}

void plumb_site_text(char text[PLUMB_SITE_TEXT], const char *file, int line)
{
    if (!file) {
        text[0] = '\0';
        return;
    }
    const char *name = file; /* the last two parts of the path: folder and file */
    int parts = 0;
    for (const char *p = file + strlen(file); p > file && parts < 2; p--)
        if (p[-1] == '/' && ++parts == 2)
            name = p;
    snprintf(text, PLUMB_SITE_TEXT, "%s:%d", name, line);
}

void plumb_heartbeat_note(plumb_comm *c, struct plumb_note *note)
{
    struct plumb_heartbeat *w = &c->heartbeat;
    memset(note, 0, sizeof(*note));
    pthread_mutex_lock(&w->lock);
    note->call = w->here.call;
    note->inside = w->here.inside;
    note->busy_s = plumb_now() - w->here.since;
    snprintf(note->doing, sizeof(note->doing), "%s", w->here.doing);
    plumb_site_text(note->site, w->here.file, w->here.line);
    memcpy(note->phase, w->here.phase, sizeof(note->phase));
    pthread_mutex_unlock(&w->lock);
    note->raised = atomic_load(&c->raised);
    memcpy(note->host, c->host, sizeof(note->host));
}

void plumb_heartbeat_listened(plumb_comm *c, double now)
{
    struct plumb_heartbeat *w = &c->heartbeat;
    const double gap = now - w->listened;
    pthread_mutex_lock(&w->lock);
    const double period = w->period_s;
    pthread_mutex_unlock(&w->lock);
    w->listened = now;
    if (gap < 4 * period)
        return;
    for (int r = 0; r < c->size; r++)
        w->heard[r].at = fmin(now, w->heard[r].at + gap);
    w->lost_s += gap;
    w->lost_until = now;
}

/* A buffer to which text is appended: `at` is the position of the next byte, `left` the number of
 * free bytes. Text that does not fit is cut off. */
struct text {
    char *at;
    size_t left;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(t->at, t->left, fmt, ap);
    va_end(ap);
    const size_t used = n < 0 ? 0 : (size_t)plumb_min_i64(n, (int64_t)t->left - 1);
    t->at += used;
    t->left -= used;
}

static void put_call(struct text *t, const char *doing, int64_t call, const char *site)
{
    put(t, "%s (call %lld%s%s)", doing, (long long)call, site[0] ? ", " : "", site);
}

static void put_me(struct text *t, const plumb_comm *c)
{
    const struct plumb_here *here = &c->heartbeat.here;
    char site[PLUMB_SITE_TEXT];
    plumb_site_text(site, here->file, here->line);
    put(t, "rank %d waits in ", c->rank);
    put_call(t, here->doing, here->call, site);
    put(t, ", phase \"%s\": ", here->phase);
}

/* Appends the host, phase and collective of rank r, according to its last note, for example: rank 1
 * on HOST, for 3.0 s in phase "rollout" after agree (call 7, stage/align.c:42) */
static void put_rank(struct text *t, const plumb_comm *c, int r, double now)
{
    const struct plumb_heard *h = &c->heartbeat.heard[r];
    put(t, "rank %d on %s", r, h->note.host);
    if (h->note.doing[0] == '\0')
        return;
    put(t, ", for %.1f s in phase \"%s\" %s ", h->note.busy_s + now - h->at, h->note.phase,
        h->note.inside ? "inside" : "after");
    put_call(t, h->note.doing, h->note.call, h->note.site);
}

/* Returns the seconds without a note after which a rank counts as dead; 0 = no limit. It reads the
 * limits without the lock, because only the rank's own thread sets them and calls this. */
static double silence_limit(const struct plumb_heartbeat *w)
{
    /* without the thread, a rank that computes sends no notes, so only max_wait applies */
    if (!w->running)
        return w->max_wait_s;
    return w->timeout_s > 0 ? fmax(w->timeout_s, 4 * w->period_s) : 0;
}

typedef bool pick_fn(const plumb_comm *c, const struct plumb_heard *h, double now);

static bool is_gone(const plumb_comm *c, const struct plumb_heard *h, double now)
{
    (void)now;
    return h->note.gone && h->note.call < c->heartbeat.here.call;
}

static bool is_silent(const plumb_comm *c, const struct plumb_heard *h, double now)
{
    const double limit = silence_limit(&c->heartbeat);
    return limit > 0 && !h->note.gone && now - h->at > limit;
}

static bool is_late(const plumb_comm *c, const struct plumb_heard *h, double now)
{
    (void)now;
    return h->note.call < c->heartbeat.here.call;
}

/* Returns true if a rank is late but alive: its last note is less than 3 heartbeat periods old, or
 * this communicator has no heartbeat thread. */
static bool is_busy(const plumb_comm *c, const struct plumb_heard *h, double now)
{
    return is_late(c, h, now) && (!c->heartbeat.running || now - h->at < 3 * c->heartbeat.period_s);
}

/* Appends the ranks for which pick is true and returns their number. */
static int put_ranks(struct text *t, const plumb_comm *c, pick_fn *pick, double now)
{
    int n = 0;
    for (int r = 0; r < c->size; r++)
        if (r != c->rank && pick(c, &c->heartbeat.heard[r], now)) {
            put(t, n++ ? "; " : "");
            put_rank(t, c, r, now);
        }
    return n;
}

/* Returns true if this rank must write the log line, because it is the lowest of the waiting ranks.
 */
static bool speaks(const plumb_comm *c)
{
    for (int r = 0; r < c->rank; r++)
        if (c->heartbeat.heard[r].note.call >= c->heartbeat.here.call)
            return false;
    return true;
}

static void log_late(const plumb_comm *c, double waited, double now)
{
    char line[768];
    struct text t = {line, sizeof(line)};
    put_me(&t, c);
    put(&t, "%.1f s so far, for ", waited);
    if (put_ranks(&t, c, is_busy, now) > 0)
        plumb_log(PLUMB_LOG_WARN, "%s", line);
}

static plumb_status compare_calls(const plumb_comm *c, struct text *t, double now)
{
    const struct plumb_here *here = &c->heartbeat.here;
    char site[PLUMB_SITE_TEXT];
    plumb_site_text(site, here->file, here->line);
    for (int r = 0; r < c->size; r++) {
        const struct plumb_note *note = &c->heartbeat.heard[r].note;
        if (r == c->rank || note->call != here->call ||
            (strcmp(note->doing, here->doing) == 0 && strcmp(note->site, site) == 0))
            continue;
        put(t, "the ranks disagree: ");
        put_me(t, c);
        put_rank(t, c, r, now);
        return PLUMB_ERR_COMM;
    }
    return PLUMB_OK;
}

/* Returns true if this wait has lasted longer than stuck_s seconds since all ranks were first seen
 * in the collective. If this process was suspended after that, the seconds count from the end of
 * the suspension. */
static bool is_stuck(const plumb_comm *c, struct plumb_wait *wait, double now)
{
    bool late = false;
    for (int r = 0; r < c->size; r++)
        late = late || (r != c->rank && is_late(c, &c->heartbeat.heard[r], now));
    if (late || wait->together == 0)
        wait->together = late ? 0 : now;
    return !late && now - fmax(wait->together, c->heartbeat.lost_until) > wait->stuck_s;
}

/* Adds the time since the last check to the waiting time late_s of each rank that is late. A note
 * is up to one period old, so the first two periods of a wait are not counted. */
static void add_late(plumb_comm *c, struct plumb_wait *wait, double now)
{
    struct plumb_heartbeat *w = &c->heartbeat;
    const double from = fmax(wait->judged, wait->since + 2 * w->period_s);
    for (int r = 0; r < c->size && now > from; r++)
        if (r != c->rank && is_late(c, &w->heard[r], now))
            w->late_s[r] += now - from;
    wait->judged = now;
}

int plumb_comm_waited_for(plumb_comm *c, double *seconds)
{
    struct plumb_heartbeat *w = &c->heartbeat;
    int most = -1;
    *seconds = 0;
    for (int r = 0; r < c->size && w->late_s; r++) {
        if (w->late_s[r] > *seconds) {
            *seconds = w->late_s[r];
            most = r;
        }
        w->late_s[r] = 0;
    }
    return most;
}

plumb_status plumb_heartbeat_judge(plumb_comm *c, struct plumb_wait *wait, double now, char *why,
                                   size_t cap)
{
    const struct plumb_heartbeat *w = &c->heartbeat;
    struct text t = {why, cap};
    /* first check of the wait: remember how long the process was suspended before it */
    if (!wait->counted) {
        wait->since = fmax(wait->since, w->lost_until);
        wait->lost_s = w->lost_s;
    }
    wait->counted = true;
    add_late(c, wait, now);
    const double waited = now - wait->since - (w->lost_s - wait->lost_s);

    if (!c->check_calls &&
        /* if check_calls is set, the collective check has compared the calls */
        compare_calls(c, &t, now) != PLUMB_OK)
        return PLUMB_ERR_COMM;
    put_me(&t, c);
    struct text after = t;
    if (put_ranks(&after, c, is_gone, now) > 0) {
        put(&after, ": left the run");
        return PLUMB_ERR_COMM;
    }
    after = t;
    put(&after, "no heartbeat for %g s from ", silence_limit(w));
    if (put_ranks(&after, c, is_silent, now) > 0)
        return PLUMB_ERR_COMM;
    if (w->max_wait_s > 0 && waited > w->max_wait_s) {
        put(&t, "did not arrive within %g s: ", w->max_wait_s);
        if (put_ranks(&t, c, is_late, now) == 0)
            put(&t, "bytes; all ranks have arrived, so the connection between them is stuck");
        return PLUMB_ERR_COMM;
    }
    if (wait->stuck_s > 0 && is_stuck(c, wait, now)) {
        put(&t, "no bytes moved for %g s although every rank has entered it", wait->stuck_s);
        return PLUMB_ERR_COMM;
    }
    const double every = w->timeout_s > 0 ? w->timeout_s : 60;
    if (waited > every * (wait->lines + 1)) {
        wait->lines++;
        if (speaks(c))
            log_late(c, waited, now);
    }
    return PLUMB_OK;
}
