/* deal.c - assigns the prompts of an iteration to ranks by their predicted work.
 * Layer 4. Includes base/. */
#include "data/deal.h"

#include <math.h>
#include <stdlib.h>

struct item {
    double load;
    int64_t prompt;
};

static int by_load(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->load != y->load)
        return x->load < y->load ? 1 : -1;
    return (x->prompt > y->prompt) - (x->prompt < y->prompt);
}

/* Returns the rank with the smallest sum of loads among the ranks with fewer than `cap` prompts; -1
 * if there is none. */
static int least_of(const double *sum, const int64_t *count, int ranks, int64_t cap)
{
    int least = -1;
    for (int r = 0; r < ranks; r++)
        if (count[r] < cap && (least < 0 || sum[r] < sum[least]))
            least = r;
    return least;
}

plumb_status plumb_deal_order(int64_t *order, const double *load, int64_t n)
{
    struct item *item = calloc((size_t)n + 1, sizeof(*item));
    PLUMB_REQUIRE(item, PLUMB_ERR_NOMEM, "the order of %lld prompts", (long long)n);
    for (int64_t prompt = 0; prompt < n; prompt++)
        item[prompt] = (struct item){load[prompt], prompt};
    qsort(item, (size_t)n, sizeof(*item), by_load);
    for (int64_t i = 0; i < n; i++)
        order[i] = item[i].prompt;
    free(item);
    return PLUMB_OK;
}

plumb_status plumb_deal(int32_t *rank, const double *load, int64_t n, int ranks, int64_t cap)
{
    int64_t items = 0;
    plumb_status st = PLUMB_OK;
    for (int64_t prompt = 0; prompt < n; prompt++) {
        PLUMB_REQUIRE(load[prompt] >= 0 && isfinite(load[prompt]), PLUMB_ERR_ARG,
                      "prompt %lld has the load %g, expected a finite number of 0 or more",
                      (long long)prompt, load[prompt]);
        items += load[prompt] > 0;
    }
    PLUMB_REQUIRE(ranks > 0 && cap >= 0 && items <= (int64_t)ranks * cap, PLUMB_ERR_ARG,
                  "%lld prompts for %d ranks that take at most %lld each", (long long)items, ranks,
                  (long long)cap);
    int64_t *order = calloc((size_t)n + 1, sizeof(*order));
    double *sum = calloc((size_t)ranks, sizeof(*sum));
    int64_t *count = calloc((size_t)ranks, sizeof(*count));
    if (!order || !sum || !count)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, done, "the deal of %lld prompts to %d ranks",
                        (long long)n, ranks);
    PLUMB_TRY_GOTO(st, plumb_deal_order(order, load, n), done);
    for (int64_t i = 0; i < n; i++) {
        const int64_t prompt = order[i];
        rank[prompt] = -1;
        if (load[prompt] <= 0)
            continue;
        const int r = least_of(sum, count, ranks, cap);
        rank[prompt] = r;
        sum[r] += load[prompt];
        count[r]++;
    }
done:
    free(order);
    free(sum);
    free(count);
    return st;
}
