/* bpe.h - the BPE "model" of tokenizer.json: vocabulary, merges, and a word's tokens.
 * Layer 3. Includes base/ and io/json.h. */
#ifndef PLUMB_TEXT_BPE_H
#define PLUMB_TEXT_BPE_H

#include <stdbool.h>
#include <stdint.h>

#include "io/json.h"
#include "text/ids.h"

typedef struct plumb_bpe plumb_bpe; /* shared by threads */

/* v: the "model" node. where: the file's name. *out is owned by the caller.
 * Errors: PLUMB_ERR_FORMAT names the field; PLUMB_ERR_UNSUPPORTED names what plumb does not know.
 */
plumb_status plumb_bpe_create(plumb_bpe **out, const plumb_json *v, const char *where);
void plumb_bpe_destroy(plumb_bpe **b); /* NULL is allowed */

int64_t plumb_bpe_count(const plumb_bpe *b);                        /* tokens */
int64_t plumb_bpe_top(const plumb_bpe *b);                          /* largest id + 1 */
int32_t plumb_bpe_id(const plumb_bpe *b, const char *s, int64_t n); /* -1: no such token */
/* Text of a token (not NUL-terminated), or NULL when no token has this id. */
const char *plumb_bpe_token(const plumb_bpe *b, int32_t id, int64_t *len);

/* Scratch of one thread; zero-initialise, released with plumb_bpe_work_fini. */
struct plumb_bpe_work {
    void *bytes;
    int64_t cap;
};
void plumb_bpe_work_fini(struct plumb_bpe_work *w);

/* ids += tokens of one word (valid UTF-8). O(n log n) in its length. */
plumb_status plumb_bpe_encode(const plumb_bpe *b, struct plumb_ids *ids, struct plumb_bpe_work *w,
                              const char *s, int64_t n);

#endif
