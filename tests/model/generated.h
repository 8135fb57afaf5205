/* generated.h - requests with prompts of several lengths, a function that generates their
 * completions, and one that checks that two sets of completions are equal. Test. Includes
 * harness.h, model/. */
#ifndef PLUMB_TESTS_MODEL_GENERATED_H
#define PLUMB_TESTS_MODEL_GENERATED_H

#include <string.h>

#include "harness.h"
#include "model/generate.h"

#define MAX_OUT 64
#define MAX_LEN 128

/* Completions in the order in which they finished. find() returns one by its request and sample. */
struct outcome {
    int64_t n;
    struct {
        int64_t request, n;
        int32_t sample, ids[MAX_LEN];
        float logp[MAX_LEN], logp_sampled[MAX_LEN];
        enum plumb_stop stop;
    } c[MAX_OUT];
};

static inline plumb_status keep(void *arg, const struct plumb_completion *c)
{
    struct outcome *o = arg;
    CHECK(o->n < MAX_OUT && c->n >= 1 && c->n <= MAX_LEN);
    const int64_t i = o->n++;
    o->c[i].request = c->request;
    o->c[i].sample = c->sample;
    o->c[i].n = c->n;
    o->c[i].stop = c->stop;
    memcpy(o->c[i].ids, c->ids, (size_t)c->n * sizeof *c->ids);
    memcpy(o->c[i].logp, c->logp, (size_t)c->n * sizeof *c->logp);
    memcpy(o->c[i].logp_sampled, c->logp_sampled, (size_t)c->n * sizeof *c->logp_sampled);
    return PLUMB_OK;
}

static inline int64_t find(const struct outcome *o, int64_t request, int32_t sample)
{
    int64_t at = -1;
    for (int64_t i = 0; i < o->n; i++)
        if (o->c[i].request == request && o->c[i].sample == sample) {
            CHECKF(at < 0, "request %lld, sample %d came twice", (long long)request, sample);
            at = i;
        }
    CHECKF(at >= 0, "request %lld, sample %d is missing", (long long)request, sample);
    return at;
}

/* Lengths of the prompts, and numbers of samples. The sample numbers of the last request begin at 5
 * instead of 0. One request has no samples. */
#define N_REQUEST 7
static const int64_t length[N_REQUEST] = {1, 7, 32, 33, 5, 64, 40};
static const int32_t samples[N_REQUEST] = {3, 1, 4, 2, 0, 3, 2};
static int32_t prompt[N_REQUEST][MAX_LEN];
static struct plumb_request request[N_REQUEST];

static inline void make_requests(int64_t v)
{
    struct rng r = {77};
    for (int64_t i = 0; i < N_REQUEST; i++) {
        for (int64_t j = 0; j < length[i]; j++)
            prompt[i][j] = (int32_t)(rng_u(&r) * (double)v);
        request[i] = (struct plumb_request){.ids = prompt[i],
                                            .n = length[i],
                                            .prompt_id = 100 + i,
                                            .first_sample = i == 6 ? 5 : 0,
                                            .n_samples = samples[i]};
    }
}

static inline struct plumb_generate_options options(void)
{
    return (struct plumb_generate_options){.sample = {.temperature = 1.2f, .top_p = 0.97f},
                                           .max_new_tokens = 37,
                                           .seed = 5,
                                           .iteration = 3};
}

static inline void generate(struct outcome *out, const plumb_model *m, int64_t slots,
                            int64_t max_tokens, const struct plumb_request *q, int64_t n,
                            const struct plumb_generate_options *o)
{
    plumb_generator *g;
    CHECK_OK(plumb_generator_create(
        &g, m, &(struct plumb_generator_need){.slots = slots, .max_tokens = max_tokens}));
    CHECK(plumb_generator_bytes(g) > 0);
    out->n = 0;
    CHECK_OK(plumb_generate(g, m, q, n, o, keep, out));
    plumb_generator_destroy(&g);
}

static inline void check_same(const struct outcome *a, const struct outcome *b, const char *what)
{
    CHECKF(a->n == b->n, "%s: %lld completions, expected %lld", what, (long long)b->n,
           (long long)a->n);
    for (int64_t i = 0; i < a->n; i++) {
        const int64_t j = find(b, a->c[i].request, a->c[i].sample);
        const size_t n = (size_t)a->c[i].n;
        CHECKF(a->c[i].n == b->c[j].n && a->c[i].stop == b->c[j].stop &&
                   !memcmp(a->c[i].ids, b->c[j].ids, n * 4) &&
                   !memcmp(a->c[i].logp, b->c[j].logp, n * 4) &&
                   !memcmp(a->c[i].logp_sampled, b->c[j].logp_sampled, n * 4),
               "%s: request %lld, sample %d differs", what, (long long)a->c[i].request,
               a->c[i].sample);
    }
}

static struct outcome base, other;

/* Sets dir to the path of the model fixture `name`. */
static inline void fixture(char dir[600], const char *name)
{
    const char *root = getenv("PLUMB_SOURCE_ROOT");
    snprintf(dir, 600, "%s/tests/fixtures/model/%s", root ? root : ".", name);
}

#endif
