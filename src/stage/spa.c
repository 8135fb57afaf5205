/* spa.c - the method SPA: the reward of a completion comes from the policy's own log-probs, and the
 * label of a pair is smoothed if its margin is small.
 * Layer 5. Includes stage/method.h, io/.
 * Source: arXiv:2406.04412. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/hdf5.h"
#include "model/mix.h"
#include "stage/method.h"

struct spa {
    double *margin; /* (n,) margin of each prompt of the steps so far, in the order of the prompts;
                     * NaN without a pair */
    double *work;   /* scratch of the same size */
    int64_t n;      /* number of margins so far in the iteration; at most epochs * prompts */
    struct plumb_mix mix;
};

static plumb_status open_references(void *own, const struct plumb_align_context *c,
                                    struct plumb_reference_stage *reference)
{
    (void)own;
    return plumb_references_open(reference->set, &reference->role[PLUMB_ROLE_JUDGE],
                                 c->t->cfg->method.judge, "method.judge");
}

static plumb_status open(void **own, const struct plumb_align_context *c,
                         const struct plumb_partition *part,
                         struct plumb_reference_stage *reference, const struct plumb_work *w)
{
    const int64_t most = c->t->cfg->train.epochs * part->per_iteration;
    struct spa *s = *own = calloc(1, sizeof(*s));
    PLUMB_REQUIRE(s, PLUMB_ERR_NOMEM, "state of spa");
    s->margin = calloc((size_t)most, sizeof(*s->margin));
    s->work = calloc((size_t)most, sizeof(*s->work));
    PLUMB_REQUIRE(s->margin && s->work, PLUMB_ERR_NOMEM, "margins of %lld pairs", (long long)most);
    PLUMB_TRY(
        plumb_memory_beside(c->t->backend, "margins", 2 * most * (int64_t)sizeof(*s->margin)));
    if (c->param.decoupling == 0)
        return PLUMB_OK;
    PLUMB_TRY(plumb_reference_stage_keep(reference, c));
    PLUMB_TRY(plumb_mix_init(&s->mix, c->t->model, w->micro.pack.max_tokens));
    return plumb_memory_beside(c->t->backend, "hidden states to mix", plumb_mix_bytes(&s->mix));
}

static void close(void *own)
{
    struct spa *s = own;
    free(s->margin);
    free(s->work);
    plumb_mix_fini(&s->mix);
    free(s);
}

static plumb_status begin(const struct plumb_align_inputs *in, struct plumb_rollout_stage *rollout,
                          struct plumb_reward_stage *reward)
{
    (void)rollout, (void)reward;
    ((struct spa *)in->own)->n = 0;
    return PLUMB_OK;
}

/* ---- reward --------------------------------------------------------------------------------- */

/* Returns the implicit reward of completion y to prompt x. pi is the policy that sampled y:
 *     beta (log pi(y|x) - log pi_judge(y|x))          Source: SPA, arXiv:2406.04412, eq. 7-8 */
static double implicit_reward(const struct plumb_align_inputs *in, int64_t completion)
{
    const struct plumb_rollout *o = &in->rollout->rollouts.at[completion];
    const double judge = plumb_reference_logp(in->reference, completion, PLUMB_ROLE_JUDGE);
    double logp = 0;
    for (int64_t j = 0; j < o->n; j++)
        logp += (double)o->logp[j];
    return in->param->beta * (logp - judge);
}

static plumb_status score(const struct plumb_align_inputs *in, struct plumb_reward_stage *reward,
                          struct plumb_work *w)
{
    const int64_t n = plumb_rollouts_n(&in->rollout->rollouts);
    (void)w;
    for (int64_t completion = 0; completion < n; completion++) {
        reward->scores.reward[completion] = implicit_reward(in, completion);
        reward->scores.scored[completion] = true;
    }
    return PLUMB_OK;
}

/* ---- label noise ---------------------------------------------------------------------------- */

/* Sets w->micro.logp to the log-prob sums of the packed sequences under the policy. If
 * method.decoupling > 0, the logits are those of the policy, extrapolated away from those of the
 * reference. */
static plumb_status score_packed(const struct plumb_align_inputs *in, struct plumb_work *w)
{
    struct spa *s = in->own;
    struct plumb_micro *m = &w->micro;
    plumb_references *set = in->reference->set;
    const int which = in->reference->role[PLUMB_ROLE_LOSS];
    const struct plumb_batch batch = plumb_pack_batch(&m->pack);
    if (in->param->decoupling == 0)
        return plumb_micro_forward(m, in->t->pass, in->t->model);
    PLUMB_TRY(plumb_references_pass(set, which));
    PLUMB_TRY(plumb_pass_mixed_logprob(in->t->pass, &s->mix, in->t->model,
                                       plumb_references_model(set, which), in->param->decoupling,
                                       &batch, m->pack.logp));
    plumb_micro_sum(m);
    return PLUMB_OK;
}

/* Sets margin[prompt - first] for each prompt with a pair in one micro-batch of this rank: the
 * implicit reward of the winner minus that of the loser, under the current weights. */
static plumb_status micro_margins(const struct plumb_align_inputs *in,
                                  const struct plumb_decision *d, struct plumb_range prompts,
                                  struct plumb_work *w, int64_t first, double *margin)
{
    struct plumb_micro *m = &w->micro;
    PLUMB_TRY(plumb_align_collect(w, in, d, prompts));
    if (m->pairs == 0)
        return PLUMB_OK;
    PLUMB_TRY(score_packed(in, w));
    PLUMB_TRY(plumb_micro_check(m));
    int64_t k = 0;
    for (int64_t prompt = prompts.begin; prompt < prompts.end; prompt++) {
        if (d->board->choice[prompt].branch != PLUMB_BRANCH_RANK)
            continue;
        const struct plumb_pair *pair = &m->pair[k++];
        margin[prompt - first] =
            in->param->beta * ((m->logp[pair->win] - m->logp_ref[pair->win]) -
                               (m->logp[pair->lose] - m->logp_ref[pair->lose]));
    }
    return PLUMB_OK;
}

/* Sets margin[k] of the step's k-th prompt, if this rank owns the prompt and it has a pair.
 * Collective if method.decoupling > 0 and the layers of the reference are sharded over the ranks.
 */
static plumb_status local_margins(const struct plumb_align_inputs *in,
                                  const struct plumb_decision *d,
                                  const struct plumb_align_step *step, struct plumb_work *w,
                                  double *margin)
{
    plumb_status st = PLUMB_OK;
    const struct plumb_batch_split *split = &in->part->split;
    const struct plumb_leaves mine =
        plumb_trainer_leaves(in->t, plumb_split_micro_batches(split, step->step));
    for (int64_t micro = mine.begin; micro < mine.end && st == PLUMB_OK; micro += mine.step)
        st = micro_margins(in, d, plumb_split_micro_batch(split, step->step, micro), w,
                           step->prompts.begin, margin);
    if (in->param->decoupling == 0) /* without decoupling the reference has run no pass */
        return st;
    /* called after a failure, too: the other ranks may be waiting for this rank */
    return plumb_references_end(in->reference->set, in->reference->role[PLUMB_ROLE_LOSS], st);
}

/* Computes the margins of the step's pairs under the current weights, and smooths the labels of
 * pairs with a small margin. Collective. */
static plumb_status decide_step(const struct plumb_align_inputs *in, struct plumb_decision *d,
                                const struct plumb_align_step *step, struct plumb_work *w)
{
    struct spa *s = in->own;
    struct plumb_choice *choice = d->board->choice + step->prompts.begin;
    const int64_t n = step->prompts.end - step->prompts.begin;
    double *margin = s->margin + s->n;
    plumb_comm_phase(in->t->comm, "label smoothing");
    memset(margin, 0, (size_t)n * sizeof(*margin));
    PLUMB_TRY(plumb_comm_agree(in->t->comm, local_margins(in, d, step, w, margin)));
    PLUMB_TRY(plumb_comm_allreduce_f64(in->t->comm, margin, n, PLUMB_SUM)); /* one owner each */
    for (int64_t k = 0; k < n; k++)
        if (choice[k].branch != PLUMB_BRANCH_RANK)
            margin[k] = NAN;
    s->n += n;
    const double tau = plumb_threshold_noise(s->margin, s->n, in->param, s->work);
    for (int64_t k = 0; k < n; k++)
        plumb_threshold_smooth(&choice[k], margin[k], tau, step->done, in->param);
    return PLUMB_OK;
}

static void end_step(const struct plumb_align_inputs *in, const struct plumb_decision *d,
                     struct plumb_range prompts, bool undo, struct plumb_align_sums *sums)
{
    struct spa *s = in->own;
    if (undo)
        s->n -= prompts.end - prompts.begin;
    for (int64_t prompt = prompts.begin; !undo && prompt < prompts.end; prompt++) {
        sums->pairs += d->board->choice[prompt].branch == PLUMB_BRANCH_RANK;
        sums->smoothed += d->board->choice[prompt].smooth > 0;
    }
}

/* ---- pause ---------------------------------------------------------------------------------- */

static int64_t pause_bytes(const void *own)
{
    return (int64_t)sizeof(double) * ((const struct spa *)own)->n;
}

static plumb_status pause(const void *own, plumb_h5 *f)
{
    const struct spa *s = own;
    return plumb_h5_put(f, "margins", PLUMB_H5_F64, s->n, s->margin);
}

static plumb_status resume(const struct plumb_align_inputs *in, const plumb_h5 *f, const char *dir)
{
    struct spa *s = in->own;
    const int64_t room = in->t->cfg->train.epochs * in->part->split.items;
    PLUMB_TRY(plumb_h5_count(f, "margins", &s->n));
    PLUMB_REQUIRE(s->n <= room, PLUMB_ERR_FORMAT, "%s: %lld margins, expected at most %lld", dir,
                  (long long)s->n, (long long)room);
    return plumb_h5_read(f, "margins", PLUMB_H5_F64, 0, s->n, s->margin);
}

const struct plumb_method_stages plumb_add_spa = {.open_references = open_references,
                                                  .open = open,
                                                  .close = close,
                                                  .begin = begin,
                                                  .score = score,
                                                  .decide_step = decide_step,
                                                  .end_step = end_step,
                                                  .pause_bytes = pause_bytes,
                                                  .pause = pause,
                                                  .resume = resume};
