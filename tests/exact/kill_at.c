/* kill_at.c - a library for LD_PRELOAD, for tests. It counts the calls that change a file below a
 * folder. At a chosen call, it ends the process or makes the call return an error. Includes libc
 * only.
 *
 *     PLUMB_FAULT_DIR   only calls on paths below this folder are counted, from 1; lines of
 *                       train.log are not counted
 *     PLUMB_FAULT_RANK  only calls of this rank of a job are counted (0 without mpirun)
 *     PLUMB_FAULT_LOG   a file that gets a line "number call path" for each counted call
 *     PLUMB_FAULT_AT    the number of the call with the fault; 0 or not set: no fault
 *     PLUMB_FAULT_HOW   kill R: SIGKILL to rank R before the call; stop R: SIGSTOP to rank R before
 *                       the call; once ERRNO: this call fails; from ERRNO: this call and all later
 *                       calls that need disk space fail; short: the write writes half of its bytes
 *     PLUMB_FAULT_PIDS  a folder: each rank R writes its process id to R.pid, and its exit code to
 *                       R.exit if it ends by itself; needed for kill and stop
 *
 * libc's streams (FILE) write without a call that this library could replace. So fopen is replaced
 * by a function that returns a stream that writes with this library's write(). */
#undef _FILE_OFFSET_BITS /* because open and open64 must be two functions here */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FDS = 1024, PATH = 4096 };

static struct {
    bool ready, on;
    const char *dir;
    int log; /* descriptor of the log file; -1 if there is none */
    long count, at;
    enum { NONE, KILL, STOP, ONCE, FROM, SHORT } how;
    int error;       /* errno for ONCE and FROM */
    int victim;      /* for KILL and STOP: the rank that gets the signal */
    int me;          /* number of this rank */
    char *path[FDS]; /* path of each open descriptor below dir; else NULL */
    /* the descriptor was opened for writing; only close() of such descriptors can fail */
    bool written[FDS];
} fault = {.log = -1};

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* Sets path to PLUMB_FAULT_PIDS/R.kind, where R is the rank and kind is "pid" or "exit". Returns
 * false if PLUMB_FAULT_PIDS is not set. */
static bool rank_path(char path[PATH], int rank, const char *kind)
{
    const char *dir = getenv("PLUMB_FAULT_PIDS");
    snprintf(path, PATH, "%s/%d.%s", dir ? dir : "", rank, kind);
    return dir != NULL;
}

static void write_number(int rank, const char *kind, long number)
{
    char path[PATH], text[32];
    if (!rank_path(path, rank, kind))
        return;
    const int n = snprintf(text, sizeof(text), "%ld", number);
    const int fd = REAL(open)(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd < 0 || REAL(write)(fd, text, (size_t)n) != n)
        abort();
    REAL(close)(fd);
}

static void write_exit(int code, void *arg)
{
    (void)arg;
    write_number(fault.me, "exit", code);
}

/* Sends a signal to rank fault.victim. If the process id of that rank is not known, this process
 * ends by another signal, which the test does not expect. */
static void signal_victim(int number)
{
    char path[PATH], text[32] = "";
    const int fd = rank_path(path, fault.victim, "pid") ? REAL(open)(path, O_RDONLY) : -1;
    const bool known = fd >= 0 && REAL(read)(fd, text, sizeof(text) - 1) > 0 && atol(text) > 0;
    if (fd >= 0)
        REAL(close)(fd);
    if (!known)
        abort();
    kill((pid_t)atol(text), number);
}

static void set_up(void)
{
    if (fault.ready)
        return;
    fault.ready = true;
    const char *rank = getenv("OMPI_COMM_WORLD_RANK"), *want = getenv("PLUMB_FAULT_RANK");
    const char *at = getenv("PLUMB_FAULT_AT"), *how = getenv("PLUMB_FAULT_HOW");
    const char *log = getenv("PLUMB_FAULT_LOG");
    /* plumb_emu is plumb with the CUDA emulator */
    const char *program = program_invocation_short_name;
    const bool ours = strcmp(program, "plumb") == 0 || strcmp(program, "plumb_emu") == 0;
    fault.me = atoi(rank ? rank : "0");
    fault.dir = getenv("PLUMB_FAULT_DIR");
    fault.on = fault.dir && ours && fault.me == atoi(want ? want : "0");
    fault.at = at ? atol(at) : 0;
    if (how && strncmp(how, "kill ", 5) == 0)
        fault.how = KILL;
    else if (how && strncmp(how, "stop ", 5) == 0)
        fault.how = STOP;
    else if (how && strncmp(how, "once ", 5) == 0)
        fault.how = ONCE;
    else if (how && strncmp(how, "from ", 5) == 0)
        fault.how = FROM;
    else if (how && strcmp(how, "short") == 0)
        fault.how = SHORT;
    if (fault.how == ONCE || fault.how == FROM)
        fault.error = atoi(how + 5);
    if (fault.how == KILL || fault.how == STOP)
        fault.victim = atoi(how + 5);
    if (ours) {
        write_number(fault.me, "pid", getpid());
        on_exit(write_exit, NULL);
    }
    if (fault.on && log)
        fault.log = REAL(open)(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
}

static bool below(const char *path)
{
    set_up();
    const size_t n = fault.on && path ? strlen(fault.dir) : 0;
    return n && strncmp(path, fault.dir, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

static const char *path_of(int fd)
{
    return fd >= 0 && fd < FDS ? fault.path[fd] : NULL;
}

/* Returns true if the call writes a line of train.log. A slow run writes more such lines, so they
 * are not counted; call number N is then the same call in each run. On a full disk, these calls
 * fail, too. */
static bool is_line_of_log(const char *call, const char *path)
{
    const char *name = strrchr(path, '/');
    return strcmp(call, "write") == 0 && name && strcmp(name, "/train.log") == 0;
}

/* Counts a call. Returns true if the call must fail, and sets errno. needs_room: the call fails if
 * the disk is full. */
static bool hit(const char *call, const char *path, bool needs_room)
{
    if (is_line_of_log(call, path)) {
        const bool full = fault.how == FROM && fault.at > 0 && fault.count >= fault.at;
        errno = full ? fault.error : errno;
        return full;
    }
    const long number = ++fault.count;
    char line[PATH + 64];
    const int n = snprintf(line, sizeof(line), "%ld %s %s\n", number, call, path);
    if (fault.log >= 0 && n > 0 && REAL(write)(fault.log, line, (size_t)n) != n)
        fault.on = false;
    const bool here = fault.at > 0 && number == fault.at;
    if (here && (fault.how == KILL || fault.how == STOP))
        signal_victim(fault.how == KILL ? SIGKILL : SIGSTOP);
    if ((here && fault.how == ONCE) ||
        (fault.how == FROM && fault.at > 0 && number >= fault.at && needs_room)) {
        errno = fault.error;
        return true;
    }
    return false;
}

static int remember(int fd, const char *path, bool written)
{
    if (fd >= 0 && fd < FDS) {
        free(fault.path[fd]);
        fault.path[fd] = strdup(path);
        fault.written[fd] = written;
    }
    return fd;
}

static bool writes(int flags)
{
    return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)) != 0;
}

#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...)                                                     \
    {                                                                                              \
        mode_t mode = 0;                                                                           \
        if (flags & O_CREAT) {                                                                     \
            va_list args;                                                                          \
            va_start(args, flags);                                                                 \
            mode = va_arg(args, mode_t);                                                           \
            va_end(args);                                                                          \
        }                                                                                          \
        if (!below(path))                                                                          \
            return REAL(name)(path, flags, mode);                                                  \
        if (writes(flags) && hit("open", path, (flags & O_CREAT) != 0))                            \
            return -1;                                                                             \
        return remember(REAL(name)(path, flags, mode), path, writes(flags));                       \
    }
OPEN(open)
OPEN(open64)

#define WRITE(name, offset_type)                                                                   \
    ssize_t name(int fd, const void *bytes, size_t n, offset_type at)                              \
    {                                                                                              \
        if (!path_of(fd))                                                                          \
            return REAL(name)(fd, bytes, n, at);                                                   \
        if (hit("pwrite", path_of(fd), true))                                                      \
            return -1;                                                                             \
        const bool part = fault.how == SHORT && fault.count == fault.at && n > 1;                  \
        return REAL(name)(fd, bytes, part ? n / 2 : n, at);                                        \
    }
WRITE(pwrite, off_t)
WRITE(pwrite64, off64_t)

ssize_t write(int fd, const void *bytes, size_t n)
{
    if (!path_of(fd))
        return REAL(write)(fd, bytes, n);
    if (hit("write", path_of(fd), true))
        return -1;
    const bool part = fault.how == SHORT && fault.count == fault.at && n > 1;
    return REAL(write)(fd, bytes, part ? n / 2 : n);
}

int close(int fd)
{
    const bool ours = path_of(fd) != NULL;
    const bool failed = ours && fault.written[fd] && hit("close", path_of(fd), false);
    const int error = errno;
    if (ours) {
        free(fault.path[fd]);
        fault.path[fd] = NULL;
    }
    /* closes the descriptor, even if close must report an error */
    const int result = REAL(close)(fd);
    errno = failed ? error : errno;
    return failed ? -1 : result;
}

#define ON_FD(name, room)                                                                          \
    int name(int fd)                                                                               \
    {                                                                                              \
        if (path_of(fd) && hit(#name, path_of(fd), room))                                          \
            return -1;                                                                             \
        return REAL(name)(fd);                                                                     \
    }
ON_FD(fsync, true)
ON_FD(fdatasync, true)

int ftruncate(int fd, off_t size)
{
    if (path_of(fd) && hit("ftruncate", path_of(fd), true))
        return -1;
    return REAL(ftruncate)(fd, size);
}

int ftruncate64(int fd, off64_t size)
{
    if (path_of(fd) && hit("ftruncate", path_of(fd), true))
        return -1;
    return REAL(ftruncate64)(fd, size);
}

int rename(const char *from, const char *to)
{
    return below(to) && hit("rename", to, false) ? -1 : REAL(rename)(from, to);
}

int symlink(const char *target, const char *path)
{
    return below(path) && hit("symlink", path, true) ? -1 : REAL(symlink)(target, path);
}

int unlink(const char *path)
{
    return below(path) && hit("unlink", path, false) ? -1 : REAL(unlink)(path);
}

int remove(const char *path)
{
    return below(path) && hit("remove", path, false) ? -1 : REAL(remove)(path);
}

int mkdir(const char *path, mode_t mode)
{
    return below(path) && hit("mkdir", path, true) ? -1 : REAL(mkdir)(path, mode);
}

int rmdir(const char *path)
{
    return below(path) && hit("rmdir", path, false) ? -1 : REAL(rmdir)(path);
}

/* ---- streams ------------------------------------------------------------------------------ */

/* Writes all bytes, also after a short write, as libc's streams do. Returns 0 on an error, as
 * fopencookie requires. */
static ssize_t stream_write(void *cookie, const char *bytes, size_t n)
{
    size_t done = 0;
    while (done < n) {
        const ssize_t put = write((int)(long)cookie, bytes + done, n - done);
        if (put < 0)
            return 0;
        done += (size_t)put;
    }
    return (ssize_t)done;
}

static int stream_close(void *cookie)
{
    return close((int)(long)cookie);
}

static FILE *stream_open(const char *path, const char *mode)
{
    const int flags = O_WRONLY | O_CREAT | O_CLOEXEC | (*mode == 'a' ? O_APPEND : O_TRUNC);
    const int fd = open(path, flags, 0666);
    if (fd < 0)
        return NULL;
    const cookie_io_functions_t io = {.write = stream_write, .close = stream_close};
    return fopencookie((void *)(long)fd, mode, io);
}

FILE *fopen(const char *path, const char *mode)
{
    return *mode != 'r' && below(path) ? stream_open(path, mode) : REAL(fopen)(path, mode);
}

FILE *fopen64(const char *path, const char *mode)
{
    return *mode != 'r' && below(path) ? stream_open(path, mode) : REAL(fopen64)(path, mode);
}
