/* bleu.h - computes corpus BLEU of answers, with one reference text per answer.
 * Layer 5. Includes base/.
 *
 *     BLEU = 100 BP exp( 1/4 sum_n log p_n ),   p_n = clipped n-gram matches / n-grams,  n = 1..4
 *     BP   = min(1, exp(1 - reference tokens / answer tokens))
 *                                    Source: Papineni et al. 2002, P02-1040, section 2.3
 * Text is tokenized as by mteval-v13a. If some orders n have no match, the k-th of them gets p_n =
 * 1 / (2^k n-grams). Tokenization and smoothing are the defaults of sacrebleu (Post 2018,
 * arXiv:1804.08771), and the scores are equal to sacrebleu's. */
#ifndef PLUMB_EVAL_BLEU_H
#define PLUMB_EVAL_BLEU_H

#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

#define PLUMB_BLEU_ORDER 4

/* Sums of counts over answers. The sums are integers, so they do not depend on the order of the
 * answers. match, total: clipped matches and all n-grams of the answers, for n = 1 ..
 * PLUMB_BLEU_ORDER. */
struct plumb_bleu {
    int64_t match[PLUMB_BLEU_ORDER], total[PLUMB_BLEU_ORDER];
    int64_t length, reference_length; /* tokens of the answers and of their references */
};

/* Adds the counts of one answer to b. Texts are UTF-8. PLUMB_ERR_NOMEM. */
plumb_status plumb_bleu_add(struct plumb_bleu *b, const char *answer, const char *reference);
/* Returns the BLEU score, 0 .. 100. It is 0 if no n-gram matches or no answer has PLUMB_BLEU_ORDER
 * tokens. */
double plumb_bleu_score(const struct plumb_bleu *b);
/* Appends the tokens of a text to out, each followed by a line end. */
plumb_status plumb_bleu_tokens(struct plumb_buf *out, const char *text);

#endif
