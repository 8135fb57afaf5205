/* test_bleu.c - compares BLEU tokens and scores with those of sacrebleu
 * (tests/reference/bleu_fixtures.py).
 * Test. Includes harness.h, io/, eval/. */
#include "eval/bleu.h"

#include "harness.h"
#include "io/json.h"

static void check_tokens(const char *text, const plumb_json *expected)
{
    struct plumb_buf got = {0}, want = {0};
    CHECK_OK(plumb_bleu_tokens(&got, text));
    for (int64_t i = 0; i < plumb_json_count(expected); i++)
        CHECK_OK(plumb_buf_addf(&want, "%s\n", plumb_json_string(plumb_json_at(expected, i), "")));
    CHECKF(!strcmp(plumb_buf_text(&got), plumb_buf_text(&want)), "of '%s':\n%s\nexpected\n%s", text,
           plumb_buf_text(&got), plumb_buf_text(&want));
    plumb_buf_fini(&got);
    plumb_buf_fini(&want);
}

static void check_corpus(const plumb_json *c, int64_t number)
{
    const plumb_json *answers = plumb_json_get(c, "answers");
    const plumb_json *references = plumb_json_get(c, "references");
    const plumb_json *tokens = plumb_json_get(c, "tokens");
    struct plumb_bleu all = {0}, half[2] = {{{0}, {0}, 0, 0}, {{0}, {0}, 0, 0}};
    for (int64_t i = 0; i < plumb_json_count(answers); i++) {
        const char *a = plumb_json_string(plumb_json_at(answers, i), NULL);
        const char *r = plumb_json_string(plumb_json_at(references, i), NULL);
        check_tokens(a, plumb_json_at(tokens, i));
        CHECK_OK(plumb_bleu_add(&all, a, r));
        CHECK_OK(plumb_bleu_add(&half[i % 2], a, r));
    }
    const double want = plumb_json_real(plumb_json_get(c, "score"), NAN);
    CHECKF(fabs(plumb_bleu_score(&all) - want) < 1e-9, "corpus %lld: %.12f, sacrebleu %.12f",
           (long long)number, plumb_bleu_score(&all), want);
    /* The counts of two halves of the corpus add up to those of the whole corpus. */
    for (int k = 0; k < PLUMB_BLEU_ORDER; k++)
        CHECK(half[0].match[k] + half[1].match[k] == all.match[k] &&
              half[0].total[k] + half[1].total[k] == all.total[k]);
    CHECK(half[0].length + half[1].length == all.length);
}

int main(void)
{
    char path[4096];
    const char *root = getenv("PLUMB_SOURCE_ROOT");
    CHECK(root);
    snprintf(path, sizeof(path), "%s/tests/fixtures/bleu/sacrebleu.json", root);
    plumb_json *corpora = NULL;
    CHECK_OK(plumb_json_read_file(&corpora, path));
    CHECK(plumb_json_count(corpora) >= 20);
    for (int64_t i = 0; i < plumb_json_count(corpora); i++)
        check_corpus(plumb_json_at(corpora, i), i);
    plumb_json_free(&corpora);
    const struct plumb_bleu nothing = {0};
    CHECK(plumb_bleu_score(&nothing) == 0);
    return 0;
}
