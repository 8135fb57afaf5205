/* spec_rope.c - reads the rotary embedding from config.json.
 * Layer 4. Includes base/, io/ and model/spec_parts.h. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "model/spec_parts.h"

/* The rope types. keys: the fields that a type uses in addition to the fields that all types use,
 * separated by blanks. */
static const struct {
    const char *name, *keys;
    enum plumb_rope_type type;
} rope_type[] = {
    {"default", "", PLUMB_ROPE_PLAIN},
    /* The type dynamic changes the frequencies only for sequences longer than
     * max_position_embeddings. plumb does not run such sequences. */
    {"dynamic", "factor", PLUMB_ROPE_PLAIN},
    {"linear", "factor", PLUMB_ROPE_LINEAR},
    {"llama3", "factor low_freq_factor high_freq_factor original_max_position_embeddings",
     PLUMB_ROPE_LLAMA3},
    {"longrope",
     "factor attention_factor short_factor long_factor original_max_position_embeddings",
     PLUMB_ROPE_LONGROPE},
    {"yarn",
     "factor attention_factor beta_fast beta_slow mscale mscale_all_dim truncate "
     "original_max_position_embeddings",
     PLUMB_ROPE_YARN},
};
enum { N_KNOWN = sizeof(rope_type) / sizeof(rope_type[0]) };

/* The JSON objects from which the fields of one rotary embedding are read. */
struct source {
    const plumb_json *root, *r; /* config.json, and the object of the embedding in it */
    const char *path, *where;   /* names of root and of r for messages */
    bool by_kind; /* r applies only to layers with a window, or only to layers without */
};

static plumb_status warn_unused(const struct source *f, int k)
{
    for (int64_t i = 0; i < plumb_json_count(f->r); i++) {
        const char *key;
        const plumb_json *value;
        PLUMB_TRY(plumb_json_member_at(f->r, i, &key, &value));
        if (plumb_json_type_of(value) != PLUMB_JSON_NULL &&
            !plumb_spec_is_word_of(key, "rope_theta rope_type type partial_rotary_factor") &&
            !plumb_spec_is_word_of(key, rope_type[k].keys))
            plumb_log_once(PLUMB_LOG_WARN,
                           "%s: \"%s\" has no meaning with rope_type \"%s\" and is not used",
                           f->where, key, rope_type[k].name);
    }
    return PLUMB_OK;
}

/* Reads the rope type, and sets *k to its index in the table rope_type. Fails if it is not
 * supported. */
static plumb_status read_type(int *k, enum plumb_family family, const struct source *f)
{
    const char *none = "default", *old, *type;
    PLUMB_TRY(plumb_json_want_string(f->r, "type", &old, &none, f->where));
    PLUMB_TRY(plumb_json_want_string(f->r, "rope_type", &type, &old, f->where));
    if (plumb_json_get(f->r, "type") && strcmp(old, type) != 0)
        plumb_log_once(PLUMB_LOG_WARN,
                       "%s: type is \"%s\" and rope_type is \"%s\"; rope_type is "
                       "used, as in transformers",
                       f->where, old, type);
    /* transformers: in Phi-3, su and yarn are older names of longrope */
    if (family == PLUMB_PHI3 && (!strcmp(type, "su") || !strcmp(type, "yarn")))
        type = "longrope";
    for (*k = 0; *k < N_KNOWN; (*k)++)
        if (!strcmp(type, rope_type[*k].name) &&
            (family != PLUMB_PHI3 || !strcmp(type, "default") || !strcmp(type, "longrope")))
            return PLUMB_OK;
    PLUMB_FAIL(PLUMB_ERR_UNSUPPORTED, "%s: rope_type \"%s\" is not supported (known: %s)", f->where,
               type,
               family == PLUMB_PHI3 ? "default, longrope"
                                    : "default, dynamic, linear, llama3, longrope, yarn");
}

/* Reads original_max_position_embeddings. As in transformers, the top-level field takes precedence
 * over the field in the rope object. In Phi-3 the default of the top-level field takes precedence,
 * too. If the rope object is only for layers with or only for layers without a window, the
 * top-level field has no effect. */
static plumb_status read_original(struct plumb_rope *o, const struct plumb_spec *s,
                                  const struct source *f)
{
    static const char key[] = "original_max_position_embeddings";
    const double max_pos = (double)s->max_pos, phi3 = 4096;
    double inside, top;
    PLUMB_TRY(plumb_json_want_real(f->r, key, &inside, &max_pos, f->where));
    PLUMB_TRY(plumb_json_want_real(f->root, key, &top, s->family == PLUMB_PHI3 ? &phi3 : &inside,
                                   f->path));
    o->original_max_pos = f->by_kind ? inside : top;
    if (top != inside && (f->by_kind || plumb_json_get(f->r, key)))
        plumb_log_once(
            PLUMB_LOG_WARN,
            "%s: %s is %g, but the top level of config.json has %g; %g is used, as in transformers",
            f->where, key, inside, top, o->original_max_pos);
    PLUMB_REQUIRE(o->original_max_pos > 1, PLUMB_ERR_FORMAT, "%s: %s is %g, expected > 1", f->where,
                  key, o->original_max_pos);
    return PLUMB_OK;
}

static plumb_status read_llama3(struct plumb_rope *o, const struct source *f)
{
    PLUMB_TRY(plumb_json_want_real(f->r, "low_freq_factor", &o->low_freq_factor, NULL, f->where));
    PLUMB_TRY(plumb_json_want_real(f->r, "high_freq_factor", &o->high_freq_factor, NULL, f->where));
    PLUMB_REQUIRE(
        o->low_freq_factor > 0 && o->high_freq_factor > o->low_freq_factor, PLUMB_ERR_FORMAT,
        "%s: low_freq_factor is %g and high_freq_factor is %g, expected 0 < low_freq_factor < "
        "high_freq_factor",
        f->where, o->low_freq_factor, o->high_freq_factor);
    return PLUMB_OK;
}

static double mscale(double factor, double m)
{
    return factor <= 1 ? 1.0 : 0.1 * m * log(factor) + 1.0;
}

/* Reads the fields of a yarn embedding. As in transformers, the value 0 of beta_fast, beta_slow,
 * mscale or mscale_all_dim stands for the field's default. */
static plumb_status read_yarn(struct plumb_rope *o, const struct source *f)
{
    const double zero = 0, none = -1;
    const bool on = true;
    double m, all, attention;
    PLUMB_TRY(plumb_json_want_real(f->r, "beta_fast", &o->beta_fast, &zero, f->where));
    PLUMB_TRY(plumb_json_want_real(f->r, "beta_slow", &o->beta_slow, &zero, f->where));
    PLUMB_TRY(plumb_json_want_real(f->r, "mscale", &m, &zero, f->where));
    PLUMB_TRY(plumb_json_want_real(f->r, "mscale_all_dim", &all, &zero, f->where));
    PLUMB_TRY(plumb_json_want_bool(f->r, "truncate", &o->truncate, &on, f->where));
    PLUMB_TRY(plumb_json_want_real(f->r, "attention_factor", &attention, &none, f->where));
    o->beta_fast = o->beta_fast != 0 ? o->beta_fast : 32;
    o->beta_slow = o->beta_slow != 0 ? o->beta_slow : 1;
    PLUMB_REQUIRE(o->beta_slow > 0 && o->beta_fast >= o->beta_slow, PLUMB_ERR_FORMAT,
                  "%s: beta_slow is %g and beta_fast is %g, expected 0 < beta_slow <= beta_fast",
                  f->where, o->beta_slow, o->beta_fast);
    o->attention_factor = attention >= 0       ? attention
                          : m != 0 && all != 0 ? mscale(o->factor, m) / mscale(o->factor, all)
                                               : mscale(o->factor, 1);
    return PLUMB_OK;
}

static plumb_status read_divisors(float *out, const char *key, int64_t n, const struct source *f)
{
    const plumb_json *list = plumb_json_get(f->r, key);
    PLUMB_REQUIRE(list && plumb_json_type_of(list) == PLUMB_JSON_ARRAY &&
                      plumb_json_count(list) == n,
                  PLUMB_ERR_FORMAT, "%s: %s must be a list of %lld numbers, one per rotated pair",
                  f->where, key, (long long)n);
    for (int64_t i = 0; i < n; i++) {
        out[i] = (float)plumb_json_real(plumb_json_at(list, i), 0);
        PLUMB_REQUIRE(out[i] > 0 && out[i] < 1e20f, PLUMB_ERR_FORMAT,
                      "%s: %s[%lld] must be a positive number below 1e20", f->where, key,
                      (long long)i);
    }
    return PLUMB_OK;
}

static plumb_status read_longrope(struct plumb_rope *o, const struct source *f)
{
    const double none = -1;
    double attention;
    PLUMB_TRY(read_divisors(o->short_factor, "short_factor", o->columns / 2, f));
    PLUMB_TRY(read_divisors(o->long_factor, "long_factor", o->columns / 2, f));
    PLUMB_TRY(plumb_json_want_real(f->r, "attention_factor", &attention, &none, f->where));
    o->attention_factor = attention >= 0   ? attention
                          : o->factor <= 1 ? 1.0
                                           : sqrt(1 + log(o->factor) / log(o->original_max_pos));
    return PLUMB_OK;
}

/* Reads `factor`, by which the context is extended. If the field is null (yarn), or null or absent
 * (longrope), the factor is max_position_embeddings / original_max_position_embeddings. The other
 * types require the field. */
static plumb_status read_factor(struct plumb_rope *o, const struct plumb_spec *s,
                                const struct source *f)
{
    const double ratio = (double)s->max_pos / o->original_max_pos;
    const bool may_miss = o->type == PLUMB_ROPE_LONGROPE ||
                          (o->type == PLUMB_ROPE_YARN && plumb_json_member(f->r, "factor"));
    PLUMB_TRY(plumb_json_want_real(f->r, "factor", &o->factor, may_miss ? &ratio : NULL, f->where));
    PLUMB_REQUIRE(o->factor >= 1 || (may_miss && !plumb_json_get(f->r, "factor")), PLUMB_ERR_FORMAT,
                  "%s: factor is %g, expected >= 1", f->where, o->factor);
    return PLUMB_OK;
}

/* Reads the type of a rotary embedding and the fields of this type. theta and columns must be
 * set. */
static plumb_status read_scaling(struct plumb_rope *o, const struct plumb_spec *s,
                                 const struct source *f)
{
    int k;
    PLUMB_TRY(read_type(&k, s->family, f));
    PLUMB_TRY(warn_unused(f, k));
    o->type = rope_type[k].type;
    if (plumb_spec_is_word_of("original_max_position_embeddings", rope_type[k].keys))
        PLUMB_TRY(read_original(o, s, f));
    if (*rope_type[k].keys)
        PLUMB_TRY(read_factor(o, s, f));
    switch (o->type) {
    case PLUMB_ROPE_LLAMA3:
        return read_llama3(o, f);
    case PLUMB_ROPE_YARN:
        return read_yarn(o, f);
    case PLUMB_ROPE_LONGROPE:
        return read_longrope(o, f);
    default:
        return PLUMB_OK;
    }
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

/* Sets the number of rotated columns to the part `partial` of a head. Only Phi-3, GPT-NeoX,
 * StableLM and GLM-4 may rotate less than a whole head. */
static plumb_status set_columns(struct plumb_rope *o, const struct plumb_spec *s, double partial,
                                const char *path)
{
    PLUMB_REQUIRE(partial == 1.0 || s->family == PLUMB_PHI3 || s->family == PLUMB_GPT_NEOX ||
                      s->family == PLUMB_STABLELM || s->family == PLUMB_GLM ||
                      s->family == PLUMB_GLM4,
                  PLUMB_ERR_UNSUPPORTED,
                  "%s: partial_rotary_factor %g is not supported with model_type %s (expected 1)",
                  path, partial, plumb_spec_type(s));
    o->columns = partial > 0 && partial <= 1 ? (int64_t)((double)s->d * partial) : 0;
    PLUMB_REQUIRE(
        o->columns >= 2 && o->columns % 2 == 0, PLUMB_ERR_FORMAT,
        "%s: %s %g of head_dim %lld gives %lld columns, expected an even number from 2 to "
        "head_dim",
        path, s->family == PLUMB_GPT_NEOX ? "rotary_pct" : "partial_rotary_factor", partial,
        (long long)s->d, (long long)o->columns);
    return PLUMB_OK;
}

/* Reads the rotary embedding of a model that has one. As in transformers
 * (convert_rope_params_to_dict), a non-empty rope_scaling replaces
 * rope_parameters completely, including rope_theta. Values that the chosen object lacks come from
 * the top-level fields. */
static plumb_status read_rope(struct plumb_rope *o, const struct plumb_spec *s, const plumb_json *j,
                              const char *path)
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
    const bool neox = s->family == PLUMB_GPT_NEOX;
    const char *theta_key = neox ? "rotary_emb_base" : "rope_theta";
    const char *partial_key = neox ? "rotary_pct" : "partial_rotary_factor";
    const bool glm = s->family == PLUMB_GLM || s->family == PLUMB_GLM4;
    const double whole = neox || s->family == PLUMB_STABLELM ? 0.25 : glm ? 0.5 : 1.0;
    double theta, partial;
    PLUMB_TRY(plumb_json_want_real(j, partial_key, &partial, &whole, path));
    PLUMB_TRY(
        plumb_json_want_real(j, theta_key, &theta, &plumb_family_row(s->family)->theta, path));
    o->theta = theta;
    o->attention_factor = 1;
    if (r[k]) {
        PLUMB_TRY(plumb_json_want_real(r[k], "rope_theta", &o->theta, &theta, where[k]));
        PLUMB_TRY(
            plumb_json_want_real(r[k], "partial_rotary_factor", &partial, &partial, where[k]));
    }
    PLUMB_TRY(set_columns(o, s, partial, path));
    if (r[k])
        PLUMB_TRY(read_scaling(o, s, &(struct source){j, r[k], path, where[k], false}));
    if (plumb_json_get(j, theta_key) && theta != o->theta)
        plumb_log_once(PLUMB_LOG_WARN,
                       "%s: rope_theta is %g, but the top level of config.json has %g (%s); %g "
                       "is used, as in transformers",
                       where[k], o->theta, theta, theta_key, o->theta);
    PLUMB_REQUIRE(o->theta > 1, PLUMB_ERR_FORMAT, "%s: rope_theta is %g, expected > 1", path,
                  o->theta);
    return PLUMB_OK;
}

/* Reads one of the two rotary embeddings of Gemma 3 or OLMo 3. r is the JSON object of this
 * embedding, or NULL; theta is the default of rope_theta. */
static plumb_status read_one(struct plumb_rope *o, const struct plumb_spec *s, const plumb_json *j,
                             const plumb_json *r, double theta, const char *path, const char *where)
{
    *o = (struct plumb_rope){.theta = theta, .attention_factor = 1, .columns = s->d};
    if (r) {
        PLUMB_TRY(want_object(r, where));
        PLUMB_TRY(plumb_json_want_real(r, "rope_theta", &o->theta, &theta, where));
        PLUMB_REQUIRE(!plumb_json_get(r, "partial_rotary_factor"), PLUMB_ERR_UNSUPPORTED,
                      "%s: partial_rotary_factor is not supported with model_type %s", where,
                      plumb_spec_type(s));
        /* transformers adds this object to {"rope_type": "default"}, so a `type` without rope_type
         * would have no effect there */
        PLUMB_REQUIRE(!plumb_json_get(r, "type") || plumb_json_get(r, "rope_type"),
                      PLUMB_ERR_FORMAT, "%s: has the field type, expected rope_type", where);
        PLUMB_TRY(read_scaling(o, s, &(struct source){j, r, path, where, true}));
        if (o->type == PLUMB_ROPE_YARN && !o->truncate)
            plumb_log_once(PLUMB_LOG_WARN,
                           "%s: truncate is not used: transformers does not read it from an object "
                           "for one kind of layers",
                           where);
        o->truncate = true;
    }
    PLUMB_REQUIRE(o->theta > 1, PLUMB_ERR_FORMAT, "%s: rope_theta is %g, expected > 1", where,
                  o->theta);
    return PLUMB_OK;
}

/* Gemma 3 and OLMo 3 have two rotary embeddings: rope[0] for layers without a window, rope[1] for
 * layers with one. New files have both in rope_parameters. In old files, rope_scaling and
 * rope_theta are those of rope[0], and rope_local_base_freq is the base of rope[1]. OLMo 3 has no
 * rope_local_base_freq: transformers gives rope[1] the default of the configuration class, whatever
 * rope_theta is. */
static plumb_status read_two(struct plumb_spec *s, const plumb_json *j, const char *path)
{
    static const char *const key[2] = {"full_attention", "sliding_attention"};
    const plumb_json *old = plumb_json_get(j, "rope_scaling");
    const plumb_json *both = plumb_json_get(j, "rope_parameters"), *r[2] = {old, NULL};
    const bool olmo3 = s->family == PLUMB_OLMO3;
    const double local_class = olmo3 ? plumb_family_row(s->family)->theta : 1e4;
    double theta[2] = {0, local_class};
    char where[600];
    snprintf(where, sizeof where, "%.500s: rope_scaling", path);
    PLUMB_TRY(plumb_json_want_real(j, "rope_theta", &theta[0], &plumb_family_row(s->family)->theta,
                                   path));
    if (!olmo3)
        PLUMB_TRY(plumb_json_want_real(j, "rope_local_base_freq", &theta[1], &local_class, path));
    PLUMB_REQUIRE(!old || !both, PLUMB_ERR_UNSUPPORTED,
                  "%s: rope_scaling and rope_parameters are both given; remove one of them", path);
    PLUMB_REQUIRE(!plumb_json_get(j, "partial_rotary_factor"), PLUMB_ERR_UNSUPPORTED,
                  "%s: partial_rotary_factor is not supported with model_type %s", path,
                  plumb_spec_type(s));
    if (both)
        PLUMB_REQUIRE(plumb_json_type_of(both) == PLUMB_JSON_OBJECT &&
                          (plumb_json_get(both, key[0]) || plumb_json_get(both, key[1])),
                      PLUMB_ERR_FORMAT,
                      "%s: rope_parameters: expected an object with the entries full_attention and "
                      "sliding_attention",
                      path);
    s->n_rope = 2;
    for (int i = 0; i < 2; i++) {
        if (both) {
            r[i] = plumb_json_get(both, key[i]);
            snprintf(where, sizeof where, "%.500s: rope_parameters: %s", path, key[i]);
        }
        PLUMB_TRY(read_one(&s->rope[i], s, j, r[i], theta[i], path, where));
    }
    if (olmo3 && plumb_json_get(j, "rope_theta") && s->rope[1].theta != theta[0])
        plumb_log_once(PLUMB_LOG_WARN,
                       "%s: rope_theta %g holds for layers without a window only; the others have "
                       "%g, as in transformers",
                       path, theta[0], s->rope[1].theta);
    return PLUMB_OK;
}

/* Reads which layers of a SmolLM3 use no rotary embedding. In no_rope_layers, 1 stands for a layer
 * that uses one. */
static plumb_status read_layers(struct plumb_spec *s, const plumb_json *j, const char *path)
{
    const plumb_json *list = plumb_json_get(j, "no_rope_layers");
    const int64_t four = 4;
    int64_t interval;
    PLUMB_TRY(plumb_spec_want_size(j, "no_rope_layer_interval", &interval, &four, 1 << 24, path));
    PLUMB_REQUIRE(
        !list || (plumb_json_type_of(list) == PLUMB_JSON_ARRAY && plumb_json_count(list) == s->l),
        PLUMB_ERR_FORMAT, "%s: no_rope_layers must be a list of num_hidden_layers %lld numbers",
        path, (long long)s->l);
    for (int64_t l = 0; l < s->l; l++) {
        const int64_t rotates =
            list ? plumb_json_int(plumb_json_at(list, l), -1) : (l + 1) % interval != 0;
        PLUMB_REQUIRE(rotates == 0 || rotates == 1, PLUMB_ERR_FORMAT,
                      "%s: no_rope_layers[%lld] must be 1 (the layer rotates) or 0", path,
                      (long long)l);
        s->rotation[l] = rotates ? 0 : -1;
    }
    return PLUMB_OK;
}

plumb_status plumb_spec_read_rope(struct plumb_spec *s, const plumb_json *j, const char *path)
{
    if (s->family == PLUMB_GEMMA3 || s->family == PLUMB_OLMO3)
        return read_two(s, j, path);
    if (s->family == PLUMB_GPT2) {
        memset(s->rotation, -1, sizeof s->rotation);
        return PLUMB_OK;
    }
    s->n_rope = 1;
    PLUMB_TRY(read_rope(&s->rope[0], s, j, path));
    return s->family == PLUMB_SMOLLM3 ? read_layers(s, j, path) : PLUMB_OK;
}
