/* compare_write.c - writes the results of plumb compare, as means over seeds, as text tables,
 * Markdown and JSON.
 * Layer 6. Includes app/compare.h, base/, io/. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "app/compare.h"
#include "io/file.h"
#include "io/json.h"

/* Largest number of methods for which standard output shows the table of differences. */
enum { CONSOLE_GROUPS = 6 };

static const char mean_note[] = "Mean over seeds +- half of the 95 % interval of that mean "
                                "(Student's t); one seed has no interval.";
static const char paired_note[] =
    "Held-out reward, row minus column: mean over the seeds that both have +- half of the 95 % "
    "interval of that mean; *: 0 lies outside of it (each pair by itself, not corrected for their "
    "number).";
static const char setting_note[] = "Options that are not the same in all runs, seeds left aside.";

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

/* Returns true if all evaluations count wins against the same model. */
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
        const double mean = plumb_compare_rank(&c->group[k]);
        if (mean > best) {
            best = mean;
            t->best_row = t->n / t->cols - 1;
        }
        PLUMB_TRY(add_row(t, &c->group[k], false));
    }
    plumb_table_prune(t);
    return PLUMB_OK;
}

static plumb_status add_gap(struct plumb_table *t, const struct plumb_compare_mean *m)
{
    if (!isfinite(m->half_width))
        return plumb_table_add_real(t, m->mean, 3, "");
    return plumb_table_add(t, "%.3f +- %.3f%s", m->mean, m->half_width,
                           fabs(m->mean) > m->half_width ? " *" : "");
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
            PLUMB_TRY(i == k ? plumb_table_add(t, "-") : add_gap(t, &m));
        }
    }
    plumb_table_prune(t);
    return PLUMB_OK;
}

/* The argument of note_option, which adds the options that differ to t, or, if `path` is set,
 * stores the values of that option. */
struct differing {
    struct plumb_table *t;
    /* the option whose value is wanted; NULL: add each differing option as a column head */
    const char *path;
    char value[120]; /* value in this run; "" if it equals that of the first run */
    char first[120]; /* the option's value in the first run */
};

static plumb_status note_option(void *arg, const char *path, const char *then, const char *now)
{
    struct differing *d = arg;
    if (!plumb_compare_is_setting(path))
        return PLUMB_OK;
    if (d->path && strcmp(path, d->path) == 0) {
        snprintf(d->value, sizeof(d->value), "%s", strcmp(now, "\"\"") ? now : "-");
        snprintf(d->first, sizeof(d->first), "%s", strcmp(then, "\"\"") ? then : "-");
    }
    bool known = d->path != NULL;
    for (int64_t i = 0; i < d->t->n && !known; i++)
        known = strcmp(d->t->cell[i], path) == 0;
    return known ? PLUMB_OK : plumb_table_add(d->t, "%s", path);
}

/* Fills the table of settings: one row per method, one column per option that differs between
 * runs. */
static plumb_status fill_settings(struct plumb_table *t, const struct plumb_compare *c)
{
    const struct plumb_run_results *base = c->group[0].run[0];
    struct differing d = {.t = t};
    PLUMB_TRY(plumb_table_add(t, "method"));
    for (int64_t k = 1; k < c->groups; k++) {
        const struct plumb_run_results *r = c->group[k].run[0];
        PLUMB_TRY(plumb_config_changes(base->cfg, r->cfg, r->command, note_option, &d));
    }
    t->cols = t->n;
    for (int64_t k = 0; k < c->groups; k++) {
        const struct plumb_run_results *r = c->group[k].run[0];
        PLUMB_TRY(plumb_table_add(t, "%s", c->group[k].name));
        for (int64_t col = 1; col < t->cols; col++) {
            d = (struct differing){.t = t, .path = t->cell[col]};
            PLUMB_TRY(plumb_config_changes(base->cfg, r->cfg, r->command, note_option, &d));
            for (int64_t j = 1; j < c->groups && !*d.value && !*d.first; j++) {
                const struct plumb_run_results *o = c->group[j].run[0];
                PLUMB_TRY(plumb_config_changes(base->cfg, o->cfg, o->command, note_option, &d));
                snprintf(d.value, sizeof(d.value), "%s", d.first);
            }
            PLUMB_TRY(plumb_table_add(t, "%s", d.value));
        }
    }
    return PLUMB_OK;
}

static plumb_status fill_runs(struct plumb_table *t, const struct plumb_compare *c)
{
    static const char *const head[] = {"method",           "seed",   "held-out reward",
                                       "generated tokens", "commit", "folder"};
    t->cols = sizeof(head) / sizeof(head[0]);
    for (int64_t i = 0; i < t->cols; i++)
        PLUMB_TRY(plumb_table_add(t, "%s", head[i]));
    for (int64_t k = 0; k < c->groups; k++)
        for (int64_t i = 0; i < c->group[k].n; i++) {
            const struct plumb_run_results *r = c->group[k].run[i];
            PLUMB_TRY(plumb_table_add(t, "%s", c->group[k].name));
            PLUMB_TRY(plumb_table_add(t, "%" PRIu64, r->cfg->seed));
            PLUMB_TRY(plumb_table_add_real(t, r->own.figure[PLUMB_FIGURE_REWARD], 3, ""));
            PLUMB_TRY(plumb_table_add_real(t, r->own.figure[PLUMB_FIGURE_GENERATED], 0, ""));
            PLUMB_TRY(plumb_table_add(t, "%s", r->commit));
            PLUMB_TRY(plumb_table_add(t, "%s", r->dir));
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

/* ---- files -------------------------------------------------------------------------------- */

static plumb_status put_markdown(struct plumb_buf *out, const struct plumb_table *table, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        PLUMB_TRY(plumb_buf_addf(out, "%s## %s\n\n", i ? "\n" : "", table[i].title));
        PLUMB_TRY(plumb_table_markdown(out, &table[i]));
        if (table[i].note)
            PLUMB_TRY(plumb_buf_addf(out, "\n%s\n", table[i].note));
    }
    return PLUMB_OK;
}

static plumb_status write_in_dir(const struct plumb_compare *c, const char *name,
                                 const struct plumb_buf *text)
{
    char path[4096];
    PLUMB_TRY(plumb_path_join(path, sizeof(path), c->cfg->output_dir, name));
    return plumb_file_write_atomic(path, plumb_buf_text(text), text->len);
}

static plumb_status write_files(const struct plumb_compare *c, const struct plumb_table *table,
                                int64_t n_tables)
{
    const struct plumb_config *cfg = c->cfg;
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
            st = plumb_compare_page(c, table, n_tables);
    }
done:
    plumb_buf_fini(&json);
    plumb_buf_fini(&markdown);
    return st;
}

/* Fills table (PLUMB_COMPARE_TABLES,) with the tables that are not empty; *n = their number. */
static plumb_status fill(struct plumb_table *table, int64_t *n, const struct plumb_compare *c)
{
    PLUMB_TRY(fill_methods(&table[(*n)++], c));
    if (c->groups > 1 && c->run[0].evaluated) {
        table[*n] = (struct plumb_table){.title = "Differences",
                                         .note = paired_note,
                                         .best_row = -1,
                                         .shape = PLUMB_REPORT_MATRIX};
        PLUMB_TRY(fill_paired(&table[(*n)++], c));
    }
    if (c->groups > 1) {
        table[*n] = (struct plumb_table){.title = "Settings",
                                         .note = setting_note,
                                         .best_row = -1,
                                         .shape = PLUMB_REPORT_TEXTS,
                                         .folded = true};
        PLUMB_TRY(fill_settings(&table[(*n)++], c));
    }
    table[*n] = (struct plumb_table){
        .title = "Runs", .best_row = -1, .shape = PLUMB_REPORT_TEXTS, .folded = true};
    return fill_runs(&table[(*n)++], c);
}

plumb_status plumb_compare_write(const struct plumb_compare *c)
{
    struct plumb_table table[PLUMB_COMPARE_TABLES] = {
        {.title = "Methods", .note = mean_note, .best_row = -1}};
    int64_t n = 0;
    struct plumb_buf text = {0};
    plumb_status st;
    PLUMB_TRY_GOTO(st, fill(table, &n, c), done);
    for (int64_t i = 0; i < n; i++) {
        if (table[i].folded || (i > 0 && c->groups > CONSOLE_GROUPS))
            continue;
        PLUMB_TRY_GOTO(st, plumb_buf_add_text(&text, i ? "\n" : ""), done);
        PLUMB_TRY_GOTO(st, plumb_table_console(&text, &table[i]), done);
        PLUMB_TRY_GOTO(st, plumb_buf_addf(&text, "%s\n", table[i].note), done);
    }
    fputs(plumb_buf_text(&text), stdout);
    fflush(stdout);
    st = write_files(c, table, n);
done:
    plumb_buf_fini(&text);
    for (int64_t i = 0; i < PLUMB_COMPARE_TABLES; i++)
        plumb_table_fini(&table[i]);
    return st;
}
