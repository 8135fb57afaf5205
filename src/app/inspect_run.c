/* inspect_run.c - describes a run folder and its contents, a configuration, and an evaluation.
 * Layer 6. Includes inspect.h, config/, io/, report/metrics.h, train/lock.h. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/inspect.h"
#include "base/log.h"
#include "base/num.h"
#include "config/config.h"
#include "config/stages.h"
#include "io/file.h"
#include "io/yaml.h"
#include "report/metrics.h"
#include "train/lock.h"

/* ---- run.json and the run's folder ---------------------------------------------------------- */

static void print_session(const plumb_json *s, int64_t number)
{
    const double seconds = plumb_json_real(plumb_json_get(s, "seconds"), 0);
    const int64_t ranks = plumb_json_int(plumb_json_get(s, "world_size"), 1);
    printf("  session %-3lld %s, %lld rank%s, from step %lld: %s", (long long)number,
           plumb_json_string(plumb_json_get(s, "start"), "?"), (long long)ranks,
           plumb_plural(ranks), (long long)plumb_json_int(plumb_json_get(s, "resumed_step"), 0),
           plumb_json_string(plumb_json_get(s, "result"), "no end is noted"));
    if (plumb_json_get(s, "seconds"))
        printf(" after %.1f s", seconds);
    putchar('\n');
}

/* Returns the result of the last session; NULL if run.json has none. */
static const char *last_result(const plumb_json *root)
{
    const plumb_json *sessions = plumb_json_get(root, "sessions");
    const plumb_json *last = plumb_json_at(sessions, plumb_json_count(sessions) - 1);
    return plumb_json_string(plumb_json_get(last, "result"), NULL);
}

/* Prints whether the run is running, has ended or was killed. The lock file tells this; without a
 * lock file, the last session in run.json tells it. root is the parsed run.json, or NULL if there
 * is none. */
static void print_state(const char *dir, const plumb_json *root)
{
    char who[512];
    double beat_s;
    const enum plumb_lock_state state = plumb_lock_look(who, sizeof(who), &beat_s, dir);
    const char *result = root ? last_result(root) : NULL;
    if (state == PLUMB_LOCK_RUNS)
        plumb_inspect_row("state", "running: %s, last heartbeat %.0f s ago", who, beat_s);
    else if (state == PLUMB_LOCK_GONE)
        plumb_inspect_row("state", "killed: %s is gone", who);
    else if (state == PLUMB_LOCK_SILENT)
        plumb_inspect_row("state",
                          "killed, or on a host that cannot write here any more: no heartbeat for "
                          "%.0f s from %s",
                          beat_s, who);
    else if (root && !result)
        plumb_inspect_row("state", "killed: no end is noted, and no process holds the folder");
    else if (root)
        plumb_inspect_row("state", "%s", strcmp(result, "ok") == 0 ? "finished" : "ended early");
}

static plumb_status print_run(const struct plumb_inspect *w, const char *path)
{
    plumb_json *root = NULL;
    PLUMB_TRY(plumb_json_read_file(&root, path));
    plumb_inspect_head(w, "a run of plumb %s, seed %lld",
                       plumb_json_string(plumb_json_get(root, "command"), "?"),
                       (long long)plumb_json_int(plumb_json_get(root, "seed"), 0));
    plumb_inspect_row("written by", "plumb %s, commit %s",
                      plumb_json_string(plumb_json_get(root, "plumb_version"), "?"),
                      plumb_json_string(plumb_json_get(root, "commit"), "unknown"));
    plumb_inspect_row("config", "%s", plumb_json_string(plumb_json_get(root, "config_hash"), "?"));
    plumb_inspect_row("began with", "weights %s",
                      plumb_json_string(plumb_json_get(root, "start_fingerprint"), "?"));
    const plumb_json *sessions = plumb_json_get(root, "sessions");
    for (int64_t i = 0; i < plumb_json_count(sessions); i++)
        print_session(plumb_json_at(sessions, i), i + 1);
    if (plumb_dir_exists(w->path))
        print_state(w->path, root);
    plumb_json_free(&root);
    return PLUMB_OK;
}

plumb_status plumb_inspect_run_json(const struct plumb_inspect *w)
{
    return print_run(w, w->path);
}

/* Lists the entries whose names begin with `head`. If head is "", lists the folders with a
 * run.json. */
static plumb_status print_entries(const struct plumb_inspect *w, const char *row, const char *head,
                                  const struct plumb_names *names)
{
    char **found = calloc((size_t)names->n + 1, sizeof(*found));
    char path[4096];
    struct plumb_buf text = {0};
    int64_t n = 0;
    plumb_status st = PLUMB_OK;
    if (!found)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, done, "list of %lld names", (long long)names->n);
    for (int64_t i = 0; i < names->n; i++) {
        bool taken = *head && !strncmp(names->name[i], head, strlen(head));
        if (!*head) {
            snprintf(path, sizeof(path), "%.2000s/%.2000s/run.json", w->path, names->name[i]);
            taken = plumb_file_exists(path);
        }
        if (taken)
            found[n++] = names->name[i];
    }
    PLUMB_TRY_GOTO(st, plumb_inspect_names(&text, found, n), done);
    if (n)
        plumb_inspect_row(row, "%s", plumb_buf_text(&text));
done:
    free(found);
    plumb_buf_fini(&text);
    return st;
}

static plumb_status print_last_metrics(const char *path)
{
    struct plumb_metrics_row *row = NULL;
    struct plumb_buf text = {0};
    int64_t n = 0;
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(plumb_metrics_read(&row, &n, path));
    if (n)
        st = plumb_metrics_console(&text, &row[n - 1], 0, 0);
    if (n && st == PLUMB_OK)
        plumb_inspect_row("last", "%s", plumb_buf_text(&text));
    plumb_buf_fini(&text);
    free(row);
    return st;
}

plumb_status plumb_inspect_run(const struct plumb_inspect *w)
{
    struct plumb_names names = {0};
    char path[4096];
    plumb_status st = PLUMB_OK;
    if (plumb_inspect_has(w, path, "run.json"))
        PLUMB_TRY(print_run(w, path));
    else {
        plumb_inspect_head(w, "a folder of runs");
        print_state(w->path, NULL);
    }
    PLUMB_TRY(plumb_dir_list(&names, w->path));
    PLUMB_TRY_GOTO(st, print_entries(w, "runs", "", &names), done);
    PLUMB_TRY_GOTO(st, print_entries(w, "checkpoints", "checkpoint-", &names), done);
    PLUMB_TRY_GOTO(st, print_entries(w, "replays", "replay-", &names), done);
    if (plumb_inspect_has(w, path, "rollouts"))
        plumb_inspect_row("rollouts", "in %s", path);
    if (plumb_inspect_has(w, path, "eval"))
        plumb_inspect_row("evaluation", "in %s", path);
    if (plumb_inspect_has(w, path, "metrics.jsonl"))
        PLUMB_TRY_GOTO(st, print_last_metrics(path), done);
    if (plumb_inspect_has(w, path, "config.effective.yaml"))
        plumb_inspect_row("settings", "in %s", path);
done:
    plumb_names_fini(&names);
    return st;
}

/* ---- evaluation and hashes ------------------------------------------------------------------ */

static void print_figure(const plumb_json *model, const char *key, double scale, const char *unit)
{
    const plumb_json *v = plumb_json_get(model, key);
    if (v)
        printf("  %s %.4g%s", key, scale * plumb_json_real(v, 0), unit);
}

plumb_status plumb_inspect_eval(const struct plumb_inspect *w)
{
    char path[4096];
    plumb_json *root = NULL;
    snprintf(path, sizeof(path), "%s", w->path);
    if (plumb_dir_exists(w->path))
        PLUMB_TRY(plumb_path_join(path, sizeof(path), w->path, "eval.json"));
    PLUMB_TRY(plumb_json_read_file(&root, path));
    const plumb_json *models = plumb_json_get(root, "models");
    const int64_t prompts = plumb_json_int(plumb_json_get(root, "prompts"), 0);
    const int64_t samples = plumb_json_int(plumb_json_get(root, "samples"), 0);
    plumb_inspect_head(w, "an evaluation of %lld model%s on %lld prompt%s, %lld answer%s each",
                       (long long)plumb_json_count(models), plumb_plural(plumb_json_count(models)),
                       (long long)prompts, plumb_plural(prompts), (long long)samples,
                       plumb_plural(samples));
    plumb_inspect_row("prompts", "%s", plumb_json_string(plumb_json_get(root, "data"), "?"));
    plumb_inspect_row("wins by", "%s", plumb_json_string(plumb_json_get(root, "win_by"), "?"));
    for (int64_t i = 0; i < plumb_json_count(models); i++) {
        const plumb_json *m = plumb_json_at(models, i);
        printf("  model       %s:", plumb_json_string(plumb_json_get(m, "name"), "?"));
        print_figure(m, "reward", 1, "");
        print_figure(m, "win_rate", 100, " %");
        print_figure(m, "mean_length", 1, " tokens");
        print_figure(m, "kl", 1, " nats");
        printf("  %s\n", plumb_json_string(plumb_json_get(m, "path"), "?"));
    }
    plumb_json_free(&root);
    return PLUMB_OK;
}

plumb_status plumb_inspect_hashes(const struct plumb_inspect *w)
{
    plumb_json *root = NULL;
    PLUMB_TRY(plumb_json_read_file(&root, w->path));
    plumb_inspect_head(w,
                       "bytes and hashes of the %lld files of a checkpoint; plumb inspect FOLDER "
                       "compares them",
                       (long long)plumb_json_count(plumb_json_get(root, "files")));
    plumb_json_free(&root);
    return PLUMB_OK;
}

/* ---- configurations ------------------------------------------------------------------------- */

/* Prints one line for each option that the file sets. */
static plumb_status print_given(const struct plumb_config *cfg)
{
    struct plumb_buf text = {0};
    plumb_status st;
    PLUMB_TRY_GOTO(st, plumb_config_put_given(&text, cfg), done);
    const char *line = plumb_buf_text(&text);
    if (!*line)
        plumb_inspect_row("sets", "nothing: every option has its default");
    for (int i = 0; *line; line += strcspn(line, "\n") + 1, i++)
        plumb_inspect_row(i ? "" : "sets", "%.*s", (int)strcspn(line, "\n"), line);
done:
    plumb_buf_fini(&text);
    return st;
}

static plumb_status print_input(void *arg, const char *key, const char *path)
{
    int *shown = arg;
    const bool there = plumb_file_exists(path) || plumb_dir_exists(path);
    if (strcmp(path, "init") != 0 && strcmp(path, "previous") != 0 && strncmp(path, "stage:", 6))
        plumb_inspect_row((*shown)++ ? "" : "reads", "%s: %s%s", key, path,
                          there ? "" : ", which is not there");
    return PLUMB_OK;
}

static plumb_status print_config(const struct plumb_config *cfg)
{
    int shown = 0;
    PLUMB_TRY(print_given(cfg));
    const char *command = cfg->eval.models.n ? "eval" : *cfg->data.train ? "sft" : "align";
    return plumb_config_inputs(cfg, command, print_input, &shown);
}

static plumb_status print_stages(const struct plumb_inspect *w)
{
    struct plumb_stages *s = NULL;
    PLUMB_TRY(plumb_stages_load(&s, w->path, NULL, 0));
    plumb_inspect_head(w, "%lld stage%s: plumb run %s", (long long)s->n, plumb_plural(s->n),
                       w->path);
    for (int64_t i = 0; i < s->n; i++)
        printf("  %-11s %s, model %s, into %s\n", s->item[i].name, s->item[i].command,
               *s->item[i].cfg->model ? s->item[i].cfg->model : "not set",
               s->item[i].cfg->output_dir);
    plumb_stages_free(&s);
    return PLUMB_OK;
}

plumb_status plumb_inspect_config(const struct plumb_inspect *w)
{
    struct plumb_yaml *root = NULL;
    bool stages = false;
    PLUMB_TRY(plumb_yaml_read_file(&root, w->path));
    for (const struct plumb_yaml *v = root->first; v && root->type == PLUMB_YAML_MAP; v = v->next)
        stages = stages || !strcmp(v->key, "stages");
    plumb_yaml_free(&root);
    if (stages)
        return print_stages(w);
    /* loaded before the first line is printed, so that an invalid file is not described as a
     * configuration */
    struct plumb_config *cfg = NULL;
    PLUMB_TRY(plumb_config_load(&cfg, "align", w->path, NULL, 0));
    plumb_inspect_head(w, "a configuration");
    const plumb_status st = print_config(cfg);
    plumb_config_free(&cfg);
    return st;
}
