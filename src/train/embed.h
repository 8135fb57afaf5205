/* embed.h - embeddings of answers by a frozen model that does not see the prompt.
 * Layer 5. Includes model/, train/. */
#ifndef PLUMB_TRAIN_EMBED_H
#define PLUMB_TRAIN_EMBED_H

#include "align/pick.h"
#include "text/tokenizer.h"
#include "train/pack.h"

/* One answer's embedding: the mean over its tokens of the last hidden state, after the final norm
 * (REAL, arXiv:2409.17169, its code). The answer stands behind the tokenizer's begin token (where
 * it has none, its end token), which is not in the mean; the end token of an answer neither, unless
 * there is nothing else: both are ours, the code embeds the text of the answer. */
struct plumb_embed {
    const plumb_model *model; /* borrowed */
    enum plumb_pick pick;
    int32_t begin, end; /* tokens; end -1: none */
    int64_t group;      /* answers that are compared */
    float *vector;      /* (max_seq,c) */
    double *gram;       /* (group,group) */
};

/* pack: of the batches that come. PLUMB_ERR_CONFIG when the tokenizer has neither token. */
plumb_status plumb_embed_init(struct plumb_embed *e, const plumb_model *model,
                              const plumb_tokenizer *tokenizer, enum plumb_pick pick, int64_t group,
                              const struct plumb_pack *pack);
void plumb_embed_fini(struct plumb_embed *e);
int64_t plumb_embed_bytes(const struct plumb_embed *e, const struct plumb_pack *pack);

/* Appends one answer to the pack. */
plumb_status plumb_embed_add(const struct plumb_embed *e, struct plumb_pack *pack,
                             const int32_t *ids, int64_t n);
/* vector of everything that is packed. */
plumb_status plumb_embed_run(struct plumb_embed *e, plumb_pass *pass,
                             const struct plumb_pack *pack);
/* gram of the group that begins at the sequence `first` of what was run. */
void plumb_embed_compare(struct plumb_embed *e, int64_t first);

#endif
