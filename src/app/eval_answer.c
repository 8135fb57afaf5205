/* eval_answer.c - generates and scores the answers of one model, and writes both to files line by
 * line.
 * Layer 6. Includes app/eval.h, app/completion.h, app/lines.h, base/, io/.
 *
 * OUTPUT_DIR/answers.NAME.jsonl has lines as plumb generate writes them, scores.NAME.jsonl lines as
 * plumb score does. With resume=auto existing lines are read, and only the missing answers and
 * scores are computed. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/completion.h"
#include "app/eval.h"
#include "app/lines.h"
#include "base/num.h"
#include "data/chat.h"
#include "io/file.h"
#include "io/json.h"

struct answering {
    const struct plumb_eval *e;
    struct plumb_eval_model *m;
    const struct plumb_rollout_source *src;
    struct plumb_lines lines; /* the line number is prompt * samples + sample */
    struct plumb_buf line;
    int64_t kept; /* number of leading answers whose score has been written */
    char path[4096], what[128];
};

/* Makes the path OUTPUT_DIR/KIND.NAME.jsonl, or "" without an output_dir. Characters that are
 * unusual in a file name are written as %XX, so that different model names give different files. */
static plumb_status name_file(struct answering *a, const char *kind)
{
    const char *dir = a->e->app->cfg->output_dir;
    char name[4 * sizeof(a->m->name)];
    int n = snprintf(name, sizeof(name), "%s.", kind);
    for (const char *c = a->m->name; *c && n + 8 < (int)sizeof(name); c++)
        n += snprintf(name + n, sizeof(name) - (size_t)n,
                      isalnum((unsigned char)*c) || strchr("._-", *c) ? "%c" : "%%%02X",
                      (unsigned char)*c);
    snprintf(name + n, sizeof(name) - (size_t)n, ".jsonl");
    snprintf(a->what, sizeof(a->what), "%s: %s", a->m->name, kind);
    a->path[0] = 0;
    return *dir ? plumb_path_join(a->path, sizeof(a->path), dir, name) : PLUMB_OK;
}

/* Returns the index in m->answers of the answer with this line number; -1 if the answer belongs to
 * another rank. */
static int64_t answer_of(const struct answering *a, int64_t line)
{
    const int64_t samples = a->e->app->cfg->eval.samples, prompt = line / samples;
    const int64_t world = plumb_comm_size(a->e->app->comm);
    if (prompt % world != plumb_comm_rank(a->e->app->comm))
        return -1;
    return plumb_rollouts_completion(&a->m->answers, prompt / world, line % samples);
}

/* Opens the file and calls fn for each existing line. kind is "answers" or "scores". Collective. */
static plumb_status begin(struct answering *a, const char *kind, plumb_line_fn *fn)
{
    const struct plumb_eval *e = a->e;
    struct plumb_buf there = {0};
    const int64_t n = e->prompts * e->app->cfg->eval.samples;
    PLUMB_TRY(plumb_comm_agree(e->app->comm, name_file(a, kind)));
    const struct plumb_lines_want want = {.what = a->what,
                                          .unit = "answers",
                                          .path = a->path,
                                          .kind = PLUMB_OUTPUT_KEPT,
                                          .n = n,
                                          .window = n};
    PLUMB_TRY(plumb_lines_begin(&a->lines, e->app, &want));
    plumb_status st = plumb_lines_there(&a->lines, &there);
    if (st == PLUMB_OK)
        st = plumb_text_lines(plumb_buf_text(&there), there.len, fn, a);
    plumb_buf_fini(&there);
    return st;
}

/* ---- answers -------------------------------------------------------------------------------- */

static plumb_status keep_answer(void *arg, const struct plumb_rollout *o)
{
    struct answering *a = arg;
    const struct plumb_record *r = &a->src->data->record[o->record];
    const struct plumb_completion c = {
        .sample = o->sample, .ids = o->ids, .logp = o->logp, .n = o->n, .stop = o->stop};
    plumb_buf_clear(&a->line);
    PLUMB_TRY(plumb_completion_put(&a->line, o->record, r, &c, &o->text));
    return plumb_lines_put(&a->lines, o->prompt * a->e->app->cfg->eval.samples + o->sample,
                           plumb_buf_text(&a->line), a->line.len);
}

static plumb_status take_answer(void *arg, const char *line, int64_t len, int64_t line_no)
{
    struct answering *a = arg;
    struct plumb_rollouts *r = &a->m->answers;
    struct plumb_completion c;
    char where[4200];
    const int64_t answer = answer_of(a, line_no - 1);
    if (answer < 0)
        return PLUMB_OK;
    struct plumb_rollout *o = &r->at[answer];
    snprintf(where, sizeof(where), "%s:%lld", a->path, (long long)line_no);
    PLUMB_TRY(plumb_completion_read(&c, o->ids, o->logp, r->max_new_tokens, line, len, where));
    PLUMB_REQUIRE(c.sample == o->sample, PLUMB_ERR_FORMAT, "%s: sample is %d, expected %d", where,
                  (int)c.sample, (int)o->sample);
    return plumb_rollouts_put(r, a->src, plumb_rollouts_local_prompt(r, answer), &c);
}

static plumb_status tick(void *arg)
{
    struct answering *a = arg;
    struct plumb_generator_count count;
    plumb_generator_count(a->src->generator, &count);
    a->lines.tokens = count.tokens;
    a->lines.running = count.running;
    return plumb_lines_tick(&a->lines);
}

plumb_status plumb_eval_answer(const struct plumb_eval *e, struct plumb_eval_model *m,
                               struct plumb_rollout_source *src)
{
    struct answering a = {.e = e, .m = m, .src = src};
    src->options.pause = tick;
    src->options.pause_arg = &a;
    src->finished = keep_answer;
    src->finished_arg = &a;
    plumb_status st = begin(&a, "answers", take_answer);
    if (st == PLUMB_OK)
        st = plumb_rollouts_generate(&m->answers, src);
    if (a.lines.app)
        st = plumb_lines_end(&a.lines, st);
    plumb_buf_fini(&a.line);
    return st;
}

/* ---- scores --------------------------------------------------------------------------------- */

static plumb_status take_score(void *arg, const char *line, int64_t len, int64_t line_no)
{
    struct answering *a = arg;
    plumb_json *v = NULL;
    char where[4200];
    const int64_t answer = answer_of(a, line_no - 1);
    if (answer < 0)
        return PLUMB_OK;
    snprintf(where, sizeof(where), "%s:%lld", a->path, (long long)line_no);
    PLUMB_TRY(plumb_json_parse(&v, line, len, where));
    a->m->scores.reward[answer] = plumb_json_real(plumb_json_get(v, "score"), NAN);
    a->m->scores.scored[answer] = true;
    plumb_json_free(&v);
    return PLUMB_OK;
}

/* Writes a line for each answer that has been scored since the last call, in the order of the
 * answers. Stops at the first answer that is not scored yet. */
static plumb_status keep_scores(struct answering *a)
{
    const struct plumb_rollouts *r = &a->m->answers;
    const int64_t samples = a->e->app->cfg->eval.samples;
    for (; a->kept < plumb_rollouts_n(r) && a->m->scores.scored[a->kept]; a->kept++) {
        const struct plumb_rollout *o = &r->at[a->kept];
        const int64_t number = o->prompt * samples + o->sample;
        if (number < a->lines.first)
            continue;
        plumb_buf_clear(&a->line);
        PLUMB_TRY(plumb_buf_add_text(&a->line, "{\"score\":"));
        /* writes null if the reward is missing */
        PLUMB_TRY(plumb_json_put_real(&a->line, a->m->scores.reward[a->kept]));
        PLUMB_TRY(plumb_buf_add_text(&a->line, "}\n"));
        PLUMB_TRY(plumb_lines_put(&a->lines, number, plumb_buf_text(&a->line), a->line.len));
    }
    return PLUMB_OK;
}

static plumb_status score_tick(void *arg)
{
    struct answering *a = arg;
    const plumb_status st = keep_scores(a);
    if (a->lines.local == PLUMB_OK)
        a->lines.local = st;
    return plumb_lines_tick(&a->lines);
}

plumb_status plumb_eval_score(const struct plumb_eval *e, struct plumb_eval_model *m,
                              const struct plumb_dataset *data)
{
    struct answering a = {.e = e, .m = m};
    if (!e->rewards)
        return PLUMB_OK;
    plumb_status st = begin(&a, "scores", take_score);
    if (st == PLUMB_OK)
        st = plumb_scores_compute(&m->scores, &m->answers, data, e->rewards, score_tick, &a);
    if (st == PLUMB_OK)
        st = keep_scores(&a);
    if (a.lines.app)
        st = plumb_lines_end(&a.lines, st);
    plumb_buf_fini(&a.line);
    if (st == PLUMB_OK && *plumb_rewards_fault(e->rewards))
        plumb_log(PLUMB_LOG_WARN, "%s: no reward: %s", m->name, plumb_rewards_fault(e->rewards));
    return st;
}

plumb_status plumb_eval_open_prompts(const struct plumb_eval *e, struct plumb_dataset **out,
                                     const char *dir, const plumb_tokenizer *tokenizer,
                                     int64_t max_pos)
{
    const struct plumb_config *cfg = e->app->cfg;
    struct plumb_chat_setting chat;
    PLUMB_TRY(plumb_file_check_input(cfg->data.eval, "data.eval"));
    PLUMB_TRY(plumb_chat_open(&chat, cfg, dir, dir));
    const struct plumb_data_options options = {
        .kind = PLUMB_DATA_PROMPTS,
        .references = true,
        .append_eos = tokenizer && plumb_tokenizer_eos(tokenizer) >= 0,
        .tokenizer = tokenizer,
        .prompt_template = cfg->data.prompt_template,
        .chat = &chat,
        .overlong = (enum plumb_overlong)cfg->data.overlong,
        .max_prompt_tokens = max_pos > 0
                                 ? plumb_at_most(cfg->data.max_prompt_tokens,
                                                 plumb_at_most(cfg->data.max_tokens, max_pos) - 1)
                                 : 0,
        .max_tokens = max_pos > 0 ? plumb_at_most(cfg->data.max_tokens, max_pos) : 0,
        .limit = cfg->data.limit,
        .whole = true,
    };
    const plumb_status st = plumb_dataset_open(out, cfg->data.eval, &options);
    plumb_chat_close(&chat);
    return st;
}
