/* log.c - prints log lines and the progress line to standard error.
 * Layer 0. Includes log.h. The log state below is the only process-wide state of base/. */
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
    enum plumb_log_level level;
    int rank, world_size;
    FILE *mirror;
    bool live_line;     /* a progress line without a line end is on the terminal */
    uint64_t once[256]; /* FNV-1a hashes of the first texts that plumb_log_once has seen */
    int n_once;
    /* Protects once and n_once, because ranks may be threads of one process. */
    pthread_mutex_t lock;
} state = {
    .level = PLUMB_LOG_INFO,
    .world_size = 1,
    .lock = PTHREAD_MUTEX_INITIALIZER,
};

/* The shortest time, in seconds, between two plain progress lines (unless the user sets another
 * with PLUMB_PROGRESS=plain:SECONDS), and between two updates of a progress line on a terminal. */
static const double plain_every = 5.0, live_every = 0.1;

void plumb_log_setup(enum plumb_log_level level, int rank, int world_size)
{
    state.level = level;
    state.rank = rank;
    state.world_size = world_size;
}

void plumb_log_mirror(FILE *mirror)
{
    state.mirror = mirror;
}

static double seconds_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double plumb_now(void)
{
    return seconds_of(CLOCK_MONOTONIC);
}

double plumb_wall_now(void)
{
    return seconds_of(CLOCK_REALTIME);
}

static void clear_live(void)
{
    if (state.live_line)
        fputs("\r\033[K", stderr);
    state.live_line = false;
}

static void put_line(enum plumb_log_level level, bool name_rank, const char *text)
{
    static const char *const mark[] = {"error: ", "warning: ", "", "debug: "};
    char who[32] = "";
    if (state.world_size > 1 && name_rank)
        snprintf(who, sizeof(who), "[rank %d] ", state.rank);
    clear_live();
    fprintf(stderr, "%s%s%s\n", who, mark[level], text);
    if (state.mirror) {
        fprintf(state.mirror, "%s%s%s\n", who, mark[level], text);
        if (fflush(state.mirror) != 0) {
            fprintf(stderr, "warning: cannot write to the log file any more: %s\n",
                    strerror(errno));
            state.mirror = NULL;
        }
    }
}

void plumb_log(enum plumb_log_level level, const char *fmt, ...)
{
    char text[4096];
    va_list ap;
    if (level > state.level || (level >= PLUMB_LOG_INFO && state.rank != 0))
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    put_line(level, level <= PLUMB_LOG_WARN, text);
}

void plumb_log_alike(const char *fmt, ...)
{
    char text[4096];
    va_list ap;
    if (PLUMB_LOG_WARN > state.level || state.rank != 0)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    put_line(PLUMB_LOG_WARN, false, text);
}

/* Returns true if the table has no hash of the text, and then stores its hash. When the table is
 * full, new hashes are not stored, so that a text may be printed more than once. */
static bool is_new(const char *text)
{
    const int most = (int)(sizeof(state.once) / sizeof(state.once[0]));
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
    bool found = false;
    pthread_mutex_lock(&state.lock);
    for (int i = 0; i < state.n_once; i++)
        found |= state.once[i] == hash;
    if (!found && state.n_once < most)
        state.once[state.n_once++] = hash;
    pthread_mutex_unlock(&state.lock);
    return !found;
}

void plumb_log_once(enum plumb_log_level level, const char *fmt, ...)
{
    char text[4096];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (state.rank == 0 && level <= state.level && is_new(text))
        put_line(level, false, text);
}

static bool is_live(void)
{
    const char *want = getenv("PLUMB_PROGRESS"), *term = getenv("TERM");
    if (want)
        return strcmp(want, "live") == 0;
    /* isatty is not enough if a launcher started this process: mpirun gives every rank a
     * pseudo-terminal, even if mpirun's own output goes to a file. */
    if (getenv("OMPI_COMM_WORLD_SIZE") || getenv("PMIX_RANK") || getenv("SLURM_PROCID"))
        return false;
    return isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0;
}

static void show(struct plumb_progress *p, const char *extra)
{
    const double now = plumb_now(), spent = now - p->started;
    const double rate = spent > 0 ? (double)(p->done - p->first) / spent : 0.0;
    char eta[48] = "";
    if (p->total > 0 && p->done > p->first && p->done < p->total)
        snprintf(eta, sizeof(eta), ", %.0f s left", (double)(p->total - p->done) / rate);
    char count[64];
    if (p->total > 0)
        snprintf(count, sizeof(count), "%lld/%lld", (long long)p->done, (long long)p->total);
    else
        snprintf(count, sizeof(count), "%lld", (long long)p->done);
    clear_live();
    fprintf(stderr, "%s: %s %s, %.1f/s%s%s%s%s", p->what, count, p->unit, rate, eta,
            extra ? ", " : "", extra ? extra : "", p->live ? "" : "\n");
    fflush(stderr);
    state.live_line = p->live;
    p->shown = now;
}

void plumb_progress_start(struct plumb_progress *p, const char *what, const char *unit,
                          int64_t total)
{
    const char *want = getenv("PLUMB_PROGRESS");
    const double now = plumb_now();
    *p = (struct plumb_progress){.what = what,
                                 .unit = unit,
                                 .total = total,
                                 .started = now,
                                 .shown = now,
                                 .live = is_live()};
    double seconds;
    const bool given = want && sscanf(want, "plain:%lf", &seconds) == 1 && seconds >= 0;
    p->every = p->live ? live_every : given ? seconds : plain_every;
    p->on = state.rank == 0 && state.level >= PLUMB_LOG_INFO && !(want && !strcmp(want, "off"));
}

bool plumb_progress_due(const struct plumb_progress *p)
{
    return p->on && plumb_now() - p->shown >= p->every;
}

void plumb_progress_at(struct plumb_progress *p, int64_t done, const char *extra)
{
    p->done = done;
    if (plumb_progress_due(p))
        show(p, extra);
}

void plumb_progress_end(struct plumb_progress *p)
{
    if (p->on)
        clear_live();
}
