/* test_generate.c - what is generated does not depend on slots, order, threads or company; its
 * log-probs are those of the training forward bit for bit; and every way to stop. */
#include <string.h>
#include <unistd.h>

#include "base/rng.h"
#include "harness.h"
#include "io/file.h"
#include "model/generate.h"

#define MAX_OUT 64
#define MAX_LEN 128

/* Completions by (request, sample). */
struct outcome {
    int64_t n;
    struct {
        int64_t request, n;
        int32_t sample, ids[MAX_LEN];
        float logp[MAX_LEN], logp_sampled[MAX_LEN];
        enum plumb_stop stop;
    } c[MAX_OUT];
};

static plumb_status keep(void *arg, const struct plumb_completion *c)
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

static int64_t find(const struct outcome *o, int64_t request, int32_t sample)
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

/* Prompts of these lengths; the last one's samples do not start at 0, one wants nothing. */
#define N_REQUEST 7
static const int64_t length[N_REQUEST] = {1, 7, 32, 33, 5, 64, 40};
static const int32_t samples[N_REQUEST] = {3, 1, 4, 2, 0, 3, 2};
static int32_t prompt[N_REQUEST][MAX_LEN];
static struct plumb_request request[N_REQUEST];

static void make_requests(int64_t v)
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

static struct plumb_generate_options options(void)
{
    return (struct plumb_generate_options){.sample = {.temperature = 1.2f, .top_p = 0.97f},
                                           .max_new_tokens = 37,
                                           .seed = 5,
                                           .iteration = 3};
}

static void generate(struct outcome *out, const plumb_model *m, int64_t slots, int64_t max_tokens,
                     const struct plumb_request *q, int64_t n,
                     const struct plumb_generate_options *o)
{
    plumb_generator *g;
    CHECK_OK(plumb_generator_create(&g, m, slots, max_tokens, NULL));
    CHECK(plumb_generator_bytes(g) > 0);
    out->n = 0;
    CHECK_OK(plumb_generate(g, m, q, n, o, keep, out));
    plumb_generator_destroy(&g);
}

static void check_same(const struct outcome *a, const struct outcome *b, const char *what)
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

/* Stored log-probs == those of one ragged training batch of everything. */
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

static struct outcome base, other;

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
    /* Every sample as a request of its own: nothing is shared. */
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

/* More prompt rows than a step takes: 12 prompts of 100 tokens at once, then one by one. */
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

/* other = base cut behind the first token that is in `stop`. */
static void check_cut(const int32_t *stop, int64_t n_stop, enum plumb_stop why, int64_t max_new)
{
    int64_t cut = 0;
    CHECK(other.n == base.n);
    for (int64_t i = 0; i < base.n; i++) {
        const int64_t j = find(&other, base.c[i].request, base.c[i].sample);
        int64_t n = 0;
        bool hit = false;
        while (n < base.c[i].n && n < max_new && !hit) {
            for (int64_t k = 0; k < n_stop; k++)
                hit = hit || base.c[i].ids[n] == stop[k];
            n++;
        }
        cut += hit;
        CHECKF(other.c[j].n == n && !memcmp(other.c[j].ids, base.c[i].ids, (size_t)n * 4),
               "completion %lld has %lld tokens, expected %lld", (long long)i,
               (long long)other.c[j].n, (long long)n);
        CHECK(other.c[j].stop == (hit ? why : PLUMB_STOP_LENGTH));
    }
    CHECK(cut > 0 && cut < base.n);
}

static void check_stops(const plumb_model *m)
{
    struct plumb_generate_options o = options();
    o.ignore_eos = true;
    generate(&base, m, 4, MAX_LEN, request, N_REQUEST, &o);
    for (int64_t i = 0; i < base.n; i++)
        CHECK(base.c[i].n == 37 && base.c[i].stop == PLUMB_STOP_LENGTH);
    o.ignore_eos = false;
    CHECK(m->spec.n_eos == 1 && m->spec.eos[0] == 2);
    generate(&other, m, 4, MAX_LEN, request, N_REQUEST, &o);
    check_cut(m->spec.eos, 1, PLUMB_STOP_EOS, 37);
    o.ignore_eos = true;
    const int32_t stop[] = {base.c[0].ids[5], base.c[1].ids[11]};
    o.stop_id = stop;
    o.n_stop_id = 2;
    o.max_new_tokens = 12;
    generate(&other, m, 4, MAX_LEN, request, N_REQUEST, &o);
    check_cut(stop, 2, PLUMB_STOP_ID, 12);
    /* The context ends first. */
    o = options();
    o.ignore_eos = true;
    o.max_new_tokens = 1000;
    generate(&other, m, 4, 70, request, N_REQUEST, &o);
    for (int64_t i = 0; i < other.n; i++)
        CHECK(other.c[i].n == 70 - request[other.c[i].request].n &&
              other.c[i].stop == PLUMB_STOP_LENGTH);
    generate(&other, m, 4, 100000, request, 2, &o);
    for (int64_t i = 0; i < other.n; i++)
        CHECK(other.c[i].n == m->spec.max_pos - request[other.c[i].request].n);
    CHECK(!strcmp(plumb_stop_name(PLUMB_STOP_STRING), "stop_string"));
}

/* ---- pausing -------------------------------------------------------------------------------- */

/* The completions so far, some paused, and the requests that go on from there. */
static struct outcome sofar, held;
static struct plumb_request rest[MAX_OUT];
static int64_t rest_of[MAX_OUT]; /* which of `request` it is */

static bool count_down(void *arg)
{
    return --*(int64_t *)arg < 0;
}

static plumb_status keep_newest(void *arg, const struct plumb_completion *c)
{
    struct outcome *o = arg;
    struct plumb_completion mine = *c;
    int64_t i = 0;
    mine.request = rest_of[c->request];
    while (i < o->n && (o->c[i].request != mine.request || o->c[i].sample != mine.sample))
        i++;
    if (i == o->n)
        return keep(arg, &mine);
    CHECK(o->c[i].stop == PLUMB_STOP_PAUSED && mine.n > o->c[i].n);
    const int64_t n = o->n;
    o->n = i;
    CHECK_OK(keep(arg, &mine));
    o->n = n;
    return PLUMB_OK;
}

/* Fills rest; returns how many tokens it gives. */
static int64_t make_rest(int64_t *n)
{
    int64_t given = 0;
    held = sofar;
    *n = 0;
    for (int64_t i = 0; i < N_REQUEST; i++)
        for (int32_t k = 0; k < request[i].n_samples; k++) {
            struct plumb_request q = request[i];
            q.first_sample += k;
            q.n_samples = 1;
            int64_t j = 0;
            while (j < held.n && (held.c[j].request != i || held.c[j].sample != q.first_sample))
                j++;
            if (j < held.n && held.c[j].stop != PLUMB_STOP_PAUSED)
                continue;
            if (j < held.n) {
                q.given = held.c[j].ids;
                q.given_logp = held.c[j].logp;
                q.given_logp_sampled = held.c[j].logp_sampled;
                given += q.n_given = held.c[j].n;
            }
            rest[*n] = q;
            rest_of[(*n)++] = i;
        }
    return given;
}

/* Pauses before decode step 0, 1, 2 ..., goes on with other slots, every other time pausing there
 * again: the pieces together are the run that was not paused. */
static void check_pause(const plumb_model *m, const plumb_tokenizer *t,
                        const struct plumb_generate_options *options, const char *what)
{
    struct plumb_generate_options plain = *options, o = *options;
    plumb_generator *g[2];
    int64_t left, at = 0, given = 0, n;
    plumb_status st = PLUMB_STOPPED;
    CHECK_OK(plumb_generator_create(&g[0], m, 3, MAX_LEN, t));
    CHECK_OK(plumb_generator_create(&g[1], m, 7, MAX_LEN, t));
    base.n = 0;
    CHECK_OK(plumb_generate(g[0], m, request, N_REQUEST, &plain, keep, &base));
    o.pause = count_down;
    o.pause_arg = &left;
    for (; st == PLUMB_STOPPED; at++) {
        left = at;
        sofar.n = 0;
        for (int64_t i = 0; i < N_REQUEST; i++)
            rest_of[i] = i;
        st = plumb_generate(g[0], m, request, N_REQUEST, &o, keep_newest, &sofar);
        for (int round = 1; st == PLUMB_STOPPED; round++) {
            given += make_rest(&n);
            left = at % 3 + 1;
            st = plumb_generate(g[round % 2], m, rest, n, at % 2 && round == 1 ? &o : &plain,
                                keep_newest, &sofar);
            CHECKF(st == PLUMB_OK || round == 1, "%s", plumb_trail());
            if (st == PLUMB_OK) {
                check_same(&base, &sofar, what);
                st = PLUMB_STOPPED;
                break;
            }
        }
        CHECKF(st == PLUMB_OK || st == PLUMB_STOPPED, "%s", plumb_trail());
    }
    CHECKF(at > 20 && given > 100, "%s: %lld steps, %lld tokens given again", what, (long long)at,
           (long long)given);
    plumb_generator_destroy(&g[0]);
    plumb_generator_destroy(&g[1]);
}

static void check_pauses(const plumb_model *m, const plumb_tokenizer *t)
{
    static const struct plumb_sample_param p[] = {
        {.temperature = 1.2f, .top_p = 0.97f},
        {.temperature = 0.9f, .top_k = 3, .top_p = 1, .min_p = 0.01f},
        {.temperature = 0, .top_p = 1},
    };
    make_requests(m->spec.v);
    for (size_t i = 0; i < sizeof p / sizeof *p; i++) {
        struct plumb_generate_options o = options();
        o.sample = p[i];
        o.ignore_eos = i > 0;
        check_pause(m, NULL, &o, "paused");
    }
    struct plumb_generate_options o = options();
    const struct plumb_request bad[] = {
        {prompt[2], 32, 1, 0, 2, prompt[3], NULL, NULL, 1},
        {prompt[2], 32, 1, 0, 1, prompt[3], NULL, NULL, 37},
        {prompt[2], 32, 1, 0, 1, prompt[3], NULL, NULL, -1},
        {prompt[5], 64, 1, 0, 1, prompt[5], NULL, NULL, 36},
    };
    plumb_generator *g;
    CHECK_OK(plumb_generator_create(&g, m, 3, 100, t));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_FAILS(plumb_generate(g, m, &bad[i], 1, &o, keep, &other), PLUMB_ERR_ARG,
                    "tokens are given");
    plumb_generator_destroy(&g);
    CHECK(!strcmp(plumb_stop_name(PLUMB_STOP_PAUSED), "paused"));
}

/* A tokenizer of 64 pairs of letters, id = 8 first + second. */
static plumb_tokenizer *letters(void)
{
    char dir[] = "/tmp/plumb_generate_XXXXXX", path[64];
    struct plumb_buf b = {0};
    plumb_tokenizer *t;
    CHECK(mkdtemp(dir));
    CHECK_OK(plumb_buf_add_text(&b, "{\"version\": \"1.0\", \"added_tokens\": [], "
                                    "\"normalizer\": null, \"pre_tokenizer\": null, "
                                    "\"post_processor\": null, \"decoder\": {\"type\": \"Fuse\"}, "
                                    "\"model\": {\"type\": \"BPE\", \"merges\": [], \"vocab\": {"));
    for (int i = 0; i < 64; i++)
        CHECK_OK(plumb_buf_addf(&b, "%s\"%c%c\": %d", i ? ", " : "", 'a' + i / 8, 'a' + i % 8, i));
    CHECK_OK(plumb_buf_add_text(&b, "}}}"));
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    CHECK_OK(plumb_file_write_atomic(path, b.data, b.len));
    CHECK_OK(plumb_tokenizer_open(&t, dir));
    CHECK_OK(plumb_dir_remove(dir));
    plumb_buf_fini(&b);
    return t;
}

static void write_letters(char *out, const int32_t *ids, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        out[2 * i] = (char)('a' + ids[i] / 8);
        out[2 * i + 1] = (char)('a' + ids[i] % 8);
    }
    out[2 * n] = '\0';
}

/* Stop strings that cross token borders: other = base cut behind the token that completes one. */
static void check_stop_strings(const plumb_model *m)
{
    plumb_tokenizer *t = letters();
    plumb_generator *g;
    struct plumb_generate_options o = options();
    char text[2 * MAX_LEN + 1], cross[4] = "", longer[8] = "";
    const char *const stop[] = {cross, "not there", longer};
    CHECK(m->spec.v == 64);
    o.ignore_eos = true;
    generate(&base, m, 4, MAX_LEN, request, N_REQUEST, &o);
    write_letters(text, base.c[1].ids, base.c[1].n);
    memcpy(cross, text + 2 * 9 + 1, 3); /* ends with token 10 */
    write_letters(text, base.c[4].ids, base.c[4].n);
    memcpy(longer, text + 2 * 20 + 1, 6); /* in the middle of token 23 */
    o.stop = stop;
    o.n_stop = 3;
    CHECK_OK(plumb_generator_create(&g, m, 3, MAX_LEN, t));
    other.n = 0;
    CHECK_OK(plumb_generate(g, m, request, N_REQUEST, &o, keep, &other));
    int64_t cut = 0;
    for (int64_t i = 0; i < base.n; i++) {
        const int64_t j = find(&other, base.c[i].request, base.c[i].sample);
        int64_t n = 0;
        bool hit = false;
        while (n < base.c[i].n && !hit) {
            write_letters(text, base.c[i].ids, ++n);
            hit = strstr(text, cross) || strstr(text, longer);
        }
        CHECK(other.c[j].n == n && !memcmp(other.c[j].ids, base.c[i].ids, (size_t)n * 4));
        CHECK(other.c[j].stop == (hit ? PLUMB_STOP_STRING : PLUMB_STOP_LENGTH));
        cut += hit;
    }
    CHECK(cut >= 2 && cut < base.n);
    check_pause(m, t, &o, "paused, with stop strings");
    const char *const empty[] = {""};
    o.stop = empty;
    o.n_stop = 1;
    CHECK(plumb_generate(g, m, request, 1, &o, keep, &other) == PLUMB_ERR_ARG);
    plumb_generator_destroy(&g);
    plumb_tokenizer_close(&t);
}

/* Ranks every drawn token among its logits row. */
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
        CHECK(plumb_pass_logprob(pass, m, &b, logits) == PLUMB_ERR_SHAPE); /* of 3 */
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
                /* The number that drew it is that of (seed, iteration, prompt, sample, place). */
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
    CHECK_OK(plumb_generator_create(&g, m, 2, 33, NULL));
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
    /* A weight that is not a number is found at the first token, and the generator lives on. */
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
    const char *root = getenv("PLUMB_SOURCE_ROOT");
    static const char *const name[] = {"llama_odd_untied", "mistral_window", "qwen3_norm",
                                       "qwen2_bias"};
    char dir[600];
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) {
        snprintf(dir, sizeof dir, "%s/tests/fixtures/model/%s", root ? root : ".", name[i]);
        check_invariance(dir, 1);
        check_invariance(dir, 2);
    }
    struct plumb_backend *b;
    plumb_model *m;
    plumb_generator *g;
    CHECK_OK(plumb_backend_cpu_create(&b, 1, 1));
    CHECK_OK(plumb_model_open(&m, b, dir));
    check_chunks(m);
    check_stops(m);
    check_stop_strings(m);
    check_pauses(m, NULL);
    check_limits(m);
    check_refusals(m);
    plumb_model_destroy(&m);
    snprintf(dir, sizeof dir, "%s/tests/fixtures/model/llama_score1", root ? root : ".");
    CHECK_OK(plumb_model_open(&m, b, dir));
    CHECK(plumb_generator_create(&g, m, 2, 33, NULL) == PLUMB_ERR_ARG);
    plumb_model_destroy(&m);
    plumb_backend_destroy(&b);
    return 0;
}
