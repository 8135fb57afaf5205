/* manifest.h - hashes.json: what a folder's files were when they were written.
 * Layer 5. Includes base/, io/. */
#ifndef PLUMB_TRAIN_MANIFEST_H
#define PLUMB_TRAIN_MANIFEST_H

#include "base/status.h"

#define PLUMB_MANIFEST_NAME "hashes.json"

/* Hashes every file of dir (no sub-folders) into dir/hashes.json, syncs the folder, and asks the
 * system to drop its cached copies, so that a verify that follows reads the disk. */
plumb_status plumb_manifest_write(const char *dir);

/* Reads every listed file again. Errors: PLUMB_ERR_FORMAT names the first file that is missing, of
 * another length or of another content; PLUMB_ERR_IO when one cannot be read. */
plumb_status plumb_manifest_verify(const char *dir);

#endif
