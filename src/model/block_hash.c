/* block_hash.c - hashes the blocks of a flat vector whose tensors come one after the other.
 * Layer 4. Includes model/block_hash.h, base/, io/. */
#include "model/block_hash.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "io/file.h"

plumb_status plumb_block_hash_create(struct plumb_block_hash **out, int64_t count)
{
    struct plumb_block_hash *h = calloc(1, sizeof(*h));
    uint64_t *hashes = calloc((size_t)(count / PLUMB_HASH_BLOCK) + 1, sizeof(*hashes));
    *out = h;
    if (h && hashes) {
        h->count = count;
        h->out = hashes;
        return PLUMB_OK;
    }
    free(hashes);
    plumb_block_hash_destroy(out);
    PLUMB_FAIL(PLUMB_ERR_NOMEM, "the hashes of %lld weights", (long long)count);
}

void plumb_block_hash_destroy(struct plumb_block_hash **h)
{
    if (*h)
        free((*h)->out);
    free(*h);
    *h = NULL;
}

/* Adds n elements; x == NULL stands for zeros. */
static plumb_status add(struct plumb_block_hash *h, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n;) {
        const int64_t in = h->at % PLUMB_HASH_BLOCK;
        const int64_t k = plumb_min_i64(n - i, PLUMB_HASH_BLOCK - in);
        if (x)
            memcpy(h->block + in, x + i, (size_t)k * sizeof(*x));
        else
            memset(h->block + in, 0, (size_t)k * sizeof(*x));
        i += k;
        h->at += k;
        if (h->at % PLUMB_HASH_BLOCK == 0)
            PLUMB_TRY(plumb_ref_hash_blocks(NULL, &h->out[h->at / PLUMB_HASH_BLOCK - 1], h->block,
                                            PLUMB_HASH_BLOCK));
    }
    return PLUMB_OK;
}

plumb_status plumb_block_hash_add(struct plumb_block_hash *h, int64_t offset, const float *x,
                                  int64_t n)
{
    PLUMB_TRY(add(h, NULL, offset - h->at));
    return add(h, x, n);
}

plumb_status plumb_block_hash_end(struct plumb_block_hash *h, uint64_t *hash)
{
    PLUMB_TRY(add(h, NULL, h->count - h->at));
    *hash = plumb_hash(h->out, h->count / PLUMB_HASH_BLOCK * (int64_t)sizeof(*h->out), 0);
    return PLUMB_OK;
}
