/* hdf5.h - HDF5 files: arrays, attributes, virtual data sets. The only user of libhdf5.
 * Layer 1. Includes base/ only. The library's own printing is off: its text comes in our errors. */
#ifndef PLUMB_IO_HDF5_H
#define PLUMB_IO_HDF5_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

enum plumb_h5_type {
    PLUMB_H5_U8,
    PLUMB_H5_I32,
    PLUMB_H5_I64,
    PLUMB_H5_U64,
    PLUMB_H5_F32,
    PLUMB_H5_F64,
};
int64_t plumb_h5_type_size(enum plumb_h5_type t);

typedef struct plumb_h5 plumb_h5; /* one open file; used by one thread at a time */

/* Begins a new file as PATH.tmp; plumb_h5_commit makes it PATH. The same content gives the same
 * bytes (no times are stored). *out is owned by the caller. PLUMB_ERR_IO. */
plumb_status plumb_h5_create(plumb_h5 **out, const char *path);
/* Closes the file, fsyncs it and renames it over PATH. *f becomes NULL in any case; on failure
 * PATH is as it was and the temporary file is gone. */
plumb_status plumb_h5_commit(plumb_h5 **f);
/* Opens for reading, without a lock: file systems that have none are fine. PLUMB_ERR_IO when it
 * cannot be read; PLUMB_ERR_FORMAT when it is no HDF5 file, naming what it is instead. */
plumb_status plumb_h5_open(plumb_h5 **out, const char *path);
/* Closes a file that was opened, or gives up one that was created. NULL is allowed. */
void plumb_h5_close(plumb_h5 **f);

/* The path that the file was created or opened with, for messages; valid while it is open. */
const char *plumb_h5_path(const plumb_h5 *f);

/* ---- one-dimensional arrays; names may hold '/' for groups, which are made as needed ---- */

/* A new array of n >= 0 values, all at once. */
plumb_status plumb_h5_put(plumb_h5 *f, const char *name, enum plumb_h5_type t, int64_t n,
                          const void *data);
/* A new array of n values, unwritten (zero) so far; then parts of it in any order. */
plumb_status plumb_h5_reserve(plumb_h5 *f, const char *name, enum plumb_h5_type t, int64_t n);
plumb_status plumb_h5_write(plumb_h5 *f, const char *name, enum plumb_h5_type t, int64_t first,
                            int64_t n, const void *data);

bool plumb_h5_has(const plumb_h5 *f, const char *name);
/* Length, of no more values than the file has bytes for (a virtual array: not checked before it is
 * read). PLUMB_ERR_FORMAT when there is no such array, it is not one-dimensional, or no values were
 * written; PLUMB_ERR_UNSUPPORTED when it is in chunks, compressed, in another file, or a link. */
plumb_status plumb_h5_count(const plumb_h5 *f, const char *name, int64_t *n);
/* out (n,) = values first .. first+n-1. As plumb_h5_count, and PLUMB_ERR_FORMAT naming file and
 * array when it is too short or of another type (integer or real, size, sign) than t, or when a
 * file behind a virtual array does not have the values; PLUMB_ERR_IO when one is missing. */
plumb_status plumb_h5_read(const plumb_h5 *f, const char *name, enum plumb_h5_type t, int64_t first,
                           int64_t n, void *out);

/* ---- attributes of the file ---- */

plumb_status plumb_h5_put_attr_i64(plumb_h5 *f, const char *name, int64_t v);
plumb_status plumb_h5_put_attr_u64(plumb_h5 *f, const char *name, uint64_t v);
plumb_status plumb_h5_put_attr_f64(plumb_h5 *f, const char *name, double v);
plumb_status plumb_h5_put_attr_text(plumb_h5 *f, const char *name, const char *v);
/* PLUMB_ERR_FORMAT when there is none, when it has not exactly one value, or of another type:
 * 8-byte signed and unsigned integers, 8-byte reals, strings of fixed length. */
plumb_status plumb_h5_get_attr_i64(const plumb_h5 *f, const char *name, int64_t *v);
plumb_status plumb_h5_get_attr_u64(const plumb_h5 *f, const char *name, uint64_t *v);
plumb_status plumb_h5_get_attr_f64(const plumb_h5 *f, const char *name, double *v);
/* v (size bytes), always terminated. A string that does not fit is PLUMB_ERR_FORMAT. */
plumb_status plumb_h5_get_attr_text(const plumb_h5 *f, const char *name, char *v, int64_t size);

/* ---- virtual arrays: parts of arrays of the same name in other files ---- */

/* Values first .. first+n-1 of the array in `file` (a name relative to the folder of the file
 * that holds the virtual array) appear at `at`. */
struct plumb_h5_part {
    const char *file;
    int64_t source_n; /* length of the array there */
    int64_t first, n, at;
};
/* A virtual array of n values from `parts`. Reading values that no part covers fails. */
plumb_status plumb_h5_put_virtual(plumb_h5 *f, const char *name, enum plumb_h5_type t, int64_t n,
                                  const struct plumb_h5_part *part, int64_t parts);

#endif
