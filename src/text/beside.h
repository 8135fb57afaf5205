/* beside.h - reads the token definitions in the files beside tokenizer.json, that is, in the same
 * folder: tokenizer_config.json, special_tokens_map.json and added_tokens.json.
 * Layer 3. Includes base/ and io/json.h.
 *
 * The rules are those of transformers 5 (checked with 5.24) for a folder with a tokenizer.json:
 *
 *   1. If tokenizer_config.json has added_tokens_decoder, that is the list of added tokens, and
 *      special_tokens_map.json is not read.
 *   2. Otherwise added_tokens.json is the list of added tokens, and the members of
 *      special_tokens_map.json replace those of tokenizer_config.json.
 *   3. In both cases the tokens with a role follow (bos_token .. mask_token and any other member
 *      named *_token), then extra_special_tokens or, if there are none, additional_special_tokens.
 */
#ifndef PLUMB_TEXT_BESIDE_H
#define PLUMB_TEXT_BESIDE_H

#include <stdbool.h>

#include "base/buf.h"
#include "io/json.h"

/* A token that a file beside tokenizer.json asks to add. */
struct plumb_token_request {
    enum {
        PLUMB_REQUEST_PUT,   /* from a list: this entry sets the flags of the token, even of an
                                existing one */
        PLUMB_REQUEST_NAMED, /* the token has a role such as eos_token, which makes it special */
        PLUMB_REQUEST_EXTRA  /* the token is added only if it does not exist yet */
    } kind;
    struct plumb_buf content;
    bool special, normalized, single_word, lstrip, rstrip;
    int64_t says; /* id stated in the file; -1 if the file states none */
    /* Name of the file; it belongs to struct plumb_beside. */
    const char *source;
};

/* Use: initialise with zeros, call plumb_beside_name, set the parsed files (NULL for a missing
 * one), call plumb_beside_read, and release with plumb_beside_fini. */
struct plumb_beside {
    /* Paths of tokenizer_config.json, special_tokens_map.json and added_tokens.json. */
    char name[3][1024];
    plumb_json *config, *map, *added; /* the parsed files; owned by this struct */
    struct plumb_token_request
        *request; /* (n,) in the order in which transformers adds the tokens */
    int64_t n, cap;
    bool listed; /* tokenizer_config.json has added_tokens_decoder */
};

/* Sets the paths of the three files; `where` is the path of tokenizer.json in the same folder. */
void plumb_beside_name(struct plumb_beside *z, const char *where);
/* Fills in z->request. root is the parsed tokenizer.json. Returns PLUMB_ERR_FORMAT with the file
 * and the field, or PLUMB_ERR_UNSUPPORTED for split_special_tokens. Prints a warning if two files
 * contradict each other. */
plumb_status plumb_beside_read(struct plumb_beside *z, const plumb_json *root);
void plumb_beside_fini(struct plumb_beside *z);

/* Returns the text of the token with this role (such as "eos_token"), or NULL if no token has it.
 * Searches special_tokens_map.json, unless rule 1 in the file head excludes it, and then
 * tokenizer_config.json. *given becomes true if one of these files has a member of this name, even
 * with the value null, else false. */
const char *plumb_beside_role(const struct plumb_beside *z, const char *role, bool *given);

#endif
