/* cmd_score.c - scores texts by a reward model (model=), or by the reward sources of an alignment
 * run (reward.*) exactly as that run would. Layer 6. May include everything. */
#include <math.h>
#include <stdlib.h>

#include "app/alike.h"
#include "app/session.h"
#include "base/log.h"
#include "base/num.h"
#include "data/encoding.h"
#include "io/file.h"
#include "io/json.h"
#include "stage/rewards.h"

struct score {
    struct plumb_session s;
    int32_t *ids; /* (longest,) token ids of one record */
    float *value; /* (labels,) scores of one record */
    struct plumb_alike alike;
};

static plumb_status score(void *arg, int64_t begin, int64_t end, struct plumb_buf *out)
{
    struct score *c = arg;
    const int64_t labels = c->s.model->spec.labels;
    for (int64_t i = begin; i < end; i++) {
        const struct plumb_record *r = &c->s.data->record[i];
        const int64_t n = r->prompt.n + r->completion[0].n;
        for (int64_t j = 0; j < n; j++)
            c->ids[j] = j < r->prompt.n ? r->prompt.ids[j] : r->completion[0].ids[j - r->prompt.n];
        const int64_t offset[2] = {0, n};
        const struct plumb_batch batch = {
            .n_seq = 1, .ids = c->ids, .offset = offset, .prompt_tokens = &r->prompt.n};
        PLUMB_TRY(plumb_pass_score(c->s.pass, c->s.model, &batch, c->value));
        if (labels == 1)
            plumb_alike_add(&c->alike, (double)c->value[0]);
        PLUMB_TRY(plumb_buf_add_text(out, labels > 1 ? "{\"score\":[" : "{\"score\":"));
        for (int64_t j = 0; j < labels; j++) {
            if (j)
                PLUMB_TRY(plumb_buf_add_text(out, ","));
            PLUMB_TRY(plumb_json_put_f32(out, c->value[j]));
        }
        PLUMB_TRY(plumb_buf_add_text(out, labels > 1 ? "]}\n" : "}\n"));
    }
    return PLUMB_OK;
}

static plumb_status prepare(struct score *c)
{
    c->ids = calloc((size_t)c->s.longest, sizeof(*c->ids));
    c->value = calloc((size_t)c->s.model->spec.labels, sizeof(*c->value));
    PLUMB_REQUIRE(c->ids && c->value, PLUMB_ERR_NOMEM, "a record of %lld tokens",
                  (long long)c->s.longest);
    return plumb_session_pass(&c->s, 0, false);
}

static plumb_status score_by_model(struct plumb_app *app)
{
    struct score c = {0};
    plumb_status st =
        plumb_session_open(&c.s, app, PLUMB_SESSION_CLASSIFIER, PLUMB_DATA_ANY, app->cfg->input);
    if (st == PLUMB_OK)
        st = plumb_comm_agree(app->comm, prepare(&c));
    if (st == PLUMB_OK)
        st = plumb_lines_run(app, "score", c.s.data->n, 64, score, &c);
    if (st == PLUMB_OK)
        st = plumb_alike_end(&c.alike, app);
    plumb_session_close(&c.s);
    free(c.ids);
    free(c.value);
    return st;
}

/* ---- reward.model, reward.command, reward.functions --------------------------------------- */

/* Largest number of lines that one rank scores in one call of score_lines. Between two calls the
 * ranks may exchange finished lines (a meeting, app/lines.h). */
enum { CHUNK = 64 };

struct sources {
    struct plumb_app *app;
    plumb_tokenizer *tokenizer; /* NULL if no reward source counts tokens */
    struct plumb_dataset *data;
    plumb_rewards *rewards;
    /* prompt template with which the reward model was trained; NULL if unknown */
    char *trained_template;
    /* chat settings of the reward model, or else of the tokenizer's folder */
    struct plumb_chat_setting chat;
    struct plumb_alike alike;
    /* Of the lines that this run has made: the number of lines without a score, and the number of
     * all lines. */
    double missing[2];
};

static plumb_status score_lines(void *arg, int64_t begin, int64_t end, struct plumb_buf *out)
{
    struct sources *s = arg;
    struct plumb_reward_item item[CHUNK] = {0};
    double value[CHUNK];
    for (int64_t i = begin; i < end; i++) {
        const struct plumb_record *r = &s->data->record[i];
        const struct plumb_piece *c = &r->completion[0];
        PLUMB_REQUIRE(r->prompt.text, PLUMB_ERR_FORMAT,
                      "%s:%lld: holds token ids, but reward sources score texts; set "
                      "tokenizer=FOLDER to the model that made the ids",
                      s->app->cfg->input, (long long)r->line);
        /* A record that is only one text can be scored by a reward model, which reads prompt and
         * completion as one text, but not by a function or a command, which scores a completion. */
        const struct plumb_config *cfg = s->app->cfg;
        PLUMB_REQUIRE(c->text || (!*cfg->reward.command && cfg->reward.functions.n == 0),
                      PLUMB_ERR_FORMAT,
                      "%s:%lld: field \"completion\": found nothing, expected the answer that "
                      "reward.command or reward.functions is to score",
                      cfg->input, (long long)r->line);
        item[i - begin] = (struct plumb_reward_item){.prompt = r->prompt.text,
                                                     .prompt_len = r->prompt.len,
                                                     .completion = c->text ? c->text : "",
                                                     .completion_len = c->len,
                                                     .alone = !c->text,
                                                     .tokens = c->n,
                                                     .solution = r->solution,
                                                     .solution_len = r->solution_len,
                                                     .record = r->json,
                                                     .given = true,
                                                     .prompt_id = i};
    }
    PLUMB_TRY(plumb_rewards_score(s->rewards, item, end - begin, value));
    s->missing[1] += (double)(end - begin);
    for (int64_t i = 0; i < end - begin; i++) {
        s->missing[0] += !isfinite(value[i]);
        plumb_alike_add(&s->alike, value[i]);
        PLUMB_TRY(plumb_buf_add_text(out, "{\"score\":"));
        PLUMB_TRY(plumb_json_put_real(out, value[i])); /* writes null if the score is missing */
        PLUMB_TRY(plumb_buf_add_text(out, "}\n"));
    }
    return PLUMB_OK;
}

static plumb_status open_sources(struct sources *s, const struct plumb_buf *text)
{
    const struct plumb_config *cfg = s->app->cfg;
    for (int64_t i = 0; i < cfg->reward.functions.n; i++)
        PLUMB_REQUIRE(cfg->reward.functions.item[i].name != PLUMB_REWARD_LENGTH || *cfg->tokenizer,
                      PLUMB_ERR_CONFIG,
                      "tokenizer: is not set; the reward function length counts tokens");
    if (*cfg->tokenizer) {
        PLUMB_TRY(plumb_dir_check_input(cfg->tokenizer, "tokenizer"));
        PLUMB_TRY(plumb_tokenizer_open(&s->tokenizer, cfg->tokenizer));
    }
    const char *template = cfg->data.prompt_template;
    if (*cfg->reward.model) {
        PLUMB_TRY(plumb_encoding_template(&s->trained_template, cfg->reward.model));
        template = plumb_encoding_choose(cfg->reward.model, template, s->trained_template);
    }
    const char *dir = *cfg->reward.model ? cfg->reward.model : cfg->tokenizer;
    if (*dir)
        PLUMB_TRY(plumb_chat_open(&s->chat, cfg, dir, dir));
    const struct plumb_data_options options = {
        .kind = PLUMB_DATA_ANY,
        .tokenizer = s->tokenizer,
        .chat = &s->chat,
        .prompt_template = template,
        .append_eos = s->tokenizer && plumb_tokenizer_eos(s->tokenizer) >= 0,
        .limit = cfg->data.limit,
        .whole = true,
    };
    PLUMB_TRY(plumb_dataset_parse(&s->data, plumb_buf_text(text), text->len, cfg->input, &options));
    /* With the trained template in `need`, plumb_rewards_create does not warn if the option names
     * another template: plumb_encoding_choose has already warned. */
    struct plumb_rewards_need need = {
        .items = CHUNK, .prompt_template = s->trained_template ? s->trained_template : template};
    for (int64_t i = 0; i < s->data->n; i++) {
        const struct plumb_record *r = &s->data->record[i];
        need.longest = plumb_max_i64(need.longest, r->prompt.len + r->completion[0].len);
    }
    PLUMB_TRY(plumb_rewards_create(&s->rewards, cfg, s->app->backend, &need));
    plumb_rewards_begin(s->rewards);
    return PLUMB_OK;
}

static plumb_status score_by_sources(struct plumb_app *app)
{
    struct sources s = {.app = app};
    struct plumb_buf text = {0};
    plumb_status st = PLUMB_OK;
    if (plumb_comm_rank(app->comm) == 0)
        st = plumb_file_check_input(app->cfg->input, "input");
    st = plumb_comm_agree(app->comm, st);
    if (st == PLUMB_OK)
        st = plumb_lines_read(app, &text, app->cfg->input);
    if (st == PLUMB_OK)
        st = plumb_comm_agree(app->comm, open_sources(&s, &text));
    if (st == PLUMB_OK)
        st = plumb_lines_run_at_once(app, "score", s.data->n, CHUNK, score_lines, &s);
    if (s.rewards && *plumb_rewards_fault(s.rewards))
        plumb_log(PLUMB_LOG_WARN, "no score: %s", plumb_rewards_fault(s.rewards));
    if (st == PLUMB_OK)
        st = plumb_comm_allreduce_f64(app->comm, s.missing, 2, PLUMB_SUM);
    if (st == PLUMB_OK)
        st = plumb_alike_end(&s.alike, app);
    if (st == PLUMB_OK && s.missing[0] > 0)
        plumb_log(PLUMB_LOG_WARN, "%.0f of %.0f line%s no score (null)", s.missing[0], s.missing[1],
                  s.missing[1] == 1 ? " has" : "s have");
    if (st == PLUMB_OK && s.missing[0] > app->cfg->reward.max_missing * s.missing[1])
        st = plumb_fail_at(PLUMB_ERR_NUMERIC, __FILE__, __LINE__,
                           "%.0f of %.0f line%s no score, more than reward.max_missing (%g)",
                           s.missing[0], s.missing[1], s.missing[1] == 1 ? " has" : "s have",
                           app->cfg->reward.max_missing);
    plumb_buf_fini(&text);
    plumb_rewards_destroy(&s.rewards);
    plumb_dataset_close(&s.data);
    plumb_tokenizer_close(&s.tokenizer);
    plumb_chat_close(&s.chat);
    free(s.trained_template);
    return st;
}

plumb_status plumb_cmd_score(struct plumb_app *app)
{
    const struct plumb_config *cfg = app->cfg;
    if (!plumb_rewards_configured(cfg)) {
        PLUMB_REQUIRE(*cfg->model, PLUMB_ERR_CONFIG,
                      "score: nothing gives the scores; set reward.functions, reward.command or "
                      "reward.model, or name a classifier with model=DIR");
        return score_by_model(app);
    }
    PLUMB_REQUIRE(!*cfg->model, PLUMB_ERR_CONFIG,
                  "model: cannot be set together with an option of reward.*; to combine the model "
                  "with other reward sources, set reward.model= instead of model=");
    return score_by_sources(app);
}
