/* rollout_columns.h - the arrays and attributes of a rollout file.
 * Layer 4, private to rollout_store.c and rollout_master.c. Includes data/rollout_store.h, io/. */
#ifndef PLUMB_DATA_ROLLOUT_COLUMNS_H
#define PLUMB_DATA_ROLLOUT_COLUMNS_H

#include <stddef.h>

#include "data/rollout_store.h"
#include "io/hdf5.h"

/* The kind of length of an array in a rollout file: the number of rollouts, that number + 1, or the
 * number of all tokens, of all completion tokens, or of all bytes of records. */
enum plumb_rollout_length {
    PLUMB_PER_ROLLOUT,
    PLUMB_PER_ROLLOUT_1,
    PLUMB_PER_TOKEN,
    PLUMB_PER_LOGPROB,
    PLUMB_PER_BYTE
};
/* Describes one array of a rollout file and the member of struct plumb_rollout_store with its data.
 */
struct plumb_rollout_column {
    const char *name;
    enum plumb_h5_type type;
    enum plumb_rollout_length length;
    size_t at; /* offset of the pointer in struct plumb_rollout_store */
    /* True if the master file stores the array itself instead of referring to the arrays of the
     * rank files, because the values depend on the global order. */
    bool in_the_file;
};
enum { PLUMB_ROLLOUT_COLUMNS = 18 };
extern const struct plumb_rollout_column plumb_rollout_columns[PLUMB_ROLLOUT_COLUMNS];

/* Returns the number of elements of an array with this kind of length, in a file with n rollouts
 * and these numbers of tokens, completion tokens (logprobs) and bytes of records. */
int64_t plumb_rollout_column_length(enum plumb_rollout_length l, int64_t n, int64_t tokens,
                                    int64_t logprobs, int64_t bytes);
/* Returns the address of the pointer in *r that points to the array of a column. */
void **plumb_rollout_column_data(const struct plumb_rollout_store *r,
                                 const struct plumb_rollout_column *c);

/* Writes the name of a rank's file to out; rank -1 gives the master file. */
void plumb_rollout_file_name(char out[64], int64_t iteration, int64_t rank);
/* Write and read the attributes that the head of data/rollout_store.h lists. */
plumb_status plumb_rollout_meta_put(plumb_h5 *f, const struct plumb_rollout_meta *m, int64_t rank);
plumb_status plumb_rollout_meta_get(const plumb_h5 *f, struct plumb_rollout_meta *m, int64_t *rank,
                                    int64_t *version);
/* Checks that offset (n+1,) begins with 0, never decreases and ends with `end`. Otherwise returns
 * PLUMB_ERR_FORMAT with the name of the array. */
plumb_status plumb_rollout_check_offsets(const int64_t *offset, int64_t n, int64_t end,
                                         const char *name, const char *path);

#endif
