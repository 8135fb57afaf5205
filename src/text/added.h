/* added.h - added tokens of tokenizer.json and of the other tokenizer files (text/beside.h). These
 * tokens are searched for in a text before the text is split into words.
 * Layer 3. Includes base/, io/json.h and text/beside.h. */
#ifndef PLUMB_TEXT_ADDED_H
#define PLUMB_TEXT_ADDED_H

#include "text/beside.h"
#include "text/bpe.h"
#include "text/normalize.h"
#include "text/pieces.h"

struct plumb_added_token {
    struct plumb_buf content; /* text of the token, as in the file */
    /* Text that is searched for and decoded: `content`, normalised if `normalized` is set. */
    struct plumb_buf form;
    int32_t id;
    bool special, normalized, single_word, lstrip, rstrip;
    bool own; /* tokenizer.json has this token */
    bool put; /* a list in another file (text/beside.h) has this token */
    /* True if decoding without special tokens omits this token. */
    bool skip;
};

struct plumb_trie_node {
    int32_t child, next; /* first child and next sibling of the node; -1 if there is none */
    int32_t token;       /* index of the token that ends at this node, or -1 */
    unsigned char byte;
};
struct plumb_trie {
    struct plumb_trie_node *node;
    int64_t n, cap;
    int32_t root[256]; /* index of the node for each first byte; -1 if there is none */
};

/* Initialise with zeros, fill with plumb_added_init, release with plumb_added_fini. The struct does
 * not change after plumb_added_init. */
struct plumb_added {
    struct plumb_added_token *token;
    int64_t n, cap;
    /* raw has the tokens that are searched for in the original text, normal those that are searched
     * for in the normalised text. */
    struct plumb_trie raw, normal;
    /* Pattern of one word character; NULL if no token has single_word. */
    plumb_pattern *word;
};

/* Collects the added tokens. v is the array added_tokens of tokenizer.json, or NULL. beside has the
 * tokens of the other files, or is NULL. Ids are assigned as in huggingface/tokenizers: a token of
 * the model's vocabulary keeps its id; any other token gets the next free id, first those of
 * tokenizer.json and then those of the other files. If a file states another id, a warning is
 * printed. */
plumb_status plumb_added_init(struct plumb_added *z, const plumb_json *v,
                              const struct plumb_beside *beside, const plumb_bpe *model,
                              const struct plumb_normalizer *norm, const char *where);
void plumb_added_fini(struct plumb_added *z);

/* Return the index of the token with this id, or with this content; -1 if there is none. */
int64_t plumb_added_by_id(const struct plumb_added *z, int32_t id);
int64_t plumb_added_by_content(const struct plumb_added *z, const char *s, int64_t n);

/* Splits s into the tokens found with `trie` and the texts between them, and appends these pieces
 * to out. `start` tells whether s begins at the beginning of the original text. */
plumb_status plumb_added_split(const struct plumb_added *z, const struct plumb_trie *trie,
                               struct plumb_pieces *out, struct plumb_matches *m, const char *s,
                               int64_t n, bool start);

#endif
