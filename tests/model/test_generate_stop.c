/* test_generate_stop.c - checks every reason for which a completion ends. Also checks that a
 * generation that is paused and continued gives the same completions as one without a pause. Test.
 * Includes harness.h, io/, model/. */
#include <unistd.h>

#include "generated.h"
#include "io/file.h"

/* Checks that the completions in `other` are those in `base`, each cut after its first token that
 * is in `stop`, and after max_new tokens at the latest. */
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
    /* The limit of tokens per sequence ends the completions before max_new_tokens does. */
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

/* sofar: the completions up to now, some of them paused. held: a copy of sofar to which the
 * requests in `rest` point; these requests continue the incomplete completions. */
static struct outcome sofar, held;
static struct plumb_request rest[MAX_OUT];
static int64_t rest_of[MAX_OUT]; /* for each request of `rest`: its index in `request` */

static plumb_status count_down(void *arg)
{
    PLUMB_REQUIRE(--*(int64_t *)arg >= 0, PLUMB_STOPPED, "counted down");
    return PLUMB_OK;
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

/* Fills `rest` with *n requests. Returns how many tokens these requests already have. */
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

/* Pauses before decode step 0, 1, 2 ..., and continues with another number of slots. Every second
 * time, pauses once more. Checks that the final completions are those without a pause. */
static void check_pause(const plumb_model *m, const plumb_tokenizer *t,
                        const struct plumb_generate_options *options, const char *what)
{
    struct plumb_generate_options plain = *options, o = *options;
    plumb_generator *g[2];
    int64_t left, at = 0, given = 0, n;
    plumb_status st = PLUMB_STOPPED;
    CHECK_OK(plumb_generator_create(
        &g[0], m,
        &(struct plumb_generator_need){.slots = 3, .max_tokens = MAX_LEN, .tokenizer = t}));
    CHECK_OK(plumb_generator_create(
        &g[1], m,
        &(struct plumb_generator_need){.slots = 7, .max_tokens = MAX_LEN, .tokenizer = t}));
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
    CHECK_OK(plumb_generator_create(
        &g, m, &(struct plumb_generator_need){.slots = 3, .max_tokens = 100, .tokenizer = t}));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_FAILS(plumb_generate(g, m, &bad[i], 1, &o, keep, &other), PLUMB_ERR_ARG,
                    "given tokens need exactly 1 sample");
    plumb_generator_destroy(&g);
    CHECK(!strcmp(plumb_stop_name(PLUMB_STOP_PAUSED), "paused"));
}

/* Returns a tokenizer with 64 tokens: all pairs of the letters a to h. An id is 8 * (number of the
 * first letter) + (number of the second letter). Its decoder removes one letter `strip` at the
 * beginning of a text, as other decoders remove a space. */
static plumb_tokenizer *letters(char strip)
{
    char dir[] = "/tmp/plumb_generate_XXXXXX", path[64];
    struct plumb_buf b = {0};
    plumb_tokenizer *t;
    CHECK(mkdtemp(dir));
    CHECK_OK(plumb_buf_add_text(&b, "{\"version\": \"1.0\", \"added_tokens\": [], "
                                    "\"normalizer\": null, \"pre_tokenizer\": null, "
                                    "\"post_processor\": null, "));
    CHECK_OK(plumb_buf_addf(&b,
                            "\"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": "
                            "\"Fuse\"}, {\"type\": \"Strip\", \"content\": \"%c\", \"start\": 1, "
                            "\"stop\": 0}]}, ",
                            strip));
    CHECK_OK(plumb_buf_add_text(&b, "\"model\": {\"type\": \"BPE\", \"merges\": [], \"vocab\": {"));
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

/* Checks stop strings that extend over several tokens. The completions in `other` must be those in
 * `base`, each cut after the token that completes a stop string. */
static void check_stop_strings(const plumb_model *m)
{
    plumb_tokenizer *t = letters(' ');
    plumb_generator *g;
    struct plumb_generate_options o = options();
    char text[2 * MAX_LEN + 1], cross[4] = "", longer[8] = "";
    const char *const stop[] = {cross, "not there", longer};
    CHECK(m->spec.v == 64);
    o.ignore_eos = true;
    generate(&base, m, 4, MAX_LEN, request, N_REQUEST, &o);
    write_letters(text, base.c[1].ids, base.c[1].n);
    memcpy(cross, text + 2 * 9 + 1, 3); /* a stop string that ends with the end of token 10 */
    write_letters(text, base.c[4].ids, base.c[4].n);
    memcpy(longer, text + 2 * 20 + 1, 6); /* a stop string that ends in the middle of token 23 */
    o.stop = stop;
    o.n_stop = 3;
    CHECK_OK(plumb_generator_create(
        &g, m, &(struct plumb_generator_need){.slots = 3, .max_tokens = MAX_LEN, .tokenizer = t}));
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

/* Checks two stop strings: one at the very beginning of a completion, whose first letter the
 * decoder would remove at the beginning of a text; and one that begins in the prompt and ends in
 * the completion. */
static void check_stop_at_border(const plumb_model *m)
{
    struct plumb_generate_options o = options();
    char text[2 * MAX_LEN + 1], before[2 * MAX_LEN + 1], first[4] = "", across[4] = "";
    const char *stop[] = {first};
    o.ignore_eos = true;
    o.stop = stop;
    generate(&base, m, 4, MAX_LEN, request, N_REQUEST, &o);
    for (int64_t i = 0; i < base.n; i++) {
        const struct plumb_request *q = &request[base.c[i].request];
        plumb_generator *g;
        write_letters(text, base.c[i].ids, base.c[i].n);
        write_letters(before, q->ids, q->n);
        plumb_tokenizer *t = letters(text[0]);
        memcpy(first, text, 3);
        memcpy(across, before + 2 * q->n - 1, 1);
        memcpy(across + 1, text, 2);
        CHECK_OK(plumb_generator_create(
            &g, m,
            &(struct plumb_generator_need){.slots = 3, .max_tokens = MAX_LEN, .tokenizer = t}));
        o.n_stop = 1;
        for (int k = 0; k < 2; k++) {
            stop[0] = k ? across : first;
            other.n = 0;
            CHECK_OK(plumb_generate(g, m, request, N_REQUEST, &o, keep, &other));
            const int64_t j = find(&other, base.c[i].request, base.c[i].sample);
            CHECKF(other.c[j].n == 2 - k && other.c[j].stop == PLUMB_STOP_STRING,
                   "stop '%s', prompt '%s', completion '%s': %lld tokens", stop[0], before, text,
                   (long long)other.c[j].n);
        }
        plumb_generator_destroy(&g);
        plumb_tokenizer_close(&t);
    }
}

int main(void)
{
    struct plumb_backend *b;
    plumb_model *m;
    char dir[600];
    fixture(dir, "qwen2_bias");
    CHECK_OK(plumb_backend_cpu_create(&b, 1, 1));
    CHECK_OK(plumb_model_open(&m, b, dir));
    make_requests(m->spec.v);
    check_stops(m);
    check_stop_strings(m);
    check_stop_at_border(m);
    check_pauses(m, NULL);
    plumb_model_destroy(&m);
    plumb_backend_destroy(&b);
    return 0;
}
