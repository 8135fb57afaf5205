/* pack.h - a packed batch to which sequences are appended; its memory is allocated once.
 * Layer 5. Includes base/, model/. */
#ifndef PLUMB_TRAIN_PACK_H
#define PLUMB_TRAIN_PACK_H

#include "model/model.h"

struct plumb_pack {
    int32_t *ids;           /* (max_tokens,) tokens of all sequences */
    int64_t *offset;        /* (max_seq+1,) sequence q is ids[offset[q] .. offset[q+1]-1] */
    int64_t *prompt_tokens; /* (max_seq,) number of prompt tokens of each sequence */
    float *logp, *dlogp;    /* (max_tokens,) one element per completion token, in order */
    unsigned char *trained; /* (max_tokens,) one element per completion token, in order: 0 if the
                             * SFT loss leaves the token out, else 1 */
    int64_t max_tokens, max_seq;
    int64_t n_seq, n_targets; /* number of sequences; number of completion tokens */
    int64_t n_trained;        /* number of completion tokens with trained = 1 */
};

plumb_status plumb_pack_init(struct plumb_pack *p, int64_t max_tokens, int64_t max_seq);
void plumb_pack_fini(struct plumb_pack *p);
void plumb_pack_clear(struct plumb_pack *p);
/* Appends prompt (n_prompt >= 1 ids) and completion (n_completion >= 0 ids). Fails with
 * PLUMB_ERR_NOMEM if they do not fit into max_tokens and max_seq. */
plumb_status plumb_pack_add(struct plumb_pack *p, const int32_t *prompt, int64_t n_prompt,
                            const int32_t *completion, int64_t n_completion);
/* Returns true if `sequences` more sequences with `tokens` tokens in total fit into the pack. */
static inline bool plumb_pack_fits(const struct plumb_pack *p, int64_t sequences, int64_t tokens)
{
    return p->n_seq + sequences <= p->max_seq && p->offset[p->n_seq] + tokens <= p->max_tokens;
}
/* Sets which completion tokens of the last sequence the SFT loss covers: trained has one element
 * per completion token. NULL stands for all tokens. */
void plumb_pack_mask(struct plumb_pack *p, const unsigned char *trained);
/* Returns the packed sequences as a batch, which is valid until the next add or clear. */
struct plumb_batch plumb_pack_batch(const struct plumb_pack *p);
/* Returns the limits of a pass that can run any batch of this pack. */
struct plumb_pass_limit plumb_pack_limit(const struct plumb_pack *p, bool train, bool recompute,
                                         int64_t head_rows);

#endif
