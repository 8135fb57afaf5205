/* spec_family.c - the table of the model families.
 * Layer 4. Includes model/spec_parts.h. */
#include <stdio.h>
#include <string.h>

#include "model/spec_parts.h"

#define CLASSES(name) name "ForCausalLM", name "ForSequenceClassification"

static const struct plumb_family_row family[PLUMB_N_FAMILY] = {
    [PLUMB_LLAMA] = {"llama", CLASSES("Llama"), 0, 0, 1e-6, 1e4, -1, .attention_bias = true,
                     .mlp_bias = true, .fields = ""},
    [PLUMB_MISTRAL] = {"mistral", CLASSES("Mistral"), 8, 0, 1e-6, 1e4, -1,
                       .window = PLUMB_WINDOW_TYPES, .fields = ""},
    [PLUMB_QWEN2] = {"qwen2", CLASSES("Qwen2"), 32, 0, 1e-6, 1e4, -1, .window = PLUMB_WINDOW_TYPES,
                     .fields = ""},
    [PLUMB_QWEN3] = {"qwen3", CLASSES("Qwen3"), 32, 128, 1e-6, 1e4, -1, .attention_bias = true,
                     .window = PLUMB_WINDOW_TYPES, .fields = ""},
    [PLUMB_MINISTRAL] = {"ministral", CLASSES("Ministral"), 8, 0, 1e-6, 1e4, -1,
                         .window = PLUMB_WINDOW_TYPES, .fields = ""},
    [PLUMB_OLMO2] = {"olmo2", CLASSES("Olmo2"), 0, 0, 1e-5, 1e4, 1, .attention_bias = true,
                     .fields = ""},
    [PLUMB_OLMO3] = {"olmo3", CLASSES("Olmo3"), 0, 0, 1e-5, 5e5, 1, .attention_bias = true,
                     .window = PLUMB_WINDOW_TYPES, .fields = ""},
    [PLUMB_SMOLLM3] = {"smollm3", CLASSES("SmolLM3"), 4, 0, 1e-6, 2e6, 128004, .tied = true,
                       .attention_bias = true, .mlp_bias = true, .window = PLUMB_WINDOW_TYPES,
                       .fields = "no_rope_layers no_rope_layer_interval"},
    [PLUMB_GRANITE] = {"granite", "GraniteForCausalLM", NULL, 0, 0, 1e-6, 1e4, -1,
                       .attention_bias = true, .mlp_bias = true,
                       .fields = "attention_multiplier embedding_multiplier logits_scaling "
                                 "residual_multiplier"},
    [PLUMB_PHI3] = {"phi3", CLASSES("Phi3"), 0, 0, 1e-5, 1e4, 32000, .window = PLUMB_WINDOW_ALL,
                    .fields = "embd_pdrop resid_pdrop"},
    [PLUMB_GEMMA] = {"gemma", CLASSES("Gemma"), 16, 256, 1e-6, 1e4, 0, .tied = true,
                     .attention_bias = true, .fields = "hidden_activation"},
    [PLUMB_GEMMA2] = {"gemma2", CLASSES("Gemma2"), 4, 256, 1e-6, 1e4, 0, .tied = true,
                      .attention_bias = true, .window = PLUMB_WINDOW_TYPES,
                      .fields = "attn_logit_softcapping final_logit_softcapping hidden_activation "
                                "query_pre_attn_scalar"},
    [PLUMB_GEMMA3] = {"gemma3_text", "Gemma3ForCausalLM", "Gemma3TextForSequenceClassification", 4,
                      256, 1e-6, 1e6, 0, .tied = true, .attention_bias = true,
                      .window = PLUMB_WINDOW_TYPES,
                      .fields = "final_logit_softcapping hidden_activation query_pre_attn_scalar "
                                "rope_local_base_freq sliding_window_pattern "
                                "_sliding_window_pattern"},
    [PLUMB_GPT2] = {"gpt2", "GPT2LMHeadModel", "GPT2ForSequenceClassification", 0, 0, 1e-5, 1e4, -1,
                    .tied = true,
                    .fields = "activation_function attn_pdrop embd_pdrop layer_norm_epsilon n_ctx "
                              "n_embd n_head n_inner n_layer n_positions reorder_and_upcast_attn "
                              "resid_pdrop scale_attn_by_inverse_layer_idx scale_attn_weights "
                              "summary_activation summary_first_dropout summary_proj_to_labels "
                              "summary_type summary_use_proj",
                    .ignored = "attention_bias attention_dropout hidden_act intermediate_size "
                               "mlp_bias partial_rotary_factor rms_norm_eps rope_parameters "
                               "rope_scaling rope_theta"},
    [PLUMB_GPT_NEOX] = {"gpt_neox", CLASSES("GPTNeoX"), 0, 0, 1e-5, 1e4, -1, .attention_bias = true,
                        .fields = "classifier_dropout hidden_dropout layer_norm_eps "
                                  "rotary_emb_base rotary_pct use_parallel_residual",
                        .ignored = "mlp_bias partial_rotary_factor rms_norm_eps rope_theta"},
    [PLUMB_STABLELM] = {"stablelm", CLASSES("StableLm"), 32, 0, 1e-5, 1e4, -1,
                        .fields = "hidden_dropout layer_norm_eps use_qkv_bias",
                        .ignored = "rms_norm_eps"},
    [PLUMB_STARCODER2] = {"starcoder2", CLASSES("Starcoder2"), 2, 0, 1e-5, 1e4, -1, .tied = true,
                          .window = PLUMB_WINDOW_ALL,
                          .fields = "embedding_dropout norm_epsilon residual_dropout use_bias",
                          .ignored = "rms_norm_eps"},
    [PLUMB_SEED_OSS] = {"seed_oss", CLASSES("SeedOss"), 8, 128, 1e-6, 1e4, 1,
                        .attention_bias = true, .mlp_bias = true,
                        .fields = "attention_out_bias residual_dropout"},
    [PLUMB_EXAONE4] = {"exaone4", CLASSES("Exaone4"), 32, 0, 1e-5, 1e4, -1,
                       .window = PLUMB_WINDOW_TYPES, .fields = "sliding_window_pattern"},
    [PLUMB_HELIUM] = {"helium", CLASSES("Helium"), 20, 128, 1e-8, 1e5, 3, .attention_bias = true,
                      .mlp_bias = true, .fields = ""},
    [PLUMB_ERNIE4_5] = {"ernie4_5", "Ernie4_5ForCausalLM", NULL, 2, 128, 1e-5, 5e5, 0, .tied = true,
                        .fields = "use_bias"},
    [PLUMB_GLM] = {"glm", CLASSES("Glm"), 2, 128, 1.5625e-7, 1e4, 151329, .attention_bias = true,
                   .fields = ""},
    [PLUMB_GLM4] = {"glm4", CLASSES("Glm4"), 2, 128, 1.5625e-7, 1e4, 151329, .attention_bias = true,
                    .fields = ""},
};

/* The fields for which a family has a name of its own (`own`) instead of the usual one. */
static const struct {
    enum plumb_family family;
    const char *usual, *own;
    bool either; /* transformers reads both names (attribute_map) */
} renamed[] = {
    {PLUMB_GPT2, "hidden_size", "n_embd", true},
    {PLUMB_GPT2, "num_hidden_layers", "n_layer", true},
    {PLUMB_GPT2, "num_attention_heads", "n_head", true},
    {PLUMB_GPT2, "max_position_embeddings", "n_positions", true},
    {PLUMB_GPT2, "intermediate_size", "n_inner", false},
    {PLUMB_GPT2, "rms_norm_eps", "layer_norm_epsilon", false},
    {PLUMB_GPT2, "hidden_act", "activation_function", false},
    {PLUMB_GPT_NEOX, "rms_norm_eps", "layer_norm_eps", false},
    {PLUMB_STABLELM, "rms_norm_eps", "layer_norm_eps", false},
    {PLUMB_STARCODER2, "rms_norm_eps", "norm_epsilon", false},
};

plumb_status plumb_spec_key(const char **out, const struct plumb_spec *s, const plumb_json *j,
                            const char *key, const char *path)
{
    *out = key;
    for (size_t i = 0; i < sizeof(renamed) / sizeof(renamed[0]); i++) {
        if (renamed[i].family != s->family || strcmp(renamed[i].usual, key) != 0)
            continue;
        const bool both = plumb_json_member(j, key) && plumb_json_member(j, renamed[i].own);
        PLUMB_REQUIRE(!renamed[i].either || !both, PLUMB_ERR_FORMAT,
                      "%s: %s and %s are two names of one field; remove one of them", path, key,
                      renamed[i].own);
        if (!renamed[i].either || !plumb_json_member(j, key))
            *out = renamed[i].own;
        return PLUMB_OK;
    }
    return PLUMB_OK;
}

const struct plumb_family_row *plumb_family_row(enum plumb_family f)
{
    return &family[f];
}

const char *plumb_spec_type(const struct plumb_spec *s)
{
    return family[s->family].type;
}

const char *plumb_spec_architecture(const struct plumb_spec *s)
{
    return s->labels > 0 ? family[s->family].classifier : family[s->family].causal;
}

bool plumb_family_is_headless(enum plumb_family f, const char *name)
{
    const char *causal = family[f].causal;
    const size_t n = (size_t)(strstr(causal, f == PLUMB_GPT2 ? "LMHead" : "For") - causal);
    return !strncmp(name, causal, n) &&
           !strcmp(name + n, f == PLUMB_GEMMA3 ? "TextModel" : "Model");
}

plumb_status plumb_spec_check_classifier(const struct plumb_spec *s, const char *dir)
{
    PLUMB_REQUIRE(family[s->family].classifier, PLUMB_ERR_UNSUPPORTED,
                  "%s: model_type %s cannot become a sequence classifier: transformers has no such "
                  "class, so nobody could read the result",
                  dir, family[s->family].type);
    return PLUMB_OK;
}

bool plumb_spec_is_word_of(const char *word, const char *list)
{
    const size_t n = strlen(word);
    for (const char *at = strstr(list, word); n && at; at = strstr(at + 1, word))
        if ((at == list || at[-1] == ' ') && (at[n] == ' ' || at[n] == '\0'))
            return true;
    return false;
}

plumb_status plumb_family_find(enum plumb_family *f, const char *type, const char *path)
{
    PLUMB_REQUIRE(strcmp(type, "gemma3") != 0, PLUMB_ERR_UNSUPPORTED,
                  "%s: model_type gemma3 is a model of images and text, which plumb does not read; "
                  "save its language model as Gemma3ForCausalLM (model_type gemma3_text)",
                  path);
    char known[512];
    size_t used = 0;
    for (int k = 0; k < PLUMB_N_FAMILY; k++) {
        *f = (enum plumb_family)k;
        if (!strcmp(type, family[k].type))
            return PLUMB_OK;
        used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s", k ? ", " : "",
                                 family[k].type);
    }
    PLUMB_FAIL(PLUMB_ERR_UNSUPPORTED, "%s: model_type \"%s\" is not supported (known: %s)", path,
               type, known);
}
