/* output.h - writes the output file of a command, and continues an interrupted output.
 * Layer 6. Includes app.h. */
#ifndef PLUMB_APP_OUTPUT_H
#define PLUMB_APP_OUTPUT_H

#include <stdio.h>

#include "app/app.h"

/* Only rank 0 calls these functions; they are not collective.
 *
 *     output=PATH is              resume=  lines are written to      after an error or a kill
 *     -, a pipe or a device       never    PATH directly             the reader has the first lines
 *     missing or empty            any      PATH directly             PATH has the first lines
 *     existing                    never    PATH.tmp, which           PATH is unchanged; a kill
 *                                          replaces PATH at the end  leaves PATH.tmp
 *     existing, of this same run  auto     the end of PATH           PATH has more lines
 *
 * If lines are written to PATH directly, PATH.run.json records which run has written the lines:
 * command, configuration, hashes of the inputs, and number and hash of the lines written so far. It
 * is removed when the output is complete. With resume=auto it stays, so that the same command line,
 * if it is run again, writes no further lines. */
enum plumb_output_kind {
    PLUMB_OUTPUT_TEXT,  /* one text: no PATH.run.json is written and app->cfg->resume is ignored */
    PLUMB_OUTPUT_LINES, /* one JSON line per record, with PATH.run.json as described above */
    /* lines of an additional file of a command, always written directly to PATH; PATH.run.json
     * stays. Without resume=auto the file starts empty. With an empty path nothing is written. */
    PLUMB_OUTPUT_KEPT,
};

struct plumb_output {
    FILE *file;       /* NULL if nothing is written, because the path is empty */
    const char *path; /* path of the output; borrowed */
    char tmp[4096];   /* PATH.tmp if it replaces PATH at the end, else "" */
    char note[4096];  /* PATH.run.json if lines are written to PATH directly, else "" */
    bool keep_note, dirty;
    /* true if PATH.run.json belongs to an incomplete earlier output, which this one replaces */
    bool stale_note;
    /* JSON members of PATH.run.json that stay the same while lines are added */
    struct plumb_buf identity;
    /* number of lines in the file, added ones and ones that existed before */
    int64_t lines;
    uint64_t hash;         /* hash of all lines, chained line by line */
    int64_t flushed_lines; /* number of lines passed to the operating system, and their hash */
    uint64_t flushed_hash;
    double
        noted; /* when PATH.run.json was last written: seconds of the monotonic clock (plumb_now) */
};

/* Opens path for `total` lines of this command, according to app->cfg->resume. o->lines becomes the
 * number of existing lines, which the caller must not make again. Errors: PLUMB_ERR_IO;
 * PLUMB_ERR_CONFIG if resuming is impossible, or if this run differs from the run that wrote the
 * existing lines (the message names the difference); PLUMB_ERR_EXISTS; PLUMB_ERR_FORMAT if the
 * lines were changed after they were written. */
plumb_status plumb_output_open(struct plumb_output *o, struct plumb_app *app,
                               enum plumb_output_kind kind, const char *path, int64_t total);
/* Appends one line with its line end. The argument is a struct plumb_output. */
plumb_status plumb_output_add(void *o, const char *line, int64_t len);
/* Passes all lines so far to the operating system (fflush), so that they are not lost if this
 * process is killed. */
plumb_status plumb_output_flush(struct plumb_output *o);
/* Returns true if the path names a descriptor of this process (/dev/stdout, /dev/fd/N). plumb
 * writes directly to such a path. */
bool plumb_output_is_descriptor(const char *path);
/* Completes the output: syncs and closes the file, and renames PATH.tmp to PATH if it is used. Then
 * removes PATH.run.json, or updates it if it must stay. */
plumb_status plumb_output_commit(struct plumb_output *o);
/* Closes an output that is incomplete. Removes PATH.tmp. If the lines go directly to PATH and none
 * was written, removes PATH and PATH.run.json. Has no effect after commit or a failed open. */
void plumb_output_leave(struct plumb_output *o);

#endif
