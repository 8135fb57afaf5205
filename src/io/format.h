/* format.h - the versions of the HDF5 files that plumb writes and reads again, in one table.
 * Layer 1. Includes hdf5.h.
 *
 * Every release of plumb writes the newest version of each format and reads the versions in the
 * table. It refuses any other version with a message that says which version that is, which version
 * of plumb wrote the file, and what the user can do. CHANGELOG.md says which release changed a
 * version. */
#ifndef PLUMB_IO_FORMAT_H
#define PLUMB_IO_FORMAT_H

#include "io/hdf5.h"

/* X(name in the code, attribute "format", attribute with the version, oldest version that is read,
 *   version that is written, what a user can do with a file of another version) */
#define PLUMB_FORMATS(X)                                                                           \
    X(STATE, "plumb trainer state", "version", 2, 2,                                               \
      "resume with the plumb that wrote it, or start a new run from the model in this folder")     \
    X(PAUSE, "plumb answers", "version", 2, 2,                                                     \
      "resume with the plumb that wrote it, or resume from the last complete checkpoint-N")        \
    X(ROLLOUTS, "plumb rollouts", "format_version", 1, 2,                                          \
      "read it with the plumb that wrote it, or generate the rollouts again")                      \
    X(REPLAY, "plumb replay", "version", 2, 2, "replay it with the plumb that wrote it")

enum plumb_format {
#define X(name, ...) PLUMB_FORMAT_##name,
    PLUMB_FORMATS(X)
#undef X
        PLUMB_FORMATS_COUNT
};

/* Adds the attributes "format", the version, and "plumb_version", which is the version of this
 * program. Returns PLUMB_ERR_IO. */
plumb_status plumb_format_put(plumb_h5 *f, enum plumb_format format);

/* Sets *version to the version of the file, which is one that this plumb reads. version may be
 * NULL. Rollouts of versions 1 and 2 that were written before plumb 0.2 have no attribute "format"
 * and are read without it. Errors: PLUMB_ERR_FORMAT for a file of another format or without the
 * attributes; PLUMB_ERR_UNSUPPORTED for a version that this plumb does not read. Both messages name
 * the file. */
plumb_status plumb_format_get(int64_t *version, const plumb_h5 *f, enum plumb_format format);

#endif
