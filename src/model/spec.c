/* spec.c - reads a config.json into struct plumb_spec: the family and the sizes.
 * Layer 4. Includes base/, io/ and model/spec_parts.h.
 *
 * A missing field gets the default of the Hugging Face configuration class of that model type;
 * sizes such as hidden_size have no default and must exist. A field that changes the arithmetic in
 * a way that plumb does not implement is an error. */
#include "model/spec.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "io/file.h"
#include "model/spec_parts.h"

/* Reads the family from model_type. If architectures names a classifier, reads the number of
 * labels, too. */
static plumb_status read_family(struct plumb_spec *s, const plumb_json *j, const char *path)
{
    const char *type;
    PLUMB_TRY(plumb_json_want_string(j, "model_type", &type, NULL, path));
    PLUMB_TRY(plumb_family_find(&s->family, type, path));
    const struct plumb_family_row *row = plumb_family_row(s->family);
    const plumb_json *list = plumb_json_get(j, "architectures");
    if (!list)
        return PLUMB_OK;
    const char *name = plumb_json_string(plumb_json_at(list, 0), NULL);
    PLUMB_REQUIRE(name && plumb_json_count(list) == 1, PLUMB_ERR_FORMAT,
                  "%s: architectures must be a list of one name", path);
    if (!strcmp(name, row->causal) || plumb_family_is_headless(s->family, name))
        return PLUMB_OK; /* with a tied head, both have the same tensors */
    PLUMB_REQUIRE(row->classifier && !strcmp(name, row->classifier), PLUMB_ERR_UNSUPPORTED,
                  "%s: architecture \"%s\" is not supported with model_type %s (known: %s%s%s)",
                  path, name, type, row->causal, row->classifier ? ", " : "",
                  row->classifier ? row->classifier : "");
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

/* Writes a 0 over each Infinity and NaN in the text. Returns true if there was one. */
static bool replace_constants(char *text)
{
    static const char *const name[] = {"-Infinity", "Infinity", "NaN"};
    bool any = false;
    for (size_t i = 0; i < sizeof(name) / sizeof(name[0]); i++)
        for (char *at = strstr(text, name[i]); at; at = strstr(at, name[i])) {
            memset(at, ' ', strlen(name[i]));
            *at = '0';
            any = true;
        }
    return any;
}

/* Fails if model_type is not supported and the file has Infinity or NaN, which Python writes and
 * JSON lacks. The configurations of several state-space models have them. Without this check, the
 * error message would be about invalid JSON. */
static plumb_status check_type(const char *path)
{
    struct plumb_buf text = {0};
    plumb_json *j = NULL;
    enum plumb_family f;
    plumb_status st = PLUMB_OK;
    PLUMB_TRY_GOTO(st, plumb_file_read_text(&text, path, "a JSON file"), done);
    if (text.len == 0 || !replace_constants(text.data))
        goto done;
    PLUMB_TRY_GOTO(st, plumb_json_parse(&j, text.data, text.len, path), done);
    const char *type = plumb_json_string(plumb_json_get(j, "model_type"), NULL);
    if (type)
        PLUMB_TRY_GOTO(st, plumb_family_find(&f, type, path), done);
done:
    plumb_json_free(&j);
    plumb_buf_fini(&text);
    return st;
}

/* Returns the value for a field that is absent or null: if_absent or if_null. Hugging Face treats
 * the two differently: an absent field gets the default of the configuration class. */
static const int64_t *absent(const plumb_json *j, const char *key, const int64_t *if_absent,
                             const int64_t *if_null)
{
    return plumb_json_member(j, key) ? if_null : if_absent;
}

/* Reads a size whose name may depend on the family. If fallback is NULL, the field is required. */
static plumb_status want_named(const struct plumb_spec *s, const plumb_json *j, const char *usual,
                               int64_t *out, const int64_t *fallback, int64_t limit,
                               const char *path)
{
    const char *key;
    PLUMB_TRY(plumb_spec_key(&key, s, j, usual, path));
    return plumb_spec_want_size(j, key, out, fallback, limit, path);
}

/* Reads the number of kv heads and the head size. In transformers, GPT-2 and GPT-NeoX have no such
 * fields and StableLM has no head size; there, a value other than the default is refused. */
static plumb_status read_heads(struct plumb_spec *s, const plumb_json *j, const char *path)
{
    const struct plumb_family_row *row = plumb_family_row(s->family);
    const bool one_kv = s->family == PLUMB_GPT2 || s->family == PLUMB_GPT_NEOX;
    const bool plain = one_kv || s->family == PLUMB_STABLELM;
    const int64_t *hk_absent = row->hk ? &row->hk : &s->h;
    PLUMB_TRY(plumb_spec_want_size(j, "num_key_value_heads", &s->hk,
                                   absent(j, "num_key_value_heads", hk_absent, &s->h), 65536,
                                   path));
    PLUMB_REQUIRE(s->h % s->hk == 0, PLUMB_ERR_FORMAT,
                  "%s: num_attention_heads %lld is not a multiple of num_key_value_heads %lld",
                  path, (long long)s->h, (long long)s->hk);
    const int64_t quotient = s->c / s->h;
    const int64_t *d_absent = row->d ? &row->d : &quotient;
    PLUMB_TRY(plumb_json_want_int(j, "head_dim", &s->d, absent(j, "head_dim", d_absent, &quotient),
                                  path));
    PLUMB_REQUIRE((!plain && (plumb_json_get(j, "head_dim") || d_absent != &quotient)) ||
                      s->c % s->h == 0,
                  PLUMB_ERR_FORMAT,
                  "%s: hidden_size %lld is not a multiple of num_attention_heads %lld, and there "
                  "is no head_dim",
                  path, (long long)s->c, (long long)s->h);
    const bool kv = one_kv && s->hk != s->h;
    PLUMB_REQUIRE(!kv && (!plain || s->d == quotient), PLUMB_ERR_UNSUPPORTED,
                  "%s: model_type %s has no %s in transformers; remove the field", path, row->type,
                  kv ? "num_key_value_heads" : "head_dim");
    PLUMB_REQUIRE(s->d >= 2 && s->d % 2 == 0 && s->d <= PLUMB_MAX_HEAD, PLUMB_ERR_FORMAT,
                  "%s: head_dim is %lld, expected an even number from 2 to %d", path,
                  (long long)s->d, PLUMB_MAX_HEAD);
    PLUMB_REQUIRE(
        s->family != PLUMB_HELIUM || s->h * s->d == s->c, PLUMB_ERR_FORMAT,
        "%s: num_attention_heads %lld x head_dim %lld is not hidden_size %lld, as it must "
        "be with model_type helium, whose o_proj is square in transformers",
        path, (long long)s->h, (long long)s->d, (long long)s->c);
    return PLUMB_OK;
}

static plumb_status read_sizes(struct plumb_spec *s, const plumb_json *j, const char *path)
{
    const int64_t big = 1 << 24;
    const char *key;
    PLUMB_TRY(plumb_spec_want_size(j, "vocab_size", &s->v, NULL, big, path));
    PLUMB_TRY(want_named(s, j, "hidden_size", &s->c, NULL, big, path));
    const int64_t four = 4 * s->c;
    PLUMB_TRY(want_named(s, j, "intermediate_size", &s->f, s->family == PLUMB_GPT2 ? &four : NULL,
                         big, path));
    PLUMB_TRY(want_named(s, j, "num_hidden_layers", &s->l, NULL, PLUMB_MAX_LAYERS, path));
    PLUMB_TRY(want_named(s, j, "num_attention_heads", &s->h, NULL, 65536, path));
    PLUMB_TRY(want_named(s, j, "max_position_embeddings", &s->max_pos, NULL, big, path));
    PLUMB_TRY(read_heads(s, j, path));
    const double range = 0.02;
    PLUMB_TRY(plumb_spec_key(&key, s, j, "rms_norm_eps", path));
    PLUMB_TRY(plumb_json_want_real(j, key, &s->eps, &plumb_family_row(s->family)->eps, path));
    PLUMB_REQUIRE(s->eps > 0 && s->eps < 1, PLUMB_ERR_FORMAT,
                  "%s: %s is %g, expected a number above 0 and below 1", path, key, s->eps);
    PLUMB_TRY(plumb_json_want_real(j, "initializer_range", &s->init_range, &range, path));
    PLUMB_REQUIRE(s->init_range > 0, PLUMB_ERR_FORMAT, "%s: initializer_range is %g, expected > 0",
                  path, s->init_range);
    return PLUMB_OK;
}

plumb_status plumb_spec_read(struct plumb_spec *out, const char *dir)
{
    char path[4096];
    PLUMB_TRY(plumb_path_join(path, sizeof path, dir, "adapter_config.json"));
    PLUMB_REQUIRE(
        !plumb_file_exists(path), PLUMB_ERR_UNSUPPORTED,
        "%s: the folder holds an adapter, but a whole model is needed here; merge the adapter into "
        "its base (plumb merge) and name the folder of the result",
        path);
    PLUMB_TRY(plumb_path_join(path, sizeof path, dir, "config.json"));
    plumb_json *j = NULL;
    plumb_status st = PLUMB_OK;
    struct plumb_spec s = {.bos = -1, .pad = -1};
    for (int i = 0; i < PLUMB_MAX_EOS; i++)
        s.eos[i] = -1;
    PLUMB_TRY(check_type(path));
    PLUMB_TRY(plumb_json_read_file(&j, path));
    PLUMB_TRY_GOTO(st, read_family(&s, j, path), fail);
    PLUMB_TRY_GOTO(st, plumb_spec_check_fields(&s, j, path), fail);
    PLUMB_TRY_GOTO(st, read_sizes(&s, j, path), fail);
    PLUMB_TRY_GOTO(st, plumb_spec_read_rope(&s, j, path), fail);
    PLUMB_TRY_GOTO(st, plumb_spec_read_window(&s, j, path), fail);
    PLUMB_TRY_GOTO(st, plumb_spec_read_block(&s, j, path), fail);
    PLUMB_TRY_GOTO(st, plumb_spec_read_tokens(&s, j, path), fail);
    PLUMB_TRY_GOTO(st, plumb_spec_read_generation(&s, dir), fail);
    *out = s;
fail:
    plumb_json_free(&j);
    return st;
}

bool plumb_spec_same_sizes(const struct plumb_spec *a, const struct plumb_spec *b)
{
    const struct plumb_block *x = &a->block, *y = &b->block;
    return a->v == b->v && a->c == b->c && a->f == b->f && a->l == b->l && a->h == b->h &&
           a->hk == b->hk && a->d == b->d && a->max_pos == b->max_pos && a->labels == b->labels &&
           !memcmp(x->norm, y->norm, sizeof(x->norm)) &&
           !memcmp(x->bias, y->bias, sizeof(x->bias)) && x->qk_norm == y->qk_norm &&
           x->layer_norm == y->layer_norm && x->gated == y->gated && x->parallel == y->parallel;
}
