/* hdf5.h - HDF5 files: arrays, attributes and virtual arrays. Only the hdf5*.c files, format.c and
 * versions.c use libhdf5.
 * Layer 1. Includes base/ only. The library's own error output is switched off; its error text
 * becomes part of our messages. */
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

typedef struct plumb_h5 plumb_h5; /* one open file; only one thread at a time may use it */

/* Creates a new file under the temporary name PATH.tmp; plumb_h5_commit renames it to PATH. The
 * file contains no times, so that the same content always gives the same bytes. The caller owns
 * *out. Returns PLUMB_ERR_IO on failure. */
plumb_status plumb_h5_create(plumb_h5 **out, const char *path);
/* Closes the file, calls fsync and renames it to PATH. *f becomes NULL, also on failure. After a
 * failure up to the renaming, PATH is unchanged and the temporary file is removed. */
plumb_status plumb_h5_commit(plumb_h5 **f);
/* Opens a file for reading, without a file lock, because some file systems do not support locks.
 * Returns PLUMB_ERR_IO if the file cannot be read, and PLUMB_ERR_FORMAT, naming the kind of file
 * that was found, if it is not an HDF5 file. */
plumb_status plumb_h5_open(plumb_h5 **out, const char *path);
/* Closes a file that was opened for reading, or discards a file that was created and not committed.
 * Does nothing if *f is NULL. */
void plumb_h5_close(plumb_h5 **f);

/* Returns the path of the file for messages; valid while the file is open. */
const char *plumb_h5_path(const plumb_h5 *f);

/* ---- one-dimensional arrays; a '/' in a name separates groups, created as needed ---- */

/* Creates an array and writes its n >= 0 values. */
plumb_status plumb_h5_put(plumb_h5 *f, const char *name, enum plumb_h5_type t, int64_t n,
                          const void *data);
/* plumb_h5_reserve creates an array of n values that are all 0; plumb_h5_write then writes parts of
 * it, in any order. */
plumb_status plumb_h5_reserve(plumb_h5 *f, const char *name, enum plumb_h5_type t, int64_t n);
plumb_status plumb_h5_write(plumb_h5 *f, const char *name, enum plumb_h5_type t, int64_t first,
                            int64_t n, const void *data);

bool plumb_h5_has(const plumb_h5 *f, const char *name);
/* Sets *n to the length of the array. Checks that a contiguous array does not claim more values
 * than the file has bytes for; the parts of a virtual array are checked when it is read. Returns
 * PLUMB_ERR_FORMAT if there is no such array, if it does not have exactly one dimension, or if no
 * values were written. Returns PLUMB_ERR_UNSUPPORTED if its values are stored in chunks, compressed
 * or in another file, or if the name is a link. */
plumb_status plumb_h5_count(const plumb_h5 *f, const char *name, int64_t *n);
/* Reads values first .. first+n-1 into out (n,). Fails like plumb_h5_count. Also returns
 * PLUMB_ERR_FORMAT if the array is too short, if its type differs from t (integer or real, size,
 * sign), or if a source file of a virtual array does not have the values; PLUMB_ERR_IO if such a
 * file is missing. */
plumb_status plumb_h5_read(const plumb_h5 *f, const char *name, enum plumb_h5_type t, int64_t first,
                           int64_t n, void *out);

/* ---- attributes of the file ---- */

plumb_status plumb_h5_put_attr_i64(plumb_h5 *f, const char *name, int64_t v);
plumb_status plumb_h5_put_attr_u64(plumb_h5 *f, const char *name, uint64_t v);
plumb_status plumb_h5_put_attr_f64(plumb_h5 *f, const char *name, double v);
plumb_status plumb_h5_put_attr_text(plumb_h5 *f, const char *name, const char *v);
/* Read an attribute. They return PLUMB_ERR_FORMAT if it is missing, if it does not have exactly one
 * value, or if it has another type than an 8-byte signed integer, 8-byte unsigned integer, 8-byte
 * real or string of fixed length, respectively. */
plumb_status plumb_h5_get_attr_i64(const plumb_h5 *f, const char *name, int64_t *v);
plumb_status plumb_h5_get_attr_u64(const plumb_h5 *f, const char *name, uint64_t *v);
plumb_status plumb_h5_get_attr_f64(const plumb_h5 *f, const char *name, double *v);
/* Copies a string attribute to v, which has `size` bytes, with a terminating NUL. Returns
 * PLUMB_ERR_FORMAT if the string does not fit. */
plumb_status plumb_h5_get_attr_text(const plumb_h5 *f, const char *name, char *v, int64_t size);

/* ---- virtual arrays: arrays whose values lie in arrays of the same name in other files ---- */

/* One part of a virtual array: its values at .. at+n-1 are the values first .. first+n-1 of the
 * array in `file`. `file` is relative to the folder of the file that holds the virtual array. */
struct plumb_h5_part {
    const char *file;
    int64_t source_n; /* length of the array in `file` */
    int64_t first, n, at;
};
/* Creates a virtual array of n values from `parts`. Reading a value that no part covers fails. If
 * no part has values, the array is an ordinary array of n zeros. */
plumb_status plumb_h5_put_virtual(plumb_h5 *f, const char *name, enum plumb_h5_type t, int64_t n,
                                  const struct plumb_h5_part *part, int64_t parts);

#endif
