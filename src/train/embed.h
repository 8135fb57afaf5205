/* embed.h - embeddings of answers by a frozen model, without their prompts.
 * Layer 5. Includes align/pair_selection.h, text/, train/. */
#ifndef PLUMB_TRAIN_EMBED_H
#define PLUMB_TRAIN_EMBED_H

#include "align/pair_selection.h"
#include "text/tokenizer.h"
#include "train/pack.h"
#include "train/references.h"
#include "train/trainer.h"

/* Computes embeddings. An embedding is the mean, over the tokens of an answer, of the last layer's
 * hidden states after the final norm, as in the code of REAL (arXiv:2409.17169). The model reads
 * the tokenizer's begin token (or end token if it has none) before the answer. This token is not in
 * the mean. The answer's end token is left out, unless it is the only token. These two rules are
 * ours. */
struct plumb_embed {
    const plumb_model *model;     /* borrowed */
    plumb_references *references; /* borrowed; the set of references that contains `model` */
    int which;                    /* the number of `model` in this set */
    enum plumb_pair_selection selection;
    /* begin: the token that the model reads before each answer; end: the tokenizer's end token, or
     * -1 if the tokenizer has none */
    int32_t begin, end;
    int64_t group; /* number of answers that are compared with each other */
    float *vector; /* (max_seq,c) host: embedding of each packed sequence */
    double *gram;  /* (group,group) cosines between the embeddings of one group */
};

/* Opens the model that method.embedder names, and stores the selection rule that method.pick names.
 * Allocates e->vector, for the most sequences that pack can hold, and e->gram, and counts them in
 * the memory plan. PLUMB_ERR_CONFIG if the tokenizer has neither a begin nor an end token, or if
 * the model is `previous` without a snapshot, because its weights change. */
plumb_status plumb_embed_open(struct plumb_embed *e, const struct plumb_trainer *t,
                              plumb_references *references, int64_t group,
                              const struct plumb_pack *pack);
void plumb_embed_fini(struct plumb_embed *e);
int64_t plumb_embed_bytes(const struct plumb_embed *e, const struct plumb_pack *pack);

/* Appends one answer (n tokens) to the pack: after the begin token instead of the answer's prompt,
 * and without the answer's end token if the answer has other tokens. */
plumb_status plumb_embed_add(const struct plumb_embed *e, struct plumb_pack *pack,
                             const int32_t *ids, int64_t n);
/* Sets e->vector to the embeddings of all packed answers. Collective if the layers of e->model are
 * divided among the ranks (plumb_references_pass). */
plumb_status plumb_embed_run(struct plumb_embed *e, plumb_pass *pass,
                             const struct plumb_pack *pack);
/* Each rank calls this function after its last plumb_embed_run, also after a failure or a pause.
 * local: the status of this rank. Returns the failure or pause of any rank
 * (plumb_references_end). */
plumb_status plumb_embed_end(struct plumb_embed *e, plumb_status local);
/* Sets e->gram to the cosine of each pair of embeddings of one group: sequences first .. first +
 * e->group - 1 of the pack that plumb_embed_run read last. */
void plumb_embed_compare(struct plumb_embed *e, int64_t first);

#endif
