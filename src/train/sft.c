/* sft.c - supervised fine-tuning.
 * Layer 5. Includes base/, io/, data/, train/. */

#include "base/log.h"
#include "base/num.h"
#include "io/file.h"
#include "train/held_out.h"
#include "train/loops.h"
#include "train/micro.h"
#include "train/plan.h"
#include "train/same.h"

struct sft {
    struct plumb_trainer *t;
    struct plumb_dataset *data;
    struct plumb_epochs epochs;
    struct plumb_micro micro; /* micro.scale is 1 / number of trained tokens of the global batch */
    struct plumb_held_out held_out;
    int64_t step; /* index of the step in the epoch, from 0 */
};

static plumb_status add_record(struct plumb_micro *m, const struct plumb_record *rec, int64_t at)
{
    PLUMB_TRY(plumb_micro_add(m, at, 0, rec->prompt.ids, rec->prompt.n, rec->completion[0].ids,
                              rec->completion[0].n));
    plumb_pack_mask(&m->pack, rec->trained);
    return PLUMB_OK;
}

static plumb_status micro_batch_gradient(void *arg, int64_t micro_batch, float *grad,
                                         double value[PLUMB_MICRO_BATCH_VALUES])
{
    struct sft *s = arg;
    struct plumb_trainer *t = s->t;
    struct plumb_micro *m = &s->micro;
    const struct plumb_range r = plumb_split_micro_batch(&s->epochs.split, s->step, micro_batch);
    plumb_micro_clear(m);
    for (int64_t i = r.begin; i < r.end; i++) {
        const int64_t at = s->epochs.order[i];
        PLUMB_TRY(add_record(m, &s->data->record[at], at));
    }
    PLUMB_TRY(plumb_micro_forward(m, t->pass, t->model));
    PLUMB_TRY(plumb_micro_check(m));
    PLUMB_TRY(plumb_micro_loss(m));
    value[PLUMB_EPOCHS_LOSS] = m->out.loss;
    value[PLUMB_EPOCHS_TOKENS] = (double)m->pack.offset[m->pack.n_seq];
    return plumb_micro_backward(m, t->pass, t->model, grad);
}

static void begin(void *arg, int64_t in_epoch, struct plumb_range records)
{
    struct sft *s = arg;
    int64_t targets = 0;
    for (int64_t i = records.begin; i < records.end; i++)
        targets += plumb_record_trained(&s->data->record[s->epochs.order[i]]);
    s->step = in_epoch;
    s->micro.scale = 1.0 / (double)plumb_max_i64(targets, 1);
}

static void report(void *arg, const double value[PLUMB_MICRO_BATCH_VALUES],
                   struct plumb_metrics_row *row)
{
    (void)arg;
    (void)value;
    (void)row; /* SFT has no other metrics than loss and tokens */
}

static plumb_status held_out_block(void *arg, struct plumb_range records, double *value)
{
    struct sft *s = arg;
    struct plumb_micro *m = &s->micro;
    plumb_micro_clear(m);
    for (int64_t i = records.begin; i < records.end; i++)
        PLUMB_TRY(add_record(m, &s->held_out.data->record[i], i));
    m->scale = 1;
    PLUMB_TRY(plumb_micro_forward(m, s->t->pass, s->t->model));
    PLUMB_TRY(plumb_micro_check(m));
    PLUMB_TRY(plumb_micro_loss(m));
    value[PLUMB_HELD_OUT_LOSS] = m->out.loss;
    value[PLUMB_HELD_OUT_TERMS] = (double)m->pack.n_trained;
    return PLUMB_OK;
}

static plumb_status evaluate(void *arg, struct plumb_metrics_row *row)
{
    struct sft *s = arg;
    return plumb_held_out_run(&s->held_out, s->t, false, held_out_block, s, row);
}

static plumb_status check(const struct plumb_config *cfg)
{
    PLUMB_REQUIRE(*cfg->data.train, PLUMB_ERR_CONFIG,
                  "data.train: is not set; name a JSONL file of messages or prompt and completion");
    return PLUMB_OK;
}

static plumb_status read_data(struct sft *s)
{
    struct plumb_trainer *t = s->t;
    const struct plumb_config *cfg = t->cfg;
    /* The memory plan has read the data already; the run uses them. */
    if (s->data)
        return PLUMB_OK;
    if (t->backend->dry && !*cfg->data.train)
        return plumb_plan_records(&s->data, cfg, &t->model->spec, 1);
    const struct plumb_data_options options = plumb_data_options_of(cfg, t, PLUMB_DATA_SFT);
    PLUMB_TRY(plumb_file_check_input(cfg->data.train, "data.train"));
    return plumb_dataset_open(&s->data, cfg->data.train, &options);
}

/* Returns true if an end token is among the trained tokens of record r. */
static bool learns_to_stop(const struct plumb_trainer *t, const struct plumb_record *r)
{
    const struct plumb_piece *c = &r->completion[0];
    for (int64_t j = c->n - 1; j >= 0; j--)
        if ((!r->trained || r->trained[j]) && (plumb_spec_stops_at(&t->model->spec, c->ids[j]) ||
                                               c->ids[j] == plumb_tokenizer_eos(t->tokenizer)))
            return true;
    return false;
}

/* Fails for a record that is given as token ids and has no token to train on. Warns about records
 * whose only trained token is the end token, because a model learns from them to give empty
 * answers. With data.append_eos, also warns if no record has an end token that is trained on,
 * because the model then does not learn where an answer ends. */
static plumb_status check_trained(const struct sft *s)
{
    const struct plumb_trainer *t = s->t;
    int64_t empty = 0, first = 0;
    bool stops = t->backend->dry || !t->cfg->data.append_eos;
    for (int64_t i = 0; i < s->data->n && !t->backend->dry; i++) {
        const struct plumb_record *r = &s->data->record[i];
        const int64_t trained = plumb_record_trained(r), n = r->completion[0].n;
        PLUMB_REQUIRE(trained > 0, PLUMB_ERR_FORMAT,
                      "%s:%lld: no token of the record is trained on: its completion is empty",
                      t->cfg->data.train, (long long)r->line);
        stops = stops || learns_to_stop(t, r);
        if (trained == 1 && r->completion[0].ids[n - 1] == plumb_tokenizer_eos(t->tokenizer))
            first = empty++ ? first : r->line;
    }
    if (!stops)
        plumb_log_alike("%s: the loss covers no end token in any record, so the model does not "
                        "learn where an answer ends: let the chat template, or the token ids, end "
                        "an answer with one",
                        t->cfg->data.train);
    if (empty)
        plumb_log_alike("%s: %lld of %lld record%s an empty completion, first in line %lld: only "
                        "the end token is trained on",
                        t->cfg->data.train, (long long)empty, (long long)s->data->n,
                        s->data->n == 1 ? " has" : "s have", (long long)first);
    return PLUMB_OK;
}

static plumb_status prepare(struct sft *s)
{
    struct plumb_trainer *t = s->t;
    const struct plumb_config *cfg = t->cfg;
    PLUMB_TRY(read_data(s));
    PLUMB_TRY(check_trained(s));
    PLUMB_TRY(plumb_epochs_init(&s->epochs, cfg, s->data->n));
    PLUMB_TRY(plumb_epochs_measure(&s->epochs, s->data, 1, NULL, false));
    PLUMB_TRY(plumb_held_out_open(&s->held_out, t, PLUMB_DATA_SFT));
    struct plumb_split_most *most = &s->epochs.most;
    plumb_held_out_raise(most, &s->held_out);
    t->micro = &s->micro;
    return plumb_micro_init(&s->micro, PLUMB_MICRO_TOKENS, most->tokens, most->items);
}

static plumb_status setup(void *run, const struct plumb_trainer_source *source)
{
    struct sft *s = run;
    PLUMB_TRY(plumb_trainer_open(&s->t, source));
    PLUMB_TRY(plumb_comm_agree(source->comm, prepare(s)));
    if (!source->backend->dry) { /* a plan may run without data.eval on some ranks */
        PLUMB_TRY(plumb_same_records(source->comm, "data.train", source->cfg->data.train, s->data));
        PLUMB_TRY(plumb_same_records(source->comm, "data.eval", source->cfg->data.eval,
                                     s->held_out.data));
    }
    return plumb_epochs_prepare(&s->epochs, s->t, &s->micro.pack);
}

static plumb_status work(void *run)
{
    struct sft *s = run;
    const struct plumb_epochs_task task = {
        .what = "sft",
        .micro_batch = micro_batch_gradient,
        .begin = begin,
        .report = report,
        .evaluate = s->held_out.data ? evaluate : NULL,
        .arg = s,
    };
    return plumb_epochs_run(&s->epochs, s->t, &task);
}

static void release(void *run, plumb_status outcome)
{
    struct sft *s = run;
    plumb_trainer_close(&s->t, outcome);
    plumb_micro_fini(&s->micro);
    plumb_epochs_fini(&s->epochs);
    plumb_held_out_close(&s->held_out);
    plumb_dataset_close(&s->data);
}

static struct plumb_dataset **data(void *run)
{
    return &((struct sft *)run)->data;
}

static void cost(const void *run, struct plumb_cost *out)
{
    const struct sft *s = run;
    plumb_cost_records(out, s->t, s->data, &s->epochs.split, 1, false);
}

const struct plumb_job plumb_job_sft = {.cost = cost,
                                        .name = "sft",
                                        .check = check,
                                        .size = sizeof(struct sft),
                                        .setup = setup,
                                        .work = work,
                                        .release = release,
                                        .data = data};

plumb_status plumb_train_sft(const struct plumb_trainer_source *source)
{
    return plumb_job_run(&plumb_job_sft, source);
}
