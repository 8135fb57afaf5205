/* hdf5_driver.c - HDF5 file driver that uses pread and pwrite, takes no locks and stores the text
 * of the first error. Layer 1. Includes base/ only. */
#include "io/hdf5_driver.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_ADDRESS (((haddr_t)1 << 62) - 1)

struct file {
    /* must be the first member, because the library has only a pointer to this member */
    H5FD_t base;
    int fd;
    bool writing;
    /* eoa is the offset of the end of the bytes that the library has allocated; eof is the size of
     * the file in bytes. */
    haddr_t eoa, eof;
    struct plumb_h5_fault *fault;
};
struct access {
    struct plumb_h5_fault *fault;
};

static void note(struct file *f, const char *what, int error)
{
    if (!f->fault->text[0])
        snprintf(f->fault->text, sizeof f->fault->text, "%s: %s", what, strerror(error));
}

static H5FD_t *driver_open(const char *name, unsigned flags, hid_t access_list, haddr_t maxaddr)
{
    const struct access *a = H5Pget_driver_info(access_list);
    struct file *f = a ? calloc(1, sizeof *f) : NULL;
    (void)maxaddr;
    if (!f)
        return NULL;
    const int how = O_CLOEXEC | (flags & H5F_ACC_RDWR ? O_RDWR : O_RDONLY) |
                    (flags & H5F_ACC_CREAT ? O_CREAT : 0) | (flags & H5F_ACC_TRUNC ? O_TRUNC : 0) |
                    (flags & H5F_ACC_EXCL ? O_EXCL : 0);
    f->fault = a->fault;
    f->writing = (flags & H5F_ACC_RDWR) != 0;
    f->fd = open(name, how, 0666);
    if (f->fd < 0) {
        note(f, "open", errno);
        free(f);
        return NULL;
    }
    const off_t end = lseek(f->fd, 0, SEEK_END);
    f->eof = end > 0 ? (haddr_t)end : 0;
    return &f->base;
}

static herr_t driver_close(H5FD_t *base)
{
    struct file *f = (struct file *)base;
    if (close(f->fd) != 0)
        note(f, "close", errno);
    free(f);
    return 0;
}

static herr_t driver_query(const H5FD_t *base, unsigned long *flags)
{
    (void)base;
    if (flags)
        *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA |
                 H5FD_FEAT_DATA_SIEVE | H5FD_FEAT_AGGREGATE_SMALLDATA;
    return 0;
}

static haddr_t driver_get_eoa(const H5FD_t *base, H5FD_mem_t type)
{
    (void)type;
    return ((const struct file *)base)->eoa;
}

static herr_t driver_set_eoa(H5FD_t *base, H5FD_mem_t type, haddr_t address)
{
    (void)type;
    ((struct file *)base)->eoa = address;
    return 0;
}

static haddr_t driver_get_eof(const H5FD_t *base, H5FD_mem_t type)
{
    (void)type;
    return ((const struct file *)base)->eof;
}

/* Reads `size` bytes at `address`. If the file was opened for writing, bytes beyond its end and
 * bytes that cannot be read become zero, and the call succeeds. If it was opened for reading, both
 * make the call fail. The text of a failed read, and in a file opened for reading that of a read
 * beyond the end, is stored in *f->fault. */
static herr_t driver_read(H5FD_t *base, H5FD_mem_t type, hid_t transfer, haddr_t address,
                          size_t size, void *buffer)
{
    struct file *f = (struct file *)base;
    char *at = buffer;
    (void)type;
    (void)transfer;
    while (size > 0) {
        const ssize_t n = pread(f->fd, at, size, (off_t)address);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            note(f, "read", errno);
        if (n == 0 && !f->writing && !f->fault->text[0])
            snprintf(f->fault->text, sizeof f->fault->text,
                     "the file ends at byte %llu, but its header expects more: it is damaged, or "
                     "became shorter while it was read",
                     (unsigned long long)address);
        if (n <= 0 && !f->writing)
            return -1;
        if (n <= 0)
            break;
        at += n;
        address += (haddr_t)n;
        size -= (size_t)n;
    }
    memset(at, 0, size);
    return 0;
}

static herr_t driver_write(H5FD_t *base, H5FD_mem_t type, hid_t transfer, haddr_t address,
                           size_t size, const void *buffer)
{
    struct file *f = (struct file *)base;
    const char *at = buffer;
    (void)type;
    (void)transfer;
    if (address + size > f->eof)
        f->eof = address + size;
    while (size > 0 && !f->fault->text[0]) {
        const ssize_t n = pwrite(f->fd, at, size, (off_t)address);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            note(f, "write", errno);
            break;
        }
        at += n;
        address += (haddr_t)n;
        size -= (size_t)n;
    }
    return 0;
}

static herr_t driver_truncate(H5FD_t *base, hid_t transfer, hbool_t closing)
{
    struct file *f = (struct file *)base;
    (void)transfer;
    (void)closing;
    if (f->eoa != f->eof && !f->fault->text[0] && ftruncate(f->fd, (off_t)f->eoa) != 0)
        note(f, "set the size", errno);
    f->eof = f->eoa;
    return 0;
}

static const H5FD_class_t driver_class = {
    .name = "plumb",
    .maxaddr = MAX_ADDRESS,
    .fc_degree = H5F_CLOSE_STRONG,
    .fapl_size = sizeof(struct access),
    .open = driver_open,
    .close = driver_close,
    .query = driver_query,
    .get_eoa = driver_get_eoa,
    .set_eoa = driver_set_eoa,
    .get_eof = driver_get_eof,
    .read = driver_read,
    .write = driver_write,
    .truncate = driver_truncate,
    .fl_map = H5FD_FLMAP_DICHOTOMY,
};

hid_t plumb_h5_driver_access(struct plumb_h5_fault *fault, hid_t *driver, bool writing)
{
    const struct access a = {fault};
    hid_t list = H5Pcreate(H5P_FILE_ACCESS);
    *driver = H5FDregister(&driver_class);
    if (list < 0 || *driver < 0 || H5Pset_driver(list, *driver, &a) < 0 ||
        (writing && H5Pset_libver_bounds(list, H5F_LIBVER_V110, H5F_LIBVER_LATEST) < 0)) {
        if (list >= 0)
            H5Pclose(list);
        list = H5I_INVALID_HID;
    }
    return list;
}
