/* test_same.c - checks that a rank with other options or records than rank 0 fails, and that its
 * message has the difference. Ranks are threads. tests/app/test_ranks.py checks other weights.
 * Test. Covers train/same.h. */
#include <string.h>

#include "../comm/threads.h"
#include "train/same.h"

#define TEXT                                                                                       \
    "plumb sft\nseed: 1\nthreads: 4\ntrain:\n  epochs: 2\n  max_steps: 9\nplan:\n  memory: 1GB\n"

/* Runs the check with the configuration `other` on rank 2 and with TEXT on all other ranks. */
static void with_other(plumb_comm *c, const char *other, const char *expected)
{
    const int rank = plumb_comm_rank(c);
    const plumb_status st = plumb_same_options(c, rank == 2 ? other : TEXT);
    if (!expected) {
        CHECK_OK(st);
        return;
    }
    CHECK(st == (rank == 2 ? PLUMB_ERR_CONFIG : PLUMB_ERR_PEER));
    CHECK(strstr(plumb_trail_message(), expected) != NULL);
}

static void options(plumb_comm *c)
{
    with_other(c, TEXT, NULL);
    with_other(c,
               "plumb sft\nseed: 1\nthreads: 1\ntrain:\n  epochs: 2\n  max_steps: 9\nplan:\n"
               "  memory: 2GB\n",
               NULL);
    with_other(c,
               "plumb sft\nseed: 1\nthreads: 4\ntrain:\n  epochs: 2\n  max_steps: 8\nplan:\n"
               "  memory: 1GB\n",
               "'train.max_steps: 8', rank 0 with 'max_steps: 9'");
    with_other(c, "plumb prefer\n", "'plumb prefer', rank 0 with 'plumb sft'");
    with_other(c, "plumb sft\nseed: 1\n", "'', rank 0 with 'threads: 4'");
    with_other(c, TEXT "x: 1\n", "'x: 1', rank 0 with ''");
}

/* Reads two records on each rank. On rank 1, `second` is the second record. */
static void with_record(plumb_comm *c, enum plumb_data_kind kind, const char *second, bool equal)
{
    static const char usual[] = "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\","
                                "\"score_chosen\":2,\"score_rejected\":1}\n";
    const int rank = plumb_comm_rank(c);
    const struct plumb_data_options o = {.kind = kind, .whole = kind == PLUMB_DATA_PROMPTS};
    struct plumb_dataset *d = NULL;
    struct plumb_buf text = {0};
    CHECK_OK(plumb_buf_addf(&text, "%s%s", usual, rank == 1 ? second : usual));
    CHECK_OK(plumb_dataset_parse(&d, plumb_buf_text(&text), text.len, "x.jsonl", &o));
    const plumb_status st = plumb_same_records(c, "data.train", "x.jsonl", d);
    CHECK(st == (equal ? PLUMB_OK : rank == 1 ? PLUMB_ERR_CONFIG : PLUMB_ERR_PEER));
    if (!equal)
        CHECK(strstr(plumb_trail_message(), "data.train: the records of x.jsonl on ") != NULL);
    plumb_dataset_close(&d);
    plumb_buf_fini(&text);
}

static void records(plumb_comm *c)
{
#define OTHER(chosen, scores)                                                                      \
    "{\"prompt\":\"a\",\"chosen\":\"" chosen "\",\"rejected\":\"c\"" scores "}\n"
    with_record(c, PLUMB_DATA_PAIRS, OTHER("b", ",\"score_chosen\":2,\"score_rejected\":1"), true);
    with_record(c, PLUMB_DATA_PAIRS, OTHER("x", ",\"score_chosen\":2,\"score_rejected\":1"), false);
    with_record(c, PLUMB_DATA_PAIRS, OTHER("b", ",\"score_chosen\":3,\"score_rejected\":1"), false);
    with_record(c, PLUMB_DATA_PAIRS, "", false);
    /* differs in a field that only rewards read */
    with_record(c, PLUMB_DATA_PROMPTS, OTHER("b", ",\"score_chosen\":2,\"score_rejected\":5"),
                false);
    CHECK_OK(plumb_same_records(c, "data.eval", "", NULL));
}

int main(void)
{
    on_threads(3, options);
    on_threads(4, records);
    return 0;
}
