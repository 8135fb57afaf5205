/* test_kind.c - checks the detection of file kinds. The readers of JSON, YAML, texts, lines and
 * safetensors must name the kind of a file that they refuse, also of folders and FIFOs.
 * Test. Includes harness.h, io/. */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"
#include "io/file.h"
#include "io/json.h"
#include "io/kind.h"
#include "io/safetensors.h"
#include "io/yaml.h"

static char root[64] = "/tmp/plumb_test_kind_XXXXXX";

static const char *path_of(const char *name)
{
    static char path[8][128];
    static int turn;
    turn = (turn + 1) % 8;
    snprintf(path[turn], sizeof(path[turn]), "%s/%s", root, name);
    return path[turn];
}

#define HEAD(text) text, sizeof(text) - 1
static const struct {
    enum plumb_file_kind kind;
    const char *bytes;
    size_t n;
    const char *said; /* part of the message of the JSON reader; NULL if the kind is text */
} heads[] = {
    {PLUMB_FILE_TEXT, HEAD("model: x\n"), NULL},
    {PLUMB_FILE_TEXT, HEAD("GGUF is a file format, PAR1 and BZh are letters\n"), NULL},
    {PLUMB_FILE_TEXT, HEAD("\xef\xbb\xbf# caf\xc3\xa9\n"), NULL},
    {PLUMB_FILE_TEXT, HEAD("caf\xe9\n"), NULL},
    {PLUMB_FILE_TEXT, HEAD("\033[1mbold\033[0m\n"), NULL},
    {PLUMB_FILE_JSON, HEAD(" {\"a\": 1}\n"), NULL},
    {PLUMB_FILE_EMPTY, HEAD(""), NULL},
    {PLUMB_FILE_LFS_POINTER, HEAD("version https://git-lfs.github.com/spec/v1\noid sha256:0"),
     "Git LFS pointer"},
    {PLUMB_FILE_HTML, HEAD("\n<!DOCTYPE html>\n<html><body>404"), "HTML page"},
    {PLUMB_FILE_HTML, HEAD("<HTML>"), "HTML page"},
    {PLUMB_FILE_XML, HEAD("<?xml version=\"1.0\"?><Error><Code>AccessDenied"), "XML"},
    {PLUMB_FILE_UTF16, HEAD("\xff\xfe{\0\"\0a\0"), "UTF-16"},
    {PLUMB_FILE_UTF16, HEAD("\xfe\xff\0{\0\"\0a"), "UTF-16"},
    {PLUMB_FILE_UTF16, HEAD("{\0\"\0p\0r\0o\0m\0p\0t\0"), "UTF-16"},
    {PLUMB_FILE_UTF32, HEAD("\xff\xfe\0\0{\0\0\0"), "UTF-32"},
    {PLUMB_FILE_ZEROS, HEAD("\0\0\0\0\0\0\0\0\0\0\0\0"), "zero bytes"},
    {PLUMB_FILE_GZIP, HEAD("\x1f\x8b\x08\0\0\0\0\0\0\3"), "gunzip"},
    {PLUMB_FILE_ZSTD, HEAD("\x28\xb5\x2f\xfd\4\0"), "Zstandard"},
    {PLUMB_FILE_XZ,
     HEAD("\xfd"
          "7zXZ\0\0\4"),
     "xz-compressed"},
    {PLUMB_FILE_BZIP2, HEAD("BZh91AY&SY"), "bzip2"},
    {PLUMB_FILE_ZIP, HEAD("PK\3\4\24\0\0\0\0\0x.jsonl"), "zip archive"},
    {PLUMB_FILE_TORCH, HEAD("PK\3\4\0\0\10\10\0\0\0\0\0\0pytorch_model/data.pklFB"), "PyTorch"},
    {PLUMB_FILE_NPZ, HEAD("PK\3\4\24\0\0\0\0\0a.npy"), "NumPy"},
    {PLUMB_FILE_NPY, HEAD("\x93NUMPY\1\0"), "NumPy"},
    {PLUMB_FILE_PICKLE, HEAD("\x80\2\x8a\nl\xfc\x9c"), "pickle"},
    {PLUMB_FILE_PICKLE, HEAD("\x80\4\x95\20\0"), "pickle"},
    {PLUMB_FILE_GGUF, HEAD("GGUF\3\0\0\0"), "GGUF"},
    {PLUMB_FILE_PARQUET, HEAD("PAR1\x15\4\x15"), "Parquet"},
    {PLUMB_FILE_ARROW, HEAD("ARROW1\0\0\xff\xff\xff\xff"), "Arrow"},
    {PLUMB_FILE_ARROW, HEAD("\xff\xff\xff\xff\x70\1\0\0"), "Arrow"},
    {PLUMB_FILE_HDF5, HEAD("\x89HDF\r\n\x1a\n\0"), "HDF5"},
    {PLUMB_FILE_SAFETENSORS, HEAD("\x40\0\0\0\0\0\0\0{\"a\":{}}"), "safetensors"},
    {PLUMB_FILE_SQLITE, HEAD("SQLite format 3\0\20\0"), "SQLite"},
    {PLUMB_FILE_APPLE_DOUBLE, HEAD("\0\5\26\7\0\2\0\0"), "AppleDouble"},
    {PLUMB_FILE_BINARY, HEAD("\1\2\3\4\5\6\7\0\0\0\0\1\2\3"), NULL},
};
enum { HEADS = sizeof(heads) / sizeof(heads[0]) };

static void write_head(const char *path, int i)
{
    FILE *f = fopen(path, "w");
    CHECK(f && fwrite(heads[i].bytes, 1, heads[i].n, f) == heads[i].n && fclose(f) == 0);
}

static void test_heads(void)
{
    const char *path = path_of("head");
    for (int i = 0; i < HEADS; i++) {
        enum plumb_file_kind found = plumb_file_kind_of(heads[i].bytes, (int64_t)heads[i].n);
        CHECKF(found == heads[i].kind, "case %d is %s, expected %s", i, plumb_file_kind_name(found),
               plumb_file_kind_name(heads[i].kind));
        write_head(path, i);
        CHECK_OK(plumb_file_kind_at(&found, path));
        CHECKF(found == heads[i].kind, "case %d", i);
    }
    /* Every beginning of each head, in memory of exactly that size, so that a sanitizer finds a
     * read after its end. */
    for (int i = 0; i < HEADS; i++)
        for (size_t n = 0; n <= heads[i].n; n++) {
            char *copy = malloc(n + (n == 0));
            memcpy(copy, heads[i].bytes, n);
            (void)plumb_file_kind_of(copy, (int64_t)n);
            free(copy);
        }
    char tar[512] = "data.jsonl";
    memcpy(tar + 257, "ustar", 6);
    CHECK(plumb_file_kind_of(tar, sizeof(tar)) == PLUMB_FILE_TAR);
    unlink(path);
}

static plumb_status no_line(void *arg, const char *line, int64_t len, int64_t no)
{
    (void)arg, (void)line, (void)len, (void)no;
    return PLUMB_OK;
}

/* Checks that the readers of JSON, YAML, text, lines and safetensors name the kind of the file that
 * they refuse. */
static void test_readers(void)
{
    const char *path = path_of("x");
    for (int i = 0; i < HEADS; i++) {
        plumb_json *j = NULL;
        struct plumb_yaml *y = NULL;
        struct plumb_buf b = {0};
        plumb_st *s = NULL;
        write_head(path, i);
        if (heads[i].said) {
            CHECK_FAILS(plumb_json_read_file(&j, path), PLUMB_ERR_FORMAT, heads[i].said);
            CHECK(strstr(plumb_trail_message(), path));
            CHECK_FAILS(plumb_yaml_read_file(&y, path), PLUMB_ERR_FORMAT, heads[i].said);
            CHECK_FAILS(plumb_file_read_text(&b, path, "a text"), PLUMB_ERR_FORMAT, heads[i].said);
            /* The reader of lines accepts gzip, but this file has only the beginning of gzip
             * data. */
            CHECK_FAILS(plumb_file_lines(path, no_line, NULL), PLUMB_ERR_FORMAT,
                        heads[i].kind == PLUMB_FILE_GZIP ? "ends too early" : heads[i].said);
        }
        if (heads[i].kind != PLUMB_FILE_SAFETENSORS && heads[i].kind != PLUMB_FILE_BINARY)
            CHECK_FAILS(plumb_st_open(&s, path), PLUMB_ERR_FORMAT,
                        plumb_file_kind_name(heads[i].kind));
        plumb_buf_fini(&b);
    }
    unlink(path);
}

static void write_text(const char *path, const char *text)
{
    CHECK_OK(plumb_file_write_atomic(path, text, (int64_t)strlen(text)));
}

static void test_text(void)
{
    const char *path = path_of("text");
    struct plumb_buf b = {0};
    plumb_json *j = NULL;
    write_text(path, "\xef\xbb\xbf{\"a\": 1}");
    CHECK_OK(plumb_file_read_text(&b, path, "a text"));
    CHECK(b.len == 8 && b.data[0] == '{' && b.data[8] == '\0');
    CHECK_OK(plumb_json_read_file(&j, path));
    CHECK(plumb_json_int(plumb_json_get(j, "a"), 0) == 1);
    plumb_json_free(&j);
    write_text(path, "one\ncaf\xe9\n");
    CHECK_FAILS(plumb_file_read_text(&b, path, "a text"), PLUMB_ERR_FORMAT, ":2: byte 7 (0xe9)");
    CHECK_OK(plumb_file_write_atomic(path, "one\n\0", 5));
    CHECK_FAILS(plumb_file_read_text(&b, path, "a text"), PLUMB_ERR_FORMAT, ":2: a NUL byte");
    write_text(path, "");
    CHECK_OK(plumb_file_read_text(&b, path, "a text"));
    CHECK(b.len == 0);
    plumb_buf_fini(&b);
    unlink(path);
}

/* Checks that the readers refuse what is not a regular file. In particular, they must not wait for
 * a writer of a FIFO. */
static void test_no_regular_file(void)
{
    const char *fifo = path_of("fifo"), *link = path_of("link"), *dir = path_of("dir");
    struct plumb_buf b = {0};
    plumb_json *j = NULL;
    plumb_st *s = NULL;
    enum plumb_file_kind kind;
    uint64_t hash;
    CHECK(mkfifo(fifo, 0600) == 0 && symlink("nowhere", link) == 0 && mkdir(dir, 0700) == 0);
    CHECK_OK(plumb_file_kind_at(&kind, fifo));
    CHECK(kind == PLUMB_FILE_FIFO);
    CHECK_FAILS(plumb_json_read_file(&j, fifo), PLUMB_ERR_IO, "named pipe");
    CHECK_FAILS(plumb_file_lines(fifo, no_line, NULL), PLUMB_ERR_IO, "named pipe");
    CHECK_FAILS(plumb_file_hash(&hash, fifo), PLUMB_ERR_IO, "named pipe");
    CHECK_FAILS(plumb_file_copy(fifo, path_of("copy")), PLUMB_ERR_IO, "named pipe");
    CHECK_FAILS(plumb_st_open(&s, fifo), PLUMB_ERR_IO, "named pipe");
    CHECK_FAILS(plumb_json_read_file(&j, dir), PLUMB_ERR_IO, "is a folder");
    CHECK_FAILS(plumb_file_read(&b, dir), PLUMB_ERR_IO, "is a folder");
    CHECK_FAILS(plumb_file_lines(dir, no_line, NULL), PLUMB_ERR_IO, "is a folder");
    CHECK_FAILS(plumb_st_open(&s, dir), PLUMB_ERR_IO, "is a folder");
    CHECK_FAILS(plumb_json_read_file(&j, "/dev/zero"), PLUMB_ERR_IO, "is a device");
    CHECK_FAILS(plumb_json_read_file(&j, link), PLUMB_ERR_IO, "is a link to nowhere, which does");
    CHECK_FAILS(plumb_file_kind_at(&kind, link), PLUMB_ERR_IO, "is a link to nowhere");
    CHECK(unlink(fifo) == 0 && unlink(link) == 0 && rmdir(dir) == 0);
    plumb_buf_fini(&b);
}

int main(void)
{
    CHECK(mkdtemp(root));
    test_heads();
    test_readers();
    test_text();
    test_no_regular_file();
    CHECK_OK(plumb_dir_remove(root));
    return 0;
}
