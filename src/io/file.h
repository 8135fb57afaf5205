/* file.h - files and folders: whole reads, lines, atomic writes, hashes.
 * Layer 1. Includes base/ only. Every error names the path and the system's own words. */
#ifndef PLUMB_IO_FILE_H
#define PLUMB_IO_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/status.h"

/* Whether there is something that is no folder. A link that leads nowhere counts: whoever opens it
 * says so, where otherwise a file that is optional would be left out in silence. */
bool plumb_file_exists(const char *path);
bool plumb_dir_exists(const char *path);
/* out += the whole file; "-" is standard input, and a pipe is read to its end. A folder is refused
 * by name. */
plumb_status plumb_file_read(struct plumb_buf *out, const char *path);
/* out = the text of a file of UTF-8 without its byte order mark, of at most 2 GiB. wanted says in
 * messages what the file should be ("a text file"). Errors: PLUMB_ERR_IO for what is no regular
 * file (io/kind.h); PLUMB_ERR_FORMAT naming what the file is instead (Git LFS pointer, gzip,
 * HTML page ...), or the line of a byte that is no UTF-8 text. */
plumb_status plumb_file_read_text(struct plumb_buf *out, const char *path, const char *wanted);
/* Writes path.tmp, fsyncs it, renames it over path, fsyncs the folder. A failed write (a full
 * disk) leaves path as it was and removes path.tmp. */
plumb_status plumb_file_write_atomic(const char *path, const void *bytes, int64_t n);
/* The same in pieces. After a successful begin: any number of adds, then exactly one of commit
 * and abort. A failed add leaves abort to do; commit cleans up after itself. */
struct plumb_file_out {
    int fd;
    char part[4096]; /* path.tmp */
    char path[4096];
};
plumb_status plumb_file_out_begin(struct plumb_file_out *f, const char *path);
plumb_status plumb_file_out_add(struct plumb_file_out *f, const void *bytes, int64_t n);
plumb_status plumb_file_out_commit(struct plumb_file_out *f);
void plumb_file_out_abort(struct plumb_file_out *f);
plumb_status plumb_file_copy(const char *from, const char *to); /* byte for byte, atomic */
plumb_status plumb_file_append_line(FILE *f, const char *path,
                                    const char *line); /* + '\n', flush */
plumb_status plumb_dir_create(const char *path); /* with parents; an existing folder is fine */
plumb_status plumb_dir_remove(const char *path); /* with everything in it; absent is fine */
plumb_status plumb_dir_fsync(const char *path);
/* Renames a finished temporary folder (its files already fsynced) to its name; fsyncs it and
 * its parent. PLUMB_ERR_EXISTS when `to` is there already and not an empty folder. */
plumb_status plumb_dir_publish(const char *from, const char *to);
/* Names in a folder, sorted bytewise, without . and .. ; released by plumb_names_fini. */
struct plumb_names {
    char **name;
    int64_t n;
};
plumb_status plumb_dir_list(struct plumb_names *out, const char *path);
void plumb_names_fini(struct plumb_names *names);

/* ---- checks before any work, so that what is written at its end can be written ---- */

/* Whether both names lead to one file or folder. False when one is not there. */
bool plumb_file_same(const char *a, const char *b);
/* The file can be written by plumb_file_out: its folder is there and may be written to, it is no
 * folder itself, and the name leaves room for
 * .run.json.tmp. key names the option in messages. PLUMB_ERR_ARG,
 * PLUMB_ERR_IO or PLUMB_ERR_EXISTS. */
plumb_status plumb_file_check_output(const char *path, const char *key);
/* The folder can be made and written to, and there is room in a path for all the names that a run
 * gives to files below it (PLUMB_DIR_ROOM bytes). */
enum { PLUMB_DIR_ROOM = 192, PLUMB_FILE_ROOM = 13 };
plumb_status plumb_dir_check_output(const char *path, const char *key);

/* out (size bytes) = "a/b", always terminated; PLUMB_ERR_ARG when it does not fit. */
plumb_status plumb_path_join(char *out, int64_t size, const char *a, const char *b);

/* XXH3 64-bit. Hash of a whole regular file (a pipe is refused: it can be read only once); hash of
 * bytes, chained through seed. */
plumb_status plumb_file_hash(uint64_t *out, const char *path);
uint64_t plumb_hash(const void *bytes, int64_t n, uint64_t seed);

/* Calls fn for every line of a text file ("-" is standard input), without its line end (\n or
 * \r\n); line_no counts from 1; an empty last line does not count. fn's error stops the walk and is
 * passed on. A file that is no text is refused by what it is (io/kind.h). */
typedef plumb_status plumb_line_fn(void *arg, const char *line, int64_t len, int64_t line_no);
plumb_status plumb_file_lines(const char *path, plumb_line_fn *fn, void *arg);
/* The same over text in memory; the lines are not NUL-terminated. */
plumb_status plumb_text_lines(const char *text, int64_t len, plumb_line_fn *fn, void *arg);

#endif
