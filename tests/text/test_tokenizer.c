/* test_tokenizer.c - compares small tokenizers of every kind with huggingface/tokenizers, and
 * checks that invalid files are refused. Test. Fixtures:
 * tests/reference/tokenizer_fixtures.py. */
#include "harness.h"
#include "io/file.h"
#include "io/json.h"
#include "text/tokenizer.h"

#include <string.h>

static void ids_from_json(struct plumb_ids *ids, const plumb_json *list)
{
    ids->n = 0;
    for (int64_t i = 0; i < plumb_json_count(list); i++)
        CHECK_OK(plumb_ids_add(ids, (int32_t)plumb_json_int(plumb_json_at(list, i), -1)));
}

static void check_encode(const plumb_tokenizer *t, const plumb_json *c, const char *key,
                         const char *where)
{
    const plumb_json *text = plumb_json_get(c, "text");
    struct plumb_ids got = {0}, want = {0};
    ids_from_json(&want, plumb_json_get(c, key));
    CHECK_OK(plumb_tokenizer_encode(t, &got, plumb_json_string(text, NULL),
                                    plumb_json_string_len(text), strcmp(key, "special") == 0));
    CHECKF(got.n == want.n, "%s: %s: %d ids, expected %d", where, key, (int)got.n, (int)want.n);
    for (int64_t i = 0; i < got.n; i++)
        CHECKF(got.id[i] == want.id[i], "%s: %s[%d]: %d, expected %d", where, key, (int)i,
               (int)got.id[i], (int)want.id[i]);
    plumb_ids_fini(&got);
    plumb_ids_fini(&want);
}

static void check_decode(const plumb_tokenizer *t, const plumb_json *c, const char *key,
                         const char *where)
{
    const plumb_json *want = plumb_json_get(c, key), *special = plumb_json_get(c, "special");
    const bool skip = strcmp(key, "skipped") == 0;
    const char *text = plumb_json_string(want, NULL);
    struct plumb_ids ids = {0};
    struct plumb_buf out = {0}, part = {0};
    ids_from_json(&ids, special ? special : plumb_json_get(c, "ids"));
    CHECK_OK(plumb_buf_add_text(&out, "<")); /* decoding appends to this text */
    CHECK_OK(plumb_tokenizer_decode(t, &out, ids.id, ids.n, skip));
    CHECKF(out.len == plumb_json_string_len(want) + 1 &&
               memcmp(out.data + 1, text, (size_t)out.len - 1) == 0,
           "%s: %s: '%s', expected '%s'", where, key, out.data + 1, text);
    struct plumb_decode_stream s = {.skip_special = skip};
    for (int64_t i = 0; i < ids.n; i++)
        CHECK_OK(plumb_decode_stream_add(&s, t, &part, ids.id[i]));
    CHECK_OK(plumb_decode_stream_end(&s, t, &part));
    if (!strstr(text, "\xef\xbf\xbd"))
        CHECKF(part.len == out.len - 1 &&
                   memcmp(plumb_buf_text(&part), text, (size_t)part.len) == 0,
               "%s: %s: streamed '%s', expected '%s'", where, key, plumb_buf_text(&part), text);
    plumb_decode_stream_fini(&s);
    plumb_buf_fini(&part);
    plumb_buf_fini(&out);
    plumb_ids_fini(&ids);
}

static void replay(const char *path)
{
    plumb_json *root = NULL;
    struct plumb_buf text = {0};
    plumb_tokenizer *t = NULL;
    CHECK_OK(plumb_json_read_file(&root, path));
    CHECK_OK(plumb_json_put_node(&text, plumb_json_get(root, "tokenizer")));
    CHECK_OK(plumb_tokenizer_parse(&t, text.data, text.len, NULL, 0, path));
    const plumb_json *cases = plumb_json_get(root, "cases");
    CHECKF(plumb_json_count(cases) >= 20, "%s: %d cases", path, (int)plumb_json_count(cases));
    for (int64_t i = 0; i < plumb_json_count(cases); i++) {
        const plumb_json *c = plumb_json_at(cases, i);
        char where[4200];
        snprintf(where, sizeof where, "%s: cases[%d]", path, (int)i);
        if (plumb_json_get(c, "text")) {
            check_encode(t, c, "ids", where);
            check_encode(t, c, "special", where);
        }
        check_decode(t, c, "decoded", where);
        check_decode(t, c, "skipped", where);
    }
    plumb_tokenizer_close(&t);
    plumb_buf_fini(&text);
    plumb_json_free(&root);
}

static void fixtures(void)
{
    char dir[4000], path[4096];
    struct plumb_names names = {0};
    const char *root = getenv("PLUMB_SOURCE_ROOT");
    CHECKF(root, "%s", "PLUMB_SOURCE_ROOT is not set");
    CHECK_OK(plumb_path_join(dir, sizeof dir, root, "tests/fixtures/tokenizer"));
    CHECK_OK(plumb_dir_list(&names, dir));
    CHECKF(names.n == 20, "%d fixtures in %s", (int)names.n, dir);
    for (int64_t i = 0; i < names.n; i++) {
        CHECK_OK(plumb_path_join(path, sizeof path, dir, names.name[i]));
        replay(path);
    }
    plumb_names_fini(&names);
}

#define MODEL(rest)   "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2}" rest "}"
#define WHOLE(rest)   MODEL(",\"merges\":[\"a b\"]}" rest)
#define DECODER(list) WHOLE(",\"decoder\":{\"type\":\"Sequence\",\"decoders\":[" list "]}")
#define SPLIT(pattern)                                                                             \
    WHOLE(",\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"invert\":false,"     \
          "\"pattern\":{\"Regex\":\"" pattern "\"}}")
#define ADDED(list) WHOLE(",\"added_tokens\":[" list "]")

static const struct {
    const char *json;
    plumb_status status;
    const char *message; /* part of the expected message */
} bad[] = {
    {"", PLUMB_ERR_FORMAT, "JSON"},
    {"[]", PLUMB_ERR_FORMAT, "expected an object, found array"},
    {"{}", PLUMB_ERR_FORMAT, "model: expected an object, found nothing"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0", PLUMB_ERR_FORMAT, "JSON"},
    {"{\"model\":{\"type\":\"Unigram\"}}", PLUMB_ERR_UNSUPPORTED, "type \"Unigram\""},
    {"{\"model\":{\"type\":\"BPE\"}}", PLUMB_ERR_FORMAT, "model.vocab: expected an object"},
    {MODEL("}"), PLUMB_ERR_FORMAT, "model.merges: expected an array"},
    {"{\"model\":{\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}", PLUMB_ERR_FORMAT,
     "\"a\" and \"b\" have the same id 0"},
    {"{\"model\":{\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]}}", PLUMB_ERR_FORMAT, "JSON"},
    {"{\"model\":{\"vocab\":{\"a\":-1},\"merges\":[]}}", PLUMB_ERR_FORMAT, "model.vocab[\"a\"]"},
    {"{\"model\":{\"vocab\":{\"a\":\"0\"},\"merges\":[]}}", PLUMB_ERR_FORMAT, "found string"},
    {"{\"model\":{\"vocab\":{\"a\":99999999},\"merges\":[]}}", PLUMB_ERR_FORMAT, "99999999"},
    {MODEL(",\"merges\":[\"a c\"]}"), PLUMB_ERR_FORMAT,
     "model.merges[0]: \"c\" is not in the vocab"},
    {MODEL(",\"merges\":[\"a b\",\"b a\"]}"), PLUMB_ERR_FORMAT, "model.merges[1]: \"ba\""},
    {MODEL(",\"merges\":[\"ab\"]}"), PLUMB_ERR_FORMAT, "model.merges[0]: expected \"left right\""},
    {MODEL(",\"merges\":[\"a b c\"]}"), PLUMB_ERR_FORMAT, "model.merges[0]: expected"},
    {MODEL(",\"merges\":[[\"a\"]]}"), PLUMB_ERR_FORMAT, "model.merges[0]: expected"},
    {MODEL(",\"merges\":[[\"a\",1]]}"), PLUMB_ERR_FORMAT, "model.merges[0]: expected"},
    {MODEL(",\"merges\":[],\"dropout\":0.5}"), PLUMB_ERR_UNSUPPORTED, "model.dropout 0.5"},
    {MODEL(",\"merges\":[],\"end_of_word_suffix\":\"</w>\"}"), PLUMB_ERR_UNSUPPORTED,
     "model.end_of_word_suffix \"</w>\""},
    {MODEL(",\"merges\":[],\"continuing_subword_prefix\":\"##\"}"), PLUMB_ERR_UNSUPPORTED,
     "model.continuing_subword_prefix \"##\""},
    {MODEL(",\"merges\":[],\"byte_fallback\":3}"), PLUMB_ERR_FORMAT, "byte_fallback"},
    {WHOLE(",\"normalizer\":{\"type\":\"Precompiled\"}"), PLUMB_ERR_UNSUPPORTED, "\"Precompiled\""},
    {WHOLE(",\"normalizer\":{}"), PLUMB_ERR_FORMAT, "type"},
    {WHOLE(",\"normalizer\":7"), PLUMB_ERR_FORMAT, "normalizer: expected an object or null"},
    {WHOLE(",\"normalizer\":{\"type\":\"Replace\",\"content\":\"\"}"), PLUMB_ERR_FORMAT, "pattern"},
    {WHOLE(",\"normalizer\":{\"type\":\"Sequence\"}"), PLUMB_ERR_FORMAT, "normalizer.normalizers"},
    {WHOLE(",\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"}"), PLUMB_ERR_UNSUPPORTED,
     "\"BertPreTokenizer\""},
    {WHOLE(",\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"__\"}"), PLUMB_ERR_FORMAT,
     "replacement: expected one character"},
    {SPLIT("("), PLUMB_ERR_FORMAT, "regular expression ("},
    {SPLIT("a)"), PLUMB_ERR_FORMAT, ") without ("},
    {SPLIT("[a-z&&[b]]"), PLUMB_ERR_UNSUPPORTED, "&& inside a class"},
    {SPLIT("[[a]b]"), PLUMB_ERR_UNSUPPORTED, "a class inside a class"},
    {SPLIT("a(?i)b"), PLUMB_ERR_UNSUPPORTED, "options that are not at the beginning"},
    {SPLIT("[\\\\W]"), PLUMB_ERR_UNSUPPORTED, "\\W inside a class"},
    {SPLIT("\\\\y"), PLUMB_ERR_UNSUPPORTED, "\\y"},
    {SPLIT(""), PLUMB_ERR_UNSUPPORTED, "empty pattern"},
    {WHOLE(",\"post_processor\":{\"type\":\"RobertaProcessing\"}"), PLUMB_ERR_UNSUPPORTED,
     "\"RobertaProcessing\""},
    {WHOLE(",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":"
           "{\"id\":\"<s>\",\"type_id\":0}}],\"special_tokens\":{}}"),
     PLUMB_ERR_FORMAT, "special_tokens[\"<s>\"]"},
    {DECODER("{\"type\":\"CTC\"}"), PLUMB_ERR_UNSUPPORTED, "\"CTC\""},
    {ADDED("{\"content\":\"x\"}"), PLUMB_ERR_FORMAT, "'id' is missing"},
    {ADDED("{\"id\":3}"), PLUMB_ERR_FORMAT, "'content' is missing"},
    {ADDED("{\"id\":3,\"content\":\"x\"},{\"id\":4,\"content\":\"x\"}"), PLUMB_ERR_FORMAT,
     "\"x\" appears twice"},
    {WHOLE(",\"added_tokens\":{}"), PLUMB_ERR_FORMAT, "added_tokens: expected an array"},
};

static void malformed(void)
{
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        plumb_tokenizer *t = NULL;
        const plumb_status st = plumb_tokenizer_parse(&t, bad[i].json, (int64_t)strlen(bad[i].json),
                                                      NULL, 0, "dir/tokenizer.json");
        CHECKF(st == bad[i].status && !t, "%s: status %d", bad[i].json, (int)st);
        CHECKF(strstr(plumb_trail_message(), bad[i].message) &&
                   strstr(plumb_trail_message(), "dir/tokenizer.json"),
               "%s: message '%s' has no '%s'", bad[i].json, plumb_trail_message(), bad[i].message);
    }
    plumb_tokenizer *t = NULL;
    CHECK(plumb_tokenizer_open(&t, "/nonexistent") == PLUMB_ERR_IO && !t);
    CHECK(strstr(plumb_trail_message(), "/nonexistent/tokenizer.json"));
}

static plumb_tokenizer *parse(const char *json, const char *config)
{
    plumb_tokenizer *t = NULL;
    CHECK_OK(plumb_tokenizer_parse(&t, json, (int64_t)strlen(json), config,
                                   config ? (int64_t)strlen(config) : 0, "tokenizer.json"));
    return t;
}

static void decodes(const char *json, const char *config, const int32_t *id, int64_t n,
                    const char *want)
{
    plumb_tokenizer *t = parse(json, config);
    struct plumb_buf out = {0};
    CHECK_OK(plumb_tokenizer_decode(t, &out, id, n, false));
    CHECKF(strcmp(plumb_buf_text(&out), want) == 0, "'%s', expected '%s'", plumb_buf_text(&out),
           want);
    plumb_buf_fini(&out);
    plumb_tokenizer_close(&t);
}

static void encodes(const char *json, const char *config, const char *text, int64_t len,
                    const char *want)
{
    plumb_tokenizer *t = parse(json, config);
    struct plumb_ids ids = {0};
    struct plumb_buf out = {0};
    CHECK_OK(plumb_tokenizer_encode(t, &ids, text, len, true));
    for (int64_t i = 0; i < ids.n; i++)
        CHECK_OK(plumb_buf_addf(&out, "%s%d", i ? " " : "", (int)ids.id[i]));
    CHECKF(strcmp(plumb_buf_text(&out), want) == 0, "'%s', expected '%s'", plumb_buf_text(&out),
           want);
    plumb_buf_fini(&out);
    plumb_ids_fini(&ids);
    plumb_tokenizer_close(&t);
}

/* Checks cases that are not in the fixture, because huggingface/tokenizers fails on them or because
 * they are not part of tokenizer.json. */
static void corners(void)
{
    static const int32_t id[] = {0, 2, 1, 7, -1};
    decodes(WHOLE(""), NULL, id, 5, "a ab b"); /* ids that stand for no token give no text */
    decodes(DECODER("{\"type\":\"Strip\",\"content\":\"a\",\"start\":1,\"stop\":1}"), NULL, id, 3,
            "bb");
    decodes(DECODER("{\"type\":\"Strip\",\"content\":\"b\",\"start\":0,\"stop\":1}"), NULL, id, 3,
            "aa");
    const char *named = ADDED("{\"id\":3,\"content\":\"</s>\",\"special\":true},"
                              "{\"id\":4,\"content\":\"<s>\",\"special\":true},"
                              "{\"id\":5,\"content\":\"\\ufffd\"},{\"id\":6,\"content\":\" .\"}");
    const char *both = "{\"bos_token\":{\"content\":\"<s>\"},\"eos_token\":\"</s>\","
                       "\"add_bos_token\":true,\"add_eos_token\":true}";
    const char *clean = "{\"clean_up_tokenization_spaces\":true}";
    const char *force =
        "{\"clean_up_tokenization_spaces\":true,"
        "\"clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output\":true}";
    encodes(named, NULL, "ab", 2, "2");
    encodes(named, both, "ab", 2, "2"); /* special tokens are added only by a post-processor */
    encodes(named, NULL,
            "a\xff"
            "b\xe2\x82"
            "a<s>",
            8, "0 5 1 5 0"); /* the last ids are those of a part of "<s>" only */
    encodes(named, NULL,
            "a\xed\xa0\x80"
            "b",
            5, "0 5 5 5 1");
    /* prepend_scheme "first" means the first piece of the text, not of each piece that an earlier
     * step made */
    const char *first =
        WHOLE(",\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\"},"
              "{\"type\":\"Metaspace\",\"replacement\":\"b\",\"prepend_scheme\":\"first\"}]}");
    encodes(first, NULL, "a1a", 3, "1 0 0");
    /* U+1ACE and U+10F50 are at the ends of ranges of combining marks that the older tables of the
     * reference library lack. So NFD must not move a mark that follows one of these characters in
     * front of it. */
    const char *nfd = "{\"normalizer\":{\"type\":\"NFD\"},\"model\":{\"merges\":[],\"vocab\":"
                      "{\"a\":0,\"\\u1ace\":1,\"\\u0323\":2,\"\\u0301\":3,\"\U00010F50\":4}}}";
    encodes(nfd, NULL, "a\u1ace\u0301\u0323", 8, "0 1 2 3");
    encodes(nfd, NULL, "a\U00010F50\u0323", 7, "0 4 2");
    encodes(nfd, NULL, "a\u0301\u1ace\u0323", 8, "0 3 1 2");
    static const int32_t spaced[] = {0, 6, 1};
    decodes(named, clean, spaced, 3, "a  . b");
    decodes(named, force, spaced, 3, "a . b");
    plumb_tokenizer *t = parse(named, NULL);
    CHECK(plumb_tokenizer_bos(t) == 4 && plumb_tokenizer_eos(t) == 3);
    CHECK(plumb_tokenizer_vocab(t) == 7 && plumb_tokenizer_id(t, "ab") == 2);
    CHECK(plumb_tokenizer_id(t, "c") == -1);
    plumb_tokenizer_close(&t);
    t = parse(named, "{\"bos_token\":null,\"eos_token\":\"ab\"}");
    CHECK(plumb_tokenizer_bos(t) == -1 && plumb_tokenizer_eos(t) == 2);
    plumb_tokenizer_close(&t);
    t = parse(named, "{}");
    CHECK(plumb_tokenizer_bos(t) == 4 && plumb_tokenizer_eos(t) == 3);
    plumb_tokenizer_close(&t);
    /* this end token is not in tokenizer.json, so it becomes a new token, as in transformers */
    t = parse(named, "{\"eos_token\":\"nobody\"}");
    CHECK(plumb_tokenizer_eos(t) == 7 && plumb_tokenizer_vocab(t) == 8);
    CHECK(plumb_tokenizer_file_vocab(t) == 7);
    plumb_tokenizer_close(&t);
    const char *wrong = "{\"eos_token\":7}";
    CHECK(plumb_tokenizer_parse(&t, named, (int64_t)strlen(named), wrong, (int64_t)strlen(wrong),
                                "tokenizer.json") == PLUMB_ERR_FORMAT);
    CHECK(!t && strstr(plumb_trail_message(), "tokenizer_config.json: eos_token"));
}

int main(void)
{
    fixtures();
    malformed();
    corners();
    return 0;
}
