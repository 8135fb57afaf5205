/* real.c - REAL: of each prompt's answers, only the pair chosen by embeddings is scored.
 * Layer 5. Includes stage/align.h, train/embed.h.
 * Source: arXiv:2409.17169. */
#include <stdlib.h>
#include <string.h>

#include "stage/align.h"
#include "train/embed.h"

struct real {
    struct plumb_embed embed;
};

static plumb_status open(struct plumb_align_run *a)
{
    const struct plumb_config *cfg = a->t->cfg;
    struct real *r = a->own = calloc(1, sizeof(*r));
    int which;
    PLUMB_REQUIRE(r, PLUMB_ERR_NOMEM, "state of real");
    PLUMB_TRY(
        plumb_references_open(a->reference.set, &which, cfg->method.embedder, "method.embedder"));
    const plumb_model *model = plumb_references_frozen(a->reference.set, which);
    PLUMB_REQUIRE(model, PLUMB_ERR_CONFIG,
                  "method.embedder: found previous, expected init or a checkpoint folder");
    PLUMB_TRY(plumb_embed_init(&r->embed, model, a->t->tokenizer,
                               (enum plumb_pair_selection)cfg->method.pick,
                               cfg->generate.group_size, &a->update.micro.pack));
    return plumb_memory_beside(a->t->backend, "embeddings",
                               plumb_embed_bytes(&r->embed, &a->update.micro.pack));
}

static void close(struct plumb_align_run *a)
{
    plumb_embed_fini(&((struct real *)a->own)->embed);
    free(a->own);
}

static bool same(const struct plumb_rollout *a, const struct plumb_rollout *b)
{
    return a->n == b->n && memcmp(a->ids, b->ids, (size_t)a->n * sizeof(*a->ids)) == 0;
}

/* Drops all but two answers of a local prompt, or all but the first if all answers are equal. The
 * embeddings of its answers begin at sequence `at` of the packed micro-batch. */
static plumb_status select_pair(struct plumb_align_run *a, int64_t prompt, int64_t at)
{
    struct real *r = a->own;
    const int64_t group = a->answers.group_size;
    struct plumb_rollout *o = &a->answers.at[prompt * group];
    const struct plumb_rng_key key = {.seed = a->t->cfg->seed,
                                      .purpose = PLUMB_RNG_SELECT,
                                      .iteration = (uint32_t)a->t->state.iteration + 1,
                                      .prompt = (uint64_t)o->record};
    int64_t first = 0, second = 0, unlike = 0;
    for (int64_t i = 1; i < group; i++)
        unlike += !same(o, o + i);
    if (unlike > 0) {
        plumb_embed_compare(&r->embed, at);
        PLUMB_TRY(
            plumb_select_pair(&first, &second, r->embed.selection, r->embed.gram, group, &key));
    }
    for (int64_t i = 0; i < group; i++)
        o[i].dropped = i != first && i != second;
    return PLUMB_OK;
}

static plumb_status preselect(struct plumb_align_run *a)
{
    struct real *r = a->own;
    struct plumb_pack *p = &a->update.micro.pack;
    const int64_t group = a->answers.group_size, most = p->max_seq / group;
    for (int64_t k = 0; k < a->answers.prompts; k += most) {
        const int64_t end = k + most < a->answers.prompts ? k + most : a->answers.prompts;
        PLUMB_REQUIRE(!plumb_stop_noticed(&a->t->stop), PLUMB_STOPPED, "embedding was paused");
        plumb_pack_clear(p);
        for (int64_t i = k * group; i < end * group; i++)
            PLUMB_TRY(plumb_embed_add(&r->embed, p, a->answers.at[i].ids, a->answers.at[i].n));
        PLUMB_TRY(plumb_embed_run(&r->embed, a->t->pass, p));
        for (int64_t q = k; q < end; q++)
            PLUMB_TRY(select_pair(a, q, (q - k) * group));
    }
    return PLUMB_OK;
}

const struct plumb_method_stages plumb_add_real = {
    .open = open, .close = close, .preselect_phase = "embed", .preselect = preselect};
