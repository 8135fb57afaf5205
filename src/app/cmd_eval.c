/* cmd_eval.c - several models answer the same held-out prompts; tables compare them.
 * Layer 6. May include everything. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "app/eval.h"
#include "base/log.h"
#include "base/num.h"
#include "io/file.h"
#include "train/loops.h"
#include "train/ngram.h"

plumb_status plumb_eval_open_prompts(const struct plumb_eval *e, struct plumb_dataset **out,
                                     const plumb_tokenizer *tokenizer, int64_t max_pos)
{
    const struct plumb_config *cfg = e->app->cfg;
    const struct plumb_data_options options = {
        .kind = PLUMB_DATA_PROMPTS,
        .references = true,
        .append_eos = tokenizer && plumb_tokenizer_eos(tokenizer) >= 0,
        .tokenizer = tokenizer,
        .prompt_template = cfg->data.prompt_template,
        .max_prompt_tokens = max_pos > 0 ? max_pos - 1 : 0,
        .max_tokens = max_pos,
        .limit = cfg->data.limit,
    };
    return plumb_dataset_open(out, cfg->data.eval, &options);
}

/* What one model needs to answer or to be asked about tokens. */
struct opened {
    plumb_tokenizer *tokenizer;
    plumb_model *model;
    struct plumb_dataset *data;
};

static plumb_status open_model(struct opened *o, const struct plumb_eval *e, const char *dir)
{
    PLUMB_TRY(plumb_tokenizer_open(&o->tokenizer, dir));
    PLUMB_TRY(plumb_model_open(&o->model, e->app->backend, dir));
    PLUMB_TRY(plumb_model_fit_tokenizer(o->model, o->tokenizer, dir));
    return plumb_eval_open_prompts(e, &o->data, o->tokenizer, o->model->spec.max_pos);
}

static void close_model(struct opened *o)
{
    plumb_dataset_close(&o->data);
    plumb_model_destroy(&o->model);
    plumb_tokenizer_close(&o->tokenizer);
}

/* Lets the model answer this rank's prompts; the answers stay in m. */
static plumb_status answer(const struct plumb_eval *e, struct plumb_eval_model *m,
                           const struct opened *o)
{
    const struct plumb_config *cfg = e->app->cfg;
    const int64_t n = e->last - e->first;
    plumb_generator *generator = NULL;
    int64_t *index = calloc((size_t)n + 1, sizeof(*index));
    plumb_status st = PLUMB_OK;
    if (!index)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, done, "%lld prompts", (long long)n);
    for (int64_t i = 0; i < n; i++)
        index[i] = e->first + i;
    const int64_t longest = plumb_min_i64(
        plumb_dataset_longest(o->data) + cfg->generate.max_new_tokens, o->model->spec.max_pos);
    PLUMB_TRY_GOTO(
        st,
        plumb_generator_create(&generator, o->model, cfg->generate.slots, longest, o->tokenizer),
        done);
    PLUMB_TRY_GOTO(st,
                   plumb_answers_init(&m->answers, plumb_max_i64(n, 1), cfg->eval.samples,
                                      cfg->generate.max_new_tokens),
                   done);
    const struct plumb_answer_source src = {
        .data = o->data,
        .tokenizer = o->tokenizer,
        .generator = generator,
        .model = o->model,
        .options = plumb_generate_options_of(cfg, 0),
    };
    PLUMB_TRY_GOTO(st, plumb_answers_begin(&m->answers, &src, index, index, n), done);
    st = plumb_answers_generate(&m->answers, &src);
done:
    plumb_generator_destroy(&generator);
    free(index);
    return st;
}

static plumb_status score(const struct plumb_eval *e, struct plumb_eval_model *m,
                          const struct plumb_dataset *data)
{
    if (!e->rewards)
        return PLUMB_OK;
    PLUMB_TRY(plumb_answers_score(&m->answers, data, e->rewards, NULL, NULL));
    if (*plumb_rewards_fault(e->rewards))
        plumb_log(PLUMB_LOG_WARN, "%s: no reward: %s", m->name, plumb_rewards_fault(e->rewards));
    return PLUMB_OK;
}

/* Answers, rewards, references and texts of one model, on this rank. */
static plumb_status examine(const struct plumb_eval *e, struct plumb_eval_model *m)
{
    struct opened o = {0};
    plumb_status st;
    PLUMB_TRY_GOTO(st, open_model(&o, e, m->dir), done);
    PLUMB_TRY_GOTO(st, answer(e, m, &o), done);
    PLUMB_TRY_GOTO(st, score(e, m, o.data), done);
    PLUMB_TRY_GOTO(st, plumb_eval_references(e, m, o.model, o.data), done);
    st = plumb_eval_measure(e, m, o.data);
done:
    close_model(&o);
    return st;
}

/* What needs several models' answers: the first model's view of them, the judge's verdicts. */
static plumb_status confront(struct plumb_eval *e)
{
    const struct plumb_config *cfg = e->app->cfg;
    struct opened o = {0};
    plumb_status st = PLUMB_OK;
    if (cfg->eval.kl && e->n > 1) {
        PLUMB_TRY_GOTO(st, open_model(&o, e, e->model[0].dir), done);
        PLUMB_TRY_GOTO(st, plumb_eval_start(e, o.model, o.data), done);
    } else if (*cfg->eval.judge) {
        PLUMB_TRY_GOTO(st, plumb_eval_open_prompts(e, &o.data, NULL, 0), done);
    }
    if (*cfg->eval.judge)
        st = plumb_eval_judge(e, o.data);
done:
    close_model(&o);
    return st;
}

/* distinct-1 and -2 of all ranks' answers, which come together in the order of the prompts.
 * Collective. */
static plumb_status count_distinct(const struct plumb_eval *e, struct plumb_eval_model *m)
{
    plumb_comm *comm = e->app->comm;
    const int64_t mine = m->answers.prompts * m->answers.group_size;
    const int64_t all = e->prompts * e->app->cfg->eval.samples;
    int64_t *count = calloc((size_t)plumb_comm_size(comm), sizeof(*count));
    int64_t *offset = calloc((size_t)all + 1, sizeof(*offset));
    struct plumb_buf local = {0};
    int32_t *ids = NULL;
    plumb_status st = count && offset ? PLUMB_OK : PLUMB_ERR_NOMEM;
    for (int64_t i = 0; i < mine && st == PLUMB_OK; i++)
        st =
            plumb_buf_add(&local, m->answers.at[i].ids, m->answers.at[i].n * (int64_t)sizeof(*ids));
    for (int64_t i = 0; i < all && offset; i++)
        offset[i + 1] = offset[i] + (int64_t)m->value[i * PLUMB_EVAL_VALUES + EVAL_TOKENS];
    const int64_t bytes = offset ? offset[all] * (int64_t)sizeof(*ids) : 0;
    if (st == PLUMB_OK && !(ids = malloc((size_t)bytes + 1)))
        st = PLUMB_ERR_NOMEM;
    if (st != PLUMB_OK)
        st = plumb_fail_at(PLUMB_ERR_NOMEM, __FILE__, __LINE__, "answers of %s", m->name);
    PLUMB_TRY_GOTO(st, plumb_comm_agree(comm, st), done);
    PLUMB_TRY_GOTO(
        st, plumb_comm_allgather(comm, ids, bytes, count, plumb_buf_text(&local), local.len), done);
    for (int order = 1; order <= 2 && st == PLUMB_OK; order++)
        st = plumb_distinct(&m->distinct[order - 1], ids, offset, all, order);
    st = plumb_comm_agree(comm, st);
done:
    plumb_buf_fini(&local);
    free(count);
    free(offset);
    free(ids);
    return st;
}

/* Every rank gets every scalar. Collective. */
static plumb_status share(const struct plumb_eval *e, struct plumb_eval_model *m)
{
    const int64_t answers = e->prompts * e->app->cfg->eval.samples;
    PLUMB_TRY(
        plumb_comm_allreduce_f64(e->app->comm, m->value, answers * PLUMB_EVAL_VALUES, PLUMB_SUM));
    PLUMB_TRY(plumb_comm_allreduce_f64(e->app->comm, m->reference,
                                       e->prompts * PLUMB_EVAL_REFERENCE, PLUMB_SUM));
    return count_distinct(e, m);
}

/* Splits NAME=FOLDER. */
static plumb_status name_model(struct plumb_eval_model *m, const char *text)
{
    const char *equals = strchr(text, '=');
    PLUMB_REQUIRE(equals && equals != text && equals[1], PLUMB_ERR_CONFIG,
                  "eval.models: expected NAME=FOLDER, found '%s'", text);
    PLUMB_REQUIRE(equals - text < (long)sizeof(m->name), PLUMB_ERR_CONFIG,
                  "eval.models: the name in '%s' is longer than %zu bytes", text,
                  sizeof(m->name) - 1);
    memcpy(m->name, text, (size_t)(equals - text));
    m->dir = equals + 1;
    PLUMB_REQUIRE(plumb_dir_exists(m->dir), PLUMB_ERR_IO, "eval.models: there is no folder %s",
                  m->dir);
    return PLUMB_OK;
}

/* Log-probs of one model's tokens under another mean something when both read text alike. */
static plumb_status compare_tokenizers(struct plumb_eval *e)
{
    char path[4096];
    uint64_t hash, first = 0;
    for (int64_t i = 0; i < e->n; i++) {
        PLUMB_TRY(plumb_path_join(path, sizeof(path), e->model[i].dir, "tokenizer.json"));
        PLUMB_TRY(plumb_file_hash(&hash, path));
        first = i ? first : hash;
        e->model[i].same_tokens = hash == first;
        if (hash != first && e->app->cfg->eval.kl)
            plumb_log(PLUMB_LOG_WARN, "%s: other tokens than %s has; their divergence is not known",
                      e->model[i].name, e->model[0].name);
    }
    return PLUMB_OK;
}

/* Counts the prompts and deals them to the ranks. */
static plumb_status open_prompts(struct plumb_eval *e)
{
    const struct plumb_config *cfg = e->app->cfg;
    const int64_t rank = plumb_comm_rank(e->app->comm), world = plumb_comm_size(e->app->comm);
    struct plumb_dataset *data = NULL;
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(plumb_eval_open_prompts(e, &data, NULL, 0));
    e->prompts = data->n;
    e->first = e->prompts * rank / world;
    e->last = e->prompts * (rank + 1) / world;
    for (int64_t i = 0; i < data->n && st == PLUMB_OK; i++) {
        e->longest = plumb_max_i64(e->longest, data->record[i].prompt.len);
        e->references = e->references || data->record[i].completion[0].len > 0;
        if (!data->record[i].prompt.text)
            st = plumb_fail_at(PLUMB_ERR_FORMAT, __FILE__, __LINE__,
                               "%s:%lld: holds ids; rewards and judges read texts", cfg->data.eval,
                               (long long)data->record[i].line);
    }
    plumb_dataset_close(&data);
    return st;
}

static plumb_status open_eval(struct plumb_eval *e)
{
    const struct plumb_config *cfg = e->app->cfg;
    PLUMB_REQUIRE(cfg->eval.models.n > 0, PLUMB_ERR_CONFIG,
                  "eval.models: is not set; list NAME=FOLDER of the models to compare");
    PLUMB_REQUIRE(*cfg->data.eval, PLUMB_ERR_CONFIG,
                  "data.eval: is not set; name a JSONL file of held-out prompts");
    PLUMB_REQUIRE(cfg->eval.models.n > 1 || !*cfg->eval.judge, PLUMB_ERR_CONFIG,
                  "eval.judge: compares with the first model, but eval.models lists one");
    e->n = cfg->eval.models.n;
    e->model = calloc((size_t)e->n, sizeof(*e->model));
    PLUMB_REQUIRE(e->model, PLUMB_ERR_NOMEM, "%lld models", (long long)e->n);
    for (int64_t i = 0; i < e->n; i++)
        PLUMB_TRY(name_model(&e->model[i], cfg->eval.models.item[i]));
    for (int64_t i = 1; i < e->n; i++)
        for (int64_t k = 0; k < i; k++)
            PLUMB_REQUIRE(strcmp(e->model[i].name, e->model[k].name) != 0, PLUMB_ERR_CONFIG,
                          "eval.models: two models are named '%s'; expected a name of its own for "
                          "each",
                          e->model[i].name);
    PLUMB_TRY(open_prompts(e));
    PLUMB_TRY(compare_tokenizers(e));
    const size_t answers = (size_t)(e->prompts * cfg->eval.samples);
    for (int64_t i = 0; i < e->n; i++) {
        struct plumb_eval_model *m = &e->model[i];
        m->value = calloc(answers * PLUMB_EVAL_VALUES, sizeof(double));
        m->reference = calloc((size_t)e->prompts * PLUMB_EVAL_REFERENCE, sizeof(double));
        PLUMB_REQUIRE(m->value && m->reference, PLUMB_ERR_NOMEM, "%lld prompts",
                      (long long)e->prompts);
    }
    /* a judge can do without rewards; without either, opening them says what is missing */
    const struct plumb_rewards_need need = {.longest = e->longest + cfg->generate.max_new_tokens,
                                            .items = (e->last - e->first) * cfg->eval.samples};
    if (plumb_rewards_configured(cfg) || !*cfg->eval.judge)
        PLUMB_TRY(plumb_rewards_create(&e->rewards, cfg, e->app->backend, &need));
    return PLUMB_OK;
}

static void close_eval(struct plumb_eval *e)
{
    plumb_rewards_destroy(&e->rewards);
    for (int64_t i = 0; e->model && i < e->n; i++) {
        struct plumb_eval_model *m = &e->model[i];
        plumb_answers_fini(&m->answers);
        free(m->value);
        free(m->reference);
        for (int k = 0; k < PLUMB_EVAL_SHOWN; k++)
            free(m->text[k]);
    }
    free(e->model);
}

plumb_status plumb_cmd_eval(struct plumb_app *app)
{
    struct plumb_eval e = {.app = app};
    plumb_lock *lock = NULL;
    plumb_status st = plumb_app_lock(&lock, app);
    if (st == PLUMB_OK)
        st = plumb_comm_agree(app->comm, open_eval(&e));
    for (int64_t i = 0; i < e.n && st == PLUMB_OK; i++) {
        plumb_log(PLUMB_LOG_INFO, "%s: %s answers %lld prompts", e.model[i].name, e.model[i].dir,
                  (long long)e.prompts);
        st = plumb_comm_agree(app->comm, examine(&e, &e.model[i]));
    }
    if (st == PLUMB_OK)
        st = plumb_comm_agree(app->comm, confront(&e));
    for (int64_t i = 0; i < e.n && st == PLUMB_OK; i++)
        st = share(&e, &e.model[i]);
    if (st == PLUMB_OK) {
        if (plumb_comm_rank(app->comm) == 0)
            st = plumb_eval_figure(&e);
        if (plumb_comm_rank(app->comm) == 0 && st == PLUMB_OK)
            st = plumb_eval_write(&e);
        st = plumb_comm_agree(app->comm, st);
    }
    close_eval(&e);
    plumb_lock_release(&lock);
    return st;
}
