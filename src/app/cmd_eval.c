/* cmd_eval.c - several models answer the same held-out prompts; one table compares them.
 * Layer 6. May include everything. */
#include <stdlib.h>
#include <string.h>

#include "app/eval.h"
#include "base/log.h"
#include "base/num.h"
#include "io/file.h"
#include "train/loops.h"

/* Opens the model behind NAME=DIR, lets it answer this rank's share of the prompts, and puts the
 * scores into their slots. */
static plumb_status answer(struct plumb_eval *e, struct plumb_eval_model *m)
{
    struct plumb_app *app = e->app;
    const struct plumb_config *cfg = app->cfg;
    const int64_t rank = plumb_comm_rank(app->comm), world = plumb_comm_size(app->comm);
    const int64_t first = e->prompts * rank / world, last = e->prompts * (rank + 1) / world;
    const int64_t n = last - first, samples = cfg->eval.samples;
    plumb_tokenizer *tokenizer = NULL;
    plumb_model *model = NULL;
    plumb_generator *generator = NULL;
    struct plumb_dataset *data = NULL;
    struct plumb_answers answers = {0};
    int64_t *index = calloc((size_t)n + 1, sizeof(*index)), longest = 0;
    plumb_status st = PLUMB_OK;
    if (!index)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, done, "%lld prompts", (long long)n);
    PLUMB_TRY_GOTO(st, plumb_tokenizer_open(&tokenizer, m->dir), done);
    PLUMB_TRY_GOTO(st, plumb_model_open(&model, app->backend, m->dir), done);
    PLUMB_TRY_GOTO(st, plumb_eval_open_prompts(e, &data, tokenizer, model->spec.max_pos), done);
    for (int64_t i = 0; i < data->n; i++)
        longest = plumb_max_i64(longest, data->record[i].prompt.n);
    for (int64_t i = 0; i < n; i++)
        index[i] = first + i;
    longest = plumb_min_i64(longest + cfg->generate.max_new_tokens, model->spec.max_pos);
    PLUMB_TRY_GOTO(
        st, plumb_generator_create(&generator, model, cfg->generate.slots, longest, tokenizer),
        done);
    PLUMB_TRY_GOTO(
        st,
        plumb_answers_init(&answers, plumb_max_i64(n, 1), samples, cfg->generate.max_new_tokens),
        done);
    const struct plumb_answer_source src = {
        .data = data,
        .tokenizer = tokenizer,
        .generator = generator,
        .model = model,
        .options = plumb_generate_options_of(cfg, 0),
    };
    PLUMB_TRY_GOTO(st, plumb_answers_begin(&answers, &src, index, index, n), done);
    PLUMB_TRY_GOTO(st, plumb_answers_generate(&answers, &src), done);
    PLUMB_TRY_GOTO(st, plumb_answers_score(&answers, data, e->rewards, NULL, NULL), done);
    st = plumb_eval_keep(e, m, &answers);
done:
    plumb_answers_fini(&answers);
    plumb_dataset_close(&data);
    plumb_generator_destroy(&generator);
    plumb_model_destroy(&model);
    plumb_tokenizer_close(&tokenizer);
    free(index);
    return st;
}

/* Reads NAME=DIR pairs and counts the prompts. */
static plumb_status open_eval(struct plumb_eval *e)
{
    const struct plumb_config *cfg = e->app->cfg;
    PLUMB_REQUIRE(cfg->eval.models.n > 0, PLUMB_ERR_CONFIG,
                  "eval.models: is not set; list NAME=FOLDER of the models to compare");
    PLUMB_REQUIRE(*cfg->data.eval, PLUMB_ERR_CONFIG,
                  "data.eval: is not set; name a JSONL file of held-out prompts");
    e->n = cfg->eval.models.n;
    e->model = calloc((size_t)e->n, sizeof(*e->model));
    PLUMB_REQUIRE(e->model, PLUMB_ERR_NOMEM, "%lld models", (long long)e->n);
    for (int64_t i = 0; i < e->n; i++) {
        const char *text = cfg->eval.models.item[i], *equals = strchr(text, '=');
        PLUMB_REQUIRE(equals && equals != text && equals[1], PLUMB_ERR_CONFIG,
                      "eval.models: expected NAME=FOLDER, found '%s'", text);
        struct plumb_eval_model *m = &e->model[i];
        PLUMB_REQUIRE(equals - text < (long)sizeof(m->name), PLUMB_ERR_CONFIG,
                      "eval.models: the name in '%s' is longer than %zu bytes", text,
                      sizeof(m->name) - 1);
        memcpy(m->name, text, (size_t)(equals - text));
        m->dir = equals + 1;
        PLUMB_REQUIRE(plumb_dir_exists(m->dir), PLUMB_ERR_IO, "eval.models: there is no folder %s",
                      m->dir);
    }
    struct plumb_dataset *data = NULL;
    PLUMB_TRY(plumb_eval_open_prompts(e, &data, NULL, 0));
    e->prompts = data->n;
    plumb_dataset_close(&data);
    const size_t slots = (size_t)(e->prompts * cfg->eval.samples * PLUMB_EVAL_VALUES);
    for (int64_t i = 0; i < e->n; i++) {
        e->model[i].value = calloc(slots, sizeof(double));
        PLUMB_REQUIRE(e->model[i].value, PLUMB_ERR_NOMEM, "%lld prompts", (long long)e->prompts);
    }
    return plumb_rewards_create(&e->rewards, cfg, e->app->backend);
}

plumb_status plumb_cmd_eval(struct plumb_app *app)
{
    struct plumb_eval e = {.app = app};
    plumb_status st = plumb_comm_agree(app->comm, open_eval(&e));
    for (int64_t i = 0; i < e.n && st == PLUMB_OK; i++) {
        plumb_log(PLUMB_LOG_INFO, "%s: %s answers %lld prompts", e.model[i].name, e.model[i].dir,
                  (long long)e.prompts);
        st = plumb_comm_agree(app->comm, answer(&e, &e.model[i]));
        if (st == PLUMB_OK)
            st = plumb_comm_allreduce_f64(app->comm, e.model[i].value,
                                          e.prompts * app->cfg->eval.samples * PLUMB_EVAL_VALUES,
                                          PLUMB_SUM);
    }
    if (st == PLUMB_OK) {
        plumb_eval_compare(&e);
        if (plumb_comm_rank(app->comm) == 0)
            st = plumb_eval_write(&e);
        st = plumb_comm_agree(app->comm, st);
    }
    plumb_rewards_destroy(&e.rewards);
    for (int64_t i = 0; e.model && i < e.n; i++)
        plumb_eval_model_fini(&e.model[i]);
    free(e.model);
    return st;
}
