/* spec_window.c - reads from config.json which layers have an attention window.
 * Layer 4. Includes base/, io/ and model/spec_parts.h. */
#include <string.h>

#include "base/log.h"
#include "model/spec_parts.h"

/* Sets windowed from layer_types. Fails on an unknown kind of layer. */
static plumb_status read_types(bool *windowed, const plumb_json *types, const struct plumb_spec *s,
                               const char *path)
{
    PLUMB_REQUIRE(plumb_json_type_of(types) == PLUMB_JSON_ARRAY && plumb_json_count(types) == s->l,
                  PLUMB_ERR_FORMAT, "%s: layer_types has %lld entries, num_hidden_layers is %lld",
                  path, (long long)plumb_json_count(types), (long long)s->l);
    for (int64_t l = 0; l < s->l; l++) {
        const char *t = plumb_json_string(plumb_json_at(types, l), "");
        windowed[l] = !strcmp(t, "sliding_attention");
        /* "attention" is an older name of "full_attention" */
        PLUMB_REQUIRE(windowed[l] || !strcmp(t, "full_attention") || !strcmp(t, "attention"),
                      PLUMB_ERR_UNSUPPORTED,
                      "%s: layer_types[%lld] \"%s\" is not supported, expected full_attention or "
                      "sliding_attention",
                      path, (long long)l, t);
    }
    return PLUMB_OK;
}

static int64_t count(const bool *windowed, int64_t l)
{
    int64_t n = 0;
    for (int64_t i = 0; i < l; i++)
        n += windowed[i];
    return n;
}

/* Sets *window to the size of the attention window. The size is 0 if sliding_window is null. If the
 * field is absent, the size is 0 in SmolLM3, Phi-3 and StarCoder2, and 4096 in other families.
 * Fails on null in families that need a window. */
static plumb_status read_size(int64_t *window, const struct plumb_spec *s, const plumb_json *j,
                              const char *path)
{
    const bool none =
        s->family == PLUMB_SMOLLM3 || s->family == PLUMB_PHI3 || s->family == PLUMB_STARCODER2;
    const bool must = s->family == PLUMB_MINISTRAL || s->family == PLUMB_GEMMA2 ||
                      s->family == PLUMB_GEMMA3 || s->family == PLUMB_OLMO3;
    const int64_t window_class = 4096;
    *window = 0;
    PLUMB_REQUIRE(!must || plumb_json_get(j, "sliding_window") ||
                      !plumb_json_member(j, "sliding_window"),
                  PLUMB_ERR_FORMAT,
                  "%s: sliding_window is null; expected a number, which transformers needs for "
                  "model_type %s whatever layer_types says",
                  path, plumb_spec_type(s));
    if (!plumb_json_get(j, "sliding_window") && (none || plumb_json_member(j, "sliding_window")))
        return PLUMB_OK;
    return plumb_spec_want_size(j, "sliding_window", window, &window_class, 1 << 24, path);
}

/* Fails if a config asks for an attention window. For these families, transformers ignores windows
 * in the attention masks but applies the fields to its KV cache, so the results of transformers
 * would depend on how the model is called. */
static plumb_status without_windows(const struct plumb_spec *s, const plumb_json *j,
                                    const char *path)
{
    bool windowed[PLUMB_MAX_LAYERS] = {0};
    const plumb_json *types = plumb_json_get(j, "layer_types");
    const int64_t window = plumb_json_int(plumb_json_get(j, "sliding_window"), s->max_pos);
    if (types)
        PLUMB_TRY(read_types(windowed, types, s, path));
    const bool by_type = count(windowed, s->l) > 0;
    PLUMB_REQUIRE(!by_type && window >= s->max_pos, PLUMB_ERR_UNSUPPORTED,
                  "%s: %s asks for an attention window, but model_type %s has none; remove the "
                  "field if every layer attends to all positions, or use model_type mistral",
                  path, by_type ? "layer_types" : "sliding_window", plumb_spec_type(s));
    return PLUMB_OK;
}

/* Sets window and windowed of Phi-3 or StarCoder2, which have a window on all layers or on none.
 * Their attention masks in transformers ignore layer_types, so a layer_types that disagrees with
 * the masks is refused. */
static plumb_status on_all_layers(struct plumb_spec *s, const plumb_json *j, const char *path)
{
    bool windowed[PLUMB_MAX_LAYERS] = {0};
    const plumb_json *types = plumb_json_get(j, "layer_types");
    PLUMB_TRY(read_size(&s->window, s, j, path));
    for (int64_t l = 0; l < s->l; l++)
        s->windowed[l] = s->window > 0;
    if (types)
        PLUMB_TRY(read_types(windowed, types, s, path));
    PLUMB_REQUIRE(!types || !memcmp(windowed, s->windowed, (size_t)s->l * sizeof(*windowed)),
                  PLUMB_ERR_UNSUPPORTED,
                  "%s: layer_types contradicts sliding_window: model_type %s has the window on all "
                  "layers or on none. Remove layer_types",
                  path, plumb_spec_type(s));
    return PLUMB_OK;
}

/* Sets windowed. The layers without a window are: every second layer of Gemma 2, every fourth layer
 * of OLMo 3, and every sliding_window_pattern-th layer of Gemma 3 (default: 6) and EXAONE 4
 * (default: 4). */
static plumb_status make_periodic_types(bool *windowed, int64_t *window, const struct plumb_spec *s,
                                        const plumb_json *j, const char *path)
{
    const bool exaone4 = s->family == PLUMB_EXAONE4;
    const int64_t usual = exaone4 ? 4 : 6;
    int64_t pattern = s->family == PLUMB_OLMO3 ? 4 : 2;
    PLUMB_TRY(read_size(window, s, j, path));
    if (exaone4 && plumb_json_get(j, "layer_types"))
        return PLUMB_OK; /* sliding_window_pattern has no effect and may be a text ("LLLG") */
    PLUMB_REQUIRE(
        !exaone4 || *window > 0, PLUMB_ERR_FORMAT,
        "%s: sliding_window is null and layer_types is missing; transformers refuses this "
        "too. Add layer_types with full_attention for every layer",
        path);
    if (exaone4 || s->family == PLUMB_GEMMA3)
        PLUMB_TRY(
            plumb_spec_want_size(j, "sliding_window_pattern", &pattern, &usual, 1 << 24, path));
    for (int64_t l = 0; l < s->l; l++)
        windowed[l] = (l + 1) % pattern != 0;
    return PLUMB_OK;
}

/* Sets windowed, and *window to the window's size, as the configuration class of the family does if
 * layer_types is absent. */
static plumb_status make_types(bool *windowed, int64_t *window, const struct plumb_spec *s,
                               const plumb_json *j, const char *path)
{
    const bool off = false, mistral = s->family == PLUMB_MISTRAL || s->family == PLUMB_MINISTRAL;
    if (s->family == PLUMB_GEMMA2 || s->family == PLUMB_GEMMA3 || s->family == PLUMB_OLMO3 ||
        s->family == PLUMB_EXAONE4)
        return make_periodic_types(windowed, window, s, j, path);
    const bool smollm3 = s->family == PLUMB_SMOLLM3;
    const int64_t first_class = 28;
    bool use = mistral;
    int64_t first = 0;
    if (!mistral)
        PLUMB_TRY(plumb_json_want_bool(j, "use_sliding_window", &use, &off, path));
    if (!mistral && !smollm3)
        PLUMB_TRY(plumb_json_want_int(j, "max_window_layers", &first, &first_class, path));
    *window = 0;
    if (use || smollm3)
        PLUMB_TRY(read_size(window, s, j, path));
    for (int64_t l = 0; l < s->l; l++)
        windowed[l] = use && *window && l >= first && (!smollm3 || s->rotation[l] < 0);
    return PLUMB_OK;
}

/* Sets window and windowed. Also sets which rotary embedding each layer uses, if the model has two
 * or is an EXAONE 4, in which some layers use none. The field layer_types decides which layers have
 * a window; if it is absent, other fields decide. (transformers treats a mistral with layer_types
 * as a ministral, whose arithmetic is the same.) */
static plumb_status by_types(struct plumb_spec *s, const plumb_json *j, const char *path)
{
    const plumb_json *types = plumb_json_get(j, "layer_types");
    const bool mistral = s->family == PLUMB_MISTRAL;
    int64_t window;
    PLUMB_TRY(make_types(s->windowed, &window, s, j, path));
    const int64_t made = count(s->windowed, s->l);
    if (types)
        PLUMB_TRY(read_types(s->windowed, types, s, path));
    const int64_t windowed = count(s->windowed, s->l);
    PLUMB_REQUIRE(windowed == 0 || window > 0, PLUMB_ERR_FORMAT,
                  "%s: layer_types gives %lld layers a window, but %s; transformers refuses this "
                  "too. Correct one of the fields",
                  path, (long long)windowed,
                  s->family == PLUMB_QWEN2 || s->family == PLUMB_QWEN3
                      ? "use_sliding_window is not true, or sliding_window is null"
                      : "sliding_window is null");
    if (types && windowed != made && (mistral || plumb_json_get(j, "max_window_layers")))
        plumb_log_once(PLUMB_LOG_WARN,
                       "%s: layer_types gives %lld of %lld layers a window, but %s would give it "
                       "to %lld; layer_types is used, as in transformers",
                       path, (long long)windowed, (long long)s->l,
                       mistral ? "sliding_window" : "max_window_layers with use_sliding_window",
                       (long long)made);
    s->window = windowed ? window : 0;
    for (int64_t l = 0; s->n_rope == 2 && l < s->l; l++)
        s->rotation[l] = s->windowed[l]; /* rope[1] is for the layers with a window */
    /* In EXAONE 4 with a window, the layers without the window use no rotary embedding. */
    for (int64_t l = 0; s->family == PLUMB_EXAONE4 && window > 0 && l < s->l; l++)
        s->rotation[l] = s->windowed[l] ? 0 : -1;
    return PLUMB_OK;
}

plumb_status plumb_spec_read_window(struct plumb_spec *s, const plumb_json *j, const char *path)
{
    switch (plumb_family_row(s->family)->window) {
    case PLUMB_WINDOW_NONE:
        return without_windows(s, j, path);
    case PLUMB_WINDOW_ALL:
        return on_all_layers(s, j, path);
    default:
        return by_types(s, j, path);
    }
}
