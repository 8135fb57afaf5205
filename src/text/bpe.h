/* bpe.h - the BPE "model" of tokenizer.json: its vocabulary, its merges and the encoding of a word.
 * Layer 3. Includes base/ and io/json.h. */
#ifndef PLUMB_TEXT_BPE_H
#define PLUMB_TEXT_BPE_H

#include <stdbool.h>
#include <stdint.h>

#include "io/json.h"
#include "text/ids.h"

typedef struct plumb_bpe plumb_bpe; /* threads may share it */

/* Reads the node "model" (v) of the file `where`. The caller owns *out. Returns PLUMB_ERR_FORMAT
 * with the name of the field, or PLUMB_ERR_UNSUPPORTED with the name of a feature that plumb does
 * not support. */
plumb_status plumb_bpe_create(plumb_bpe **out, const plumb_json *v, const char *where);
void plumb_bpe_destroy(plumb_bpe **b); /* does nothing if *b is NULL */

/* Returns the number of tokens in the vocabulary of the "model". Added tokens that the vocabulary
 * lacks do not count. */
int64_t plumb_bpe_count(const plumb_bpe *b);
/* Returns the largest token id of the vocabulary, plus 1. */
int64_t plumb_bpe_top(const plumb_bpe *b);
/* Returns the id of the token with the text s, or -1 if there is none. */
int32_t plumb_bpe_id(const plumb_bpe *b, const char *s, int64_t n);
/* Returns the text of a token, which is not NUL-terminated, or NULL if no token has this id. */
const char *plumb_bpe_token(const plumb_bpe *b, int32_t id, int64_t *len);

/* Scratch memory of one thread. Initialise with zeros, release with plumb_bpe_work_fini. */
struct plumb_bpe_work {
    void *bytes;
    int64_t cap;
};
void plumb_bpe_work_fini(struct plumb_bpe_work *w);

/* Appends the tokens of one word (valid UTF-8 of n bytes) to ids. The time is O(n log n). Returns
 * PLUMB_ERR_UNSUPPORTED for a word that is too long; PLUMB_ERR_FORMAT if the word needs the unknown
 * token, but the vocabulary does not have it. */
plumb_status plumb_bpe_encode(const plumb_bpe *b, struct plumb_ids *ids, struct plumb_bpe_work *w,
                              const char *s, int64_t n);

#endif
