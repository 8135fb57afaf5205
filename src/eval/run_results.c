/* run_results.c - reads the results of a run from its folder.
 * Layer 5. Includes eval/run_results.h, io/. */
#include "eval/run_results.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/json.h"

static const struct plumb_figure_info info_table[PLUMB_FIGURE_COUNT] = {
#define X(id, key, head, factor, decimals) {key, head, factor, decimals},
    PLUMB_FIGURE_LIST(X)
#undef X
};

const struct plumb_figure_info *plumb_figure_info(enum plumb_figure id)
{
    return &info_table[id];
}

static plumb_status read_run(struct plumb_run_results *f, const char *path)
{
    const char *command, *start;
    PLUMB_TRY(plumb_json_read_file(&f->run, path));
    const plumb_json *root = f->run;
    PLUMB_TRY(plumb_json_want_string(root, "command", &command, NULL, path));
    PLUMB_TRY(plumb_json_want_string(root, "start_fingerprint", &start, NULL, path));
    PLUMB_REQUIRE(strcmp(command, "align") == 0 || strcmp(command, "prefer") == 0,
                  PLUMB_ERR_UNSUPPORTED, "%s: a run of %s, expected one of align or prefer", f->dir,
                  command);
    snprintf(f->command, sizeof(f->command), "%s", command);
    f->start = strtoull(start, NULL, 16);
    snprintf(f->commit, sizeof(f->commit), "%s",
             plumb_json_string(plumb_json_get(root, "commit"), ""));
    const plumb_json *sessions = plumb_json_get(root, "sessions");
    const plumb_json *last = plumb_json_at(sessions, plumb_json_count(sessions) - 1);
    f->ended = !strcmp(plumb_json_string(plumb_json_get(last, "result"), ""), "ok");
    return PLUMB_OK;
}

/* Reads the reward of the last iteration (of plain prompts, if recorded) and the number of
 * generated tokens from the metrics; eval.json does not have them. */
static void read_training(struct plumb_run_results *f)
{
    double tokens = NAN, reward = NAN;
    for (int64_t i = 0; i < f->n_rows; i++) {
        const struct plumb_metrics_row *r = &f->row[i];
        const bool plain = r->set[PLUMB_METRIC_REWARD_PLAIN];
        if (plain || r->set[PLUMB_METRIC_REWARD])
            reward = r->value[plain ? PLUMB_METRIC_REWARD_PLAIN : PLUMB_METRIC_REWARD];
        if (r->set[PLUMB_METRIC_GENERATED_TOKENS])
            tokens = r->value[PLUMB_METRIC_GENERATED_TOKENS];
    }
    f->own.figure[PLUMB_FIGURE_LAST_REWARD] = reward;
    f->own.figure[PLUMB_FIGURE_GENERATED] = tokens;
}

static void read_model(struct plumb_model_results *m, const plumb_json *v)
{
    snprintf(m->name, sizeof(m->name), "%s", plumb_json_string(plumb_json_get(v, "name"), ""));
    for (int i = 0; i < PLUMB_FIGURE_COUNT; i++)
        if (plumb_json_get(v, info_table[i].key))
            m->figure[i] = plumb_json_real(plumb_json_get(v, info_table[i].key), NAN);
}

/* Returns true if path is dir or inside of dir, after symbolic links are resolved. */
static bool is_inside(const char *path, const char *dir)
{
    char *a = realpath(path, NULL), *b = realpath(dir, NULL);
    const size_t n = b ? strlen(b) : 0;
    const bool inside = a && b && !strncmp(a, b, n) && (a[n] == '/' || a[n] == '\0');
    free(a);
    free(b);
    return inside;
}

static plumb_status read_evaluation(struct plumb_run_results *f, const char *path)
{
    if (!plumb_file_exists(path))
        return PLUMB_OK;
    PLUMB_TRY(plumb_json_read_file(&f->eval, path));
    const plumb_json *root = f->eval;
    const plumb_json *models = plumb_json_get(root, "models");
    snprintf(f->evaluation, sizeof(f->evaluation),
             "%lld prompts of %.400s, %lld samples, wins by %s",
             (long long)plumb_json_int(plumb_json_get(root, "prompts"), 0),
             plumb_json_string(plumb_json_get(root, "data"), "?"),
             (long long)plumb_json_int(plumb_json_get(root, "samples"), 0),
             plumb_json_string(plumb_json_get(root, "win_by"), "?"));
    for (int64_t i = 0; i < plumb_json_count(models) && !f->evaluated; i++) {
        const plumb_json *m = plumb_json_at(models, i);
        f->evaluated = is_inside(plumb_json_string(plumb_json_get(m, "path"), ""), f->dir);
        if (f->evaluated)
            read_model(&f->own, m);
        if (f->evaluated && i > 0)
            read_model(&f->first, plumb_json_at(models, 0));
    }
    PLUMB_REQUIRE(f->evaluated, PLUMB_ERR_FORMAT, "%s: evaluates no model of %s", path, f->dir);
    return PLUMB_OK;
}

plumb_status plumb_run_results_open(struct plumb_run_results *out, const char *dir,
                                    const char *evaluation)
{
    char path[4][PATH_MAX], folder[PATH_MAX];
    *out = (struct plumb_run_results){.dir = dir};
    for (int i = 0; i < PLUMB_FIGURE_COUNT; i++)
        out->own.figure[i] = out->first.figure[i] = NAN;
    PLUMB_REQUIRE(plumb_dir_exists(dir), PLUMB_ERR_IO, "there is no folder %s", dir);
    PLUMB_TRY(plumb_path_join(folder, sizeof(folder), dir, evaluation));
    PLUMB_TRY(plumb_path_join(path[0], sizeof(path[0]), dir, "run.json"));
    PLUMB_TRY(plumb_path_join(path[1], sizeof(path[1]), dir, "config.effective.yaml"));
    PLUMB_TRY(plumb_path_join(path[2], sizeof(path[2]), dir, "metrics.jsonl"));
    PLUMB_TRY(plumb_path_join(path[3], sizeof(path[3]), folder, "eval.json"));
    for (int i = 0; i < 3; i++)
        PLUMB_REQUIRE(plumb_file_exists(path[i]), PLUMB_ERR_IO,
                      "%s is no run folder: it holds no %s", dir, strrchr(path[i], '/') + 1);
    PLUMB_TRY(read_run(out, path[0]));
    PLUMB_TRY(plumb_config_load(&out->cfg, out->command, path[1], NULL, 0));
    PLUMB_TRY(plumb_metrics_read(&out->row, &out->n_rows, path[2]));
    read_training(out);
    return read_evaluation(out, path[3]);
}

void plumb_run_results_close(struct plumb_run_results *f)
{
    plumb_config_free(&f->cfg);
    plumb_json_free(&f->run);
    plumb_json_free(&f->eval);
    free(f->row);
    *f = (struct plumb_run_results){0};
}
