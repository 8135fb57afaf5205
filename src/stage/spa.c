/* spa.c - SPA: the policy scores its own answers, and small margins are treated as noisy labels.
 * Layer 5. Includes stage/align.h, comm/tree.h, io/.
 * Source: arXiv:2406.04412. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "comm/tree.h"
#include "io/hdf5.h"
#include "model/mix.h"
#include "stage/align.h"

struct spa {
    double *margin; /* (n,) margins of the iteration's steps, in global order; NaN if no pair */
    double *work;   /* scratch of the same size */
    int64_t n;      /* number of margins so far; at most epochs * prompts */
    struct plumb_mix mix;
};

static plumb_status open_references(struct plumb_align_run *a)
{
    return plumb_references_open(a->reference.set, &a->reference.role[PLUMB_ROLE_JUDGE],
                                 a->t->cfg->method.judge, "method.judge");
}

static plumb_status open(struct plumb_align_run *a)
{
    const int64_t most = a->t->cfg->train.epochs * a->part.per_iteration;
    struct spa *s = a->own = calloc(1, sizeof(*s));
    PLUMB_REQUIRE(s, PLUMB_ERR_NOMEM, "state of spa");
    s->margin = calloc((size_t)most, sizeof(*s->margin));
    s->work = calloc((size_t)most, sizeof(*s->work));
    PLUMB_REQUIRE(s->margin && s->work, PLUMB_ERR_NOMEM, "margins of %lld pairs", (long long)most);
    PLUMB_TRY(
        plumb_memory_beside(a->t->backend, "margins", 2 * most * (int64_t)sizeof(*s->margin)));
    if (a->param.decoupling == 0)
        return PLUMB_OK;
    PLUMB_TRY(plumb_align_keep_reference(a));
    PLUMB_TRY(plumb_mix_init(&s->mix, a->t->model, a->update.micro.pack.max_tokens));
    return plumb_memory_beside(a->t->backend, "hidden states to mix", plumb_mix_bytes(&s->mix));
}

static void close(struct plumb_align_run *a)
{
    struct spa *s = a->own;
    free(s->margin);
    free(s->work);
    plumb_mix_fini(&s->mix);
    free(s);
}

static plumb_status begin(struct plumb_align_run *a)
{
    ((struct spa *)a->own)->n = 0;
    return PLUMB_OK;
}

/* ---- reward --------------------------------------------------------------------------------- */

/* Returns the implicit reward of answer y to prompt x. pi is the policy that sampled the answer:
 *     beta (log pi(y|x) - log pi_judge(y|x))          Source: SPA, arXiv:2406.04412, eq. 7-8 */
static double implicit_reward(const struct plumb_align_run *a, const struct plumb_rollout *o)
{
    double logp = 0;
    for (int64_t j = 0; j < o->n; j++)
        logp += (double)o->logp[j];
    return a->param.beta * (logp - o->under[PLUMB_ROLE_JUDGE]);
}

static plumb_status score(struct plumb_align_run *a)
{
    for (int64_t i = 0; i < a->answers.prompts * a->answers.group_size; i++) {
        struct plumb_rollout *o = &a->answers.at[i];
        o->reward = implicit_reward(a, o);
        o->scored = true;
    }
    return PLUMB_OK;
}

/* ---- label noise ---------------------------------------------------------------------------- */

/* Sets m->logp: the log-prob sums of the packed sequences. With decoupling > 0, the logits are the
 * policy's, extrapolated away from the reference's. */
static plumb_status score_packed(struct plumb_align_run *a)
{
    struct spa *s = a->own;
    struct plumb_micro *m = &a->update.micro;
    const plumb_model *reference =
        plumb_references_model(a->reference.set, a->reference.role[PLUMB_ROLE_LOSS]);
    const struct plumb_batch batch = plumb_pack_batch(&m->pack);
    if (a->param.decoupling == 0)
        return plumb_micro_forward(m, a->t->pass, a->t->model);
    PLUMB_TRY(plumb_pass_mixed_logprob(a->t->pass, &s->mix, a->t->model, reference,
                                       a->param.decoupling, &batch, m->pack.logp));
    plumb_micro_sum(m);
    return PLUMB_OK;
}

/* Sets margin[prompt - first] for each pair of one micro-batch of this rank. */
static plumb_status micro_margins(struct plumb_align_run *a, struct plumb_range prompts,
                                  int64_t first, double *margin)
{
    struct plumb_micro *m = &a->update.micro;
    PLUMB_TRY(plumb_align_collect(a, prompts));
    if (m->pairs == 0)
        return PLUMB_OK;
    PLUMB_TRY(score_packed(a));
    PLUMB_TRY(plumb_micro_check(m));
    int64_t k = 0;
    for (int64_t prompt = prompts.begin; prompt < prompts.end; prompt++) {
        if (a->decision.board->choice[prompt].branch != PLUMB_BRANCH_RANK)
            continue;
        const struct plumb_pair *pair = &m->pair[k++];
        margin[prompt - first] = a->param.beta * ((m->logp[pair->win] - m->logp_ref[pair->win]) -
                                                  (m->logp[pair->lose] - m->logp_ref[pair->lose]));
    }
    return PLUMB_OK;
}

static plumb_status local_margins(struct plumb_align_run *a, struct plumb_range prompts,
                                  double *margin)
{
    const struct plumb_range mine =
        plumb_tree_leaves(plumb_split_micro_batches(&a->part.split, a->update.step),
                          plumb_comm_rank(a->t->comm), plumb_comm_size(a->t->comm));
    for (int64_t micro = mine.begin; micro < mine.end; micro++)
        PLUMB_TRY(micro_margins(a, plumb_split_micro_batch(&a->part.split, a->update.step, micro),
                                prompts.begin, margin));
    return PLUMB_OK;
}

/* Computes the margins of the step's pairs under the current weights, and smooths the labels of
 * pairs with a small margin. Collective. */
static plumb_status decide_step(struct plumb_align_run *a, struct plumb_range prompts)
{
    struct spa *s = a->own;
    const int64_t n = prompts.end - prompts.begin;
    const double steps = (double)(a->t->cfg->train.epochs * a->part.steps);
    double *margin = s->margin + s->n;
    plumb_comm_phase(a->t->comm, "doubt");
    memset(margin, 0, (size_t)n * sizeof(*margin));
    PLUMB_TRY(plumb_comm_agree(a->t->comm, local_margins(a, prompts, margin)));
    PLUMB_TRY(plumb_comm_allreduce_f64(a->t->comm, margin, n, PLUMB_SUM)); /* one owner each */
    for (int64_t k = 0; k < n; k++)
        if (a->decision.board->choice[prompts.begin + k].branch != PLUMB_BRANCH_RANK)
            margin[k] = NAN;
    s->n += n;
    const double tau = plumb_threshold_noise(s->margin, s->n, &a->param, s->work);
    for (int64_t k = 0; k < n; k++)
        plumb_threshold_smooth(&a->decision.board->choice[prompts.begin + k], margin[k], tau,
                               a->update.sums.done / steps, &a->param);
    return PLUMB_OK;
}

static void end_step(struct plumb_align_run *a, struct plumb_range prompts, bool undo)
{
    struct spa *s = a->own;
    if (undo)
        s->n -= prompts.end - prompts.begin;
    for (int64_t k = prompts.begin; !undo && k < prompts.end; k++) {
        a->update.sums.pairs += a->decision.board->choice[k].branch == PLUMB_BRANCH_RANK;
        a->update.sums.doubted += a->decision.board->choice[k].smooth > 0;
    }
}

/* ---- pause ---------------------------------------------------------------------------------- */

static int64_t pause_bytes(const struct plumb_align_run *a)
{
    return (int64_t)sizeof(double) * ((const struct spa *)a->own)->n;
}

static plumb_status pause(const struct plumb_align_run *a, plumb_h5 *f)
{
    const struct spa *s = a->own;
    return plumb_h5_put(f, "margins", PLUMB_H5_F64, s->n, s->margin);
}

static plumb_status resume(struct plumb_align_run *a, const plumb_h5 *f, const char *dir)
{
    struct spa *s = a->own;
    const int64_t room = a->t->cfg->train.epochs * a->part.split.items;
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
