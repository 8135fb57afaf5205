/* test_metrics.c - checks metrics.jsonl, how it is shortened on resume, and the line on the
 * console.
 * Test. Includes harness.h, io/, report/. */
#include "report/metrics.h"

#include <unistd.h>

#include "harness.h"
#include "io/file.h"
#include "io/json.h"

static char dir[] = "/tmp/plumb_metrics_XXXXXX";
static char path[64];

static void append(plumb_metrics *m, int64_t step)
{
    struct plumb_metrics_row row = {.step = step, .iteration = (step + 1) / 2};
    plumb_metrics_set(&row, PLUMB_METRIC_LOSS, 1.0 / (double)step);
    plumb_metrics_set(&row, PLUMB_METRIC_TAU, 0.2);
    if (step == 2)
        plumb_metrics_set(&row, PLUMB_METRIC_KL, NAN);
    CHECK_OK(plumb_metrics_write(m, &row));
}

static int64_t lines(void)
{
    struct plumb_buf b = {0};
    CHECK_OK(plumb_file_read(&b, path));
    int64_t n = 0;
    for (int64_t i = 0; i < b.len; i++)
        n += b.data[i] == '\n';
    plumb_buf_fini(&b);
    return n;
}

static void open_write(int64_t resume_step, int64_t first, int64_t last)
{
    plumb_metrics *m = NULL;
    CHECK_OK(plumb_metrics_open(&m, dir, 0, resume_step, resume_step));
    for (int64_t i = first; i <= last; i++)
        append(m, i);
    plumb_metrics_close(&m);
    CHECK(m == NULL);
}

static void raw(const char *mode, const char *text)
{
    FILE *f = fopen(path, mode);
    CHECK(f && fputs(text, f) >= 0 && !fclose(f));
}

static plumb_status check_line(void *arg, const char *line, int64_t len, int64_t line_no)
{
    plumb_json *v = NULL;
    PLUMB_TRY(plumb_json_parse(&v, line, len, "metrics"));
    CHECK(plumb_json_int(plumb_json_get(v, "step"), 0) == line_no);
    CHECK(plumb_json_int(plumb_json_get(v, "iteration"), 0) == (line_no + 1) / 2);
    CHECK(plumb_json_real(plumb_json_get(v, "loss"), 0) == 1.0 / (double)line_no);
    CHECK(plumb_json_real(plumb_json_get(v, "psle/tau"), 0) == 0.2);
    CHECK((plumb_json_member(v, "kl") != NULL) == (line_no == 2));
    CHECK(plumb_json_get(v, "kl") == NULL && plumb_json_member(v, "reward") == NULL);
    plumb_json_free(&v);
    ++*(int64_t *)arg;
    return PLUMB_OK;
}

static void test_file(void)
{
    open_write(0, 1, 6);
    int64_t seen = 0;
    CHECK_OK(plumb_file_lines(path, check_line, &seen));
    CHECK(seen == 6);

    open_write(4, 5, 5); /* the lines of steps 5 and 6 are removed, and step 5 is written again */
    seen = 0;
    CHECK_OK(plumb_file_lines(path, check_line, &seen));
    CHECK(seen == 5);

    raw("a", "{\"step\": 6, \"lo"); /* an incomplete line, as a kill leaves it */
    open_write(5, 6, 7);
    seen = 0;
    CHECK_OK(plumb_file_lines(path, check_line, &seen));
    CHECK(seen == 7);

    struct plumb_metrics_row *row = NULL;
    int64_t n = 0;
    raw("a", "{\"step\": 8, \"other\": 1, \"loss\": \"x\"}\n{\"st");
    CHECK_OK(plumb_metrics_read(&row, &n, path));
    CHECK(n == 8 && row[6].step == 7 && row[6].iteration == 4);
    CHECK(row[1].set[PLUMB_METRIC_KL] && isnan(row[1].value[PLUMB_METRIC_KL]));
    CHECK(!row[2].set[PLUMB_METRIC_KL] && row[6].value[PLUMB_METRIC_LOSS] == 1.0 / 7);
    CHECK(isnan(row[7].value[PLUMB_METRIC_LOSS]));
    free(row);

    open_write(0, 1, 2); /* a new run starts with an empty file */
    CHECK(lines() == 2);

    /* Iterations without an optimizer step: a resume after iteration 2 keeps their lines. */
    plumb_metrics *m = NULL;
    const char *const still = "{\"step\": 0, \"iteration\": 1}\n{\"step\": 0, \"iteration\": 2}\n";
    raw("w", still);
    CHECK_OK(plumb_metrics_open(&m, dir, 0, 0, 2));
    plumb_metrics_close(&m);
    CHECK(lines() == 2);
    CHECK_OK(plumb_metrics_open(&m, dir, 0, 0, 1));
    plumb_metrics_close(&m);
    CHECK(lines() == 1);

    raw("w", "{\"step\": 1}\nrubbish\n{\"step\": 2}\n");
    CHECK_FAILS(plumb_metrics_open(&m, dir, 0, 1, 1), PLUMB_ERR_FORMAT, "metrics.jsonl:2");
    raw("w", "{\"step\": 1}\n{\"iteration\": 1}\n{\"step\": 2}\n");
    CHECK_FAILS(plumb_metrics_open(&m, dir, 0, 1, 1), PLUMB_ERR_FORMAT, "metrics.jsonl:2");
    CHECK(m == NULL && lines() == 3);

    CHECK_OK(plumb_metrics_open(&m, dir, 1, 0, 0)); /* rank 1 must write nothing */
    append(m, 1);
    plumb_metrics_close(&m);
    CHECK(lines() == 3);
    CHECK_FAILS(plumb_metrics_open(&m, "/nonexistent", 0, 0, 0), PLUMB_ERR_IO, "/nonexistent");
}

static void test_console(void)
{
    struct plumb_metrics_row row = {.step = 7, .iteration = 2};
    struct plumb_buf a = {0}, b = {0};
    plumb_metrics_set(&row, PLUMB_METRIC_LOSS, 0.6931);
    plumb_metrics_set(&row, PLUMB_METRIC_LEARNING_RATE, 5e-5);
    plumb_metrics_set(&row, PLUMB_METRIC_SHARE_RANK, 0.25);
    plumb_metrics_set(&row, PLUMB_METRIC_TIME_SAVE, 3);
    plumb_metrics_set(&row, PLUMB_METRIC_REWARD, NAN);
    CHECK_OK(plumb_metrics_console(&a, &row, 96, 8));
    CHECKF(!strcmp(plumb_buf_text(&a), "step  7/96  it 2/8  loss   0.6931  lr 5.00e-05  "
                                       "reward  missing  rank%     25.0"),
           "%s", plumb_buf_text(&a));
    row.step = 12;
    plumb_metrics_set(&row, PLUMB_METRIC_LOSS, -1234567.0);
    plumb_metrics_set(&row, PLUMB_METRIC_LEARNING_RATE, 0);
    plumb_metrics_set(&row, PLUMB_METRIC_REWARD, -0.00001);
    plumb_metrics_set(&row, PLUMB_METRIC_SHARE_RANK, 1);
    CHECK_OK(plumb_metrics_console(&b, &row, 96, 8));
    CHECKF(a.len == b.len, "'%s' and '%s'", a.data, b.data);
    plumb_buf_clear(&a);
    CHECK_OK(plumb_metrics_console(&a, &(struct plumb_metrics_row){.step = 3}, 0, 0));
    CHECK(!strcmp(plumb_buf_text(&a), "step 3"));
    plumb_buf_clear(&a);
    row = (struct plumb_metrics_row){.step = 3, .weights = 0x0123456789abcdef};
    CHECK_OK(plumb_metrics_console(&a, &row, 0, 0));
    CHECK(!strcmp(plumb_buf_text(&a), "step 3  weights 01234567"));
    plumb_buf_fini(&a);
    plumb_buf_fini(&b);
}

/* Checks the names of metrics that other tools read. If TRL has the metric, the name is TRL's. */
static void test_names(void)
{
    static const char *const trl[] = {"loss",
                                      "grad_norm",
                                      "learning_rate",
                                      "reward",
                                      "reward_std",
                                      "rewards/margins",
                                      "kl",
                                      "objective/kl",
                                      "epoch",
                                      "num_tokens",
                                      "completions/mean_length",
                                      "completions/clipped_ratio",
                                      "psle/tau",
                                      "psle/share_rank"};
    for (size_t i = 0; i < sizeof(trl) / sizeof(trl[0]); i++) {
        int found = 0;
        for (int id = 0; id < PLUMB_METRIC_COUNT; id++)
            found += !strcmp(plumb_metric_info((enum plumb_metric)id)->name, trl[i]);
        CHECKF(found == 1, "%s", trl[i]);
    }
}

/* Checks that the fingerprint of the weights is written with 16 digits, including leading zeros,
 * and that a fingerprint of 0 is not written. */
static void test_weights(void)
{
    static const uint64_t weights[] = {0x00000000000000ff, 0xfedcba9876543210, 0};
    struct plumb_metrics_row *row = NULL;
    plumb_metrics *m = NULL;
    struct plumb_buf text = {0};
    int64_t n = 0;
    CHECK_OK(plumb_metrics_open(&m, dir, 0, 0, 0));
    for (int i = 0; i < 3; i++)
        CHECK_OK(plumb_metrics_write(
            m, &(struct plumb_metrics_row){.step = i + 1, .weights = weights[i]}));
    plumb_metrics_close(&m);
    CHECK_OK(plumb_file_read(&text, path));
    CHECK(strstr(text.data, "\"iteration\": 0, \"weights\": \"00000000000000ff\"}\n"));
    CHECK(strstr(text.data, "{\"step\": 3, \"iteration\": 0}\n"));
    CHECK_OK(plumb_metrics_read(&row, &n, path));
    CHECK(n == 3);
    for (int i = 0; i < 3; i++)
        CHECK(row[i].weights == weights[i]);
    free(row);
    plumb_buf_fini(&text);
}

int main(void)
{
    CHECK(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/metrics.jsonl", dir);
    test_file();
    test_console();
    test_names();
    test_weights();
    CHECK_OK(plumb_dir_remove(dir));
    return 0;
}
