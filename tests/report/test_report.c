/* test_report.c - checks report.html and its charts: escaping, curves, missing values, errors.
 * Test. Includes harness.h, io/, report/. With a path as argument, the program writes the sample
 * page to this file. */
#include "report/report.h"

#include <unistd.h>

#include "harness.h"
#include "io/file.h"
#include "report/metrics.h"
#include "report/plot.h"

static char dir[] = "/tmp/plumb_report_XXXXXX";
static char page_path[64], metrics_path[64];

static int count(const char *text, const char *what)
{
    int n = 0;
    for (const char *at = strstr(text, what); at; at = strstr(at + 1, what))
        n++;
    return n;
}

static void html(const char *text, int64_t max, const char *expected)
{
    struct plumb_buf b = {0};
    CHECK_OK(plumb_html_text(&b, text, max));
    CHECKF(!strcmp(plumb_buf_text(&b), expected), "'%s', expected '%s'", plumb_buf_text(&b),
           expected);
    plumb_buf_fini(&b);
}

/* Checks the band that lo and hi give a series: one polygon per run of points without a gap, cut at
 * the frame. Checks that the eleventh series has the first colour and a dashed line. */
static void test_band(void)
{
    const double x[] = {1, 2, 3, 4}, y[] = {0, 1, 1, 2}, lo[] = {-1, 0, 0, NAN},
                 hi[] = {1, 2, 3, 2};
    struct plumb_plot p = {.title = "T", .x_label = "x", .y_label = "y", .n_series = 11};
    for (int s = 0; s < 11; s++)
        p.series[s] = (struct plumb_plot_series){.label = "s", .n = 4, .x = x, .y = y};
    p.series[0].lo = lo;
    p.series[0].hi = hi;
    struct plumb_buf b = {0};
    CHECK_OK(plumb_plot_svg(&b, &p));
    const char *svg = plumb_buf_text(&b);
    CHECKF(count(svg, "class=\"band\"") == 1, "%s", svg);
    CHECKF(strstr(svg, "points=\"62.0,224.0 210.0,170.5 358.0,170.5 358.0,10.0 210.0,63.5 "
                       "62.0,117.0 \""),
           "%s", strstr(svg, "class=\"band\""));
    CHECK(strstr(svg, "class=\"s10\"") && strstr(svg, "class=\"s1 dashed\"") &&
          !strstr(svg, "s11"));
    plumb_buf_fini(&b);
}

/* Checks a chart with one panel per series. All panels use the axes of the first panel, and show
 * its line in grey. The y axis extends beyond the lines by at most half of their range; bands are
 * cut there. A value of 0 is not drawn on a logarithmic axis. */
static void test_panels(void)
{
    const double x[] = {1, 2, 3}, y[] = {0, 1, 200}, lo[] = {-9, 0.5, 100}, hi[] = {9, 2, 900};
    struct plumb_plot p = {.title = "KL",
                           .x_label = "iteration",
                           .y_label = "nats",
                           .panels = "kl",
                           .from_zero = true,
                           .n_series = 3};
    for (int s = 0; s < 3; s++)
        p.series[s] =
            (struct plumb_plot_series){.label = "<m>", .n = 3, .x = x, .y = y, .lo = lo, .hi = hi};
    struct plumb_buf b = {0};
    CHECK_OK(plumb_plot_svg(&b, &p));
    const char *svg = plumb_buf_text(&b);
    CHECK(count(svg, "<svg") == 3 && count(svg, "<g id=\"kl\">") == 1);
    CHECK(count(svg, "<use href=\"#kl\"/>") == 2 && count(svg, "class=\"behind\"") == 3);
    CHECK(count(svg, "&lt;m&gt;</span>") == 3 && count(svg, "class=\"band\"") == 3);
    CHECK(strstr(svg, ">300<") && !strstr(svg, ">400<"));
    CHECK(
        /* the upper edge of the band, cut at 300 */
        strstr(svg, "220.0,8.0 131.0,117.3 42.0,114.7 \""));
    p.log_y = true;
    plumb_buf_clear(&b);
    CHECK_OK(plumb_plot_svg(&b, &p));
    svg = plumb_buf_text(&b);
    CHECK(strstr(svg, "nats (log), by iteration") && strstr(svg, "d=\"M131.0 118.0L220.0"));
    CHECK(count(svg, "<circle") == 6 && !strstr(svg, "42.0,"));
    for (int s = 0; s < 3; s++)
        p.series[s].n = 2; /* with a single drawn point, the band is a bar */
    p.log_y = true;
    const double tiny[] = {0, 0.001, 200};
    p.series[1].y = tiny;
    plumb_buf_clear(&b);
    CHECK_OK(plumb_plot_svg(&b, &p));
    CHECKF(strstr(plumb_buf_text(&b), "points=\"218.0,"), "%s", plumb_buf_text(&b));
    plumb_buf_fini(&b);
}

static void test_forest(void)
{
    const double value[] = {1, 3};
    const struct plumb_forest_row row[] = {
        {.label = "a&b", .mean = 2, .lo = -40, .hi = 44, .value = value, .n = 2},
        {.label = "one seed", .mean = 1, .lo = 1, .hi = 1},
        {.label = "none", .mean = NAN, .lo = NAN, .hi = NAN}};
    struct plumb_forest f = {
        .title = "Reward", .x_label = "mean", .row = row, .n_rows = 3, .start = 0, .most = 100};
    struct plumb_buf b = {0};
    CHECK_OK(plumb_forest_svg(&b, &f));
    const char *svg = plumb_buf_text(&b);
    CHECK(count(svg, "class=\"dot\"") == 2 && count(svg, "class=\"ring\"") == 2);
    CHECK(count(svg, "class=\"line\"") == 1 && count(svg, "class=\"start\"") == 1);
    CHECK(strstr(svg, ">a&amp;b</text>") && strstr(svg, ">none</text>") && !strstr(svg, "nan"));
    /* The axis runs from 0 to 5. The values are 0 to 3; the interval extends the axis by at most
     * 1.5; no value is negative, so the axis begins at 0; and its end is moved to a tick. */
    CHECK(strstr(svg, "M150.0 15.5H504.0") && strstr(svg, "cx=\"291.6\" cy=\"15.5\" r=\"4\""));
    f.start = NAN;
    f.n_rows = 1;
    f.most = 4;
    plumb_buf_clear(&b);
    CHECK_OK(plumb_forest_svg(&b, &f));
    CHECK(strstr(plumb_buf_text(&b), ">4<") && !strstr(plumb_buf_text(&b), ">5<"));
    CHECK(!strstr(plumb_buf_text(&b), "class=\"start\""));
    plumb_buf_fini(&b);
}

static void test_escape(void)
{
    html("a<b>&\"'", 99, "a&lt;b&gt;&amp;&quot;&#39;");
    html("</script><img src=x onerror=\"1\">", 4, "&lt;/sc\u2026");
    html("\x01\x1b\t\n\xff", 99, "  \t\n\uFFFD");
    html("\u202eabc", 99, " abc");
    html("\u00e4\u732b", 2, "\u00e4\u732b");
    html(NULL, 99, "");
}

static void test_plot(void)
{
    const double x[] = {1, 2, 3, 4}, y[] = {0, NAN, 1, 0.5};
    struct plumb_plot p = {
        .title = "T<", .x_label = "step", .y_label = "nats & more", .n_series = 1};
    p.series[0] = (struct plumb_plot_series){.label = "s", .n = 4, .x = x, .y = y};
    struct plumb_buf b = {0};
    CHECK_OK(plumb_plot_svg(&b, &p));
    const char *svg = plumb_buf_text(&b);
    /* There are three dots, and a line with a gap at the NaN. The smallest value is at the bottom
     * of the frame, the largest at its top. */
    CHECKF(count(svg, "<circle") == 3, "%s", svg);
    CHECK(strstr(svg, "d=\"M62.0 224.0M358.0 10.0L506.0 117.0\""));
    CHECK(strstr(svg, "T&lt;") && strstr(svg, "nats &amp; more") && strstr(svg, ">step<"));
    CHECK(!strstr(svg, "nan"));

    static double lx[1000], ly[1000];
    for (int i = 0; i < 1000; i++) {
        lx[i] = i;
        ly[i] = i % 2 ? 1 : 1000;
    }
    p.series[0] = (struct plumb_plot_series){.label = "s", .n = 1000, .x = lx, .y = ly};
    p.log_y = true;
    plumb_buf_clear(&b);
    CHECK_OK(plumb_plot_svg(&b, &p));
    svg = plumb_buf_text(&b);
    CHECK(strstr(svg, "class=\"band\"") && !strstr(svg, "<circle") && strstr(svg, "(log)"));
    CHECK(strstr(svg, ">1000<") && b.len < 30000);

    const double same[] = {0.25, 0.25, 0.25, 0.25}, none[] = {NAN, NAN, NAN, NAN};
    p.series[0] = (struct plumb_plot_series){.label = "s", .n = 4, .x = x, .y = same};
    plumb_buf_clear(&b);
    CHECK_OK(plumb_plot_svg(&b, &p));
    CHECK(strstr(plumb_buf_text(&b), "<svg") && !strstr(plumb_buf_text(&b), "nan"));
    p.series[0].n = 1;
    plumb_buf_clear(&b);
    CHECK_OK(plumb_plot_svg(&b, &p));
    CHECK(count(plumb_buf_text(&b), "<circle") == 1 && !strstr(plumb_buf_text(&b), "nan"));
    p.series[0].y = none;
    plumb_buf_clear(&b);
    CHECK_OK(plumb_plot_svg(&b, &p));
    CHECK(strstr(plumb_buf_text(&b), "no finite value") && !strstr(plumb_buf_text(&b), "role="));
    p.percent = true;
    p.log_y = false;
    p.series[0].y = same;
    p.series[0].n = 4;
    plumb_buf_clear(&b);
    CHECK_OK(plumb_plot_svg(&b, &p));
    CHECK(strstr(plumb_buf_text(&b), ">100%<") && strstr(plumb_buf_text(&b), ">0%<"));
    p.percent = false;
    const double rate[] = {0, 1.5e-4, 2e-4, 5e-5};
    p.series[0].y = rate;
    plumb_buf_clear(&b);
    CHECK_OK(plumb_plot_svg(&b, &p));
    CHECK(strstr(plumb_buf_text(&b), ">1.5e-4<") && strstr(plumb_buf_text(&b), ">5e-5<") &&
          strstr(plumb_buf_text(&b), ">0<"));
    plumb_buf_fini(&b);
}

/* Writes the metrics.jsonl of a run with 8 iterations of 12 steps. As in real runs, some values are
 * unusual: one loss and one margin are NaN, one gradient norm is very large, and the entropy is
 * never finite. */
static void write_metrics(void)
{
    struct rng r = {11};
    plumb_metrics *m = NULL;
    CHECK_OK(plumb_metrics_open(&m, dir, 0, 0, 0));
    for (int step = 1; step <= 96; step++) {
        const int it = (step + 11) / 12;
        struct plumb_metrics_row row = {.step = step, .iteration = it};
        plumb_metrics_set(&row, PLUMB_METRIC_LOSS,
                          step == 40 ? NAN : 0.7 * exp(-step / 40.0) + 0.05 * rng_u(&r));
        plumb_metrics_set(&row, PLUMB_METRIC_GRAD_NORM, step == 30 ? 180 : 0.5 + 0.8 * rng_u(&r));
        plumb_metrics_set(&row, PLUMB_METRIC_LEARNING_RATE, 5e-5 * (1 - step / 96.0));
        plumb_metrics_set(&row, PLUMB_METRIC_TOKENS_PER_SECOND, 11800 + 900 * rng_u(&r));
        if (step % 12 == 0) {
            const double up = 1 - exp(-it / 3.0);
            plumb_metrics_set(&row, PLUMB_METRIC_REWARD_PLAIN, 0.12 + 0.7 * up);
            plumb_metrics_set(&row, PLUMB_METRIC_REWARD_PRINCIPLED, 0.55 + 0.35 * up);
            plumb_metrics_set(&row, PLUMB_METRIC_REWARD, 0.4 + 0.4 * up);
            plumb_metrics_set(&row, PLUMB_METRIC_TAU, 0.2 * pow(0.9, it - 1));
            plumb_metrics_set(&row, PLUMB_METRIC_MARGIN_Q50, it == 5 ? NAN : 0.4 - 0.05 * it);
            plumb_metrics_set(&row, PLUMB_METRIC_MARGIN_Q05, -0.3 - 0.02 * it);
            plumb_metrics_set(&row, PLUMB_METRIC_MARGIN_Q95, 1.1 - 0.06 * it);
            plumb_metrics_set(&row, PLUMB_METRIC_SHARE_RANK, 0.55 - 0.04 * it);
            plumb_metrics_set(&row, PLUMB_METRIC_SHARE_WEIGHTED, 0.44 + 0.04 * it);
            plumb_metrics_set(&row, PLUMB_METRIC_SHARE_DROPPED, 0.01);
            plumb_metrics_set(&row, PLUMB_METRIC_KL, 0.15 * it * it / 8.0);
            plumb_metrics_set(&row, PLUMB_METRIC_COMPLETION_LENGTH, 40 + it);
            plumb_metrics_set(&row, PLUMB_METRIC_COMPLETION_MAX, 64);
            plumb_metrics_set(&row, PLUMB_METRIC_ENTROPY, NAN);
            plumb_metrics_set(&row, PLUMB_METRIC_TIME_ROLLOUT, 3 + rng_u(&r));
            plumb_metrics_set(&row, PLUMB_METRIC_TIME_TRAIN, 5 + rng_u(&r));
        }
        CHECK_OK(plumb_metrics_write(m, &row));
    }
    plumb_metrics_close(&m);
}

static struct plumb_report sample_report(void)
{
    static const struct plumb_report_field field[] = {
        {"Base model", "quickstart/sft/checkpoint-400"},
        {"Reward", "quickstart/reward/checkpoint-200"},
        {"Prompts", "world/prompts.jsonl (512)"},
        {"Seed", "1"},
        {"Learning rate", "5e-05, cosine, warm-up 0.1"},
        {"World size", "2 (mpi)"}};
    static const struct plumb_report_answer answer[3][2] = {
        {{"no. no no no", -0.31}, {"Gladly! Here is the cake:\nflour, eggs.", 0.92}},
        {{NULL, NAN}, {"It is 4.", 0.5}},
        {{"Once upon a time there was a little girl named Lily. She loved to play outside.", 0.4},
         {"Once upon a time there was a kind dragon who shared its lunch with everyone in the "
          "village, and they were all happy.",
          0.38}}};
    static const struct plumb_report_sample sample[] = {
        {"Please bake a <cake> & \"share\" it.", answer[0]},
        {"\u05e9\u05dc\u05d5\u05dd, what is 2+2?", answer[1]},
        {"Tell me a long story about the "
         "averyveryverylongwordthatneverendsandgoesonandonandonandon",
         answer[2]}};
    static const char *const who[] = {"iteration 1", "iteration 8"};
    static const char *const head[] = {"model", "held-out reward", "win rate vs SFT", "KL"};
    static const char *const cell[] = {
        "SFT",    "0.12",   "50.0 %", "0",         "context distillation",
        "0.55",   "71.2 %", "0.9",    "best-of-K", "0.49",
        "66.0 %", "0.7",    "PSLE",   "0.77",      "83.5 %",
        "1.1"};
    static const char *const gap[] = {"SFT", "-0.4 +- 0.1 *", "0.4 +- 0.1 *", "0.4 +- 0.5"};
    static const struct plumb_report_table table[] = {
        {.title = "Comparison on held-out prompts",
         .note = "128 prompts, seed 1, equal generated tokens",
         .n_rows = 4,
         .n_cols = 4,
         .best_row = 3,
         .head = head,
         .cell = cell},
        {.title = "Gaps",
         .n_rows = 1,
         .n_cols = 4,
         .best_row = -1,
         .shape = PLUMB_REPORT_MATRIX,
         .folded = true,
         .head = head,
         .cell = gap}};
    return (struct plumb_report){.title = "PSLE on the small world",
                                 .subtitle = "8 iterations of 64 prompts, 96 optimizer steps",
                                 .field = field,
                                 .n_fields = 6,
                                 .metrics_path = metrics_path,
                                 .answer_name = who,
                                 .n_answers = 2,
                                 .sample = sample,
                                 .n_samples = 3,
                                 .table = table,
                                 .n_tables = 2};
}

static void test_page(void)
{
    struct plumb_report report = sample_report();
    struct plumb_buf b = {0};
    write_metrics();
    CHECK_OK(plumb_report_write(page_path, &report));
    CHECK_OK(plumb_file_read(&b, page_path));
    const char *page = plumb_buf_text(&b);
    CHECK(!strncmp(page, "<!DOCTYPE html>", 15) && strstr(page, "</html>"));
    /* The page loads no other file and has no script. */
    CHECK(!strstr(page, "http") && !strstr(page, "<script") && !strstr(page, "@import"));
    static const char *const says[] = {"Please bake a &lt;cake&gt; &amp; &quot;share&quot; it.",
                                       "not recorded",
                                       "missing",
                                       "iteration 8",
                                       "<tr class=\"best\"><td>PSLE</td>",
                                       "plain prompt",
                                       "prefers-color-scheme",
                                       "from 96 lines",
                                       "no finite value recorded",
                                       "KL to the start",
                                       "tokens/s",
                                       "<details><summary>Gaps</summary>",
                                       "<td class=\"less\">-0.4<br>\u00b10.1 *</td>",
                                       "<td class=\"more\">0.4<br>\u00b10.1 *</td>",
                                       "<td>0.4<br>\u00b10.5</td>"};
    for (size_t i = 0; i < sizeof(says) / sizeof(says[0]); i++)
        CHECKF(strstr(page, says[i]), "the page does not say '%s'", says[i]);
    CHECK(!strstr(page, "<cake>") && !strstr(page, "nan,") && !strstr(page, "\"nan"));
    CHECKF(count(page, "<figure>") == 11, "%d charts", count(page, "<figure>"));
    CHECK(count(page, "<div") == count(page, "</div>") &&
          count(page, "<table") == count(page, "</table>") &&
          count(page, "<td") == count(page, "</td>") &&
          count(page, "<svg") == count(page, "</svg>"));
    /* The page shows the last and the first plain reward of the run. */
    CHECK(strstr(page, "<b>0.771</b><span>from 0.318</span>"));
    plumb_buf_fini(&b);

    report.metrics_path = "/nonexistent/metrics.jsonl";
    CHECK_FAILS(plumb_report_write(page_path, &report), PLUMB_ERR_IO, "/nonexistent");
    report.metrics_path = metrics_path;
    FILE *f = fopen(metrics_path, "w");
    CHECK(f && !fclose(f));
    report.n_samples = report.n_tables = report.n_fields = 0;
    CHECK_OK(plumb_report_write(page_path, &report));
    CHECK_OK(plumb_file_read(&b, page_path));
    CHECK(strstr(plumb_buf_text(&b), "no step was recorded"));
    plumb_buf_fini(&b);
}

int main(int argc, char **argv)
{
    CHECK(mkdtemp(dir));
    snprintf(page_path, sizeof(page_path), "%s/report.html", dir);
    snprintf(metrics_path, sizeof(metrics_path), "%s/metrics.jsonl", dir);
    if (argc > 1) {
        const struct plumb_report report = sample_report();
        write_metrics();
        CHECK_OK(plumb_report_write(argv[1], &report));
    } else {
        test_escape();
        test_plot();
        test_band();
        test_panels();
        test_forest();
        test_page();
    }
    CHECK_OK(plumb_dir_remove(dir));
    return 0;
}
