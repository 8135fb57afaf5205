/* epochs.c - trains on fixed records for several epochs, and writes the report.
 * Layer 5. Includes train/loops.h, train/weights.h, report/report.h, base/. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "base/rng.h"
#include "report/report.h"
#include "train/loops.h"
#include "train/weights.h"

struct plumb_data_options plumb_data_options_of(const struct plumb_config *cfg,
                                                const struct plumb_trainer *t,
                                                enum plumb_data_kind kind)
{
    return (struct plumb_data_options){
        .kind = kind,
        .tokenizer = t->tokenizer,
        .prompt_template = cfg->data.prompt_template,
        .chat = &t->chat,
        .append_eos = cfg->data.append_eos,
        .all_tokens = !cfg->data.assistant_only,
        .overlong = (enum plumb_overlong)cfg->data.overlong,
        .vocab = t->model->spec.v,
        .skip = cfg->data.skip,
        .limit = cfg->data.limit,
        .max_prompt_tokens = cfg->data.max_prompt_tokens,
        .max_tokens = plumb_at_most(cfg->data.max_tokens, t->model->spec.max_pos),
    };
}

plumb_status plumb_epochs_init(struct plumb_epochs *e, const struct plumb_config *cfg,
                               int64_t items)
{
    *e = (struct plumb_epochs){.cfg = cfg, .epoch = -1};
    PLUMB_TRY(plumb_split_init(&e->split, items, cfg->train.global_batch_size,
                               cfg->train.micro_batch_size, cfg->train.micro_batch_tokens));
    e->steps = cfg->train.epochs * plumb_split_steps(&e->split);
    if (cfg->train.max_steps > 0)
        e->steps = plumb_min_i64(e->steps, cfg->train.max_steps);
    e->order = calloc((size_t)items, sizeof(*e->order));
    PLUMB_REQUIRE(e->order, PLUMB_ERR_NOMEM, "order of %lld records", (long long)items);
    return PLUMB_OK;
}

void plumb_epochs_fini(struct plumb_epochs *e)
{
    free(e->order);
    free(e->length);
    free(e->in_order);
    plumb_split_fini(&e->split);
    *e = (struct plumb_epochs){0};
}

/* Splits the epoch whose order is in e->order into micro-batches. Does nothing without a limit of
 * tokens (train.micro_batch_tokens). */
static void cut(struct plumb_epochs *e)
{
    for (int64_t i = 0; i < e->split.items && e->length; i++)
        e->in_order[i] = e->length[e->kept ? e->kept[e->order[i]] : e->order[i]];
    if (e->length)
        plumb_split_cut(&e->split, e->in_order);
}

void plumb_epochs_at(struct plumb_epochs *e, int64_t step, int64_t *in_epoch)
{
    const int64_t per_epoch = plumb_split_steps(&e->split), epoch = step / per_epoch;
    *in_epoch = step % per_epoch;
    if (epoch == e->epoch)
        return;
    e->epoch = epoch;
    if (e->cfg->data.shuffle) {
        plumb_rng_shuffle(e->order, e->split.items,
                          (struct plumb_rng_key){.seed = e->cfg->seed,
                                                 .purpose = PLUMB_RNG_SHUFFLE,
                                                 .iteration = (uint32_t)epoch});
    } else {
        for (int64_t i = 0; i < e->split.items; i++)
            e->order[i] = i;
    }
    cut(e);
}

/* Raises e->most to an upper bound for every possible choice of e->split.items records out of n. */
static plumb_status bound(struct plumb_epochs *e, int64_t n)
{
    int64_t *sorted = calloc((size_t)n, sizeof(*sorted));
    PLUMB_REQUIRE(sorted, PLUMB_ERR_NOMEM, "lengths of %lld records", (long long)n);
    memcpy(sorted, e->length, (size_t)n * sizeof(*sorted));
    plumb_split_bound(&e->most, &e->split, sorted, n);
    free(sorted);
    return PLUMB_OK;
}

/* The order of each epoch follows from the seed, so this function can count the micro-batches of
 * the whole run exactly. An upper bound could be twice the exact number, and the gradient tree
 * could then need one more buffer of the size of the gradient. */
plumb_status plumb_epochs_measure(struct plumb_epochs *e, const struct plumb_dataset *data,
                                  int completions, const int64_t *kept, bool chosen_later)
{
    const int64_t size = e->cfg->train.micro_batch_size, per_epoch = plumb_split_steps(&e->split);
    int64_t in_epoch;
    if (e->split.tokens == 0) {
        e->most.micro_batches = plumb_split_micro_batches(&e->split, 0);
        e->most.items = size;
        return plumb_longest_batch(&e->most.tokens, data, completions, size);
    }
    e->kept = kept;
    e->in_order = calloc((size_t)e->split.items, sizeof(*e->in_order));
    PLUMB_REQUIRE(e->in_order, PLUMB_ERR_NOMEM, "lengths of %lld records",
                  (long long)e->split.items);
    PLUMB_TRY(plumb_record_lengths(&e->length, data, completions, e->cfg, e->cfg->data.train));
    for (int64_t step = 0; step < e->steps; step += per_epoch) {
        plumb_epochs_at(e, step, &in_epoch);
        plumb_split_raise(&e->most, &e->split, e->in_order);
        if (!e->cfg->data.shuffle)
            break; /* without data.shuffle all epochs have the order of the file */
    }
    if (chosen_later)
        PLUMB_TRY(bound(e, data->n));
    e->epoch = -1; /* the first step splits again, because kept may have changed */
    return PLUMB_OK;
}

plumb_status plumb_epochs_prepare(struct plumb_epochs *e, struct plumb_trainer *t,
                                  const struct plumb_pack *pack)
{
    const struct plumb_config *cfg = t->cfg;
    struct plumb_pass_limit limit =
        plumb_pack_limit(pack, true, cfg->train.recompute, cfg->train.head_rows);
    limit.entropy = e->entropy;
    if (!t->backend->dry)
        plumb_log(PLUMB_LOG_INFO, "%s: %lld record%s, %lld step%s of %lld", cfg->data.train,
                  (long long)e->split.items, plumb_plural(e->split.items), (long long)e->steps,
                  plumb_plural(e->steps), (long long)e->split.global_batch);
    plumb_say_small(t, e->split.items, "records");
    if (e->steps < cfg->train.max_steps && !t->backend->dry && plumb_comm_rank(t->comm) == 0)
        plumb_log(PLUMB_LOG_WARN,
                  "train.max_steps: %lld, but the run ends after %lld step%s with its last epoch; "
                  "raise train.epochs (%lld) for more",
                  (long long)cfg->train.max_steps, (long long)e->steps, plumb_plural(e->steps),
                  (long long)cfg->train.epochs);
    return plumb_trainer_prepare(t, &limit, e->steps, e->most.micro_batches);
}

void plumb_say_small(const struct plumb_trainer *t, int64_t items, const char *what)
{
    const int64_t wanted = t->cfg->train.global_batch_size;
    if (!t->backend->dry && items < wanted && plumb_comm_rank(t->comm) == 0 &&
        plumb_config_given(t->cfg, "train.global_batch_size") != PLUMB_GIVEN_NO)
        plumb_log(
            PLUMB_LOG_WARN,
            "train.global_batch_size is %lld, but there are only %lld %s; each step uses all of "
            "them",
            (long long)wanted, (long long)items, what);
}

/* Writes report.html: curves of the metrics, data files and configuration. Collective. */
static plumb_status write_report(const struct plumb_epochs *e, const struct plumb_trainer *t)
{
    const struct plumb_config *cfg = t->cfg;
    char title[64], batches[64], rate[32], seed[32], ranks[32];
    snprintf(title, sizeof(title), "%s: %lld step%s", t->command, (long long)e->steps,
             plumb_plural(e->steps));
    snprintf(batches, sizeof(batches), "%lld records, %lld a step", (long long)e->split.items,
             (long long)e->split.global_batch);
    snprintf(rate, sizeof(rate), "%g", cfg->train.learning_rate);
    snprintf(seed, sizeof(seed), "%" PRIu64, cfg->seed);
    snprintf(ranks, sizeof(ranks), "%d", plumb_comm_size(t->comm));
    const struct plumb_report_field field[] = {
        {"start", cfg->model}, {"data", cfg->data.train},
        {"batches", batches},  {"learning rate", rate},
        {"seed", seed},        {"ranks", ranks},
    };
    struct plumb_report report = {
        .title = title, .field = field, .n_fields = sizeof(field) / sizeof(field[0])};
    plumb_status st = PLUMB_OK;
    plumb_comm_phase(t->comm, "report");
    if (cfg->report.html && plumb_comm_rank(t->comm) == 0)
        st = plumb_report_run(&report, cfg, t->command);
    return plumb_comm_agree(t->comm, st);
}

/* Returns true if data.eval is evaluated after this step. */
static bool is_due(const struct plumb_epochs *e, int64_t step, int64_t per_epoch)
{
    const int64_t every = e->cfg->train.eval_every;
    return step == e->steps || step % (every > 0 ? every : per_epoch) == 0;
}

plumb_status plumb_epochs_run(struct plumb_epochs *e, struct plumb_trainer *t,
                              const struct plumb_epochs_task *task)
{
    const struct plumb_config *cfg = t->cfg;
    const int64_t per_epoch = plumb_split_steps(&e->split);
    struct plumb_progress progress;
    plumb_progress_start(&progress, task->what, "steps", e->steps);
    while (t->state.step < e->steps) {
        int64_t in_epoch;
        uint64_t weights;
        plumb_epochs_at(e, t->state.step, &in_epoch);
        task->begin(task->arg, in_epoch, plumb_split_step(&e->split, in_epoch));
        const int64_t micro_batches = plumb_split_micro_batches(&e->split, in_epoch);
        struct plumb_step_result r = {.paused = false};
        if (task->prepare)
            PLUMB_TRY(task->prepare(task->arg, micro_batches, &r.paused));
        if (!r.paused)
            PLUMB_TRY(plumb_trainer_step(t, micro_batches, task->micro_batch, task->arg, &r));
        if (r.paused) {
            struct plumb_checkpoint_pause none = {0};
            bool paused;
            PLUMB_TRY(plumb_trainer_pause(t, &none, &paused));
            continue;
        }
        t->state.num_tokens += (int64_t)r.value[PLUMB_EPOCHS_TOKENS];
        plumb_progress_at(&progress, t->state.step, NULL);
        struct plumb_metrics_row row = {0};
        plumb_metrics_set(&row, PLUMB_METRIC_LOSS, r.value[PLUMB_EPOCHS_LOSS]);
        plumb_metrics_set(&row, PLUMB_METRIC_GRAD_NORM, r.optim.grad_norm);
        plumb_metrics_set(&row, PLUMB_METRIC_LEARNING_RATE, r.optim.lr);
        plumb_metrics_set(&row, PLUMB_METRIC_EPOCH, (double)t->state.step / (double)per_epoch);
        task->report(task->arg, r.value, &row);
        const int64_t step = t->state.step;
        const plumb_status health =
            plumb_health_loss(&t->health, cfg, step, r.value[PLUMB_EPOCHS_LOSS]);
        const bool last = step == e->steps,
                   evaluates = task->evaluate && is_due(e, step, per_epoch);
        if (evaluates)
            PLUMB_TRY(task->evaluate(task->arg, &row));
        if (last || evaluates || step == 1 || health != PLUMB_OK ||
            step % cfg->train.log_every == 0) {
            PLUMB_TRY(plumb_weights_agree(&weights, t->model, t->comm));
            PLUMB_TRY(plumb_comm_agree(t->comm, plumb_trainer_log(t, &row, 0)));
        }
        PLUMB_TRY(health); /* after the step's metrics are written */
        if (plumb_trainer_saves(t, step, last, evaluates))
            PLUMB_TRY(plumb_trainer_save(t, &row, last));
    }
    plumb_progress_end(&progress);
    return write_report(e, t);
}
