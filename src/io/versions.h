/* versions.h - which libraries read and write the files, for plumb doctor.
 * Layer 1. Includes base/ only. */
#ifndef PLUMB_IO_VERSIONS_H
#define PLUMB_IO_VERSIONS_H

#include "base/buf.h"
#include "base/status.h"

/* out += "HDF5 1.10.8, jansson 2.14, ..." as linked at run time where the library tells. */
plumb_status plumb_io_versions(struct plumb_buf *out);

#endif
