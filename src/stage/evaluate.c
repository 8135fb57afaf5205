/* evaluate.c - generates and scores completions of the prompts in data.eval, between the iterations
 * of align.
 * Layer 5. Includes stage/stages.h, io/file.h, base/.
 *
 * The policy answers every held-out prompt once, with the run's sampling options. Each evaluation
 * uses the random numbers of iteration 0, so that only the weights change the result. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "io/file.h"
#include "stage/stages.h"
#include "train/held_out.h"
#include "train/loops.h"

enum { HELD_REWARD, HELD_SCORED, HELD_TOKENS, HELD_CLIPPED, HELD_VALUES };

plumb_status plumb_align_held_out_open(struct plumb_align_held_out *h, struct plumb_trainer *t)
{
    const struct plumb_config *cfg = t->cfg;
    const int64_t world = plumb_comm_size(t->comm);
    if (!*cfg->data.eval ||
        (t->backend->dry && (!t->tokenizer || !plumb_file_exists(cfg->data.eval))))
        return PLUMB_OK; /* `plumb plan` needs no data files */
    PLUMB_REQUIRE(plumb_rewards_configured(cfg), PLUMB_ERR_CONFIG,
                  "data.eval: answers to it are rated by a reward, and none is configured");
    struct plumb_data_options options = plumb_data_options_of(cfg, t, PLUMB_DATA_PROMPTS);
    options.skip = options.limit = 0;
    options.max_prompt_tokens = plumb_at_most(options.max_prompt_tokens, options.max_tokens - 1);
    PLUMB_TRY(plumb_file_check_input(cfg->data.eval, "data.eval"));
    plumb_held_out_same(t, cfg->data.prompts, "data.prompts");
    PLUMB_TRY(plumb_dataset_open(&h->data, cfg->data.eval, &options));
    h->n_local = h->data->n / world + (plumb_comm_rank(t->comm) < h->data->n % world);
    h->record = calloc((size_t)h->n_local + 1, sizeof(*h->record));
    h->value = calloc((size_t)(h->data->n * HELD_VALUES), sizeof(*h->value));
    PLUMB_REQUIRE(h->record && h->value, PLUMB_ERR_NOMEM, "results of %lld held-out prompts",
                  (long long)h->data->n);
    for (int64_t k = 0; k < h->n_local; k++)
        h->record[k] = plumb_comm_rank(t->comm) + k * world;
    PLUMB_TRY(plumb_scores_init(&h->scores, plumb_max_i64(h->n_local, 1)));
    PLUMB_TRY(plumb_rollouts_init(&h->rollouts, plumb_max_i64(h->n_local, 1), 1,
                                  cfg->generate.max_new_tokens));
    return plumb_memory_beside(t->backend, "answers to data.eval",
                               plumb_rollouts_bytes(&h->rollouts) + plumb_scores_bytes(&h->scores) +
                                   (h->n_local + h->data->n * HELD_VALUES) *
                                       (int64_t)sizeof(*h->value));
}

void plumb_align_held_out_close(struct plumb_align_held_out *h)
{
    plumb_rollouts_fini(&h->rollouts);
    plumb_scores_fini(&h->scores);
    plumb_dataset_close(&h->data);
    free(h->record);
    free(h->value);
}

/* Generates and scores the completions of this rank's held-out prompts, and writes their results to
 * h->value. */
static plumb_status answer(struct plumb_align_held_out *h, const struct plumb_trainer *t,
                           plumb_generator *generator, plumb_rewards *sources)
{
    const struct plumb_rollout_source src = {
        .data = h->data,
        .tokenizer = t->tokenizer,
        .generator = generator,
        .model = t->model,
        .options = plumb_generate_options_of(t->cfg, 0),
        .what = "evaluate",
    };
    plumb_status st = plumb_rollouts_begin(&h->rollouts, &src, h->record, h->record, h->n_local);
    plumb_scores_clear(&h->scores);
    if (st == PLUMB_OK)
        st = plumb_rollouts_generate(&h->rollouts, &src);
    if (st != PLUMB_OK) /* other ranks may be waiting in a pass of the reward model */
        return plumb_rewards_end(sources, st);
    PLUMB_TRY(plumb_scores_compute(&h->scores, &h->rollouts, h->data, sources, NULL, NULL));
    memset(h->value, 0, (size_t)(h->data->n * HELD_VALUES) * sizeof(*h->value));
    for (int64_t k = 0; k < h->n_local; k++) {
        const struct plumb_rollout *o = &h->rollouts.at[k];
        const double reward = h->scores.reward[k];
        double *value = h->value + h->record[k] * HELD_VALUES;
        value[HELD_SCORED] = isfinite(reward) ? 1 : 0;
        value[HELD_REWARD] = isfinite(reward) ? reward : 0;
        value[HELD_TOKENS] = (double)o->n;
        value[HELD_CLIPPED] = o->stop == PLUMB_STOP_LENGTH;
    }
    return PLUMB_OK;
}

plumb_status plumb_align_held_out_run(struct plumb_align_held_out *h, struct plumb_trainer *t,
                                      plumb_generator *generator, plumb_rewards *sources,
                                      struct plumb_metrics_row *row)
{
    const int64_t n = h->data ? h->data->n : 0;
    const double began = plumb_now();
    double sum[HELD_VALUES] = {0}, square = 0;
    if (n == 0)
        return PLUMB_OK;
    plumb_comm_phase(t->comm, "evaluate");
    PLUMB_TRY(plumb_comm_agree(t->comm, answer(h, t, generator, sources)));
    /* each prompt's results are set on one rank and 0 on the others, so the sum is exact */
    PLUMB_TRY(plumb_comm_allreduce_f64(t->comm, h->value, n * HELD_VALUES, PLUMB_SUM));
    for (int64_t i = 0; i < n * HELD_VALUES; i++)
        sum[i % HELD_VALUES] += h->value[i];
    const double scored = sum[HELD_SCORED], mean = sum[HELD_REWARD] / scored;
    const double missing = (double)n - scored;
    PLUMB_REQUIRE(missing <= t->cfg->reward.max_missing * (double)n, PLUMB_ERR_NUMERIC,
                  "data.eval: %.0f of %lld answers have no finite reward (reward.max_missing is "
                  "%.0f %%)%s%s",
                  missing, (long long)n, 100 * t->cfg->reward.max_missing,
                  *plumb_rewards_fault(sources) ? ": " : "", plumb_rewards_fault(sources));
    for (int64_t i = 0; i < n; i++) {
        const double *value = h->value + i * HELD_VALUES, off = value[HELD_REWARD] - mean;
        square += value[HELD_SCORED] > 0 ? off * off : 0;
    }
    plumb_metrics_set(row, PLUMB_METRIC_EVAL_REWARD, mean);
    plumb_metrics_set(row, PLUMB_METRIC_EVAL_REWARD_STD, sqrt(square / scored));
    plumb_metrics_set(row, PLUMB_METRIC_EVAL_MISSING, missing);
    plumb_metrics_set(row, PLUMB_METRIC_EVAL_LENGTH, sum[HELD_TOKENS] / (double)n);
    plumb_metrics_set(row, PLUMB_METRIC_EVAL_CLIPPED, sum[HELD_CLIPPED] / (double)n);
    plumb_metrics_set(row, PLUMB_METRIC_TIME_EVAL, plumb_now() - began);
    return PLUMB_OK;
}
