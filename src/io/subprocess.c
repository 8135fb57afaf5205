/* subprocess.c - starts a shell command, writes lines to it, reads lines from it, and ends it.
 * Layer 1. Includes base/ only. */
#include "io/subprocess.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"

#define MAX_LINE (INT64_C(64) << 20)
#define TAIL     1024
/* This prefix of the command makes the shell and its children ignore SIGUSR1. Slurm with
 * --signal=USR1 sends that signal to every process of a job step, to tell plumb to save and stop.
 * The signal must not end the command, because plumb needs the answers of the command until it has
 * saved. posix_spawn cannot set a signal to be ignored, and the shell does not keep a signal
 * blocked. */
#define QUIET "trap '' USR1; "

extern char **environ;

struct plumb_subprocess {
    pid_t pid; /* process id; 0 after the process was reaped */
    /* this process's ends of the pipes to descriptors 0, 1 and 2 of the subprocess; -1 if closed */
    int fd[3];
    int how;      /* exit status from waitpid, valid once the process was reaped */
    int64_t sent; /* number of bytes that were written to the subprocess's standard input */
    bool closed;  /* a write has failed, because the subprocess has closed its standard input */
    /* number of sent bytes that were still in the pipe when this process closed its end */
    int64_t unread;
    bool reaped;
    struct plumb_buf out;
    int64_t taken; /* number of bytes of `out` that plumb_subprocess_line has returned */
    char tail[2 * TAIL + 1];
    int64_t tail_len;
    char reason[96];
};

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* Opens three pipes. ours[k] is this process's end of the pipe to descriptor k of the subprocess,
 * theirs[k] is the subprocess's end. */
static plumb_status open_pipes(int ours[3], int theirs[3])
{
    for (int k = 0; k < 3; k++) {
        int ends[2];
        PLUMB_REQUIRE(pipe2(ends, O_CLOEXEC) == 0, PLUMB_ERR_IO,
                      "cannot create a pipe for a command: %s", strerror(errno));
        ours[k] = ends[k == 0];
        theirs[k] = ends[k != 0];
        /* If descriptor 0, 1 or 2 of this process is closed, a pipe may get that number: move it to
         * a higher number. */
        if (theirs[k] <= STDERR_FILENO) {
            const int higher = fcntl(theirs[k], F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
            close(theirs[k]);
            theirs[k] = higher;
        }
        PLUMB_REQUIRE(theirs[k] >= 0 && fcntl(ours[k], F_SETFL, O_NONBLOCK) == 0, PLUMB_ERR_IO,
                      "cannot create a pipe for a command: %s", strerror(errno));
    }
    return PLUMB_OK;
}

static plumb_status spawn(struct plumb_subprocess *c, const int theirs[3], const char *command)
{
    char sh[] = "sh", flag[] = "-c";
    const size_t size = sizeof(QUIET) + strlen(command);
    char *text = malloc(size);
    char *argv[] = {sh, flag, text, NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, pipes;
    PLUMB_REQUIRE(text, PLUMB_ERR_NOMEM, "cannot start a command");
    snprintf(text, size, "%s%s", QUIET, command);
    sigemptyset(&none);
    sigemptyset(&pipes);
    sigaddset(&pipes, SIGPIPE);
    sigaddset(&pipes, SIGXFSZ);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attr);
    for (int k = 0; k < 3; k++)
        posix_spawn_file_actions_adddup2(&files, theirs[k], k);
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &pipes);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                        POSIX_SPAWN_SETSIGDEF);
    const int error = posix_spawn(&c->pid, "/bin/sh", &files, &attr, argv, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attr);
    free(text);
    if (error)
        c->pid = 0;
    PLUMB_REQUIRE(!error, PLUMB_ERR_IO, "cannot start /bin/sh: %s", strerror(error));
    return PLUMB_OK;
}

plumb_status plumb_subprocess_start(plumb_subprocess **out, const char *command)
{
    int theirs[3] = {-1, -1, -1};
    plumb_status st = PLUMB_OK;
    *out = NULL;
    plumb_subprocess *c = calloc(1, sizeof *c);
    PLUMB_REQUIRE(c, PLUMB_ERR_NOMEM, "cannot start a command");
    c->fd[0] = c->fd[1] = c->fd[2] = -1;
    PLUMB_TRY_GOTO(st, open_pipes(c->fd, theirs), fail);
    PLUMB_TRY_GOTO(st, spawn(c, theirs, command), fail);
    *out = c;
    c = NULL;
fail:
    for (int k = 0; k < 3; k++)
        close_fd(&theirs[k]);
    plumb_subprocess_stop(&c, 0);
    return st;
}

/* Reaps the shell, the leader of the process group, if it has exited. Returns true if the shell is
 * reaped or was never started. */
static bool reap(plumb_subprocess *c)
{
    if (!c->reaped && c->pid > 0 && waitpid(c->pid, &c->how, WNOHANG) == c->pid)
        c->reaped = true;
    return c->reaped || c->pid <= 0;
}

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
}

/* Returns the number of bytes that were sent to the subprocess and that it has not read yet. If
 * this process has closed its end of the pipe, returns this number at the time of closing. */
static int64_t unread(const plumb_subprocess *c)
{
    int n = 0;
    return c->fd[0] < 0 ? c->unread : ioctl(c->fd[0], FIONREAD, &n) == 0 ? n : 0;
}

bool plumb_subprocess_deaf(const plumb_subprocess *c)
{
    return (c->sent > 0 || c->closed) && unread(c) == c->sent;
}

void plumb_subprocess_finish(plumb_subprocess *c)
{
    c->unread = unread(c);
    close_fd(&c->fd[0]);
}

void plumb_subprocess_end(plumb_subprocess *c, double grace_s)
{
    plumb_subprocess_finish(c);
    const double until = plumb_now() + grace_s;
    while (!reap(c) && plumb_now() < until)
        nap();
    if (c->pid > 0) {
        /* Kill the group before reaping its leader: until the leader is reaped, no other group can
         * get the same id. */
        kill(-c->pid, SIGKILL);
        while (!reap(c))
            nap();
    }
    close_fd(&c->fd[1]);
    close_fd(&c->fd[2]);
}

void plumb_subprocess_stop(plumb_subprocess **c, double grace_s)
{
    if (!*c)
        return;
    plumb_subprocess_end(*c, grace_s);
    plumb_buf_fini(&(*c)->out);
    free(*c);
    *c = NULL;
}

/* Calls write() without raising SIGPIPE: the signal is blocked in this thread and discarded, so
 * that a closed pipe is reported only by errno. */
static ssize_t quiet_write(int fd, const char *bytes, size_t n)
{
    sigset_t pipes, before, pending;
    sigemptyset(&pipes);
    sigaddset(&pipes, SIGPIPE);
    sigpending(&pending);
    const bool was_pending = sigismember(&pending, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipes, &before);
    const ssize_t done = write(fd, bytes, n);
    const int error = errno;
    if (done < 0 && error == EPIPE && !was_pending)
        sigtimedwait(&pipes, NULL, &(struct timespec){0});
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error;
    return done;
}

static void keep_tail(plumb_subprocess *c, const char *bytes, int64_t n)
{
    if (n > TAIL) {
        bytes += n - TAIL;
        n = TAIL;
    }
    if (c->tail_len + n > 2 * TAIL) {
        memmove(c->tail, c->tail + c->tail_len - TAIL, TAIL);
        c->tail_len = TAIL;
    }
    memcpy(c->tail + c->tail_len, bytes, (size_t)n);
    c->tail_len += n;
    c->tail[c->tail_len] = 0;
}

/* Reads all available output of the subprocess from its standard output (k = 1) or error (k =
 * 2). */
static plumb_status drain(plumb_subprocess *c, int k)
{
    char bytes[16384];
    while (c->fd[k] >= 0) {
        const ssize_t n = read(c->fd[k], bytes, sizeof bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        if (n <= 0)
            close_fd(&c->fd[k]);
        else if (k == 2)
            keep_tail(c, bytes, n);
        else {
            PLUMB_TRY(plumb_buf_add(&c->out, bytes, n));
            PLUMB_REQUIRE(c->out.len - c->taken <= MAX_LINE, PLUMB_ERR_FORMAT,
                          "the command wrote more than %lld bytes that were not read: a line is "
                          "too long, or lines were not asked for",
                          (long long)MAX_LINE);
        }
    }
    return PLUMB_OK;
}

plumb_status plumb_subprocess_work(plumb_subprocess *c, const char *in, int64_t n, int64_t *written,
                                   double wait_s)
{
    struct pollfd p[3] = {{.fd = n > 0 ? c->fd[0] : -1, .events = POLLOUT},
                          {.fd = c->fd[1], .events = POLLIN},
                          {.fd = c->fd[2], .events = POLLIN}};
    *written = 0;
    const int wait_ms = wait_s <= 0 ? 0 : wait_s > 3600 ? 3600000 : (int)(wait_s * 1000) + 1;
    PLUMB_REQUIRE(poll(p, 3, wait_ms) >= 0 || errno == EINTR, PLUMB_ERR_IO, "poll: %s",
                  strerror(errno));
    PLUMB_TRY(drain(c, 1));
    PLUMB_TRY(drain(c, 2));
    if (p[0].fd < 0 || !p[0].revents)
        return PLUMB_OK;
    const ssize_t done = quiet_write(c->fd[0], in, (size_t)n);
    if (done > 0) {
        *written = done;
        c->sent += done;
    } else if (done < 0 && errno != EAGAIN && errno != EINTR) {
        c->closed = true;
        c->unread = unread(c);
        close_fd(&c->fd[0]);
    }
    return PLUMB_OK;
}

const char *plumb_subprocess_line(plumb_subprocess *c, int64_t *len)
{
    if (c->taken > 0 && c->taken == c->out.len) {
        plumb_buf_clear(&c->out);
        c->taken = 0;
    }
    if (c->taken == c->out.len)
        return NULL;
    char *line = c->out.data + c->taken;
    const int64_t left = c->out.len - c->taken;
    char *end = memchr(line, '\n', (size_t)left);
    if (!end && c->fd[1] >= 0) {
        /* the line is incomplete: move it to the front, so that the buffer holds at most one
         * line */
        memmove(c->out.data, line, (size_t)left + 1);
        c->out.len = left;
        c->taken = 0;
        return NULL;
    }
    *len = end ? end - line : left;
    c->taken += *len + (end != NULL);
    line[*len] = 0;
    return line;
}

bool plumb_subprocess_gone(plumb_subprocess *c)
{
    if (c->fd[1] >= 0 && reap(c)) {
        /* a process that the subprocess started may still hold the pipe open, so read only what is
         * available */
        if (drain(c, 1) != PLUMB_OK || drain(c, 2) != PLUMB_OK)
            plumb_buf_clear(&c->out);
        close_fd(&c->fd[1]);
    }
    return c->fd[1] < 0 && c->taken == c->out.len;
}

const char *plumb_subprocess_reason(plumb_subprocess *c)
{
    reap(c);
    if (!c->reaped)
        return "closed its output";
    if (WIFSIGNALED(c->how))
        snprintf(c->reason, sizeof c->reason, "signal %d (%s)", WTERMSIG(c->how),
                 strsignal(WTERMSIG(c->how)));
    else
        snprintf(c->reason, sizeof c->reason, "exit status %d", WEXITSTATUS(c->how));
    return c->reason;
}

int plumb_subprocess_exit_status(const plumb_subprocess *c)
{
    return c->reaped && WIFEXITED(c->how) ? WEXITSTATUS(c->how) : -1;
}

const char *plumb_subprocess_stderr(const plumb_subprocess *c)
{
    return c->tail + (c->tail_len > TAIL ? c->tail_len - TAIL : 0);
}
