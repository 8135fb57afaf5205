/* cmd_eval.c - generates answers of several models to the same held-out prompts, and compares the
 * models.
 * Layer 6. May include everything. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "app/alike.h"
#include "app/eval.h"
#include "app/process.h"
#include "base/log.h"
#include "base/num.h"
#include "data/length.h"
#include "eval/ngram.h"
#include "io/file.h"
#include "train/loops.h"
#include "train/same.h"

/* An open model with its tokenizer and prompts. */
struct opened {
    plumb_tokenizer *tokenizer;
    plumb_model *model;
    struct plumb_dataset *data;
};

static plumb_status open_model(struct opened *o, const struct plumb_eval *e, const char *dir)
{
    PLUMB_TRY(plumb_tokenizer_open(&o->tokenizer, dir));
    PLUMB_TRY(plumb_model_open(&o->model, e->app->backend, dir));
    PLUMB_TRY(plumb_model_set_longest(o->model, e->app->cfg->data.max_tokens, dir));
    PLUMB_TRY(plumb_model_fit_tokenizer(o->model, o->tokenizer, dir));
    return plumb_eval_open_prompts(e, &o->data, dir, o->tokenizer, o->model->spec.max_pos);
}

static void close_model(struct opened *o)
{
    plumb_dataset_close(&o->data);
    plumb_model_destroy(&o->model);
    plumb_tokenizer_close(&o->tokenizer);
}

/* Allocates memory for this rank's answers of model m, and fills *src, which describes how to
 * generate them. */
static plumb_status prepare(const struct plumb_eval *e, struct plumb_eval_model *m,
                            const struct opened *o, struct plumb_rollout_source *src)
{
    const struct plumb_config *cfg = e->app->cfg;
    const int64_t rank = plumb_comm_rank(e->app->comm), world = plumb_comm_size(e->app->comm);
    int64_t *prompt = calloc((size_t)e->mine + 1, sizeof(*prompt));
    plumb_status st = PLUMB_OK;
    if (!prompt)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, done, "list of %lld prompts", (long long)e->mine);
    for (int64_t k = 0; k < e->mine; k++)
        prompt[k] = rank + k * world;
    const int64_t longest =
        plumb_length_generated(cfg, plumb_dataset_longest(o->data), o->model->spec.max_pos);
    *src = (struct plumb_rollout_source){.data = o->data,
                                         .tokenizer = o->tokenizer,
                                         .model = o->model,
                                         .options = plumb_generate_options_of(cfg, 0)};
    const struct plumb_generator_need need =
        plumb_generator_need_of(cfg, cfg->generate.slots, longest, o->tokenizer);
    PLUMB_TRY_GOTO(st, plumb_generator_create(&src->generator, o->model, &need), done);
    PLUMB_TRY_GOTO(st,
                   plumb_rollouts_init(&m->answers, plumb_max_i64(e->mine, 1), cfg->eval.samples,
                                       cfg->generate.max_new_tokens),
                   done);
    PLUMB_TRY_GOTO(st, plumb_scores_init(&m->scores, plumb_max_i64(e->mine, 1) * cfg->eval.samples),
                   done);
    st = plumb_rollouts_begin(&m->answers, src, prompt, prompt, e->mine);
done:
    free(prompt);
    return st;
}

static plumb_status measure(const struct plumb_eval *e, struct plumb_eval_model *m,
                            const struct opened *o)
{
    PLUMB_TRY(plumb_eval_references(e, m, o->model, o->data));
    return plumb_eval_measure(e, m, o->data);
}

/* Generates the answers of one model, and computes the EVAL_ values (app/eval.h) of each answer
 * that need no other model. Collective. */
static plumb_status examine(const struct plumb_eval *e, struct plumb_eval_model *m)
{
    plumb_comm *comm = e->app->comm;
    struct opened o = {0};
    struct plumb_rollout_source src = {0};
    plumb_status st = open_model(&o, e, m->dir);
    if (st == PLUMB_OK)
        st = prepare(e, m, &o, &src);
    PLUMB_TRY_GOTO(st, plumb_comm_agree(comm, st), done);
    PLUMB_TRY_GOTO(st, plumb_same_model(comm, "eval.models", o.model), done);
    PLUMB_TRY_GOTO(st, plumb_same_records(comm, "data.eval", e->app->cfg->data.eval, o.data), done);
    PLUMB_TRY_GOTO(st, plumb_eval_answer(e, m, &src), done);
    plumb_generator_destroy(&src.generator);
    PLUMB_TRY_GOTO(st, plumb_eval_score(e, m, o.data), done);
    st = plumb_comm_agree(comm, measure(e, m, &o));
done:
    plumb_generator_destroy(&src.generator);
    close_model(&o);
    return st;
}

/* Computes the EVAL_ values of the answers that need a second model: the log-prob under the first
 * model, if eval.kl is set, and the verdict of the judge, if eval.judge is set. */
static plumb_status confront(struct plumb_eval *e)
{
    const struct plumb_config *cfg = e->app->cfg;
    struct opened o = {0};
    plumb_status st = PLUMB_OK;
    if (cfg->eval.kl && e->n > 1) {
        PLUMB_TRY_GOTO(st, open_model(&o, e, e->model[0].dir), done);
        PLUMB_TRY_GOTO(st, plumb_eval_start(e, o.model, o.data), done);
    } else if (*cfg->eval.judge) {
        PLUMB_TRY_GOTO(st, plumb_eval_open_prompts(e, &o.data, e->model[0].dir, NULL, 0), done);
    }
    if (*cfg->eval.judge)
        st = plumb_eval_judge(e, o.data);
done:
    close_model(&o);
    return st;
}

/* Computes distinct-1 and distinct-2 over the answers of all ranks, gathered in rank order.
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
    const int64_t samples = e->app->cfg->eval.samples, world = plumb_comm_size(comm);
    for (int64_t r = 0, at = 0; r < world && offset; r++)
        for (int64_t p = r; p < e->prompts; p += world)
            for (int64_t s = 0; s < samples; s++, at++)
                offset[at + 1] =
                    offset[at] +
                    (int64_t)m->value[(p * samples + s) * PLUMB_EVAL_VALUES + EVAL_TOKENS];
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

/* Adds the sample texts of all ranks to m->text; does not change an element that is already set.
 * bytes (len,) is a sequence of records: the text's index in m->text and its length, as two int64,
 * and the text. */
static plumb_status take_texts(struct plumb_eval_model *m, const char *bytes, int64_t len)
{
    for (int64_t at = 0; at < len;) {
        int64_t head[2];
        memcpy(head, bytes + at, sizeof(head));
        at += (int64_t)sizeof(head);
        if (!m->text[head[0]])
            m->text[head[0]] = strndup(bytes + at, (size_t)head[1]);
        PLUMB_REQUIRE(m->text[head[0]], PLUMB_ERR_NOMEM, "sample text");
        at += head[1];
    }
    return PLUMB_OK;
}

/* Sends the answers for the sample table (m->text) to every rank. Collective. */
static plumb_status share_texts(const struct plumb_eval *e, struct plumb_eval_model *m)
{
    plumb_comm *comm = e->app->comm;
    struct plumb_buf local = {0};
    char *all = NULL;
    int64_t *count = calloc((size_t)plumb_comm_size(comm), sizeof(*count));
    plumb_status st = count ? PLUMB_OK : PLUMB_ERR_NOMEM;
    for (int64_t i = 0; i < PLUMB_EVAL_SHOWN && st == PLUMB_OK; i++) {
        const int64_t head[2] = {i, m->text[i] ? (int64_t)strlen(m->text[i]) : 0};
        if (m->text[i])
            st = plumb_buf_add(&local, head, sizeof(head));
        if (m->text[i] && st == PLUMB_OK)
            st = plumb_buf_add(&local, m->text[i], head[1]);
    }
    double total = (double)local.len;
    PLUMB_TRY_GOTO(st, plumb_comm_agree(comm, st), done);
    PLUMB_TRY_GOTO(st, plumb_comm_allreduce_f64(comm, &total, 1, PLUMB_SUM), done);
    if (!(all = malloc((size_t)total + 1)))
        st = plumb_fail_at(PLUMB_ERR_NOMEM, __FILE__, __LINE__, "sample texts");
    PLUMB_TRY_GOTO(st, plumb_comm_agree(comm, st), done);
    PLUMB_TRY_GOTO(
        st,
        plumb_comm_allgather(comm, all, (int64_t)total, count, plumb_buf_text(&local), local.len),
        done);
    st = plumb_comm_agree(comm, take_texts(m, all, (int64_t)total));
done:
    plumb_buf_fini(&local);
    free(count);
    free(all);
    return st;
}

/* Combines the results of all ranks for one model, so that every rank has all of them: the values
 * of the answers and of the references, the sample texts, and distinct-1 and distinct-2.
 * Collective. */
static plumb_status share(const struct plumb_eval *e, struct plumb_eval_model *m)
{
    const int64_t answers = e->prompts * e->app->cfg->eval.samples;
    PLUMB_TRY(
        plumb_comm_allreduce_f64(e->app->comm, m->value, answers * PLUMB_EVAL_VALUES, PLUMB_SUM));
    PLUMB_TRY(plumb_comm_allreduce_f64(e->app->comm, m->reference,
                                       e->prompts * PLUMB_EVAL_REFERENCE, PLUMB_SUM));
    PLUMB_TRY(share_texts(e, m));
    return count_distinct(e, m);
}

/* Splits NAME=FOLDER into the name and the folder of a model. */
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
    return plumb_dir_check_input(m->dir, "eval.models");
}

/* Sets same_tokens of each model: true if its tokenizer is that of the first model. Only then can
 * the first model compute log-probs of the model's answers. */
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
            plumb_log(PLUMB_LOG_WARN,
                      "%s: its tokenizer.json is not that of %s, so the KL divergence between the "
                      "two models is not computed",
                      e->model[i].name, e->model[0].name);
    }
    return PLUMB_OK;
}

/* Counts the prompts and assigns them to the ranks. */
static plumb_status open_prompts(struct plumb_eval *e)
{
    const struct plumb_config *cfg = e->app->cfg;
    const int64_t rank = plumb_comm_rank(e->app->comm), world = plumb_comm_size(e->app->comm);
    struct plumb_dataset *data = NULL;
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(plumb_eval_open_prompts(e, &data, e->model[0].dir, NULL, 0));
    e->prompts = data->n;
    e->mine = (e->prompts - rank + world - 1) / world;
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
    PLUMB_REQUIRE(strcmp(cfg->resume, "never") == 0 || *cfg->output_dir, PLUMB_ERR_CONFIG,
                  "resume: %s needs output_dir, which keeps the answers and scores", cfg->resume);
    if (plumb_comm_rank(e->app->comm) == 0 && *cfg->output_dir)
        PLUMB_TRY(plumb_dir_check_output(cfg->output_dir, "output_dir"));
    if (plumb_comm_rank(e->app->comm) == 0 && *cfg->output_dir) {
        char run[4096];
        PLUMB_TRY(plumb_path_join(run, sizeof(run), cfg->output_dir, "run.json"));
        PLUMB_REQUIRE(!plumb_file_exists(run), PLUMB_ERR_EXISTS,
                      "output_dir: %s is the folder of a training run, whose report.html the "
                      "evaluation would replace; name another folder, for example %s/eval",
                      cfg->output_dir, cfg->output_dir);
    }
    if (plumb_comm_rank(e->app->comm) == 0)
        PLUMB_TRY(plumb_process_check_output(e->app, cfg->output));
    e->n = cfg->eval.models.n;
    e->model = calloc((size_t)e->n, sizeof(*e->model));
    PLUMB_REQUIRE(e->model, PLUMB_ERR_NOMEM, "results of %lld models", (long long)e->n);
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
        PLUMB_REQUIRE(m->value && m->reference, PLUMB_ERR_NOMEM,
                      "cannot store the values of the answers to %lld prompts",
                      (long long)e->prompts);
    }
    /* Rewards are optional if a judge is set. If neither is set, plumb_rewards_create fails and
     * names the missing options. */
    const struct plumb_rewards_need need = {.longest = e->longest + cfg->generate.max_new_tokens,
                                            .items = e->mine * cfg->eval.samples};
    if (plumb_rewards_configured(cfg) || !*cfg->eval.judge)
        PLUMB_TRY(plumb_rewards_create(&e->rewards, cfg, e->app->backend, &need));
    return PLUMB_OK;
}

static void close_eval(struct plumb_eval *e)
{
    plumb_rewards_destroy(&e->rewards);
    for (int64_t i = 0; e->model && i < e->n; i++) {
        struct plumb_eval_model *m = &e->model[i];
        plumb_rollouts_fini(&m->answers);
        plumb_scores_fini(&m->scores);
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
    if (st == PLUMB_OK) {
        st = open_eval(&e);
        if (st == PLUMB_OK && *app->cfg->output_dir && plumb_comm_rank(app->comm) == 0)
            st = plumb_dir_create(app->cfg->output_dir);
        st = plumb_comm_agree(app->comm, st);
    }
    for (int64_t i = 0; i < e.n && st == PLUMB_OK; i++) {
        plumb_log(PLUMB_LOG_INFO, "%s: %s answers %lld prompts", e.model[i].name, e.model[i].dir,
                  (long long)e.prompts);
        plumb_note_generation(app, e.model[i].dir);
        st = examine(&e, &e.model[i]);
    }
    if (st == PLUMB_OK)
        st = plumb_comm_agree(app->comm, confront(&e));
    for (int64_t i = 0; i < e.n && st == PLUMB_OK; i++)
        st = share(&e, &e.model[i]);
    if (st == PLUMB_OK) {
        if (plumb_comm_rank(app->comm) == 0)
            st = plumb_eval_figure(&e);
        for (int64_t i = 0; i < e.n && st == PLUMB_OK && plumb_comm_rank(app->comm) == 0; i++)
            plumb_alike_say(e.model[i].name,
                            e.model[i].figures.answers - e.model[i].figures.missing,
                            e.model[i].figures.reward, e.model[i].figures.reward_std);
        if (plumb_comm_rank(app->comm) == 0 && st == PLUMB_OK)
            st = plumb_eval_write(&e);
        st = plumb_comm_agree(app->comm, st);
    }
    close_eval(&e);
    plumb_lock_release(&lock);
    return st;
}
