/* epochs.c - the order of fixed records, and the longest micro-batch they can form.
 * Layer 5. Includes train/loops.h, base/. */
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/rng.h"
#include "train/loops.h"

struct plumb_data_options plumb_data_options_of(const struct plumb_config *cfg,
                                                const struct plumb_trainer *t,
                                                enum plumb_data_kind kind)
{
    int64_t max_tokens = cfg->data.max_tokens;
    if (max_tokens == 0 || max_tokens > t->model->spec.max_pos)
        max_tokens = t->model->spec.max_pos;
    return (struct plumb_data_options){
        .kind = kind,
        .tokenizer = t->tokenizer,
        .prompt_template = cfg->data.prompt_template,
        .append_eos = cfg->data.append_eos,
        .vocab = t->model->spec.v,
        .limit = cfg->data.limit,
        .max_prompt_tokens = cfg->data.max_prompt_tokens,
        .max_tokens = max_tokens,
    };
}

plumb_status plumb_epochs_init(struct plumb_epochs *e, const struct plumb_config *cfg,
                               int64_t items)
{
    *e = (struct plumb_epochs){
        .cfg = cfg,
        .cut = {.items = items,
                .global_batch = plumb_min_i64(cfg->train.global_batch_size, items),
                .micro_batch = cfg->train.micro_batch_size},
        .epoch = -1,
    };
    e->steps = cfg->train.epochs * plumb_cut_steps(&e->cut);
    if (cfg->train.max_steps > 0)
        e->steps = plumb_min_i64(e->steps, cfg->train.max_steps);
    e->order = calloc((size_t)items, sizeof(*e->order));
    PLUMB_REQUIRE(e->order, PLUMB_ERR_NOMEM, "order of %lld records", (long long)items);
    return PLUMB_OK;
}

void plumb_epochs_fini(struct plumb_epochs *e)
{
    free(e->order);
    *e = (struct plumb_epochs){0};
}

void plumb_epochs_at(struct plumb_epochs *e, int64_t step, int64_t *in_epoch)
{
    const int64_t per_epoch = plumb_cut_steps(&e->cut), epoch = step / per_epoch;
    *in_epoch = step % per_epoch;
    if (epoch == e->epoch)
        return;
    e->epoch = epoch;
    if (e->cfg->data.shuffle) {
        plumb_rng_shuffle(e->order, e->cut.items,
                          (struct plumb_rng_key){.seed = e->cfg->seed,
                                                 .purpose = PLUMB_RNG_SHUFFLE,
                                                 .iteration = (uint32_t)epoch});
    } else {
        for (int64_t i = 0; i < e->cut.items; i++)
            e->order[i] = i;
    }
}

static int descending(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

plumb_status plumb_longest_sum(int64_t *out, const int64_t *length, int64_t n, int64_t micro_batch)
{
    int64_t *sorted = malloc((size_t)plumb_max_i64(n, 1) * sizeof(*sorted));
    PLUMB_REQUIRE(sorted, PLUMB_ERR_NOMEM, "lengths of %lld records", (long long)n);
    memcpy(sorted, length, (size_t)n * sizeof(*sorted));
    qsort(sorted, (size_t)n, sizeof(*sorted), descending);
    *out = 0;
    for (int64_t i = 0; i < plumb_min_i64(n, micro_batch); i++)
        *out += sorted[i];
    free(sorted);
    return PLUMB_OK;
}
