/* bpe_table.h - what bpe.c reads and bpe_load.c fills: the vocabulary and the merges.
 * Layer 3. Private to bpe*.c. */
#ifndef PLUMB_TEXT_BPE_TABLE_H
#define PLUMB_TEXT_BPE_TABLE_H

#include <stdatomic.h>

#include "base/buf.h"
#include "text/bpe.h"

/* Code points below this have their token's id in a table. */
#define PLUMB_BPE_DIRECT 0x800

struct plumb_bpe_text {
    uint32_t at, len; /* in chars; at == UINT32_MAX: no token has this id */
};
struct plumb_bpe_slot {
    uint32_t tag; /* upper half of the text's hash */
    int32_t id;   /* -1: free */
};
struct plumb_bpe_merge {
    uint64_t pair; /* left id << 32 | right id; UINT64_MAX: free */
    int32_t rank, id;
};

/* What is known of a token's own text as a word: it is encoded as this one token, or not. Found
 * out at its first use; every thread finds the same. */
enum { PLUMB_BPE_UNKNOWN, PLUMB_BPE_WHOLE, PLUMB_BPE_PARTS };

struct plumb_bpe {
    struct plumb_buf chars;
    struct plumb_bpe_text *text;  /* (top) */
    _Atomic unsigned char *known; /* (top) */
    int64_t count, top, longest;  /* longest: bytes of the longest token */
    struct plumb_bpe_slot *slot;  /* (slots), slots a power of two */
    int64_t slots;
    struct plumb_bpe_merge *merge; /* (merges), merges a power of two */
    int64_t merges;
    int32_t direct[PLUMB_BPE_DIRECT]; /* id of the one-character token, or -1 */
    int32_t byte_id[256];             /* ids of <0x00> .. <0xFF>, or -1 */
    bool byte_fallback, ignore_merges, fuse_unk;
    struct plumb_buf unk; /* empty: none */
    int32_t unk_id;       /* -1: not in the vocabulary */
};

/* The slot that holds a text, or the free one where it belongs. */
struct plumb_bpe_slot *plumb_bpe_find(const plumb_bpe *b, const char *s, int64_t n, uint32_t *tag);

static inline uint64_t plumb_bpe_pair(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

/* The entry of a pair, or the free one where it belongs. Multiplicative hash (Knuth vol. 3, 6.4),
 * upper bits. */
static inline struct plumb_bpe_merge *plumb_bpe_find_merge(const plumb_bpe *b, uint64_t pair)
{
    const uint64_t h = (pair ^ pair >> 29) * 0x9E3779B97F4A7C15ull;
    int64_t i = (int64_t)(h >> 32) & (b->merges - 1);
    while (b->merge[i].pair != pair && b->merge[i].pair != UINT64_MAX)
        i = (i + 1) & (b->merges - 1);
    return &b->merge[i];
}

#endif
