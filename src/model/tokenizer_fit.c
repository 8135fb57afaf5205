/* tokenizer_fit.c - checks that a model and a tokenizer fit together.
 * Layer 4. Includes base/, text/ and model/net.h. */
#include "base/log.h"
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
    return PLUMB_OK;
}
