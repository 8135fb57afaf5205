/* pieces.h - a text cut into pieces, some of them already tokens.
 * Layer 3. Includes base/. */
#ifndef PLUMB_TEXT_PIECES_H
#define PLUMB_TEXT_PIECES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

struct plumb_text_piece {
    int64_t at, len; /* bytes of text.data; never empty unless it is a token */
    int32_t id;      /* an added token, or -1: still text */
    bool start;      /* begins where the original text begins */
};

/* Zero-initialise; released with plumb_pieces_fini. */
struct plumb_pieces {
    struct plumb_buf text;
    struct plumb_text_piece *piece;
    int64_t n, cap;
};

/* Appends a piece that covers text.data[at .. text.len). An empty piece of text is dropped, as
 * the reference drops it. */
plumb_status plumb_pieces_close(struct plumb_pieces *p, int64_t at, bool start);
plumb_status plumb_pieces_add_text(struct plumb_pieces *p, const char *s, int64_t n, bool start);
plumb_status plumb_pieces_add_token(struct plumb_pieces *p, int32_t id);
void plumb_pieces_clear(struct plumb_pieces *p); /* keeps the memory */
void plumb_pieces_fini(struct plumb_pieces *p);

/* Room for one more element of `size` bytes in a growing array. */
plumb_status plumb_grow(void **array, int64_t n, int64_t *cap, int64_t size);

#endif
