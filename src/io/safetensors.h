/* safetensors.h - the safetensors file format, read in pieces and written atomically.
 * Layer 1. Includes base/ only.        Format: huggingface/safetensors README, "Format". */
#ifndef PLUMB_IO_SAFETENSORS_H
#define PLUMB_IO_SAFETENSORS_H

#include <stdint.h>

#include "base/status.h"
#include "base/tensor.h"

#define PLUMB_ST_MAX_RANK 8

/* One tensor: of an open file, whose data is read by plumb_st_read and plumb_st_to_f32, or of
 * memory, for the writers, which take it from data. */
struct plumb_st_entry {
    const char *name;
    enum plumb_dtype dtype; /* meaningful only while other is NULL */
    const char *other;      /* a dtype that plumb has no name for, as in the file ("I8"), or NULL */
    int rank;
    int64_t dim[PLUMB_ST_MAX_RANK];
    const void *data;     /* for the writers, aligned or not; NULL in an entry of a file */
    int64_t bytes, count; /* the writers compute their own from dtype and dim */
    const char *file;     /* for messages */
    int64_t at;           /* where the data begins in the file */
    const struct plumb_st_shard *shard; /* the open file; NULL: data */
};

typedef struct plumb_st plumb_st; /* one file, or the shards of a model folder */

/* Opens one file and checks its whole header: length, JSON, duplicate names, dtypes, shapes,
 * offsets without holes or overlaps, size of the data. The file stays open until plumb_st_close and
 * is not mapped, so that a file that shrinks or fails to be read is an error and not a SIGBUS.
 * Errors: PLUMB_ERR_IO; PLUMB_ERR_FORMAT naming file, tensor and rule, or what the file is instead
 * (io/kind.h). */
plumb_status plumb_st_open(plumb_st **out, const char *path);
/* Opens DIR/model.safetensors, or else every shard that DIR/model.safetensors.index.json names;
 * a tensor that is missing from its shard, or in two, is PLUMB_ERR_FORMAT. */
plumb_status plumb_st_open_dir(plumb_st **out, const char *dir);
void plumb_st_close(plumb_st **st); /* NULL is allowed */

int64_t plumb_st_count(const plumb_st *st);
const struct plumb_st_entry *plumb_st_at(const plumb_st *st, int64_t i);          /* file order */
const struct plumb_st_entry *plumb_st_find(const plumb_st *st, const char *name); /* or NULL */

/* out (bytes,) = bytes first .. first+bytes-1 of the tensor's data, as the file has them.
 * PLUMB_ERR_IO naming the file when it cannot be read, or when it became shorter or was written to
 * since it was opened. */
plumb_status plumb_st_read(void *out, const struct plumb_st_entry *e, int64_t first, int64_t bytes);
/* out (count,) = the tensor: float32, bfloat16 and float16 exactly, float64 rounded to nearest.
 * PLUMB_ERR_UNSUPPORTED for any other dtype; PLUMB_ERR_IO as plumb_st_read. */
plumb_status plumb_st_to_f32(float *out, const struct plumb_st_entry *e);

/* Writes entries (data in memory, aligned or not) to path through a temporary file, fsync and
 * rename. metadata: NULL-terminated list of key, value, key, value ... or NULL. The bytes are
 * those of the reference implementation (safetensors 0.8): widest dtype first, then by name; the
 * header padded with spaces to a multiple of 8. PLUMB_ERR_ARG for a name that comes twice. */
plumb_status plumb_st_write(const char *path, const struct plumb_st_entry *entry, int64_t n,
                            const char *const *metadata);
/* The same into DIR with metadata format = pt: one model.safetensors, or, when that would pass
 * shard_bytes of data, shards in the order given (a larger tensor has one of its own) and, after
 * them, their index. PLUMB_ERR_EXISTS for shards beside a model.safetensors. */
plumb_status plumb_st_write_dir(const char *dir, const struct plumb_st_entry *entry, int64_t n,
                                int64_t shard_bytes);

#endif
