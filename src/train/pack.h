/* pack.h - a packed batch to which sequences are appended; its memory is allocated once.
 * Layer 5. Includes base/, model/. */
#ifndef PLUMB_TRAIN_PACK_H
#define PLUMB_TRAIN_PACK_H

#include "model/model.h"

struct plumb_pack {
    int32_t *ids;           /* (max_tokens,) */
    int64_t *offset;        /* (max_seq+1,) */
    int64_t *prompt_tokens; /* (max_seq,) */
    float *logp, *dlogp;    /* (max_tokens,) one per completion token, in order */
    unsigned char *trained; /* (max_tokens,) likewise: 0 where a loss of tokens leaves it out */
    int64_t max_tokens, max_seq;
    int64_t n_seq, n_targets;
    int64_t n_trained; /* of n_targets */
};

plumb_status plumb_pack_init(struct plumb_pack *p, int64_t max_tokens, int64_t max_seq);
void plumb_pack_fini(struct plumb_pack *p);
void plumb_pack_clear(struct plumb_pack *p);
/* Appends prompt (n_prompt >= 1 ids) and completion (n_completion >= 0 ids). PLUMB_ERR_NOMEM if
 * they do not fit: the caller gave a wrong max_tokens or max_seq. */
plumb_status plumb_pack_add(struct plumb_pack *p, const int32_t *prompt, int64_t n_prompt,
                            const int32_t *completion, int64_t n_completion);
/* Says which completion tokens of the last sequence a loss of tokens covers, as many as it has;
 * NULL: all. */
void plumb_pack_mask(struct plumb_pack *p, const unsigned char *trained);
/* The batch, borrowed until the next add or clear. */
struct plumb_batch plumb_pack_batch(const struct plumb_pack *p);
/* The limits of a pass that can run any batch of this pack. */
struct plumb_pass_limit plumb_pack_limit(const struct plumb_pack *p, bool train, bool recompute,
                                         int64_t head_rows);

#endif
