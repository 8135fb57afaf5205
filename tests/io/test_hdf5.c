/* test_hdf5.c - checks that plumb reads back the HDF5 files that it wrote, and refuses damaged
 * files and files of other programs.
 * Test. Includes harness.h, io/, hdf5. */
#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"
#include "io/file.h"
#include "io/hdf5.h"

/* Replaces flock, which the HDF5 library calls. This one fails, as on a file system without
 * locks. */
int flock(int fd, int operation);
int flock(int fd, int operation)
{
    (void)fd, (void)operation;
    errno = ENOLCK;
    return -1;
}

static char root[4096];

static const char *in_root(const char *name)
{
    static char path[16][5000];
    static int turn;
    turn = (turn + 1) % 16;
    snprintf(path[turn], sizeof(path[turn]), "%s/%s", root, name);
    return path[turn];
}

static void test_round_trip(void)
{
    const int64_t ids[4] = {1, -2, INT64_MAX, INT64_MIN};
    const float x[3] = {1.5f, -0.0f, 1e-40f};
    int64_t n = 0, got[4] = {0}, i = 0;
    uint64_t u = 0;
    double d = 0;
    float y[2] = {0};
    char text[16];
    plumb_h5 *f;
    CHECK_OK(plumb_h5_create(&f, in_root("a.h5")));
    CHECK_OK(plumb_h5_put(f, "ids", PLUMB_H5_I64, 4, ids));
    CHECK_OK(plumb_h5_put(f, "group/x", PLUMB_H5_F32, 3, x));
    CHECK_OK(plumb_h5_put(f, "none", PLUMB_H5_U8, 0, NULL));
    CHECK_OK(plumb_h5_put_attr_i64(f, "i", -7));
    CHECK_OK(plumb_h5_put_attr_u64(f, "u", UINT64_MAX));
    CHECK_OK(plumb_h5_put_attr_f64(f, "d", 0.1));
    CHECK_OK(plumb_h5_put_attr_text(f, "text", "caf\xc3\xa9"));
    CHECK_OK(plumb_h5_commit(&f));
    CHECK_OK(plumb_h5_open(&f, in_root("a.h5")));
    CHECK(plumb_h5_has(f, "ids") && plumb_h5_has(f, "group/x") && !plumb_h5_has(f, "group/y"));
    CHECK_OK(plumb_h5_count(f, "ids", &n));
    CHECK_OK(plumb_h5_read(f, "ids", PLUMB_H5_I64, 0, 4, got));
    CHECK(n == 4 && memcmp(got, ids, sizeof(ids)) == 0);
    CHECK_OK(plumb_h5_read(f, "group/x", PLUMB_H5_F32, 1, 2, y));
    CHECK(memcmp(y, x + 1, sizeof(y)) == 0);
    CHECK_OK(plumb_h5_read(f, "none", PLUMB_H5_U8, 0, 0, NULL));
    CHECK_OK(plumb_h5_get_attr_i64(f, "i", &i));
    CHECK_OK(plumb_h5_get_attr_u64(f, "u", &u));
    CHECK_OK(plumb_h5_get_attr_f64(f, "d", &d));
    CHECK_OK(plumb_h5_get_attr_text(f, "text", text, sizeof(text)));
    CHECK(i == -7 && u == UINT64_MAX && d == 0.1 && strcmp(text, "caf\xc3\xa9") == 0);
    CHECK_FAILS(plumb_h5_get_attr_text(f, "text", text, 6), PLUMB_ERR_FORMAT, "at most 5 bytes");
    CHECK_FAILS(plumb_h5_read(f, "ids", PLUMB_H5_I64, 1, 4, got), PLUMB_ERR_FORMAT, "has 4 values");
    CHECK_FAILS(plumb_h5_read(f, "ids", PLUMB_H5_I64, INT64_MAX, 4, got), PLUMB_ERR_FORMAT,
                "has 4 values");
    CHECK_FAILS(plumb_h5_read(f, "ids", PLUMB_H5_U64, 0, 4, got), PLUMB_ERR_FORMAT,
                "8-byte signed integers, expected 8-byte unsigned");
    CHECK_FAILS(plumb_h5_read(f, "ids", PLUMB_H5_F64, 0, 4, got), PLUMB_ERR_FORMAT, "8-byte reals");
    CHECK_FAILS(plumb_h5_read(f, "group", PLUMB_H5_F64, 0, 1, got), PLUMB_ERR_FORMAT,
                "not an array");
    CHECK_FAILS(plumb_h5_read(f, "x", PLUMB_H5_F64, 0, 1, got), PLUMB_ERR_FORMAT, "no array \"x\"");
    plumb_h5_close(&f);
}

/* ---- files of other programs ------------- */

/* Creates a file with the HDF5 library and its default driver. */
static hid_t make(const char *name)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    hid_t file;
    CHECK(access >= 0 && H5Pset_file_locking(access, false, true) >= 0 &&
          H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_LATEST) >= 0);
    CHECK((file = H5Fcreate(in_root(name), H5F_ACC_TRUNC, H5P_DEFAULT, access)) >= 0);
    H5Pclose(access);
    return file;
}

static void done(hid_t file)
{
    CHECK(H5Fclose(file) >= 0);
}

static void put_attr(hid_t file, const char *name, hid_t type, int rank, const hsize_t *dim,
                     const void *v)
{
    hid_t space = rank < 0    ? H5Screate(H5S_NULL)
                  : rank == 0 ? H5Screate(H5S_SCALAR)
                              : H5Screate_simple(rank, dim, NULL);
    hid_t attr = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    CHECK(attr >= 0 && (rank < 0 || H5Awrite(attr, type, v) >= 0));
    H5Aclose(attr);
    H5Sclose(space);
}

/* Checks attributes that are not a single value. An earlier version wrote all values of such an
 * attribute into a variable for one value. */
static void test_attributes(void)
{
    static int64_t many[1000];
    const hsize_t thousand = 1000, one = 1, none = 0;
    const char *words[1000];
    const float narrow = 1;
    int64_t i = 0;
    double d = 0;
    char text[64];
    plumb_h5 *f;
    for (int k = 0; k < 1000; k++)
        words[k] = "word";
    hid_t file = make("attr.h5");
    hid_t variable = H5Tcopy(H5T_C_S1), fixed = H5Tcopy(H5T_C_S1);
    H5Tset_size(variable, H5T_VARIABLE);
    H5Tset_size(fixed, 8);
    put_attr(file, "many", H5T_NATIVE_INT64, 1, &thousand, many);
    put_attr(file, "list of one", H5T_NATIVE_INT64, 1, &one, many);
    put_attr(file, "none", H5T_NATIVE_INT64, 1, &none, many);
    put_attr(file, "null", H5T_NATIVE_INT64, -1, NULL, NULL);
    put_attr(file, "unsigned", H5T_NATIVE_UINT64, 0, NULL, many);
    put_attr(file, "narrow", H5T_NATIVE_INT32, 0, NULL, many);
    put_attr(file, "real", H5T_NATIVE_FLOAT, 0, NULL, &narrow);
    put_attr(file, "variable", variable, 0, NULL, words);
    put_attr(file, "variables", variable, 1, &thousand, words);
    put_attr(file, "texts", fixed, 1, &thousand, many);
    put_attr(file, "text", fixed, 0, NULL, "12345678");
    H5Tclose(variable);
    H5Tclose(fixed);
    done(file);
    CHECK_OK(plumb_h5_open(&f, in_root("attr.h5")));
    CHECK_FAILS(plumb_h5_get_attr_i64(f, "many", &i), PLUMB_ERR_FORMAT, "\"many\" has 1000 values");
    CHECK_OK(plumb_h5_get_attr_i64(f, "list of one", &i));
    CHECK_FAILS(plumb_h5_get_attr_i64(f, "none", &i), PLUMB_ERR_FORMAT, "has 0 values");
    CHECK_FAILS(plumb_h5_get_attr_i64(f, "null", &i), PLUMB_ERR_FORMAT, "has 0 values");
    CHECK_FAILS(plumb_h5_get_attr_i64(f, "unsigned", &i), PLUMB_ERR_FORMAT, "unsigned integers");
    CHECK_FAILS(plumb_h5_get_attr_i64(f, "narrow", &i), PLUMB_ERR_FORMAT, "4-byte signed");
    CHECK_FAILS(plumb_h5_get_attr_i64(f, "text", &i), PLUMB_ERR_FORMAT, "strings of 8 bytes");
    CHECK_FAILS(plumb_h5_get_attr_i64(f, "absent", &i), PLUMB_ERR_FORMAT, "no attribute");
    CHECK_FAILS(plumb_h5_get_attr_f64(f, "real", &d), PLUMB_ERR_FORMAT, "4-byte reals");
    CHECK_FAILS(plumb_h5_get_attr_text(f, "variable", text, sizeof(text)), PLUMB_ERR_FORMAT,
                "variable length");
    CHECK_FAILS(plumb_h5_get_attr_text(f, "variables", text, sizeof(text)), PLUMB_ERR_FORMAT,
                "has 1000 values");
    CHECK_FAILS(plumb_h5_get_attr_text(f, "texts", text, sizeof(text)), PLUMB_ERR_FORMAT,
                "has 1000 values");
    CHECK_FAILS(plumb_h5_get_attr_text(f, "many", text, sizeof(text)), PLUMB_ERR_FORMAT,
                "has 1000 values");
    CHECK_FAILS(plumb_h5_get_attr_text(f, "text", text, 8), PLUMB_ERR_FORMAT, "at most 7 bytes");
    CHECK_OK(plumb_h5_get_attr_text(f, "text", text, 9));
    CHECK(strcmp(text, "12345678") == 0);
    plumb_h5_close(&f);
}

static void put_set(hid_t file, const char *name, hid_t type, int rank, const hsize_t *dim,
                    hid_t create, const void *v)
{
    hid_t space = rank == 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(rank, dim, NULL);
    hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, create, H5P_DEFAULT);
    CHECKF(set >= 0, "%s", name);
    CHECK(!v || H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, v) >= 0);
    H5Dclose(set);
    H5Sclose(space);
}

static hid_t creation(int chunk, int deflate)
{
    const hsize_t dim = (hsize_t)chunk;
    hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    CHECK(list >= 0 && (!chunk || H5Pset_chunk(list, 1, &dim) >= 0) &&
          (!deflate || H5Pset_deflate(list, 1) >= 0));
    return list;
}

static void refused(const plumb_h5 *f, const char *name, plumb_status code, const char *says)
{
    static char out[65536];
    int64_t n = 0;
    const plumb_status st = plumb_h5_count(f, name, &n);
    if (st == PLUMB_OK)
        CHECK_FAILS(plumb_h5_read(f, name, PLUMB_H5_I64, 0, n < 4 ? n : 4, out), code, says);
    else
        CHECKF(st == code && strstr(plumb_trail_message(), says), "%s: %s", name,
               plumb_trail_message());
}

/* Checks arrays without storage, arrays with storage in another file, and links. plumb must follow
 * none of them and must not allocate memory for their size. */
static void test_arrays(void)
{
    static const int64_t values[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    const hsize_t eight = 8, square[2] = {2, 4}, huge = (hsize_t)1 << 45, wraps = (hsize_t)1 << 61;
    const plumb_status format = PLUMB_ERR_FORMAT, other = PLUMB_ERR_UNSUPPORTED;
    plumb_h5 *f;
    CHECK_OK(plumb_file_write_atomic(in_root("raw"), values, sizeof(values)));
    hid_t file = make("arrays.h5");
    hid_t chunked = creation(4, 0), packed = creation(4, 1), outside = creation(0, 0);
    CHECK(H5Pset_external(outside, in_root("raw"), 0, H5F_UNLIMITED) >= 0);
    put_set(file, "good", H5T_STD_I64LE, 1, &eight, H5P_DEFAULT, values);
    put_set(file, "big-endian", H5T_STD_I64BE, 1, &eight, H5P_DEFAULT, NULL);
    put_set(file, "square", H5T_STD_I64LE, 2, square, H5P_DEFAULT, values);
    put_set(file, "scalar", H5T_STD_I64LE, 0, NULL, H5P_DEFAULT, values);
    put_set(file, "unwritten", H5T_STD_I64LE, 1, &eight, H5P_DEFAULT, NULL);
    put_set(file, "huge", H5T_STD_I64LE, 1, &huge, chunked, NULL);
    put_set(file, "wraps", H5T_STD_I8LE, 1, &wraps, chunked, NULL);
    put_set(file, "chunked", H5T_STD_I64LE, 1, &eight, chunked, values);
    put_set(file, "packed", H5T_STD_I64LE, 1, &eight, packed, values);
    put_set(file, "outside", H5T_STD_I64LE, 1, &eight, outside, NULL);
    put_set(file, "reals", H5T_IEEE_F64LE, 1, &eight, H5P_DEFAULT, values);
    H5Gclose(H5Gcreate2(file, "group", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    CHECK(H5Lcreate_soft("/good", file, "soft", H5P_DEFAULT, H5P_DEFAULT) >= 0);
    CHECK(H5Lcreate_soft("/soft2", file, "soft2", H5P_DEFAULT, H5P_DEFAULT) >= 0);
    CHECK(H5Lcreate_external(in_root("a.h5"), "/ids", file, "elsewhere", H5P_DEFAULT,
                             H5P_DEFAULT) >= 0);
    H5Pclose(chunked);
    H5Pclose(packed);
    H5Pclose(outside);
    done(file);
    CHECK_OK(plumb_h5_open(&f, in_root("arrays.h5")));
    int64_t got[8];
    CHECK_OK(plumb_h5_read(f, "good", PLUMB_H5_I64, 0, 8, got));
    CHECK(memcmp(got, values, sizeof(got)) == 0);
    refused(f, "square", format, "has 2 dimensions");
    refused(f, "scalar", format, "has 0 dimensions");
    refused(f, "unwritten", format, "wrote none");
    refused(f, "huge", other, "stored in chunks");
    refused(f, "wraps", format, "more than any file can hold");
    refused(f, "chunked", other, "stored in chunks");
    refused(f, "packed", other, "compressed");
    refused(f, "outside", other, "another file (external storage)");
    refused(f, "reals", format, "8-byte reals, expected 8-byte signed");
    refused(f, "group", format, "not an array");
    refused(f, "group/x", format, "no array");
    refused(f, "soft", other, "is a link");
    refused(f, "soft2", other, "is a link");
    refused(f, "elsewhere", other, "is a link");
    plumb_h5_close(&f);
}

static void put_virtual(hid_t file, const char *name, const char *source, const char *array,
                        hsize_t n, hsize_t covered)
{
    hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    hid_t here = H5Screate_simple(1, &n, NULL), there = H5Screate_simple(1, &covered, NULL);
    const hsize_t zero = 0;
    CHECK(H5Sselect_hyperslab(here, H5S_SELECT_SET, &zero, NULL, &covered, NULL) >= 0);
    CHECK(H5Sselect_hyperslab(there, H5S_SELECT_SET, &zero, NULL, &covered, NULL) >= 0);
    CHECKF(H5Pset_virtual(list, here, source, array, there) >= 0, "%s", name);
    put_set(file, name, H5T_STD_I64LE, 1, &n, list, NULL);
    H5Sclose(here);
    H5Sclose(there);
    H5Pclose(list);
}

/* Checks virtual arrays: complete ones; ones with missing parts, for which the HDF5 library alone
 * would read zeros; and ones that plumb refuses, such as arrays with parts in another folder. */
static void test_virtual(void)
{
    const plumb_status format = PLUMB_ERR_FORMAT, other = PLUMB_ERR_UNSUPPORTED;
    const struct plumb_h5_part part[2] = {{"a.h5", 4, 2, 2, 0}, {"a.h5", 4, 0, 2, 2}};
    int64_t got[4];
    plumb_h5 *f;
    CHECK_OK(plumb_h5_create(&f, in_root("master.h5")));
    CHECK_OK(plumb_h5_put_virtual(f, "ids", PLUMB_H5_I64, 4, part, 2));
    CHECK_OK(plumb_h5_commit(&f));
    CHECK_OK(plumb_h5_open(&f, in_root("master.h5")));
    CHECK_OK(plumb_h5_read(f, "ids", PLUMB_H5_I64, 0, 4, got));
    CHECK(got[0] == INT64_MAX && got[1] == INT64_MIN && got[2] == 1 && got[3] == -2);
    CHECK_OK(plumb_h5_read(f, "ids", PLUMB_H5_I64, 1, 2, got));
    CHECK(got[0] == INT64_MIN && got[1] == 1);
    plumb_h5_close(&f);

    hid_t file = make("virtual.h5");
    put_virtual(file, "ids", "absent.h5", "ids", 4, 4);
    put_virtual(file, "renamed", "a.h5", "nothing", 4, 4);
    put_virtual(file, "short", "a.h5", "ids", 9, 9);
    put_virtual(file, "hole", "a.h5", "ids", 9, 4);
    put_virtual(file, "upwards", "../a.h5", "ids", 4, 4);
    put_virtual(file, "absolute", in_root("a.h5"), "ids", 4, 4);
    put_virtual(file, "own", ".", "ids", 4, 4);
    put_virtual(file, "circle", "virtual.h5", "circle", 4, 4);
    put_virtual(file, "nested", "master.h5", "ids", 4, 4);
    put_virtual(file, "text", "raw", "ids", 4, 4);
    done(file);
    CHECK_OK(plumb_h5_open(&f, in_root("virtual.h5")));
    refused(f, "ids", PLUMB_ERR_IO, "absent.h5");
    refused(f, "renamed", format, "no array \"nothing\"");
    refused(f, "short", format, "refers to 9 values of it");
    CHECK_FAILS(plumb_h5_read(f, "hole", PLUMB_H5_I64, 2, 4, got), format, "hold 2 of 4");
    refused(f, "upwards", other, "expected a file in the same folder");
    refused(f, "absolute", other, "expected a file in the same folder");
    refused(f, "own", other, "expected a file in the same folder");
    refused(f, "circle", format, "is virtual");
    refused(f, "nested", format, "is virtual");
    refused(f, "text", format, "raw: is");
    plumb_h5_close(&f);
}

/* ---- files that are damaged, or change while they are open ---- */

static void test_damage(void)
{
    const char *path = in_root("cut.h5");
    float big[4096] = {1}, back[4096];
    struct stat info;
    plumb_h5 *f = NULL;
    CHECK_OK(plumb_h5_create(&f, path));
    CHECK_OK(plumb_h5_put(f, "x", PLUMB_H5_F32, 4096, big));
    CHECK_OK(plumb_h5_commit(&f));
    CHECK_OK(plumb_h5_open(&f, path));
    CHECK(stat(path, &info) == 0 && truncate(path, info.st_size - 8192) == 0);
    CHECK_FAILS(plumb_h5_read(f, "x", PLUMB_H5_F32, 0, 4096, back), PLUMB_ERR_IO,
                "became shorter while it was read");
    CHECK(strstr(plumb_trail_message(), "cut.h5"));
    plumb_h5_close(&f);
    for (off_t n = info.st_size - 8192; n >= 0; n = n > 600 ? n / 2 : n - 1) {
        CHECK(truncate(path, n) == 0);
        const plumb_status st = plumb_h5_open(&f, path);
        CHECKF(st == PLUMB_ERR_FORMAT || st == PLUMB_ERR_IO, "%lld bytes: %d", (long long)n, st);
        CHECK(f == NULL && strstr(plumb_trail_message(), "cut.h5"));
    }
    CHECK_FAILS(plumb_h5_open(&f, in_root("raw")), PLUMB_ERR_FORMAT, "expected an HDF5 file");
    CHECK_FAILS(plumb_h5_open(&f, root), PLUMB_ERR_IO, "is a folder");
    CHECK(mkfifo(in_root("fifo"), 0600) == 0);
    CHECK_FAILS(plumb_h5_open(&f, in_root("fifo")), PLUMB_ERR_IO, "is a named pipe");
    CHECK_FAILS(plumb_h5_open(&f, in_root("absent")), PLUMB_ERR_IO, "No such file");
}

int main(void)
{
    const char *base = getenv("TMPDIR");
    snprintf(root, sizeof(root), "%s/plumb_test_h5_XXXXXX", base ? base : "/tmp");
    CHECK(mkdtemp(root));
    test_round_trip();
    test_attributes();
    test_arrays();
    test_virtual();
    test_damage();
    CHECK_OK(plumb_dir_remove(root));
    return 0;
}
