/* file.c - files and folders, with every failed system call reported by path and cause.
 * Layer 1. Includes file.h, base/, xxhash. */
#include "io/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { CHUNK = 1 << 20 };

#define FAIL_ERRNO(path, what)                                                                     \
    PLUMB_FAIL(PLUMB_ERR_IO, "%s: cannot %s: %s", (path), (what), strerror(errno))

bool plumb_file_exists(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && !S_ISDIR(s.st_mode);
}

bool plumb_dir_exists(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

plumb_status plumb_path_join(char *out, int64_t size, const char *a, const char *b)
{
    const size_t len = strlen(a);
    const char *slash = len && a[len - 1] != '/' ? "/" : "";
    const int n = snprintf(out, (size_t)size, "%s%s%s", a, slash, b);
    PLUMB_REQUIRE(n >= 0 && n < size, PLUMB_ERR_ARG, "path %s/%s is longer than %" PRId64 " bytes",
                  a, b, size - 1);
    return PLUMB_OK;
}

/* out = the folder that holds path: "." for a bare name. */
static plumb_status parent_of(char *out, int64_t size, const char *path)
{
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    while (len > 0 && path[len - 1] != '/')
        len--;
    while (len > 1 && path[len - 1] == '/')
        len--;
    const int n = snprintf(out, (size_t)size, "%.*s", len ? (int)len : 1, len ? path : ".");
    PLUMB_REQUIRE(n >= 0 && n < size, PLUMB_ERR_ARG, "path %s is too long", path);
    return PLUMB_OK;
}

static plumb_status add_suffix(char *out, int64_t size, const char *path, const char *suffix)
{
    const int n = snprintf(out, (size_t)size, "%s%s", path, suffix);
    PLUMB_REQUIRE(n >= 0 && n < size, PLUMB_ERR_ARG, "path %s%s is too long", path, suffix);
    return PLUMB_OK;
}

static plumb_status read_fd(struct plumb_buf *out, int fd, const char *path)
{
    plumb_status st = PLUMB_OK;
    char *chunk = malloc(CHUNK);
    PLUMB_REQUIRE(chunk, PLUMB_ERR_NOMEM, "%s: a read buffer of %d bytes", path, CHUNK);
    for (;;) {
        const ssize_t n = read(fd, chunk, CHUNK);
        if (n == 0)
            break;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            PLUMB_FAIL_GOTO(st, PLUMB_ERR_IO, fail, "%s: cannot read: %s", path, strerror(errno));
        PLUMB_TRY_GOTO(st, plumb_buf_add(out, chunk, n), fail);
    }
fail:
    free(chunk);
    return st;
}

plumb_status plumb_file_read(struct plumb_buf *out, const char *path)
{
    const bool standard_input = !strcmp(path, "-");
    const int fd = standard_input ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        FAIL_ERRNO(path, "open");
    const plumb_status st = read_fd(out, fd, standard_input ? "standard input" : path);
    if (!standard_input)
        close(fd);
    PLUMB_TRY(st);
    return PLUMB_OK;
}

static plumb_status write_all(int fd, const char *bytes, int64_t n, const char *path)
{
    while (n > 0) {
        const ssize_t put = write(fd, bytes, (size_t)n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            FAIL_ERRNO(path, "write");
        bytes += put;
        n -= put;
    }
    return PLUMB_OK;
}

/* fsync, close, rename, fsync of the folder. Closes fd on every path. */
static plumb_status finish(int fd, const char *part, const char *path)
{
    char parent[4096];
    plumb_status st = parent_of(parent, sizeof(parent), path);
    if (st == PLUMB_OK && fsync(fd) != 0)
        st = plumb_fail_at(PLUMB_ERR_IO, __FILE__, __LINE__, "%s: cannot flush to disk: %s", path,
                           strerror(errno));
    if (close(fd) != 0 && st == PLUMB_OK)
        st = plumb_fail_at(PLUMB_ERR_IO, __FILE__, __LINE__, "%s: cannot close: %s", path,
                           strerror(errno));
    if (st == PLUMB_OK && rename(part, path) != 0)
        st = plumb_fail_at(PLUMB_ERR_IO, __FILE__, __LINE__, "%s: cannot rename from %s: %s", path,
                           part, strerror(errno));
    if (st == PLUMB_OK)
        PLUMB_TRY(plumb_dir_fsync(parent));
    return st;
}

plumb_status plumb_file_write_atomic(const char *path, const void *bytes, int64_t n)
{
    char part[4096];
    PLUMB_TRY(add_suffix(part, sizeof(part), path, ".tmp"));
    const int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        FAIL_ERRNO(part, "create");
    plumb_status st = write_all(fd, bytes, n, path);
    if (st == PLUMB_OK)
        st = finish(fd, part, path);
    else
        close(fd);
    if (st != PLUMB_OK)
        unlink(part); /* gone already when only the folder's fsync failed */
    PLUMB_TRY(st);
    return PLUMB_OK;
}

static plumb_status copy_fd(int to, int from, const char *to_path, const char *from_path)
{
    plumb_status st = PLUMB_OK;
    char *chunk = malloc(CHUNK);
    PLUMB_REQUIRE(chunk, PLUMB_ERR_NOMEM, "%s: a copy buffer of %d bytes", from_path, CHUNK);
    for (;;) {
        const ssize_t n = read(from, chunk, CHUNK);
        if (n == 0)
            break;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            PLUMB_FAIL_GOTO(st, PLUMB_ERR_IO, fail, "%s: cannot read: %s", from_path,
                            strerror(errno));
        PLUMB_TRY_GOTO(st, write_all(to, chunk, n, to_path), fail);
    }
fail:
    free(chunk);
    return st;
}

plumb_status plumb_file_copy(const char *from, const char *to)
{
    char part[4096];
    PLUMB_TRY(add_suffix(part, sizeof(part), to, ".tmp"));
    const int in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0)
        FAIL_ERRNO(from, "open");
    plumb_status st;
    const int out = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (out < 0)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_IO, fail, "%s: cannot create: %s", part, strerror(errno));
    st = copy_fd(out, in, to, from);
    if (st == PLUMB_OK)
        st = finish(out, part, to);
    else
        close(out);
    if (st != PLUMB_OK)
        unlink(part);
fail:
    close(in);
    PLUMB_TRY(st);
    return PLUMB_OK;
}

plumb_status plumb_file_append_line(FILE *f, const char *path, const char *line)
{
    if (fputs(line, f) < 0 || fputc('\n', f) == EOF || fflush(f) != 0)
        FAIL_ERRNO(path, "write");
    return PLUMB_OK;
}

plumb_status plumb_file_hash(uint64_t *out, const char *path)
{
    plumb_status st = PLUMB_OK;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        FAIL_ERRNO(path, "open");
    char *chunk = malloc(CHUNK);
    XXH3_state_t *state = XXH3_createState();
    if (!chunk || !state)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "%s: a read buffer of %d bytes", path, CHUNK);
    XXH3_64bits_reset_withSeed(state, 0);
    for (;;) {
        const ssize_t n = read(fd, chunk, CHUNK);
        if (n == 0)
            break;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            PLUMB_FAIL_GOTO(st, PLUMB_ERR_IO, fail, "%s: cannot read: %s", path, strerror(errno));
        XXH3_64bits_update(state, chunk, (size_t)n);
    }
    *out = XXH3_64bits_digest(state);
fail:
    XXH3_freeState(state);
    free(chunk);
    close(fd);
    return st;
}

uint64_t plumb_hash(const void *bytes, int64_t n, uint64_t seed)
{
    return XXH3_64bits_withSeed(bytes, (size_t)n, seed);
}

plumb_status plumb_file_lines(const char *path, plumb_line_fn *fn, void *arg)
{
    const bool standard_input = !strcmp(path, "-");
    const char *name = standard_input ? "standard input" : path;
    FILE *f = standard_input ? stdin : fopen(path, "re");
    if (!f)
        FAIL_ERRNO(path, "open");
    plumb_status st = PLUMB_OK;
    char *line = NULL;
    size_t cap = 0;
    for (int64_t no = 1;; no++) {
        errno = 0;
        ssize_t len = getline(&line, &cap, f);
        if (len < 0) {
            if (!feof(f))
                PLUMB_FAIL_GOTO(st, errno == ENOMEM ? PLUMB_ERR_NOMEM : PLUMB_ERR_IO, fail,
                                "%s:%" PRId64 ": cannot read: %s", name, no, strerror(errno));
            break;
        }
        if (len > 0 && line[len - 1] == '\n')
            len--;
        if (len > 0 && line[len - 1] == '\r')
            len--;
        line[len] = '\0';
        PLUMB_TRY_GOTO(st, fn(arg, line, len, no), fail);
    }
fail:
    free(line);
    if (!standard_input)
        fclose(f);
    return st;
}
