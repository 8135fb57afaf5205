/* compare_page.c - writes the page of a comparison: runs, intervals, tables, curves over seeds.
 * Layer 6. Includes app/compare.h, base/, io/, report/. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/compare.h"
#include "base/log.h"
#include "base/num.h"
#include "eval/interval.h"
#include "io/file.h"

/* Largest number of methods whose curves are drawn in one panel. If there are more, each method has
 * its own panel. */
enum { TOGETHER = 4 };

/* ---- curves ------------------------------------------------------------------------------- */

/* Describes one curve. It shows metric `id`, and `other` in the lines of metrics that do not have
 * `id`. */
static const struct curve {
    enum plumb_metric id, other;
    const char *name, *title, *y_label;
    bool from_zero, log_y, percent;
} curves[] = {
    {.id = PLUMB_METRIC_REWARD_PLAIN,
     .other = PLUMB_METRIC_REWARD,
     .name = "reward",
     .title = "Reward, plain prompts",
     .y_label = "mean reward"},
    {.id = PLUMB_METRIC_EVAL_REWARD,
     .other = PLUMB_METRIC_EVAL_REWARD,
     .name = "eval_reward",
     .title = "Held-out reward",
     .y_label = "mean reward"},
    {.id = PLUMB_METRIC_KL,
     .other = PLUMB_METRIC_KL,
     .name = "kl",
     .title = "KL to the start",
     .y_label = "nats per completion",
     .from_zero = true,
     .log_y = true},
    {.id = PLUMB_METRIC_COMPLETION_LENGTH,
     .other = PLUMB_METRIC_COMPLETION_LENGTH,
     .name = "length",
     .title = "Completion length",
     .y_label = "tokens",
     .from_zero = true},
    {.id = PLUMB_METRIC_ENTROPY,
     .other = PLUMB_METRIC_ENTROPY,
     .name = "entropy",
     .title = "Entropy",
     .y_label = "nats per token",
     .from_zero = true},
    {.id = PLUMB_METRIC_REWARDS_ACCURACIES,
     .other = PLUMB_METRIC_REWARDS_ACCURACIES,
     .name = "accuracy",
     .title = "Pairs ordered rightly",
     .y_label = "share of pairs",
     .percent = true},
};
enum { CURVES = sizeof(curves) / sizeof(curves[0]) };

/* Returns the x coordinate of a line of metrics: its iteration, or its step if the run has no
 * iterations. */
static double place_of(const struct plumb_metrics_row *r)
{
    return (double)(r->iteration > 0 ? r->iteration : r->step);
}

/* Returns the value of curve c of run f at x: that of the last line of metrics at x that has a
 * value, or NaN if there is none. The x coordinates of the run's lines must not decrease. */
static double value_at(const struct plumb_run_results *f, const struct curve *c, double x)
{
    int64_t begin = 0, end = f->n_rows;
    double value = NAN;
    while (begin < end) {
        const int64_t middle = begin + (end - begin) / 2;
        if (place_of(&f->row[middle]) < x)
            begin = middle + 1;
        else
            end = middle;
    }
    for (; begin < f->n_rows && place_of(&f->row[begin]) == x; begin++) {
        const struct plumb_metrics_row *r = &f->row[begin];
        const enum plumb_metric id = r->set[c->id] ? c->id : c->other;
        if (r->set[id])
            value = r->value[id];
    }
    return value;
}

/* Fills one point for each different x of the lines of metrics of the group's first run: y is the
 * mean of the curve over the group's runs, lo and hi the ends of the mean's 95 % interval (NaN for
 * one run). Returns the number of points. */
static int64_t draw(double *x, double *y, double *lo, double *hi,
                    const struct plumb_compare_group *g, const struct curve *c)
{
    int64_t n = 0;
    for (int64_t i = 0; i < g->run[0]->n_rows; i++) {
        const double at = place_of(&g->run[0]->row[i]);
        struct plumb_moments m = {0};
        for (int64_t k = 0; k < g->n; k++) {
            const double v = value_at(g->run[k], c, at);
            if (isfinite(v))
                plumb_moments_add(&m, v);
        }
        if (!m.count || (n > 0 && x[n - 1] >= at))
            continue;
        const double variance = m.count > 1 ? m.m2 / (double)(m.count - 1) : NAN;
        /* half is NaN for one value, so that no band is drawn */
        const double half = plumb_t_half_width(variance, m.count);
        x[n] = at;
        y[n] = m.mean;
        lo[n] = m.mean - half;
        hi[n++] = m.mean + half;
    }
    return n;
}

/* Fills plot (CURVES,) with one chart for each curve that at least one run has, and adds the number
 * of charts to *n_plots. *room becomes the memory of the charts' points; the caller frees it. */
static plumb_status draw_all(const struct plumb_compare *c, struct plumb_plot *plot,
                             int64_t *n_plots, double **room)
{
    int64_t rows = 1;
    for (int64_t i = 0; i < c->n; i++)
        rows = plumb_max_i64(rows, c->run[i].n_rows);
    const int64_t series = plumb_min_i64(c->groups, PLUMB_PLOT_SERIES);
    double *at = malloc((size_t)(CURVES * series * 4 * rows) * sizeof(*at));
    *room = at;
    PLUMB_REQUIRE(at, PLUMB_ERR_NOMEM, "curves of %lld runs", (long long)c->n);
    for (int i = 0; i < CURVES; i++) {
        struct plumb_plot *p = &plot[*n_plots];
        *p = (struct plumb_plot){.title = curves[i].title,
                                 .x_label = c->run[0].n_rows && c->run[0].row[0].iteration > 0
                                                ? "iteration"
                                                : "optimizer step",
                                 .y_label = curves[i].y_label,
                                 .from_zero = curves[i].from_zero,
                                 .log_y = curves[i].log_y,
                                 .percent = curves[i].percent,
                                 .panels = c->groups > TOGETHER ? curves[i].name : NULL};
        for (int64_t k = 0; k < series; k++, at += 4 * rows) {
            double *x = at, *y = x + rows, *lo = y + rows, *hi = lo + rows;
            const int64_t n = draw(x, y, lo, hi, &c->group[k], &curves[i]);
            if (n > 0)
                p->series[p->n_series++] = (struct plumb_plot_series){
                    .label = c->group[k].name, .n = n, .x = x, .y = y, .lo = lo, .hi = hi};
        }
        *n_plots += p->n_series > 0;
    }
    return PLUMB_OK;
}

/* ---- intervals ---------------------------------------------------------------------------- */

static const struct end {
    enum plumb_figure id;
    const char *title, *unit;
} at_end[] = {
    {PLUMB_FIGURE_REWARD, "Held-out reward", "mean reward"},
    {PLUMB_FIGURE_LC_WIN_RATE, "Length-controlled win rate",
     "% of answers, against the first model's"},
    {PLUMB_FIGURE_KL, "KL to the start", "nats per answer"},
    {PLUMB_FIGURE_LENGTH, "Length", "tokens per answer"},
};
enum { AT_END = sizeof(at_end) / sizeof(at_end[0]) };

/* Fills *f with a plot of result end->id, with one row for each group of runs. Stores the rows in
 * row (groups,), and the results of the single runs in value (runs,). Returns true if a group has
 * this result. */
static bool line_up(struct plumb_forest *f, struct plumb_forest_row *row, double *value,
                    const struct plumb_compare *c, const struct end *end)
{
    const enum plumb_figure id = end->id;
    const struct plumb_figure_info *info = plumb_figure_info(id);
    const struct plumb_compare_mean start = plumb_compare_figure(&c->group[0], id, true);
    bool any = false;
    for (int64_t k = 0; k < c->groups; k++) {
        const struct plumb_compare_group *g = &c->group[k];
        const struct plumb_compare_mean m = plumb_compare_figure(g, id, false);
        const double half = isfinite(m.half_width) ? m.half_width : 0;
        for (int64_t i = 0; i < g->n; i++)
            value[i] = info->factor * g->run[i]->own.figure[id];
        row[k] = (struct plumb_forest_row){.label = g->name,
                                           .mean = info->factor * m.mean,
                                           .lo = info->factor * (m.mean - half),
                                           .hi = info->factor * (m.mean + half),
                                           .value = value,
                                           .n = g->n};
        value += g->n;
        any = any || m.n > 0;
    }
    *f = (struct plumb_forest){.title = end->title,
                               .x_label = end->unit,
                               .most = info->factor == 100 ? 100 : INFINITY,
                               .row = row,
                               .n_rows = c->groups,
                               .start = info->factor * start.mean};
    return any;
}

/* Fills forest (AT_END,) with a plot for each result of at_end[] that a group has, and adds the
 * number of plots to *n. The caller frees *rows and *values, to which the plots point. */
static plumb_status line_up_all(const struct plumb_compare *c, struct plumb_forest *forest,
                                int64_t *n, struct plumb_forest_row **rows, double **values)
{
    *rows = calloc((size_t)(AT_END * c->groups), sizeof(**rows));
    *values = calloc((size_t)(AT_END * c->n), sizeof(**values));
    PLUMB_REQUIRE(*rows && *values, PLUMB_ERR_NOMEM, "intervals of %lld runs", (long long)c->n);
    for (int i = 0; i < AT_END; i++)
        *n += line_up(&forest[*n], *rows + *n * c->groups, *values + *n * c->n, c, &at_end[i]);
    return PLUMB_OK;
}

/* ---- the page ----------------------------------------------------------------------------- */

/* Returns the commit of plumb with which all runs were made, or "several" if they differ. */
static const char *commit_of(const struct plumb_compare *c)
{
    for (int64_t i = 1; i < c->n; i++)
        if (strcmp(c->run[i].commit, c->run[0].commit) != 0)
            return "several, see Runs";
    return *c->run[0].commit ? c->run[0].commit : "unknown";
}

static plumb_status write(const struct plumb_compare *c, struct plumb_report *report)
{
    const struct plumb_run_results *r = &c->run[0];
    const struct plumb_config *cfg = r->cfg;
    char path[4096], subtitle[96], budget[128], start[4200], reward[4200];
    const bool align = strcmp(r->command, "align") == 0;
    snprintf(subtitle, sizeof(subtitle), "%lld method%s or setting%s, %lld run%s",
             (long long)c->groups, plumb_plural(c->groups), plumb_plural(c->groups),
             (long long)c->n, plumb_plural(c->n));
    snprintf(start, sizeof(start), "%.4096s, fingerprint %016" PRIx64, cfg->model, r->start);
    snprintf(reward, sizeof(reward), "%.4096s",
             *cfg->reward.model     ? cfg->reward.model
             : *cfg->reward.command ? cfg->reward.command
                                    : "built-in functions");
    if (align && cfg->train.generated_tokens > 0)
        snprintf(budget, sizeof(budget), "%lld generated tokens",
                 (long long)cfg->train.generated_tokens);
    else if (align)
        snprintf(budget, sizeof(budget),
                 "%lld iteration%s x %lld prompts x %lld answers of <= %lld tokens",
                 (long long)cfg->train.iterations, plumb_plural(cfg->train.iterations),
                 (long long)cfg->train.prompts_per_iteration, (long long)cfg->generate.group_size,
                 (long long)cfg->generate.max_new_tokens);
    else
        snprintf(budget, sizeof(budget), "%lld epoch%s", (long long)cfg->train.epochs,
                 plumb_plural(cfg->train.epochs));
    const struct plumb_report_field field[] = {
        {"start", start},
        {align ? "prompts" : "pairs", align ? cfg->data.prompts : cfg->data.train},
        {"budget of a run", budget},
        {"reward", align ? reward : "none"},
        {"evaluation", *r->evaluation ? r->evaluation : "none"},
        {"commit of the runs", commit_of(c)},
    };
    report->title = "Methods compared";
    report->subtitle = subtitle;
    report->field = field;
    report->n_fields = sizeof(field) / sizeof(field[0]);
    struct plumb_buf yaml = {0};
    PLUMB_TRY(plumb_path_join(path, sizeof(path), c->cfg->output_dir, "report.html"));
    plumb_status st = plumb_buf_addf(&yaml, "# of %s\n", r->dir);
    if (st == PLUMB_OK)
        st = plumb_config_to_yaml(&yaml, cfg, r->command);
    report->configuration = plumb_buf_text(&yaml);
    if (st == PLUMB_OK)
        st = plumb_report_write(path, report);
    plumb_buf_fini(&yaml);
    return st;
}

plumb_status plumb_compare_page(const struct plumb_compare *c, const struct plumb_table *table,
                                int64_t n_tables)
{
    struct plumb_report_table shown[PLUMB_COMPARE_TABLES];
    struct plumb_plot plot[CURVES] = {0};
    struct plumb_forest forest[AT_END];
    struct plumb_forest_row *rows = NULL;
    double *room = NULL, *values = NULL;
    int64_t n_plots = 0, n_forests = 0;
    plumb_status st = PLUMB_OK;
    for (int64_t i = 0; i < n_tables; i++)
        shown[i] = plumb_table_report(&table[i]);
    PLUMB_TRY_GOTO(st, draw_all(c, plot, &n_plots, &room), done);
    PLUMB_TRY_GOTO(st, line_up_all(c, forest, &n_forests, &rows, &values), done);
    struct plumb_report report = {.forest = forest,
                                  .n_forests = n_forests,
                                  .table = shown,
                                  .n_tables = n_tables,
                                  .plot = plot,
                                  .n_plots = n_plots,
                                  .note = "Lines and dots are means over seeds, rings the seeds; "
                                          "bands and bars are 95 % intervals of the mean "
                                          "(Student's t), cut where they leave a picture."};
    st = write(c, &report);
done:
    free(rows);
    free(values);
    free(room);
    return st;
}
