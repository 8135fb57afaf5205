/* split.c - divides a pass into optimizer steps and micro-batches.
 * Layer 5. Includes train/split.h, base/. */
#include "train/split.h"

#include "base/num.h"

int64_t plumb_split_steps(const struct plumb_batch_split *c)
{
    return plumb_ceil_div(c->items, c->global_batch);
}

struct plumb_range plumb_split_step(const struct plumb_batch_split *c, int64_t step)
{
    const int64_t begin = step * c->global_batch;
    return (struct plumb_range){begin, plumb_min_i64(begin + c->global_batch, c->items)};
}

int64_t plumb_split_micro_batches(const struct plumb_batch_split *c, int64_t step)
{
    const struct plumb_range r = plumb_split_step(c, step);
    return plumb_ceil_div(r.end - r.begin, c->micro_batch);
}

struct plumb_range plumb_split_micro_batch(const struct plumb_batch_split *c, int64_t step,
                                           int64_t micro_batch)
{
    const struct plumb_range r = plumb_split_step(c, step);
    const int64_t begin = r.begin + micro_batch * c->micro_batch;
    return (struct plumb_range){begin, plumb_min_i64(begin + c->micro_batch, r.end)};
}
