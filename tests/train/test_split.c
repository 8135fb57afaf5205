/* test_split.c - checks how an epoch's items are divided into steps and micro-batches, by number
 * and by tokens.
 * Test. Includes harness.h, train/split.h, base/. */
#include "train/split.h"

#include "base/num.h"
#include "harness.h"

/* Checks that every item is in exactly one micro-batch of one step, in order, and that no
 * micro-batch exceeds the limit. */
static void test_cut(void)
{
    for (int64_t items = 1; items < 40; items++)
        for (int64_t global = 1; global <= items; global += 3)
            for (int64_t micro = 1; micro < 9; micro += 2) {
                const struct plumb_batch_split cut = {
                    .items = items, .global_batch = global, .micro_batch = micro};
                int64_t next = 0;
                for (int64_t s = 0; s < plumb_split_steps(&cut); s++) {
                    const struct plumb_range step = plumb_split_step(&cut, s);
                    CHECK(step.begin == next && step.end - step.begin <= global);
                    for (int64_t l = 0; l < plumb_split_micro_batches(&cut, s); l++) {
                        const struct plumb_range micro_batch = plumb_split_micro_batch(&cut, s, l);
                        CHECK(micro_batch.begin == next && micro_batch.end > micro_batch.begin);
                        CHECK(micro_batch.end - micro_batch.begin <= micro);
                        next = micro_batch.end;
                    }
                    CHECK(next == step.end);
                }
                CHECK(next == items);
            }
}

/* Checks the example in the comment of split.h. */
static void test_example(void)
{
    static const int64_t length[] = {4, 3, 3, 2, 9, 1, 1, 1, 1, 7}, end[] = {3, 4, 5, 8, 10};
    struct plumb_batch_split c;
    struct plumb_split_most most = {0};
    CHECK_OK(plumb_split_init(&c, 10, 5, 3, 10));
    plumb_split_cut(&c, length);
    CHECK(plumb_split_micro_batches(&c, 0) == 3 && plumb_split_micro_batches(&c, 1) == 2);
    for (int64_t k = 0; k < 5; k++) {
        const struct plumb_range r = plumb_split_micro_batch(&c, k / 3, k % 3);
        CHECK(r.begin == (k ? end[k - 1] : 0) && r.end == end[k]);
    }
    plumb_split_raise(&most, &c, length);
    CHECK(most.micro_batches == 3 && most.items == 3 && most.tokens == 10);
    plumb_split_fini(&c);
}

/* Checks one division by tokens. Every item is in one micro-batch. No micro-batch exceeds either
 * limit. A micro-batch that is not the last of its step has no room for the next item. The maxima
 * in *most hold for all micro-batches. */
static void check_tokens(const struct plumb_batch_split *c, const int64_t *length,
                         const struct plumb_split_most *most)
{
    int64_t next = 0;
    for (int64_t s = 0; s < plumb_split_steps(c); s++) {
        const struct plumb_range step = plumb_split_step(c, s);
        const int64_t n = plumb_split_micro_batches(c, s);
        CHECK(n >= 1 && n <= most->micro_batches && step.begin == next);
        for (int64_t k = 0; k < n; k++) {
            const struct plumb_range r = plumb_split_micro_batch(c, s, k);
            int64_t tokens = 0;
            CHECK(r.begin == next && r.end > r.begin);
            for (next = r.begin; next < r.end; next++)
                tokens += length[next];
            CHECK(tokens <= c->tokens && tokens <= most->tokens);
            CHECK(c->micro_batch == 0 || r.end - r.begin <= c->micro_batch);
            CHECK(r.end - r.begin <= most->items);
            CHECK(next == step.end || tokens + length[next] > c->tokens ||
                  r.end - r.begin == c->micro_batch);
        }
        CHECK(next == step.end);
    }
    CHECK(next == c->items);
}

enum { MOST = 60 };

/* Returns a random number from 0 to n - 1. */
static int64_t below(struct rng *r, int64_t n)
{
    return plumb_min_i64((int64_t)(rng_u(r) * (double)n), n - 1);
}

/* Divides `items` of n random items in many orders. Checks each division against `exact`, the
 * maximum over the divisions so far, and against `bound`, an upper bound that was computed without
 * the orders. */
static void check_orders(struct rng *r, int64_t n, int64_t items, int64_t global, int64_t micro,
                         int64_t limit)
{
    int64_t length[MOST], sorted[MOST];
    struct plumb_batch_split c;
    struct plumb_split_most exact = {0}, bound = {0};
    for (int64_t i = 0; i < n; i++)
        sorted[i] = length[i] = 1 + below(r, limit);
    CHECK_OK(plumb_split_init(&c, items, global, micro, limit));
    plumb_split_bound(&bound, &c, sorted, n);
    for (int order = 0; order < 20; order++) {
        for (int64_t i = n - 1; i > 0; i--) {
            const int64_t j = below(r, i + 1), was = length[i];
            length[i] = length[j];
            length[j] = was;
        }
        plumb_split_cut(&c, length);
        plumb_split_raise(&exact, &c, length);
        check_tokens(&c, length, &exact);
        check_tokens(&c, length, &bound);
    }
    CHECK(bound.tokens <= limit && exact.tokens <= limit);
    plumb_split_fini(&c);
}

static void test_tokens(void)
{
    struct rng r = {7};
    for (int64_t n = 1; n <= MOST; n += 7)
        for (int64_t items = 1; items <= n; items += 1 + n / 3)
            for (int64_t global = 1; global <= n + 5; global += 6)
                for (int64_t micro = 0; micro < 12; micro += 3)
                    for (int64_t limit = 1; limit < 100; limit += 33)
                        check_orders(&r, n, items, global, micro, limit);
}

/* Checks a case in which the bound on the number of micro-batches is reached, because no two
 * neighbouring items fit into one micro-batch. */
static void test_bound(void)
{
    int64_t length[] = {6, 5, 6, 5, 6, 5}, sorted[] = {6, 5, 6, 5, 6, 5};
    struct plumb_batch_split c;
    struct plumb_split_most most = {0};
    CHECK_OK(plumb_split_init(&c, 6, 6, 0, 10));
    plumb_split_cut(&c, length);
    plumb_split_bound(&most, &c, sorted, 6);
    CHECK(plumb_split_micro_batches(&c, 0) == 6 && most.micro_batches == 6);
    CHECK(most.tokens == 10 && most.items == 2);
    plumb_split_fini(&c);
}

int main(void)
{
    test_cut();
    test_example();
    test_tokens();
    test_bound();
    return 0;
}
