/* added.h - added tokens, of tokenizer.json and of the files beside it: they are found in the text
 * before the model sees it. Layer 3. Includes base/, io/json.h and text/beside.h. */
#ifndef PLUMB_TEXT_ADDED_H
#define PLUMB_TEXT_ADDED_H

#include "text/beside.h"
#include "text/bpe.h"
#include "text/normalize.h"
#include "text/pieces.h"

struct plumb_added_token {
    struct plumb_buf content; /* as written in the file */
    struct plumb_buf form;    /* what is looked for, and decoded: normalised where flagged so */
    int32_t id;
    bool special, normalized, single_word, lstrip, rstrip;
    bool own;  /* stands in tokenizer.json */
    bool put;  /* a list beside tokenizer.json has it */
    bool skip; /* left out when special tokens are left out */
};

struct plumb_trie_node {
    int32_t child, next; /* first child, next sibling; -1 for none */
    int32_t token;       /* index that ends here, or -1 */
    unsigned char byte;
};
struct plumb_trie {
    struct plumb_trie_node *node;
    int64_t n, cap;
    int32_t root[256]; /* node of a first byte, or -1 */
};

/* Zero-initialise; released with plumb_added_fini. Immutable after init. */
struct plumb_added {
    struct plumb_added_token *token;
    int64_t n, cap;
    struct plumb_trie raw, normal; /* before and after normalisation */
    plumb_pattern *word;           /* one character of a word; NULL when no token asks */
};

/* v: the array of tokenizer.json, NULL for none; beside: what the other files ask for, NULL for
 * nothing. Ids follow the reference: a token of the model's vocabulary keeps its id there, another
 * one gets the next free id, in the order of the file and of the wishes; a file that gives another
 * id is warned about. */
plumb_status plumb_added_init(struct plumb_added *z, const plumb_json *v,
                              const struct plumb_beside *beside, const plumb_bpe *model,
                              const struct plumb_normalizer *norm, const char *where);
void plumb_added_fini(struct plumb_added *z);

/* Index of the token with this id or this content; -1 when there is none. */
int64_t plumb_added_by_id(const struct plumb_added *z, int32_t id);
int64_t plumb_added_by_content(const struct plumb_added *z, const char *s, int64_t n);

/* out += the pieces of s: tokens found with `trie`, and the text between them. start: s begins
 * where the original text begins. */
plumb_status plumb_added_split(const struct plumb_added *z, const struct plumb_trie *trie,
                               struct plumb_pieces *out, struct plumb_matches *m, const char *s,
                               int64_t n, bool start);

#endif
