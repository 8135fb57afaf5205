/* spec.c - reads a config.json of the Llama family into struct plumb_spec: sizes and switches.
 * Layer 4. Includes base/, io/ and model/spec_parts.h.
 *
 * A missing field gets the default of the Hugging Face configuration class of that model type. A
 * field that changes the arithmetic in a way that plumb does not implement is an error. */
#include "model/spec.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "io/file.h"
#include "model/spec_parts.h"

static const struct family {
    const char *type, *causal, *classifier;
} family[] = {
    [PLUMB_LLAMA] = {"llama", "LlamaForCausalLM", "LlamaForSequenceClassification"},
    [PLUMB_MISTRAL] = {"mistral", "MistralForCausalLM", "MistralForSequenceClassification"},
    [PLUMB_QWEN2] = {"qwen2", "Qwen2ForCausalLM", "Qwen2ForSequenceClassification"},
    [PLUMB_QWEN3] = {"qwen3", "Qwen3ForCausalLM", "Qwen3ForSequenceClassification"},
};
#define N_FAMILY ((int)(sizeof family / sizeof *family))

const char *plumb_spec_architecture(const struct plumb_spec *s)
{
    return s->labels > 0 ? family[s->family].classifier : family[s->family].causal;
}

/* Reads model_type; the name of the architecture tells a classifier from a language model. */
static plumb_status read_family(struct plumb_spec *s, const plumb_json *j, const char *path)
{
    const char *type;
    PLUMB_TRY(plumb_json_want_string(j, "model_type", &type, NULL, path));
    int k = 0;
    while (k < N_FAMILY && strcmp(type, family[k].type))
        k++;
    PLUMB_REQUIRE(k < N_FAMILY, PLUMB_ERR_UNSUPPORTED,
                  "%s: model_type \"%s\" is not supported (known: llama, mistral, qwen2, qwen3)",
                  path, type);
    s->family = (enum plumb_family)k;
    const plumb_json *list = plumb_json_get(j, "architectures");
    if (!list)
        return PLUMB_OK;
    const char *name = plumb_json_string(plumb_json_at(list, 0), NULL);
    PLUMB_REQUIRE(name && plumb_json_count(list) == 1, PLUMB_ERR_FORMAT,
                  "%s: architectures must be a list of one name", path);
    if (!strcmp(name, family[k].causal))
        return PLUMB_OK;
    PLUMB_REQUIRE(!strcmp(name, family[k].classifier), PLUMB_ERR_UNSUPPORTED,
                  "%s: architecture \"%s\" is not supported with model_type %s (known: %s, %s)",
                  path, name, type, family[k].causal, family[k].classifier);
    const plumb_json *names = plumb_json_get(j, "id2label");
    const int64_t named = names ? plumb_json_count(names) : 2;
    PLUMB_TRY(plumb_spec_want_size(j, "num_labels", &s->labels, &named, 65536, path));
    PLUMB_REQUIRE(!names || s->labels == named, PLUMB_ERR_FORMAT,
                  "%s: num_labels is %lld, id2label has %lld names", path, (long long)s->labels,
                  (long long)named);
    const char *problem = plumb_json_string(plumb_json_get(j, "problem_type"), "");
    PLUMB_REQUIRE(s->labels > 1 || strcmp(problem, "single_label_classification") != 0,
                  PLUMB_ERR_FORMAT,
                  "%s: problem_type is single_label_classification, but there is only one label "
                  "(num_labels, id2label); transformers refuses this too. Expected \"regression\"",
                  path);
    return PLUMB_OK;
}

/* Returns the value for a field that is absent or null. Hugging Face treats the two differently: an
 * absent field gets the default of the configuration class. */
static const int64_t *absent(const plumb_json *j, const char *key, const int64_t *if_absent,
                             const int64_t *if_null)
{
    return plumb_json_member(j, key) ? if_null : if_absent;
}

static plumb_status read_sizes(struct plumb_spec *s, const plumb_json *j, const char *path)
{
    const int64_t big = 1 << 24;
    PLUMB_TRY(plumb_spec_want_size(j, "vocab_size", &s->v, NULL, big, path));
    PLUMB_TRY(plumb_spec_want_size(j, "hidden_size", &s->c, NULL, big, path));
    PLUMB_TRY(plumb_spec_want_size(j, "intermediate_size", &s->f, NULL, big, path));
    PLUMB_TRY(plumb_spec_want_size(j, "num_hidden_layers", &s->l, NULL, PLUMB_MAX_LAYERS, path));
    PLUMB_TRY(plumb_spec_want_size(j, "num_attention_heads", &s->h, NULL, 65536, path));
    PLUMB_TRY(plumb_spec_want_size(j, "max_position_embeddings", &s->max_pos, NULL, big, path));
    static const int64_t hk_class[] = {[PLUMB_MISTRAL] = 8, [PLUMB_QWEN2] = 32, [PLUMB_QWEN3] = 32};
    const int64_t *hk_absent = s->family == PLUMB_LLAMA ? &s->h : &hk_class[s->family];
    PLUMB_TRY(plumb_spec_want_size(j, "num_key_value_heads", &s->hk,
                                   absent(j, "num_key_value_heads", hk_absent, &s->h), 65536,
                                   path));
    PLUMB_REQUIRE(s->h % s->hk == 0, PLUMB_ERR_FORMAT,
                  "%s: num_attention_heads %lld is not a multiple of num_key_value_heads %lld",
                  path, (long long)s->h, (long long)s->hk);
    static const int64_t d_qwen3 = 128;
    const int64_t quotient = s->c / s->h;
    const int64_t *d_absent = s->family == PLUMB_QWEN3 ? &d_qwen3 : &quotient;
    PLUMB_TRY(plumb_json_want_int(j, "head_dim", &s->d, absent(j, "head_dim", d_absent, &quotient),
                                  path));
    PLUMB_REQUIRE(plumb_json_get(j, "head_dim") || d_absent != &quotient || s->c % s->h == 0,
                  PLUMB_ERR_FORMAT,
                  "%s: hidden_size %lld is not a multiple of num_attention_heads %lld, and there "
                  "is no head_dim",
                  path, (long long)s->c, (long long)s->h);
    PLUMB_REQUIRE(s->d >= 2 && s->d % 2 == 0 && s->d <= 1024, PLUMB_ERR_FORMAT,
                  "%s: head_dim is %lld, expected an even number from 2 to 1024", path,
                  (long long)s->d);
    const double eps = 1e-6, range = 0.02;
    PLUMB_TRY(plumb_json_want_real(j, "rms_norm_eps", &s->eps, &eps, path));
    PLUMB_REQUIRE(s->eps > 0 && s->eps < 1, PLUMB_ERR_FORMAT,
                  "%s: rms_norm_eps is %g, expected a small positive number", path, s->eps);
    PLUMB_TRY(plumb_json_want_real(j, "initializer_range", &s->init_range, &range, path));
    PLUMB_REQUIRE(s->init_range > 0, PLUMB_ERR_FORMAT, "%s: initializer_range is %g, expected > 0",
                  path, s->init_range);
    return PLUMB_OK;
}

static plumb_status read_switches(struct plumb_spec *s, const plumb_json *j, const char *path)
{
    const bool off = false;
    const char *silu = "silu", *act;
    PLUMB_TRY(plumb_json_want_string(j, "hidden_act", &act, &silu, path));
    PLUMB_REQUIRE(!strcmp(act, "silu") || !strcmp(act, "swish"), PLUMB_ERR_UNSUPPORTED,
                  "%s: hidden_act \"%s\" is not supported (known: silu)", path, act);
    PLUMB_REQUIRE(!plumb_json_get(j, "quantization_config"), PLUMB_ERR_UNSUPPORTED,
                  "%s: quantization_config is not supported; save the model unquantised", path);
    PLUMB_TRY(plumb_json_want_bool(j, "tie_word_embeddings", &s->tied, &off, path));
    bool attention = false, mlp = false;
    if (s->family == PLUMB_LLAMA || s->family == PLUMB_QWEN3)
        PLUMB_TRY(plumb_json_want_bool(j, "attention_bias", &attention, &off, path));
    if (s->family == PLUMB_LLAMA)
        PLUMB_TRY(plumb_json_want_bool(j, "mlp_bias", &mlp, &off, path));
    const bool qkv = attention || s->family == PLUMB_QWEN2;
    s->block = (struct plumb_block){
        .bias = {[PLUMB_Q] = qkv,
                 [PLUMB_K] = qkv,
                 [PLUMB_V] = qkv,
                 [PLUMB_O] = attention,
                 [PLUMB_GATE] = mlp,
                 [PLUMB_UP] = mlp,
                 [PLUMB_DOWN] = mlp},
        .qk_norm = s->family == PLUMB_QWEN3,
    };
    return PLUMB_OK;
}

plumb_status plumb_spec_read(struct plumb_spec *out, const char *dir)
{
    char path[4096];
    PLUMB_TRY(plumb_path_join(path, sizeof path, dir, "adapter_config.json"));
    PLUMB_REQUIRE(
        !plumb_file_exists(path), PLUMB_ERR_UNSUPPORTED,
        "%s: the folder holds an adapter (PEFT), which plumb does not read; merge it into "
        "the model's weights (merge_and_unload) and name the folder of the result, or remove the "
        "adapter files",
        path);
    PLUMB_TRY(plumb_path_join(path, sizeof path, dir, "config.json"));
    plumb_json *j = NULL;
    plumb_status st = PLUMB_OK;
    struct plumb_spec s = {.bos = -1, .pad = -1};
    for (int i = 0; i < PLUMB_MAX_EOS; i++)
        s.eos[i] = -1;
    PLUMB_TRY(plumb_json_read_file(&j, path));
    PLUMB_TRY_GOTO(st, read_family(&s, j, path), fail);
    PLUMB_TRY_GOTO(st, plumb_spec_check_fields(j, path), fail);
    PLUMB_TRY_GOTO(st, read_sizes(&s, j, path), fail);
    PLUMB_TRY_GOTO(st, plumb_spec_read_rope(&s, j, path), fail);
    PLUMB_TRY_GOTO(st, plumb_spec_read_window(&s, j, path), fail);
    PLUMB_TRY_GOTO(st, read_switches(&s, j, path), fail);
    PLUMB_TRY_GOTO(st, plumb_spec_read_tokens(&s, j, path), fail);
    PLUMB_TRY_GOTO(st, plumb_spec_read_generation(&s, dir), fail);
    *out = s;
fail:
    plumb_json_free(&j);
    return st;
}

bool plumb_spec_same_sizes(const struct plumb_spec *a, const struct plumb_spec *b)
{
    return a->v == b->v && a->c == b->c && a->f == b->f && a->l == b->l && a->h == b->h &&
           a->hk == b->hk && a->d == b->d && a->max_pos == b->max_pos && a->labels == b->labels &&
           !memcmp(&a->block, &b->block, sizeof(a->block));
}
