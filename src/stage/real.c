/* real.c - of each prompt's answers the pair that is worth a label.
 * Layer 5. Includes stage/align.h. */
#include <string.h>

#include "stage/align.h"

static bool same(const struct plumb_answer *a, const struct plumb_answer *b)
{
    return a->n == b->n && memcmp(a->ids, b->ids, (size_t)a->n * sizeof(*a->ids)) == 0;
}

/* Leaves two of the prompt's answers in the running. */
static plumb_status pick(struct plumb_align_run *a, int64_t prompt, int64_t at)
{
    const int64_t group = a->answers.group_size;
    struct plumb_answer *o = &a->answers.at[prompt * group];
    const struct plumb_rng_key key = {.seed = a->t->cfg->seed,
                                      .purpose = PLUMB_RNG_SELECT,
                                      .iteration = (uint32_t)a->t->state.iteration + 1,
                                      .prompt = (uint64_t)o->record};
    int64_t first = 0, second = 0, unlike = 0;
    for (int64_t i = 1; i < group; i++)
        unlike += !same(o, o + i);
    if (unlike > 0) {
        plumb_embed_compare(&a->embed, at);
        PLUMB_TRY(plumb_pick_pair(&first, &second, a->embed.pick, a->embed.gram, group, &key));
    }
    for (int64_t i = 0; i < group; i++)
        o[i].dropped = i != first && i != second;
    return PLUMB_OK;
}

plumb_status plumb_align_embed(struct plumb_align_run *a)
{
    struct plumb_pack *p = &a->micro.pack;
    const int64_t group = a->answers.group_size, most = p->max_seq / group;
    for (int64_t k = 0; k < a->answers.prompts; k += most) {
        const int64_t end = k + most < a->answers.prompts ? k + most : a->answers.prompts;
        PLUMB_REQUIRE(!plumb_stop_noticed(&a->t->stop), PLUMB_STOPPED, "embedding was paused");
        plumb_pack_clear(p);
        for (int64_t i = k * group; i < end * group; i++)
            PLUMB_TRY(plumb_embed_add(&a->embed, p, a->answers.at[i].ids, a->answers.at[i].n));
        PLUMB_TRY(plumb_embed_run(&a->embed, a->t->pass, p));
        for (int64_t q = k; q < end; q++)
            PLUMB_TRY(pick(a, q, (q - k) * group));
    }
    return PLUMB_OK;
}
