/* inspect_tokenizer.c - describes a tokenizer.
 * Layer 6. Includes inspect.h, io/, text/. */
#include <stdio.h>
#include <string.h>

#include "app/inspect.h"
#include "io/file.h"

/* Returns the text of a token in tokenizer_config.json, which has a string or an object with
 * "content". */
static const char *token_text(const plumb_json *config, const char *key)
{
    const plumb_json *v = plumb_json_get(config, key);
    return plumb_json_string(
        plumb_json_type_of(v) == PLUMB_JSON_OBJECT ? plumb_json_get(v, "content") : v, NULL);
}

static plumb_status put_role(struct plumb_buf *out, const plumb_tokenizer *t,
                             const plumb_json *config, const char *key, int32_t id)
{
    const char *text = token_text(config, key);
    const int n = (int)strcspn(key, "_");
    if (id < 0 && text)
        id = plumb_tokenizer_id(t, text);
    PLUMB_TRY(plumb_buf_addf(out, "%s%.*s ", out->len ? ", " : "", n, key));
    if (id < 0)
        return plumb_buf_add_text(out, "none");
    PLUMB_TRY(plumb_buf_addf(out, "%d ", (int)id));
    return plumb_tokenizer_decode(t, out, &id, 1, false);
}

static plumb_status print_roles(const plumb_tokenizer *t, const plumb_json *config)
{
    struct plumb_buf text = {0};
    plumb_status st;
    PLUMB_TRY_GOTO(st, put_role(&text, t, config, "bos_token", plumb_tokenizer_bos(t)), done);
    PLUMB_TRY_GOTO(st, put_role(&text, t, config, "eos_token", plumb_tokenizer_eos(t)), done);
    PLUMB_TRY_GOTO(st, put_role(&text, t, config, "pad_token", -1), done);
    PLUMB_TRY_GOTO(st, put_role(&text, t, config, "unk_token", -1), done);
    plumb_inspect_row("roles", "%s", plumb_buf_text(&text));
done:
    plumb_buf_fini(&text);
    return st;
}

/* Prints the tokens that the tokenizer adds around a text. */
static plumb_status print_added(const plumb_tokenizer *t)
{
    struct plumb_ids ids = {0};
    struct plumb_buf text = {0};
    plumb_status st;
    PLUMB_TRY_GOTO(st, plumb_tokenizer_encode(t, &ids, "", 0, true), done);
    PLUMB_TRY_GOTO(st, plumb_tokenizer_decode(t, &text, ids.id, ids.n, false), done);
    plumb_inspect_row("adds", "%s", ids.n ? plumb_buf_text(&text) : "nothing to a text");
done:
    plumb_ids_fini(&ids);
    plumb_buf_fini(&text);
    return st;
}

static plumb_status print_template(const char *dir, const plumb_json *config)
{
    static const char *const file[] = {"chat_template.jinja", "chat_template.json"};
    char path[4096];
    const char *found = plumb_json_get(config, "chat_template") ? "tokenizer_config.json" : NULL;
    for (int i = 0; i < 2; i++) {
        PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, file[i]));
        if (!found && plumb_file_exists(path))
            found = file[i];
    }
    if (found)
        plumb_inspect_row(
            "template", "chat template in %s; messages go through it (data.chat_template)", found);
    else
        plumb_inspect_row("template", "no chat template");
    return PLUMB_OK;
}

static plumb_status read_optional(plumb_json **out, const char *dir, const char *file)
{
    char path[4096];
    *out = NULL;
    PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, file));
    return plumb_file_exists(path) ? plumb_json_read_file(out, path) : PLUMB_OK;
}

plumb_status plumb_inspect_tokenizer_rows(const char *dir)
{
    plumb_tokenizer *t = NULL;
    plumb_json *root = NULL, *config = NULL;
    plumb_status st;
    PLUMB_TRY_GOTO(st, plumb_tokenizer_open(&t, dir), done);
    PLUMB_TRY_GOTO(st, read_optional(&root, dir, "tokenizer.json"), done);
    PLUMB_TRY_GOTO(st, read_optional(&config, dir, "tokenizer_config.json"), done);
    const plumb_json *added = plumb_json_get(root, "added_tokens");
    int64_t special = 0;
    for (int64_t i = 0; i < plumb_json_count(added); i++)
        special += plumb_json_bool(plumb_json_get(plumb_json_at(added, i), "special"), false);
    plumb_inspect_row(
        "tokenizer", "%s, %lld ids, %lld added tokens, %lld of them special",
        plumb_json_string(plumb_json_get(plumb_json_get(root, "model"), "type"), "BPE"),
        (long long)plumb_tokenizer_vocab(t), (long long)plumb_json_count(added),
        (long long)special);
    PLUMB_TRY_GOTO(st, print_roles(t, config), done);
    PLUMB_TRY_GOTO(st, print_added(t), done);
    st = print_template(dir, config);
done:
    plumb_tokenizer_close(&t);
    plumb_json_free(&root);
    plumb_json_free(&config);
    return st;
}

plumb_status plumb_inspect_tokenizer(const struct plumb_inspect *w)
{
    char dir[4096];
    PLUMB_TRY(plumb_inspect_folder_of(dir, w->path));
    plumb_inspect_head(w, "a tokenizer");
    return plumb_inspect_tokenizer_rows(dir);
}

plumb_status plumb_inspect_open_words(plumb_tokenizer **out, char *dir,
                                      const struct plumb_inspect *w)
{
    char path[4096];
    *out = NULL;
    snprintf(dir, 4096, "%s", w->words);
    if (*w->words)
        return plumb_tokenizer_open(out, w->words);
    PLUMB_TRY(plumb_inspect_folder_of(dir, w->path));
    PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, "tokenizer.json"));
    return plumb_file_exists(path) ? plumb_tokenizer_open(out, dir) : PLUMB_OK;
}
