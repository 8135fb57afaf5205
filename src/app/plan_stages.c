/* plan_stages.c - reads the stages of a file for `plumb plan run`, which plans all stages before
 * any has run.
 * Layer 6. Includes app/plan.h, app/arguments.h, io/, model/. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/arguments.h"
#include "app/plan.h"
#include "io/file.h"
#include "stage/commands.h"

/* Returns true if an argument KEY=VALUE sets an option of `plumb plan` itself. */
static bool is_own(const char *text)
{
    return strncmp(text, "plan.", 5) == 0 || strncmp(text, "output=", 7) == 0;
}

plumb_status plumb_plan_load_stages(struct plumb_stages **stages, struct plumb_config **cfg,
                                    const struct plumb_arguments *a)
{
    char **own = calloc((size_t)a->n + 1, sizeof(*own)),
         **rest = calloc((size_t)a->n + 1, sizeof(*own));
    plumb_status st = PLUMB_OK;
    int n_own = 0, n_rest = 0;
    if (!own || !rest)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, done, "%d arguments", a->n);
    for (int i = 0; i < a->n; i++) {
        if (is_own(a->option[i]))
            own[n_own++] = a->option[i];
        else
            rest[n_rest++] = a->option[i];
    }
    PLUMB_TRY_GOTO(st, plumb_stages_load(stages, a->file, rest, n_rest), done);
    st = plumb_config_load(cfg, "plan run", NULL, own, n_own);
    /* all stages use one backend, so its options are those outside of `stages` */
    if (st == PLUMB_OK) {
        (*cfg)->device = (*stages)->top->device;
        (*cfg)->dtype = (*stages)->top->dtype;
        (*cfg)->threads = (*stages)->top->threads;
        (*cfg)->log_level = (*stages)->top->log_level;
        (*cfg)->comm = (*stages)->top->comm;
    }
done:
    free(own);
    free(rest);
    return st;
}

/* Returns the stage, of the first `before` stages, whose newest checkpoint the path names, or
 * NULL. */
static const struct plumb_stage *stage_of(const struct plumb_stages *s, int64_t before,
                                          const char *path)
{
    char latest[4096];
    for (int64_t k = 0; k < before; k++)
        if (plumb_path_join(latest, sizeof(latest), s->item[k].cfg->output_dir, "latest") ==
                PLUMB_OK &&
            strcmp(latest, path) == 0)
            return &s->item[k];
    return NULL;
}

/* If *path is the checkpoint of an earlier stage and does not exist yet, replaces it by the model
 * that this earlier stage starts from. Returns the earlier stage, or NULL if nothing was replaced.
 */
static const struct plumb_stage *replace(const char **path, struct plumb_plan *p,
                                         const struct plumb_stages *s, int64_t i,
                                         const char *option)
{
    const struct plumb_stage *from = stage_of(s, i, *path);
    if (!from || plumb_dir_exists(*path))
        return NULL;
    *path = from->cfg->model;
    if (plumb_buf_addf(&p->assumed, "%s: stage %s has not run; planned with %s\n", option,
                       from->name, *path) != PLUMB_OK)
        return NULL;
    return from;
}

plumb_status plumb_plan_stage(struct plumb_plan *p, struct plumb_stages *s, int64_t i)
{
    struct plumb_config *c = s->item[i].cfg;
    /* The section plan comes from the command line. Of the section plan of the file, only
     * plan.memory is used, and only if the command line does not set it. */
    const char *memory = c->plan.memory;
    c->plan = p->app->cfg->plan;
    if (!*c->plan.memory)
        c->plan.memory = memory;
    const struct plumb_stage *from = replace(&c->model, p, s, i, "model");
    if (from && c->lora.r == 0 && !*c->lora.adapter)
        c->lora = from->cfg->lora; /* this stage trains the earlier stage's adapter further */
    if (*c->tokenizer && stage_of(s, i, c->tokenizer) && !plumb_dir_exists(c->tokenizer))
        c->tokenizer = stage_of(s, i, c->tokenizer)->cfg->tokenizer;
    from = *c->lora.adapter ? stage_of(s, i, c->lora.adapter) : NULL;
    if (from && !plumb_dir_exists(c->lora.adapter))
        c->lora = from->cfg->lora;
    (void)replace(&c->reward.model, p, s, i, "reward.model");
    (void)replace(&c->method.reference, p, s, i, "method.reference");
    (void)replace(&c->method.judge, p, s, i, "method.judge");
    p->cfg = *c;
    PLUMB_REQUIRE(*c->model, PLUMB_ERR_CONFIG, "model: is not set");
    return PLUMB_OK;
}
