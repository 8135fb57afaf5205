/* file.c - reads and writes files. Each failed system call is reported with the path and the
 * system's error text.
 * Layer 1. Includes file.h, gzip.h, kind.h, utf8.h, base/, xxhash. */
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

#include "io/gzip.h"
#include "io/kind.h"
#include "io/utf8.h"

enum { CHUNK = 1 << 20 };

#define WANTED_LINES "lines of text"

#define FAIL_ERRNO(path, what)                                                                     \
    PLUMB_FAIL(PLUMB_ERR_IO, "%s: cannot %s: %s", (path), (what), strerror(errno))

bool plumb_file_exists(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 ? !S_ISDIR(s.st_mode) : lstat(path, &s) == 0 && S_ISLNK(s.st_mode);
}

bool plumb_dir_exists(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

plumb_status plumb_dir_fsync(const char *path)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        FAIL_ERRNO(path, "open this folder");
    /* fsync on a folder gives EINVAL on file systems that do not support it. This is not an
     * error. */
    const int failed = fsync(fd) != 0 && errno != EINVAL ? errno : 0;
    close(fd);
    PLUMB_REQUIRE(!failed, PLUMB_ERR_IO, "%s: cannot flush this folder to disk: %s", path,
                  strerror(failed));
    return PLUMB_OK;
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

/* Sets out to the folder that contains path, or to "." if path is a name without a slash. */
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

static plumb_status read_fd(struct plumb_buf *out, int fd, const char *path)
{
    plumb_status st = PLUMB_OK;
    char *chunk = malloc(CHUNK);
    PLUMB_REQUIRE(chunk, PLUMB_ERR_NOMEM, "%s: cannot allocate a read buffer of %d bytes", path,
                  CHUNK);
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

/* Decompresses *text if it is gzip data. Then returns an error if *text is of a known kind other
 * than text (io/kind.h). */
static plumb_status unpack_lines(struct plumb_buf *text, const char *name)
{
    if (plumb_file_kind_of(text->data, text->len) == PLUMB_FILE_GZIP)
        PLUMB_TRY(plumb_gunzip(text, name));
    return plumb_file_expect_text(name, WANTED_LINES, plumb_buf_text(text), text->len);
}

plumb_status plumb_file_read_lines(struct plumb_buf *out, const char *path)
{
    plumb_buf_clear(out);
    PLUMB_TRY(plumb_file_read(out, path));
    return unpack_lines(out, !strcmp(path, "-") ? "standard input" : path);
}

plumb_status plumb_file_read(struct plumb_buf *out, const char *path)
{
    const bool standard_input = !strcmp(path, "-");
    int fd = STDIN_FILENO;
    if (!standard_input)
        PLUMB_TRY(plumb_file_open(&fd, path, true));
    const plumb_status st = read_fd(out, fd, standard_input ? "standard input" : path);
    if (!standard_input)
        close(fd);
    PLUMB_TRY(st);
    return PLUMB_OK;
}

static plumb_status check_text(const struct plumb_buf *b, const char *path, const char *wanted)
{
    const char *text = plumb_buf_text(b);
    const char *nul = b->len ? memchr(text, '\0', (size_t)b->len) : NULL;
    int64_t line = 1, at = plumb_utf8_valid(text, b->len);
    PLUMB_TRY(plumb_file_expect_text(path, wanted, text, b->len));
    if (nul && nul - text < at)
        at = nul - text;
    for (int64_t i = 0; i < at; i++)
        line += text[i] == '\n';
    if (at == b->len)
        return PLUMB_OK;
    if (!text[at])
        PLUMB_FAIL(PLUMB_ERR_FORMAT, "%s:%" PRId64 ": a NUL byte at byte %" PRId64 ", expected %s",
                   path, line, at, wanted);
    PLUMB_FAIL(PLUMB_ERR_FORMAT,
               "%s:%" PRId64 ": byte %" PRId64 " (0x%02x) is not valid UTF-8, expected %s", path,
               line, at, (unsigned char)text[at], wanted);
}

plumb_status plumb_file_read_text(struct plumb_buf *out, const char *path, const char *wanted)
{
    const bool standard_input = !strcmp(path, "-");
    const char *name = standard_input ? "standard input" : path;
    struct stat s;
    int fd = STDIN_FILENO;
    plumb_status st = PLUMB_OK;
    if (!standard_input)
        PLUMB_TRY(plumb_file_open(&fd, path, false));
    if (fstat(fd, &s) != 0)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_IO, done, "%s: cannot read its size: %s", name,
                        strerror(errno));
    if (s.st_size > INT32_MAX)
        PLUMB_FAIL_GOTO(
            st, PLUMB_ERR_UNSUPPORTED, done,
            "%s: the file has %lld bytes, which is too large for %s; the limit is %d bytes", name,
            (long long)s.st_size, wanted, INT32_MAX);
    plumb_buf_clear(out);
    PLUMB_TRY_GOTO(st, read_fd(out, fd, name), done);
    PLUMB_TRY_GOTO(st, check_text(out, name, wanted), done);
    if (out->len >= 3 && !memcmp(out->data, "\xEF\xBB\xBF", 3)) {
        out->len -= 3;
        memmove(out->data, out->data + 3, (size_t)out->len + 1);
    }
done:
    if (!standard_input)
        close(fd);
    return st;
}

plumb_status plumb_file_out_begin(struct plumb_file_out *f, const char *path)
{
    const int n = snprintf(f->path, sizeof(f->path), "%s", path);
    const int m = snprintf(f->part, sizeof(f->part), "%s.tmp", path);
    PLUMB_REQUIRE(n >= 0 && m >= 0 && m < (int)sizeof(f->part), PLUMB_ERR_ARG,
                  "path %s.tmp is longer than %zu bytes", path, sizeof(f->part) - 1);
    /* PATH.tmp may already exist: as a file that a killed run has left, or as a link or pipe. It is
     * removed and a new file is created, so that nothing is written to the old file, to the target
     * of the link or to the pipe. */
    struct stat old;
    unlink(f->part);
    f->fd = open(f->part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (f->fd < 0)
        FAIL_ERRNO(f->part, "create");
    if (stat(path, &old) == 0 && S_ISREG(old.st_mode))
        (void)fchmod(f->fd, old.st_mode & 0777); /* a replaced file keeps its permissions */
    return PLUMB_OK;
}

plumb_status plumb_file_out_add(struct plumb_file_out *f, const void *bytes, int64_t n)
{
    const char *at = bytes;
    while (n > 0) {
        const ssize_t put = write(f->fd, at, (size_t)n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            FAIL_ERRNO(f->path, "write");
        at += put;
        n -= put;
    }
    return PLUMB_OK;
}

void plumb_file_out_abort(struct plumb_file_out *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
    unlink(f->part);
}

plumb_status plumb_file_out_commit(struct plumb_file_out *f)
{
    char parent[4096];
    plumb_status st;
    PLUMB_TRY_GOTO(st, parent_of(parent, sizeof(parent), f->path), fail);
    if (fsync(f->fd) != 0)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_IO, fail, "%s: cannot flush to disk: %s", f->path,
                        strerror(errno));
    const int closed = close(f->fd);
    f->fd = -1;
    if (closed != 0)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_IO, fail, "%s: cannot close: %s", f->path, strerror(errno));
    if (rename(f->part, f->path) != 0)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_IO, fail, "%s: cannot rename from %s: %s", f->path, f->part,
                        strerror(errno));
    PLUMB_TRY(plumb_dir_fsync(parent));
    return PLUMB_OK;
fail:
    plumb_file_out_abort(f);
    return st;
}

plumb_status plumb_file_write_atomic(const char *path, const void *bytes, int64_t n)
{
    struct plumb_file_out f;
    PLUMB_TRY(plumb_file_out_begin(&f, path));
    const plumb_status st = plumb_file_out_add(&f, bytes, n);
    if (st != PLUMB_OK)
        plumb_file_out_abort(&f);
    PLUMB_TRY(st);
    PLUMB_TRY(plumb_file_out_commit(&f));
    return PLUMB_OK;
}

static plumb_status copy_fd(struct plumb_file_out *to, int from, const char *from_path)
{
    plumb_status st = PLUMB_OK;
    char *chunk = malloc(CHUNK);
    PLUMB_REQUIRE(chunk, PLUMB_ERR_NOMEM, "%s: cannot allocate a copy buffer of %d bytes",
                  from_path, CHUNK);
    for (;;) {
        const ssize_t n = read(from, chunk, CHUNK);
        if (n == 0)
            break;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            PLUMB_FAIL_GOTO(st, PLUMB_ERR_IO, fail, "%s: cannot read: %s", from_path,
                            strerror(errno));
        PLUMB_TRY_GOTO(st, plumb_file_out_add(to, chunk, n), fail);
    }
fail:
    free(chunk);
    return st;
}

plumb_status plumb_file_copy(const char *from, const char *to)
{
    struct plumb_file_out out;
    int in;
    PLUMB_TRY(plumb_file_open(&in, from, false));
    plumb_status st;
    PLUMB_TRY_GOTO(st, plumb_file_out_begin(&out, to), fail);
    st = copy_fd(&out, in, from);
    if (st == PLUMB_OK)
        st = plumb_file_out_commit(&out);
    else
        plumb_file_out_abort(&out);
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
    struct stat info;
    int fd;
    PLUMB_TRY(plumb_file_open(&fd, path, false));
    char *chunk = malloc(CHUNK);
    XXH3_state_t *state = XXH3_createState();
    if (!chunk || !state)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "%s: cannot allocate a read buffer of %d bytes",
                        path, CHUNK);
    if (fstat(fd, &info) != 0 || S_ISFIFO(info.st_mode))
        PLUMB_FAIL_GOTO(
            st, PLUMB_ERR_IO, fail,
            "%s: this is a pipe, which can be read only once, but the run reads the file "
            "twice; write its data to a regular file first",
            path);
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

/* Reads the gzip-compressed stream f to its end, decompresses it in memory and calls fn for each
 * line. fn gets the line without its line end (\n or \r\n), as a NUL-terminated string. */
static plumb_status packed_lines(FILE *f, const char *name, plumb_line_fn *fn, void *arg)
{
    struct plumb_buf text = {0};
    char chunk[4096];
    plumb_status st = PLUMB_OK;
    for (size_t n; (n = fread(chunk, 1, sizeof(chunk), f)) > 0;)
        PLUMB_TRY_GOTO(st, plumb_buf_add(&text, chunk, (int64_t)n), done);
    if (ferror(f))
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_IO, done, "%s: cannot read: %s", name, strerror(errno));
    PLUMB_TRY_GOTO(st, unpack_lines(&text, name), done);
    char *at = text.data, *const end = at + text.len;
    for (int64_t no = 1; at < end; no++) {
        char *next = memchr(at, '\n', (size_t)(end - at));
        char *stop = next ? next : end;
        next = next ? next + 1 : end;
        if (stop > at && stop[-1] == '\r')
            stop--;
        *stop = '\0';
        PLUMB_TRY_GOTO(st, fn(arg, at, stop - at, no), done);
        at = next;
    }
done:
    plumb_buf_fini(&text);
    return st;
}

plumb_status plumb_file_lines(const char *path, plumb_line_fn *fn, void *arg)
{
    const bool standard_input = !strcmp(path, "-");
    const char *name = standard_input ? "standard input" : path;
    char head[PLUMB_FILE_HEAD];
    int fd = -1;
    plumb_status st = PLUMB_OK;
    if (!standard_input)
        PLUMB_TRY(plumb_file_open(&fd, path, false));
    FILE *f = standard_input ? stdin : fdopen(fd, "r");
    if (!f) {
        close(fd);
        PLUMB_FAIL(PLUMB_ERR_NOMEM, "%s: cannot open: %s", path, strerror(errno));
    }
    char *line = NULL;
    size_t cap = 0;
    const int first = getc(f); /* no text begins with the first byte of gzip data */
    if (first != EOF)
        ungetc(first, f);
    if (first == 0x1f) {
        st = packed_lines(f, name, fn, arg);
        goto fail;
    }
    /* pread returns -1 if f is a pipe. The kind of the data is then determined from the first line,
     * below. */
    const ssize_t seen = pread(fileno(f), head, sizeof(head), 0);
    if (seen > 0)
        PLUMB_TRY_GOTO(st, plumb_file_expect_text(name, WANTED_LINES, head, seen), fail);
    for (int64_t no = 1;; no++) {
        errno = 0;
        ssize_t len = getline(&line, &cap, f);
        if (len < 0) {
            if (!feof(f))
                PLUMB_FAIL_GOTO(st, errno == ENOMEM ? PLUMB_ERR_NOMEM : PLUMB_ERR_IO, fail,
                                "%s:%" PRId64 ": cannot read: %s", name, no, strerror(errno));
            break;
        }
        if (no == 1 && seen < 0)
            PLUMB_TRY_GOTO(st, plumb_file_expect_text(name, WANTED_LINES, line, len), fail);
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

plumb_status plumb_text_lines(const char *text, int64_t len, plumb_line_fn *fn, void *arg)
{
    const char *at = text, *const end = text + len;
    for (int64_t no = 1; at < end; no++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        int64_t n = (stop ? stop : end) - at;
        if (n > 0 && at[n - 1] == '\r')
            n--;
        PLUMB_TRY(fn(arg, at, n, no));
        at = stop ? stop + 1 : end;
    }
    return PLUMB_OK;
}
