/* installed.c - finds the files that `meson install` puts next to the program.
 * Layer 1. Includes io/installed.h, io/file.h. */
#include "io/installed.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"

/* The program is PREFIX/bin/plumb, and the installed files are in PREFIX/share/plumb. */
plumb_status plumb_installed_folder(char *out, int64_t size)
{
    char program[4096];
    const ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);
    PLUMB_REQUIRE(n > 0, PLUMB_ERR_IO, "/proc/self/exe: cannot read the path of this program");
    program[n] = '\0';
    for (int i = 0; i < 2; i++) {
        char *slash = strrchr(program, '/');
        if (slash)
            *slash = '\0';
    }
    return plumb_path_join(out, size, program, "share/plumb");
}

plumb_status plumb_installed_find(char *out, int64_t size, const char *path)
{
    char folder[4096];
    const bool here = plumb_file_exists(path) || plumb_dir_exists(path);
    if (!here && !strncmp(path, "configs/", strlen("configs/"))) {
        PLUMB_TRY(plumb_installed_folder(folder, sizeof(folder)));
        PLUMB_TRY(plumb_path_join(out, size, folder, path));
        if (plumb_file_exists(out) || plumb_dir_exists(out))
            return PLUMB_OK;
    }
    PLUMB_REQUIRE(snprintf(out, (size_t)size, "%s", path) < size, PLUMB_ERR_ARG,
                  "%.200s...: the path is too long", path);
    return PLUMB_OK;
}
