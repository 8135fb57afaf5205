/* test_sources.c - checks settings of a model that two fields or files can give. plumb must use the
 * value that transformers uses, or refuse the model, and must log a contradiction. Test.
 * Fixture: tests/reference/sources_fixtures.py. */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "harness.h"
#include "io/file.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "model/model.h"

static char base[] = "/tmp/plumb_sources_XXXXXX";
static char dir[64];
static struct plumb_backend *backend;
static char *said; /* all messages since the last call of hear() */
static size_t said_bytes;
static FILE *ear;

static void hear(void)
{
    plumb_log_mirror(NULL);
    if (ear)
        fclose(ear);
    free(said);
    said = NULL;
    CHECK((ear = open_memstream(&said, &said_bytes)));
    plumb_log_mirror(ear);
}

/* Changes to a new folder, because the same warning about the same file is logged only once. */
static void next_folder(void)
{
    static int number;
    snprintf(dir, sizeof dir, "%s/%d", base, number++);
    CHECK_OK(plumb_dir_create(dir));
}

static bool heard(const char *text)
{
    fflush(ear);
    return said && strstr(said, text) != NULL;
}

static const char *in(const char *name)
{
    static char path[2][700];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

static void write_text(const char *name, const char *text)
{
    CHECK_OK(plumb_file_write_atomic(in(name), text, (int64_t)strlen(text)));
}

static void write_node(const char *name, const plumb_json *v)
{
    struct plumb_buf b = {0};
    CHECK_OK(plumb_json_put_node(&b, v));
    write_text(name, plumb_buf_text(&b));
    plumb_buf_fini(&b);
}

/* ---- config.json against transformers ----------------------------------------------------- */

static void check_rope(const struct plumb_spec *s, const plumb_json *want, const char *where)
{
    const char *type = plumb_json_string(plumb_json_get(want, "rope_type"), "");
    CHECKF(s->rope[0].type == (!strcmp(type, "llama3")     ? PLUMB_ROPE_LLAMA3
                               : !strcmp(type, "linear")   ? PLUMB_ROPE_LINEAR
                               : !strcmp(type, "yarn")     ? PLUMB_ROPE_YARN
                               : !strcmp(type, "longrope") ? PLUMB_ROPE_LONGROPE
                                                           : PLUMB_ROPE_PLAIN),
           "%s: not %s", where, type);
    CHECKF(s->rope[0].theta == plumb_json_real(plumb_json_get(want, "rope_theta"), -1),
           "%s: rope_theta %g", where, s->rope[0].theta);
    const plumb_json *local = plumb_json_get(want, "local_theta"),
                     *factor = plumb_json_get(want, "factor");
    CHECKF(!local || s->rope[1].theta == plumb_json_real(local, -1), "%s: local theta", where);
    if (factor && s->rope[0].type != PLUMB_ROPE_PLAIN)
        CHECKF(s->rope[0].factor == plumb_json_real(factor, -1), "%s: factor %g", where,
               s->rope[0].factor);
    const plumb_json *original = plumb_json_get(want, "original_max_position_embeddings");
    if (original && s->rope[0].type != PLUMB_ROPE_PLAIN)
        CHECKF(s->rope[0].original_max_pos == plumb_json_real(original, -1), "%s: original %g",
               where, s->rope[0].original_max_pos);
}

/* Checks the end tokens. If generation_config.json has none, transformers ends a completion only at
 * its length; plumb uses those of config.json and logs this. */
static void check_stops(const struct plumb_spec *s, const plumb_json *want, const char *where)
{
    const int64_t n = plumb_json_count(want);
    if (n == 0) {
        CHECKF(s->n_eos == 1 && heard("has no eos_token_id"), "%s: %d", where, s->n_eos);
        return;
    }
    CHECKF(s->n_eos == n, "%s: %d end tokens", where, s->n_eos);
    for (int64_t i = 0; i < n; i++)
        CHECKF(s->eos[i] == plumb_json_int(plumb_json_at(want, i), -1), "%s: end token %d", where,
               (int)s->eos[i]);
}

/* Returns a part of the message with which plumb refuses an attention window for a family without
 * windows. */
static const char *none_of(const plumb_json *config)
{
    static char text[64];
    snprintf(text, sizeof(text), "model_type %s has none",
             plumb_json_string(plumb_json_get(config, "model_type"), ""));
    return text;
}

static void check_case(const plumb_json *c, const char *where)
{
    struct plumb_spec s;
    const plumb_json *config = plumb_json_get(c, "config"),
                     *want = plumb_json_get(c, "transformers");
    const plumb_json *generation = plumb_json_get(c, "generation");
    write_node("config.json", config);
    (void)unlink(in("generation_config.json"));
    if (generation)
        write_node("generation_config.json", generation);
    hear();
    const plumb_status st = plumb_spec_read(&s, dir);
    if (plumb_json_get(want, "raises")) {
        CHECKF(st != PLUMB_OK && (strstr(plumb_trail_message(), "layer_types") ||
                                  strstr(plumb_trail_message(), "rope_scaling")),
               "%s: %s", where, st ? plumb_trail() : "read");
        return;
    }
    /* in these cases, the result of transformers depends on the kind of its cache */
    if (st == PLUMB_ERR_UNSUPPORTED) {
        CHECKF(strstr(plumb_trail_message(), none_of(config)) ||
                   strstr(plumb_trail_message(), "layer_types contradicts sliding_window"),
               "%s: %s", where, plumb_trail());
        return;
    }
    CHECKF(st == PLUMB_OK, "%s: %s", where, plumb_trail());
    check_rope(&s, plumb_json_get(want, "rope"), where);
    const int64_t windowed = plumb_json_int(plumb_json_get(want, "windowed"), -1);
    int64_t found = 0;
    const int64_t window = plumb_json_int(plumb_json_get(want, "window"), -1);
    for (int64_t l = 0; l < s.l; l++)
        found += s.windowed[l];
    CHECKF(windowed == found, "%s: %d layers with a window, not %d", where, (int)found,
           (int)windowed);
    CHECKF(s.window == window, "%s: window %d, not %d", where, (int)s.window, (int)window);
    check_stops(&s, plumb_json_get(want, "eos"), where);
}

static void against_transformers(void)
{
    char path[4096], where[64];
    const char *root = getenv("PLUMB_SOURCE_ROOT");
    plumb_json *j = NULL;
    CHECK_OK(plumb_path_join(path, sizeof path, root ? root : ".",
                             "tests/fixtures/sources/config.json"));
    CHECK_OK(plumb_json_read_file(&j, path));
    const plumb_json *cases = plumb_json_get(j, "cases");
    CHECK(plumb_json_count(cases) > 200);
    for (int64_t i = 0; i < plumb_json_count(cases); i++) {
        snprintf(where, sizeof where, "cases[%d]", (int)i);
        check_case(plumb_json_at(cases, i), where);
    }
    plumb_json_free(&j);
    (void)unlink(in("generation_config.json"));
}

/* ---- a contradiction is logged --------------------------------------------------------------- */

#define SIZES                                                                                      \
    "\"vocab_size\":64,\"hidden_size\":32,\"intermediate_size\":48,\"num_hidden_layers\":2,"       \
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"max_position_embeddings\":128"

static const struct {
    const char *type, *fields, *said;
    bool refused;
} spoken[] = {
    {"llama", "\"rope_scaling\":{\"type\":\"linear\",\"factor\":2},\"rope_parameters\":{}",
     "rope_scaling and rope_parameters", false},
    {"llama", "\"rope_theta\":700,\"rope_parameters\":{\"rope_theta\":500}",
     "rope_theta is 500, but the top level of config.json has 700", false},
    {"llama", "\"rope_parameters\":{\"type\":\"linear\",\"rope_type\":\"default\"}",
     "type is \"linear\" and rope_type is \"default\"", false},
    {"llama", "\"rope_parameters\":{\"rope_type\":\"default\",\"factor\":4}", "\"factor\"", false},
    {"llama", "\"rope_parameters\":{\"mrope_section\":[1,2]}", "\"mrope_section\"", false},
    {"llama",
     "\"original_max_position_embeddings\":32,\"rope_parameters\":{\"rope_type\":\"llama3\","
     "\"factor\":8,\"low_freq_factor\":1,\"high_freq_factor\":4,"
     "\"original_max_position_embeddings\":64}",
     "original_max_position_embeddings is 64, but the top level of config.json has 32", false},
    {"llama", "\"sliding_window\":7", "sliding_window asks for an attention window", true},
    {"llama", "\"layer_types\":[\"sliding_attention\",\"full_attention\"]", "layer_types asks",
     true},
    {"qwen2", "\"layer_types\":[\"sliding_attention\",\"sliding_attention\"]",
     "use_sliding_window is not true", true},
    {"mistral",
     "\"sliding_window\":null,\"layer_types\":[\"sliding_attention\",\"sliding_attention\"]",
     "sliding_window is null", true},
    {"mistral", "\"sliding_window\":7,\"layer_types\":[\"sliding_attention\",\"full_attention\"]",
     "1 of 2 layers", false},
    {"mistral", "\"sliding_window\":7,\"layer_types\":[\"full_attention\",\"full_attention\"]",
     "layer_types gives 0 of 2", false},
    {"qwen3",
     "\"use_sliding_window\":true,\"max_window_layers\":0,\"sliding_window\":7,\"layer_types\":"
     "[\"full_attention\",\"full_attention\"]",
     "max_window_layers with use_sliding_window", false},
    {"qwen2", "\"attention_bias\":false", "attention_bias is not used", false},
    {"mistral", "\"attention_bias\":true", "attention_bias is not used", false},
    {"qwen3", "\"mlp_bias\":true", "mlp_bias is not used", false},
    {"llama", "\"attention_dropout\":0.1", "attention_dropout is 0.1", false},
    {"llama", "\"is_causal\":false", "\"is_causal\": false", true},
    {"llama", "\"logit_scale\":0.0625", "\"logit_scale\": 0.0625", true},
    {"llama", "\"logits_scaling\":8", "\"logits_scaling\": 8", true},
    {"llama", "\"final_logit_softcapping\":30.0", "\"final_logit_softcapping\"", true},
    {"llama", "\"attn_logit_softcapping\":50.0", "\"attn_logit_softcapping\"", true},
    {"llama", "\"embedding_multiplier\":12.0", "\"embedding_multiplier\"", true},
    {"llama", "\"hidden_activation\":\"gelu\"", "\"hidden_activation\"", true},
    {"llama", "\"no_rope_layers\":[1,0]", "\"no_rope_layers\"", true},
    {"llama", "\"num_local_experts\":8", "\"num_local_experts\"", true},
    {"llama", "\"per_layer_config\":{\"1\":{}}", "\"per_layer_config\"", true},
    {"llama", "\"a_field_of_tomorrow\":3", "\"a_field_of_tomorrow\"", false},
    {"llama", "\"auto_map\":{\"AutoModel\":\"x.Y\"}", "auto_map", false},
    {"llama", "\"pad_token_id\":-1", "pad_token_id is not an id", false},
    {"llama", "\"dtype\":\"float16\",\"torch_dtype\":\"bfloat16\"", "torch_dtype", false},
};

static void contradictions(void)
{
    char text[1200];
    struct plumb_spec s;
    for (size_t i = 0; i < sizeof spoken / sizeof *spoken; i++) {
        snprintf(text, sizeof text, "{\"model_type\":\"%s\"," SIZES ",%s}", spoken[i].type,
                 spoken[i].fields);
        next_folder();
        write_text("config.json", text);
        hear();
        const plumb_status st = plumb_spec_read(&s, dir);
        CHECKF((st != PLUMB_OK) == spoken[i].refused, "%s: %s", spoken[i].fields,
               st ? plumb_trail() : "read");
        CHECKF(st ? strstr(plumb_trail_message(), spoken[i].said) != NULL : heard(spoken[i].said),
               "%s: said %s%s", spoken[i].fields, st ? plumb_trail_message() : "",
               said ? said : "");
    }
    /* Fields without effect cause no warning. */
    write_text("config.json",
               "{\"model_type\":\"llama\"," SIZES
               ",\"logit_scale\":1.0,\"num_experts\":0,\"is_causal\":true,\"final_logit_softcapping"
               "\":null,\"hidden_activation\":\"silu\",\"rope_theta\":500,\"rope_scaling\":{},"
               "\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":500},"
               "\"attention_dropout\":0.0,\"temperature\":0.6,\"use_cache\":true}");
    hear();
    CHECK_OK(plumb_spec_read(&s, dir));
    CHECKF(!heard("warning"), "%s", said);
    write_text("generation_config.json", "{\"eos_token_id\":[7,8],\"bos_token_id\":3}");
    write_text("config.json",
               "{\"model_type\":\"llama\"," SIZES ",\"eos_token_id\":2,\"bos_token_id\":1}");
    hear();
    CHECK_OK(plumb_spec_read(&s, dir));
    CHECK(heard("does not contain 2, which is an end token in config.json") &&
          heard("bos_token_id is 3"));
    CHECK(unlink(in("generation_config.json")) == 0);
}

static void adapters(void)
{
    struct plumb_spec s;
    next_folder();
    write_text("config.json", "{\"model_type\":\"llama\"," SIZES "}");
    CHECK_OK(plumb_spec_read(&s, dir));
    write_text("adapter_config.json", "{}");
    CHECK_FAILS(plumb_spec_read(&s, dir), PLUMB_ERR_UNSUPPORTED, "adapter_config.json");
    CHECK(unlink(in("adapter_config.json")) == 0);
}

/* ---- the weights against config.json ------------------------------------------------------ */

static char source[600];

static void use(const char *fixture)
{
    const char *root = getenv("PLUMB_SOURCE_ROOT");
    snprintf(source, sizeof source, "%s/tests/fixtures/model/%s", root ? root : ".", fixture);
}

/* Writes the weights of `source` to dir. embed: the name of the embedding. head: the name under
 * which its values are written a second time, with `step` added to the first value. A NULL name
 * leaves this tensor out. */
static void write_weights(const char *embed, const char *head, float step)
{
    plumb_st *st;
    struct plumb_st_entry e[64];
    void *data[64];
    int64_t n = 0;
    CHECK_OK(plumb_st_open_dir(&st, source));
    const struct plumb_st_entry *own = plumb_st_find(st, "model.embed_tokens.weight");
    float *copy = malloc((size_t)own->bytes);
    CHECK(own && copy);
    CHECK_OK(plumb_st_to_f32(copy, own));
    copy[0] += step;
    for (int64_t i = 0; i < plumb_st_count(st); i++) {
        e[n] = *plumb_st_at(st, i);
        CHECK((data[i] = malloc((size_t)e[n].bytes)));
        CHECK_OK(plumb_st_read(data[i], &e[n], 0, e[n].bytes));
        e[n].data = data[i];
        if (plumb_st_at(st, i) == own)
            e[n].name = embed;
        n += e[n].name && strcmp(e[n].name, "lm_head.weight") != 0;
        CHECK(n < 63);
    }
    if (head) {
        e[n] = *own;
        e[n].name = head;
        e[n++].data = copy;
    }
    CHECK_OK(plumb_st_write(in("model.safetensors"), e, n, NULL));
    for (int64_t i = 0; i < plumb_st_count(st); i++)
        free(data[i]);
    free(copy);
    plumb_st_close(&st);
}

static void copy_config(void)
{
    char from[700];
    snprintf(from, sizeof from, "%s/config.json", source);
    CHECK_OK(plumb_file_copy(from, in("config.json")));
}

static bool saved_flag(const char *key, bool fallback)
{
    plumb_json *j;
    CHECK_OK(plumb_json_read_file(&j, in("out/config.json")));
    const bool value = plumb_json_bool(plumb_json_get(j, key), fallback);
    plumb_json_free(&j);
    return value;
}

static void save(const plumb_model *m)
{
    CHECK_OK(plumb_dir_remove(in("out")));
    CHECK_OK(plumb_dir_create(in("out")));
    CHECK_OK(plumb_model_save(m, in("out"), (int64_t)1 << 30));
}

/* Checks tie_word_embeddings against the tensors in the file. plumb must do what transformers'
 * tie_weights does. */
static void heads(void)
{
    static const char embed[] = "model.embed_tokens.weight", head[] = "lm_head.weight";
    plumb_model *m, *plain;
    use("llama_gqa_tied");
    copy_config();
    CHECK_OK(plumb_model_open(&plain, backend, source));
    write_weights(embed, head, 0); /* the file has both tensors, with the same values */
    hear();
    CHECK_OK(plumb_model_open(&m, backend, dir));
    CHECK(m->spec.tied && m->fingerprint == plain->fingerprint && !heard("warning"));
    plumb_model_destroy(&m);
    write_weights(NULL, head, 0); /* the file has only the head */
    hear();
    CHECK_OK(plumb_model_open(&m, backend, dir));
    CHECK(m->spec.tied && m->fingerprint == plain->fingerprint &&
          heard("lm_head.weight is used for both"));
    plumb_model_destroy(&m);
    write_weights(embed, head, 0.25f); /* the file has both tensors, with different values */
    hear();
    CHECK_OK(plumb_model_open(&m, backend, dir));
    CHECK(!m->spec.tied && heard("tie_word_embeddings") && heard(head));
    const struct plumb_param *p = plumb_model_find(m, head);
    CHECK(p && m->w[p->offset] == plain->w[0] + 0.25f);
    save(m);
    CHECK(!saved_flag("tie_word_embeddings", true));
    plumb_model_destroy(&m);
    CHECK_OK(plumb_model_open(&m, backend, in("out")));
    CHECK(!m->spec.tied && plumb_model_find(m, head));
    plumb_model_destroy(&m);
    plumb_model_destroy(&plain);
    use("llama_odd_untied");
    copy_config();
    write_weights(embed, NULL, 0);
    CHECK_FAILS(plumb_model_open(&m, backend, dir), PLUMB_ERR_FORMAT,
                "lm_head.weight is missing, and config.json does not say tie_word_embeddings");
}

/* ---- the token at which a classifier's score is read -------------------------------------- */

static float score(plumb_pass *p, const plumb_model *m, const int32_t *ids, int64_t n)
{
    const int64_t offset[] = {0, n}, prompt[] = {1};
    const struct plumb_batch b = {1, ids, offset, prompt};
    float out = 0;
    CHECK_OK(plumb_pass_score(p, m, &b, &out));
    return out;
}

/* Writes the config.json of `source` to dir, with `pad` as the value of pad_token_id. */
static void set_pad(const char *pad)
{
    struct plumb_buf text = {0}, whole = {0};
    char path[700];
    snprintf(path, sizeof path, "%s/config.json", source);
    CHECK_OK(plumb_file_read(&text, path));
    const char *at = strstr(plumb_buf_text(&text), "\"pad_token_id\": 0");
    CHECK(at);
    CHECK_OK(plumb_buf_add(&whole, text.data, at - text.data));
    CHECK_OK(plumb_buf_addf(&whole, "\"pad_token_id\": %s", pad));
    CHECK_OK(plumb_buf_add_text(&whole, at + strlen("\"pad_token_id\": 0")));
    write_text("config.json", plumb_buf_text(&whole));
    plumb_buf_fini(&text);
    plumb_buf_fini(&whole);
}

static void padding(void)
{
    static const int32_t ids[] = {5, 6, 7, 2, 2};
    const struct plumb_pass_limit limit = {.max_tokens = 16, .max_seq = 2};
    plumb_model *m;
    plumb_pass *p;
    use("llama_score1");
    write_weights("model.embed_tokens.weight", NULL, 0);
    set_pad("2"); /* token 2 is also the end token */
    hear();
    CHECK_OK(plumb_model_open(&m, backend, dir));
    CHECK_OK(plumb_model_fit_tokenizer(m, NULL, dir));
    CHECK(heard("pad_token_id 2 is the end token"));
    CHECK_OK(plumb_pass_create(&p, m, &limit));
    const float before = score(p, m, ids, 3);
    CHECK(score(p, m, ids, 4) == before && score(p, m, ids, 5) == before);
    /* a text of pad tokens only is read at its first token */
    CHECK(score(p, m, ids + 3, 2) == score(p, m, ids + 3, 1));
    save(m);
    plumb_pass_destroy(&p);
    plumb_model_destroy(&m);
    set_pad("null");
    hear();
    CHECK_OK(plumb_model_open(&m, backend, dir));
    CHECK_OK(plumb_model_fit_tokenizer(m, NULL, dir));
    CHECK(!heard("warning") && m->spec.pad == -1);
    CHECK_OK(plumb_pass_create(&p, m, &limit));
    CHECK(score(p, m, ids, 3) == before && score(p, m, ids, 4) != before);
    plumb_pass_destroy(&p);
    plumb_model_destroy(&m);
    /* A saved model has the pad token of the original model, so it reads its score at the same
     * token. */
    CHECK_OK(plumb_model_open(&m, backend, in("out")));
    CHECK(m->spec.pad == 2);
    plumb_model_destroy(&m);
}

/* Checks a new classifier. If the pad token of the base model is its end token, the classifier and
 * its config.json have no pad token, so that transformers reads the score at the same token as
 * plumb. */
static void fresh_classifier(void)
{
    plumb_model *m;
    plumb_json *j;
    use("llama_bias");
    write_weights("model.embed_tokens.weight", NULL, 0);
    set_pad("2, \"problem_type\": \"single_label_classification\"");
    CHECK_OK(plumb_model_open_classifier(&m, backend, dir, 1, 9));
    CHECK(m->spec.pad == -1);
    save(m);
    plumb_model_destroy(&m);
    CHECK_OK(plumb_json_read_file(&j, in("out/config.json")));
    CHECK(plumb_json_member(j, "pad_token_id") && !plumb_json_get(j, "pad_token_id"));
    /* transformers refuses this field in a classifier with 1 label */
    CHECK(!plumb_json_member(j, "problem_type"));
    plumb_json_free(&j);
    set_pad("7");
    CHECK_OK(plumb_model_open_classifier(&m, backend, dir, 1, 9));
    CHECK(m->spec.pad == 7);
    save(m);
    plumb_model_destroy(&m);
    CHECK_OK(plumb_model_open(&m, backend, in("out")));
    CHECK(m->spec.pad == 7 && m->spec.labels == 1);
    plumb_model_destroy(&m);
}

/* Checks that a model is saved with the tokenizer files that the run used, not with those in the
 * model's folder. */
static void tokenizer_folder(void)
{
    plumb_model *m;
    struct plumb_buf text = {0};
    use("llama_gqa_tied");
    copy_config();
    write_weights("model.embed_tokens.weight", NULL, 0);
    CHECK_OK(plumb_dir_create(in("words")));
    write_text("tokenizer.json", "model's");
    write_text("added_tokens.json", "model's");
    write_text("words/tokenizer.json", "own");
    write_text("words/chat_template.jinja", "own");
    CHECK_OK(plumb_model_open(&m, backend, dir));
    CHECK_OK(plumb_model_set_source(m, dir, in("words")));
    save(m);
    CHECK_OK(plumb_file_read(&text, in("out/tokenizer.json")));
    CHECK(!strcmp(plumb_buf_text(&text), "own"));
    CHECK(plumb_file_exists(in("out/chat_template.jinja")));
    CHECK(!plumb_file_exists(in("out/added_tokens.json")));
    plumb_buf_fini(&text);
    plumb_model_destroy(&m);
}

int main(void)
{
    CHECK(mkdtemp(base));
    next_folder();
    CHECK_OK(plumb_backend_cpu_create(&backend, 1, 1));
    against_transformers();
    contradictions();
    adapters();
    heads();
    padding();
    fresh_classifier();
    tokenizer_folder();
    plumb_backend_destroy(&backend);
    plumb_log_mirror(NULL);
    fclose(ear);
    free(said);
    CHECK_OK(plumb_dir_remove(base));
    return 0;
}
