/* decode.h - the "decoder" of tokenizer.json: token texts become text.
 * Layer 3. Includes base/ and io/json.h. */
#ifndef PLUMB_TEXT_DECODE_H
#define PLUMB_TEXT_DECODE_H

#include "io/json.h"
#include "text/pattern.h"
#include "text/pieces.h"

struct plumb_decode_step;

/* Zero-initialise; released with plumb_decoder_fini. Immutable after init. */
struct plumb_decoder {
    struct plumb_decode_step *step;
    int64_t n, cap;
    bool none; /* no decoder: tokens are joined by spaces */
};

/* v: the node, NULL for none. where: the file's name.
 * PLUMB_ERR_UNSUPPORTED names a type that plumb does not know. */
plumb_status plumb_decoder_init(struct plumb_decoder *z, const plumb_json *v, const char *where);
void plumb_decoder_fini(struct plumb_decoder *z);

/* out += the text of the tokens, whose texts are the elements (offset pairs) of `in`. in and
 * other are scratch, contents lost. Unlike pieces of a text, these may be empty. */
struct plumb_token_texts {
    struct plumb_buf text;
    int64_t *end; /* (n) of each token in text */
    int64_t n, cap;
};
plumb_status plumb_token_texts_close(struct plumb_token_texts *t); /* one token ends here */
void plumb_token_texts_fini(struct plumb_token_texts *t);
plumb_status plumb_decoder_apply(const struct plumb_decoder *z, struct plumb_buf *out,
                                 struct plumb_token_texts *in, struct plumb_token_texts *other,
                                 struct plumb_matches *m);

/* Takes the space out of " ." " ?" " !" " ," " ' " " n't" " 'm" " 's" " 've" " 're" in
 * text[from ..), one pattern after the other (transformers' clean_up_tokenization). */
void plumb_clean_up_spaces(struct plumb_buf *text, int64_t from);

#endif
