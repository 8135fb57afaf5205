/* pairs.c - training on given preference pairs: a reward model, or the policy itself.
 * Layer 5. Includes base/, align/, data/, train/. */
#include <string.h>

#include "align/method.h"
#include "base/num.h"
#include "train/loops.h"
#include "train/micro.h"
#include "train/plan.h"
#include "train/references.h"

enum { VALUE_ACCURATE = PLUMB_EPOCHS_OWN, VALUE_CHOSEN, VALUE_REJECTED };

struct pairs {
    struct plumb_trainer *t;
    struct plumb_dataset *data;
    struct plumb_epochs epochs;
    struct plumb_micro micro;     /* scale: 1 / pairs of the global batch */
    int64_t step;                 /* within the epoch */
    plumb_references *references; /* NULL when the objective reads none */
    int reference;                /* of the objective; its log-probs are computed once per record */
};

static plumb_status leaf_gradient(void *arg, int64_t leaf, float *grad,
                                  double value[PLUMB_LEAF_VALUES])
{
    struct pairs *s = arg;
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
    if (s->references)
        PLUMB_TRY(
            plumb_references_score(s->references, s->reference, t->pass, &m->pack, m->logp_ref));
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
    struct pairs *s = arg;
    s->step = in_epoch;
    s->micro.scale = 1.0 / (double)(records.end - records.begin);
}

static void report(void *arg, const double value[PLUMB_LEAF_VALUES], struct plumb_metrics_row *row)
{
    const double scale = ((struct pairs *)arg)->micro.scale;
    plumb_metrics_set(row, PLUMB_METRIC_REWARDS_ACCURACIES, value[VALUE_ACCURATE] * scale);
    plumb_metrics_set(row, PLUMB_METRIC_REWARDS_CHOSEN, value[VALUE_CHOSEN] * scale);
    plumb_metrics_set(row, PLUMB_METRIC_REWARDS_REJECTED, value[VALUE_REJECTED] * scale);
    plumb_metrics_set(row, PLUMB_METRIC_REWARDS_MARGINS,
                      (value[VALUE_CHOSEN] - value[VALUE_REJECTED]) * scale);
}

static plumb_status read_data(struct pairs *s)
{
    struct plumb_trainer *t = s->t;
    const struct plumb_config *cfg = t->cfg;
    if (s->data)
        return PLUMB_OK; /* read when the memory was planned */
    if (t->backend->dry && !*cfg->data.train)
        return plumb_plan_records(&s->data, cfg, &t->model->spec);
    PLUMB_REQUIRE(cfg->data.train && *cfg->data.train, PLUMB_ERR_CONFIG,
                  "data.train: is not set; name a JSONL file of prompt, chosen and rejected");
    const struct plumb_data_options options = plumb_data_options_of(cfg, t, PLUMB_DATA_PAIRS);
    return plumb_dataset_open(&s->data, cfg->data.train, &options);
}

static plumb_status prepare(struct pairs *s, enum plumb_micro_kind kind)
{
    struct plumb_trainer *t = s->t;
    const struct plumb_config *cfg = t->cfg;
    PLUMB_TRY(read_data(s));
    PLUMB_TRY(plumb_epochs_init(&s->epochs, cfg, s->data->n));
    const int64_t most = 2 * cfg->train.micro_batch_size;
    int64_t tokens = 0;
    PLUMB_TRY(plumb_longest_batch(&tokens, s->data, 2, cfg->train.micro_batch_size));
    t->micro = &s->micro;
    return plumb_micro_init(&s->micro, kind, tokens, most);
}

static plumb_status prepare_reward(struct pairs *s)
{
    PLUMB_TRY(prepare(s, PLUMB_MICRO_SCORE));
    s->micro.objective = &plumb_obj_reward;
    return PLUMB_OK;
}

/* The objective of a method that compares two answers and reads no reward. */
static plumb_status prepare_prefer(struct pairs *s)
{
    const struct plumb_config *cfg = s->t->cfg;
    const struct plumb_align_param param = plumb_align_param_of(cfg);
    const struct plumb_method *method;
    PLUMB_TRY(plumb_method_find(&method, cfg->method.name));
    const unsigned needs = method->objective->needs(&param);
    PLUMB_REQUIRE(
        method->selector == &plumb_sel_extremes && !(needs & PLUMB_NEED_REWARD), PLUMB_ERR_CONFIG,
        "method.name: %s does not train on given pairs; expected dpo, ipo or aps", method->name);
    PLUMB_TRY(plumb_method_check(method, &param, 2));
    PLUMB_TRY(prepare(s, PLUMB_MICRO_LOGP));
    s->micro.objective = method->objective;
    s->micro.param = param;
    s->micro.reference = (needs & PLUMB_NEED_REF) != 0;
    if (!s->micro.reference)
        return PLUMB_OK;
    /* The run is one iteration: previous is where it starts. */
    const bool previous = strcmp(cfg->method.reference, "previous") == 0;
    const struct plumb_memory_scope outer =
        plumb_memory_enter(s->t->backend, "reference models", PLUMB_PHASE_ALWAYS);
    plumb_status st =
        plumb_references_create(&s->references, s->t->model, cfg->model, 2 * s->data->n);
    if (st == PLUMB_OK)
        st = plumb_references_open(s->references, &s->reference,
                                   previous ? "init" : cfg->method.reference, "method.reference");
    plumb_memory_leave(s->t->backend, outer);
    return st;
}

static plumb_status setup(struct pairs *s, const struct plumb_trainer_source *source,
                          plumb_status (*prepare_all)(struct pairs *s))
{
    PLUMB_TRY(plumb_trainer_open(&s->t, source));
    PLUMB_TRY(plumb_comm_agree(source->comm, prepare_all(s)));
    return plumb_epochs_prepare(&s->epochs, s->t, &s->micro.pack);
}

static plumb_status setup_reward(void *run, const struct plumb_trainer_source *source)
{
    return setup(run, source, prepare_reward);
}

static plumb_status setup_prefer(void *run, const struct plumb_trainer_source *source)
{
    return setup(run, source, prepare_prefer);
}

static plumb_status work(void *run)
{
    struct pairs *s = run;
    const struct plumb_epochs_task task = {
        .what = s->t->command, .leaf = leaf_gradient, .begin = begin, .report = report, .arg = s};
    return plumb_epochs_run(&s->epochs, s->t, &task);
}

static void release(void *run, plumb_status outcome)
{
    struct pairs *s = run;
    plumb_trainer_close(&s->t, outcome);
    plumb_references_destroy(&s->references);
    plumb_micro_fini(&s->micro);
    plumb_epochs_fini(&s->epochs);
    plumb_dataset_close(&s->data);
}

static struct plumb_dataset **data(void *run)
{
    return &((struct pairs *)run)->data;
}

const struct plumb_job plumb_job_reward = {.name = "reward",
                                           .size = sizeof(struct pairs),
                                           .setup = setup_reward,
                                           .work = work,
                                           .release = release,
                                           .data = data};
const struct plumb_job plumb_job_prefer = {.name = "prefer",
                                           .size = sizeof(struct pairs),
                                           .setup = setup_prefer,
                                           .work = work,
                                           .release = release,
                                           .data = data};

plumb_status plumb_train_reward(const struct plumb_trainer_source *source)
{
    return plumb_job_run(&plumb_job_reward, source);
}

plumb_status plumb_train_prefer(const struct plumb_trainer_source *source)
{
    return plumb_job_run(&plumb_job_prefer, source);
}
