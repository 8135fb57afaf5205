/* test_pack.c - checks a batch of sequences that follow each other without padding, in memory of a
 * fixed size.
 * Test. Includes harness.h, train/pack.h. */
#include "train/pack.h"

#include "harness.h"

int main(void)
{
    struct plumb_pack p;
    const int32_t ids[] = {1, 2, 3, 4, 5};
    CHECK_OK(plumb_pack_init(&p, 8, 3));
    plumb_pack_clear(&p);
    CHECK_OK(plumb_pack_add(&p, ids, 2, ids + 2, 3));
    CHECK_OK(plumb_pack_add(&p, ids + 4, 1, NULL, 0));
    const struct plumb_batch b = plumb_pack_batch(&p);
    CHECK(b.n_seq == 2 && plumb_batch_tokens(&b) == 6 && plumb_batch_targets(&b) == 3);
    CHECK(p.n_targets == 3 && !memcmp(b.ids, ids, sizeof(ids)) && b.ids[5] == 5);
    CHECK(b.offset[1] == 5 && b.offset[2] == 6 && b.prompt_tokens[0] == 2);
    /* no room for these tokens */
    CHECK_FAILS(plumb_pack_add(&p, ids, 1, ids, 2), PLUMB_ERR_NOMEM, "no room");
    CHECK_OK(plumb_pack_add(&p, ids, 2, NULL, 0));
    /* no room for another sequence */
    CHECK_FAILS(plumb_pack_add(&p, ids, 1, NULL, 0), PLUMB_ERR_NOMEM, "no room");
    plumb_pack_clear(&p);
    CHECK_FAILS(plumb_pack_add(&p, ids, 0, ids, 2), PLUMB_ERR_ARG, "prompt needs");
    CHECK(p.n_seq == 0 && p.n_targets == 0);
    plumb_pack_fini(&p);
    return 0;
}
