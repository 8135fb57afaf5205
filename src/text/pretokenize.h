/* pretokenize.h - the "pre_tokenizer" of tokenizer.json: a text becomes words.
 * Layer 3. Includes base/ and io/json.h. */
#ifndef PLUMB_TEXT_PRETOKENIZE_H
#define PLUMB_TEXT_PRETOKENIZE_H

#include "io/json.h"
#include "text/pattern.h"
#include "text/pieces.h"

struct plumb_split_step;

/* Zero-initialise; released with plumb_pretokenizer_fini. Immutable after init. */
struct plumb_pretokenizer {
    struct plumb_split_step *step;
    int64_t n, cap;
};

/* v: the node, NULL for none. where: the file's name.
 * PLUMB_ERR_UNSUPPORTED names a type that plumb does not know. */
plumb_status plumb_pretokenizer_init(struct plumb_pretokenizer *z, const plumb_json *v,
                                     const char *where);
void plumb_pretokenizer_fini(struct plumb_pretokenizer *z);

/* p = p with its texts cut into words. other, m: scratch, contents lost. */
plumb_status plumb_pretokenizer_apply(const struct plumb_pretokenizer *z, struct plumb_pieces *p,
                                      struct plumb_pieces *other, struct plumb_matches *m);

/* ByteLevel's alphabet: every byte has a printable character (GPT-2's bytes_to_unicode). */
uint32_t plumb_byte_char(unsigned char byte);
int plumb_char_byte(uint32_t cp); /* the byte, or -1 */

/* The one character of a JSON string, as UTF-8: out has 4 bytes, *len says how many. */
plumb_status plumb_char_from_json(char out[4], int *len, const plumb_json *v, const char *key,
                                  const char *where);

#endif
