/* answers.c - lets the policy answer, plainly and under the principles, and scores the answers.
 * Layer 5. Includes train/answers.h, base/. */
#include "train/answers.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

plumb_status plumb_answers_init(struct plumb_answers *r, int64_t max_prompts, int64_t group_size,
                                int64_t max_new_tokens)
{
    const size_t n = (size_t)(max_prompts * group_size), tokens = n * (size_t)max_new_tokens;
    *r = (struct plumb_answers){
        .max_prompts = max_prompts, .group_size = group_size, .max_new_tokens = max_new_tokens};
    r->at = calloc(n + 1, sizeof(*r->at));
    r->request = calloc(2 * (size_t)max_prompts + 1, sizeof(*r->request));
    r->item = calloc(n + 1, sizeof(*r->item));
    r->score = calloc(n + 1, sizeof(*r->score));
    r->ids = calloc(tokens + 1, sizeof(*r->ids));
    r->logp = calloc(2 * tokens + 1, sizeof(*r->logp));
    if (!r->at || !r->request || !r->item || !r->score || !r->ids || !r->logp) {
        plumb_answers_fini(r);
        PLUMB_FAIL(PLUMB_ERR_NOMEM, "answers: %lld prompts x %lld completions x %lld tokens",
                   (long long)max_prompts, (long long)group_size, (long long)max_new_tokens);
    }
    for (size_t i = 0; i < n; i++) {
        r->at[i].ids = r->ids + i * (size_t)max_new_tokens;
        r->at[i].logp = r->logp + 2 * i * (size_t)max_new_tokens;
        r->at[i].logp_sampled = r->at[i].logp + max_new_tokens;
    }
    return PLUMB_OK;
}

void plumb_answers_fini(struct plumb_answers *r)
{
    if (r->at)
        for (int64_t i = 0; i < r->max_prompts * r->group_size; i++)
            plumb_buf_fini(&r->at[i].text);
    free(r->at);
    free(r->request);
    free(r->item);
    free(r->score);
    free(r->ids);
    free(r->logp);
    *r = (struct plumb_answers){0};
}

struct plumb_generate_options plumb_generate_options_of(const struct plumb_config *cfg,
                                                        int64_t iteration)
{
    return (struct plumb_generate_options){
        .sample = {.temperature = (float)cfg->generate.temperature,
                   .top_k = (int32_t)cfg->generate.top_k,
                   .top_p = (float)cfg->generate.top_p,
                   .min_p = (float)cfg->generate.min_p},
        .max_new_tokens = cfg->generate.max_new_tokens,
        .seed = cfg->seed,
        .iteration = (uint32_t)iteration,
        .stop = cfg->generate.stop.item,
        .n_stop = cfg->generate.stop.n,
        .ignore_eos = cfg->generate.ignore_eos,
    };
}

struct sink {
    struct plumb_answers *r;
    const struct plumb_answer_source *src;
    struct plumb_progress progress;
    int64_t done;
    int per_prompt; /* requests */
};

static plumb_status keep(void *arg, const struct plumb_completion *c)
{
    struct sink *s = arg;
    const int64_t k = c->request / s->per_prompt;
    struct plumb_answer *o = &s->r->at[k * s->r->group_size + c->sample];
    o->n = c->n;
    o->stop = c->stop;
    memcpy(o->ids, c->ids, (size_t)c->n * sizeof(*o->ids));
    memcpy(o->logp, c->logp, (size_t)c->n * sizeof(*o->logp));
    memcpy(o->logp_sampled, c->logp_sampled, (size_t)c->n * sizeof(*o->logp_sampled));
    plumb_buf_clear(&o->text);
    plumb_progress_at(&s->progress, ++s->done, NULL);
    return plumb_tokenizer_decode(s->src->tokenizer, &o->text, c->ids, c->n, true);
}

plumb_status plumb_answers_generate(struct plumb_answers *r, const struct plumb_answer_source *src,
                                    const int64_t *slot, const int64_t *record, int64_t prompts)
{
    PLUMB_REQUIRE(prompts <= r->max_prompts, PLUMB_ERR_NOMEM, "%lld prompts, room for %lld",
                  (long long)prompts, (long long)r->max_prompts);
    const int32_t group = (int32_t)r->group_size, plain = src->principled ? group / 2 : group;
    struct sink sink = {.r = r, .src = src, .per_prompt = src->principled ? 2 : 1};
    int64_t n = 0;
    for (int64_t k = 0; k < prompts; k++) {
        const struct plumb_record *rec = &src->data->record[record[k]];
        r->request[n++] = (struct plumb_request){.ids = rec->prompt.ids,
                                                 .n = rec->prompt.n,
                                                 .prompt_id = record[k],
                                                 .first_sample = 0,
                                                 .n_samples = plain};
        if (src->principled)
            r->request[n++] = (struct plumb_request){.ids = rec->principled.ids,
                                                     .n = rec->principled.n,
                                                     .prompt_id = record[k],
                                                     .first_sample = plain,
                                                     .n_samples = group - plain};
        for (int32_t i = 0; i < group; i++) {
            struct plumb_answer *o = &r->at[k * group + i];
            o->slot = slot[k];
            o->record = record[k];
            o->sample = i;
            o->principled = i >= plain;
            o->n = 0;
            o->reward = o->logp_ref = NAN;
        }
    }
    r->prompts = prompts;
    r->weights = src->model->fingerprint;
    plumb_progress_start(&sink.progress, "generate", "completions", prompts * group);
    const plumb_status st =
        plumb_generate(src->generator, src->model, r->request, n, &src->options, keep, &sink);
    plumb_progress_end(&sink.progress);
    return st;
}

plumb_status plumb_answers_score(struct plumb_answers *r, const struct plumb_dataset *data,
                                 plumb_rewards *rewards)
{
    const int64_t n = r->prompts * r->group_size;
    for (int64_t i = 0; i < n; i++) {
        const struct plumb_record *rec = &data->record[r->at[i].record];
        r->item[i] = (struct plumb_reward_item){.prompt = rec->prompt.text,
                                                .prompt_len = rec->prompt.len,
                                                .completion = plumb_buf_text(&r->at[i].text),
                                                .completion_len = r->at[i].text.len,
                                                .tokens = r->at[i].n,
                                                .solution = rec->solution,
                                                .prompt_id = r->at[i].record,
                                                .sample = r->at[i].sample};
    }
    PLUMB_TRY(plumb_rewards_score(rewards, r->item, n, r->score));
    for (int64_t i = 0; i < n; i++)
        r->at[i].reward = r->score[i];
    return PLUMB_OK;
}
