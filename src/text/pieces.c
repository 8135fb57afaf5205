/* pieces.c - a text that is split into pieces; a piece is either text or a token that was found.
 * Layer 3. Includes base/. */
#include "text/pieces.h"

#include <stdlib.h>

#include "base/num.h"

plumb_status plumb_grow(void **array, int64_t n, int64_t *cap, int64_t size)
{
    if (n < *cap)
        return PLUMB_OK;
    const int64_t want = *cap ? 2 * *cap : 64;
    int64_t bytes;
    PLUMB_REQUIRE(plumb_mul(&bytes, want, size), PLUMB_ERR_NOMEM,
                  "a list of %lld elements is too long", (long long)want);
    void *grown = realloc(*array, (size_t)bytes);
    PLUMB_REQUIRE(grown, PLUMB_ERR_NOMEM, "cannot enlarge a list to %lld bytes", (long long)bytes);
    *array = grown;
    *cap = want;
    return PLUMB_OK;
}

static plumb_status add(struct plumb_pieces *p, const struct plumb_text_piece *one)
{
    PLUMB_TRY(plumb_grow((void **)&p->piece, p->n, &p->cap, sizeof *p->piece));
    p->piece[p->n++] = *one;
    return PLUMB_OK;
}

plumb_status plumb_pieces_close(struct plumb_pieces *p, int64_t at, bool start)
{
    if (p->text.len == at)
        return PLUMB_OK;
    const struct plumb_text_piece one = {at, p->text.len - at, -1, start};
    return add(p, &one);
}

plumb_status plumb_pieces_add_text(struct plumb_pieces *p, const char *s, int64_t n, bool start)
{
    const int64_t at = p->text.len;
    PLUMB_TRY(plumb_buf_add(&p->text, s, n));
    return plumb_pieces_close(p, at, start);
}

plumb_status plumb_pieces_add_token(struct plumb_pieces *p, int32_t id)
{
    const struct plumb_text_piece one = {p->text.len, 0, id, false};
    return add(p, &one);
}

void plumb_pieces_clear(struct plumb_pieces *p)
{
    plumb_buf_clear(&p->text);
    p->n = 0;
}

void plumb_pieces_fini(struct plumb_pieces *p)
{
    plumb_buf_fini(&p->text);
    free(p->piece);
    *p = (struct plumb_pieces){0};
}
