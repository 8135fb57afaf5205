/* hdf5_read.c - reads HDF5 files and checks every number in them before using it.
 * Layer 1. Includes hdf5_impl.h, hdf5_driver.h, kind.h, base/.
 *
 * The values of an HDF5 array may lie in other files or behind links, may be compressed, or may
 * never have been written. A damaged file may state a wrong number of values. plumb reads only
 * contiguous, compact and virtual arrays and attributes of one value, and returns an error for
 * every other form. Virtual arrays are assembled here part by part, because the library itself
 * reads zeros, without an error, if a source file of a virtual array is missing. */
#include <errno.h>
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/num.h"
#include "io/hdf5.h"
#include "io/hdf5_driver.h"
#include "io/hdf5_impl.h"
#include "io/kind.h"

plumb_status plumb_h5_open(plumb_h5 **out, const char *path)
{
    struct stat info;
    *out = NULL;
    PLUMB_TRY(plumb_file_expect(path, PLUMB_FILE_HDF5));
    PLUMB_REQUIRE(stat(path, &info) == 0, PLUMB_ERR_IO, "%s: %s", path, strerror(errno));
    PLUMB_TRY(plumb_h5_new(out, path, false));
    plumb_h5 *f = *out;
    plumb_status st = PLUMB_OK;
    f->bytes = info.st_size;
    hid_t access = plumb_h5_driver_access(&f->fault, &f->driver, false);
    if (access < 0 || (f->id = H5Fopen(path, H5F_ACC_RDONLY, access)) < 0) {
        PLUMB_TRY_GOTO(st, plumb_h5_check_fault(f), fail);
        H5_FAIL_GOTO(st, PLUMB_ERR_FORMAT, fail, f, "open", "file");
    }
fail:
    if (access >= 0)
        H5Pclose(access);
    if (st != PLUMB_OK)
        plumb_h5_close(out);
    return st;
}

/* ---- descriptions of types for messages ---- */

static void describe_type(char out[96], hid_t type)
{
    const H5T_class_t c = H5Tget_class(type);
    const long long bytes = (long long)H5Tget_size(type);
    if (c == H5T_INTEGER)
        snprintf(out, 96, "%lld-byte %s integers", bytes,
                 H5Tget_sign(type) == H5T_SGN_NONE ? "unsigned" : "signed");
    else if (c == H5T_FLOAT)
        snprintf(out, 96, "%lld-byte reals", bytes);
    else if (c == H5T_STRING && H5Tis_variable_str(type) > 0)
        snprintf(out, 96, "strings of variable length");
    else if (c == H5T_STRING)
        snprintf(out, 96, "strings of %lld bytes", bytes);
    else
        snprintf(out, 96, "%s values",
                 c == H5T_COMPOUND    ? "compound"
                 : c == H5T_ENUM      ? "enumerated"
                 : c == H5T_VLEN      ? "variable-length"
                 : c == H5T_ARRAY     ? "array"
                 : c == H5T_REFERENCE ? "reference"
                                      : "unknown");
    H5Eclear2(H5E_DEFAULT);
}

/* Returns true if an HDF5 type has the class (integer or real), size and sign of t. */
static bool is_of_type(hid_t type, enum plumb_h5_type t)
{
    const bool real = t == PLUMB_H5_F32 || t == PLUMB_H5_F64;
    const bool has_sign = t == PLUMB_H5_I32 || t == PLUMB_H5_I64;
    return H5Tget_class(type) == (real ? H5T_FLOAT : H5T_INTEGER) &&
           (int64_t)H5Tget_size(type) == plumb_h5_type_size(t) &&
           (real || H5Tget_sign(type) == (has_sign ? H5T_SGN_2 : H5T_SGN_NONE));
}

/* ---- arrays ---- */

/* An open array and its properties. */
struct set {
    hid_t id, type, create;
    int64_t n;
    bool is_virtual;
};

static void set_close(struct set *s)
{
    if (s->create >= 0)
        H5Pclose(s->create);
    if (s->type >= 0)
        H5Tclose(s->type);
    if (s->id >= 0)
        H5Dclose(s->id);
    H5Eclear2(H5E_DEFAULT);
}

static plumb_status read_extent(struct set *s, const plumb_h5 *f, const char *name)
{
    hsize_t dim[H5S_MAX_RANK] = {0}, most[H5S_MAX_RANK] = {0};
    hid_t space = H5Dget_space(s->id);
    const int rank = space < 0 ? -1 : H5Sget_simple_extent_ndims(space);
    const bool simple = rank == 1 && H5Sget_simple_extent_type(space) == H5S_SIMPLE &&
                        H5Sget_simple_extent_dims(space, dim, most) == 1;
    if (space >= 0)
        H5Sclose(space);
    PLUMB_REQUIRE(simple, PLUMB_ERR_FORMAT, "%s: array \"%s\" has %d dimensions, expected 1",
                  f->path, name, rank < 0 ? 0 : rank);
    PLUMB_REQUIRE(dim[0] <= INT64_MAX / 8, PLUMB_ERR_FORMAT,
                  "%s: array \"%s\" claims to have %llu values, more than any file can hold",
                  f->path, name, (unsigned long long)dim[0]);
    s->n = (int64_t)dim[0];
    return PLUMB_OK;
}

/* Checks that the values of the array are virtual, or lie in this file in one piece and
 * uncompressed. */
static plumb_status check_layout(struct set *s, const plumb_h5 *f, const char *name)
{
    int64_t bytes;
    const H5D_layout_t layout = H5Pget_layout(s->create);
    const int filters = H5Pget_nfilters(s->create);
    PLUMB_REQUIRE(
        H5Pget_external_count(s->create) == 0, PLUMB_ERR_UNSUPPORTED,
        "%s: the values of array \"%s\" are in another file (external storage); plumb reads "
        "only arrays whose values are in the same file",
        f->path, name);
    PLUMB_REQUIRE(
        layout == H5D_CONTIGUOUS || layout == H5D_COMPACT || layout == H5D_VIRTUAL,
        PLUMB_ERR_UNSUPPORTED,
        "%s: array \"%s\" is stored in chunks%s; plumb reads only contiguous arrays: convert "
        "the file with h5repack -l CONTI -f NONE",
        f->path, name, filters > 0 ? " and filtered (compressed)" : "");
    PLUMB_REQUIRE(
        filters == 0, PLUMB_ERR_UNSUPPORTED,
        "%s: array \"%s\" is filtered (compressed); convert the file with h5repack -f NONE",
        f->path, name);
    s->is_virtual = layout == H5D_VIRTUAL;
    if (layout != H5D_CONTIGUOUS || s->n == 0)
        return PLUMB_OK;
    PLUMB_REQUIRE(plumb_mul(&bytes, s->n, (int64_t)H5Tget_size(s->type)) && bytes <= f->bytes,
                  PLUMB_ERR_FORMAT,
                  "%s: array \"%s\" claims to have %lld values of %lld bytes, but the file has "
                  "only %lld bytes",
                  f->path, name, (long long)s->n, (long long)H5Tget_size(s->type),
                  (long long)f->bytes);
    PLUMB_REQUIRE(H5Dget_offset(s->id) != HADDR_UNDEF, PLUMB_ERR_FORMAT,
                  "%s: array \"%s\" has no values: the program that made the file wrote none",
                  f->path, name);
    return PLUMB_OK;
}

/* Opens an array and checks the location and type of its values. On failure *s is closed again. */
static plumb_status set_open(struct set *s, const plumb_h5 *f, const char *name)
{
    const enum plumb_h5_link link = plumb_h5_look_up(f, name);
    plumb_status st = PLUMB_OK;
    *s = (struct set){H5I_INVALID_HID, H5I_INVALID_HID, H5I_INVALID_HID, 0, false};
    PLUMB_REQUIRE(link != PLUMB_H5_NONE, PLUMB_ERR_FORMAT, "%s: there is no array \"%s\"", f->path,
                  name);
    PLUMB_REQUIRE(link == PLUMB_H5_HARD, PLUMB_ERR_UNSUPPORTED,
                  "%s: \"%s\" is a link to another place or file, which plumb does not follow",
                  f->path, name);
    s->id = H5Dopen2(f->id, name, H5P_DEFAULT);
    if (s->id < 0 || (s->type = H5Dget_type(s->id)) < 0 ||
        (s->create = H5Dget_create_plist(s->id)) < 0)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_FORMAT, fail, "%s: \"%s\" is not an array, or is damaged",
                        f->path, name);
    PLUMB_TRY_GOTO(st, read_extent(s, f, name), fail);
    PLUMB_TRY_GOTO(st, check_layout(s, f, name), fail);
fail:
    H5Eclear2(H5E_DEFAULT);
    if (st != PLUMB_OK)
        set_close(s);
    return st;
}

plumb_status plumb_h5_count(const plumb_h5 *f, const char *name, int64_t *n)
{
    struct set s;
    PLUMB_TRY(set_open(&s, f, name));
    *n = s.n;
    set_close(&s);
    return PLUMB_OK;
}

static plumb_status check_type(const struct set *s, const plumb_h5 *f, const char *name,
                               enum plumb_h5_type t)
{
    static const char *const words[] = {[PLUMB_H5_U8] = "1-byte unsigned integers",
                                        [PLUMB_H5_I32] = "4-byte signed integers",
                                        [PLUMB_H5_I64] = "8-byte signed integers",
                                        [PLUMB_H5_U64] = "8-byte unsigned integers",
                                        [PLUMB_H5_F32] = "4-byte reals",
                                        [PLUMB_H5_F64] = "8-byte reals"};
    char found[96];
    describe_type(found, s->type);
    PLUMB_REQUIRE(is_of_type(s->type, t), PLUMB_ERR_FORMAT, "%s: array \"%s\" has %s, expected %s",
                  f->path, name, found, words[t]);
    return PLUMB_OK;
}

static plumb_status check_range(const struct set *s, const plumb_h5 *f, const char *name,
                                int64_t first, int64_t n)
{
    PLUMB_REQUIRE(first >= 0 && n >= 0 && first <= s->n && n <= s->n - first, PLUMB_ERR_FORMAT,
                  "%s: array \"%s\" has %lld values, expected %lld values from index %lld on",
                  f->path, name, (long long)s->n, (long long)n, (long long)first);
    return PLUMB_OK;
}

/* Reads values first .. first+n-1 of a non-virtual array into out (n,). */
static plumb_status read_values(const struct set *s, const plumb_h5 *f, const char *name,
                                enum plumb_h5_type t, int64_t first, int64_t n, void *out)
{
    const hsize_t at = (hsize_t)first, count = (hsize_t)n;
    plumb_status st = PLUMB_OK;
    hid_t here = H5I_INVALID_HID;
    hid_t there = H5Dget_space(s->id);
    if (there < 0 || H5Sselect_hyperslab(there, H5S_SELECT_SET, &at, NULL, &count, NULL) < 0 ||
        (here = H5Screate_simple(1, &count, NULL)) < 0 ||
        H5Dread(s->id, plumb_h5_memory_type(t), here, there, H5P_DEFAULT, out) < 0) {
        PLUMB_TRY_GOTO(st, plumb_h5_check_fault(f), fail);
        H5_FAIL_GOTO(st, PLUMB_ERR_IO, fail, f, "read array", name);
    }
    PLUMB_TRY_GOTO(st, plumb_h5_check_fault(f), fail);
fail:
    if (here >= 0)
        H5Sclose(here);
    if (there >= 0)
        H5Sclose(there);
    return st;
}

/* ---- virtual arrays: arrays whose values are in other files ---- */

/* The source files of one virtual array. Each file is opened only once. */
struct sources {
    char **name;
    plumb_h5 **file;
    int64_t n;
};

static void sources_fini(struct sources *s)
{
    for (int64_t i = 0; i < s->n; i++) {
        free(s->name[i]);
        plumb_h5_close(&s->file[i]);
    }
    free(s->name);
    free(s->file);
}

/* Sets *out to the file `name` in the folder of f. Opens it if it is not in s yet. */
static plumb_status sources_get(plumb_h5 **out, struct sources *s, const plumb_h5 *f,
                                const char *name)
{
    char path[PATH_MAX];
    const char *slash = strrchr(f->path, '/');
    for (int64_t i = s->n - 1; i >= 0; i--)
        if (strcmp(s->name[i], name) == 0) {
            *out = s->file[i];
            return PLUMB_OK;
        }
    const int length = snprintf(path, sizeof path, "%.*s%s", slash ? (int)(slash + 1 - f->path) : 0,
                                f->path, name);
    PLUMB_REQUIRE(length > 0 && length < (int)sizeof path, PLUMB_ERR_ARG,
                  "%s: the file refers to the file %s, whose path is too long", f->path, name);
    char **names = realloc(s->name, (size_t)(s->n + 1) * sizeof *names);
    s->name = names ? names : s->name;
    plumb_h5 **files = realloc(s->file, (size_t)(s->n + 1) * sizeof(plumb_h5 *));
    s->file = files ? files : s->file;
    char *copy = strdup(name);
    if (!names || !files || !copy) {
        free(copy);
        PLUMB_FAIL(PLUMB_ERR_NOMEM, "%s: a list of %lld file names", f->path, (long long)s->n + 1);
    }
    s->name[s->n] = copy;
    s->file[s->n] = NULL;
    s->n++;
    PLUMB_TRY(plumb_h5_open(&s->file[s->n - 1], path));
    *out = s->file[s->n - 1];
    return PLUMB_OK;
}

/* One part of a virtual array. */
struct part {
    char file[256], name[256];
    /* Values [first, first + n) of the source are values [at, at + n) of the virtual array. */
    int64_t at, first, n;
};

/* Converts the selection of the dataspace `space` to a range: values [*first, *first + *n) of a
 * one-dimensional array of *whole values. Returns false if the selection is not one contiguous
 * range. Closes `space`. */
static bool read_range(int64_t *first, int64_t *n, int64_t *whole, hid_t space)
{
    hsize_t from = 0, to = 0, dim = 0;
    const hssize_t points = space < 0 ? -1 : H5Sget_select_npoints(space);
    const bool ok = points > 0 && H5Sget_simple_extent_ndims(space) == 1 &&
                    H5Sget_simple_extent_dims(space, &dim, NULL) == 1 &&
                    H5Sget_select_bounds(space, &from, &to) >= 0 && to < dim &&
                    dim <= INT64_MAX / 8 && to - from + 1 == (hsize_t)points;
    if (space >= 0)
        H5Sclose(space);
    *first = (int64_t)from;
    *n = (int64_t)points;
    *whole = (int64_t)dim;
    return ok;
}

static plumb_status read_part(struct part *p, const struct set *s, size_t i, const plumb_h5 *f,
                              const char *name)
{
    int64_t whole, chosen, at_least;
    const ssize_t file_n = H5Pget_virtual_filename(s->create, i, p->file, sizeof p->file);
    const ssize_t name_n = H5Pget_virtual_dsetname(s->create, i, p->name, sizeof p->name);
    const bool named = file_n > 0 && file_n < (ssize_t)sizeof p->file && name_n > 0 &&
                       name_n < (ssize_t)sizeof p->name;
    const bool there =
        read_range(&p->first, &chosen, &at_least, H5Pget_virtual_srcspace(s->create, i));
    const bool here = read_range(&p->at, &p->n, &whole, H5Pget_virtual_vspace(s->create, i));
    H5Eclear2(H5E_DEFAULT);
    PLUMB_REQUIRE(
        named && here && there && chosen == p->n && whole == s->n, PLUMB_ERR_FORMAT,
        "%s: part %zu of the virtual array \"%s\" is not a contiguous range of an array in "
        "another file",
        f->path, i, name);
    PLUMB_REQUIRE(
        !strchr(p->file, '/') && strcmp(p->file, ".") != 0 && strcmp(p->file, "..") != 0,
        PLUMB_ERR_UNSUPPORTED,
        "%s: the virtual array \"%s\" refers to the file \"%s\", expected a file in the same "
        "folder",
        f->path, name, p->file);
    return PLUMB_OK;
}

/* Copies the values of part p that lie in [first, first + n) to out, whose element 0 is value
 * `first` of the virtual array. Adds the number of copied values to *covered. */
static plumb_status copy_part(const struct part *p, struct sources *sources, const plumb_h5 *f,
                              enum plumb_h5_type t, int64_t first, int64_t n, char *out,
                              int64_t *covered)
{
    const int64_t from = plumb_max_i64(first, p->at);
    const int64_t end = plumb_min_i64(first + n, p->at + p->n);
    plumb_h5 *file;
    struct set s;
    if (from >= end)
        return PLUMB_OK;
    PLUMB_TRY(sources_get(&file, sources, f, p->file));
    PLUMB_TRY(set_open(&s, file, p->name));
    plumb_status st = PLUMB_OK;
    if (s.is_virtual || s.n < p->first + p->n)
        PLUMB_FAIL_GOTO(
            st, PLUMB_ERR_FORMAT, done,
            "%s: array \"%s\" has %lld values%s, but %s refers to %lld values of it: the file "
            "was replaced after that",
            file->path, p->name, (long long)s.n, s.is_virtual ? " and is virtual" : "", f->path,
            (long long)(p->first + p->n));
    PLUMB_TRY_GOTO(st, check_type(&s, file, p->name, t), done);
    PLUMB_TRY_GOTO(st,
                   read_values(&s, file, p->name, t, p->first + from - p->at, end - from,
                               out + (from - first) * plumb_h5_type_size(t)),
                   done);
    *covered += end - from;
done:
    set_close(&s);
    return st;
}

static plumb_status read_virtual(const struct set *s, const plumb_h5 *f, const char *name,
                                 enum plumb_h5_type t, int64_t first, int64_t n, void *out)
{
    struct sources sources = {0};
    size_t parts = 0;
    int64_t covered = 0;
    plumb_status st = PLUMB_OK;
    memset(out, 0, (size_t)(n * plumb_h5_type_size(t)));
    if (H5Pget_virtual_count(s->create, &parts) < 0)
        H5_FAIL_GOTO(st, PLUMB_ERR_FORMAT, done, f, "read virtual array", name);
    for (size_t i = 0; i < parts; i++) {
        struct part p;
        PLUMB_TRY_GOTO(st, read_part(&p, s, i, f, name), done);
        PLUMB_TRY_GOTO(st, copy_part(&p, &sources, f, t, first, n, out, &covered), done);
    }
    if (covered != n)
        PLUMB_FAIL_GOTO(
            st, PLUMB_ERR_FORMAT, done,
            "%s: the parts of the virtual array \"%s\" hold %lld of %lld requested values", f->path,
            name, (long long)covered, (long long)n);
done:
    sources_fini(&sources);
    return st;
}

plumb_status plumb_h5_read(const plumb_h5 *f, const char *name, enum plumb_h5_type t, int64_t first,
                           int64_t n, void *out)
{
    struct set s;
    plumb_status st;
    PLUMB_TRY(set_open(&s, f, name));
    PLUMB_TRY_GOTO(st, check_type(&s, f, name, t), done);
    PLUMB_TRY_GOTO(st, check_range(&s, f, name, first, n), done);
    if (n > 0)
        st = (s.is_virtual ? read_virtual : read_values)(&s, f, name, t, first, n, out);
done:
    set_close(&s);
    return st;
}

/* ---- attributes ---- */

/* Opens an attribute, which must have exactly one value, and its type. */
static plumb_status attr_open(hid_t *attr, hid_t *type, const plumb_h5 *f, const char *name)
{
    hid_t space = H5I_INVALID_HID;
    hssize_t values = -1;
    plumb_status st = PLUMB_OK;
    *type = H5I_INVALID_HID;
    *attr = H5Aexists(f->id, name) > 0 ? H5Aopen(f->id, name, H5P_DEFAULT) : H5I_INVALID_HID;
    if (*attr < 0 || (*type = H5Aget_type(*attr)) < 0 || (space = H5Aget_space(*attr)) < 0)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_FORMAT, fail, "%s: there is no attribute \"%s\"", f->path,
                        name);
    values = H5Sget_simple_extent_npoints(space);
    if (values != 1)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_FORMAT, fail,
                        "%s: attribute \"%s\" has %lld values, expected one", f->path, name,
                        (long long)values);
fail:
    if (space >= 0)
        H5Sclose(space);
    H5Eclear2(H5E_DEFAULT);
    return st;
}

/* Reads the only value of an attribute into v. `wanted` describes the expected type in messages. */
static plumb_status get_attr(const plumb_h5 *f, const char *name, bool (*fits)(hid_t, int64_t),
                             const char *wanted, hid_t here, void *v, int64_t size)
{
    hid_t attr, type;
    char found[96];
    plumb_status st;
    PLUMB_TRY_GOTO(st, attr_open(&attr, &type, f, name), fail);
    describe_type(found, type);
    if (!fits(type, size))
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_FORMAT, fail, "%s: attribute \"%s\" holds %s, expected %s",
                        f->path, name, found, wanted);
    if (H5Aread(attr, here < 0 ? type : here, v) < 0)
        H5_FAIL_GOTO(st, PLUMB_ERR_IO, fail, f, "read attribute", name);
fail:
    if (type >= 0)
        H5Tclose(type);
    if (attr >= 0)
        H5Aclose(attr);
    return st;
}

static bool fits_i64(hid_t type, int64_t size)
{
    return (int64_t)H5Tget_size(type) == size && is_of_type(type, PLUMB_H5_I64);
}
static bool fits_u64(hid_t type, int64_t size)
{
    return (int64_t)H5Tget_size(type) == size && is_of_type(type, PLUMB_H5_U64);
}
static bool fits_f64(hid_t type, int64_t size)
{
    return (int64_t)H5Tget_size(type) == size && is_of_type(type, PLUMB_H5_F64);
}
static bool fits_text(hid_t type, int64_t size)
{
    return H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0 &&
           (int64_t)H5Tget_size(type) < size;
}

plumb_status plumb_h5_get_attr_i64(const plumb_h5 *f, const char *name, int64_t *v)
{
    return get_attr(f, name, fits_i64, "8-byte signed integers", H5T_NATIVE_INT64, v, sizeof *v);
}
plumb_status plumb_h5_get_attr_u64(const plumb_h5 *f, const char *name, uint64_t *v)
{
    return get_attr(f, name, fits_u64, "8-byte unsigned integers", H5T_NATIVE_UINT64, v, sizeof *v);
}
plumb_status plumb_h5_get_attr_f64(const plumb_h5 *f, const char *name, double *v)
{
    return get_attr(f, name, fits_f64, "8-byte reals", H5T_NATIVE_DOUBLE, v, sizeof *v);
}
plumb_status plumb_h5_get_attr_text(const plumb_h5 *f, const char *name, char *v, int64_t size)
{
    char wanted[64];
    snprintf(wanted, sizeof wanted, "a string of fixed length, at most %lld bytes",
             (long long)size - 1);
    memset(v, 0, (size_t)size);
    return get_attr(f, name, fits_text, wanted, H5I_INVALID_HID, v, size);
}
