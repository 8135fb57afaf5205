/* kv.h - which pages of a KV store are in use, and by how many sequences.
 * Layer 4, private to model/. Includes base/. */
#ifndef PLUMB_MODEL_KV_H
#define PLUMB_MODEL_KV_H

#include <stdint.h>

#include "base/status.h"

/* Zero-initialise; released with plumb_kv_fini. */
struct plumb_kv {
    int64_t n, n_free;
    int32_t *free; /* (n,) the first n_free are free; the next to take is the last of them */
    int32_t *refs; /* (n,) sequences that hold a page; 0 = free */
};

plumb_status plumb_kv_init(struct plumb_kv *kv, int64_t pages);
void plumb_kv_fini(struct plumb_kv *kv);
void plumb_kv_reset(struct plumb_kv *kv); /* everything free, lowest pages first */
/* *page = a free page, held once. PLUMB_ERR_NOMEM when none is left. */
plumb_status plumb_kv_take(struct plumb_kv *kv, int32_t *page);
void plumb_kv_share(struct plumb_kv *kv, int32_t page); /* held once more */
void plumb_kv_drop(struct plumb_kv *kv, int32_t page);  /* held once less; free at 0 */

#endif
