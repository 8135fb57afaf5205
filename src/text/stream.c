/* stream.c - decodes tokens that follow other tokens: all at once, or one by one as they arrive.
 * Layer 3. Includes base/.
 *
 * The text of a token may depend on its neighbours. Therefore a window of ids is decoded twice,
 * with and without the new ids, and the difference is the new text (as in DecodeStream of
 * huggingface/tokenizers). New text that ends in U+FFFD is not output yet, because the bytes of its
 * last character may be incomplete. */
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer.h"

void plumb_decode_stream_fini(struct plumb_decode_stream *s)
{
    plumb_ids_fini(&s->ids);
    plumb_buf_fini(&s->shown);
    plumb_buf_fini(&s->text);
    *s = (struct plumb_decode_stream){0};
}

static bool is_incomplete(const struct plumb_buf *text)
{
    return text->len >= 3 && memcmp(text->data + text->len - 3, "\xef\xbf\xbd", 3) == 0;
}

static plumb_status advance(struct plumb_decode_stream *s, const plumb_tokenizer *t,
                            struct plumb_buf *out, bool all)
{
    const int32_t *id = s->ids.id + s->begin;
    plumb_buf_clear(&s->shown);
    plumb_buf_clear(&s->text);
    PLUMB_TRY(plumb_tokenizer_decode(t, &s->shown, id, s->done - s->begin, s->skip_special));
    PLUMB_TRY(plumb_tokenizer_decode(t, &s->text, id, s->ids.n - s->begin, s->skip_special));
    if (s->text.len <= s->shown.len || (!all && is_incomplete(&s->text)))
        return PLUMB_OK;
    PLUMB_TRY(plumb_buf_add(out, s->text.data + s->shown.len, s->text.len - s->shown.len));
    s->begin = s->done;
    s->done = s->ids.n;
    return PLUMB_OK;
}

plumb_status plumb_decode_stream_add(struct plumb_decode_stream *s, const plumb_tokenizer *t,
                                     struct plumb_buf *out, int32_t id)
{
    PLUMB_TRY(plumb_ids_add(&s->ids, id));
    return advance(s, t, out, false);
}

plumb_status plumb_decode_stream_end(struct plumb_decode_stream *s, const plumb_tokenizer *t,
                                     struct plumb_buf *out)
{
    return s->ids.n ? advance(s, t, out, true) : PLUMB_OK;
}

/* Returns the number of bytes at the beginning that a and b share, ending at a character
 * boundary. */
static int64_t common_prefix(const struct plumb_buf *a, const struct plumb_buf *b)
{
    const int64_t most = a->len < b->len ? a->len : b->len;
    int64_t n = 0;
    while (n < most && a->data[n] == b->data[n])
        n++;
    while (n > 0 && n < b->len && ((unsigned char)b->data[n] & 0xC0) == 0x80)
        n--;
    return n;
}

plumb_status plumb_tokenizer_decode_after(const plumb_tokenizer *t, struct plumb_buf *out,
                                          const int32_t *before, int64_t n_before,
                                          const int32_t *id, int64_t n, bool skip_special)
{
    struct plumb_buf known = {0}, both = {0};
    struct plumb_ids ids = {0};
    plumb_status st = PLUMB_OK;
    PLUMB_TRY_GOTO(st, plumb_tokenizer_decode(t, &known, before, n_before, skip_special), done);
    for (int64_t i = 0; i < n_before; i++)
        PLUMB_TRY_GOTO(st, plumb_ids_add(&ids, before[i]), done);
    for (int64_t i = 0; i < n; i++)
        PLUMB_TRY_GOTO(st, plumb_ids_add(&ids, id[i]), done);
    PLUMB_TRY_GOTO(st, plumb_tokenizer_decode(t, &both, ids.id, ids.n, skip_special), done);
    const int64_t cut = common_prefix(&known, &both);
    st = plumb_buf_add(out, plumb_buf_text(&both) + cut, both.len - cut);
done:
    plumb_buf_fini(&known);
    plumb_buf_fini(&both);
    plumb_ids_fini(&ids);
    return st;
}
