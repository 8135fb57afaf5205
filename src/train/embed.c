/* embed.c - packs answers without their prompts, and computes their mean hidden states.
 * Layer 5. Includes train/embed.h. */
#include "train/embed.h"

#include <stdlib.h>

static plumb_status init(struct plumb_embed *e, const plumb_model *model,
                         const plumb_tokenizer *tokenizer, enum plumb_pair_selection selection,
                         int64_t group, const struct plumb_pack *pack)
{
    /* A memory plan without data has no tokenizer. It computes no embedding, so the value of the
     * token does not matter. */
    const int32_t bos = tokenizer ? plumb_tokenizer_bos(tokenizer) : 0;
    const int32_t eos = tokenizer ? plumb_tokenizer_eos(tokenizer) : 0;
    *e = (struct plumb_embed){.model = model,
                              .selection = selection,
                              .begin = bos >= 0 ? bos : eos,
                              .end = eos,
                              .group = group};
    PLUMB_REQUIRE(e->begin >= 0, PLUMB_ERR_CONFIG,
                  "method real: the tokenizer has neither a begin nor an end token, and an answer "
                  "without its prompt needs one before it");
    e->vector = calloc((size_t)(pack->max_seq * model->spec.c), sizeof(*e->vector));
    e->gram = calloc((size_t)(group * group), sizeof(*e->gram));
    if (e->vector && e->gram)
        return PLUMB_OK;
    plumb_embed_fini(e);
    PLUMB_FAIL(PLUMB_ERR_NOMEM, "embeddings of %lld answers", (long long)pack->max_seq);
}

plumb_status plumb_embed_open(struct plumb_embed *e, const struct plumb_trainer *t,
                              plumb_references *references, int64_t group,
                              const struct plumb_pack *pack)
{
    const struct plumb_config *cfg = t->cfg;
    int which;
    PLUMB_TRY(plumb_references_open(references, &which, cfg->method.embedder, "method.embedder"));
    const plumb_model *model = plumb_references_frozen(references, which);
    PLUMB_REQUIRE(model, PLUMB_ERR_CONFIG,
                  "method.embedder: found previous, expected init or a checkpoint folder");
    PLUMB_TRY(
        init(e, model, t->tokenizer, (enum plumb_pair_selection)cfg->method.pick, group, pack));
    e->references = references;
    e->which = which;
    return plumb_memory_beside(t->backend, "embeddings", plumb_embed_bytes(e, pack));
}

void plumb_embed_fini(struct plumb_embed *e)
{
    free(e->vector);
    free(e->gram);
    *e = (struct plumb_embed){0};
}

int64_t plumb_embed_bytes(const struct plumb_embed *e, const struct plumb_pack *pack)
{
    return pack->max_seq * e->model->spec.c * (int64_t)sizeof(*e->vector) +
           e->group * e->group * (int64_t)sizeof(*e->gram);
}

plumb_status plumb_embed_add(const struct plumb_embed *e, struct plumb_pack *pack,
                             const int32_t *ids, int64_t n)
{
    const int64_t read = n > 1 && ids[n - 1] == e->end ? n - 1 : n;
    return plumb_pack_add(pack, &e->begin, 1, ids, read);
}

plumb_status plumb_embed_run(struct plumb_embed *e, plumb_pass *pass, const struct plumb_pack *pack)
{
    const struct plumb_batch batch = plumb_pack_batch(pack);
    PLUMB_TRY(plumb_references_pass(e->references, e->which));
    PLUMB_TRY(plumb_pass_hidden(pass, e->model, &batch));
    return plumb_pass_embedding(pass, e->model, e->vector);
}

plumb_status plumb_embed_end(struct plumb_embed *e, plumb_status local)
{
    return plumb_references_end(e->references, e->which, local);
}

void plumb_embed_compare(struct plumb_embed *e, int64_t first)
{
    const int64_t c = e->model->spec.c;
    plumb_cosine_matrix(e->gram, e->vector + first * c, e->group, c);
}
