/* cmd_merge.c - adds an adapter to its base model and writes the result as a model folder.
 * Layer 6. May include everything. */
#include <stdio.h>
#include <string.h>

#include "app/app.h"
#include "base/log.h"
#include "data/chat.h"
#include "data/encoding.h"
#include "io/file.h"
#include "train/start.h"

static plumb_status check(const struct plumb_config *cfg)
{
    PLUMB_REQUIRE(*cfg->model, PLUMB_ERR_CONFIG,
                  "model: is not set; name the base model's folder, or an adapter folder");
    PLUMB_TRY(plumb_dir_check_input(cfg->model, "model"));
    PLUMB_REQUIRE(*cfg->output && strcmp(cfg->output, "-") != 0, PLUMB_ERR_CONFIG,
                  "output: is not set; name the folder to write");
    PLUMB_REQUIRE(!plumb_file_exists(cfg->output), PLUMB_ERR_EXISTS, "output: %s is a file",
                  cfg->output);
    struct plumb_names names = {0};
    if (plumb_dir_exists(cfg->output))
        PLUMB_TRY(plumb_dir_list(&names, cfg->output));
    const int64_t n = names.n;
    plumb_names_fini(&names);
    PLUMB_REQUIRE(n == 0, PLUMB_ERR_EXISTS,
                  "output: %s exists and is not empty; choose another folder", cfg->output);
    return plumb_dir_check_output(cfg->output, "output");
}

static plumb_status open_both(plumb_model **out, const struct plumb_app *app,
                              const struct plumb_start *start)
{
    struct plumb_lora lora;
    int64_t labels = 0;
    PLUMB_TRY(plumb_adapter_describe(&lora, &labels, start->adapter));
    PLUMB_TRY(labels > 0 ? plumb_model_open_classifier(out, app->backend, start->base, labels, 0)
                         : plumb_model_open(out, app->backend, start->base));
    PLUMB_TRY(plumb_model_set_source(*out, start->base, start->words));
    return plumb_adapter_open(*out, start->adapter);
}

/* Copies the files in which the run that trained the adapter recorded the chat settings, the
 * encoding of records, and the longest sequence, which selects the factors of a longrope position
 * embedding. A file that does not exist is skipped. */
static plumb_status copy_notes(const char *from_dir, const char *to_dir)
{
    static const char *const name[] = {PLUMB_CHAT_NAME, PLUMB_ENCODING_NAME, PLUMB_LONGEST_NAME};
    char from[4096], to[4096];
    for (size_t i = 0; i < sizeof(name) / sizeof(name[0]); i++) {
        PLUMB_TRY(plumb_path_join(from, sizeof(from), from_dir, name[i]));
        PLUMB_TRY(plumb_path_join(to, sizeof(to), to_dir, name[i]));
        if (plumb_file_exists(from))
            PLUMB_TRY(plumb_file_copy(from, to));
    }
    return PLUMB_OK;
}

/* Writes the merged model to the folder OUTPUT.tmp and renames it to OUTPUT, so that an incomplete
 * folder never has that name. */
static plumb_status write_folder(const plumb_model *m, const struct plumb_config *cfg,
                                 const char *adapter)
{
    char work[4096 + 8];
    PLUMB_REQUIRE(strlen(cfg->output) < 4096, PLUMB_ERR_CONFIG, "output: the path is too long");
    snprintf(work, sizeof(work), "%s.tmp", cfg->output);
    PLUMB_TRY(plumb_dir_remove(work));
    PLUMB_TRY(plumb_dir_create(work));
    plumb_status st = plumb_model_save(m, work, cfg->checkpoint.shard_bytes);
    if (st == PLUMB_OK)
        st = copy_notes(adapter, work);
    if (st == PLUMB_OK)
        st = plumb_dir_publish(work, cfg->output);
    return st;
}

static plumb_status merge(struct plumb_app *app)
{
    const struct plumb_config *cfg = app->cfg;
    struct plumb_start start;
    plumb_model *m = NULL;
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(check(cfg));
    PLUMB_TRY(plumb_start_of(&start, cfg));
    PLUMB_REQUIRE(*start.adapter, PLUMB_ERR_CONFIG,
                  "lora.adapter: is not set; name the adapter's folder (adapter=DIR)");
    PLUMB_TRY_GOTO(st, open_both(&m, app, &start), done);
    PLUMB_TRY_GOTO(st, plumb_adapter_merge(m), done);
    PLUMB_TRY_GOTO(st, write_folder(m, cfg, start.adapter), done);
    plumb_log(PLUMB_LOG_INFO, "%s and %s are merged in %s", start.base, start.adapter, cfg->output);
done:
    plumb_model_destroy(&m);
    return st;
}

plumb_status plumb_cmd_merge(struct plumb_app *app)
{
    plumb_status st = PLUMB_OK;
    if (plumb_comm_rank(app->comm) == 0) /* the other ranks have nothing to do */
        st = merge(app);
    return plumb_comm_agree(app->comm, st);
}
