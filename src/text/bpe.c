/* bpe.c - encodes a word by byte pair encoding.
 * Layer 3. Includes base/ and io/file.h.
 *
 * A symbol is one of the tokens into which a word is split so far. Merges of neighbouring symbols
 * are applied in the order of their rank, those of equal rank from left to right (Sennrich 2016,
 * arXiv:1508.07909, as in huggingface/tokenizers, models/bpe). In a short word the code scans for
 * the pair with the smallest rank. In a long word it uses a heap of candidate pairs and a linked
 * list of symbols. A candidate is outdated if its pair no longer merges to the same token. It is
 * enough to compare the resulting token, because symbols only grow: an equal result means an equal
 * pair. */
#include "text/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "io/file.h"
#include "text/bpe_table.h"
#include "text/utf8.h"

/* A word of at most this many symbols is merged by scanning, which is then faster than the heap. */
#define SCAN_MAX 48
#define NO_RANK  INT32_MAX

struct symbol {
    int32_t id; /* -1 after it was merged into the symbol before it */
    int32_t prev, next;
};
struct candidate {
    uint64_t key; /* rank << 32 | position; the smallest key is merged first */
    int32_t id;
};

struct plumb_bpe_slot *plumb_bpe_find(const plumb_bpe *b, const char *s, int64_t n, uint32_t *tag)
{
    const uint64_t h = plumb_hash(s, n, 0);
    *tag = (uint32_t)(h >> 32);
    int64_t i = (int64_t)h & (b->slots - 1);
    for (;; i = (i + 1) & (b->slots - 1)) {
        struct plumb_bpe_slot *at = &b->slot[i];
        if (at->id < 0)
            return at;
        const struct plumb_bpe_text *t = &b->text[at->id];
        if (at->tag == *tag && t->len == n && memcmp(b->chars.data + t->at, s, (size_t)n) == 0)
            return at;
    }
}

int64_t plumb_bpe_count(const plumb_bpe *b)
{
    return b->count;
}

int64_t plumb_bpe_top(const plumb_bpe *b)
{
    return b->top;
}

int32_t plumb_bpe_id(const plumb_bpe *b, const char *s, int64_t n)
{
    uint32_t tag;
    return n > b->longest ? -1 : plumb_bpe_find(b, s, n, &tag)->id;
}

const char *plumb_bpe_token(const plumb_bpe *b, int32_t id, int64_t *len)
{
    *len = 0;
    if (id < 0 || id >= b->top || b->text[id].at == UINT32_MAX)
        return NULL;
    *len = b->text[id].len;
    return b->chars.data + b->text[id].at;
}

void plumb_bpe_work_fini(struct plumb_bpe_work *w)
{
    free(w->bytes);
    *w = (struct plumb_bpe_work){0};
}

static plumb_status reserve(struct plumb_bpe_work *w, int64_t bytes)
{
    if (bytes <= w->cap)
        return PLUMB_OK;
    const int64_t cap = plumb_max_i64(bytes, 2 * w->cap);
    void *grown = realloc(w->bytes, (size_t)cap);
    PLUMB_REQUIRE(grown, PLUMB_ERR_NOMEM, "cannot reserve %lld bytes to encode a word",
                  (long long)bytes);
    w->bytes = grown;
    w->cap = cap;
    return PLUMB_OK;
}

static plumb_status unknown(const plumb_bpe *b, int32_t *pending, int32_t *out, int64_t *n)
{
    PLUMB_REQUIRE(b->unk_id >= 0, PLUMB_ERR_FORMAT,
                  "a text needs model.unk_token \"%s\", but this token is not in the vocabulary",
                  plumb_buf_text(&b->unk));
    if (*pending >= 0 && !b->fuse_unk)
        out[(*n)++] = *pending;
    *pending = b->unk_id;
    return PLUMB_OK;
}

/* Writes the ids of the characters of the word s (len bytes) to out, which has room for len ids,
 * and their number to *n. A character without a token becomes the tokens of its bytes, the unknown
 * token, or nothing. As in huggingface/tokenizers, an unknown token is not written at once, but
 * before the next character that does not become byte tokens, or at the end of the word. So byte
 * tokens of later characters may precede it. */
static plumb_status characters(const plumb_bpe *b, const char *s, int64_t len, int32_t *out,
                               int64_t *n)
{
    int32_t pending = -1;
    *n = 0;
    for (int64_t i = 0, size; i < len; i += size) {
        size = plumb_utf8_size(s[i]);
        const int32_t id =
            size <= 2 ? b->direct[plumb_utf8_at(s + i)] : plumb_bpe_id(b, s + i, size);
        if (id >= 0) {
            if (pending >= 0)
                out[(*n)++] = pending;
            pending = -1;
            out[(*n)++] = id;
            continue;
        }
        bool bytes = b->byte_fallback;
        for (int64_t j = 0; bytes && j < size; j++)
            bytes = b->byte_id[(unsigned char)s[i + j]] >= 0;
        if (bytes)
            for (int64_t j = 0; j < size; j++)
                out[(*n)++] = b->byte_id[(unsigned char)s[i + j]];
        else if (b->unk.len)
            PLUMB_TRY(unknown(b, &pending, out, n));
    }
    if (pending >= 0)
        out[(*n)++] = pending;
    return PLUMB_OK;
}

static int32_t rank_of(const plumb_bpe *b, int32_t left, int32_t right, int32_t *id)
{
    const struct plumb_bpe_merge *m = plumb_bpe_find_merge(b, plumb_bpe_pair(left, right));
    *id = m->id;
    return m->id < 0 ? NO_RANK : m->rank;
}

static int64_t merge_by_scan(const plumb_bpe *b, int32_t *id, int64_t n)
{
    int32_t rank[SCAN_MAX], made[SCAN_MAX]; /* rank and result of merging the pair (i, i + 1) */
    for (int64_t i = 0; i + 1 < n; i++)
        rank[i] = rank_of(b, id[i], id[i + 1], &made[i]);
    while (n > 1) {
        int64_t best = 0;
        for (int64_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best])
                best = i;
        if (rank[best] == NO_RANK)
            break;
        id[best] = made[best];
        n--;
        for (int64_t i = best + 1; i < n; i++) {
            id[i] = id[i + 1];
            rank[i - 1] = rank[i];
            made[i - 1] = made[i];
        }
        if (best > 0)
            rank[best - 1] = rank_of(b, id[best - 1], id[best], &made[best - 1]);
        if (best + 1 < n)
            rank[best] = rank_of(b, id[best], id[best + 1], &made[best]);
    }
    return n;
}

static void heap_push(struct candidate *heap, int64_t *n, struct candidate c)
{
    int64_t i = (*n)++;
    for (; i > 0 && heap[(i - 1) / 2].key > c.key; i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = c;
}

static struct candidate heap_pop(struct candidate *heap, int64_t *n)
{
    const struct candidate top = heap[0], last = heap[--*n];
    int64_t i = 0;
    for (int64_t child; (child = 2 * i + 1) < *n; i = child) {
        if (child + 1 < *n && heap[child + 1].key < heap[child].key)
            child++;
        if (heap[child].key >= last.key)
            break;
        heap[i] = heap[child];
    }
    heap[i] = last;
    return top;
}

static void offer(const plumb_bpe *b, const struct symbol *sym, int32_t left, int32_t right,
                  struct candidate *heap, int64_t *queued)
{
    int32_t made;
    const int32_t rank = rank_of(b, sym[left].id, sym[right].id, &made);
    if (rank != NO_RANK)
        heap_push(heap, queued,
                  (struct candidate){(uint64_t)(uint32_t)rank << 32 | (uint32_t)left, made});
}

/* Returns the bytes for n symbols and their candidates: there are n - 1 candidates at first, and
 * each of the at most n - 1 merges removes one and adds at most two. */
static int64_t heap_bytes(int64_t n)
{
    return n * (int64_t)(sizeof(struct symbol) + 2 * sizeof(struct candidate));
}

static int64_t merge_by_heap(const plumb_bpe *b, int32_t *id, int64_t n, void *work)
{
    struct candidate *heap = work;
    struct symbol *sym = (struct symbol *)(heap + 2 * n);
    int64_t queued = 0;
    for (int32_t i = 0; i < n; i++)
        sym[i] = (struct symbol){id[i], i - 1, i + 1 < n ? i + 1 : -1};
    for (int32_t i = 0; i + 1 < n; i++)
        offer(b, sym, i, i + 1, heap, &queued);
    while (queued > 0) {
        const struct candidate c = heap_pop(heap, &queued);
        const int32_t at = (int32_t)(uint32_t)c.key, right = sym[at].next;
        int32_t made;
        if (sym[at].id < 0 || right < 0 ||
            rank_of(b, sym[at].id, sym[right].id, &made) == NO_RANK || made != c.id)
            continue;
        sym[at].id = made;
        sym[at].next = sym[right].next;
        sym[right].id = -1;
        if (sym[at].next >= 0)
            sym[sym[at].next].prev = at;
        if (sym[at].prev >= 0)
            offer(b, sym, sym[at].prev, at, heap, &queued);
        if (sym[at].next >= 0)
            offer(b, sym, at, sym[at].next, heap, &queued);
    }
    int64_t left = 0;
    for (int64_t i = 0; i < n; i++)
        if (sym[i].id >= 0)
            id[left++] = sym[i].id;
    return left;
}

static plumb_status merge(const plumb_bpe *b, struct plumb_ids *ids, struct plumb_bpe_work *w,
                          const char *s, int64_t len)
{
    int32_t small[SCAN_MAX];
    int32_t *id = small;
    int64_t n;
    if (len > SCAN_MAX) {
        PLUMB_REQUIRE(len < INT32_MAX / 4, PLUMB_ERR_UNSUPPORTED,
                      "a word of %lld bytes is too long to encode, expected fewer than %d bytes",
                      (long long)len, INT32_MAX / 4);
        const int64_t head = (len * (int64_t)sizeof *id + 15) & ~(int64_t)15;
        PLUMB_TRY(reserve(w, head + heap_bytes(len)));
        id = w->bytes;
        PLUMB_TRY(characters(b, s, len, id, &n));
        n = n > SCAN_MAX ? merge_by_heap(b, id, n, (char *)w->bytes + head)
                         : merge_by_scan(b, id, n);
    } else {
        PLUMB_TRY(characters(b, s, len, id, &n));
        n = merge_by_scan(b, id, n);
    }
    for (int64_t i = 0; i < n; i++)
        PLUMB_TRY(plumb_ids_add(ids, id[i]));
    return PLUMB_OK;
}

plumb_status plumb_bpe_encode(const plumb_bpe *b, struct plumb_ids *ids, struct plumb_bpe_work *w,
                              const char *s, int64_t n)
{
    if (n == 0)
        return PLUMB_OK;
    const int32_t whole = plumb_bpe_id(b, s, n);
    if (whole < 0)
        return merge(b, ids, w, s, n);
    if (b->ignore_merges)
        return plumb_ids_add(ids, whole);
    const int known = atomic_load_explicit(&b->known[whole], memory_order_relaxed);
    if (known == PLUMB_BPE_WHOLE)
        return plumb_ids_add(ids, whole);
    const int64_t before = ids->n;
    PLUMB_TRY(merge(b, ids, w, s, n));
    const bool one = ids->n == before + 1 && ids->id[before] == whole;
    if (known == PLUMB_BPE_UNKNOWN)
        atomic_store_explicit(&b->known[whole], one ? PLUMB_BPE_WHOLE : PLUMB_BPE_PARTS,
                              memory_order_relaxed);
    return PLUMB_OK;
}
