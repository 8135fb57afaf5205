/* beside.h - what stands beside tokenizer.json: tokenizer_config.json, special_tokens_map.json and
 * added_tokens.json. Layer 3. Includes base/ and io/json.h.
 *
 * The rules are those of transformers 5 (checked with 5.24) for a folder with a tokenizer.json:
 *
 *   tokenizer_config.json has added_tokens_decoder    it is the list of added tokens, and
 *                                                     special_tokens_map.json is not read
 *   it has not                                        added_tokens.json is that list, and members
 *                                                     of special_tokens_map.json replace its own
 *   both times                                        then the tokens with a role (bos_token ..
 *                                                     mask_token, any other *_token), then
 *                                                     extra_special_tokens or, without it,
 *                                                     additional_special_tokens */
#ifndef PLUMB_TEXT_BESIDE_H
#define PLUMB_TEXT_BESIDE_H

#include <stdbool.h>

#include "base/buf.h"
#include "io/json.h"

/* One token that another file than tokenizer.json asks for. */
struct plumb_wish {
    enum {
        PLUMB_WISH_PUT,   /* takes these flags, new or not */
        PLUMB_WISH_NAMED, /* has a role: is special */
        PLUMB_WISH_EXTRA  /* is added where it is not there yet */
    } kind;
    struct plumb_buf content;
    bool special, normalized, single_word, lstrip, rstrip;
    int64_t says;       /* the id that the file gives it; -1 = none */
    const char *source; /* the file's name; of struct plumb_beside */
};

/* Zero-initialise, name with plumb_beside_name, set the trees (NULL: no such file), release with
 * plumb_beside_fini. */
struct plumb_beside {
    char name[3][1024];               /* of config, map and added, with their folder */
    plumb_json *config, *map, *added; /* owned */
    struct plumb_wish *wish;          /* in the order in which transformers adds them */
    int64_t n, cap;
    bool listed; /* the config has an added_tokens_decoder */
};

/* where: the name of tokenizer.json, beside which the files lie. */
void plumb_beside_name(struct plumb_beside *z, const char *where);
/* Fills in the wishes. root: tokenizer.json. Errors: PLUMB_ERR_FORMAT names file and field;
 * PLUMB_ERR_UNSUPPORTED for split_special_tokens. Warns where two files contradict each other. */
plumb_status plumb_beside_read(struct plumb_beside *z, const plumb_json *root);
void plumb_beside_fini(struct plumb_beside *z);

/* The text of the token that has this role ("eos_token"), or NULL. *given: a file says so, if only
 * null. */
const char *plumb_beside_role(const struct plumb_beside *z, const char *role, bool *given);

#endif
