/* pretokenize.h - the "pre_tokenizer" of tokenizer.json: splits a text into words.
 * Layer 3. Includes base/ and io/json.h. */
#ifndef PLUMB_TEXT_PRETOKENIZE_H
#define PLUMB_TEXT_PRETOKENIZE_H

#include "io/json.h"
#include "text/pattern.h"
#include "text/pieces.h"

struct plumb_split_step;

/* Initialise with zeros, fill with plumb_pretokenizer_init, release with plumb_pretokenizer_fini.
 * The struct does not change after plumb_pretokenizer_init. */
struct plumb_pretokenizer {
    struct plumb_split_step *step;
    int64_t n, cap;
};

/* Reads the node "pre_tokenizer" (v, or NULL) of the file `where`. Returns PLUMB_ERR_UNSUPPORTED
 * with the name of a type that plumb does not support. */
plumb_status plumb_pretokenizer_init(struct plumb_pretokenizer *z, const plumb_json *v,
                                     const char *where);
void plumb_pretokenizer_fini(struct plumb_pretokenizer *z);

/* Splits the texts among the pieces p into words. `other` and m are scratch memory and are
 * overwritten. */
plumb_status plumb_pretokenizer_apply(const struct plumb_pretokenizer *z, struct plumb_pieces *p,
                                      struct plumb_pieces *other, struct plumb_matches *m);

/* Returns the printable character that stands for a byte in ByteLevel's alphabet (GPT-2's
 * bytes_to_unicode). */
uint32_t plumb_byte_char(unsigned char byte);
/* Returns the byte that a character of ByteLevel's alphabet stands for, or -1. */
int plumb_char_byte(uint32_t cp);

/* Reads a JSON string of exactly one character. Copies its UTF-8 bytes to out and their number to
 * *len. */
plumb_status plumb_char_from_json(char out[4], int *len, const plumb_json *v, const char *key,
                                  const char *where);

#endif
