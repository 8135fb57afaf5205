/* generation_note.c - warns about settings of generation_config.json that a command does not use.
 * Layer 6. Includes app.h, base/, config/, io/. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "app/app.h"
#include "base/log.h"
#include "io/file.h"
#include "io/json.h"

/* Settings of generation_config.json that change the generated text. option is plumb's option for
 * the same setting, or NULL; neutral is the value that has no effect. */
static const struct {
    const char *key, *option;
    double neutral;
} settings[] = {
    {"temperature", "temperature", 1},
    {"top_k", "top_k", 0},
    {"top_p", "top_p", 1},
    {"min_p", "min_p", 0},
    {"max_new_tokens", "max_new_tokens", 0},
    {"typical_p", NULL, 1},
    {"epsilon_cutoff", NULL, 0},
    {"repetition_penalty", NULL, 1},
    {"no_repeat_ngram_size", NULL, 0},
    {"encoder_repetition_penalty", NULL, 1},
    {"num_beams", NULL, 1},
    {"penalty_alpha", NULL, 0},
    {"min_length", NULL, 0},
    {"min_new_tokens", NULL, 0},
};

static bool is_given(const struct plumb_config *cfg, const char *option)
{
    char path[64];
    snprintf(path, sizeof(path), "generate.%s", option);
    return plumb_config_given(cfg, path) != PLUMB_GIVEN_NO;
}

/* Appends the settings for which plumb has an option to list[0], and all others to list[1]. */
static plumb_status sort(struct plumb_buf list[2], const plumb_json *root,
                         const struct plumb_config *cfg)
{
    const bool greedy = !plumb_json_bool(plumb_json_get(root, "do_sample"), true);
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        const plumb_json *v = plumb_json_get(root, settings[i].key);
        const double x = plumb_json_real(v, NAN);
        const char *option = settings[i].option;
        const bool sampling = i < 4; /* the first four have no effect on greedy decoding */
        if (isnan(x) || (greedy && sampling) || x == settings[i].neutral ||
            (option && is_given(cfg, option)))
            continue;
        PLUMB_TRY(plumb_buf_addf(&list[!option], " %s=", settings[i].key));
        PLUMB_TRY(plumb_json_put_real(&list[!option], x));
    }
    if (greedy && !is_given(cfg, "temperature") && cfg->generate.temperature != 0)
        PLUMB_TRY(plumb_buf_add_text(&list[0], " temperature=0 (do_sample is false)"));
    return PLUMB_OK;
}

static plumb_status note(const struct plumb_config *cfg, const char *command, const char *dir)
{
    char path[4096];
    plumb_json *root = NULL;
    struct plumb_buf list[2] = {{0}, {0}};
    plumb_status st;
    PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, "generation_config.json"));
    if (!plumb_file_exists(path))
        return PLUMB_OK;
    PLUMB_TRY_GOTO(st, plumb_json_read_file(&root, path), done);
    PLUMB_TRY_GOTO(st, sort(list, root, cfg), done);
    if (list[0].len)
        plumb_log(PLUMB_LOG_WARN, "%s: %s follows only its end tokens; to sample as it says, add%s",
                  path, command, plumb_buf_text(&list[0]));
    if (list[1].len)
        plumb_log(PLUMB_LOG_WARN, "%s: %s has nothing like%s, which is not followed", path, command,
                  plumb_buf_text(&list[1]));
done:
    plumb_json_free(&root);
    plumb_buf_fini(&list[0]);
    plumb_buf_fini(&list[1]);
    return st;
}

void plumb_note_generation(const struct plumb_app *app, const char *dir)
{
    if (plumb_comm_rank(app->comm) == 0 && *dir && note(app->cfg, app->command, dir) != PLUMB_OK)
        plumb_log(PLUMB_LOG_WARN, "%s", plumb_trail_message());
}
