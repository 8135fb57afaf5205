/* kv.c - reference counts of KV pages and the stack of free pages.
 * Layer 4. Includes model/kv.h, kernels.h. */
#include "model/kv.h"

#include <assert.h>
#include <stdlib.h>

#include "kernels.h"

plumb_status plumb_kv_init(struct plumb_kv *kv, int64_t pages)
{
    PLUMB_REQUIRE(pages >= 1 && pages <= INT32_MAX, PLUMB_ERR_ARG,
                  "a KV cache of %lld pages, expected 1 to %d", (long long)pages, INT32_MAX);
    kv->n = pages;
    kv->free = calloc((size_t)pages, sizeof *kv->free);
    kv->refs = calloc((size_t)pages, sizeof *kv->refs);
    if (!kv->free || !kv->refs) {
        plumb_kv_fini(kv);
        PLUMB_FAIL(PLUMB_ERR_NOMEM, "the reference counts of %lld KV pages", (long long)pages);
    }
    plumb_kv_reset(kv);
    return PLUMB_OK;
}

void plumb_kv_fini(struct plumb_kv *kv)
{
    free(kv->free);
    free(kv->refs);
    *kv = (struct plumb_kv){0};
}

void plumb_kv_reset(struct plumb_kv *kv)
{
    for (int64_t i = 0; i < kv->n; i++) {
        kv->free[i] = (int32_t)(kv->n - 1 - i);
        kv->refs[i] = 0;
    }
    kv->n_free = kv->n;
}

plumb_status plumb_kv_take(struct plumb_kv *kv, int32_t *page)
{
    PLUMB_REQUIRE(kv->n_free > 0, PLUMB_ERR_NOMEM, "all %lld KV pages are in use",
                  (long long)kv->n);
    *page = kv->free[--kv->n_free];
    kv->refs[*page] = 1;
    return PLUMB_OK;
}

plumb_status plumb_kv_cover(struct plumb_kv *kv, int32_t *table, int64_t *pages, int64_t pos)
{
    while (*pages * PLUMB_KV_PAGE <= pos) {
        PLUMB_TRY(plumb_kv_take(kv, &table[*pages]));
        ++*pages;
    }
    return PLUMB_OK;
}

void plumb_kv_share(struct plumb_kv *kv, int32_t page)
{
    assert(kv->refs[page] > 0);
    kv->refs[page]++;
}

void plumb_kv_drop(struct plumb_kv *kv, int32_t page)
{
    assert(kv->refs[page] > 0);
    if (--kv->refs[page] == 0)
        kv->free[kv->n_free++] = page;
}
