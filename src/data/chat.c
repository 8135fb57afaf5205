/* chat.c - determines, compares and writes the chat settings of a model: its chat template, the
 * template arguments, the system text and the special tokens.
 * Layer 4. Includes data/chat.h, base/, config/, io/, text/. */
#include "data/chat.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "io/file.h"
#include "text/template.h"

static const char *const roles[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                    "pad_token", "cls_token", "mask_token"};

static plumb_status read_optional(plumb_json **out, const char *dir, const char *name)
{
    char path[4096];
    PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, name));
    *out = NULL;
    return plumb_file_exists(path) ? plumb_json_read_file(out, path) : PLUMB_OK;
}

/* Returns the text of the special token `role`, for example "bos_token", from a parsed tokenizer
 * file. The file has the text as a string, or an object with the string in "content". Returns NULL
 * if the file has no such token. */
static const char *token_text(const plumb_json *file, const char *role)
{
    const plumb_json *v = plumb_json_get(file, role);
    if (plumb_json_type_of(v) == PLUMB_JSON_OBJECT)
        v = plumb_json_get(v, "content");
    return plumb_json_string(v, NULL);
}

/* Reads the special tokens that transformers passes to a template. special_tokens_map.json is read
 * only if tokenizer_config.json has no added_tokens_decoder, see text/beside.h. */
static plumb_status read_tokens(struct plumb_chat_setting *c, const char *words)
{
    PLUMB_TRY(read_optional(&c->files[0], words, "tokenizer_config.json"));
    if (!plumb_json_get(c->files[0], "added_tokens_decoder"))
        PLUMB_TRY(read_optional(&c->files[1], words, "special_tokens_map.json"));
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
        const char *text = token_text(c->files[1], roles[i]);
        if (!text)
            text = token_text(c->files[0], roles[i]);
        if (text)
            c->token[c->tokens++] = (struct plumb_chat_token){roles[i], text};
    }
    return PLUMB_OK;
}

static bool same_source(const plumb_jinja *a, const plumb_jinja *b)
{
    int64_t na, nb;
    const char *sa = plumb_jinja_source(a, &na), *sb = plumb_jinja_source(b, &nb);
    return na == nb && memcmp(sa, sb, (size_t)na) == 0;
}

/* Sets c->template to the template that `want` (data.chat_template) asks for. If `want` is "auto",
 * also sets c->tool_use to the folder's template for records with tools, unless its source is the
 * same as that of c->template. */
static plumb_status find(struct plumb_chat_setting *c, const char *want, const char *words)
{
    PLUMB_TRY(plumb_chat_template_find(&c->template, want, words, false));
    if (!c->template || c->given)
        return PLUMB_OK;
    PLUMB_TRY(plumb_chat_template_find(&c->tool_use, want, words, true));
    if (c->tool_use && same_source(c->template, c->tool_use))
        plumb_jinja_free(&c->tool_use);
    return PLUMB_OK;
}

/* Renders a conversation that consists of one user message with this content (JSON text). */
static plumb_status probe(const struct plumb_chat_setting *c, struct plumb_buf *out,
                          const char *content)
{
    struct plumb_buf text = {0};
    plumb_json *messages = NULL;
    plumb_status st;
    PLUMB_TRY_GOTO(st, plumb_buf_addf(&text, "[{\"role\":\"user\",\"content\":%s}]", content),
                   done);
    PLUMB_TRY_GOTO(st, plumb_json_parse(&messages, text.data, text.len, "probe"), done);
    const struct plumb_chat chat = {.messages = messages, .arguments = c->arguments};
    st = plumb_chat_render(c->template, out, NULL, &chat, c->token, c->tokens, NULL, "probe");
done:
    plumb_json_free(&messages);
    plumb_buf_fini(&text);
    return st;
}

/* Sets c->parts to true if a content given as a list of text parts renders to the same text as a
 * string. A template that fails on the list does not accept lists; this is not an error of the
 * run. */
static plumb_status find_parts(struct plumb_chat_setting *c)
{
    struct plumb_buf plain = {0}, parts = {0};
    plumb_status st = probe(c, &plain, "\"plumb probe\"");
    if (st == PLUMB_OK)
        st = probe(c, &parts, "[{\"type\":\"text\",\"text\":\"plumb probe\"}]");
    c->parts = st == PLUMB_OK && strstr(plumb_buf_text(&plain), "plumb probe") &&
               strcmp(plumb_buf_text(&plain), plumb_buf_text(&parts)) == 0;
    plumb_buf_fini(&plain);
    plumb_buf_fini(&parts);
    if (st == PLUMB_ERR_NOMEM)
        return st;
    return PLUMB_OK;
}

/* ---- the folder's settings and the options --------------------------------------------------- */

static plumb_status keep_system(struct plumb_chat_setting *c, const char *text)
{
    if (!*text)
        return PLUMB_OK;
    c->system = strdup(text);
    PLUMB_REQUIRE(c->system, PLUMB_ERR_NOMEM, "cannot store the system text");
    return PLUMB_OK;
}

static plumb_status keep_arguments(struct plumb_chat_setting *c, const char *json, int64_t len,
                                   const char *where)
{
    PLUMB_TRY(plumb_json_parse(&c->arguments, json, len, where));
    if (plumb_json_count(c->arguments) == 0) {
        plumb_json_free(&c->arguments);
        return PLUMB_OK;
    }
    c->arguments_text = strndup(json, (size_t)len);
    PLUMB_REQUIRE(c->arguments_text, PLUMB_ERR_NOMEM, "cannot store %s", where);
    return PLUMB_OK;
}

/* The contents of PLUMB_CHAT_NAME in a folder. */
struct stored {
    plumb_json *root;
    const char *use;    /* member "chat_template": "auto" or "none"; "" if the file or the member is
                         * missing */
    const char *system; /* system text; "" if the file has none */
    struct plumb_buf arguments;
};

static plumb_status read_stored(struct stored *s, const char *dir)
{
    char path[4096];
    PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, PLUMB_CHAT_NAME));
    PLUMB_TRY(read_optional(&s->root, dir, PLUMB_CHAT_NAME));
    s->use = s->system = "";
    if (!s->root)
        return plumb_buf_add_text(&s->arguments, "{}");
    PLUMB_TRY(plumb_json_want_string(s->root, "system", &s->system, &s->system, path));
    PLUMB_TRY(plumb_json_want_string(s->root, "chat_template", &s->use, &s->use, path));
    PLUMB_REQUIRE(!*s->use || !strcmp(s->use, "auto") || !strcmp(s->use, "none"), PLUMB_ERR_FORMAT,
                  "%s: chat_template: found \"%s\", expected auto or none", path, s->use);
    const plumb_json *arguments = plumb_json_get(s->root, "template_arguments");
    PLUMB_REQUIRE(!arguments || plumb_json_type_of(arguments) == PLUMB_JSON_OBJECT,
                  PLUMB_ERR_FORMAT, "%s: template_arguments: found %s, expected an object", path,
                  plumb_json_type_name(plumb_json_type_of(arguments)));
    return arguments ? plumb_json_put_node(&s->arguments, arguments)
                     : plumb_buf_add_text(&s->arguments, "{}");
}

static void stored_fini(struct stored *s)
{
    plumb_json_free(&s->root);
    plumb_buf_fini(&s->arguments);
}

/* Returns `given`, the value of `option`, if the option is set, otherwise `trained`, the value in
 * the folder `dir` of the model. If both are set and differ, a warning shows both. */
static const char *choose(const struct plumb_config *cfg, const char *option, const char *given,
                          const char *trained, const char *dir)
{
    if (plumb_config_given(cfg, option) == PLUMB_GIVEN_NO && !*given)
        return trained;
    if (plumb_config_given(cfg, option) == PLUMB_GIVEN_NO && strcmp(given, "{}") == 0)
        return trained;
    if (*trained && strcmp(trained, "{}") != 0 && strcmp(given, trained) != 0)
        plumb_log(PLUMB_LOG_WARN,
                  "%s is %s, but %s/" PLUMB_CHAT_NAME " says that the model was trained with %s",
                  option, *given ? given : "empty", dir, trained);
    return given;
}

/* Warns if data.chat_template names a template and the tokenizer's folder has a different one. */
static plumb_status compare_template(const struct plumb_chat_setting *c, const char *want,
                                     const char *words)
{
    plumb_jinja *own = NULL;
    if (!c->given || !c->template)
        return PLUMB_OK;
    PLUMB_TRY(plumb_chat_template_find(&own, "auto", words, false));
    if (own && !same_source(own, c->template))
        plumb_log(
            PLUMB_LOG_WARN,
            "data.chat_template is %s, but %s has another chat template: the model reads other "
            "texts than it was trained on",
            want, words);
    plumb_jinja_free(&own);
    return PLUMB_OK;
}

/* Appends `json` in the layout (spaces, escapes) in which PLUMB_CHAT_NAME stores JSON, so that the
 * two texts can be compared. */
static plumb_status compact(struct plumb_buf *out, const char *json)
{
    plumb_json *v = NULL;
    plumb_status st = plumb_json_parse(&v, json, (int64_t)strlen(json), "data.template_arguments");
    if (st == PLUMB_OK)
        st = plumb_json_put_node(out, v);
    plumb_json_free(&v);
    return st;
}

/* Sets c->none, which says that no chat template is used. If PLUMB_CHAT_NAME in the model's folder
 * contains "none", the model was trained without a template; then none is used now either, unless
 * data.chat_template is set. If the options contradict PLUMB_CHAT_NAME, a warning says so. */
static void choose_use(struct plumb_chat_setting *c, const struct plumb_config *cfg, bool own,
                       const struct stored *s, const char *dir)
{
    const char *want = cfg->data.chat_template;
    const bool asked = plumb_config_given(cfg, "data.chat_template") != PLUMB_GIVEN_NO;
    const bool automatic = strcmp(want, "auto") == 0, without = strcmp(s->use, "none") == 0;
    c->given = !automatic && strcmp(want, "none") != 0;
    c->none = !c->given && (!automatic || (without && !asked));
    if (c->none && automatic && !own)
        plumb_log(PLUMB_LOG_INFO,
                  "data.chat_template is none, because %s/" PLUMB_CHAT_NAME
                  " says that the model was trained so",
                  dir);
    if (without && !c->none)
        plumb_log(PLUMB_LOG_WARN,
                  "data.chat_template is %s, but %s/" PLUMB_CHAT_NAME
                  " says that the model was trained without a chat template",
                  want, dir);
    if (strcmp(s->use, "auto") == 0 && (c->none || own))
        plumb_log(PLUMB_LOG_WARN,
                  "%s, but %s/" PLUMB_CHAT_NAME
                  " says that the model was trained with its chat template",
                  c->none ? "data.chat_template is none" : "data.prompt_template is set", dir);
}

/* Sets the system text and the template arguments of c. Each comes from its option if that is set,
 * otherwise from *s, the contents of PLUMB_CHAT_NAME. */
static plumb_status settle_texts(struct plumb_chat_setting *c, const struct plumb_config *cfg,
                                 const struct stored *s, const char *dir)
{
    struct plumb_buf given = {0};
    plumb_status st = keep_system(c, choose(cfg, "data.system", cfg->data.system, s->system, dir));
    if (st == PLUMB_OK)
        st = compact(&given, cfg->data.template_arguments);
    if (st == PLUMB_OK) {
        const char *json = choose(cfg, "data.template_arguments", plumb_buf_text(&given),
                                  plumb_buf_text(&s->arguments), dir);
        st = keep_arguments(c, json, (int64_t)strlen(json), "data.template_arguments");
    }
    plumb_buf_fini(&given);
    return st;
}

static plumb_status settle(struct plumb_chat_setting *c, const struct plumb_config *cfg,
                           const char *dir, const char *words, const struct stored *s)
{
    const char *want = cfg->data.chat_template;
    const bool own = strcmp(cfg->data.prompt_template, PLUMB_TEMPLATE_DEFAULT) != 0;
    choose_use(c, cfg, own, s, dir);
    PLUMB_REQUIRE(!c->given || !own, PLUMB_ERR_CONFIG,
                  "data.chat_template is %s and data.prompt_template is set, too: both say how a "
                  "prompt is written; leave one of them out",
                  want);
    if (!c->none && !own)
        PLUMB_TRY(find(c, want, words));
    if (!c->template) {
        PLUMB_REQUIRE(!*cfg->data.system && strcmp(cfg->data.template_arguments, "{}") == 0,
                      PLUMB_ERR_CONFIG,
                      "%s: is set, but there is no chat template that would read it: %s",
                      *cfg->data.system ? "data.system" : "data.template_arguments",
                      c->none ? "data.chat_template is none"
                      : own   ? "data.prompt_template is set"
                              : "the folder has none; name one with data.chat_template");
        return PLUMB_OK;
    }
    PLUMB_TRY(settle_texts(c, cfg, s, dir));
    return compare_template(c, want, words);
}

plumb_status plumb_chat_open(struct plumb_chat_setting *out, const struct plumb_config *cfg,
                             const char *dir, const char *words)
{
    struct stored s = {0};
    *out = (struct plumb_chat_setting){0};
    plumb_status st = read_tokens(out, words);
    if (st == PLUMB_OK)
        st = read_stored(&s, dir);
    if (st == PLUMB_OK)
        st = settle(out, cfg, dir, words, &s);
    if (st == PLUMB_OK && out->template)
        st = find_parts(out);
    stored_fini(&s);
    if (st != PLUMB_OK)
        plumb_chat_close(out);
    return st;
}

plumb_status plumb_chat_open_folder(struct plumb_chat_setting *out, const char *dir)
{
    struct stored s = {0};
    *out = (struct plumb_chat_setting){0};
    plumb_status st = read_tokens(out, dir);
    if (st == PLUMB_OK)
        st = read_stored(&s, dir);
    out->none = st == PLUMB_OK && strcmp(s.use, "none") == 0;
    if (st == PLUMB_OK && !out->none)
        st = find(out, "auto", dir);
    if (st == PLUMB_OK && out->template)
        st = keep_system(out, s.system);
    if (st == PLUMB_OK && out->template)
        st = keep_arguments(out, s.arguments.data, s.arguments.len, PLUMB_CHAT_NAME);
    if (st == PLUMB_OK && out->template)
        st = find_parts(out);
    stored_fini(&s);
    if (st != PLUMB_OK)
        plumb_chat_close(out);
    return st;
}

void plumb_chat_close(struct plumb_chat_setting *c)
{
    plumb_jinja_free(&c->template);
    plumb_jinja_free(&c->tool_use);
    free(c->system);
    free(c->arguments_text);
    plumb_json_free(&c->arguments);
    plumb_json_free(&c->files[0]);
    plumb_json_free(&c->files[1]);
    *c = (struct plumb_chat_setting){0};
}

/* ---- files that a run writes ----------------------------------------------------------------- */

/* Appends the members "system" and "template_arguments", as far as they are set, to a JSON object
 * that is open and already has a member. Then closes the object. */
static plumb_status put_texts(struct plumb_buf *out, const struct plumb_chat_setting *c)
{
    if (c->system) {
        PLUMB_TRY(plumb_buf_add_text(out, ", \"system\": "));
        PLUMB_TRY(plumb_json_put_string(out, c->system, (int64_t)strlen(c->system)));
    }
    if (c->arguments) {
        PLUMB_TRY(plumb_buf_add_text(out, ", \"template_arguments\": "));
        PLUMB_TRY(plumb_json_put_node(out, c->arguments));
    }
    return plumb_buf_add_text(out, "}");
}

plumb_status plumb_chat_put(struct plumb_buf *out, const struct plumb_chat_setting *c)
{
    int64_t len = 0;
    const char *source = c->template ? plumb_jinja_source(c->template, &len) : "";
    PLUMB_TRY(plumb_buf_add_text(out, "{\"template\": "));
    PLUMB_TRY(plumb_json_put_string(out, source, len));
    return put_texts(out, c);
}

plumb_status plumb_chat_write(const char *dir, const struct plumb_chat_setting *c)
{
    char path[4096];
    struct plumb_buf text = {0};
    plumb_status st = PLUMB_OK;
    if (c->given && c->template) {
        int64_t len;
        const char *source = plumb_jinja_source(c->template, &len);
        PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, PLUMB_CHAT_TEMPLATE_NAME));
        PLUMB_TRY(plumb_file_write_atomic(path, source, len));
    }
    if (!c->template && !c->none)
        return PLUMB_OK;
    PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, PLUMB_CHAT_NAME));
    st = plumb_buf_addf(&text, "{\"chat_template\": \"%s\"", c->none ? "none" : "auto");
    if (st == PLUMB_OK)
        st = put_texts(&text, c);
    if (st == PLUMB_OK)
        st = plumb_buf_add_text(&text, "\n");
    if (st == PLUMB_OK)
        st = plumb_file_write_atomic(path, text.data, text.len);
    plumb_buf_fini(&text);
    return st;
}
