/* arguments.h - which of the command line's arguments are options and which name something.
 * Layer 6. Includes base/, config/. */
#ifndef PLUMB_APP_ARGUMENTS_H
#define PLUMB_APP_ARGUMENTS_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/status.h"

/* Whether it is key=value; a path with a '=' behind a '/' is none (runs/lr=1e-5). */
bool plumb_argument_is_option(const char *text);

/* A command's arguments, behind its name. */
struct plumb_arguments {
    const char *file; /* CONFIG.yaml, or the input of a command that takes one; NULL: none */
    char **option;    /* (n,) key=value */
    int n;
    struct plumb_buf own[2]; /* options that were made of what is named alone */
};

/* Sorts argv (n). A command that reads a configuration gets its file; a folder, data or weights
 * in its place are refused with the option that takes them. tokenize takes a folder as tokenizer=
 * and JSON lines as input=. number: of argv[0] on the command line, for messages.
 * *out is released by the caller in any case. PLUMB_ERR_CONFIG. */
plumb_status plumb_arguments_read(struct plumb_arguments *out, const char *command,
                                  char *const *argv, int n, int number);
void plumb_arguments_fini(struct plumb_arguments *a);

#endif
