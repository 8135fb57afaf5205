/* host.c - the host memory of the CPU backends (aligned, with huge pages for large allocations),
 * and how much of it is available. Layer 2. Includes host.h, base/. */
#include "backend/host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/num.h"

enum { ALIGN = 256, HUGE_PAGE = 2 << 20 };

/* Allocates host memory. Allocations of 2 MB and more are aligned to 2 MB and request huge pages,
 * which avoids most TLB misses in the GEMM. */
static plumb_status host_take(struct plumb_backend *b, void **out, int64_t bytes, const char *what)
{
    (void)b;
    *out = NULL;
    PLUMB_REQUIRE(bytes >= 0 && bytes < INT64_MAX - HUGE_PAGE, PLUMB_ERR_NOMEM,
                  "%s: a size of %lld bytes, expected 0 to %lld", what ? what : "?",
                  (long long)bytes, (long long)(INT64_MAX - HUGE_PAGE - 1));
    const int64_t align = bytes >= HUGE_PAGE ? HUGE_PAGE : ALIGN;
    const int64_t size = plumb_ceil_div(plumb_max_i64(bytes, 1), align) * align;
    void *data = aligned_alloc((size_t)align, (size_t)size);
    PLUMB_REQUIRE(data, PLUMB_ERR_NOMEM, "%s: the host cannot provide %lld bytes",
                  what ? what : "?", (long long)bytes);
#ifdef MADV_HUGEPAGE
    if (align == HUGE_PAGE)
        /* only a hint: without huge pages the program is slower, but correct */
        (void)madvise(data, (size_t)size, MADV_HUGEPAGE);
#endif
    *out = data;
    return PLUMB_OK;
}

static void host_give(struct plumb_backend *b, void *data)
{
    (void)b;
    free(data);
}

static plumb_status host_zero(struct plumb_backend *b, void *data, int64_t bytes)
{
    (void)b;
    if (bytes > 0)
        memset(data, 0, (size_t)bytes);
    return PLUMB_OK;
}

static plumb_status host_copy_in(struct plumb_backend *b, void *device, const void *host,
                                 int64_t bytes)
{
    (void)b;
    if (bytes > 0)
        memcpy(device, host, (size_t)bytes);
    return PLUMB_OK;
}

static plumb_status host_copy_out(struct plumb_backend *b, void *host, const void *device,
                                  int64_t bytes)
{
    return host_copy_in(b, host, device, bytes);
}

static plumb_status host_sync(struct plumb_backend *b)
{
    (void)b;
    return PLUMB_OK;
}

/* Reads the number that follows the text `before` in the first line that begins so. Returns false
 * if the file cannot be opened or has no such line. */
static bool read_number(const char *path, const char *before, int64_t *out)
{
    char line[128];
    long long n;
    bool found = false;
    const size_t skip = strlen(before);
    FILE *f = fopen(path, "r");
    while (f && !found && fgets(line, sizeof(line), f))
        found = strncmp(line, before, skip) == 0 && sscanf(line + skip, "%lld", &n) == 1;
    if (f)
        fclose(f);
    if (found)
        *out = n;
    return found;
}

plumb_status plumb_host_available(int64_t *bytes)
{
    int64_t free_kib, limit;
    PLUMB_REQUIRE(read_number("/proc/meminfo", "MemAvailable:", &free_kib), PLUMB_ERR_DEVICE,
                  "cannot read MemAvailable from /proc/meminfo");
    *bytes = free_kib * 1024;
    if (read_number("/sys/fs/cgroup/memory.max", "", &limit))
        *bytes = plumb_min_i64(*bytes, limit);
    return PLUMB_OK;
}

static plumb_status host_available(struct plumb_backend *b, int64_t *bytes)
{
    (void)b;
    return plumb_host_available(bytes);
}

static void host_destroy(struct plumb_backend *b)
{
    plumb_pool *pool = (plumb_pool *)(void *)b->stream;
    plumb_pool_destroy(&pool);
    free(b);
}

plumb_status plumb_backend_host_create(struct plumb_backend **out, const char *name, int threads)
{
    plumb_status st = PLUMB_OK;
    plumb_pool *pool = NULL;
    *out = NULL;
    struct plumb_backend *b = malloc(sizeof(*b));
    PLUMB_REQUIRE(b, PLUMB_ERR_NOMEM, "the data of the backend %s", name);
    if (threads > 1)
        PLUMB_TRY_GOTO(st, plumb_pool_create(&pool, threads), fail);
    *b = (struct plumb_backend){.name = name,
                                .place = PLUMB_HOST,
                                .threads = threads,
                                .stream = (plumb_stream *)(void *)pool,
                                .page = HUGE_PAGE,
                                .alloc = plumb_memory_alloc,
                                .release = plumb_memory_release,
                                .alloc_host = host_take,
                                .release_host = host_give,
                                .zero = host_zero,
                                .to_device = host_copy_in,
                                .copy = host_copy_in,
                                .fetch = host_copy_in,
                                .fetched = host_sync,
                                .to_host = host_copy_out,
                                .sync = host_sync,
                                .take = host_take,
                                .give = host_give,
                                .available = host_available,
                                .send = host_copy_in,
                                .receive = host_copy_out,
                                .destroy = host_destroy};
    *out = b;
    return PLUMB_OK;
fail:
    free(b);
    return st;
}
