/* reward_model.c - trains a reward model from preference pairs.
 * Layer 5. Includes base/, align/, data/, train/. */
#include "base/num.h"
#include "train/loops.h"
#include "train/micro.h"

enum { VALUE_ACCURATE = PLUMB_EPOCHS_OWN, VALUE_CHOSEN, VALUE_REJECTED };

struct reward_model {
    struct plumb_trainer *t;
    struct plumb_dataset *data;
    struct plumb_epochs epochs;
    struct plumb_micro micro; /* scale: 1 / pairs of the global batch */
    int64_t step;             /* within the epoch */
};

static plumb_status leaf_gradient(void *arg, int64_t leaf, float *grad,
                                  double value[PLUMB_LEAF_VALUES])
{
    struct reward_model *s = arg;
    struct plumb_trainer *t = s->t;
    struct plumb_micro *m = &s->micro;
    const struct plumb_range r = plumb_cut_leaf(&s->epochs.cut, s->step, leaf);
    plumb_micro_clear(m);
    for (int64_t i = r.begin; i < r.end; i++) {
        const struct plumb_record *rec = &s->data->record[s->epochs.order[i]];
        const int64_t q = m->pack.n_seq;
        for (int32_t side = 0; side < 2; side++)
            PLUMB_TRY(plumb_micro_add(m, s->epochs.order[i], side, rec->prompt.ids, rec->prompt.n,
                                      rec->completion[side].ids, rec->completion[side].n));
        m->pair[m->pairs++] = (struct plumb_pair){.win = q, .lose = q + 1, .weight = 1.0};
    }
    PLUMB_TRY(plumb_micro_forward(m, t->pass, t->model));
    PLUMB_TRY(plumb_micro_check(m));
    PLUMB_TRY(plumb_micro_loss(m));
    value[PLUMB_EPOCHS_LOSS] = m->out.loss;
    value[PLUMB_EPOCHS_TOKENS] = (double)m->pack.offset[m->pack.n_seq];
    value[VALUE_ACCURATE] = (double)m->out.accurate;
    value[VALUE_CHOSEN] = m->out.chosen;
    value[VALUE_REJECTED] = m->out.rejected;
    return plumb_micro_backward(m, t->pass, t->model, grad);
}

static void begin(void *arg, int64_t in_epoch, struct plumb_range records)
{
    struct reward_model *s = arg;
    s->step = in_epoch;
    s->micro.scale = 1.0 / (double)(records.end - records.begin);
}

static void report(void *arg, const double value[PLUMB_LEAF_VALUES], struct plumb_metrics_row *row)
{
    const double scale = ((struct reward_model *)arg)->micro.scale;
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
    PLUMB_TRY(plumb_micro_init(&s->micro, PLUMB_MICRO_SCORE, tokens, most));
    s->micro.objective = &plumb_obj_reward;
    t->micro = &s->micro;
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
    st = plumb_epochs_run(&s.epochs, s.t, &s.micro.pack, &task);
done:
    plumb_trainer_close(&s.t, st);
    plumb_micro_fini(&s.micro);
    plumb_epochs_fini(&s.epochs);
    plumb_dataset_close(&s.data);
    return st;
}
