/* rollouts.c - samples completions of plain and principled prompts.
 * Layer 5. Includes stage/rollouts.h, base/. */
#include "stage/rollouts.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "data/encode.h"

plumb_status plumb_rollouts_init(struct plumb_rollouts *r, int64_t max_prompts, int64_t group_size,
                                 int64_t max_new_tokens)
{
    const size_t n = (size_t)(max_prompts * group_size), tokens = n * (size_t)max_new_tokens;
    *r = (struct plumb_rollouts){
        .max_prompts = max_prompts, .group_size = group_size, .max_new_tokens = max_new_tokens};
    r->at = calloc(n + 1, sizeof(*r->at));
    r->request = calloc(n + 1, sizeof(*r->request));
    r->owner = calloc(n + 1, sizeof(*r->owner));
    r->ids = calloc(tokens + 1, sizeof(*r->ids));
    r->logp = calloc(2 * tokens + 1, sizeof(*r->logp));
    if (!r->at || !r->request || !r->owner || !r->ids || !r->logp) {
        plumb_rollouts_fini(r);
        PLUMB_FAIL(PLUMB_ERR_NOMEM,
                   "cannot store rollouts of %lld prompts x %lld completions x %lld tokens",
                   (long long)max_prompts, (long long)group_size, (long long)max_new_tokens);
    }
    for (size_t i = 0; i < n; i++) {
        r->at[i].ids = r->ids + i * (size_t)max_new_tokens;
        r->at[i].logp = r->logp + 2 * i * (size_t)max_new_tokens;
        r->at[i].logp_sampled = r->at[i].logp + max_new_tokens;
    }
    return PLUMB_OK;
}

void plumb_rollouts_fini(struct plumb_rollouts *r)
{
    if (r->at)
        for (int64_t i = 0; i < r->max_prompts * r->group_size; i++)
            plumb_buf_fini(&r->at[i].text);
    free(r->at);
    free(r->request);
    free(r->owner);
    free(r->ids);
    free(r->logp);
    *r = (struct plumb_rollouts){0};
}

int64_t plumb_rollouts_bytes(const struct plumb_rollouts *r)
{
    const size_t n = (size_t)(r->max_prompts * r->group_size);
    return (int64_t)(n * (sizeof(*r->at) + sizeof(*r->request) + sizeof(*r->owner) +
                          (size_t)r->max_new_tokens * (sizeof(*r->ids) + 2 * sizeof(*r->logp))));
}

struct plumb_generator_need plumb_generator_need_of(const struct plumb_config *cfg, int64_t slots,
                                                    int64_t max_tokens,
                                                    const plumb_tokenizer *tokenizer)
{
    return (struct plumb_generator_need){.slots = slots,
                                         .max_tokens = max_tokens,
                                         .penalty = cfg->generate.repetition_penalty != 1,
                                         .tokenizer = tokenizer};
}

struct plumb_generate_options plumb_generate_options_of(const struct plumb_config *cfg,
                                                        int64_t iteration)
{
    return (struct plumb_generate_options){
        .sample = {.temperature = (float)cfg->generate.temperature,
                   .top_k = (int32_t)cfg->generate.top_k,
                   /* a double top_p below FLT_MIN could become 0 as a float */
                   .top_p = fmaxf((float)cfg->generate.top_p, FLT_MIN),
                   .min_p = (float)cfg->generate.min_p},
        .repetition_penalty = cfg->generate.repetition_penalty,
        .max_new_tokens = cfg->generate.max_new_tokens,
        .seed = cfg->seed,
        .iteration = (uint32_t)iteration,
        .stop = cfg->generate.stop.item,
        .n_stop = cfg->generate.stop.n,
        .ignore_eos = cfg->generate.ignore_eos,
        .eager = !cfg->generate.graphs,
    };
}

const struct plumb_piece *plumb_rollout_prompt(const struct plumb_rollout *o,
                                               const struct plumb_dataset *data)
{
    const struct plumb_record *rec = &data->record[o->record];
    return o->principled ? &rec->principled : &rec->prompt;
}

plumb_status plumb_rollout_decode(struct plumb_rollout *o, const struct plumb_dataset *data,
                                  const plumb_tokenizer *tokenizer)
{
    const struct plumb_piece *p = plumb_rollout_prompt(o, data);
    plumb_buf_clear(&o->text);
    return plumb_decode_completion(tokenizer, &o->text, p->ids, p->n, o->ids, o->n);
}

/* State of one call of plumb_rollouts_generate. */
struct sink {
    struct plumb_rollouts *r;
    const struct plumb_rollout_source *src;
    struct plumb_progress progress;
    int64_t done;
    int64_t before; /* number of tokens that the generator had sampled before this call */
    struct plumb_supply supply; /* number of requests in r->request; `closed`: no more will come */
};

plumb_status plumb_rollouts_put(struct plumb_rollouts *r, const struct plumb_rollout_source *src,
                                int64_t k, const struct plumb_completion *c)
{
    struct plumb_rollout *o = &r->at[plumb_rollouts_completion(r, k, c->sample)];
    o->n = c->n;
    o->stop = c->stop;
    o->finished = c->stop != PLUMB_STOP_PAUSED;
    memmove(o->ids, c->ids, (size_t)c->n * sizeof(*o->ids));
    memmove(o->logp, c->logp, (size_t)c->n * sizeof(*o->logp));
    memmove(o->logp_sampled, c->logp_sampled, (size_t)c->n * sizeof(*o->logp_sampled));
    if (!o->finished) {
        plumb_buf_clear(&o->text);
        return PLUMB_OK;
    }
    return plumb_rollout_decode(o, src->data, src->tokenizer);
}

static plumb_status keep(void *arg, const struct plumb_completion *c)
{
    struct sink *s = arg;
    const int64_t k = s->r->owner[c->request];
    PLUMB_TRY(plumb_rollouts_put(s->r, s->src, k, c));
    if (c->stop == PLUMB_STOP_PAUSED)
        return PLUMB_OK;
    if (s->src->finished)
        return s->src->finished(s->src->finished_arg, &s->r->at[k * s->r->group_size + c->sample]);
    s->done++;
    return PLUMB_OK;
}

/* Adds a prompt to the local prompts of r. Its completions have no tokens yet. */
static plumb_status add_prompt(struct plumb_rollouts *r, const struct plumb_rollout_source *src,
                               int64_t prompt, int64_t record)
{
    PLUMB_REQUIRE(r->prompts < r->max_prompts, PLUMB_ERR_NOMEM,
                  "another prompt for rollouts that were allocated for %lld",
                  (long long)r->max_prompts);
    const int32_t group = (int32_t)r->group_size, plain = group - (int32_t)src->principled;
    for (int32_t i = 0; i < group; i++) {
        struct plumb_rollout *o = &r->at[plumb_rollouts_completion(r, r->prompts, i)];
        o->prompt = prompt;
        o->record = record;
        o->sample = i;
        o->principled = i >= plain;
        o->finished = o->old = false;
        o->weights = src->model->fingerprint;
        o->n = 0;
        plumb_buf_clear(&o->text);
    }
    r->prompts++;
    return PLUMB_OK;
}

plumb_status plumb_rollouts_begin(struct plumb_rollouts *r, const struct plumb_rollout_source *src,
                                  const int64_t *prompt, const int64_t *record, int64_t n)
{
    PLUMB_REQUIRE(n <= r->max_prompts, PLUMB_ERR_NOMEM,
                  "rollouts of %lld prompts, allocated for %lld", (long long)n,
                  (long long)r->max_prompts);
    r->prompts = 0;
    for (int64_t k = 0; k < n; k++)
        PLUMB_TRY(add_prompt(r, src, prompt[k], record[k]));
    r->principled = src->principled;
    r->weights = src->model->fingerprint;
    return PLUMB_OK;
}

/* Appends requests for the unfinished completions of the local prompts `first` and later to
 * r->request, which already holds n requests. Consecutive completions of the same prompt text
 * without tokens share one request, so the prompt's forward pass runs once. A completion with
 * tokens gets its own request. Returns the new number of requests. */
static int64_t make_requests(struct plumb_rollouts *r, const struct plumb_dataset *data,
                             int64_t first, int64_t n)
{
    const int64_t group = r->group_size, before = n;
    for (int64_t j = first * group; j < r->prompts * group; j++) {
        const int64_t k = r->order ? r->order[j / group] : j / group;
        const struct plumb_rollout *o = &r->at[plumb_rollouts_completion(r, k, j % group)];
        const struct plumb_piece *p = plumb_rollout_prompt(o, data);
        struct plumb_request *last = n > before ? &r->request[n - 1] : NULL;
        if (o->finished)
            continue;
        if (o->n == 0 && last && r->owner[n - 1] == k && last->n_given == 0 &&
            last->ids == p->ids && last->first_sample + last->n_samples == o->sample) {
            last->n_samples++;
            continue;
        }
        r->owner[n] = k;
        r->request[n++] = (struct plumb_request){.ids = p->ids,
                                                 .n = p->n,
                                                 .prompt_id = o->record,
                                                 .first_sample = o->sample,
                                                 .n_samples = 1,
                                                 .given = o->ids,
                                                 .given_logp = o->logp,
                                                 .given_logp_sampled = o->logp_sampled,
                                                 .n_given = o->n};
    }
    return n;
}

/* If a slot is free and all requests have begun, calls src->take and adds the prompt that it
 * returns, if any, to the local prompts and requests. */
static plumb_status take_prompt(struct sink *s, const struct plumb_generator_count *count)
{
    const struct plumb_rollout_source *src = s->src;
    enum plumb_take next = PLUMB_TAKE_NONE;
    int64_t prompt = 0, record = 0;
    if (s->supply.closed || count->free == 0 || count->begun < s->supply.ready)
        return PLUMB_OK;
    PLUMB_TRY(src->take(src->take_arg, count->running == 0, &next, &prompt, &record));
    s->supply.closed = next == PLUMB_TAKE_NONE;
    if (next != PLUMB_TAKE_PROMPT)
        return PLUMB_OK;
    PLUMB_TRY(add_prompt(s->r, src, prompt, record));
    s->progress.total += s->r->group_size;
    s->supply.ready = make_requests(s->r, src->data, s->r->prompts - 1, s->supply.ready);
    return PLUMB_OK;
}

/* Called before every decode step: shows the progress and takes a prompt. Returns PLUMB_STOPPED
 * if a pause is requested, and the failure of src->take if that fails. */
static plumb_status between_steps(void *arg)
{
    struct sink *s = arg;
    const struct plumb_generate_options *o = &s->src->options;
    struct plumb_generator_count c;
    char extra[96];
    plumb_generator_count(s->src->generator, &c);
    if (!s->src->finished && plumb_progress_due(&s->progress)) {
        snprintf(extra, sizeof(extra), "%lld running, %lld tokens", (long long)c.running,
                 (long long)(c.tokens - s->before));
        plumb_progress_at(&s->progress, s->done, extra);
    }
    if (o->pause)
        PLUMB_TRY(o->pause(o->pause_arg));
    return take_prompt(s, &c);
}

plumb_status plumb_rollouts_generate(struct plumb_rollouts *r,
                                     const struct plumb_rollout_source *src)
{
    struct sink sink = {.r = r, .src = src, .supply.closed = !src->take};
    const int64_t n = make_requests(r, src->data, 0, 0);
    int64_t wanted = 0;
    for (int64_t i = 0; i < n; i++)
        wanted += r->request[i].n_samples;
    if (n == 0 && !src->take)
        return PLUMB_OK;
    PLUMB_REQUIRE(r->weights == src->model->fingerprint, PLUMB_ERR_FORMAT,
                  "%lld unfinished completions cannot be continued: weights %016" PRIx64
                  " began them, but the model has the weights %016" PRIx64,
                  (long long)wanted, r->weights, src->model->fingerprint);
    struct plumb_generate_options options = src->options;
    struct plumb_generator_count c;
    plumb_generator_count(src->generator, &c);
    sink.before = c.tokens;
    if (!src->finished)
        plumb_progress_start(&sink.progress, src->what ? src->what : "generate", "completions",
                             wanted);
    sink.supply.ready = n;
    options.supply = &sink.supply;
    options.pause = between_steps;
    options.pause_arg = &sink;
    const plumb_status st = plumb_generate(src->generator, src->model, r->request,
                                           r->max_prompts * r->group_size, &options, keep, &sink);
    plumb_progress_end(&sink.progress);
    return st;
}
