/* kind.c - tells the kind of a file from its first bytes.
 * Layer 1. Includes kind.h, base/. */
#include "io/kind.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
    const char *name, *advice;
} kinds[PLUMB_FILE_KINDS] = {
#define X(id, name, advice) [PLUMB_FILE_##id] = {name, advice},
    PLUMB_FILE_KIND_LIST(X)
#undef X
};

/* The magic number of a kind of file: the n bytes that such files have at offset `at`. */
struct magic {
    enum plumb_file_kind kind;
    int at, n;
    const char *bytes;
};
#define MAGIC(kind, at, bytes)                                                                     \
    {                                                                                              \
        PLUMB_FILE_##kind, at, sizeof(bytes) - 1, bytes                                            \
    }
static const struct magic magics[] = {
    MAGIC(HDF5, 0, "\x89HDF\r\n\x1a\n"),
    MAGIC(LFS_POINTER, 0, "version https://git-lfs.github.com/"),
    MAGIC(LFS_POINTER, 0, "version https://hawser.github.com/"),
    MAGIC(UTF32, 0, "\xff\xfe\0\0"),
    MAGIC(UTF32, 0, "\0\0\xfe\xff"),
    MAGIC(UTF16, 0, "\xff\xfe"),
    MAGIC(UTF16, 0, "\xfe\xff"),
    MAGIC(GZIP, 0, "\x1f\x8b"),
    MAGIC(ZSTD, 0, "\x28\xb5\x2f\xfd"),
    MAGIC(XZ, 0,
          "\xfd"
          "7zXZ"),
    MAGIC(BZIP2, 4, "1AY&SY"),
    MAGIC(LZ4, 0, "\x04\x22\x4d\x18"),
    MAGIC(SEVEN_ZIP, 0, "7z\xbc\xaf\x27\x1c"),
    MAGIC(TAR, 257, "ustar\0"),
    MAGIC(TAR, 257, "ustar  \0"),
    MAGIC(NPY, 0, "\x93NUMPY"),
    MAGIC(GGUF, 0, "GGUF\1\0"),
    MAGIC(GGUF, 0, "GGUF\2\0"),
    MAGIC(GGUF, 0, "GGUF\3\0"),
    MAGIC(PARQUET, 0, "PAR1\x15"),
    MAGIC(ARROW, 0, "ARROW1\0"),
    MAGIC(SQLITE, 0, "SQLite format 3\0"),
    MAGIC(PDF, 0, "%PDF-"),
    MAGIC(IMAGE, 0, "\x89PNG"),
    MAGIC(IMAGE, 0, "\xff\xd8\xff"),
    MAGIC(IMAGE, 0, "GIF87a"),
    MAGIC(IMAGE, 0, "GIF89a"),
    MAGIC(ELF, 0,
          "\x7f"
          "ELF"),
    MAGIC(APPLE_DOUBLE, 0, "\0\x05\x16\x07"),
};

const char *plumb_file_kind_name(enum plumb_file_kind k)
{
    return kinds[k].name;
}

const char *plumb_file_kind_advice(enum plumb_file_kind k)
{
    return kinds[k].advice;
}

static bool holds(const char *head, int64_t n, const char *part)
{
    return head && n > 0 && memmem(head, (size_t)n, part, strlen(part)) != NULL;
}

/* Returns true if text begins with `word`, in upper or lower case. */
static bool begins(const char *text, int64_t n, const char *word)
{
    const size_t len = strlen(word);
    return n >= (int64_t)len && strncasecmp(text, word, len) == 0;
}

/* Returns true if the bytes look like safetensors: 8 bytes with a plausible length of the header,
 * then the first byte of the header, which is a JSON object. */
static bool is_safetensors(const unsigned char *b, int64_t n)
{
    uint64_t length = 0;
    if (n < 9 || b[8] != '{')
        return false;
    for (int i = 7; i >= 0; i--)
        length = length << 8 | b[i];
    return length >= 2 && length <= 100000000;
}

/* Returns true if the bytes look like an Arrow stream: ff ff ff ff, followed by the size of the
 * first message's metadata, a multiple of 8 below 2^24. */
static bool is_arrow_stream(const unsigned char *b, int64_t n)
{
    return n >= 8 && memcmp(b, "\xff\xff\xff\xff", 4) == 0 && b[4] % 8 == 0 && b[7] == 0;
}

/* Returns true if the bytes look like Latin text in UTF-16 without a byte order mark: of the first
 * 64 bytes, more than 3/4 of those at odd offsets are 0 and none at even offsets, or the
 * reverse. */
static bool is_wide_text(const unsigned char *b, int64_t n)
{
    int64_t zero[2] = {0, 0};
    const int64_t seen = (n < 64 ? n : 64) / 2;
    for (int64_t i = 0; i < 2 * seen; i++)
        zero[i % 2] += b[i] == 0;
    return seen >= 2 &&
           ((zero[0] == 0 && zero[1] > seen * 3 / 4) || (zero[1] == 0 && zero[0] > seen * 3 / 4));
}

/* Returns true if the bytes do not look like text. Text has no NUL bytes, at most 1/20 control
 * bytes other than white space, backspace and escape, and at most 1/4 bytes >= 0xf8, which never
 * occur in UTF-8. */
static bool is_binary(const unsigned char *b, int64_t n)
{
    int64_t odd = 0, high = 0;
    for (int64_t i = 0; i < n; i++) {
        if (b[i] == 0)
            return true;
        high += b[i] >= 0xf8;
        odd += b[i] < 0x20 && !strchr("\t\n\v\f\r\b\033", b[i]);
    }
    return odd * 20 > n || high * 4 > n;
}

static enum plumb_file_kind kind_of_zip(const char *head, int64_t n)
{
    if (holds(head, n, "data.pkl") || holds(head, n, "/version") || holds(head, n, ".format_ver"))
        return PLUMB_FILE_TORCH;
    return holds(head, n, ".npy") ? PLUMB_FILE_NPZ : PLUMB_FILE_ZIP;
}

static enum plumb_file_kind kind_of_text(const char *text, int64_t n)
{
    if (n >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) {
        text += 3;
        n -= 3;
    }
    while (n > 0 && strchr(" \t\r\n", *text) && *text) {
        text++;
        n--;
    }
    if (begins(text, n, "<!doctype html") || begins(text, n, "<html"))
        return PLUMB_FILE_HTML;
    if (begins(text, n, "<?xml"))
        return PLUMB_FILE_XML;
    return n > 0 && (*text == '{' || *text == '[') ? PLUMB_FILE_JSON : PLUMB_FILE_TEXT;
}

enum plumb_file_kind plumb_file_kind_of(const void *bytes, int64_t n)
{
    const unsigned char *b = bytes;
    const char *head = bytes;
    if (n == 0)
        return PLUMB_FILE_EMPTY;
    for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++) {
        const struct magic *m = &magics[i];
        if (n >= m->at + m->n && memcmp(head + m->at, m->bytes, (size_t)m->n) == 0)
            return m->kind;
    }
    if (n >= 4 && (memcmp(head, "PK\3\4", 4) == 0 || memcmp(head, "PK\5\6", 4) == 0))
        return kind_of_zip(head, n < PLUMB_FILE_HEAD ? n : PLUMB_FILE_HEAD);
    if (n >= 3 && b[0] == 0x80 && b[1] >= 2 && b[1] <= 5 && strchr("}]c(\x8a\x95X", b[2]) && b[2])
        return PLUMB_FILE_PICKLE;
    if (is_arrow_stream(b, n))
        return PLUMB_FILE_ARROW;
    if (is_safetensors(b, n))
        return PLUMB_FILE_SAFETENSORS;
    n = n < PLUMB_FILE_HEAD ? n : PLUMB_FILE_HEAD;
    int64_t zeros = 0;
    while (zeros < n && b[zeros] == 0)
        zeros++;
    if (zeros == n)
        return PLUMB_FILE_ZEROS;
    if (is_wide_text(b, n))
        return PLUMB_FILE_UTF16;
    return is_binary(b, n) ? PLUMB_FILE_BINARY : kind_of_text(head, n);
}

static enum plumb_file_kind kind_of_mode(mode_t mode)
{
    return S_ISDIR(mode)    ? PLUMB_FILE_FOLDER
           : S_ISFIFO(mode) ? PLUMB_FILE_FIFO
           : S_ISSOCK(mode) ? PLUMB_FILE_SOCKET
                            : PLUMB_FILE_DEVICE;
}

/* Calls stat. For a broken symbolic link the message names the target, because the system's own
 * text says only that the file does not exist. */
static plumb_status stat_or_explain(struct stat *s, const char *path)
{
    char target[PATH_MAX];
    if (stat(path, s) == 0)
        return PLUMB_OK;
    const int error = errno;
    const ssize_t n = error == ENOENT ? readlink(path, target, sizeof(target) - 1) : -1;
    if (n >= 0)
        target[n] = '\0';
    PLUMB_REQUIRE(n < 0, PLUMB_ERR_IO, "%s: is a link to %s, which does not exist", path, target);
    PLUMB_FAIL(PLUMB_ERR_IO, "%s: cannot open: %s", path, strerror(error));
}

static plumb_status refuse(plumb_status code, const char *path, enum plumb_file_kind found,
                           const char *wanted)
{
    const char *advice = kinds[found].advice;
    return plumb_fail_at(code, __FILE__, __LINE__, "%s: is %s, expected %s%s%s", path,
                         kinds[found].name, wanted, *advice ? "; " : "", advice);
}

/* Returns true if path names an open descriptor of this process, for example the pipe that a shell
 * creates for <(command). Opening such a pipe does not block, because its writer exists. */
static bool is_shell_pipe(const char *path)
{
    return strncmp(path, "/dev/fd/", 8) == 0 || strcmp(path, "/dev/stdin") == 0 ||
           strncmp(path, "/proc/self/fd/", 14) == 0;
}

plumb_status plumb_file_open(int *fd, const char *path, bool streams)
{
    struct stat s;
    *fd = -1;
    PLUMB_TRY(stat_or_explain(&s, path));
    const bool stream = !S_ISREG(s.st_mode) && !S_ISDIR(s.st_mode);
    if (!S_ISREG(s.st_mode) && !(stream && (streams || is_shell_pipe(path))))
        return refuse(PLUMB_ERR_IO, path, kind_of_mode(s.st_mode), "a regular file");
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    PLUMB_REQUIRE(*fd >= 0, PLUMB_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    return PLUMB_OK;
}

plumb_status plumb_file_kind_at(enum plumb_file_kind *out, const char *path)
{
    struct stat s;
    char head[PLUMB_FILE_HEAD];
    PLUMB_TRY(stat_or_explain(&s, path));
    *out = kind_of_mode(s.st_mode);
    if (!S_ISREG(s.st_mode))
        return PLUMB_OK;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    PLUMB_REQUIRE(fd >= 0, PLUMB_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    const ssize_t n = pread(fd, head, sizeof(head), 0);
    const int error = errno;
    close(fd);
    PLUMB_REQUIRE(n >= 0, PLUMB_ERR_IO, "%s: cannot read: %s", path, strerror(error));
    *out = plumb_file_kind_of(head, n);
    return PLUMB_OK;
}

plumb_status plumb_file_expect_text(const char *path, const char *wanted, const void *head,
                                    int64_t n)
{
    const enum plumb_file_kind found = plumb_file_kind_of(head, n);
    switch (found) {
    case PLUMB_FILE_TEXT:
    case PLUMB_FILE_JSON:
    case PLUMB_FILE_EMPTY:
        return PLUMB_OK;
    /* Binary data of an unknown kind is accepted, because the parser fails later with a message
     * that names the invalid byte and its line. */
    case PLUMB_FILE_BINARY:
        return PLUMB_OK;
    default:
        return refuse(PLUMB_ERR_FORMAT, path, found, wanted);
    }
}

plumb_status plumb_file_expect(const char *path, enum plumb_file_kind want)
{
    enum plumb_file_kind found;
    PLUMB_TRY(plumb_file_kind_at(&found, path));
    const bool regular = found != PLUMB_FILE_FOLDER && found != PLUMB_FILE_FIFO &&
                         found != PLUMB_FILE_SOCKET && found != PLUMB_FILE_DEVICE;
    if (found != want)
        return refuse(regular ? PLUMB_ERR_FORMAT : PLUMB_ERR_IO, path, found, kinds[want].name);
    return PLUMB_OK;
}
