/* pairs.c - trains a reward model or the policy on given preference pairs.
 * Layer 5. Includes base/, align/, io/, data/, train/. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "align/method.h"
#include "base/log.h"
#include "base/num.h"
#include "io/file.h"
#include "stage/commands.h"
#include "stage/method.h"
#include "train/held_out.h"
#include "train/loops.h"
#include "train/micro.h"
#include "train/plan.h"
#include "train/references.h"
#include "train/same.h"
#include "train/start.h"

enum {
    VALUE_ACCURATE = PLUMB_EPOCHS_OWN,
    VALUE_CHOSEN,
    VALUE_REJECTED,
    VALUE_LOGP_CHOSEN,
    VALUE_LOGP_REJECTED,
    /* The next three values are sums over completion tokens. The two after them are the numbers of
     * these tokens. */
    VALUE_ENTROPY,
    VALUE_LOGIT_CHOSEN,
    VALUE_LOGIT_REJECTED,
    VALUE_TOKENS_CHOSEN,
    VALUE_TOKENS_REJECTED
};

struct pairs {
    struct plumb_trainer *t;
    struct plumb_dataset *data;
    struct plumb_epochs epochs;
    struct plumb_micro micro;               /* micro.scale is 1 / (pairs of the global batch) */
    int64_t step;                           /* index of the step in the epoch, from 0 */
    double pairs;                           /* number of pairs of the step on all ranks, the loss
                                             * denominator */
    plumb_references *references;           /* NULL if the objective reads no reference */
    int reference;                          /* index of the objective's reference in `references` */
    const struct plumb_method *method;      /* NULL if a reward model is trained */
    const struct plumb_method_given *given; /* how the method trains on given pairs */
    void *own;                              /* the method's own state; NULL if it has none */
    int64_t *kept;                          /* (epochs.split.items,) records that are trained on */
    struct plumb_held_out held_out;
};

static struct plumb_given_inputs given_inputs(struct pairs *s)
{
    return (struct plumb_given_inputs){.t = s->t, .data = s->data, .pack = &s->micro.pack};
}

static int64_t record_of(const struct pairs *s, int64_t i)
{
    return s->kept[s->epochs.order[i]];
}

/* Returns the weight of a pair in the loss. A method may compute it from the scores of the record's
 * two answers. */
static double weight_of(const struct pairs *s, const struct plumb_record *rec)
{
    return s->given->weight ? s->given->weight(rec->score[0] - rec->score[1], &s->micro.param)
                            : 1.0;
}

/* Packs both answers of a record as one pair. */
static plumb_status add_pair(struct pairs *s, const struct plumb_record *rec, int64_t at)
{
    struct plumb_micro *m = &s->micro;
    const int64_t q = m->pack.n_seq;
    for (int32_t side = 0; side < 2; side++) {
        PLUMB_TRY(plumb_micro_add(m, at, side, rec->prompt.ids, rec->prompt.n,
                                  rec->completion[side].ids, rec->completion[side].n));
        m->reward[q + side] = isnan(rec->score[side]) ? 0.0 : rec->score[side];
    }
    m->pair[m->pairs++] = (struct plumb_pair){.win = q, .lose = q + 1, .weight = weight_of(s, rec)};
    return PLUMB_OK;
}

/* Packs the pairs of the records [begin, end) of data.eval. */
static plumb_status pack_held_out(struct pairs *s, struct plumb_range records)
{
    plumb_micro_clear(&s->micro);
    for (int64_t i = records.begin; i < records.end; i++)
        PLUMB_TRY(add_pair(s, &s->held_out.data->record[i], i));
    return PLUMB_OK;
}

/* Packs the pairs at the places [begin, end) of the epoch's order of records. */
static plumb_status pack_ordered(struct pairs *s, struct plumb_range r)
{
    plumb_micro_clear(&s->micro);
    for (int64_t i = r.begin; i < r.end; i++) {
        const int64_t at = record_of(s, i);
        PLUMB_TRY(add_pair(s, &s->data->record[at], at));
    }
    return PLUMB_OK;
}

/* ---- a reference whose layers are sharded over the ranks (frozen: sharded) -------------------
 *
 * The forward passes of such a reference are collective. But the ranks have different numbers of
 * micro-batches, and may exchange gradients between them, so they cannot run these passes within
 * their micro-batches. Instead, all ranks run the reference's passes of a step before the step's
 * micro-batches, which then find the log-probs stored in s->references. s->references has memory
 * for the log-probs of all records. Example with 3 micro-batches on 2 ranks:
 *
 *     rank 0   reference 0  reference 1 | micro-batch 0   micro-batch 1   exchange
 *     rank 1   reference 2  gather only | micro-batch 2                   exchange */

static bool reference_gathers(const struct pairs *s)
{
    return s->references &&
           plumb_model_gathers(plumb_references_model(s->references, s->reference));
}

static plumb_status reference_score(struct pairs *s)
{
    return plumb_references_score(s->references, s->reference, s->t->pass, &s->micro.pack,
                                  s->micro.logp_ref);
}

/* Computes the reference's log-probs for this rank's micro-batches of the step. Returns
 * PLUMB_STOPPED on a pause request. */
static plumb_status score_step(struct pairs *s, int64_t micro_batches)
{
    const struct plumb_leaves mine = plumb_trainer_leaves(s->t, micro_batches);
    for (int64_t i = mine.begin; i < mine.end; i += mine.step) {
        PLUMB_REQUIRE(!plumb_stop_noticed(&s->t->stop), PLUMB_STOPPED,
                      "the log-probs of the reference model stopped on a pause request");
        PLUMB_TRY(pack_ordered(s, plumb_split_micro_batch(&s->epochs.split, s->step, i)));
        PLUMB_TRY(reference_score(s));
    }
    return PLUMB_OK;
}

static plumb_status prepare_step(void *arg, int64_t micro_batches, bool *paused)
{
    struct pairs *s = arg;
    plumb_comm_phase(s->t->comm, "reference");
    s->t->stop.busy = true; /* a save that is due by time must not interrupt this; it waits for the
                             * step's first micro-batch */
    plumb_status st = score_step(s, micro_batches);
    s->t->stop.busy = false;
    /* called after a failure or a pause, too: the other ranks may be waiting for this rank */
    st = plumb_references_end(s->references, s->reference, st);
    *paused = st == PLUMB_STOPPED;
    return *paused ? PLUMB_OK : st;
}

/* Called after the last block of data.eval with this rank's status; returns the status of all
 * ranks. Evaluation exchanges no gradients between blocks, so each block can run the reference's
 * passes itself. */
static plumb_status end_held_out(void *arg, plumb_status local)
{
    struct pairs *s = arg;
    return s->references ? plumb_references_end(s->references, s->reference, local) : local;
}

/* ---- micro-batches -------------------------------------------------------------------------- */

/* Computes the loss and metrics of the packed pairs. */
static plumb_status forward(struct pairs *s)
{
    struct plumb_micro *m = &s->micro;
    if (s->references)
        PLUMB_TRY(reference_score(s));
    PLUMB_TRY(plumb_micro_forward(m, s->t->pass, s->t->model));
    PLUMB_TRY(plumb_micro_check(m));
    return plumb_micro_loss(m);
}

static plumb_status held_out_block(void *arg, struct plumb_range records, double *value)
{
    struct pairs *s = arg;
    struct plumb_micro *m = &s->micro;
    PLUMB_TRY(pack_held_out(s, records));
    m->scale = 1;
    PLUMB_TRY(forward(s));
    value[PLUMB_HELD_OUT_LOSS] = m->out.loss;
    value[PLUMB_HELD_OUT_TERMS] = (double)m->pairs;
    value[PLUMB_HELD_OUT_CHOSEN] = m->out.chosen;
    value[PLUMB_HELD_OUT_REJECTED] = m->out.rejected;
    value[PLUMB_HELD_OUT_ACCURATE] = (double)m->out.accurate;
    return PLUMB_OK;
}

static plumb_status evaluate(void *arg, struct plumb_metrics_row *row)
{
    struct pairs *s = arg;
    return plumb_held_out_run(&s->held_out, s->t, true, held_out_block, s, row);
}

/* Adds the policy's log-probs, logits and entropy in a micro-batch to `value`. These sums become
 * the metrics that TRL's DPOTrainer reports under the same names. */
static void add_figures(const struct plumb_micro *m, double value[PLUMB_MICRO_BATCH_VALUES])
{
    int64_t at = 0;
    for (int64_t q = 0; q < m->pack.n_seq; q++) {
        const bool rejected = m->sample[q] != 0;
        value[rejected ? VALUE_LOGP_REJECTED : VALUE_LOGP_CHOSEN] += m->logp[q];
        value[rejected ? VALUE_TOKENS_REJECTED : VALUE_TOKENS_CHOSEN] += m->len[q];
        for (int32_t j = 0; j < m->len[q]; j++, at++) {
            value[VALUE_ENTROPY] += (double)m->entropy[at];
            value[rejected ? VALUE_LOGIT_REJECTED : VALUE_LOGIT_CHOSEN] +=
                (double)m->mean_logit[at];
        }
    }
}

static plumb_status micro_batch_gradient(void *arg, int64_t micro_batch, float *grad,
                                         double value[PLUMB_MICRO_BATCH_VALUES])
{
    struct pairs *s = arg;
    struct plumb_trainer *t = s->t;
    struct plumb_micro *m = &s->micro;
    PLUMB_TRY(pack_ordered(s, plumb_split_micro_batch(&s->epochs.split, s->step, micro_batch)));
    PLUMB_TRY(forward(s));
    value[PLUMB_EPOCHS_LOSS] = m->out.loss;
    value[PLUMB_EPOCHS_TOKENS] = (double)m->pack.offset[m->pack.n_seq];
    value[VALUE_ACCURATE] = (double)m->out.accurate;
    value[VALUE_CHOSEN] = m->out.chosen;
    value[VALUE_REJECTED] = m->out.rejected;
    if (s->method)
        add_figures(m, value);
    return plumb_micro_backward(m, t->pass, t->model, grad);
}

static void begin(void *arg, int64_t in_epoch, struct plumb_range records)
{
    struct pairs *s = arg;
    s->step = in_epoch;
    s->pairs = (double)(records.end - records.begin);
    s->micro.scale = 1.0 / s->pairs;
}

static void report(void *arg, const double value[PLUMB_MICRO_BATCH_VALUES],
                   struct plumb_metrics_row *row)
{
    const double scale = 1.0 / ((struct pairs *)arg)->pairs;
    plumb_metrics_set(row, PLUMB_METRIC_REWARDS_ACCURACIES, value[VALUE_ACCURATE] * scale);
    plumb_metrics_set(row, PLUMB_METRIC_REWARDS_CHOSEN, value[VALUE_CHOSEN] * scale);
    plumb_metrics_set(row, PLUMB_METRIC_REWARDS_REJECTED, value[VALUE_REJECTED] * scale);
    plumb_metrics_set(row, PLUMB_METRIC_REWARDS_MARGINS,
                      (value[VALUE_CHOSEN] - value[VALUE_REJECTED]) * scale);
    if (!((struct pairs *)arg)->method)
        return; /* a reward model has no log-probs */
    plumb_metrics_set(row, PLUMB_METRIC_LOGPS_CHOSEN, value[VALUE_LOGP_CHOSEN] * scale);
    plumb_metrics_set(row, PLUMB_METRIC_LOGPS_REJECTED, value[VALUE_LOGP_REJECTED] * scale);
    const double chosen = value[VALUE_TOKENS_CHOSEN], rejected = value[VALUE_TOKENS_REJECTED];
    plumb_metrics_set(row, PLUMB_METRIC_LOGITS_CHOSEN, value[VALUE_LOGIT_CHOSEN] / chosen);
    plumb_metrics_set(row, PLUMB_METRIC_LOGITS_REJECTED, value[VALUE_LOGIT_REJECTED] / rejected);
    plumb_metrics_set(row, PLUMB_METRIC_ENTROPY, value[VALUE_ENTROPY] / (chosen + rejected));
}

static plumb_status check(const struct plumb_config *cfg)
{
    PLUMB_REQUIRE(*cfg->data.train, PLUMB_ERR_CONFIG,
                  "data.train: is not set; name a JSONL file of prompt, chosen and rejected");
    return PLUMB_OK;
}

static plumb_status read_data(struct pairs *s)
{
    struct plumb_trainer *t = s->t;
    const struct plumb_config *cfg = t->cfg;
    if (s->data)
        return PLUMB_OK; /* the memory plan has already read the data */
    if (t->backend->dry && !*cfg->data.train)
        return plumb_plan_records(&s->data, cfg, &t->model->spec, 2);
    const struct plumb_data_options options = plumb_data_options_of(cfg, t, PLUMB_DATA_PAIRS);
    PLUMB_TRY(plumb_file_check_input(cfg->data.train, "data.train"));
    return plumb_dataset_open(&s->data, cfg->data.train, &options);
}

/* Warns about records whose two answers are equal, because such a pair prefers neither. Returns
 * PLUMB_ERR_FORMAT if the answers are equal in every record. Checks nothing during a memory plan.
 */
static plumb_status check_differ(const struct pairs *s)
{
    int64_t same = 0, first = 0;
    for (int64_t i = 0; i < s->data->n && !s->t->backend->dry; i++) {
        const struct plumb_piece *c = s->data->record[i].completion;
        if (c[0].n != c[1].n || memcmp(c[0].ids, c[1].ids, (size_t)c[0].n * sizeof(*c[0].ids)) != 0)
            continue;
        first = same++ ? first : s->data->record[i].line;
    }
    PLUMB_REQUIRE(!same || same < s->data->n, PLUMB_ERR_FORMAT,
                  "%s: in all %lld record%s chosen and rejected are the same",
                  s->t->cfg->data.train, (long long)same, plumb_plural(same));
    if (same && plumb_comm_rank(s->t->comm) == 0)
        plumb_log(PLUMB_LOG_WARN,
                  "%s: in %lld of %lld records chosen and rejected are the same, first in line "
                  "%lld: they teach nothing",
                  s->t->cfg->data.train, (long long)same, (long long)s->data->n, (long long)first);
    return PLUMB_OK;
}

/* Warns about records whose chosen answer has a lower score than the rejected one. */
static void note_scores(const struct pairs *s)
{
    int64_t lower = 0, first = 0;
    for (int64_t i = 0; i < s->data->n && !s->t->backend->dry; i++) {
        const struct plumb_record *r = &s->data->record[i];
        if (r->score[PLUMB_CHOSEN] < r->score[PLUMB_REJECTED])
            first = lower++ ? first : r->line;
    }
    if (lower)
        plumb_log_alike("%s: in %lld of %lld record%s score_chosen is lower than score_rejected, "
                        "first in line %lld: by their scores, chosen and rejected are exchanged",
                        s->t->cfg->data.train, (long long)lower, (long long)s->data->n,
                        plumb_plural(s->data->n), (long long)first);
}

static plumb_status prepare(struct pairs *s, enum plumb_micro_kind kind)
{
    struct plumb_trainer *t = s->t;
    const struct plumb_config *cfg = t->cfg;
    PLUMB_TRY(read_data(s));
    PLUMB_TRY(check_differ(s));
    note_scores(s);
    const int64_t n = s->data->n;
    PLUMB_TRY(plumb_epochs_init(&s->epochs, cfg, s->given->share ? s->given->share(cfg, n) : n));
    s->kept = calloc((size_t)n, sizeof(*s->kept));
    PLUMB_REQUIRE(s->kept, PLUMB_ERR_NOMEM, "order of %lld pairs", (long long)n);
    for (int64_t i = 0; i < n; i++)
        s->kept[i] = i;
    PLUMB_TRY(plumb_epochs_measure(&s->epochs, s->data, 2, s->kept, s->given->select != NULL));
    PLUMB_TRY(plumb_held_out_open(&s->held_out, t, PLUMB_DATA_PAIRS));
    s->held_out.end = end_held_out;
    struct plumb_split_most *most = &s->epochs.most;
    plumb_held_out_raise(most, &s->held_out);
    t->micro = &s->micro;
    return plumb_micro_init(&s->micro, kind, most->tokens, 2 * most->items);
}

static plumb_status prepare_reward(struct pairs *s)
{
    s->given = &plumb_given_all;
    PLUMB_TRY(prepare(s, PLUMB_MICRO_SCORE));
    s->micro.objective = &plumb_obj_reward;
    return PLUMB_OK;
}

static plumb_status check_scores(const struct pairs *s, const struct plumb_dataset *data,
                                 const char *path)
{
    for (int64_t i = 0; data && i < data->n; i++) {
        const struct plumb_record *r = &data->record[i];
        PLUMB_REQUIRE(!isnan(r->score[0]), PLUMB_ERR_FORMAT,
                      "%s:%lld: %s needs the numbers score_chosen and score_rejected in every "
                      "record; this one has neither",
                      path, (long long)r->line, s->method->name);
        PLUMB_REQUIRE(r->score[0] >= r->score[1], PLUMB_ERR_FORMAT,
                      "%s:%lld: %s needs a score_chosen that is not lower than score_rejected; "
                      "found %g and %g",
                      path, (long long)r->line, s->method->name, r->score[0], r->score[1]);
    }
    return PLUMB_OK;
}

/* Reads the method and its parameters. PLUMB_ERR_CONFIG if the method cannot train on given pairs.
 */
static plumb_status read_method(const struct plumb_method **out, struct plumb_align_param *param,
                                const struct plumb_config *cfg)
{
    PLUMB_TRY(plumb_method_of(out, param, cfg));
    PLUMB_REQUIRE((*out)->given, PLUMB_ERR_CONFIG,
                  "method.name: %s does not train on given pairs; expected dpo, ipo, aps, real, "
                  "rdo or optune",
                  (*out)->name);
    return plumb_method_check(*out, param, 2);
}

plumb_status plumb_prefer_check(const struct plumb_config *cfg)
{
    const struct plumb_method *method;
    struct plumb_align_param param;
    return read_method(&method, &param, cfg);
}

static plumb_status prepare_prefer(struct pairs *s)
{
    const struct plumb_config *cfg = s->t->cfg;
    struct plumb_align_param param;
    PLUMB_TRY(read_method(&s->method, &param, cfg));
    const struct plumb_method *method = s->method;
    const unsigned needs = method->objective->needs(&param);
    s->given = method->given;
    PLUMB_TRY(prepare(s, PLUMB_MICRO_LOGP));
    PLUMB_TRY(plumb_micro_want_entropy(&s->micro));
    s->epochs.entropy = true;
    s->micro.objective = method->objective;
    s->micro.param = param;
    s->micro.reference = (needs & PLUMB_NEED_REF) != 0;
    if (s->given->weight || (needs & PLUMB_NEED_REWARD)) {
        PLUMB_TRY(check_scores(s, s->data, cfg->data.train));
        PLUMB_TRY(check_scores(s, s->held_out.data, cfg->data.eval));
    }
    if (!s->micro.reference)
        return PLUMB_OK;
    /* prefer has only one iteration, so the reference `previous` is the model that the run starts
     * from */
    const bool previous = strcmp(cfg->method.reference, "previous") == 0;
    const struct plumb_memory_scope outer =
        plumb_memory_enter(s->t->backend, "reference models", PLUMB_PHASE_ALWAYS);
    plumb_status st =
        plumb_references_create(&s->references, s->t->model, plumb_start_init(cfg), &s->t->frozen,
                                2 * (s->data->n + (s->held_out.data ? s->held_out.data->n : 0)));
    if (st == PLUMB_OK)
        st = plumb_references_open(s->references, &s->reference,
                                   previous ? "init" : cfg->method.reference, "method.reference");
    const struct plumb_given_inputs in = given_inputs(s);
    if (st == PLUMB_OK && s->given->open)
        st = s->given->open(&s->own, &in, s->references);
    plumb_memory_leave(s->t->backend, outer);
    return st;
}

static plumb_status setup(struct pairs *s, const struct plumb_trainer_source *source,
                          plumb_status (*prepare_all)(struct pairs *s))
{
    PLUMB_TRY(plumb_trainer_open(&s->t, source));
    PLUMB_TRY(plumb_comm_agree(source->comm, prepare_all(s)));
    if (!source->backend->dry) { /* `plumb plan` works even if a rank has no file data.eval */
        PLUMB_TRY(plumb_same_records(source->comm, "data.train", source->cfg->data.train, s->data));
        PLUMB_TRY(plumb_same_records(source->comm, "data.eval", source->cfg->data.eval,
                                     s->held_out.data));
        if (s->references)
            PLUMB_TRY(plumb_references_same(s->references, source->comm));
    }
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
    const struct plumb_given_inputs in = given_inputs(s);
    if (s->given->select)
        PLUMB_TRY(s->given->select(s->own, &in, s->kept, s->epochs.split.items));
    const struct plumb_epochs_task task = {
        .what = s->t->command,
        .micro_batch = micro_batch_gradient,
        .begin = begin,
        .prepare = reference_gathers(s) ? prepare_step : NULL,
        .report = report,
        .evaluate = s->held_out.data ? evaluate : NULL,
        .arg = s,
    };
    return plumb_epochs_run(&s->epochs, s->t, &task);
}

static void release(void *run, plumb_status outcome)
{
    struct pairs *s = run;
    plumb_trainer_close(&s->t, outcome);
    if (s->own)
        s->given->close(s->own);
    plumb_references_destroy(&s->references);
    free(s->kept);
    plumb_micro_fini(&s->micro);
    plumb_epochs_fini(&s->epochs);
    plumb_held_out_close(&s->held_out);
    plumb_dataset_close(&s->data);
}

static struct plumb_dataset **data(void *run)
{
    return &((struct pairs *)run)->data;
}

static void cost(const void *run, struct plumb_cost *out)
{
    const struct pairs *s = run;
    plumb_cost_records(out, s->t, s->data, &s->epochs.split, 2, s->references != NULL);
    if (s->given->select)
        out->left_out = s->method->name;
}

const struct plumb_job plumb_job_reward = {.cost = cost,
                                           .name = "reward",
                                           .check = check,
                                           .size = sizeof(struct pairs),
                                           .setup = setup_reward,
                                           .work = work,
                                           .release = release,
                                           .data = data};
const struct plumb_job plumb_job_prefer = {.cost = cost,
                                           .name = "prefer",
                                           .check = check,
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
