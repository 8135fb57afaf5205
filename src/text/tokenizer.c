/* tokenizer.c - text to token ids and back: the parts of tokenizer.json, one after another.
 * Layer 3. Includes base/ and io/.
 *
 * text -> added tokens found as written -> normalizer -> added tokens found normalised ->
 * pre-tokenizer -> model -> post-processor, as huggingface/tokenizers does it. */
#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "io/file.h"
#include "text/added.h"
#include "text/bpe.h"
#include "text/decode.h"
#include "text/normalize.h"
#include "text/postprocess.h"
#include "text/pretokenize.h"
#include "text/utf8.h"

struct plumb_tokenizer {
    plumb_bpe *model;
    struct plumb_normalizer normalizer;
    struct plumb_pretokenizer pretokenizer;
    struct plumb_added added;
    struct plumb_postprocessor post;
    struct plumb_decoder decoder;
    int32_t bos, eos;
    bool clean_up; /* spaces before punctuation, after decoding */
};

plumb_status plumb_ids_add(struct plumb_ids *ids, int32_t id)
{
    if (ids->n == ids->cap)
        PLUMB_TRY(plumb_grow((void **)&ids->id, ids->n, &ids->cap, sizeof *ids->id));
    ids->id[ids->n++] = id;
    return PLUMB_OK;
}

void plumb_ids_fini(struct plumb_ids *ids)
{
    free(ids->id);
    *ids = (struct plumb_ids){0};
}

void plumb_tokenizer_close(plumb_tokenizer **t)
{
    if (!*t)
        return;
    plumb_bpe_destroy(&(*t)->model);
    plumb_normalizer_fini(&(*t)->normalizer);
    plumb_pretokenizer_fini(&(*t)->pretokenizer);
    plumb_added_fini(&(*t)->added);
    plumb_postprocessor_fini(&(*t)->post);
    plumb_decoder_fini(&(*t)->decoder);
    free(*t);
    *t = NULL;
}

static plumb_status read_parts(plumb_tokenizer *t, const plumb_json *root, const char *where)
{
    PLUMB_REQUIRE(plumb_json_type_of(root) == PLUMB_JSON_OBJECT, PLUMB_ERR_FORMAT,
                  "%s: expected an object, found %s", where,
                  plumb_json_type_name(plumb_json_type_of(root)));
    PLUMB_TRY(plumb_bpe_create(&t->model, plumb_json_get(root, "model"), where));
    PLUMB_TRY(plumb_normalizer_init(&t->normalizer, plumb_json_get(root, "normalizer"), where));
    PLUMB_TRY(
        plumb_pretokenizer_init(&t->pretokenizer, plumb_json_get(root, "pre_tokenizer"), where));
    PLUMB_TRY(plumb_added_init(&t->added, plumb_json_get(root, "added_tokens"), t->model,
                               &t->normalizer, where));
    PLUMB_TRY(plumb_postprocessor_init(&t->post, plumb_json_get(root, "post_processor"), where));
    PLUMB_TRY(plumb_decoder_init(&t->decoder, plumb_json_get(root, "decoder"), where));
    return PLUMB_OK;
}

/* *id = the token that config[key] names, as a string or as {"content": ..}; unchanged when the
 * key is absent or null. */
static plumb_status role(const plumb_tokenizer *t, const plumb_json *config, const char *key,
                         int32_t *id, const char *where)
{
    const plumb_json *v = plumb_json_get(config, key);
    if (plumb_json_type_of(v) == PLUMB_JSON_OBJECT)
        v = plumb_json_get(v, "content");
    if (!v)
        return PLUMB_OK;
    const char *text = plumb_json_string(v, NULL);
    PLUMB_REQUIRE(text, PLUMB_ERR_FORMAT, "%s: %s: expected a string or {\"content\": string}",
                  where, key);
    *id = plumb_tokenizer_id(t, text);
    PLUMB_REQUIRE(*id >= 0, PLUMB_ERR_FORMAT, "%s: %s: \"%s\" is no token of tokenizer.json", where,
                  key, text);
    return PLUMB_OK;
}

/* What the token is usually called, for folders that do not say. */
static int32_t usual_bos(const plumb_tokenizer *t)
{
    static const char *const name[] = {"<|begin_of_text|>", "<s>", "<|startoftext|>", "<bos>"};
    int32_t id = -1;
    for (size_t i = 0; id < 0 && i < sizeof name / sizeof *name; i++)
        id = plumb_tokenizer_id(t, name[i]);
    return id;
}

static int32_t usual_eos(const plumb_tokenizer *t)
{
    static const char *const name[] = {"<|end_of_text|>", "</s>", "<|im_end|>", "<|endoftext|>",
                                       "<eos>"};
    int32_t id = -1;
    for (size_t i = 0; id < 0 && i < sizeof name / sizeof *name; i++)
        id = plumb_tokenizer_id(t, name[i]);
    return id;
}

/* GPT-2's published files come without a tokenizer_config.json, from a time when absence meant
 * cleaning up; the outputs published with them show it. */
static bool is_plain_gpt2(const plumb_tokenizer *t)
{
    return plumb_bpe_count(t->model) == 50257 && plumb_tokenizer_id(t, "<|endoftext|>") == 50256 &&
           plumb_tokenizer_id(t, "\xc4\xa0the") == 262;
}

static plumb_status read_config(plumb_tokenizer *t, const plumb_json *config, const char *where)
{
    const bool no = false;
    bool add_bos, add_eos, clean, insist;
    PLUMB_REQUIRE(plumb_json_type_of(config) == PLUMB_JSON_OBJECT, PLUMB_ERR_FORMAT,
                  "%s: expected an object, found %s", where,
                  plumb_json_type_name(plumb_json_type_of(config)));
    if (!plumb_json_member(config, "bos_token"))
        t->bos = usual_bos(t);
    if (!plumb_json_member(config, "eos_token"))
        t->eos = usual_eos(t);
    PLUMB_TRY(role(t, config, "bos_token", &t->bos, where));
    PLUMB_TRY(role(t, config, "eos_token", &t->eos, where));
    PLUMB_TRY(plumb_json_want_bool(config, "add_bos_token", &add_bos, &no, where));
    PLUMB_TRY(plumb_json_want_bool(config, "add_eos_token", &add_eos, &no, where));
    /* transformers 5 ignores the first key for BPE, where cleaning up loses text, unless the
     * second insists. */
    PLUMB_TRY(plumb_json_want_bool(config, "clean_up_tokenization_spaces", &clean, &no, where));
    PLUMB_TRY(plumb_json_want_bool(
        config, "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", &insist,
        &no, where));
    t->clean_up = clean && insist;
    if (t->post.is_template) /* it already says what is added */
        return PLUMB_OK;
    PLUMB_REQUIRE((!add_bos || t->bos >= 0) && (!add_eos || t->eos >= 0), PLUMB_ERR_FORMAT,
                  "%s: add_bos_token or add_eos_token is true, but the token is not named", where);
    if (add_bos)
        PLUMB_TRY(plumb_ids_add(&t->post.before, t->bos));
    if (add_eos)
        PLUMB_TRY(plumb_ids_add(&t->post.after, t->eos));
    return PLUMB_OK;
}

plumb_status plumb_tokenizer_parse(plumb_tokenizer **out, const char *json, int64_t json_len,
                                   const char *config, int64_t config_len, const char *where)
{
    plumb_status st = PLUMB_OK;
    plumb_json *root = NULL;
    *out = NULL;
    plumb_tokenizer *t = calloc(1, sizeof *t);
    PLUMB_REQUIRE(t, PLUMB_ERR_NOMEM, "%s: no memory for a tokenizer", where);
    t->bos = t->eos = -1;
    PLUMB_TRY_GOTO(st, plumb_json_parse(&root, json, json_len, where), fail);
    PLUMB_TRY_GOTO(st, read_parts(t, root, where), fail);
    plumb_json_free(&root);
    if (config) {
        PLUMB_TRY_GOTO(st, plumb_json_parse(&root, config, config_len, "tokenizer_config.json"),
                       fail);
        PLUMB_TRY_GOTO(st, read_config(t, root, "tokenizer_config.json"), fail);
    } else {
        t->bos = usual_bos(t);
        t->eos = usual_eos(t);
        t->clean_up = is_plain_gpt2(t);
    }
    *out = t;
    t = NULL;
fail:
    plumb_json_free(&root);
    plumb_tokenizer_close(&t);
    return st;
}

plumb_status plumb_tokenizer_open(plumb_tokenizer **out, const char *dir)
{
    char path[4096];
    plumb_status st = PLUMB_OK;
    struct plumb_buf json = {0}, config = {0};
    *out = NULL;
    PLUMB_TRY_GOTO(st, plumb_path_join(path, sizeof path, dir, "tokenizer_config.json"), fail);
    const bool configured = plumb_file_exists(path);
    if (configured)
        PLUMB_TRY_GOTO(st, plumb_file_read_text(&config, path, "a JSON file"), fail);
    PLUMB_TRY_GOTO(st, plumb_path_join(path, sizeof path, dir, "tokenizer.json"), fail);
    PLUMB_TRY_GOTO(st, plumb_file_read_text(&json, path, "a JSON file"), fail);
    PLUMB_TRY_GOTO(st,
                   plumb_tokenizer_parse(out, plumb_buf_text(&json), json.len,
                                         configured ? plumb_buf_text(&config) : NULL, config.len,
                                         path),
                   fail);
fail:
    plumb_buf_fini(&json);
    plumb_buf_fini(&config);
    return st;
}

/* What one encoding needs besides its result. */
struct work {
    struct plumb_buf clean, text, other;
    struct plumb_pieces raw, pieces, cut;
    struct plumb_matches m;
    struct plumb_bpe_work bpe;
};

static void work_fini(struct work *w)
{
    plumb_buf_fini(&w->clean);
    plumb_buf_fini(&w->text);
    plumb_buf_fini(&w->other);
    plumb_pieces_fini(&w->raw);
    plumb_pieces_fini(&w->pieces);
    plumb_pieces_fini(&w->cut);
    plumb_matches_fini(&w->m);
    plumb_bpe_work_fini(&w->bpe);
}

/* w->pieces = words and added tokens of the text. */
static plumb_status words(const plumb_tokenizer *t, struct work *w, const char *text, int64_t len)
{
    int bad;
    if (plumb_utf8_prefix(text, len, &bad) < len) {
        PLUMB_TRY(plumb_utf8_lossy(&w->clean, text, len));
        text = w->clean.data;
        len = w->clean.len;
    }
    PLUMB_TRY(plumb_added_split(&t->added, &t->added.raw, &w->raw, &w->m, text, len, true));
    for (int64_t i = 0; i < w->raw.n; i++) {
        const struct plumb_piece *p = &w->raw.piece[i];
        if (p->id >= 0) {
            PLUMB_TRY(plumb_pieces_add_token(&w->pieces, p->id));
            continue;
        }
        bool start = p->start;
        plumb_buf_clear(&w->text);
        PLUMB_TRY(plumb_buf_add(&w->text, w->raw.text.data + p->at, p->len));
        PLUMB_TRY(plumb_normalizer_apply(&t->normalizer, &w->text, &w->other, &w->m, &start));
        PLUMB_TRY(plumb_added_split(&t->added, &t->added.normal, &w->pieces, &w->m, w->text.data,
                                    w->text.len, start));
    }
    return plumb_pretokenizer_apply(&t->pretokenizer, &w->pieces, &w->cut, &w->m);
}

static plumb_status add_ids(struct plumb_ids *ids, const struct plumb_ids *more)
{
    for (int64_t i = 0; i < more->n; i++)
        PLUMB_TRY(plumb_ids_add(ids, more->id[i]));
    return PLUMB_OK;
}

static plumb_status encode(const plumb_tokenizer *t, struct work *w, struct plumb_ids *ids,
                           const char *text, int64_t len, bool special)
{
    PLUMB_TRY(words(t, w, text, len));
    if (special)
        PLUMB_TRY(add_ids(ids, &t->post.before));
    for (int64_t i = 0; i < w->pieces.n; i++) {
        const struct plumb_piece *p = &w->pieces.piece[i];
        if (p->id >= 0)
            PLUMB_TRY(plumb_ids_add(ids, p->id));
        else
            PLUMB_TRY(
                plumb_bpe_encode(t->model, ids, &w->bpe, w->pieces.text.data + p->at, p->len));
    }
    return special ? add_ids(ids, &t->post.after) : PLUMB_OK;
}

plumb_status plumb_tokenizer_encode(const plumb_tokenizer *t, struct plumb_ids *ids,
                                    const char *text, int64_t len, bool special)
{
    struct work w = {0};
    const int64_t before = ids->n;
    PLUMB_REQUIRE(len >= 0 && len < INT32_MAX / 8, PLUMB_ERR_UNSUPPORTED,
                  "text of %lld bytes: at most %d are encoded at once", (long long)len,
                  INT32_MAX / 8);
    const plumb_status st = encode(t, &w, ids, text, len, special);
    if (st)
        ids->n = before;
    work_fini(&w);
    return st;
}

static plumb_status token_texts(const plumb_tokenizer *t, struct plumb_token_texts *out,
                                const int32_t *id, int64_t n, bool skip_special)
{
    for (int64_t i = 0; i < n; i++) {
        const int64_t a = plumb_added_by_id(&t->added, id[i]);
        const struct plumb_added_token *token = a < 0 ? NULL : &t->added.token[a];
        int64_t len = 0;
        const char *text =
            token ? plumb_buf_text(&token->form) : plumb_bpe_token(t->model, id[i], &len);
        if (!text || (token && token->skip && skip_special))
            continue;
        PLUMB_TRY(plumb_buf_add(&out->text, text, token ? token->form.len : len));
        PLUMB_TRY(plumb_token_texts_close(out));
    }
    return PLUMB_OK;
}

plumb_status plumb_tokenizer_decode(const plumb_tokenizer *t, struct plumb_buf *out,
                                    const int32_t *id, int64_t n, bool skip_special)
{
    plumb_status st = PLUMB_OK;
    const int64_t before = out->len;
    struct plumb_token_texts texts = {0}, other = {0};
    struct plumb_matches m = {0};
    PLUMB_TRY_GOTO(st, token_texts(t, &texts, id, n, skip_special), fail);
    PLUMB_TRY_GOTO(st, plumb_decoder_apply(&t->decoder, out, &texts, &other, &m), fail);
    if (t->clean_up)
        plumb_clean_up_spaces(out, before);
fail:
    plumb_token_texts_fini(&texts);
    plumb_token_texts_fini(&other);
    plumb_matches_fini(&m);
    return st;
}

int64_t plumb_tokenizer_vocab(const plumb_tokenizer *t)
{
    const int64_t added = t->added.n ? t->added.token[t->added.n - 1].id + 1 : 0;
    return plumb_max_i64(added, plumb_bpe_top(t->model));
}

int32_t plumb_tokenizer_id(const plumb_tokenizer *t, const char *token)
{
    const int64_t len = (int64_t)strlen(token);
    const int64_t a = plumb_added_by_content(&t->added, token, len);
    return a >= 0 ? t->added.token[a].id : plumb_bpe_id(t->model, token, len);
}

const struct plumb_ids *plumb_tokenizer_before(const plumb_tokenizer *t)
{
    return &t->post.before;
}

const struct plumb_ids *plumb_tokenizer_after(const plumb_tokenizer *t)
{
    return &t->post.after;
}

int32_t plumb_tokenizer_bos(const plumb_tokenizer *t)
{
    return t->bos;
}

int32_t plumb_tokenizer_eos(const plumb_tokenizer *t)
{
    return t->eos;
}
