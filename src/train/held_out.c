/* held_out.c - evaluation on data.eval between the steps of sft, reward and prefer.
 * Layer 5. Includes train/held_out.h, train/loops.h, io/file.h, base/. */
#include "train/held_out.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "io/file.h"
#include "train/loops.h"

plumb_status plumb_held_out_open(struct plumb_held_out *h, const struct plumb_trainer *t,
                                 enum plumb_data_kind kind)
{
    const struct plumb_config *cfg = t->cfg;
    *h = (struct plumb_held_out){0};
    if (!*cfg->data.eval ||
        /* A memory plan is possible without a tokenizer or without the file; it then skips
         * data.eval. */
        (t->backend->dry && (!t->tokenizer || !plumb_file_exists(cfg->data.eval))))
        return PLUMB_OK;
    struct plumb_data_options options = plumb_data_options_of(cfg, t, kind);
    options.skip = options.limit = 0;
    PLUMB_TRY(plumb_file_check_input(cfg->data.eval, "data.eval"));
    plumb_held_out_same(t, cfg->data.train, "data.train");
    PLUMB_TRY(plumb_dataset_open(&h->data, cfg->data.eval, &options));
    PLUMB_TRY(plumb_record_split(&h->split, &h->most, h->data, kind == PLUMB_DATA_PAIRS ? 2 : 1,
                                 cfg, cfg->data.eval));
    h->blocks = plumb_split_micro_batches(&h->split, 0);
    const int64_t bytes = h->blocks * PLUMB_HELD_OUT_VALUES * (int64_t)sizeof(*h->value);
    h->value = malloc((size_t)bytes);
    PLUMB_REQUIRE(h->value, PLUMB_ERR_NOMEM, "sums of %lld blocks of data.eval",
                  (long long)h->blocks);
    return plumb_memory_beside(t->backend, "figures of data.eval", bytes);
}

void plumb_held_out_same(const struct plumb_trainer *t, const char *path, const char *key)
{
    const char *eval = t->cfg->data.eval;
    if (!t->backend->dry && *eval && plumb_file_same(eval, path))
        plumb_log_alike("data.eval: %s is the file of %s, too: the evaluation says nothing about "
                        "other data",
                        eval, key);
}

void plumb_held_out_close(struct plumb_held_out *h)
{
    plumb_dataset_close(&h->data);
    plumb_split_fini(&h->split);
    free(h->value);
    *h = (struct plumb_held_out){0};
}

void plumb_held_out_raise(struct plumb_split_most *most, const struct plumb_held_out *h)
{
    most->items = plumb_max_i64(most->items, h->most.items);
    most->tokens = plumb_max_i64(most->tokens, h->most.tokens);
}

static plumb_status run_blocks(struct plumb_held_out *h, const struct plumb_trainer *t,
                               plumb_held_out_fn *fn, void *arg)
{
    const int64_t world = plumb_comm_size(t->comm);
    for (int64_t b = plumb_comm_rank(t->comm); b < h->blocks; b += world) {
        const plumb_status st =
            fn(arg, plumb_split_micro_batch(&h->split, 0, b), h->value + b * PLUMB_HELD_OUT_VALUES);
        if (st != PLUMB_OK) {
            char said[1024];
            snprintf(said, sizeof(said), "%.1023s", plumb_trail_message());
            PLUMB_FAIL(st, "data.eval: %s: %s", t->cfg->data.eval, said);
        }
    }
    return PLUMB_OK;
}

plumb_status plumb_held_out_run(struct plumb_held_out *h, struct plumb_trainer *t, bool pairs,
                                plumb_held_out_fn *fn, void *arg, struct plumb_metrics_row *row)
{
    const int64_t n = h->blocks * PLUMB_HELD_OUT_VALUES;
    const double began = plumb_now();
    double sum[PLUMB_HELD_OUT_VALUES] = {0};
    memset(h->value, 0, (size_t)n * sizeof(*h->value));
    plumb_comm_phase(t->comm, "evaluate");
    plumb_status st = run_blocks(h, t, fn, arg);
    if (h->end)
        st = h->end(arg, st);
    PLUMB_TRY(plumb_comm_agree(t->comm, st));
    /* one rank computes each block and the other ranks add 0, so the sum is exact */
    PLUMB_TRY(plumb_comm_allreduce_f64(t->comm, h->value, n, PLUMB_SUM));
    for (int64_t i = 0; i < n; i++)
        sum[i % PLUMB_HELD_OUT_VALUES] += h->value[i];
    const double terms = sum[PLUMB_HELD_OUT_TERMS];
    plumb_metrics_set(row, PLUMB_METRIC_EVAL_LOSS, sum[PLUMB_HELD_OUT_LOSS] / terms);
    plumb_metrics_set(row, PLUMB_METRIC_TIME_EVAL, plumb_now() - began);
    if (!pairs)
        return PLUMB_OK;
    const double chosen = sum[PLUMB_HELD_OUT_CHOSEN] / terms;
    const double rejected = sum[PLUMB_HELD_OUT_REJECTED] / terms;
    plumb_metrics_set(row, PLUMB_METRIC_EVAL_CHOSEN, chosen);
    plumb_metrics_set(row, PLUMB_METRIC_EVAL_REJECTED, rejected);
    plumb_metrics_set(row, PLUMB_METRIC_EVAL_MARGINS, chosen - rejected);
    plumb_metrics_set(row, PLUMB_METRIC_EVAL_ACCURACIES, sum[PLUMB_HELD_OUT_ACCURATE] / terms);
    return PLUMB_OK;
}
