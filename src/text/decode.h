/* decode.h - the "decoder" of tokenizer.json: turns the texts of tokens into one text.
 * Layer 3. Includes base/ and io/json.h. */
#ifndef PLUMB_TEXT_DECODE_H
#define PLUMB_TEXT_DECODE_H

#include "io/json.h"
#include "text/pattern.h"
#include "text/pieces.h"

struct plumb_decode_step;

/* Initialise with zeros, fill with plumb_decoder_init, release with plumb_decoder_fini. The struct
 * does not change after plumb_decoder_init. */
struct plumb_decoder {
    struct plumb_decode_step *step;
    int64_t n, cap;
    bool none; /* the file has no decoder: tokens are joined with spaces */
};

/* Reads the node "decoder" (v, or NULL) of the file `where`. Returns PLUMB_ERR_UNSUPPORTED with the
 * name of a type that plumb does not support. */
plumb_status plumb_decoder_init(struct plumb_decoder *z, const plumb_json *v, const char *where);
void plumb_decoder_fini(struct plumb_decoder *z);

/* The texts of several tokens, one after the other. A text may be empty. plumb_decoder_apply
 * appends the decoded text of the tokens of `in` to out; `in` and `other` are scratch memory and
 * are overwritten. */
struct plumb_token_texts {
    struct plumb_buf text;
    int64_t *end; /* (n,) offset in `text` at which each token's text ends */
    int64_t n, cap;
};
/* Makes the bytes that were added to t->text since the last call the text of one more token. */
plumb_status plumb_token_texts_close(struct plumb_token_texts *t);
void plumb_token_texts_fini(struct plumb_token_texts *t);
plumb_status plumb_decoder_apply(const struct plumb_decoder *z, struct plumb_buf *out,
                                 struct plumb_token_texts *in, struct plumb_token_texts *other,
                                 struct plumb_matches *m);

/* Removes the first space in each of " ." " ?" " !" " ," " n't" " 'm" " 's" " 've" " 're", and both
 * spaces in " ' ", in text[from ..). The function applies one pattern after the other, like
 * transformers' clean_up_tokenization. */
void plumb_clean_up_spaces(struct plumb_buf *text, int64_t from);

#endif
