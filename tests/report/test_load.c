/* test_load.c - checks load.jsonl: its lines, which line is the newest, damaged lines, and which
 * lines a resumed run keeps.
 * Test. Includes harness.h, io/, report/. */
#include "report/load.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "harness.h"
#include "io/file.h"
#include "report/metrics.h"

static char dir[] = "/tmp/plumb_load_XXXXXX";
static char path[64];

static void raw(const char *mode, const char *text)
{
    FILE *f = fopen(path, mode);
    CHECK(f && fputs(text, f) >= 0 && !fclose(f));
}

/* Checks that the newest line is that of this iteration; 0 means that there is no line. */
static void check_newest(int64_t iteration)
{
    struct plumb_load_line got;
    CHECK_OK(plumb_load_newest(&got, dir));
    CHECKF(got.ranks == (iteration ? 3 : 0) && got.iteration == iteration, "%lld ranks, %lld",
           (long long)got.ranks, (long long)got.iteration);
    for (int64_t i = 0; i < got.ranks * PLUMB_LOAD_COUNT; i++)
        CHECK(got.value[i] == (double)(i % PLUMB_LOAD_COUNT < PLUMB_LOAD_PHASES ? 0.25 : 7 * i));
    free(got.value);
}

int main(void)
{
    double value[3 * PLUMB_LOAD_COUNT];
    static const int32_t made_by[] = {2, -1, 0, 1};
    struct plumb_load_line line = {.ranks = 3, .value = value};
    CHECK(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/load.jsonl", dir);
    check_newest(0);
    for (int i = 0; i < 3 * PLUMB_LOAD_COUNT; i++)
        value[i] = i % PLUMB_LOAD_COUNT < PLUMB_LOAD_PHASES ? 0.25 : 7 * i;
    for (line.iteration = 1; line.iteration <= 3; line.iteration++) {
        line.step = 2 * line.iteration;
        line.made_by = line.iteration == 2 ? made_by : NULL;
        line.prompts = line.iteration == 2 ? 4 : 0;
        CHECK_OK(plumb_load_write(dir, &line));
        check_newest(line.iteration);
    }
    struct plumb_buf text = {0};
    CHECK_OK(plumb_file_read(&text, path));
    const char *found = strstr(plumb_buf_text(&text), "\"rollout/made_by\": [2, -1, 0, 1]}\n{");
    CHECK(found && !strstr(found + 16, "made_by"));
    plumb_buf_fini(&text);
    raw("a", "{\"step\": 8, \"iter"); /* the writer was killed within a line */
    check_newest(3);

    /* Opening the metrics also shortens load.jsonl. */
    plumb_metrics *m = NULL;
    CHECK_OK(plumb_metrics_open(&m, dir, 1, 0, 0)); /* rank 1 changes no file */
    plumb_metrics_close(&m);
    check_newest(3);
    char metrics[80];
    snprintf(metrics, sizeof(metrics), "%s/metrics.jsonl", dir);
    static const char rows[] = "{\"step\": 2, \"iteration\": 1}\n{\"step\": 4, \"iteration\": 2}\n";
    CHECK_OK(plumb_file_write_atomic(metrics, rows, sizeof(rows) - 1));
    CHECK_OK(plumb_metrics_open(&m, dir, 0, 4, 2));
    plumb_metrics_close(&m);
    check_newest(2);
    CHECK_OK(plumb_metrics_open(&m, dir, 0, 0, 0)); /* a new run, which removes the lines */
    plumb_metrics_close(&m);
    check_newest(0);
    CHECK(!plumb_file_exists(path));

    /* Checks mean, maximum and the rank with the maximum. */
    for (int rank = 0; rank < 3; rank++)
        value[rank * PLUMB_LOAD_COUNT + PLUMB_LOAD_TOKENS] = rank == 1 ? 60 : 30;
    const struct plumb_load_spread s = plumb_load_spread(&line, PLUMB_LOAD_TOKENS);
    CHECK(fabs(s.mean - 40) < 1e-12 && s.most == 60 && s.who == 1);

    struct plumb_load_line got;
    raw("w", "{\"step\": 8, \"iteration\": 1, \"idle/rollout\": [1, 2], \"idle/reward\": [1]}\n");
    CHECK_FAILS(plumb_load_newest(&got, dir), PLUMB_ERR_FORMAT, "\"idle/reward\": found 1 values");
    CHECK(got.value == NULL && got.ranks == 0);
    raw("w", "{\"step\": 8, \"iteration\": 1}\n");
    CHECK_FAILS(plumb_load_newest(&got, dir), PLUMB_ERR_FORMAT, "idle/rollout");
    raw("w", "rubbish\n");
    CHECK_FAILS(plumb_load_newest(&got, dir), PLUMB_ERR_FORMAT, "load.jsonl");
    raw("w", "");
    check_newest(0);
    CHECK_OK(plumb_dir_remove(dir));
    return 0;
}
