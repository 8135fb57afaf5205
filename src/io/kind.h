/* kind.h - determines what kind of file a path names, from its file type and its first bytes. The
 * name of the file plays no role.
 * Layer 1. Includes base/ only.
 *
 * Each parser of this folder calls one of these functions first, so that its error message says "a
 * Git LFS pointer", "gzip-compressed data" or "an HTML page" and does not report a syntax error. */
#ifndef PLUMB_IO_KIND_H
#define PLUMB_IO_KIND_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* columns: id, name with its article, advice for the user if another kind was expected ("" if there
 * is no advice) */
#define PLUMB_FILE_KIND_LIST(X)                                                                    \
    X(TEXT, "a text file", "")                                                                     \
    X(JSON, "JSON text", "")                                                                       \
    X(EMPTY, "an empty file", "")                                                                  \
    X(SAFETENSORS, "a safetensors file", "")                                                       \
    X(HDF5, "an HDF5 file", "")                                                                    \
    X(FOLDER, "a folder", "name a file")                                                           \
    X(FIFO, "a named pipe", "write its data to a regular file first")                              \
    X(SOCKET, "a socket", "name a regular file")                                                   \
    X(DEVICE, "a device", "name a regular file")                                                   \
    X(LFS_POINTER, "a Git LFS pointer, not the file itself", "fetch the file: git lfs pull")       \
    X(HTML, "an HTML page, for example the error page of a download", "download the file again")   \
    X(XML, "an XML document, for example the error page of a download", "download the file again") \
    X(UTF16, "UTF-16 text", "convert it to UTF-8: iconv -f UTF-16 -t UTF-8")                       \
    X(UTF32, "UTF-32 text", "convert it to UTF-8: iconv -f UTF-32 -t UTF-8")                       \
    X(ZEROS, "filled with zero bytes, as after a crash or a broken copy", "copy it again")         \
    X(GZIP, "gzip-compressed data", "decompress it: gunzip")                                       \
    X(ZSTD, "Zstandard-compressed data", "decompress it: unzstd")                                  \
    X(XZ, "xz-compressed data", "decompress it: unxz")                                             \
    X(BZIP2, "bzip2-compressed data", "decompress it: bunzip2")                                    \
    X(LZ4, "LZ4-compressed data", "decompress it: unlz4")                                          \
    X(SEVEN_ZIP, "a 7z archive", "unpack it")                                                      \
    X(TAR, "a tar archive", "unpack it: tar xf")                                                   \
    X(ZIP, "a zip archive", "unpack it: unzip")                                                    \
    X(TORCH, "a PyTorch checkpoint (pickle in a zip archive)",                                     \
      "convert it to safetensors: model.save_pretrained of transformers")                          \
    X(NPZ, "a NumPy archive (.npz)", "")                                                           \
    X(NPY, "a NumPy array (.npy)", "")                                                             \
    X(PICKLE, "a Python pickle, for example an old PyTorch checkpoint",                            \
      "convert it to safetensors: model.save_pretrained of transformers")                          \
    X(GGUF, "a GGUF model", "take the checkpoint in safetensors that it was made from")            \
    X(PARQUET, "a Parquet file",                                                                   \
      "write it as JSON lines: python3 -c \"import pandas; pandas.read_parquet('IN.parquet')"      \
      ".to_json('OUT.jsonl', orient='records', lines=True)\"")                                     \
    X(ARROW, "an Arrow file",                                                                      \
      "write it as JSON lines: python3 -c \"import datasets; "                                     \
      "datasets.Dataset.from_file('IN.arrow').to_json('OUT.jsonl')\"")                             \
    X(SQLITE, "an SQLite database", "")                                                            \
    X(PDF, "a PDF document", "")                                                                   \
    X(IMAGE, "an image", "")                                                                       \
    X(ELF, "a program or a library", "")                                                           \
    X(APPLE_DOUBLE, "a macOS metadata file (AppleDouble)", "take the file without ._ in its name") \
    X(BINARY, "binary data of an unknown kind", "")

enum plumb_file_kind {
#define X(id, name, advice) PLUMB_FILE_##id,
    PLUMB_FILE_KIND_LIST(X)
#undef X
        PLUMB_FILE_KINDS
};

/* number of bytes that plumb_file_kind_of needs; fewer are enough if the file is shorter */
enum { PLUMB_FILE_HEAD = 512 };

const char *plumb_file_kind_name(enum plumb_file_kind k); /* returns a name such as "a folder" */
/* Returns a text such as "decompress it: gunzip", or "" if there is no advice. */
const char *plumb_file_kind_advice(enum plumb_file_kind k);

/* Returns the kind of a file from its first n bytes. */
enum plumb_file_kind plumb_file_kind_of(const void *head, int64_t n);
/* Determines the kind of the file at path from its file type and its first bytes. A pipe, socket or
 * device is not opened. Returns PLUMB_ERR_IO if there is no file or it cannot be read. */
plumb_status plumb_file_kind_at(enum plumb_file_kind *out, const char *path);

/* Returns PLUMB_ERR_FORMAT with the message "PATH: is KIND, expected WANTED; ADVICE" if the first n
 * bytes of a file show a known kind other than text. Accepts text, empty files, and binary data of
 * an unknown kind. */
plumb_status plumb_file_expect_text(const char *path, const char *wanted, const void *head,
                                    int64_t n);
/* Checks that the file at path is of kind `want`. Returns PLUMB_ERR_IO if there is no file or it is
 * not a regular file, and PLUMB_ERR_FORMAT if it is of another kind. */
plumb_status plumb_file_expect(const char *path, enum plumb_file_kind want);

/* Opens a file for reading; the caller closes *fd. Only regular files are accepted, unless
 * `streams` is true: then pipes and devices are accepted too. Paths of open descriptors (/dev/fd/N,
 * /dev/stdin, /proc/self/fd/N), such as the pipes of a shell, are always accepted, unless they are
 * folders. Returns PLUMB_ERR_IO with the kind of file that was found, or with the target of a
 * broken link. */
plumb_status plumb_file_open(int *fd, const char *path, bool streams);

#endif
