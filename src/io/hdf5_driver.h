/* hdf5_driver.h - the file driver through which the HDF5 library reads and writes. Used only inside
 * io/.
 * Layer 1. Includes base/ only. */
#ifndef PLUMB_IO_HDF5_DRIVER_H
#define PLUMB_IO_HDF5_DRIVER_H

#include <hdf5.h>
#include <stdbool.h>

/* The text of the first failure on a file (a system call that failed, or a file that ends too
 * early); "" if there was none. */
struct plumb_h5_fault {
    char text[128];
};

/* Returns an HDF5 file access property list that uses the driver of hdf5_driver.c, for a new file
 * (writing = true) or a file to read; -1 on failure. The driver takes no file locks: the library's
 * own driver refuses to open a file on a file system without locks, and plumb needs none, because
 * it writes to a temporary name and renames.
 *
 * Writing: after the first failed write (for example on a full disk) the driver stores the error
 * text in *fault and then reports success for all further writes without doing them. This is needed
 * because the library cannot discard a file whose last flush fails; it would crash at exit.
 *
 * Reading: a read beyond the end of the file fails, because then the file is truncated or an
 * address in it is wrong.
 *
 * *driver is the id of the registered driver (-1 on failure); the caller releases it with
 * H5FDunregister. *fault and *driver must outlive the file, because the library calls the driver
 * after it has dropped its own reference. */
hid_t plumb_h5_driver_access(struct plumb_h5_fault *fault, hid_t *driver, bool writing);

#endif
