/* spec_fields.c - checks all fields of a config.json against those that plumb knows, and reads
 * sizes. Layer 4. Includes base/, io/ and model/spec_parts.h. */
#include <string.h>

#include "base/log.h"
#include "model/spec_parts.h"

/* Fields that another spec*.c reads, or that do not influence what plumb computes. */
static const char *const known[] = {
    "_commit_hash",
    "_name_or_path",
    "architectures",
    "attention_bias",
    "attention_dropout",
    "attn_implementation",
    "auto_map",
    "_attn_implementation",
    "_attn_implementation_autoset",
    "bos_token_id",
    "chunk_size_feed_forward",
    "cls_token_id",
    "decoder_start_token_id",
    "dtype",
    "eos_token_id",
    "finetuning_task",
    "head_dim",
    "hidden_act",
    "hidden_size",
    "id2label",
    "initializer_range",
    "intermediate_size",
    "is_decoder",
    "label2id",
    "layer_types",
    "mask_token_id",
    "max_position_embeddings",
    "max_window_layers",
    "mlp_bias",
    "model_type",
    "name_or_path",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "num_labels",
    "original_max_position_embeddings",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "partial_rotary_factor",
    "pretraining_tp",
    "problem_type",
    "return_dict",
    "rms_norm_eps",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "sep_token_id",
    "sliding_window",
    "task_specific_params",
    "tie_word_embeddings",
    "tokenizer_class",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "unk_token_id",
    "use_cache",
    "use_sliding_window",
    "vocab_size",
    /* fields for generation: old versions of transformers stored them in config.json; transformers
     * 5 ignores them there */
    "bad_words_ids",
    "begin_suppress_tokens",
    "cache_implementation",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "min_length",
    "min_new_tokens",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_scores",
    "prefix",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict_in_generate",
    "suppress_tokens",
    "temperature",
    "tf_legacy_loss",
    "top_k",
    "top_p",
    "typical_p",
};

/* Fields with which other architectures change the arithmetic. transformers ignores most of them
 * for the model types that plumb supports, so a folder that has one was probably made by another
 * program. `off` lists the values, besides null, that have no effect and are accepted. */
static const struct {
    const char *key, *off; /* off: numbers or words that have no effect, separated by blanks */
} other[] = {
    {"add_cross_attention", "false"},
    {"alibi", "false"},
    {"attention_multiplier", ""},
    {"attn_logit_softcapping", ""},
    {"attn_temperature_tuning", "false"},
    {"clip_qkv", ""},
    {"cross_attention_hidden_size", ""},
    {"embedding_multiplier", "1"},
    {"final_logit_softcapping", ""},
    {"first_k_dense_replace", "0"},
    {"hidden_activation", "silu swish"},
    {"is_causal", "true"},
    {"is_encoder_decoder", "false"},
    {"kv_lora_rank", ""},
    {"lm_head_bias", "false"},
    {"logit_scale", "1"},
    {"logits_scaling", "1"},
    {"mup_enabled", "false"},
    {"n_routed_experts", "0"},
    {"no_rope_layer_interval", "0"},
    {"no_rope_layers", ""},
    {"num_experts", "0"},
    {"num_local_experts", "0"},
    {"parallel_attn", "false"},
    {"per_layer_config", ""},
    {"position_embedding_type", "rope rotary absolute"},
    {"pruned_heads", "{}"},
    {"qk_layernorm", "false"},
    {"query_pre_attn_scalar", ""},
    {"residual_multiplier", "1"},
    {"rope_interleaved", "false"},
    {"rope_ratio", "1"},
    {"rotary_dim", ""},
    {"rotary_pct", "1"},
    {"scale_depth", "1"},
    {"scale_emb", "1"},
    {"use_bidirectional_attention", "false"},
    {"use_parallel_residual", "false"},
    {"use_qk_norm", "false"},
};

static bool is_off(const plumb_json *value, const char *off)
{
    const double number = plumb_json_real(value, -1);
    switch (plumb_json_type_of(value)) {
    case PLUMB_JSON_NULL:
        return true;
    case PLUMB_JSON_BOOL:
        return plumb_spec_is_word_of(plumb_json_bool(value, false) ? "true" : "false", off);
    case PLUMB_JSON_STRING:
        return plumb_spec_is_word_of(plumb_json_string(value, ""), off);
    case PLUMB_JSON_INT:
    case PLUMB_JSON_REAL:
        return (number == 0 && plumb_spec_is_word_of("0", off)) ||
               (number == 1 && plumb_spec_is_word_of("1", off));
    default:
        return plumb_json_count(value) == 0;
    }
}

static plumb_status refuse(const char *key, const plumb_json *value, const char *path)
{
    struct plumb_buf text = {0};
    const plumb_status st = plumb_json_put_node(&text, value);
    if (st == PLUMB_OK)
        (void)plumb_fail_at(
            PLUMB_ERR_UNSUPPORTED, __FILE__, __LINE__,
            "%s: \"%s\": %.80s is not supported: it changes what some models compute, "
            "and plumb does not implement it",
            path, key, plumb_buf_text(&text));
    plumb_buf_fini(&text);
    return st ? st : PLUMB_ERR_UNSUPPORTED;
}

static plumb_status check_field(const struct plumb_spec *s, const char *key,
                                const plumb_json *value, const char *path)
{
    const struct plumb_family_row *row = plumb_family_row(s->family);
    if (plumb_spec_is_word_of(key, row->fields))
        return PLUMB_OK;
    if (row->ignored && plumb_spec_is_word_of(key, row->ignored)) {
        if (plumb_json_type_of(value) != PLUMB_JSON_NULL)
            plumb_log_once(
                PLUMB_LOG_WARN,
                "%s: \"%s\" is not used: model_type %s has no such field in transformers", path,
                key, row->type);
        return PLUMB_OK;
    }
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        if (!strcmp(key, other[i].key))
            return is_off(value, other[i].off) ? PLUMB_OK : refuse(key, value, path);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(key, known[i]))
            return PLUMB_OK;
    const bool quiet = plumb_json_type_of(value) == PLUMB_JSON_NULL ||
                       !strcmp(key, "quantization_config"); /* spec_block.c refuses it */
    if (!quiet)
        plumb_log_once(PLUMB_LOG_WARN, "%s: plumb does not know the field \"%s\" and ignores it",
                       path, key);
    return PLUMB_OK;
}

/* Warns about bias fields whose value this model type does not use. */
static void check_biases(const struct plumb_spec *s, const plumb_json *j, const char *path)
{
    const struct plumb_family_row *row = plumb_family_row(s->family);
    const bool qwen2 = s->family == PLUMB_QWEN2;
    const plumb_json *attention = plumb_json_get(j, "attention_bias");
    if (!row->attention_bias && attention && plumb_json_bool(attention, qwen2) != qwen2)
        plumb_log_once(PLUMB_LOG_WARN,
                       "%s: attention_bias is not used: model_type %s %s, as in transformers", path,
                       row->type, qwen2 ? "always has biases at q, k and v" : "has none");
    if (!row->mlp_bias && plumb_json_bool(plumb_json_get(j, "mlp_bias"), false))
        plumb_log_once(PLUMB_LOG_WARN,
                       "%s: mlp_bias is not used: model_type %s has none, as in "
                       "transformers",
                       path, row->type);
}

/* Warns about fields that ask for dropout, a dtype or Python code, which plumb does not use. */
static void warn_unhonoured(const plumb_json *j, const char *path)
{
    static const char *const dropout[] = {"attention_dropout", "attn_pdrop",     "embd_pdrop",
                                          "embedding_dropout", "hidden_dropout", "resid_pdrop",
                                          "residual_dropout"};
    const char *dtype = plumb_json_string(plumb_json_get(j, "dtype"), NULL);
    for (size_t i = 0; i < sizeof dropout / sizeof *dropout; i++) {
        const double p = plumb_json_real(plumb_json_get(j, dropout[i]), 0.0);
        if (p != 0.0)
            plumb_log_once(PLUMB_LOG_WARN,
                           "%s: %s is %g but is ignored: plumb trains without dropout", path,
                           dropout[i], p);
    }
    if (dtype && strcmp(plumb_json_string(plumb_json_get(j, "torch_dtype"), dtype), dtype) != 0)
        plumb_log_once(PLUMB_LOG_WARN,
                       "%s: dtype and torch_dtype differ; plumb ignores both and reads each tensor "
                       "in the dtype that its file has",
                       path);
    if (plumb_json_get(j, "auto_map"))
        plumb_log_once(PLUMB_LOG_WARN,
                       "%s: auto_map names Python code in the folder, which plumb does not run; "
                       "the model is computed as its model_type says",
                       path);
}

plumb_status plumb_spec_check_fields(const struct plumb_spec *s, const plumb_json *j,
                                     const char *path)
{
    for (int64_t i = 0; i < plumb_json_count(j); i++) {
        const char *key;
        const plumb_json *value;
        PLUMB_TRY(plumb_json_member_at(j, i, &key, &value));
        PLUMB_TRY(check_field(s, key, value, path));
    }
    warn_unhonoured(j, path);
    check_biases(s, j, path);
    return PLUMB_OK;
}

plumb_status plumb_spec_want_size(const plumb_json *j, const char *key, int64_t *out,
                                  const int64_t *fallback, int64_t limit, const char *path)
{
    PLUMB_TRY(plumb_json_want_int(j, key, out, fallback, path));
    PLUMB_REQUIRE(*out >= 1 && *out <= limit, PLUMB_ERR_FORMAT,
                  "%s: %s is %lld, expected 1 to %lld", path, key, (long long)*out,
                  (long long)limit);
    return PLUMB_OK;
}
