/* test_epochs.c - checks the order of records over epochs, and the length of the longest
 * micro-batch.
 * Test. Includes harness.h, train/loops.h. */
#include "harness.h"
#include "train/loops.h"

static void test_order(bool shuffle)
{
    const struct plumb_config cfg = {
        .seed = 5,
        .data.shuffle = shuffle,
        .train = {.epochs = 3, .global_batch_size = 4, .micro_batch_size = 2}};
    struct plumb_epochs e;
    int64_t first[3][10], in_epoch;
    CHECK_OK(plumb_epochs_init(&e, &cfg, 10));
    CHECK(e.steps == 9); /* 4 + 4 + 2 records, three times */
    for (int64_t step = 0; step < e.steps; step++) {
        plumb_epochs_at(&e, step, &in_epoch);
        CHECK(in_epoch == step % 3);
        memcpy(first[step / 3], e.order, sizeof(first[0]));
    }
    for (int epoch = 0; epoch < 3; epoch++) {
        int seen[10] = {0};
        for (int i = 0; i < 10; i++)
            seen[first[epoch][i]]++;
        for (int i = 0; i < 10; i++)
            CHECK(seen[i] == 1 && (shuffle || first[epoch][i] == i));
    }
    CHECK(shuffle == (memcmp(first[0], first[1], sizeof(first[0])) != 0));
    /* A resumed run begins at a later step and must have the same order. */
    struct plumb_epochs again;
    CHECK_OK(plumb_epochs_init(&again, &cfg, 10));
    plumb_epochs_at(&again, 7, &in_epoch);
    CHECK(in_epoch == 1 && !memcmp(again.order, first[2], sizeof(first[2])));
    plumb_epochs_fini(&again);
    plumb_epochs_fini(&e);
}

static void test_max_steps(void)
{
    const struct plumb_config cfg = {
        .train = {.epochs = 3, .max_steps = 5, .global_batch_size = 4, .micro_batch_size = 2}};
    struct plumb_epochs e;
    CHECK_OK(plumb_epochs_init(&e, &cfg, 10));
    CHECK(e.steps == 5);
    plumb_epochs_fini(&e);
}

static void test_longest(void)
{
    struct plumb_record record[4] = {0};
    const int64_t prompt[4] = {3, 9, 1, 4}, chosen[4] = {5, 1, 1, 6}, rejected[4] = {0, 2, 30, 1};
    for (int i = 0; i < 4; i++) {
        record[i].prompt.n = prompt[i];
        record[i].completion[0].n = chosen[i];
        record[i].completion[1].n = rejected[i];
    }
    const struct plumb_dataset data = {.record = record, .n = 4};
    int64_t tokens;
    CHECK_OK(plumb_longest_batch(&tokens, &data, 1, 2));
    CHECK(tokens == 10 + 10);
    CHECK_OK(plumb_longest_batch(&tokens, &data, 2, 2)); /* 33 and 21 */
    CHECK(tokens == 33 + 21);
    CHECK_OK(plumb_longest_batch(&tokens, &data, 1, 99));
    CHECK(tokens == 8 + 10 + 2 + 10);
}

int main(void)
{
    test_order(true);
    test_order(false);
    test_max_steps();
    test_longest();
    return 0;
}
