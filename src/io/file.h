/* file.h - files and folders: reading whole files and lines, atomic writing, copying, hashes,
 * folders, path checks.
 * Layer 1. Includes base/ only. Each error message names the path and, if a system call has failed,
 * the system's error text. */
#ifndef PLUMB_IO_FILE_H
#define PLUMB_IO_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/status.h"

/* plumb_file_exists returns true if path names anything but a folder; plumb_dir_exists returns true
 * if it names a folder. A broken symbolic link counts as a file, so that an optional file with a
 * broken link is reported when it is opened, instead of being skipped silently. */
bool plumb_file_exists(const char *path);
bool plumb_dir_exists(const char *path);
/* Appends the content of a file to out. "-" stands for standard input. A pipe is read to its end.
 * Returns PLUMB_ERR_IO, with the path in the message, if path is a folder or a missing file, or if
 * a read fails. */
plumb_status plumb_file_read(struct plumb_buf *out, const char *path);
/* Sets out to the content of a file of lines, or of standard input ("-"). gzip data is
 * decompressed. Returns PLUMB_ERR_FORMAT if the content is of a known kind other than text
 * (io/kind.h); the message names the kind. */
plumb_status plumb_file_read_lines(struct plumb_buf *out, const char *path);
/* Sets out to the content of a UTF-8 text file, or of standard input ("-"), without the byte order
 * mark. `wanted` describes the expected file in messages, for example "a text file". Returns
 * PLUMB_ERR_IO if path is neither a regular file nor a pipe that a shell made (plumb_file_open in
 * io/kind.h), PLUMB_ERR_UNSUPPORTED if a regular file has more than 2^31 - 1 bytes, and
 * PLUMB_ERR_FORMAT if the content is not text: the message names the kind of file that was found
 * (Git LFS pointer, gzip, HTML page ...) or the line of the first byte that is NUL or not valid
 * UTF-8. */
plumb_status plumb_file_read_text(struct plumb_buf *out, const char *path, const char *wanted);
/* Writes a file atomically: writes path.tmp, calls fsync, renames path.tmp to path, and calls fsync
 * on the folder. If a step up to the renaming fails, for example on a full disk, path is unchanged
 * and path.tmp is removed. */
plumb_status plumb_file_write_atomic(const char *path, const void *bytes, int64_t n);
/* Writes a file atomically in several pieces. After a successful begin, call add any number of
 * times, then either commit or abort, once. If add fails, call abort. commit cleans up after its
 * own failures. */
struct plumb_file_out {
    int fd;
    char part[4096]; /* path of the temporary file: path + ".tmp" */
    char path[4096];
};
plumb_status plumb_file_out_begin(struct plumb_file_out *f, const char *path);
plumb_status plumb_file_out_add(struct plumb_file_out *f, const void *bytes, int64_t n);
plumb_status plumb_file_out_commit(struct plumb_file_out *f);
void plumb_file_out_abort(struct plumb_file_out *f);
plumb_status plumb_file_copy(const char *from, const char *to); /* copies all bytes, atomically */
/* Writes line and a line end to f and flushes f; path is used in messages. */
plumb_status plumb_file_append_line(FILE *f, const char *path, const char *line);
/* Creates a folder and its missing parents; an existing folder is no error. */
plumb_status plumb_dir_create(const char *path);
/* Removes a folder and its content; a missing folder is no error. */
plumb_status plumb_dir_remove(const char *path);
plumb_status plumb_dir_fsync(const char *path);
/* Gives a finished temporary folder its final name `to`, and calls fsync on the folder and its
 * parent. The files inside must already be on disk (fsync). Returns PLUMB_ERR_EXISTS if `to` exists
 * and is not an empty folder. */
plumb_status plumb_dir_publish(const char *from, const char *to);
/* Names of the files and folders in a folder, without "." and "..", sorted by their bytes. Release
 * the list with plumb_names_fini. */
struct plumb_names {
    char **name;
    int64_t n;
};
plumb_status plumb_dir_list(struct plumb_names *out, const char *path);
void plumb_names_fini(struct plumb_names *names);

/* ---- checks of input and output paths, called before a long run, so that a wrong path is reported
 * early ---- */

/* Returns true if both paths lead to the same file or folder. Returns false if one does not
 * exist. */
bool plumb_file_same(const char *a, const char *b);
/* Checks that plumb_file_out can write the file: its folder exists and is writable, path is not a
 * folder and has no ~ or variable that a shell would expand, and the name is short enough that the
 * PLUMB_FILE_ROOM bytes of the suffix ".run.json.tmp" can be appended. `key` is the option that
 * messages name. Returns PLUMB_ERR_ARG, PLUMB_ERR_IO or PLUMB_ERR_EXISTS. */
plumb_status plumb_file_check_output(const char *path, const char *key);
/* Fails if path is a symbolic link to something that does not exist. key names the option in
 * messages. Returns PLUMB_ERR_IO. */
plumb_status plumb_path_check_link(const char *path, const char *key);
/* Checks that path names a file or a folder, or that it is "-". key names the option in messages.
 * Returns PLUMB_ERR_IO. */
plumb_status plumb_file_check_input(const char *path, const char *key);
/* Checks that path is a folder, and that it is not the output folder of a run (run.json without
 * config.json), which holds no model itself. key names the option in messages. Returns
 * PLUMB_ERR_IO; if the path is a file, the message says that a folder is expected. */
plumb_status plumb_dir_check_input(const char *path, const char *key);
/* Checks that path is a writable folder or can be created as one, that it has no ~ or variable that
 * a shell would expand, and that its absolute path is at least PLUMB_DIR_ROOM bytes shorter than
 * PATH_MAX, for the names of the files that a run writes below it. */
enum { PLUMB_DIR_ROOM = 192, PLUMB_FILE_ROOM = 13 };
plumb_status plumb_dir_check_output(const char *path, const char *key);

/* Writes "a/b" to out, which has `size` bytes, with a terminating NUL. If a is empty or ends with a
 * slash, no slash is added. Returns PLUMB_ERR_ARG if it does not fit. */
plumb_status plumb_path_join(char *out, int64_t size, const char *a, const char *b);

/* Compute XXH3 64-bit hashes: of a regular file (a pipe is refused, because it can be read only
 * once), or of n bytes in memory, where `seed` can be the hash of the bytes before them. */
plumb_status plumb_file_hash(uint64_t *out, const char *path);
uint64_t plumb_hash(const void *bytes, int64_t n, uint64_t seed);

/* Calls fn for each line of a text file. `line` is the line without its line end (\n or \r\n),
 * followed by a NUL byte; it is valid until fn returns. "-" stands for standard input. gzip data is
 * decompressed. line_no starts at 1. If the file ends with a line end, no empty line after it is
 * passed to fn. If fn fails, reading stops and its error is returned. A file of a known kind other
 * than text is refused, and the message names its kind (io/kind.h). */
typedef plumb_status plumb_line_fn(void *arg, const char *line, int64_t len, int64_t line_no);
plumb_status plumb_file_lines(const char *path, plumb_line_fn *fn, void *arg);
/* Calls fn for each line of a text in memory, like plumb_file_lines, but the text is not
 * decompressed, its kind is not checked, and no NUL byte follows `line`. */
plumb_status plumb_text_lines(const char *text, int64_t len, plumb_line_fn *fn, void *arg);

#endif
