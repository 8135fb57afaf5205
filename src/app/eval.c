/* eval.c - counts what the models answered, and writes it down.
 * Layer 6. Includes app/eval.h, base/, io/, train/. */
#include "app/eval.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "io/file.h"
#include "io/json.h"
#include "train/report.h"

plumb_status plumb_eval_open_prompts(const struct plumb_eval *e, struct plumb_dataset **out,
                                     const plumb_tokenizer *tokenizer, int64_t max_pos)
{
    const struct plumb_config *cfg = e->app->cfg;
    const struct plumb_data_options options = {
        .kind = PLUMB_DATA_PROMPTS,
        .tokenizer = tokenizer,
        .prompt_template = cfg->data.prompt_template,
        .max_prompt_tokens = max_pos > 0 ? max_pos - 1 : 0,
        .limit = cfg->data.limit,
    };
    return plumb_dataset_open(out, cfg->data.eval, &options);
}

/* Share of different token pairs among all pairs (distinct-2, Li et al. 2016, arXiv:1510.03055);
 * 1 for fewer than two pairs. */
static double distinct_pairs(const int32_t *ids, int64_t n)
{
    int64_t different = 0;
    for (int64_t i = 0; i + 1 < n; i++) {
        bool seen = false;
        for (int64_t j = 0; j < i && !seen; j++)
            seen = ids[j] == ids[i] && ids[j + 1] == ids[i + 1];
        different += !seen;
    }
    return n > 2 ? (double)different / (double)(n - 1) : 1.0;
}

plumb_status plumb_eval_keep(const struct plumb_eval *e, struct plumb_eval_model *m,
                             const struct plumb_answers *answers)
{
    const int64_t samples = e->app->cfg->eval.samples;
    for (int64_t i = 0; i < answers->prompts * samples; i++) {
        const struct plumb_answer *o = &answers->at[i];
        double *v = m->value + (o->slot * samples + o->sample) * PLUMB_EVAL_VALUES;
        const bool scored = isfinite(o->reward);
        v[EVAL_REWARD] = scored ? o->reward : 0;
        v[EVAL_SCORED] = scored;
        v[EVAL_TOKENS] = (double)o->n;
        v[EVAL_DISTINCT] = distinct_pairs(o->ids, o->n);
        v[EVAL_CLIPPED] = o->stop == PLUMB_STOP_LENGTH;
        if (plumb_comm_rank(e->app->comm) == 0 && o->sample == 0 && o->slot < PLUMB_EVAL_SHOWN) {
            m->text[o->slot] = strdup(plumb_buf_text(&o->text));
            PLUMB_REQUIRE(m->text[o->slot], PLUMB_ERR_NOMEM, "sample text");
        }
    }
    return PLUMB_OK;
}

/* Mean reward of one prompt's scored answers; NaN without one. */
static double prompt_mean(const struct plumb_eval_model *m, int64_t prompt, int64_t samples)
{
    double sum = 0, n = 0;
    for (int64_t s = 0; s < samples; s++) {
        const double *v = m->value + (prompt * samples + s) * PLUMB_EVAL_VALUES;
        sum += v[EVAL_REWARD];
        n += v[EVAL_SCORED];
    }
    return n > 0 ? sum / n : NAN;
}

void plumb_eval_compare(struct plumb_eval *e)
{
    const struct plumb_config *cfg = e->app->cfg;
    const int64_t samples = cfg->eval.samples, all = e->prompts * samples;
    for (int64_t i = 0; i < e->n; i++) {
        struct plumb_eval_model *m = &e->model[i];
        struct plumb_moments reward = {0};
        for (int64_t j = 0; j < all; j++) {
            const double *v = m->value + j * PLUMB_EVAL_VALUES;
            if (v[EVAL_SCORED] > 0)
                plumb_moments_add(&reward, v[EVAL_REWARD]);
            m->length += v[EVAL_TOKENS] / (double)all;
            m->distinct += v[EVAL_DISTINCT] / (double)all;
            m->clipped += v[EVAL_CLIPPED] / (double)all;
        }
        m->scored = reward.count;
        m->missing = all - reward.count;
        m->mean = reward.count > 0 ? reward.mean : NAN;
        m->std = sqrt(plumb_moments_var(&reward));
        m->half_width = 1.96 * m->std / sqrt((double)plumb_max_i64(reward.count, 1));
        for (int64_t p = 0; p < e->prompts; p++) {
            const double gap = prompt_mean(m, p, samples) - prompt_mean(&e->model[0], p, samples);
            m->win += gap > cfg->eval.win_margin;
            m->lose += gap < -cfg->eval.win_margin;
            m->tie += fabs(gap) <= cfg->eval.win_margin;
        }
    }
}

/* Wins plus half of the ties, of the prompts compared. */
static double win_rate(const struct plumb_eval_model *m)
{
    const double all = (double)(m->win + m->tie + m->lose);
    return all > 0 ? ((double)m->win + 0.5 * (double)m->tie) / all : NAN;
}

static plumb_status put_json(const struct plumb_eval *e, struct plumb_buf *out)
{
    PLUMB_TRY(plumb_buf_addf(out, "{\"prompts\":%lld,\"samples\":%lld,\"models\":[",
                             (long long)e->prompts, (long long)e->app->cfg->eval.samples));
    for (int64_t i = 0; i < e->n; i++) {
        const struct plumb_eval_model *m = &e->model[i];
        PLUMB_TRY(plumb_buf_add_text(out, i ? ",\n{\"name\":" : "\n{\"name\":"));
        PLUMB_TRY(plumb_json_put_string(out, m->name, (int64_t)strlen(m->name)));
        PLUMB_TRY(plumb_buf_add_text(out, ",\"path\":"));
        PLUMB_TRY(plumb_json_put_string(out, m->dir, (int64_t)strlen(m->dir)));
        const struct {
            const char *name;
            double value;
        } field[] = {
            {"reward", m->mean},
            {"reward_std", m->std},
            {"reward_interval", m->half_width},
            {"missing", (double)m->missing},
            {"win_rate", win_rate(m)},
            {"win", (double)m->win},
            {"tie", (double)m->tie},
            {"lose", (double)m->lose},
            {"mean_length", m->length},
            {"distinct_2", m->distinct},
            {"clipped_ratio", m->clipped},
        };
        for (size_t f = 0; f < sizeof(field) / sizeof(field[0]); f++) {
            PLUMB_TRY(plumb_buf_addf(out, ",\"%s\":", field[f].name));
            PLUMB_TRY(plumb_json_put_real(out, field[f].value));
        }
        PLUMB_TRY(plumb_buf_add_text(out, "}"));
    }
    return plumb_buf_add_text(out, "\n]}\n");
}

enum { COLUMNS = 7, CELL = 48 };
static const char *const head[COLUMNS] = {
    "model",  "held-out reward", "std", "win rate vs first", "win / tie / lose",
    "tokens", "distinct-2"};

static void fill_cells(const struct plumb_eval *e, char (*cell)[CELL])
{
    for (int64_t i = 0; i < e->n; i++) {
        const struct plumb_eval_model *m = &e->model[i];
        char(*row)[CELL] = cell + i * COLUMNS;
        snprintf(row[0], CELL, "%.40s", m->name);
        snprintf(row[1], CELL, "%+.3f +- %.3f", m->mean, m->half_width);
        snprintf(row[2], CELL, "%.3f", m->std);
        snprintf(row[3], CELL, i ? "%.1f %%" : "-", 100 * win_rate(m));
        snprintf(row[4], CELL, i ? "%lld / %lld / %lld" : "-", (long long)m->win, (long long)m->tie,
                 (long long)m->lose);
        snprintf(row[5], CELL, "%.1f", m->length);
        snprintf(row[6], CELL, "%.3f", m->distinct);
    }
}

static void print_table(const struct plumb_eval *e, char (*cell)[CELL])
{
    int width[COLUMNS];
    for (int c = 0; c < COLUMNS; c++) {
        width[c] = (int)strlen(head[c]);
        for (int64_t i = 0; i < e->n; i++)
            width[c] = (int)plumb_max_i64(width[c], (int64_t)strlen(cell[i * COLUMNS + c]));
    }
    for (int64_t i = -1; i < e->n; i++) {
        for (int c = 0; c < COLUMNS; c++) {
            const char *text = i < 0 ? head[c] : cell[i * COLUMNS + c];
            printf(c == 0 ? "%-*s" : "  %*s", width[c], text);
        }
        putchar('\n');
    }
    fflush(stdout);
}

static plumb_status write_report(const struct plumb_eval *e, char (*cell)[CELL])
{
    const struct plumb_config *cfg = e->app->cfg;
    const char *text[64 * COLUMNS];
    int64_t best = 0;
    for (int64_t i = 0; i < e->n; i++) {
        for (int c = 0; c < COLUMNS; c++)
            text[i * COLUMNS + c] = cell[i * COLUMNS + c];
        best = e->model[i].mean > e->model[best].mean ? i : best;
    }
    const struct plumb_report_table table = {.title = "Held-out prompts",
                                             .n_rows = e->n,
                                             .n_cols = COLUMNS,
                                             .best_row = best,
                                             .head = head,
                                             .cell = text};
    struct plumb_dataset *data = NULL;
    PLUMB_TRY(plumb_eval_open_prompts(e, &data, NULL, 0));
    struct plumb_report_sample sample[PLUMB_EVAL_SHOWN];
    const struct plumb_eval_model *first = &e->model[0], *last = &e->model[best];
    int64_t n = 0;
    for (int64_t p = 0; p < PLUMB_EVAL_SHOWN && p < data->n && first->text[p]; p++)
        sample[n++] =
            (struct plumb_report_sample){.prompt = data->record[p].prompt.text,
                                         .first = first->text[p],
                                         .last = last->text[p],
                                         .first_reward = prompt_mean(first, p, cfg->eval.samples),
                                         .last_reward = prompt_mean(last, p, cfg->eval.samples)};
    char path[4096], subtitle[256];
    snprintf(subtitle, sizeof(subtitle), "%lld prompts; the sample table shows %s, then %s",
             (long long)e->prompts, first->name, last->name);
    const struct plumb_report report = {.title = "Evaluation",
                                        .subtitle = subtitle,
                                        .first_name = first->name,
                                        .last_name = last->name,
                                        .sample = sample,
                                        .n_samples = n,
                                        .table = &table,
                                        .n_tables = 1};
    plumb_status st = plumb_path_join(path, sizeof(path), cfg->output_dir, "report.html");
    if (st == PLUMB_OK)
        st = plumb_report_write(path, &report);
    plumb_dataset_close(&data);
    return st;
}

static plumb_status write_files(const struct plumb_eval *e, char (*cell)[CELL])
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
        if (cfg->report.html && e->n <= 64)
            PLUMB_TRY_GOTO(st, write_report(e, cell), done);
    }
done:
    plumb_buf_fini(&json);
    return st;
}

plumb_status plumb_eval_write(const struct plumb_eval *e)
{
    char(*cell)[CELL] = calloc((size_t)(e->n * COLUMNS), sizeof(*cell));
    PLUMB_REQUIRE(cell, PLUMB_ERR_NOMEM, "table of %lld models", (long long)e->n);
    fill_cells(e, cell);
    print_table(e, cell);
    const plumb_status st = write_files(e, cell);
    free(cell);
    return st;
}

void plumb_eval_model_fini(struct plumb_eval_model *m)
{
    free(m->value);
    for (int i = 0; i < PLUMB_EVAL_SHOWN; i++)
        free(m->text[i]);
}
