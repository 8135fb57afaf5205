/* cmd_run.c - the stages of one file, one after the other: what is finished is skipped, what was
 * interrupted goes on.
 * Layer 6. May include everything. */
#include <inttypes.h>
#include <string.h>

#include "app/app.h"
#include "base/log.h"
#include "io/file.h"
#include "train/checkpoint.h"
#include "train/run.h"

/* What rank 0 finds of a stage before it begins. */
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

/* A finished stage stands for the configuration of now, or it must not be skipped. */
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

/* What a stage began with must be what the stage before it ended with. A reward model begins with
 * a fresh score row, so its first weights say nothing. */
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
    PLUMB_REQUIRE(state.weight_fingerprint == past->start_fingerprint, PLUMB_ERR_FORMAT,
                  "stage %s began with weights %016" PRIx64 ", but stage %s ends with %016" PRIx64
                  ": remove %s to run it again",
                  one->name, past->start_fingerprint, before->name, state.weight_fingerprint,
                  one->cfg->output_dir);
    return PLUMB_OK;
}

static plumb_status look(enum past *out, const struct plumb_stages *s,
                         const struct plumb_stage *one)
{
    struct plumb_run_past past;
    char path[4096];
    *out = NOTHING;
    if (strcmp(one->command, "eval") == 0) {
        PLUMB_TRY(plumb_path_join(path, sizeof(path), one->cfg->output_dir, "eval.json"));
        *out = plumb_file_exists(path) ? FINISHED : NOTHING;
        return PLUMB_OK;
    }
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
    return *out == FINISHED ? check_config(one, &past) : PLUMB_OK;
}

/* train.max_time is of the whole run: what is left of it on rank 0 goes to the stage. Collective.
 */
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

/* Collective. */
static plumb_status run_stage(struct plumb_app *app, int64_t i, double began, bool *fresh)
{
    const struct plumb_stages *s = app->stages;
    const struct plumb_stage *one = &s->item[i];
    enum past past = NOTHING;
    plumb_status st = PLUMB_OK;
    if (plumb_comm_rank(app->comm) == 0)
        st = look(&past, s, one);
    PLUMB_TRY(plumb_comm_agree(app->comm, st));
    PLUMB_TRY(plumb_comm_broadcast(app->comm, &past, sizeof(past), 0));
    const bool again = *fresh && strcmp(one->command, "eval") == 0; /* of models that changed */
    plumb_log(PLUMB_LOG_INFO, "stage %lld of %lld, %s (%s): %s", (long long)i + 1, (long long)s->n,
              one->name, one->command,
              past == FINISHED && !again ? "is finished" : one->cfg->output_dir);
    if (past == FINISHED && !again)
        return PLUMB_OK;
    PLUMB_TRY(hand_time(app, one->cfg, began));
    *fresh = true;
    struct plumb_app part = *app;
    part.cfg = one->cfg;
    part.command = one->command;
    return command_of(one->command)(&part);
}

plumb_status plumb_cmd_run(struct plumb_app *app)
{
    const double began = plumb_now();
    bool fresh = false; /* a stage has run in this session */
    const char *resume = app->stages->top->resume;
    PLUMB_REQUIRE(strcmp(resume, "never") == 0 || strcmp(resume, "auto") == 0, PLUMB_ERR_CONFIG,
                  "resume: found '%s', expected never or auto: each stage has its own checkpoints",
                  resume);
    for (int64_t i = 0; i < app->stages->n; i++)
        PLUMB_TRY(run_stage(app, i, began, &fresh));
    return PLUMB_OK;
}
