/* report.c - writes report.html: summary, tables, curves, samples.
 * Layer 4. Includes base/, io/, report/metrics.h, report/plot.h. */
#include "report/report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/commit.h"
#include "io/file.h"
#include "report/metrics.h"
#include "report/plot.h"

#define SAMPLE_RUNES 1500

static const char style[] =
    ":root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--dim:#5b6470;--line:#d9dee4;"
    "--card:#f6f8fa;--mark:#e8f1fa;--c1:#0067a8;--c2:#c24e00;--c3:#00875f;--c4:#a8518c;"
    "--c5:#a87400;--c6:#3a8fc4;--c7:#6250a3;--c8:#7d5635;--c9:#57606a;--c10:#6f7d00}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#14171b;--fg:#e4e8ec;--dim:#9aa4af;"
    "--line:#343b43;--card:#1c2127;--mark:#17293a;--c1:#5cb3ee;--c2:#ff9052;--c3:#3fcf9f;"
    "--c4:#e59acb;--c5:#f0b93a;--c6:#8fd0f5;--c7:#b3a3f0;--c8:#d0a684;--c9:#a8b1bb;"
    "--c10:#c3d24a}}\n"
    "*{box-sizing:border-box}"
    "body{margin:0 auto;padding:1.6rem;max-width:1360px;background:var(--bg);color:var(--fg);"
    "font:15px/1.5 system-ui,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}\n"
    "h1{font-size:1.7rem;line-height:1.2;margin:0}h2{font-size:1.15rem;margin:2.2rem 0 .7rem}"
    "h1+p{margin:.3rem 0 0}p.note,h1+p,.empty,footer{color:var(--dim)}p.note{font-size:.86rem;"
    "margin:.3rem 0 0}\n"
    ".cards,dl{display:grid;gap:.7rem;grid-template-columns:repeat(auto-fill,minmax(168px,1fr))}"
    ".card{background:var(--card);border:1px solid var(--line);border-radius:8px;"
    "padding:.55rem .8rem}.card b{display:block;font-size:1.3rem;font-variant-numeric:"
    "tabular-nums}.card span,dt{color:var(--dim);font-size:.82rem}.cards{margin:1.2rem 0}\n"
    "dl{margin:1.2rem 0;gap:.5rem 1.4rem;grid-template-columns:repeat(auto-fill,"
    "minmax(240px,1fr))}dl div{border-top:1px solid var(--line);padding-top:.3rem;min-width:0}"
    "dd{margin:0;overflow-wrap:anywhere}\n";
static const char drawing_style[] =
    ".charts{display:grid;gap:1rem;align-items:start;grid-template-columns:repeat(auto-fill,minmax("
    "min(100%,440px),"
    "1fr))}figure{margin:0;border:1px solid var(--line);border-radius:8px;padding:.7rem .8rem}"
    "figcaption{display:flex;flex-wrap:wrap;gap:.1rem 1rem;align-items:baseline;margin-bottom:"
    ".3rem}svg{width:100%;height:auto;display:block}\n"
    ".s1{--c:var(--c1)}.s2{--c:var(--c2)}.s3{--c:var(--c3)}.s4{--c:var(--c4)}"
    ".s5{--c:var(--c5)}.s6{--c:var(--c6)}.s7{--c:var(--c7)}.s8{--c:var(--c8)}"
    ".s9{--c:var(--c9)}.s10{--c:var(--c10)}.s2 .line{stroke-dasharray:7 3}"
    ".s3 .line{stroke-dasharray:2 2.5}.s4 .line{stroke-dasharray:9 3 2 3}"
    ".dashed .line{stroke-dasharray:5 5}"
    ".line{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round}"
    ".dot{fill:var(--c)}.tip{fill:transparent}.tip:hover{fill:var(--c)}"
    ".band{fill:var(--c);opacity:.18}.grid{stroke:var(--line)}.axis{stroke:var(--dim)}"
    ".behind{fill:none;stroke:var(--dim);opacity:.3;stroke-width:1}"
    ".ring{fill:none;stroke:var(--c);opacity:.55}.start{stroke:var(--dim);stroke-dasharray:4 3}"
    ".tick{fill:var(--dim);font-size:12px}.label{fill:var(--dim);font-size:12.5px}"
    ".name{fill:var(--fg);font-size:12.5px}"
    ".key{color:var(--dim);font-size:.84rem;white-space:nowrap}.key svg{display:inline-block;"
    "width:26px;height:8px;vertical-align:middle;margin-right:.4em}\n"
    ".full{grid-column:1/-1}.panels{display:grid;gap:.5rem .8rem;grid-template-columns:"
    "repeat(auto-fill,minmax(185px,1fr))}.panels span{font-size:.84rem;font-weight:600}"
    ".panels .dot{r:2px}\n";
static const char table_style[] =
    ".wide{overflow-x:auto}table{border-collapse:collapse;width:100%}"
    "th,td{border-bottom:1px solid var(--line);padding:.35rem .5rem;text-align:left;"
    "vertical-align:top}th{color:var(--dim);font-weight:600;font-size:.86rem}"
    ".figures{width:auto;min-width:50%}"
    ".figures td+td,.figures th+th{text-align:right;font-variant-numeric:tabular-nums}"
    ".figures td+td{white-space:nowrap}.figures td,.texts td{font-size:.8rem}"
    ".more,.less{font-weight:600;color:var(--c1)}.less{color:var(--c2)}"
    ".matrix td{font-size:.78rem;line-height:1.25}.matrix th,.matrix td{padding:.2rem .3rem}"
    ".matrix th+th{vertical-align:bottom}.matrix th+th span{writing-mode:vertical-rl;"
    "transform:rotate(180deg)}.matrix td:first-child{font-weight:600;white-space:nowrap}"
    "pre{overflow-x:auto;font-size:.84rem}summary{font-size:1.15rem;font-weight:600;margin:2.2rem "
    "0 .7rem;cursor:pointer}"
    ".best td{background:var(--mark)}.best td:first-child{font-weight:600}"
    ".samples{table-layout:fixed;min-width:640px}.samples th:first-child{width:26%}"
    ".samples td{white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:plaintext;"
    "font-size:.92rem}.r{display:block;color:var(--dim);font-size:.82rem;font-variant-numeric:"
    "tabular-nums}.up{color:var(--c3)}.down{color:var(--c2)}"
    "footer{margin-top:2.5rem;font-size:.84rem}\n"
    "@media print{figure,tr{break-inside:avoid}}\n";

/* One chart of the page: its metrics in drawing order, with their labels in the legend. */
struct chart {
    const char *title, *y_label, *note;
    bool by_iteration, percent, from_zero, log_y;
    struct {
        int id;
        const char *label;
    } line[PLUMB_PLOT_SERIES];
    int n;
};

#define ID(x) PLUMB_METRIC_##x
static const struct chart chart_table[] = {
    {.title = "Reward",
     .y_label = "mean reward",
     .by_iteration = true,
     .n = 4,
     .line = {{ID(REWARD_PLAIN), "plain prompt"},
              {ID(REWARD_PRINCIPLED), "principled prompt"},
              {ID(EVAL_REWARD), "held out"},
              {ID(REWARD), "all"}}},
    {.title = "Threshold and margins",
     .y_label = "normalised reward",
     .by_iteration = true,
     .n = 4,
     .line = {{ID(TAU), "tau"},
              {ID(MARGIN_Q50), "median margin"},
              {ID(MARGIN_Q95), "margin 95 %"},
              {ID(MARGIN_Q05), "margin 5 %"}}},
    {.title = "Branches",
     .y_label = "share of prompts",
     .by_iteration = true,
     .percent = true,
     .n = 4,
     .line = {{ID(SHARE_RANK), "ranking"},
              {ID(SHARE_WEIGHTED), "weighted"},
              {ID(SHARE_REVERSE), "reversed"},
              {ID(SHARE_DROPPED), "dropped"}}},
    {.title = "Loss",
     .y_label = "loss",
     .n = 2,
     .line = {{ID(LOSS), "training"}, {ID(EVAL_LOSS), "held out"}}},
    {.title = "Gradient norm",
     .y_label = "L2 norm",
     .from_zero = true,
     .log_y = true,
     .n = 1,
     .line = {{ID(GRAD_NORM), "before clipping"}}},
    {.title = "KL to the start",
     .y_label = "nats per completion",
     .by_iteration = true,
     .from_zero = true,
     .n = 1,
     .line = {{ID(KL), "mean log-ratio"}}},
    {.title = "Pairwise accuracy",
     .y_label = "share of pairs",
     .percent = true,
     .n = 2,
     .line = {{ID(REWARDS_ACCURACIES), "training"}, {ID(EVAL_ACCURACIES), "held out"}}},
    {.title = "Implicit rewards",
     .y_label = "reward",
     .n = 3,
     .line = {{ID(REWARDS_CHOSEN), "chosen"},
              {ID(REWARDS_REJECTED), "rejected"},
              {ID(REWARDS_MARGINS), "margin"}}},
    {.title = "Completion length",
     .y_label = "tokens",
     .by_iteration = true,
     .from_zero = true,
     .n = 3,
     .line = {{ID(COMPLETION_LENGTH), "mean"},
              {ID(COMPLETION_MAX), "longest"},
              {ID(COMPLETION_MIN), "shortest"}}},
    {.title = "Entropy",
     .y_label = "nats per token",
     .by_iteration = true,
     .from_zero = true,
     .n = 1,
     .line = {{ID(ENTROPY), "sampled tokens"}}},
    {.title = "Speed",
     .y_label = "tokens/s, all ranks",
     .from_zero = true,
     .n = 2,
     .line = {{ID(TOKENS_PER_SECOND), "whole loop"},
              {ID(ROLLOUT_TOKENS_PER_SECOND), "generation"}}},
    {.title = "Time of an iteration",
     .y_label = "seconds",
     .by_iteration = true,
     .from_zero = true,
     .n = 4,
     .line = {{ID(TIME_ROLLOUT), "rollout"},
              {ID(TIME_TRAIN), "training"},
              {ID(TIME_REWARD), "reward"},
              {ID(TIME_SAVE), "saving"}}},
    {.title = "Idle share of the ranks",
     .y_label = "share of the phase's time",
     .by_iteration = true,
     .percent = true,
     .from_zero = true,
     .n = 4,
     .line = {{ID(IDLE_ROLLOUT), "rollout"},
              {ID(IDLE_REWARD), "reward"},
              {ID(IDLE_REFERENCE), "references"},
              {ID(IDLE_TRAIN), "update"}}},
    {.title = "Tail of the rollout",
     .y_label = "rank with the most / mean",
     .by_iteration = true,
     .n = 2,
     .line = {{ID(TAIL_TOKENS), "tokens"}, {ID(TAIL_STEPS), "decode steps"}}},
    {.title = "Learning rate",
     .y_label = "per step",
     .from_zero = true,
     .n = 1,
     .line = {{ID(LEARNING_RATE), "learning rate"}}},
};
#define N_CHARTS (sizeof(chart_table) / sizeof(chart_table[0]))

/* Fills x and y (n,) with the points of metric `id`, one for each row in which it is set, and
 * returns their number. x is the iteration or the optimizer step. */
static int64_t points_of(double *x, double *y, const struct plumb_metrics_row *row, int64_t n,
                         int id, bool by_iteration)
{
    int64_t points = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!row[i].set[id])
            continue;
        x[points] = (double)(by_iteration ? row[i].iteration : row[i].step);
        y[points++] = row[i].value[id];
    }
    return points;
}

static plumb_status put_chart(struct plumb_buf *out, const struct chart *c,
                              const struct plumb_metrics_row *row, int64_t n, double *work)
{
    const bool by_iteration = c->by_iteration && n > 0 && row[n - 1].iteration > 0;
    struct plumb_plot plot = {
        .title = c->title,
        .note = c->note,
        .x_label = by_iteration ? "iteration" : "optimizer step",
        .y_label = c->y_label,
        .percent = c->percent,
        .from_zero = c->from_zero,
        .log_y = c->log_y,
    };
    for (int i = 0; i < c->n; i++) {
        double *x = work + 2 * n * i, *y = x + n;
        const int64_t points = points_of(x, y, row, n, c->line[i].id, by_iteration);
        /* leave out the mean reward if the plain and the principled rewards are drawn */
        if (points == 0 || (c->line[i].id == PLUMB_METRIC_REWARD && plot.n_series >= 2))
            continue;
        plot.series[plot.n_series++] =
            (struct plumb_plot_series){.label = c->line[i].label, .n = points, .x = x, .y = y};
    }
    return plot.n_series ? plumb_plot_svg(out, &plot) : PLUMB_OK;
}

static plumb_status put_charts(struct plumb_buf *out, const struct plumb_report *report,
                               const struct plumb_metrics_row *row, int64_t n)
{
    if (!report->metrics_path && !report->n_plots)
        return PLUMB_OK;
    if (!n && !report->n_plots)
        return plumb_buf_add_text(out,
                                  "<h2>Curves</h2><p class=\"empty\">no step was recorded</p>");
    double *work = malloc(((size_t)n * 2 * PLUMB_PLOT_SERIES + 1) * sizeof(double));
    PLUMB_REQUIRE(work, PLUMB_ERR_NOMEM, "curves of %lld rows", (long long)n);
    plumb_status st = plumb_buf_add_text(out, "<h2>Curves</h2>\n<div class=\"charts\">\n");
    for (size_t i = 0; i < N_CHARTS && !st && n; i++)
        st = put_chart(out, &chart_table[i], row, n, work);
    for (int64_t i = 0; i < report->n_plots && !st; i++)
        st = plumb_plot_svg(out, &report->plot[i]);
    free(work);
    PLUMB_TRY(st);
    return plumb_buf_add_text(out, "</div>\n");
}

static void figure_text(char *out, size_t size, double x, bool percent)
{
    if (!isfinite(x))
        snprintf(out, size, "missing");
    else if (percent)
        snprintf(out, size, "%.1f %%", 100 * x);
    else if (fabs(x) >= 1000)
        snprintf(out, size, "%.0f", x);
    else
        snprintf(out, size, "%.3g", x);
}

/* Writes a card for each metric of the table below: its last finite value, and, unless last_only is
 * true, its first one. */
static plumb_status put_cards(struct plumb_buf *out, const struct plumb_metrics_row *row, int64_t n)
{
    static const struct {
        int id;
        const char *label;
        bool percent, last_only;
    } card[] = {
        {ID(EVAL_REWARD), "held-out reward", false, false},
        {ID(REWARD_PLAIN), "reward, plain", false, false},
        {ID(REWARD_PRINCIPLED), "reward, principled", false, false},
        {ID(SHARE_RANK), "ranking branch", true, false},
        {ID(KL), "KL to the start, nats", false, true},
        {ID(LOSS), "loss", false, false},
        {ID(EVAL_ACCURACIES), "held-out accuracy", true, false},
        {ID(TOKENS_PER_SECOND), "tokens/s", false, true},
        {ID(REWARD_MISSING), "rewards missing", false, true},
    };
    PLUMB_TRY(plumb_buf_add_text(out, "<div class=\"cards\">\n"));
    for (size_t i = 0; i < sizeof(card) / sizeof(card[0]); i++) {
        double first = NAN, last = NAN;
        bool any = false;
        for (int64_t r = 0; r < n; r++) {
            if (!row[r].set[card[i].id])
                continue;
            any = true;
            if (!isfinite(row[r].value[card[i].id]))
                continue;
            last = row[r].value[card[i].id];
            first = isfinite(first) ? first : last;
        }
        if (!any)
            continue;
        char a[32], b[32];
        figure_text(a, sizeof(a), first, card[i].percent);
        figure_text(b, sizeof(b), last, card[i].percent);
        PLUMB_TRY(
            plumb_buf_addf(out, "<div class=\"card\"><span>%s</span><b>%s</b>", card[i].label, b));
        PLUMB_TRY(card[i].last_only ? plumb_buf_add_text(out, "<span>at the end</span></div>\n")
                                    : plumb_buf_addf(out, "<span>from %s</span></div>\n", a));
    }
    return plumb_buf_add_text(out, "</div>\n");
}

static plumb_status put_tagged(struct plumb_buf *out, const char *open, const char *text,
                               const char *close)
{
    PLUMB_TRY(plumb_buf_add_text(out, open));
    PLUMB_TRY(plumb_html_text(out, text, INT64_MAX));
    return plumb_buf_add_text(out, close);
}

/* Appends text in which each " +- " is replaced by `sign`. */
static plumb_status put_signed(struct plumb_buf *out, const char *text, const char *sign)
{
    const char *at;
    for (; (at = strstr(text, " +- ")); text = at + 4) {
        struct plumb_buf before = {0};
        plumb_status st = plumb_buf_add(&before, text, at - text);
        if (st == PLUMB_OK)
            st = plumb_html_text(out, plumb_buf_text(&before), INT64_MAX);
        plumb_buf_fini(&before);
        PLUMB_TRY(st);
        PLUMB_TRY(plumb_buf_add_text(out, sign));
    }
    return plumb_html_text(out, text, INT64_MAX);
}

static plumb_status put_cell(struct plumb_buf *out, const char *text, bool matrix)
{
    const size_t len = strlen(text);
    const bool stands_out = len > 2 && strcmp(text + len - 2, " *") == 0;
    PLUMB_TRY(plumb_buf_add_text(out, !stands_out    ? "<td>"
                                      : *text == '-' ? "<td class=\"less\">"
                                                     : "<td class=\"more\">"));
    PLUMB_TRY(put_signed(out, text, matrix ? "<br>\u00b1" : " \u00b1 "));
    return plumb_buf_add_text(out, "</td>");
}

static plumb_status put_note(struct plumb_buf *out, const char *note)
{
    if (!note)
        return PLUMB_OK;
    PLUMB_TRY(plumb_buf_add_text(out, "<p class=\"note\">"));
    PLUMB_TRY(put_signed(out, note, " \u00b1 "));
    return plumb_buf_add_text(out, "</p>\n");
}

static plumb_status put_table(struct plumb_buf *out, const struct plumb_report_table *t)
{
    static const char *const style_of[] = {"figures", "texts", "figures matrix"};
    PLUMB_TRY(put_tagged(out, t->folded ? "<details><summary>" : "<h2>", t->title,
                         t->folded ? "</summary>\n" : "</h2>\n"));
    PLUMB_TRY(plumb_buf_addf(out, "<div class=\"wide\"><table class=\"%s\"><thead><tr>",
                             style_of[t->shape]));
    for (int64_t c = 0; c < t->n_cols; c++)
        PLUMB_TRY(put_tagged(out, "<th scope=\"col\"><span>", t->head[c], "</span></th>"));
    PLUMB_TRY(plumb_buf_add_text(out, "</tr></thead><tbody>\n"));
    for (int64_t r = 0; r < t->n_rows; r++) {
        PLUMB_TRY(plumb_buf_add_text(out, r == t->best_row ? "<tr class=\"best\">" : "<tr>"));
        for (int64_t c = 0; c < t->n_cols; c++)
            PLUMB_TRY(put_cell(out, t->cell[r * t->n_cols + c], t->shape == PLUMB_REPORT_MATRIX));
        PLUMB_TRY(plumb_buf_add_text(out, "</tr>\n"));
    }
    PLUMB_TRY(plumb_buf_add_text(out, "</tbody></table></div>\n"));
    PLUMB_TRY(put_note(out, t->note));
    return plumb_buf_add_text(out, t->folded ? "</details>\n" : "");
}

static plumb_status put_tables(struct plumb_buf *out, const struct plumb_report *report,
                               bool folded)
{
    for (int64_t i = 0; i < report->n_tables; i++)
        if (report->table[i].folded == folded)
            PLUMB_TRY(put_table(out, &report->table[i]));
    return PLUMB_OK;
}

static plumb_status put_forests(struct plumb_buf *out, const struct plumb_report *report)
{
    if (!report->n_forests)
        return PLUMB_OK;
    PLUMB_TRY(plumb_buf_add_text(out, "<h2>At the end</h2>\n<div class=\"charts\">\n"));
    for (int64_t i = 0; i < report->n_forests; i++)
        PLUMB_TRY(plumb_forest_svg(out, &report->forest[i]));
    PLUMB_TRY(plumb_buf_add_text(out, "</div>\n"));
    return put_note(out, report->note);
}

/* Writes one answer and its reward. direction is 1 if the reward is better than that of the
 * prompt's first answer, -1 if it is worse, 0 if it is equal or not compared. */
static plumb_status put_answer(struct plumb_buf *out, const char *text, double reward,
                               int direction)
{
    char figure[32];
    figure_text(figure, sizeof(figure), reward, false);
    PLUMB_TRY(plumb_buf_addf(out, "<td dir=\"auto\"><span class=\"r%s\">%s %s%s</span>",
                             direction > 0   ? " up"
                             : direction < 0 ? " down"
                                             : "",
                             "reward", figure,
                             direction > 0   ? " \xe2\x96\xb2"
                             : direction < 0 ? " \xe2\x96\xbc"
                                             : ""));
    if (text)
        PLUMB_TRY(plumb_html_text(out, text, SAMPLE_RUNES));
    else
        PLUMB_TRY(plumb_buf_add_text(out, "<span class=\"empty\">not recorded</span>"));
    return plumb_buf_add_text(out, "</td>");
}

/* Writes the last SAMPLE_RUNES characters of a prompt, after U+2026 if the prompt is longer. It
 * shows the end, as the table on the console does, because prompts of one template begin with the
 * same text. */
static plumb_status put_prompt(struct plumb_buf *out, const char *prompt)
{
    const char *at = prompt ? prompt + strlen(prompt) : NULL;
    for (int n = 0; at > prompt && n < SAMPLE_RUNES; n++)
        do
            at--;
        while (at > prompt && ((unsigned char)*at & 0xC0) == 0x80);
    if (at > prompt)
        PLUMB_TRY(plumb_buf_add_text(out, "\u2026"));
    return plumb_html_text(out, at, INT64_MAX);
}

static plumb_status put_samples(struct plumb_buf *out, const struct plumb_report *report)
{
    if (!report->n_samples)
        return PLUMB_OK;
    PLUMB_TRY(plumb_buf_add_text(out, "<h2>Samples</h2>\n<div class=\"wide\">"
                                      "<table class=\"samples\"><tr><th>prompt</th>"));
    for (int64_t k = 0; k < report->n_answers; k++)
        PLUMB_TRY(put_tagged(out, "<th>", report->answer_name[k], "</th>"));
    PLUMB_TRY(plumb_buf_add_text(out, "</tr>\n"));
    for (int64_t i = 0; i < report->n_samples; i++) {
        const struct plumb_report_sample *s = &report->sample[i];
        PLUMB_TRY(plumb_buf_add_text(out, "<tr><td dir=\"auto\">"));
        PLUMB_TRY(put_prompt(out, s->prompt));
        PLUMB_TRY(plumb_buf_add_text(out, "</td>"));
        for (int64_t k = 0; k < report->n_answers; k++) {
            const double first = s->answer[0].reward, own = s->answer[k].reward;
            PLUMB_TRY(put_answer(out, s->answer[k].text, own, (own > first) - (own < first)));
        }
        PLUMB_TRY(plumb_buf_add_text(out, "</tr>\n"));
    }
    return plumb_buf_add_text(out, "</table></div>\n");
}

static plumb_status put_head(struct plumb_buf *out, const struct plumb_report *report)
{
    PLUMB_TRY(plumb_buf_add_text(
        out, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
             "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"));
    PLUMB_TRY(put_tagged(out, "<title>", report->title, "</title>\n<style>\n"));
    PLUMB_TRY(plumb_buf_add_text(out, style));
    PLUMB_TRY(plumb_buf_add_text(out, drawing_style));
    PLUMB_TRY(plumb_buf_add_text(out, table_style));
    PLUMB_TRY(put_tagged(out, "</style></head>\n<body>\n<h1>", report->title, "</h1>\n"));
    return report->subtitle ? put_tagged(out, "<p>", report->subtitle, "</p>\n") : PLUMB_OK;
}

static plumb_status put_fields(struct plumb_buf *out, const struct plumb_report *report)
{
    if (!report->n_fields)
        return PLUMB_OK;
    PLUMB_TRY(plumb_buf_add_text(out, "<dl>\n"));
    for (int64_t i = 0; i < report->n_fields; i++) {
        PLUMB_TRY(put_tagged(out, "<div><dt>", report->field[i].name, "</dt>"));
        PLUMB_TRY(put_tagged(out, "<dd>", report->field[i].value, "</dd></div>\n"));
    }
    return plumb_buf_add_text(out, "</dl>\n");
}

static plumb_status put_page(struct plumb_buf *out, const struct plumb_report *report,
                             const struct plumb_metrics_row *row, int64_t n)
{
    PLUMB_TRY(put_head(out, report));
    PLUMB_TRY(report->metrics_path ? put_cards(out, row, n) : PLUMB_OK);
    PLUMB_TRY(put_fields(out, report));
    PLUMB_TRY(put_forests(out, report));
    PLUMB_TRY(put_tables(out, report, false));
    PLUMB_TRY(put_charts(out, report, row, n));
    PLUMB_TRY(put_samples(out, report));
    PLUMB_TRY(put_tables(out, report, true));
    if (report->configuration)
        PLUMB_TRY(put_tagged(out, "<details><summary>Configuration</summary>\n<pre>",
                             report->configuration, "</pre></details>\n"));
    PLUMB_TRY(plumb_buf_add_text(out, "<footer>plumb " PLUMB_VERSION ", commit " PLUMB_COMMIT));
    if (report->metrics_path)
        PLUMB_TRY(plumb_buf_addf(out, ", from %lld lines of metrics.jsonl", (long long)n));
    return plumb_buf_add_text(out, "</footer>\n</body></html>\n");
}

plumb_status plumb_report_write(const char *path, const struct plumb_report *report)
{
    struct plumb_metrics_row *row = NULL;
    struct plumb_buf page = {0};
    int64_t n = 0;
    plumb_status st = PLUMB_OK;
    if (report->metrics_path)
        PLUMB_TRY_GOTO(st, plumb_metrics_read(&row, &n, report->metrics_path), done);
    PLUMB_TRY_GOTO(st, put_page(&page, report, row, n), done);
    PLUMB_TRY_GOTO(st, plumb_file_write_atomic(path, plumb_buf_text(&page), page.len), done);
done:
    free(row);
    plumb_buf_fini(&page);
    return st;
}
