/* safetensors.h - reads safetensors files tensor by tensor, and writes them atomically.
 * Layer 1. Includes base/ only.        Format: huggingface/safetensors README, "Format". */
#ifndef PLUMB_IO_SAFETENSORS_H
#define PLUMB_IO_SAFETENSORS_H

#include <stdint.h>

#include "base/status.h"
#include "base/tensor.h"

#define PLUMB_ST_MAX_RANK 8

/* One tensor. An entry of an open file is read with plumb_st_read and plumb_st_to_f32. For the
 * writers, the caller fills an entry and points `data` at the tensor in memory, or sets `fetch`. */
struct plumb_st_entry {
    const char *name;
    enum plumb_dtype dtype; /* valid only if `other` is NULL */
    /* Name of a dtype without a plumb_dtype, as in the file ("I8"); otherwise NULL. */
    const char *other;
    int rank;
    int64_t dim[PLUMB_ST_MAX_RANK];
    const void *data; /* input of the writers, with any alignment; NULL in an entry of a file */
    /* Used by the writers if `data` is NULL, to get a tensor at the moment when it is written: sets
     * *data to the tensor's data, which stays valid until the next call. */
    plumb_status (*fetch)(void *arg, const struct plumb_st_entry *e, const void **data);
    void *arg;
    /* Numbers of bytes and of elements of the tensor. The readers set them; the writers ignore
     * them and use dtype and dim. */
    int64_t bytes, count;
    const char *file;                   /* path of the file, for messages */
    int64_t at;                         /* offset of the tensor's data in the file */
    const struct plumb_st_shard *shard; /* the open file, or NULL if the tensor is in memory */
};

typedef struct plumb_st plumb_st; /* one open file, or all shards of a model folder */

/* Opens one file and checks its whole header: length, JSON syntax, duplicate names, dtypes, shapes,
 * offsets without gaps or overlaps, and the size of the data. The file stays open until
 * plumb_st_close. It is read with pread and not memory-mapped, so that a truncated file or a read
 * error gives an error code instead of SIGBUS. Returns PLUMB_ERR_IO, or PLUMB_ERR_FORMAT with the
 * file, the tensor and the violated rule, or with the kind of file that was found (io/kind.h). */
plumb_status plumb_st_open(plumb_st **out, const char *path);
/* Opens DIR/model.safetensors if it exists, otherwise all shards that
 * DIR/model.safetensors.index.json names. Returns PLUMB_ERR_FORMAT if a tensor is missing from its
 * shard or is in two shards. */
plumb_status plumb_st_open_dir(plumb_st **out, const char *dir);
void plumb_st_close(plumb_st **st); /* does nothing if *st is NULL */

int64_t plumb_st_count(const plumb_st *st);
/* Returns tensor i in [0, count). Tensors are in the order of their data in the file; the tensors
 * of several shards are in the order of the names of the shards. */
const struct plumb_st_entry *plumb_st_at(const plumb_st *st, int64_t i);
/* Returns the tensor with this name, or NULL if there is none. */
const struct plumb_st_entry *plumb_st_find(const plumb_st *st, const char *name);

/* Returns the metadata text with this key of the first file that has it; NULL if there is none. */
const char *plumb_st_metadata(const plumb_st *st, const char *key);

/* Copies bytes first .. first+bytes-1 of the tensor's data, as stored in the file, to out (bytes,).
 * Returns PLUMB_ERR_IO with the file's name if the file cannot be read, or if its size or
 * modification time has changed since it was opened. */
plumb_status plumb_st_read(void *out, const struct plumb_st_entry *e, int64_t first, int64_t bytes);
/* Converts the tensor to float32, into out (count,): float32, bfloat16 and float16 exactly, float64
 * rounded to nearest. Returns PLUMB_ERR_UNSUPPORTED for any other dtype, and PLUMB_ERR_IO like
 * plumb_st_read. */
plumb_status plumb_st_to_f32(float *out, const struct plumb_st_entry *e);

/* Writes the entries to path atomically (temporary file, fsync, rename). metadata is a
 * NULL-terminated list of key, value, key, value ..., or NULL. The bytes equal those of the
 * reference implementation (safetensors 0.8): tensors are sorted by dtype (int64, float64, float32,
 * int32, bfloat16, float16, uint8) and then by name; the header is padded with spaces to a multiple
 * of 8 bytes. Returns PLUMB_ERR_ARG if two entries have the same name or one is called
 * __metadata__. */
plumb_status plumb_st_write(const char *path, const struct plumb_st_entry *entry, int64_t n,
                            const char *const *metadata);
/* Writes the entries to the folder DIR with the metadata format = pt. If their data have at most
 * shard_bytes bytes, or there is only one tensor, they form one file model.safetensors. Otherwise
 * they are split in the given order into shards of at most shard_bytes (a larger tensor gets a
 * shard of its own); the index is written last. Returns PLUMB_ERR_EXISTS if shards are needed and
 * DIR already has a model.safetensors. */
plumb_status plumb_st_write_dir(const char *dir, const struct plumb_st_entry *entry, int64_t n,
                                int64_t shard_bytes);

#endif
