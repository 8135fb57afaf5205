/* test_generate_cuda.c - checks decode steps that are recorded as CUDA graphs. They give the same
 * completions as kernels launched one by one, with any number of slots, and after steps with other
 * weights or another temperature. The log-probs have the same bits as in training.
 * Test. */
#include <string.h>

#include "gpu.h"
#include "model/generate.h"

#ifdef PLUMB_CUDA_EMU
#include <cuda_runtime_api.h>
static const unsigned seeds[] = {0, 5};
#else
static void plumb_emu_seed(unsigned seed)
{
    (void)seed;
}
static const unsigned seeds[] = {0};
#endif

enum { PROMPTS = 14, SAMPLES = 2, ALL = PROMPTS * SAMPLES, NEW = 9, LONGEST = 48 };

struct outcome {
    int64_t n[ALL];
    int32_t ids[ALL][NEW];
    float logp[ALL][NEW], logp_sampled[ALL][NEW];
};

/* length and samples of the prompts. There are more completions than slots, so some prompts must
 * wait. A recorded step has more rows than running completions; the other rows are unused. */
static const int64_t length[PROMPTS] = {5, 1, 33, 32, 5, 31, 1, 33, 5, 17, 2, 31, 8, 4};
static const int32_t samples[PROMPTS] = {2, 2, 1, 2, 1, 2, 1, 1, 2, 1, 1, 2, 1, 1};
static int32_t prompt[PROMPTS][LONGEST];

static plumb_status keep(void *arg, const struct plumb_completion *c)
{
    struct outcome *o = arg;
    const int64_t i = c->request * SAMPLES + c->sample;
    CHECK(c->n >= 1 && c->n <= NEW && o->n[i] == 0);
    o->n[i] = c->n;
    memcpy(o->ids[i], c->ids, (size_t)c->n * sizeof(*c->ids));
    memcpy(o->logp[i], c->logp, (size_t)c->n * sizeof(*c->logp));
    memcpy(o->logp_sampled[i], c->logp_sampled, (size_t)c->n * sizeof(*c->logp_sampled));
    return PLUMB_OK;
}

/* Generates with stop ids, so that the completions end at different steps. */
static void generate(plumb_generator *g, const plumb_model *m, float temperature, bool eager,
                     struct outcome *out)
{
    static const int32_t stop[] = {3, 7, 20};
    struct plumb_request q[PROMPTS];
    const struct plumb_generate_options o = {.sample = {.temperature = temperature, .top_p = 0.97f},
                                             .max_new_tokens = NEW,
                                             .seed = 11,
                                             .stop_id = stop,
                                             .n_stop_id = 3,
                                             .ignore_eos = true,
                                             .eager = eager};
    for (int i = 0; i < PROMPTS; i++)
        q[i] = (struct plumb_request){
            .ids = prompt[i], .n = length[i], .prompt_id = i, .n_samples = samples[i]};
    memset(out, 0, sizeof(*out));
    CHECK_OK(plumb_generate(g, m, q, PROMPTS, &o, keep, out));
}

static void same(const struct outcome *a, const struct outcome *b, const char *what)
{
    CHECKF(memcmp(a, b, sizeof(*a)) == 0, "%s: another outcome", what);
}

static void trained(const struct outcome *o, const plumb_model *m)
{
    int32_t ids[ALL * LONGEST];
    float logp[ALL * NEW];
    int64_t offset[ALL + 1] = {0}, prompts[ALL], k = 0;
    plumb_pass *p;
    for (int i = 0; i < ALL; i++) {
        const int64_t n = length[i / SAMPLES];
        memcpy(ids + offset[i], prompt[i / SAMPLES], (size_t)n * sizeof(*ids));
        memcpy(ids + offset[i] + n, o->ids[i], (size_t)o->n[i] * sizeof(*ids));
        prompts[i] = n;
        offset[i + 1] = offset[i] + n + o->n[i];
    }
    const struct plumb_batch batch = {ALL, ids, offset, prompts};
    const struct plumb_pass_limit limit = {.max_tokens = offset[ALL], .max_seq = ALL};
    CHECK_OK(plumb_pass_create(&p, m, &limit));
    CHECK_OK(plumb_pass_logprob(p, m, &batch, logp));
    for (int i = 0; i < ALL; i++)
        for (int64_t j = 0; j < o->n[i]; j++, k++)
            CHECKF(logp[k] == o->logp[i][j], "completion %d, token %d: training %a, sampling %a", i,
                   (int)j, (double)logp[k], (double)o->logp[i][j]);
    plumb_pass_destroy(&p);
}

/* Returns how many graphs were launched. Returns -1 on a GPU, where they are not counted. */
static int64_t launches(void)
{
#ifdef PLUMB_CUDA_EMU
    return (int64_t)plumb_emu_graph_launches();
#else
    return -1;
#endif
}

static void run(const char *dir, unsigned seed, struct outcome *first, bool is_first)
{
    static const int64_t slots[] = {1, 3, 11};
    static struct outcome eager, recorded, hot, other;
    struct plumb_backend *b = NULL;
    plumb_model *m = NULL, *n = NULL;
    plumb_emu_seed(seed);
    CHECK_OK(plumb_backend_cuda_create(&b, 0));
    CHECK_OK(plumb_model_open(&m, b, dir));
    CHECK_OK(plumb_model_create(&n, b, dir, 4));
    for (int i = 0; i < PROMPTS; i++)
        for (int j = 0; j < length[i]; j++)
            prompt[i][j] = (i * 7 + j * 5) % (int)m->spec.v;
    for (size_t i = 0; i < sizeof(slots) / sizeof(*slots); i++) {
        plumb_generator *g = NULL;
        CHECK_OK(plumb_generator_create(
            &g, m, &(struct plumb_generator_need){.slots = slots[i], .max_tokens = LONGEST}));
        int64_t before = launches();
        generate(g, m, 1.2f, true, &eager);
        CHECK(launches() == before);
        if (is_first && i == 0)
            *first = eager;
        same(&eager, first, "kernel by kernel");
        generate(g, m, 1.2f, false, &recorded);
        CHECK(launches() < 0 || launches() > before + 2);
        same(&recorded, first, "recorded");
        before = launches();
        generate(g, m, 1.2f, false, &recorded);
        same(&recorded, first, "recorded before");
        CHECK(launches() < 0 || launches() > before + 2);
        /* a graph must use the present weights and temperature, not those at its recording */
        if (i == 1) {
            generate(g, m, 0.3f, false, &hot);
            CHECK(memcmp(&hot, first, sizeof(hot)) != 0);
            generate(g, n, 1.2f, false, &other);
            CHECK(memcmp(&other, first, sizeof(other)) != 0);
            generate(g, m, 1.2f, false, &recorded);
            same(&recorded, first, "after another model");
            generate(g, m, 0.3f, true, &recorded);
            same(&recorded, &hot, "another temperature");
        }
        plumb_generator_destroy(&g);
    }
    trained(first, m);
    plumb_model_destroy(&n);
    plumb_model_destroy(&m);
    plumb_backend_destroy(&b);
}

int main(void)
{
    const char *root = getenv("PLUMB_SOURCE_ROOT");
    static struct outcome first;
    char dir[512];
    skip_without_gpu();
    snprintf(dir, sizeof(dir), "%s/tests/fixtures/model/llama_gqa_tied", root ? root : ".");
    for (size_t i = 0; i < sizeof(seeds) / sizeof(*seeds); i++)
        run(dir, seeds[i], &first, i == 0);
    int64_t least = NEW, most = 0;
    for (int i = 0; i < ALL; i++) {
        least = first.n[i] > 0 && first.n[i] < least ? first.n[i] : least;
        most = first.n[i] > most ? first.n[i] : most;
    }
    CHECKF(least < NEW && most == NEW, "completions of %d to %d tokens: no slot ends early",
           (int)least, (int)most);
    return 0;
}
