/* test_beside.c - compares the special tokens that the other tokenizer files define
 * (tokenizer_config.json, special_tokens_map.json, added_tokens.json) with those of transformers,
 * and checks the warnings.
 * Test. Fixture: tests/reference/sources_fixtures.py. */
#include <string.h>

#include "base/log.h"
#include "harness.h"
#include "io/file.h"
#include "io/json.h"
#include "text/tokenizer.h"

static char *said; /* all messages since the last call of hear() */
static size_t said_bytes;
static FILE *ear;

static void hear(void)
{
    plumb_log_mirror(NULL);
    if (ear)
        fclose(ear);
    free(said);
    said = NULL;
    CHECK((ear = open_memstream(&said, &said_bytes)));
    plumb_log_mirror(ear);
}

static bool heard(const char *text)
{
    fflush(ear);
    return said && strstr(said, text) != NULL;
}

static struct plumb_tokenizer_text text_of(struct plumb_buf *b, const plumb_json *v)
{
    if (!v)
        return (struct plumb_tokenizer_text){NULL, 0};
    CHECK_OK(plumb_json_put_node(b, v));
    return (struct plumb_tokenizer_text){plumb_buf_text(b), b->len};
}

static plumb_tokenizer *open_case(const plumb_json *root, const plumb_json *c)
{
    plumb_tokenizer *t = NULL;
    struct plumb_buf b[4] = {{0}};
    const plumb_json *files = plumb_json_get(c, "files");
    const plumb_json *own = plumb_json_get(files, "tokenizer.json");
    const struct plumb_tokenizer_files f = {
        .json = text_of(&b[0], own ? own : plumb_json_get(root, "tokenizer")),
        .config = text_of(&b[1], plumb_json_get(files, "tokenizer_config.json")),
        .map = text_of(&b[2], plumb_json_get(files, "special_tokens_map.json")),
        .added = text_of(&b[3], plumb_json_get(files, "added_tokens.json"))};
    CHECK_OK(plumb_tokenizer_parse_files(&t, &f, "tokenizer.json"));
    for (int i = 0; i < 4; i++)
        plumb_buf_fini(&b[i]);
    return t;
}

static void check_text(const plumb_tokenizer *t, const plumb_json *text, const plumb_json *ids,
                       const char *shown, const char *where)
{
    struct plumb_ids got = {0};
    struct plumb_buf out = {0};
    CHECK_OK(plumb_tokenizer_encode(t, &got, plumb_json_string(text, ""),
                                    plumb_json_string_len(text), true));
    CHECKF(got.n == plumb_json_count(ids), "%s: \"%s\": %d ids, expected %d", where,
           plumb_json_string(text, ""), (int)got.n, (int)plumb_json_count(ids));
    for (int64_t i = 0; i < got.n; i++)
        CHECKF(got.id[i] == plumb_json_int(plumb_json_at(ids, i), -1), "%s: \"%s\": id %d is %d",
               where, plumb_json_string(text, ""), (int)i, (int)got.id[i]);
    CHECK_OK(plumb_tokenizer_decode(t, &out, got.id, got.n, true));
    CHECKF(!strcmp(plumb_buf_text(&out), shown), "%s: '%s', expected '%s'", where,
           plumb_buf_text(&out), shown);
    plumb_ids_fini(&got);
    plumb_buf_fini(&out);
}

static void against_transformers(void)
{
    char path[4096], where[64];
    const char *root_dir = getenv("PLUMB_SOURCE_ROOT");
    plumb_json *root = NULL;
    CHECK_OK(plumb_path_join(path, sizeof path, root_dir ? root_dir : ".",
                             "tests/fixtures/sources/tokenizer.json"));
    CHECK_OK(plumb_json_read_file(&root, path));
    const plumb_json *cases = plumb_json_get(root, "cases"), *texts = plumb_json_get(root, "texts");
    CHECK(plumb_json_count(cases) >= 30 && plumb_json_count(texts) > 4);
    for (int64_t i = 0; i < plumb_json_count(cases); i++) {
        const plumb_json *c = plumb_json_at(cases, i), *want = plumb_json_get(c, "transformers");
        plumb_tokenizer *t = open_case(root, c);
        snprintf(where, sizeof where, "cases[%d]", (int)i);
        CHECKF(plumb_tokenizer_bos(t) == plumb_json_int(plumb_json_get(want, "bos"), -1) &&
                   plumb_tokenizer_eos(t) == plumb_json_int(plumb_json_get(want, "eos"), -1),
               "%s: bos %d, eos %d", where, (int)plumb_tokenizer_bos(t),
               (int)plumb_tokenizer_eos(t));
        for (int64_t k = 0; k < plumb_json_count(texts); k++)
            check_text(t, plumb_json_at(texts, k), plumb_json_at(plumb_json_get(want, "ids"), k),
                       plumb_json_string(plumb_json_at(plumb_json_get(want, "shown"), k), ""),
                       where);
        plumb_tokenizer_close(&t);
    }
    plumb_json_free(&root);
}

#define JSON(rest)                                                                                 \
    "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]},"     \
    "\"added_tokens\":[{\"id\":3,\"content\":\"<s>\",\"special\":true},{\"id\":4,\"content\":"     \
    "\"</s>\",\"special\":true}]" rest "}"
#define ROLES "\"bos_token\":\"<s>\",\"eos_token\":\"</s>\""
#define TEMPLATE                                                                                   \
    ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":"  \
    "\"<s>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[],"            \
    "\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[3],\"tokens\":[\"<s>\"]}}}"

static const struct {
    const char *json, *config, *map, *added;
    plumb_status status;
    const char *said; /* part of the expected message; NULL if there must be none */
} spoken[] = {
    {JSON(""), "{" ROLES "}", NULL, NULL, PLUMB_OK, NULL},
    {JSON(TEMPLATE), "{" ROLES ",\"add_bos_token\":true,\"add_eos_token\":false}", NULL, NULL,
     PLUMB_OK, NULL},
    {JSON(""), "{" ROLES ",\"add_bos_token\":true}", NULL, NULL, PLUMB_OK,
     "add_bos_token is true, but the post_processor of tokenizer.json adds no such token"},
    {JSON(TEMPLATE), "{" ROLES ",\"add_bos_token\":false}", NULL, NULL, PLUMB_OK,
     "add_bos_token is false, but the post_processor of tokenizer.json adds that token"},
    {JSON(TEMPLATE), "{" ROLES ",\"add_eos_token\":true}", NULL, NULL, PLUMB_OK,
     "add_eos_token is true"},
    {JSON(""), "{" ROLES "}", "{\"eos_token\":\"<s>\"}", NULL, PLUMB_OK,
     "eos_token is \"</s>\", but \"<s>\" in special_tokens_map.json"},
    {JSON(""), "{" ROLES ",\"added_tokens_decoder\":{\"9\":{\"content\":\"x\"}}}", NULL, NULL,
     PLUMB_OK,
     "tokenizer_config.json: the file states id 9 for the added token \"x\", but the token gets id "
     "5"},
    {JSON(""), "{" ROLES "}", NULL, "{\"y\":9}", PLUMB_OK,
     "added_tokens.json: the file states id 9 for the added token \"y\", but the token gets id 5"},
    {JSON(""), "{" ROLES ",\"extra_special_tokens\":[\"x\"],\"additional_special_tokens\":[\"y\"]}",
     NULL, NULL, PLUMB_OK, "has extra_special_tokens and additional_special_tokens"},
    {JSON(""), "{" ROLES ",\"tokenizer_class\":\"LlamaTokenizerFast\"}", NULL, NULL, PLUMB_OK,
     "tokenizer_class is LlamaTokenizerFast"},
    {JSON(""), "{" ROLES ",\"split_special_tokens\":true}", NULL, NULL, PLUMB_ERR_UNSUPPORTED,
     "split_special_tokens"},
    {JSON(""), "{" ROLES ",\"added_tokens_decoder\":{\"x\":{\"content\":\"x\"}}}", NULL, NULL,
     PLUMB_ERR_FORMAT, "\"x\": expected a token id as key"},
    {JSON(""), "{" ROLES ",\"added_tokens_decoder\":{\"7\":{\"content\":7}}}", NULL, NULL,
     PLUMB_ERR_FORMAT, "tokenizer_config.json: added_tokens_decoder: expected a string"},
    {JSON(""), "{" ROLES ",\"added_tokens_decoder\":[]}", NULL, NULL, PLUMB_ERR_FORMAT,
     "tokenizer_config.json: added_tokens_decoder: expected an object"},
    {JSON(""), "{\"eos_token\":3}", NULL, NULL, PLUMB_ERR_FORMAT,
     "tokenizer_config.json: eos_token: expected a string"},
    {JSON(""), NULL, "[]", NULL, PLUMB_ERR_FORMAT, "special_tokens_map.json: expected an object"},
    {JSON(""), NULL, NULL, "{\"x\":\"1\"}", PLUMB_ERR_FORMAT, "added_tokens.json: \"x\""},
    {JSON(""), NULL, NULL, "{", PLUMB_ERR_FORMAT, "added_tokens.json"},
    {JSON(""), "{\"additional_special_tokens\":\"x\"}", NULL, NULL, PLUMB_ERR_FORMAT,
     "additional_special_tokens: expected an array"},
};

static void contradictions(void)
{
    for (size_t i = 0; i < sizeof spoken / sizeof *spoken; i++) {
        plumb_tokenizer *t = NULL;
        struct plumb_tokenizer_files f = {.json = {spoken[i].json, 0}};
        f.json.len = (int64_t)strlen(spoken[i].json);
        f.config.text = spoken[i].config;
        f.config.len = spoken[i].config ? (int64_t)strlen(spoken[i].config) : 0;
        f.map.text = spoken[i].map;
        f.map.len = spoken[i].map ? (int64_t)strlen(spoken[i].map) : 0;
        f.added.text = spoken[i].added;
        f.added.len = spoken[i].added ? (int64_t)strlen(spoken[i].added) : 0;
        /* a new name for each case, because the same warning about the same file is logged only
         * once */
        char where[64];
        snprintf(where, sizeof where, "%d/tokenizer.json", (int)i);
        hear();
        const plumb_status st = plumb_tokenizer_parse_files(&t, &f, where);
        CHECKF(st == spoken[i].status, "spoken[%d]: %s", (int)i, st ? plumb_trail() : "read");
        if (st)
            CHECKF(strstr(plumb_trail_message(), spoken[i].said), "spoken[%d]: %s", (int)i,
                   plumb_trail_message());
        else if (spoken[i].said)
            CHECKF(heard(spoken[i].said), "spoken[%d]: '%s'", (int)i, said ? said : "");
        else
            CHECKF(!heard("warning"), "spoken[%d]: '%s'", (int)i, said);
        plumb_tokenizer_close(&t);
    }
}

/* Checks that the warning about the class depends on the model: for mistral, transformers reads the
 * parts of tokenizer.json. */
static void models(void)
{
    static const struct {
        const char *model;
        bool warns;
    } cases[] = {{"{\"model_type\":\"llama\"}", true},
                 {"{\"model_type\":\"mistral\"}", false},
                 {"{\"model_type\":\"phi3\"}", false},
                 {"[]", true},
                 {NULL, true}};
    static const char config[] = "{" ROLES ",\"tokenizer_class\":\"LlamaTokenizer\"}";
    for (int i = 0; i < (int)(sizeof cases / sizeof *cases); i++) {
        plumb_tokenizer *t = NULL;
        struct plumb_tokenizer_files f = {.json = {JSON(""), (int64_t)strlen(JSON(""))}};
        f.config = (struct plumb_tokenizer_text){config, (int64_t)strlen(config)};
        f.model.text = cases[i].model;
        f.model.len = cases[i].model ? (int64_t)strlen(cases[i].model) : 0;
        char where[64];
        snprintf(where, sizeof where, "model-%d/tokenizer.json", i);
        hear();
        CHECK_OK(plumb_tokenizer_parse_files(&t, &f, where));
        CHECKF(heard("tokenizer_class is LlamaTokenizer") == cases[i].warns, "models[%d]: '%s'", i,
               said ? said : "");
        plumb_tokenizer_close(&t);
    }
}

int main(void)
{
    hear();
    against_transformers();
    contradictions();
    models();
    plumb_log_mirror(NULL);
    fclose(ear);
    free(said);
    return 0;
}
