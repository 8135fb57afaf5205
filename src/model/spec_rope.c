/* spec_rope.c - reads the rotary embedding and the attention windows from config.json.
 * Layer 4. Includes base/, io/ and model/spec_parts.h. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "model/spec_parts.h"

/* Returns true if the rope type of s uses this key. All other keys cause a warning. */
static bool is_used(const char *key, const struct plumb_spec *s)
{
    static const char *const any[] = {"rope_theta", "rope_type", "type", "partial_rotary_factor"};
    static const char *const llama3[] = {"low_freq_factor", "high_freq_factor",
                                         "original_max_position_embeddings"};
    for (size_t i = 0; i < sizeof any / sizeof *any; i++)
        if (!strcmp(key, any[i]))
            return true;
    if (s->rope.type == PLUMB_ROPE_PLAIN)
        return false;
    bool used = !strcmp(key, "factor");
    for (size_t i = 0; i < sizeof llama3 / sizeof *llama3; i++)
        used |= s->rope.type == PLUMB_ROPE_LLAMA3 && !strcmp(key, llama3[i]);
    return used;
}

static plumb_status warn_unused(const struct plumb_spec *s, const plumb_json *r, const char *type,
                                const char *where)
{
    for (int64_t i = 0; i < plumb_json_count(r); i++) {
        const char *key;
        const plumb_json *value;
        PLUMB_TRY(plumb_json_member_at(r, i, &key, &value));
        if (plumb_json_type_of(value) != PLUMB_JSON_NULL && !is_used(key, s))
            plumb_log_once(PLUMB_LOG_WARN,
                           "%s: \"%s\" has no meaning with rope_type \"%s\" and is not used", where,
                           key, type);
    }
    return PLUMB_OK;
}

static plumb_status read_type(const char **type, const plumb_json *r, const char *where)
{
    const char *none = "default", *old;
    PLUMB_TRY(plumb_json_want_string(r, "type", &old, &none, where));
    PLUMB_TRY(plumb_json_want_string(r, "rope_type", type, &old, where));
    if (plumb_json_get(r, "type") && strcmp(old, *type) != 0)
        plumb_log_once(PLUMB_LOG_WARN,
                       "%s: type is \"%s\" and rope_type is \"%s\"; rope_type is "
                       "used, as in transformers",
                       where, old, *type);
    PLUMB_REQUIRE(!strcmp(*type, "default") || !strcmp(*type, "linear") || !strcmp(*type, "llama3"),
                  PLUMB_ERR_UNSUPPORTED,
                  "%s: rope_type \"%s\" is not supported (known: default, linear, llama3)", where,
                  *type);
    return PLUMB_OK;
}

/* Reads original_max_position_embeddings. As in transformers, the top-level field takes precedence
 * over the one in the rope object. */
static plumb_status read_original(struct plumb_spec *s, const plumb_json *j, const plumb_json *r,
                                  const char *where, const char *path)
{
    static const char key[] = "original_max_position_embeddings";
    const double max_pos = (double)s->max_pos;
    double inside;
    PLUMB_TRY(plumb_json_want_real(r, key, &inside, &max_pos, where));
    PLUMB_TRY(plumb_json_want_real(j, key, &s->rope.original_max_pos, &inside, path));
    if (plumb_json_get(r, key) && s->rope.original_max_pos != inside)
        plumb_log_once(
            PLUMB_LOG_WARN,
            "%s: %s is %g, but the top level of config.json has %g; %g is used, as in transformers",
            where, key, inside, s->rope.original_max_pos, s->rope.original_max_pos);
    return PLUMB_OK;
}

static plumb_status read_scaling(struct plumb_spec *s, const plumb_json *j, const plumb_json *r,
                                 const char *where, const char *path)
{
    const char *type;
    PLUMB_TRY(read_type(&type, r, where));
    s->rope.type = !strcmp(type, "llama3")   ? PLUMB_ROPE_LLAMA3
                   : !strcmp(type, "linear") ? PLUMB_ROPE_LINEAR
                                             : PLUMB_ROPE_PLAIN;
    PLUMB_TRY(warn_unused(s, r, type, where));
    if (s->rope.type == PLUMB_ROPE_PLAIN)
        return PLUMB_OK;
    PLUMB_TRY(plumb_json_want_real(r, "factor", &s->rope.factor, NULL, where));
    PLUMB_REQUIRE(s->rope.factor >= 1, PLUMB_ERR_FORMAT, "%s: factor is %g, expected >= 1", where,
                  s->rope.factor);
    if (s->rope.type == PLUMB_ROPE_LINEAR)
        return PLUMB_OK;
    PLUMB_TRY(plumb_json_want_real(r, "low_freq_factor", &s->rope.low_freq_factor, NULL, where));
    PLUMB_TRY(plumb_json_want_real(r, "high_freq_factor", &s->rope.high_freq_factor, NULL, where));
    PLUMB_TRY(read_original(s, j, r, where, path));
    PLUMB_REQUIRE(s->rope.low_freq_factor > 0 &&
                      s->rope.high_freq_factor > s->rope.low_freq_factor &&
                      s->rope.original_max_pos > 0,
                  PLUMB_ERR_FORMAT,
                  "%s: expected 0 < low_freq_factor < high_freq_factor and "
                  "original_max_position_embeddings > 0",
                  where);
    return PLUMB_OK;
}

static plumb_status want_object(const plumb_json *r, const char *where)
{
    PLUMB_REQUIRE(!r || plumb_json_type_of(r) == PLUMB_JSON_OBJECT, PLUMB_ERR_FORMAT,
                  "%s: expected an object, found %s", where,
                  plumb_json_type_name(plumb_json_type_of(r)));
    PLUMB_REQUIRE(!plumb_json_get(r, "full_attention") && !plumb_json_get(r, "sliding_attention"),
                  PLUMB_ERR_UNSUPPORTED,
                  "%s: separate entries for full_attention and sliding_attention are not supported",
                  where);
    return PLUMB_OK;
}

static bool differs(const plumb_json *a, const plumb_json *b)
{
    struct plumb_buf x = {0}, y = {0};
    const bool known = !plumb_json_put_node(&x, a) && !plumb_json_put_node(&y, b);
    const bool differ = !known || strcmp(plumb_buf_text(&x), plumb_buf_text(&y)) != 0;
    plumb_buf_fini(&x);
    plumb_buf_fini(&y);
    return differ;
}

/* As in transformers (convert_rope_params_to_dict), a non-empty rope_scaling replaces
 * rope_parameters completely, including rope_theta. Values that the chosen object lacks come from
 * the top-level fields. */
plumb_status plumb_spec_read_rope(struct plumb_spec *s, const plumb_json *j, const char *path)
{
    char where[2][600];
    const char *const name[2] = {"rope_scaling", "rope_parameters"};
    const plumb_json *r[2];
    for (int i = 0; i < 2; i++) {
        r[i] = plumb_json_get(j, name[i]);
        snprintf(where[i], sizeof where[i], "%.500s: %s", path, name[i]);
        PLUMB_TRY(want_object(r[i], where[i]));
    }
    const int k = r[0] && plumb_json_count(r[0]) > 0 ? 0 : 1;
    if (k == 0 && r[1] && differs(r[0], r[1]))
        plumb_log_once(PLUMB_LOG_WARN,
                       "%s: rope_scaling and rope_parameters differ; only rope_scaling is used, as "
                       "in transformers 5. Remove one of them",
                       path);
    const double base = 10000.0, whole = 1.0;
    double theta, partial, outside;
    PLUMB_TRY(plumb_json_want_real(j, "partial_rotary_factor", &partial, &whole, path));
    PLUMB_TRY(plumb_json_want_real(j, "rope_theta", &theta, &base, path));
    outside = theta;
    if (r[k]) {
        PLUMB_TRY(plumb_json_want_real(r[k], "rope_theta", &theta, &theta, where[k]));
        PLUMB_TRY(
            plumb_json_want_real(r[k], "partial_rotary_factor", &partial, &partial, where[k]));
        PLUMB_TRY(read_scaling(s, j, r[k], where[k], path));
    }
    if (plumb_json_get(j, "rope_theta") && theta != outside)
        plumb_log_once(PLUMB_LOG_WARN,
                       "%s: rope_theta is %g, but the top level of config.json has %g; %g is used, "
                       "as in transformers",
                       where[k], theta, outside, theta);
    PLUMB_REQUIRE(partial == 1.0, PLUMB_ERR_UNSUPPORTED,
                  "%s: partial_rotary_factor %g is not supported (expected 1)", path, partial);
    PLUMB_REQUIRE(theta > 1, PLUMB_ERR_FORMAT, "%s: rope_theta is %g, expected > 1", path, theta);
    s->rope_theta = theta;
    return PLUMB_OK;
}

/* ---- attention windows ------------------------------------------------------------------ */

/* Sets *out to the number of layers with a window in layer_types. Fails on an unknown kind. */
static plumb_status count_types(int64_t *out, const plumb_json *types, const struct plumb_spec *s,
                                const char *path)
{
    *out = 0;
    PLUMB_REQUIRE(plumb_json_type_of(types) == PLUMB_JSON_ARRAY && plumb_json_count(types) == s->l,
                  PLUMB_ERR_FORMAT, "%s: layer_types has %lld entries, num_hidden_layers is %lld",
                  path, (long long)plumb_json_count(types), (long long)s->l);
    for (int64_t i = 0; i < s->l; i++) {
        const char *t = plumb_json_string(plumb_json_at(types, i), "");
        const bool windowed = !strcmp(t, "sliding_attention");
        /* "attention" is an older name of "full_attention" */
        PLUMB_REQUIRE(windowed || !strcmp(t, "full_attention") || !strcmp(t, "attention"),
                      PLUMB_ERR_UNSUPPORTED, "%s: layer_types[%lld] \"%s\" is not supported", path,
                      (long long)i, t);
        *out += windowed;
    }
    return PLUMB_OK;
}

/* Sets *window to the size of the attention window; 0 if `use` is false or the field is null. */
static plumb_status read_size(int64_t *window, bool use, const plumb_json *j, const char *path)
{
    const int64_t window_class = 4096;
    *window = 0;
    if (!use || (plumb_json_member(j, "sliding_window") && !plumb_json_get(j, "sliding_window")))
        return PLUMB_OK;
    return plumb_spec_want_size(j, "sliding_window", window, &window_class, 1 << 24, path);
}

/* Checks that a llama config has no attention window. transformers' Llama ignores windows in its
 * masks, but applies these fields to its cache; its results would depend on how it is called. */
static plumb_status without_windows(const struct plumb_spec *s, const plumb_json *j,
                                    const char *path)
{
    const plumb_json *types = plumb_json_get(j, "layer_types");
    const int64_t window = plumb_json_int(plumb_json_get(j, "sliding_window"), s->max_pos);
    int64_t windowed = 0;
    if (types)
        PLUMB_TRY(count_types(&windowed, types, s, path));
    PLUMB_REQUIRE(windowed == 0 && window >= s->max_pos, PLUMB_ERR_UNSUPPORTED,
                  "%s: %s asks for an attention window, but model_type llama has none; remove the "
                  "field if every layer attends to all positions, or use model_type mistral",
                  path, windowed > 0 ? "layer_types" : "sliding_window");
    return PLUMB_OK;
}

/* Reads the attention window. Only all layers or none may have one. layer_types decides if it
 * exists (transformers treats a mistral with layer_types as a ministral, whose arithmetic is the
 * same). Otherwise, use_sliding_window and max_window_layers decide. */
plumb_status plumb_spec_read_window(struct plumb_spec *s, const plumb_json *j, const char *path)
{
    if (s->family == PLUMB_LLAMA)
        return without_windows(s, j, path);
    const bool mistral = s->family == PLUMB_MISTRAL, off = false;
    const plumb_json *types = plumb_json_get(j, "layer_types");
    bool use = mistral;
    int64_t first = 0, windowed = 0, window;
    const int64_t first_class = 28;
    if (!mistral) {
        PLUMB_TRY(plumb_json_want_bool(j, "use_sliding_window", &use, &off, path));
        PLUMB_TRY(plumb_json_want_int(j, "max_window_layers", &first, &first_class, path));
    }
    PLUMB_TRY(read_size(&window, use, j, path));
    const int64_t made = window ? plumb_max_i64(0, s->l - plumb_max_i64(0, first)) : 0;
    if (types)
        PLUMB_TRY(count_types(&windowed, types, s, path));
    else
        windowed = made;
    PLUMB_REQUIRE(windowed == 0 || window > 0, PLUMB_ERR_FORMAT,
                  "%s: layer_types gives %lld layers a window, but %s; transformers refuses this "
                  "too. Correct one of the fields",
                  path, (long long)windowed,
                  use ? "sliding_window is null" : "use_sliding_window is not true");
    if (types && windowed != made && (mistral || plumb_json_get(j, "max_window_layers")))
        plumb_log_once(PLUMB_LOG_WARN,
                       "%s: layer_types gives %lld of %lld layers a window, but %s would give it "
                       "to %lld; layer_types is used, as in transformers",
                       path, (long long)windowed, (long long)s->l,
                       mistral ? "sliding_window" : "max_window_layers with use_sliding_window",
                       (long long)made);
    PLUMB_REQUIRE(
        windowed == 0 || windowed == s->l, PLUMB_ERR_UNSUPPORTED,
        "%s: an attention window on %lld of %lld layers is not supported, only on all or none "
        "(use_sliding_window, max_window_layers, layer_types)",
        path, (long long)windowed, (long long)s->l);
    s->window = windowed ? window : 0;
    for (int64_t l = 0; l < s->l; l++)
        s->windowed[l] = windowed > 0;
    return PLUMB_OK;
}
