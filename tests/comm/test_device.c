/* test_device.c - checks collectives on vectors in device memory: the sums are those in host
 * memory, and only the functions of the device access the vectors. Test. The simulated
 * device is a memory region that is protected while none of its functions runs. */
#include "comm/comm.h"

#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "threads.h"
#include "vectors.h"

#define REGION ((size_t)5 << 20)

struct gpu {
    char *memory; /* (REGION,) bytes, protected from access by the host */
    size_t used;
    int alive;       /* number of allocations that are not released */
    int64_t copies;  /* number of copies so far */
    int64_t fail_at; /* number of the copy that fails; 0: no copy fails */
};

static void reach(struct gpu *g, bool on)
{
    CHECK(!mprotect(g->memory, REGION, on ? PROT_READ | PROT_WRITE : PROT_NONE));
}

static plumb_status fake_alloc(void *arg, void **out, int64_t bytes)
{
    struct gpu *g = arg;
    PLUMB_REQUIRE(g->used + (size_t)bytes <= REGION, PLUMB_ERR_NOMEM, "the test's device is full");
    *out = g->memory + g->used;
    g->used += ((size_t)bytes + 255) / 256 * 256;
    g->alive++;
    return PLUMB_OK;
}

static void fake_release(void *arg, void *data)
{
    ((struct gpu *)arg)->alive -= data != NULL;
}

static plumb_status fake_alloc_host(void *arg, void **out, int64_t bytes)
{
    *out = malloc((size_t)bytes);
    ((struct gpu *)arg)->alive++;
    return PLUMB_OK;
}

static void fake_release_host(void *arg, void *data)
{
    ((struct gpu *)arg)->alive -= data != NULL;
    free(data);
}

static plumb_status fake_copy(struct gpu *g, void *to, const void *from, int64_t bytes)
{
    PLUMB_REQUIRE(++g->copies != g->fail_at, PLUMB_ERR_DEVICE, "the GPU fell off the bus");
    reach(g, true);
    memcpy(to, from, (size_t)bytes);
    reach(g, false);
    return PLUMB_OK;
}

static plumb_status fake_to_host(void *arg, void *host, const void *device, int64_t bytes)
{
    return fake_copy(arg, host, device, bytes);
}

static plumb_status fake_to_device(void *arg, void *device, const void *host, int64_t bytes)
{
    return fake_copy(arg, device, host, bytes);
}

static plumb_status fake_accumulate(void *arg, float *y, const float *x, int64_t n)
{
    reach(arg, true);
    for (int64_t i = 0; i < n; i++)
        y[i] += x[i];
    reach(arg, false);
    return PLUMB_OK;
}

static void gpu_init(struct gpu *g)
{
    *g = (struct gpu){0};
    g->memory = mmap(NULL, REGION, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(g->memory != MAP_FAILED);
}

static void gpu_fini(struct gpu *g)
{
    CHECK(g->alive == 0);
    munmap(g->memory, REGION);
}

static struct plumb_comm_device device_of(struct gpu *g, int64_t piece)
{
    return (struct plumb_comm_device){.arg = g,
                                      .alloc = fake_alloc,
                                      .release = fake_release,
                                      .alloc_host = fake_alloc_host,
                                      .release_host = fake_release_host,
                                      .to_host = fake_to_host,
                                      .to_device = fake_to_device,
                                      .accumulate = fake_accumulate,
                                      .piece = piece};
}

static void same_as_host(plumb_comm *c, int64_t n, int64_t piece)
{
    struct gpu g;
    gpu_init(&g);
    const struct plumb_comm_device d = device_of(&g, piece);
    CHECK_OK(plumb_comm_attach_device(c, &d));
    if (plumb_comm_size(c) > 1) {
        CHECK(!strcmp(plumb_comm_device_name(c), "host memory"));
        CHECK(plumb_comm_attach_device(c, &d) == PLUMB_ERR_ARG);
    }
    vector_check(c, &d, n, true);
    plumb_comm_detach_device(c);
    plumb_comm_detach_device(c);
    CHECK(!strcmp(plumb_comm_device_name(c), "none"));
    gpu_fini(&g);
}

static void contract(plumb_comm *c)
{
    static const int64_t sizes[] = {0, 1, PLUMB_SHARD_BLOCK, 3 * PLUMB_SHARD_BLOCK + 5, 100000};
    static const int64_t pieces[] = {1000, PLUMB_SHARD_BLOCK, 30000, 1 << 20};
    float x = 1;
    if (plumb_comm_size(c) > 1)
        CHECK(plumb_comm_reduce_tree(c, &x, 1, PLUMB_DEVICE) == PLUMB_ERR_ARG);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
        for (size_t k = 0; k < sizeof(pieces) / sizeof(*pieces); k++)
            same_as_host(c, sizes[i], pieces[k]);
}

/* Checks that no rank waits forever if the device of the last rank fails during an exchange. */
static void device_fails(plumb_comm *c)
{
    struct gpu g;
    void *x = NULL;
    const int64_t n = 40000;
    const bool last = plumb_comm_rank(c) == plumb_comm_size(c) - 1;
    gpu_init(&g);
    const struct plumb_comm_device d = device_of(&g, 2000);
    CHECK_OK(plumb_comm_attach_device(c, &d));
    CHECK_OK(fake_alloc(&g, &x, n * 4));
    if (last)
        g.fail_at = 6;
    plumb_comm_timeout(c, 3600); /* longer than the test may take */
    const plumb_status st = plumb_comm_reduce_tree(c, x, n, PLUMB_DEVICE);
    CHECK(st == (last ? PLUMB_ERR_DEVICE : PLUMB_ERR_PEER));
    CHECKF(strstr(plumb_trail_message(), "fell off the bus"), "%s", plumb_trail_message());
    if (last)
        plumb_comm_abort(c, 1);
    CHECK(plumb_comm_barrier(c) != PLUMB_OK);
    plumb_comm_detach_device(c);
    fake_release(&g, x);
    gpu_fini(&g);
}

/* Checks a device that has no memory for the buffers of an exchange: the call fails, and the
 * communicator has no device afterwards. */
static void no_room(plumb_comm *c)
{
    struct gpu g;
    gpu_init(&g);
    const struct plumb_comm_device d = device_of(&g, 0);
    CHECK_FAILS(plumb_comm_attach_device(c, &d), PLUMB_ERR_NOMEM, "device is full");
    CHECK(!strcmp(plumb_comm_device_name(c), "none"));
    gpu_fini(&g);
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "mpi")) {
#ifdef PLUMB_HAVE_MPI
        plumb_comm *c = NULL;
        CHECK_OK(plumb_comm_mpi_create(&c, 120));
        contract(c);
        plumb_comm_destroy(&c);
#endif
        return 0;
    }
    for (int n = 1; n <= 5; n++)
        on_threads(n, contract);
    on_threads(2, device_fails);
    on_threads(4, device_fails);
    on_threads(2, no_room);
    return 0;
}
