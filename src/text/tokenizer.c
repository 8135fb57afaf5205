/* tokenizer.c - converts text to token ids and back with the components of tokenizer.json.
 * Layer 3. Includes base/ and io/.
 *
 * A text passes through: added tokens that match the original text -> normalizer -> added tokens
 * that match the normalised text -> pre-tokenizer -> model -> post-processor, as in
 * huggingface/tokenizers. */
#include "text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "io/file.h"
#include "text/added.h"
#include "text/beside.h"
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
    bool clean_up; /* after decoding, remove spaces before punctuation */
};

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

static plumb_status read_parts(plumb_tokenizer *t, const plumb_json *root,
                               struct plumb_beside *beside, const char *where)
{
    PLUMB_REQUIRE(plumb_json_type_of(root) == PLUMB_JSON_OBJECT, PLUMB_ERR_FORMAT,
                  "%s: expected an object, found %s", where,
                  plumb_json_type_name(plumb_json_type_of(root)));
    PLUMB_TRY(plumb_bpe_create(&t->model, plumb_json_get(root, "model"), where));
    PLUMB_TRY(plumb_normalizer_init(&t->normalizer, plumb_json_get(root, "normalizer"), where));
    PLUMB_TRY(
        plumb_pretokenizer_init(&t->pretokenizer, plumb_json_get(root, "pre_tokenizer"), where));
    PLUMB_TRY(plumb_beside_read(beside, root));
    PLUMB_TRY(plumb_added_init(&t->added, plumb_json_get(root, "added_tokens"), beside, t->model,
                               &t->normalizer, where));
    PLUMB_TRY(plumb_postprocessor_init(&t->post, plumb_json_get(root, "post_processor"), where));
    PLUMB_TRY(plumb_decoder_init(&t->decoder, plumb_json_get(root, "decoder"), where));
    return PLUMB_OK;
}

/* Returns the id of a token that usually is BOS, for folders whose files name no BOS token; -1 if
 * there is none. */
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

/* Returns true for the published files of GPT-2. These files are older than tokenizer_config.json
 * and so do not include one. At that time clean-up of spaces was the default, as the outputs
 * published with these files show. */
static bool is_plain_gpt2(const plumb_tokenizer *t)
{
    return plumb_bpe_count(t->model) == 50257 && plumb_tokenizer_id(t, "<|endoftext|>") == 50256 &&
           plumb_tokenizer_id(t, "\xc4\xa0the") == 262;
}

/* Sets the ids of BOS and EOS. Call this function after the added tokens are known, because these
 * include all tokens with a role, such as bos_token. */
static void read_roles(plumb_tokenizer *t, const struct plumb_beside *beside)
{
    bool given;
    const char *bos = plumb_beside_role(beside, "bos_token", &given);
    t->bos = bos ? plumb_tokenizer_id(t, bos) : given ? -1 : usual_bos(t);
    const char *eos = plumb_beside_role(beside, "eos_token", &given);
    t->eos = eos ? plumb_tokenizer_id(t, eos) : given ? -1 : usual_eos(t);
}

/* Warns if add_bos_token or add_eos_token contradicts the post-processor. Only the post-processor
 * decides: if there is a tokenizer.json, transformers ignores these two fields for every tokenizer
 * class. */
static plumb_status compare_template(const plumb_tokenizer *t, const plumb_json *config,
                                     const char *key, int32_t id, const struct plumb_ids *around,
                                     const char *where)
{
    const bool no = false;
    bool asked, added = false;
    PLUMB_TRY(plumb_json_want_bool(config, key, &asked, &no, where));
    for (int64_t i = 0; i < around->n; i++)
        added |= around->id[i] == id;
    if (t && plumb_json_get(config, key) && id >= 0 && asked != added)
        plumb_log_once(PLUMB_LOG_WARN,
                       "%s: %s is %s, but the post_processor of tokenizer.json %s; the "
                       "post_processor decides, as in transformers",
                       where, key, asked ? "true" : "false",
                       added ? "adds that token" : "adds no such token");
    return PLUMB_OK;
}

/* Returns true if transformers 5 reads all parts of tokenizer.json for this model_type, whatever
 * tokenizer_class says (TOKENIZER_MAPPING_NAMES has TokenizersBackend for it). */
static bool takes_file_parts(const char *model_type)
{
    static const char *const type[] = {"mistral", "ministral", "olmo2",    "olmo3", "granite",
                                       "phi3",    "stablelm",  "ernie4_5", "glm",   "glm4"};
    for (size_t i = 0; i < sizeof type / sizeof *type; i++)
        if (!strcmp(model_type, type[i]))
            return true;
    return false;
}

/* For some tokenizer classes, transformers 5 ignores the normalizer and the pre-tokenizer of
 * tokenizer.json and uses those of the class. This function warns if they differ. */
static plumb_status compare_class(const plumb_json *config, const plumb_json *root,
                                  const plumb_json *model, const char *where)
{
    if (takes_file_parts(plumb_json_string(plumb_json_get(model, "model_type"), "")))
        return PLUMB_OK;
    const char *name = plumb_json_string(plumb_json_get(config, "tokenizer_class"), "");
    const plumb_json *pre = plumb_json_get(root, "pre_tokenizer");
    const char *normal =
        plumb_json_string(plumb_json_get(plumb_json_get(root, "normalizer"), "type"), "none");
    const char *type = plumb_json_string(plumb_json_get(pre, "type"), "none");
    struct plumb_buf text = {0};
    const plumb_status st = plumb_json_put_node(&text, pre);
    const bool bytes =
        st == PLUMB_OK && text.len > 0 && strstr(plumb_buf_text(&text), "\"ByteLevel\"");
    bool same = true;
    /* The class Llama has no normalizer and the pre-tokenizer Metaspace; but for byte-level BPE
     * (`bytes`), transformers uses the parts of the file. */
    if (!strncmp(name, "LlamaTokenizer", 14))
        same = bytes || (!strcmp(normal, "none") && !strcmp(type, "Metaspace"));
    else if (!strncmp(name, "Qwen2Tokenizer", 14))
        same = !strcmp(normal, "NFC") && bytes;
    else if (!strncmp(name, "GPT2Tokenizer", 13))
        same = !strcmp(normal, "none") && !strcmp(type, "ByteLevel");
    plumb_buf_fini(&text);
    PLUMB_TRY(st);
    if (!same)
        plumb_log_once(
            PLUMB_LOG_WARN,
            "%s: tokenizer_class is %s, which transformers 5 builds with a normalizer "
            "and a pre-tokenizer of its own; plumb uses those of tokenizer.json (%s and "
            "%s), as transformers does with PreTrainedTokenizerFast. The two may give other tokens "
            "at the beginning of a text, above all before a space, and next to added tokens",
            where, name, normal, type);
    return PLUMB_OK;
}

static plumb_status read_config(plumb_tokenizer *t, const plumb_json *config,
                                const plumb_json *root, const plumb_json *model, const char *where)
{
    const bool no = false;
    bool clean, insist;
    /* Clean-up removes spaces before punctuation in decoded text. For BPE, transformers 5 ignores
     * clean_up_tokenization_spaces, because clean-up changes the text of BPE tokens wrongly, unless
     * the second key below is true, too. */
    PLUMB_TRY(plumb_json_want_bool(config, "clean_up_tokenization_spaces", &clean, &no, where));
    PLUMB_TRY(plumb_json_want_bool(
        config, "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", &insist,
        &no, where));
    t->clean_up = clean && insist;
    PLUMB_TRY(compare_template(t, config, "add_bos_token", t->bos, &t->post.before, where));
    PLUMB_TRY(compare_template(t, config, "add_eos_token", t->eos, &t->post.after, where));
    return compare_class(config, root, model, where);
}

/* Parses config.json, which is in the same folder as tokenizer.json, whose path is `where`. */
static plumb_status parse_model(plumb_json **out, const struct plumb_tokenizer_text *text,
                                const char *where)
{
    const char *slash = strrchr(where, '/');
    char path[4096];
    snprintf(path, sizeof path, "%.*sconfig.json", slash ? (int)(slash - where) + 1 : 0, where);
    *out = NULL;
    return text->text ? plumb_json_parse(out, text->text, text->len, path) : PLUMB_OK;
}

static plumb_status parse_one(plumb_json **out, const struct plumb_tokenizer_text *text,
                              const char *where)
{
    *out = NULL;
    return text->text ? plumb_json_parse(out, text->text, text->len, where) : PLUMB_OK;
}

plumb_status plumb_tokenizer_parse_files(plumb_tokenizer **out,
                                         const struct plumb_tokenizer_files *files,
                                         const char *where)
{
    plumb_status st = PLUMB_OK;
    plumb_json *root = NULL, *model = NULL;
    struct plumb_beside beside = {0};
    *out = NULL;
    plumb_tokenizer *t = calloc(1, sizeof *t);
    PLUMB_REQUIRE(t, PLUMB_ERR_NOMEM, "%s: cannot create a tokenizer", where);
    plumb_beside_name(&beside, where);
    PLUMB_TRY_GOTO(st, parse_one(&beside.config, &files->config, beside.name[0]), fail);
    PLUMB_TRY_GOTO(st, parse_one(&beside.map, &files->map, beside.name[1]), fail);
    PLUMB_TRY_GOTO(st, parse_one(&beside.added, &files->added, beside.name[2]), fail);
    PLUMB_TRY_GOTO(st, parse_model(&model, &files->model, where), fail);
    PLUMB_TRY_GOTO(st, plumb_json_parse(&root, files->json.text, files->json.len, where), fail);
    PLUMB_TRY_GOTO(st, read_parts(t, root, &beside, where), fail);
    read_roles(t, &beside);
    if (beside.config)
        PLUMB_TRY_GOTO(st, read_config(t, beside.config, root, model, beside.name[0]), fail);
    else
        t->clean_up = is_plain_gpt2(t);
    *out = t;
    t = NULL;
fail:
    plumb_json_free(&model);
    plumb_json_free(&root);
    plumb_beside_fini(&beside);
    plumb_tokenizer_close(&t);
    return st;
}

plumb_status plumb_tokenizer_parse(plumb_tokenizer **out, const char *json, int64_t json_len,
                                   const char *config, int64_t config_len, const char *where)
{
    const struct plumb_tokenizer_files files = {.json = {json, json_len},
                                                .config = {config, config_len}};
    return plumb_tokenizer_parse_files(out, &files, where);
}

/* Reads DIR/name into *text, if the file exists or is needed. path becomes its path. */
static plumb_status read_text(struct plumb_tokenizer_text *text, struct plumb_buf *buf,
                              char path[4096], const char *dir, const char *name, bool needed)
{
    PLUMB_TRY(plumb_path_join(path, 4096, dir, name));
    if (!needed && !plumb_file_exists(path))
        return PLUMB_OK;
    PLUMB_TRY(plumb_file_read_text(buf, path, "a JSON file"));
    *text = (struct plumb_tokenizer_text){plumb_buf_text(buf), buf->len};
    return PLUMB_OK;
}

plumb_status plumb_tokenizer_open(plumb_tokenizer **out, const char *dir)
{
    char path[4096];
    plumb_status st = PLUMB_OK;
    struct plumb_buf buf[5] = {{0}};
    struct plumb_tokenizer_files f = {.json = {NULL, 0}};
    *out = NULL;
    PLUMB_TRY_GOTO(st, read_text(&f.config, &buf[0], path, dir, "tokenizer_config.json", false),
                   fail);
    PLUMB_TRY_GOTO(st, read_text(&f.map, &buf[1], path, dir, "special_tokens_map.json", false),
                   fail);
    PLUMB_TRY_GOTO(st, read_text(&f.added, &buf[2], path, dir, "added_tokens.json", false), fail);
    PLUMB_TRY_GOTO(st, read_text(&f.model, &buf[4], path, dir, "config.json", false), fail);
    PLUMB_TRY_GOTO(st, read_text(&f.json, &buf[3], path, dir, "tokenizer.json", true), fail);
    PLUMB_TRY_GOTO(st, plumb_tokenizer_parse_files(out, &f, path), fail);
fail:
    for (int i = 0; i < 5; i++)
        plumb_buf_fini(&buf[i]);
    return st;
}

/* Scratch memory for encoding one text. */
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

/* Splits the text into words and added tokens, in w->pieces. */
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
        const struct plumb_text_piece *p = &w->raw.piece[i];
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
        const struct plumb_text_piece *p = &w->pieces.piece[i];
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
                  "a text of %lld bytes is too long to encode; the limit is %d bytes",
                  (long long)len, INT32_MAX / 8);
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

int64_t plumb_tokenizer_file_vocab(const plumb_tokenizer *t)
{
    int64_t n = plumb_bpe_top(t->model);
    for (int64_t i = 0; i < t->added.n; i++)
        if (t->added.token[i].own)
            n = plumb_max_i64(n, t->added.token[i].id + 1);
    return n;
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
