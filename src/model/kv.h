/* kv.h - records which pages of a KV cache are free and how many sequences use each page.
 * Layer 4, private to model/. Includes base/. */
#ifndef PLUMB_MODEL_KV_H
#define PLUMB_MODEL_KV_H

#include <stdint.h>

#include "base/status.h"

/* The pages of a KV cache. Set the struct to zero and call plumb_kv_init before use, and
 * plumb_kv_fini afterwards. */
struct plumb_kv {
    int64_t n, n_free;
    int32_t *free; /* (n,) a stack: free[0 .. n_free-1] are the free pages */
    int32_t *refs; /* (n,) number of sequences that use each page; 0 if the page is free */
};

plumb_status plumb_kv_init(struct plumb_kv *kv, int64_t pages);
void plumb_kv_fini(struct plumb_kv *kv);
void plumb_kv_reset(struct plumb_kv *kv); /* frees all pages; the lowest ones are taken first */
/* Takes a free page and sets its reference count to 1. Fails with PLUMB_ERR_NOMEM if no page is
 * free. */
plumb_status plumb_kv_take(struct plumb_kv *kv, int32_t *page);
/* Takes free pages and appends them to a sequence's page table, which has *pages pages, until the
 * table covers position pos. */
plumb_status plumb_kv_cover(struct plumb_kv *kv, int32_t *table, int64_t *pages, int64_t pos);
/* adds a reference to a page that is in use */
void plumb_kv_share(struct plumb_kv *kv, int32_t page);
/* removes a reference to a page; without references it becomes free */
void plumb_kv_drop(struct plumb_kv *kv, int32_t page);

#endif
