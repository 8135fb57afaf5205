/* session.c - opens a model and an input file for one command.
 * Layer 6. Includes app/session.h, base/, io/. */
#include "app/session.h"

#include <string.h>

#include "base/num.h"
#include "data/length.h"
#include "io/file.h"
#include "train/same.h"

plumb_status plumb_app_lock(plumb_lock **out, const struct plumb_app *app)
{
    const struct plumb_config *cfg = app->cfg;
    plumb_status st = PLUMB_OK;
    *out = NULL;
    if (plumb_comm_rank(app->comm) == 0 && *cfg->output_dir)
        st = plumb_lock_take(out, cfg->output_dir, app->command, cfg->comm.timeout);
    return plumb_comm_agree(app->comm, st);
}

/* Opens the tokenizer of the option tokenizer and no model, for a command that needs none. */
static plumb_status open_words(struct plumb_session *s)
{
    const char *dir = s->app->cfg->tokenizer; /* the option's default is the model's folder */
    PLUMB_REQUIRE(*dir, PLUMB_ERR_CONFIG,
                  "tokenizer: is not set; name the folder of a tokenizer.json: plumb %s FOLDER, or "
                  "tokenizer=FOLDER",
                  s->app->command);
    PLUMB_TRY(plumb_dir_check_input(dir, "tokenizer"));
    return plumb_tokenizer_open(&s->tokenizer, dir);
}

/* Opens the model start->base, and the adapter if there is one. Opens the base model as a
 * classifier if the adapter was trained on a classifier. */
static plumb_status open_weights(struct plumb_session *s, const struct plumb_start *start)
{
    struct plumb_backend *b = s->app->backend;
    struct plumb_lora lora;
    int64_t labels = 0;
    if (!*start->adapter)
        return plumb_model_open(&s->model, b, start->base);
    PLUMB_TRY(plumb_adapter_describe(&lora, &labels, start->adapter));
    PLUMB_TRY(labels > 0 ? plumb_model_open_classifier(&s->model, b, start->base, labels, 0)
                         : plumb_model_open(&s->model, b, start->base));
    return plumb_adapter_open(s->model, start->adapter);
}

static plumb_status open_model(struct plumb_session *s, enum plumb_session_model kind)
{
    const struct plumb_config *cfg = s->app->cfg;
    struct plumb_start *start = &s->start;
    if (kind == PLUMB_SESSION_NO_MODEL)
        return open_words(s);
    PLUMB_REQUIRE(*cfg->model, PLUMB_ERR_CONFIG,
                  "model: is not set; name a Hugging Face checkpoint folder (model=DIR)");
    PLUMB_TRY(plumb_dir_check_input(cfg->model, "model"));
    PLUMB_TRY(plumb_start_of(start, cfg));
    char path[4200];
    PLUMB_TRY(plumb_path_join(path, sizeof(path), start->words, "tokenizer.json"));
    if (plumb_file_exists(path) || strcmp(cfg->tokenizer, cfg->model) != 0) {
        PLUMB_TRY(plumb_dir_check_input(start->words, "tokenizer"));
        PLUMB_TRY(plumb_tokenizer_open(&s->tokenizer, start->words));
    }
    PLUMB_TRY(open_weights(s, start));
    const bool classifier = s->model->spec.labels > 0;
    if (!classifier) /* for a classifier, open_encoding sets the longest sequence */
        PLUMB_TRY(plumb_model_set_longest(s->model, cfg->data.max_tokens, start->run));
    PLUMB_REQUIRE(classifier == (kind == PLUMB_SESSION_CLASSIFIER), PLUMB_ERR_UNSUPPORTED,
                  "%s: is a %s; this command needs a %s", start->run,
                  classifier ? "sequence classifier" : "causal language model",
                  classifier ? "causal language model" : "sequence classifier");
    return plumb_model_fit_tokenizer(s->model, s->tokenizer, start->words);
}

/* Fails for a record with text if there is no tokenizer. All records must then have token ids. */
static plumb_status check_ids(const struct plumb_session *s, const struct plumb_record *r,
                              const char *path)
{
    PLUMB_REQUIRE(
        s->tokenizer || r->prompt.ids, PLUMB_ERR_IO,
        "%s:%lld: has text, but %s holds no tokenizer.json; give tokenizer=FOLDER, or ids", path,
        (long long)r->line, s->app->cfg->model);
    return PLUMB_OK;
}

/* Sets s->encoding, which says how a record becomes token ids: for a reward model as in its
 * training, for any other model by the options. */
static plumb_status open_encoding(struct plumb_session *s)
{
    const struct plumb_config *cfg = s->app->cfg;
    const int64_t max_pos = s->model ? s->model->spec.max_pos : 0;
    struct plumb_encoding *e = &s->encoding;
    const char *dir = s->model ? s->start.run : *cfg->model ? cfg->model : cfg->tokenizer;
    const char *words = s->model ? s->start.words : *cfg->tokenizer ? cfg->tokenizer : dir;
    if (s->tokenizer)
        PLUMB_TRY(plumb_chat_open(&s->chat, cfg, dir, words));
    if (s->model && s->model->spec.labels > 0 && s->tokenizer) {
        PLUMB_TRY(plumb_encoding_of(e, cfg, dir, s->tokenizer));
        e->prompt_template =
            plumb_encoding_choose(dir, cfg->data.prompt_template, e->prompt_template);
        e->max_tokens = plumb_at_most(e->max_tokens, max_pos);
        /* the longest sequence is that of the model's training, so that the longrope factors are
         * the same */
        return plumb_model_set_longest(s->model, e->max_tokens, s->start.run);
    }
    *e = (struct plumb_encoding){.append_eos = s->model && cfg->data.append_eos,
                                 .prompt_template = cfg->data.prompt_template,
                                 .max_tokens = max_pos};
    if (s->model && s->model->spec.labels > 0)
        return plumb_model_set_longest(s->model, cfg->data.max_tokens, s->start.run);
    return PLUMB_OK;
}

static plumb_status read_input(struct plumb_session *s, enum plumb_data_kind kind, const char *path,
                               const struct plumb_buf *text)
{
    const struct plumb_config *cfg = s->app->cfg;
    const int64_t max_pos = s->model ? s->model->spec.max_pos : 0;
    const struct plumb_data_options options = {
        .kind = kind,
        .tokenizer = s->tokenizer,
        .prompt_template = s->encoding.prompt_template,
        .chat = &s->chat,
        .all_tokens = !cfg->data.assistant_only,
        .overlong = (enum plumb_overlong)cfg->data.overlong,
        .no_special = !cfg->special,
        .append_eos = s->encoding.append_eos,
        .max_prompt_tokens = kind == PLUMB_DATA_PROMPTS && max_pos
                                 ? plumb_at_most(cfg->data.max_prompt_tokens,
                                                 plumb_at_most(cfg->data.max_tokens, max_pos) - 1)
                                 : 0,
        .max_tokens = plumb_at_most(cfg->data.max_tokens, s->encoding.max_tokens),
        .vocab = s->model ? s->model->spec.v : 0,
        .limit = cfg->data.limit,
        /* generate copies the other members of a record to its output */
        .whole = kind == PLUMB_DATA_PROMPTS,
    };
    PLUMB_TRY(plumb_dataset_parse(&s->data, plumb_buf_text(text), text->len, path, &options));
    for (int64_t i = 0; i < s->data->n; i++) {
        const struct plumb_record *r = &s->data->record[i];
        PLUMB_TRY(check_ids(s, r, path));
        s->longest = plumb_max_i64(s->longest, r->prompt.n + r->completion[0].n);
    }
    return PLUMB_OK;
}

/* Returns the largest number of tokens that generate adds to a prompt; 0 for other commands. */
static int64_t answer_tokens(const struct plumb_app *app)
{
    return strcmp(app->command, "generate") == 0 ? app->cfg->generate.max_new_tokens : 0;
}

plumb_status plumb_session_open(struct plumb_session *s, struct plumb_app *app,
                                enum plumb_session_model model, enum plumb_data_kind kind,
                                const char *path)
{
    struct plumb_buf text = {0};
    *s = (struct plumb_session){.app = app};
    plumb_status st = PLUMB_OK;
    if (!path || !*path)
        st = plumb_fail_at(PLUMB_ERR_CONFIG, __FILE__, __LINE__,
                           "%s: is not set; name a JSON lines file, or - for standard input",
                           kind == PLUMB_DATA_PROMPTS ? "data.prompts" : "input");
    if (st == PLUMB_OK && model != PLUMB_SESSION_NO_MODEL && *app->cfg->model)
        st = plumb_dir_check_input(app->cfg->model, "model");
    if (st == PLUMB_OK)
        st = plumb_file_check_input(path, kind == PLUMB_DATA_PROMPTS ? "data.prompts" : "input");
    if (st == PLUMB_OK)
        st = open_model(s, model);
    if (st == PLUMB_OK)
        st = open_encoding(s);
    st = plumb_comm_agree(app->comm, st);
    if (st == PLUMB_OK)
        st = plumb_lines_read(app, &text, path);
    if (st == PLUMB_OK)
        st = plumb_comm_agree(app->comm, read_input(s, kind, path, &text));
    if (st == PLUMB_OK && s->model)
        st = plumb_same_model(app->comm, "model", s->model);
    /* All ranks got the same lines from rank 0, but each rank reads the tokenizer files itself:
     * check that all have the same token ids. */
    if (st == PLUMB_OK)
        st = plumb_same_records(app->comm, "tokenizer", path, s->data);
    if (st == PLUMB_OK && s->model)
        plumb_length_note(app->cfg,
                          s->longest + (kind == PLUMB_DATA_PROMPTS ? answer_tokens(app) : 0));
    plumb_buf_fini(&text);
    return st;
}

plumb_status plumb_session_pass(struct plumb_session *s, int64_t tokens, bool train)
{
    const int64_t max = plumb_max_i64(plumb_max_i64(s->longest, tokens), 1);
    const struct plumb_pass_limit limit = {
        .max_tokens = max,
        .max_seq = max,
        .max_targets = max,
        .train = train,
        .recompute = train && s->app->cfg->train.recompute,
        .head_rows = s->app->cfg->train.head_rows,
    };
    return plumb_pass_create(&s->pass, s->model, &limit);
}

void plumb_session_close(struct plumb_session *s)
{
    plumb_pass_destroy(&s->pass);
    plumb_dataset_close(&s->data);
    plumb_encoding_fini(&s->encoding);
    plumb_chat_close(&s->chat);
    plumb_model_destroy(&s->model);
    plumb_tokenizer_close(&s->tokenizer);
}
