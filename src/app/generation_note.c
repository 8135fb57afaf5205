/* generation_note.c - warns about settings of generation_config.json that a command does not use.
 * Layer 6. Includes app.h, base/, config/, io/, model/. */
#include <stdio.h>
#include <string.h>

#include "app/app.h"
#include "base/log.h"
#include "io/file.h"
#include "io/json.h"
#include "model/adapter.h"

/* Settings of generation_config.json that change the generated text. `option` is plumb's option for
 * the same setting, or NULL. A setting has no effect if its value is `neutral`, null, false or an
 * empty list. */
static const struct {
    const char *key, *option;
    double neutral;
    bool draws; /* true if the setting has no effect on greedy decoding */
} settings[] = {
    {"temperature", "generate.temperature", 1, true},
    {"top_k", "generate.top_k", 0, true},
    {"top_p", "generate.top_p", 1, true},
    {"min_p", "generate.min_p", 0, true},
    {"repetition_penalty", "generate.repetition_penalty", 1, false},
    {"max_new_tokens", "generate.max_new_tokens", 0, false},
    {"max_length", "data.max_tokens", 20, false},
    {"stop_strings", "generate.stop", 0, false},
    {"num_return_sequences", "generate.group_size", 1, false},
    {"typical_p", NULL, 1, true},
    {"top_h", NULL, 0, true},
    {"epsilon_cutoff", NULL, 0, true},
    {"eta_cutoff", NULL, 0, true},
    {"encoder_repetition_penalty", NULL, 1, false},
    {"no_repeat_ngram_size", NULL, 0, false},
    {"encoder_no_repeat_ngram_size", NULL, 0, false},
    {"num_beams", NULL, 1, false},
    {"guidance_scale", NULL, 1, false},
    {"penalty_alpha", NULL, 0, false},
    {"min_length", NULL, 0, false},
    {"min_new_tokens", NULL, 0, false},
};

/* Settings that need no warning: they affect only how transformers computes, or are details of a
 * setting above. The token ids are read with the model (model/spec_tokens.c); sort() handles
 * do_sample. */
static const char *const inert[] = {"_from_model_config",
                                    "transformers_version",
                                    "do_sample",
                                    "pad_token_id",
                                    "bos_token_id",
                                    "eos_token_id",
                                    "decoder_start_token_id",
                                    "use_cache",
                                    "use_mtp",
                                    "cache_implementation",
                                    "cache_config",
                                    "max_cache_len",
                                    "prefill_chunk_size",
                                    "low_memory",
                                    "compile_config",
                                    "disable_compile",
                                    "continuous_batching_config",
                                    "output_attentions",
                                    "output_hidden_states",
                                    "output_scores",
                                    "output_logits",
                                    "return_dict_in_generate",
                                    "is_assistant",
                                    "num_assistant_tokens",
                                    "num_assistant_tokens_schedule",
                                    "assistant_confidence_threshold",
                                    "assistant_early_exit",
                                    "assistant_lookbehind",
                                    "assistant_ensemble_weight",
                                    "target_lookbehind",
                                    "prompt_lookup_num_tokens",
                                    "max_matching_ngram_size",
                                    "speculation_type",
                                    "early_stopping",
                                    "length_penalty",
                                    "num_beam_groups",
                                    "diversity_penalty",
                                    "renormalize_logits",
                                    "remove_invalid_values"};

static bool is_inert(const char *key)
{
    for (size_t i = 0; i < sizeof(inert) / sizeof(inert[0]); i++)
        if (strcmp(key, inert[i]) == 0)
            return true;
    return false;
}

/* Returns true if a value of any type switches its setting off. */
static bool is_off(const plumb_json *v, double neutral)
{
    switch (plumb_json_type_of(v)) {
    case PLUMB_JSON_NULL:
        return true;
    case PLUMB_JSON_BOOL:
        return !plumb_json_bool(v, true);
    case PLUMB_JSON_INT:
    case PLUMB_JSON_REAL:
        return plumb_json_real(v, neutral) == neutral;
    default:
        return plumb_json_type_of(v) != PLUMB_JSON_STRING && plumb_json_count(v) == 0;
    }
}

/* Appends one setting to list[0] if plumb has an option for it, and to list[1] if it has none.
 * Omits a setting that has no effect, and one whose option the user has given. */
static plumb_status sort_member(struct plumb_buf list[2], const char *key, const plumb_json *v,
                                bool greedy, const struct plumb_config *cfg, const char *command)
{
    const int n = (int)(sizeof(settings) / sizeof(settings[0]));
    int i = 0;
    while (i < n && strcmp(settings[i].key, key) != 0)
        i++;
    const char *option = i < n ? settings[i].option : NULL;
    if (option && !plumb_config_is_option(option, command))
        option = NULL;
    if (is_inert(key) || is_off(v, i < n ? settings[i].neutral : 0) ||
        (i < n && settings[i].draws && greedy) ||
        (option && plumb_config_given(cfg, option) != PLUMB_GIVEN_NO))
        return PLUMB_OK;
    PLUMB_TRY(plumb_buf_addf(&list[!option], " %s=", option ? strchr(option, '.') + 1 : key));
    return plumb_json_put_node(&list[!option], v);
}

/* Appends the settings for which plumb has an option to list[0], and all others to list[1]. */
static plumb_status sort(struct plumb_buf list[2], const plumb_json *root,
                         const struct plumb_config *cfg, const char *command)
{
    const bool greedy = !plumb_json_bool(plumb_json_get(root, "do_sample"), true);
    for (int64_t i = 0; i < plumb_json_count(root); i++) {
        const char *key = "";
        const plumb_json *v = NULL;
        PLUMB_TRY(plumb_json_member_at(root, i, &key, &v));
        PLUMB_TRY(sort_member(list, key, v, greedy, cfg, command));
    }
    if (greedy && plumb_config_given(cfg, "generate.temperature") == PLUMB_GIVEN_NO &&
        cfg->generate.temperature != 0)
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
    PLUMB_TRY_GOTO(st, sort(list, root, cfg, command), done);
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
    char base[4096]; /* the file of an adapter is that of its base */
    if (plumb_comm_rank(app->comm) == 0 && *dir &&
        (plumb_adapter_base(base, sizeof(base), dir) != PLUMB_OK ||
         note(app->cfg, app->command, base) != PLUMB_OK))
        plumb_log(PLUMB_LOG_WARN, "%s", plumb_trail_message());
}
