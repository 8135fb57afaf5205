/* selm.c - SELM: each prompt with a pair also gets the reference's own greedy answer.
 * Layer 5. Includes stage/align.h.
 * Source: arXiv:2405.19332. The objective (align/obj_selm.c) lowers the log-prob of that answer. */
#include <stdlib.h>

#include "base/num.h"
#include "stage/align.h"

struct selm {
    struct plumb_rollouts greedy; /* the reference's greedy answer to each local prompt */
};

static plumb_status open_rollouts(struct plumb_align_run *a, int64_t *bytes)
{
    struct selm *s = a->own = calloc(1, sizeof(*s));
    PLUMB_REQUIRE(s, PLUMB_ERR_NOMEM, "state of selm");
    PLUMB_TRY(plumb_rollouts_init(&s->greedy, plumb_max_i64(a->part.most_local, 1), 1,
                                  a->t->cfg->generate.max_new_tokens));
    *bytes += plumb_rollouts_bytes(&s->greedy);
    return PLUMB_OK;
}

static void close(struct plumb_align_run *a)
{
    plumb_rollouts_fini(&((struct selm *)a->own)->greedy);
    free(a->own);
}

/* Returns the settings for the reference's greedy answers. The reference does not change within an
 * iteration, so a pause does not save these answers: a resumed run generates them again. */
static struct plumb_rollout_source greedy_of(struct plumb_align_run *a)
{
    struct plumb_rollout_source src = plumb_align_source(a);
    src.model = plumb_references_model(a->reference.set, a->reference.role[PLUMB_ROLE_LOSS]);
    src.options.sample = (struct plumb_sample_param){.top_p = 1};
    src.principled = false;
    return src;
}

static plumb_status begin(struct plumb_align_run *a)
{
    struct selm *s = a->own;
    const struct plumb_rollout_source src = greedy_of(a);
    return plumb_rollouts_begin(&s->greedy, &src, a->part.local_prompt, a->part.local_record,
                                a->part.n_local);
}

static plumb_status rollout(struct plumb_align_run *a)
{
    struct selm *s = a->own;
    const struct plumb_rollout_source src = greedy_of(a);
    return plumb_rollouts_generate(&s->greedy, &src);
}

static int64_t rollout_tokens(const struct plumb_align_run *a, int64_t local_prompt)
{
    return ((const struct selm *)a->own)->greedy.at[local_prompt].n;
}

/* Packs the greedy answer of a local prompt. The log-probs from its generation are its reference
 * log-probs. */
static plumb_status add_sequences(struct plumb_align_run *a, int64_t local_prompt)
{
    const struct selm *s = a->own;
    struct plumb_micro *m = &a->update.micro;
    const int64_t q = m->pack.n_seq;
    const struct plumb_rollout *o = &s->greedy.at[local_prompt];
    const struct plumb_piece *prompt = &a->data->record[o->record].prompt;
    PLUMB_TRY(plumb_micro_add(m, o->record, (int32_t)a->answers.group_size, prompt->ids, prompt->n,
                              o->ids, o->n));
    a->update.completion[q] = -1;
    m->weight[q] = 1;
    m->logp_ref[q] = 0;
    for (int64_t j = 0; j < o->n; j++)
        m->logp_ref[q] += (double)o->logp[j];
    return PLUMB_OK;
}

const struct plumb_method_stages plumb_add_selm = {.open_rollouts = open_rollouts,
                                                   .open = plumb_align_keep_reference,
                                                   .close = close,
                                                   .begin = begin,
                                                   .rollout_phase = "greedy",
                                                   .rollout = rollout,
                                                   .rollout_tokens = rollout_tokens,
                                                   .extra_sequences = 1,
                                                   .extra_tokens = rollout_tokens,
                                                   .add_sequences = add_sequences};
