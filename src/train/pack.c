/* pack.c - appends sequences to a packed batch.
 * Layer 5. Includes train/pack.h. */
#include "train/pack.h"

#include <stdlib.h>
#include <string.h>

plumb_status plumb_pack_init(struct plumb_pack *p, int64_t max_tokens, int64_t max_seq)
{
    *p = (struct plumb_pack){.max_tokens = max_tokens, .max_seq = max_seq};
    p->ids = calloc((size_t)max_tokens, sizeof(*p->ids));
    p->logp = calloc((size_t)max_tokens, sizeof(*p->logp));
    p->dlogp = calloc((size_t)max_tokens, sizeof(*p->dlogp));
    p->trained = calloc((size_t)max_tokens, sizeof(*p->trained));
    p->offset = calloc((size_t)max_seq + 1, sizeof(*p->offset));
    p->prompt_tokens = calloc((size_t)max_seq, sizeof(*p->prompt_tokens));
    if (!p->ids || !p->logp || !p->dlogp || !p->trained || !p->offset || !p->prompt_tokens) {
        plumb_pack_fini(p);
        PLUMB_FAIL(PLUMB_ERR_NOMEM, "batch of %lld tokens, %lld sequences", (long long)max_tokens,
                   (long long)max_seq);
    }
    return PLUMB_OK;
}

void plumb_pack_fini(struct plumb_pack *p)
{
    free(p->ids);
    free(p->logp);
    free(p->dlogp);
    free(p->trained);
    free(p->offset);
    free(p->prompt_tokens);
    *p = (struct plumb_pack){0};
}

void plumb_pack_clear(struct plumb_pack *p)
{
    p->n_seq = p->n_targets = p->n_trained = 0;
    p->offset[0] = 0;
}

plumb_status plumb_pack_add(struct plumb_pack *p, const int32_t *prompt, int64_t n_prompt,
                            const int32_t *completion, int64_t n_completion)
{
    const int64_t at = p->offset[p->n_seq];
    PLUMB_REQUIRE(n_prompt >= 1 && n_completion >= 0, PLUMB_ERR_ARG,
                  "sequence of %lld prompt and %lld completion tokens: a prompt needs at least one",
                  (long long)n_prompt, (long long)n_completion);
    PLUMB_REQUIRE(
        plumb_pack_fits(p, 1, n_prompt + n_completion), PLUMB_ERR_NOMEM,
        "no room for a sequence of %lld tokens in a micro-batch with %lld of %lld tokens and "
        "%lld of %lld sequences",
        (long long)(n_prompt + n_completion), (long long)at, (long long)p->max_tokens,
        (long long)p->n_seq, (long long)p->max_seq);
    memcpy(p->ids + at, prompt, (size_t)n_prompt * sizeof(*prompt));
    if (n_completion > 0)
        memcpy(p->ids + at + n_prompt, completion, (size_t)n_completion * sizeof(*completion));
    p->prompt_tokens[p->n_seq++] = n_prompt;
    p->offset[p->n_seq] = at + n_prompt + n_completion;
    memset(p->trained + p->n_targets, 1, (size_t)n_completion);
    p->n_targets += n_completion;
    p->n_trained += n_completion;
    return PLUMB_OK;
}

void plumb_pack_mask(struct plumb_pack *p, const unsigned char *trained)
{
    const int64_t q = p->n_seq - 1;
    const int64_t n = p->offset[q + 1] - p->offset[q] - p->prompt_tokens[q];
    unsigned char *mask = p->trained + p->n_targets - n;
    for (int64_t j = 0; trained && j < n; j++) {
        p->n_trained -= !trained[j];
        mask[j] = trained[j] != 0;
    }
}

struct plumb_batch plumb_pack_batch(const struct plumb_pack *p)
{
    return (struct plumb_batch){
        .n_seq = p->n_seq, .ids = p->ids, .offset = p->offset, .prompt_tokens = p->prompt_tokens};
}

struct plumb_pass_limit plumb_pack_limit(const struct plumb_pack *p, bool train, bool recompute,
                                         int64_t head_rows)
{
    return (struct plumb_pass_limit){.max_tokens = p->max_tokens,
                                     .max_seq = p->max_seq,
                                     .max_targets = p->max_tokens,
                                     .train = train,
                                     .recompute = recompute,
                                     .head_rows = head_rows};
}
