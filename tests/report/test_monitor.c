/* test_monitor.c - checks report.to: TensorBoard events against the bytes of tensorboard's own
 * writer, the Prometheus text, MLPerf lines, and what a resumed run keeps.
 * Test. Includes harness.h, io/, config/, report/. */
#include "report/monitor.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "harness.h"
#include "io/file.h"
#include "io/json.h"
#include "io/tfrecord.h"
#include "report/prometheus.h"
#include "report/tensorboard.h"

static char dir[] = "/tmp/plumb_monitor_XXXXXX";

/* The time of day in this test. The linker option --wrap redirects calls of plumb_wall_now to this
 * function. Its clock is set_back seconds behind the real one. */
static double set_back;
double __real_plumb_wall_now(void);
double __wrap_plumb_wall_now(void);
double __wrap_plumb_wall_now(void)
{
    return __real_plumb_wall_now() - set_back;
}

/* Sets row to the three lines of metrics in tests/reference/monitor_fixtures.py. */
static void rows(struct plumb_metrics_row row[3])
{
    memset(row, 0, 3 * sizeof(*row));
    plumb_metrics_set(&row[0], PLUMB_METRIC_LOSS, 0.6931471805599453);
    row[1].step = 7;
    plumb_metrics_set(&row[1], PLUMB_METRIC_LOSS, 0.5);
    plumb_metrics_set(&row[1], PLUMB_METRIC_LEARNING_RATE, 1e-5);
    plumb_metrics_set(&row[1], PLUMB_METRIC_TAU, 0);
    plumb_metrics_set(&row[1], PLUMB_METRIC_KL, NAN);
    plumb_metrics_set(&row[1], PLUMB_METRIC_TIME_ROLLOUT, 1.25);
    row[2].step = 123456789012;
    plumb_metrics_set(&row[2], PLUMB_METRIC_LOSS, -3.5e-39);
    plumb_metrics_set(&row[2], PLUMB_METRIC_NUM_TOKENS, 1e12);
}

static void test_events(void)
{
    struct plumb_metrics_row row[3];
    struct plumb_buf want = {0}, got = {0};
    char path[4096];
    const char *root = getenv("PLUMB_SOURCE_ROOT");
    snprintf(path, sizeof(path), "%s/tests/fixtures/monitor/events.bin", root ? root : ".");
    CHECK_OK(plumb_file_read(&want, path));
    rows(row);
    CHECK_OK(plumb_tensorboard_put_version(&got, 1700000000.0));
    for (int i = 0; i < 3; i++)
        CHECK_OK(plumb_tensorboard_put(&got, 1700000000.25 + 10.25 * i, &row[i]));
    CHECKF(got.len == want.len, "%lld bytes, tensorboard writes %lld", (long long)got.len,
           (long long)want.len);
    for (int64_t i = 0; i < want.len && i < got.len; i++)
        CHECKF(got.data[i] == want.data[i], "byte %lld differs", (long long)i);
    plumb_buf_fini(&want);
    plumb_buf_fini(&got);
}

/* Reads the event file, of which there must be only one. Sets name to its path and text to its
 * contents. Returns the number of its records. */
static int64_t count_events(char name[4096], struct plumb_buf *text)
{
    struct plumb_names names = {0};
    char folder[256];
    const char *data;
    int64_t n, at = 0, count = 0;
    snprintf(folder, sizeof(folder), "%s/tensorboard", dir);
    CHECK_OK(plumb_dir_list(&names, folder));
    CHECK(names.n == 1 && !strncmp(names.name[0], "events.out.tfevents.", 20));
    CHECK_OK(plumb_path_join(name, 4096, folder, names.name[0]));
    plumb_buf_clear(text);
    CHECK_OK(plumb_file_read(text, name));
    for (;; count++) {
        CHECK_OK(plumb_tfrecord_next(&data, &n, text->data, text->len, &at, name));
        if (!data)
            break;
    }
    CHECK(at == text->len);
    plumb_names_fini(&names);
    return count;
}

static void write_file(const char *path, const char *bytes, int64_t n)
{
    CHECK_OK(plumb_file_write_atomic(path, bytes, n));
}

/* Checks that a resumed run keeps the events of its lines of metrics, with their times, and adds
 * the events that are missing. */
static void test_resume(void)
{
    struct plumb_metrics_row row[5] = {0};
    plumb_tensorboard *t = NULL;
    struct plumb_buf first = {0}, text = {0};
    char name[4096], again[4096];
    for (int i = 0; i < 5; i++) {
        row[i].step = 10 * (i + 1);
        plumb_metrics_set(&row[i], PLUMB_METRIC_LOSS, i);
    }
    CHECK_OK(plumb_tensorboard_open(&t, dir, NULL, 0));
    for (int i = 0; i < 4; i++)
        CHECK_OK(plumb_tensorboard_write(t, 1000.5 + i, &row[i]));
    plumb_tensorboard_close(&t);
    CHECK(count_events(name, &first) == 5);
    /* the writer was killed within a record; the run resumes from its second line of metrics */
    write_file(name, first.data, first.len - 3);
    CHECK_OK(plumb_tensorboard_open(&t, dir, row, 2));
    CHECK_OK(plumb_tensorboard_write(t, 2000.5, &row[2]));
    plumb_tensorboard_close(&t);
    CHECK(count_events(again, &text) == 4 && !strcmp(name, again));
    struct plumb_buf event = {0};
    for (int i = 0; i < 3; i++) {
        plumb_buf_clear(&event);
        CHECK_OK(plumb_tensorboard_put(&event, i < 2 ? 1000.5 + i : 2000.5, &row[i]));
        CHECKF(memmem(text.data, (size_t)text.len, event.data, (size_t)event.len), "line %d", i);
    }
    /* metrics.jsonl has a line whose event was lost, and the event file is damaged after its first
     * event */
    text.data[text.len - 20] ^= 1;
    write_file(name, text.data, text.len);
    CHECK_OK(plumb_tensorboard_open(&t, dir, row, 5));
    plumb_tensorboard_close(&t);
    CHECK(count_events(again, &text) == 6);
    /* a run from the start removes the events of the run before */
    CHECK_OK(plumb_tensorboard_open(&t, dir, NULL, 0));
    plumb_tensorboard_close(&t);
    CHECK(count_events(again, &text) == 1);
    plumb_buf_fini(&event);
    plumb_buf_fini(&first);
    plumb_buf_fini(&text);
}

static void test_prometheus(void)
{
    struct plumb_metrics_row row[3];
    struct plumb_buf b = {0};
    const struct plumb_prometheus p = {
        .command = "align", .run = "a \"b\" \\ c\nd", .planned_steps = 9, .world_size = 4};
    static const char *const want[] = {
        "# HELP plumb_loss mean over the global batch of the method's loss\n# TYPE plumb_loss "
        "gauge\n"
        "plumb_loss{command=\"align\",run=\"a \\\"b\\\" \\\\ c\\nd\"} 0.5\n",
        "plumb_time_rollout_seconds{",
        "plumb_kl_nats{",
        "\"} NaN\n",
        "plumb_psle_tau{",
        "# TYPE plumb_running gauge\nplumb_running{",
        "plumb_ranks{",
        "plumb_planned_steps{",
        "plumb_last_update_timestamp_seconds{",
        "\"} 1700000000.5\n",
        "# HELP plumb_running 1 while the run goes on, 0 after its end; a run that was killed "
        "leaves "
        "1: compare plumb_last_update_timestamp_seconds with the time\n"};
    rows(row);
    CHECK_OK(plumb_prometheus_put(&b, &p, &row[1], true, 1700000000.5));
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++)
        CHECKF(strstr(b.data, want[i]), "no %s in\n%s", want[i], b.data);
    CHECK(!strstr(b.data, "plumb_iteration") && !strstr(b.data, "plumb_reward"));
    for (const char *line = b.data; *line; line = strchr(line, '\n') + 1)
        CHECKF(!strncmp(line, "# HELP plumb_", 13) || !strncmp(line, "# TYPE plumb_", 13) ||
                   !strncmp(line, "plumb_", 6),
               "%.40s", line);
    plumb_buf_fini(&b);
}

static int64_t last_ms; /* time of the newest line of mlperf.log, in milliseconds */

static plumb_status check_line(void *arg, const char *line, int64_t len, int64_t line_no)
{
    char *keys = arg;
    plumb_json *v = NULL;
    CHECKF(len > 9 && !strncmp(line, ":::MLLOG ", 9), "line %lld", (long long)line_no);
    PLUMB_TRY(plumb_json_parse(&v, line + 9, len - 9, "mlperf.log"));
    const int64_t ms = plumb_json_int(plumb_json_get(v, "time_ms"), 0);
    CHECKF(plumb_json_member(v, "namespace") && ms > 0 && ms >= last_ms,
           "line %lld: time %lld after %lld", (long long)line_no, (long long)ms,
           (long long)last_ms);
    last_ms = ms;
    CHECK(plumb_json_member(v, "event_type") && plumb_json_member(v, "value") &&
          plumb_json_get(v, "metadata"));
    strcat(strcat(keys, plumb_json_string(plumb_json_get(v, "key"), "?")), " ");
    plumb_json_free(&v);
    return PLUMB_OK;
}

/* Checks a run that was killed while it wrote a line and was resumed after the clock was set back.
 * The log must have complete lines only, and times that never decrease. */
static void test_resumed(const struct plumb_monitor_start *first)
{
    struct plumb_monitor_start start = *first;
    struct plumb_metrics_row row[3];
    plumb_monitor *m = NULL;
    char path[256], keys[8000] = "";
    rows(row);
    snprintf(path, sizeof(path), "%s/mlperf.log", dir);
    FILE *f = fopen(path, "a");
    CHECK(f && fputs(":::MLLOG {\"namespace\": \"\", \"time_ms\": 12", f) >= 0 && !fclose(f));
    set_back = 7200;
    start.steps_done = 7;
    start.began = plumb_now() - 5;
    CHECK_OK(plumb_monitor_open(&m, &start));
    plumb_monitor_write(m, &row[2]);
    plumb_monitor_close(&m, false);
    last_ms = 0;
    CHECK_OK(plumb_file_lines(path, check_line, keys));
    CHECK(strstr(keys, "run_stop init_start ") && strstr(keys, "block_stop tracked_stats"));
}

static void test_all(void)
{
    static const char yaml[] = "report: {to: [mlperf, prometheus]}\n";
    char path[256], keys[4000] = "";
    struct plumb_config *cfg = NULL;
    struct plumb_metrics_row row[3];
    plumb_monitor *m = NULL;
    rows(row);
    snprintf(path, sizeof(path), "%s/c.yaml", dir);
    write_file(path, yaml, (int64_t)strlen(yaml));
    char out[300];
    snprintf(out, sizeof(out), "output_dir=%s", dir);
    char *const override[] = {out};
    CHECK_OK(plumb_config_load(&cfg, "sft", path, override, 1));
    CHECK_OK(plumb_monitor_check(cfg));
    const struct plumb_monitor_start start = {
        .cfg = cfg, .command = "sft", .world_size = 2, .planned_steps = 5, .max_tokens = 64};
    CHECK_OK(plumb_monitor_open(&m, &start));
    plumb_metrics_set(&row[1], PLUMB_METRIC_EVAL_LOSS, 2);
    plumb_metrics_set(&row[1], PLUMB_METRIC_TIME_EVAL, 1);
    set_back = 3600;
    plumb_monitor_write(m, &row[1]);
    plumb_monitor_close(&m, true);
    snprintf(path, sizeof(path), "%s/mlperf.log", dir);
    CHECK_OK(plumb_file_lines(path, check_line, keys));
    CHECKF(
        !strcmp(
            keys,
            "init_start seed config_filename global_batch_size micro_batch_size tensor_parallelism "
            "pipeline_parallelism context_parallelism expert_parallelism "
            "lowest_numerical_precision_in_linear lowest_numerical_precision_in_attn "
            "lowest_numerical_precision_in_comm gradient_accumulation_steps "
            "max_sequence_length max_steps init_checkpoint_step "
            "opt_name opt_base_learning_rate opt_end_learning_rate "
            "opt_learning_rate_decay_schedule opt_learning_rate_warmup_steps "
            "opt_learning_rate_training_steps opt_adamw_beta_1 opt_adamw_beta_2 "
            "opt_adamw_epsilon opt_adamw_weight_decay opt_gradient_clip_norm init_stop "
            "run_start block_start block_stop eval_start eval_accuracy "
            "eval_stop tracked_stats block_start block_stop run_stop "),
        "%s", keys);
    struct plumb_buf text = {0};
    CHECK_OK(plumb_file_read(&text, path));
    CHECK(strstr(text.data, "\"gradient_accumulation_steps\", \"value\": 4") &&
          strstr(text.data, "\"samples_count\": 224, ") &&
          strstr(text.data, "\"status\": \"success\""));
    plumb_buf_clear(&text);
    snprintf(path, sizeof(path), "%s/metrics.prom", dir);
    CHECK_OK(plumb_file_read(&text, path));
    CHECK(strstr(text.data, "plumb_running{command=\"sft\"") && strstr(text.data, "\"} 0\n"));
    plumb_buf_fini(&text);
    test_resumed(&start);
    plumb_config_free(&cfg);
}

int main(void)
{
    CHECK(mkdtemp(dir));
    test_events();
    test_resume();
    test_prometheus();
    test_all();
    CHECK_OK(plumb_dir_remove(dir));
    return 0;
}
