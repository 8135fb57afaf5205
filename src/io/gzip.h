/* gzip.h - decompresses gzip data. Only gzip.c uses the library zlib.
 * Layer 1. Includes base/ only. */
#ifndef PLUMB_IO_GZIP_H
#define PLUMB_IO_GZIP_H

#include "base/buf.h"
#include "base/status.h"

/* Replaces the gzip data in b by the decompressed data. Several gzip members that follow each other
 * are joined, as gunzip does; zero bytes after a member are ignored. Returns PLUMB_ERR_FORMAT if
 * the data is damaged, ends too early, or is followed by something else. After an error b is
 * unchanged. */
plumb_status plumb_gunzip(struct plumb_buf *b, const char *path);

#endif
