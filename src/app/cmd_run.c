/* cmd_run.c - runs the stages of one file in order, skips finished stages and resumes an
 * interrupted one. Layer 6. May include everything. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "app/app.h"
#include "app/process.h"
#include "base/log.h"
#include "io/file.h"
#include "stage/commands.h"
#include "train/checkpoint.h"
#include "train/inputs.h"
#include "train/loops.h"
#include "train/run.h"

/* What rank 0 finds in the folder of a stage before the stage runs: no run, an unfinished run, or a
 * finished run. */
enum past { NOTHING, BEGUN, FINISHED };

static plumb_command_fn *command_of(const char *name)
{
    static const struct {
        const char *name;
        plumb_command_fn *run;
    } table[] = {{"sft", plumb_cmd_sft},
                 {"reward", plumb_cmd_reward},
                 {"prefer", plumb_cmd_prefer},
                 {"align", plumb_cmd_align},
                 {"eval", plumb_cmd_eval}};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (strcmp(table[i].name, name) == 0)
            return table[i].run;
    return NULL;
}

/* Fails if the configuration of a finished stage has changed since the stage ran, because its
 * result is then not that of the current configuration. */
static plumb_status check_config(const struct plumb_stage *one, const struct plumb_run_past *past)
{
    char latest[4096];
    struct plumb_buf then = {0}, diff = {0};
    plumb_status st = PLUMB_OK;
    if (past->config_hash == plumb_config_hash(one->cfg, one->command))
        return PLUMB_OK;
    PLUMB_TRY_GOTO(st, plumb_path_join(latest, sizeof(latest), one->cfg->output_dir, "latest"),
                   done);
    PLUMB_TRY_GOTO(st, plumb_checkpoint_read_config(&then, latest), done);
    PLUMB_TRY_GOTO(st,
                   plumb_config_diff(&diff, one->cfg, plumb_buf_text(&then), then.len,
                                     "the finished stage", one->command),
                   done);
    st = plumb_fail_at(PLUMB_ERR_CONFIG, __FILE__, __LINE__,
                       "stage %s was finished with another configuration; give the same values, or "
                       "remove %s (and the stages behind it) to run it again:\n%s",
                       one->name, one->cfg->output_dir, plumb_buf_text(&diff));
done:
    plumb_buf_fini(&then);
    plumb_buf_fini(&diff);
    return st;
}

/* Fails if a stage trains the model of an earlier stage, and the weights with which it began are
 * not the last weights of that stage. A reward model begins with a random score row, so its first
 * weights are not compared. */
static plumb_status check_start(const struct plumb_stages *s, const struct plumb_stage *one,
                                const struct plumb_run_past *past)
{
    char latest[4096];
    struct plumb_train_state state = {0};
    if (one->from < 0 || strcmp(one->command, "reward") == 0)
        return PLUMB_OK;
    const struct plumb_stage *before = &s->item[one->from];
    PLUMB_TRY(plumb_path_join(latest, sizeof(latest), before->cfg->output_dir, "latest"));
    PLUMB_TRY(plumb_checkpoint_read_state(&state, latest));
    PLUMB_REQUIRE(plumb_state_stored(&state) == past->start_fingerprint, PLUMB_ERR_FORMAT,
                  "stage %s began with weights %016" PRIx64 ", but stage %s ends with %016" PRIx64
                  ": remove %s to run it again",
                  one->name, past->start_fingerprint, before->name, plumb_state_stored(&state),
                  one->cfg->output_dir);
    return PLUMB_OK;
}

/* Fails if the inputs of a finished stage (models of earlier stages, files) have changed since it
 * ran. */
static plumb_status check_inputs(const struct plumb_stage *one)
{
    char path[4096];
    struct plumb_buf now = {0};
    plumb_status st = plumb_path_join(path, sizeof(path), one->cfg->output_dir, "run.json");
    if (st == PLUMB_OK)
        st = plumb_inputs_put(&now, one->cfg, one->command);
    if (st == PLUMB_OK)
        st = plumb_inputs_check(&now, path);
    plumb_buf_fini(&now);
    PLUMB_REQUIRE(st == PLUMB_OK, st, "stage %s is finished, but %s; or remove %s to run it again",
                  one->name, plumb_trail_message(), one->cfg->output_dir);
    return PLUMB_OK;
}

/* Removes the files of answers and scores of an earlier evaluation, because the evaluation is
 * repeated. Otherwise eval would continue these files or fail. */
static plumb_status remove_lines(const char *dir)
{
    struct plumb_names names = {0};
    char path[4096];
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(plumb_dir_list(&names, dir));
    for (int64_t i = 0; i < names.n; i++) {
        const char *name = names.name[i];
        if ((strncmp(name, "answers.", 8) != 0 && strncmp(name, "scores.", 7) != 0) ||
            !strstr(name, ".jsonl"))
            continue;
        PLUMB_TRY_GOTO(st, plumb_path_join(path, sizeof(path), dir, name), done);
        if (unlink(path))
            PLUMB_FAIL_GOTO(st, PLUMB_ERR_IO, done, "%s: %s", path, strerror(errno));
    }
done:
    plumb_names_fini(&names);
    return st;
}

/* Looks at OUTPUT_DIR/eval.json of an eval stage. Sets *out to FINISHED if it exists. But if the
 * options or inputs have changed since the evaluation, sets *out to NOTHING and removes the old
 * answers and scores. If the file does not exist, *out is unchanged. */
static plumb_status look_at_evaluation(enum past *out, const struct plumb_stage *one)
{
    char path[4096], hash[20], changed[512] = "";
    plumb_json *then = NULL, *inputs = NULL;
    struct plumb_buf now = {0};
    plumb_status st;
    PLUMB_TRY(plumb_path_join(path, sizeof(path), one->cfg->output_dir, "eval.json"));
    if (!plumb_file_exists(path))
        return PLUMB_OK;
    PLUMB_TRY_GOTO(st, plumb_json_read_file(&then, path), done);
    PLUMB_TRY_GOTO(st, plumb_inputs_put(&now, one->cfg, one->command), done);
    PLUMB_TRY_GOTO(st, plumb_json_parse(&inputs, plumb_buf_text(&now), now.len, "inputs"), done);
    snprintf(hash, sizeof(hash), "%016" PRIx64, plumb_config_hash(one->cfg, one->command));
    const bool same = !strcmp(plumb_json_string(plumb_json_get(then, "config_hash"), ""), hash);
    if (!same)
        snprintf(changed, sizeof(changed), "its options changed since it was finished");
    else
        plumb_inputs_changed(changed, sizeof(changed), plumb_json_get(then, "inputs"), inputs,
                             true);
    if (*changed)
        plumb_log(PLUMB_LOG_INFO, "stage %s: %s%s, so it is done again", one->name, changed,
                  same ? " when it was finished" : "");
    if (*changed)
        PLUMB_TRY_GOTO(st, remove_lines(one->cfg->output_dir), done);
    *out = *changed ? NOTHING : FINISHED;
done:
    plumb_json_free(&then);
    plumb_json_free(&inputs);
    plumb_buf_fini(&now);
    return st;
}

static plumb_status look(enum past *out, const struct plumb_stages *s,
                         const struct plumb_stage *one)
{
    struct plumb_run_past past;
    char path[4096];
    *out = NOTHING;
    if (strcmp(one->command, "eval") == 0)
        return look_at_evaluation(out, one);
    PLUMB_TRY(plumb_run_past(&past, one->cfg->output_dir));
    if (!past.there)
        return PLUMB_OK;
    PLUMB_TRY(plumb_path_join(path, sizeof(path), one->cfg->output_dir, "latest"));
    *out = past.finished && plumb_dir_exists(path) ? FINISHED : BEGUN;
    PLUMB_REQUIRE(strcmp(s->top->resume, "never") != 0, PLUMB_ERR_EXISTS,
                  "output_dir: %s has stage %s already; choose another folder, or go on with "
                  "resume=auto",
                  s->top->output_dir, one->name);
    PLUMB_TRY(check_start(s, one, &past));
    if (*out != FINISHED)
        return PLUMB_OK;
    PLUMB_TRY(check_config(one, &past));
    return check_inputs(one);
}

/* ---- before the first stage ----------------------------------------------------------------- */

/* The argument of a callback that fails if an input path does not exist at the start of the run. */
struct ahead {
    const struct plumb_stages *s;
    const struct plumb_stage *one;
};

static plumb_status check_path(void *arg, const char *key, const char *path)
{
    const struct ahead *h = arg;
    const char *dir = h->s->top->output_dir;
    const size_t n = strlen(dir);
    if (strcmp(path, "init") == 0 || strcmp(path, "previous") == 0 ||
        /* An earlier stage may create the path, because it is below output_dir of the whole run. It
         * is not checked whether a stage does. */
        (strncmp(path, dir, n) == 0 && path[n] == '/'))
        return PLUMB_OK;
    PLUMB_REQUIRE(plumb_file_exists(path) || plumb_dir_exists(path), PLUMB_ERR_IO,
                  "stage %s: %s: there is no file or folder %s", h->one->name, key, path);
    return PLUMB_OK;
}

/* Checks all stages before the first one starts, so that an error is not found after hours. */
static plumb_status look_ahead(const struct plumb_stages *s)
{
    for (int64_t i = 0; i < s->n; i++) {
        const struct plumb_stage *one = &s->item[i];
        const struct plumb_config *cfg = one->cfg;
        const bool align = strcmp(one->command, "align") == 0;
        const bool eval = strcmp(one->command, "eval") == 0;
        struct ahead h = {.s = s, .one = one};
        PLUMB_TRY(plumb_config_inputs(cfg, one->command, check_path, &h));
        PLUMB_TRY(plumb_dir_check_output(cfg->output_dir, "output_dir"));
        PLUMB_REQUIRE(eval || *cfg->model, PLUMB_ERR_CONFIG, "stage %s: model: is not set",
                      one->name);
        PLUMB_REQUIRE(align || *(eval ? cfg->data.eval : cfg->data.train), PLUMB_ERR_CONFIG,
                      "stage %s: data.%s: is not set", one->name, eval ? "eval" : "train");
        PLUMB_REQUIRE(!eval || cfg->eval.models.n > 0, PLUMB_ERR_CONFIG,
                      "stage %s: eval.models: is not set", one->name);
        plumb_status st = PLUMB_OK;
        if (align)
            st = plumb_align_check(cfg);
        else if (strcmp(one->command, "prefer") == 0)
            st = plumb_prefer_check(cfg);
        PLUMB_REQUIRE(st == PLUMB_OK, st, "stage %s: %s", one->name, plumb_trail_message());
    }
    return PLUMB_OK;
}

/* ---- running the stages --------------------------------------------------------------------- */

/* Sets train.max_time of the stage to the part of the whole run's train.max_time that is left, by
 * the clock of rank 0. Fails with PLUMB_STOPPED if none is left. Collective. */
static plumb_status hand_time(struct plumb_app *app, struct plumb_config *cfg, double began)
{
    double left = cfg->train.max_time - (plumb_now() - began);
    if (cfg->train.max_time <= 0)
        return PLUMB_OK;
    PLUMB_TRY(plumb_comm_broadcast(app->comm, &left, sizeof(left), 0));
    PLUMB_REQUIRE(left > 0, PLUMB_STOPPED,
                  "stopped between two stages after %g s (train.max_time); resume=auto continues",
                  cfg->train.max_time);
    cfg->train.max_time = left;
    return PLUMB_OK;
}

/* Runs stage i, or skips it if it is finished. began: the time of plumb_now at the start of the
 * whole run. Collective. */
static plumb_status run_stage(struct plumb_app *app, int64_t i, double began)
{
    const struct plumb_stages *s = app->stages;
    const struct plumb_stage *one = &s->item[i];
    enum past past = NOTHING;
    plumb_status st = PLUMB_OK;
    if (plumb_comm_rank(app->comm) == 0)
        st = look(&past, s, one);
    PLUMB_TRY(plumb_comm_agree(app->comm, st));
    PLUMB_TRY(plumb_comm_broadcast(app->comm, &past, sizeof(past), 0));
    plumb_log(PLUMB_LOG_INFO, "stage %lld of %lld, %s (%s): %s", (long long)i + 1, (long long)s->n,
              one->name, one->command, past == FINISHED ? "is finished" : one->cfg->output_dir);
    if (past == FINISHED)
        return PLUMB_OK;
    plumb_say_warnings(app, one->cfg);
    PLUMB_TRY(hand_time(app, one->cfg, began));
    struct plumb_app part = *app;
    part.cfg = one->cfg;
    part.command = one->command;
    return command_of(one->command)(&part);
}

plumb_status plumb_cmd_run(struct plumb_app *app)
{
    const double began = plumb_now();
    const char *resume = app->stages->top->resume;
    PLUMB_REQUIRE(strcmp(resume, "never") == 0 || strcmp(resume, "auto") == 0, PLUMB_ERR_CONFIG,
                  "resume: found '%s', expected never or auto: each stage has its own checkpoints",
                  resume);
    PLUMB_TRY(plumb_comm_agree(app->comm, look_ahead(app->stages)));
    plumb_lock *lock = NULL;
    plumb_status st = plumb_app_lock(&lock, app);
    for (int64_t i = 0; i < app->stages->n && st == PLUMB_OK; i++)
        st = run_stage(app, i, began);
    plumb_lock_release(&lock);
    return st;
}
