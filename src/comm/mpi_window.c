/* mpi_window.c - memory that the ranks of a host can read directly.
 * Layer 1. Includes comm/ and base/ only.
 *
 * Each rank creates an anonymous memory file (memfd_create), and the other ranks of the host open
 * it through /proc. Unlike an MPI window, such a file needs no space in /dev/shm, disappears when a
 * rank is killed, can use huge pages, and is freed without a collective. If a rank cannot open the
 * file of a vector (another container on the same host, no /proc), the bytes of the vector go
 * through the ring (mpi_shared.c) instead. If it cannot open the file of a ring, all messages of
 * the host go through MPI. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "comm/mpi_impl.h"

static char *map_file(int fd, int64_t bytes, bool writes)
{
    const int protection = writes ? PROT_READ | PROT_WRITE : PROT_READ;
    void *p = mmap(NULL, (size_t)bytes, protection, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return NULL;
    (void)madvise(p, (size_t)bytes, MADV_HUGEPAGE); /* ignore a kernel without huge pages */
    return p;
}

static void fail(struct plumb_address *a, enum plumb_window_step step)
{
    a->step = step;
    a->error = errno;
}

/* Creates this rank's memory file and maps it. */
static void make(struct plumb_address *a, char **mine, int64_t bytes)
{
    struct stat s;
    const int fd = memfd_create("plumb", MFD_CLOEXEC);
    if (fd >= 0 && ftruncate(fd, (off_t)bytes) == 0 && fstat(fd, &s) == 0)
        *mine = map_file(fd, bytes, true);
    if (!*mine) {
        fail(a, PLUMB_WINDOW_MAKE);
        if (fd >= 0)
            close(fd);
        return;
    }
    a->pid = getpid();
    a->fd = fd;
    a->device = (int64_t)s.st_dev;
    a->inode = (int64_t)s.st_ino;
}

static char *open_peer(const struct plumb_address *a, int64_t bytes, bool writes)
{
    char path[64], *view = NULL;
    struct stat s;
    errno = ENOENT; /* reported if the peer has no file, or the file is not the peer's */
    if (a->fd < 0)
        return NULL;
    snprintf(path, sizeof(path), "/proc/%lld/fd/%lld", (long long)a->pid, (long long)a->fd);
    const int fd = open(path, (writes ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    if (fstat(fd, &s) == 0 && (int64_t)s.st_dev == a->device && (int64_t)s.st_ino == a->inode &&
        (int64_t)s.st_size == bytes)
        view = map_file(fd, bytes, writes);
    close(fd);
    return view;
}

void plumb_window_unmap(char **mine, char **peer, int size, int64_t bytes)
{
    for (int r = 0; peer && r < size; r++) {
        if (peer[r])
            munmap(peer[r], (size_t)bytes);
        peer[r] = NULL;
    }
    if (*mine)
        munmap(*mine, (size_t)bytes);
    *mine = NULL;
}

plumb_status plumb_window_share(struct plumb_mpi *m, char **mine, char **peer, int64_t bytes,
                                bool want, bool writes, bool *ok)
{
    const struct plumb_shared *s = &m->shared;
    const int64_t each = (int64_t)sizeof(s->address[0]), all = m->base.size * each;
    struct plumb_address here = {.fd = -1};
    *ok = false;
    if (want)
        make(&here, mine, bytes);
    plumb_status st = plumb_coll_allgather(&m->base, s->address, all, s->count, &here, each);
    here.reads = *mine != NULL;
    for (int l = 0; l < m->base.local_size && here.reads && st == PLUMB_OK; l++) {
        const int r = s->world_of[l];
        if (r == m->base.rank)
            continue;
        peer[r] = open_peer(&s->address[r], bytes, writes);
        here.reads = peer[r] != NULL;
        if (!here.reads && s->address[r].fd >= 0)
            fail(&here, PLUMB_WINDOW_OPEN);
    }
    /* this allgather also makes sure that all ranks have opened the files before they are closed */
    if (st == PLUMB_OK)
        st = plumb_coll_allgather(&m->base, s->address, all, s->count, &here, each);
    if (here.fd >= 0)
        close((int)here.fd);
    PLUMB_TRY(st);
    *ok = here.reads;
    for (int l = 0; l < m->base.local_size; l++)
        *ok = *ok && s->address[s->world_of[l]].reads;
    return PLUMB_OK;
}

/* Allocates a window. Every rank must call this, even if it is alone on its host or all of its
 * PLUMB_WINDOWS windows are in use. */
plumb_status plumb_window_alloc(plumb_comm *c, void **out, int64_t bytes)
{
    struct plumb_mpi *m = plumb_mpi_of(c);
    struct plumb_window *place = NULL;
    char *mine = NULL;
    bool ok = false;
    const int64_t number = ++m->shared.windows;
    for (int i = 0; i < PLUMB_WINDOWS && !place; i++)
        if (m->shared.window[i].number == 0)
            place = &m->shared.window[i];
    /* The window number is sent through the ring, so without rings no window is shared. */
    const bool want = place && c->local_size > 1 && m->shared.ring[c->rank];
    char **peer = place ? place->peer : NULL;
    const plumb_status st = plumb_window_share(m, &mine, peer, bytes, want, false, &ok);
    if (!ok || st != PLUMB_OK) {
        plumb_window_unmap(&mine, peer, c->size, bytes);
        return st;
    }
    place->number = number;
    place->bytes = bytes;
    place->mine = mine;
    *out = mine;
    return PLUMB_OK;
}

static void close_window(struct plumb_window *w, int size)
{
    plumb_window_unmap(&w->mine, w->peer, size, w->bytes);
    w->number = w->bytes = 0;
}

bool plumb_window_release(plumb_comm *c, void *memory)
{
    struct plumb_mpi *m = plumb_mpi_of(c);
    for (int i = 0; i < PLUMB_WINDOWS; i++)
        if (m->shared.window[i].number && m->shared.window[i].mine == memory) {
            close_window(&m->shared.window[i], c->size);
            return true;
        }
    return false;
}

void plumb_window_destroy(struct plumb_mpi *m)
{
    for (int i = 0; i < PLUMB_WINDOWS; i++)
        close_window(&m->shared.window[i], m->base.size);
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
