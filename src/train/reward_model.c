/* reward_model.c - trains a reward model from preference pairs.
 * Layer 5. Includes base/, align/, data/, train/. */
#include <stdlib.h>

#include "align/objective.h"
#include "base/num.h"
#include "train/loops.h"
#include "train/pack.h"

enum { VALUE_ACCURATE = PLUMB_EPOCHS_OWN, VALUE_CHOSEN, VALUE_REJECTED };

struct reward_model {
    struct plumb_trainer *t;
    struct plumb_dataset *data;
    struct plumb_epochs epochs;
    struct plumb_pack pack;
    /* per sequence of a micro-batch: 2i chosen, 2i+1 rejected of pair i */
    double *score, *dscore, *dlogp;
    float *score_f32;
    int32_t *len;
    struct plumb_pair *pair;
    int64_t step; /* within the epoch */
    double scale; /* 1 / pairs of the global batch */
};

static plumb_status leaf_gradient(void *arg, int64_t leaf, float *grad,
                                  double value[PLUMB_LEAF_VALUES])
{
    struct reward_model *s = arg;
    struct plumb_trainer *t = s->t;
    const struct plumb_range r = plumb_cut_leaf(&s->epochs.cut, s->step, leaf);
    const int64_t pairs = r.end - r.begin;
    plumb_pack_clear(&s->pack);
    for (int64_t i = 0; i < pairs; i++) {
        const struct plumb_record *rec = &s->data->record[s->epochs.order[r.begin + i]];
        for (int side = 0; side < 2; side++) {
            PLUMB_TRY(plumb_pack_add(&s->pack, rec->prompt.ids, rec->prompt.n,
                                     rec->completion[side].ids, rec->completion[side].n));
            s->len[2 * i + side] = (int32_t)plumb_max_i64(rec->completion[side].n, 1);
        }
        s->pair[i] = (struct plumb_pair){.win = 2 * i, .lose = 2 * i + 1, .weight = 1.0};
    }
    const struct plumb_batch batch = plumb_pack_batch(&s->pack);
    PLUMB_TRY(plumb_pass_score(t->pass, t->model, &batch, s->score_f32));
    for (int64_t i = 0; i < 2 * pairs; i++)
        s->score[i] = (double)s->score_f32[i];
    const struct plumb_obj_in in = {.n = 2 * pairs,
                                    .k = pairs,
                                    .logp = s->score, /* not read by this objective */
                                    .score = s->score,
                                    .len = s->len,
                                    .pair = s->pair,
                                    .scale = s->scale};
    struct plumb_obj_out out = {.dlogp = s->dlogp, .dscore = s->dscore};
    const struct plumb_align_param param = plumb_align_param_default();
    PLUMB_TRY(plumb_objective_eval(&plumb_obj_reward, &out, &in, &param));
    for (int64_t i = 0; i < 2 * pairs; i++)
        s->score_f32[i] = (float)s->dscore[i];
    value[PLUMB_EPOCHS_LOSS] = out.loss;
    value[PLUMB_EPOCHS_TOKENS] = (double)plumb_batch_tokens(&batch);
    value[VALUE_ACCURATE] = (double)out.accurate;
    value[VALUE_CHOSEN] = out.chosen;
    value[VALUE_REJECTED] = out.rejected;
    return plumb_pass_score_backward(t->pass, t->model, s->score_f32, grad);
}

static void begin(void *arg, int64_t in_epoch, struct plumb_range records)
{
    struct reward_model *s = arg;
    s->step = in_epoch;
    s->scale = 1.0 / (double)(records.end - records.begin);
}

static void report(void *arg, const double value[PLUMB_LEAF_VALUES], struct plumb_metrics_row *row)
{
    const double scale = ((struct reward_model *)arg)->scale;
    plumb_metrics_set(row, PLUMB_METRIC_REWARDS_ACCURACIES, value[VALUE_ACCURATE] * scale);
    plumb_metrics_set(row, PLUMB_METRIC_REWARDS_CHOSEN, value[VALUE_CHOSEN] * scale);
    plumb_metrics_set(row, PLUMB_METRIC_REWARDS_REJECTED, value[VALUE_REJECTED] * scale);
    plumb_metrics_set(row, PLUMB_METRIC_REWARDS_MARGINS,
                      (value[VALUE_CHOSEN] - value[VALUE_REJECTED]) * scale);
}

static plumb_status prepare(struct reward_model *s)
{
    struct plumb_trainer *t = s->t;
    const struct plumb_config *cfg = t->cfg;
    PLUMB_REQUIRE(cfg->data.train && *cfg->data.train, PLUMB_ERR_CONFIG,
                  "data.train: is not set; name a JSONL file of prompt, chosen and rejected");
    const struct plumb_data_options options = plumb_data_options_of(cfg, t, PLUMB_DATA_PAIRS);
    PLUMB_TRY(plumb_dataset_open(&s->data, cfg->data.train, &options));
    PLUMB_TRY(plumb_epochs_init(&s->epochs, cfg, s->data->n));
    const int64_t most = 2 * cfg->train.micro_batch_size;
    int64_t tokens = 0;
    PLUMB_TRY(plumb_longest_batch(&tokens, s->data, 2, cfg->train.micro_batch_size));
    PLUMB_TRY(plumb_pack_init(&s->pack, tokens, most));
    s->score = calloc((size_t)most, sizeof(*s->score));
    s->dscore = calloc((size_t)most, sizeof(*s->dscore));
    s->dlogp = calloc((size_t)most, sizeof(*s->dlogp));
    s->score_f32 = calloc((size_t)most, sizeof(*s->score_f32));
    s->len = calloc((size_t)most, sizeof(*s->len));
    s->pair = calloc((size_t)most, sizeof(*s->pair));
    PLUMB_REQUIRE(s->score && s->dscore && s->dlogp && s->score_f32 && s->len && s->pair,
                  PLUMB_ERR_NOMEM, "micro-batch of %lld pairs", (long long)most / 2);
    return PLUMB_OK;
}

plumb_status plumb_train_reward(const struct plumb_trainer_source *source)
{
    struct reward_model s = {0};
    plumb_status st;
    PLUMB_TRY_GOTO(st, plumb_trainer_open(&s.t, source), done);
    st = prepare(&s);
    PLUMB_TRY_GOTO(st, plumb_comm_agree(s.t->comm, st), done);
    const struct plumb_epochs_task task = {
        .what = "reward", .leaf = leaf_gradient, .begin = begin, .report = report, .arg = &s};
    st = plumb_epochs_run(&s.epochs, s.t, &s.pack, &task);
done:
    plumb_trainer_close(&s.t, st);
    plumb_pack_fini(&s.pack);
    plumb_epochs_fini(&s.epochs);
    plumb_dataset_close(&s.data);
    free(s.score);
    free(s.dscore);
    free(s.dlogp);
    free(s.score_f32);
    free(s.len);
    free(s.pair);
    return st;
}
