/* mlperf.c - writes the events of a run as lines of MLPerf's logging format.
 * Layer 4. Includes report/mlperf.h, base/, io/.
 *
 * Source of the format and of the keys: MLCommons, mlperf_logging 4.1: mllog/constants.py, and the
 * rules of training_6.1.0 for llama2_70b_lora and qwen35_397b_grpo. */
#include "report/mlperf.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/num.h"
#include "io/file.h"
#include "io/json.h"

#define POINT "POINT_IN_TIME"
#define BEGIN "INTERVAL_START"
#define END   "INTERVAL_END"

/* Returns the milliseconds since 1970. Within a session they come from the monotonic clock, so they
 * never decrease. */
static int64_t now_ms(const struct plumb_mlperf *m)
{
    return m->began_ms + (int64_t)(1000 * (plumb_now() - m->began));
}

/* Writes one line of the log. ms is its time in milliseconds since 1970; if it is before the time
 * of the previous line, that time is used instead. value is JSON text. metadata is "" or members of
 * the metadata object as JSON text, each followed by a comma. */
static plumb_status put(struct plumb_mlperf *m, int64_t ms, const char *type, const char *key,
                        const char *value, const char *metadata)
{
    struct plumb_buf *b = &m->line;
    m->last_ms = plumb_max_i64(m->last_ms, ms);
    plumb_buf_clear(b);
    PLUMB_TRY(plumb_buf_addf(b,
                             ":::MLLOG {\"namespace\": \"\", \"time_ms\": %lld, \"event_type\": "
                             "\"%s\", \"key\": \"%s\", \"value\": %s, \"metadata\": "
                             "{%s\"file\": \"plumb\", \"lineno\": 0}}",
                             (long long)m->last_ms, type, key, value, metadata));
    return plumb_file_append_line(m->file, m->path, plumb_buf_text(b));
}

static plumb_status put_int(struct plumb_mlperf *m, const char *key, int64_t value)
{
    char text[32];
    snprintf(text, sizeof(text), "%lld", (long long)value);
    return put(m, now_ms(m), POINT, key, text, "");
}

static plumb_status put_real(struct plumb_mlperf *m, const char *key, double value)
{
    struct plumb_buf text = {0};
    plumb_status st = plumb_json_put_real(&text, value);
    if (st == PLUMB_OK)
        st = put(m, now_ms(m), POINT, key, plumb_buf_text(&text), "");
    plumb_buf_fini(&text);
    return st;
}

static plumb_status put_text(struct plumb_mlperf *m, const char *key, const char *value)
{
    struct plumb_buf text = {0};
    plumb_status st = plumb_json_put_string(&text, value, (int64_t)strlen(value));
    if (st == PLUMB_OK)
        st = put(m, now_ms(m), POINT, key, plumb_buf_text(&text), "");
    plumb_buf_fini(&text);
    return st;
}

static plumb_status put_optimizer(struct plumb_mlperf *m, const struct plumb_mlperf_start *s)
{
    static const char *const schedule[] = {"constant", "linear", "cosine"};
    const struct plumb_config *cfg = s->cfg;
    const double warmup = ceil(cfg->train.warmup_ratio * (double)s->planned_steps);
    PLUMB_TRY(put_text(m, "opt_name", "adamw"));
    PLUMB_TRY(put_real(m, "opt_base_learning_rate", cfg->train.learning_rate));
    PLUMB_TRY(put_real(m, "opt_end_learning_rate",
                       cfg->train.lr_schedule == 0
                           ? cfg->train.learning_rate
                           : cfg->train.learning_rate * cfg->train.min_lr_ratio));
    PLUMB_TRY(put_text(m, "opt_learning_rate_decay_schedule", schedule[cfg->train.lr_schedule]));
    PLUMB_TRY(put_int(m, "opt_learning_rate_warmup_steps", (int64_t)warmup));
    PLUMB_TRY(put_int(m, "opt_learning_rate_training_steps", s->planned_steps));
    PLUMB_TRY(put_real(m, "opt_adamw_beta_1", cfg->train.beta1));
    PLUMB_TRY(put_real(m, "opt_adamw_beta_2", cfg->train.beta2));
    PLUMB_TRY(put_real(m, "opt_adamw_epsilon", cfg->train.epsilon));
    PLUMB_TRY(put_real(m, "opt_adamw_weight_decay", cfg->train.weight_decay));
    return put_real(m, "opt_gradient_clip_norm", cfg->train.max_grad_norm);
}

static plumb_status count_line(void *count, const char *line, int64_t len, int64_t line_no)
{
    (void)line;
    (void)line_no;
    *(int64_t *)count += len > 0;
    return PLUMB_OK;
}

/* Writes the number of non-empty lines of a data file. Writes nothing if there is no such file, or
 * if it is standard input, which cannot be read again. */
static plumb_status put_samples(struct plumb_mlperf *m, const char *key, const char *path)
{
    int64_t n = 0;
    if (!*path || strcmp(path, "-") == 0)
        return PLUMB_OK;
    PLUMB_TRY(plumb_file_lines(path, count_line, &n));
    return put_int(m, key, n);
}

static plumb_status put_rollouts(struct plumb_mlperf *m, const struct plumb_config *cfg)
{
    PLUMB_TRY(put_int(m, "num_prompts_per_step", cfg->train.global_batch_size));
    PLUMB_TRY(put_int(m, "num_generations_per_prompt", cfg->generate.group_size));
    PLUMB_TRY(put_real(m, "generation_training_rollout_temperature", cfg->generate.temperature));
    PLUMB_TRY(put_real(m, "generation_training_rollout_top_p", cfg->generate.top_p));
    /* completions for data.eval are sampled with the same temperature and top_p as rollouts */
    PLUMB_TRY(put_real(m, "generation_validation_rollout_temperature", cfg->generate.temperature));
    return put_real(m, "generation_validation_rollout_top_p", cfg->generate.top_p);
}

static plumb_status put_numerics(struct plumb_mlperf *m, const struct plumb_config *cfg)
{
    static const char *const parallel[] = {"tensor_parallelism", "pipeline_parallelism",
                                           "context_parallelism", "expert_parallelism"};
    const char *dtype = cfg->dtype == 0 ? "fp32" : "bfloat16";
    for (size_t i = 0; i < sizeof(parallel) / sizeof(parallel[0]); i++)
        PLUMB_TRY(put_int(m, parallel[i], 1));
    PLUMB_TRY(put_text(m, "lowest_numerical_precision_in_linear", dtype));
    PLUMB_TRY(put_text(m, "lowest_numerical_precision_in_attn", dtype));
    return put_text(m, "lowest_numerical_precision_in_comm", "fp32");
}

static plumb_status put_start(struct plumb_mlperf *m, const struct plumb_mlperf_start *s)
{
    const struct plumb_config *cfg = s->cfg;
    const bool align = strcmp(s->command, "align") == 0;
    char seed[32];
    snprintf(seed, sizeof(seed), "%" PRIu64, cfg->seed);
    PLUMB_TRY(put(m, s->init_ms, BEGIN, "init_start", "null", ""));
    PLUMB_TRY(put(m, now_ms(m), POINT, "seed", seed, ""));
    PLUMB_TRY(put_text(m, "config_filename", "config.effective.yaml"));
    PLUMB_TRY(put_samples(m, "train_samples", align ? cfg->data.prompts : cfg->data.train));
    PLUMB_TRY(put_samples(m, "eval_samples", cfg->data.eval));
    PLUMB_TRY(put_int(m, "global_batch_size", m->samples_per_step));
    PLUMB_TRY(put_int(m, "micro_batch_size", cfg->train.micro_batch_size));
    if (align)
        PLUMB_TRY(put_rollouts(m, cfg));
    PLUMB_TRY(put_numerics(m, cfg));
    PLUMB_TRY(put_int(m, "gradient_accumulation_steps", s->micro_batches));
    PLUMB_TRY(put_int(m, "max_sequence_length", s->max_tokens));
    PLUMB_TRY(put_int(m, "max_steps", s->planned_steps));
    PLUMB_TRY(put_int(m, "init_checkpoint_step", s->steps_done));
    if (cfg->lora.r > 0) {
        PLUMB_TRY(put_int(m, "lora_rank", cfg->lora.r));
        PLUMB_TRY(put_real(m, "lora_alpha", cfg->lora.alpha));
    }
    PLUMB_TRY(put_optimizer(m, s));
    PLUMB_TRY(put(m, now_ms(m), END, "init_stop", "null", ""));
    return put(m, now_ms(m), BEGIN, "run_start", "null", "");
}

/* Writes to out the members of the metadata that give the position of an event in the run: step and
 * samples_count. */
static void put_place(char out[96], const struct plumb_mlperf *m, int64_t step)
{
    snprintf(out, 96, "\"step\": %lld, \"samples_count\": %lld, ", (long long)step,
             (long long)(step * m->samples_per_step));
}

static plumb_status put_block(struct plumb_mlperf *m, int64_t ms, const char *type, const char *key,
                              int64_t step)
{
    char metadata[96];
    put_place(metadata, m, step);
    return put(m, ms, type, key, "null", metadata);
}

/* Continues the log of an earlier session: removes an incomplete last line, and sets last_ms to the
 * time of the last line. The new lines must not have earlier times, even if the wall clock was set
 * back since then. */
static plumb_status continue_log(struct plumb_mlperf *m)
{
    static const char key[] = "\"time_ms\": ";
    struct plumb_buf whole = {0};
    plumb_status st = PLUMB_OK;
    if (!plumb_file_exists(m->path))
        return PLUMB_OK;
    PLUMB_TRY_GOTO(st, plumb_file_read(&whole, m->path), done);
    const char *text = plumb_buf_text(&whole);
    const char *end = memrchr(text, '\n', (size_t)whole.len);
    const int64_t complete = end ? end + 1 - text : 0;
    if (complete < whole.len && truncate(m->path, (off_t)complete) != 0)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_IO, done, "%s: cannot remove its incomplete last line: %s",
                        m->path, strerror(errno));
    const char *before = end ? memrchr(text, '\n', (size_t)(end - text)) : NULL;
    const char *line = before ? before + 1 : text;
    const char *time = memmem(line, (size_t)(text + complete - line), key, sizeof(key) - 1);
    if (time)
        m->last_ms = strtoll(time + sizeof(key) - 1, NULL, 10);
done:
    plumb_buf_fini(&whole);
    return st;
}

plumb_status plumb_mlperf_open(struct plumb_mlperf *m, const char *dir,
                               const struct plumb_mlperf_start *start)
{
    const struct plumb_config *cfg = start->cfg;
    const int64_t group = strcmp(start->command, "align") == 0 ? cfg->generate.group_size : 1;
    *m = (struct plumb_mlperf){.block = start->steps_done,
                               .samples_per_step = cfg->train.global_batch_size * group};
    PLUMB_TRY(plumb_path_join(m->path, sizeof(m->path), dir, "mlperf.log"));
    if (start->steps_done > 0)
        PLUMB_TRY(continue_log(m));
    m->began = plumb_now();
    m->began_ms = plumb_max_i64((int64_t)(1000 * plumb_wall_now()), m->last_ms);
    m->file = fopen(m->path, start->steps_done > 0 ? "a" : "w");
    PLUMB_REQUIRE(m->file, PLUMB_ERR_IO, "%s: %s", m->path, strerror(errno));
    PLUMB_TRY(put_start(m, start));
    return put_block(m, now_ms(m), BEGIN, "block_start", m->block);
}

/* Writes the result of an evaluation on data.eval: the first of reward, accuracy and loss that *row
 * has. The evaluation began at `began` and ended at `now`. */
static plumb_status put_eval(struct plumb_mlperf *m, const struct plumb_metrics_row *row,
                             int64_t began, int64_t now)
{
    static const enum plumb_metric accuracy[] = {
        PLUMB_METRIC_EVAL_REWARD, PLUMB_METRIC_EVAL_ACCURACIES, PLUMB_METRIC_EVAL_LOSS};
    char metadata[96];
    put_place(metadata, m, row->step);
    for (size_t i = 0; i < sizeof(accuracy) / sizeof(accuracy[0]); i++) {
        struct plumb_buf value = {0};
        if (!row->set[accuracy[i]])
            continue;
        plumb_status st = plumb_json_put_real(&value, row->value[accuracy[i]]);
        if (st == PLUMB_OK)
            st = put(m, began, BEGIN, "eval_start", "null", metadata);
        if (st == PLUMB_OK)
            st = put(m, now, POINT, "eval_accuracy", plumb_buf_text(&value), metadata);
        if (st == PLUMB_OK)
            st = put(m, now, END, "eval_stop", "null", metadata);
        plumb_buf_fini(&value);
        return st;
    }
    return PLUMB_OK;
}

static plumb_status put_stats(struct plumb_mlperf *m, const struct plumb_metrics_row *row)
{
    struct plumb_buf value = {0};
    char metadata[96];
    const char *before = "";
    put_place(metadata, m, row->step);
    plumb_status st = plumb_buf_add_text(&value, "{");
    for (int i = 0; i < PLUMB_METRIC_COUNT && st == PLUMB_OK; i++) {
        if (!row->set[i])
            continue;
        st = plumb_buf_addf(&value, "%s\"%s\": ", before,
                            plumb_metric_info((enum plumb_metric)i)->name);
        if (st == PLUMB_OK)
            st = plumb_json_put_real(&value, row->value[i]);
        before = ", ";
    }
    if (st == PLUMB_OK)
        st = plumb_buf_add_text(&value, "}");
    if (st == PLUMB_OK)
        st = put(m, now_ms(m), POINT, "tracked_stats", plumb_buf_text(&value), metadata);
    plumb_buf_fini(&value);
    return st;
}

plumb_status plumb_mlperf_write(struct plumb_mlperf *m, const struct plumb_metrics_row *row)
{
    /* if *row has an evaluation, it was the last work of the block and has just ended */
    const bool timed = row->set[PLUMB_METRIC_TIME_EVAL];
    const int64_t now = now_ms(m),
                  took = timed ? (int64_t)(1000 * row->value[PLUMB_METRIC_TIME_EVAL]) : 0;
    PLUMB_TRY(put_block(m, now - took, END, "block_stop", m->block));
    PLUMB_TRY(put_eval(m, row, now - took, now));
    PLUMB_TRY(put_stats(m, row));
    m->block = row->step;
    return put_block(m, now, BEGIN, "block_start", m->block);
}

void plumb_mlperf_close(struct plumb_mlperf *m, bool success)
{
    if (!m->file)
        return;
    const char *status = success ? "\"status\": \"success\", " : "\"status\": \"aborted\", ";
    plumb_status st = put_block(m, now_ms(m), END, "block_stop", m->block);
    if (st == PLUMB_OK)
        st = put(m, now_ms(m), END, "run_stop", "null", status);
    if (st != PLUMB_OK)
        plumb_log(PLUMB_LOG_WARN, "%s", plumb_trail_message());
    fclose(m->file);
    plumb_buf_fini(&m->line);
    m->file = NULL;
}
