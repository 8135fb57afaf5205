/* encode.c - encodes a record to token ids, and decodes ids to the texts of a record.
 * Layer 4. Includes data/encode.h, base/, text/. */
#include "data/encode.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "text/jinja/jinja.h"

void plumb_encoder_fini(struct plumb_encoder *e)
{
    plumb_buf_fini(&e->text);
    plumb_buf_fini(&e->head_text);
    plumb_ids_fini(&e->head);
    plumb_ids_fini(&e->other);
    *e = (struct plumb_encoder){0};
}

static bool begins_with(const int32_t *ids, int64_t n, const struct plumb_ids *what)
{
    return n >= what->n && memcmp(ids, what->id, (size_t)what->n * sizeof *ids) == 0;
}

static bool holds(const struct plumb_ids *ids, int32_t id)
{
    for (int64_t i = 0; i < ids->n; i++)
        if (ids->id[i] == id)
            return true;
    return false;
}

/* Encodes a text with the BOS rule of data/encode.h. A prompt template may write BOS into the text
 * itself; then the second BOS is removed. */
static plumb_status encode_once(const struct plumb_encoder *e, struct plumb_ids *ids,
                                const char *text, int64_t len)
{
    const struct plumb_ids *before = plumb_tokenizer_before(e->tokenizer);
    ids->n = 0;
    for (int64_t i = 0; i < before->n && !e->no_special; i++)
        PLUMB_TRY(plumb_ids_add(ids, before->id[i]));
    const int64_t first = ids->n;
    PLUMB_TRY(plumb_tokenizer_encode(e->tokenizer, ids, text, len, false));
    const int64_t n = ids->n - first;
    if (first == 0 || n == 0)
        return PLUMB_OK;
    const int32_t bos = plumb_tokenizer_bos(e->tokenizer);
    const int32_t *own = ids->id + first;
    const int64_t twice = begins_with(own, n, before)              ? first
                          : own[0] == bos && holds(before, own[0]) ? 1
                                                                   : 0;
    memmove(ids->id + first, own + twice, (size_t)(n - twice) * sizeof *own);
    ids->n -= twice;
    return PLUMB_OK;
}

static plumb_status copy_ids(struct plumb_ids *to, const struct plumb_ids *from)
{
    to->n = 0;
    for (int64_t i = 0; i < from->n; i++)
        PLUMB_TRY(plumb_ids_add(to, from->id[i]));
    return PLUMB_OK;
}

/* Sets e->head to the token ids of the text. The last result is reused, because the completions of
 * one prompt often follow each other. */
static plumb_status encode_head(struct plumb_encoder *e, const char *text, int64_t len)
{
    if (e->head.n > 0 && e->head_text.len == len &&
        memcmp(plumb_buf_text(&e->head_text), text, (size_t)len) == 0)
        return PLUMB_OK;
    plumb_buf_clear(&e->head_text);
    e->head.n = 0;
    PLUMB_TRY(plumb_buf_add(&e->head_text, text, len));
    return encode_once(e, &e->head, text, len);
}

plumb_status plumb_encode_prompt(struct plumb_encoder *e, struct plumb_ids *ids, const char *text,
                                 int64_t len)
{
    PLUMB_TRY(encode_head(e, text, len));
    return copy_ids(ids, &e->head);
}

plumb_status plumb_encode_text(struct plumb_encoder *e, struct plumb_ids *ids, const char *text,
                               int64_t len)
{
    const struct plumb_ids *after = plumb_tokenizer_after(e->tokenizer);
    PLUMB_TRY(encode_once(e, ids, text, len));
    for (int64_t i = 0; i < after->n && !e->no_special; i++)
        PLUMB_TRY(plumb_ids_add(ids, after->id[i]));
    return PLUMB_OK;
}

static int64_t common_prefix(const struct plumb_ids *a, const struct plumb_ids *b)
{
    const int64_t most = plumb_min_i64(a->n, b->n);
    int64_t n = 0;
    while (n < most && a->id[n] == b->id[n])
        n++;
    return n;
}

/* Appends the end token if append_eos is set and the last part does not already end with it. begin:
 * index of the first token of the last part. Fails if the tokenizer has no end token. */
static plumb_status put_end(const struct plumb_encoder *e, struct plumb_ids *ids, int64_t begin)
{
    const int32_t eos = plumb_tokenizer_eos(e->tokenizer);
    if (!e->append_eos)
        return PLUMB_OK;
    PLUMB_REQUIRE(eos >= 0, PLUMB_ERR_ARG,
                  "%s: append_eos is true, but the tokenizer has no end token; expected eos_token "
                  "in tokenizer_config.json, or append_eos=false",
                  e->where ? e->where : "text");
    const bool there = ids->n > begin && ids->id[ids->n - 1] == eos;
    return there ? PLUMB_OK : plumb_ids_add(ids, eos);
}

plumb_status plumb_encode(struct plumb_encoder *e, struct plumb_ids *ids, int64_t *begin, bool *cut,
                          const struct plumb_part *part, int64_t n)
{
    begin[0] = 0;
    plumb_buf_clear(&e->text);
    for (int64_t k = 0; k < n; k++)
        PLUMB_TRY(plumb_buf_add(&e->text, part[k].text, part[k].len));
    PLUMB_TRY(encode_once(e, ids, plumb_buf_text(&e->text), e->text.len));
    int64_t len = 0;
    for (int64_t k = 1; k < n; k++) {
        const struct plumb_ids *head = k == 1 ? &e->head : &e->other;
        len += part[k - 1].len;
        PLUMB_TRY(k == 1 ? encode_head(e, part[0].text, len)
                         : encode_once(e, &e->other, plumb_buf_text(&e->text), len));
        begin[k] = plumb_max_i64(common_prefix(head, ids), begin[k - 1]);
        begin[k] = plumb_max_i64(begin[k], plumb_min_i64(ids->n, 1));
    }
    if (cut)
        *cut = n > 1 && begin[1] < e->head.n;
    PLUMB_TRY(put_end(e, ids, begin[n - 1]));
    begin[n] = ids->n;
    return PLUMB_OK;
}

plumb_status plumb_encode_rendered(struct plumb_encoder *e, struct plumb_ids *ids, int64_t *begin,
                                   bool *cut, struct plumb_part prompt, struct plumb_part whole)
{
    PLUMB_TRY(encode_head(e, prompt.text, prompt.len));
    PLUMB_TRY(encode_once(e, ids, whole.text, whole.len));
    *begin = plumb_max_i64(common_prefix(&e->head, ids), plumb_min_i64(ids->n, 1));
    *cut = *begin < e->head.n;
    return PLUMB_OK;
}

/* Returns the number of bytes of the UTF-8 character at byte offset `at`. */
static int64_t char_bytes(struct plumb_part text, int64_t at)
{
    int64_t end = at + 1;
    while (end < text.len && ((unsigned char)text.text[end] & 0xC0) == 0x80)
        end++;
    return end - at;
}

/* Sets begin and end (ids->n,): token i overlaps bytes [begin[i], end[i]) of the text. A token that
 * contains a part of a character overlaps the whole character. *spelled is false if the decoded
 * tokens do not give the text. */
static plumb_status token_bytes(bool *spelled, int64_t *begin, int64_t *end,
                                const plumb_tokenizer *t, const struct plumb_ids *ids,
                                struct plumb_part text)
{
    struct plumb_decode_stream s = {0};
    struct plumb_buf out = {0};
    plumb_status st = PLUMB_OK;
    for (int64_t i = 0; i < ids->n && st == PLUMB_OK; i++) {
        begin[i] = out.len;
        st = plumb_decode_stream_add(&s, t, &out, ids->id[i]);
        end[i] = out.len + (s.done < s.ids.n && out.len < text.len ? char_bytes(text, out.len) : 0);
    }
    if (st == PLUMB_OK)
        st = plumb_decode_stream_end(&s, t, &out);
    *spelled = st == PLUMB_OK && out.len == text.len &&
               memcmp(plumb_buf_text(&out), text.text, (size_t)text.len) == 0;
    plumb_decode_stream_fini(&s);
    plumb_buf_fini(&out);
    return st;
}

/* Sets mask to 1 for the tokens that overlap bytes [begin, end) of the text. Used for a tokenizer
 * whose decoded tokens do not give the text. The function encodes text[0, begin) and text[0, end)
 * again. The first token of the range is where `ids` and the ids of text[0, begin) begin to differ;
 * the last one is found in the same way from text[0, end). */
static plumb_status mask_again(struct plumb_encoder *e, unsigned char *mask,
                               const struct plumb_ids *ids, struct plumb_part text, int64_t begin,
                               int64_t end)
{
    PLUMB_TRY(encode_once(e, &e->other, text.text, begin));
    const int64_t first = common_prefix(&e->other, ids);
    PLUMB_TRY(encode_once(e, &e->other, text.text, end));
    const int64_t last = common_prefix(&e->other, ids);
    const bool shared = last < e->other.n; /* token `last` extends beyond `end` */
    for (int64_t i = first; i < plumb_min_i64(ids->n, last + shared); i++)
        mask[i] = 1;
    return PLUMB_OK;
}

plumb_status plumb_encode_mask(struct plumb_encoder *e, unsigned char *mask,
                               const struct plumb_ids *ids, struct plumb_part text,
                               const struct plumb_jinja_span *span, int64_t n)
{
    int64_t *begin = calloc(2 * (size_t)ids->n + 1, sizeof(*begin)), *end = begin + ids->n;
    bool spelled = false;
    PLUMB_REQUIRE(begin, PLUMB_ERR_NOMEM, "cannot store the byte ranges of %lld tokens",
                  (long long)ids->n);
    plumb_status st = token_bytes(&spelled, begin, end, e->tokenizer, ids, text);
    memset(mask, 0, (size_t)ids->n);
    for (int64_t k = 0, i = 0; k < n && st == PLUMB_OK; k++) {
        if (span[k].end <= span[k].begin)
            continue;
        if (!spelled) {
            st = mask_again(e, mask, ids, text, span[k].begin, span[k].end);
            continue;
        }
        while (i < ids->n && end[i] <= span[k].begin)
            i++;
        for (int64_t j = i; j < ids->n && begin[j] < span[k].end; j++)
            mask[j] = 1;
    }
    free(begin);
    return st;
}

plumb_status plumb_decode_completion(const plumb_tokenizer *t, struct plumb_buf *out,
                                     const int32_t *prompt, int64_t n_prompt, const int32_t *ids,
                                     int64_t n)
{
    return plumb_tokenizer_decode_after(t, out, prompt, n_prompt, ids, n, true);
}

plumb_status plumb_decode_prompt(const plumb_tokenizer *t, struct plumb_buf *out,
                                 const int32_t *ids, int64_t n)
{
    const struct plumb_ids *before = plumb_tokenizer_before(t);
    const int64_t skip = before->n > 0 && begins_with(ids, n, before) ? before->n : 0;
    return plumb_tokenizer_decode(t, out, ids + skip, n - skip, false);
}
