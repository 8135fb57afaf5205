/* test_split.c - checks how a pass over items is cut into steps and micro-batches.
 * Test. Includes harness.h, train/split.h. */
#include "train/split.h"

#include "harness.h"

/* Checks that every item is in exactly one micro-batch of one step, in order, and that no
 * micro-batch is larger than the limit. */
static void test_cut(void)
{
    for (int64_t items = 1; items < 40; items++)
        for (int64_t global = 1; global <= items; global += 3)
            for (int64_t micro = 1; micro < 9; micro += 2) {
                const struct plumb_batch_split cut = {items, global, micro};
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

int main(void)
{
    test_cut();
    return 0;
}
