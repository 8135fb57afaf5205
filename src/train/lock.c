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
#include "train/lock_holder.h"

#define NAME   "run.lock"
#define LOOK_S 0.2 /* seconds; longest time between two checks of another process's lock */
#define TRIES  1000

struct plumb_lock {
    /* path: the lock file; fresh: a temporary file, which is written first and then hard-linked to
     * `path` */
    char dir[PATH_MAX], path[PATH_MAX], fresh[PATH_MAX];
    char made[PATH_MAX]; /* the topmost folder that was created; "" if none was created */
    struct plumb_lock_holder me;
    int fd; /* descriptor of the lock file; the mutex protects it while the thread runs */
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    bool beats, stop;
    atomic_int failed; /* errno of a failed heartbeat; 0 if none failed */
    bool warned;
};

bool plumb_lock_owns(const char *name)
{
    const size_t n = strlen(NAME);
    return strncmp(name, NAME, n) == 0 && (name[n] == '\0' || name[n] == '.');
}

/* ---- whether another holder is alive --------------------------------------------------------- */

static void sleep_for(double seconds)
{
    const time_t whole = (time_t)seconds;
    nanosleep(&(struct timespec){whole, (long)((seconds - (double)whole) * 1e9)}, NULL);
}

/* Watches the heartbeat of h until it changes (RUNS), or until h->silent_s seconds have passed
 * without a change (GONE). Returns UNKNOWN if the lock was removed or replaced meanwhile. */
static enum plumb_lock_life watch(const plumb_lock *l, const struct plumb_lock_holder *h)
{
    char who[512];
    struct plumb_lock_holder now;
    const double began = plumb_now(), look = fmin(LOOK_S, h->silent_s / 4);
    plumb_lock_holder_describe(who, sizeof(who), h);
    if (h->nonce[0])
        plumb_log(PLUMB_LOG_WARN,
                  "output_dir: %s is locked by %s; it is taken over if there is no sign of life "
                  "within %g s",
                  l->dir, who, h->silent_s);
    while (plumb_now() - began < h->silent_s) {
        sleep_for(look);
        /* the lock was removed, or another process took it: the caller tries again */
        if (!plumb_lock_holder_read(&now, l->path) || strcmp(now.nonce, h->nonce) != 0)
            return PLUMB_HOLDER_UNKNOWN;
        if (strcmp(now.beat, h->beat) != 0)
            return PLUMB_HOLDER_RUNS;
    }
    return PLUMB_HOLDER_GONE;
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
    plumb_status st = plumb_lock_holder_put(&b, &l->me);
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

/* Tries once to create the lock file. Afterwards *fd is -1 if another process holds the lock, or if
 * another process has removed this process's file or folder meanwhile. */
static plumb_status acquire(int *fd, const plumb_lock *l)
{
    struct stat s;
    int file = -1;
    *fd = -1;
    unlink(l->fresh); /* may be left by a killed process that had the same id */
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
 * and created its own. In that case the rename has moved the lock of a live process, and this
 * function links it back. */
static plumb_status remove_stale(const plumb_lock *l, const struct plumb_lock_holder *h)
{
    char moved[PATH_MAX + 8], who[512];
    struct plumb_lock_holder found;
    snprintf(moved, sizeof(moved), "%s.gone", l->fresh);
    if (rename(l->path, moved) != 0) {
        PLUMB_REQUIRE(errno == ENOENT, PLUMB_ERR_IO, "%s: cannot rename: %s", l->path,
                      strerror(errno));
        return PLUMB_OK;
    }
    if (plumb_lock_holder_read(&found, moved) && strcmp(found.nonce, h->nonce) != 0) {
        const int failed = link(moved, l->path) ? errno : 0;
        unlink(moved);
        PLUMB_REQUIRE(!failed || failed == EEXIST, PLUMB_ERR_IO, "%s: cannot be put back: %s",
                      l->path, strerror(failed));
        return PLUMB_OK;
    }
    unlink(moved);
    plumb_lock_holder_describe(who, sizeof(who), h);
    plumb_log(PLUMB_LOG_WARN, "output_dir: took over the lock of %s, left by %s, which is gone",
              l->dir, who);
    return PLUMB_OK;
}

/* Checks the lock of another process: removes the lock if the holder no longer runs, and fails if
 * the holder runs. If the lock is gone or was replaced meanwhile, does nothing; the caller tries
 * again. */
static plumb_status look(const plumb_lock *l)
{
    char who[512];
    struct plumb_lock_holder h;
    if (!plumb_lock_holder_read(&h, l->path))
        return PLUMB_OK;
    enum plumb_lock_life life = plumb_lock_holder_life(&h, &l->me);
    if (life == PLUMB_HOLDER_UNKNOWN)
        life = watch(l, &h);
    plumb_lock_holder_describe(who, sizeof(who), &h);
    PLUMB_REQUIRE(life != PLUMB_HOLDER_RUNS, PLUMB_ERR_EXISTS,
                  "output_dir: %s is in use by %s: wait for it, end it, or choose another folder "
                  "(if that process is certain not to run any more, remove %s)",
                  l->dir, who, l->path);
    return life == PLUMB_HOLDER_GONE ? remove_stale(l, &h) : PLUMB_OK;
}

enum plumb_lock_state plumb_lock_look(char *who, size_t size, double *beat_s, const char *dir)
{
    char path[PATH_MAX];
    struct plumb_lock_holder h, me;
    struct stat s;
    struct timespec now;
    *beat_s = 0;
    who[0] = '\0';
    if (plumb_path_join(path, sizeof(path), dir, NAME) != PLUMB_OK ||
        !plumb_lock_holder_read(&h, path) || stat(path, &s) != 0)
        return PLUMB_LOCK_FREE;
    plumb_lock_holder_self(&me, "", 0);
    plumb_lock_holder_describe(who, size, &h);
    clock_gettime(CLOCK_REALTIME, &now);
    *beat_s = fmax(0, difftime(now.tv_sec, s.st_mtim.tv_sec) +
                          1e-9 * (double)(now.tv_nsec - s.st_mtim.tv_nsec));
    const enum plumb_lock_life life = plumb_lock_holder_life(&h, &me);
    if (life != PLUMB_HOLDER_UNKNOWN)
        return life == PLUMB_HOLDER_RUNS ? PLUMB_LOCK_RUNS : PLUMB_LOCK_GONE;
    return *beat_s <= h.silent_s ? PLUMB_LOCK_RUNS : PLUMB_LOCK_SILENT;
}

static plumb_status take(plumb_lock *l)
{
    for (int i = 0; i < TRIES && l->fd < 0; i++) {
        PLUMB_TRY(acquire(&l->fd, l));
        if (l->fd < 0)
            PLUMB_TRY(look(l));
    }
    PLUMB_REQUIRE(l->fd >= 0, PLUMB_ERR_IO,
                  "%s: cannot be taken: in %d attempts other processes created and removed it",
                  l->path, TRIES);
    return PLUMB_OK;
}

/* Removes the temporary files of processes that were killed while they took this lock. */
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
    char text[PLUMB_LOCK_BEAT_DIGITS + 1];
    snprintf(text, sizeof(text), "%0*lld", PLUMB_LOCK_BEAT_DIGITS,
             (long long)(count % 1000000000000));
    if (pwrite(l->fd, text, PLUMB_LOCK_BEAT_DIGITS, (off_t)strlen(PLUMB_LOCK_BEFORE_BEAT)) !=
            PLUMB_LOCK_BEAT_DIGITS ||
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
    sigfillset(&all); /* the thread blocks all signals, so that the main thread handles them */
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
    struct plumb_lock_holder h;
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
    if (!plumb_lock_holder_read(&h, l->path)) {
        plumb_log(PLUMB_LOG_WARN, "%s was removed and is made again", l->path);
        pthread_mutex_lock(&l->mutex);
        close(l->fd);
        st = acquire(&l->fd, l);
        const bool again = l->fd >= 0;
        pthread_mutex_unlock(&l->mutex);
        PLUMB_TRY(st);
        if (again || !plumb_lock_holder_read(&h, l->path))
            return PLUMB_OK;
    }
    plumb_lock_holder_describe(who, sizeof(who), &h);
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

/* Removes l->dir and its parents up to l->made, and stops at the first folder that is not empty.
 * Does nothing if this lock created no folder. */
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
    plumb_lock_holder_self(&l->me, command, silent_s);
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
    struct plumb_lock_holder h;
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
        if (plumb_lock_holder_read(&h, l->path) && strcmp(h.nonce, l->me.nonce) == 0)
            unlink(l->path);
    }
    remove_made(l);
    pthread_cond_destroy(&l->wake);
    pthread_mutex_destroy(&l->mutex);
    free(l);
    *lock = NULL;
}
