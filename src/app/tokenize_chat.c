/* tokenize_chat.c - tokenize with a chat template: converts conversations to text, ids and a mask.
 * Layer 6. May include everything. */
#include "app/tokenize_chat.h"

#include <stdlib.h>
#include <string.h>

#include "app/lines.h"
#include "data/chat.h"
#include "data/encode.h"
#include "io/file.h"
#include "text/pieces.h"

struct chat_line {
    const char *at; /* start of the line in chat_lines.text; not NUL-terminated */
    int64_t len, number;
};

struct chat_lines {
    struct plumb_app *app;
    plumb_tokenizer *tokenizer; /* NULL if only texts are written */
    struct plumb_chat_setting chat;
    struct plumb_buf text; /* the whole input */
    struct chat_line *line;
    int64_t n, cap;
};

bool plumb_tokenize_is_chat(const struct plumb_config *cfg)
{
    return plumb_config_given(cfg, "data.chat_template") != PLUMB_GIVEN_NO &&
           strcmp(cfg->data.chat_template, "none") != 0;
}

/* Opens the template file that the option data.chat_template names. Called if no tokenizer folder
 * is given. */
static plumb_status open_file(struct plumb_chat_setting *c, const struct plumb_config *cfg)
{
    const char *json = cfg->data.template_arguments;
    PLUMB_TRY(plumb_chat_template_find(&c->template, cfg->data.chat_template, NULL, false));
    PLUMB_TRY(
        plumb_json_parse(&c->arguments, json, (int64_t)strlen(json), "data.template_arguments"));
    if (*cfg->data.system) {
        c->system = strdup(cfg->data.system);
        PLUMB_REQUIRE(c->system, PLUMB_ERR_NOMEM, "data.system");
    }
    return PLUMB_OK;
}

static plumb_status open_chat(struct chat_lines *z)
{
    const struct plumb_config *cfg = z->app->cfg;
    const char *words = cfg->tokenizer; /* if the option is not set, this is the model's folder */
    if (*words) {
        PLUMB_TRY(plumb_dir_check_input(words, "tokenizer"));
        PLUMB_TRY(plumb_tokenizer_open(&z->tokenizer, words));
        PLUMB_TRY(plumb_chat_open(&z->chat, cfg, *cfg->model ? cfg->model : words, words));
    } else {
        PLUMB_TRY(open_file(&z->chat, cfg));
    }
    PLUMB_REQUIRE(z->chat.template, PLUMB_ERR_CONFIG, "data.chat_template is %s, but %s%s",
                  cfg->data.chat_template,
                  *words ? "there is no chat template in the folder "
                         : "no folder with a chat template is named: set tokenizer=FOLDER",
                  words);
    return PLUMB_OK;
}

static plumb_status add_line(void *arg, const char *line, int64_t len, int64_t number)
{
    struct chat_lines *z = arg;
    PLUMB_TRY(plumb_grow((void **)&z->line, z->n, &z->cap, sizeof(*z->line)));
    z->line[z->n++] = (struct chat_line){line, len, number};
    return PLUMB_OK;
}

static plumb_status check_members(const plumb_json *v, const char *where)
{
    static const struct {
        const char *name;
        enum plumb_json_type type;
    } member[] = {{"messages", PLUMB_JSON_ARRAY},
                  {"tools", PLUMB_JSON_ARRAY},
                  {"documents", PLUMB_JSON_ARRAY},
                  {"add_generation_prompt", PLUMB_JSON_BOOL},
                  {"continue_final_message", PLUMB_JSON_BOOL},
                  {"template_arguments", PLUMB_JSON_OBJECT}};
    PLUMB_REQUIRE(plumb_json_type_of(v) == PLUMB_JSON_OBJECT, PLUMB_ERR_FORMAT,
                  "%s: expected an object with messages, found %s", where,
                  plumb_json_type_name(plumb_json_type_of(v)));
    for (int64_t i = 0; i < plumb_json_count(v); i++) {
        const char *key = "";
        const plumb_json *value = NULL;
        size_t k = 0;
        PLUMB_TRY(plumb_json_member_at(v, i, &key, &value));
        while (k < 6 && strcmp(member[k].name, key) != 0)
            k++;
        PLUMB_REQUIRE(k < 6, PLUMB_ERR_FORMAT,
                      "%s: unknown field %s; expected messages, tools, documents, "
                      "add_generation_prompt, continue_final_message or template_arguments",
                      where, key);
        const enum plumb_json_type type = plumb_json_type_of(value);
        PLUMB_REQUIRE(type == member[k].type || type == PLUMB_JSON_NULL, PLUMB_ERR_FORMAT,
                      "%s: %s: found %s, expected %s", where, key, plumb_json_type_name(type),
                      plumb_json_type_name(member[k].type));
    }
    PLUMB_REQUIRE(plumb_json_get(v, "messages"), PLUMB_ERR_FORMAT, "%s: has no messages", where);
    return PLUMB_OK;
}

static plumb_status put_member(struct plumb_buf *b, const char *key, const plumb_json *value)
{
    PLUMB_TRY(plumb_json_put_key(b, key));
    return plumb_json_put_node(b, value);
}

/* Sets *out to an object with the members of both objects: the arguments that the option
 * data.template_arguments has, and those of the input line. If both have a member of the same name,
 * the line's value is used. */
static plumb_status merge_arguments(plumb_json **out, const plumb_json *option,
                                    const plumb_json *line, const char *where)
{
    struct plumb_buf b = {0};
    const char *key = "";
    const plumb_json *value = NULL;
    plumb_status st = plumb_buf_add_text(&b, "{");
    for (int64_t i = 0; i < plumb_json_count(option) && st == PLUMB_OK; i++) {
        st = plumb_json_member_at(option, i, &key, &value);
        if (st == PLUMB_OK && !plumb_json_member(line, key))
            st = put_member(&b, key, value);
    }
    for (int64_t i = 0; i < plumb_json_count(line) && st == PLUMB_OK; i++) {
        st = plumb_json_member_at(line, i, &key, &value);
        if (st == PLUMB_OK)
            st = put_member(&b, key, value);
    }
    if (st == PLUMB_OK)
        st = plumb_buf_add_text(&b, "}");
    if (st == PLUMB_OK)
        st = plumb_json_parse(out, b.data, b.len, where);
    plumb_buf_fini(&b);
    return st;
}

/* Sets *out to a copy of `messages` in which a system message with the text `system` is the first
 * message. */
static plumb_status put_system(plumb_json **out, const char *system, const plumb_json *messages,
                               const char *where)
{
    struct plumb_buf b = {0};
    plumb_status st = plumb_buf_add_text(&b, "[{\"role\":\"system\",\"content\":");
    if (st == PLUMB_OK)
        st = plumb_json_put_string(&b, system, (int64_t)strlen(system));
    if (st == PLUMB_OK)
        st = plumb_buf_add_text(&b, "}");
    for (int64_t i = 0; i < plumb_json_count(messages) && st == PLUMB_OK; i++) {
        st = plumb_buf_add_text(&b, ",");
        if (st == PLUMB_OK)
            st = plumb_json_put_node(&b, plumb_json_at(messages, i));
    }
    if (st == PLUMB_OK)
        st = plumb_buf_add_text(&b, "]");
    if (st == PLUMB_OK)
        st = plumb_json_parse(out, b.data, b.len, where);
    plumb_buf_fini(&b);
    return st;
}

static plumb_status put_tokens(const struct chat_lines *z, struct plumb_buf *out,
                               const struct plumb_buf *text, const struct plumb_jinja_spans *spans,
                               const char *where)
{
    struct plumb_encoder e = {.tokenizer = z->tokenizer, .no_special = true, .where = where};
    const struct plumb_part whole = {plumb_buf_text(text), text->len};
    struct plumb_ids ids = {0};
    struct plumb_buf decoded = {0};
    unsigned char *mask = NULL;
    plumb_status st;
    PLUMB_TRY_GOTO(st, plumb_tokenizer_encode(z->tokenizer, &ids, whole.text, whole.len, false),
                   done);
    PLUMB_TRY_GOTO(st, plumb_buf_add_text(out, ",\"ids\":["), done);
    for (int64_t i = 0; i < ids.n; i++)
        PLUMB_TRY_GOTO(st, plumb_buf_addf(out, i ? ",%d" : "%d", (int)ids.id[i]), done);
    if (spans) {
        mask = calloc((size_t)ids.n + 1, 1);
        if (!mask)
            PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, done, "mask of %lld tokens", (long long)ids.n);
        PLUMB_TRY_GOTO(st, plumb_encode_mask(&e, mask, &ids, whole, spans->span, spans->n), done);
        PLUMB_TRY_GOTO(st, plumb_buf_add_text(out, "],\"mask\":["), done);
        for (int64_t i = 0; i < ids.n; i++)
            PLUMB_TRY_GOTO(st, plumb_buf_addf(out, i ? ",%d" : "%d", mask[i]), done);
    }
    PLUMB_TRY_GOTO(st, plumb_tokenizer_decode(z->tokenizer, &decoded, ids.id, ids.n, false), done);
    PLUMB_TRY_GOTO(st, plumb_buf_add_text(out, "],\"decoded\":"), done);
    st = plumb_json_put_string(out, plumb_buf_text(&decoded), decoded.len);
done:
    free(mask);
    plumb_encoder_fini(&e);
    plumb_buf_fini(&decoded);
    plumb_ids_fini(&ids);
    return st;
}

static plumb_status put_line(const struct chat_lines *z, struct plumb_buf *out, const plumb_json *v,
                             const char *where)
{
    plumb_json *arguments = NULL, *completed = NULL;
    struct plumb_buf text = {0};
    struct plumb_jinja_spans spans = {0};
    plumb_status st;
    struct plumb_chat chat = {
        .messages = plumb_json_get(v, "messages"),
        .tools = plumb_json_get(v, "tools"),
        .documents = plumb_json_get(v, "documents"),
        .add_generation_prompt = plumb_json_bool(plumb_json_get(v, "add_generation_prompt"), false),
        .continue_final_message =
            plumb_json_bool(plumb_json_get(v, "continue_final_message"), false)};
    PLUMB_REQUIRE(!chat.add_generation_prompt || !chat.continue_final_message, PLUMB_ERR_FORMAT,
                  "%s: add_generation_prompt and continue_final_message exclude each other", where);
    const plumb_jinja *t = chat.tools && z->chat.tool_use ? z->chat.tool_use : z->chat.template;
    const bool masked = plumb_jinja_has_generation(t) && !chat.continue_final_message;
    const plumb_json *first = plumb_json_at(chat.messages, 0);
    PLUMB_TRY_GOTO(st,
                   merge_arguments(&arguments, z->chat.arguments,
                                   plumb_json_get(v, "template_arguments"), where),
                   done);
    chat.arguments = arguments;
    if (z->chat.system &&
        strcmp(plumb_json_string(plumb_json_get(first, "role"), ""), "system") != 0) {
        PLUMB_TRY_GOTO(st, put_system(&completed, z->chat.system, chat.messages, where), done);
        chat.messages = completed;
    }
    PLUMB_TRY_GOTO(st,
                   plumb_chat_render(t, &text, masked ? &spans : NULL, &chat, z->chat.token,
                                     z->chat.tokens, NULL, where),
                   done);
    PLUMB_TRY_GOTO(st, plumb_buf_add_text(out, "{\"text\":"), done);
    PLUMB_TRY_GOTO(st, plumb_json_put_string(out, plumb_buf_text(&text), text.len), done);
    if (z->tokenizer)
        PLUMB_TRY_GOTO(st, put_tokens(z, out, &text, masked ? &spans : NULL, where), done);
    st = plumb_buf_add_text(out, "}\n");
done:
    plumb_json_free(&arguments);
    plumb_json_free(&completed);
    plumb_jinja_spans_fini(&spans);
    plumb_buf_fini(&text);
    return st;
}

static plumb_status tokenize(void *arg, int64_t begin, int64_t end, struct plumb_buf *out)
{
    const struct chat_lines *z = arg;
    char where[1100];
    for (int64_t i = begin; i < end; i++) {
        plumb_json *v = NULL;
        snprintf(where, sizeof(where), "%.1000s:%lld", z->app->cfg->input,
                 (long long)z->line[i].number);
        PLUMB_TRY(plumb_json_parse(&v, z->line[i].at, z->line[i].len, where));
        plumb_status st = check_members(v, where);
        if (st == PLUMB_OK)
            st = put_line(z, out, v, where);
        plumb_json_free(&v);
        PLUMB_TRY(st);
    }
    return PLUMB_OK;
}

plumb_status plumb_tokenize_chat(struct plumb_app *app)
{
    struct chat_lines z = {.app = app};
    plumb_status st = PLUMB_OK;
    if (!*app->cfg->input)
        st = plumb_fail_at(PLUMB_ERR_CONFIG, __FILE__, __LINE__,
                           "input: is not set; name a JSON lines file, or - for standard input");
    if (st == PLUMB_OK)
        st = open_chat(&z);
    st = plumb_comm_agree(app->comm, st);
    if (st == PLUMB_OK)
        st = plumb_lines_read(app, &z.text, app->cfg->input);
    if (st == PLUMB_OK)
        st = plumb_comm_agree(app->comm,
                              plumb_text_lines(plumb_buf_text(&z.text), z.text.len, add_line, &z));
    if (st == PLUMB_OK)
        st = plumb_lines_run(app, "tokenize", z.n, 256, tokenize, &z);
    free(z.line);
    plumb_buf_fini(&z.text);
    plumb_chat_close(&z.chat);
    plumb_tokenizer_close(&z.tokenizer);
    return st;
}
