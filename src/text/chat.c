/* chat.c - renders the messages of a conversation to text with a chat template, like
 * apply_chat_template of transformers.
 * Layer 3. Includes text/chat.h, base/, io/. */
#include "text/chat.h"

#include <stdio.h>
#include <string.h>

#include "io/file.h"
#include "text/utf8.h"

/* This mark is put after the content of the last message if a model is to continue that message.
 * The rendered text is cut at the mark. transformers uses the same mark. */
#define TAG "CONTINUE_FINAL_MESSAGE_TAG"

/* ---- messages as a template sees them ------------------------------------------------------- */

static const char *const reasoning[] = {"reasoning_content", "thinking", "reasoning"};

/* Returns the reasoning of a message: the first of the members named in `reasoning` that it has and
 * that is not null; NULL if there is none. */
static const plumb_json *reasoning_of(const plumb_json *message)
{
    for (int i = 0; i < 3; i++)
        if (plumb_json_get(message, reasoning[i]))
            return plumb_json_get(message, reasoning[i]);
    return NULL;
}

static plumb_status put_member(struct plumb_buf *out, const char *key, const plumb_json *value)
{
    PLUMB_TRY(plumb_json_put_key(out, key));
    return plumb_json_put_node(out, value);
}

/* Writes the text followed by the mark TAG and a space, as a JSON string. */
static plumb_status put_open_text(struct plumb_buf *out, const plumb_json *text)
{
    struct plumb_buf open = {0};
    plumb_status st =
        plumb_buf_add(&open, plumb_json_string(text, ""), plumb_json_string_len(text));
    if (st == PLUMB_OK)
        st = plumb_buf_add_text(&open, TAG " ");
    if (st == PLUMB_OK)
        st = plumb_json_put_string(out, plumb_buf_text(&open), open.len);
    plumb_buf_fini(&open);
    return st;
}

/* Returns the index of the last part that has a member "text"; -1 if there is none. */
static int64_t last_text(const plumb_json *parts)
{
    int64_t last = plumb_json_count(parts) - 1;
    while (last >= 0 && !plumb_json_member(plumb_json_at(parts, last), "text"))
        last--;
    return last;
}

/* Returns the text of a content that a model is to continue: the content itself or, if it is a list
 * of parts, the text of its last part that has one. Returns NULL if that is no string. */
static const plumb_json *open_text(const plumb_json *content)
{
    const plumb_json *text = content;
    if (plumb_json_type_of(content) == PLUMB_JSON_ARRAY)
        text = plumb_json_get(plumb_json_at(content, last_text(content)), "text");
    return plumb_json_type_of(text) == PLUMB_JSON_STRING ? text : NULL;
}

/* Writes a part of a content. The mark TAG follows its text. */
static plumb_status put_open_part(struct plumb_buf *out, const plumb_json *part)
{
    PLUMB_TRY(plumb_buf_add_text(out, "{"));
    for (int64_t i = 0; i < plumb_json_count(part); i++) {
        const char *key = "";
        const plumb_json *v = NULL;
        PLUMB_TRY(plumb_json_member_at(part, i, &key, &v));
        if (strcmp(key, "text") != 0) {
            PLUMB_TRY(put_member(out, key, v));
            continue;
        }
        PLUMB_TRY(plumb_json_put_key(out, key));
        PLUMB_TRY(put_open_text(out, v));
    }
    return plumb_buf_add_text(out, "}");
}

/* Writes the content of a message that a model is to continue. The mark TAG follows its text, see
 * open_text. */
static plumb_status put_open(struct plumb_buf *out, const plumb_json *content)
{
    if (plumb_json_type_of(content) != PLUMB_JSON_ARRAY)
        return put_open_text(out, content);
    const int64_t last = last_text(content);
    PLUMB_TRY(plumb_buf_add_text(out, "["));
    for (int64_t i = 0; i < plumb_json_count(content); i++) {
        const plumb_json *part = plumb_json_at(content, i);
        PLUMB_TRY(plumb_buf_add_text(out, i ? "," : ""));
        PLUMB_TRY(i == last ? put_open_part(out, part) : plumb_json_put_node(out, part));
    }
    return plumb_buf_add_text(out, "]");
}

/* Writes the message m as a JSON object. Members that are null are dropped. The reasoning is
 * written both as "thinking" and as "reasoning_content", because some templates read the one and
 * some the other. The order of the members is that of transformers, because a template may print
 * the whole message: "thinking" is the first, and "reasoning_content" keeps its place or is the
 * last. If open is true, the mark TAG follows the content, so that the rendered text can be cut
 * there and a model can continue the message. */
static plumb_status put_message(struct plumb_buf *out, const plumb_json *m, bool open)
{
    const plumb_json *thought = reasoning_of(m);
    PLUMB_TRY(plumb_buf_add_text(out, "{"));
    if (thought) {
        const plumb_json *own = plumb_json_get(m, "thinking");
        PLUMB_TRY(put_member(out, "thinking", own ? own : thought));
    }
    for (int64_t i = 0; i < plumb_json_count(m); i++) {
        const char *key = "";
        const plumb_json *v = NULL;
        PLUMB_TRY(plumb_json_member_at(m, i, &key, &v));
        if (plumb_json_type_of(v) == PLUMB_JSON_NULL || strcmp(key, "thinking") == 0)
            continue;
        if (!open || strcmp(key, "content") != 0) {
            PLUMB_TRY(put_member(out, key, v));
            continue;
        }
        PLUMB_TRY(plumb_json_put_key(out, key));
        PLUMB_TRY(put_open(out, v));
    }
    if (thought && !plumb_json_get(m, reasoning[0]))
        PLUMB_TRY(put_member(out, reasoning[0], thought));
    return plumb_buf_add_text(out, "}");
}

static plumb_status read_messages(plumb_json **out, const struct plumb_chat *chat,
                                  const char *where)
{
    const int64_t n = plumb_json_count(chat->messages);
    struct plumb_buf text = {0};
    plumb_status st = PLUMB_OK;
    PLUMB_REQUIRE(plumb_json_type_of(chat->messages) == PLUMB_JSON_ARRAY && n > 0, PLUMB_ERR_FORMAT,
                  "%s: expected a list of one or more messages", where);
    PLUMB_TRY_GOTO(st, plumb_buf_add_text(&text, "["), done);
    for (int64_t i = 0; i < n; i++) {
        const plumb_json *m = plumb_json_at(chat->messages, i);
        if (plumb_json_type_of(m) != PLUMB_JSON_OBJECT)
            PLUMB_FAIL_GOTO(st, PLUMB_ERR_FORMAT, done,
                            "%s: message %lld is %s, expected an object with role and content",
                            where, (long long)i, plumb_json_type_name(plumb_json_type_of(m)));
        const bool open = chat->continue_final_message && i == n - 1;
        if (open && !open_text(plumb_json_get(m, "content")))
            PLUMB_FAIL_GOTO(st, PLUMB_ERR_FORMAT, done,
                            "%s: message %lld is to be continued, but its content is %s, expected "
                            "a text or a list whose last text is a string",
                            where, (long long)i,
                            plumb_json_type_name(plumb_json_type_of(plumb_json_get(m, "content"))));
        PLUMB_TRY_GOTO(st, plumb_buf_add_text(&text, i ? "," : ""), done);
        PLUMB_TRY_GOTO(st, put_message(&text, m, open), done);
    }
    PLUMB_TRY_GOTO(st, plumb_buf_add_text(&text, "]"), done);
    st = plumb_json_parse(out, text.data, text.len, where);
done:
    plumb_buf_fini(&text);
    return st;
}

/* ---- rendering ------------------------------------------------------------------------------ */

static plumb_status set_list(plumb_jinja_vars *v, const char *name, const plumb_json *list)
{
    return list ? plumb_jinja_set_json(v, name, list) : plumb_jinja_set_none(v, name);
}

/* Refuses a template argument with the name of a parameter of transformers' apply_chat_template.
 * Such a value is no variable of the template there, and plumb has a field or an option for it, or
 * does not support it. */
static plumb_status check_arguments(const plumb_json *arguments, const char *where)
{
    static const char *const parameter[] = {"messages",
                                            "conversation",
                                            "tools",
                                            "documents",
                                            "add_generation_prompt",
                                            "padding",
                                            "chat_template",
                                            "tokenize",
                                            "truncation",
                                            "continue_final_message",
                                            "max_length",
                                            "return_tensors",
                                            "return_dict",
                                            "return_assistant_tokens_mask"};
    for (size_t i = 0; i < sizeof(parameter) / sizeof(*parameter); i++)
        PLUMB_REQUIRE(!plumb_json_get(arguments, parameter[i]), PLUMB_ERR_UNSUPPORTED,
                      "%s: the template arguments have \"%s\", which is a parameter of "
                      "apply_chat_template and no variable of the template; remove it (tools and "
                      "documents are fields of a record, the template is data.chat_template)",
                      where, parameter[i]);
    return PLUMB_OK;
}

static plumb_status set_all(plumb_jinja_vars *v, const struct plumb_chat *chat,
                            const plumb_json *messages, const struct plumb_chat_token *tokens,
                            int64_t n_tokens)
{
    for (int64_t i = 0; i < n_tokens; i++)
        PLUMB_TRY(plumb_jinja_set_string(v, tokens[i].name, tokens[i].text,
                                         (int64_t)strlen(tokens[i].text)));
    for (int64_t i = 0; i < plumb_json_count(chat->arguments); i++) {
        const char *key = "";
        const plumb_json *value = NULL;
        PLUMB_TRY(plumb_json_member_at(chat->arguments, i, &key, &value));
        PLUMB_TRY(plumb_jinja_set_json(v, key, value));
    }
    PLUMB_TRY(plumb_jinja_set_json(v, "messages", messages));
    PLUMB_TRY(set_list(v, "tools", chat->tools));
    PLUMB_TRY(set_list(v, "documents", chat->documents));
    return plumb_jinja_set_bool(v, "add_generation_prompt", chat->add_generation_prompt);
}

static bool is_space(const char *at)
{
    const uint32_t c = plumb_utf8_at(at);
    return plumb_utf8_is_space(c) || (c >= 0x1c && c <= 0x1f);
}

/* Returns the length of the n bytes of s without the white space at their end. White space is that
 * of Python's str.strip. */
static int64_t without_space(const char *s, int64_t n)
{
    while (n > 0) {
        const int64_t at = plumb_utf8_before(s, n);
        if (!is_space(s + at))
            break;
        n = at;
    }
    return n;
}

bool plumb_chat_contains(const char *text, int64_t n, const char *part, int64_t len)
{
    len = without_space(part, len);
    while (len > 0 && is_space(part)) {
        len -= plumb_utf8_size(*part);
        part += plumb_utf8_size(*part);
    }
    return len <= 0 || (n > 0 && memmem(text, (size_t)n, part, (size_t)len));
}

static bool contains(const char *text, int64_t n, const plumb_json *part)
{
    return plumb_chat_contains(text, n, plumb_json_string(part, ""), plumb_json_string_len(part));
}

/* Cuts the text at the last mark TAG. The text of the conversation begins at byte offset `begin` of
 * out; `last` is the message to continue. Returns PLUMB_ERR_FORMAT if the text has no mark, or if
 * it does not contain the content of `last` unchanged: the model would then continue another text
 * than that of the record. */
static plumb_status cut_open(struct plumb_buf *out, int64_t begin, const plumb_json *last,
                             const char *where)
{
    const size_t tag = strlen(TAG);
    const char *text = plumb_buf_text(out), *stop = text + out->len, *at = NULL;
    for (const char *next = text + begin; (next = memmem(next, (size_t)(stop - next), TAG, tag));
         next++)
        at = next;
    PLUMB_REQUIRE(at, PLUMB_ERR_FORMAT,
                  "%s: the last message is to be continued, but the chat template does not write "
                  "its content",
                  where);
    PLUMB_REQUIRE(
        contains(text + begin, out->len - begin, open_text(plumb_json_get(last, "content"))),
        PLUMB_ERR_FORMAT,
        "%s: the last message is to be continued, but the chat template changes its "
        "content",
        where);
    int64_t end = at - text;
    /* If the template has removed the space after TAG, it removes white space around contents.
     * Remove it here too. */
    if (at[tag] != ' ')
        end = begin + without_space(text + begin, end - begin);
    out->len = end;
    out->data[end] = '\0';
    return PLUMB_OK;
}

plumb_status plumb_chat_render(const plumb_jinja *t, struct plumb_buf *out,
                               struct plumb_jinja_spans *spans, const struct plumb_chat *chat,
                               const struct plumb_chat_token *tokens, int64_t n_tokens,
                               const struct plumb_jinja_limits *limits, const char *where)
{
    const int64_t begin = out->len;
    plumb_jinja_vars *v = NULL;
    plumb_json *messages = NULL;
    plumb_status st;
    PLUMB_REQUIRE(!chat->continue_final_message || (!spans && !chat->add_generation_prompt),
                  PLUMB_ERR_ARG,
                  "%s: continue_final_message allows neither add_generation_prompt nor spans of "
                  "generated text",
                  where);
    PLUMB_TRY(check_arguments(chat->arguments, where));
    PLUMB_TRY(read_messages(&messages, chat, where));
    PLUMB_TRY_GOTO(st, plumb_jinja_vars_create(&v), done);
    PLUMB_TRY_GOTO(st, set_all(v, chat, messages, tokens, n_tokens), done);
    st = plumb_jinja_render(t, out, spans, v, limits);
    if (st == PLUMB_ERR_FORMAT || st == PLUMB_ERR_UNSUPPORTED)
        st = plumb_fail_at(st, __FILE__, __LINE__, "%s: %s", where, plumb_trail_message());
    if (st == PLUMB_OK && chat->continue_final_message)
        st = cut_open(out, begin,
                      plumb_json_at(chat->messages, plumb_json_count(chat->messages) - 1), where);
done:
    plumb_json_free(&messages);
    plumb_jinja_vars_free(&v);
    return st;
}

/* ---- finding a template ---------------------------------------------------------------------- */

static plumb_status compile_file(plumb_jinja **out, const char *path)
{
    struct plumb_buf text = {0};
    plumb_status st = plumb_file_read_text(&text, path, "a chat template");
    if (st == PLUMB_OK)
        st = plumb_jinja_compile(out, plumb_buf_text(&text), text.len, path);
    plumb_buf_fini(&text);
    return st;
}

/* Returns the template with this name in a list of {"name", "template"} objects, or in an object
 * whose keys are the names; NULL if there is none. */
static const plumb_json *listed(const plumb_json *list, const char *name)
{
    if (plumb_json_type_of(list) == PLUMB_JSON_OBJECT)
        return plumb_json_get(list, name);
    for (int64_t i = 0; i < plumb_json_count(list); i++) {
        const plumb_json *e = plumb_json_at(list, i);
        if (strcmp(plumb_json_string(plumb_json_get(e, "name"), ""), name) == 0)
            return plumb_json_get(e, "template");
    }
    return NULL;
}

/* Appends the names of the folder's templates to `names`, for an error message. */
static plumb_status put_names(struct plumb_buf *names, const plumb_json *list, const char *folder)
{
    const bool object = plumb_json_type_of(list) == PLUMB_JSON_OBJECT;
    char path[4096];
    struct plumb_names files = {0};
    for (int64_t i = 0; i < plumb_json_count(list); i++) {
        const char *name = plumb_json_string(plumb_json_get(plumb_json_at(list, i), "name"), "");
        const plumb_json *text;
        if (object)
            PLUMB_TRY(plumb_json_member_at(list, i, &name, &text));
        PLUMB_TRY(plumb_buf_addf(names, "%s%s", names->len ? ", " : "", name));
    }
    PLUMB_TRY(plumb_path_join(path, sizeof(path), folder, "additional_chat_templates"));
    if (!plumb_dir_exists(path))
        return PLUMB_OK;
    PLUMB_TRY(plumb_dir_list(&files, path));
    plumb_status st = PLUMB_OK;
    for (int64_t i = 0; i < files.n && st == PLUMB_OK; i++)
        st = plumb_buf_addf(names, "%s%.*s", names->len ? ", " : "",
                            (int)strcspn(files.name[i], "."), files.name[i]);
    plumb_names_fini(&files);
    return st;
}

static plumb_status not_there(const char *want, const plumb_json *list, const char *folder)
{
    struct plumb_buf names = {0};
    const bool automatic = strcmp(want, "auto") == 0;
    plumb_status st = put_names(&names, list, folder);
    const char *all = names.len ? plumb_buf_text(&names) : "none with a name";
    if (st == PLUMB_OK && automatic)
        st = plumb_fail_at(PLUMB_ERR_CONFIG, __FILE__, __LINE__,
                           "%s: chat templates: found %s, expected one with the name \"default\"; "
                           "name one of them in data.chat_template",
                           folder, all);
    else if (st == PLUMB_OK)
        st = plumb_fail_at(PLUMB_ERR_CONFIG, __FILE__, __LINE__,
                           "chat_template is %s: there is no such file, and the templates of %s "
                           "are: %s",
                           want, folder, all);
    plumb_buf_fini(&names);
    return st;
}

/* Sets *any to true if the folder has a template in a file of its own. */
static plumb_status has_files(bool *any, const char *folder)
{
    char path[4096];
    struct plumb_names files = {0};
    PLUMB_TRY(plumb_path_join(path, sizeof(path), folder, "chat_template.jinja"));
    *any = plumb_file_exists(path);
    PLUMB_TRY(plumb_path_join(path, sizeof(path), folder, "additional_chat_templates"));
    if (*any || !plumb_dir_exists(path))
        return PLUMB_OK;
    PLUMB_TRY(plumb_dir_list(&files, path));
    for (int64_t i = 0; i < files.n; i++) {
        const char *dot = strrchr(files.name[i], '.');
        *any |= dot && strcmp(dot, ".jinja") == 0;
    }
    plumb_names_fini(&files);
    return PLUMB_OK;
}

/* Finds and compiles a named template of the folder. *out stays NULL if there is none. */
static plumb_status find_named(plumb_jinja **out, const char *want, const plumb_json *list,
                               const char *folder)
{
    char path[4096], file[512];
    const plumb_json *text = listed(list, want);
    snprintf(file, sizeof(file), "additional_chat_templates/%.400s.jinja", want);
    PLUMB_TRY(plumb_path_join(path, sizeof(path), folder, file));
    if (!strchr(want, '/') && plumb_file_exists(path))
        return compile_file(out, path);
    return text ? plumb_jinja_compile(out, plumb_json_string(text, ""), plumb_json_string_len(text),
                                      want)
                : PLUMB_OK;
}

/* Finds and compiles the folder's template for want = "auto". `own` is "chat_template" of
 * tokenizer_config.json, or NULL. hidden: it has no effect, because the folder has templates in
 * files. If tools is true, a template named "tool_use" is preferred. *out stays NULL if the folder
 * has no template, or only named ones in files. */
static plumb_status find_own(plumb_jinja **out, const plumb_json *own, bool hidden,
                             const char *folder, bool tools)
{
    const plumb_json *list = hidden ? NULL : own;
    char path[4096];
    if (tools)
        PLUMB_TRY(find_named(out, "tool_use", list, folder));
    if (*out)
        return PLUMB_OK;
    PLUMB_TRY(plumb_path_join(path, sizeof(path), folder, "chat_template.jinja"));
    if (plumb_file_exists(path))
        return compile_file(out, path);
    if (plumb_json_type_of(list) == PLUMB_JSON_STRING)
        return plumb_jinja_compile(out, plumb_json_string(list, ""), plumb_json_string_len(list),
                                   "chat_template of tokenizer_config.json");
    PLUMB_TRY(find_named(out, "default", list, folder));
    return *out || !own ? PLUMB_OK : not_there("auto", list, folder);
}

plumb_status plumb_chat_template_find(plumb_jinja **out, const char *want, const char *folder,
                                      bool tools)
{
    const bool own = strcmp(want, "auto") == 0;
    bool files;
    char path[4096];
    plumb_json *config = NULL;
    *out = NULL;
    if (!own && plumb_file_exists(want))
        return compile_file(out, want);
    PLUMB_REQUIRE(folder || own, PLUMB_ERR_CONFIG,
                  "chat_template is %s: there is no such file; a template name needs the folder "
                  "of a tokenizer: set tokenizer",
                  want);
    if (!folder)
        return PLUMB_OK;
    PLUMB_TRY(plumb_path_join(path, sizeof(path), folder, "tokenizer_config.json"));
    PLUMB_TRY(has_files(&files, folder));
    if (plumb_file_exists(path))
        PLUMB_TRY(plumb_json_read_file(&config, path));
    const plumb_json *list = plumb_json_get(config, "chat_template");
    /* As in transformers, the templates of tokenizer_config.json count only if there are no files.
     */
    const plumb_json *seen = files ? NULL : list;
    plumb_status st =
        own ? find_own(out, list, files, folder, tools) : find_named(out, want, seen, folder);
    if (st == PLUMB_OK && !own && !*out)
        st = not_there(want, seen, folder);
    plumb_json_free(&config);
    return st;
}
