/* sizes.c - the sizes of the memory that the CUDA kernels need. It is host code, so that `plumb
 * plan` needs neither CUDA nor a GPU.
 * Layer 1 (cuda). Includes kernels.h. */
#include "kernels.h"

/* Returns the number of elements of packed weights. cuBLASLt reads plain row-major weights, so
 * packing adds nothing to the matrix. */
static int64_t packed_count(int64_t out, int64_t in)
{
    return out * in;
}

static int64_t linear_work_count(int64_t n, int64_t out, int64_t in, int threads)
{
    (void)n, (void)out, (void)in, (void)threads;
    return 0;
}

static int64_t sample_work_count(int64_t n, int64_t v, int threads)
{
    (void)n, (void)v, (void)threads;
    return 0;
}

/* The backward of attention needs one float per (row, head) pair: delta (attention.cuh). */
static int64_t attention_work_count(int64_t n, const struct plumb_attn_shape *shape, int threads)
{
    (void)threads;
    return n * shape->h;
}

void plumb_kernels_init_cuda_sizes(struct plumb_kernels *t)
{
    t->linear_plain = true;
    t->linear_packed_count = packed_count;
    t->linear_work_count = linear_work_count;
    t->sample_work_count = sample_work_count;
    t->attention_work_count = attention_work_count;
    t->bf16.attention_work_count = attention_work_count;
}
