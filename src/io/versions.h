/* versions.h - versions of the file format libraries, for the command plumb doctor.
 * Layer 1. Includes base/ only. */
#ifndef PLUMB_IO_VERSIONS_H
#define PLUMB_IO_VERSIONS_H

#include "base/buf.h"
#include "base/status.h"

/* Appends the versions of HDF5, jansson, libfyaml and xxHash to out, as in "HDF5 1.10.8, jansson
 * 2.14, ...". The versions are those of the libraries linked at run time. */
plumb_status plumb_io_versions(struct plumb_buf *out);

#endif
