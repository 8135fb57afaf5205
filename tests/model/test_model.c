/* test_model.c - opens, creates and saves models. Checks the messages about models that are
 * refused, and that a saved model is read back unchanged.
 * Test. Includes harness.h, io/, model/. Covers src/model/open.c, build.c, load.c, weights.c,
 * save.c. */
#include "model/model.h"

#include <string.h>
#include <unistd.h>

#include "harness.h"
#include "io/file.h"
#include "io/json.h"
#include "io/safetensors.h"

static char dir[] = "/tmp/plumb_model_XXXXXX";
static char source[600];
static struct plumb_backend *backend;

static const char *in(const char *name)
{
    static char path[700];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void use(const char *fixture)
{
    const char *root = getenv("PLUMB_SOURCE_ROOT");
    snprintf(source, sizeof source, "%s/tests/fixtures/model/%s", root ? root : ".", fixture);
}

/* Writes the checkpoint `source` to dir with tensor `name` changed: removed if new_name is NULL,
 * else renamed to new_name and, unless rows is 0, given `rows` rows. */
static void spoil(const char *name, const char *new_name, int64_t rows)
{
    char from[700];
    plumb_st *st;
    struct plumb_st_entry e[64];
    const void *owned[64];
    int64_t n = 0;
    CHECK_OK(plumb_st_open_dir(&st, source));
    CHECK(plumb_st_count(st) <= 64);
    for (int64_t i = 0; i < plumb_st_count(st); i++) {
        e[n] = *plumb_st_at(st, i);
        /* twice the size, because the changed tensor may have more rows */
        void *data = calloc(2, (size_t)e[n].bytes);
        CHECK(data);
        CHECK_OK(plumb_st_read(data, &e[n], 0, e[n].bytes));
        owned[i] = e[n].data = data;
        if (!strcmp(e[n].name, name)) {
            if (!new_name)
                continue;
            e[n].name = new_name;
            if (rows) {
                e[n].bytes = e[n].bytes / e[n].dim[0] * rows;
                e[n].count = e[n].count / e[n].dim[0] * rows;
                e[n].dim[0] = rows;
            }
        }
        CHECK(++n < 64);
    }
    CHECK_OK(plumb_st_write(in("model.safetensors"), e, n, NULL));
    for (int64_t i = 0; i < plumb_st_count(st); i++)
        free((void *)(uintptr_t)owned[i]);
    plumb_st_close(&st);
    snprintf(from, sizeof from, "%s/config.json", source);
    CHECK_OK(plumb_file_copy(from, in("config.json")));
}

static void check_refused(const char *name, const char *new_name, int64_t rows, plumb_status code,
                          const char *says)
{
    plumb_model *m = NULL;
    spoil(name, new_name, rows);
    const plumb_status st = plumb_model_open(&m, backend, dir);
    CHECKF(st == code && strstr(plumb_trail(), says), "%s: %s", plumb_status_text(st),
           st ? plumb_trail() : "");
    CHECK(!m);
}

static void check_open(void)
{
    plumb_model *m;
    use("llama_gqa_tied");
    check_refused("model.norm.weight", NULL, 0, PLUMB_ERR_FORMAT, "model.norm.weight");
    check_refused("model.layers.1.mlp.up_proj.weight", "model.layers.2.mlp.up_proj.weight", 0,
                  PLUMB_ERR_FORMAT, "model.layers.2.mlp.up_proj.weight does not belong");
    check_refused("model.layers.1.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight", 47,
                  PLUMB_ERR_SHAPE,
                  "model.layers.1.mlp.up_proj.weight has shape (47, 32), config.json asks for "
                  "(48, 32)");
    /* plumb accepts a tensor named rotary_emb.inv_freq and ignores it. But then the renamed tensor
     * is missing. */
    check_refused("model.norm.weight", "model.layers.0.self_attn.rotary_emb.inv_freq", 0,
                  PLUMB_ERR_FORMAT, "model.norm.weight");
    check_refused("model.layers.0.self_attn.q_proj.weight", "lm_head.weight", 0, PLUMB_ERR_SHAPE,
                  "lm_head.weight has shape (32, 32), config.json asks for (64, 32)");
    CHECK_OK(plumb_model_open(&m, backend, source));
    CHECK(m->count % PLUMB_PARAM_BLOCK == 0 && m->fingerprint);
    CHECK(!plumb_model_find(m, "lm_head.weight"));
    for (int64_t i = 0; i < m->n_param; i++) {
        const struct plumb_param *p = &m->param[i];
        CHECK(p->offset % PLUMB_PARAM_ALIGN == 0 && p->decay == (p->rank == 2));
        CHECK(p->offset + p->count <= (i + 1 < m->n_param ? p[1].offset : m->count));
    }
    plumb_model_destroy(&m);
}

static void check_files(void)
{
    static const char *const name[] = {"tokenizer.json", "generation_config.json", "vocab.json"};
    static const char text[] = "{\"bos_token_id\":  1}\n\n";
    struct plumb_buf a = {0};
    for (int i = 0; i < 3; i++) {
        plumb_buf_clear(&a);
        CHECK_OK(plumb_file_read(&a, in(name[i])));
        CHECK(a.len == sizeof text - 1 && !memcmp(a.data, text, sizeof text - 1));
    }
    plumb_buf_fini(&a);
}

/* Checks that the folder `out` has the tensors of `source`: the same shapes, and the same values
 * except for one number. */
static void check_tensors(const char *out)
{
    plumb_st *a, *b;
    int64_t changed = 0;
    CHECK_OK(plumb_st_open_dir(&a, source));
    CHECK_OK(plumb_st_open_dir(&b, out));
    CHECK(plumb_st_count(a) == plumb_st_count(b));
    for (int64_t i = 0; i < plumb_st_count(a); i++) {
        const struct plumb_st_entry *e = plumb_st_at(a, i), *f = plumb_st_find(b, e->name);
        CHECKF(f && f->rank == e->rank && f->dim[0] == e->dim[0] && f->count == e->count, "%s",
               e->name);
        float *x = malloc(2 * (size_t)e->count * sizeof(*x)), *y = x + e->count;
        CHECK(x);
        CHECK_OK(plumb_st_to_f32(x, e));
        CHECK_OK(plumb_st_to_f32(y, f));
        for (int64_t k = 0; k < e->count; k++)
            changed += x[k] != y[k];
        free(x);
    }
    CHECKF(changed == 1, "%s: %lld numbers differ", out, (long long)changed);
    plumb_st_close(&a);
    plumb_st_close(&b);
}

static void check_save(const char *fixture, int64_t shard_bytes)
{
    plumb_model *m, *again;
    char out[700];
    static const char text[] = "{\"bos_token_id\":  1}\n\n";
    use(fixture);
    spoil("nothing", NULL, 0);
    CHECK_OK(plumb_file_write_atomic(in("tokenizer.json"), text, sizeof text - 1));
    CHECK_OK(plumb_file_write_atomic(in("generation_config.json"), text, sizeof text - 1));
    CHECK_OK(plumb_file_write_atomic(in("vocab.json"), text, sizeof text - 1));
    CHECK_OK(plumb_model_open(&m, backend, dir));
    snprintf(out, sizeof out, "%s/out", dir);
    CHECK_OK(plumb_dir_remove(out));
    CHECK_OK(plumb_dir_create(out));
    m->w[m->param[3].offset] += 0.5f;
    CHECK_OK(plumb_model_refresh(m));
    CHECK_OK(plumb_model_save(m, out, shard_bytes));
    CHECK(plumb_file_exists(in("out/model.safetensors.index.json")) == (shard_bytes < 50000));
    check_tensors(out);
    CHECK_OK(plumb_model_open(&again, backend, out));
    CHECK(again->fingerprint == m->fingerprint && again->count == m->count);
    CHECK(!memcmp(again->w, m->w, (size_t)m->count * sizeof *m->w));
    CHECK(again->spec.labels == m->spec.labels);
    plumb_model_destroy(&again);
    plumb_model_destroy(&m);
    check_files();
}

static void check_classifier(void)
{
    plumb_model *m, *again;
    plumb_json *j;
    char out[700];
    snprintf(out, sizeof out, "%s/out", dir);
    use("llama_bias");
    CHECK_OK(plumb_model_open_classifier(&m, backend, source, 2, 9));
    const struct plumb_param *score = plumb_model_find(m, "score.weight");
    CHECK(score && score->dim[0] == 2 && score->dim[1] == 32 && m->w[score->offset] != 0);
    CHECK(!plumb_model_find(m, "lm_head.weight"));
    CHECK_OK(plumb_dir_remove(out));
    CHECK_OK(plumb_dir_create(out));
    CHECK_OK(plumb_model_save(m, out, (int64_t)1 << 30));
    CHECK_OK(plumb_model_open(&again, backend, out));
    CHECK(again->spec.labels == 2 && again->fingerprint == m->fingerprint);
    CHECK_OK(plumb_json_read_file(&j, in("out/config.json")));
    CHECK(!strcmp(plumb_json_string(plumb_json_at(plumb_json_get(j, "architectures"), 0), ""),
                  "LlamaForSequenceClassification"));
    CHECK(plumb_json_count(plumb_json_get(j, "id2label")) == 2);
    CHECK(plumb_json_int(plumb_json_get(plumb_json_get(j, "label2id"), "LABEL_1"), -1) == 1);
    plumb_json_free(&j);
    plumb_model_destroy(&again);
    CHECK_OK(plumb_model_open_classifier(&again, backend, source, 2, 10));
    CHECK(again->fingerprint != m->fingerprint); /* another seed gives other score rows */
    plumb_model_destroy(&again);
    CHECK_OK(plumb_model_open_classifier(&again, backend, out, 2, 10));
    /* the folder has score rows, so the seed is not used */
    CHECK(again->fingerprint == m->fingerprint);
    plumb_model_destroy(&again);
    CHECK(plumb_model_open_classifier(&again, backend, out, 3, 10) == PLUMB_ERR_SHAPE);
    CHECK(plumb_model_open_classifier(&again, backend, out, 0, 10) == PLUMB_ERR_ARG);
    plumb_model_destroy(&m);
}

/* Checks a config.json in which each size is allowed, but the number of parameters does not fit
 * into int64. */
static void check_too_large(void)
{
    static const char config[] =
        "{\"model_type\":\"llama\",\"vocab_size\":16777216,\"hidden_size\":16777216,"
        "\"intermediate_size\":16777216,\"num_hidden_layers\":4096,\"head_dim\":1024,"
        "\"num_attention_heads\":65536,\"max_position_embeddings\":128}";
    plumb_model *m = NULL;
    CHECK_OK(plumb_file_write_atomic(in("config.json"), config, sizeof config - 1));
    CHECK_FAILS(plumb_model_create(&m, backend, dir, 1), PLUMB_ERR_UNSUPPORTED,
                "too many to address");
    CHECK(!m);
}

static void check_create(void)
{
    plumb_model *a, *b;
    use("qwen3_norm");
    CHECK_OK(plumb_model_create(&a, backend, source, 1));
    CHECK_OK(plumb_model_create(&b, backend, source, 1));
    CHECK(a->fingerprint == b->fingerprint);
    plumb_model_destroy(&b);
    CHECK_OK(plumb_model_create(&b, backend, source, 2));
    CHECK(a->fingerprint != b->fingerprint);
    for (int64_t i = 0; i < a->n_param; i++) {
        const struct plumb_param *p = &a->param[i];
        double sum = 0, square = 0;
        for (int64_t k = 0; k < p->count; k++) {
            const double w = a->w[p->offset + k];
            CHECK(p->rank == 2 || w == 1.0);
            sum += w;
            square += w * w;
        }
        if (p->rank == 2)
            CHECKF(fabs(sum / (double)p->count) < 0.002 &&
                       fabs(sqrt(square / (double)p->count) - 0.02) < 0.002,
                   "%s: mean %g, rms %g", p->name, sum / (double)p->count,
                   sqrt(square / (double)p->count));
    }
    plumb_model_destroy(&a);
    plumb_model_destroy(&b);
}

/* Checks which batches a pass accepts, and which calls it refuses. */
static void check_pass(void)
{
    plumb_model *m;
    plumb_pass *p;
    use("llama_gqa_tied");
    CHECK_OK(plumb_model_open(&m, backend, source));
    const struct plumb_pass_limit limit = {
        .max_tokens = 200, .max_seq = 3, .max_targets = 150, .train = true};
    struct plumb_pass_limit none = limit;
    none.max_tokens = 0;
    CHECK(plumb_pass_create(&p, m, &none) == PLUMB_ERR_ARG);
    CHECK_OK(plumb_pass_create(&p, m, &limit));
    CHECK(plumb_pass_bytes(p) > 0);
    static int32_t ids[200];
    static float logp[200], score[8];
    float *grad = calloc((size_t)m->count, sizeof *grad);
    CHECK(grad);
    int64_t offset[] = {0, 5, 6, 10, 12}, prompt[] = {2, 1, 4, 1};
    struct plumb_batch b = {0, ids, offset, prompt};
    CHECK_OK(plumb_pass_logprob(p, m, &b, logp));
    CHECK_OK(plumb_pass_logprob_backward(p, m, logp, grad));
    b.n_seq = 4;
    CHECK(plumb_pass_logprob(p, m, &b, logp) == PLUMB_ERR_SHAPE);
    b.n_seq = 3;
    /* there was no forward before */
    CHECK(plumb_pass_logprob_backward(p, m, logp, grad) == PLUMB_ERR_ARG);
    CHECK_OK(plumb_pass_logprob(p, m, &b, logp));
    CHECK(plumb_pass_score_backward(p, m, score, grad) == PLUMB_ERR_ARG);
    CHECK_OK(plumb_pass_logprob_backward(p, m, logp, grad));
    CHECK(plumb_pass_logprob_backward(p, m, logp, grad) == PLUMB_ERR_ARG);
    CHECK(plumb_pass_score(p, m, &b, score) == PLUMB_ERR_ARG);
    prompt[1] = 2;
    CHECK(plumb_pass_logprob(p, m, &b, logp) == PLUMB_ERR_ARG);
    CHECK(strstr(plumb_trail(), "sequence 1"));
    prompt[1] = 0;
    CHECK(plumb_pass_logprob(p, m, &b, logp) == PLUMB_ERR_ARG);
    prompt[1] = 1;
    ids[7] = 64;
    CHECK(plumb_pass_logprob(p, m, &b, logp) == PLUMB_ERR_ARG);
    CHECK(strstr(plumb_trail(), "sequence 2, token 1: id 64"));
    ids[7] = 0;
    b.n_seq = 1;
    offset[1] = 129;
    CHECK(plumb_pass_logprob(p, m, &b, logp) == PLUMB_ERR_ARG);
    CHECK(strstr(plumb_trail(), "max_position_embeddings"));
    offset[1] = 128;
    CHECK_OK(plumb_pass_logprob(p, m, &b, logp));
    offset[1] = 0;
    CHECK(plumb_pass_logprob(p, m, &b, logp) == PLUMB_ERR_ARG); /* the first sequence is empty */
    plumb_pass_destroy(&p);
    plumb_model_destroy(&m);
    free(grad);
}

/* Checks other names of the same tensors: those of a model that was saved without its head lack
 * "model.", "transformer." or "gpt_neox.", and transformers 5 names GPT-NeoX's head lm_head. A file
 * with both names of a tensor is refused. */
static void check_other_names(void)
{
    static const char *const name[][3] = {
        {"gpt2", "transformer.wte.weight", "wte.weight"},
        {"gpt2", "transformer.h.1.attn.c_attn.weight", "h.1.attn.c_attn.weight"},
        {"llama_gqa_tied", "model.embed_tokens.weight", "embed_tokens.weight"},
        {"phi3_short", "model.layers.1.mlp.gate_up_proj.weight",
         "layers.1.mlp.gate_up_proj.weight"},
        {"gpt_neox", "gpt_neox.final_layer_norm.bias", "final_layer_norm.bias"},
        {"gpt_neox", "embed_out.weight", "lm_head.weight"}};
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) {
        plumb_model *m, *again;
        use(name[i][0]);
        spoil(name[i][1], name[i][2], 0);
        CHECK_OK(plumb_model_open(&m, backend, source));
        CHECK_OK(plumb_model_open(&again, backend, dir));
        CHECKF(again->fingerprint == m->fingerprint, "%s", name[i][2]);
        plumb_model_destroy(&again);
        plumb_model_destroy(&m);
    }
    use("llama_gqa_tied");
    check_refused("model.layers.0.input_layernorm.weight", "norm.weight", 0, PLUMB_ERR_FORMAT,
                  "are two names of one parameter");
}

/* Checks GPT-2's files: old files contain attention masks, which plumb ignores, and the matrices of
 * the layers are stored as (in,out). */
static void check_gpt2_files(void)
{
    static const char fc[] = "transformer.h.1.mlp.c_fc.weight";
    use("gpt2");
    check_refused("transformer.ln_f.bias", "transformer.h.0.attn.bias", 0, PLUMB_ERR_FORMAT,
                  "tensor transformer.ln_f.bias (24 floats) is missing");
    check_refused("transformer.ln_f.bias", "transformer.h.0.attn.c_bias", 0, PLUMB_ERR_FORMAT,
                  "tensor transformer.h.0.attn.c_bias does not belong to the GPT2LMHeadModel");
    check_refused(fc, fc, 23, PLUMB_ERR_SHAPE, "has shape (23, 44), config.json asks for (24, 44)");
}

/* Checks which of longrope's two lists of factors is used. It depends on the longest sequence of
 * the run (tokens), not on the length of each sequence. */
static void check_longest(void)
{
    enum { N = 5, V = 51 };
    const int64_t tokens[] = {0, 64, 65, 1000,
                              /* short_factor is for at most 64 tokens, the model for at most 128 */
                              1};
    const int64_t takes[] = {128, 64, 65, 128, 1};
    static const int32_t ids[N] = {3, 9, 4, 1, 5};
    const int64_t offset[] = {0, N}, prompt[] = {1};
    const struct plumb_batch b = {1, ids, offset, prompt};
    float logits[5][N * V];
    plumb_model *m;
    plumb_pass *p;
    use("phi3_short");
    CHECK_OK(plumb_model_open(&m, backend, source));
    CHECK(m->longest == 128 && m->spec.v == V);
    CHECK_OK(plumb_pass_create(&p, m, &(struct plumb_pass_limit){.max_tokens = N, .max_seq = 1}));
    for (int i = 0; i < 5; i++) {
        CHECK_OK(plumb_model_set_longest(m, tokens[i], NULL));
        CHECK(m->longest == takes[i]);
        CHECK_OK(plumb_pass_logits(p, m, &b, logits[i]));
    }
    CHECK(memcmp(logits[0], logits[1], sizeof(logits[0])) != 0);
    CHECK(!memcmp(logits[0], logits[2], sizeof(logits[0])));
    CHECK(!memcmp(logits[0], logits[3], sizeof(logits[0])));
    CHECK(!memcmp(logits[1], logits[4], sizeof(logits[0])));
    plumb_pass_destroy(&p);
    plumb_model_destroy(&m);
}

/* Checks that plumb refuses to make a Granite sequence classifier, because transformers has
 * none. */
static void check_no_classifier(void)
{
    plumb_model *m = NULL;
    use("granite");
    CHECK_FAILS(plumb_model_open_classifier(&m, backend, source, 1, 7), PLUMB_ERR_UNSUPPORTED,
                "model_type granite cannot become a sequence classifier");
}

int main(void)
{
    CHECK(mkdtemp(dir));
    CHECK_OK(plumb_backend_cpu_create(&backend, 1, 1));
    check_open();
    check_save("llama_odd_untied", (int64_t)1 << 30);
    check_save("qwen3_norm", 40000);
    check_save("qwen2_score3", (int64_t)1 << 30);
    check_save("phi3_long", (int64_t)1 << 30);
    check_save("phi3_score", 20000);
    check_save("olmo2", (int64_t)1 << 30);
    check_save("smollm3_score", (int64_t)1 << 30);
    check_save("granite", (int64_t)1 << 30);
    check_save("gemma2", (int64_t)1 << 30);
    check_save("gpt2", 20000);
    check_save("gpt2_layers", (int64_t)1 << 30);
    check_save("gpt2_score", (int64_t)1 << 30);
    check_save("gpt_neox", (int64_t)1 << 30);
    check_save("gpt_neox_score", 20000);
    check_save("gpt_neox_serial", (int64_t)1 << 30);
    check_save("gemma3", (int64_t)1 << 30);
    check_save("gemma3_score", (int64_t)1 << 30);
    check_save("ministral_mixed", (int64_t)1 << 30);
    check_save("exaone4", (int64_t)1 << 30);
    check_save("ernie4_5", (int64_t)1 << 30);
    check_save("glm4", 20000);
    check_other_names();
    check_gpt2_files();
    check_classifier();
    check_create();
    check_too_large();
    check_pass();
    check_longest();
    check_no_classifier();
    plumb_backend_destroy(&backend);
    CHECK_OK(plumb_dir_remove(dir));
    return 0;
}
