/* installed.h - finds the files that `meson install` puts next to the program.
 * Layer 1. Includes base/ only. */
#ifndef PLUMB_IO_INSTALLED_H
#define PLUMB_IO_INSTALLED_H

#include <stdint.h>

#include "base/status.h"

/* Writes the folder share/plumb beside the bin folder of the running program to out (size bytes).
 * The folder exists only if plumb is installed. The path is computed from the path of the running
 * program, so an installation can be moved to another folder. Returns PLUMB_ERR_IO or
 * PLUMB_ERR_ARG. */
plumb_status plumb_installed_folder(char *out, int64_t size);

/* Writes path to out (size bytes). If path begins with configs/ and does not exist, but exists
 * below the folder of plumb_installed_folder, writes that path instead. Returns PLUMB_ERR_IO or
 * PLUMB_ERR_ARG. */
plumb_status plumb_installed_find(char *out, int64_t size, const char *path);

#endif
