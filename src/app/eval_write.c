/* eval_write.c - writes the results of plumb eval as text tables, JSON and report.html.
 * Layer 6. Includes app/eval.h, base/, io/, train/. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/eval.h"
#include "base/log.h"
#include "base/num.h"
#include "io/file.h"
#include "io/json.h"
#include "report/report.h"
#include "report/table.h"
#include "train/inputs.h"

static plumb_status put_key(struct plumb_buf *out, const char *key)
{
    return plumb_buf_addf(out, ",\"%s\":", key);
}

static plumb_status put_real(struct plumb_buf *out, const char *key, double x)
{
    PLUMB_TRY(put_key(out, key));
    return plumb_json_put_real(out, x);
}

static plumb_status put_interval(struct plumb_buf *out, const char *key, const double x[2])
{
    PLUMB_TRY(put_key(out, key));
    PLUMB_TRY(plumb_buf_add_text(out, "["));
    PLUMB_TRY(plumb_json_put_real(out, x[0]));
    PLUMB_TRY(plumb_buf_add_text(out, ","));
    PLUMB_TRY(plumb_json_put_real(out, x[1]));
    return plumb_buf_add_text(out, "]");
}

static plumb_status put_model(struct plumb_buf *out, const struct plumb_eval_model *m)
{
    const struct plumb_eval_figures *f = &m->figures;
    PLUMB_TRY(plumb_buf_add_text(out, "{\"name\":"));
    PLUMB_TRY(plumb_json_put_string(out, m->name, (int64_t)strlen(m->name)));
    PLUMB_TRY(put_key(out, "path"));
    PLUMB_TRY(plumb_json_put_string(out, m->dir, (int64_t)strlen(m->dir)));
    PLUMB_TRY(put_real(out, "reward", f->reward));
    PLUMB_TRY(put_real(out, "reward_std", f->reward_std));
    PLUMB_TRY(put_interval(out, "reward_interval", f->reward_interval));
    PLUMB_TRY(put_real(out, "win_rate", f->win_rate));
    PLUMB_TRY(put_interval(out, "win_rate_interval", f->win_rate_interval));
    PLUMB_TRY(put_real(out, "lc_win_rate", f->lc_win_rate));
    const struct {
        const char *name;
        int64_t n;
    } count[] = {{"answers", f->answers},
                 {"missing", f->missing},
                 {"win", f->win},
                 {"tie", f->tie},
                 {"lose", f->lose},
                 {"judge_disagreed", f->disagreed},
                 {"not_judged", f->not_judged}};
    for (size_t i = 0; i < sizeof(count) / sizeof(count[0]); i++)
        PLUMB_TRY(plumb_buf_addf(out, ",\"%s\":%lld", count[i].name, (long long)count[i].n));
    const struct {
        const char *name;
        double x;
    } real[] = {{"mean_length", f->tokens},
                {"length_std", f->tokens_std},
                {"max_length", f->tokens_max},
                {"mean_characters", f->characters},
                {"clipped_ratio", f->clipped},
                {"distinct_1", f->distinct[0]},
                {"distinct_2", f->distinct[1]},
                {"self_repetition", f->repetition},
                {"kl", f->kl},
                {"perplexity", f->perplexity},
                {"bleu", f->bleu}};
    for (size_t i = 0; i < sizeof(real) / sizeof(real[0]); i++)
        PLUMB_TRY(put_real(out, real[i].name, real[i].x));
    return plumb_buf_add_text(out, "}");
}

static plumb_status put_json(const struct plumb_eval *e, struct plumb_buf *out)
{
    const struct plumb_config *cfg = e->app->cfg;
    PLUMB_TRY(plumb_buf_addf(out, "{\"prompts\":%lld,\"samples\":%lld,\"win_by\":\"%s\",\"data\":",
                             (long long)e->prompts, (long long)cfg->eval.samples,
                             *cfg->eval.judge ? "judge" : "reward"));
    PLUMB_TRY(plumb_json_put_string(out, cfg->data.eval, (int64_t)strlen(cfg->data.eval)));
    PLUMB_TRY(plumb_buf_addf(
        out, ",\"config_hash\":\"%016" PRIx64 "\",\"inputs\":", plumb_config_hash(cfg, "eval")));
    PLUMB_TRY(plumb_inputs_put(out, cfg, "eval"));
    PLUMB_TRY(plumb_buf_add_text(out, ",\"models\":["));
    for (int64_t i = 0; i < e->n; i++) {
        PLUMB_TRY(plumb_buf_add_text(out, i ? ",\n" : "\n"));
        PLUMB_TRY(put_model(out, &e->model[i]));
    }
    return plumb_buf_add_text(out, "\n]}\n");
}

/* Adds a cell such as "0.71 [0.66, 0.75]"; only the number if there is no interval. */
static plumb_status add_interval(struct plumb_table *t, double x, const double range[2],
                                 double scale, int decimals)
{
    if (!isfinite(x) || !isfinite(range[0]) || !isfinite(range[1]))
        return plumb_table_add_real(t, scale * x, decimals, "");
    return plumb_table_add(t, "%.*f [%.*f, %.*f]", decimals, scale * x, decimals, scale * range[0],
                           decimals, scale * range[1]);
}

/* Fills the table of quality: rewards, wins and comparisons with references. */
static plumb_status fill_scores(const struct plumb_eval *e, struct plumb_table *t)
{
    static const char *const head[] = {"model",
                                       "reward",
                                       "std",
                                       "missing",
                                       "win rate, %",
                                       "LC win rate, %",
                                       "win / tie / lose",
                                       "judge disagrees",
                                       "not judged"};
    t->cols = sizeof(head) / sizeof(head[0]);
    for (int64_t c = 0; c < t->cols; c++)
        PLUMB_TRY(plumb_table_add(t, "%s", head[c]));
    for (int64_t i = 0; i < e->n; i++) {
        const struct plumb_eval_figures *f = &e->model[i].figures;
        PLUMB_TRY(plumb_table_add(t, "%s", e->model[i].name));
        PLUMB_TRY(add_interval(t, f->reward, f->reward_interval, 1, 3));
        PLUMB_TRY(plumb_table_add_real(t, f->reward_std, 3, ""));
        PLUMB_TRY(plumb_table_add_real(t, f->missing ? (double)f->missing : NAN, 0, ""));
        PLUMB_TRY(add_interval(t, f->win_rate, f->win_rate_interval, 100, 1));
        PLUMB_TRY(plumb_table_add_real(t, 100 * f->lc_win_rate, 1, ""));
        PLUMB_TRY(i ? plumb_table_add(t, "%lld / %lld / %lld", (long long)f->win, (long long)f->tie,
                                      (long long)f->lose)
                    : plumb_table_add(t, "-"));
        PLUMB_TRY(plumb_table_add_real(t, f->disagreed ? (double)f->disagreed : NAN, 0, ""));
        PLUMB_TRY(plumb_table_add_real(t, f->not_judged ? (double)f->not_judged : NAN, 0, ""));
    }
    plumb_table_prune(t);
    return PLUMB_OK;
}

/* Fills the table of the answers' properties, such as length and repetition. */
static plumb_status fill_texts(const struct plumb_eval *e, struct plumb_table *t)
{
    static const char *const head[] = {"model",       "tokens",     "std",        "longest",
                                       "characters",  "clipped, %", "distinct-1", "distinct-2",
                                       "repeated, %", "KL, nats",   "perplexity", "BLEU"};
    t->cols = sizeof(head) / sizeof(head[0]);
    for (int64_t c = 0; c < t->cols; c++)
        PLUMB_TRY(plumb_table_add(t, "%s", head[c]));
    for (int64_t i = 0; i < e->n; i++) {
        const struct plumb_eval_figures *f = &e->model[i].figures;
        PLUMB_TRY(plumb_table_add(t, "%s", e->model[i].name));
        const struct {
            double x;
            int decimals;
        } cell[] = {{f->tokens, 1},
                    {f->tokens_std, 1},
                    {f->tokens_max, 0},
                    {f->characters, 1},
                    {100 * f->clipped, 1},
                    {f->distinct[0], 4},
                    {f->distinct[1], 4},
                    {100 * f->repetition, 2},
                    {f->kl, 2},
                    {f->perplexity, 3},
                    {f->bleu, 2}};
        for (size_t c = 0; c < sizeof(cell) / sizeof(cell[0]); c++)
            PLUMB_TRY(plumb_table_add_real(t, cell[c].x, cell[c].decimals, ""));
    }
    plumb_table_prune(t);
    return PLUMB_OK;
}

static double shown_reward(const struct plumb_eval *e, const struct plumb_eval_model *m, int64_t p)
{
    const double *v = m->value + p * e->app->cfg->eval.samples * PLUMB_EVAL_VALUES;
    return v[EVAL_SCORED] > 0 ? v[EVAL_REWARD] : NAN;
}

static plumb_status write_report(const struct plumb_eval *e, const struct plumb_table table[2])
{
    const struct plumb_config *cfg = e->app->cfg;
    const struct plumb_report_table shown[2] = {plumb_table_report(&table[0]),
                                                plumb_table_report(&table[1])};
    struct plumb_dataset *data = NULL;
    PLUMB_TRY(plumb_eval_open_prompts(e, &data, e->model[0].dir, NULL, 0));
    struct plumb_report_sample sample[PLUMB_EVAL_SHOWN];
    int64_t n = 0;
    const int64_t most = plumb_min_i64(cfg->report.samples, PLUMB_EVAL_SHOWN);
    char path[4096], subtitle[64];
    plumb_status st = PLUMB_OK;
    const char **who = calloc((size_t)e->n, sizeof(*who));
    struct plumb_report_answer *answer = calloc((size_t)(e->n * (most + 1)), sizeof(*answer));
    if (!who || !answer)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, done, "sample table of %lld models", (long long)e->n);
    for (int64_t k = 0; k < e->n; k++)
        who[k] = e->model[k].name;
    for (; n < most && n < data->n && e->model[0].text[n]; n++) {
        struct plumb_report_answer *row = &answer[n * e->n];
        for (int64_t k = 0; k < e->n; k++)
            row[k] =
                (struct plumb_report_answer){e->model[k].text[n], shown_reward(e, &e->model[k], n)};
        const struct plumb_record *r = &data->record[n];
        sample[n] = (struct plumb_report_sample){r->asked ? r->asked : r->prompt.text, row};
    }
    snprintf(subtitle, sizeof(subtitle), "%lld prompt%s", (long long)e->prompts,
             plumb_plural(e->prompts));
    const struct plumb_report report = {.title = "Evaluation",
                                        .subtitle = subtitle,
                                        .answer_name = who,
                                        .n_answers = e->n,
                                        .sample = sample,
                                        .n_samples = n,
                                        .table = shown,
                                        .n_tables = 2};
    PLUMB_TRY_GOTO(st, plumb_path_join(path, sizeof(path), cfg->output_dir, "report.html"), done);
    st = plumb_report_write(path, &report);
done:
    free(who);
    free(answer);
    plumb_dataset_close(&data);
    return st;
}

static plumb_status write_files(const struct plumb_eval *e, const struct plumb_table table[2])
{
    const struct plumb_config *cfg = e->app->cfg;
    struct plumb_buf json = {0};
    char path[4096];
    plumb_status st;
    PLUMB_TRY_GOTO(st, put_json(e, &json), done);
    if (strcmp(cfg->output, "-") != 0)
        PLUMB_TRY_GOTO(st, plumb_file_write_atomic(cfg->output, json.data, json.len), done);
    if (*cfg->output_dir) {
        PLUMB_TRY_GOTO(st, plumb_dir_create(cfg->output_dir), done);
        PLUMB_TRY_GOTO(st, plumb_path_join(path, sizeof(path), cfg->output_dir, "eval.json"), done);
        PLUMB_TRY_GOTO(st, plumb_file_write_atomic(path, json.data, json.len), done);
        if (cfg->report.html)
            PLUMB_TRY_GOTO(st, write_report(e, table), done);
    }
done:
    plumb_buf_fini(&json);
    return st;
}

plumb_status plumb_eval_write(const struct plumb_eval *e)
{
    struct plumb_table table[2] = {
        {.title = "Held-out prompts",
         .note = "95 % intervals by bootstrap over prompts; wins against the first model, answer "
                 "by answer; LC: length-controlled.",
         .best_row = -1},
        {.title = "Answers",
         .note = "distinct-n over all answers; repeated: share of 4-grams that were there before "
                 "in the same answer; KL to the first model, per answer; perplexity of references "
                 "per token, end token included.",
         .best_row = -1}};
    for (int64_t i = 0; i < e->n; i++) {
        const int64_t best = table[0].best_row;
        if (e->model[i].figures.reward > (best < 0 ? -INFINITY : e->model[best].figures.reward))
            table[0].best_row = i;
    }
    struct plumb_buf text = {0};
    plumb_status st;
    PLUMB_TRY_GOTO(st, fill_scores(e, &table[0]), done);
    PLUMB_TRY_GOTO(st, fill_texts(e, &table[1]), done);
    PLUMB_TRY_GOTO(st, plumb_table_console(&text, &table[0]), done);
    PLUMB_TRY_GOTO(st, plumb_buf_add_text(&text, "\n"), done);
    PLUMB_TRY_GOTO(st, plumb_table_console(&text, &table[1]), done);
    fputs(plumb_buf_text(&text), stdout);
    fflush(stdout);
    st = write_files(e, table);
done:
    plumb_buf_fini(&text);
    plumb_table_fini(&table[0]);
    plumb_table_fini(&table[1]);
    return st;
}
