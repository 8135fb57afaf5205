/* tfrecord.h - writes and reads TFRecord framing, in which TensorBoard's event files are written.
 * Layer 1. Includes base/.
 *
 * A file is a sequence of records, without a header:
 *
 *     | length (8) | crc of length (4) | data (length) | crc of data (4) |       little endian
 *
 * A crc is CRC-32C (Castagnoli) of the bytes, masked: rotated right by 15 bits, plus 0xa282ead8.
 * Source: TensorFlow, core/lib/io/record_writer.h and core/lib/hash/crc32c.h. */
#ifndef PLUMB_IO_TFRECORD_H
#define PLUMB_IO_TFRECORD_H

#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

/* Returns the CRC-32C of n bytes, not masked. */
uint32_t plumb_crc32c(const void *bytes, int64_t n);

/* Appends one record with n bytes of data to out. Returns PLUMB_ERR_NOMEM if memory runs out. */
plumb_status plumb_tfrecord_put(struct plumb_buf *out, const void *data, int64_t n);

/* Reads the record at offset *at of text, and advances *at to the next record. data (*n,) points
 * into text. Sets *data to NULL at the end of text, also if text ends within a record, because the
 * writer was killed. `where` names the file in messages. Returns PLUMB_ERR_FORMAT for a record
 * whose crc is wrong. */
plumb_status plumb_tfrecord_next(const char **data, int64_t *n, const char *text, int64_t len,
                                 int64_t *at, const char *where);

#endif
