/* test_gap.c - checks that the log-prob stored at sampling and the log-prob of the training forward
 * have the same bits: over at least 100,000 tokens, on the CPU, with models of many shapes and with
 * many batch sizes, slots, lengths and temperatures. `test_model_gap ROUNDS` repeats this with
 * other random numbers.
 * Test. Includes harness.h, io/file.h, model/. */
#include <unistd.h>

#include "harness.h"
#include "io/file.h"
#include "model/generate.h"

enum { REQUESTS = 24, MAX_PROMPT = 60, MAX_NEW = 90, MAX_SAMPLES = 5, MAX_OUT = 24 * 5 };
enum { LONGEST = MAX_PROMPT + MAX_NEW, MOST_SEQ = 31 };

/* The fields of config.json in which the models differ: vocabulary v, hidden size c, feed-forward
 * size f, l layers, h heads, hk key/value heads of size d, attention window (0: none), tied
 * embeddings, and further fields as JSON. */
static const struct shape {
    const char *name, *type;
    int64_t v, c, f, l, h, hk, d, window;
    bool tied;
    const char *more;
} shapes[] = {
    {"llama, all heads, tied", "llama", 257, 32, 48, 2, 2, 2, 16, 0, true, ""},
    {"llama, one kv head of 32", "llama", 301, 64, 96, 2, 4, 1, 32, 0, false, ""},
    {"llama, heads of 64", "llama", 509, 128, 72, 2, 2, 1, 64, 0, true, ""},
    {"llama3 rope, biases", "llama", 97, 48, 100, 3, 6, 3, 16, 0, false,
     ", \"attention_bias\": true, \"mlp_bias\": true, \"rope_scaling\": {\"rope_type\": \"llama3\","
     " \"factor\": 8.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, "
     "\"original_max_position_embeddings\": 64}"},
    {"mistral, window of 20", "mistral", 63, 40, 33, 2, 5, 1, 16, 20, false, ""},
    {"qwen2, qkv bias", "qwen2", 1013, 96, 130, 2, 6, 2, 16, 0, true, ""},
    {"qwen3, qk norm, heads of 64", "qwen3", 331, 56, 64, 2, 4, 2, 64, 0, false, ""},
    {"qwen3, qk norm, heads of 32", "qwen3", 127, 72, 40, 3, 2, 2, 32, 0, true, ""},
    {"olmo2, norms after", "olmo2", 211, 40, 52, 2, 3, 1, 16, 0, false, ""},
    {"gemma2, caps, windows", "gemma2", 145, 36, 44, 3, 4, 2, 16, 20, true,
     ", \"query_pre_attn_scalar\": 20, \"attn_logit_softcapping\": 3.0, "
     "\"final_logit_softcapping\": 4.0"},
    {"gemma3, two rotations", "gemma3_text", 99, 44, 60, 3, 2, 1, 24, 33, true,
     ", \"sliding_window_pattern\": 2"},
    {"phi3, partial rotation", "phi3", 177, 52, 36, 2, 3, 3, 16, 0, false,
     ", \"partial_rotary_factor\": 0.75"},
    {"smollm3, no rotation", "smollm3", 83, 32, 40, 3, 4, 2, 8, 0, true,
     ", \"no_rope_layer_interval\": 2"},
    {"granite, scales", "granite", 133, 48, 56, 2, 4, 2, 12, 0, true,
     ", \"attention_multiplier\": 0.2, \"embedding_multiplier\": 6.0, "
     "\"residual_multiplier\": 0.22, \"logits_scaling\": 3.0"},
    {"exaone4, norms after, rotation in windows", "exaone4", 89, 40, 48, 3, 4, 2, 16, 20, false,
     ", \"sliding_window_pattern\": 2"},
    {"glm4, four norms, neighbours rotate", "glm4", 107, 44, 52, 2, 4, 2, 16, 0, false, ""},
    {"gpt2, learned positions", "gpt2", 123, 40, 160, 2, 5, 5, 8, 0, true, ", \"n_inner\": 52"},
    {"gpt_neox, parallel branches", "gpt_neox", 131, 48, 72, 2, 3, 3, 16, 0, false,
     ", \"rotary_pct\": 0.5"},
};
enum { SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

/* One way to sample, and to combine the sampled sequences into micro-batches for training. */
static const struct setting {
    int64_t slots, micro, head_rows;
    int threads;
    bool recompute;
    struct plumb_sample_param sample;
} settings[] = {
    {1, 31, 512, 1, false, {.temperature = 1, .top_p = 1}},
    {7, 1, 5, 1, false, {.temperature = 0.7f, .top_p = 0.9f}},
    {32, 5, 64, 2, true, {.temperature = 1.3f, .top_p = 1, .top_k = 40}},
    {13, 16, 33, 1, true, {.temperature = 0, .top_p = 1}},
    {64, 8, 17, 1, false, {.temperature = 1, .top_p = 1, .min_p = 0.02f}},
};
enum { SETTINGS = sizeof(settings) / sizeof(settings[0]) };

struct totals {
    int64_t tokens, unlike, shortest, longest;
    double worst;
};

struct bench {
    plumb_model *m;
    int32_t prompt[REQUESTS][MAX_PROMPT];
    struct plumb_request request[REQUESTS];
    struct {
        int64_t request, n;
        int32_t ids[MAX_NEW];
        float logp[MAX_NEW];
    } out[MAX_OUT];
    int64_t n_out;
};

static char dir[] = "/tmp/plumb_gap_XXXXXX";

static void write_config(const struct shape *s)
{
    struct plumb_buf b = {0};
    char path[64], window[64] = "";
    snprintf(path, sizeof(path), "%s/config.json", dir);
    if (s->window)
        snprintf(window, sizeof(window), ", \"sliding_window\": %lld", (long long)s->window);
    CHECK_OK(plumb_buf_addf(
        &b,
        "{\"model_type\": \"%s\", \"vocab_size\": %lld, \"hidden_size\": %lld, "
        "\"intermediate_size\": %lld, \"num_hidden_layers\": %lld, \"num_attention_heads\": %lld, "
        "\"num_key_value_heads\": %lld, \"head_dim\": %lld, \"max_position_embeddings\": %d, "
        "\"rms_norm_eps\": 1e-05, \"rope_theta\": 10000.0, \"hidden_act\": \"silu\", "
        "\"initializer_range\": 0.2, \"bos_token_id\": 1, \"eos_token_id\": 2, "
        "\"tie_word_embeddings\": %s%s%s}",
        s->type, (long long)s->v, (long long)s->c, (long long)s->f, (long long)s->l,
        (long long)s->h, (long long)s->hk, (long long)s->d, LONGEST, s->tied ? "true" : "false",
        window, s->more));
    CHECK_OK(plumb_file_write_atomic(path, b.data, b.len));
    plumb_buf_fini(&b);
}

/* Adds random numbers to every vector of the weights. A new model has norms of 1 and biases of 0,
 * with which the test could not detect a norm or bias that is left out. */
static void stir(plumb_model *m, struct rng *r)
{
    for (int64_t p = 0; p < m->n_param; p++)
        for (int64_t i = 0; i < m->param[p].count && m->param[p].rank == 1; i++)
            m->w[m->param[p].offset + i] += rng_f(r, -0.3f, 0.3f);
    CHECK_OK(plumb_model_refresh(m));
}

static plumb_status keep(void *arg, const struct plumb_completion *c)
{
    struct bench *b = arg;
    CHECK(b->n_out < MAX_OUT && c->n >= 1 && c->n <= MAX_NEW);
    const int64_t i = b->n_out++;
    b->out[i].request = c->request;
    b->out[i].n = c->n;
    memcpy(b->out[i].ids, c->ids, (size_t)c->n * sizeof(*c->ids));
    memcpy(b->out[i].logp, c->logp, (size_t)c->n * sizeof(*c->logp));
    return PLUMB_OK;
}

/* Generates completions for prompts of 1 to MAX_PROMPT tokens, with 1 to MAX_SAMPLES samples each
 * and with stop ids. */
static void sample(struct bench *b, const struct setting *s, struct rng *r)
{
    static const int32_t stop[] = {3, 11, 29};
    const struct plumb_generate_options o = {.sample = s->sample,
                                             .max_new_tokens = MAX_NEW,
                                             .seed = 1 + (uint64_t)(1e6 * rng_u(r)),
                                             .iteration = 4,
                                             .stop_id = stop,
                                             .n_stop_id = 3};
    plumb_generator *g;
    for (int64_t i = 0; i < REQUESTS; i++) {
        const int64_t n = 1 + (int64_t)(rng_u(r) * MAX_PROMPT);
        for (int64_t j = 0; j < n; j++)
            b->prompt[i][j] = (int32_t)(rng_u(r) * (double)b->m->spec.v);
        b->request[i] = (struct plumb_request){.ids = b->prompt[i],
                                               .n = n,
                                               .prompt_id = i,
                                               .n_samples = 1 + (int32_t)(rng_u(r) * MAX_SAMPLES)};
    }
    b->n_out = 0;
    CHECK_OK(plumb_generator_create(
        &g, b->m, &(struct plumb_generator_need){.slots = s->slots, .max_tokens = LONGEST}));
    CHECK_OK(plumb_generate(g, b->m, b->request, REQUESTS, &o, keep, b));
    plumb_generator_destroy(&g);
}

static void compare(const struct bench *b, const float *logp, int64_t first, int64_t n,
                    const char *what, struct totals *t)
{
    for (int64_t i = first; i < first + n; i++) {
        for (int64_t j = 0; j < b->out[i].n; j++, logp++) {
            const double gap = fabs((double)*logp - (double)b->out[i].logp[j]);
            if (memcmp(logp, &b->out[i].logp[j], sizeof(*logp)) != 0 && t->unlike++ == 0)
                fprintf(stderr, "%s: token %lld after %lld: sampled %a, trained %a\n", what,
                        (long long)j, (long long)b->request[b->out[i].request].n,
                        (double)b->out[i].logp[j], (double)*logp);
            t->worst = fmax(t->worst, gap);
        }
        t->tokens += b->out[i].n;
        t->shortest = b->out[i].n < t->shortest ? b->out[i].n : t->shortest;
        t->longest = b->out[i].n > t->longest ? b->out[i].n : t->longest;
    }
}

/* Runs the training forward over the sampled sequences, s->micro of them in each micro-batch and
 * without padding, as in training. Compares its log-probs with the stored ones. */
static void train(const struct bench *b, const struct setting *s, const char *what,
                  struct totals *t)
{
    static int32_t ids[MOST_SEQ * LONGEST];
    static float logp[MOST_SEQ * LONGEST];
    int64_t offset[MOST_SEQ + 1] = {0}, prompt[MOST_SEQ];
    const struct plumb_pass_limit limit = {.max_tokens = s->micro * LONGEST,
                                           .max_seq = s->micro,
                                           .train = true,
                                           .recompute = s->recompute,
                                           .head_rows = s->head_rows};
    plumb_pass *pass;
    CHECK(s->micro <= MOST_SEQ);
    CHECK_OK(plumb_pass_create(&pass, b->m, &limit));
    for (int64_t i = 0; i < b->n_out; i += s->micro) {
        const int64_t n = b->n_out - i < s->micro ? b->n_out - i : s->micro;
        for (int64_t q = 0; q < n; q++) {
            const struct plumb_request *r = &b->request[b->out[i + q].request];
            const int64_t tokens = b->out[i + q].n;
            memcpy(ids + offset[q], r->ids, (size_t)r->n * sizeof(*ids));
            memcpy(ids + offset[q] + r->n, b->out[i + q].ids, (size_t)tokens * sizeof(*ids));
            prompt[q] = r->n;
            offset[q + 1] = offset[q] + r->n + tokens;
        }
        const struct plumb_batch batch = {
            .n_seq = n, .ids = ids, .offset = offset, .prompt_tokens = prompt};
        CHECK_OK(plumb_pass_logprob(pass, b->m, &batch, logp));
        compare(b, logp, i, n, what, t);
    }
    plumb_pass_destroy(&pass);
}

static void run_shape(const struct shape *shape, int round, struct totals *t)
{
    static struct bench b;
    struct rng r = {0x5EED + (uint64_t)round * 977};
    write_config(shape);
    for (int i = 0; i < SETTINGS; i++) {
        const struct setting *s = &settings[i];
        struct plumb_backend *backend;
        char what[128];
        snprintf(what, sizeof(what), "%s, %lld slots, micro-batches of %lld", shape->name,
                 (long long)s->slots, (long long)s->micro);
        CHECK_OK(plumb_backend_cpu_create(&backend, s->threads, 1));
        CHECK_OK(plumb_model_create(&b.m, backend, dir, (uint64_t)(round + 1)));
        stir(b.m, &r);
        sample(&b, s, &r);
        train(&b, s, what, t);
        plumb_model_destroy(&b.m);
        plumb_backend_destroy(&backend);
    }
}

int main(int argc, char **argv)
{
    const int rounds = argc > 1 ? atoi(argv[1]) : 1;
    struct totals all = {.shortest = MAX_NEW};
    CHECK(mkdtemp(dir));
    for (int round = 0; round < rounds; round++)
        for (int i = 0; i < SHAPES; i++) {
            struct totals t = {.shortest = MAX_NEW};
            run_shape(&shapes[i], round, &t);
            printf("%-30s %8lld tokens, completions of %lld to %lld, largest difference %g\n",
                   shapes[i].name, (long long)t.tokens, (long long)t.shortest, (long long)t.longest,
                   t.worst);
            all.tokens += t.tokens;
            all.unlike += t.unlike;
            all.worst = fmax(all.worst, t.worst);
            CHECK(t.shortest < 10 && t.longest > 60);
        }
    CHECK_OK(plumb_dir_remove(dir));
    printf("%lld tokens of %d shapes x %d settings compared, %lld with other bits, largest "
           "difference %g\n",
           (long long)all.tokens, SHAPES, SETTINGS, (long long)all.unlike, all.worst);
    CHECKF(all.tokens >= 100000, "only %lld tokens", (long long)all.tokens);
    CHECK(all.unlike == 0 && all.worst == 0);
    return 0;
}
