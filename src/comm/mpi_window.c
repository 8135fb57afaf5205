/* mpi_window.c - memory that the ranks of a host read in place.
 * Layer 1. Includes comm/ and base/ only.
 *
 * Each rank makes an anonymous file in memory; its peers open it through /proc. Unlike an MPI
 * window that needs no room in /dev/shm, leaves nothing behind when a rank is killed, gets huge
 * pages, and is given back without a collective. Where a peer cannot open it (other containers on
 * one host, no /proc) the bytes simply go through the ring. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "comm/mpi_impl.h"

/* How the others find a rank's memory. A process id alone may mean another process there. */
struct address {
    int64_t pid, fd, device, inode; /* fd -1: none */
    int64_t reads;                  /* it can read all of its peers */
};

static char *map_file(int fd, int64_t bytes, int protection)
{
    void *p = mmap(NULL, (size_t)bytes, protection, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return NULL;
    (void)madvise(p, (size_t)bytes, MADV_HUGEPAGE); /* a kernel without them is no failure */
    return p;
}

/* This rank's part: an open file, and it in memory. */
static int make(struct address *a, char **mine, int64_t bytes)
{
    struct stat s;
    const int fd = memfd_create("plumb", MFD_CLOEXEC);
    if (fd < 0)
        return -1;
    if (ftruncate(fd, (off_t)bytes) == 0 && fstat(fd, &s) == 0)
        *mine = map_file(fd, bytes, PROT_READ | PROT_WRITE);
    if (!*mine) {
        close(fd);
        return -1;
    }
    a->pid = getpid();
    a->fd = fd;
    a->device = (int64_t)s.st_dev;
    a->inode = (int64_t)s.st_ino;
    return fd;
}

static char *open_peer(const struct address *a, int64_t bytes)
{
    char path[64], *view = NULL;
    struct stat s;
    if (a->fd < 0)
        return NULL;
    snprintf(path, sizeof(path), "/proc/%lld/fd/%lld", (long long)a->pid, (long long)a->fd);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    if (fstat(fd, &s) == 0 && (int64_t)s.st_dev == a->device && (int64_t)s.st_ino == a->inode &&
        (int64_t)s.st_size == bytes)
        view = map_file(fd, bytes, PROT_READ);
    close(fd);
    return view;
}

static void unmap(struct plumb_window *w, int size)
{
    for (int r = 0; w->peer && r < size; r++)
        if (w->peer[r])
            munmap(w->peer[r], (size_t)w->bytes);
    if (w->mine)
        munmap(w->mine, (size_t)w->bytes);
    free(w->peer);
    *w = (struct plumb_window){0};
}

/* Opens the peers' memory. *ok: every rank of this host can read every other's. */
static plumb_status share(struct plumb_mpi *m, struct plumb_window *w, const struct address *mine,
                          struct address *all, int64_t *count, bool *ok)
{
    const int size = m->base.size;
    const int64_t bytes = (int64_t)sizeof(*mine);
    struct address answer = *mine;
    PLUMB_TRY(plumb_coll_allgather(&m->base, all, size * bytes, count, mine, bytes));
    answer.reads = w->mine != NULL;
    for (int r = 0; r < size && answer.reads; r++)
        if (r != m->base.rank && m->shared.ring[r]) {
            w->peer[r] = open_peer(&all[r], w->bytes);
            answer.reads = w->peer[r] != NULL;
        }
    /* Also tells that all have opened what they need. */
    PLUMB_TRY(plumb_coll_allgather(&m->base, all, size * bytes, count, &answer, bytes));
    *ok = answer.reads;
    for (int r = 0; r < size; r++)
        if (m->shared.ring[r])
            *ok = *ok && all[r].reads;
    return PLUMB_OK;
}

/* All ranks take part, also one that is alone on its host or has no place for a window. */
plumb_status plumb_window_alloc(plumb_comm *c, void **out, int64_t bytes)
{
    struct plumb_mpi *m = plumb_mpi_of(c);
    struct plumb_window *place = NULL, w = {.number = ++m->shared.windows, .bytes = bytes};
    for (int i = 0; i < PLUMB_WINDOWS && !place; i++)
        if (m->shared.window[i].number == 0)
            place = &m->shared.window[i];

    plumb_status st = PLUMB_OK;
    bool ok = false;
    int fd = -1;
    struct address mine = {.fd = -1};
    struct address *all = calloc((size_t)c->size, sizeof(*all));
    int64_t *count = calloc((size_t)c->size, sizeof(*count));
    w.peer = calloc((size_t)c->size, sizeof(*w.peer));
    if (!all || !count || !w.peer)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, done, "window of %d ranks", c->size);
    if (place && c->local_size > 1)
        fd = make(&mine, &w.mine, bytes);
    PLUMB_TRY_GOTO(st, share(m, &w, &mine, all, count, &ok), done);
done:
    if (fd >= 0)
        close(fd);
    free(all);
    free(count);
    if (ok) {
        *place = w;
        *out = w.mine;
    } else {
        unmap(&w, c->size);
    }
    return st;
}

bool plumb_window_release(plumb_comm *c, void *memory)
{
    struct plumb_mpi *m = plumb_mpi_of(c);
    for (int i = 0; i < PLUMB_WINDOWS; i++)
        if (m->shared.window[i].number && m->shared.window[i].mine == memory) {
            unmap(&m->shared.window[i], c->size);
            return true;
        }
    return false;
}

void plumb_window_destroy(struct plumb_mpi *m)
{
    for (int i = 0; i < PLUMB_WINDOWS; i++)
        unmap(&m->shared.window[i], m->base.size);
}

int64_t plumb_window_find(const struct plumb_mpi *m, const void *data, int64_t bytes,
                          int64_t *offset)
{
    for (int i = 0; i < PLUMB_WINDOWS; i++) {
        const struct plumb_window *w = &m->shared.window[i];
        const uintptr_t base = (uintptr_t)w->mine, at = (uintptr_t)data;
        if (w->number && at >= base && at - base <= (uintptr_t)(w->bytes - bytes) &&
            bytes <= w->bytes) {
            *offset = (int64_t)(at - base);
            return w->number;
        }
    }
    return 0;
}

const void *plumb_window_peer(const struct plumb_mpi *m, int peer, int64_t number, int64_t offset)
{
    for (int i = 0; i < PLUMB_WINDOWS; i++)
        if (m->shared.window[i].number == number && m->shared.window[i].peer[peer])
            return m->shared.window[i].peer[peer] + offset;
    return NULL;
}
