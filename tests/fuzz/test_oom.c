/* test_oom.c - runs each constructor with its k-th allocation failing, for every k. The constructor
 * must report that there is no memory, return nothing and leak nothing (the address sanitizer
 * checks leaks).
 * Test. Includes harness.h and every layer below train/.
 *
 * The test is linked with --wrap, so that only allocations by plumb's own code fail, not those of
 * the shared libraries. */
#include <stdatomic.h>

#include "base/pool.h"
#include "comm/comm.h"
#include "config/config.h"
#include "data/dataset.h"
#include "data/rollout_store.h"
#include "harness.h"
#include "io/file.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "model/generate.h"
#include "spm.h"
#include "text/template.h"
#include "train/gradient_model.h"
#include "train/micro.h"
#include "train/optim.h"
#include "train/weights.h"

void *__real_malloc(size_t n);
void *__real_calloc(size_t a, size_t b);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t align, size_t n);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t a, size_t b);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);

static atomic_long fail_at = -1, seen;

static bool fails(void)
{
    return atomic_fetch_add(&seen, 1) + 1 == atomic_load(&fail_at);
}
void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}
void *__wrap_calloc(size_t a, size_t b)
{
    return fails() ? NULL : __real_calloc(a, b);
}
void *__wrap_realloc(void *p, size_t n)
{
    return fails() ? NULL : __real_realloc(p, n);
}
void *__wrap_aligned_alloc(size_t align, size_t n)
{
    return fails() ? NULL : __real_aligned_alloc(align, n);
}
char *__wrap_strdup(const char *s)
{
    return fails() ? NULL : __real_strdup(s);
}
char *__wrap_strndup(const char *s, size_t n)
{
    return fails() ? NULL : __real_strndup(s, n);
}

/* Arguments of the constructors below. They are created before any allocation fails. */
static struct {
    char model[512], config[512];
    struct plumb_backend *backend;
    plumb_comm *comm;
    plumb_model *m;
    plumb_tokenizer *tokenizer;
} given;

/* The result of a constructor; which member is used depends on the constructor. */
union made {
    void *object; /* stands for any of the pointers; NULL at first */
    plumb_comm *comm[3];
    plumb_pool *pool;
    struct plumb_backend *backend;
    plumb_json *json;
    plumb_st *st;
    plumb_tokenizer *tokenizer;
    struct plumb_dataset *dataset;
    struct plumb_config *config;
    struct plumb_rollout_store *rollouts;
    plumb_model *model;
    plumb_pass *pass;
    plumb_optim *optim;
    struct plumb_generator *generator;
    struct plumb_gradient gradient;
    struct plumb_pack pack;
    struct plumb_micro micro;
    uint64_t weights;
    struct plumb_buf buf;
    struct plumb_names names;
    struct plumb_ids ids;
};

static plumb_status make_comm(union made *x)
{
    return plumb_comm_thread_create(x->comm, 3);
}
static void drop_comm(union made *x)
{
    for (int i = 0; i < 3; i++)
        plumb_comm_destroy(&x->comm[i]);
}
static plumb_status make_single(union made *x)
{
    return plumb_comm_single_create(&x->comm[0]);
}
static void drop_single(union made *x)
{
    plumb_comm_destroy(&x->comm[0]);
}
static plumb_status make_pool(union made *x)
{
    return plumb_pool_create(&x->pool, 3);
}
static void drop_pool(union made *x)
{
    plumb_pool_destroy(&x->pool);
}
static plumb_status make_backend(union made *x)
{
    return plumb_backend_cpu_create(&x->backend, 2, 1);
}
static void drop_backend(union made *x)
{
    plumb_backend_destroy(&x->backend);
}
static plumb_status make_json(union made *x)
{
    static const char text[] = "{\"a\":[1,2.5,{\"b\":\"c\"}],\"d\":null}";
    return plumb_json_parse(&x->json, text, sizeof(text) - 1, "text");
}
static void drop_json(union made *x)
{
    plumb_json_free(&x->json);
}
static plumb_status make_st(union made *x)
{
    return plumb_st_open_dir(&x->st, given.model);
}
static void drop_st(union made *x)
{
    plumb_st_close(&x->st);
}
static plumb_status make_names(union made *x)
{
    return plumb_dir_list(&x->names, given.model);
}
static void drop_names(union made *x)
{
    plumb_names_fini(&x->names);
}
static plumb_status make_config(union made *x)
{
    return plumb_config_load(&x->config, "align", given.config, NULL, 0);
}
static void drop_config(union made *x)
{
    plumb_config_free(&x->config);
}
static plumb_status make_tokenizer(union made *x)
{
    static const char config[] = "{\"bos_token\":\"<s>\",\"eos_token\":\"w\"}";
    return plumb_tokenizer_parse(&x->tokenizer, spm, sizeof(spm) - 1, config, sizeof(config) - 1,
                                 "spm");
}
static void drop_tokenizer(union made *x)
{
    plumb_tokenizer_close(&x->tokenizer);
}
static plumb_status make_ids(union made *x)
{
    static const char text[] = "ab a <s> b \xc3\xa9 w";
    return plumb_tokenizer_encode(given.tokenizer, &x->ids, text, sizeof(text) - 1, true);
}
static void drop_ids(union made *x)
{
    plumb_ids_fini(&x->ids);
}
static plumb_status make_text(union made *x)
{
    static const int32_t id[] = {10, 3, 6, 7, 1, 2, 9, 5};
    return plumb_tokenizer_decode(given.tokenizer, &x->buf, id, 8, false);
}
static plumb_status make_template(union made *x)
{
    static const struct plumb_message m[] = {{"system", "be kind"}, {"user", "ab"}};
    return plumb_template_render(&x->buf, "{#messages}<{role}>{content}{/messages}", m, 2);
}
static void drop_buf(union made *x)
{
    plumb_buf_fini(&x->buf);
}
static plumb_status make_dataset(union made *x)
{
    static const char text[] =
        "{\"prompt\":\"ab\",\"chosen\":\"a\",\"rejected\":\"b\",\"id\":7}\n"
        "{\"chosen\":\"ab: a\",\"rejected\":\"ab: b\",\"solution\":\"x\"}\n"
        "{\"chosen\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\","
        "\"content\":\"b\"}],\"rejected\":[{\"role\":\"user\",\"content\":\"a\"},"
        "{\"role\":\"assistant\",\"content\":\"w\"}]}\n";
    const struct plumb_data_options o = {
        .kind = PLUMB_DATA_PAIRS, .tokenizer = given.tokenizer, .append_eos = true};
    return plumb_dataset_parse(&x->dataset, text, sizeof(text) - 1, "text", &o);
}
static void drop_dataset(union made *x)
{
    plumb_dataset_close(&x->dataset);
}
static plumb_status make_rollouts(union made *x)
{
    return plumb_rollout_store_create(&x->rollouts, 4, 100, 50, 64);
}
static void drop_rollouts(union made *x)
{
    plumb_rollout_store_destroy(&x->rollouts);
}
static plumb_status make_model(union made *x)
{
    return plumb_model_open(&x->model, given.backend, given.model);
}
static plumb_status make_fresh(union made *x)
{
    return plumb_model_create(&x->model, given.backend, given.model, 7);
}
static plumb_status make_classifier(union made *x)
{
    return plumb_model_open_classifier(&x->model, given.backend, given.model, 2, 7);
}
static void drop_model(union made *x)
{
    plumb_model_destroy(&x->model);
}
static plumb_status make_pass(union made *x)
{
    const struct plumb_pass_limit limit = {.max_tokens = 40, .max_seq = 3, .train = true};
    return plumb_pass_create(&x->pass, given.m, &limit);
}
static void drop_pass(union made *x)
{
    plumb_pass_destroy(&x->pass);
}
static plumb_status make_generator(union made *x)
{
    return plumb_generator_create(
        &x->generator, given.m,
        &(struct plumb_generator_need){.slots = 3, .max_tokens = 40, .tokenizer = given.tokenizer});
}
static void drop_generator(union made *x)
{
    plumb_generator_destroy(&x->generator);
}
static plumb_status make_gradient(union made *x)
{
    return plumb_gradient_init(&x->gradient, given.backend, given.comm, given.m->count, 5);
}
static plumb_status make_sharded(union made *x)
{
    struct plumb_config cfg = {0};
    cfg.train.shard = PLUMB_SHARD_GRADIENTS;
    return plumb_gradient_open(&x->gradient, given.m, given.comm, &cfg, 5);
}
static void drop_gradient(union made *x)
{
    plumb_gradient_fini(&x->gradient);
}
static plumb_status make_pack(union made *x)
{
    return plumb_pack_init(&x->pack, 40, 3);
}
static void drop_pack(union made *x)
{
    plumb_pack_fini(&x->pack);
}
static plumb_status make_micro(union made *x)
{
    return plumb_micro_init(&x->micro, PLUMB_MICRO_SCORE, 40, 3);
}
static void drop_micro(union made *x)
{
    plumb_micro_fini(&x->micro);
}
static plumb_status compare_weights(union made *x)
{
    return plumb_weights_agree(&x->weights, given.m, given.comm);
}
static void drop_nothing(union made *x)
{
    (void)x;
}
static plumb_status make_optim(union made *x)
{
    const struct plumb_optim_options o = {.learning_rate = 1,
                                          .beta1 = 0.9,
                                          .beta2 = 0.9,
                                          .eps = 1e-8,
                                          .schedule = {PLUMB_LR_CONSTANT, 1, 0, 0}};
    return plumb_optim_create(&x->optim, given.m, given.comm, &o);
}
static void drop_optim(union made *x)
{
    plumb_optim_destroy(&x->optim);
}

static const struct {
    const char *name;
    plumb_status (*make)(union made *x);
    void (*drop)(union made *x);
    /* after a failure, a part of the result may exist, which the caller must release */
    bool partial;
} constructor[] = {
    {"thread ranks", make_comm, drop_comm, false},
    {"single rank", make_single, drop_single, false},
    {"pool", make_pool, drop_pool, false},
    {"backend", make_backend, drop_backend, false},
    {"json", make_json, drop_json, false},
    {"safetensors folder", make_st, drop_st, false},
    {"folder list", make_names, drop_names, true},
    {"config", make_config, drop_config, false},
    {"tokenizer", make_tokenizer, drop_tokenizer, false},
    {"ids", make_ids, drop_ids, true},
    {"text", make_text, drop_buf, true},
    {"template", make_template, drop_buf, true},
    {"data set", make_dataset, drop_dataset, false},
    {"rollouts", make_rollouts, drop_rollouts, false},
    {"model", make_model, drop_model, false},
    {"fresh model", make_fresh, drop_model, false},
    {"classifier", make_classifier, drop_model, false},
    {"pass", make_pass, drop_pass, false},
    {"generator", make_generator, drop_generator, false},
    {"gradient", make_gradient, drop_gradient, false},
    {"sharded gradient", make_sharded, drop_gradient, false},
    {"pack", make_pack, drop_pack, false},
    {"micro-batch", make_micro, drop_micro, false},
    {"comparison of weights", compare_weights, drop_nothing, false},
    {"optimizer", make_optim, drop_optim, false},
};

static long sweep(size_t i)
{
    for (long k = 1;; k++) {
        union made x;
        memset(&x, 0, sizeof(x));
        seen = 0;
        fail_at = k;
        const plumb_status st = constructor[i].make(&x);
        fail_at = -1;
        const long n = seen;
        if (st == PLUMB_OK) {
            constructor[i].drop(&x);
            CHECKF(n < k, "%s: allocation %ld of %ld failed unseen", constructor[i].name, k, n);
            return k - 1;
        }
        CHECKF(st == PLUMB_ERR_NOMEM, "%s: allocation %ld of %ld: %s", constructor[i].name, k, n,
               plumb_trail());
        if (constructor[i].partial)
            constructor[i].drop(&x);
        else
            CHECKF(!x.object, "%s: allocation %ld handed something out", constructor[i].name, k);
    }
}

static int64_t logprob(plumb_pass *p, float *grad)
{
    static const int32_t ids[] = {1, 2, 3, 4, 5, 6, 7, 8};
    static const int64_t offset[] = {0, 5, 8}, prompt[] = {2, 1};
    const struct plumb_batch b = {2, ids, offset, prompt};
    float logp[5];
    seen = 0;
    CHECK_OK(plumb_pass_logprob(p, given.m, &b, logp));
    CHECK_OK(plumb_pass_logprob_backward(p, given.m, logp, grad));
    return seen;
}

/* Checks that a forward and backward pass allocates all its memory when it is created, and none
 * later. */
static void check_planned(void)
{
    union made x = {0};
    float *grad = calloc((size_t)given.m->count, sizeof(*grad));
    CHECK(grad);
    CHECK_OK(make_pass(&x));
    const int64_t n = logprob(x.pass, grad);
    CHECKF(n == 0, "a pass allocates %lld times", (long long)n);
    drop_pass(&x);
    free(grad);
}

int main(void)
{
    const char *root = getenv("PLUMB_SOURCE_ROOT");
    union made x = {0};
    snprintf(given.model, sizeof(given.model), "%s/tests/fixtures/model/llama_gqa_tied",
             root ? root : ".");
    snprintf(given.config, sizeof(given.config), "%s/configs/quickstart/align.yaml",
             root ? root : ".");
    CHECK_OK(plumb_backend_cpu_create(&given.backend, 1, 1));
    CHECK_OK(plumb_comm_single_create(&given.comm));
    CHECK_OK(plumb_model_open(&given.m, given.backend, given.model));
    CHECK_OK(make_tokenizer(&x));
    given.tokenizer = x.tokenizer;
    for (size_t i = 0; i < sizeof(constructor) / sizeof(constructor[0]); i++)
        printf("%s: %ld allocations\n", constructor[i].name, sweep(i));
    check_planned();
    plumb_tokenizer_close(&given.tokenizer);
    plumb_model_destroy(&given.m);
    plumb_comm_destroy(&given.comm);
    plumb_backend_destroy(&given.backend);
    return 0;
}
