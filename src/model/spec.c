/* spec.c - config.json of the Llama family into one struct.
 * Layer 4. Includes base/ and io/.
 *
 * A field that is absent takes the default of the Hugging Face configuration class of that
 * model type; a field that changes the arithmetic and that plumb lacks is refused. */
#include "model/spec.h"

#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "io/file.h"
#include "io/json.h"

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

static plumb_status want_size(const plumb_json *j, const char *key, int64_t *out,
                              const int64_t *fallback, int64_t limit, const char *path)
{
    PLUMB_TRY(plumb_json_want_int(j, key, out, fallback, path));
    PLUMB_REQUIRE(*out >= 1 && *out <= limit, PLUMB_ERR_FORMAT,
                  "%s: %s is %lld, expected 1 to %lld", path, key, (long long)*out,
                  (long long)limit);
    return PLUMB_OK;
}

/* model_type, and by the architecture's name whether a classifier or a language model. */
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
    PLUMB_TRY(want_size(j, "num_labels", &s->labels, &named, 65536, path));
    PLUMB_REQUIRE(!names || s->labels == named, PLUMB_ERR_FORMAT,
                  "%s: num_labels is %lld, id2label has %lld names", path, (long long)s->labels,
                  (long long)named);
    return PLUMB_OK;
}

/* Absent and null differ in Hugging Face: an absent field takes the class's default. */
static const int64_t *absent(const plumb_json *j, const char *key, const int64_t *if_absent,
                             const int64_t *if_null)
{
    return plumb_json_member(j, key) ? if_null : if_absent;
}

static plumb_status read_sizes(struct plumb_spec *s, const plumb_json *j, const char *path)
{
    const int64_t big = 1 << 24;
    PLUMB_TRY(want_size(j, "vocab_size", &s->v, NULL, big, path));
    PLUMB_TRY(want_size(j, "hidden_size", &s->c, NULL, big, path));
    PLUMB_TRY(want_size(j, "intermediate_size", &s->f, NULL, big, path));
    PLUMB_TRY(want_size(j, "num_hidden_layers", &s->l, NULL, 4096, path));
    PLUMB_TRY(want_size(j, "num_attention_heads", &s->h, NULL, 65536, path));
    PLUMB_TRY(want_size(j, "max_position_embeddings", &s->max_pos, NULL, big, path));
    static const int64_t hk_class[] = {[PLUMB_MISTRAL] = 8, [PLUMB_QWEN2] = 32, [PLUMB_QWEN3] = 32};
    const int64_t *hk_absent = s->family == PLUMB_LLAMA ? &s->h : &hk_class[s->family];
    PLUMB_TRY(want_size(j, "num_key_value_heads", &s->hk,
                        absent(j, "num_key_value_heads", hk_absent, &s->h), 65536, path));
    PLUMB_REQUIRE(s->h % s->hk == 0, PLUMB_ERR_FORMAT,
                  "%s: num_attention_heads %lld is no multiple of num_key_value_heads %lld", path,
                  (long long)s->h, (long long)s->hk);
    static const int64_t d_qwen3 = 128;
    const int64_t quotient = s->c / s->h;
    const int64_t *d_absent = s->family == PLUMB_QWEN3 ? &d_qwen3 : &quotient;
    PLUMB_TRY(plumb_json_want_int(j, "head_dim", &s->d, absent(j, "head_dim", d_absent, &quotient),
                                  path));
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

/* One scaling description, whichever of its names it stands under. */
static plumb_status read_scaling(struct plumb_spec *s, const plumb_json *r, const char *where)
{
    const char *none = "default", *type;
    PLUMB_TRY(plumb_json_want_string(r, "type", &type, &none, where));
    PLUMB_TRY(plumb_json_want_string(r, "rope_type", &type, &type, where));
    s->rope.type = PLUMB_ROPE_PLAIN;
    if (!strcmp(type, "default"))
        return PLUMB_OK;
    PLUMB_REQUIRE(!strcmp(type, "linear") || !strcmp(type, "llama3"), PLUMB_ERR_UNSUPPORTED,
                  "%s: rope_type \"%s\" is not supported (known: default, linear, llama3)", where,
                  type);
    PLUMB_TRY(plumb_json_want_real(r, "factor", &s->rope.factor, NULL, where));
    PLUMB_REQUIRE(s->rope.factor >= 1, PLUMB_ERR_FORMAT, "%s: factor is %g, expected >= 1", where,
                  s->rope.factor);
    s->rope.type = PLUMB_ROPE_LINEAR;
    if (!strcmp(type, "linear"))
        return PLUMB_OK;
    s->rope.type = PLUMB_ROPE_LLAMA3;
    const double max_pos = (double)s->max_pos;
    PLUMB_TRY(plumb_json_want_real(r, "low_freq_factor", &s->rope.low_freq_factor, NULL, where));
    PLUMB_TRY(plumb_json_want_real(r, "high_freq_factor", &s->rope.high_freq_factor, NULL, where));
    PLUMB_TRY(plumb_json_want_real(r, "original_max_position_embeddings", &s->rope.original_max_pos,
                                   &max_pos, where));
    PLUMB_REQUIRE(s->rope.low_freq_factor > 0 &&
                      s->rope.high_freq_factor > s->rope.low_freq_factor &&
                      s->rope.original_max_pos > 0,
                  PLUMB_ERR_FORMAT,
                  "%s: expected 0 < low_freq_factor < high_freq_factor and "
                  "original_max_position_embeddings > 0",
                  where);
    return PLUMB_OK;
}

static plumb_status read_rope(struct plumb_spec *s, const plumb_json *j, const char *path)
{
    char where[600];
    const double base = 10000.0, whole = 1.0;
    double partial;
    PLUMB_TRY(plumb_json_want_real(j, "partial_rotary_factor", &partial, &whole, path));
    PLUMB_TRY(plumb_json_want_real(j, "rope_theta", &s->rope_theta, &base, path));
    static const char *const name[] = {"rope_scaling", "rope_parameters"};
    for (int i = 0; i < 2; i++) {
        const plumb_json *r = plumb_json_get(j, name[i]);
        if (!r)
            continue;
        snprintf(where, sizeof where, "%.500s: %s", path, name[i]);
        PLUMB_REQUIRE(plumb_json_type_of(r) == PLUMB_JSON_OBJECT, PLUMB_ERR_FORMAT,
                      "%s: expected an object, found %s", where,
                      plumb_json_type_name(plumb_json_type_of(r)));
        PLUMB_REQUIRE(
            !plumb_json_get(r, "full_attention") && !plumb_json_get(r, "sliding_attention"),
            PLUMB_ERR_UNSUPPORTED, "%s: one entry per kind of layer is not supported", where);
        PLUMB_TRY(plumb_json_want_real(r, "rope_theta", &s->rope_theta, &s->rope_theta, where));
        PLUMB_TRY(plumb_json_want_real(r, "partial_rotary_factor", &partial, &partial, where));
        PLUMB_TRY(read_scaling(s, r, where));
    }
    PLUMB_REQUIRE(partial == 1.0, PLUMB_ERR_UNSUPPORTED,
                  "%s: partial_rotary_factor %g is not supported (expected 1)", path, partial);
    PLUMB_REQUIRE(s->rope_theta > 1, PLUMB_ERR_FORMAT, "%s: rope_theta is %g, expected > 1", path,
                  s->rope_theta);
    return PLUMB_OK;
}

/* Layers that attend through a window, of s->l: all or none are supported. */
static plumb_status count_windowed(int64_t *out, const struct plumb_spec *s, const plumb_json *j,
                                   const char *path)
{
    const plumb_json *types = plumb_json_get(j, "layer_types");
    if (types) {
        PLUMB_REQUIRE(plumb_json_count(types) == s->l, PLUMB_ERR_FORMAT,
                      "%s: layer_types has %lld entries, num_hidden_layers is %lld", path,
                      (long long)plumb_json_count(types), (long long)s->l);
        *out = 0;
        for (int64_t i = 0; i < s->l; i++) {
            const char *t = plumb_json_string(plumb_json_at(types, i), "");
            const bool windowed = !strcmp(t, "sliding_attention");
            PLUMB_REQUIRE(windowed || !strcmp(t, "full_attention"), PLUMB_ERR_UNSUPPORTED,
                          "%s: layer_types[%lld] \"%s\" is not supported", path, (long long)i, t);
            *out += windowed;
        }
        return PLUMB_OK;
    }
    const int64_t first_class = 28;
    int64_t first;
    PLUMB_TRY(plumb_json_want_int(j, "max_window_layers", &first, &first_class, path));
    *out = plumb_max_i64(0, s->l - plumb_max_i64(0, first));
    return PLUMB_OK;
}

static plumb_status read_window(struct plumb_spec *s, const plumb_json *j, const char *path)
{
    s->window = 0;
    if (s->family == PLUMB_LLAMA)
        return PLUMB_OK;
    const bool off = false;
    bool use = true;
    int64_t windowed = s->l;
    if (s->family != PLUMB_MISTRAL) {
        PLUMB_TRY(plumb_json_want_bool(j, "use_sliding_window", &use, &off, path));
        if (use)
            PLUMB_TRY(count_windowed(&windowed, s, j, path));
    }
    if (!use || windowed == 0)
        return PLUMB_OK;
    PLUMB_REQUIRE(windowed == s->l, PLUMB_ERR_UNSUPPORTED,
                  "%s: use_sliding_window on %lld of %lld layers is not supported (all or none)",
                  path, (long long)windowed, (long long)s->l);
    const int64_t window_class = 4096;
    if (plumb_json_member(j, "sliding_window") && !plumb_json_get(j, "sliding_window"))
        return PLUMB_OK;
    return want_size(j, "sliding_window", &s->window, &window_class, 1 << 24, path);
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
    bool bias = s->family == PLUMB_QWEN2;
    s->qk_norm = s->family == PLUMB_QWEN3;
    if (s->family == PLUMB_LLAMA || s->family == PLUMB_QWEN3) {
        PLUMB_TRY(plumb_json_want_bool(j, "attention_bias", &bias, &off, path));
        s->o_bias = bias;
    }
    s->qkv_bias = bias;
    if (s->family == PLUMB_LLAMA)
        PLUMB_TRY(plumb_json_want_bool(j, "mlp_bias", &s->mlp_bias, &off, path));
    return PLUMB_OK;
}

static plumb_status read_token(int32_t *out, const plumb_json *v, int64_t vocab, const char *key,
                               const char *path)
{
    const int64_t id = plumb_json_int(v, -1);
    PLUMB_REQUIRE(id >= 0 && id < vocab, PLUMB_ERR_FORMAT,
                  "%s: %s must hold token ids in [0, vocab_size %lld)", path, key,
                  (long long)vocab);
    *out = (int32_t)id;
    return PLUMB_OK;
}

/* The ids that file j gives; what it leaves out stays as it was. */
static plumb_status read_stops(struct plumb_spec *s, const plumb_json *j, const char *path)
{
    const plumb_json *bos = plumb_json_get(j, "bos_token_id");
    const plumb_json *eos = plumb_json_get(j, "eos_token_id");
    if (bos)
        PLUMB_TRY(read_token(&s->bos, bos, s->v, "bos_token_id", path));
    if (!eos)
        return PLUMB_OK;
    const bool list = plumb_json_type_of(eos) == PLUMB_JSON_ARRAY;
    const int64_t n = list ? plumb_json_count(eos) : 1;
    PLUMB_REQUIRE(n <= PLUMB_MAX_EOS, PLUMB_ERR_UNSUPPORTED,
                  "%s: eos_token_id has %lld ids, at most %d are supported", path, (long long)n,
                  PLUMB_MAX_EOS);
    for (int64_t i = 0; i < n; i++)
        PLUMB_TRY(
            read_token(&s->eos[i], list ? plumb_json_at(eos, i) : eos, s->v, "eos_token_id", path));
    s->n_eos = (int)n;
    return PLUMB_OK;
}

static plumb_status read_generation(struct plumb_spec *s, const char *dir)
{
    char path[512];
    PLUMB_TRY(plumb_path_join(path, sizeof path, dir, "generation_config.json"));
    if (!plumb_file_exists(path))
        return PLUMB_OK;
    plumb_json *j = NULL;
    PLUMB_TRY(plumb_json_read_file(&j, path));
    const plumb_status st = read_stops(s, j, path);
    plumb_json_free(&j);
    PLUMB_TRY(st);
    return PLUMB_OK;
}

plumb_status plumb_spec_read(struct plumb_spec *out, const char *dir)
{
    char path[512];
    PLUMB_TRY(plumb_path_join(path, sizeof path, dir, "config.json"));
    plumb_json *j = NULL;
    plumb_status st = PLUMB_OK;
    struct plumb_spec s = {.bos = -1};
    for (int i = 0; i < PLUMB_MAX_EOS; i++)
        s.eos[i] = -1;
    PLUMB_TRY(plumb_json_read_file(&j, path));
    PLUMB_TRY_GOTO(st, read_family(&s, j, path), fail);
    PLUMB_TRY_GOTO(st, read_sizes(&s, j, path), fail);
    PLUMB_TRY_GOTO(st, read_rope(&s, j, path), fail);
    PLUMB_TRY_GOTO(st, read_window(&s, j, path), fail);
    PLUMB_TRY_GOTO(st, read_switches(&s, j, path), fail);
    PLUMB_TRY_GOTO(st, read_stops(&s, j, path), fail);
    PLUMB_TRY_GOTO(st, read_generation(&s, dir), fail);
    *out = s;
fail:
    plumb_json_free(&j);
    return st;
}

bool plumb_spec_same_sizes(const struct plumb_spec *a, const struct plumb_spec *b)
{
    return a->v == b->v && a->c == b->c && a->f == b->f && a->l == b->l && a->h == b->h &&
           a->hk == b->hk && a->d == b->d && a->max_pos == b->max_pos && a->labels == b->labels &&
           a->qk_norm == b->qk_norm;
}
