/* spec_block.c - reads the description of the decoder block from config.json.
 * Layer 4. Includes base/, io/ and model/spec_parts.h. */
#include <math.h>
#include <string.h>

#include "base/log.h"
#include "model/spec_parts.h"

static bool is_glm(const struct plumb_spec *s)
{
    return s->family == PLUMB_GLM || s->family == PLUMB_GLM4;
}

static plumb_status read_biases(struct plumb_block *b, const struct plumb_spec *s,
                                const plumb_json *j, const char *path)
{
    const struct plumb_family_row *row = plumb_family_row(s->family);
    const bool off = false, on = true, neox = s->family == PLUMB_GPT_NEOX;
    const bool stablelm = s->family == PLUMB_STABLELM, starcoder2 = s->family == PLUMB_STARCODER2;
    const bool seed_oss = s->family == PLUMB_SEED_OSS;
    bool attention = s->family == PLUMB_GPT2, mlp = attention || neox;
    if (row->attention_bias)
        PLUMB_TRY(plumb_json_want_bool(j, "attention_bias", &attention,
                                       neox || seed_oss || is_glm(s) ? &on : &off, path));
    if (row->mlp_bias)
        PLUMB_TRY(plumb_json_want_bool(j, "mlp_bias", &mlp, &off, path));
    if (starcoder2 || s->family == PLUMB_ERNIE4_5) {
        PLUMB_TRY(plumb_json_want_bool(j, "use_bias", &attention, starcoder2 ? &on : &off, path));
        mlp = attention;
    }
    bool qkv = attention || s->family == PLUMB_QWEN2;
    if (stablelm)
        PLUMB_TRY(plumb_json_want_bool(j, "use_qkv_bias", &qkv, &off, path));
    if (seed_oss)
        PLUMB_TRY(plumb_json_want_bool(j, "attention_out_bias", &attention, &off, path));
    if (is_glm(s) || s->family == PLUMB_HELIUM)
        attention = false; /* here attention_bias is only for q, k and v */
    b->bias[PLUMB_Q] = b->bias[PLUMB_K] = b->bias[PLUMB_V] = qkv;
    b->bias[PLUMB_O] = attention;
    b->bias[PLUMB_GATE] = b->bias[PLUMB_UP] = b->bias[PLUMB_DOWN] = mlp;
    return PLUMB_OK;
}

/* Returns true for the families whose MLP has no gate. They have LayerNorm, too. */
static bool has_plain_mlp(const struct plumb_spec *s)
{
    return s->family == PLUMB_GPT2 || s->family == PLUMB_GPT_NEOX || s->family == PLUMB_STARCODER2;
}

static bool is_gemma(const struct plumb_spec *s)
{
    return s->family == PLUMB_GEMMA || s->family == PLUMB_GEMMA2 || s->family == PLUMB_GEMMA3;
}

static void set_norms(struct plumb_block *b, const struct plumb_spec *s)
{
    const bool olmo = s->family == PLUMB_OLMO2 || s->family == PLUMB_OLMO3;
    const bool exaone4 = s->family == PLUMB_EXAONE4, after = olmo || exaone4;
    b->norm[PLUMB_NORM_ATTENTION] = b->norm[PLUMB_NORM_MLP] = !after;
    b->norm[PLUMB_NORM_ATTENTION_OUT] = b->norm[PLUMB_NORM_MLP_OUT] =
        after || s->family == PLUMB_GLM4 || (is_gemma(s) && s->family != PLUMB_GEMMA);
    b->layer_norm = has_plain_mlp(s) || s->family == PLUMB_STABLELM;
    b->norm_shift = is_gemma(s) ? 1.0f : 0.0f;
    const bool heads = s->family == PLUMB_QWEN3 || s->family == PLUMB_GEMMA3 || exaone4;
    b->qk_norm = olmo ? PLUMB_QK_NORM_ROW : heads ? PLUMB_QK_NORM_HEAD : PLUMB_QK_NORM_NONE;
}

/* Reads a factor with a magnitude of 1e-20 to 1e20; the default is 1. */
static plumb_status read_scale(const plumb_json *j, const char *key, double *out, const char *path)
{
    const double one = 1.0;
    PLUMB_TRY(plumb_json_want_real(j, key, out, &one, path));
    PLUMB_REQUIRE(isfinite(*out) && fabs(*out) >= 1e-20 && fabs(*out) <= 1e20, PLUMB_ERR_FORMAT,
                  "%s: %s is %g, expected a magnitude of 1e-20 to 1e20", path, key, *out);
    return PLUMB_OK;
}

/* Reads a soft cap of 1e-20 to 1e20; null stands for none (0), and an absent field for if_absent.
 */
static plumb_status read_cap(const plumb_json *j, const char *key, double if_absent, float *out,
                             const char *path)
{
    double cap = 0;
    *out = 0;
    if (plumb_json_member(j, key) && !plumb_json_get(j, key))
        return PLUMB_OK;
    PLUMB_TRY(plumb_json_want_real(j, key, &cap, &if_absent, path));
    PLUMB_REQUIRE(cap >= 0 && cap <= 1e20 && (cap >= 1e-20 || !plumb_json_get(j, key)),
                  PLUMB_ERR_FORMAT, "%s: %s is %g, expected 1e-20 to 1e20, or null", path, key,
                  cap);
    *out = (float)cap;
    return PLUMB_OK;
}

static plumb_status read_gemma_scales(struct plumb_spec *s, const plumb_json *j, const char *path)
{
    const bool two = s->family == PLUMB_GEMMA2;
    const double scalar_class = 256;
    double scalar;
    s->embed_scale = (float)sqrt((double)s->c);
    s->embed_scale_rounds = true;
    if (s->family == PLUMB_GEMMA)
        return PLUMB_OK;
    PLUMB_TRY(plumb_json_want_real(j, "query_pre_attn_scalar", &scalar, &scalar_class, path));
    PLUMB_REQUIRE(scalar >= 1e-20 && scalar <= 1e20, PLUMB_ERR_FORMAT,
                  "%s: query_pre_attn_scalar is %g, expected 1e-20 to 1e20", path, scalar);
    s->block.attention_scale = (float)pow(scalar, -0.5);
    if (two)
        PLUMB_TRY(read_cap(j, "attn_logit_softcapping", 50, &s->block.attention_cap, path));
    PLUMB_TRY(read_cap(j, "final_logit_softcapping", two ? 30 : 0, &s->head_cap, path));
    if (s->labels > 0)
        s->head_cap = 0;
    return PLUMB_OK;
}

static plumb_status read_gpt2_scales(struct plumb_spec *s, const plumb_json *j, const char *path)
{
    const bool on = true, off = false;
    bool scales;
    PLUMB_TRY(plumb_json_want_bool(j, "scale_attn_weights", &scales, &on, path));
    PLUMB_TRY(plumb_json_want_bool(j, "scale_attn_by_inverse_layer_idx", &s->block.scale_by_layer,
                                   &off, path));
    if (!scales)
        s->block.attention_scale = 1.0f;
    return PLUMB_OK;
}

static plumb_status read_scales(struct plumb_spec *s, const plumb_json *j, const char *path)
{
    s->embed_scale = s->head_scale = s->block.residual_scale = 1.0f;
    s->block.attention_scale = 1.0f / sqrtf((float)s->d);
    if (is_gemma(s))
        return read_gemma_scales(s, j, path);
    if (s->family == PLUMB_GPT2)
        return read_gpt2_scales(s, j, path);
    if (s->family != PLUMB_GRANITE)
        return PLUMB_OK;
    double attention, embedding, residual, logits;
    PLUMB_TRY(read_scale(j, "attention_multiplier", &attention, path));
    PLUMB_TRY(read_scale(j, "embedding_multiplier", &embedding, path));
    PLUMB_TRY(read_scale(j, "residual_multiplier", &residual, path));
    PLUMB_TRY(read_scale(j, "logits_scaling", &logits, path));
    s->block.attention_scale = (float)attention;
    s->block.residual_scale = (float)residual;
    s->embed_scale = (float)embedding;
    s->head_scale = s->labels > 0 ? 1.0f : (float)(1.0 / logits);
    return PLUMB_OK;
}

/* Reads the activation of the MLP. Gemma 2 and 3 read hidden_activation and ignore hidden_act,
 * which older files also have. Gemma 1 reads hidden_act. The first files of Gemma 1 say "gelu" but
 * mean the approximation by tanh. */
static plumb_status read_activation(struct plumb_spec *s, const plumb_json *j, const char *path)
{
    static const struct {
        const char *name;
        enum plumb_activation is;
    } known[] = {{"silu", PLUMB_ACT_SILU},
                 {"swish", PLUMB_ACT_SILU},
                 {"gelu", PLUMB_ACT_GELU},
                 {"gelu_new", PLUMB_ACT_GELU_TANH},
                 {"gelu_pytorch_tanh", PLUMB_ACT_GELU_TANH}};
    const bool gemma = is_gemma(s), first = s->family == PLUMB_GEMMA;
    const char *act_class = gemma || s->family == PLUMB_STARCODER2 ? "gelu_pytorch_tanh"
                            : s->family == PLUMB_GPT2              ? "gelu_new"
                            : s->family == PLUMB_GPT_NEOX          ? "gelu"
                                                                   : "silu";
    const char *key = "hidden_activation", *other = "hidden_act", *act, *old;
    if (!gemma)
        PLUMB_TRY(plumb_spec_key(&key, s, j, "hidden_act", path));
    if (first) {
        key = "hidden_act";
        other = "hidden_activation";
    }
    PLUMB_TRY(plumb_json_want_string(j, key, &act, &act_class, path));
    if (first && !strcmp(act, "gelu"))
        act = act_class;
    PLUMB_TRY(plumb_json_want_string(j, other, &old, &act, path));
    if (gemma && strcmp(old, act) != 0)
        plumb_log_once(PLUMB_LOG_WARN,
                       "%s: %s is \"%s\", but model_type %s reads %s; \"%s\" is used, as in "
                       "transformers",
                       path, other, old, plumb_spec_type(s), key, act);
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (!strcmp(act, known[i].name)) {
            s->block.activation = known[i].is;
            return PLUMB_OK;
        }
    PLUMB_FAIL(PLUMB_ERR_UNSUPPORTED,
               "%s: %s \"%s\" is not supported (known: silu, gelu, gelu_new, gelu_pytorch_tanh)",
               path, key, act);
}

plumb_status plumb_spec_read_block(struct plumb_spec *s, const plumb_json *j, const char *path)
{
    PLUMB_TRY(read_activation(s, j, path));
    PLUMB_REQUIRE(!plumb_json_get(j, "quantization_config"), PLUMB_ERR_UNSUPPORTED,
                  "%s: quantization_config is not supported; save the model unquantised", path);
    PLUMB_TRY(plumb_json_want_bool(j, "tie_word_embeddings", &s->tied,
                                   &plumb_family_row(s->family)->tied, path));
    PLUMB_TRY(read_biases(&s->block, s, j, path));
    set_norms(&s->block, s);
    s->block.gated = !has_plain_mlp(s);
    s->block.files = s->family == PLUMB_PHI3         ? PLUMB_FILES_PHI3
                     : s->family == PLUMB_GPT2       ? PLUMB_FILES_GPT2
                     : s->family == PLUMB_GPT_NEOX   ? PLUMB_FILES_NEOX
                     : s->family == PLUMB_STARCODER2 ? PLUMB_FILES_STARCODER2
                     : s->family == PLUMB_GLM        ? PLUMB_FILES_GLM
                     : s->family == PLUMB_GLM4       ? PLUMB_FILES_GLM4
                                                     : PLUMB_FILES_LLAMA;
    s->block.neighbours = s->family == PLUMB_HELIUM || s->family == PLUMB_ERNIE4_5 || is_glm(s);
    s->positions = s->family == PLUMB_GPT2;
    const bool on = true;
    if (s->family == PLUMB_GPT_NEOX)
        PLUMB_TRY(plumb_json_want_bool(j, "use_parallel_residual", &s->block.parallel, &on, path));
    return read_scales(s, j, path);
}
