/* manifest.h - hashes.json: sizes and hashes of a folder's files at the time of writing.
 * Layer 5. Includes base/, io/. */
#ifndef PLUMB_TRAIN_MANIFEST_H
#define PLUMB_TRAIN_MANIFEST_H

#include <stdbool.h>

#include "base/status.h"

#define PLUMB_MANIFEST_NAME "hashes.json"

/* Writes size and hash of every file of dir and of its sub-folders (one level, as "FOLDER/FILE") to
 * dir/hashes.json, and syncs files and folders. It asks the operating system to drop the cached
 * pages, so that plumb_manifest_verify reads from the disk. */
plumb_status plumb_manifest_write(const char *dir);

/* plumb_manifest_verify reads every file that hashes.json lists and compares it with its hash.
 * decides(name) must return true for a file that must be listed if it exists. Errors:
 * PLUMB_ERR_FORMAT names the first file that is missing, has another length or content, or must be
 * listed but is not; PLUMB_ERR_IO if a file cannot be read. */
typedef bool plumb_manifest_name_fn(const char *name);
plumb_status plumb_manifest_verify(const char *dir, plumb_manifest_name_fn *decides);

#endif
