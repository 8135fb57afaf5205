/* test_counters.c - counts, without a GPU, work that would make a GPU slow: kernels per layer, host
 * waits, bytes of elementwise kernels, shared-memory atomics. Prints a line "name value" for each
 * count; counters.py compares these with benchmarks/results/cuda-counters.md. The kernels are
 * compiled so that the emulator sees every access to memory. Test. */
#include <cuda_runtime_api.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"
#include "model/generate.h"

enum {
    C = 64,
    V = 512,
    SLOTS = 8,
    LONGEST = 128,
    SEQUENCES = 4,
    LENGTH = 40,
    SHALLOW = 2,
    DEEP = 4
};

struct counted {
    double ops; /* number of kernels, products, copies and fills that the device ran */
    /* number of kernels, products, copies, fills and graphs that the host launched */
    double calls;
    double late;        /* number of launches of plumb's own kernels that are not early launches */
    double waits;       /* number of calls in which the host waited for the device */
    double elementwise; /* bytes of device memory that elementwise kernels and fills accessed */
    double atomics;     /* number of 64-bit atomic operations in shared memory */
    double moved;       /* bytes copied between host and device */
};

static bool is_elementwise(const struct plumb_emu_work *w)
{
    static const char *const files[] = {"act.cu",       "elementwise.cu", "fused.cu",
                                        "layernorm.cu", "rmsnorm.cu",     "rows.cu"};
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++)
        if (strcmp(w->file, files[i]) == 0)
            return true;
    return strstr(w->name, "kv_write") || strstr(w->name, "narrow") || strstr(w->name, "biases") ||
           strcmp(w->name, "fill") == 0;
}

static void add(void *arg, const struct plumb_emu_work *w)
{
    struct counted *c = arg;
    const long long bytes = w->bytes_read + w->bytes_written;
    c->ops += (double)w->runs;
    if (w->file[0] != '\0')
        c->late += (double)(w->runs - w->early);
    c->atomics += (double)w->shared_atomics;
    if (is_elementwise(w))
        c->elementwise += (double)bytes;
    if (strcmp(w->name, "copy") == 0)
        c->moved += (double)bytes;
}

static struct plumb_emu_counts host_before;
static size_t graphs_before;

static void begin(bool bytes)
{
    plumb_emu_profile_reset(bytes);
    host_before = plumb_emu_counted();
    graphs_before = plumb_emu_graph_launches();
}

static struct counted end(void)
{
    const struct plumb_emu_counts a = host_before, b = plumb_emu_counted();
    struct counted c = {0};
    plumb_emu_profile(add, &c);
    c.waits = b.waits - a.waits;
    c.calls = (b.kernels + b.products + b.copies + b.fills) -
              (a.kernels + a.products + a.copies + a.fills) +
              (double)(plumb_emu_graph_launches() - graphs_before);
    return c;
}

/* Returns what one layer adds to a count, from the counts for a model of DEEP layers and for one of
 * SHALLOW layers. */
static double each(double deep, double shallow)
{
    return (deep - shallow) / (DEEP - SHALLOW);
}

static void say(const char *name, double value)
{
    printf("%s %.10g\n", name, value);
}

/* ---- the model ----------------------------------------------------------------------------- */

static plumb_model *model_of(struct plumb_backend *b, const char *dir, int layers, uint64_t seed)
{
    char path[512];
    plumb_model *m;
    snprintf(path, sizeof(path), "%s/config.json", dir);
    FILE *f = fopen(path, "w");
    CHECK(f);
    fprintf(f,
            "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"vocab_size\":%d,"
            "\"hidden_size\":%d,\"intermediate_size\":%d,\"num_hidden_layers\":%d,"
            "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"max_position_embeddings\":%d,"
            "\"rms_norm_eps\":1e-05,\"rope_theta\":10000.0,\"hidden_act\":\"silu\","
            "\"initializer_range\":0.02,\"bos_token_id\":1,\"eos_token_id\":2,"
            "\"tie_word_embeddings\":false}\n",
            V, C, 2 * C, layers, LONGEST);
    CHECK(fclose(f) == 0);
    CHECK_OK(plumb_model_create(&m, b, dir, seed));
    CHECK(unlink(path) == 0);
    return m;
}

/* ---- generation ---------------------------------------------------------------------------- */

static int32_t prompt[2 * SLOTS][LONGEST];

static plumb_status drop(void *arg, const struct plumb_completion *c)
{
    *(int64_t *)arg += c->n;
    return PLUMB_OK;
}

/* Counts the work from decode step `first` to decode step `last`. */
struct window {
    int64_t step, first, last;
    bool bytes;
    struct counted counted;
};
static plumb_status watch(void *arg)
{
    struct window *w = arg;
    if (w->step == w->first)
        begin(w->bytes);
    if (w->step++ == w->last)
        w->counted = end();
    return PLUMB_OK;
}

/* Returns the counts per decode step while all slots are busy and the graph for this number of
 * slots is already recorded. */
static struct counted decode(const plumb_model *m, struct plumb_sample_param sample)
{
    enum { FIRST = 4, STEPS = 4 };
    struct window w = {.first = FIRST, .last = FIRST + STEPS, .bytes = true};
    struct plumb_request q[SLOTS];
    plumb_generator *g;
    int64_t tokens = 0;
    const struct plumb_generate_options o = {.sample = sample,
                                             .max_new_tokens = FIRST + STEPS + 2,
                                             .ignore_eos = true,
                                             .pause = watch,
                                             .pause_arg = &w};
    for (int i = 0; i < SLOTS; i++)
        q[i] = (struct plumb_request){.ids = prompt[i], .n = 8, .prompt_id = i, .n_samples = 1};
    CHECK_OK(plumb_generator_create(
        &g, m, &(struct plumb_generator_need){.slots = SLOTS, .max_tokens = LONGEST}));
    CHECK_OK(plumb_generate(g, m, q, SLOTS, &o, drop, &tokens));
    plumb_generator_destroy(&g);
    struct counted *c = &w.counted;
    for (double *x = &c->ops; x <= &c->moved; x++)
        *x /= STEPS;
    return *c;
}

/* Generates as a training run does: more completions than slots, prompts of many lengths, and
 * completions that end at different steps. Generates twice with one generator, and returns the
 * counts of the second time, when the CUDA graphs are already recorded. */
static struct counted rollout(const plumb_model *m, struct plumb_generator_count *count,
                              double *replayed)
{
    enum { PROMPTS = 2 * SLOTS, GROUP = 4, STOPS = 24 };
    struct plumb_request q[PROMPTS];
    int32_t stop[STOPS];
    plumb_generator *g;
    int64_t tokens = 0;
    struct plumb_generator_count before;
    for (int i = 0; i < STOPS; i++)
        stop[i] = V / STOPS * i;
    for (int i = 0; i < PROMPTS; i++)
        q[i] = (struct plumb_request){
            .ids = prompt[i], .n = 20 + i * 7 % 56, .prompt_id = i, .n_samples = GROUP};
    const struct plumb_generate_options o = {.sample = {.temperature = 1, .top_p = 1},
                                             .max_new_tokens = 24,
                                             .stop_id = stop,
                                             .n_stop_id = STOPS,
                                             .seed = 3};
    CHECK_OK(plumb_generator_create(
        &g, m, &(struct plumb_generator_need){.slots = SLOTS, .max_tokens = LONGEST}));
    CHECK_OK(plumb_generate(g, m, q, PROMPTS, &o, drop, &tokens));
    plumb_generator_count(g, &before);
    begin(false);
    CHECK_OK(plumb_generate(g, m, q, PROMPTS, &o, drop, &tokens));
    const struct counted c = end();
    plumb_generator_count(g, count);
    count->steps -= before.steps;
    count->tokens -= before.tokens;
    *replayed = (double)(plumb_emu_graph_launches() - graphs_before);
    plumb_generator_destroy(&g);
    return c;
}

static void generation(plumb_model *const *m)
{
    const struct plumb_sample_param plain = {.temperature = 1, .top_p = 1};
    const struct plumb_sample_param nucleus = {.temperature = 1, .top_k = 50, .top_p = 0.9f};
    const struct counted a = decode(m[0], plain), b = decode(m[1], plain);
    const struct counted top = decode(m[0], nucleus);
    say("decode: device operations per layer and step", each(b.ops, a.ops));
    say("decode: device operations outside the layers per step",
        a.ops - SHALLOW * each(b.ops, a.ops));
    say("decode: own kernels per step that are not launched early", a.late);
    say("decode: host launches per step", a.calls);
    say("decode: host waits per step", a.waits);
    say("decode: elementwise bytes per row and layer, in rows of c",
        each(b.elementwise, a.elementwise) / (2.0 * C * SLOTS));
    say("decode: shared 64-bit atomics per logit with top_k and top_p",
        top.atomics / (double)(V * SLOTS));
    struct plumb_generator_count n;
    double replayed;
    const struct counted r = rollout(m[0], &n, &replayed), s = rollout(m[1], &n, &replayed);
    say("rollout: forward passes", (double)n.steps);
    say("rollout: forward passes that are no replay of a graph", (double)n.steps - replayed);
    say("rollout: host waits per forward pass", s.waits / (double)n.steps);
    say("rollout: host launches per forward pass of 4 layers", s.calls / (double)n.steps);
    say("rollout: device operations per layer and forward pass",
        each(s.ops, r.ops) / (double)n.steps);
}

/* ---- training ------------------------------------------------------------------------------ */

struct both {
    struct counted forward, backward;
};

static struct both train(struct plumb_backend *b, const plumb_model *m)
{
    int32_t ids[SEQUENCES * LENGTH];
    int64_t offset[SEQUENCES + 1], prompts[SEQUENCES];
    float logp[SEQUENCES * LENGTH], dlogp[SEQUENCES * LENGTH];
    plumb_pass *p;
    void *grad;
    struct both out;
    const int64_t bytes = plumb_model_trained(m).count * (int64_t)sizeof(float);
    for (int i = 0; i <= SEQUENCES; i++) {
        offset[i] = i * LENGTH;
        if (i < SEQUENCES)
            prompts[i] = 8;
    }
    for (int i = 0; i < SEQUENCES * LENGTH; i++) {
        ids[i] = i * 37 % V;
        dlogp[i] = 1.0f;
    }
    const struct plumb_batch batch = {SEQUENCES, ids, offset, prompts};
    const struct plumb_pass_limit limit = {
        .max_tokens = SEQUENCES * LENGTH, .max_seq = SEQUENCES, .train = true};
    CHECK_OK(plumb_pass_create(&p, m, &limit));
    CHECK_OK(b->alloc(b, &grad, bytes, "gradient"));
    CHECK_OK(b->zero(b, grad, bytes));
    /* the first round also chooses algorithms for the products; the counts are those of the
     * second one */
    for (int i = 0; i < 2; i++) {
        begin(true);
        CHECK_OK(plumb_pass_logprob(p, m, &batch, logp));
        out.forward = end();
        begin(true);
        CHECK_OK(plumb_pass_logprob_backward(p, m, dlogp, grad));
        CHECK_OK(b->sync(b));
        out.backward = end();
        out.backward.waits--;
    }
    b->release(b, grad);
    plumb_pass_destroy(&p);
    return out;
}

static void training(struct plumb_backend *b, plumb_model *const *m)
{
    const double rows = 2.0 * C * SEQUENCES * LENGTH;
    const struct both x = train(b, m[0]), y = train(b, m[1]);
    const double forward = each(y.forward.ops, x.forward.ops);
    const double backward = each(y.backward.ops, x.backward.ops);
    say("prefill and training: device operations per layer of a forward", forward);
    say("training: device operations per layer of a backward", backward);
    say("training: device operations outside the layers of a forward",
        x.forward.ops - SHALLOW * forward);
    say("training: device operations outside the layers of a backward",
        x.backward.ops - SHALLOW * backward);
    say("training: host waits per forward", x.forward.waits);
    say("training: host waits per backward", x.backward.waits);
    say("training: elementwise bytes per row and layer of a forward, in rows of c",
        each(y.forward.elementwise, x.forward.elementwise) / rows);
    say("training: elementwise bytes per row and layer of a backward, in rows of c",
        each(y.backward.elementwise, x.backward.elementwise) / rows);
}

/* ---- whole models -------------------------------------------------------------------------- */

static void models(struct plumb_backend *b, const char *dir, plumb_model *const *m)
{
    begin(false);
    plumb_model *other = model_of(b, dir, SHALLOW, 7);
    CHECK_OK(b->sync(b));
    const double bytes = (double)plumb_model_trained(m[0]).count * sizeof(float);
    say("random weights: bytes between host and device per byte of weights", end().moved / bytes);
    begin(false);
    CHECK_OK(plumb_model_copy(other, m[0]));
    CHECK_OK(b->sync(b));
    const struct counted c = end();
    say("copy of a model: bytes between host and device per byte of weights", c.moved / bytes);
    say("copy of a model: host waits", c.waits - 1);
    plumb_model_destroy(&other);
}

int main(void)
{
    struct plumb_backend *b = NULL;
    char dir[] = "/tmp/plumb-counters-XXXXXX";
    plumb_emu_seed(0);
    CHECK(mkdtemp(dir));
    CHECK_OK(plumb_backend_cuda_create(&b, 0));
    CHECK_OK(plumb_backend_set_dtype(b, PLUMB_BF16));
    plumb_model *m[] = {model_of(b, dir, SHALLOW, 1), model_of(b, dir, DEEP, 1)};
    for (int i = 0; i < 2 * SLOTS; i++)
        for (int j = 0; j < LONGEST; j++)
            prompt[i][j] = (i * 7 + j * 5) % V;
    generation(m);
    training(b, m);
    models(b, dir, m);
    plumb_model_destroy(&m[0]);
    plumb_model_destroy(&m[1]);
    plumb_backend_destroy(&b);
    CHECK(rmdir(dir) == 0);
    return 0;
}
