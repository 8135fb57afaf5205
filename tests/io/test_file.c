/* test_file.c - checks the reading of files and the atomic writing of files and folders, also on a
 * full disk. Test. Includes harness.h, io/. */
#include <stdbool.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"
#include "io/file.h"

static char root[4096];

static const char *in_root(const char *name)
{
    static char path[32][5000];
    static int turn;
    turn = (turn + 1) % 32;
    snprintf(path[turn], sizeof(path[turn]), "%s/%s", root, name);
    return path[turn];
}

static void holds(const char *path, const char *want)
{
    struct plumb_buf b = {0};
    CHECK_OK(plumb_file_read(&b, path));
    CHECKF(b.len == (int64_t)strlen(want) && !strcmp(plumb_buf_text(&b), want), "%s %lld: %s", path,
           (long long)b.len, plumb_buf_text(&b));
    plumb_buf_fini(&b);
}

static void says(const char *part)
{
    CHECKF(strstr(plumb_trail_message(), part), "'%s' does not say '%s'", plumb_trail_message(),
           part);
}

static void test_write_and_copy(void)
{
    const char *path = in_root("a.txt");
    CHECK(!plumb_file_exists(path));
    CHECK_OK(plumb_file_write_atomic(path, "one\n", 4));
    CHECK(plumb_file_exists(path) && !plumb_dir_exists(path));
    CHECK_OK(plumb_file_write_atomic(path, "two", 3));
    holds(path, "two");
    CHECK(!plumb_file_exists(in_root("a.txt.tmp")));
    CHECK_OK(plumb_file_copy(path, in_root("b.txt")));
    holds(in_root("b.txt"), "two");
    CHECK_OK(plumb_file_write_atomic(in_root("empty"), NULL, 0));
    holds(in_root("empty"), "");
    CHECK(plumb_file_copy(in_root("absent"), path) == PLUMB_ERR_IO);
    says("absent");
    holds(path, "two");
    CHECK(plumb_file_write_atomic(in_root("no/such/dir/x"), "x", 1) == PLUMB_ERR_IO);
    says("No such file");
    /* A link with the name of the temporary file is not followed. The permissions of the written
     * file do not change. */
    struct stat s;
    CHECK_OK(plumb_file_write_atomic(in_root("target"), "target", 6));
    CHECK(symlink("target", in_root("a.txt.tmp")) == 0 && chmod(path, 0640) == 0);
    CHECK_OK(plumb_file_write_atomic(path, "two", 3));
    holds(in_root("target"), "target");
    CHECK(stat(path, &s) == 0 && (s.st_mode & 0777) == 0640);
    struct plumb_buf b = {0};
    CHECK(plumb_file_read(&b, root) == PLUMB_ERR_IO);
    says("is a folder");
    plumb_buf_fini(&b);
    FILE *f = fopen(in_root("log"), "w");
    CHECK(f);
    CHECK_OK(plumb_file_append_line(f, "log", "x"));
    CHECK_OK(plumb_file_append_line(f, "log", "y"));
    holds(in_root("log"), "x\ny\n");
    fclose(f);
}

static void test_hash(void)
{
    /* The XXH3 hash of the empty input with seed 0, from xxHash/tests/sanity_test_vectors.h. */
    CHECK(plumb_hash("", 0, 0) == 0x2D06800538D394C2ull);
    const char *path = in_root("hash.bin");
    enum { N = 3 << 20 };
    char *bytes = malloc(N);
    CHECK(bytes);
    for (int i = 0; i < N; i++)
        bytes[i] = (char)(i * 2654435761u >> 13);
    CHECK_OK(plumb_file_write_atomic(path, bytes, N));
    uint64_t a, b;
    CHECK_OK(plumb_file_hash(&a, path));
    CHECK(a == plumb_hash(bytes, N, 0));
    CHECK(a != plumb_hash(bytes, N, 1));
    bytes[N - 1] ^= 1;
    CHECK_OK(plumb_file_write_atomic(path, bytes, N));
    CHECK_OK(plumb_file_hash(&b, path));
    CHECK(a != b);
    CHECK(plumb_file_hash(&b, in_root("absent")) == PLUMB_ERR_IO);
    free(bytes);
}

struct lines {
    struct plumb_buf all;
    int64_t stop_at;
};

static plumb_status take_line(void *arg, const char *line, int64_t len, int64_t no)
{
    struct lines *l = arg;
    PLUMB_REQUIRE(no != l->stop_at, PLUMB_ERR_FORMAT, "stopped at %lld", (long long)no);
    PLUMB_TRY(plumb_buf_addf(&l->all, "%lld:%lld:%s|", (long long)no, (long long)len, line));
    return PLUMB_OK;
}

static void test_lines(void)
{
    const char *path = in_root("lines");
    static const struct {
        const char *text, *want;
    } c[] = {{"", ""},
             {"a", "1:1:a|"},
             {"a\n", "1:1:a|"},
             {"a\r\nbc\n\n\nd", "1:1:a|2:2:bc|3:0:|4:0:|5:1:d|"}};
    for (int i = 0; i < 4; i++) {
        struct lines l = {.stop_at = -1};
        CHECK_OK(plumb_file_write_atomic(path, c[i].text, (int64_t)strlen(c[i].text)));
        CHECK_OK(plumb_file_lines(path, take_line, &l));
        CHECKF(!strcmp(plumb_buf_text(&l.all), c[i].want), "%s", plumb_buf_text(&l.all));
        plumb_buf_fini(&l.all);
    }
    struct lines l = {.stop_at = 3};
    CHECK(plumb_file_lines(path, take_line, &l) == PLUMB_ERR_FORMAT);
    says("stopped at 3");
    CHECK(!strcmp(plumb_buf_text(&l.all), "1:1:a|2:2:bc|"));
    plumb_buf_fini(&l.all);
    CHECK(plumb_file_lines(in_root("absent"), take_line, &l) == PLUMB_ERR_IO);
    CHECK(plumb_file_lines(root, take_line, &l) == PLUMB_ERR_IO);
}

static void test_dirs(void)
{
    CHECK_OK(plumb_dir_create(in_root("d/e//f/")));
    CHECK_OK(plumb_dir_create(in_root("d/e/f")));
    CHECK(plumb_dir_exists(in_root("d/e/f")));
    CHECK_OK(plumb_file_write_atomic(in_root("d/z"), "z", 1));
    CHECK_OK(plumb_file_write_atomic(in_root("d/B"), "B", 1));
    CHECK(plumb_dir_create(in_root("d/z/q")) == PLUMB_ERR_IO);
    says("d/z");
    CHECK(plumb_dir_create("") == PLUMB_ERR_ARG);
    struct plumb_names n;
    CHECK_OK(plumb_dir_list(&n, in_root("d")));
    CHECK(n.n == 3 && !strcmp(n.name[0], "B") && !strcmp(n.name[1], "e") &&
          !strcmp(n.name[2], "z"));
    plumb_names_fini(&n);
    CHECK(plumb_dir_list(&n, in_root("absent")) == PLUMB_ERR_IO);

    CHECK_OK(plumb_dir_publish(in_root("d"), in_root("p")));
    CHECK(!plumb_dir_exists(in_root("d")));
    holds(in_root("p/z"), "z");
    CHECK_OK(plumb_dir_create(in_root("d2")));
    CHECK(plumb_dir_publish(in_root("d2"), in_root("p")) == PLUMB_ERR_EXISTS);
    holds(in_root("p/z"), "z");

    /* A link inside a removed folder is removed, but not the folder to which it points. */
    CHECK_OK(plumb_file_write_atomic(in_root("keep"), "k", 1));
    CHECK(symlink(root, in_root("p/e/up")) == 0);
    CHECK_OK(plumb_dir_remove(in_root("p")));
    CHECK(!plumb_dir_exists(in_root("p")));
    holds(in_root("keep"), "k");
    CHECK_OK(plumb_dir_remove(in_root("p")));
    CHECK(plumb_dir_remove(in_root("keep")) == PLUMB_ERR_ARG);
    holds(in_root("keep"), "k");
}

static void test_paths(void)
{
    char p[8];
    CHECK_OK(plumb_path_join(p, sizeof(p), "ab", "cdef"));
    CHECK(!strcmp(p, "ab/cdef"));
    CHECK_OK(plumb_path_join(p, sizeof(p), "ab/", "cdef"));
    CHECK(!strcmp(p, "ab/cdef"));
    CHECK(plumb_path_join(p, sizeof(p), "abc", "cdef") == PLUMB_ERR_ARG);
}

/* Checks a write that does not fit on a file system of 256 KiB. The message names the cause, the
 * old file does not change, and no temporary file is left. */
static bool test_full_disk(void)
{
    const char *small = in_root("small");
    CHECK_OK(plumb_dir_create(small));
    if (mount("tmpfs", small, "tmpfs", 0, "size=256k") != 0) {
        printf("skipped: the full disk test may not mount a small tmpfs here\n");
        return false;
    }
    enum { N = 1 << 20 };
    char *bytes = calloc(1, N);
    CHECK(bytes);
    const char *path = in_root("small/model");
    const plumb_status first = plumb_file_write_atomic(path, "old", 3);
    const plumb_status full = plumb_file_write_atomic(path, bytes, N);
    const bool named = strstr(plumb_trail_message(), "No space left") &&
                       strstr(plumb_trail_message(), "small/model");
    const bool clean = !plumb_file_exists(in_root("small/model.tmp"));
    const plumb_status put = plumb_file_write_atomic(in_root("big"), bytes, N);
    const plumb_status copied = plumb_file_copy(in_root("big"), path);
    const bool clean_copy = !plumb_file_exists(in_root("small/model.tmp"));
    struct plumb_buf b = {0};
    const plumb_status got = plumb_file_read(&b, path);
    free(bytes);
    CHECK(umount(small) == 0);
    CHECK(first == PLUMB_OK && full == PLUMB_ERR_IO && named && clean);
    CHECK(put == PLUMB_OK && copied == PLUMB_ERR_IO && clean_copy);
    CHECK(got == PLUMB_OK && !strcmp(plumb_buf_text(&b), "old"));
    plumb_buf_fini(&b);
    return true;
}

int main(void)
{
    const char *base = getenv("TMPDIR");
    snprintf(root, sizeof(root), "%s/plumb_test_file_XXXXXX", base ? base : "/tmp");
    CHECK(mkdtemp(root));
    test_write_and_copy();
    test_hash();
    test_lines();
    test_dirs();
    test_paths();
    const bool full = test_full_disk();
    CHECK_OK(plumb_dir_remove(root));
    return full ? 0 : SKIP;
}
