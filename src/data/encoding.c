/* encoding.c - writes and reads the file that describes how a reward model reads records.
 * Layer 4. Includes data/encoding.h, base/, io/. */
#include "data/encoding.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "io/file.h"
#include "io/json.h"
#include "text/template.h"

void plumb_encoding_fini(struct plumb_encoding *e)
{
    free(e->owned);
    *e = (struct plumb_encoding){0};
}

static plumb_status put_ids(struct plumb_buf *out, const struct plumb_ids *ids)
{
    PLUMB_TRY(plumb_buf_add_text(out, "["));
    for (int64_t i = 0; i < ids->n; i++)
        PLUMB_TRY(plumb_buf_addf(out, i ? ", %d" : "%d", (int)ids->id[i]));
    return plumb_buf_add_text(out, "]");
}

static plumb_status put_encoding(struct plumb_buf *out, const struct plumb_encoding *e,
                                 const plumb_tokenizer *t)
{
    PLUMB_TRY(plumb_buf_add_text(out, "{\n  \"prompt_template\": "));
    PLUMB_TRY(plumb_json_put_string(out, e->prompt_template, (int64_t)strlen(e->prompt_template)));
    PLUMB_TRY(plumb_buf_addf(
        out, ",\n  \"append_eos\": %s,\n  \"begin_ids\": ", e->append_eos ? "true" : "false"));
    PLUMB_TRY(put_ids(out, plumb_tokenizer_before(t)));
    return plumb_buf_addf(out, ",\n  \"end_id\": %d,\n  \"max_tokens\": %lld\n}\n",
                          (int)plumb_tokenizer_eos(t), (long long)e->max_tokens);
}

plumb_status plumb_encoding_write(const char *dir, const struct plumb_encoding *e,
                                  const plumb_tokenizer *t)
{
    char path[4096];
    struct plumb_buf text = {0};
    PLUMB_TRY(plumb_path_join(path, sizeof path, dir, PLUMB_ENCODING_NAME));
    plumb_status st = put_encoding(&text, e, t);
    if (st == PLUMB_OK)
        st = plumb_file_write_atomic(path, text.data, text.len);
    plumb_buf_fini(&text);
    return st;
}

/* Returns PLUMB_ERR_FORMAT unless the tokenizer adds the same tokens before a text as in training
 * and, if append_eos is true, has the same end token. root: the content of PLUMB_ENCODING_NAME. */
static plumb_status check_special(const plumb_json *root, const plumb_tokenizer *t, bool append_eos,
                                  const char *path)
{
    const plumb_json *list = plumb_json_get(root, "begin_ids");
    const struct plumb_ids *before = plumb_tokenizer_before(t);
    struct plumb_buf found = {0}, wanted = {0};
    int64_t end;
    PLUMB_REQUIRE(plumb_json_type_of(list) == PLUMB_JSON_ARRAY, PLUMB_ERR_FORMAT,
                  "%s: begin_ids: expected a list of token ids", path);
    PLUMB_TRY(plumb_json_want_int(root, "end_id", &end, NULL, path));
    bool same = plumb_json_count(list) == before->n;
    for (int64_t i = 0; i < before->n && same; i++)
        same = plumb_json_int(plumb_json_at(list, i), -1) == before->id[i];
    plumb_status st = PLUMB_OK;
    PLUMB_TRY_GOTO(st, put_ids(&found, before), done);
    PLUMB_TRY_GOTO(st, plumb_json_put_node(&wanted, list), done);
    if (!same)
        PLUMB_FAIL_GOTO(
            st, PLUMB_ERR_FORMAT, done,
            "%s: the reward model was trained with the ids %s before each text, but its "
            "tokenizer now adds %s; restore the tokenizer files of the training",
            path, plumb_buf_text(&wanted), plumb_buf_text(&found));
    if (append_eos && end != plumb_tokenizer_eos(t))
        PLUMB_FAIL_GOTO(
            st, PLUMB_ERR_FORMAT, done,
            "%s: the reward model was trained with the end token %lld, but its tokenizer "
            "now has %d; restore the tokenizer files of the training",
            path, (long long)end, (int)plumb_tokenizer_eos(t));
done:
    plumb_buf_fini(&found);
    plumb_buf_fini(&wanted);
    return st;
}

static plumb_status read_template(char **out, const plumb_json *root, const char *path)
{
    const char *text;
    PLUMB_TRY(plumb_json_want_string(root, "prompt_template", &text, NULL, path));
    *out = strdup(text);
    PLUMB_REQUIRE(*out, PLUMB_ERR_NOMEM, "%s: cannot store the prompt template", path);
    return PLUMB_OK;
}

static plumb_status read_encoding(struct plumb_encoding *e, const plumb_json *root,
                                  const plumb_tokenizer *t, const char *path)
{
    PLUMB_TRY(read_template(&e->owned, root, path));
    e->prompt_template = e->owned;
    PLUMB_TRY(plumb_json_want_bool(root, "append_eos", &e->append_eos, NULL, path));
    PLUMB_TRY(plumb_json_want_int(root, "max_tokens", &e->max_tokens, NULL, path));
    PLUMB_REQUIRE(e->max_tokens > 0, PLUMB_ERR_FORMAT, "%s: max_tokens: %lld, expected 1 or more",
                  path, (long long)e->max_tokens);
    return t ? check_special(root, t, e->append_eos, path) : PLUMB_OK;
}

/* Sets e->append_eos from the option reward.append_eos and the value in PLUMB_ENCODING_NAME. */
static void settle_end(struct plumb_encoding *e, const struct plumb_config *cfg, const char *dir,
                       const plumb_tokenizer *t)
{
    const int given = cfg->reward.append_eos;
    const bool known = e->prompt_template != NULL, wanted = given == PLUMB_END_TRUE;
    if (!known) {
        e->append_eos = given == PLUMB_END_TRAINED ? plumb_tokenizer_eos(t) >= 0 : wanted;
        if (given == PLUMB_END_TRAINED)
            plumb_log(
                PLUMB_LOG_INFO,
                "%s has no %s, which would tell how the reward model was trained: %s", dir,
                PLUMB_ENCODING_NAME,
                e->append_eos
                    ? "the end token is added after each text; reward.append_eos=false omits it"
                    : "its tokenizer has no end token, so none is added after a text");
        return;
    }
    if (given == PLUMB_END_TRAINED || wanted == e->append_eos)
        return;
    plumb_log(PLUMB_LOG_WARN,
              "reward.append_eos is %s, but %s/%s says that the reward model was trained with "
              "append_eos %s: the model now reads other texts than in training",
              wanted ? "true" : "false", dir, PLUMB_ENCODING_NAME, wanted ? "false" : "true");
    e->append_eos = wanted;
}

plumb_status plumb_encoding_of(struct plumb_encoding *out, const struct plumb_config *cfg,
                               const char *dir, const plumb_tokenizer *t)
{
    char path[4096];
    plumb_json *root = NULL;
    *out = (struct plumb_encoding){0};
    PLUMB_TRY(plumb_path_join(path, sizeof path, dir, PLUMB_ENCODING_NAME));
    plumb_status st = PLUMB_OK;
    if (plumb_file_exists(path)) {
        st = plumb_json_read_file(&root, path);
        if (st == PLUMB_OK)
            st = read_encoding(out, root, t, path);
        plumb_json_free(&root);
    }
    if (st == PLUMB_OK && t)
        settle_end(out, cfg, dir, t);
    if (st != PLUMB_OK)
        plumb_encoding_fini(out);
    return st;
}

plumb_status plumb_encoding_template(char **out, const char *dir)
{
    char path[4096];
    plumb_json *root = NULL;
    *out = NULL;
    PLUMB_TRY(plumb_path_join(path, sizeof path, dir, PLUMB_ENCODING_NAME));
    if (!plumb_file_exists(path))
        return PLUMB_OK;
    PLUMB_TRY(plumb_json_read_file(&root, path));
    const plumb_status st = read_template(out, root, path);
    plumb_json_free(&root);
    return st;
}

void plumb_encoding_differs(const char *dir, const char *given, const char *trained)
{
    plumb_log(
        PLUMB_LOG_WARN,
        "data.prompt_template is \"%s\", but %s/" PLUMB_ENCODING_NAME " says that the reward "
        "model was trained with prompt_template \"%s\": the model now reads other texts than in "
        "training",
        given, dir, trained);
}

const char *plumb_encoding_choose(const char *dir, const char *given, const char *trained)
{
    if (!trained || strcmp(given, trained) == 0)
        return given;
    if (strcmp(given, PLUMB_TEMPLATE_DEFAULT) == 0) {
        plumb_log(PLUMB_LOG_INFO, "prompts are put into \"%s\", as %s/" PLUMB_ENCODING_NAME " says",
                  trained, dir);
        return trained;
    }
    plumb_encoding_differs(dir, given, trained);
    return given;
}
