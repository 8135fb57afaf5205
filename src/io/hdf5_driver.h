/* hdf5_driver.h - how the HDF5 library reads and writes its files. Inside io/ only.
 * Layer 1. Includes base/ only. */
#ifndef PLUMB_IO_HDF5_DRIVER_H
#define PLUMB_IO_HDF5_DRIVER_H

#include <hdf5.h>
#include <stdbool.h>

/* The first failed system call on a file; text is empty while there was none. */
struct plumb_h5_fault {
    char text[128];
};

/* A file access list for new files (writing) or for files that are read, -1 on failure. The driver
 * takes no locks: on file systems without them the library's own driver would refuse to open any
 * file, and plumb writes under a temporary name and renames.
 *
 * While writing, once a write fails (a full disk) the driver
 * notes it in *fault and from then on takes everything without writing it: the library cannot
 * give up a file whose last flush fails, and crashes at exit. *fault must outlive the file, and
 * so must *driver, which H5FDunregister releases: the library's own reference goes before the last
 * call into the driver. -1 in *driver on failure.
 *
 * While reading, a read behind the end of the file fails: it was cut short, or its own figures of
 * where data lies are wrong. */
hid_t plumb_h5_driver_access(struct plumb_h5_fault *fault, hid_t *driver, bool writing);

#endif
