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
    [PLUMB_SMOLLM3] = {"smollm3", CLASSES("SmolLM3"), 4, 0, 1e-6, 2e6, 128004, .tied = true,
                       .attention_bias = true, .mlp_bias = true, .window = PLUMB_WINDOW_TYPES,
                       .fields = "no_rope_layers no_rope_layer_interval"},
    [PLUMB_GRANITE] = {"granite", "GraniteForCausalLM", NULL, 0, 0, 1e-6, 1e4, -1,
                       .attention_bias = true, .mlp_bias = true,
                       .fields = "attention_multiplier embedding_multiplier logits_scaling "
                                 "residual_multiplier"},
    [PLUMB_PHI3] = {"phi3", CLASSES("Phi3"), 0, 0, 1e-5, 1e4, 32000, .window = PLUMB_WINDOW_ALL,
                    .fields = "embd_pdrop resid_pdrop"},
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
};

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
