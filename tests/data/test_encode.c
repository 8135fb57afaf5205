/* test_encode.c - checks the token ids of records with small tokenizers of every kind, and their
 * decoding to text.
 * Test. Fixtures: tests/reference/tokenizer_fixtures.py. */
#include "data/encode.h"

#include <string.h>

#include "harness.h"
#include "io/file.h"
#include "io/json.h"

static plumb_json *root;

static plumb_tokenizer *open_fixture(const char *name)
{
    char path[4200];
    const char *source = getenv("PLUMB_SOURCE_ROOT");
    struct plumb_buf text = {0};
    plumb_tokenizer *t;
    CHECKF(source, "%s", "PLUMB_SOURCE_ROOT is not set");
    snprintf(path, sizeof path, "%s/tests/fixtures/tokenizer/%s", source, name);
    CHECK_OK(plumb_json_read_file(&root, path));
    CHECK_OK(plumb_json_put_node(&text, plumb_json_get(root, "tokenizer")));
    CHECK_OK(plumb_tokenizer_parse(&t, text.data, text.len, NULL, 0, path));
    plumb_buf_fini(&text);
    return t;
}

static void close_fixture(plumb_tokenizer **t)
{
    plumb_tokenizer_close(t);
    plumb_json_free(&root);
}

static void check_ids(const struct plumb_ids *got, const int32_t *want, int64_t n, const char *what)
{
    CHECKF(got->n == n, "%s: %d ids, expected %d", what, (int)got->n, (int)n);
    for (int64_t i = 0; i < n; i++)
        CHECKF(got->id[i] == want[i], "%s: id %d is %d, expected %d", what, (int)i, (int)got->id[i],
               (int)want[i]);
}

/* ---- every tokenizer, every position of the boundary
 * ------------------------------------------ */

/* Splits a text into prompt and completion at every position. Checks that the ids of the record are
 * those of the whole text. Checks that the completion begins at the first id in which the whole
 * text and the prompt alone differ, but not before the second id. */
static void check_splits(const plumb_tokenizer *t, const char *text, int64_t len, const char *where)
{
    struct plumb_encoder e = {.tokenizer = t}, alone = {.tokenizer = t};
    struct plumb_ids whole = {0}, ids = {0}, head = {0};
    const struct plumb_part one = {text, len};
    int64_t begin[4];
    bool cut;
    CHECK_OK(plumb_encode(&alone, &whole, begin, &cut, &one, 1));
    CHECK(begin[0] == 0 && begin[1] == whole.n && !cut);
    for (int64_t at = 1; at < len; at += 1 + len / 16) {
        while (at < len && ((unsigned char)text[at] & 0xC0) == 0x80)
            at++;
        const struct plumb_part part[3] = {{text, at}, {text + at, len - at}, {"", 0}};
        CHECK_OK(plumb_encode(&e, &ids, begin, &cut, part, 2));
        check_ids(&ids, whole.id, whole.n, where);
        CHECK_OK(plumb_encode_prompt(&alone, &head, text, at));
        int64_t same = 0;
        while (same < head.n && same < ids.n && head.id[same] == ids.id[same])
            same++;
        CHECK(cut == (same < head.n) || same == 0);
        same = same > 1 || ids.n == 0 ? same : 1;
        CHECKF(begin[1] == same && begin[2] == ids.n, "%s: split at byte %d: %d, expected %d",
               where, (int)at, (int)begin[1], (int)same);
        CHECK_OK(plumb_encode(&e, &ids, begin, NULL, part, 3));
        CHECK(begin[1] == same && begin[2] == whole.n && begin[3] == whole.n);
    }
    plumb_encoder_fini(&e);
    plumb_encoder_fini(&alone);
    plumb_ids_fini(&whole);
    plumb_ids_fini(&ids);
    plumb_ids_fini(&head);
}

static bool is_broken(const struct plumb_buf *text)
{
    return memmem(plumb_buf_text(text), (size_t)text->len, "\xef\xbf\xbd", 3) != NULL;
}

/* Splits the ids into two parts at every position. Checks that the texts of the two parts, joined,
 * are the text of all ids, except if the position is within a character. */
static void check_joins(const plumb_tokenizer *t, const struct plumb_ids *ids, bool skip,
                        const char *where)
{
    struct plumb_buf all = {0}, part = {0};
    CHECK_OK(plumb_tokenizer_decode(t, &all, ids->id, ids->n, skip));
    if (is_broken(&all)) /* the ids do not end with a whole character */
        goto done;
    for (int64_t at = 0; at <= ids->n && ids->n > 0; at++) {
        plumb_buf_clear(&part);
        CHECK_OK(plumb_tokenizer_decode(t, &part, ids->id, at, skip));
        if (is_broken(&part))
            continue;
        CHECK_OK(
            plumb_tokenizer_decode_after(t, &part, ids->id, at, ids->id + at, ids->n - at, skip));
        CHECKF(part.len == all.len &&
                   !memcmp(plumb_buf_text(&part), plumb_buf_text(&all), (size_t)all.len),
               "%s: split at id %d: '%s', expected '%s'", where, (int)at, plumb_buf_text(&part),
               plumb_buf_text(&all));
    }
done:
    plumb_buf_fini(&all);
    plumb_buf_fini(&part);
}

static void test_fixtures(void)
{
    char dir[4200], where[4200];
    struct plumb_names names = {0};
    snprintf(dir, sizeof dir, "%s/tests/fixtures/tokenizer", getenv("PLUMB_SOURCE_ROOT"));
    CHECK_OK(plumb_dir_list(&names, dir));
    CHECK(names.n >= 14);
    for (int64_t i = 0; i < names.n; i++) {
        plumb_tokenizer *t = open_fixture(names.name[i]);
        const plumb_json *cases = plumb_json_get(root, "cases");
        for (int64_t k = 0; k < plumb_json_count(cases); k++) {
            const plumb_json *text = plumb_json_get(plumb_json_at(cases, k), "text");
            struct plumb_ids ids = {0};
            if (!text)
                continue;
            const char *s = plumb_json_string(text, "");
            const int64_t len = plumb_json_string_len(text);
            snprintf(where, sizeof where, "%.60s: cases[%d]", names.name[i], (int)k);
            check_splits(t, s, len, where);
            CHECK_OK(plumb_tokenizer_encode(t, &ids, s, len, true));
            check_joins(t, &ids, false, where);
            check_joins(t, &ids, true, where);
            plumb_ids_fini(&ids);
        }
        close_fixture(&t);
    }
    plumb_names_fini(&names);
}

/* ---- the rules for special tokens and boundaries
 * ------------------------------------------------ */

static int32_t id_of(const plumb_tokenizer *t, const char *token)
{
    const int32_t id = plumb_tokenizer_id(t, token);
    CHECKF(id >= 0, "no token %s", token);
    return id;
}

/* Checks the ids of one record. bar: index of the first token of the completion. */
static void check_record(struct plumb_encoder *e, const char *prompt, const char *completion,
                         int64_t bar, const int32_t *want, int64_t n)
{
    const struct plumb_part part[2] = {{prompt, (int64_t)strlen(prompt)},
                                       {completion, (int64_t)strlen(completion)}};
    struct plumb_ids ids = {0};
    int64_t begin[3];
    char what[200];
    snprintf(what, sizeof what, "'%s' + '%s'", prompt, completion);
    CHECK_OK(plumb_encode(e, &ids, begin, NULL, part, 2));
    check_ids(&ids, want, n, what);
    CHECKF(begin[1] == bar && begin[2] == n, "%s: begins at %d, expected %d", what, (int)begin[1],
           (int)bar);
    plumb_ids_fini(&ids);
}
#define RECORD(prompt, completion, bar, ...)                                                       \
    check_record(&e, prompt, completion, bar, (const int32_t[]){__VA_ARGS__},                      \
                 (int64_t)(sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t)))

/* Checks the rules with a tokenizer whose post-processor adds <s> before a text and </s> after
 * it. */
static void test_rules(void)
{
    plumb_tokenizer *t = open_fixture("llama2_metaspace.json");
    struct plumb_encoder e = {.tokenizer = t, .append_eos = true, .where = "data.jsonl:7"};
    struct plumb_ids ids = {0};
    const int32_t s = 1, end = 2, the = id_of(t, "▁The"),
                  dog = id_of(t, "▁dog"), and = id_of(t, "▁and"), you = id_of(t, "▁you");
    CHECK(plumb_tokenizer_bos(t) == s && plumb_tokenizer_eos(t) == end);
    RECORD("The", " dog and", 2, s, the, dog, and, end);
    /* <s> and </s> are not added if the record already has them. */
    RECORD("<s> The", " dog and", 2, s, the, dog, and, end);
    RECORD("The", " dog and</s>", 2, s, the, dog, and, end);
    RECORD("<s> The", "</s>", 2, s, the, end);
    /* an empty completion, and a prompt that ends with the end token */
    RECORD("The", "", 2, s, the, end);
    RECORD("The</s>", "", 3, s, the, end, end);
    /* a completion that begins with a special token */
    RECORD("The", "<s> dog", 2, s, the, s, dog, end);
    /* The space at the prompt's end belongs to the completion's first token, as in TRL. */
    RECORD("The dog and ", "you", 4, s, the, dog, and, you, end);
    e.append_eos = false;
    RECORD("The", " dog and", 2, s, the, dog, and);
    RECORD("The", " dog and</s>", 2, s, the, dog, and, end);
    plumb_encoder_fini(&e);
    e = (struct plumb_encoder){.tokenizer = t, .no_special = true};
    RECORD("The dog", " and", 2, the, dog, and);
    RECORD("T", "he", 1, the); /* the first token always belongs to the prompt */
    plumb_encoder_fini(&e);
    e = (struct plumb_encoder){.tokenizer = t, .append_eos = true};
    /* append_eos has no effect here: a prompt for generation gets no end token, and a text gets
     * only the one that the post-processor adds. */
    CHECK_OK(plumb_encode_prompt(&e, &ids, "The dog", 7));
    check_ids(&ids, (const int32_t[]){s, the, dog}, 3, "prompt");
    CHECK_OK(plumb_encode_text(&e, &ids, "<s> The dog", 11));
    check_ids(&ids, (const int32_t[]){s, the, dog, end}, 4, "text");
    plumb_encoder_fini(&e);
    plumb_ids_fini(&ids);
    close_fixture(&t);
    /* A tokenizer without an end token. */
    static const char none[] = "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}";
    CHECK_OK(plumb_tokenizer_parse(&t, none, sizeof none - 1, NULL, 0, "none"));
    e = (struct plumb_encoder){.tokenizer = t, .append_eos = true, .where = "data.jsonl:7"};
    const struct plumb_part part = {"a", 1};
    int64_t begin[2];
    CHECK_FAILS(plumb_encode(&e, &ids, begin, NULL, &part, 1), PLUMB_ERR_ARG,
                "data.jsonl:7: append_eos is true, but the tokenizer has no end token");
    plumb_encoder_fini(&e);
    plumb_ids_fini(&ids);
    plumb_tokenizer_close(&t);
}

/* ---- ids to text
 * ---------------------------------------------------------------------------------- */

static void check_completion(const plumb_tokenizer *t, const int32_t *prompt, int64_t n_prompt,
                             const int32_t *ids, int64_t n, const char *want)
{
    struct plumb_buf out = {0};
    CHECK_OK(plumb_decode_completion(t, &out, prompt, n_prompt, ids, n));
    CHECKF(!strcmp(plumb_buf_text(&out), want), "'%s', expected '%s'", plumb_buf_text(&out), want);
    plumb_buf_fini(&out);
}

static void test_first_space(void)
{
    static const char *const name[] = {"llama2.json", "llama2_metaspace.json"};
    for (int i = 0; i < 2; i++) {
        plumb_tokenizer *t = open_fixture(name[i]);
        const int32_t the = id_of(t, "▁The"), dog = id_of(t, "▁dog"), and = id_of(t, "▁and");
        const int32_t answer[] = {dog, and, 2};
        check_completion(t, (const int32_t[]){1, the}, 2, answer, 3, " dog and");
        check_completion(t, (const int32_t[]){1}, 1, answer, 3, "dog and");
        /* Special tokens at the end of the prompt have no text. So the text before the completion
         * is "The", and the completion begins with a space. */
        const int32_t special[] = {1, the, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1};
        check_completion(t, special, 12, answer, 3, " dog and");
        check_completion(t, special, 2, answer, 0, "");
        struct plumb_buf out = {0};
        CHECK_OK(plumb_decode_prompt(t, &out, (const int32_t[]){1, the, dog, 1}, 4));
        CHECKF(!strcmp(plumb_buf_text(&out), "The dog<s>"), "'%s'", plumb_buf_text(&out));
        plumb_buf_fini(&out);
        close_fixture(&t);
    }
}

int main(void)
{
    test_fixtures();
    test_rules();
    test_first_space();
    return 0;
}
