/* checkpoint_space.c - compares the size of a checkpoint with the free space of the disk.
 * Layer 5. Includes train/checkpoint.h, base/. */
#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/log.h"
#include "train/checkpoint.h"

/* Returns the bytes that a checkpoint has for each trained weight: the weight itself in the weights
 * files and, unless weights_only, two float32 moments and, if the weights files are rounded, the
 * float32 weight. */
static int64_t bytes_per_weight(const plumb_model *m, bool weights_only)
{
    const int64_t size = (int64_t)sizeof(float);
    const int64_t weight = plumb_dtype_size(m->saved_as);
    return weights_only ? weight : weight + 2 * size + (weight < size ? size : 0);
}

/* Sets *need to about the number of bytes of a checkpoint of m and `more` bytes. Sets *free_bytes
 * to the number of free bytes on the disk of options->output_dir, or to infinity if the file system
 * does not report it. */
static plumb_status measure(double *need, double *free_bytes,
                            const struct plumb_checkpoint_options *options, const plumb_model *m,
                            int64_t more)
{
    struct statvfs fs;
    const char *dir = options->output_dir;
    PLUMB_REQUIRE(!statvfs(dir, &fs), PLUMB_ERR_IO, "%s: %s", dir, strerror(errno));
    const int64_t weights = plumb_model_trained(m).count;
    *need = (double)(weights * bytes_per_weight(m, options->weights_only) + (1 << 18) + more);
    *free_bytes = fs.f_blocks == 0 ? HUGE_VAL : (double)fs.f_bavail * (double)fs.f_frsize;
    return PLUMB_OK;
}

void plumb_checkpoint_note_space(const struct plumb_checkpoint_options *options,
                                 const plumb_model *m)
{
    double need, free_bytes;
    if (measure(&need, &free_bytes, options, m, 0) == PLUMB_OK && free_bytes < need)
        plumb_log(PLUMB_LOG_WARN,
                  "%s: no room for a checkpoint: it needs about %.1f MB, the disk has %.1f MB "
                  "free; the first save will fail unless there is more by then",
                  options->output_dir, need / 1e6, free_bytes / 1e6);
}

plumb_status plumb_checkpoint_check_space(const struct plumb_checkpoint_options *options,
                                          const plumb_model *m, int64_t more, const char *name)
{
    double need, free_bytes;
    PLUMB_TRY(measure(&need, &free_bytes, options, m, more));
    PLUMB_REQUIRE(free_bytes >= need, PLUMB_ERR_IO,
                  "%s: no room for %s: it needs about %.1f MB (weights%s), the disk has %.1f MB "
                  "free; remove files there, for example earlier checkpoints (checkpoint.keep_last "
                  "removes them only after a save)",
                  options->output_dir, name, need / 1e6,
                  options->weights_only ? "" : " and moments", free_bytes / 1e6);
    return PLUMB_OK;
}
