/* cmd_train.c - the training commands: align, sft, reward and prefer.
 * Layer 6. May include everything. */
#include "app/app.h"
#include "stage/commands.h"
#include "train/loops.h"

static struct plumb_trainer_source source_of(struct plumb_app *app)
{
    return (struct plumb_trainer_source){.comm = app->comm,
                                         .backend = app->backend,
                                         .cfg = app->cfg,
                                         .command = app->command,
                                         .argc = app->argc,
                                         .argv = app->argv};
}

plumb_status plumb_cmd_align(struct plumb_app *app)
{
    const struct plumb_trainer_source s = source_of(app);
    plumb_note_generation(app, app->cfg->model);
    return plumb_train_align(&s);
}

plumb_status plumb_cmd_sft(struct plumb_app *app)
{
    const struct plumb_trainer_source s = source_of(app);
    return plumb_train_sft(&s);
}

plumb_status plumb_cmd_reward(struct plumb_app *app)
{
    struct plumb_trainer_source s = source_of(app);
    s.classifier = true;
    return plumb_train_reward(&s);
}

plumb_status plumb_cmd_prefer(struct plumb_app *app)
{
    const struct plumb_trainer_source s = source_of(app);
    return plumb_train_prefer(&s);
}
