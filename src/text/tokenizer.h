/* tokenizer.h - converts text to token ids and back, as defined by tokenizer.json.
 * Layer 3. Includes base/ and io/. Uses PCRE2 and utf8proc for Unicode. */
#ifndef PLUMB_TEXT_TOKENIZER_H
#define PLUMB_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "text/ids.h"

/* An opened tokenizer, which does not change. Threads may share it. */
typedef struct plumb_tokenizer plumb_tokenizer;

/* Opens the tokenizer of a folder. Reads DIR/tokenizer.json and, if they exist,
 * tokenizer_config.json, special_tokens_map.json and added_tokens.json. From these three it takes
 * the added tokens (rules in text/beside.h) and the names of the BOS and EOS tokens: null means
 * that there is none; if no file names them, their usual names are tried. Only the post-processor
 * of tokenizer.json decides which tokens are added around a text, as in transformers 5;
 * add_bos_token and add_eos_token are only compared with it, and a difference gives a warning.
 * Whether decoding removes spaces before punctuation (clean-up) is taken from
 * tokenizer_config.json, too. "truncation" and "padding" are ignored, as in transformers. The
 * caller owns *out. Returns PLUMB_ERR_IO if tokenizer.json is missing, PLUMB_ERR_UNSUPPORTED with
 * the name of a component that plumb does not support, or PLUMB_ERR_FORMAT with the name of the
 * field. Of config.json it reads only model_type: it decides whether transformers takes all parts
 * of tokenizer.json, and a warning says if transformers does not. */
plumb_status plumb_tokenizer_open(plumb_tokenizer **out, const char *dir);
/* The text of one file in memory. plumb_tokenizer_parse_files opens a tokenizer from such texts;
 * `where` is the path of tokenizer.json in messages. */
struct plumb_tokenizer_text {
    const char *text; /* NULL if the file does not exist */
    int64_t len;
};
struct plumb_tokenizer_files {
    struct plumb_tokenizer_text json, config, map, added;
    struct plumb_tokenizer_text model; /* config.json; only its model_type is read */
};
plumb_status plumb_tokenizer_parse_files(plumb_tokenizer **out,
                                         const struct plumb_tokenizer_files *files,
                                         const char *where);
/* Opens a tokenizer from the texts of tokenizer.json and tokenizer_config.json alone. config is
 * NULL if the second file does not exist. */
plumb_status plumb_tokenizer_parse(plumb_tokenizer **out, const char *json, int64_t json_len,
                                   const char *config, int64_t config_len, const char *where);
/* Does nothing if *t is NULL. */
void plumb_tokenizer_close(plumb_tokenizer **t);

/* Appends the tokens of text (len bytes of UTF-8) to ids. Invalid bytes become U+FFFD, as in
 * huggingface/tokenizers. If `special` is true, the tokens of the post-processor (such as BOS and
 * EOS) are added too. The text of a special token inside `text` becomes that token, as in
 * huggingface/tokenizers. After an error, ids is unchanged. Returns PLUMB_ERR_UNSUPPORTED for a
 * text of INT32_MAX / 8 bytes or more. */
plumb_status plumb_tokenizer_encode(const plumb_tokenizer *t, struct plumb_ids *ids,
                                    const char *text, int64_t len, bool special);
/* Appends the text of the ids to out; skip_special omits special tokens. As in
 * huggingface/tokenizers, ids without a token give no text, and bytes that are not valid UTF-8 give
 * U+FFFD. */
plumb_status plumb_tokenizer_decode(const plumb_tokenizer *t, struct plumb_buf *out,
                                    const int32_t *id, int64_t n, bool skip_special);
/* Appends the text that `id` adds after `before`: decode(before + id) without the beginning that it
 * shares with decode(before). In this way the result keeps a space that the decoder would remove at
 * the beginning of a text. The decoded text of `before` followed by the appended text equals the
 * decoded text of both together, except where clean-up changes a space between them or a
 * character's bytes are split between them. */
plumb_status plumb_tokenizer_decode_after(const plumb_tokenizer *t, struct plumb_buf *out,
                                          const int32_t *before, int64_t n_before,
                                          const int32_t *id, int64_t n, bool skip_special);

/* Decodes tokens that arrive one by one, for stop strings and for display. Initialise with zeros,
 * set skip_special, release with plumb_decode_stream_fini. add and end append to out the text that
 * later tokens cannot change; an incomplete character is held back until its last byte arrives. The
 * outputs of all add calls and of end, joined, equal the text of plumb_tokenizer_decode, except
 * that invalid bytes may give another number of U+FFFD. */
struct plumb_decode_stream {
    bool skip_special;
    struct plumb_ids ids;
    /* ids[begin, done) are decoded again as context; the text of ids[done, n) was not output
     * yet. */
    int64_t begin, done;
    struct plumb_buf shown, text;
};
plumb_status plumb_decode_stream_add(struct plumb_decode_stream *s, const plumb_tokenizer *t,
                                     struct plumb_buf *out, int32_t id);
plumb_status plumb_decode_stream_end(struct plumb_decode_stream *s, const plumb_tokenizer *t,
                                     struct plumb_buf *out);
void plumb_decode_stream_fini(struct plumb_decode_stream *s);

/* Returns the largest id of any token, added tokens included, plus 1. */
int64_t plumb_tokenizer_vocab(const plumb_tokenizer *t);
/* Returns the largest id of the tokens of tokenizer.json, plus 1. Tokens that only the files beside
 * it define do not count. */
int64_t plumb_tokenizer_file_vocab(const plumb_tokenizer *t);
/* Returns the id of the token with this text, an added token or one of the vocabulary; -1 if there
 * is none. */
int32_t plumb_tokenizer_id(const plumb_tokenizer *t, const char *token);
/* Return the tokens that the post-processor adds before and after a single text. The caller does
 * not own them. */
const struct plumb_ids *plumb_tokenizer_before(const plumb_tokenizer *t);
const struct plumb_ids *plumb_tokenizer_after(const plumb_tokenizer *t);
/* Return the ids of the BOS and EOS tokens; -1 if there is no such token. */
int32_t plumb_tokenizer_bos(const plumb_tokenizer *t);
int32_t plumb_tokenizer_eos(const plumb_tokenizer *t);

#endif
