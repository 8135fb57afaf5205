/* test_start.c - checks what happens if one rank fails while the ranks create the communicator over
 * MPI: the others must not wait for it.
 * Test. mpirun starts it with 3 ranks and the name of a fault. The linker option --wrap redirects
 * plumb's calls (not MPI's) of some functions to this file. */
#include <errno.h>
#include <fcntl.h>
#include <mpi.h>
#include <pthread.h>
#include <stdarg.h>
#include <unistd.h>

#include "comm/mpi_impl.h"
#include "harness.h"

#define TIMEOUT 20.0 /* seconds */

/* name of the function whose call fails on this rank; NULL if none does */
static const char *failing;

static bool fails(const char *call)
{
    return failing && strcmp(failing, call) == 0;
}

void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);
int __real_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*fn)(void *), void *arg);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*fn)(void *), void *arg);
int __real_memfd_create(const char *name, unsigned flags);
int __wrap_memfd_create(const char *name, unsigned flags);
int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);

void *__wrap_malloc(size_t n)
{
    return fails("malloc") ? NULL : __real_malloc(n);
}

int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*fn)(void *), void *arg)
{
    return fails("pthread_create") ? EAGAIN : __real_pthread_create(t, a, fn, arg);
}

int __wrap_memfd_create(const char *name, unsigned flags)
{
    errno = EMFILE;
    return fails("memfd_create") ? -1 : __real_memfd_create(name, flags);
}

int __wrap_open64(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    const int mode = (flags & O_CREAT) != 0 ? va_arg(ap, int) : 0;
    va_end(ap);
    errno = EACCES;
    return fails("open") ? -1 : __real_open64(path, flags, mode);
}

/* Checks the sum of a number, and the sum of a vector in memory that other ranks may read directly.
 * The expected results do not depend on whether the ranks use shared memory. */
static void use(plumb_comm *c)
{
    const int64_t n = 3 * PLUMB_SHARD_BLOCK;
    void *memory = NULL;
    double x = 1 + plumb_comm_rank(c);
    CHECK_OK(plumb_comm_allreduce_f64(c, &x, 1, PLUMB_SUM));
    CHECK(x == 6);
    CHECK_OK(plumb_comm_alloc(c, &memory, n * (int64_t)sizeof(float)));
    float *v = memory;
    for (int64_t i = 0; i < n; i++)
        v[i] = (float)(i % 7 + plumb_comm_rank(c));
    CHECK_OK(plumb_comm_reduce_tree(c, v, n, PLUMB_HOST));
    CHECK_OK(plumb_comm_allgather_shards(c, v, n, PLUMB_HOST));
    for (int64_t i = 0; i < n; i++)
        CHECK(v[i] == (float)(3 * (i % 7) + 3));
    plumb_comm_free(c, memory);
}

/* Checks that the creation fails on every rank, on rank 1 with its own error, and that MPI can
 * still be used. */
static void start_fails(int rank, plumb_status own)
{
    plumb_comm *c = NULL;
    const plumb_status st = plumb_comm_mpi_create(&c, TIMEOUT);
    failing = NULL;
    CHECK(st == (rank == 1 ? own : PLUMB_ERR_PEER) && !c);
    MPI_Barrier(MPI_COMM_WORLD);
}

/* Checks that no rank uses shared memory for messages if one rank could not create it. */
static void start_without_rings(void)
{
    plumb_comm *c = NULL;
    CHECK_OK(plumb_comm_mpi_create(&c, TIMEOUT));
    failing = NULL;
    for (int r = 0; r < 3; r++)
        CHECK(!plumb_shared_reaches(plumb_mpi_of(c), r));
    use(c);
    plumb_comm_destroy(&c);
}

/* Checks that plumb_comm_alloc returns ordinary memory on every rank if one rank cannot share its
 * memory. */
static void window_fails(const char *call, int rank)
{
    plumb_comm *c = NULL;
    void *memory = NULL;
    int64_t at = 0;
    CHECK_OK(plumb_comm_mpi_create(&c, TIMEOUT));
    CHECK(plumb_shared_reaches(plumb_mpi_of(c), (rank + 1) % 3));
    failing = rank == 1 ? call : NULL;
    CHECK_OK(plumb_comm_alloc(c, &memory, 4096));
    CHECK(plumb_window_find(plumb_mpi_of(c), memory, 4096, &at) == 0);
    failing = NULL;
    use(c);
    plumb_comm_free(c, memory);
    plumb_comm_destroy(&c);
}

/* Checks that the other ranks get an error if rank 1 never creates its communicator. */
static void absent(int rank)
{
    plumb_comm *c = NULL;
    if (rank == 1)
        for (;;)
            sleep(1);
    CHECK(plumb_comm_mpi_create(&c, TIMEOUT) == PLUMB_ERR_COMM && !c);
    CHECK(strstr(plumb_trail_message(), "did not arrive at the start"));
    MPI_Abort(MPI_COMM_WORLD, 42);
}

int main(int argc, char **argv)
{
    int level, rank, size;
    CHECK(argc == 2);
    CHECK(MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &level) == MPI_SUCCESS);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    CHECK(size == 3);
    failing = rank == 1 ? argv[1] : NULL;
    if (!strcmp(argv[1], "malloc") || !strcmp(argv[1], "pthread_create"))
        start_fails(rank, PLUMB_ERR_NOMEM);
    else if (!strcmp(argv[1], "absent"))
        absent(rank);
    else
        start_without_rings();
    if (!strcmp(argv[1], "memfd_create") || !strcmp(argv[1], "open"))
        window_fails(argv[1], rank);
    MPI_Finalize();
    return 0;
}
