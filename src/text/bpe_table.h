/* bpe_table.h - the tables of a BPE model: bpe_load.c fills them, bpe.c reads them.
 * Layer 3. Private to bpe*.c. */
#ifndef PLUMB_TEXT_BPE_TABLE_H
#define PLUMB_TEXT_BPE_TABLE_H

#include <stdatomic.h>

#include "base/buf.h"
#include "text/bpe.h"

/* A character below this code point finds its token through the table `direct`. */
#define PLUMB_BPE_DIRECT 0x800

struct plumb_bpe_text {
    uint32_t at, len; /* offset and length in chars; at is UINT32_MAX if no token has this id */
};
struct plumb_bpe_slot {
    uint32_t tag; /* upper half of the hash of the token's text */
    int32_t id;   /* id of the token; -1 if the slot is free */
};
struct plumb_bpe_merge {
    uint64_t pair; /* left id << 32 | right id; UINT64_MAX if the entry is free */
    int32_t rank;  /* the pair with the smallest rank is merged first */
    int32_t id;    /* id of the token that the merge yields; -1 if the entry is free */
};

/* How a word that equals the text of a token is encoded: as that one token (WHOLE), or as several
 * tokens (PARTS). UNKNOWN until the word is encoded for the first time. Several threads may set the
 * value at the same time, because all of them compute the same one. */
enum { PLUMB_BPE_UNKNOWN, PLUMB_BPE_WHOLE, PLUMB_BPE_PARTS };

struct plumb_bpe {
    struct plumb_buf chars;
    struct plumb_bpe_text *text;  /* (top,) text of each id */
    _Atomic unsigned char *known; /* (top,) PLUMB_BPE_UNKNOWN, PLUMB_BPE_WHOLE or PLUMB_BPE_PARTS */
    /* Number of tokens, largest id + 1, and bytes of the longest token. */
    int64_t count, top, longest;
    struct plumb_bpe_slot *slot; /* (slots,) hash table from text to id; slots is a power of two */
    int64_t slots;
    /* (merges,) hash table of the merges; `merges` is its number of entries, a power of two. */
    struct plumb_bpe_merge *merge;
    int64_t merges;
    /* direct[c] is the id of the token whose text is the one character with code point c, or -1. */
    int32_t direct[PLUMB_BPE_DIRECT];
    int32_t byte_id[256]; /* ids of the tokens <0x00> .. <0xFF>; -1 if there is no such token */
    bool byte_fallback, ignore_merges, fuse_unk;
    struct plumb_buf unk; /* text of the unknown token; empty if there is none */
    int32_t unk_id;       /* id of the unknown token; -1 if it is not in the vocabulary */
};

/* Returns the slot of a text (n bytes), or the free slot where the text would be stored. *tag
 * becomes the upper half of the text's hash. */
struct plumb_bpe_slot *plumb_bpe_find(const plumb_bpe *b, const char *s, int64_t n, uint32_t *tag);

static inline uint64_t plumb_bpe_pair(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

/* Returns the entry of a pair, or the free entry where the pair would be stored. The hash is
 * multiplicative (Knuth vol. 3, 6.4), and its upper bits are used. */
static inline struct plumb_bpe_merge *plumb_bpe_find_merge(const plumb_bpe *b, uint64_t pair)
{
    const uint64_t h = (pair ^ pair >> 29) * 0x9E3779B97F4A7C15ull;
    int64_t i = (int64_t)(h >> 32) & (b->merges - 1);
    while (b->merge[i].pair != pair && b->merge[i].pair != UINT64_MAX)
        i = (i + 1) & (b->merges - 1);
    return &b->merge[i];
}

#endif
