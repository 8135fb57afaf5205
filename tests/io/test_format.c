/* test_format.c - checks that each file format accepts the versions in its line of the table
 * (io/format.h), and that the error about another version names this version. Test. Includes
 * harness.h, io/. */
#include <string.h>

#include "harness.h"
#include "io/file.h"
#include "io/format.h"

static char path[4200];

static const struct {
    const char *text, *key, *advice;
    int64_t oldest, newest;
} line[] = {
#define X(name, text, key, oldest, newest, advice) {text, key, advice, oldest, newest},
    PLUMB_FORMATS(X)
#undef X
};

/* Writes a file with these attributes. An attribute whose argument is NULL is left out. */
static void write_file(const char *text, const char *key, int64_t version, const char *writer)
{
    plumb_h5 *f;
    CHECK_OK(plumb_h5_create(&f, path));
    if (text)
        CHECK_OK(plumb_h5_put_attr_text(f, "format", text));
    if (key)
        CHECK_OK(plumb_h5_put_attr_i64(f, key, version));
    if (writer)
        CHECK_OK(plumb_h5_put_attr_text(f, "plumb_version", writer));
    CHECK_OK(plumb_h5_commit(&f));
}

static plumb_status get(int64_t *version, int format)
{
    plumb_h5 *f;
    CHECK_OK(plumb_h5_open(&f, path));
    const plumb_status st = plumb_format_get(version, f, (enum plumb_format)format);
    plumb_h5_close(&f);
    return st;
}

static void test_written_is_read(void)
{
    for (int i = 0; i < PLUMB_FORMATS_COUNT; i++) {
        char writer[64];
        int64_t version = -1;
        plumb_h5 *f;
        CHECK_OK(plumb_h5_create(&f, path));
        CHECK_OK(plumb_format_put(f, (enum plumb_format)i));
        CHECK_OK(plumb_h5_commit(&f));
        CHECK_OK(get(&version, i));
        CHECK(version == line[i].newest);
        CHECK_OK(plumb_h5_open(&f, path));
        CHECK_OK(plumb_h5_get_attr_text(f, "plumb_version", writer, sizeof(writer)));
        CHECK(strcmp(writer, PLUMB_VERSION) == 0);
        plumb_h5_close(&f);
    }
}

static void test_versions(void)
{
    for (int i = 0; i < PLUMB_FORMATS_COUNT; i++)
        for (int64_t v = line[i].oldest - 1; v <= line[i].newest + 1; v++) {
            int64_t version = -1;
            write_file(line[i].text, line[i].key, v, "9.8.7");
            if (v >= line[i].oldest && v <= line[i].newest) {
                CHECK_OK(get(&version, i));
                CHECK(version == v);
                continue;
            }
            CHECK_FAILS(get(&version, i), PLUMB_ERR_UNSUPPORTED, line[i].text);
            CHECK_FAILS(get(NULL, i), PLUMB_ERR_UNSUPPORTED, "written by plumb 9.8.7");
            CHECK_FAILS(get(NULL, i), PLUMB_ERR_UNSUPPORTED, line[i].advice);
            CHECK_FAILS(get(NULL, i), PLUMB_ERR_UNSUPPORTED, path);
            write_file(line[i].text, line[i].key, v, NULL);
            CHECK_FAILS(get(NULL, i), PLUMB_ERR_UNSUPPORTED, "a version before 0.2");
        }
}

static void test_other_files(void)
{
    for (int i = 0; i < PLUMB_FORMATS_COUNT; i++) {
        int64_t version = -1;
        write_file("something else", line[i].key, line[i].newest, NULL);
        CHECK_FAILS(get(NULL, i), PLUMB_ERR_FORMAT, "something else");
        write_file(line[i].text, NULL, 0, NULL);
        CHECK_FAILS(get(NULL, i), PLUMB_ERR_FORMAT, line[i].key);
        write_file(NULL, line[i].key, line[i].newest, NULL);
        if (i == PLUMB_FORMAT_ROLLOUTS) {
            CHECK_OK(get(&version, i));
            CHECK(version == line[i].newest);
        } else {
            CHECK_FAILS(get(NULL, i), PLUMB_ERR_FORMAT, "format");
        }
    }
}

int main(void)
{
    char root[4096];
    const char *base = getenv("TMPDIR");
    snprintf(root, sizeof(root), "%s/plumb_test_format_XXXXXX", base ? base : "/tmp");
    CHECK(mkdtemp(root));
    snprintf(path, sizeof(path), "%s/a.h5", root);
    test_written_is_read();
    test_versions();
    test_other_files();
    CHECK_OK(plumb_dir_remove(root));
    return 0;
}
