/* test_epochs.c - checks the order of records over epochs, the size of the largest micro-batch in
 * tokens, and the division of records by tokens. Covers epochs.c and record_split.c.
 * Test. Includes harness.h, train/loops.h, base/. */
#include "base/num.h"
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
    CHECK(e.steps == 9); /* an epoch has steps of 4, 4 and 2 records; there are three epochs */
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
    /* A resumed run begins at a later step. It must have the same order. */
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
    /* the largest two pairs have 33 and 21 tokens */
    CHECK_OK(plumb_longest_batch(&tokens, &data, 2, 2));
    CHECK(tokens == 33 + 21);
    CHECK_OK(plumb_longest_batch(&tokens, &data, 1, 99));
    CHECK(tokens == 8 + 10 + 2 + 10);
}

enum { RECORDS = 40, EPOCHS = 3, BATCH = 12, LIMIT = 50 };

/* Compares the micro-batches of every step of the run with a division by tokens that is computed
 * here. Compares e->most with the largest of these micro-batches. kept: the records that are used,
 * or NULL for all. */
static void check_cuts(struct plumb_epochs *e, const int64_t *tokens, const int64_t *kept,
                       bool exact)
{
    struct plumb_split_most most = {0};
    for (int64_t step = 0; step < e->steps; step++) {
        int64_t in_epoch, begin, sum = 0, n = 0;
        plumb_epochs_at(e, step, &in_epoch);
        const struct plumb_range all = plumb_split_step(&e->split, in_epoch);
        begin = all.begin;
        for (int64_t i = all.begin; i <= all.end; i++) {
            const int64_t record = i < all.end ? e->order[i] : 0;
            const int64_t here = i < all.end ? tokens[kept ? kept[record] : record] : LIMIT + 1;
            if (sum + here > LIMIT) {
                const struct plumb_range r = plumb_split_micro_batch(&e->split, in_epoch, n++);
                CHECK(r.begin == begin && r.end == i);
                most.items = plumb_max_i64(most.items, i - begin);
                most.tokens = plumb_max_i64(most.tokens, sum);
                begin = i;
                sum = 0;
            }
            sum += here;
        }
        CHECK(n == plumb_split_micro_batches(&e->split, in_epoch));
        most.micro_batches = plumb_max_i64(most.micro_batches, n);
    }
    CHECK(most.items <= e->most.items && most.tokens <= e->most.tokens &&
          most.micro_batches <= e->most.micro_batches && e->most.tokens <= LIMIT);
    CHECK(!exact || (most.items == e->most.items && most.tokens == e->most.tokens &&
                     most.micro_batches == e->most.micro_batches));
}

static void test_tokens(bool shuffle)
{
    struct plumb_config cfg = {
        .seed = 3,
        .data = {.shuffle = shuffle, .train = "pairs.jsonl"},
        .train = {.epochs = EPOCHS, .global_batch_size = BATCH, .micro_batch_tokens = LIMIT}};
    struct plumb_record record[RECORDS] = {0};
    int64_t one[RECORDS], two[RECORDS], kept[RECORDS];
    struct rng r = {11};
    for (int i = 0; i < RECORDS; i++) {
        record[i].line = i + 1;
        record[i].prompt.n = 1 + (int64_t)(8 * rng_u(&r));
        record[i].completion[0].n = 1 + (int64_t)(16 * rng_u(&r));
        record[i].completion[1].n = 1 + (int64_t)(16 * rng_u(&r));
        one[i] = record[i].prompt.n + record[i].completion[0].n;
        two[i] = one[i] + record[i].prompt.n + record[i].completion[1].n;
        kept[i] = i;
    }
    const struct plumb_dataset data = {.record = record, .n = RECORDS};
    struct plumb_epochs e;
    CHECK_OK(plumb_epochs_init(&e, &cfg, RECORDS));
    CHECK_OK(plumb_epochs_measure(&e, &data, 1, NULL, false));
    check_cuts(&e, one, NULL, true);
    plumb_epochs_fini(&e);
    /* pairs, half of which are selected only after the set-up */
    CHECK_OK(plumb_epochs_init(&e, &cfg, RECORDS / 2));
    CHECK_OK(plumb_epochs_measure(&e, &data, 2, kept, true));
    for (int i = 0; i < RECORDS / 2; i++)
        kept[i] = RECORDS - 1 - 2 * i;
    check_cuts(&e, two, kept, false);
    plumb_epochs_fini(&e);
    /* this record alone has more tokens than a micro-batch may have */
    record[17].completion[0].n = LIMIT;
    CHECK_OK(plumb_epochs_init(&e, &cfg, RECORDS));
    CHECK_FAILS(plumb_epochs_measure(&e, &data, 1, NULL, false), PLUMB_ERR_ARG, "pairs.jsonl:18: ");
    plumb_epochs_fini(&e);
}

int main(void)
{
    test_order(true);
    test_order(false);
    test_max_steps();
    test_longest();
    test_tokens(true);
    test_tokens(false);
    return 0;
}
