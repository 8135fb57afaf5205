/* hdf5_impl.h - declarations that hdf5.c (writing), hdf5_read.c (reading) and format.c share. Used
 * only inside io/.
 * Layer 1. Includes base/ only. */
#ifndef PLUMB_IO_HDF5_IMPL_H
#define PLUMB_IO_HDF5_IMPL_H

#include <hdf5.h>
#include <limits.h>
#include <stdbool.h>

#include "io/hdf5.h"
#include "io/hdf5_driver.h"

struct plumb_h5 {
    hid_t id;
    hid_t driver; /* id of the driver registered for this file; -1 if there is none */
    bool writing;
    int64_t bytes; /* size of the file, if it was opened for reading */
    struct plumb_h5_fault fault;
    char path[PATH_MAX], tmp[PATH_MAX + 8];
};

/* Copies the error text of the HDF5 library's last failure to `text`, clears the library's error
 * stack and returns `text`. */
const char *plumb_h5_reason(char text[256]);

#define H5_FAIL_GOTO(st, code, label, f, what, name)                                               \
    do {                                                                                           \
        char text_[256];                                                                           \
        (st) = plumb_fail_at((code), __FILE__, __LINE__, "%s: cannot %s \"%s\": %s", (f)->path,    \
                             (what), (name), plumb_h5_reason(text_));                              \
        goto label;                                                                                \
    } while (0)

/* Returns the HDF5 type of values of type t in memory. */
hid_t plumb_h5_memory_type(enum plumb_h5_type t);
/* Returns PLUMB_ERR_IO with the text of the first failure that the file driver has recorded (struct
 * plumb_h5_fault), or PLUMB_OK if there was none. */
plumb_status plumb_h5_check_fault(const plumb_h5 *f);
/* Looks up each part of a name such as "a/b/c". Returns NONE if a part is missing, OTHER if a part
 * is a soft or external link, else HARD. The library would follow such links even into another
 * file, so plumb checks them first. */
enum plumb_h5_link { PLUMB_H5_NONE, PLUMB_H5_HARD, PLUMB_H5_OTHER };
enum plumb_h5_link plumb_h5_look_up(const plumb_h5 *f, const char *name);
/* Allocates *out for a file that is not open yet. Release it with plumb_h5_close. */
plumb_status plumb_h5_new(plumb_h5 **out, const char *path, bool writing);

#endif
