/* versions.c - reads the version numbers of the file format libraries.
 * Layer 1. Includes io/versions.h. */
#include "io/versions.h"

#include <hdf5.h>
#include <jansson.h>
#include <libfyaml.h>
#include <xxhash.h>

plumb_status plumb_io_versions(struct plumb_buf *out)
{
    unsigned major = 0, minor = 0, release = 0;
    H5get_libversion(&major, &minor, &release);
    const unsigned hash = XXH_versionNumber();
    return plumb_buf_addf(out, "HDF5 %u.%u.%u, jansson %s, libfyaml %s, xxHash %u.%u.%u", major,
                          minor, release, jansson_version_str(), fy_library_version(), hash / 10000,
                          hash / 100 % 100, hash % 100);
}
