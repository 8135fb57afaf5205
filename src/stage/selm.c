/* selm.c - the method SELM: for each prompt with a pair, the loss has a term for the reference's
 * greedy completion as well.
 * Layer 5. Includes stage/method.h.
 * Source: arXiv:2405.19332. The objective (align/obj_selm.c) lowers the policy's log-prob of this
 * completion. */
#include <stdlib.h>

#include "base/num.h"
#include "stage/method.h"

struct selm {
    struct plumb_rollouts greedy; /* the reference's greedy completion of each local prompt */
    struct plumb_reference_of reference;
};

static plumb_status open_rollouts(void **own, const struct plumb_align_context *c,
                                  const struct plumb_partition *part, int64_t *bytes)
{
    struct selm *s = *own = calloc(1, sizeof(*s));
    PLUMB_REQUIRE(s, PLUMB_ERR_NOMEM, "state of selm");
    PLUMB_TRY(plumb_rollouts_init(&s->greedy, plumb_max_i64(part->most_local, 1), 1,
                                  c->t->cfg->generate.max_new_tokens));
    *bytes += plumb_rollouts_bytes(&s->greedy);
    return PLUMB_OK;
}

/* Makes sure that the reference's weights can be read while the policy changes. This is needed for
 * a run that resumes in the middle of an iteration, because such a run generates the greedy
 * completions after some optimizer steps have been taken. */
static plumb_status open(void **own, const struct plumb_align_context *c,
                         const struct plumb_partition *part,
                         struct plumb_reference_stage *reference, const struct plumb_work *w)
{
    struct selm *s = *own;
    (void)part, (void)w;
    PLUMB_TRY(plumb_reference_stage_keep(reference, c));
    s->reference = (struct plumb_reference_of){reference->set, reference->role[PLUMB_ROLE_LOSS]};
    return PLUMB_OK;
}

static void close(void *own)
{
    struct selm *s = own;
    plumb_rollouts_fini(&s->greedy);
    free(s);
}

/* Returns the settings for the reference's greedy completions. The reference does not change within
 * an iteration, so a pause does not save these completions: a resumed run generates them again. */
static struct plumb_rollout_source greedy_of(const struct plumb_align_inputs *in)
{
    struct selm *s = in->own;
    struct plumb_rollout_source src = {
        .data = in->data,
        .tokenizer = in->t->tokenizer,
        .generator = in->rollout->generator,
        .options = plumb_generate_options_of(in->t->cfg, in->t->state.iteration + 1)};
    src.model = plumb_references_model(s->reference.set, s->reference.which);
    src.options.sample = (struct plumb_sample_param){.top_p = 1};
    src.options.pause = plumb_stop_pause;
    src.options.pause_arg = &in->t->stop;
    src.options.pass = plumb_references_before;
    src.options.pass_arg = &s->reference;
    return src;
}

static plumb_status begin(const struct plumb_align_inputs *in, struct plumb_rollout_stage *rollout,
                          struct plumb_reward_stage *reward)
{
    struct selm *s = in->own;
    const struct plumb_rollout_source src = greedy_of(in);
    (void)rollout, (void)reward;
    return plumb_rollouts_begin(&s->greedy, &src, in->part->prompt_of_local,
                                in->part->record_of_local, in->part->n_local);
}

static plumb_status rollout(const struct plumb_align_inputs *in)
{
    struct selm *s = in->own;
    const struct plumb_rollout_source src = greedy_of(in);
    const plumb_status st = plumb_rollouts_generate(&s->greedy, &src);
    /* called after a failure or a pause, too: the other ranks may be waiting for this rank */
    return plumb_references_end(s->reference.set, s->reference.which, st);
}

static int64_t rollout_tokens(const struct plumb_align_inputs *in, int64_t local_prompt)
{
    return ((const struct selm *)in->own)->greedy.at[local_prompt].n;
}

static int64_t extra_tokens(const struct plumb_align_inputs *in, const struct plumb_decision *d,
                            int64_t local_prompt)
{
    (void)d;
    return rollout_tokens(in, local_prompt);
}

/* Packs the greedy completion of a local prompt. Its reference log-prob is the sum of the log-probs
 * that were stored when the reference model generated it. */
static plumb_status add_sequences(const struct plumb_align_inputs *in,
                                  const struct plumb_decision *d, int64_t local_prompt,
                                  struct plumb_work *w)
{
    const struct selm *s = in->own;
    struct plumb_micro *m = &w->micro;
    const int64_t sequence = m->pack.n_seq, group = in->rollout->rollouts.group_size;
    const struct plumb_rollout *o = &s->greedy.at[local_prompt];
    const struct plumb_piece *prompt = &in->data->record[o->record].prompt;
    (void)d;
    PLUMB_TRY(plumb_micro_add(m, o->record, (int32_t)group, prompt->ids, prompt->n, o->ids, o->n));
    w->completion_of[sequence] = -1;
    m->weight[sequence] = 1;
    m->logp_ref[sequence] = 0;
    for (int64_t j = 0; j < o->n; j++)
        m->logp_ref[sequence] += (double)o->logp[j];
    return PLUMB_OK;
}

const struct plumb_method_stages plumb_add_selm = {.open_rollouts = open_rollouts,
                                                   .open = open,
                                                   .close = close,
                                                   .begin = begin,
                                                   .rollout_phase = "greedy",
                                                   .rollout = rollout,
                                                   .rollout_tokens = rollout_tokens,
                                                   .extra_sequences = 1,
                                                   .extra_tokens = extra_tokens,
                                                   .add_sequences = add_sequences};
