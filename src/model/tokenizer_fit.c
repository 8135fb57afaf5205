/* tokenizer_fit.c - checks that a model and a tokenizer fit together.
 * Layer 4. Includes base/, io/, text/ and model/net.h. */
#include <limits.h>
#include <string.h>

#include "base/log.h"
#include "io/file.h"
#include "io/json.h"
#include "model/net.h"

void plumb_model_drop_pad(plumb_model *m)
{
    plumb_log_once(PLUMB_LOG_INFO,
                   "pad_token_id %d of %s is the end token; the classifier is saved with "
                   "pad_token_id null, so that transformers also reads its score at the end token",
                   (int)m->spec.pad, m->dir);
    m->spec.pad = -1;
}

/* Warns if the tokenizer's end token, which training appends, is not one at which generation
 * stops. */
static void compare_end(const plumb_model *m, int32_t end, const char *tokenizer_dir)
{
    const struct plumb_spec *s = &m->spec;
    if (end < 0 || plumb_spec_stops_at(s, end))
        return;
    if (s->n_eos > 0)
        plumb_log_once(PLUMB_LOG_WARN,
                       "the end token is %d in the tokenizer of %s, but %d%s in config.json and "
                       "generation_config.json of %s: training appends the first, generation stops "
                       "at the second. Correct one of the folders",
                       (int)end, tokenizer_dir, (int)s->eos[0], s->n_eos > 1 ? " (and others)" : "",
                       m->dir);
    else if (s->labels == 0)
        plumb_log_once(
            PLUMB_LOG_WARN,
            "the end token is %d in the tokenizer of %s, but config.json and "
            "generation_config.json of %s name none (eos_token_id): generation will not stop at it",
            (int)end, tokenizer_dir, m->dir);
}

/* Handles a classifier whose padding token is the end token. transformers then reads the score at
 * the token before the end token, and so does plumb. If the score rows are new, the padding token
 * is removed, so that both programs read the score at the end token. */
static void compare_pad(plumb_model *m, int32_t end, const char *tokenizer_dir)
{
    struct plumb_spec *s = &m->spec;
    if (s->labels == 0 || s->pad < 0 || (s->pad != end && !plumb_spec_stops_at(s, s->pad)))
        return;
    if (m->fresh_score) {
        plumb_model_drop_pad(m);
        return;
    }
    plumb_log_once(PLUMB_LOG_WARN,
                   "%s: pad_token_id %d is the end token%s%s: the score is read at the last token "
                   "that is not %d, before the end token, as in transformers. To read it at the "
                   "end token, set another pad_token_id, or null, in config.json",
                   m->dir, (int)s->pad, end == s->pad ? " of the tokenizer of " : "",
                   end == s->pad ? tokenizer_dir : "", (int)s->pad);
}

/* Checks that every id of tokenizer.json, the end token and the begin token have a row in the
 * model. A token that another file adds (such as "[PAD]" of tokenizer_config.json) may lack a row;
 * an input that contains it is refused. */
static plumb_status compare_sizes(const struct plumb_spec *s, const plumb_tokenizer *t,
                                  const char *dir, const char *tokenizer_dir)
{
    const int64_t n = t ? plumb_tokenizer_vocab(t) : 0;
    if (n <= s->v)
        return PLUMB_OK;
    PLUMB_REQUIRE(plumb_tokenizer_file_vocab(t) <= s->v && plumb_tokenizer_eos(t) < s->v &&
                      plumb_tokenizer_bos(t) < s->v,
                  PLUMB_ERR_FORMAT,
                  "%s: the tokenizer has ids up to %lld, but the model's vocabulary has only %lld "
                  "tokens (%s); they do not belong together",
                  tokenizer_dir, (long long)n - 1, (long long)s->v, dir);
    struct plumb_buf text = {0};
    const int32_t last = (int32_t)n - 1;
    const plumb_status st = plumb_tokenizer_decode(t, &text, &last, 1, false);
    if (st == PLUMB_OK)
        plumb_log_once(PLUMB_LOG_WARN,
                       "%s: the added token \"%s\" has id %d, but the vocabulary of %s ends at "
                       "%lld; a text that contains it is refused",
                       tokenizer_dir, plumb_buf_text(&text), (int)last, dir, (long long)s->v - 1);
    plumb_buf_fini(&text);
    return st;
}

/* Reads DIR/name. *out is NULL if there is no such file. */
static plumb_status read_beside(plumb_json **out, const char *dir, const char *name)
{
    char path[PATH_MAX];
    *out = NULL;
    PLUMB_TRY(plumb_path_join(path, sizeof path, dir, name));
    return plumb_file_exists(path) ? plumb_json_read_file(out, path) : PLUMB_OK;
}

/* Returns true if a tokenizer.json has the normalizer and the pattern of Qwen2Tokenizer. */
static bool is_qwen2(const plumb_json *root)
{
    static const char pattern[] =
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
        "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
    const plumb_json *split =
        plumb_json_at(plumb_json_get(plumb_json_get(root, "pre_tokenizer"), "pretokenizers"), 0);
    const plumb_json *regex = plumb_json_get(plumb_json_get(split, "pattern"), "Regex");
    const plumb_json *normal = plumb_json_get(plumb_json_get(root, "normalizer"), "type");
    return !strcmp(plumb_json_string(regex, ""), pattern) &&
           !strcmp(plumb_json_string(normal, ""), "NFC");
}

/* Warns if transformers would read the tokenizer with the normalizer and the pre-tokenizer of
 * Qwen2Tokenizer and tokenizer.json has others. transformers 5 does so in every folder of a qwen2,
 * whatever class tokenizer_config.json names. (For the class itself, plumb_tokenizer_open
 * warns.) */
static plumb_status compare_class(const plumb_model *m, const char *tokenizer_dir)
{
    plumb_json *config = NULL, *root = NULL;
    plumb_status st = PLUMB_OK;
    if (m->spec.family != PLUMB_QWEN2 || strcmp(m->dir, tokenizer_dir) != 0)
        return PLUMB_OK;
    PLUMB_TRY(read_beside(&config, tokenizer_dir, "tokenizer_config.json"));
    const char *name = plumb_json_string(plumb_json_get(config, "tokenizer_class"), "");
    if (!strncmp(name, "Qwen2Tokenizer", 14))
        goto done;
    PLUMB_TRY_GOTO(st, read_beside(&root, tokenizer_dir, "tokenizer.json"), done);
    if (root && !is_qwen2(root))
        plumb_log_once(PLUMB_LOG_WARN,
                       "%s: transformers 5 reads the tokenizer of a qwen2 as Qwen2Tokenizer, with "
                       "a normalizer and a pre-tokenizer of that class, although tokenizer_class "
                       "is %s; plumb uses those of tokenizer.json, so its ids may differ",
                       tokenizer_dir, *name ? name : "not given");
done:
    plumb_json_free(&root);
    plumb_json_free(&config);
    return st;
}

plumb_status plumb_model_fit_tokenizer(plumb_model *m, const plumb_tokenizer *t,
                                       const char *tokenizer_dir)
{
    const struct plumb_spec *s = &m->spec;
    const int32_t end = t ? plumb_tokenizer_eos(t) : -1, bos = t ? plumb_tokenizer_bos(t) : -1;
    PLUMB_TRY(compare_sizes(s, t, m->dir, tokenizer_dir));
    compare_end(m, end, tokenizer_dir);
    if (bos >= 0 && s->bos >= 0 && bos != s->bos)
        plumb_log_once(PLUMB_LOG_WARN,
                       "the begin token is %d in the tokenizer of %s and %d in config.json of %s; "
                       "the tokenizer's token is used",
                       (int)bos, tokenizer_dir, (int)s->bos, m->dir);
    compare_pad(m, end, tokenizer_dir);
    return t ? compare_class(m, tokenizer_dir) : PLUMB_OK;
}
