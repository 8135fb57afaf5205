/* fuzz_safetensors.c - reads any bytes as a safetensors file. plumb must refuse them, or all data
 * of every tensor must be readable.
 * Test. Includes io/, base/. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "io/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(const plumb_st *st)
{
    unsigned sum = 0;
    for (int64_t i = 0; i < plumb_st_count(st); i++) {
        const struct plumb_st_entry *e = plumb_st_at(st, i);
        if (plumb_st_find(st, e->name) != e)
            abort();
        unsigned char *raw = malloc((size_t)e->bytes + 1);
        if (raw && plumb_st_read(raw, e, 0, e->bytes) != PLUMB_OK)
            abort();
        for (int64_t k = 0; raw && k < e->bytes; k++)
            sum += raw[k];
        free(raw);
        float *x = malloc((size_t)e->count * sizeof(*x) + 1);
        if (x && plumb_st_to_f32(x, e) == PLUMB_OK && e->count)
            sum += x[e->count - 1] > 0;
        free(x);
    }
    if (sum == 12345678)
        abort(); /* hardly ever true; keeps the compiler from removing the reads */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const int fd = memfd_create("fuzz", 0);
    char path[64];
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    plumb_st *st;
    if (plumb_st_open(&st, path) == PLUMB_OK)
        read_all(st);
    plumb_st_close(&st);
    close(fd);
    return 0;
}
