/* test_generate.c - checks that the tokens generated for a request do not depend on slots, order,
 * threads or other requests; that their log-probs have the bits of the training forward; and that
 * only tokens allowed by top_k, top_p and min_p are drawn.
 * Test. Includes harness.h, base/, model/. Covers src/model/generate.c, prefill.c, kv.c. */
#include "model/generate.h"

#include "base/rng.h"
#include "generated.h"

/* Checks that the stored log-probs are those of a training batch of all sequences. */
static void check_logprob(const struct outcome *o, const plumb_model *m, const char *what)
{
    static int32_t ids[MAX_OUT * MAX_LEN];
    static float logp[MAX_OUT * MAX_LEN];
    int64_t offset[MAX_OUT + 1] = {0}, tokens[MAX_OUT], k = 0;
    plumb_pass *p;
    for (int64_t i = 0; i < o->n; i++) {
        const struct plumb_request *q = &request[o->c[i].request];
        memcpy(ids + offset[i], q->ids, (size_t)q->n * 4);
        memcpy(ids + offset[i] + q->n, o->c[i].ids, (size_t)o->c[i].n * 4);
        offset[i + 1] = offset[i] + q->n + o->c[i].n;
        tokens[i] = q->n;
    }
    const struct plumb_batch b = {o->n, ids, offset, tokens};
    const struct plumb_pass_limit limit = {
        .max_tokens = offset[o->n], .max_seq = o->n, .max_targets = offset[o->n], .head_rows = 50};
    CHECK_OK(plumb_pass_create(&p, m, &limit));
    CHECK_OK(plumb_pass_logprob(p, m, &b, logp));
    for (int64_t i = 0; i < o->n; i++)
        for (int64_t j = 0; j < o->c[i].n; j++, k++)
            CHECKF(logp[k] == o->c[i].logp[j],
                   "%s: request %lld, sample %d, token %lld: training %a, sampling %a", what,
                   (long long)o->c[i].request, o->c[i].sample, (long long)j, logp[k],
                   o->c[i].logp[j]);
    CHECK(k == plumb_batch_targets(&b));
    plumb_pass_destroy(&p);
}

static void check_invariance(const char *dir, int threads)
{
    struct plumb_backend *b;
    plumb_model *m;
    const struct plumb_generate_options o = options();
    static const int64_t slots[] = {1, 2, 5, 16};
    char what[700];
    CHECK_OK(plumb_backend_cpu_create(&b, threads, 1));
    CHECK_OK(plumb_model_open(&m, b, dir));
    make_requests(m->spec.v);
    if (threads == 1)
        generate(&base, m, 3, MAX_LEN, request, N_REQUEST, &o);
    CHECK(base.n == 15);
    check_logprob(&base, m, dir);
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++) {
        snprintf(what, sizeof what, "%s, %lld slots, %d threads", dir, (long long)slots[i],
                 threads);
        generate(&other, m, slots[i], MAX_LEN, request, N_REQUEST, &o);
        check_same(&base, &other, what);
    }
    struct plumb_request turned[N_REQUEST];
    for (int64_t i = 0; i < N_REQUEST; i++)
        turned[i] = request[N_REQUEST - 1 - i];
    generate(&other, m, 4, MAX_LEN, turned, N_REQUEST, &o);
    for (int64_t i = 0; i < other.n; i++)
        other.c[i].request = N_REQUEST - 1 - other.c[i].request;
    check_same(&base, &other, "requests the other way round");
    /* Every sample becomes a request of its own, so that no two samples share the computation of a
     * prompt. */
    struct plumb_request single[MAX_OUT];
    int64_t from[MAX_OUT], n = 0;
    for (int64_t i = 0; i < N_REQUEST; i++)
        for (int32_t k = 0; k < request[i].n_samples; k++, n++) {
            single[n] = request[i];
            single[n].first_sample += k;
            single[n].n_samples = 1;
            from[n] = i;
        }
    generate(&other, m, 6, MAX_LEN, single, n, &o);
    for (int64_t i = 0; i < other.n; i++)
        other.c[i].request = from[other.c[i].request];
    check_same(&base, &other, "nothing shared");
    plumb_model_destroy(&m);
    plumb_backend_destroy(&b);
}

/* A supply of `last` requests that become available one by one: the next one at the third call of
 * open_gate() while nothing is running. */
struct gate {
    const plumb_generator *g;
    struct plumb_supply supply;
    int64_t asked, last;
};

static plumb_status open_gate(void *arg)
{
    struct gate *x = arg;
    struct plumb_generator_count c;
    plumb_generator_count(x->g, &c);
    CHECK(c.begun == x->supply.ready && c.free == 16 - c.running);
    x->supply.closed = c.running == 0 && c.begun == x->last;
    if (c.running == 0 && c.begun < x->last && x->asked++ % 3 == 2)
        x->supply.ready++;
    return PLUMB_OK;
}

static void check_ready(const plumb_model *m)
{
    struct gate x = {.last = N_REQUEST};
    struct plumb_generate_options o = options();
    struct plumb_generator_count c;
    plumb_generator *g;
    int64_t tokens = 0, longest[N_REQUEST] = {0}, steps = 0;
    make_requests(m->spec.v);
    generate(&base, m, 16, MAX_LEN, request, N_REQUEST, &o);
    for (int64_t i = 0; i < base.n; i++) {
        int64_t *most = &longest[base.c[i].request];
        tokens += base.c[i].n;
        *most = base.c[i].n > *most ? base.c[i].n : *most;
    }
    for (int64_t i = 0; i < N_REQUEST; i++)
        steps += longest[i];
    CHECK_OK(plumb_generator_create(
        &g, m, &(struct plumb_generator_need){.slots = 16, .max_tokens = MAX_LEN}));
    x.g = g;
    o.supply = &x.supply;
    o.pause = open_gate;
    o.pause_arg = &x;
    other.n = 0;
    CHECK_OK(plumb_generate(g, m, request, N_REQUEST, &o, keep, &other));
    check_same(&base, &other, "one request at a time");
    for (int64_t i = 1; i < other.n; i++)
        CHECK(other.c[i].request >= other.c[i - 1].request);
    plumb_generator_count(g, &c);
    CHECKF(c.tokens == tokens && c.steps == steps && c.running == 0, "%lld tokens, %lld steps",
           (long long)c.tokens, (long long)c.steps);

    /* The supply ends early, so the requests after its end are never read. */
    struct plumb_request few[N_REQUEST] = {request[0], request[1]};
    x = (struct gate){.g = g, .last = 2};
    other.n = 0;
    CHECK_OK(plumb_generate(g, m, few, N_REQUEST, &o, keep, &other));
    CHECK(x.supply.closed && other.n == request[0].n_samples + request[1].n_samples);
    /* An invalid request is detected when it becomes available. */
    few[2].ids = request[0].ids;
    x = (struct gate){.g = g, .last = 3};
    other.n = 0;
    CHECK(plumb_generate(g, m, few, N_REQUEST, &o, keep, &other) == PLUMB_ERR_ARG);
    CHECK(x.supply.ready == 3 && other.n == request[0].n_samples + request[1].n_samples);
    plumb_generator_destroy(&g);
}

/* Checks 12 prompts of 100 tokens, which have more rows than one step can take: generated together,
 * and with one slot, in which they come one by one. */
static void check_chunks(const plumb_model *m)
{
    struct plumb_request q[12];
    static int32_t ids[12][100];
    struct rng r = {3};
    struct plumb_generate_options o = options();
    o.max_new_tokens = 9;
    for (int64_t i = 0; i < 12; i++) {
        for (int64_t j = 0; j < 100; j++)
            ids[i][j] = (int32_t)(rng_u(&r) * (double)m->spec.v);
        q[i] = (struct plumb_request){.ids = ids[i], .n = 100, .prompt_id = i, .n_samples = 2};
    }
    generate(&base, m, 1, MAX_LEN, q, 12, &o);
    generate(&other, m, 24, MAX_LEN, q, 12, &o);
    check_same(&base, &other, "prompts in pieces");
}

/* Checks every drawn token against top_k, top_p, min_p and temperature, with the row of logits from
 * which it was drawn. */
static void check_limits(const plumb_model *m)
{
    static const struct plumb_sample_param p[] = {
        {.temperature = 0.9f, .top_k = 3, .top_p = 1},
        {.temperature = 1, .top_p = 0.5f},
        {.temperature = 1.5f, .top_p = 1, .min_p = 0.2f},
        {.temperature = 0.7f, .top_p = 1},
        {.temperature = 0, .top_p = 1},
    };
    const int64_t v = m->spec.v;
    float *logits = malloc((size_t)(MAX_LEN * v) * sizeof *logits);
    CHECK(logits);
    for (size_t t = 0; t < sizeof p / sizeof *p; t++) {
        struct plumb_generate_options o = options();
        o.sample = p[t];
        o.ignore_eos = true;
        generate(&base, m, 2, MAX_LEN, request + 1, 2, &o);
        int32_t ids[MAX_LEN];
        const int64_t start = request[1].n, offset[] = {0, start + base.c[0].n};
        const struct plumb_batch b = {1, ids, offset, &start};
        const struct plumb_pass_limit limit = {
            .max_tokens = MAX_LEN, .max_seq = 1, .max_targets = 3};
        const int64_t first = find(&base, 0, 0);
        plumb_pass *pass;
        memcpy(ids, request[1].ids, (size_t)start * 4);
        memcpy(ids + start, base.c[first].ids, (size_t)base.c[first].n * 4);
        CHECK_OK(plumb_pass_create(&pass, m, &limit));
        /* the batch has more targets than max_targets */
        CHECK(plumb_pass_logprob(pass, m, &b, logits) == PLUMB_ERR_SHAPE);
        plumb_pass_destroy(&pass);
        const struct plumb_pass_limit more = {.max_tokens = MAX_LEN, .max_seq = 1};
        CHECK_OK(plumb_pass_create(&pass, m, &more));
        CHECK_OK(plumb_pass_logits(pass, m, &b, logits));
        for (int64_t i = 0; i < base.c[first].n; i++) {
            const float *z = logits + (start - 1 + i) * v;
            const double heat = p[t].temperature > 0 ? p[t].temperature : 1;
            const int32_t id = ids[start + i];
            double above = 0, all = 0, top = z[0];
            int64_t better = 0;
            for (int64_t j = 0; j < v; j++)
                top = fmax(top, z[j]);
            for (int64_t j = 0; j < v; j++) {
                all += exp((z[j] - top) / heat);
                above += z[j] > z[id] ? exp((z[j] - top) / heat) : 0;
                better += z[j] > z[id];
            }
            CHECK(p[t].temperature > 0 || (better == 0 && base.c[first].logp_sampled[i] == 0));
            CHECK(p[t].top_k == 0 || better < p[t].top_k);
            CHECK(above / all < p[t].top_p + 1e-6);
            CHECK(exp((z[id] - top) / heat) > p[t].min_p - 1e-6);
            if (t == 3) {
                CHECK(fabs((z[id] - top) / heat - log(all) - base.c[first].logp_sampled[i]) < 1e-5);
                /* The random number of the draw must be that of its key: seed, iteration, prompt,
                 * sample and position. */
                const struct plumb_rng_key key = {.seed = o.seed,
                                                  .purpose = PLUMB_RNG_SAMPLE,
                                                  .iteration = o.iteration,
                                                  .prompt = 101,
                                                  .position = (uint32_t)i};
                const double u = plumb_rng_uniform(&key);
                double below = 0;
                for (int64_t j = 0; j < id; j++)
                    below += exp((z[j] - top) / heat) / all;
                CHECKF(u > below - 1e-5 && u < below + exp((z[id] - top) / heat) / all + 1e-5,
                       "token %lld was drawn by another number than %g", (long long)i, u);
            }
        }
        plumb_pass_destroy(&pass);
    }
    free(logits);
}

static void check_refusals(plumb_model *m)
{
    plumb_generator *g;
    struct plumb_generate_options o = options();
    CHECK_OK(plumb_generator_create(&g, m,
                                    &(struct plumb_generator_need){.slots = 2, .max_tokens = 33}));
    base.n = 0;
    CHECK(plumb_generate(g, m, request, N_REQUEST, &o, keep, &base) == PLUMB_ERR_ARG);
    CHECKF(base.n == 0 && strstr(plumb_trail(), "prompt 103 has 33 tokens"), "%s", plumb_trail());
    const int32_t bad = (int32_t)m->spec.v;
    struct plumb_request q = {.ids = &bad, .n = 1, .prompt_id = 42, .n_samples = 1};
    CHECK(plumb_generate(g, m, &q, 1, &o, keep, &base) == PLUMB_ERR_ARG);
    CHECKF(strstr(plumb_trail(), "prompt 42, token 0"), "%s", plumb_trail());
    q.ids = prompt[0];
    q.n = 0;
    CHECK(plumb_generate(g, m, &q, 1, &o, keep, &base) == PLUMB_ERR_ARG);
    static const char *const stop[] = {"x"};
    o.stop = stop;
    o.n_stop = 1;
    CHECK(plumb_generate(g, m, request, 1, &o, keep, &base) == PLUMB_ERR_ARG);
    o = options();
    o.max_new_tokens = 0;
    CHECK(plumb_generate(g, m, request, 1, &o, keep, &base) == PLUMB_ERR_ARG);
    /* With a weight that is NaN, generation fails at the first token. Afterwards the generator can
     * still be used. */
    o = options();
    const struct plumb_param *norm = plumb_model_find(m, "model.norm.weight");
    CHECK(norm);
    const float saved = m->w[norm->offset];
    const uint64_t print = m->fingerprint;
    m->w[norm->offset] = NAN;
    CHECK_OK(plumb_model_refresh(m));
    CHECK(m->fingerprint != print);
    CHECK(plumb_generate(g, m, request, 1, &o, keep, &base) == PLUMB_ERR_NUMERIC);
    CHECKF(strstr(plumb_trail(), "prompt 100, sample 0, token 0"), "%s", plumb_trail());
    m->w[norm->offset] = saved;
    CHECK_OK(plumb_model_refresh(m));
    CHECK(m->fingerprint == print && base.n == 0);
    CHECK_OK(plumb_generate(g, m, request, 3, &o, keep, &base));
    CHECK(base.n == 8);
    plumb_generator_destroy(&g);
}

int main(void)
{
    static const char *const name[] = {"llama_odd_untied", "mistral_window", "qwen3_norm",
                                       "qwen2_bias"};
    char dir[600];
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) {
        fixture(dir, name[i]);
        check_invariance(dir, 1);
        check_invariance(dir, 2);
    }
    struct plumb_backend *b;
    plumb_model *m;
    plumb_generator *g;
    CHECK_OK(plumb_backend_cpu_create(&b, 1, 1));
    CHECK_OK(plumb_model_open(&m, b, dir));
    check_ready(m);
    check_chunks(m);
    check_limits(m);
    check_refusals(m);
    plumb_model_destroy(&m);
    fixture(dir, "llama_score1");
    CHECK_OK(plumb_model_open(&m, b, dir));
    CHECK(plumb_generator_create(&g, m,
                                 &(struct plumb_generator_need){.slots = 2, .max_tokens = 33}) ==
          PLUMB_ERR_ARG);
    plumb_model_destroy(&m);
    plumb_backend_destroy(&b);
    return 0;
}
