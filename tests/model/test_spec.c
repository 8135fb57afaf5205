/* test_spec.c - checks the reading of config.json: the defaults of each family, and that a message
 * of refusal names the field. */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "harness.h"
#include "io/file.h"
#include "model/spec.h"

static char dir[] = "/tmp/plumb_spec_XXXXXX";

static const char *const base[][2] = {
    {"model_type", "\"llama\""},
    {"architectures", "[\"LlamaForCausalLM\"]"},
    {"vocab_size", "64"},
    {"hidden_size", "32"},
    {"intermediate_size", "48"},
    {"num_hidden_layers", "4"},
    {"num_attention_heads", "8"},
    {"num_key_value_heads", "2"},
    {"max_position_embeddings", "128"},
    {"eos_token_id", "2"},
};
#define N_BASE (sizeof base / sizeof *base)

static void write_file(const char *name, const char *text)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    CHECK_OK(plumb_file_write_atomic(path, text, (int64_t)strlen(text)));
}

static void put(struct plumb_buf *b, const char *key, const char *value)
{
    CHECK_OK(plumb_buf_addf(b, "%s\"%s\": %s", b->len > 1 ? ", " : "", key, value));
}

/* Reads the base configuration with changed or additional fields. The value NULL removes a
 * field. */
static plumb_status read_with(struct plumb_spec *s, const char *const change[][2], int n)
{
    struct plumb_buf b = {0};
    CHECK_OK(plumb_buf_add_text(&b, "{"));
    for (size_t i = 0; i < N_BASE; i++) {
        bool same = true;
        for (int k = 0; k < n; k++)
            same = same && strcmp(base[i][0], change[k][0]) != 0;
        if (same)
            put(&b, base[i][0], base[i][1]);
    }
    for (int k = 0; k < n; k++)
        if (change[k][1])
            put(&b, change[k][0], change[k][1]);
    CHECK_OK(plumb_buf_add_text(&b, "}"));
    write_file("config.json", b.data);
    plumb_buf_fini(&b);
    return plumb_spec_read(s, dir);
}

#define WITH(s, ...)                                                                               \
    read_with((s), (const char *const[][2]){__VA_ARGS__},                                          \
              (int)(sizeof((const char *const[][2]){__VA_ARGS__}) / sizeof(char *[2])))

static const struct {
    const char *key, *value;
    plumb_status code;
    const char *says;
} refused[] = {
    {"model_type", NULL, PLUMB_ERR_FORMAT, "model_type"},
    {"model_type", "\"bloom\"", PLUMB_ERR_UNSUPPORTED, "model_type \"bloom\""},
    {"model_type", "3", PLUMB_ERR_FORMAT, "model_type"},
    {"architectures", "[\"LlamaForTokenClassification\"]", PLUMB_ERR_UNSUPPORTED,
     "LlamaForTokenClassification"},
    {"architectures", "[\"MistralForCausalLM\"]", PLUMB_ERR_UNSUPPORTED, "MistralForCausalLM"},
    {"architectures", "[\"MistralModel\"]", PLUMB_ERR_UNSUPPORTED, "MistralModel"},
    {"architectures", "[]", PLUMB_ERR_FORMAT, "architectures"},
    {"vocab_size", NULL, PLUMB_ERR_FORMAT, "vocab_size"},
    {"vocab_size", "\"64\"", PLUMB_ERR_FORMAT, "vocab_size"},
    {"vocab_size", "0", PLUMB_ERR_FORMAT, "vocab_size is 0"},
    {"hidden_size", "-32", PLUMB_ERR_FORMAT, "hidden_size"},
    {"intermediate_size", "99999999999", PLUMB_ERR_FORMAT, "intermediate_size"},
    {"num_hidden_layers", NULL, PLUMB_ERR_FORMAT, "num_hidden_layers"},
    {"num_attention_heads", "0", PLUMB_ERR_FORMAT, "num_attention_heads"},
    {"num_attention_heads", "64", PLUMB_ERR_FORMAT, "head_dim"},
    {"max_position_embeddings", NULL, PLUMB_ERR_FORMAT, "max_position_embeddings"},
    {"num_key_value_heads", "3", PLUMB_ERR_FORMAT, "num_key_value_heads 3"},
    {"head_dim", "5", PLUMB_ERR_FORMAT, "head_dim is 5"},
    {"rms_norm_eps", "0", PLUMB_ERR_FORMAT, "rms_norm_eps"},
    {"initializer_range", "-1", PLUMB_ERR_FORMAT, "initializer_range"},
    {"hidden_act", "\"relu\"", PLUMB_ERR_UNSUPPORTED, "hidden_act \"relu\""},
    {"quantization_config", "{\"bits\": 4}", PLUMB_ERR_UNSUPPORTED, "quantization_config"},
    {"partial_rotary_factor", "0.5", PLUMB_ERR_UNSUPPORTED, "partial_rotary_factor"},
    {"model_type", "\"mixtral\"", PLUMB_ERR_UNSUPPORTED, "olmo2, olmo3, smollm3, granite, phi3"},
    {"rope_theta", "\"x\"", PLUMB_ERR_FORMAT, "rope_theta"},
    {"rope_theta", "0", PLUMB_ERR_FORMAT, "rope_theta"},
    {"rope_scaling", "[1]", PLUMB_ERR_FORMAT, "rope_scaling"},
    {"rope_scaling", "{\"type\": \"proportional\", \"factor\": 2}", PLUMB_ERR_UNSUPPORTED,
     "rope_type \"proportional\""},
    {"rope_scaling", "{\"type\": \"dynamic\"}", PLUMB_ERR_FORMAT, "factor"},
    {"rope_scaling", "{\"type\": \"yarn\"}", PLUMB_ERR_FORMAT, "factor"},
    {"rope_scaling", "{\"type\": \"yarn\", \"factor\": 2, \"beta_fast\": 0.5}", PLUMB_ERR_FORMAT,
     "beta_slow <= beta_fast"},
    {"rope_scaling", "{\"type\": \"longrope\", \"long_factor\": [1, 1]}", PLUMB_ERR_FORMAT,
     "short_factor must be a list of 2 numbers"},
    {"rope_scaling", "{\"type\": \"longrope\", \"short_factor\": [1, 1], \"long_factor\": [1, 0]}",
     PLUMB_ERR_FORMAT, "long_factor[1] must be a positive number"},
    {"rope_scaling", "{\"type\": \"linear\"}", PLUMB_ERR_FORMAT, "factor"},
    {"rope_scaling", "{\"type\": \"linear\", \"factor\": 0.5}", PLUMB_ERR_FORMAT, "factor"},
    {"rope_scaling", "{\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1}",
     PLUMB_ERR_FORMAT, "high_freq_factor"},
    {"rope_scaling",
     "{\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, \"high_freq_factor\": 1}",
     PLUMB_ERR_FORMAT, "low_freq_factor < high_freq_factor"},
    {"rope_parameters", "{\"full_attention\": {\"rope_type\": \"default\"}}", PLUMB_ERR_UNSUPPORTED,
     "rope_parameters"},
    {"tie_word_embeddings", "1", PLUMB_ERR_FORMAT, "tie_word_embeddings"},
    {"eos_token_id", "64", PLUMB_ERR_FORMAT, "eos_token_id"},
    {"eos_token_id", "\"</s>\"", PLUMB_ERR_FORMAT, "eos_token_id"},
    {"eos_token_id", "[1,2,3,4,5,6,7,8,9]", PLUMB_ERR_UNSUPPORTED, "eos_token_id"},
    {"bos_token_id", "-1", PLUMB_ERR_FORMAT, "bos_token_id"},
};

static void check_refused(void)
{
    struct plumb_spec s;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        const plumb_status st = WITH(&s, {refused[i].key, refused[i].value});
        CHECKF(st == refused[i].code && strstr(plumb_trail(), refused[i].says) &&
                   strstr(plumb_trail(), "config.json"),
               "%s: %s gives %s, says %s", refused[i].key,
               refused[i].value ? refused[i].value : "absent", plumb_status_text(st),
               st ? plumb_trail() : "");
    }
    CHECK(WITH(&s, {"model_type", "\"qwen3\""}, {"architectures", NULL},
               {"use_sliding_window", "true"},
               {"layer_types", "[\"chunked_attention\",\"a\",\"a\",\"a\"]"}) ==
          PLUMB_ERR_UNSUPPORTED);
    CHECK(strstr(plumb_trail(), "chunked_attention"));
    CHECK(WITH(&s, {"model_type", "\"qwen3\""}, {"architectures", NULL},
               {"use_sliding_window", "true"}, {"layer_types", "[]"}) == PLUMB_ERR_FORMAT);
    CHECK(WITH(&s, {"architectures", "[\"LlamaForSequenceClassification\"]"}, {"num_labels", "2"},
               {"id2label", "{\"0\": \"a\"}"}) == PLUMB_ERR_FORMAT);
    CHECK(strstr(plumb_trail(), "num_labels is 2"));
    CHECK(WITH(&s, {"architectures", "[\"LlamaForSequenceClassification\"]"},
               {"num_labels", "4611686018427387904"}) == PLUMB_ERR_FORMAT);
    CHECK(strstr(plumb_trail(), "num_labels is 4611686018427387904"));
}

static int biases(const struct plumb_spec *s, enum plumb_projection from, enum plumb_projection to)
{
    int n = 0;
    for (int i = (int)from; i < (int)to; i++)
        n += s->block.bias[i];
    return n;
}

static bool any_bias(const struct plumb_spec *s)
{
    return biases(s, PLUMB_Q, PLUMB_N_PROJECTION) > 0;
}

static bool all_biases(const struct plumb_spec *s)
{
    return biases(s, PLUMB_Q, PLUMB_N_PROJECTION) == PLUMB_N_PROJECTION;
}

/* Returns true if q, k and v have a bias and the other projections have none. */
static bool qkv_biases(const struct plumb_spec *s)
{
    return biases(s, PLUMB_Q, PLUMB_O) == 3 && biases(s, PLUMB_O, PLUMB_N_PROJECTION) == 0;
}

#define FAMILY(name)                                                                               \
    {"model_type", "\"" name "\""},                                                                \
    {                                                                                              \
        "architectures", NULL                                                                      \
    }

#define GPT2(...)                                                                                  \
    WITH(&s, FAMILY("gpt2"), {"hidden_size", NULL}, {"intermediate_size", NULL},                   \
         {"num_hidden_layers", NULL}, {"num_attention_heads", NULL},                               \
         {"num_key_value_heads", NULL}, {"max_position_embeddings", NULL}, {"n_embd", "24"},       \
         {"n_layer", "3"}, {"n_head", "2"}, {"n_positions", "77"}, __VA_ARGS__)
#define NEOX(...)                                                                                  \
    WITH(&s, FAMILY("gpt_neox"), {"num_key_value_heads", NULL}, {"num_attention_heads", "2"},      \
         __VA_ARGS__)

/* Checks the default values and the refused settings of GPT-2 and GPT-NeoX, which name the fields
 * differently. */
static void check_gpt(void)
{
    struct plumb_spec s;
    CHECK_OK(GPT2({"n_inner", "null"}));
    CHECK(s.c == 24 && s.l == 3 && s.h == 2 && s.hk == 2 && s.d == 12 && s.max_pos == 77);
    CHECK(s.f == 96 && s.eps == 1e-5 && s.positions && s.n_rope == 0 && s.rotation[2] == -1);
    CHECK(s.block.layer_norm && !s.block.gated && !s.block.parallel && !s.block.scale_by_layer);
    CHECK(s.block.activation == PLUMB_ACT_GELU_TANH && all_biases(&s));
    CHECK(s.block.attention_scale == 1.0f / sqrtf(12.0f));
    CHECK_OK(GPT2({"n_inner", "40"}, {"scale_attn_weights", "false"},
                  {"scale_attn_by_inverse_layer_idx", "true"}, {"activation_function", "\"gelu\""},
                  {"layer_norm_epsilon", "0.001"}));
    CHECK(s.f == 40 && s.block.attention_scale == 1 && s.block.scale_by_layer && s.eps == 1e-3);
    CHECK(s.block.activation == PLUMB_ACT_GELU);
    CHECK(GPT2({"hidden_size", "24"}) == PLUMB_ERR_FORMAT);
    CHECK(strstr(plumb_trail(), "hidden_size and n_embd are two names of one field"));
    CHECK(GPT2({"num_key_value_heads", "1"}) == PLUMB_ERR_UNSUPPORTED);
    CHECK(strstr(plumb_trail(), "model_type gpt2 has no num_key_value_heads"));
    CHECK(GPT2({"add_cross_attention", "true"}) == PLUMB_ERR_UNSUPPORTED);
    CHECK(GPT2({"activation_function", "\"relu\""}) == PLUMB_ERR_UNSUPPORTED);
    CHECK(strstr(plumb_trail(), "activation_function \"relu\""));

    CHECK_OK(NEOX({"hidden_act", NULL}));
    CHECK(s.block.layer_norm && !s.block.gated && s.block.parallel && !s.positions && !s.tied);
    CHECK(s.block.activation == PLUMB_ACT_GELU && all_biases(&s) && s.eps == 1e-5);
    CHECK(s.rope[0].columns == s.d / 4 && s.rope[0].theta == 1e4);
    CHECK_OK(NEOX({"use_parallel_residual", "false"}, {"rotary_pct", "0.5"},
                  {"rotary_emb_base", "500"}, {"attention_bias", "false"},
                  {"layer_norm_eps", "0.001"}));
    CHECK(!s.block.parallel && s.rope[0].columns == s.d / 2 && s.rope[0].theta == 500);
    CHECK(biases(&s, PLUMB_Q, PLUMB_GATE) == 0 && s.block.bias[PLUMB_UP] && s.eps == 1e-3);
    CHECK_OK(NEOX({"rope_parameters", "{\"rope_type\": \"default\", \"rope_theta\": 700, "
                                      "\"partial_rotary_factor\": 1.0}"}));
    CHECK(s.rope[0].columns == s.d && s.rope[0].theta == 700);
    CHECK(NEOX({"rotary_pct", "0.1"}) == PLUMB_ERR_FORMAT);
    CHECK(NEOX({"head_dim", "64"}) == PLUMB_ERR_UNSUPPORTED);
    CHECK(strstr(plumb_trail(), "model_type gpt_neox has no head_dim"));
}

/* Checks EXAONE 4: every fourth layer has no window. If the other layers have one, the fourth
 * layers also have no rotation. */
static void check_exaone4(void)
{
    struct plumb_spec s;
    CHECK_OK(WITH(&s, FAMILY("exaone4"), {"num_key_value_heads", "8"}));
    CHECK(s.eps == 1e-5 && s.pad == -1 && !s.tied && !any_bias(&s) && s.window == 4096);
    CHECK(!s.block.norm[PLUMB_NORM_ATTENTION] && s.block.norm[PLUMB_NORM_MLP_OUT]);
    CHECK(s.block.qk_norm == PLUMB_QK_NORM_HEAD && s.windowed[2] && !s.windowed[3]);
    CHECK(s.rotation[2] == 0 && s.rotation[3] == -1);
    CHECK_OK(WITH(&s, FAMILY("exaone4"), {"sliding_window_pattern", "2"}, {"sliding_window", "7"}));
    CHECK(s.window == 7 && s.rotation[0] == 0 && s.rotation[1] == -1 && s.windowed[2]);
    CHECK_OK(WITH(&s, FAMILY("exaone4"), {"sliding_window_pattern", "\"LLLG\""},
                  {"layer_types", "[\"full_attention\",\"sliding_attention\",\"full_attention\","
                                  "\"full_attention\"]"}));
    CHECK(s.windowed[1] && s.rotation[1] == 0 && s.rotation[0] == -1 && s.rotation[3] == -1);
    CHECK_OK(WITH(&s, FAMILY("exaone4"), {"sliding_window", "null"},
                  {"sliding_window_pattern", "null"},
                  {"layer_types", "[\"full_attention\",\"full_attention\",\"full_attention\","
                                  "\"full_attention\"]"}));
    CHECK(s.window == 0 && s.rotation[0] == 0 && s.rotation[3] == 0);
    CHECK(WITH(&s, FAMILY("exaone4"), {"sliding_window", "null"}) == PLUMB_ERR_FORMAT);
    CHECK(strstr(plumb_trail(), "layer_types is missing"));
    CHECK(WITH(&s, FAMILY("exaone4"), {"sliding_window_pattern", "\"LLLG\""}) == PLUMB_ERR_FORMAT);
    CHECK(strstr(plumb_trail(), "sliding_window_pattern"));
}

/* Checks the default values and the refused settings of OLMo 3, Gemma 1, StableLM and StarCoder2.
 */
static void check_small_families(void)
{
    struct plumb_spec s;
    CHECK_OK(
        WITH(&s, FAMILY("olmo3"), {"rope_theta", "1000"},
             {"rope_scaling", "{\"rope_type\": \"yarn\", \"factor\": 2, \"truncate\": false}"}));
    CHECK(s.window == 4096 && s.windowed[2] && !s.windowed[3] && s.rotation[3] == 0);
    CHECK(s.rotation[2] == 1 && s.rope[0].theta == 1e3 && s.rope[1].theta == 5e5);
    CHECK(s.rope[0].type == PLUMB_ROPE_YARN && s.rope[0].truncate);
    CHECK(s.block.qk_norm == PLUMB_QK_NORM_ROW && !s.block.norm[PLUMB_NORM_ATTENTION]);
    CHECK(WITH(&s, FAMILY("olmo3"), {"sliding_window", "null"}) == PLUMB_ERR_FORMAT);

    CHECK_OK(WITH(&s, FAMILY("gemma"), {"num_key_value_heads", NULL}, {"num_attention_heads", "16"},
                  {"hidden_act", "\"gelu\""}, {"hidden_activation", "null"}));
    CHECK(s.hk == 16 && s.d == 256 && s.tied && s.pad == 0 && s.embed_scale_rounds);
    CHECK(s.block.activation == PLUMB_ACT_GELU_TANH && s.block.norm_shift == 1);
    CHECK(s.block.attention_scale == 1.0f / 16 && s.head_cap == 0 && s.window == 0);
    CHECK(!s.block.norm[PLUMB_NORM_ATTENTION_OUT] && !s.block.norm[PLUMB_NORM_MLP_OUT]);
    CHECK(WITH(&s, FAMILY("gemma"), {"query_pre_attn_scalar", "4"}) == PLUMB_ERR_UNSUPPORTED);
    CHECK(WITH(&s, FAMILY("gemma"), {"use_bidirectional_attention", "true"}) ==
          PLUMB_ERR_UNSUPPORTED);

    CHECK_OK(WITH(&s, FAMILY("stablelm"), {"hidden_size", "64"}));
    CHECK(s.block.layer_norm && s.block.gated && s.rope[0].columns == 2 && s.eps == 1e-5);
    CHECK(!any_bias(&s));
    CHECK_OK(WITH(&s, FAMILY("stablelm"), {"use_qkv_bias", "true"},
                  {"partial_rotary_factor", "0.5"}, {"layer_norm_eps", "0.001"}));
    CHECK(qkv_biases(&s) && s.eps == 1e-3);
    CHECK(WITH(&s, FAMILY("stablelm"), {"use_parallel_residual", "true"}, {"hidden_size", "64"}) ==
          PLUMB_ERR_UNSUPPORTED);
    CHECK(strstr(plumb_trail(), "use_parallel_residual"));
    CHECK(WITH(&s, FAMILY("stablelm"), {"qk_layernorm", "true"}) == PLUMB_ERR_UNSUPPORTED);
    CHECK(WITH(&s, FAMILY("stablelm"), {"head_dim", "16"}) == PLUMB_ERR_UNSUPPORTED);
    CHECK(strstr(plumb_trail(), "model_type stablelm has no head_dim"));

    CHECK_OK(WITH(&s, FAMILY("starcoder2"), {"num_key_value_heads", NULL}));
    CHECK(s.hk == 2 && s.block.layer_norm && !s.block.gated && !s.block.parallel && s.tied);
    CHECK(s.block.activation == PLUMB_ACT_GELU_TANH && all_biases(&s) && s.window == 0);
    CHECK_OK(WITH(&s, FAMILY("starcoder2"), {"use_bias", "false"}, {"sliding_window", "9"},
                  {"norm_epsilon", "0.001"}));
    CHECK(!any_bias(&s) && s.windowed[0] && s.window == 9 && s.eps == 1e-3);

    CHECK_OK(WITH(&s, FAMILY("seed_oss")));
    CHECK(s.d == 128 && s.pad == 1 && qkv_biases(&s) && s.rope[0].theta == 1e4);
    CHECK_OK(WITH(&s, FAMILY("seed_oss"), {"attention_out_bias", "true"}, {"mlp_bias", "true"}));
    CHECK(all_biases(&s));
    check_exaone4();

    CHECK_OK(WITH(&s, FAMILY("helium"), {"hidden_size", "1024"}, {"num_key_value_heads", "8"},
                  {"attention_bias", "true"}));
    CHECK(s.block.neighbours && s.d == 128 && s.eps == 1e-8 && s.rope[0].theta == 1e5 &&
          s.pad == 3);
    CHECK(s.block.bias[PLUMB_Q] && !s.block.bias[PLUMB_O] && !s.block.bias[PLUMB_UP]);
    CHECK(WITH(&s, FAMILY("helium"), {"num_key_value_heads", "8"}) == PLUMB_ERR_FORMAT);
    CHECK(strstr(plumb_trail(), "o_proj is square"));
    CHECK_OK(WITH(&s, FAMILY("ernie4_5")));
    CHECK(s.block.neighbours && s.tied && !any_bias(&s) && s.rope[0].theta == 5e5 && s.d == 128);
    CHECK_OK(WITH(&s, FAMILY("ernie4_5"), {"use_bias", "true"}));
    CHECK(all_biases(&s));
    CHECK_OK(WITH(&s, FAMILY("glm")));
    CHECK(s.block.neighbours && s.rope[0].columns == 64 && s.eps == 1.5625e-7 && s.pad == -1);
    CHECK(s.block.files == PLUMB_FILES_GLM && qkv_biases(&s));
    CHECK(!s.block.norm[PLUMB_NORM_ATTENTION_OUT] && s.block.norm[PLUMB_NORM_MLP]);
    CHECK_OK(WITH(&s, FAMILY("glm4"), {"partial_rotary_factor", "0.25"}));
    CHECK(s.rope[0].columns == 32 && s.block.files == PLUMB_FILES_GLM4);
    CHECK(s.block.norm[PLUMB_NORM_ATTENTION_OUT] && s.block.norm[PLUMB_NORM_MLP_OUT]);
}

/* Checks the default values and the refused settings of the families that differ from Llama in more
 * than biases. */
static void check_families(void)
{
    struct plumb_spec s;
    CHECK_OK(WITH(&s, FAMILY("ministral")));
    CHECK(s.window == 4096 && s.windowed[0] && s.windowed[3]);
    CHECK_OK(WITH(&s, FAMILY("olmo2")));
    CHECK(s.eps == 1e-5 && s.block.qk_norm == PLUMB_QK_NORM_ROW);
    CHECK(!s.block.norm[PLUMB_NORM_ATTENTION] && s.block.norm[PLUMB_NORM_ATTENTION_OUT]);
    CHECK(!s.block.norm[PLUMB_NORM_MLP] && s.block.norm[PLUMB_NORM_MLP_OUT]);
    CHECK(WITH(&s, FAMILY("olmo2"), {"sliding_window", "7"}) == PLUMB_ERR_UNSUPPORTED);
    CHECK(strstr(plumb_trail(), "model_type olmo2 has none"));

    CHECK_OK(WITH(&s, FAMILY("smollm3")));
    CHECK(s.tied && s.rope[0].theta == 2e6 && s.window == 0);
    CHECK(s.rotation[0] == 0 && s.rotation[2] == 0 && s.rotation[3] == -1);
    CHECK_OK(WITH(&s, FAMILY("smollm3"), {"no_rope_layers", "[0, 1, 1, 0]"},
                  {"use_sliding_window", "true"}, {"sliding_window", "7"}));
    CHECK(s.rotation[0] == -1 && s.rotation[1] == 0 && s.rotation[3] == -1);
    CHECK(s.window == 7 && s.windowed[0] && !s.windowed[1] && s.windowed[3]);
    CHECK(WITH(&s, FAMILY("smollm3"), {"no_rope_layers", "[0, 1]"}) == PLUMB_ERR_FORMAT);
    CHECK(WITH(&s, FAMILY("smollm3"), {"no_rope_layers", "[0, 1, 2, 1]"}) == PLUMB_ERR_FORMAT);
    CHECK(strstr(plumb_trail(), "no_rope_layers[2]"));

    CHECK_OK(WITH(&s, FAMILY("granite")));
    CHECK(s.block.attention_scale == 1 && s.block.residual_scale == 1 && s.embed_scale == 1);
    CHECK_OK(WITH(&s, FAMILY("granite"), {"attention_multiplier", "0.25"}, {"logits_scaling", "8"},
                  {"embedding_multiplier", "12"}, {"residual_multiplier", "0.5"}));
    CHECK(s.block.attention_scale == 0.25f && s.block.residual_scale == 0.5f);
    CHECK(s.embed_scale == 12 && s.head_scale == 0.125f);
    CHECK(WITH(&s, FAMILY("granite"), {"logits_scaling", "0"}) == PLUMB_ERR_FORMAT);
    CHECK(strstr(plumb_trail(), "logits_scaling is 0"));
    CHECK(WITH(&s, {"model_type", "\"granite\""},
               {"architectures", "[\"GraniteForSequenceClassification\"]"}) ==
          PLUMB_ERR_UNSUPPORTED);

    CHECK_OK(WITH(&s, FAMILY("phi3"), {"head_dim", "8"}, {"partial_rotary_factor", "0.75"}));
    CHECK(s.block.files == PLUMB_FILES_PHI3 && s.rope[0].columns == 6 && s.window == 0);
    CHECK_OK(WITH(
        &s, FAMILY("phi3"), {"sliding_window", "9"},
        {"rope_scaling", "{\"type\": \"su\", \"short_factor\": [1, 2], \"long_factor\": [3, 4]}"}));
    CHECK(s.window == 9 && s.windowed[3] && s.rope[0].type == PLUMB_ROPE_LONGROPE);
    CHECK(s.rope[0].original_max_pos == 4096 && s.rope[0].attention_factor == 1);
    CHECK(WITH(&s, FAMILY("phi3"), {"rope_scaling", "{\"type\": \"linear\", \"factor\": 2}"}) ==
          PLUMB_ERR_UNSUPPORTED);
    CHECK(WITH(&s, FAMILY("phi3"), {"partial_rotary_factor", "0.3"}) == PLUMB_ERR_FORMAT);
    CHECK(WITH(&s, FAMILY("phi3"), {"sliding_window", "9"},
               {"layer_types", "[\"full_attention\",\"full_attention\",\"full_attention\","
                               "\"sliding_attention\"]"}) == PLUMB_ERR_UNSUPPORTED);
    CHECK(strstr(plumb_trail(), "layer_types contradicts sliding_window"));
    CHECK_OK(WITH(&s, FAMILY("gemma2")));
    CHECK(s.tied && s.hk == 2 && s.d == 256 && s.pad == 0 && s.block.norm_shift == 1);
    CHECK(s.block.activation == PLUMB_ACT_GELU_TANH && s.block.attention_scale == 1.0f / 16);
    CHECK(s.block.attention_cap == 50 && s.head_cap == 30 && s.window == 4096);
    CHECK(s.windowed[0] && !s.windowed[1] && s.windowed[2] && !s.windowed[3]);
    CHECK(s.embed_scale == sqrtf(32.0f) && s.embed_scale_rounds);
    CHECK_OK(WITH(&s, FAMILY("gemma2"), {"attn_logit_softcapping", "null"},
                  {"final_logit_softcapping", "null"}, {"query_pre_attn_scalar", "4"}));
    CHECK(s.block.attention_cap == 0 && s.head_cap == 0 && s.block.attention_scale == 0.5f);
    CHECK(WITH(&s, FAMILY("gemma2"), {"final_logit_softcapping", "0"}) == PLUMB_ERR_FORMAT);
    CHECK_OK(WITH(&s, FAMILY("gemma3_text"), {"num_hidden_layers", "7"}));
    CHECK(s.n_rope == 2 && s.rope[0].theta == 1e6 && s.rope[1].theta == 1e4 && s.head_cap == 0);
    CHECK(s.windowed[4] && !s.windowed[5] && s.windowed[6]);
    CHECK(s.rotation[4] == 1 && s.rotation[5] == 0 && s.block.qk_norm == PLUMB_QK_NORM_HEAD);
    CHECK_OK(
        WITH(&s, FAMILY("gemma3_text"), {"head_dim", "4"},
             {"layer_types", "[\"full_attention\",\"sliding_attention\",\"full_attention\","
                             "\"sliding_attention\"]"},
             {"rope_parameters", "{\"full_attention\": {\"rope_type\": \"linear\", \"factor\": 8}, "
                                 "\"sliding_attention\": {\"rope_theta\": 500}}"}));
    CHECK(s.rotation[0] == 0 && s.rotation[1] == 1 && s.rope[0].type == PLUMB_ROPE_LINEAR);
    CHECK(s.rope[0].factor == 8 && s.rope[1].type == PLUMB_ROPE_PLAIN && s.rope[1].theta == 500);
    CHECK_OK(
        WITH(&s, FAMILY("gemma3_text"), {"original_max_position_embeddings", "48"},
             {"rope_parameters", "{\"full_attention\": {\"rope_type\": \"yarn\", \"factor\": 2}, "
                                 "\"sliding_attention\": {\"rope_type\": \"default\"}}"}));
    /* the top-level field original_max_position_embeddings is not used here */
    CHECK(s.rope[0].original_max_pos == 128);
    CHECK(WITH(&s, FAMILY("gemma3_text"), {"attn_logit_softcapping", "50"}) ==
          PLUMB_ERR_UNSUPPORTED);
    CHECK(WITH(&s, FAMILY("gemma3_text"), {"rope_parameters", "{\"rope_type\": \"default\"}"}) ==
          PLUMB_ERR_FORMAT);
    CHECK(WITH(&s, FAMILY("gemma3")) == PLUMB_ERR_UNSUPPORTED);
    CHECK(strstr(plumb_trail(), "gemma3_text"));
    CHECK(WITH(&s, FAMILY("bamba"), {"time_step_limit", "[0.0, Infinity]"}) ==
          PLUMB_ERR_UNSUPPORTED);
    CHECK(strstr(plumb_trail(), "model_type \"bamba\" is not supported"));
    CHECK(WITH(&s, FAMILY("olmo2"), {"rope_theta", "-Infinity"}) == PLUMB_ERR_FORMAT);
    CHECK(strstr(plumb_trail(), "JSON"));
    check_gpt();
    check_small_families();
    /* A field that Granite reads is refused in OLMo 2. */
    CHECK(WITH(&s, FAMILY("olmo2"), {"residual_multiplier", "0.5"}) == PLUMB_ERR_UNSUPPORTED);
}

static void check_defaults(void)
{
    struct plumb_spec s;
    CHECK_OK(WITH(&s, {"num_key_value_heads", NULL}));
    CHECK(s.family == PLUMB_LLAMA && s.hk == 8 && s.d == 4 && s.eps == 1e-6 && !s.tied);
    CHECK(s.rope[0].theta == 10000 && s.rope[0].type == PLUMB_ROPE_PLAIN && s.window == 0);
    CHECK(s.n_eos == 1 && s.eos[0] == 2 && s.bos == -1 && s.labels == 0);
    CHECK(!any_bias(&s) && s.block.qk_norm == PLUMB_QK_NORM_NONE && s.init_range == 0.02);
    CHECK_OK(WITH(&s, {"attention_bias", "true"}, {"mlp_bias", "true"}, {"head_dim", "6"},
                  {"tie_word_embeddings", "true"}, {"rope_scaling", "null"},
                  {"eos_token_id", "[2, 5]"}, {"bos_token_id", "1"}));
    CHECK(all_biases(&s) && s.d == 6 && s.tied && s.n_eos == 2);
    CHECK(s.eos[1] == 5 && s.bos == 1);
    CHECK_OK(WITH(&s, {"model_type", "\"mistral\""}, {"architectures", NULL}));
    CHECK(s.family == PLUMB_MISTRAL && s.window == 4096 && !any_bias(&s));
    CHECK_OK(WITH(&s, {"model_type", "\"mistral\""}, {"architectures", NULL},
                  {"sliding_window", "null"}));
    CHECK(s.window == 0);
    CHECK_OK(
        WITH(&s, {"model_type", "\"qwen2\""}, {"architectures", NULL}, {"sliding_window", "7"}));
    CHECK(qkv_biases(&s) && s.window == 0);
    CHECK_OK(WITH(&s, {"model_type", "\"qwen2\""}, {"architectures", NULL}, {"sliding_window", "7"},
                  {"use_sliding_window", "true"}, {"max_window_layers", "0"}));
    CHECK_OK(WITH(&s, {"model_type", "\"qwen2\""}, {"architectures", NULL}, {"sliding_window", "7"},
                  {"use_sliding_window", "true"}, {"max_window_layers", "2"}));
    CHECK(s.window == 7 && !s.windowed[1] && s.windowed[2]);
    CHECK_OK(WITH(&s, {"model_type", "\"qwen2\""}, {"architectures", NULL}, {"sliding_window", "7"},
                  {"use_sliding_window", "true"}, {"max_window_layers", "0"}));
    CHECK(s.window == 7 && s.windowed[0] && s.windowed[s.l - 1]);
    CHECK_OK(WITH(&s, {"model_type", "\"qwen3\""}, {"architectures", NULL}));
    CHECK(s.block.qk_norm == PLUMB_QK_NORM_HEAD && s.d == 128 && !any_bias(&s));
    CHECK_OK(WITH(&s, {"architectures", "[\"LlamaModel\"]"})); /* saved without a head */
    CHECK(s.labels == 0 && !strcmp(plumb_spec_architecture(&s), "LlamaForCausalLM"));
    CHECK_OK(WITH(&s, {"architectures", "[\"LlamaForSequenceClassification\"]"}));
    CHECK(s.labels == 2 && !strcmp(plumb_spec_architecture(&s), "LlamaForSequenceClassification"));
    CHECK_OK(WITH(&s, {"architectures", "[\"LlamaForSequenceClassification\"]"},
                  {"id2label", "{\"0\": \"x\"}"}));
    CHECK(s.labels == 1);
    CHECK_OK(WITH(&s, {"rope_parameters",
                       "{\"rope_type\": \"llama3\", \"rope_theta\": 500000.0, \"factor\": 8, "
                       "\"low_freq_factor\": 1, \"high_freq_factor\": 4, "
                       "\"original_max_position_embeddings\": 32}"}));
    CHECK(s.rope[0].theta == 500000 && s.rope[0].type == PLUMB_ROPE_LLAMA3 &&
          s.rope[0].factor == 8);
    CHECK(s.rope[0].original_max_pos == 32 && s.rope[0].high_freq_factor == 4);
    check_families();
    write_file("generation_config.json", "{\"eos_token_id\": [7, 8, 9], \"bos_token_id\": 3}");
    CHECK_OK(WITH(&s, {"rope_scaling", "{\"type\": \"linear\", \"factor\": 2}"}));
    CHECK(s.rope[0].type == PLUMB_ROPE_LINEAR && s.n_eos == 3 && s.eos[2] == 9 && s.bos == 3);
    write_file("generation_config.json", "{\"eos_token_id\": 64}");
    CHECK(WITH(&s, {"rope_scaling", "null"}) == PLUMB_ERR_FORMAT);
    CHECK(strstr(plumb_trail(), "generation_config.json"));
    write_file("generation_config.json", "{");
    CHECK(WITH(&s, {"rope_scaling", "null"}) == PLUMB_ERR_FORMAT);
    write_file("generation_config.json", "[{\"eos_token_id\": 3}]");
    CHECK(WITH(&s, {"rope_scaling", "null"}) == PLUMB_ERR_FORMAT);
    CHECK(strstr(plumb_trail(), "generation_config.json: found array, expected an object"));
}

int main(void)
{
    struct plumb_spec s;
    CHECK(mkdtemp(dir));
    CHECK(plumb_spec_read(&s, dir) == PLUMB_ERR_IO);
    CHECK(strstr(plumb_trail(), "config.json"));
    check_refused();
    check_defaults();
    CHECK_OK(plumb_dir_remove(dir));
    return 0;
}
