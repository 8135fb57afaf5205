/* compare_write.c - figures over seeds as tables, Markdown, JSON and a page with curves.
 * Layer 6. Includes app/compare.h, base/, io/, train/. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/compare.h"
#include "base/num.h"
#include "io/file.h"
#include "io/json.h"
#include "train/interval.h"
#include "train/table.h"

/* Widest table of differences that the console shows. */
enum { CONSOLE_GROUPS = 6 };

static const char mean_note[] = "Mean over seeds +- half of the 95 % interval of that mean "
                                "(Student's t); one seed has no interval.";
static const char paired_note[] =
    "Held-out reward, row minus column: mean over the seeds that both have +- half of the 95 % "
    "interval of that mean.";

/* ---- tables ------------------------------------------------------------------------------- */

static plumb_status add_mean(struct plumb_table *t, const struct plumb_compare_mean *m,
                             double factor, int decimals)
{
    if (!isfinite(m->half_width))
        return plumb_table_add_real(t, factor * m->mean, decimals, "");
    return plumb_table_add(t, "%.*f +- %.*f", decimals, factor * m->mean, decimals,
                           factor * m->half_width);
}

static plumb_status add_row(struct plumb_table *t, const struct plumb_compare_group *g, bool first)
{
    PLUMB_TRY(plumb_table_add(t, "%s", first ? g->run[0]->first.name : g->name));
    PLUMB_TRY(plumb_table_add_real(t, first ? NAN : (double)g->n, 0, ""));
    for (int i = 0; i < PLUMB_FIGURE_COUNT; i++) {
        const struct plumb_figure_info *info = plumb_figure_info((enum plumb_figure)i);
        const struct plumb_compare_mean m = plumb_compare_figure(g, (enum plumb_figure)i, first);
        PLUMB_TRY(add_mean(t, &m, info->factor, info->decimals));
    }
    return PLUMB_OK;
}

/* The model that wins were counted against, if all evaluations name the same. */
static bool has_baseline(const struct plumb_compare *c)
{
    for (int64_t i = 0; i < c->n; i++)
        if (!*c->run[i].first.name || strcmp(c->run[i].first.name, c->run[0].first.name) != 0)
            return false;
    return true;
}

static plumb_status fill_methods(struct plumb_table *t, const struct plumb_compare *c)
{
    double best = -INFINITY;
    t->cols = 2 + PLUMB_FIGURE_COUNT;
    PLUMB_TRY(plumb_table_add(t, "method"));
    PLUMB_TRY(plumb_table_add(t, "seeds"));
    for (int i = 0; i < PLUMB_FIGURE_COUNT; i++)
        PLUMB_TRY(plumb_table_add(t, "%s", plumb_figure_info((enum plumb_figure)i)->head));
    if (has_baseline(c))
        PLUMB_TRY(add_row(t, &c->group[0], true));
    for (int64_t k = 0; k < c->groups; k++) {
        const enum plumb_figure by =
            c->run[0].evaluated ? PLUMB_FIGURE_REWARD : PLUMB_FIGURE_LAST_REWARD;
        const double mean = plumb_compare_figure(&c->group[k], by, false).mean;
        if (mean > best) {
            best = mean;
            t->best_row = t->n / t->cols - 1;
        }
        PLUMB_TRY(add_row(t, &c->group[k], false));
    }
    plumb_table_prune(t);
    return PLUMB_OK;
}

static plumb_status fill_paired(struct plumb_table *t, const struct plumb_compare *c)
{
    t->cols = 1 + c->groups;
    PLUMB_TRY(plumb_table_add(t, "row - column"));
    for (int64_t k = 0; k < c->groups; k++)
        PLUMB_TRY(plumb_table_add(t, "%s", c->group[k].name));
    for (int64_t i = 0; i < c->groups; i++) {
        PLUMB_TRY(plumb_table_add(t, "%s", c->group[i].name));
        for (int64_t k = 0; k < c->groups; k++) {
            const struct plumb_compare_mean m =
                plumb_compare_paired(&c->group[i], &c->group[k], PLUMB_FIGURE_REWARD);
            PLUMB_TRY(i == k ? plumb_table_add(t, "-") : add_mean(t, &m, 1, 3));
        }
    }
    plumb_table_prune(t);
    return PLUMB_OK;
}

/* ---- JSON --------------------------------------------------------------------------------- */

static plumb_status put_text(struct plumb_buf *out, const char *head, const char *text)
{
    PLUMB_TRY(plumb_buf_add_text(out, head));
    return plumb_json_put_string(out, text, (int64_t)strlen(text));
}

static plumb_status put_real(struct plumb_buf *out, const char *head, double x)
{
    PLUMB_TRY(plumb_buf_add_text(out, head));
    return plumb_json_put_real(out, x);
}

static plumb_status put_figure(struct plumb_buf *out, const struct plumb_compare_group *g,
                               enum plumb_figure id)
{
    const struct plumb_compare_mean m = plumb_compare_figure(g, id, false);
    if (!m.n)
        return plumb_buf_addf(out, ",\"%s\":null", plumb_figure_info(id)->key);
    PLUMB_TRY(plumb_buf_addf(out, ",\"%s\":{\"n\":%" PRId64, plumb_figure_info(id)->key, m.n));
    PLUMB_TRY(put_real(out, ",\"mean\":", m.mean));
    PLUMB_TRY(put_real(out, ",\"std\":", m.std));
    PLUMB_TRY(put_real(out, ",\"half_width\":", m.half_width));
    for (int64_t i = 0; i < g->n; i++)
        PLUMB_TRY(put_real(out, i ? "," : ",\"values\":[", g->run[i]->own.figure[id]));
    return plumb_buf_add_text(out, "]}");
}

static plumb_status put_json(struct plumb_buf *out, const struct plumb_compare *c)
{
    PLUMB_TRY(put_text(out, "{\"evaluation\":", c->run[0].evaluation));
    PLUMB_TRY(plumb_buf_addf(out, ",\"start_fingerprint\":\"%016" PRIx64 "\",\"methods\":[",
                             c->run[0].start));
    for (int64_t k = 0; k < c->groups; k++) {
        const struct plumb_compare_group *g = &c->group[k];
        PLUMB_TRY(put_text(out, k ? ",\n{\"name\":" : "\n{\"name\":", g->name));
        PLUMB_TRY(put_text(out, ",\"method\":", g->run[0]->cfg->method.name));
        for (int64_t i = 0; i < g->n; i++)
            PLUMB_TRY(
                plumb_buf_addf(out, "%s%" PRIu64, i ? "," : ",\"seeds\":[", g->run[i]->cfg->seed));
        for (int64_t i = 0; i < g->n; i++)
            PLUMB_TRY(put_text(out, i ? "," : "],\"runs\":[", g->run[i]->dir));
        PLUMB_TRY(plumb_buf_add_text(out, "]"));
        for (int i = 0; i < PLUMB_FIGURE_COUNT; i++)
            PLUMB_TRY(put_figure(out, g, (enum plumb_figure)i));
        PLUMB_TRY(plumb_buf_add_text(out, "}"));
    }
    return plumb_buf_add_text(out, "\n]}\n");
}

/* ---- curves ------------------------------------------------------------------------------- */

/* What is drawn: the first of two metrics that a run has. */
static const struct curve {
    enum plumb_metric id, other;
    const char *title, *y_label;
    bool from_zero;
} curves[] = {
    {PLUMB_METRIC_REWARD_PLAIN, PLUMB_METRIC_REWARD, "Reward, plain prompts", "mean reward", false},
    {PLUMB_METRIC_EVAL_REWARD, PLUMB_METRIC_EVAL_REWARD, "Held-out reward", "mean reward", false},
    {PLUMB_METRIC_KL, PLUMB_METRIC_KL, "KL to the start", "nats per completion", true},
    {PLUMB_METRIC_COMPLETION_LENGTH, PLUMB_METRIC_COMPLETION_LENGTH, "Completion length", "tokens",
     true},
    {PLUMB_METRIC_ENTROPY, PLUMB_METRIC_ENTROPY, "Entropy", "nats per token", true},
    {PLUMB_METRIC_REWARDS_ACCURACIES, PLUMB_METRIC_REWARDS_ACCURACIES, "Pairs ordered rightly",
     "share of pairs", true},
};
enum { CURVES = sizeof(curves) / sizeof(curves[0]) };

/* Iterations stand on the x axis; steps where there are none. */
static double place_of(const struct plumb_metrics_row *r)
{
    return (double)(r->iteration > 0 ? r->iteration : r->step);
}

/* The curve's value in a run's last row at x; NaN when there is none. Rows ascend. */
static double value_at(const struct plumb_finished *f, const struct curve *c, double x)
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

/* Fills x, y, lo, hi from the rows of the group's first run; returns the points. */
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
        const double half =
            m.count > 1 ? plumb_t_half_width(m.m2 / (double)(m.count - 1), m.count) : 0;
        x[n] = at;
        y[n] = m.mean;
        lo[n] = m.mean - half;
        hi[n++] = m.mean + half;
    }
    return n;
}

static plumb_status write_page(const struct plumb_compare *c, const struct plumb_table *table,
                               int64_t n_tables)
{
    struct plumb_report_table shown[2];
    struct plumb_plot plot[CURVES] = {0};
    int64_t rows = 1, n_plots = 0;
    for (int64_t i = 0; i < c->n; i++)
        rows = plumb_max_i64(rows, c->run[i].n_rows);
    const int64_t series = plumb_min_i64(c->groups, PLUMB_PLOT_SERIES);
    double *room = malloc((size_t)(CURVES * series * 4 * rows) * sizeof(*room)), *at = room;
    PLUMB_REQUIRE(room, PLUMB_ERR_NOMEM, "curves of %lld runs", (long long)c->n);
    for (int i = 0; i < CURVES; i++) {
        struct plumb_plot *p = &plot[n_plots];
        *p = (struct plumb_plot){.title = curves[i].title,
                                 .x_label = c->run[0].n_rows && c->run[0].row[0].iteration > 0
                                                ? "iteration"
                                                : "optimizer step",
                                 .y_label = curves[i].y_label,
                                 .from_zero = curves[i].from_zero};
        for (int64_t k = 0; k < series; k++, at += 4 * rows) {
            double *x = at, *y = x + rows, *lo = y + rows, *hi = lo + rows;
            const int64_t n = draw(x, y, lo, hi, &c->group[k], &curves[i]);
            if (n > 0)
                p->series[p->n_series++] = (struct plumb_plot_series){
                    .label = c->group[k].name, .n = n, .x = x, .y = y, .lo = lo, .hi = hi};
        }
        n_plots += p->n_series > 0;
    }
    for (int64_t i = 0; i < n_tables; i++)
        shown[i] = plumb_table_report(&table[i]);
    char path[4096], subtitle[640];
    snprintf(subtitle, sizeof(subtitle), "%lld runs%s%s; bands are 95 %% intervals over seeds",
             (long long)c->n, *c->run[0].evaluation ? "; evaluated on " : "", c->run[0].evaluation);
    const struct plumb_report report = {.title = "Methods compared",
                                        .subtitle = subtitle,
                                        .table = shown,
                                        .n_tables = n_tables,
                                        .plot = plot,
                                        .n_plots = n_plots};
    plumb_status st = plumb_path_join(path, sizeof(path), c->app->cfg->output_dir, "report.html");
    if (st == PLUMB_OK)
        st = plumb_report_write(path, &report);
    free(room);
    return st;
}

/* ---- files -------------------------------------------------------------------------------- */

static plumb_status put_markdown(struct plumb_buf *out, const struct plumb_table *table, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        PLUMB_TRY(plumb_buf_addf(out, "%s## %s\n\n", i ? "\n" : "", table[i].title));
        PLUMB_TRY(plumb_table_markdown(out, &table[i]));
        PLUMB_TRY(plumb_buf_addf(out, "\n%s\n", table[i].note));
    }
    return PLUMB_OK;
}

static plumb_status write_in_dir(const struct plumb_compare *c, const char *name,
                                 const struct plumb_buf *text)
{
    char path[4096];
    PLUMB_TRY(plumb_path_join(path, sizeof(path), c->app->cfg->output_dir, name));
    return plumb_file_write_atomic(path, plumb_buf_text(text), text->len);
}

static plumb_status write_files(const struct plumb_compare *c, const struct plumb_table *table,
                                int64_t n_tables)
{
    const struct plumb_config *cfg = c->app->cfg;
    struct plumb_buf json = {0}, markdown = {0};
    plumb_status st;
    PLUMB_TRY_GOTO(st, put_json(&json, c), done);
    PLUMB_TRY_GOTO(st, put_markdown(&markdown, table, n_tables), done);
    if (strcmp(cfg->output, "-") != 0)
        PLUMB_TRY_GOTO(st, plumb_file_write_atomic(cfg->output, json.data, json.len), done);
    if (*cfg->output_dir) {
        PLUMB_TRY_GOTO(st, plumb_dir_create(cfg->output_dir), done);
        PLUMB_TRY_GOTO(st, write_in_dir(c, "compare.json", &json), done);
        PLUMB_TRY_GOTO(st, write_in_dir(c, "compare.md", &markdown), done);
        if (cfg->report.html)
            st = write_page(c, table, n_tables);
    }
done:
    plumb_buf_fini(&json);
    plumb_buf_fini(&markdown);
    return st;
}

plumb_status plumb_compare_write(const struct plumb_compare *c)
{
    struct plumb_table table[2] = {{.title = "Methods", .note = mean_note, .best_row = -1},
                                   {.title = "Differences", .note = paired_note, .best_row = -1}};
    const int64_t n_tables = c->groups > 1 && c->run[0].evaluated ? 2 : 1;
    struct plumb_buf text = {0};
    plumb_status st;
    PLUMB_TRY_GOTO(st, fill_methods(&table[0], c), done);
    if (n_tables > 1)
        PLUMB_TRY_GOTO(st, fill_paired(&table[1], c), done);
    for (int64_t i = 0; i < n_tables && (!i || c->groups <= CONSOLE_GROUPS); i++) {
        PLUMB_TRY_GOTO(st, plumb_buf_add_text(&text, i ? "\n" : ""), done);
        PLUMB_TRY_GOTO(st, plumb_table_console(&text, &table[i]), done);
        PLUMB_TRY_GOTO(st, plumb_buf_addf(&text, "%s\n", table[i].note), done);
    }
    fputs(plumb_buf_text(&text), stdout);
    fflush(stdout);
    st = write_files(c, table, n_tables);
done:
    plumb_buf_fini(&text);
    plumb_table_fini(&table[0]);
    plumb_table_fini(&table[1]);
    return st;
}
