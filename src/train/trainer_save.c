/* trainer_save.c - logs a training run's metrics, and saves and pauses the run.
 * Layer 5. Includes train/trainer.h, base/, io/. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "io/file.h"
#include "model/adapter.h"
#include "train/best_metric.h"
#include "train/trainer.h"
#include "train/weights.h"

/* Sets in row the seconds, messages and bytes of this rank's collectives since the last line of
 * metrics, and the number of the rank for which this rank waited, if there is one. */
static void set_traffic(struct plumb_trainer *t, struct plumb_metrics_row *row)
{
    static const enum plumb_metric seconds[] = {[PLUMB_TRAFFIC_CONTROL] = PLUMB_METRIC_TIME_WAIT,
                                                [PLUMB_TRAFFIC_EXCHANGE] =
                                                    PLUMB_METRIC_TIME_EXCHANGE};
    int64_t messages = 0, bytes = 0;
    for (int k = 0; k < PLUMB_TRAFFIC_CLASSES; k++) {
        const struct plumb_traffic now = plumb_comm_traffic(t->comm, (enum plumb_traffic_class)k);
        const struct plumb_traffic *last = &t->last_traffic[k];
        messages += now.messages - last->messages;
        bytes += now.bytes - last->bytes;
        plumb_metrics_set(row, seconds[k], now.seconds - last->seconds);
        if (k == PLUMB_TRAFFIC_EXCHANGE)
            plumb_metrics_set(row, PLUMB_METRIC_COMM_EXCHANGE, (double)(now.bytes - last->bytes));
        t->last_traffic[k] = now;
    }
    double late_s;
    const int late = plumb_comm_waited_for(t->comm, &late_s);
    if (late >= 0) {
        plumb_metrics_set(row, PLUMB_METRIC_TIME_LATE, late_s);
        plumb_metrics_set(row, PLUMB_METRIC_LATE_RANK, late);
    }
    plumb_metrics_set(row, PLUMB_METRIC_COMM_MESSAGES, (double)messages);
    plumb_metrics_set(row, PLUMB_METRIC_COMM_BYTES, (double)bytes);
}

plumb_status plumb_trainer_log(struct plumb_trainer *t, struct plumb_metrics_row *row,
                               int64_t total_iterations)
{
    const double now = plumb_now();
    row->step = t->state.step;
    row->iteration = t->state.iteration;
    row->weights = t->model->fingerprint;
    plumb_metrics_set(row, PLUMB_METRIC_NUM_TOKENS, (double)t->state.num_tokens);
    if (now > t->last_log)
        plumb_metrics_set(row, PLUMB_METRIC_TOKENS_PER_SECOND,
                          (double)(t->state.num_tokens - t->last_log_tokens) / (now - t->last_log));
    plumb_metrics_set(row, PLUMB_METRIC_TIME_CHECKPOINTS, t->save_seconds);
    plumb_metrics_set(row, PLUMB_METRIC_TIME_CHECKPOINT_SHARE,
                      t->save_seconds / fmax(now - t->began, 1e-9));
    set_traffic(t, row);
    t->last_log = now;
    t->last_log_tokens = t->state.num_tokens;
    PLUMB_TRY(plumb_metrics_write(t->metrics, row));
    plumb_monitor_write(t->monitor, row);
    struct plumb_buf line = {0};
    const plumb_status st =
        plumb_metrics_console(&line, row, t->state.total_steps, total_iterations);
    if (st == PLUMB_OK)
        plumb_log(PLUMB_LOG_INFO, "%s", plumb_buf_text(&line));
    plumb_buf_fini(&line);
    return st;
}

enum { OPTIMIZER_ALL, OPTIMIZER_LAST, OPTIMIZER_NONE }; /* values of checkpoint.optimizer */

void plumb_trainer_note_space(const struct plumb_trainer *t)
{
    const struct plumb_checkpoint_options options = {.output_dir = t->cfg->output_dir,
                                                     .weights_only = t->cfg->checkpoint.optimizer ==
                                                                     OPTIMIZER_NONE};
    if (plumb_comm_rank(t->comm) == 0)
        plumb_checkpoint_note_space(&options, t->model);
}

/* Appends fields about the chat template to the model card's field[], from field[n] on. Returns the
 * number of fields afterwards. */
static int64_t add_chat_fields(struct plumb_card_field *field, int64_t n,
                               const struct plumb_trainer *t)
{
    const struct plumb_chat_setting *c = &t->chat;
    if (!c->template)
        return n;
    field[n++] = (struct plumb_card_field){"chat_template", c->given ? t->cfg->data.chat_template
                                                                     : "the base model's"};
    if (c->system)
        field[n++] = (struct plumb_card_field){"system", c->system};
    if (c->arguments_text)
        field[n++] = (struct plumb_card_field){"template_arguments", c->arguments_text};
    return n;
}

static plumb_status save(struct plumb_trainer *t, const struct plumb_metrics_row *row,
                         struct plumb_checkpoint_pause *pause, bool last)
{
    const struct plumb_config *cfg = t->cfg;
    const int64_t kept = cfg->checkpoint.optimizer;
    const bool moments = pause || kept == OPTIMIZER_ALL || (kept == OPTIMIZER_LAST && last);
    const double began = plumb_now();
    char text[PLUMB_METRIC_COUNT][32], lr[32], seed[32], batch[32];
    struct plumb_card_field metric[PLUMB_METRIC_COUNT];
    int64_t n = 0;
    for (int i = 0; i < PLUMB_METRIC_COUNT; i++)
        if (row->set[i] && isfinite(row->value[i]) &&
            !plumb_metric_of_machine((enum plumb_metric)i)) {
            snprintf(text[n], sizeof(text[n]), "%.6g", row->value[i]);
            metric[n] =
                (struct plumb_card_field){plumb_metric_info((enum plumb_metric)i)->name, text[n]};
            n++;
        }
    snprintf(lr, sizeof(lr), "%g", cfg->train.learning_rate);
    snprintf(seed, sizeof(seed), "%" PRIu64, cfg->seed);
    snprintf(batch, sizeof(batch), "%lld", (long long)cfg->train.global_batch_size);
    const bool align = strcmp(t->command, "align") == 0;
    struct plumb_card_field parameter[6] = {
        {"learning_rate", lr}, {"global_batch_size", batch}, {"seed", seed}};
    const int64_t n_parameter = add_chat_fields(parameter, 3, t);
    const struct plumb_card card = {
        .base_model = t->model->dir,
        .adapter = plumb_adapter_lora(t->model) != NULL,
        .method = align ? cfg->method.name : t->command,
        .dataset = align ? cfg->data.prompts : cfg->data.train,
        .parameter = parameter,
        .n_parameter = n_parameter,
        .metric = metric,
        .n_metric = n,
    };
    const struct plumb_best_metric *best = plumb_best_metric_of(cfg, t->command);
    char best_value[32];
    snprintf(best_value, sizeof(best_value), "metric.%s", best->name);
    const struct plumb_encoding encoding = {
        .append_eos = cfg->data.append_eos,
        .max_tokens = plumb_at_most(cfg->data.max_tokens, t->model->spec.max_pos),
        .prompt_template = cfg->data.prompt_template,
    };
    const struct plumb_checkpoint_options options = {
        .output_dir = cfg->output_dir,
        .encoding = t->model->spec.labels > 0 ? &encoding : NULL,
        .tokenizer = t->tokenizer,
        .chat = &t->chat,
        .shard_bytes = cfg->checkpoint.shard_bytes,
        .keep_last = cfg->checkpoint.keep_last,
        .keep_every = cfg->checkpoint.keep_every,
        .keep_best = cfg->checkpoint.keep_best,
        .best_value = best_value,
        .best_is_least = best->least,
        .retry = cfg->checkpoint.retry,
        .weights_only = !moments,
        .last = last,
    };
    plumb_comm_phase(t->comm, "save");
    PLUMB_TRY(plumb_comm_agree(t->comm, plumb_lock_check(t->lock)));
    PLUMB_TRY(plumb_weights_agree(&t->state.weight_fingerprint, t->model, t->comm));
    PLUMB_TRY(plumb_checkpoint_save(t->saved_name, &options, pause, &t->state, &card, t->model,
                                    t->optim, t->comm, plumb_gradient_scratch(&t->gradient)));
    const double seconds = plumb_now() - began;
    t->save_seconds += seconds;
    plumb_stop_saved(&t->stop, seconds);
    if (moments) /* after a save without moments, a pause at the same step must save again */
        t->saved_step = t->state.step;
    return plumb_comm_agree(t->comm, plumb_run_saved(t->run, t->saved_name,
                                                     t->state.weight_fingerprint, t->save_seconds));
}

bool plumb_trainer_saves(const struct plumb_trainer *t, int64_t at, bool last, bool evaluated)
{
    const struct plumb_config *cfg = t->cfg;
    const int64_t every = cfg->checkpoint.every;
    return last || (every > 0 ? at % every == 0 : evaluated && cfg->checkpoint.keep_best > 0);
}

plumb_status plumb_trainer_save(struct plumb_trainer *t, const struct plumb_metrics_row *row,
                                bool last)
{
    const struct plumb_best_metric *best = plumb_best_metric_of(t->cfg, t->command);
    char name[32];
    snprintf(name, sizeof(name), "metric.%s", best->name);
    if (row->set[best->metric])
        PLUMB_TRY(plumb_state_set(&t->state, name, row->value[best->metric]));
    return save(t, row, NULL, last);
}

plumb_status plumb_trainer_pause(struct plumb_trainer *t, struct plumb_checkpoint_pause *pause,
                                 bool *paused)
{
    const struct plumb_metrics_row none = {0};
    enum plumb_stop_request reason;
    char why[4200];
    *paused = false;
    PLUMB_TRY(plumb_stop_agree(&t->stop, &reason));
    if (reason == PLUMB_REQUEST_NONE)
        return PLUMB_OK;
    const double began = plumb_now();
    *paused = true;
    if (pause->write || t->saved_step != t->state.step)
        PLUMB_TRY(save(t, &none, pause, false));
    else
        plumb_stop_saved(&t->stop, 0);
    plumb_stop_describe(&t->stop, reason, why, sizeof(why));
    if (reason == PLUMB_REQUEST_SAVE) {
        plumb_log(PLUMB_LOG_INFO, "saved %s %s, in %.1f s", t->saved_name, why,
                  plumb_now() - began);
        return PLUMB_OK;
    }
    plumb_stop_honoured(&t->stop);
    PLUMB_FAIL(PLUMB_STOPPED, "stopped %s at step %lld; resume=auto continues from %s/%s", why,
               (long long)t->state.step, t->cfg->output_dir, t->saved_name);
}
