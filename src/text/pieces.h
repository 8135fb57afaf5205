/* pieces.h - a text that is split into pieces; a piece is either text or a token that was found.
 * Layer 3. Includes base/. */
#ifndef PLUMB_TEXT_PIECES_H
#define PLUMB_TEXT_PIECES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

struct plumb_text_piece {
    int64_t at, len; /* range in text.data; a piece of text is never empty */
    int32_t id;      /* id of an added token, or -1 if the piece is text */
    bool start;      /* the piece begins at the beginning of the original text */
};

/* Initialise with zeros, release with plumb_pieces_fini. */
struct plumb_pieces {
    struct plumb_buf text;
    struct plumb_text_piece *piece;
    int64_t n, cap;
};

/* Appends a piece that covers text.data[at .. text.len). `start`: true if the piece begins at the
 * beginning of the original text. An empty piece is not appended, as in huggingface/tokenizers. */
plumb_status plumb_pieces_close(struct plumb_pieces *p, int64_t at, bool start);
plumb_status plumb_pieces_add_text(struct plumb_pieces *p, const char *s, int64_t n, bool start);
plumb_status plumb_pieces_add_token(struct plumb_pieces *p, int32_t id);
/* Removes all pieces and keeps the memory. */
void plumb_pieces_clear(struct plumb_pieces *p);
void plumb_pieces_fini(struct plumb_pieces *p);

/* Enlarges *array (*cap elements of `size` bytes), if needed, so that it can hold element n. */
plumb_status plumb_grow(void **array, int64_t n, int64_t *cap, int64_t size);

#endif
