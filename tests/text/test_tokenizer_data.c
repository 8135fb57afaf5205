/* test_tokenizer_data.c - compares the ids of published tokenizers with published ids of texts.
 * Test. Needs the optional shared data; exits with 77 (skipped) without them. */
#include "harness.h"
#include "io/file.h"
#include "io/json.h"
#include "text/tokenizer.h"

#include <string.h>

static char path_text[4096];
static const char *path(const char *data, const char *name)
{
    CHECK_OK(plumb_path_join(path_text, sizeof path_text, data, name));
    return path_text;
}

static void print_ids(const char *what, const int32_t *id, int64_t n)
{
    fprintf(stderr, "%s:", what);
    for (int64_t i = 0; i < n; i++)
        fprintf(stderr, " %d", (int)id[i]);
    fputc('\n', stderr);
}

/* Returns true if the ids of the text are the expected ones. */
static bool same_ids(const plumb_tokenizer *t, const char *text, int64_t len,
                     const struct plumb_ids *want, bool special)
{
    struct plumb_ids got = {0};
    CHECK_OK(plumb_tokenizer_encode(t, &got, text, len, special));
    const bool same = got.n == want->n &&
                      (got.n == 0 || memcmp(got.id, want->id, (size_t)got.n * sizeof *got.id) == 0);
    if (!same) {
        fprintf(stderr, "text \"%.*s\"\n", (int)len, text);
        print_ids("  expected", want->id, want->n);
        print_ids("  found   ", got.id, got.n);
    }
    plumb_ids_fini(&got);
    return same;
}

static void ids_from_json(struct plumb_ids *ids, const plumb_json *list)
{
    for (int64_t i = 0; i < plumb_json_count(list); i++)
        CHECK_OK(plumb_ids_add(ids, (int32_t)plumb_json_int(plumb_json_at(list, i), -1)));
}

/* Compares llama.cpp's texts and ids. The file `inp` has the texts, divided by separator lines; the
 * file `out` has the ids, one line per text. */
static int ggml(const char *data, const plumb_tokenizer *t, const char *inp, const char *out)
{
    static const char separator[] = "\n__ggml_vocab_test__\n";
    struct plumb_buf text = {0}, ids = {0};
    CHECK_OK(plumb_file_read(&text, path(data, inp)));
    CHECK_OK(plumb_file_read(&ids, path(data, out)));
    int cases = 0, bad = 0;
    const char *at = text.data, *line = ids.data;
    while (*line) {
        struct plumb_ids want = {0};
        const char *end = strstr(at, separator);
        const int64_t len = end ? end - at : text.data + text.len - at;
        while (*line && *line != '\n') {
            char *after;
            CHECK_OK(plumb_ids_add(&want, (int32_t)strtol(line, &after, 10)));
            line = after;
        }
        line += *line == '\n';
        bad += !same_ids(t, at, len, &want, false);
        cases++;
        plumb_ids_fini(&want);
        if (!end)
            break;
        at = end + sizeof separator - 1;
    }
    const struct plumb_ids none = {0}; /* the 47th text is empty */
    bad += *at || !same_ids(t, at, 0, &none, false);
    cases++;
    CHECKF(cases == 47 && bad == 0, "%s: %d of %d strings differ", inp, bad, cases);
    plumb_buf_fini(&text);
    plumb_buf_fini(&ids);
    return cases;
}

/* Checks the cases of a JSON file [{"text", "ids", "decoded", "model"}, ..] whose model ends in
 * `model`. decoded and model may be missing. Returns the number of these cases. */
static int64_t listed(const char *data, const plumb_tokenizer *t, const char *name,
                      const char *model, bool special)
{
    plumb_json *root = NULL;
    struct plumb_buf text = {0};
    CHECK_OK(plumb_json_read_file(&root, path(data, name)));
    int bad = 0;
    int64_t n = 0;
    for (int64_t i = 0; i < plumb_json_count(root); i++) {
        const plumb_json *c = plumb_json_at(root, i), *in = plumb_json_get(c, "text");
        const char *of = plumb_json_string(plumb_json_get(c, "model"), model);
        if (strlen(of) < strlen(model) || strcmp(of + strlen(of) - strlen(model), model) != 0)
            continue;
        n++;
        const plumb_json *decoded = plumb_json_get(c, "decoded");
        struct plumb_ids want = {0};
        ids_from_json(&want, plumb_json_get(c, "ids"));
        CHECK(in && want.n > 0);
        bad += !same_ids(t, plumb_json_string(in, ""), plumb_json_string_len(in), &want, special);
        plumb_buf_clear(&text);
        CHECK_OK(plumb_tokenizer_decode(t, &text, want.id, want.n, special));
        if (!decoded)
            decoded = in;
        if (text.len != plumb_json_string_len(decoded) ||
            memcmp(plumb_buf_text(&text), plumb_json_string(decoded, ""), (size_t)text.len) != 0) {
            fprintf(stderr, "%s[%d]: decoded \"%s\", expected \"%s\"\n", name, (int)i,
                    plumb_buf_text(&text), plumb_json_string(decoded, ""));
            bad++;
        }
        plumb_ids_fini(&want);
    }
    CHECKF(n > 0 && bad == 0, "%s: %d differences in %d cases", name, bad, (int)n);
    plumb_buf_fini(&text);
    plumb_json_free(&root);
    return n;
}

/* Checks that a word of n = 300,000 characters takes time in the order of n log n, not of n
 * squared. */
static void long_word(const plumb_tokenizer *t)
{
    enum { N = 300000 };
    struct plumb_ids ids = {0};
    struct plumb_buf back = {0};
    char *text = malloc(N);
    CHECK(text);
    for (int i = 0; i < N; i++)
        text[i] = (char)('a' + (i * 7 + i / 11) % 26);
    CHECK_OK(plumb_tokenizer_encode(t, &ids, text, N, false));
    CHECK_OK(plumb_tokenizer_decode(t, &back, ids.id, ids.n, false));
    CHECK(back.len == N && memcmp(back.data, text, N) == 0);
    free(text);
    plumb_ids_fini(&ids);
    plumb_buf_fini(&back);
}

int main(void)
{
    const char *data = getenv("PLUMB_SHARED_DATA");
    if (!data || !plumb_file_exists(path(data, "tokenizers/gpt2/tokenizer.json"))) {
        fprintf(stderr, "skipped: no tokenizers/gpt2/tokenizer.json under PLUMB_SHARED_DATA\n");
        return SKIP;
    }
    plumb_tokenizer *gpt2 = NULL, *qwen2 = NULL, *stories = NULL;
    CHECK_OK(plumb_tokenizer_open(&gpt2, path(data, "tokenizers/gpt2")));
    CHECK_OK(plumb_tokenizer_open(&qwen2, path(data, "tokenizers/qwen2")));
    CHECK_OK(plumb_tokenizer_open(&stories, path(data, "models/stories260K-hf")));
    CHECK(plumb_tokenizer_vocab(gpt2) == 50257 && plumb_tokenizer_eos(gpt2) == 50256);
    CHECK(plumb_tokenizer_vocab(qwen2) == 151646 && plumb_tokenizer_eos(qwen2) == 151645);
    CHECK(plumb_tokenizer_bos(qwen2) == -1);
    CHECK(plumb_tokenizer_bos(stories) == 1 && plumb_tokenizer_eos(stories) == 2);
    ggml(data, gpt2, "tokenizers/ggml-vocab/ggml-vocab-gpt-2.gguf.inp",
         "tokenizers/ggml-vocab/ggml-vocab-gpt-2.gguf.out");
    ggml(data, qwen2, "tokenizers/ggml-vocab/ggml-vocab-qwen2.gguf.inp",
         "tokenizers/ggml-vocab/ggml-vocab-qwen2.gguf.out");
    CHECK(listed(data, gpt2, "conformance/hf-tokenizers/gpt2.json", "/gpt2", false) == 52);
    CHECK(listed(data, qwen2, "conformance/hf-tokenizers/qwen2.json", "", false) == 25);
    CHECK(listed(data, stories, "models/stories260K-hf/expected_tokens.json", "", true) == 25);
    long_word(gpt2);
    plumb_tokenizer_close(&gpt2);
    plumb_tokenizer_close(&qwen2);
    plumb_tokenizer_close(&stories);
    return 0;
}
