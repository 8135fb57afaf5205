/* cmd_generate.c - completions of given prompts.
 * Layer 6. May include everything. */
#include <stdlib.h>

#include "app/session.h"
#include "base/num.h"
#include "io/json.h"
#include "train/answers.h"

struct generate {
    struct plumb_session s;
    plumb_generator *generator;
    struct plumb_request *request; /* (chunk,) */
    struct plumb_buf *line;        /* (chunk * group_size,) finished completions, by place */
    int64_t chunk, begin;
};

static plumb_status put_ids(struct plumb_buf *out, const char *key, const int32_t *ids, int64_t n)
{
    PLUMB_TRY(plumb_buf_addf(out, ",\"%s\":[", key));
    for (int64_t i = 0; i < n; i++)
        PLUMB_TRY(plumb_buf_addf(out, i ? ",%d" : "%d", (int)ids[i]));
    return plumb_buf_add_text(out, "]");
}

static plumb_status put_completion(void *arg, const struct plumb_completion *c)
{
    struct generate *g = arg;
    const struct plumb_request *q = &g->request[c->request];
    const int64_t group = g->s.app->cfg->generate.group_size;
    struct plumb_buf *out = &g->line[c->request * group + c->sample], text = {0};
    plumb_status st;
    if (g->s.tokenizer)
        PLUMB_TRY_GOTO(st, plumb_tokenizer_decode(g->s.tokenizer, &text, c->ids, c->n, true), done);
    PLUMB_TRY_GOTO(st,
                   plumb_buf_addf(out, "{\"prompt_id\":%lld,\"sample\":%d", (long long)q->prompt_id,
                                  (int)c->sample),
                   done);
    PLUMB_TRY_GOTO(st, put_ids(out, "prompt_ids", q->ids, q->n), done);
    PLUMB_TRY_GOTO(st, put_ids(out, "completion_ids", c->ids, c->n), done);
    PLUMB_TRY_GOTO(st, plumb_buf_add_text(out, ",\"logprobs\":["), done);
    for (int64_t i = 0; i < c->n; i++) {
        if (i)
            PLUMB_TRY_GOTO(st, plumb_buf_add_text(out, ","), done);
        PLUMB_TRY_GOTO(st, plumb_json_put_f32(out, c->logp[i]), done);
    }
    PLUMB_TRY_GOTO(st, plumb_buf_add_text(out, "],\"text\":"), done);
    PLUMB_TRY_GOTO(st, plumb_json_put_string(out, plumb_buf_text(&text), text.len), done);
    PLUMB_TRY_GOTO(st, plumb_buf_addf(out, ",\"stop_reason\":\"%s\"}\n", plumb_stop_name(c->stop)),
                   done);
done:
    plumb_buf_fini(&text);
    return st;
}

static plumb_status generate(void *arg, int64_t begin, int64_t end, struct plumb_buf *out)
{
    struct generate *g = arg;
    const struct plumb_config *cfg = g->s.app->cfg;
    const int64_t group = cfg->generate.group_size, n = end - begin;
    for (int64_t i = 0; i < n; i++) {
        const struct plumb_record *r = &g->s.data->record[begin + i];
        g->request[i] = (struct plumb_request){.ids = r->prompt.ids,
                                               .n = r->prompt.n,
                                               .prompt_id = begin + i,
                                               .n_samples = (int32_t)group};
    }
    const struct plumb_generate_options options = plumb_generate_options_of(cfg, 0);
    PLUMB_TRY(plumb_generate(g->generator, g->s.model, g->request, n, &options, put_completion, g));
    for (int64_t i = 0; i < n * group; i++) {
        PLUMB_TRY(plumb_buf_add(out, plumb_buf_text(&g->line[i]), g->line[i].len));
        plumb_buf_clear(&g->line[i]);
    }
    return PLUMB_OK;
}

static plumb_status prepare(struct generate *g, const struct plumb_config *cfg)
{
    const int64_t max_pos = g->s.model->spec.max_pos;
    g->chunk = plumb_max_i64(4 * cfg->generate.slots / cfg->generate.group_size, 1);
    g->chunk = plumb_min_i64(g->chunk, g->s.data->n);
    g->request = calloc((size_t)g->chunk, sizeof(*g->request));
    g->line = calloc((size_t)(g->chunk * cfg->generate.group_size), sizeof(*g->line));
    PLUMB_REQUIRE(g->request && g->line, PLUMB_ERR_NOMEM, "%lld prompts", (long long)g->chunk);
    const int64_t slots =
        plumb_min_i64(cfg->generate.slots, g->s.data->n * cfg->generate.group_size);
    return plumb_generator_create(
        &g->generator, g->s.model, slots,
        plumb_min_i64(g->s.longest + cfg->generate.max_new_tokens, max_pos), g->s.tokenizer);
}

plumb_status plumb_cmd_generate(struct plumb_app *app)
{
    struct generate g = {0};
    plumb_status st = plumb_session_open(&g.s, app, PLUMB_SESSION_CAUSAL, PLUMB_DATA_PROMPTS,
                                         app->cfg->data.prompts);
    if (st == PLUMB_OK)
        st = plumb_comm_agree(app->comm, prepare(&g, app->cfg));
    if (st == PLUMB_OK)
        st = plumb_lines_run(app, "generate", g.s.data->n, g.chunk, generate, &g);
    plumb_generator_destroy(&g.generator);
    for (int64_t i = 0; g.line && i < g.chunk * app->cfg->generate.group_size; i++)
        plumb_buf_fini(&g.line[i]);
    free(g.line);
    free(g.request);
    plumb_session_close(&g.s);
    return st;
}
