/* arguments.h - sorts the arguments of the command line into options and file names.
 * Layer 6. Includes base/, config/. */
#ifndef PLUMB_APP_ARGUMENTS_H
#define PLUMB_APP_ARGUMENTS_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/status.h"

/* Returns true if text has the form key=value. A path with a '=' after a '/' is not an option
 * (runs/lr=1e-5). */
bool plumb_argument_is_option(const char *text);

/* The sorted arguments of a command, without its name. */
struct plumb_arguments {
    /* CONFIG.yaml, or the input file of a command that takes one; NULL if not given. If the user
     * names a file below configs/ that does not exist, `file` is the path of the installed file of
     * that name (io/installed.h). */
    const char *file;
    char installed[4096]; /* the path of an installed file, to which `file` then points */
    char **option;        /* (n,) key=value */
    int n;
    /* memory of the key=value texts that were built from paths without a key */
    struct plumb_buf own[2];
};

/* Sorts argv (n). If the command reads a configuration, its file goes to out->file. If the path
 * names a folder, a data file or weights instead, the function fails with a message that names the
 * option for such a path. For tokenize, a folder becomes tokenizer= and a file of JSON lines
 * becomes input=. number: the position of argv[0] on the command line, for messages. The caller
 * releases *out, also after a failure. PLUMB_ERR_CONFIG. */
plumb_status plumb_arguments_read(struct plumb_arguments *out, const char *command,
                                  char *const *argv, int n, int number);
void plumb_arguments_fini(struct plumb_arguments *a);

#endif
