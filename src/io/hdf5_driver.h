/* hdf5_driver.h - how the HDF5 library writes its files. Inside io/ only.
 * Layer 1. Includes base/ only. */
#ifndef PLUMB_IO_HDF5_DRIVER_H
#define PLUMB_IO_HDF5_DRIVER_H

#include <hdf5.h>
#include <stdbool.h>

/* The first failed system call on a file; text is empty while there was none. */
struct plumb_h5_fault {
    char text[128];
};

/* A file access list for new files, -1 on failure. Once a write fails (a full disk) the driver
 * notes it in *fault and from then on takes everything without writing it: the library cannot
 * give up a file whose last flush fails, and crashes at exit. *fault must outlive the file, and
 * so must *driver, which H5FDunregister releases: the library's own reference goes before the last
 * call into the driver. -1 in *driver on failure. */
hid_t plumb_h5_driver_access(struct plumb_h5_fault *fault, hid_t *driver);

#endif
