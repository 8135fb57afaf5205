/* manifest.h - hashes.json: what a folder's files were when they were written.
 * Layer 5. Includes base/, io/. */
#ifndef PLUMB_TRAIN_MANIFEST_H
#define PLUMB_TRAIN_MANIFEST_H

#include <stdbool.h>

#include "base/status.h"

#define PLUMB_MANIFEST_NAME "hashes.json"

/* Hashes every file of dir (no sub-folders) into dir/hashes.json, syncs the folder, and asks the
 * system to drop its cached copies, so that a verify that follows reads the disk. */
plumb_status plumb_manifest_write(const char *dir);

/* Reads every listed file again. decides(name) is true for names that may not stand in the folder
 * without being listed. Errors: PLUMB_ERR_FORMAT names the first file that is missing, of another
 * length, of another content, or not listed; PLUMB_ERR_IO when one cannot be read. */
typedef bool plumb_manifest_name_fn(const char *name);
plumb_status plumb_manifest_verify(const char *dir, plumb_manifest_name_fn *decides);

#endif
