/* block_hash.h - computes the fingerprint of a vector of weights from its tensors one after
 * another, so that the whole vector need not be in memory. Layer 4, private to model/. Includes
 * base/, kernels.h. */
#ifndef PLUMB_MODEL_BLOCK_HASH_H
#define PLUMB_MODEL_BLOCK_HASH_H

#include "base/status.h"
#include "kernels.h"

struct plumb_block_hash {
    float block[PLUMB_HASH_BLOCK];
    int64_t count, at; /* length of the vector in floats; floats added so far */
    uint64_t *out;     /* (count / PLUMB_HASH_BLOCK,) hashes of the blocks */
};

/* Allocates the hash of a vector of `count` floats, a multiple of PLUMB_HASH_BLOCK. */
plumb_status plumb_block_hash_create(struct plumb_block_hash **out, int64_t count);
void plumb_block_hash_destroy(struct plumb_block_hash **h); /* does nothing if *h is NULL */
/* Adds elements [offset, offset + n) of the vector, whose values are x. Elements between the last
 * call's end and offset count as zeros. Offsets must ascend. */
plumb_status plumb_block_hash_add(struct plumb_block_hash *h, int64_t offset, const float *x,
                                  int64_t n);
/* Sets *hash to the fingerprint, which equals the one that plumb_model_refresh computes for the
 * same weights. Elements that no call has added count as zeros. */
plumb_status plumb_block_hash_end(struct plumb_block_hash *h, uint64_t *hash);

#endif
