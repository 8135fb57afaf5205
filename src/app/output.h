/* output.h - where the lines of a command go, and how an interrupted output is continued.
 * Layer 6. Includes app.h. */
#ifndef PLUMB_APP_OUTPUT_H
#define PLUMB_APP_OUTPUT_H

#include <stdio.h>

#include "app/app.h"

/* All functions are called on rank 0 alone and are not collective.
 *
 *     output=PATH is              resume=  the lines go              after an error or a kill
 *     -, a pipe or a device       never    there, as they come       the reader has the first lines
 *     not there, or empty         any      to PATH, as they come     PATH has the first lines
 *     there                       never    to PATH.tmp, which        PATH is what it was; a kill
 *                                          replaces PATH at the end  leaves PATH.tmp
 *     there, of this same run     auto     to PATH, behind those     PATH has more lines
 *                                          that it has
 *
 * PATH.run.json stands beside a PATH that grows. It says which run the lines belong to: command,
 * configuration, hashes of the inputs, and number and hash of the lines written so far. It is
 * removed when the output is complete, but with resume=auto it stays, so that the same command
 * line run once more finds that nothing is left to do. */
enum plumb_output_kind {
    PLUMB_OUTPUT_TEXT,  /* one text: no note is written and app->cfg->resume is not looked at */
    PLUMB_OUTPUT_LINES, /* as above */
    PLUMB_OUTPUT_KEPT,  /* lines that a command keeps beside its output, in a file that always
                         * grows: the note stays, without resume=auto they are begun anew. With an
                         * empty path nothing is kept. */
};

struct plumb_output {
    FILE *file;       /* NULL: nothing is kept */
    const char *path; /* borrowed */
    char tmp[4096];   /* PATH.tmp when it is to replace PATH, else "" */
    char note[4096];  /* PATH.run.json when PATH grows, else "" */
    bool keep_note, dirty;
    bool stale_note; /* PATH.run.json is of a run that left PATH incomplete, and that is replaced */
    struct plumb_buf identity; /* the members of the note that do not change */
    int64_t lines;             /* added to the file, and those that it had */
    uint64_t hash;             /* of all of them, chained line by line */
    int64_t flushed_lines;     /* of those, the ones that the system has, and their hash */
    uint64_t flushed_hash;
    double noted; /* when the note was last written */
};

/* Opens path for the lines of this command, `total` of them, by app->cfg->resume. o->lines is then
 * the number of lines that are there already, which the caller does not make again. Errors:
 * PLUMB_ERR_IO; PLUMB_ERR_CONFIG where resume cannot be honoured, or names what differs from the
 * run that the lines belong to; PLUMB_ERR_EXISTS; PLUMB_ERR_FORMAT when the lines are not those
 * that were written. */
plumb_status plumb_output_open(struct plumb_output *o, struct plumb_app *app,
                               enum plumb_output_kind kind, const char *path, int64_t total);
/* Appends one line, its line end included. The argument is a struct plumb_output. */
plumb_status plumb_output_add(void *o, const char *line, int64_t len);
/* Hands all lines so far to the system, so that a kill of this process does not lose them. */
plumb_status plumb_output_flush(struct plumb_output *o);
/* Whether the path names a descriptor of this process (/dev/stdout, /dev/fd/N): what it leads to is
 * written as it is, whatever it is. */
bool plumb_output_is_descriptor(const char *path);
/* The output is complete. */
plumb_status plumb_output_commit(struct plumb_output *o);
/* The run ends before the output is complete. Harmless after commit or a failed open. */
void plumb_output_leave(struct plumb_output *o);

#endif
