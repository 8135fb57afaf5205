/* tokenizer.h - text to token ids and back, as tokenizer.json says.
 * Layer 3. Includes base/ and io/. Unicode through PCRE2 and utf8proc. */
#ifndef PLUMB_TEXT_TOKENIZER_H
#define PLUMB_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "text/ids.h"

typedef struct plumb_tokenizer plumb_tokenizer; /* immutable after open; shared by threads */

/* Reads DIR/tokenizer.json and, where present, tokenizer_config.json, special_tokens_map.json and
 * added_tokens.json: of them the added tokens (text/beside.h has the rules) and the names of BOS
 * and EOS (null: none; absent: looked for under their usual names). What is put around a text is
 * the post-processor's of tokenizer.json alone, as in transformers 5: add_bos_token and
 * add_eos_token are compared with it and warned about. "truncation" and "padding" are left to the
 * caller, as transformers does. *out is owned by the caller. PLUMB_ERR_IO when the file is missing;
 * PLUMB_ERR_UNSUPPORTED names a component that plumb does not know; PLUMB_ERR_FORMAT names the
 * field. */
plumb_status plumb_tokenizer_open(plumb_tokenizer **out, const char *dir);
/* The same from memory. where: the name of tokenizer.json, for messages. */
struct plumb_tokenizer_text {
    const char *text; /* NULL: there is no such file */
    int64_t len;
};
struct plumb_tokenizer_files {
    struct plumb_tokenizer_text json, config, map, added;
};
plumb_status plumb_tokenizer_parse_files(plumb_tokenizer **out,
                                         const struct plumb_tokenizer_files *files,
                                         const char *where);
/* The same of the first two files. config: NULL when there is none. */
plumb_status plumb_tokenizer_parse(plumb_tokenizer **out, const char *json, int64_t json_len,
                                   const char *config, int64_t config_len, const char *where);
void plumb_tokenizer_close(plumb_tokenizer **t); /* NULL is allowed */

/* ids += tokens of text (len bytes of UTF-8; invalid bytes become U+FFFD as the reference does).
 * special: also what the post-processor adds (BOS, EOS). Special tokens inside the text are
 * recognised as Hugging Face does. */
plumb_status plumb_tokenizer_encode(const plumb_tokenizer *t, struct plumb_ids *ids,
                                    const char *text, int64_t len, bool special);
/* out += text of ids; skip_special leaves special tokens out. Ids without a token give no text,
 * and bytes that are no UTF-8 give U+FFFD, both as in the reference. */
plumb_status plumb_tokenizer_decode(const plumb_tokenizer *t, struct plumb_buf *out,
                                    const int32_t *id, int64_t n, bool skip_special);
/* out += decode(before + ids) less decode(before): the text that the ids add to the text before
 * them. The space that the decoder removes at the beginning of a text is therefore kept. Decoded
 * alone, `before` and then ids give the text of both together, except where clean-up or a split
 * character joins the two. */
plumb_status plumb_tokenizer_decode_after(const plumb_tokenizer *t, struct plumb_buf *out,
                                          const int32_t *before, int64_t n_before,
                                          const int32_t *id, int64_t n, bool skip_special);

/* Decoding while tokens arrive, for stop strings and display. Zero-initialise, set skip_special,
 * release with plumb_decode_stream_fini.
 *     out += the text that is now certain; a character whose bytes are not all there waits.
 * Put together, the outputs of all add calls and of end are plumb_tokenizer_decode's text, except
 * that bytes of no character may show as another number of U+FFFD. */
struct plumb_decode_stream {
    bool skip_special;
    struct plumb_ids ids;
    int64_t begin, done; /* ids [begin, done) are context, [done, n) not yet shown */
    struct plumb_buf shown, text;
};
plumb_status plumb_decode_stream_add(struct plumb_decode_stream *s, const plumb_tokenizer *t,
                                     struct plumb_buf *out, int32_t id);
plumb_status plumb_decode_stream_end(struct plumb_decode_stream *s, const plumb_tokenizer *t,
                                     struct plumb_buf *out);
void plumb_decode_stream_fini(struct plumb_decode_stream *s);

int64_t plumb_tokenizer_vocab(const plumb_tokenizer *t); /* largest id + 1 */
/* The same without the tokens that only the files beside tokenizer.json have. */
int64_t plumb_tokenizer_file_vocab(const plumb_tokenizer *t);
/* -1 when there is none of this name or role. */
int32_t plumb_tokenizer_id(const plumb_tokenizer *t, const char *token);
/* What the post-processor puts before and behind a single text; borrowed. */
const struct plumb_ids *plumb_tokenizer_before(const plumb_tokenizer *t);
const struct plumb_ids *plumb_tokenizer_after(const plumb_tokenizer *t);
int32_t plumb_tokenizer_bos(const plumb_tokenizer *t);
int32_t plumb_tokenizer_eos(const plumb_tokenizer *t);

#endif
