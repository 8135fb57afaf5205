/* block_hash.h - the fingerprint of a flat vector of weights that comes tensor by tensor, so that
 * it need not exist as a whole. Layer 4, private to model/. Includes base/, kernels.h. */
#ifndef PLUMB_MODEL_BLOCK_HASH_H
#define PLUMB_MODEL_BLOCK_HASH_H

#include "base/status.h"
#include "kernels.h"

struct plumb_block_hash {
    float block[PLUMB_HASH_BLOCK];
    int64_t count, at; /* floats of the vector; floats so far */
    uint64_t *out;     /* (count / PLUMB_HASH_BLOCK,) hashes of the blocks */
};

/* Allocates the hash of a vector of `count` floats, a multiple of PLUMB_HASH_BLOCK. */
plumb_status plumb_block_hash_create(struct plumb_block_hash **out, int64_t count);
void plumb_block_hash_destroy(struct plumb_block_hash **h); /* does nothing if *h is NULL */
/* Adds the n elements x, which begin at `offset` of the vector; the elements before them that no
 * call has added are zero. The offsets ascend. */
plumb_status plumb_block_hash_add(struct plumb_block_hash *h, int64_t offset, const float *x,
                                  int64_t n);
/* Sets *hash to the fingerprint: that of plumb_model_refresh for a model with these weights. */
plumb_status plumb_block_hash_end(struct plumb_block_hash *h, uint64_t *hash);

#endif
