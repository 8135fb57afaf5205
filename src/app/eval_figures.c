/* eval_figures.c - computes the results of each model from the EVAL_ values (app/eval.h) of all
 * answers.
 * Layer 6. Includes app/eval.h, base/, eval/. Sums run over prompts and samples in their order, so
 * they do not depend on the number of ranks. */
#include <math.h>
#include <stdlib.h>

#include "app/eval.h"
#include "base/num.h"
#include "eval/interval.h"
#include "eval/win_rate.h"

/* The inputs of the bootstrap (sum, count) and of the length-controlled win rate (won, delta). */
struct work {
    double *sum, *count; /* (prompts,) */
    double *won, *delta; /* (prompts * samples,) */
};

static plumb_status rewards(const struct plumb_eval *e, struct plumb_eval_model *m, struct work *w)
{
    const struct plumb_config *cfg = e->app->cfg;
    struct plumb_eval_figures *f = &m->figures;
    const int64_t samples = cfg->eval.samples;
    struct plumb_moments reward = {0};
    for (int64_t p = 0; p < e->prompts; p++) {
        w->sum[p] = w->count[p] = 0;
        for (int64_t s = 0; s < samples; s++) {
            const double *v = m->value + (p * samples + s) * PLUMB_EVAL_VALUES;
            if (v[EVAL_SCORED] > 0)
                plumb_moments_add(&reward, v[EVAL_REWARD]);
            w->sum[p] += v[EVAL_REWARD];
            w->count[p] += v[EVAL_SCORED];
        }
    }
    f->answers = e->prompts * samples;
    f->missing = e->rewards ? f->answers - reward.count : 0;
    PLUMB_REQUIRE((double)f->missing <= cfg->reward.max_missing * (double)f->answers,
                  PLUMB_ERR_NUMERIC,
                  "%s: %lld of %lld answers have no finite reward, more than reward.max_missing "
                  "(%g); warnings above say why",
                  m->name, (long long)f->missing, (long long)f->answers, cfg->reward.max_missing);
    f->reward = reward.count > 0 ? reward.mean : NAN;
    f->reward_std = reward.count > 0 ? sqrt(plumb_moments_var(&reward)) : NAN;
    return plumb_bootstrap(f->reward_interval, w->sum, w->count, e->prompts, cfg->eval.bootstrap,
                           cfg->seed);
}

/* Compares the EVAL_ values v of an answer with `base`, those of the first model's answer to the
 * same prompt and sample: by the judge's verdict if eval.judge is set, else by the rewards. Sets
 * *out to 1 (better), -1 or 0 (tie). Returns false if a verdict or reward is missing. */
static bool verdict(const struct plumb_config *cfg, const double *v, const double *base, int *out)
{
    if (*cfg->eval.judge) {
        *out = (int)v[EVAL_VERDICT];
        return v[EVAL_JUDGED] > 0;
    }
    const double gap = v[EVAL_REWARD] - base[EVAL_REWARD];
    *out = (gap > cfg->eval.win_margin) - (gap < -cfg->eval.win_margin);
    return v[EVAL_SCORED] > 0 && base[EVAL_SCORED] > 0;
}

static plumb_status wins(const struct plumb_eval *e, struct plumb_eval_model *m, struct work *w)
{
    const struct plumb_config *cfg = e->app->cfg;
    struct plumb_eval_figures *f = &m->figures;
    const int64_t samples = cfg->eval.samples;
    int64_t n = 0;
    double all = 0;
    for (int64_t p = 0; p < e->prompts; p++) {
        w->sum[p] = w->count[p] = 0;
        for (int64_t i = p * samples; i < (p + 1) * samples; i++) {
            const double *v = m->value + i * PLUMB_EVAL_VALUES;
            const double *base = e->model[0].value + i * PLUMB_EVAL_VALUES;
            int better;
            f->disagreed += (int64_t)v[EVAL_DISAGREED];
            if (!verdict(cfg, v, base, &better)) {
                f->not_judged++;
                continue;
            }
            f->win += better > 0;
            f->tie += better == 0;
            f->lose += better < 0;
            w->won[n] = 0.5 * (1 + better);
            w->delta[n] = v[EVAL_CHARACTERS] - base[EVAL_CHARACTERS];
            w->sum[p] += w->won[n];
            w->count[p]++;
            all += w->won[n++];
        }
    }
    PLUMB_REQUIRE((double)f->not_judged <= cfg->reward.max_missing * (double)(e->prompts * samples),
                  PLUMB_ERR_NUMERIC,
                  "%s: %lld of %lld pairs have no verdict, more than reward.max_missing (%g); "
                  "warnings above say why",
                  m->name, (long long)f->not_judged, (long long)(e->prompts * samples),
                  cfg->reward.max_missing);
    if (!n)
        return PLUMB_OK;
    f->win_rate = all / (double)n;
    PLUMB_TRY(plumb_lc_win_rate(&f->lc_win_rate, w->won, w->delta, n));
    return plumb_bootstrap(f->win_rate_interval, w->sum, w->count, e->prompts, cfg->eval.bootstrap,
                           cfg->seed);
}

static void texts(const struct plumb_eval *e, struct plumb_eval_model *m)
{
    struct plumb_eval_figures *f = &m->figures;
    const int64_t all = f->answers;
    struct plumb_moments tokens = {0}, characters = {0}, clipped = {0}, repeated = {0}, kl = {0};
    struct plumb_bleu bleu = {0};
    double logp = 0, count = 0;
    f->tokens_max = 0;
    for (int64_t i = 0; i < all; i++) {
        const double *v = m->value + i * PLUMB_EVAL_VALUES, *b = v + EVAL_BLEU;
        plumb_moments_add(&tokens, v[EVAL_TOKENS]);
        plumb_moments_add(&characters, v[EVAL_CHARACTERS]);
        plumb_moments_add(&clipped, v[EVAL_CLIPPED]);
        plumb_moments_add(&repeated, v[EVAL_REPEATED]);
        plumb_moments_add(&kl, v[EVAL_LOGP] - v[EVAL_LOGP_START]);
        f->tokens_max = fmax(f->tokens_max, v[EVAL_TOKENS]);
        for (int k = 0; k < PLUMB_BLEU_ORDER; k++) {
            bleu.match[k] += (int64_t)b[k];
            bleu.total[k] += (int64_t)b[PLUMB_BLEU_ORDER + k];
        }
        bleu.length += (int64_t)b[2 * PLUMB_BLEU_ORDER];
        bleu.reference_length += (int64_t)b[2 * PLUMB_BLEU_ORDER + 1];
    }
    for (int64_t p = 0; p < e->prompts; p++) {
        logp += m->reference[p * PLUMB_EVAL_REFERENCE + EVAL_REFERENCE_LOGP];
        count += m->reference[p * PLUMB_EVAL_REFERENCE + EVAL_REFERENCE_TOKENS];
    }
    f->tokens = tokens.mean;
    f->tokens_std = sqrt(plumb_moments_var(&tokens));
    f->characters = characters.mean;
    f->clipped = clipped.mean;
    f->repetition = repeated.mean;
    f->distinct[0] = m->distinct[0];
    f->distinct[1] = m->distinct[1];
    f->kl = m != e->model && m->same_tokens && e->app->cfg->eval.kl ? kl.mean : NAN;
    f->perplexity = count > 0 ? exp(-logp / count) : NAN;
    f->bleu = e->references ? plumb_bleu_score(&bleu) : NAN;
}

plumb_status plumb_eval_figure(struct plumb_eval *e)
{
    const int64_t answers = e->prompts * e->app->cfg->eval.samples;
    double *room = calloc((size_t)(2 * e->prompts + 2 * answers) + 1, sizeof(*room));
    PLUMB_REQUIRE(room, PLUMB_ERR_NOMEM, "figures of %lld answers", (long long)answers);
    struct work w = {.sum = room,
                     .count = room + e->prompts,
                     .won = room + 2 * e->prompts,
                     .delta = room + 2 * e->prompts + answers};
    plumb_status st = PLUMB_OK;
    for (int64_t i = 0; i < e->n && st == PLUMB_OK; i++) {
        struct plumb_eval_model *m = &e->model[i];
        m->figures = (struct plumb_eval_figures){
            .win_rate = NAN, .win_rate_interval = {NAN, NAN}, .lc_win_rate = NAN};
        st = rewards(e, m, &w);
        if (st == PLUMB_OK && i > 0)
            st = wins(e, m, &w);
        texts(e, m);
    }
    free(room);
    return st;
}
