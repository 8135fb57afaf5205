/* hdf5.c - writes HDF5 files: arrays, attributes and virtual arrays.
 * Layer 1. Includes hdf5_impl.h, hdf5_driver.h, file.h, base/. */
#include "io/hdf5.h"

#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "io/hdf5_driver.h"
#include "io/hdf5_impl.h"

/* A callback for H5Ewalk2. The library calls it for each frame of its error stack, the deepest
 * frame last. Each call overwrites the text at arg, so the text of the deepest frame remains, which
 * states the cause. */
static herr_t copy_deepest_error(unsigned n, const H5E_error2_t *e, void *arg)
{
    (void)n;
    snprintf(arg, 256, "%s: %s", e->func_name ? e->func_name : "?", e->desc ? e->desc : "?");
    return 0;
}

const char *plumb_h5_reason(char text[256])
{
    snprintf(text, 256, "unknown cause");
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, copy_deepest_error, text);
    H5Eclear2(H5E_DEFAULT);
    return text;
}

int64_t plumb_h5_type_size(enum plumb_h5_type t)
{
    static const int64_t size[] = {[PLUMB_H5_U8] = 1,  [PLUMB_H5_I32] = 4, [PLUMB_H5_I64] = 8,
                                   [PLUMB_H5_U64] = 8, [PLUMB_H5_F32] = 4, [PLUMB_H5_F64] = 8};
    return size[t];
}

hid_t plumb_h5_memory_type(enum plumb_h5_type t)
{
    switch (t) {
    case PLUMB_H5_U8:
        return H5T_NATIVE_UINT8;
    case PLUMB_H5_I32:
        return H5T_NATIVE_INT32;
    case PLUMB_H5_I64:
        return H5T_NATIVE_INT64;
    case PLUMB_H5_U64:
        return H5T_NATIVE_UINT64;
    case PLUMB_H5_F32:
        return H5T_NATIVE_FLOAT;
    case PLUMB_H5_F64:
        break;
    }
    return H5T_NATIVE_DOUBLE;
}

/* Returns the HDF5 type with which values of type t are stored in a file; it is little-endian on
 * every host. */
static hid_t file_type(enum plumb_h5_type t)
{
    switch (t) {
    case PLUMB_H5_U8:
        return H5T_STD_U8LE;
    case PLUMB_H5_I32:
        return H5T_STD_I32LE;
    case PLUMB_H5_I64:
        return H5T_STD_I64LE;
    case PLUMB_H5_U64:
        return H5T_STD_U64LE;
    case PLUMB_H5_F32:
        return H5T_IEEE_F32LE;
    case PLUMB_H5_F64:
        break;
    }
    return H5T_IEEE_F64LE;
}

plumb_status plumb_h5_new(plumb_h5 **out, const char *path, bool writing)
{
    *out = NULL;
    PLUMB_REQUIRE(strlen(path) < PATH_MAX, PLUMB_ERR_ARG, "the path is too long: %.200s...", path);
    PLUMB_REQUIRE(H5open() >= 0 && H5Eset_auto2(H5E_DEFAULT, NULL, NULL) >= 0, PLUMB_ERR_IO,
                  "the HDF5 library cannot be initialised");
    plumb_h5 *f = calloc(1, sizeof *f);
    PLUMB_REQUIRE(f, PLUMB_ERR_NOMEM, "cannot create a reader or writer of %s", path);
    f->id = f->driver = H5I_INVALID_HID;
    f->writing = writing;
    snprintf(f->path, sizeof f->path, "%s", path);
    snprintf(f->tmp, sizeof f->tmp, "%s.tmp", path);
    *out = f;
    return PLUMB_OK;
}

plumb_status plumb_h5_check_fault(const plumb_h5 *f)
{
    PLUMB_REQUIRE(!f->fault.text[0], PLUMB_ERR_IO, "%s: %s", f->writing ? f->tmp : f->path,
                  f->fault.text);
    return PLUMB_OK;
}

plumb_status plumb_h5_create(plumb_h5 **out, const char *path)
{
    PLUMB_TRY(plumb_h5_new(out, path, true));
    plumb_h5 *f = *out;
    plumb_status st = PLUMB_OK;
    /* an existing file or link PATH.tmp, for example of a killed run, must not be written to */
    unlink(f->tmp);
    hid_t create = H5Pcreate(H5P_FILE_CREATE);
    hid_t access = plumb_h5_driver_access(&f->fault, &f->driver, true);
    if (create < 0 || access < 0 || H5Pset_obj_track_times(create, false) < 0 ||
        (f->id = H5Fcreate(f->tmp, H5F_ACC_TRUNC, create, access)) < 0) {
        PLUMB_TRY_GOTO(st, plumb_h5_check_fault(f), fail);
        H5_FAIL_GOTO(st, PLUMB_ERR_IO, fail, f, "create", "file");
    }
fail:
    if (create >= 0)
        H5Pclose(create);
    if (access >= 0)
        H5Pclose(access);
    if (st != PLUMB_OK)
        plumb_h5_close(out);
    return st;
}

const char *plumb_h5_path(const plumb_h5 *f)
{
    return f->path;
}

void plumb_h5_close(plumb_h5 **f)
{
    if (!*f)
        return;
    if ((*f)->id >= 0)
        H5Fclose((*f)->id);
    if ((*f)->driver >= 0)
        H5FDunregister((*f)->driver);
    if ((*f)->writing)
        unlink((*f)->tmp);
    free(*f);
    *f = NULL;
}

static plumb_status sync_file(const char *path)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    PLUMB_REQUIRE(fd >= 0, PLUMB_ERR_IO, "%s: cannot open to flush it to disk: %s", path,
                  strerror(errno));
    const int failed = fsync(fd) != 0 ? errno : 0;
    close(fd);
    PLUMB_REQUIRE(!failed, PLUMB_ERR_IO, "%s: cannot flush to disk (fsync): %s", path,
                  strerror(failed));
    return PLUMB_OK;
}

plumb_status plumb_h5_commit(plumb_h5 **fp)
{
    plumb_h5 *f = *fp;
    plumb_status st = PLUMB_OK;
    char parent[PATH_MAX];
    const hid_t id = f->id;
    if (H5Fflush(id, H5F_SCOPE_LOCAL) < 0)
        H5_FAIL_GOTO(st, PLUMB_ERR_IO, fail, f, "write", "file");
    f->id = H5I_INVALID_HID;
    if (H5Fclose(id) < 0)
        H5_FAIL_GOTO(st, PLUMB_ERR_IO, fail, f, "close", "file");
    PLUMB_TRY_GOTO(st, plumb_h5_check_fault(f), fail);
    PLUMB_TRY_GOTO(st, sync_file(f->tmp), fail);
    if (rename(f->tmp, f->path) != 0)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_IO, fail,
                        "%s: cannot rename the temporary file to this name: %s", f->path,
                        strerror(errno));
    f->writing = false;
    snprintf(parent, sizeof parent, "%s", f->path);
    char *slash = strrchr(parent, '/');
    if (slash)
        slash[slash == parent] = 0;
    PLUMB_TRY_GOTO(st, plumb_dir_fsync(slash ? parent : "."), fail);
fail:
    plumb_h5_close(fp);
    return st;
}

/* ---- names ---- */

enum plumb_h5_link plumb_h5_look_up(const plumb_h5 *f, const char *name)
{
    char prefix[1024];
    if (strlen(name) >= sizeof prefix)
        return PLUMB_H5_NONE;
    for (const char *at = name; at;) {
        const char *end = strchr(at, '/');
        const int n = end ? (int)(end - name) : (int)strlen(name);
        H5L_info_t info;
        snprintf(prefix, sizeof prefix, "%.*s", n, name);
        const herr_t found = H5Lget_info(f->id, prefix, &info, H5P_DEFAULT);
        H5Eclear2(H5E_DEFAULT);
        if (found < 0)
            return PLUMB_H5_NONE;
        if (info.type != H5L_TYPE_HARD)
            return PLUMB_H5_OTHER;
        at = end ? end + 1 : NULL;
    }
    return PLUMB_H5_HARD;
}

bool plumb_h5_has(const plumb_h5 *f, const char *name)
{
    return plumb_h5_look_up(f, name) != PLUMB_H5_NONE;
}

/* ---- arrays ---- */

/* Creates the groups in a name such as "a/b/c" one by one. The library could create them by itself,
 * but would store times in them, and the bytes of the file would differ from run to run. */
static plumb_status make_groups(plumb_h5 *f, const char *name)
{
    char prefix[1024];
    plumb_status st = PLUMB_OK;
    PLUMB_REQUIRE(strlen(name) < sizeof prefix, PLUMB_ERR_ARG,
                  "%s: an array's name has %zu bytes, which is too long", f->path, strlen(name));
    hid_t create = H5Pcreate(H5P_GROUP_CREATE);
    if (create < 0 || H5Pset_obj_track_times(create, false) < 0)
        H5_FAIL_GOTO(st, PLUMB_ERR_IO, fail, f, "create group of", name);
    for (const char *at = strchr(name, '/'); at; at = strchr(at + 1, '/')) {
        snprintf(prefix, sizeof prefix, "%.*s", (int)(at - name), name);
        if (!prefix[0] || plumb_h5_has(f, prefix))
            continue;
        const hid_t group = H5Gcreate2(f->id, prefix, H5P_DEFAULT, create, H5P_DEFAULT);
        if (group < 0)
            H5_FAIL_GOTO(st, PLUMB_ERR_IO, fail, f, "create group", prefix);
        H5Gclose(group);
    }
fail:
    if (create >= 0)
        H5Pclose(create);
    return st;
}

/* Creates an array (an HDF5 dataset) of n values; *out is -1 on failure. virt is the creation
 * property list of a virtual array, with the mappings of its parts, or 0 for any other array. */
static plumb_status make_set(hid_t *out, plumb_h5 *f, const char *name, enum plumb_h5_type t,
                             int64_t n, hid_t virt)
{
    const hsize_t dim = (hsize_t)n;
    plumb_status st = PLUMB_OK;
    *out = H5I_INVALID_HID;
    PLUMB_REQUIRE(n >= 0, PLUMB_ERR_ARG, "%s: array \"%s\" has %lld values, expected 0 or more",
                  f->path, name, (long long)n);
    PLUMB_TRY(make_groups(f, name));
    hid_t space = H5Screate_simple(1, &dim, NULL);
    hid_t create = virt ? virt : H5Pcreate(H5P_DATASET_CREATE);
    if (space < 0 || create < 0 || H5Pset_obj_track_times(create, false) < 0 ||
        (*out = H5Dcreate2(f->id, name, file_type(t), space, H5P_DEFAULT, create, H5P_DEFAULT)) < 0)
        H5_FAIL_GOTO(st, PLUMB_ERR_IO, fail, f, "create array", name);
fail:
    if (space >= 0)
        H5Sclose(space);
    if (create >= 0 && !virt)
        H5Pclose(create);
    return st;
}

plumb_status plumb_h5_reserve(plumb_h5 *f, const char *name, enum plumb_h5_type t, int64_t n)
{
    hid_t set;
    PLUMB_TRY(make_set(&set, f, name, t, n, 0));
    H5Dclose(set);
    return PLUMB_OK;
}

plumb_status plumb_h5_put(plumb_h5 *f, const char *name, enum plumb_h5_type t, int64_t n,
                          const void *data)
{
    PLUMB_TRY(plumb_h5_reserve(f, name, t, n));
    return n ? plumb_h5_write(f, name, t, 0, n, data) : PLUMB_OK;
}

plumb_status plumb_h5_write(plumb_h5 *f, const char *name, enum plumb_h5_type t, int64_t first,
                            int64_t n, const void *data)
{
    const hsize_t at = (hsize_t)first, count = (hsize_t)n;
    plumb_status st = PLUMB_OK;
    hid_t there = H5I_INVALID_HID, here = H5I_INVALID_HID;
    if (n == 0)
        return PLUMB_OK;
    hid_t set = H5Dopen2(f->id, name, H5P_DEFAULT);
    if (set < 0 || (there = H5Dget_space(set)) < 0 ||
        H5Sselect_hyperslab(there, H5S_SELECT_SET, &at, NULL, &count, NULL) < 0 ||
        (here = H5Screate_simple(1, &count, NULL)) < 0 ||
        H5Dwrite(set, plumb_h5_memory_type(t), here, there, H5P_DEFAULT, data) < 0)
        H5_FAIL_GOTO(st, PLUMB_ERR_IO, fail, f, "write array", name);
    PLUMB_TRY_GOTO(st, plumb_h5_check_fault(f), fail);
fail:
    if (here >= 0)
        H5Sclose(here);
    if (there >= 0)
        H5Sclose(there);
    if (set >= 0)
        H5Dclose(set);
    return st;
}

/* ---- attributes ---- */

static plumb_status put_attr(plumb_h5 *f, const char *name, hid_t there, hid_t here, const void *v)
{
    plumb_status st = PLUMB_OK;
    hid_t space = H5Screate(H5S_SCALAR), attr = H5I_INVALID_HID;
    if (space < 0 || (attr = H5Acreate2(f->id, name, there, space, H5P_DEFAULT, H5P_DEFAULT)) < 0 ||
        H5Awrite(attr, here, v) < 0)
        H5_FAIL_GOTO(st, PLUMB_ERR_IO, fail, f, "write attribute", name);
fail:
    if (attr >= 0)
        H5Aclose(attr);
    if (space >= 0)
        H5Sclose(space);
    return st;
}

plumb_status plumb_h5_put_attr_i64(plumb_h5 *f, const char *name, int64_t v)
{
    return put_attr(f, name, H5T_STD_I64LE, H5T_NATIVE_INT64, &v);
}
plumb_status plumb_h5_put_attr_u64(plumb_h5 *f, const char *name, uint64_t v)
{
    return put_attr(f, name, H5T_STD_U64LE, H5T_NATIVE_UINT64, &v);
}
plumb_status plumb_h5_put_attr_f64(plumb_h5 *f, const char *name, double v)
{
    return put_attr(f, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &v);
}

plumb_status plumb_h5_put_attr_text(plumb_h5 *f, const char *name, const char *v)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    plumb_status st = PLUMB_OK;
    if (type < 0 || H5Tset_size(type, strlen(v) + 1) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0)
        H5_FAIL_GOTO(st, PLUMB_ERR_IO, fail, f, "write attribute", name);
    PLUMB_TRY_GOTO(st, put_attr(f, name, type, type, v), fail);
fail:
    if (type >= 0)
        H5Tclose(type);
    return st;
}

/* ---- virtual arrays: arrays whose values are in other files ---- */

static plumb_status add_part(plumb_h5 *f, const char *name, hid_t create, hid_t space,
                             const struct plumb_h5_part *p)
{
    const hsize_t at = (hsize_t)p->at, first = (hsize_t)p->first, n = (hsize_t)p->n;
    const hsize_t source_n = (hsize_t)p->source_n;
    plumb_status st = PLUMB_OK;
    hid_t source = H5Screate_simple(1, &source_n, NULL);
    if (source < 0 || H5Sselect_hyperslab(source, H5S_SELECT_SET, &first, NULL, &n, NULL) < 0 ||
        H5Sselect_hyperslab(space, H5S_SELECT_SET, &at, NULL, &n, NULL) < 0 ||
        H5Pset_virtual(create, space, p->file, name, source) < 0)
        H5_FAIL_GOTO(st, PLUMB_ERR_IO, fail, f, "map virtual array", name);
fail:
    if (source >= 0)
        H5Sclose(source);
    return st;
}

plumb_status plumb_h5_put_virtual(plumb_h5 *f, const char *name, enum plumb_h5_type t, int64_t n,
                                  const struct plumb_h5_part *part, int64_t parts)
{
    const hsize_t dim = (hsize_t)n;
    int64_t used = 0;
    for (int64_t i = 0; i < parts; i++)
        used += part[i].n > 0;
    if (used == 0)
        return plumb_h5_reserve(f, name, t, n);
    plumb_status st = PLUMB_OK;
    hid_t set = H5I_INVALID_HID;
    hid_t create = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(1, &dim, NULL);
    if (create < 0 || space < 0)
        H5_FAIL_GOTO(st, PLUMB_ERR_IO, fail, f, "map virtual array", name);
    for (int64_t i = 0; i < parts; i++)
        if (part[i].n > 0)
            PLUMB_TRY_GOTO(st, add_part(f, name, create, space, &part[i]), fail);
    PLUMB_TRY_GOTO(st, make_set(&set, f, name, t, n, create), fail);
    H5Dclose(set);
fail:
    if (create >= 0)
        H5Pclose(create);
    if (space >= 0)
        H5Sclose(space);
    return st;
}
