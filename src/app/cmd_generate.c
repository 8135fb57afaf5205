/* cmd_generate.c - generates completions of given prompts.
 * Layer 6. May include everything. */
#include <math.h>
#include <stdlib.h>

#include "app/completion.h"
#include "app/session.h"
#include "base/log.h"
#include "base/num.h"
#include "data/encode.h"
#include "data/length.h"
#include "stage/rollouts.h"

/* Largest number of finished sequences per slot of the generator that may wait in memory for an
 * earlier sequence, because the output is written in input order. */
enum { WINDOW = 64 };

struct generate {
    struct plumb_session s;
    struct plumb_lines lines; /* the line number is prompt * group_size + sample */
    plumb_generator *generator;
    struct plumb_request *request; /* (n,) the prompts of this rank: each world_size-th prompt */
    int64_t n;
    /* supply.ready is the number of this rank's prompts that may begin now */
    struct plumb_supply supply;
    struct plumb_buf line, text;
};

static plumb_status put_completion(void *arg, const struct plumb_completion *c)
{
    struct generate *g = arg;
    const struct plumb_request *q = &g->request[c->request];
    const int64_t group = g->s.app->cfg->generate.group_size;
    struct plumb_buf *out = &g->line, *text = &g->text;
    if (c->stop == PLUMB_STOP_PAUSED)
        /* the command is stopping: discard the incomplete completion, because a resumed command
         * generates the same tokens again */
        return PLUMB_OK;
    plumb_buf_clear(out);
    plumb_buf_clear(text);
    if (g->s.tokenizer)
        PLUMB_TRY(plumb_decode_completion(g->s.tokenizer, text, q->ids, q->n, c->ids, c->n));
    PLUMB_TRY(plumb_completion_put(out, q->prompt_id, &g->s.data->record[q->prompt_id], c, text));
    return plumb_lines_put(&g->lines, q->prompt_id * group + c->sample, plumb_buf_text(out),
                           out->len);
}

/* Called between two decode steps. Exchanges lines with the other ranks if a meeting is due
 * (app/lines.h), updates the progress, and lets more prompts begin, up to plumb_lines_limit. Fails
 * if the rank must stop. */
static plumb_status tick(void *arg)
{
    struct generate *g = arg;
    const int64_t group = g->s.app->cfg->generate.group_size, before = g->supply.ready;
    struct plumb_generator_count count;
    plumb_generator_count(g->generator, &count);
    g->lines.tokens = count.tokens;
    g->lines.running = count.running;
    PLUMB_TRY(plumb_lines_tick(&g->lines));
    const int64_t limit = plumb_lines_limit(&g->lines);
    while (g->supply.ready < g->n && g->request[g->supply.ready].prompt_id * group < limit)
        g->supply.ready++;
    if (count.running == 0 && g->supply.ready == before)
        plumb_lines_idle(&g->lines);
    return PLUMB_OK;
}

/* Assigns the prompts whose completions are not in the output yet to the ranks in turn. Then all
 * ranks work on the same part of the input, and few finished lines must wait for earlier ones. */
static plumb_status deal(struct generate *g)
{
    const int64_t group = g->s.app->cfg->generate.group_size, first = g->lines.first;
    const int64_t world = plumb_comm_size(g->s.app->comm), rank = plumb_comm_rank(g->s.app->comm);
    g->request = calloc((size_t)(g->s.data->n / world + 1), sizeof(*g->request));
    PLUMB_REQUIRE(g->request, PLUMB_ERR_NOMEM, "%lld prompts", (long long)g->s.data->n);
    for (int64_t p = first / group + rank; p < g->s.data->n; p += world) {
        const struct plumb_record *r = &g->s.data->record[p];
        const int64_t sample = plumb_max_i64(first - p * group, 0);
        g->request[g->n++] = (struct plumb_request){.ids = r->prompt.ids,
                                                    .n = r->prompt.n,
                                                    .prompt_id = p,
                                                    .first_sample = (int32_t)sample,
                                                    .n_samples = (int32_t)(group - sample)};
    }
    return PLUMB_OK;
}

static plumb_status generate(struct generate *g)
{
    const struct plumb_config *cfg = g->s.app->cfg;
    struct plumb_generate_options options = plumb_generate_options_of(cfg, 0);
    PLUMB_TRY(deal(g));
    const int64_t slots =
        plumb_min_i64(cfg->generate.slots, plumb_max_i64(g->n, 1) * cfg->generate.group_size);
    const int64_t longest = plumb_length_generated(cfg, g->s.longest, g->s.model->spec.max_pos);
    const struct plumb_generator_need need =
        plumb_generator_need_of(cfg, slots, longest, g->s.tokenizer);
    PLUMB_TRY(plumb_generator_create(&g->generator, g->s.model, &need));
    options.pause = tick;
    options.pause_arg = g;
    options.supply = &g->supply;
    return plumb_generate(g->generator, g->s.model, g->request, g->n, &options, put_completion, g);
}

/* Logs the numbers of completions, tokens and steps of all ranks, and the speed. A step is one
 * forward pass. On a GPU, some passes only process prompts and sample no token. Collective. */
static plumb_status say_counts(const struct generate *g)
{
    struct plumb_generator_count c;
    const double spent = plumb_now() - g->lines.progress.started;
    plumb_generator_count(g->generator, &c);
    double sum[2] = {(double)c.tokens, (double)c.steps};
    PLUMB_TRY(plumb_comm_allreduce_f64(g->s.app->comm, sum, 2, PLUMB_SUM));
    plumb_log(PLUMB_LOG_INFO,
              "generate: %lld completion%s, %.0f token%s in %.1f s, %.1f tokens/s; on average "
              "%.1f tokens per decode step (%.0f steps of all ranks, %lld slots per rank)",
              (long long)(g->lines.n - g->lines.first), plumb_plural(g->lines.n - g->lines.first),
              sum[0], sum[0] == 1 ? "" : "s", spent, sum[0] / fmax(spent, 1e-9),
              sum[0] / fmax(sum[1], 1), sum[1], (long long)g->s.app->cfg->generate.slots);
    return PLUMB_OK;
}

plumb_status plumb_cmd_generate(struct plumb_app *app)
{
    struct generate g = {0};
    const int64_t group = app->cfg->generate.group_size;
    plumb_status st = plumb_session_open(&g.s, app, PLUMB_SESSION_CAUSAL, PLUMB_DATA_PROMPTS,
                                         app->cfg->data.prompts);
    if (st == PLUMB_OK) {
        plumb_note_generation(app, app->cfg->model);
        const struct plumb_lines_want want = {.what = "generate",
                                              .unit = "sequences",
                                              .path = app->cfg->output,
                                              .kind = PLUMB_OUTPUT_LINES,
                                              .n = g.s.data->n * group,
                                              .window = WINDOW * app->cfg->generate.slots *
                                                        plumb_comm_size(app->comm)};
        st = plumb_lines_begin(&g.lines, app, &want);
        if (st == PLUMB_OK)
            st = generate(&g);
        st = plumb_lines_end(&g.lines, st);
    }
    if (st == PLUMB_OK)
        st = say_counts(&g);
    plumb_generator_destroy(&g.generator);
    plumb_buf_fini(&g.line);
    plumb_buf_fini(&g.text);
    free(g.request);
    plumb_session_close(&g.s);
    return st;
}
