/* split.c - divides a pass into optimizer steps and micro-batches.
 * Layer 5. Includes train/split.h, base/. */
#include "train/split.h"

#include <assert.h>
#include <stdlib.h>

#include "base/num.h"

plumb_status plumb_split_init(struct plumb_batch_split *c, int64_t items, int64_t global_batch,
                              int64_t micro_batch, int64_t tokens)
{
    *c = (struct plumb_batch_split){.items = items,
                                    .global_batch = plumb_min_i64(global_batch, items),
                                    .micro_batch = micro_batch,
                                    .tokens = tokens};
    if (tokens == 0)
        return PLUMB_OK;
    c->border = calloc((size_t)items + 1, sizeof(*c->border));
    c->before = calloc((size_t)plumb_split_steps(c) + 1, sizeof(*c->before));
    if (!c->border || !c->before) {
        plumb_split_fini(c);
        PLUMB_FAIL(PLUMB_ERR_NOMEM, "micro-batches of %lld records", (long long)items);
    }
    return PLUMB_OK;
}

void plumb_split_fini(struct plumb_batch_split *c)
{
    free(c->border);
    free(c->before);
    *c = (struct plumb_batch_split){0};
}

void plumb_split_cut(struct plumb_batch_split *c, const int64_t *length)
{
    const int64_t steps = plumb_split_steps(c);
    int64_t n = 0;
    for (int64_t step = 0; step < steps && c->tokens > 0; step++) {
        const struct plumb_range r = plumb_split_step(c, step);
        int64_t tokens = 0;
        c->before[step] = n;
        for (int64_t i = r.begin; i < r.end; i++) {
            assert(length[i] <= c->tokens);
            const bool full = c->micro_batch > 0 && n > 0 && i - c->border[n - 1] >= c->micro_batch;
            if (i == r.begin || full || tokens + length[i] > c->tokens) {
                c->border[n++] = i;
                tokens = 0;
            }
            tokens += length[i];
        }
    }
    if (c->tokens > 0) {
        c->before[steps] = n;
        c->border[n] = c->items;
    }
}

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
    if (c->tokens > 0)
        return c->before[step + 1] - c->before[step];
    return plumb_ceil_div(r.end - r.begin, c->micro_batch);
}

struct plumb_range plumb_split_micro_batch(const struct plumb_batch_split *c, int64_t step,
                                           int64_t micro_batch)
{
    const struct plumb_range r = plumb_split_step(c, step);
    if (c->tokens > 0) {
        const int64_t *border = c->border + c->before[step] + micro_batch;
        return (struct plumb_range){border[0], border[1]};
    }
    const int64_t begin = r.begin + micro_batch * c->micro_batch;
    return (struct plumb_range){begin, plumb_min_i64(begin + c->micro_batch, r.end)};
}

void plumb_split_raise(struct plumb_split_most *most, const struct plumb_batch_split *c,
                       const int64_t *length)
{
    for (int64_t step = 0; step < plumb_split_steps(c); step++) {
        const int64_t n = plumb_split_micro_batches(c, step);
        most->micro_batches = plumb_max_i64(most->micro_batches, n);
        for (int64_t k = 0; k < n; k++) {
            const struct plumb_range r = plumb_split_micro_batch(c, step, k);
            int64_t tokens = 0;
            for (int64_t i = r.begin; i < r.end; i++)
                tokens += length[i];
            most->items = plumb_max_i64(most->items, r.end - r.begin);
            most->tokens = plumb_max_i64(most->tokens, tokens);
        }
    }
}

static int ascending(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* The bound on the number of micro-batches of a step: each micro-batch except the last ends for one
 * of two reasons. Either it has micro_batch items; at most global_batch / micro_batch micro-batches
 * end for this reason. Or it and the next micro-batch together have more than c->tokens tokens; if
 * k micro-batches end for this reason, these k sums are together more than k c->tokens and count no
 * token of the step more than twice, so k < 2 (tokens of the step) / c->tokens. */
void plumb_split_bound(struct plumb_split_most *most, const struct plumb_batch_split *c,
                       int64_t *length, int64_t n)
{
    const int64_t step = plumb_min_i64(c->global_batch, n);
    const int64_t each = c->micro_batch > 0 ? plumb_min_i64(c->micro_batch, step) : step;
    int64_t shortest = 0, items = 0, longest = 0, all = 0;
    qsort(length, (size_t)n, sizeof(*length), ascending);
    while (items < each && shortest + length[items] <= c->tokens)
        shortest += length[items++];
    for (int64_t i = 0; i < step; i++) {
        all += length[n - 1 - i];
        longest += i < each ? length[n - 1 - i] : 0;
    }
    const int64_t by_items = c->micro_batch > 0 ? step / c->micro_batch : 0;
    const int64_t by_tokens = plumb_max_i64(plumb_ceil_div(2 * all, c->tokens), 1);
    most->micro_batches =
        plumb_max_i64(most->micro_batches, plumb_min_i64(step, by_items + by_tokens));
    most->items = plumb_max_i64(most->items, items);
    most->tokens = plumb_max_i64(most->tokens, plumb_min_i64(longest, c->tokens));
}
