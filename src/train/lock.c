/* lock.c - takes, holds, checks and releases the lock file DIR/run.lock.
 * Layer 5. Includes train/lock.h, base/, io/. */
#include "train/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "io/file.h"
#include "io/json.h"

#define NAME "run.lock"
/* The lock file begins with this text; the digits of the heartbeat counter follow. */
#define BEFORE_BEAT "{\"beat\": \""
#define BEAT_DIGITS 12
#define LOOK_S      0.2 /* s; longest time between two checks of another process's lock */
#define UNREADABLE  5.0 /* s; an empty lock file older than this was left by a killed process */
#define TRIES       1000

/* The holder of a lock. A text is "" if it is unknown. */
struct holder {
    char host[256], boot[64], pids[64]; /* pids: the namespace of process ids */
    char job[64], command[32], since[32];
    char nonce[24]; /* random text, unique to this lock; "" if the file is not readable */
    char beat[24];
    int64_t pid, start; /* start: when the process began, in clock ticks since boot */
    int64_t restart;    /* how often the batch system has restarted the job */
    double silent_s;
};

struct plumb_lock {
    /* fresh: the path of a new lock before it gets its name */
    char dir[PATH_MAX], path[PATH_MAX], fresh[PATH_MAX];
    char made[PATH_MAX]; /* the topmost folder that was created; "" if none was created */
    struct holder me;
    int fd; /* descriptor of the lock file; the mutex protects it while the thread runs */
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    bool beats, stop;
    atomic_int failed; /* errno of a failed heartbeat; 0 if none failed */
    bool warned;
};

enum life { GONE, LIVES, UNKNOWN };

bool plumb_lock_owns(const char *name)
{
    const size_t n = strlen(NAME);
    return strncmp(name, NAME, n) == 0 && (name[n] == '\0' || name[n] == '.');
}

/* ---- the holder ------------------------------------------------------------------------------ */

static void first_line(char *out, size_t size, const char *path)
{
    FILE *f = fopen(path, "re");
    out[0] = '\0';
    if (f && !fgets(out, (int)size, f))
        out[0] = '\0';
    if (f)
        fclose(f);
    out[strcspn(out, "\n")] = '\0';
}

/* Returns the start time of a process in clock ticks since boot. Returns -1 if the process does not
 * exist or is a zombie, 0 if it may exist but its start time is unknown. */
static int64_t start_of(int64_t pid)
{
    char path[64], line[1024], state = 'Z';
    long long start = 0;
    snprintf(path, sizeof(path), "/proc/%lld/stat", (long long)pid);
    first_line(line, sizeof(line), path);
    /* the fields follow the last ')', because the process name may contain any character */
    const char *after = strrchr(line, ')');
    if (!after)
        return kill((pid_t)pid, 0) != 0 && errno == ESRCH ? -1 : 0;
    /* state is field 3, the start is field 22 */
    if (sscanf(after + 1,
               " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %lld",
               &state, &start) != 2)
        return 0;
    return state == 'Z' || state == 'X' ? -1 : start;
}

static void find_job(struct holder *me)
{
    static const char *const name[] = {"SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "FLUX_JOB_ID",
                                       "JOB_ID"};
    const char *restart = getenv("SLURM_RESTART_COUNT");
    for (size_t i = 0; i < sizeof(name) / sizeof(name[0]) && !me->job[0]; i++)
        snprintf(me->job, sizeof(me->job), "%s", getenv(name[i]) ? getenv(name[i]) : "");
    me->restart = restart ? strtoll(restart, NULL, 10) : 0;
}

static void find_me(struct holder *me, const char *command, double silent_s)
{
    struct timespec now;
    struct tm utc;
    char text[512];
    *me = (struct holder){.pid = (int64_t)getpid(), .silent_s = silent_s};
    me->start = start_of(me->pid);
    if (gethostname(me->host, sizeof(me->host) - 1) != 0)
        snprintf(me->host, sizeof(me->host), "unknown");
    first_line(me->boot, sizeof(me->boot), "/proc/sys/kernel/random/boot_id");
    const ssize_t n = readlink("/proc/self/ns/pid", me->pids, sizeof(me->pids) - 1);
    me->pids[n > 0 ? n : 0] = '\0';
    find_job(me);
    snprintf(me->command, sizeof(me->command), "%s", command);
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(me->since, sizeof(me->since), "%Y-%m-%dT%H:%M:%SZ", &utc);
    snprintf(text, sizeof(text), "%s %" PRId64 " %lld.%09ld", me->host, me->pid,
             (long long)now.tv_sec, now.tv_nsec);
    snprintf(me->nonce, sizeof(me->nonce), "%016" PRIx64,
             plumb_hash(text, (int64_t)strlen(text), 0));
}

static plumb_status put_text(struct plumb_buf *b, const char *key, const char *text)
{
    PLUMB_TRY(plumb_buf_addf(b, ", \"%s\": ", key));
    return plumb_json_put_string(b, text, (int64_t)strlen(text));
}

static plumb_status put_holder(struct plumb_buf *b, const struct holder *h)
{
    PLUMB_TRY(plumb_buf_addf(b, BEFORE_BEAT "%0*d\"", BEAT_DIGITS, 0));
    PLUMB_TRY(put_text(b, "host", h->host));
    PLUMB_TRY(plumb_buf_addf(b, ", \"pid\": %" PRId64 ", \"start\": %" PRId64, h->pid, h->start));
    PLUMB_TRY(put_text(b, "boot", h->boot));
    PLUMB_TRY(put_text(b, "pids", h->pids));
    PLUMB_TRY(put_text(b, "job", h->job));
    PLUMB_TRY(plumb_buf_addf(b, ", \"restart\": %" PRId64, h->restart));
    PLUMB_TRY(put_text(b, "command", h->command));
    PLUMB_TRY(put_text(b, "since", h->since));
    PLUMB_TRY(put_text(b, "nonce", h->nonce));
    PLUMB_TRY(plumb_buf_add_text(b, ", \"silent_after\": "));
    PLUMB_TRY(plumb_json_put_real(b, h->silent_s));
    return plumb_buf_add_text(b, "}\n");
}

static void take_text(char *out, size_t size, const plumb_json *v, const char *key)
{
    snprintf(out, size, "%s", plumb_json_string(plumb_json_get(v, key), ""));
}

/* Reads the holder from a lock file. Returns false if there is no such file. If the file is no
 * valid lock, h->nonce is "". */
static bool read_holder(struct holder *h, const char *path)
{
    plumb_json *v = NULL;
    *h = (struct holder){.silent_s = UNREADABLE};
    if (!plumb_file_exists(path))
        return false;
    if (plumb_json_read_file(&v, path) != PLUMB_OK)
        return plumb_file_exists(path);
    take_text(h->host, sizeof(h->host), v, "host");
    take_text(h->boot, sizeof(h->boot), v, "boot");
    take_text(h->pids, sizeof(h->pids), v, "pids");
    take_text(h->job, sizeof(h->job), v, "job");
    take_text(h->command, sizeof(h->command), v, "command");
    take_text(h->since, sizeof(h->since), v, "since");
    take_text(h->nonce, sizeof(h->nonce), v, "nonce");
    take_text(h->beat, sizeof(h->beat), v, "beat");
    h->pid = plumb_json_int(plumb_json_get(v, "pid"), 0);
    h->start = plumb_json_int(plumb_json_get(v, "start"), 0);
    h->restart = plumb_json_int(plumb_json_get(v, "restart"), 0);
    h->silent_s = plumb_json_real(plumb_json_get(v, "silent_after"), UNREADABLE);
    plumb_json_free(&v);
    return true;
}

/* Writes "process 42 on HOST (plumb sft, job 7, since 2026-01-31T10:00:00Z)". */
static void describe(char *out, size_t size, const struct holder *h)
{
    if (!h->nonce[0])
        snprintf(out, size, "a process that wrote nothing into it");
    else
        snprintf(out, size, "process %" PRId64 " on %s (plumb %s%s%s, since %s)", h->pid, h->host,
                 h->command, h->job[0] ? ", job " : "", h->job, h->since);
}

/* ---- whether another holder is alive --------------------------------------------------------- */

static void sleep_for(double seconds)
{
    const time_t whole = (time_t)seconds;
    nanosleep(&(struct timespec){whole, (long)((seconds - (double)whole) * 1e9)}, NULL);
}

static enum life judge(const struct holder *h, const struct holder *me)
{
    if (h->boot[0] && strcmp(h->boot, me->boot) == 0 && strcmp(h->pids, me->pids) == 0) {
        const int64_t start = start_of(h->pid);
        return start < 0 ? GONE : start == 0 ? UNKNOWN : start == h->start ? LIVES : GONE;
    }
    if (h->job[0] && strcmp(h->job, me->job) == 0 && me->restart > h->restart)
        return GONE;
    return UNKNOWN;
}

/* Watches the heartbeat until it changes, or until silent_s have passed without a change. */
static enum life watch(const plumb_lock *l, const struct holder *h)
{
    char who[512];
    struct holder now;
    const double began = plumb_now(), look = fmin(LOOK_S, h->silent_s / 4);
    describe(who, sizeof(who), h);
    if (h->nonce[0])
        plumb_log(PLUMB_LOG_WARN,
                  "output_dir: %s is locked by %s; it is taken over if there is no sign of life "
                  "within %g s",
                  l->dir, who, h->silent_s);
    while (plumb_now() - began < h->silent_s) {
        sleep_for(look);
        /* the lock is gone or another one: the caller starts again */
        if (!read_holder(&now, l->path) || strcmp(now.nonce, h->nonce) != 0)
            return UNKNOWN;
        if (strcmp(now.beat, h->beat) != 0)
            return LIVES;
    }
    return GONE;
}

/* ---- taking --------------------------------------------------------------------------------- */

static plumb_status write_all(int fd, const struct plumb_buf *b, const char *path)
{
    for (int64_t at = 0; at < b->len;) {
        const ssize_t n = write(fd, plumb_buf_text(b) + at, (size_t)(b->len - at));
        PLUMB_REQUIRE(n >= 0 || errno == EINTR, PLUMB_ERR_IO, "%s: cannot write: %s", path,
                      strerror(errno));
        at += n > 0 ? n : 0;
    }
    PLUMB_REQUIRE(fsync(fd) == 0, PLUMB_ERR_IO, "%s: cannot flush to disk: %s", path,
                  strerror(errno));
    return PLUMB_OK;
}

/* Creates the file with the lock's content. *fd = -1 if the file exists already, or if a process
 * that released the lock has just removed the empty folder. */
static plumb_status write_file(int *fd, const plumb_lock *l, const char *path)
{
    struct plumb_buf b = {0};
    *fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (*fd < 0 && (errno == EEXIST || errno == ENOENT))
        return PLUMB_OK;
    PLUMB_REQUIRE(*fd >= 0, PLUMB_ERR_IO, "%s: cannot create: %s", path, strerror(errno));
    plumb_status st = put_holder(&b, &l->me);
    if (st == PLUMB_OK)
        st = write_all(*fd, &b, path);
    plumb_buf_fini(&b);
    if (st != PLUMB_OK) {
        close(*fd);
        unlink(path);
        *fd = -1;
    }
    return st;
}

/* Tries once to create the lock file. *fd is -1 afterwards if another process holds the lock, or
 * has removed a file of this process. */
static plumb_status acquire(int *fd, const plumb_lock *l)
{
    struct stat s;
    int file = -1;
    *fd = -1;
    unlink(l->fresh); /* left by a killed process with this id */
    PLUMB_TRY(plumb_dir_create(l->dir));
    PLUMB_TRY(write_file(&file, l, l->fresh));
    if (file < 0)
        return PLUMB_OK;
    const int e = link(l->fresh, l->path) ? errno : 0;
    /* Over NFS the reply to a successful link may be lost, so check the link count. */
    if (e == 0 || (fstat(file, &s) == 0 && s.st_nlink == 2))
        *fd = file;
    unlink(l->fresh);
    if (*fd >= 0)
        return PLUMB_OK;
    close(file);
    return e == EEXIST || e == ENOENT ? PLUMB_OK : write_file(fd, l, l->path);
}

/* Removes the lock of a dead holder. Before the rename, another process may have removed that lock
 * and taken its own. In that case the rename has moved a live lock, and it is put back. */
static plumb_status remove_stale(const plumb_lock *l, const struct holder *h)
{
    char moved[PATH_MAX + 8], who[512];
    struct holder found;
    snprintf(moved, sizeof(moved), "%s.gone", l->fresh);
    if (rename(l->path, moved) != 0) {
        PLUMB_REQUIRE(errno == ENOENT, PLUMB_ERR_IO, "%s: cannot rename: %s", l->path,
                      strerror(errno));
        return PLUMB_OK;
    }
    if (read_holder(&found, moved) && strcmp(found.nonce, h->nonce) != 0) {
        const int failed = link(moved, l->path) ? errno : 0;
        unlink(moved);
        PLUMB_REQUIRE(!failed || failed == EEXIST, PLUMB_ERR_IO, "%s: cannot be put back: %s",
                      l->path, strerror(failed));
        return PLUMB_OK;
    }
    unlink(moved);
    describe(who, sizeof(who), h);
    plumb_log(PLUMB_LOG_WARN, "output_dir: took over the lock of %s, left by %s, which is gone",
              l->dir, who);
    return PLUMB_OK;
}

/* Checks the lock of another process: removes it if the holder is dead, else fails. */
static plumb_status look(const plumb_lock *l)
{
    char who[512];
    struct holder h;
    if (!read_holder(&h, l->path))
        return PLUMB_OK;
    enum life life = judge(&h, &l->me);
    if (life == UNKNOWN)
        life = watch(l, &h);
    describe(who, sizeof(who), &h);
    PLUMB_REQUIRE(life != LIVES, PLUMB_ERR_EXISTS,
                  "output_dir: %s is in use by %s: wait for it, end it, or choose another folder "
                  "(if that process is certain not to run any more, remove %s)",
                  l->dir, who, l->path);
    return life == GONE ? remove_stale(l, &h) : PLUMB_OK;
}

enum plumb_lock_state plumb_lock_look(char *who, size_t size, double *beat_s, const char *dir)
{
    char path[PATH_MAX];
    struct holder h, me;
    struct stat s;
    struct timespec now;
    *beat_s = 0;
    who[0] = '\0';
    if (plumb_path_join(path, sizeof(path), dir, NAME) != PLUMB_OK || !read_holder(&h, path) ||
        stat(path, &s) != 0)
        return PLUMB_LOCK_FREE;
    find_me(&me, "", 0);
    describe(who, size, &h);
    clock_gettime(CLOCK_REALTIME, &now);
    *beat_s = fmax(0, difftime(now.tv_sec, s.st_mtim.tv_sec) +
                          1e-9 * (double)(now.tv_nsec - s.st_mtim.tv_nsec));
    const enum life life = judge(&h, &me);
    if (life != UNKNOWN)
        return life == LIVES ? PLUMB_LOCK_RUNS : PLUMB_LOCK_GONE;
    return *beat_s <= h.silent_s ? PLUMB_LOCK_RUNS : PLUMB_LOCK_SILENT;
}

static plumb_status take(plumb_lock *l)
{
    for (int i = 0; i < TRIES && l->fd < 0; i++) {
        PLUMB_TRY(acquire(&l->fd, l));
        if (l->fd < 0)
            PLUMB_TRY(look(l));
    }
    PLUMB_REQUIRE(l->fd >= 0, PLUMB_ERR_IO, "%s: cannot be taken: it comes and goes", l->path);
    return PLUMB_OK;
}

/* Removes files of processes that were killed while they took this lock. */
static plumb_status remove_leftovers(const plumb_lock *l)
{
    char path[PATH_MAX];
    struct plumb_names names = {0};
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(plumb_dir_list(&names, l->dir));
    for (int64_t i = 0; i < names.n; i++) {
        if (!plumb_lock_owns(names.name[i]) || strcmp(names.name[i], NAME) == 0)
            continue;
        PLUMB_TRY_GOTO(st, plumb_path_join(path, sizeof(path), l->dir, names.name[i]), done);
        unlink(path);
    }
done:
    plumb_names_fini(&names);
    return st;
}

/* ---- holding -------------------------------------------------------------------------------- */

static void beat(plumb_lock *l, int64_t count)
{
    char text[BEAT_DIGITS + 1];
    snprintf(text, sizeof(text), "%0*lld", BEAT_DIGITS, (long long)(count % 1000000000000));
    if (pwrite(l->fd, text, BEAT_DIGITS, (off_t)strlen(BEFORE_BEAT)) != BEAT_DIGITS ||
        fsync(l->fd) != 0)
        atomic_store(&l->failed, errno);
}

static void *keep_beating(void *arg)
{
    plumb_lock *l = arg;
    const double period = fmin(fmax(l->me.silent_s / 10, 0.02), 10);
    pthread_mutex_lock(&l->mutex);
    for (int64_t count = 1; !l->stop;) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        const int64_t ns = until.tv_nsec + (int64_t)(period * 1e9);
        until.tv_sec += (time_t)(ns / 1000000000);
        until.tv_nsec = (long)(ns % 1000000000);
        if (pthread_cond_timedwait(&l->wake, &l->mutex, &until) == ETIMEDOUT)
            beat(l, count++);
    }
    pthread_mutex_unlock(&l->mutex);
    return NULL;
}

static plumb_status start_beating(plumb_lock *l)
{
    sigset_t all, before;
    sigfillset(&all); /* block signals, so that the main thread handles them */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int e = pthread_create(&l->thread, NULL, keep_beating, l);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    PLUMB_REQUIRE(e == 0, PLUMB_ERR_NOMEM, "%s: a thread for its heartbeat: %s", l->path,
                  strerror(e));
    l->beats = true;
    return PLUMB_OK;
}

plumb_status plumb_lock_check(plumb_lock *l)
{
    struct holder h;
    char who[512];
    plumb_status st = PLUMB_OK;
    if (!l)
        return PLUMB_OK;
    const int failed = atomic_load(&l->failed);
    if (failed && !l->warned)
        plumb_log(PLUMB_LOG_WARN,
                  "%s: its heartbeat cannot be written (%s): another run could take it over",
                  l->path, strerror(failed));
    l->warned = l->warned || failed;
    if (!read_holder(&h, l->path)) {
        plumb_log(PLUMB_LOG_WARN, "%s was removed and is made again", l->path);
        pthread_mutex_lock(&l->mutex);
        close(l->fd);
        st = acquire(&l->fd, l);
        const bool again = l->fd >= 0;
        pthread_mutex_unlock(&l->mutex);
        PLUMB_TRY(st);
        if (again || !read_holder(&h, l->path))
            return PLUMB_OK;
    }
    describe(who, sizeof(who), &h);
    PLUMB_REQUIRE(strcmp(h.nonce, l->me.nonce) == 0, PLUMB_ERR_EXISTS,
                  "output_dir: %s was taken over by %s, as if this process (%" PRId64
                  " on %s) were gone; nothing more is written there",
                  l->dir, who, l->me.pid, l->me.host);
    return PLUMB_OK;
}

/* ---- the folder ----------------------------------------------------------------------------- */

/* Sets l->made to the topmost folder of the path l->dir that does not exist yet. */
static void find_missing(plumb_lock *l)
{
    for (const char *at = l->dir; *at; at++) {
        if (at[1] != '/' && at[1] != '\0')
            continue;
        snprintf(l->made, sizeof(l->made), "%.*s", (int)(at + 1 - l->dir), l->dir);
        if (!plumb_dir_exists(l->made))
            return;
    }
    l->made[0] = '\0';
}

/* Removes dir and its parents up to `made`, as long as they are empty. */
static void remove_made(plumb_lock *l)
{
    size_t n = strlen(l->dir);
    while (l->made[0] && n >= strlen(l->made)) {
        l->dir[n] = '\0';
        if (rmdir(l->dir) != 0)
            return;
        while (n > 0 && l->dir[n - 1] != '/')
            n--;
        while (n > 0 && l->dir[n - 1] == '/')
            n--;
    }
}

static plumb_status set_paths(plumb_lock *l, const char *dir)
{
    char name[512];
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/')
        n--;
    PLUMB_REQUIRE(n < sizeof(l->dir), PLUMB_ERR_ARG, "%s: the path is too long", dir);
    memcpy(l->dir, dir, n);
    PLUMB_TRY(plumb_path_join(l->path, sizeof(l->path), l->dir, NAME));
    snprintf(name, sizeof(name), NAME ".%.200s.%" PRId64, l->me.host, l->me.pid);
    return plumb_path_join(l->fresh, sizeof(l->fresh), l->dir, name);
}

plumb_status plumb_lock_take(plumb_lock **out, const char *dir, const char *command,
                             double silent_s)
{
    pthread_condattr_t attr;
    plumb_status st = PLUMB_OK;
    *out = NULL;
    PLUMB_REQUIRE(silent_s > 0, PLUMB_ERR_ARG, "lock: silent_s=%g", silent_s);
    plumb_lock *l = calloc(1, sizeof(*l));
    PLUMB_REQUIRE(l, PLUMB_ERR_NOMEM, "lock of %s", dir);
    l->fd = -1;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&l->mutex, NULL);
    pthread_cond_init(&l->wake, &attr);
    pthread_condattr_destroy(&attr);
    find_me(&l->me, command, silent_s);
    PLUMB_TRY_GOTO(st, set_paths(l, dir), fail);
    find_missing(l);
    PLUMB_TRY_GOTO(st, take(l), fail);
    PLUMB_TRY_GOTO(st, remove_leftovers(l), fail);
    PLUMB_TRY_GOTO(st, start_beating(l), fail);
    *out = l;
    return PLUMB_OK;
fail:
    plumb_lock_release(&l);
    return st;
}

void plumb_lock_release(plumb_lock **lock)
{
    plumb_lock *l = *lock;
    struct holder h;
    if (!l)
        return;
    if (l->beats) {
        pthread_mutex_lock(&l->mutex);
        l->stop = true;
        pthread_cond_signal(&l->wake);
        pthread_mutex_unlock(&l->mutex);
        pthread_join(l->thread, NULL);
    }
    if (l->fd >= 0) {
        close(l->fd);
        if (read_holder(&h, l->path) && strcmp(h.nonce, l->me.nonce) == 0)
            unlink(l->path);
    }
    remove_made(l);
    pthread_cond_destroy(&l->wake);
    pthread_mutex_destroy(&l->mutex);
    free(l);
    *lock = NULL;
}
